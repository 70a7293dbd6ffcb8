# Certificates of clients: who gets through a listener that asks for them or requires them, over
# STARTTLS and implicit TLS, in TLS 1.2 and 1.3; what the log and the metrics say; resumption.
# SPDX-License-Identifier: Apache-2.0
import ssl
import unittest

import clients
from client_pki import VERSIONS, ClientPki
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import GatewayTestCase, certificates, run_directory, run_gatepost
from wire import Closed

USER, PASSWORD = "alice", "s3cret"
BACKENDS = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}


def setUpModule():
    global pki, strange
    pki = ClientPki(run_directory() / "client-pki")
    strange = ClientPki(run_directory() / "strange-client-pki", "Strange CA")
    pki.issue("alice", email="alice@example.test")
    pki.issue("gone")
    pki.issue("old", expired=True)
    pki.issue("server", usage="serverAuth")
    strange.issue("alice")
    pki.revoke("gone")
    pki.crl()
    pki.crl("stale", expired=True)


# Who, in which PKI, and how the cause begins.
REFUSED = {
    "revoked": (lambda: (pki, "gone"), "certificate revoked"),
    "expired": (lambda: (pki, "old"), "certificate has expired on 2020-02-01"),
    "wrong CA": (lambda: (strange, "alice"), "unable to get local issuer certificate"),
    "wrong purpose": (lambda: (pki, "server"), "unsupported certificate purpose"),
}


class Certificates(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        cls.backends = {p: make(users={USER: PASSWORD}) for p, make in BACKENDS.items()}
        for backend in cls.backends.values():
            cls.addClassCleanup(backend.close)
        ca = {"client_ca_file": pki.ca, "client_crl_file": pki.directory / "crl.crl"}
        listeners = {}
        for protocol in BACKENDS:
            keys = {"protocol": protocol, "pool": protocol}
            for demand in ("request", "require"):
                listeners[f"{protocol}-{demand}"] = {**keys, **ca, "tls": "implicit",
                                                     "client_certificates": demand}
            listeners[f"{protocol}-starttls"] = {**keys, **ca, "tls": "starttls",
                                                 "client_certificates": "require"}
        listeners["stale"] = {"protocol": "imap", "pool": "imap", "tls": "implicit",
                              "client_certificates": "require", "client_ca_file": pki.ca,
                              "client_crl_file": pki.directory / "stale.crl"}
        cls.share(listeners, {p: {"members": [b.member], "tls": "none"}
                              for p, b in cls.backends.items()})
        cls.gate.wait_capabilities()

    def greeted(self, listener, context, session=None):
        """A wire behind its handshake and greeting; raises where the handshake fails."""
        wire = self.gate.connect(listener)
        try:
            protocol = self.gate.listeners[listener]["protocol"]
            if self.gate.listeners[listener]["tls"] == "implicit":
                wire.start_tls(context, session=session)
                clients.greeting(wire)
            else:
                clients.greeting(wire)
                clients.start_tls(wire, protocol, context)
                wire.send({"imap": "n NOOP\r\n", "pop3": "NOOP\r\n", "smtp": "NOOP\r\n"}[protocol])
                wire.line()
        except BaseException:
            wire.close()
            raise
        return wire

    def assert_refused(self, listener, context, cause):
        seen = len(self.gate.log_lines(event="session", listener=listener, result="tls_failed"))
        before = self.failures(listener)
        # In TLS 1.3 the client learns it only when it reads.
        with self.assertRaises((ssl.SSLError, Closed)):
            self.greeted(listener, context).close()
        line = self.gate.wait_log(count=seen + 1, event="session", listener=listener,
                                  result="tls_failed")[-1]
        self.assertIn(cause, line["detail"])
        self.assertEqual(self.failures(listener), before + 1)

    def failures(self, listener):
        return self.gate.metrics().value("tls_handshake_failures_total", listener=listener,
                                         reason="client_cert")

    def presented(self, listener):
        metrics = self.gate.metrics()
        return [int(metrics.value("tls_client_certificates_total", listener=listener,
                                  result=result)) for result in ("valid", "invalid", "none")]

    def assert_login(self, wire, protocol):
        self.assertTrue(clients.login(wire, protocol, USER, PASSWORD)
                        .startswith(clients.LOGIN_OK[protocol]))

    def test_a_good_one_gets_through_everywhere(self):
        for listener, keys in self.gate.listeners.items():
            if listener == "stale":
                continue
            for version in VERSIONS:
                with self.subTest(listener, version=version):
                    before = self.presented(listener)
                    with self.greeted(listener, pki.context("alice", version)) as wire:
                        self.assert_login(wire, keys["protocol"])
                    self.assertEqual(self.presented(listener), [before[0] + 1, *before[1:]])
        line = self.gate.wait_log(event="client_certificate", result="valid")[0]
        self.assertEqual(line["subject"], "CN=alice")
        self.assertEqual(line["key_sha256"], pki.key_sha256("alice"))
        self.assertEqual(line["level"], "info")

    def test_required_and_missing(self):
        for protocol in BACKENDS:
            for listener in (f"{protocol}-require", f"{protocol}-starttls"):
                for version in VERSIONS:
                    with self.subTest(listener, version=version):
                        self.assert_refused(listener, pki.context(version=version),
                                            "the client sent no certificate")

    def test_required_and_not_good(self):
        for what, (whose, cause) in REFUSED.items():
            authority, name = whose()
            for listener in ("imap-require", "smtp-starttls"):
                for version in VERSIONS:
                    with self.subTest(what, listener=listener, version=version):
                        self.assert_refused(listener, authority.context(name, version), cause)

    def test_requested_and_missing(self):
        before = self.presented("imap-request")
        for version in VERSIONS:
            with self.greeted("imap-request", pki.context(version=version)) as wire:
                self.assert_login(wire, "imap")
        self.assertEqual(self.presented("imap-request"), [before[0], before[1], before[2] + 2])

    def test_requested_and_not_good_is_nobody_and_may_use_its_password(self):
        for what, (whose, cause) in REFUSED.items():
            authority, name = whose()
            for version in VERSIONS:
                with self.subTest(what, version=version):
                    seen = len(self.gate.log_lines(event="client_certificate", result="invalid"))
                    before = self.presented("imap-request")
                    with self.greeted("imap-request", authority.context(name, version)) as wire:
                        self.assert_login(wire, "imap")
                    line = self.gate.wait_log(count=seen + 1, event="client_certificate",
                                              result="invalid")[-1]
                    self.assertIn(cause, line["detail"])
                    self.assertEqual(line["level"], "warning")
                    self.assertNotIn("key_sha256", line)
                    self.assertEqual(self.presented("imap-request"),
                                     [before[0], before[1] + 1, before[2]])

    def test_an_expired_list_lets_nobody_in(self):
        self.assert_refused("stale", pki.context("alice"), "CRL has expired")

    def test_resumption_keeps_the_certificate(self):
        for version in VERSIONS:
            with self.subTest(version=version):
                context = pki.context("alice", version)
                with self.greeted("imap-require", context) as wire:
                    self.assertFalse(wire.tls.session_reused)
                    session = wire.tls.session
                before = self.presented("imap-require")
                with self.greeted("imap-require", context, session) as wire:
                    self.assertTrue(wire.tls.session_reused)
                    self.assert_login(wire, "imap")
                self.assertEqual(self.presented("imap-require"), [before[0] + 1, *before[1:]])

    def test_a_session_of_the_lenient_listener_opens_no_strict_one(self):
        """Not even one in which a good certificate was presented."""
        for version in VERSIONS:
            for name in (None, "alice"):
                with self.subTest(version=version, name=name):
                    context = pki.context(name, version)
                    with self.greeted("imap-request", context) as wire:
                        session = wire.tls.session
                    if name is None:
                        with self.assertRaises((ssl.SSLError, Closed)):
                            self.greeted("imap-require", context, session).close()
                        continue
                    with self.greeted("imap-require", context, session) as wire:
                        self.assertFalse(wire.tls.session_reused)


class Check(unittest.TestCase):
    def check(self, *keys):
        file = run_directory() / "client.toml"
        file.write_text("\n".join((
            "[[certificate]]", f'chain = "{certificates().chain}"', f'key = "{certificates().key}"',
            "[[listener]]", 'name = "l"', 'protocol = "imap"', 'addresses = ["127.0.0.1:1143"]',
            'pool = "p"', 'client_certificates = "require"', *keys, "[pool.p]",
            'members = ["a:1"]', "")))
        result = run_gatepost("check", file)
        return result.returncode, result.stdout + result.stderr

    def test_what_is_asked_for_is_shown(self):
        status, text = self.check(f'client_ca_file = "{pki.ca}"',
                                  f'client_crl_file = "{pki.directory}/crl.crl"')
        self.assertEqual(status, 0, text)
        self.assertIn(f"client certificates: required, of {pki.ca}", text)
        self.assertIn("revocation list of CN=Client CA, good until 20", text)

    def test_an_expired_list_is_shown(self):
        status, text = self.check(f'client_ca_file = "{pki.ca}"',
                                  f'client_crl_file = "{pki.directory}/stale.crl"')
        self.assertEqual(status, 0, text)
        self.assertIn("EXPIRED, so that every certificate of that issuer is refused, since "
                      "2020-02-01", text)

    def test_files_that_are_no_such(self):
        status, text = self.check('client_ca_file = "/nonexistent/ca.pem"')
        self.assertEqual(status, 2)
        self.assertRegex(text, r'client.toml:10:18: listener\[1\].client_ca_file: '
                               r'"/nonexistent/ca.pem" cannot be read')
        status, text = self.check(f'client_ca_file = "{pki.ca}"', f'client_crl_file = "{pki.ca}"')
        self.assertEqual(status, 2)
        self.assertRegex(text, r"client.toml:4:1: listener\[1\]: .*ca.pem: no CRL found")
