# Handshakes that fail, and what an operator learns of it: reasons, alerts, foreign protocols, lines
# that do not fill the log, and the key log for Wireshark.
# SPDX-License-Identifier: Apache-2.0
import re
import ssl
import stat
import unittest

import clients
from clients import s_client
from fault_servers import RecordingImap
from gatepost import (GatewayTestCase, certificates, client_context, run_directory, run_gatepost)
from wire import Closed

IMAPS = {"protocol": "imap", "tls": "implicit"}


class DiagnosisTestCase(GatewayTestCase):
    def gateway(self, listeners=None, **keys):
        backend = RecordingImap(users={"u": "p"})
        self.addCleanup(backend.close)
        return self.start(listeners or {"imaps": IMAPS, "imap": {"protocol": "imap"}},
                          {"imap": {"members": [backend.member], "tls": "none"}}, **keys)

    def refuse(self, listener="imaps", context=None):
        """A client that trusts nobody, by default."""
        with self.assertRaises((ssl.SSLError, Closed)):
            self.gate.connect(listener, tls=context or ssl.create_default_context()).close()

    def count(self, name, **labels):
        return self.gate.metrics().value(name, **labels)


class Reasons(DiagnosisTestCase):
    def test_each_has_its_own(self):
        self.gateway()
        for reason, arguments in {
                "no_shared_cipher": ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
                "no_shared_group": ["-tls1_3", "-groups", "P-521"],
                "no_shared_signature": ["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"],
                "unsupported_version": ["-tls1_1"],
                "alpn": ["-alpn", "h2"]}.items():
            with self.subTest(reason):
                before = self.gate.metrics()
                said = s_client(self.gate.ports["imaps"], *arguments)
                self.assertNotIn("* OK", said)
                self.gate.wait_active(0)
                after = self.gate.metrics()
                for name, labels in (("tls_handshake_failures_total", {"reason": reason}),
                                     ("tls_handshake_failures_total", {})):
                    self.assertEqual(after.value(name, **labels) - before.value(name, **labels), 1)

    def test_the_clients_alert(self):
        self.gateway()
        self.refuse()
        line = self.gate.wait_log(event="session", result="tls_failed")[0]
        self.assertRegex(line["detail"], r'the alert "unknown CA" \(48\)')
        self.assertEqual(self.count("tls_alerts_received_total"), 1)
        self.assertEqual(self.count("tls_alerts_received_total", protocol="imap",
                                    alert="unknown_ca"), 1)
        self.assertEqual(self.count("tls_handshake_failures_total", reason="cert_unknown"), 1)

    def test_foreign_protocols(self):
        self.gateway()
        hello = ssl.MemoryBIO()
        with self.assertRaises(ssl.SSLWantReadError):
            client_context().wrap_bio(ssl.MemoryBIO(), hello,
                                      server_hostname="localhost").do_handshake()
        for listener, kind, first_bytes in (
                ("imaps", "http", b"GET / HTTP/1.1\r\n\r\n"), ("imaps", "ssh", b"SSH-2.0-x\r\n"),
                ("imaps", "proxy", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
                ("imaps", "other", b"a LOGIN u p\r\n"),
                ("imap", "http", b"POST / HTTP/1.1\r\n\r\n"), ("imap", "ssh", b"SSH-2.0-x\r\n"),
                ("imap", "tls", hello.read())):
            with self.subTest(listener, kind=kind):
                before = self.count("foreign_protocols_total", kind=kind)
                with self.gate.connect(listener) as wire:
                    if listener == "imap":
                        clients.greeting(wire)
                    wire.send(first_bytes)
                    self.assertLessEqual(wire.rest().count(b"\n"), 1)
                self.gate.wait_active(0)
                self.assertEqual(self.count("foreign_protocols_total", kind=kind), before + 1)


class Counted(DiagnosisTestCase):
    def test_what_comes_before_and_behind_a_login(self):
        self.gateway()
        behind = "n NOOP\r\n" * 20
        with self.gate.connect("imaps", tls=True) as wire:
            clients.greeting(wire)
            for _ in range(3):
                wire.imap("x", "NONSENSE")
            wire.send('l LOGIN "u" "p"\r\n' + behind)  # in one piece
            self.assertTrue(wire.tagged("l")[-1].startswith("l OK"))
            for _ in range(20):
                wire.tagged("n")
            self.assertEqual(self.count("protocol_errors_total", protocol="imap",
                                        kind="bad_command"), 3)
            self.assertEqual(self.count("bytes_total", protocol="imap", direction="in"),
                             len(behind))


class Lines(DiagnosisTestCase):
    def test_a_scanner_does_not_fill_the_log(self):
        self.gateway(log={"failed_handshake_interval": "1h"})
        for _ in range(5):
            self.refuse()
        with self.gate.connect("imap") as wire:
            clients.greeting(wire)
            wire.send(b"SSH-2.0-x\r\n")
            wire.rest()
        with self.gate.connect("imaps", tls=True) as wire:
            clients.greeting(wire)
            clients.login(wire, "imap", "u", "p")
        self.gate.wait_active(0)
        self.gate.wait_log(event="session", login="ok")
        self.assertEqual(len(self.gate.log_lines(event="session")), 2)
        self.assertEqual(self.count("log_lines_suppressed_total", protocol="imap"), 5)
        self.assertEqual(self.count("tls_handshake_failures_total"), 5)


class KeyLog(DiagnosisTestCase):
    def setUp(self):
        self.file = run_directory() / f"{self.id().rpartition('.')[2]}.keys"

    def test_has_what_the_client_has(self):
        self.gateway(arguments=["--tls-keylog", str(self.file)])
        warning = self.gate.wait_log(event="tls_keylog", level="warning")[0]
        self.assertEqual(warning["file"], str(self.file))
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        for attempt, version in enumerate(("-tls1_2", "-tls1_3", "-tls1_3")):
            clients_file = run_directory() / f"client-{attempt}.keys"
            said = s_client(self.gate.ports["imaps"], version, "-keylogfile", str(clients_file))
            self.assertIn("* BYE", said)
            theirs = {line for line in clients_file.read_text().splitlines()
                      if re.match(r"[A-Z0-9_]+ [0-9a-f]{64} [0-9a-f]+$", line)}
            self.assertGreaterEqual(len(theirs), 1 if version == "-tls1_2" else 4)
            self.assertLessEqual(theirs, set(self.file.read_text().splitlines()))
            if attempt == 1:
                self.gate.reload()

    def test_has_the_backends_connections_too(self):
        backend = RecordingImap(users={"u": "p"}, tls=certificates().server_context())
        self.addCleanup(backend.close)
        self.start({"imap": {"protocol": "imap", "cleartext_login": "allow"}},
                   {"imap": {"members": [backend.member], "tls": "starttls",
                             "ca_file": certificates().ca, "server_name": "localhost"}},
                   arguments=["--tls-keylog", str(self.file)])
        with self.gate.connect("imap") as wire:
            clients.greeting(wire)
            clients.login(wire, "imap", "u", "p")
        self.assertIn("CLIENT_TRAFFIC_SECRET_0 ", self.file.read_text())

    def test_refuses_a_file_that_others_can_read(self):
        self.file.write_text("")
        self.file.chmod(0o644)
        result = run_gatepost("serve", "--config", "/nonexistent", "--tls-keylog", self.file)
        self.assertEqual(result.returncode, 2)
        self.assertIn("others than its owner may read or write it", result.stderr)


if __name__ == "__main__":
    unittest.main()
