# SIGUSR2: the program is started anew in the place of the one that runs, and nobody notices; and
# sockets that systemd has bound.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import ctypes
import itertools
import os
import pathlib
import signal
import subprocess
import threading

import clients
from fault_servers import RecordingImap
from gatepost import BINARY, GatewayTestCase, pools, start_backends
from wire import poll_until

PR_SET_CHILD_SUBREAPER = 36


def setUpModule():
    # The processes that their parents leave behind are this one's, so that their end can be seen.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Adopted:
    """A process that another one has started: as much of subprocess.Popen as the harness uses."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # its parent is still there, and has its exit code
                if not os.path.exists(f"/proc/{self.pid}"):
                    self.returncode = 0
                return self.returncode
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=60):
        poll_until(lambda: self.poll() is not None, f"the end of process {self.pid}", timeout)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def follow(gate, pid):
    """Has the harness look at the process `pid` from now on."""
    gate.process = Adopted(pid)
    poll_until(gate.ready, "the new process to be ready")
    gate.baseline_fds = gate._steady_fds()  # of a process that another one has started


def upgrade(gate):
    """Has the program started anew; returns the process of before."""
    before, seen = gate.process, len(gate.log_lines(event="upgrade"))
    before.send_signal(signal.SIGUSR2)
    line = gate.wait_log(count=seen + 1, event="upgrade")[-1]
    assert line["result"] == "ok", line
    follow(gate, int(line["process"]))
    return before


class Upgrade(GatewayTestCase):
    def start_one(self, **keys):
        backend = RecordingImap(users={"u": "p"})
        self.addCleanup(backend.close)
        return self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                          {"stores": {"members": [backend.member], "tls": "none"}}, **keys)

    def test_sessions_stay_with_the_process_of_before(self):
        gate = self.start_one()
        with clients.logged_in(gate, "imaps", "u", "p") as old:
            before = upgrade(gate)
            self.assertNotEqual(before.pid, gate.process.pid)
            with clients.logged_in(gate, "imaps", "u", "p") as new:
                self.assertTrue(old.imap("n", "NOOP")[-1].startswith("n OK"))
                self.assertTrue(new.imap("n", "NOOP")[-1].startswith("n OK"))
                # Its metrics are those of the new one alone.
                self.assertEqual(gate.active(), 1)
            self.assertIsNone(before.poll())
        self.assertEqual(before.wait(60), 0)

    def test_the_process_of_before_can_be_told_to_stop(self):
        gate = self.start_one()
        with clients.logged_in(gate, "imaps", "u", "p") as old:
            before = upgrade(gate)
            before.send_signal(signal.SIGTERM)
            self.assertTrue(old.line().startswith("* BYE"))
        self.assertEqual(before.wait(60), 0)

    def test_the_process_of_before_has_its_time(self):
        gate = self.start_one(process={"old_sessions_timeout": "100ms", "drain_timeout": "100ms"})
        with clients.logged_in(gate, "imaps", "u", "p") as old:
            before = upgrade(gate)
            self.assertTrue(old.line().startswith("* BYE"))
        self.assertEqual(before.wait(60), 0)

    def test_a_program_that_does_not_start_changes_nothing(self):
        gate = self.start_one()
        good = gate.config_text()
        gate.config_file.write_text(good.replace("[limits]", "[limit]"))
        gate.process.send_signal(signal.SIGUSR2)
        poll_until(lambda: "event=upgrade result=failed" in gate.log_text(), "the failure")
        self.assertIn("unknown key", gate.log_text())  # its own words
        gate.stderr_file.write_text("")  # where they would be taken for lines of the log
        gate.config_file.write_text(good)
        poll_until(gate.ready, "the admin address to be back")
        with clients.logged_in(gate, "imaps", "u", "p") as wire:
            self.assertTrue(wire.imap("n", "NOOP")[-1].startswith("n OK"))
        self.assertEqual(upgrade(gate).wait(60), 0)


class UnderLoad(GatewayTestCase):
    """Five upgrades while clients log in and send all the time: none of them notices."""

    def test_none_fails(self):
        backends = start_backends()
        store = {"protocol": "imap", "pool": "stores-imap"}
        gate = self.start(
            {"imaps": {**store, "tls": "implicit"}, "imap": {**store, "tls": "starttls"},
             "submissions": {"protocol": "smtp", "tls": "implicit", "pool": "outgoing"}},
            pools(backends))
        user, password = "alice", backends.users["alice"]
        end, failures = threading.Event(), []
        logins, messages = itertools.count(), itertools.count()

        def repeat(name, work):
            while not end.is_set():
                try:
                    work(name)
                except Exception as error:  # pylint: disable=broad-except
                    failures.append(f"{name}: {error!r}")
                    return

        def log_in(name):
            with clients.logged_in(gate, name, user, password):
                next(logins)

        def send(name):
            message = clients.Message(to="bob@example.test")
            with clients.smtp(gate, name, user, password) as client:
                client.sendmail(message.sender, [message.to], message.data)
            next(messages)

        threads = [threading.Thread(target=repeat, args=args) for args in (
            ("imaps", log_in), ("imap", log_in), ("submissions", send))]
        processes = []
        with clients.logged_in(gate, "submissions", user, password) as slow:
            # A message that begins before all upgrades and ends behind them.
            for command in (f"MAIL FROM:<{user}@example.test>", "RCPT TO:<bob@example.test>"):
                self.assertTrue(slow.command(command).startswith("250"))
            self.assertTrue(slow.command("DATA").startswith("354"))
            slow.send("Subject: slow\r\n\r\nbegun ")
            for thread in threads:
                thread.start()
            try:
                for _ in range(5):
                    processes.append(upgrade(gate))
                    done = next(messages)
                    poll_until(lambda: failures or next(messages) > done + 3, "mail to go on")
            finally:
                end.set()
                for thread in threads:
                    thread.join()
            slow.send("ended\r\n.\r\n")
            self.assertTrue(slow.line().startswith("250"))
        self.assertEqual(failures, [])
        for process in processes:
            self.assertEqual(process.wait(60), 0)
        gate.wait_log(count=5, event="stop")
        self.assertGreater(next(logins), 5)


class SocketActivation(GatewayTestCase):
    def test_sockets_of_systemd(self):
        backend = RecordingImap(users={"u": "p"})
        self.addCleanup(backend.close)
        gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                          {"stores": {"members": [backend.member], "tls": "none"}})
        self.assertEqual(gate.process.poll(), None)
        text = gate.config_text()
        gate.stop()
        # The same once more, on a socket that is not its own.
        config = pathlib.Path(gate.config_file)
        config.write_text(text)
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(open(gate.stderr_file, "ab"))
            process = subprocess.Popen(
                ["systemd-socket-activate", "--listen", f"127.0.0.1:{gate.ports['imaps']}",
                 BINARY, "serve", "--config", config], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            def answers():
                with contextlib.suppress(OSError):
                    return clients.logged_in(gate, "imaps", "u", "p")
            # It is the first client who has it started, and who is served.
            wire = stack.enter_context(poll_until(answers, "the socket to be bound"))
            self.assertTrue(wire.imap("n", "NOOP")[-1].startswith("n OK"))
            sockets = subprocess.run(["ss", "-Hltn", f"sport = :{gate.ports['imaps']}"],
                                     capture_output=True, text=True, check=True).stdout
            self.assertEqual(len(sockets.splitlines()), 1, sockets)
