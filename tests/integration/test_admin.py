# What an operator looks at: metrics, health, the log.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import json
import re
import shutil
import subprocess
import unittest

import clients
from fault_servers import RecordingImap, RecordingSmtp
from gatepost import SOURCE, GatewayTestCase, parse_logfmt, port_table

SESSION_KEYS = {"ts", "level", "event", "id", "listener", "protocol", "client", "tls", "cipher",
                "mechanism", "user", "backend", "result", "duration_ms", "login_ms", "bytes_in",
                "bytes_out"}


class Reference(unittest.TestCase):
    """gateway/observe/metrics.md names every metric of metrics.cc, and no other."""

    def test_both_ways(self):
        folder = SOURCE / "gateway/observe"
        pattern = r"\b((?:gatepost|process)_[a-z0-9_]+)\b"
        code = set(re.findall(rf'"{pattern}"', (folder / "metrics.cc").read_text()))
        reference = set(re.findall(rf"`{pattern}`", (folder / "metrics.md").read_text()))
        self.assertGreater(len(code), 20)
        self.assertEqual(code, reference)


class Budget(GatewayTestCase):
    def test_fewer_than_2000_series(self):
        """8 listeners, 10 pools, of which each has two members, TLS and one protocol."""
        backend = RecordingImap(users={"u": "p"})
        self.addCleanup(backend.close)
        listeners = port_table()
        pools = {f"pool{i}": {"members": [backend.member, "127.0.0.1:1"], "tls": "starttls",
                              "verify": False} for i in range(10)}
        for number, keys in enumerate(listeners.values()):
            keys["pool"] = f"pool{number}"
        routes = [{"protocol": "imap", "domains": [f"d{i}.example.org"], "pool": f"pool{i}"}
                  for i in (8, 9)]
        gate = self.start(listeners, pools, routes=routes)
        count = len(gate.metrics().series)
        self.assertGreater(count, 1000)
        self.assertLess(count, 2000)


class Admin(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        cls.imap_backend = RecordingImap(users={"u": "p"})
        cls.smtp_backend = RecordingSmtp(users={"u": "p"})
        cls.addClassCleanup(cls.imap_backend.close)
        cls.addClassCleanup(cls.smtp_backend.close)
        cls.share({"imaps": {"protocol": "imap", "tls": "implicit", "pool": "stores"},
                   "submission": {"protocol": "smtp", "tls": "starttls", "pool": "outgoing"}},
                  {"stores": {"members": [cls.imap_backend.member], "tls": "none"},
                   "outgoing": {"members": [cls.smtp_backend.member], "tls": "none"}})
        cls.gate.wait_capabilities()

    def test_health(self):
        for path in ("/healthz", "/readyz"):
            self.assertEqual(self.gate.http(path)[0], 200)
        self.assertEqual(self.gate.http("/nothing")[0], 404)
        self.assertEqual(self.gate.http("/metrics/../etc/passwd")[0], 404)

    @unittest.skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_promtool(self):
        with clients.logged_in(self.gate, "imaps", "u", "p"):
            text = self.gate.metrics().text
        result = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                                capture_output=True, timeout=120, check=False)
        self.assertEqual((result.returncode, result.stdout + result.stderr), (0, ""))

    def test_names_and_help(self):
        text = self.gate.metrics().text
        for name in self.gate.metrics().names():
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            self.assertRegex(text, rf"(?m)^# HELP {family} \S")
            self.assertRegex(text, rf"(?m)^# TYPE {family} (counter|gauge|histogram)$")

    def test_descriptors_are_counted(self):
        def count():
            return sum(value for name, _, value in self.gate.metrics().series
                       if name == "process_open_fds")
        before = count()
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(self.gate.connect("imaps"))
            self.gate.wait_active(20)
            self.assertAlmostEqual(count() - before, 20, delta=2)  # the scrapes have theirs, too
        self.gate.wait_active(0)

    def test_a_session_is_counted(self):
        before = self.gate.metrics()
        with clients.logged_in(self.gate, "imaps", "u", "p") as wire:
            during = self.gate.metrics()
            self.assertEqual(during.value("connections_active", listener="imaps"), 1)
            self.assertEqual(during.value("backend_sessions_active", backend="stores"), 1)
            wire.imap("a", "NOOP")
            wire.imap("q", "LOGOUT")
            wire.rest()
        self.gate.wait_active(0)
        after = self.gate.metrics()

        def grown(name, **labels):
            return after.value(name, **labels) - before.value(name, **labels)
        self.assertEqual(grown("connections_accepted_total", listener="imaps"), 1)
        self.assertEqual(grown("tls_handshakes_total", mode="implicit", result="ok"), 1)
        self.assertEqual(grown("auth_attempts_total", protocol="imap", result="ok"), 1)
        self.assertEqual(grown("login_duration_seconds_count", protocol="imap"), 1)
        self.assertEqual(grown("backend_connections_total", backend="stores", result="ok"), 1)
        self.assertEqual(grown("sessions_closed_total", protocol="imap", reason="done"), 1)
        self.assertEqual(after.value("backend_sessions_active"), 0)
        self.assertEqual(grown("bytes_total", protocol="imap", direction="in"),
                         len("a NOOP\r\nq LOGOUT\r\n"))
        self.assertGreater(grown("bytes_total", protocol="imap", direction="out"), 0)

    def test_messages_are_counted(self):
        before = self.gate.metrics()
        with clients.logged_in(self.gate, "submission", "u", "p") as wire:
            for _ in range(2):
                wire.command("MAIL FROM:<a@example.test>")
                wire.command("RCPT TO:<b@example.test>")
                wire.command("RCPT TO:<c@example.test>")
                wire.command("DATA")
                wire.send("x\r\n.\r\n")
                wire.reply()
            wire.command("QUIT")
        self.gate.wait_active(0)
        after = self.gate.metrics()
        self.assertEqual(after.value("smtp_messages_total", result="accepted")
                         - before.value("smtp_messages_total", result="accepted"), 2)
        self.assertEqual(after.value("smtp_replies_total", command="message", **{"class": "2xx"})
                         - before.value("smtp_replies_total", command="message",
                                        **{"class": "2xx"}), 2)
        self.assertEqual(after.value("smtp_recipients_total")
                         - before.value("smtp_recipients_total"), 4)
        self.assertEqual(after.value("starttls_total", result="ok")
                         - before.value("starttls_total", result="ok"), 1)

    def test_logfmt(self):
        with clients.logged_in(self.gate, "imaps", "u", "p") as wire:
            wire.imap("q", "LOGOUT")
            wire.rest()
        line = self.gate.wait_log(event="session", listener="imaps", result="done")[-1]
        self.assertLessEqual(SESSION_KEYS, line.keys())
        self.assertRegex(line["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
        self.assertEqual(line["user"], "u")
        for key in ("duration_ms", "login_ms", "bytes_in", "bytes_out"):
            self.assertGreaterEqual(int(line[key]), 0)
        for text in self.gate.log_text().splitlines():
            self.assertIn("event", parse_logfmt(text))


class JsonLog(GatewayTestCase):
    def test_every_line_is_an_object(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}},
                              log={"format": "json"})
            with clients.logged_in(gate, "imaps", "u", "p") as wire:
                wire.imap("q", "LOGOUT")
                wire.rest()
            with gate.connect("imaps", tls=True) as wire:
                clients.greeting(wire)
                user = 'quo"ted\\é\t'
                wire.imap("a", f"AUTHENTICATE PLAIN {clients.plain(user, 'x')}")
            line = gate.wait_log(event="session", result="done")[0]
            self.assertLessEqual(SESSION_KEYS, line.keys())
            self.assertIsInstance(line["duration_ms"], int)
            self.assertIn('quo"ted\\', gate.wait_log(event="login_failed")[0]["user"])
            for text in gate.log_text().splitlines():
                self.assertIsInstance(json.loads(text), dict)
            gate.settled()


class LogFile(GatewayTestCase):
    def test_a_file_takes_the_lines(self):
        with RecordingImap() as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}},
                              log={"file": "gatepost.log"})
            with clients.logged_in(gate, "imaps", "u", "p"):
                pass
            gate.settled()
            gate.stop()
            text = (gate.directory / "gatepost.log").read_text()
        self.assertIn("event=session", text)
        self.assertNotIn("event=session", gate.log_text())
