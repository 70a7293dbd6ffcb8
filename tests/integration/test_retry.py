# When a login is tried at another member, and when not: scripted backends, case by case.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import unittest

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import GatewayTestCase
from wire import poll_until

RECORDING = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}

# What the first member does instead of its greeting, after which the second is asked.
BAD_OPENINGS = {
    "imap": ("* BYE busy\r\n", "* BYE [UNAVAILABLE] down\r\n", "* PREAUTH root\r\n", "* OK [CAPAB",
             "garbage\r\n", ""),
    "pop3": ("-ERR busy\r\n", "-ERR [SYS/TEMP] down\r\n", "garbage\r\n", "+O", ""),
    "smtp": ("421 4.3.2 down\r\n", "421 4.7.0 too many\r\n", "554 5.3.2 no\r\n", "garbage\r\n", ""),
}
# What it answers to the login, when that is no answer: the second is asked.
NO_ANSWERS = {
    "imap": ("NO [UNAVAILABLE] database is away", "BAD what"),
    "pop3": ("-ERR [SYS/TEMP] database is away",),
    "smtp": ("454 4.7.0 database is away", "421 4.3.2 down", "503 5.5.1 what"),
}
# What it answers, when that is an answer: the second never sees the password.
ANSWERS = {
    "imap": ("NO no", "NO [AUTHENTICATIONFAILED] no", "NO [AUTHORIZATIONFAILED] no",
             "NO [EXPIRED] no", "NO [CONTACTADMIN] no", "NO [LIMIT] too many", "NO [INUSE] locked",
             "NO [SERVERBUG] oops", "NO [REFERRAL imap://other/] there",
             "NO [PRIVACYREQUIRED] TLS"),
    "pop3": ("-ERR no", "-ERR [AUTH] no", "-ERR [IN-USE] locked", "-ERR [LOGIN-DELAY] wait",
             "-ERR [SYS/PERM] broken"),
    "smtp": ("535 5.7.8 no", "525 5.7.13 closed", "432 4.7.12 transition", "534 5.7.9 weak",
             "550 5.7.1 no"),
}


class RetryTestCase(GatewayTestCase):
    @contextlib.contextmanager
    def two_members(self, protocol, **listener):
        """A gateway whose first login goes to the first of two members."""
        with RECORDING[protocol]() as first, RECORDING[protocol]() as second:
            gate = self.start({protocol: {"protocol": protocol, "tls": "implicit", **listener}},
                              {"pool": {"members": [first.member, second.member], "tls": "none",
                                        "balance": "round-robin"}})
            gate.wait_capabilities()
            poll_until(lambda: gate.metrics().value("backend_up") == 2, "both up")
            yield gate, first, second
            gate.settled()

    def attempt(self, gate, protocol):
        with gate.connect(protocol, tls=True) as wire:
            clients.greeting(wire)
            return clients.login(wire, protocol, "u", "p")


class Retry(RetryTestCase):
    def test_after_a_bad_opening(self):
        for protocol, openings in BAD_OPENINGS.items():
            for opening in openings:
                with self.subTest(protocol, opening=opening), \
                        self.two_members(protocol) as (gate, first, second):
                    first.handler = lambda wire, opening=opening: wire.send(opening)
                    answer = self.attempt(gate, protocol)
                    self.assertTrue(answer.startswith(clients.LOGIN_OK[protocol]), answer)
                    self.assertEqual((len(first.logins), len(second.logins)), (0, 1))

    def test_after_no_answer(self):
        for protocol, answers in NO_ANSWERS.items():
            for words in answers:
                with self.subTest(protocol, answer=words), \
                        self.two_members(protocol) as (gate, first, second):
                    first.answers = [words]
                    answer = self.attempt(gate, protocol)
                    self.assertTrue(answer.startswith(clients.LOGIN_OK[protocol]), answer)
                    self.assertEqual((len(first.logins), len(second.logins)), (1, 1))

    def test_never_after_an_answer(self):
        for protocol, answers in ANSWERS.items():
            for words in answers:
                with self.subTest(protocol, answer=words), \
                        self.two_members(protocol) as (gate, first, second):
                    first.answers = [words]
                    answer = self.attempt(gate, protocol)
                    self.assertFalse(answer.startswith(clients.LOGIN_OK[protocol]), answer)
                    self.assertEqual((len(first.logins), len(second.logins)), (1, 0))


class Messages(RetryTestCase):
    def test_a_message_never_comes_twice(self):
        """The backend is gone when it is needed anew: the other one is not asked, nor told."""
        with self.two_members("smtp") as (gate, first, second):
            with clients.logged_in(gate, "smtp", "u", "p") as wire:
                for message in (b"first\r\n.\r\n", b"bare\nnewline\r\n.\r\n"):
                    for command in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>"):
                        wire.command(command)
                    wire.command("DATA")
                    first.handler = lambda _: None
                    wire.send(message)
                    reply = wire.line()
                    if message.startswith(b"first"):
                        self.assertTrue(reply.startswith("250"), reply)
                # The refused one: its backend's connection was given up, and there is no other.
                self.assertTrue(reply.startswith("5") or reply.startswith("421"), reply)
                wire.rest()
            self.assertEqual(first.messages, [b"first\r\n"])
            self.assertEqual((second.messages, second.unfinished, second.logins), ([], 0, []))


if __name__ == "__main__":
    unittest.main()
