# What a client shows that is nobody's fault but its own: credentials that no backend takes, and the
# wish to act for somebody else. Neither speaks against a backend, nor goes to another one.
# SPDX-License-Identifier: Apache-2.0
import base64
import contextlib

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import GatewayTestCase, pools, start_backends
from test_external import NOT_ALLOWED, plain
from wire import poll_until

IMPLICIT = {p: {"protocol": p, "tls": "implicit", "pool": pool} for p, pool in
            (("imap", "stores-imap"), ("pop3", "stores-pop3"), ("smtp", "outgoing"))}


def setUpModule():
    global backends
    backends = start_backends()


class CredentialsTestCase(GatewayTestCase):
    @contextlib.contextmanager
    def greeted(self, protocol):
        with self.gate.connect(protocol, tls=True) as wire:
            clients.greeting(wire)
            if protocol == "smtp":
                wire.command("EHLO tester.example.test")
            yield wire

    def assert_no_member_blamed(self):
        self.assertEqual(self.gate.log_lines(event="backend_failed"), [])
        self.assertEqual(self.gate.metrics().value("backend_up"), self.members)

    def start_two(self, protocol, **options):
        """Two members that take turns; the first to be asked is the first."""
        two = [{"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}[protocol](
            **options) for _ in range(2)]
        for backend in two:
            self.addCleanup(backend.close)
        self.start({protocol: {"protocol": protocol, "tls": "implicit"}},
                   {"pool": {"members": [b.member for b in two], "tls": "none",
                             "balance": "round-robin"}})
        self.gate.wait_capabilities()
        self.members = 2
        poll_until(lambda: self.gate.metrics().value("backend_up") == 2, "both up")
        return two


class TooLong(CredentialsTestCase):
    def login_with_a_long_name(self, wire, protocol, name):
        if protocol == "imap":
            wire.send(f"l LOGIN {{{len(name)}+}}\r\n{name} p\r\n")
            return wire.tagged("l")[-1]
        if protocol == "pop3":
            wire.send(f"USER {name}\r\nPASS p\r\n")
            wire.line()
            return wire.line()
        wire.send("AUTH LOGIN\r\n")
        for word in (name, "p"):
            wire.line()
            wire.send(base64.b64encode(word.encode()).decode() + "\r\n")
        return wire.line()

    def test_real_servers_never_see_it(self):
        """Dovecot hangs up on an answer of 8 kB: no outage, but a guess like any other."""
        self.start(IMPLICIT, pools(backends), throttle={"max_failures_per_user_and_address": 3},
                   limits={"failed_login_delay": "0s"})
        self.gate.wait_capabilities()
        self.members = 3
        for protocol, length in (("imap", 60000), ("pop3", 8000), ("smtp", 9000)):
            with self.subTest(protocol):
                for _ in range(3):
                    with self.greeted(protocol) as wire:
                        answer = self.login_with_a_long_name(wire, protocol, protocol[0] * length)
                        self.assertTrue(answer.startswith(clients.LOGIN_REFUSED[protocol]), answer)
                with self.greeted(protocol) as wire:
                    answer = self.login_with_a_long_name(wire, protocol, protocol[0] * length)
                    self.assertRegex(answer, r"LIMIT|LOGIN-DELAY|^454 4\.7\.0")
                with self.gate.connect(protocol, tls=True) as wire:
                    clients.greeting(wire)
                    answer = clients.login(wire, protocol, "alice", backends.users["alice"])
                    self.assertTrue(answer.startswith(clients.LOGIN_OK[protocol]), answer)
        self.assert_no_member_blamed()
        self.assertNotIn("too large", backends.dovecot_log.read_text())
        self.assertEqual({line["detail"] for line in self.gate.log_lines(event="login_failed")},
                         {"credentials too long"})

    def test_a_long_token_with_which_a_backend_hangs_up(self):
        """Tokens may be longer than some backends take."""
        for length, asked in ((3000, 2), (5000, 1)):
            with self.subTest(length):
                two = self.start_two("imap", capability="IMAP4rev1 SASL-IR AUTH=XOAUTH2")
                lines = []

                def hang_up(wire):
                    wire.send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] ready\r\n")
                    lines.append(wire.line())
                for backend in two:
                    backend.handler = hang_up
                token = base64.b64encode(
                    f"user=alice\1auth=Bearer {'t' * length}\1\1".encode()).decode()
                with self.greeted("imap") as wire:
                    wire.send(f"l AUTHENTICATE XOAUTH2 {token}\r\n")
                    answer = wire.tagged("l")[-1]
                self.assertTrue(answer.startswith("l NO [UNAVAILABLE]"), answer)
                self.assertEqual(len(lines), asked)
                if asked == 1:
                    self.assert_no_member_blamed()
                self.gate.stop()

    def test_an_answer_in_an_exchange(self):
        two = self.start_two("imap", capability="IMAP4rev1 SASL-IR AUTH=SCRAM-SHA-256")
        heard = []

        def challenge(wire):
            wire.send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=SCRAM-SHA-256] ready\r\n")
            wire.line()
            wire.send("+ cj1hYmM=\r\n")
            heard.append(wire.rest())
        for backend in two:
            backend.handler = challenge
        with self.greeted("imap") as wire:
            first = base64.b64encode(b"n,,n=alice,r=abc").decode()
            self.assertTrue(wire.command(f"l AUTHENTICATE SCRAM-SHA-256 {first}").startswith("+"))
            answer = wire.command(base64.b64encode(b"a" * 4500).decode())
            self.assertTrue(answer.startswith(clients.LOGIN_REFUSED["imap"]), answer)
            poll_until(lambda: heard, "the end of the backend's connection")
        self.assertEqual(heard, [b""])
        self.assert_no_member_blamed()

    def test_a_long_token_is_relayed(self):
        two = self.start_two("smtp", keywords=("AUTH XOAUTH2",))
        heard = []

        def take(wire):
            wire.send("220 backend\r\n")
            wire.line()
            wire.send("250-backend\r\n250 AUTH XOAUTH2\r\n")
            wire.line()
            wire.send("334 \r\n")
            heard.append(wire.line())
            wire.send("235 2.7.0 welcome\r\n")
            wire.rest()
        for backend in two:
            backend.handler = take
        token = base64.b64encode(f"user=alice\1auth=Bearer {'t' * 8000}\1\1".encode()).decode()
        with self.greeted("smtp") as wire:
            wire.command("AUTH XOAUTH2")
            self.assertTrue(wire.command(token).startswith("235"))
        self.assertEqual(heard, [token])


class AuthorizationIdentity(CredentialsTestCase):
    # Of servers that have no PLAIN, which alone can carry one.
    WITHOUT_PLAIN = {"imap": {"capability": "IMAP4rev1 IDLE"},
                     "pop3": {"capabilities": ("TOP", "USER")},
                     "smtp": {"keywords": ("AUTH LOGIN",)}}

    def test_who_acts_as_itself_needs_none(self):
        """As mutt and Postfix do, who name the user in both places."""
        for protocol, options in self.WITHOUT_PLAIN.items():
            with self.subTest(protocol):
                two = self.start_two(protocol, **options)
                with self.greeted(protocol) as wire:
                    answer = plain(wire, protocol, "alice", "right", "alice")
                    self.assertTrue(answer.startswith(clients.LOGIN_OK[protocol]), answer)
                self.assertEqual([b.logins for b in two], [[("alice", "right")], []])
                self.gate.stop()

    def test_another_one_is_denied_and_nobody_blamed(self):
        for protocol, options in self.WITHOUT_PLAIN.items():
            with self.subTest(protocol):
                two = self.start_two(protocol, **options)
                for _ in range(4):
                    with self.greeted(protocol) as wire:
                        answer = plain(wire, protocol, "alice", "right", "bob")
                        self.assertTrue(answer.startswith(NOT_ALLOWED[protocol]), answer)
                self.assertEqual([b.logins for b in two], [[], []])
                self.assert_no_member_blamed()
                self.gate.stop()
