# Which members the gateway uses: checks, what logins meet, members that leave and come back.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import unittest

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp, Server, refused_port
from gatepost import HOST, GatewayTestCase, start_backends
from wire import poll_until

RECORDING = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}
LISTENERS = {p: {"protocol": p, "tls": "implicit", "pool": p} for p in RECORDING}
# How a server says that it shuts down, in its greeting.
FAREWELL = {"imap": "* BYE [UNAVAILABLE] Server shutting down\r\n",
            "pop3": "-ERR [SYS/TEMP] Server shutting down\r\n",
            "smtp": "421 4.3.2 Service shutting down\r\n"}
FAST = {"health_interval": "100ms"}
PATIENT = {"connect_timeout": "5m", "login_timeout": "5m"}


class HealthTestCase(GatewayTestCase):
    def start_pool(self, protocol, members, **pool):
        return self.start({protocol: LISTENERS[protocol]},
                          {protocol: {"members": members, "tls": "none", **pool}})

    @staticmethod
    def up(gate, member=None):
        return gate.metrics().value("backend_up", **({"member": member} if member else {}))

    def wait_up(self, gate, count, member=None):
        poll_until(lambda: self.up(gate, member) == count, f"{count} members up")

    def attempt(self, gate, protocol, user="u"):
        with gate.connect(protocol, tls=True) as wire:
            clients.greeting(wire)
            return clients.login(wire, protocol, user, "pass-word")

    def assert_login(self, gate, protocol, expected=clients.LOGIN_OK, user="u"):
        answer = self.attempt(gate, protocol, user)
        self.assertTrue(answer.startswith(expected[protocol]), answer)


class Checks(HealthTestCase):
    def test_a_member_that_is_down_is_not_tried(self):
        sock, port = refused_port()
        with sock, RecordingImap() as good:
            gate = self.start_pool("imap", [f"{HOST}:{port}", good.member])
            self.wait_up(gate, 0, f"{HOST}:{port}")
            down = gate.wait_log(event="backend_down")
            self.assertEqual([(line["backend"], line["cause"]) for line in down],
                             [(f"{HOST}:{port}", "unreachable")])
            refused = gate.metrics().value("backend_connections_total", result="refused")
            with gate.connect("imap", tls=True):
                for i in range(20):
                    self.assert_login(gate, "imap", user=f"user{i}")
            self.assertEqual(len(good.logins), 20)
            # Looks are the only attempts: at most one in two seconds.
            self.assertLess(gate.metrics().value("backend_connections_total", result="refused"),
                            refused + 20)
            gate.settled()

    def test_the_answer_comes_at_once_while_all_are_down(self):
        """Nobody waits for members that are known to be silent, and they are looked at still."""
        speaking = []
        for protocol, make in RECORDING.items():
            with self.subTest(protocol), make() as backend:
                talk = backend.handler
                backend.handler = lambda wire, talk=talk: talk(wire) if speaking else wire.rest()
                gate = self.start_pool(protocol, [backend.member], health_timeout="100ms",
                                       **FAST, **PATIENT)
                self.wait_up(gate, 0)
                self.assert_login(gate, protocol, clients.LOGIN_UNAVAILABLE)
                deferred = gate.wait_log(event="login_deferred")[0]
                self.assertEqual(deferred["detail"],
                                 f"no member of the pool is up: {backend.member} "
                                 "(the backend did not answer in time)")
                speaking.append(True)
                self.wait_up(gate, 1)
                self.assertEqual(gate.wait_log(event="backend_up")[0]["cause"], "timeout")
                self.assert_login(gate, protocol)
                self.assertEqual(gate.metrics().value("backend_health_transitions_total"), 2)
                speaking.clear()
                gate.settled()

    def test_a_member_without_what_is_wanted(self):
        with RecordingImap() as backend:
            gate = self.start_pool("imap", [backend.member], tls="starttls", verify=False)
            self.wait_up(gate, 0)
            self.assertEqual(gate.wait_log(event="backend_down")[0]["cause"], "no_starttls")
            self.assertRegex(self.attempt(gate, "imap"), r"^l NO \[SERVERBUG\]")
            gate.settled()

    def test_clients_see_what_all_members_can_do(self):
        with RecordingImap(capability="IMAP4rev1 SASL-IR AUTH=PLAIN IDLE MOVE") as one, \
                RecordingImap(capability="IMAP4rev1 SASL-IR AUTH=PLAIN SORT IDLE") as two:
            gate = self.start_pool("imap", [one.member, two.member], **FAST)

            def offered():
                with gate.connect("imap", tls=True) as wire:
                    clients.greeting(wire)
                    return wire.imap("c", "CAPABILITY")[0].split()
            words = offered()
            self.assertIn("IDLE", words)
            self.assertNotIn("MOVE", words)
            self.assertNotIn("SORT", words)
            # One that is down has no say.
            two.handler = lambda wire: None
            self.wait_up(gate, 0, two.member)
            poll_until(lambda: "MOVE" in offered(), "the other's capability")
            self.assertNotIn("SORT", offered())

    def test_one_connection_of_the_process_at_a_time(self):
        with RecordingImap() as backend:
            gate = self.start_pool("imap", [backend.member], **FAST)
            poll_until(lambda: backend.connections >= 5, "some checks")
            self.assertEqual({line.split()[1] for line in backend.lines}, {"LOGOUT"})
            poll_until(lambda: sum(t.is_alive() for t in backend.threads()) <= 1, "one at a time")
            gate.stop()

    def test_dovecot(self):
        backends = start_backends()
        gate = self.start_pool("imap", [f"{HOST}:{backends.imap_port}"], **FAST)
        self.wait_up(gate, 1)
        backends.dovecot.stop()
        try:
            self.wait_up(gate, 0)
            self.assert_login(gate, "imap", clients.LOGIN_UNAVAILABLE)
        finally:
            backends.dovecot.start()
        self.wait_up(gate, 1)
        self.assertEqual(gate.wait_log(event="backend_up")[0]["cause"],
                         gate.wait_log(event="backend_down")[-1]["cause"])


class Logins(HealthTestCase):
    """What logins meet counts, too; the checks of these pools come once an hour."""

    def start_two(self, stack, protocol, **pool):
        backends = [stack.enter_context(RECORDING[protocol]()) for _ in range(2)]
        gate = self.start_pool(protocol, [b.member for b in backends], **pool)
        self.wait_up(gate, 2)
        return gate, backends

    def test_a_member_that_says_that_it_shuts_down(self):
        for protocol, words in FAREWELL.items():
            with self.subTest(protocol), contextlib.ExitStack() as stack:
                gate, (leaving, staying) = self.start_two(stack, protocol, health_fall=100)
                leaving.handler = lambda wire, words=words: wire.send(words)
                for i in range(20):
                    self.assert_login(gate, protocol, user=f"user{i}")
                self.assertEqual(len(staying.logins), 20)
                self.assertEqual(self.up(gate, leaving.member), 0)
                down = gate.wait_log(event="backend_down")
                self.assertEqual([line["cause"] for line in down], ["shutting_down"])
                gate.settled()

    def test_a_member_that_refuses_connections(self):
        with contextlib.ExitStack() as stack:
            gate, (gone, staying) = self.start_two(stack, "imap")
            gone.close()
            for i in range(20):
                self.assert_login(gate, "imap", user=f"user{i}")
            self.wait_up(gate, 0, gone.member)
            self.assertEqual(len(staying.logins), 20)
            gate.settled()

    def test_a_member_that_serves_no_logins(self):
        """It greets well, so it is not down; after some failures it is the last to be asked."""
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_two(stack, "imap")
            ill, well = backends
            ill.answers = ["NO [UNAVAILABLE] internal failure"] * 100
            for i in range(40):
                self.assert_login(gate, "imap", user=f"user{i}")
            self.assertEqual(len(well.logins), 40)
            self.assertEqual(len(ill.logins), 3)
            self.assertEqual(self.up(gate), 2)
            gate.settled()

    def test_a_refusal_is_no_failure(self):
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_two(stack, "imap")
            for backend in backends:
                backend.answers = ["NO [AUTHENTICATIONFAILED] no"] * 100
            for i in range(10):
                self.assertRegex(self.attempt(gate, "imap", f"user{i}"), "AUTHENTICATIONFAILED")
            self.assertEqual(sum(len(backend.logins) for backend in backends), 10)
            self.assertEqual(gate.log_lines(event="backend_down"), [])
            self.assertEqual(self.up(gate), 2)
            gate.settled()


if __name__ == "__main__":
    unittest.main()
