# The authority "http" with CRAM-MD5 and APOP: the service knows the passwords, the client shows a digest.
# Real stores behind, and Debian's nginx beside.
# SPDX-License-Identifier: Apache-2.0
import hashlib
import hmac
import re

import clients
from auth_service import Nginx
from client_pki import ClientPki
from gatepost import HOST, address, client_context, pools, run_directory, start_backends
from test_auth_http import PROTOCOLS, HttpTestCase, listeners
from test_mechanisms import Exchange
from wire import Wire, poll_until

DIGESTS = {"digest_mechanisms": ["CRAM-MD5", "APOP"]}
WRONG = "0123456789abcdef0123456789abcdef"
TIMESTAMP = re.compile(r"<[0-9]+\.[0-9]+@[a-z.]+>$")


def setUpModule():
    global backends
    backends = start_backends()


def cram_md5(password):
    return lambda challenge: hmac.new(password.encode(), challenge.encode(), "md5").hexdigest()


def apop(password):
    return lambda challenge: hashlib.md5((challenge + password).encode()).hexdigest()


class DigestTestCase(HttpTestCase):
    def service(self, servers, **keys):
        """A service that compares digests, and tells the password of whom it lets in."""
        service = super().service(servers, **keys)
        decide = service.decide

        def compare(question):
            digest = {"cram-md5": cram_md5, "apop": apop}.get(question["Auth-Method"])
            if digest is None:
                return decide(question)
            password = service.users.get(question.decoded("Auth-User"))
            if password is None or digest(password)(question["Auth-Salt"]) != question["Auth-Pass"]:
                return service.refusal
            host, port = servers[question["Auth-Protocol"]]
            return {"Auth-Status": "OK", "Auth-Server": host, "Auth-Port": str(port),
                    "Auth-Pass": password, **service.extra}
        service.decide = compare
        return service

    def begin(self, servers, authority=None, **keys):
        service = self.service(servers)
        gate = self.gate_for(service.url, authority={**DIGESTS, **(authority or {})}, **keys)
        return service, gate

    def cram(self, wire, protocol, user, password):
        """Logs in behind the greeting; the final answer, and the challenge."""
        challenges = []

        def answer(challenge):
            challenges.append(challenge)
            return f"{user} {cram_md5(password)(challenge)}"
        return Exchange(wire, protocol, "CRAM-MD5").finish(None, answer), challenges[0]


class RealStores(DigestTestCase):
    """Whoever has proven to know the password is logged in at Dovecot and Postfix with it."""

    def servers(self):
        return {"imap": (HOST, backends.imap_port), "pop3": (HOST, backends.pop3_port),
                "smtp": (HOST, backends.smtp_port)}

    def test_mail_goes_through(self):
        self.users = backends.users
        service, gate = self.begin(self.servers())
        alice, bob = backends.users["alice"], backends.users["bob"]
        message = clients.Message()
        smtp = clients.smtp(gate, "smtp")
        smtp.ehlo("tester.example.test")
        smtp.user, smtp.password = "alice", alice
        self.assertEqual(235, smtp.auth("CRAM-MD5", smtp.auth_cram_md5)[0])
        smtp.sendmail(message.sender, ["bob@example.test"], message.data)
        smtp.quit()
        with clients.Store(backends, "bob") as store:
            store.wait_for(message.id)
        imap = clients.imap(gate, "imap")
        self.assertEqual("OK", imap.login_cram_md5("bob", bob)[0])
        self.assertEqual("OK", imap.select()[0])
        imap.logout()
        pop3 = clients.pop3(gate, "pop3")
        self.assertTrue(pop3.apop("bob", bob).startswith(b"+OK"))
        self.assertGreater(pop3.stat()[0], 0)
        pop3.quit()
        with gate.connect("pop3", tls=True) as wire:
            clients.greeting(wire)
            self.assertTrue(self.cram(wire, "pop3", "bob", bob)[0].startswith("+OK"))
            wire.command("QUIT")
        gate.wait_log(count=3, event="session", mechanism="CRAM-MD5", login="ok")
        gate.wait_log(event="session", mechanism="APOP", user="bob", login="ok")
        self.assertEqual(4, self.counted(gate, "ok"))
        self.assertEqual(1, gate.metrics().value("auth_attempts_total", mechanism="APOP",
                                                 result="ok"))
        self.assertNotIn(bob, gate.log_text())

    def test_nginx_asks_the_same(self):
        self.users = backends.users
        pki = ClientPki(run_directory() / "auth-http-digest-pki")
        service, gate = self.begin(self.servers(), authority={"resolve_client_host": False})
        password = backends.users["alice"]
        methods = {"imap": "plain cram-md5", "pop3": "plain apop cram-md5",
                   "smtp": "plain cram-md5"}
        with Nginx(service, pki.ca, methods=methods) as nginx:
            for protocol, method in [(p, "cram-md5") for p in PROTOCOLS] + [("pop3", "apop")]:
                with self.subTest(protocol, method=method):
                    ours, theirs = (self.question(service, port, protocol, method, password)
                                    for port in (gate.ports[protocol], nginx.ports[protocol]))
                    self.assertEqual(ours["Auth-Method"], method)
                    self.compare(ours, theirs)

    def question(self, service, port, protocol, method, password):
        """What a login asks, whose digest must be of the challenge that the service learns."""
        del service.questions[:]
        with Wire.connect(port, tls=client_context()) as wire:
            greeting = clients.greeting(wire)
            if method == "apop":
                challenge = TIMESTAMP.search(greeting).group()
                digest = apop(password)(challenge)
                answer = wire.command(f"APOP alice {digest}")
            else:
                answer, challenge = self.cram(wire, protocol, "alice", password)
                digest = cram_md5(password)(challenge)
            self.assertTrue(answer.startswith(clients.LOGIN_OK[protocol]), answer)
        question, = service.questions
        self.assertRegex(challenge, TIMESTAMP)
        self.assertEqual((question["Auth-Salt"], question["Auth-Pass"]), (challenge, digest))
        return question

    def compare(self, ours, theirs):
        """Field for field, but for what is another each time and what is ours alone."""
        own = {"host", "client-port", "auth-port", "client-host", "auth-ssl-verify"}
        fields = [[(name.lower(), None if name in ("Auth-Salt", "Auth-Pass") else value)
                   for name, value in question.fields if name.lower() not in own]
                  for question in (ours, theirs)]
        self.assertEqual(*fields)


class Digests(DigestTestCase):
    def test_only_where_the_service_is_said_to_check_them(self):
        made, servers = self.recording()
        for listed in ([], ["CRAM-MD5"], ["APOP"]):
            service = self.service(servers)
            gate = self.gate_for(service.url,
                                 authority={"digest_mechanisms": listed} if listed else None)
            with gate.connect("pop3", tls=True) as wire:
                offered = clients.greeting(wire)
                self.assertEqual("APOP" in listed, bool(TIMESTAMP.search(offered)), offered)
                capabilities = [wire.command("CAPA")]
                while capabilities[-1] != ".":
                    capabilities.append(wire.line())
                sasl = "SASL PLAIN LOGIN" + (" CRAM-MD5" if "CRAM-MD5" in listed else "")
                self.assertIn(sasl, capabilities)
                self.assertEqual([line for line in capabilities if "APOP" in line], [])
                if "APOP" not in listed:
                    self.assertEqual("-ERR Unknown command", wire.command(f"APOP alice {WRONG}"))
            for protocol in ("imap", "smtp"):  # which have no APOP
                with gate.connect(protocol, tls=True) as wire:
                    clients.greeting(wire)
                    text = wire.imap("c", "CAPABILITY")[0] if protocol == "imap" else \
                        wire.command("EHLO tester.example.test")
                    self.assertEqual("CRAM-MD5" in listed, "CRAM-MD5" in text)
                    self.assertNotIn("APOP", text)
            self.assertEqual(service.questions, [])
            gate.stop()

    def test_the_listener_may_offer_less(self):
        made, servers = self.recording()
        service, gate = self.begin(servers, listeners={
            **listeners(), "pop3": {"protocol": "pop3", "tls": "implicit", "pool": "pop3",
                                    "mechanisms": ["APOP"]}})
        with gate.connect("pop3", tls=True) as wire:
            challenge = TIMESTAMP.search(clients.greeting(wire)).group()
            self.assertTrue(wire.command("USER alice").startswith("-ERR [AUTH] USER is disabled"))
            self.assertTrue(wire.command("AUTH CRAM-MD5").startswith("-ERR [AUTH]"))
            self.assertTrue(wire.command(f"APOP alice {apop('right')(challenge)}")
                            .startswith("+OK"))

    def test_a_wrong_digest_is_a_guess(self):
        made, servers = self.recording()
        service, gate = self.begin(servers)
        service.refusal = {"Auth-Status": "No", "Auth-Wait": "1"}
        with gate.connect("pop3", tls=True) as wire:
            challenge = TIMESTAMP.search(clients.greeting(wire)).group()
            self.assertEqual("-ERR [AUTH] No", wire.command(f"APOP alice {WRONG}"))
            self.assertEqual("-ERR [AUTH] No", self.cram(wire, "pop3", "alice", "wrong")[0])
            self.assertTrue(wire.command(f"APOP alice {apop('right')(challenge)}")
                            .startswith("+OK"))
        self.assertEqual([(q["Auth-Method"], q["Auth-Login-Attempt"]) for q in service.questions],
                         [("apop", "1"), ("cram-md5", "2"), ("apop", "3")])
        for mechanism in ("APOP", "CRAM-MD5"):
            gate.wait_log(event="login_failed", mechanism=mechanism, user="alice",
                          reason="credentials", authority="http")
        self.assertEqual(made["pop3"].logins, [("alice", "right")])

    def test_a_digest_of_another_challenge_is_none(self):
        """What somebody has heard in one session is worth nothing in another."""
        made, servers = self.recording()
        service, gate = self.begin(servers)
        with gate.connect("pop3", tls=True) as wire:
            heard = apop("right")(TIMESTAMP.search(clients.greeting(wire)).group())
        with gate.connect("pop3", tls=True) as wire:
            clients.greeting(wire)
            self.assertTrue(wire.command(f"APOP alice {heard}").startswith("-ERR [AUTH]"))

    def test_without_the_password_nobody_is_logged_in(self):
        """That is the service's fault, and the next one may do better."""
        made, servers = self.recording()
        service, other = self.service(servers), self.service(servers)
        gate = self.gate_for(service.url, authority=DIGESTS)
        for protocol in PROTOCOLS:
            for nothing in ({"Auth-Status": "OK"}, {"Auth-Status": "OK", "Auth-Pass": ""}):
                service.answers = [nothing]
                with self.subTest(protocol), gate.connect(protocol, tls=True) as wire:
                    clients.greeting(wire)
                    answer = self.cram(wire, protocol, "alice", "right")[0]
                    self.assert_answer(answer, clients.LOGIN_UNAVAILABLE, protocol)
            self.assertEqual(made[protocol].logins, [])
        self.assertIn("did not send password",
                      gate.log_lines(event="login_deferred")[0]["detail"])
        self.assertEqual(self.counted(gate, "error"), 6)
        gate.stop()
        gate = self.gate_for(service.url, other.url, authority=DIGESTS)
        service.answers = [{"Auth-Status": "OK"}]
        with gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            self.assertTrue(self.cram(wire, "imap", "alice", "right")[0].startswith("l OK"))
        self.assertEqual(made["imap"].logins, [("alice", "right")])

    def test_no_password_is_needed_where_the_backend_wants_none(self):
        """And what was good once is asked about again: a digest may have been overheard."""
        made, servers = self.recording()
        service, gate = self.begin(
            servers, authority={"positive_cache": "10m", "digest_mechanisms": ["CRAM-MD5"]},
            listeners={"smtp": {"protocol": "smtp", "tls": "implicit", "pool": "smtp"}},
            pools={"smtp": {"members": [made["smtp"].member], "tls": "none", "login": "none"}})
        answers = []
        for _ in range(2):
            service.answers = [{"Auth-Status": "OK"}]
            with gate.connect("smtp", tls=True) as wire:
                clients.greeting(wire)
                answers.append(self.cram(wire, "smtp", "alice", "right")[0])
        self.assertEqual([line[:3] for line in answers], ["235", "235"])
        self.assertEqual((len(service.questions), made["smtp"].logins), (2, []))

    def test_apop_needs_tls_as_a_password_does(self):
        made, servers = self.recording()
        service, gate = self.begin(servers, listeners={
            "deny": {"protocol": "pop3", "tls": "starttls", "pool": "pop3"},
            "allow": {"protocol": "pop3", "tls": "starttls", "pool": "pop3",
                      "cleartext_login": "allow"}})
        for name, allowed in (("deny", False), ("allow", True)):
            with gate.connect(name) as wire:
                challenge = TIMESTAMP.search(clients.greeting(wire)).group()
                answer = wire.command(f"APOP alice {apop('right')(challenge)}")
                self.assertEqual(allowed, answer.startswith("+OK"), answer)
        client = clients.pop3(gate, "deny")  # STLS, then with the timestamp of before
        self.assertTrue(client.apop("alice", "right").startswith(b"+OK"))
        client.quit()
        self.assertEqual(made["pop3"].logins, [("alice", "right")] * 2)

    def test_names_are_written_in_one_way(self):
        made, servers = self.recording()
        self.users = {"alice@example.test": "right"}
        service, gate = self.begin(servers, users={"default_domain": "example.test",
                                                   "lower_case": "all"})
        with gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            self.assertTrue(self.cram(wire, "imap", "Alice", "right")[0].startswith("l OK"))
        client = clients.pop3(gate, "pop3")
        self.assertTrue(client.apop("Alice", "right").startswith(b"+OK"))
        client.quit()
        self.assertEqual([q.decoded("Auth-User") for q in service.questions],
                         ["alice@example.test"] * 2)
        gate.wait_log(count=2, event="session", user="alice@example.test")

    def test_a_client_may_cancel_or_leave_or_talk_nonsense(self):
        made, servers = self.recording()
        service, gate = self.begin(servers)
        for protocol in PROTOCOLS:
            with self.subTest(protocol), gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                exchange = Exchange(wire, protocol, "CRAM-MD5")
                first = exchange.challenge()
                exchange.say("*")
                cancelled = {"imap": "l BAD", "pop3": "-ERR", "smtp": "501"}
                self.assert_answer(exchange.hear(), cancelled, protocol)
                exchange = Exchange(wire, protocol, "CRAM-MD5")
                self.assertNotEqual(first, exchange.challenge())
                exchange.say("YWxpY2UgcmlnaHQ=")  # "alice right"
                self.assert_answer(exchange.hear(), clients.LOGIN_REFUSED, protocol)
                self.assert_answer(self.cram(wire, protocol, "alice", "right")[0],
                                   clients.LOGIN_OK, protocol)
            with gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                Exchange(wire, protocol, "CRAM-MD5").challenge()
        self.assertEqual(len(service.questions), 3)
        poll_until(lambda: gate.metrics().value("connections_active") == 0, "all have left")

    def test_the_clients_name_is_looked_up(self):
        made, servers = self.recording()
        service, gate = self.begin(servers, authority={"resolve_client_host": True})
        with gate.connect("smtp", tls=True) as wire:
            clients.greeting(wire)
            self.assertTrue(self.cram(wire, "smtp", "alice", "right")[0].startswith("235"))
        self.assertEqual(service.questions[0]["Client-Host"], "localhost")
