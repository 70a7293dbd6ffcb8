# Ways to log in beside a password, against Dovecot and Postfix: bearer tokens, judged by Dovecot (JWT),
# and SCRAM, relayed; what is offered; and the accounts and names that a backend is given.
# SPDX-License-Identifier: Apache-2.0
import base64
import hashlib
import hmac
import json
import secrets
import time

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import GatewayTestCase, pools, run_directory, run_gatepost, start_backends
from wire import poll_until

PROTOCOLS = ("imap", "pop3", "smtp")
POOL = {"imap": "stores-imap", "pop3": "stores-pop3", "smtp": "outgoing"}
RECORDING = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}

DOVECOT_AUTH = """\
auth_mechanisms = plain login xoauth2 oauthbearer scram-sha-1 scram-sha-256
auth_master_user_separator = *
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {directory}/oauth2.conf
}}
"""
DOVECOT_OAUTH = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={directory}/keys/
username_attribute = sub
"""


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Tokens:
    """Signs JSON web tokens as Dovecot checks them."""

    def __init__(self, directory):
        self.key = secrets.token_bytes(32)
        file = directory / "keys/default/HS256/default"
        file.parent.mkdir(parents=True)
        file.write_bytes(base64.b64encode(self.key))
        (directory / "oauth2.conf").write_text(DOVECOT_OAUTH.format(directory=directory))

    def sign(self, user, key=None):
        now = int(time.time())
        parts = [base64url(json.dumps(part).encode()) for part in (
            {"alg": "HS256", "typ": "JWT"},
            {"sub": user, "iat": now - 10, "nbf": now - 10, "exp": now + 3600})]
        signature = hmac.digest(key or self.key, ".".join(parts).encode(), hashlib.sha256)
        return ".".join([*parts, base64url(signature)])


def setUpModule():
    global backends, tokens
    tokens = Tokens(run_directory())
    backends = start_backends(auth=DOVECOT_AUTH.format(directory=run_directory()))


def b64(text):
    return base64.b64encode(text.encode()).decode()


def first_message(mechanism, user, token):
    return b64({"XOAUTH2": f"user={user}\1auth=Bearer {token}\1\1",
                "OAUTHBEARER": f"n,a={user},\1host=localhost\1auth=Bearer {token}\1\1"}[mechanism])


class Exchange:
    """AUTH behind a greeting that was read, line by line."""

    def __init__(self, wire, protocol, mechanism, initial=None):
        self.wire, self.protocol = wire, protocol
        if protocol == "smtp":
            self.keywords = wire.command("EHLO tester.example.test")
        command = {"imap": "l AUTHENTICATE ", "pop3": "AUTH ", "smtp": "AUTH "}[protocol]
        self.say(command + mechanism + (f" {initial}" if initial is not None else ""))

    def say(self, line):
        self.wire.send(line + "\r\n")

    def hear(self):
        while True:
            line = self.wire.line()
            if self.protocol != "imap" or not line.startswith("* "):
                return line

    def finish(self, first, second=None):
        """Says `first`, answers the challenges with what `second` makes of them; the last line."""
        if first is not None:
            self.say(first)
        while True:
            line = self.hear()
            start = "334 " if self.protocol == "smtp" else "+ "
            if not line.startswith(start):
                return line
            self.say(b64(second(base64.b64decode(line[len(start):]).decode())))

    def challenge(self):
        """The next line as a challenge, decoded."""
        line = self.hear()
        start = "334 " if self.protocol == "smtp" else "+ "
        assert line.startswith(start), line
        return base64.b64decode(line[len(start):]).decode()


class Scram:
    """A client of RFC 5802; `verified` once the server has shown that it knows the password, too."""

    HASH = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}

    def __init__(self, mechanism, user, password, cbind="n"):
        self.hash, self.password, self.verified = self.HASH[mechanism], password, False
        self.gs2 = f"{cbind},,"
        self.bare = f"n={user},r={secrets.token_urlsafe(18)}"
        self.signature = None

    def first(self):
        return b64(self.gs2 + self.bare)

    def answer(self, challenge):
        fields = dict(field.split("=", 1) for field in challenge.split(","))
        if "v" in fields:
            self.verified = base64.b64decode(fields["v"]) == self.signature
            return ""
        salted = hashlib.pbkdf2_hmac(self.hash, self.password.encode(),
                                     base64.b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", self.hash)
        final = f"c={b64(self.gs2)},r={fields['r']}"
        message = ",".join([self.bare, challenge, final]).encode()
        proof = bytes(a ^ b for a, b in zip(key, hmac.digest(
            hashlib.new(self.hash, key).digest(), message, self.hash)))
        self.signature = hmac.digest(hmac.digest(salted, b"Server Key", self.hash), message,
                                     self.hash)
        return f"{final},p={base64.b64encode(proof).decode()}"


class MechanismTestCase(GatewayTestCase):
    def greeted(self, protocol):
        wire = self.gate.connect(protocol, tls=True)
        clients.greeting(wire)
        return wire

    def assert_answer(self, answer, expected, protocol):
        self.assertTrue(answer.startswith(expected[protocol]), answer)


def listeners(**keys):
    return {p: {"protocol": p, "tls": "implicit", "pool": POOL[p], **keys} for p in PROTOCOLS}


class RealTokens(MechanismTestCase):
    """Dovecot alone knows whether a token is good; Postfix asks it."""

    @classmethod
    def setUpClass(cls):
        cls.share(listeners(), pools(backends))
        cls.gate.wait_capabilities()

    def test_a_good_token_opens_the_mailbox(self):
        for protocol in PROTOCOLS:
            for mechanism in ("XOAUTH2", "OAUTHBEARER"):
                for initial in (True, False):
                    message = first_message(mechanism, "alice", tokens.sign("alice"))
                    with self.subTest(protocol, mechanism=mechanism, initial=initial), \
                            self.greeted(protocol) as wire:
                        exchange = Exchange(wire, protocol, mechanism, message if initial else None)
                        if not initial:
                            self.assertEqual(exchange.challenge(), "")
                            exchange.say(message)
                        self.assert_answer(exchange.hear(), clients.LOGIN_OK, protocol)
                        wire.command(clients.QUIT[protocol])
        for mechanism in ("XOAUTH2", "OAUTHBEARER"):
            self.assertLessEqual(6, self.gate.metrics().value(
                "auth_attempts_total", mechanism=mechanism, result="ok"))
            self.gate.wait_log(count=6, event="session", mechanism=mechanism, user="alice")
        self.assertNotIn(tokens.sign("alice")[:30], self.gate.log_text())

    def test_a_bad_token_is_refused_with_the_backends_challenge(self):
        for protocol in PROTOCOLS:
            for mechanism, dummy in (("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")):
                message = first_message(mechanism, "alice", tokens.sign("alice", b"another key"))
                with self.subTest(protocol, mechanism=mechanism), self.greeted(protocol) as wire:
                    exchange = Exchange(wire, protocol, mechanism, message)
                    self.assertIn("status", json.loads(exchange.challenge()))
                    exchange.say(dummy)
                    self.assert_answer(exchange.hear(), clients.LOGIN_REFUSED, protocol)
                    # The connection is good for another try.
                    answer = clients.login(wire, protocol, "alice", backends.users["alice"])
                    self.assert_answer(answer, clients.LOGIN_OK, protocol)
        self.gate.wait_log(event="login_failed", user="alice", mechanism="OAUTHBEARER",
                           reason="credentials")

    def test_a_client_may_cancel_at_the_challenge(self):
        for protocol in PROTOCOLS:
            message = first_message("OAUTHBEARER", "alice", "nonsense")
            with self.subTest(protocol), self.greeted(protocol) as wire:
                exchange = Exchange(wire, protocol, "OAUTHBEARER", message)
                exchange.challenge()
                exchange.say("*")
                self.assert_answer(exchange.hear(), {"imap": "l BAD", "pop3": "-ERR",
                                                     "smtp": "501"}, protocol)
                answer = clients.login(wire, protocol, "alice", backends.users["alice"])
                self.assert_answer(answer, clients.LOGIN_OK, protocol)

    def test_a_client_may_leave_at_the_challenge(self):
        for protocol in PROTOCOLS:
            with self.subTest(protocol), self.greeted(protocol) as wire:
                Exchange(wire, protocol, "XOAUTH2",
                         first_message("XOAUTH2", "alice", "nonsense")).challenge()


class RealScram(MechanismTestCase):
    """The password is known to the client and to Dovecot alone."""

    @classmethod
    def setUpClass(cls):
        cls.share(listeners(), pools(backends))
        cls.gate.wait_capabilities()

    def run_scram(self, wire, protocol, mechanism, password, initial=True):
        scram = Scram(mechanism, "alice", password)
        exchange = Exchange(wire, protocol, mechanism, scram.first() if initial else None)
        if not initial:
            self.assertEqual(exchange.challenge(), "")
        answer = exchange.finish(None if initial else scram.first(), scram.answer)
        return answer, scram.verified

    def test_client_and_backend_prove_themselves_to_each_other(self):
        for protocol in PROTOCOLS:
            for mechanism in Scram.HASH:
                for initial in (True, False):
                    with self.subTest(protocol, mechanism=mechanism, initial=initial), \
                            self.greeted(protocol) as wire:
                        answer, verified = self.run_scram(wire, protocol, mechanism,
                                                          backends.users["alice"], initial)
                        self.assert_answer(answer, clients.LOGIN_OK, protocol)
                        self.assertTrue(verified)
                        wire.command(clients.QUIT[protocol])
        self.assertLessEqual(6, self.gate.metrics().value(
            "auth_attempts_total", mechanism="SCRAM-SHA-256", result="ok"))
        self.gate.wait_log(count=6, event="session", mechanism="SCRAM-SHA-256", user="alice")

    def test_a_wrong_password_is_refused_and_another_try_is_good(self):
        for protocol in PROTOCOLS:
            with self.subTest(protocol), self.greeted(protocol) as wire:
                answer, verified = self.run_scram(wire, protocol, "SCRAM-SHA-256", "wrong")
                self.assert_answer(answer, clients.LOGIN_REFUSED, protocol)
                self.assertFalse(verified)
                answer, verified = self.run_scram(wire, protocol, "SCRAM-SHA-256",
                                                  backends.users["alice"])
                self.assert_answer(answer, clients.LOGIN_OK, protocol)
                self.assertTrue(verified)

    def test_channel_binding_is_refused(self):
        for protocol in PROTOCOLS:
            with self.subTest(protocol), self.greeted(protocol) as wire:
                scram = Scram("SCRAM-SHA-256", "alice", "x", "p=tls-exporter")
                exchange = Exchange(wire, protocol, "SCRAM-SHA-256", scram.first())
                self.assert_answer(exchange.hear(), {"imap": "l BAD", "pop3": "-ERR [AUTH]",
                                                     "smtp": "501"}, protocol)

    def test_a_message_with_bare_newlines_ends_the_session(self):
        """Without the password we can't log in anew for it: the client has to."""
        with self.greeted("smtp") as wire:
            answer, _ = self.run_scram(wire, "smtp", "SCRAM-SHA-256", backends.users["alice"])
            self.assert_answer(answer, clients.LOGIN_OK, "smtp")
            for command in ("MAIL FROM:<alice@example.test>", "RCPT TO:<bob@example.test>", "DATA"):
                self.assertIn(wire.command(command)[0], "23")
            wire.send(b"Subject: x\r\n\r\nbare\nline\r\n.\r\n")
            self.assertTrue(wire.reply().startswith("5"))
            self.assertTrue(wire.reply().startswith("421"))
            self.assertEqual(wire.rest(), b"")


class Accounts(MechanismTestCase):
    """Master users in Dovecot's form, one account for all, names as the backend writes them."""

    def password_file(self, user):
        file = run_directory() / f"secret-{user}"
        file.write_text({backends.master_user: backends.master_password, **backends.users}[user])
        file.chmod(0o600)
        return file

    def passwords(self, *users):
        file = run_directory() / "passwords"
        hashed = run_gatepost("hash-password", stdin="ours\n").stdout.strip()
        file.write_text("".join(f"{user}:{hashed}\n" for user in users))
        return {"kind": "passwords", "file": file}

    def assert_user(self, wire, protocol, user):
        """It is the mailbox of that user; Postfix knows who sends."""
        if protocol == "smtp":
            wire.command("MAIL FROM:<x@example.test>")
            wire.command("RCPT TO:<bob@example.test>")
            self.assertIn(f"sasl_username={user}", poll_until(
                lambda: (t := backends.postfix_log.read_text()) and "sasl_username=" in t and t,
                "Postfix's log"))
            return
        answer = wire.imap("s", "STATUS INBOX (MESSAGES)")[0] if protocol == "imap" \
            else wire.command("STAT")
        self.assertIn(str(backends.message_count(user)), answer)

    def test_a_master_user_behind_the_users_name(self):
        backends.deliver("bob", b"Subject: one\r\n\r\n")
        for mechanism in ("plain", "login"):
            self.start(listeners(), pools(
                backends, login="master", master_user=backends.master_user,
                master_password_file=self.password_file(backends.master_user),
                master_user_separator="*", login_mechanism=mechanism),
                authority=self.passwords("alice", "bob", "eve*bob"))
            for protocol in PROTOCOLS:
                with self.subTest(protocol, mechanism=mechanism), self.greeted(protocol) as wire:
                    self.assert_answer(clients.login(wire, protocol, "bob", "ours"),
                                       clients.LOGIN_OK, protocol)
                    self.assert_user(wire, protocol, "bob")
                with self.subTest(protocol, mechanism=mechanism), self.greeted(protocol) as wire:
                    self.assertFalse(clients.login(wire, protocol, "eve*bob", "ours")
                                     .startswith(clients.LOGIN_OK[protocol]))

    def test_one_account_for_everybody(self):
        self.start(listeners(), pools(backends, login="fixed", account="bob",
                                      account_password_file=self.password_file("bob")),
                   authority=self.passwords("whoever"))
        for protocol in PROTOCOLS:
            with self.subTest(protocol), self.greeted(protocol) as wire:
                self.assert_answer(clients.login(wire, protocol, "whoever", "ours"),
                                   clients.LOGIN_OK, protocol)
                self.assert_user(wire, protocol, "bob")
        self.gate.wait_log(count=3, event="session", user="whoever")

    def test_names_are_written_in_one_way(self):
        made = {p: RECORDING[p]() for p in PROTOCOLS}
        for backend in made.values():
            self.addCleanup(backend.close)
        self.start(listeners(), {POOL[p]: {"members": [made[p].member], "tls": "none",
                                           "backend_user": "%d/%n"} for p in PROTOCOLS},
                   users={"lower_case": "all", "default_domain": "Example.ORG"})
        self.gate.wait_capabilities()
        for protocol in PROTOCOLS:
            for name in ("Alice", "ALICE@example.org", "alice@Example.Org"):
                with self.subTest(protocol, name=name), self.greeted(protocol) as wire:
                    self.assert_answer(clients.login(wire, protocol, name, "Secret"),
                                       clients.LOGIN_OK, protocol)
            self.assertEqual(made[protocol].logins, [("example.org/alice", "Secret")] * 3)
        self.gate.wait_log(count=9, event="session", user="alice@example.org")

    def test_the_backends_words_are_passed_on_where_that_is_wanted(self):
        words = {"imap": "NO [AUTHENTICATIONFAILED] Ask the desk", "pop3": "-ERR [AUTH] Ask the desk",
                 "smtp": "535 5.7.8 Ask the desk"}
        for refusal_text, there in (("normalize", False), ("pass", True)):
            made = {p: RECORDING[p]() for p in PROTOCOLS}
            for backend in made.values():
                self.addCleanup(backend.close)
            self.start(listeners(), {POOL[p]: {"members": [made[p].member], "tls": "none",
                                               "refusal_text": refusal_text} for p in PROTOCOLS})
            self.gate.wait_capabilities()
            for protocol in PROTOCOLS:
                made[protocol].answers = [words[protocol], words[protocol].replace("desk", "wrong")]
                with self.subTest(protocol, refusal_text=refusal_text), \
                        self.greeted(protocol) as wire:
                    answer = clients.login(wire, protocol, "alice", "wrong")
                    self.assert_answer(answer, clients.LOGIN_REFUSED, protocol)
                    self.assertEqual("Ask the desk" in answer, there, answer)
                    self.assertNotIn("5.7.8 5.7.8", answer)
                    # Never the password itself.
                    answer = clients.login(wire, protocol, "alice", "wrong")
                    self.assertNotIn("wrong", answer)

    def test_a_refusal_for_a_while_is_no_wrong_password(self):
        later = {"imap": ("NO [INUSE] x", "NO [LIMIT] x", "NO [UNAVAILABLE] x", "NO [CORRUPTION] x"),
                 "pop3": ("-ERR [IN-USE] x", "-ERR [LOGIN-DELAY] x", "-ERR [SYS/TEMP] x"),
                 "smtp": ("454 4.7.0 x", "450 4.2.0 x", "421 4.3.0 x", "535 4.7.8 x")}
        codes = {"imap": ("l NO [LIMIT]", "l NO [UNAVAILABLE]"),
                 "pop3": ("-ERR [IN-USE]", "-ERR [LOGIN-DELAY]", "-ERR [SYS/TEMP]"),
                 "smtp": ("454 4.7.0",)}
        made = {p: RECORDING[p]() for p in PROTOCOLS}
        for backend in made.values():
            self.addCleanup(backend.close)
        self.start(listeners(), {POOL[p]: {"members": [made[p].member], "tls": "none"}
                                 for p in PROTOCOLS})
        self.gate.wait_capabilities()
        for protocol in PROTOCOLS:
            for words in later[protocol]:
                made[protocol].answers = [words]
                with self.subTest(protocol, words=words), self.greeted(protocol) as wire:
                    answer = clients.login(wire, protocol, "alice", "secret")
                    self.assertTrue(answer.startswith(codes[protocol]), answer)
        self.assertEqual([], self.gate.log_lines(event="login_failed"))


class Offers(MechanismTestCase):
    """What is offered depends on the backend and on the listener."""

    TOKENS = {"imap": "IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2", "pop3": ("USER", "SASL PLAIN XOAUTH2"),
              "smtp": ("AUTH PLAIN XOAUTH2",)}

    def offered(self, protocol):
        with self.greeted(protocol) as wire:
            if protocol == "imap":
                text = wire.imap("c", "CAPABILITY")[0]
                return {w[5:] for w in text.split() if w.startswith("AUTH=")}, text
            wire.send({"pop3": "CAPA\r\n", "smtp": "EHLO tester\r\n"}[protocol])
            text = wire.multiline().decode() if protocol == "pop3" else wire.reply()
            line = next(l for l in text.splitlines()
                        if l.startswith("SASL") or l[4:].startswith("AUTH "))
            return set(line[4:].replace("AUTH ", "").split()), text

    def backends(self, tokens):
        made = {}
        for p in PROTOCOLS:
            key = {"imap": "capability", "pop3": "capabilities", "smtp": "keywords"}[p]
            made[p] = RECORDING[p](**({key: self.TOKENS[p]} if tokens else {}))
            self.addCleanup(made[p].close)
        return made

    def begin(self, made, pool_keys=None, **keys):
        self.start(listeners(**keys), {POOL[p]: {"members": [made[p].member], "tls": "none",
                                                 **(pool_keys or {})} for p in PROTOCOLS})
        self.gate.wait_capabilities()

    def test_tokens_need_a_backend_that_takes_them(self):
        for has, expected in ((False, {"PLAIN", "LOGIN"}),
                              (True, {"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"})):
            self.begin(self.backends(has))
            for protocol in PROTOCOLS:
                self.assertEqual(self.offered(protocol)[0], expected)

    def test_a_listener_without_passwords(self):
        self.begin(self.backends(True), mechanisms=["OAUTHBEARER"])
        for protocol in PROTOCOLS:
            offered, text = self.offered(protocol)
            self.assertEqual(offered, {"OAUTHBEARER"})
            if protocol == "imap":
                self.assertIn("LOGINDISABLED", text)
            with self.greeted(protocol) as wire:
                answer = clients.login(wire, protocol, "alice", "secret")
                self.assert_answer(answer, {"imap": "l NO", "pop3": "-ERR", "smtp": "504"},
                                   protocol)

    def test_the_password_is_presented_as_the_pool_says(self):
        sent = {"plain": {"imap": "AUTHENTICATE PLAIN ", "pop3": "AUTH PLAIN",
                          "smtp": "AUTH PLAIN "},
                "login": {"imap": "LOGIN ", "pop3": "USER alice", "smtp": "AUTH LOGIN"}}
        for mechanism, expected in sent.items():
            made = self.backends(False)
            self.begin(made, {"login_mechanism": mechanism})
            for protocol in PROTOCOLS:
                with self.subTest(mechanism, protocol=protocol), self.greeted(protocol) as wire:
                    answer = clients.login(wire, protocol, "alice", "secret")
                    self.assert_answer(answer, clients.LOGIN_OK, protocol)
                self.assertEqual(made[protocol].logins, [("alice", "secret")])
                lines = [line.split(" ", 1)[-1] if protocol == "imap" else line
                         for line in made[protocol].lines]
                self.assertTrue(any(l.startswith(expected[protocol]) for l in lines), lines)
