# What a listener offers: profiles and its own settings on the wire, with OpenSSL as the client; the
# metrics and the warning that go with them; what `check` says about mistakes.
# SPDX-License-Identifier: Apache-2.0
import unittest

from clients import s_client
from fault_servers import RecordingImap
from gatepost import GatewayTestCase, certificates, run_directory, run_gatepost


class Offers(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        cls.backend = RecordingImap(users={"u": "p"})
        cls.addClassCleanup(cls.backend.close)
        imaps = {"protocol": "imap", "tls": "implicit"}
        cls.share({
            "plain": imaps,
            "legacy": {**imaps, "tls_profile": "legacy"},
            "detailed": {**imaps, "tls_profile": "legacy", "tls_minimum_version": "1.1",
                         "tls_groups": ["secp384r1"],
                         "tls_ciphers": ["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
                                         "ECDHE-ECDSA-AES128-GCM-SHA256"],
                         "tls_signature_algorithms": ["ecdsa_secp256r1_sha256"]},
        }, {"imap": {"members": [cls.backend.member], "tls": "none"}})

    def session(self, listener, **fields):
        return self.gate.wait_log(event="session", listener=listener, **fields)[-1]

    def test_old_clients_on_a_legacy_listener(self):
        for option, name in (("-tls1", "TLSv1"), ("-tls1_1", "TLSv1.1"), ("-tls1_2", "TLSv1.2"),
                             ("-tls1_3", "TLSv1.3")):
            with self.subTest(name):
                said = s_client(self.gate.ports["legacy"], option)
                self.assertIn("Verify return code: 0 (ok)", said)
                self.assertIn("* BYE", said)
                self.session("legacy", tls=name)
        said = s_client(self.gate.ports["legacy"], "-tls1", "-cipher",
                        "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
        self.assertIn("* BYE", said)
        metrics = self.gate.metrics()
        self.assertEqual(metrics.value("tls_sessions_total", listener="legacy", version="1.0"), 2)
        self.assertEqual(metrics.value("tls_sessions_total", listener="legacy", version="1.1"), 1)

    def test_old_clients_elsewhere(self):
        before = self.gate.metrics()
        for listener, option in (("plain", "-tls1"), ("plain", "-tls1_1"), ("detailed", "-tls1")):
            with self.subTest(listener, option=option):
                self.assertRegex(s_client(self.gate.ports[listener], option),
                                 "alert (protocol version|number 70)")
        after = self.gate.metrics()
        self.assertEqual(3, sum(
            m.value("tls_handshake_failures_total", reason="unsupported_version") * sign
            for m, sign in ((after, 1), (before, -1))))

    def test_explicit_settings(self):
        said = s_client(self.gate.ports["detailed"], "-tls1_1")
        self.assertIn("* BYE", said)
        self.session("detailed", tls="TLSv1.1", cipher="TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
                     group="P-384")
        said = s_client(self.gate.ports["detailed"], "-tls1_2", "-cipher",
                        "ECDHE-ECDSA-AES256-GCM-SHA384")
        self.assertIn("handshake failure", said)
        said = s_client(self.gate.ports["detailed"], "-tls1_3", "-groups", "P-384:X25519")
        self.assertIn("Peer signature type: ECDSA", said)
        self.session("detailed", tls="TLSv1.3", group="P-384")
        said = s_client(self.gate.ports["detailed"], "-tls1_3", "-groups", "X25519")
        self.assertIn("handshake failure", said)

    def test_groups_are_counted(self):
        def counts():
            metrics = self.gate.metrics()
            return {group: metrics.value("tls_groups_total", listener="plain", group=group)
                    for group in ("X25519MLKEM768", "X25519", "P-256", "P-384", "P-521", "other",
                                  "none")}
        before = counts()
        for group in ("X25519", "P-256", "P-256"):
            self.assertIn("* BYE", s_client(self.gate.ports["plain"], "-groups", group))
        self.gate.wait_active(0)
        after = counts()
        self.assertEqual({group: after[group] - before[group] for group in after},
                         {**dict.fromkeys(after, 0), "X25519": 1, "P-256": 2})

    def test_a_warning_at_start(self):
        warned = {line["listener"]: line["minimum_version"]
                  for line in self.gate.wait_log(count=2, event="legacy_tls", level="warning")}
        self.assertEqual(warned, {"legacy": "1.0", "detailed": "1.1"})


class Check(unittest.TestCase):
    def lines(self, *keys):
        """What `check` prints for a listener with these keys, each on a line from the ninth on."""
        file = run_directory() / "offer.toml"
        file.write_text("\n".join((
            "[[certificate]]", f'chain = "{certificates().chain}"', f'key = "{certificates().key}"',
            "[[listener]]", 'name = "l"', 'protocol = "imap"', 'addresses = ["127.0.0.1:1143"]',
            'pool = "p"', *keys, "[pool.p]", 'members = ["a:1"]', "")))
        result = run_gatepost("check", file)
        output = result.stdout if result.returncode == 0 else result.stderr
        return [line.removeprefix(f"{file}:") for line in output.splitlines()]

    def test_an_unknown_name_is_named_with_its_place(self):
        lines = self.lines('tls_groups = ["X25519", "X448"]',
                           'tls_ciphers = ["DHE-RSA-AES128-GCM-SHA256"]',
                           'tls_signature_algorithms = ["rsa_md5"]')
        self.assertRegex(lines[0], r'^9:25: listener\[1\]\.tls_groups\[2\]: "X448" is not a group .*'
                         r'use .*P-256.*, for example: tls_groups = ')
        self.assertRegex(lines[1], r'^10:16: listener\[1\]\.tls_ciphers\[1\]: "DHE-RSA-AES128-GCM')
        self.assertRegex(lines[2], r'^11:29: listener\[1\]\.tls_signature_algorithms\[1\]: "rsa_md5"')

    def test_what_is_no_name_is_refused(self):
        lines = self.lines('tls_ciphers = ["ECDHE+AES:!aNULL"]', 'tls_minimum_version = "3.0"')
        self.assertRegex(lines[0], r'^9:16: listener\[1\]\.tls_ciphers\[1\]: "ECDHE\+AES:!aNULL" is '
                         "not allowed; use names of cipher suites")
        self.assertRegex(lines[1], r'^10:23: .*"3.0" is not allowed; use "1.0", "1.1", "1.2" or "1.3"')

    def test_settings_that_nobody_could_use(self):
        self.assertRegex(self.lines('tls_minimum_version = "1.0"')[0],
                         r'tls_minimum_version: "1.0" cannot be.*tls_profile = "legacy"')
        self.assertRegex(self.lines('tls_profile = "modern"', 'tls_ciphers = ["AES128-SHA"]')[0],
                         r"tls_ciphers\[1\]: has no effect where TLS 1.3 is the only version")
        self.assertRegex(self.lines('tls_signature_algorithms = ["rsa_pss_rsae_sha256"]')[0],
                         "none of tls_signature_algorithms suits the key")

    def test_the_offer_is_shown(self):
        self.assertTrue(any("TLS 1.2 and up, groups X25519, P-256" in line for line in self.lines(
            'tls_groups = ["X25519", "P-256"]')))
