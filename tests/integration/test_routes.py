# Where users go: a file of single users, domains, the listener's pool; renewed while it runs.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import unittest

import clients
from fault_servers import RecordingImap
from gatepost import GatewayTestCase, run_directory, run_gatepost

LISTENER = {"imap": {"protocol": "imap", "tls": "implicit", "pool": "old"}}


class Routes(GatewayTestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.backends = {name: stack.enter_context(RecordingImap())
                         for name in ("old", "new", "shop", "single")}
        self.users = run_directory() / f"users-{id(self)}"

    def start_routed(self, routes, lines=(), **pool):
        self.users.write_text("".join(line + "\n" for line in lines))
        gate = self.start(LISTENER, {
            name: {"members": [self.backends[name].member], "tls": "none", **pool}
            for name in ("old", "new", "shop")}, routes=routes)
        gate.wait_capabilities()
        return gate

    def home(self, gate, user):
        """The backend at which `user` is logged in."""
        before = {name: len(backend.logins) for name, backend in self.backends.items()}
        with gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            answer = clients.login(wire, "imap", user, "p")
            self.assertTrue(answer.startswith("l OK"), answer)
        grown = [name for name, backend in self.backends.items()
                 if len(backend.logins) > before[name]]
        self.assertEqual(len(grown), 1)
        return grown[0]

    def test_users_then_domains_then_the_pool(self):
        gate = self.start_routed(
            [{"protocol": "imap", "domains": ["shop.example", "*.shop.example"], "pool": "shop"},
             {"protocol": "imap", "users_file": self.users}],
            ["# moved", "alice@shop.example new",
             f"bob@shop.example {self.backends['single'].member}",
             f"carol new {self.backends['single'].member}", "dave new"])
        for user, home in (("alice@shop.example", "new"), ("bob@shop.example", "single"),
                           ("carol", "single"), ("dave", "new"), ("eve@shop.example", "shop"),
                           ("eve@eu.SHOP.example", "shop"), ("eve@example.org", "old"),
                           ("shop.example", "old")):
            self.assertEqual(self.home(gate, user), home, user)
        gate.settled()

    def test_a_changed_file(self):
        gate = self.start_routed([{"protocol": "imap", "users_file": self.users}], ["alice new"])
        self.assertEqual(self.home(gate, "alice"), "new")
        self.users.write_text("alice shop\nbob new\n")
        gate.reload()
        self.assertEqual((self.home(gate, "alice"), self.home(gate, "bob")), ("shop", "new"))
        self.users.write_text("alice nowhere\n")
        gate.reload("failed")
        failed = gate.wait_log(event="certificate", result="failed")[-1]
        self.assertIn('there is no pool "nowhere"', failed["detail"])
        self.assertEqual(self.home(gate, "alice"), "shop")
        self.users.write_text("")
        gate.reload()
        self.assertEqual(self.home(gate, "alice"), "old")
        gate.settled()

    def test_no_early_connection_where_the_route_is_not_known(self):
        gate = self.start_routed([{"protocol": "imap", "users_file": self.users}], ["alice new"],
                                 connect_early=True)
        self.assertEqual((self.home(gate, "alice"), self.home(gate, "bob")), ("new", "old"))
        self.assertEqual(gate.metrics().value("backend_early_connections_total"), 0)
        gate.settled()

    def test_check_tells_of_routes_and_of_their_mistakes(self):
        gate = self.start_routed([{"protocol": "imap", "users_file": self.users},
                                  {"protocol": "imap", "domains": ["a.example"], "pool": "new"}],
                                 ["alice new", "bob shop"])
        checked = run_gatepost("check", gate.config_file)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn(f"2 users in {self.users}", checked.stdout)
        self.assertIn("users of a.example go to pool new", checked.stdout)
        self.users.write_text("alice\n")
        checked = run_gatepost("check", gate.config_file)
        self.assertNotEqual(checked.returncode, 0)
        self.assertIn(f"{self.users}:1: nothing says where the user goes", checked.stderr)
        gate.settled()


if __name__ == "__main__":
    unittest.main()
