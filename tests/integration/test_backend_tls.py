# TLS towards backends: which certificates and versions are believed, what the log and the metrics say
# about the others, our own certificate, resumption, and the reload of what decides all that.
# The backends' TLS is OpenSSL's.
# SPDX-License-Identifier: Apache-2.0
import shutil
import signal
import ssl
import unittest

import clients
from client_pki import ClientPki
from clients import LOGIN_OK, LOGIN_UNAVAILABLE
from fault_servers import RecordingImap, Server
from gatepost import (GatewayTestCase, certificates, pools, port_table, run_directory, run_gatepost,
                      start_backends)
from wire import poll_until

HOST = "localhost"


def setUpModule():
    global pki, strange, ours
    pki = ClientPki(run_directory() / "backend-pki", "Backend CA")
    strange = ClientPki(run_directory() / "strange-backend-pki", "Strange CA")
    ours = ClientPki(run_directory() / "our-pki", "CA of the gateways")
    pki.issue("store", host=HOST)
    pki.issue("old", host=HOST, expired=True)
    pki.issue("other", host="other.example.test")
    strange.issue("store", host=HOST)
    ours.issue("gate")
    strange.issue("gate")


def old_context():
    """A server of the year 2005."""
    context = pki.server_context("store")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    return context


def demanding_context(version):
    """A server that serves nobody without a certificate."""
    context = pki.server_context("store")
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ours.ca)
    return context


def our_certificate(authority):
    certificate, key = authority.files("gate")
    return {"client_certificate": certificate, "client_key": key}


class BackendTlsTestCase(GatewayTestCase):
    @classmethod
    def share_with(cls, cases):
        """One gateway with a pool and a listener for each case: name -> (context, pool's keys)."""
        cls.backends, pool_keys = {}, {}
        for name, (context, keys) in cases.items():
            cls.backends[name] = backend = RecordingImap(tls=context)
            cls.addClassCleanup(backend.close)
            pool_keys[name] = {"members": [backend.member], "tls": "starttls", "server_name": HOST,
                               "ca_file": pki.ca, **keys}
        cls.share({name: {"protocol": "imap", "tls": "implicit", "pool": name} for name in cases},
                  pool_keys, process={"workers": 1})

    def login(self, name, gate=None):
        with (gate or self.gate).connect(name, tls=True) as wire:
            clients.greeting(wire)
            return clients.login(wire, "imap", "u", "s3cret")

    def value(self, metric, name, gate=None, **labels):
        return int((gate or self.gate).metrics().value(metric, backend=name, **labels))


class Refused(BackendTlsTestCase):
    """No password leaves the gateway, and everybody can see why."""

    @classmethod
    def setUpClass(cls):
        v12, v13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
        # name -> context, pool's keys, reason of the metric, words of the log
        cls.cases = {
            "expired": (pki.server_context("old"), {}, "expired",
                        r"certificate has expired on 2020-02-01 \(subject CN=old"),
            "name": (pki.server_context("other"), {}, "name",
                     r"the certificate is for other.example.test, not localhost"),
            "authority": (strange.server_context("store"), {}, "unknown_ca",
                          r"unable to get local issuer certificate"),
            "pin": (pki.server_context("store"), {"pin_sha256": [pki.pin("other")]}, "pin",
                    r"none of the pins is a key of the certificate's chain "
                    r"\(its own is " + pki.pin("store").replace("+", r"\+") + r"\)"),
            "only-pin": (pki.server_context("store"),
                         {"verify": False, "pin_sha256": [pki.pin("other")]}, "pin",
                         r"none of the pins is the certificate's key"),
            "version": (old_context(), {}, "unsupported_version", r"."),
            "no-certificate-12": (demanding_context(v12), {}, "bad_alert",
                                  r"the alert \"handshake failure\""),
            "no-certificate-13": (demanding_context(v13), {}, "cert_unknown",
                                  r"the alert \"certificate required\""),
            "wrong-certificate-12": (demanding_context(v12), our_certificate(strange),
                                     "cert_unknown", r"the alert \"unknown CA\""),
            "wrong-certificate-13": (demanding_context(v13), our_certificate(strange),
                                     "cert_unknown", r"the alert \"unknown CA\""),
        }
        cls.share_with({name: case[:2] for name, case in cls.cases.items()})

    def test_each(self):
        for name, (_, _, reason, words) in self.cases.items():
            with self.subTest(name):
                self.assertTrue(self.login(name).startswith(LOGIN_UNAVAILABLE["imap"]))
                self.assertEqual(self.backends[name].logins, [])
                line = self.gate.wait_log(event="login_deferred", listener=name)[-1]
                self.assertRegex(line["detail"], words)
                metrics = self.gate.metrics()  # one look, since checks go on
                of_reason = metrics.value("backend_tls_failures_total", backend=name, reason=reason)
                self.assertGreater(of_reason, 0)
                self.assertEqual(metrics.value("backend_tls_failures_total", backend=name),
                                 of_reason)

    def test_each_cause_is_told_once(self):
        """Probes and sessions alike, and not again for each."""
        causes = {name: "tls_" + reason for name, (_, _, reason, _) in self.cases.items()}
        for name in self.cases:
            for _ in range(3):
                self.login(name)
        for name, cause in causes.items():
            with self.subTest(name):
                lines = self.gate.log_lines(event="backend_failed", pool=name)
                self.assertEqual([line["cause"] for line in lines], [cause])
                self.assertEqual(lines[0]["backend"], self.backends[name].member)
                self.assertRegex(lines[0]["detail"], self.cases[name][3])

    def test_a_backend_without_tls(self):
        def greet(wire):
            wire.send("* OK hello\r\n")
            wire.rest()
        with Server(greet) as backend:
            gate = self.start({"l": {"protocol": "imap", "tls": "implicit"}}, {"p": {
                "members": [backend.member], "tls": "implicit", "verify": False}})
            self.assertTrue(self.login("l", gate).startswith(LOGIN_UNAVAILABLE["imap"]))
            self.assertGreater(self.value("backend_tls_failures_total", "p", gate,
                                          reason="plaintext"), 0)


class Believed(BackendTlsTestCase):
    @classmethod
    def setUpClass(cls):
        cls.share_with({
            "pin": (pki.server_context("store"), {"pin_sha256": [pki.pin("other"),
                                                                 pki.pin("store")]}),
            "pin-of-ca": (pki.server_context("store"), {"pin_sha256": [pki.pin()]}),
            "only-pin": (strange.server_context("store"),
                         {"verify": False, "pin_sha256": [strange.pin("store")]}),
            "old": (old_context(), {"tls_minimum_version": "1.0"}),
            "certificate-12": (demanding_context(ssl.TLSVersion.TLSv1_2), our_certificate(ours)),
            "certificate-13": (demanding_context(ssl.TLSVersion.TLSv1_3), our_certificate(ours)),
        })

    def test_each(self):
        for name, backend in self.backends.items():
            with self.subTest(name):
                for _ in range(3):
                    self.assertTrue(self.login(name).startswith(LOGIN_OK["imap"]))
                self.assertEqual(len(backend.logins), 3)
                self.assertEqual(self.value("backend_tls_failures_total", name), 0)
                # What OpenSSL says, and what we say.
                poll_until(lambda backend=backend: backend.tls.session_stats()["hits"] >= 3,
                           "three resumptions")
                self.assertEqual(self.value("backend_tls_handshakes_total", name, resumed="yes"),
                                 backend.tls.session_stats()["hits"])
                self.assertEqual(self.value("backend_tls_handshakes_total", name, resumed="no"), 1)

    def test_the_old_one_is_warned_of(self):
        lines = self.gate.log_lines(event="legacy_tls")
        self.assertEqual([line["pool"] for line in lines], ["old"])
        self.assertEqual(lines[0]["minimum_version"], "1.0")


class RealServers(GatewayTestCase):
    def test_dovecot_and_postfix_resume(self):
        backends = start_backends()
        gate = self.start(port_table(), pools(backends), process={"workers": 1})
        gate.wait_capabilities()
        for listener, protocol in (("993", "imap"), ("995", "pop3"), ("465", "smtp")):
            for _ in range(3):
                with clients.logged_in(gate, listener, "alice", backends.users["alice"]):
                    pass
            with self.subTest(protocol):
                metrics = gate.metrics()
                self.assertGreaterEqual(metrics.value("backend_tls_handshakes_total",
                                                      protocol=protocol, resumed="yes"), 2)
                self.assertEqual(metrics.value("backend_tls_failures_total"), 0)


class Reload(BackendTlsTestCase):
    def hup(self, gate, result):
        count = len(gate.log_lines(event="reload"))
        gate.process.send_signal(signal.SIGHUP)
        line = gate.wait_log(count=count + 1, event="reload")[-1]
        self.assertEqual(line["result"], result, line)
        return line.get("detail", "")

    def test_ca_and_client_certificate(self):
        ca = run_directory() / "reloaded-ca.pem"
        certificate, key = run_directory() / "reloaded.pem", run_directory() / "reloaded.key"

        def put(authority, our_authority):
            shutil.copy(authority.ca, ca)
            shutil.copy(our_authority.files("gate")[0], certificate)
            shutil.copy(our_authority.files("gate")[1], key)
        put(pki, ours)
        with RecordingImap(tls=demanding_context(ssl.TLSVersion.TLSv1_3)) as backend:
            gate = self.start({"l": {"protocol": "imap", "tls": "implicit"}}, {"p": {
                "members": [backend.member], "tls": "starttls", "server_name": HOST, "ca_file": ca,
                "client_certificate": certificate, "client_key": key}}, process={"workers": 1})
            for _ in range(2):
                self.assertTrue(self.login("l", gate).startswith(LOGIN_OK["imap"]))

            def full():
                return self.value("backend_tls_handshakes_total", "p", gate, resumed="no")
            self.assertEqual(full(), 1)
            self.hup(gate, "ok")  # nothing has changed: sessions go on
            self.assertTrue(self.login("l", gate).startswith(LOGIN_OK["imap"]))
            self.assertEqual(full(), 1)

            put(strange, ours)  # a session of the old one must not save it
            self.hup(gate, "ok")
            self.assertTrue(self.login("l", gate).startswith(LOGIN_UNAVAILABLE["imap"]))
            self.assertGreater(self.value("backend_tls_failures_total", "p", gate,
                                          reason="unknown_ca"), 0)
            put(pki, strange)
            self.hup(gate, "ok")
            self.assertTrue(self.login("l", gate).startswith(LOGIN_UNAVAILABLE["imap"]))
            self.assertGreater(self.value("backend_tls_failures_total", "p", gate,
                                          reason="cert_unknown"), 0)
            put(pki, ours)
            self.hup(gate, "ok")
            self.assertTrue(self.login("l", gate).startswith(LOGIN_OK["imap"]))

            ca.write_text("none of it\n")  # not usable: all stays as it was
            self.assertIn("no certificate found", self.hup(gate, "failed"))
            shutil.copy(strange.files("gate")[1], key)
            self.assertIn("pool.p: ", self.hup(gate, "failed"))
            self.assertTrue(self.login("l", gate).startswith(LOGIN_OK["imap"]))


class Check(unittest.TestCase):
    def check(self, *keys):
        file = run_directory() / "backend.toml"
        file.write_text("\n".join((
            "[[certificate]]", f'chain = "{certificates().chain}"', f'key = "{certificates().key}"',
            "[[listener]]", 'name = "l"', 'protocol = "imap"', 'addresses = ["127.0.0.1:1143"]',
            'pool = "p"', "[pool.p]", 'members = ["a:1"]', 'tls = "implicit"', *keys, "")))
        result = run_gatepost("check", file)
        return result.returncode, result.stdout + result.stderr

    def test_what_is_believed_is_shown(self):
        certificate, key = ours.files("gate")
        status, text = self.check(f'ca_file = "{pki.ca}"', f'pin_sha256 = ["{pki.pin("store")}"]',
                                  'tls_minimum_version = "1.0"',
                                  f'client_certificate = "{certificate}"', f'client_key = "{key}"')
        self.assertEqual(status, 0, text)
        self.assertIn("a:1 (TLS, verified)\n    TLS 1.0 and up, 1 key allowed, "
                      "below TLS 1.2: for old backends alone\n"
                      f"    our certificate: {certificate}\n", text)

    def test_files_that_do_not_do(self):
        status, text = self.check(f'client_certificate = "{ours.files("gate")[0]}"',
                                  f'client_key = "{strange.files("gate")[1]}"')
        self.assertEqual(status, 2)
        self.assertRegex(text, r"backend.toml:9:1: pool.p: .*gate.key: the private key does not "
                               r"match the certificate in .*gate.pem")
        status, text = self.check('client_certificate = "/nonexistent/c.pem"',
                                  f'client_key = "{strange.files("gate")[1]}"')
        self.assertEqual(status, 2)
        self.assertRegex(text, r'backend.toml:12:22: pool.p.client_certificate: '
                               r'"/nonexistent/c.pem" cannot be read')
