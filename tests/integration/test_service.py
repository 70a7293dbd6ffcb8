# Gatepost under systemd: what it tells the service manager, and the unit that deploy/ has for it.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import ctypes
import os
import pathlib
import re
import shlex
import socket
import subprocess
import tomllib
import unittest
from unittest import mock

import clients
from fault_servers import RecordingImap
from gatepost import BINARY, SOURCE, GatewayTestCase, run_directory
from wire import DEADLINE, poll_until

UNIT = SOURCE / "deploy/systemd/gatepost.service"
SOCKET = SOURCE / "deploy/systemd/gatepost.socket"
LOGROTATE = SOURCE / "deploy/logrotate/gatepost"
CREDENTIALS = SOURCE / "deploy/systemd/credentials.conf"
EXPOSURE = 16  # tenths; systemd calls up to 20 "OK", the default for a service is 96

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WAIT_ALL = 0x40000000  # __WALL: threads, too


@contextlib.contextmanager
def stopped(thread):
    """Holds one thread of the program, as a debugger does, while all others run."""
    def ptrace(request):
        if LIBC.ptrace(request, thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace")
    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(thread, WAIT_ALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)


class Notify(GatewayTestCase):
    """The protocol of sd_notify(3), with us as the manager."""

    def setUp(self):
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        path = run_directory() / "notify"
        path.unlink(missing_ok=True)
        self.manager.bind(str(path))
        self.manager.settimeout(DEADLINE)
        self.backend = RecordingImap(users={"u": "p"})
        self.addCleanup(self.backend.close)
        with mock.patch.dict(os.environ, {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "30000000"}):
            self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                       {"p": {"members": [self.backend.member], "tls": "none"}})

    def wait_for(self, wanted):
        while (said := self.manager.recv(1000).decode()) != wanted:
            pass
        return said

    def test_ready_status_and_stopping(self):
        self.wait_for("READY=1")
        with clients.logged_in(self.gate, "imaps", "u", "p"):
            self.wait_for("STATUS=1 clients")
        self.wait_for("STATUS=0 clients")
        self.gate.settled()
        self.gate.stop()
        self.wait_for("STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000")  # drain_timeout and ten seconds

    def test_a_worker_that_hangs_ends_the_signs_of_life(self):
        self.wait_for("WATCHDOG=1")
        worker = next(int(comm.parent.name) for comm in
                      pathlib.Path(f"/proc/{self.gate.process.pid}/task").glob("*/comm")
                      if comm.read_text() == "worker-1\n")
        with stopped(worker):
            poll_until(lambda: self.gate.http("/healthz")[0] == 503, "the hang is noticed")
            self.assertEqual(self.gate.http("/healthz")[1], "worker 1 does not respond\n")
            self.manager.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.manager.recv(1000)
            self.manager.settimeout(2.5)  # with every loop running there would be two in that time
            with self.assertRaises(TimeoutError):
                self.wait_for("WATCHDOG=1")
        self.manager.settimeout(DEADLINE)
        self.wait_for("WATCHDOG=1")
        poll_until(lambda: self.gate.http("/healthz")[0] == 200, "it runs again")


class Reload(GatewayTestCase):
    """`systemctl reload`, with us as the manager. There is no control socket: nobody has to configure one."""

    def reload(self):
        """Runs the unit's commands as systemd does, none behind one that failed; -> the last one's result."""
        for line in re.findall(r"^ExecReload=(.*)$", UNIT.read_text(), re.MULTILINE):
            command = [{"$MAINPID": str(self.gate.process.pid), "/usr/bin/gatepost": str(BINARY),
                        "/etc/gatepost/gatepost.toml": str(self.gate.config_file)}.get(word, word)
                       for word in shlex.split(line)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
            if result.returncode != 0:
                break
        return result

    def test_a_good_configuration_is_taken_and_a_wrong_one_told_of(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}})
            gate.limits["max_bad_commands"] = 7
            gate.write_config()
            result = self.reload()
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            gate.wait_log(event="reload", trigger="signal", result="ok", generation="2")
            gate.config_file.write_text(gate.config_text().replace("implicit", "implict"))
            result = self.reload()
            self.assertEqual(result.returncode, 2)
            self.assertIn('"implict"', result.stderr)
            line = gate.wait_log(event="reload", trigger="signal", result="failed")[0]
            self.assertIn('"implict"', line["detail"])
            metrics = gate.metrics()
            self.assertEqual(metrics.value("config_last_reload_successful"), 0)
            self.assertEqual(metrics.value("config_reloads_total", result="failed"), 1)


class Logrotate(GatewayTestCase):
    def test_the_emptied_file_is_written_on(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}},
                              log={"file": "gatepost.log"})
            log = gate.directory / "gatepost.log"
            gate.directory.chmod(0o755)

            def lines(file):
                return [line for line in file.read_text().splitlines() if "event=session " in line]

            def one_more(file, count):
                with clients.logged_in(gate, "imaps", "u", "p"):
                    pass
                poll_until(lambda: len(lines(file)) == count, "its line")
            one_more(log, 1)
            config = gate.directory / "logrotate.conf"
            config.write_text(LOGROTATE.read_text().replace("/var/log/gatepost/*.log", str(log))
                              .replace("su gatepost gatepost", "su root root"))
            result = subprocess.run(
                ["logrotate", "--force", "--state", gate.directory / "state", config],
                capture_output=True, text=True, timeout=DEADLINE, check=False)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertEqual(len(lines(gate.directory / "gatepost.log.1")), 1)
            one_more(log, 1)
            self.assertNotIn("\0", log.read_text())  # written at the end, not where it was before


class Unit(unittest.TestCase):
    @staticmethod
    def analyze(*arguments, unit=UNIT):
        """systemd-analyze on the unit, with the program that the tests have."""
        copy = run_directory() / "gatepost.service"
        copy.write_text(unit.read_text().replace("/usr/bin/gatepost", str(BINARY)))
        result = subprocess.run(["systemd-analyze", *arguments, copy], capture_output=True, text=True,
                                timeout=DEADLINE, check=False)
        return result.returncode, result.stdout + result.stderr

    def test_systemd_takes_it(self):
        self.assertEqual(self.analyze("verify", "--man=no"), (0, ""))

    def test_systemd_takes_the_socket(self):
        self.assertEqual(self.analyze("verify", "--man=no"), (0, ""))  # which it is for
        for text in (SOCKET.read_text(), self.every_line(SOCKET.read_text())):
            copy = run_directory() / "gatepost.socket"
            copy.write_text(text)
            result = subprocess.run(["systemd-analyze", "verify", "--man=no", copy],
                                    capture_output=True, text=True, timeout=DEADLINE, check=False)
            self.assertEqual((result.returncode, result.stdout + result.stderr), (0, ""))

    @staticmethod
    def every_line(socket_unit):
        return re.sub(r"(?m)^#(?=ListenStream=)", "", socket_unit)

    def test_the_socket_has_the_ports_of_the_packages_configuration_and_no_others(self):
        def ports(socket_unit):
            return re.findall(r"^ListenStream=(.*)$", socket_unit, re.MULTILINE)
        packaged, documented = (
            [address for listener in tomllib.loads((SOURCE / file).read_text())["listener"]
             for address in listener["addresses"]]
            for file in ("deploy/debian/gatepost.toml", "config/gatepost.toml"))
        self.assertEqual(sorted(ports(SOCKET.read_text())), sorted(packaged))
        self.assertEqual(sorted(ports(self.every_line(SOCKET.read_text()))), sorted(documented))

    def test_it_is_confined(self):
        code, said = self.analyze("security", "--offline=true", f"--threshold={EXPOSURE}")
        self.assertEqual(code, 0, said)

    def test_it_starts_what_there_is(self):
        text = UNIT.read_text()
        command = re.search(r"^ExecStart=/usr/bin/gatepost (\w+) (--\w+) ", text, re.MULTILINE)
        said = subprocess.run([BINARY, command[1], "--help"], capture_output=True, text=True,
                              timeout=DEADLINE, check=True).stdout
        self.assertIn(command[2], said)
        self.assertIn("Type=notify", text)
        self.assertIn("WatchdogSec=30s", text)

    def test_the_drop_in_is_one(self):
        with_credentials = run_directory() / "with-credentials.service"
        with_credentials.write_text(UNIT.read_text() + CREDENTIALS.read_text())
        self.assertEqual(self.analyze("verify", "--man=no", unit=with_credentials), (0, ""))
        names = re.findall(r"^LoadCredential=(\S+):/etc/gatepost/", CREDENTIALS.read_text(),
                           re.MULTILINE)
        self.assertEqual(names, ["mail.crt", "mail.key"])  # as [[certificate]] directory wants it
