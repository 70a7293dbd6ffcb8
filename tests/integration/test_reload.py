# SIGHUP with another configuration: what is new serves new clients, what runs goes on, and what is
# wrong changes nothing.
# SPDX-License-Identifier: Apache-2.0
import pathlib
import signal
import socket
import ssl
import tempfile
import threading

import clients
from fault_servers import RecordingImap
from gatepost import (HOST, GatewayTestCase, Port, client_context, pools, run_directory,
                      run_gatepost, start_backends)
from wire import poll_until

IMAPS = {"protocol": "imap", "tls": "implicit", "pool": "stores"}


def running(wire):
    """Asserts that a logged-in IMAP session goes on."""
    assert wire.imap("n", "NOOP")[-1].startswith("n OK"), "the session has ended"


def refused(port):
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


class Reload(GatewayTestCase):
    def setUp(self):
        self.backend = RecordingImap(users={"u": "p"})
        self.addCleanup(self.backend.close)
        self.pools = {"stores": {"members": [self.backend.member], "tls": "none"}}

    def start_one(self, **keys):
        return self.start({"imaps": dict(IMAPS)}, self.pools, **keys)

    def test_listeners_come_change_and_go(self):
        gate = self.start_one()
        with clients.logged_in(gate, "imaps", "u", "p") as old:
            gate.add_port("second")
            gate.listeners["second"] = {**IMAPS, "tls": "starttls"}
            gate.write_config()
            line = gate.reload()
            self.assertEqual(line["generation"], "2")
            with clients.logged_in(gate, "second", "u", "p") as wire:
                running(wire)
            # What was STARTTLS is implicit TLS, on the same socket.
            gate.listeners["second"]["tls"] = "implicit"
            gate.write_config()
            gate.reload()
            with clients.logged_in(gate, "second", "u", "p") as wire:
                running(wire)
            with clients.logged_in(gate, "imaps", "u", "p") as wire:
                running(wire)
            port = gate.ports.pop("imaps")
            del gate.listeners["imaps"]
            gate.write_config()
            gate.reload()
            poll_until(lambda: refused(port), "nobody to listen at what was removed")
            running(old)
            self.assertEqual(gate.metrics().value("config_generations"), 2)
            # The session of the first configuration is still counted, and where it was begun.
            self.assertEqual(gate.metrics().value("connections_active", listener="imaps"), 1)
            self.assertEqual(gate.metrics().value("backend_sessions_active"), 1)
        gate.wait_log(event="generation_ended", generation="1")
        metrics = gate.metrics()
        self.assertEqual(metrics.value("config_generations"), 1)
        self.assertEqual(metrics.value("config_reloads_total", result="ok"), 3)
        self.assertEqual(metrics.value("connections_accepted_total"), 4)
        gate.baseline_fds += 2  # of the listener that is one more than at the start of the test

    def test_sessions_keep_their_pool(self):
        other = RecordingImap(users={"u": "p"})
        self.addCleanup(other.close)
        gate = self.start_one()
        with clients.logged_in(gate, "imaps", "u", "p") as old:
            gate.pools["stores"]["members"] = [other.member]
            gate.write_config()
            gate.reload()
            with clients.logged_in(gate, "imaps", "u", "p") as new:
                running(new)
            running(old)
        self.assertEqual(len(other.logins), 1)
        self.assertEqual(len(self.backend.logins), 1)
        gate.wait_log(event="generation_ended", generation="1")

    def test_what_is_wrong_changes_nothing(self):
        gate = self.start_one()
        good = gate.config_text()
        for wrong, words in (
                (good.replace('tls = "implicit"', 'tls = "implict"'), '"implict"'),
                (good.replace("[limits]", "[limits]\nmax_sessions_per_usr = 3"), "max_sessions_per_user"),
                (good.replace(str(gate.certificates[0]["chain"]), "/nowhere/chain.pem"), "/nowhere/chain.pem"),
                ("no toml", "gatepost.toml:1")):
            with self.subTest(words=words):
                gate.config_file.write_text(wrong)
                line = gate.reload(result="failed")
                self.assertIn(words, line["detail"])
                self.assertIn(str(gate.config_file), line["detail"])
                metrics = gate.metrics()
                self.assertEqual(metrics.value("config_last_reload_successful"), 0)
                self.assertEqual(metrics.value("config_generations"), 1)
                with clients.logged_in(gate, "imaps", "u", "p") as wire:
                    running(wire)
        self.assertEqual(gate.metrics().value("config_reloads_total", result="failed"), 4)
        gate.write_config()
        gate.reload()
        self.assertEqual(gate.metrics().value("config_last_reload_successful"), 1)
        gate.wait_log(event="generation_ended", generation="1")

    def test_an_address_in_use(self):
        gate = self.start_one()
        before = gate.config_text()
        with socket.socket() as taken:
            taken.bind((HOST, 0))
            taken.listen()
            gate.add_port("free")
            gate.listeners["free"] = dict(IMAPS)
            gate.listeners["taken"] = dict(IMAPS)
            gate.ports["taken"] = taken.getsockname()[1]
            gate.write_config()
            self.assertIn("in use", gate.reload(result="failed")["detail"])
            self.assertTrue(refused(gate.ports["free"]))
        gate.config_file.write_text(before)
        with clients.logged_in(gate, "imaps", "u", "p") as wire:
            running(wire)

    def test_an_unchanged_file_makes_no_generation(self):
        gate = self.start_one()
        self.assertNotIn("generation", gate.reload())
        self.assertEqual(gate.metrics().value("config_generations"), 1)
        self.assertEqual(gate.metrics().value("config_reloads_total", result="ok"), 1)

    def test_a_password_file_is_read_anew(self):
        file = pathlib.Path(tempfile.mkdtemp(dir=run_directory())) / "users"
        file.write_text(run_gatepost("hash-password", "u", stdin="p\n").stdout)
        self.backend.users["v"] = "q"
        gate = self.start_one(authority={"kind": "passwords", "file": file})
        with gate.connect("imaps", tls=True) as wire:
            clients.greeting(wire)
            self.assertTrue(clients.login(wire, "imap", "v", "q").startswith("l NO"))
        with file.open("a") as lines:
            lines.write(run_gatepost("hash-password", "v", stdin="q\n").stdout)
        self.assertEqual(gate.reload()["generation"], "2")
        with clients.logged_in(gate, "imaps", "v", "q") as wire:
            running(wire)

    def test_tickets_stay_good(self):
        gate = self.start_one()
        context = client_context(version=ssl.TLSVersion.TLSv1_2)
        with gate.connect("imaps", tls=context) as wire:
            clients.greeting(wire)
            session = wire.tls.session
        gate.limits["max_bad_commands"] = 7
        gate.write_config()
        gate.reload()
        with gate.connect("imaps") as wire:
            wire.start_tls(context, session=session)
            self.assertTrue(wire.tls.session_reused)
            clients.greeting(wire)

    def test_workers_more_and_fewer(self):
        gate = self.start_one()
        for workers in (3, 1, 2):
            gate.process_keys["workers"] = workers
            gate.write_config()
            gate.reload()
            for _ in range(6):
                with clients.logged_in(gate, "imaps", "u", "p") as wire:
                    running(wire)
        poll_until(lambda: gate.metrics().value("config_generations") == 1, "one generation")

    def test_what_needs_a_restart_is_said(self):
        gate = self.start_one()
        good = gate.config_text()
        port = Port()
        self.addCleanup(port.release)
        gate.config_file.write_text(good.replace(f":{gate.admin_port}", f":{port.number}"))
        line = gate.reload()
        self.assertEqual(line["level"], "warning")
        self.assertIn("admin.address", line["detail"])

    def test_a_member_that_is_down_stays_so(self):
        dead = RecordingImap(users={"u": "p"})
        member = dead.member
        dead.close()
        self.pools["stores"]["members"] = [member, self.backend.member]
        self.pools["stores"]["balance"] = "round-robin"
        gate = self.start_one()
        poll_until(lambda: gate.metrics().value("backend_up", member=member) == 0, "it to be down")
        gate.limits["max_bad_commands"] = 7
        gate.write_config()
        gate.reload()
        self.assertEqual(gate.metrics().value("backend_up", member=member), 0)
        self.assertEqual(gate.metrics().value("backend_capabilities_known"), 1)


class Drain(GatewayTestCase):
    def test_the_grace_serves_those_who_still_come(self):
        backend = RecordingImap(users={"u": "p"})
        self.addCleanup(backend.close)
        gate = self.start({"imaps": dict(IMAPS)},
                          {"stores": {"members": [backend.member], "tls": "none"}},
                          process={"drain_grace": "1h", "drain_timeout": "1h"})
        gate.process.send_signal(signal.SIGTERM)
        gate.wait_log(event="drain")
        self.assertEqual(gate.http("/readyz"), (503, "draining\n"))
        self.assertEqual(gate.http("/healthz")[0], 200)
        metrics = gate.metrics()
        self.assertEqual(metrics.value("draining"), 1)
        self.assertTrue(7000 < metrics.value("drain_remaining_seconds") <= 7200)
        with clients.logged_in(gate, "imaps", "u", "p") as wire:
            running(wire)
        gate.process.send_signal(signal.SIGTERM)  # the second one means it
        self.assertEqual(gate.process.wait(60), 128 + signal.SIGTERM)
        gate.kill()

    def test_a_superseded_generation_drains_too(self):
        backend = RecordingImap(users={"u": "p"})
        self.addCleanup(backend.close)
        gate = self.start({"imaps": dict(IMAPS)},
                          {"stores": {"members": [backend.member], "tls": "none"}},
                          process={"drain_timeout": "100ms"})
        with clients.logged_in(gate, "imaps", "u", "p") as old:
            gate.limits["max_bad_commands"] = 7
            gate.write_config()
            gate.reload()
            with clients.logged_in(gate, "imaps", "u", "p") as new:
                gate.process.send_signal(signal.SIGTERM)
                for wire in (old, new):
                    self.assertTrue(wire.line().startswith("* BYE"))
        gate.stop(send_signal=None)

    def test_old_sessions_have_their_time(self):
        backend = RecordingImap(users={"u": "p"})
        self.addCleanup(backend.close)
        gate = self.start({"imaps": dict(IMAPS)},
                          {"stores": {"members": [backend.member], "tls": "none"}},
                          process={"old_sessions_timeout": "100ms", "drain_timeout": "100ms"})
        with clients.logged_in(gate, "imaps", "u", "p") as old:
            gate.limits["max_bad_commands"] = 7
            gate.write_config()
            gate.reload()
            with clients.logged_in(gate, "imaps", "u", "p") as new:
                self.assertTrue(old.line().startswith("* BYE"))
                gate.wait_log(event="generation_timeout", generation="1")
                gate.wait_log(event="generation_ended", generation="1")
                running(new)


class UnderLoad(GatewayTestCase):
    """50 reloads while clients log in, read and send all the time: none of them notices."""

    def test_none_fails(self):
        backends = start_backends()
        store = {"protocol": "imap", "pool": "stores-imap"}
        gate = self.start(
            {"imaps": {**store, "tls": "implicit"}, "imap": {**store, "tls": "starttls"},
             "submission": {"protocol": "smtp", "tls": "starttls", "pool": "outgoing"}},
            pools(backends))
        user, password = "alice", backends.users["alice"]
        end, failures, logins = threading.Event(), [], []

        def log_in(name):
            while not end.is_set():
                try:
                    with clients.logged_in(gate, name, user, password):
                        logins.append(name)
                except Exception as error:  # pylint: disable=broad-except
                    failures.append(f"{name}: {error!r}")
                    return

        threads = [threading.Thread(target=log_in, args=[name]) for name in list(gate.listeners)]
        with clients.logged_in(gate, "imaps", user, password) as old:
            for thread in threads:
                thread.start()
            try:
                gate.add_port("more")
                for turn in range(50):
                    if turn % 2:
                        del gate.listeners["more"]
                    else:
                        gate.listeners["more"] = {**store, "tls": "implicit"}
                    gate.limits["max_bad_commands"] = 10 + turn
                    gate.write_config()
                    gate.reload()
                poll_until(lambda: failures or len(logins) > 50, "logins all the time")
            finally:
                end.set()
                for thread in threads:
                    thread.join()
            running(old)
        self.assertEqual(failures, [])
        self.assertEqual(gate.metrics().value("config_reloads_total", result="ok"), 50)
        poll_until(lambda: gate.metrics().value("config_generations") == 1, "one generation")
