# Two gateways that tell each other of failed logins by a real Redis: who guesses at one is refused at
# the other, and nobody waits for Redis, whether it is there or not.
# SPDX-License-Identifier: Apache-2.0
import secrets
import socket

import clients
from fault_servers import RecordingImap
from gatepost import GatewayTestCase, Gatepost, run_directory
from redis_server import Redis
from wire import poll_until

THROTTLED = "l NO [LIMIT]"


class SharedThrottle(GatewayTestCase):
    def setUp(self):
        self.redis = Redis(f"redis-{self._testMethodName[-12:]}")
        self.addCleanup(self.redis.stop)
        self.backend = RecordingImap(users={"alice@example.org": "right", "bob": "right"})
        self.addCleanup(self.backend.close)
        self.key = run_directory() / "throttle.key"
        self.key.write_text(secrets.token_hex(32) + "\n")
        self.password = run_directory() / f"{self.redis.socket.name}.password"
        self.password.write_text(self.redis.password + "\n")
        for file in (self.key, self.password):
            file.chmod(0o600)

    def gateway(self, **throttle):
        gate = Gatepost({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                        {"stores": {"members": [self.backend.member], "tls": "none"}},
                        throttle={"max_failures_per_user_and_address": 3,
                                  "redis": self.redis.socket, "shared_key_file": self.key,
                                  "redis_password_file": self.password, **throttle},
                        limits={"failed_login_delay": "0s"})
        self.addCleanup(gate.stop)
        return gate

    def shares(self, gate):
        poll_until(lambda: gate.metrics().value("throttle_shared") == 1, "shared state")

    def login(self, gate, user, password, source="127.0.0.1"):
        with gate.connect("imap", tls=True, source=source) as wire:
            clients.greeting(wire)
            return clients.login(wire, "imap", user, password)

    def guess(self, gate, user, count, source="127.0.0.1"):
        for _ in range(count):
            answer = self.login(gate, user, secrets.token_hex(4), source)
            self.assertTrue(answer.startswith(clients.LOGIN_REFUSED["imap"]), answer)

    def refused(self, gate, user, source="127.0.0.1"):
        """Whether the right password is of no use; asked with it, so that nothing is counted."""
        return self.login(gate, user, "right", source).startswith(THROTTLED)

    def hears(self, gate, count):
        poll_until(lambda: gate.metrics().value("throttle_events_total", direction="received")
                   >= count, f"{count} events")

    def test_who_guesses_at_one_is_refused_at_the_other(self):
        a, b = self.gateway(), self.gateway()
        self.shares(a)
        self.shares(b)
        self.guess(a, "alice@example.org", 2)
        self.guess(b, "alice@example.org", 1)
        for gate, others in ((a, 1), (b, 2)):
            self.hears(gate, others)
            self.assertTrue(self.refused(gate, "alice@example.org"))
            self.assertTrue(self.login(gate, "bob", "right").startswith("l OK"))
        # One that comes later hears of what has been.
        c = self.gateway()
        self.hears(c, 3)
        self.assertTrue(self.refused(c, "alice@example.org"))
        # Redis holds hashes alone, which go away by themselves.
        entries = self.redis.ask("XRANGE", "gatepost:throttle", "-", "+")
        self.assertIn("f ", entries)
        for name in ("alice", "bob", "example.org", "127.0.0.1", "right"):
            self.assertNotIn(name, entries)
        self.assertGreater(int(self.redis.ask("PTTL", "gatepost:throttle")), 0)

    def test_a_good_login_forgives_at_both(self):
        a, b = self.gateway(), self.gateway()
        self.shares(a)
        self.shares(b)
        self.guess(a, "bob", 2)
        self.hears(b, 2)
        self.assertTrue(self.login(b, "bob", "right").startswith("l OK"))
        self.hears(a, 1)
        self.guess(a, "bob", 2)
        self.assertTrue(self.login(a, "bob", "right").startswith("l OK"))

    def test_with_another_key_nothing_is_understood(self):
        other = run_directory() / "other.key"
        other.write_text(secrets.token_hex(32) + "\n")
        a, b = self.gateway(), self.gateway(shared_key_file=other)
        self.shares(a)
        self.shares(b)
        self.guess(a, "bob", 3)
        self.hears(b, 3)
        self.assertTrue(self.refused(a, "bob"))
        self.assertTrue(self.login(b, "bob", "right").startswith("l OK"))

    def test_without_redis_logins_go_on(self):
        self.redis.stop()
        a, b = self.gateway(), self.gateway()
        a.wait_log(event="throttle_not_shared")
        self.assertEqual(0, a.metrics().value("throttle_shared"))
        self.assertTrue(self.login(a, "bob", "right", "127.0.0.8").startswith("l OK"))
        self.guess(a, "bob", 3)
        self.assertTrue(self.refused(a, "bob"))
        self.assertTrue(self.login(b, "bob", "right", "127.0.0.9").startswith("l OK"))
        self.redis.start()  # what there was to say is said then
        b.wait_log(event="throttle_shared")
        self.hears(b, 4)
        self.assertTrue(self.refused(b, "bob"))

    def test_while_redis_hangs_logins_go_on(self):
        gate = self.gateway()
        self.shares(gate)
        self.redis.hang(True)
        self.guess(gate, "bob", 3)
        self.assertTrue(self.refused(gate, "bob"))
        self.assertTrue(self.login(gate, "bob", "right", "127.0.0.9").startswith("l OK"))
        gate.wait_log(event="throttle_not_shared")
        self.redis.hang(False)
        self.shares(gate)

    def test_a_user_of_its_own(self):
        """One that may do no more than the reference says, and the default user's password is not its."""
        password = secrets.token_urlsafe(12)
        self.redis.ask("ACL", "SETUSER", "gatepost", "on", f">{password}", "~gatepost:throttle",
                       "+time", "+xadd", "+xread", "+pexpire")
        a = self.gateway(redis_user="gatepost")
        line, = a.wait_log(event="throttle_not_shared")
        self.assertIn("WRONGPASS", line["detail"])
        self.password.write_text(password + "\n")
        b, c = self.gateway(redis_user="gatepost"), self.gateway(redis_user="gatepost")
        self.shares(b)
        self.shares(c)
        self.guess(b, "bob", 3)
        self.hears(c, 3)
        self.assertTrue(self.refused(c, "bob"))
        for gate in (a, b, c):
            self.assertNotIn(password, gate.log_text())

    def test_a_server_that_is_no_redis(self):
        """It says something else, or nothing."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        gate = self.gateway(redis=f"127.0.0.1:{listener.getsockname()[1]}")
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            gate.wait_log(event="throttle_not_shared")
        self.assertTrue(self.login(gate, "bob", "right").startswith("l OK"))
        self.assertNotIn(self.redis.password, gate.log_text())
