# Login referrals (RFC 2221): real Dovecot, which sends its users to another real Dovecot; and servers of the
# tests, which send them where no password may go.
# SPDX-License-Identifier: Apache-2.0
import unittest

import clients
from fault_servers import RecordingImap
from gatepost import Backends, GatewayTestCase, address, run_directory, start_backends

# In the place of the password file: everybody has moved.
MOVED = """\
passdb {{
  driver = passwd-file
  args = {file}
}}
"""


class RealDovecots(GatewayTestCase):
    def test_who_has_moved_is_logged_in_where_it_is(self):
        users = {f"user{number}": f"pw-{number}" for number in range(12)}
        new = start_backends(users=users)
        moved = run_directory() / "moved"
        moved.write_text("".join(
            f"{user}:{{PLAIN}}{password}::::::nologin host=127.0.0.1 port={new.imap_port}\n"
            for user, password in users.items()))
        old = Backends(run_directory() / "old", users=users, authority=new.authority,
                       auth=MOVED.format(file=moved))
        old.start()
        unittest.addModuleCleanup(old.stop)
        pool = {"members": [address(old.imap_port), address(new.imap_port)], "tls": "starttls",
                "ca_file": new.ca_file, "server_name": new.server_name,
                "forward_client_address": "native"}
        self.start({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                   {"stores": {**pool, "follow_referrals": 1}})
        for user, password in users.items():
            with self.subTest(user), clients.logged_in(self.gate, "imap", user, password,
                                                       source="127.0.0.33") as wire:
                self.assertTrue(wire.imap("s", "SELECT INBOX")[-1].startswith("s OK"))
        followed = int(self.gate.metrics().value("backend_referrals_total", result="followed"))
        self.assertGreater(followed, 0)
        self.assertLess(followed, len(users))  # the others' member is the new one anyway
        lines = self.gate.log_lines(event="login_referred")
        self.assertEqual({(line["from"], line["to"], line["as"]) for line in lines},
                         {(address(old.imap_port), address(new.imap_port), line["user"])
                          for line in lines})
        logins = [line for line in new.dovecot_log.read_text().splitlines()
                  if "Login: user=<" in line and "rip=127.0.0.33," in line]
        self.assertEqual(len(logins), len(users))
        # A wrong password is one, wherever the user is.
        with self.gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            answer = clients.login(wire, "imap", lines[0]["user"], "wrong")
            self.assertTrue(answer.startswith(clients.LOGIN_REFUSED["imap"]), answer)
        # By default nobody is sent anywhere.
        self.start({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                   {"stores": {**pool, "members": [address(old.imap_port)]}})
        with self.gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            answer = clients.login(wire, "imap", "user1", "pw-1")
            self.assertTrue(answer.startswith(clients.LOGIN_UNAVAILABLE["imap"]), answer)


class Played(GatewayTestCase):
    """Servers on one port of several addresses."""

    def setUp(self):
        while True:
            first = RecordingImap(users={})
            try:
                self.second = RecordingImap(users={"alice": "right", "other": "right"},
                                            host="127.0.0.2", port=first.port)
                break
            except OSError:  # taken there
                first.close()
        self.first, self.port = first, first.port
        self.addCleanup(self.first.close)
        self.addCleanup(self.second.close)

    def gateway(self, **keys):
        return self.start({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                          {"stores": {"members": [self.first.member], "tls": "none",
                                      "follow_referrals": 1, **keys}})

    def login(self, *urls, expected="l OK"):
        self.first.answers = [f"NO [REFERRAL {url}] Try there" for url in urls]
        with self.gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            answer = clients.login(wire, "imap", "alice", "right")
            self.assertTrue(answer.startswith(expected), answer)

    def counted(self, result):
        return self.gate.metrics().value("backend_referrals_total", result=result)

    def test_to_a_host_that_is_named(self):
        self.gateway(referral_hosts=["127.0.0.2"])
        self.login("imap://127.0.0.2/")
        self.login(f"imap://alice;AUTH=*@127.0.0.2:{self.port}/")
        self.login("imap://other;AUTH=PLAIN@127.0.0.2")
        self.assertEqual(self.second.logins, [("alice", "right"), ("alice", "right"),
                                              ("other", "right")])
        self.assertEqual(self.counted("followed"), 3)
        line = self.gate.log_lines(event="session")[-1]
        self.assertEqual(line["backend"], f"127.0.0.2:{self.port}")

    def test_a_password_goes_nowhere_else(self):
        gate = self.gateway(referral_hosts=["*.stores.internal", "127.0.0.3"])
        urls = ["imap://127.0.0.2/", f"imap://127.0.0.3:{self.port + 1}/", "imap://stores.internal/",
                "imap://evil-stores.internal/", "imap://a.stores.internal.example.org/",
                "imap://127.0.0.2\\.stores.internal/", "imap://a:b@127.0.0.3/",
                "imaps://127.0.0.3/", "nonsense"]
        for url in urls:
            with self.subTest(url):
                self.login(url, expected="l NO [SERVERBUG]")
        self.assertEqual(self.counted("refused"), len(urls))
        self.assertEqual(self.second.logins, [])
        self.assertEqual(len(gate.log_lines(event="login_deferred")), len(urls))
        self.assertNotIn("right", gate.log_text())

    def test_circles_end(self):
        self.gateway(follow_referrals=3, referral_hosts=["127.0.0.2"])
        there, back = "NO [REFERRAL imap://127.0.0.2/]", "NO [REFERRAL imap://127.0.0.1/]"
        self.login("imap://127.0.0.1/", expected="l NO [SERVERBUG]")  # to itself
        self.second.answers = [back]
        self.login("imap://127.0.0.2/", expected="l NO [SERVERBUG]")
        self.assertEqual((len(self.first.logins), len(self.second.logins)), (2, 1))
        self.assertEqual(self.counted("loop"), 2)
        self.gateway(follow_referrals=1, referral_hosts=["127.0.0.2", "127.0.0.4"])
        self.second.answers = [there.replace(".2/", ".4/")]
        self.login("imap://127.0.0.2/", expected="l NO [SERVERBUG]")
        self.assertEqual(self.counted("loop"), 1)

    def test_a_dead_end_is_an_outage(self):
        self.gateway(referral_hosts=["127.0.0.5"])
        self.login("imap://127.0.0.5/", expected="l NO [UNAVAILABLE]")
        self.assertEqual(self.counted("followed"), 1)

    def test_our_own_listener_is_no_way_out(self):
        self.gateway()
        port = self.gate.ports["imap"]
        self.gate.pools["stores"].update(
            members=[self.first.member, f"127.0.0.9:{port}"], referral_hosts=["127.0.0.1"])
        self.gate.write_config()
        self.gate.reload()
        self.login(f"imap://127.0.0.1:{port}/", expected="l NO [SERVERBUG]")
