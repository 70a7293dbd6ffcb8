# Logins with a client certificate alone (SASL EXTERNAL), on all three protocols: whose mailbox is
# opened, who is refused, and that no password opens what the certificate does.
# SPDX-License-Identifier: Apache-2.0
import base64
import crypt
import signal
import unittest
import warnings

import clients
from client_pki import VERSIONS, ClientPki
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import (GatewayTestCase, own_certificate, pools, run_directory, run_gatepost,
                      start_backends, table)

warnings.filterwarnings("ignore", category=DeprecationWarning)

PROTOCOLS = ("imap", "pop3", "smtp")
NOT_OFFERED = {"imap": "l NO Unsupported", "pop3": "-ERR [AUTH] Unsupported", "smtp": "504 5.5.4"}
NOT_ALLOWED = {"imap": "l NO [AUTHORIZATIONFAILED]", "pop3": "-ERR [AUTH] Authorization",
               "smtp": "535 5.7.8"}
POOL = {"imap": "stores-imap", "pop3": "stores-pop3", "smtp": "outgoing"}


def setUpModule():
    global backends, pki, strange, secret
    backends = start_backends()
    pki = ClientPki(run_directory() / "external-pki")
    strange = ClientPki(run_directory() / "external-strange-pki", "Strange CA")
    pki.issue("alice", email="alice@example.test")
    pki.issue("bob", email="bob@example.test")
    pki.issue("printer")
    pki.issue("nobody", email="nobody@example.test")
    pki.issue("gone", subject="/CN=alice")
    strange.issue("alice")
    pki.revoke("gone")
    pki.crl()
    secret = run_directory() / "master-password"
    secret.write_text(backends.master_password + "\n")
    secret.chmod(0o600)


def b64(text):
    return base64.b64encode(text.encode()).decode() or "="


def external(wire, protocol, wish="", initial=True):
    """AUTH EXTERNAL behind a greeting that was read; the final answer."""
    if protocol == "smtp":
        wire.command("EHLO tester.example.test")
    command = {"imap": "l AUTHENTICATE EXTERNAL", "pop3": "AUTH EXTERNAL",
               "smtp": "AUTH EXTERNAL"}[protocol]
    if initial:
        wire.send(f"{command} {b64(wish)}\r\n")
    else:
        wire.send(command + "\r\n")
        challenge = wire.line()
        if challenge not in ("+ ", "334 "):
            return challenge
        wire.send(base64.b64encode(wish.encode()).decode() + "\r\n")
    while protocol == "imap" and not (line := wire.line()).startswith("l "):
        pass
    return line if protocol == "imap" else wire.line()


def plain(wire, protocol, user, password, authorization=""):
    wire.send({"imap": "l AUTHENTICATE PLAIN ", "pop3": "AUTH PLAIN ", "smtp": "AUTH PLAIN "}
              [protocol] + clients.plain(user, password, authorization) + "\r\n")
    while protocol == "imap" and not (line := wire.line()).startswith("l "):
        pass
    return line if protocol == "imap" else wire.line()


class ExternalTestCase(GatewayTestCase):
    def greeted(self, listener, context, session=None):
        """A wire inside TLS, behind the greeting."""
        keys = self.gate.listeners[listener]
        wire = self.gate.connect(listener)
        if keys["tls"] == "implicit":
            wire.start_tls(context, session=session)
            clients.greeting(wire)
        else:
            clients.greeting(wire)
            clients.start_tls(wire, keys["protocol"], context)
        return wire

    def answer(self, listener, context, wish="", initial=True):
        with self.greeted(listener, context) as wire:
            return external(wire, self.gate.listeners[listener]["protocol"], wish, initial)

    def assert_answer(self, answer, expected, protocol):
        self.assertTrue(answer.startswith(expected[protocol]), answer)


def listeners(**keys):
    asked = {"client_certificates": "request", "client_ca_file": pki.ca,
             "client_crl_file": pki.directory / "crl.crl", **keys}
    return {f"{protocol}-{tls}": {"protocol": protocol, "tls": tls, "pool": POOL[protocol], **asked}
            for protocol in PROTOCOLS for tls in ("implicit", "starttls")}


class RealBackends(ExternalTestCase):
    """Dovecot and Postfix know the passwords; a master user speaks for who has a certificate."""

    @classmethod
    def setUpClass(cls):
        cls.map = run_directory() / "certificate-users"
        cls.map.write_text(f"# whose certificate is it\nalice cn:alice\n"
                           f"bob email:bob@example.test\n"
                           f"bob spki-sha256:{pki.key_sha256('printer').upper()}\n"
                           f"unknown email:nobody@example.test\n")
        cls.share(listeners(client_certificate_user="map", client_certificate_map=cls.map),
                  pools(backends, master_user=backends.master_user, master_password_file=secret))
        cls.gate.wait_capabilities()

        for user in ("alice", "bob"):
            backends.deliver(user, f"Subject: for {user}\r\n\r\nbody\r\n".encode())

    def assert_mailbox(self, wire, protocol, user):
        """The mailbox is that user's: its first message says so."""
        subject = f"Subject: for {user}"
        if protocol == "imap":
            wire.imap("s", "EXAMINE INBOX")
            self.assertIn(subject, wire.imap("f", "FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]"))
        elif protocol == "pop3":
            wire.command("TOP 1 0")
            self.assertIn(subject.encode(), wire.multiline())
        else:
            message = clients.Message(sender=f"{user}@example.test", to=f"{user}@example.test")
            for command in (f"MAIL FROM:<{message.sender}>", f"RCPT TO:<{message.to}>"):
                self.assertTrue(wire.command(command).startswith("250"))
            self.assertTrue(wire.command("DATA").startswith("354"))
            wire.send(message.stuffed())
            self.assertTrue(wire.reply().startswith("250"))
            with clients.Store(backends, user) as store:
                store.wait_for(message.id)
            self.assertIn(f"sasl_username={user}", backends.postfix_log.read_text())

    def test_a_certificate_opens_the_mailbox_of_its_user(self):
        for listener, keys in self.gate.listeners.items():
            protocol = keys["protocol"]
            for version in VERSIONS:
                for name, user in (("alice", "alice"), ("bob", "bob"), ("printer", "bob")):
                    for wish in ("", user):
                        initial = (version == VERSIONS[0]) == (name == "alice")
                        with self.subTest(listener, name=name, wish=wish, initial=initial):
                            with self.greeted(listener, pki.context(name, version)) as wire:
                                self.assert_answer(external(wire, protocol, wish, initial),
                                                   clients.LOGIN_OK, protocol)
                                self.assert_mailbox(wire, protocol, user)
        session = self.gate.wait_log(event="session", mechanism="EXTERNAL", login="ok")[0]
        self.assertIn(session["user"], ("alice", "bob"))
        shown = self.gate.log_lines(event="client_certificate", subject="CN=alice", user="alice")
        self.assertTrue(shown)
        self.assertNotIn(backends.master_password, self.gate.log_text())
        for protocol in PROTOCOLS:
            self.assertGreater(self.gate.metrics().value(
                "auth_attempts_total", protocol=protocol, mechanism="EXTERNAL", result="ok"), 0)

    def test_resumption_keeps_the_user(self):
        context = pki.context("alice", VERSIONS[1])
        with self.greeted("imap-implicit", context) as wire:
            external(wire, "imap")
            session = wire.tls.session
        with self.greeted("imap-implicit", context, session) as wire:
            self.assertTrue(wire.tls.session_reused)
            self.assert_answer(external(wire, "imap"), clients.LOGIN_OK, "imap")
            self.assert_mailbox(wire, "imap", "alice")

    def test_nobody_else_gets_in(self):
        for what, context in (("none", pki.context()), ("revoked", pki.context("gone")),
                              ("wrong CA", strange.context("alice"))):
            for listener, keys in self.gate.listeners.items():
                for initial in (True, False):
                    with self.subTest(what, listener=listener):
                        self.assert_answer(self.answer(listener, context, "alice", initial),
                                           NOT_OFFERED, keys["protocol"])

    def test_a_user_whom_the_backend_does_not_know(self):
        for protocol in PROTOCOLS:
            answer = self.answer(f"{protocol}-implicit", pki.context("nobody"))
            self.assertFalse(answer.startswith(clients.LOGIN_OK[protocol]), answer)
            line = self.gate.wait_log(event="login_deferred", protocol=protocol, user="unknown")[0]
            self.assertEqual(line["mechanism"], "EXTERNAL")

    def test_nobody_acts_for_another(self):
        for listener, keys in self.gate.listeners.items():
            seen = len(self.gate.log_lines(event="login_failed", mechanism="EXTERNAL"))
            for initial in (True, False):
                for wish in ("bob", "Alice", "alice ", backends.master_user):
                    with self.subTest(listener, wish=wish):
                        self.assert_answer(
                            self.answer(listener, pki.context("alice"), wish, initial),
                            NOT_ALLOWED, keys["protocol"])
            line = self.gate.wait_log(count=seen + 1, event="login_failed",
                                      mechanism="EXTERNAL")[-1]
            self.assertEqual((line["user"], line["reason"]), ("alice", "authorization"))

    def test_a_certificate_is_no_password(self):
        """The master's account serves certificates; a password is the backend's to judge."""
        attempts = [("alice", "wrong", ""), ("alice", backends.master_password, ""),
                    ("alice", "", ""), ("bob", "wrong", ""), ("bob", backends.master_password, ""),
                    (backends.master_user, "wrong", "alice"), (backends.master_user, "", "bob"),
                    ("alice", backends.users["alice"], "bob"),
                    ("alice", "wrong", "alice"), (backends.master_user, backends.master_password, "")]
        for protocol in PROTOCOLS:
            for context in (pki.context("alice"), pki.context()):
                for user, password, authorization in attempts:
                    with self.subTest(protocol, user=user, authorization=authorization), \
                            self.greeted(f"{protocol}-implicit", context) as wire:
                        if protocol == "smtp":
                            wire.command("EHLO tester")
                        answer = plain(wire, protocol, user, password, authorization)
                        self.assertFalse(answer.startswith(clients.LOGIN_OK[protocol]), answer)
                for user, password, _ in attempts[:5]:
                    with self.greeted(f"{protocol}-implicit", context) as wire:
                        answer = clients.login(wire, protocol, user, password)
                        self.assertFalse(answer.startswith(clients.LOGIN_OK[protocol]), answer)
                with self.greeted(f"{protocol}-implicit", context) as wire:
                    self.assert_answer(clients.login(wire, protocol, "bob", backends.users["bob"]),
                                       clients.LOGIN_OK, protocol)
                    self.assert_mailbox(wire, protocol, "bob")


class Recorded(ExternalTestCase):
    """What the backends are told, with a password file as the authority."""

    @classmethod
    def setUpClass(cls):
        cls.backends = {"imap": RecordingImap(), "pop3": RecordingPop3(), "smtp": RecordingSmtp()}
        cls.silent = RecordingSmtp(keywords=("PIPELINING",))
        for backend in (*cls.backends.values(), cls.silent):
            cls.addClassCleanup(backend.close)
        hashed = crypt.crypt("right", "$y$j7T$abcdefghijklmnop")
        passwords = run_directory() / "external-passwords"
        passwords.write_text(f"alice:{hashed}\nbob@example.test:{hashed}:login=robert password=own\n")
        master = {"tls": "none", "login": "master", "master_user": "m", "master_password_file": secret}
        asked = {"client_certificates": "request", "client_ca_file": pki.ca, "tls": "implicit"}
        keys, stores = {}, {"silent": {"members": [cls.silent.member], "login": "none"}}
        for protocol, backend in cls.backends.items():
            stores[protocol] = {"members": [backend.member], **master}
            for user in ("cn", "email"):
                keys[f"{protocol}-{user}"] = {"protocol": protocol, "pool": protocol,
                                              "client_certificate_user": user, **asked}
        keys["silent"] = {"protocol": "smtp", "pool": "silent", "client_certificate_user": "cn",
                          **asked}
        keys["off"] = {"protocol": "imap", "pool": "imap", **asked}
        cls.share(keys, stores, authority={"kind": "passwords", "file": passwords})
        cls.gate.wait_capabilities()

    def setUp(self):
        for backend in self.backends.values():
            backend.logins.clear()
            backend.authorizations.clear()

    def test_the_master_speaks_for_whom_the_file_knows(self):
        for protocol, backend in self.backends.items():
            self.assert_answer(self.answer(f"{protocol}-cn", pki.context("alice")),
                               clients.LOGIN_OK, protocol)
            with self.greeted(f"{protocol}-cn", pki.context()) as wire:
                self.assert_answer(clients.login(wire, protocol, "alice", "right"),
                                   clients.LOGIN_OK, protocol)
            self.assertEqual(backend.logins, [("m", backends.master_password)] * 2)
            self.assertEqual(backend.authorizations, ["alice", "alice"])

    def test_an_entry_with_an_account_of_its_own(self):
        for protocol, backend in self.backends.items():
            self.assert_answer(self.answer(f"{protocol}-email", pki.context("bob")),
                               clients.LOGIN_OK, protocol)
            self.assertEqual(backend.logins, [("robert", "own")])

    def test_no_password_but_the_right_one(self):
        for protocol, backend in self.backends.items():
            for user, password in (("alice", "wrong"), ("alice", backends.master_password),
                                   ("alice", "own"), ("m", backends.master_password),
                                   ("nobody", "right"), ("robert", "own")):
                with self.greeted(f"{protocol}-cn", pki.context("alice")) as wire:
                    self.assert_answer(clients.login(wire, protocol, user, password),
                                       clients.LOGIN_REFUSED, protocol)
            self.assertEqual(backend.logins, [])

    def test_users_without_an_entry(self):
        for protocol, backend in self.backends.items():
            self.assert_answer(self.answer(f"{protocol}-cn", pki.context("printer")), NOT_ALLOWED,
                               protocol)
            self.assertEqual(backend.logins, [])
            line = self.gate.wait_log(event="login_failed", user="printer", protocol=protocol)[0]
            self.assertEqual(line["mechanism"], "EXTERNAL")

    def test_a_certificate_without_the_name(self):
        self.assert_answer(self.answer("imap-email", pki.context("printer")), NOT_OFFERED, "imap")
        line = self.gate.wait_log(event="client_certificate", listener="imap-email",
                                  subject="CN=printer")[0]
        self.assertIn("no usable e-mail address", line["detail"])
        self.assertEqual(line["result"], "valid")

    def test_a_listener_that_only_asks(self):
        self.assert_answer(self.answer("off", pki.context("alice")), NOT_OFFERED, "imap")

    def test_a_backend_without_auth(self):
        with self.greeted("silent", pki.context("alice")) as wire:
            self.assert_answer(external(wire, "smtp"), clients.LOGIN_OK, "smtp")
            self.assertTrue(wire.command("MAIL FROM:<alice@example.test>").startswith("250"))
        self.assertEqual(self.silent.logins, [])


class Reload(ExternalTestCase):
    def test_the_users_of_certificates_are_read_anew(self):
        backend = RecordingImap()
        self.addCleanup(backend.close)
        users = run_directory() / "reloaded-users"
        users.write_text("one cn:alice\n")
        self.start({"l": {"protocol": "imap", "tls": "implicit", "client_certificates": "require",
                          "client_ca_file": pki.ca, "client_certificate_user": "map",
                          "client_certificate_map": users}},
                   {"p": {"members": [backend.member], "master_user": "m",
                          "master_password_file": secret}})

        def reload(text):
            users.write_text(text)
            seen = len(self.gate.log_lines(event="reload", trigger="signal"))
            self.gate.process.send_signal(signal.SIGHUP)
            return self.gate.wait_log(count=seen + 1, event="reload", trigger="signal")[-1]

        def user():
            self.assert_answer(self.answer("l", pki.context("alice")), clients.LOGIN_OK, "imap")
            return backend.authorizations[-1]

        self.assertEqual(user(), "one")
        self.assertEqual(reload("two cn:alice\n")["result"], "ok")
        self.assertEqual(user(), "two")
        line = reload("three cn:alice\nfour cn:alice\n")
        self.assertEqual(line["result"], "failed")
        self.assertIn(f'{users}:2: "cn:alice" stands in line 1 already', line["detail"])
        self.assertEqual(user(), "two")


class Check(unittest.TestCase):
    def check(self, rule, *pool, mode=0o600, users="alice cn:alice\n"):
        folder = run_directory()
        (folder / "check-users").write_text(users)
        (folder / "check-secret").write_text("secret\n")
        (folder / "check-secret").chmod(mode)
        file = folder / "external.toml"
        file.write_text(
            table("[[certificate]]", own_certificate())
            + table("[[listener]]", {"name": "l", "protocol": "imap", "pool": "p",
                                     "addresses": ["127.0.0.1:1143"],
                                     "client_certificates": "request", "client_ca_file": pki.ca,
                                     **rule})
            + table("[pool.p]", {"members": ["a:1"], "master_user": "gate",
                                 "master_password_file": folder / "check-secret",
                                 **dict(pool)}))
        result = run_gatepost("check", file)
        return result.returncode, result.stdout + result.stderr

    def test_what_certificates_mean_is_shown(self):
        users = run_directory() / "check-users"
        by_map = {"client_certificate_user": "map", "client_certificate_map": users}
        status, text = self.check(by_map)
        self.assertEqual(status, 0, text)
        self.assertIn(f"log in (EXTERNAL) as 1 lines in {users} say", text)
        self.assertIn("clients with a certificate alone log in as gate on their behalf\n", text)
        self.assertIn("log in as their e-mail address (EXTERNAL)",
                      self.check({"client_certificate_user": "email"})[1])
        self.assertIn("EVERY USER OF THIS MACHINE CAN READ ITS PASSWORD",
                      self.check(by_map, mode=0o644)[1])

    def test_mistakes_are_found(self):
        users = run_directory() / "check-users"
        by_map = {"client_certificate_user": "map", "client_certificate_map": users}
        status, text = self.check(by_map, users="alice mail:alice\n")
        self.assertEqual(status, 2)
        self.assertIn(f'{users}:1: there is no kind "mail"; allowed are email', text)
        status, text = self.check(by_map, ("login", "master"))
        self.assertEqual(status, 2)
        self.assertIn("nobody checks a password and anybody may be everybody", text)
