# Who guesses passwords is refused before anybody is asked, on all protocols; others go on. And how
# many sessions one user may have.
# SPDX-License-Identifier: Apache-2.0
import contextlib

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp, refused_port
from gatepost import GatewayTestCase

PROTOCOLS = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}
LOGIN_THROTTLED = {"imap": "l NO [LIMIT]", "pop3": "-ERR [LOGIN-DELAY]", "smtp": "454 4.7.0"}
TOO_MANY_SESSIONS = {"imap": "l NO [LIMIT]", "pop3": "-ERR [IN-USE]", "smtp": "454 4.7.0"}
USERS = {"alice": "right", "bob": "right"}


class ThrottleTestCase(GatewayTestCase):
    def gateway(self, throttle=None, limits=None, users=USERS, log=None):
        """A gateway in front of one recording backend a protocol."""
        self.backends = {p: make(users=users) for p, make in PROTOCOLS.items()}
        for backend in self.backends.values():
            self.addCleanup(backend.close)
        return self.start(
            {p: {"protocol": p, "tls": "implicit", "pool": p} for p in PROTOCOLS},
            {p: {"members": [b.member], "tls": "none"} for p, b in self.backends.items()},
            throttle=throttle or {}, limits={"failed_login_delay": "0s", **(limits or {})}, log=log)

    def login(self, protocol, user, password, source="127.0.0.1"):
        with self.gate.connect(protocol, tls=True, source=source) as wire:
            clients.greeting(wire)
            return clients.login(wire, protocol, user, password)

    def assert_answer(self, answer, expected, protocol):
        self.assertTrue(answer.startswith(expected[protocol]), f"{protocol}: {answer}")

    def guess(self, protocol, user, count, source="127.0.0.1"):
        """Wrong logins, each with a password of its own and on its own connection."""
        self.guesses = getattr(self, "guesses", 0)
        for _ in range(count):
            self.guesses += 1
            self.assert_answer(self.login(protocol, user, f"guess{self.guesses}", source),
                               clients.LOGIN_REFUSED, protocol)


class Throttle(ThrottleTestCase):
    def test_guesses_are_refused_on_all_protocols(self):
        gate = self.gateway({"max_failures_per_user_and_address": 5})
        self.guess("imap", "alice", 2)
        self.guess("pop3", "alice", 2)
        self.guess("smtp", "Alice", 1)
        asked = {p: len(b.logins) for p, b in self.backends.items()}
        for protocol, backend in self.backends.items():
            self.assert_answer(self.login(protocol, "alice", "right"), LOGIN_THROTTLED, protocol)
            self.assertEqual(len(backend.logins), asked[protocol])  # the password went nowhere
            self.assert_answer(self.login(protocol, "bob", "right"), clients.LOGIN_OK, protocol)
            self.assert_answer(self.login(protocol, "alice", "right", "127.0.0.9"),
                               clients.LOGIN_OK, protocol)
        metrics = gate.metrics()
        self.assertEqual(metrics.value("throttled_total", scope="pair"), 3)
        self.assertEqual(metrics.value("throttled_total"), 3)
        self.assertEqual(metrics.value("bans_active", scope="pair"), 1)
        self.assertEqual(metrics.value("bans_active"), 1)
        self.assertEqual(metrics.value("auth_failures_total", reason="rate"), 3)
        self.assertEqual(metrics.value("auth_attempts_total", result="failed"), 5)
        # One line for all of it.
        ban, = gate.log_lines(event="ban")
        self.assertEqual((ban["scope"], ban["client"], ban["user"], ban["protocol"]),
                         ("pair", "127.0.0.1", "Alice", "smtp"))
        self.assertEqual(len(gate.log_lines(event="login_failed")), 5)
        self.assertEqual(gate.log_lines(event="login_throttled"), [])

    def test_one_connection_that_goes_on_guessing(self):
        gate = self.gateway({"max_failures_per_user_and_address": 3}, log={"level": "debug"})
        for protocol, backend in self.backends.items():
            user = "alice" + protocol
            with gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                for i in range(3):
                    self.assert_answer(clients.login(wire, protocol, user, f"p{i}"),
                                       clients.LOGIN_REFUSED, protocol)
                for _ in range(2):
                    self.assert_answer(clients.login(wire, protocol, user, "p9"),
                                       LOGIN_THROTTLED, protocol)
                self.assertEqual(len(backend.logins), 3)
            line = gate.wait_log(count=2, event="login_throttled", user=user)[0]
            self.assertEqual(line["scope"], "pair")
            line = gate.wait_log(event="session", user=user)[0]
            self.assertEqual(line["login"], "failed")

    def test_a_user_that_many_addresses_guess(self):
        """Distributed guessing; the user itself goes on where it has logged in before."""
        gate = self.gateway({"max_failures_per_user": 20})
        self.assert_answer(self.login("imap", "alice", "right", "127.0.0.7"), clients.LOGIN_OK,
                           "imap")
        for i in range(20):
            self.guess(list(PROTOCOLS)[i % 3], "alice", 1, f"127.0.1.{i}")
        for protocol in PROTOCOLS:
            self.assert_answer(self.login(protocol, "alice", "right", "127.0.1.200"),
                               LOGIN_THROTTLED, protocol)
            self.assert_answer(self.login(protocol, "alice", "right", "127.0.0.7"),
                               clients.LOGIN_OK, protocol)
            self.assert_answer(self.login(protocol, "bob", "right", "127.0.1.1"),
                               clients.LOGIN_OK, protocol)
        self.assertEqual(gate.metrics().value("throttled_total", scope="user"), 3)
        self.assertEqual([line["scope"] for line in gate.log_lines(event="ban")], ["user"])

    def test_an_address_that_guesses_many_users(self):
        gate = self.gateway({"max_failures_per_address": 6})
        for i in range(6):
            self.guess("imap", f"user{i}", 1)
        for protocol in PROTOCOLS:
            self.assert_answer(self.login(protocol, "alice", "right"), LOGIN_THROTTLED, protocol)
            self.assert_answer(self.login(protocol, "alice", "right", "127.0.0.2"),
                               clients.LOGIN_OK, protocol)
        self.assertEqual([line["scope"] for line in gate.log_lines(event="ban")], ["network"])

    def test_a_success_forgives(self):
        self.gateway({"max_failures_per_user_and_address": 4})
        for protocol in PROTOCOLS:
            for _ in range(3):
                self.guess(protocol, "alice", 3)
                self.assert_answer(self.login(protocol, "alice", "right"), clients.LOGIN_OK,
                                   protocol)

    def test_an_old_password_again_and_again(self):
        self.gateway({"max_failures_per_user_and_address": 3, "max_failures_per_address": 3,
                      "max_failures_per_user": 3})
        for protocol in PROTOCOLS:
            for _ in range(5):
                self.assert_answer(self.login(protocol, "alice", "last year's"),
                                   clients.LOGIN_REFUSED, protocol)
            self.assert_answer(self.login(protocol, "alice", "right"), clients.LOGIN_OK, protocol)

    def test_exempt_networks(self):
        gate = self.gateway({"max_failures_per_user_and_address": 2, "max_failures_per_user": 2,
                             "exempt_networks": ["127.0.2.0/24"]})
        for protocol in PROTOCOLS:
            self.guess(protocol, "alice", 4, "127.0.2.1")
            self.assert_answer(self.login(protocol, "alice", "right", "127.0.2.1"),
                               clients.LOGIN_OK, protocol)
        self.guess("imap", "alice", 2, "127.0.3.1")
        self.assert_answer(self.login("imap", "alice", "right", "127.0.3.1"), LOGIN_THROTTLED,
                           "imap")
        self.assertEqual(gate.metrics().value("bans_active"), 2)  # the pair and the user

    def test_an_outage_is_no_guess(self):
        sock, port = refused_port()
        with sock:
            gate = self.start({"imap": {"protocol": "imap", "tls": "implicit"}},
                              {"imap": {"members": [f"127.0.0.1:{port}"], "tls": "none"}},
                              throttle={"max_failures_per_user_and_address": 1,
                                        "max_failures_per_address": 1})
            for i in range(5):
                answer = self.login("imap", "alice", f"password{i}")
                self.assert_answer(answer, clients.LOGIN_UNAVAILABLE, "imap")
            self.assertEqual(gate.metrics().value("bans_active"), 0)

    def test_a_refusal_ends(self):
        self.gateway({"max_failures_per_user_and_address": 2, "half_life": "1s"})
        self.guess("imap", "alice", 2)
        while self.login("imap", "alice", "right").startswith(LOGIN_THROTTLED["imap"]):
            pass


class SessionsOfAUser(ThrottleTestCase):
    def test_one_too_many_is_refused_until_another_ends(self):
        gate = self.gateway(limits={"max_sessions_per_user": 3})
        with contextlib.ExitStack() as stack:
            wires = {p: stack.enter_context(clients.logged_in(gate, p, "alice", "right"))
                     for p in PROTOCOLS}
            for protocol in PROTOCOLS:
                self.assert_answer(self.login(protocol, "alice", "right"), TOO_MANY_SESSIONS,
                                   protocol)
                self.assert_answer(self.login(protocol, "bob", "right"), clients.LOGIN_OK,
                                   protocol)
            # Who does not know the password is not told.
            self.assert_answer(self.login("imap", "alice", "wrong"), clients.LOGIN_REFUSED, "imap")
            self.assertEqual(gate.metrics().value("auth_failures_total", reason="connections"), 3)
            for protocol, wire in wires.items():
                wire.send(clients.QUIT[protocol] + "\r\n")
                wire.rest()
                gate.wait_log(event="session", protocol=protocol, user="alice", login="ok")
                stack.enter_context(clients.logged_in(gate, protocol, "alice", "right"))
                self.assert_answer(self.login(protocol, "alice", "right"), TOO_MANY_SESSIONS,
                                   protocol)

    def test_no_limit_by_default(self):
        gate = self.gateway()
        with contextlib.ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(clients.logged_in(gate, "imap", "alice", "right"))
