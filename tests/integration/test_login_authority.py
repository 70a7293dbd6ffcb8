# The authority "login": a server that knows no passwords is protected by the store that does.
# SPDX-License-Identifier: Apache-2.0
import contextlib

import clients
from client_pki import ClientPki
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp, Server, refused_port
from gatepost import GatewayTestCase, address, run_directory, start_backends
from wire import poll_until

SMTP = {"smtp": {"protocol": "smtp", "tls": "implicit", "pool": "outgoing"}}


def setUpModule():
    global backends
    backends = start_backends()


class OldServer(GatewayTestCase):
    """Real Postfix without SASL, which relays for whoever comes from here, and real Dovecot."""

    def pools(self, **stores):
        verified = {"ca_file": backends.ca_file, "server_name": backends.server_name}
        return {"outgoing": {"members": [address(backends.smtp_noauth_port)], "tls": "none",
                             "login": "none"},
                "stores": {"tls": "starttls", **verified, **stores}}

    def test_the_stores_passwords_protect_it(self):
        for protocol, port in (("imap", backends.imap_port), ("pop3", backends.pop3_port)):
            with self.subTest(protocol):
                gate = self.start(SMTP, self.pools(members=[address(port)]), authority={
                    "kind": "login", "pool": "stores", "protocol": protocol})
                password = backends.users["alice"]
                with gate.connect("smtp", tls=True) as wire:
                    clients.greeting(wire)
                    wire.command("EHLO tester.example.test")
                    self.assertTrue(wire.command("MAIL FROM:<a@example.test>").startswith("530"))
                    for user, wrong in (("alice", password + "x"), ("alice", ""),
                                        ("nobody", password)):
                        answer = wire.command(f"AUTH PLAIN {clients.plain(user, wrong)}")
                        self.assertTrue(answer.startswith(("535 5.7.8", "501")), answer)
                    self.assertTrue(wire.command("MAIL FROM:<a@example.test>").startswith("530"))
                message = clients.Message()
                client = clients.smtp(gate, "smtp", "alice", password)
                client.sendmail(message.sender, ["bob@example.test"], message.data)
                client.quit()
                with clients.Store(backends, "bob") as store:
                    store.wait_for(message.id)
                metrics = gate.metrics()
                self.assertEqual(metrics.value("authority_requests_total", authority="login",
                                               result="ok"), 1)
                self.assertGreaterEqual(
                    metrics.value("authority_requests_total", authority="login", result="deny"), 2)
                self.assertNotIn(password, gate.log_text())
                gate.stop()

    def test_mail_servers_that_send_through_it(self):
        """As Postfix does, they say for whom: servers without AUTH refuse that, or believe it."""
        gate = self.start(SMTP, self.pools(members=[address(backends.imap_port)]), authority={
            "kind": "login", "pool": "stores", "protocol": "imap"})
        with clients.logged_in(gate, "smtp", "alice", backends.users["alice"]) as wire, \
                clients.Store(backends, "bob") as store:
            for parameter in (" AUTH=<>", " BODY=8BITMIME auth=carol+40example.test"):
                message = clients.Message()
                wire.send(f"MAIL FROM:<{message.sender}>{parameter}\r\n"
                          "RCPT TO:<bob@example.test>\r\nDATA\r\n")
                for code in ("250", "250", "354"):
                    answer = wire.reply()
                    self.assertTrue(answer.startswith(code), answer)
                wire.send(message.stuffed())
                self.assertTrue(wire.reply().startswith("250"))
                store.wait_for(message.id)
        self.assertNotIn("sasl_sender", backends.postfix_log.read_text())

    def test_the_store_sees_the_clients_address(self):
        for number, (method, protocol, port) in enumerate((
                ("native", "imap", backends.imap_port),
                ("proxy-v1", "imap", backends.imap_proxied_port),
                ("proxy-v2", "pop3", backends.pop3s_proxied_port))):
            with self.subTest(method, protocol=protocol):
                pools = self.pools(members=[address(port)], forward_client_address=method)
                pools["stores"]["tls"] = "implicit" if protocol == "pop3" else "starttls"
                gate = self.start(SMTP, pools, authority={"kind": "login", "pool": "stores",
                                                          "protocol": protocol})
                source = f"127.0.0.{180 + number}"
                clients.logged_in(gate, "smtp", "alice", backends.users["alice"],
                                  source=source).close()
                poll_until(lambda: any(f"{protocol}-login: Info: Login: user=<alice>" in line
                                       and f"rip={source}," in line for line in
                                       backends.dovecot_log.read_text().splitlines()),
                           f"{source} in Dovecot's log")
                gate.settled()
                gate.stop()

    def test_a_store_that_is_away_is_a_temporary_failure(self):
        sock, port = refused_port()
        with sock:
            gate = self.start(SMTP, self.pools(members=[f"127.0.0.1:{port}"]), authority={
                "kind": "login", "pool": "stores"})
            with gate.connect("smtp", tls=True) as wire:
                clients.greeting(wire)
                answer = clients.login(wire, "smtp", "alice", backends.users["alice"])
                self.assertTrue(answer.startswith(clients.LOGIN_UNAVAILABLE["smtp"]), answer)
            self.assertEqual(gate.metrics().value("authority_up", authority="login"), 0)
            gate.settled()

    def test_the_next_member_when_one_is_away(self):
        sock, port = refused_port()
        with sock:
            gate = self.start(SMTP, self.pools(members=[f"127.0.0.1:{port}",
                                                        address(backends.imap_port)]),
                              authority={"kind": "login", "pool": "stores"})
            for user in ("alice", "bob"):
                clients.logged_in(gate, "smtp", user, backends.users[user]).close()
            gate.settled()


class Stores(GatewayTestCase):
    """What the store is told, and what its answers mean."""

    def gate_for(self, store, outgoing, listeners=None, **authority):
        return self.start(listeners or SMTP, {
            "outgoing": {"members": [outgoing.member], "tls": "none", "login": "none"},
            "stores": {"members": [store.member], "tls": "none"}},
            authority={"kind": "login", "pool": "stores", **authority}, process={"workers": 1})

    def login(self, gate, user, password):
        with gate.connect("smtp", tls=True) as wire:
            clients.greeting(wire)
            return clients.login(wire, "smtp", user, password)

    def test_a_login_and_a_logout(self):
        for protocol, make in (("imap", RecordingImap), ("pop3", RecordingPop3)):
            with self.subTest(protocol), make(users={"u": "p"}) as store, \
                    RecordingSmtp(keywords=["8BITMIME"]) as outgoing:
                gate = self.gate_for(store, outgoing, protocol=protocol)
                gate.wait_capabilities()
                del store.lines[:]
                self.assertTrue(self.login(gate, "u", "wrong").startswith("535 5.7.8"))
                self.assertEqual(outgoing.logins, [])
                self.assertTrue(self.login(gate, "u", "p").startswith("235"))
                self.assertEqual(store.logins, [("u", "wrong"), ("u", "p")])
                clients.poll_until(
                    lambda: store.lines[-1].split(" ")[-1] in ("LOGOUT", "QUIT"), "the logout")
                self.assertNotIn("AUTH", outgoing.commands())
                gate.stop()

    def test_answers_that_are_no_refusal(self):
        with RecordingImap(users={"u": "p"}) as store, RecordingSmtp() as outgoing:
            gate = self.gate_for(store, outgoing)
            store.answers = ["NO [UNAVAILABLE] later"]
            self.assertTrue(self.login(gate, "u", "p").startswith("454 4.7.0"))
            with gate.connect("smtp", tls=True) as wire:
                clients.greeting(wire)
                wire.command("EHLO tester.example.test")
                answer = wire.command(f"AUTH PLAIN {clients.plain('u', 'p', 'other')}")
                self.assertTrue(answer.startswith("535 5.7.8"), answer)
            self.assertEqual(len(store.logins), 1)

    def test_a_store_that_quotes_the_password(self):
        password = "a-secret-for-the-log"
        plain = clients.plain("u", password)
        with RecordingImap() as store, RecordingSmtp() as outgoing:
            gate = self.gate_for(store, outgoing)
            for quoted in (password, plain):
                for code in ("UNAVAILABLE", "AUTHENTICATIONFAILED"):
                    store.answers = [f"NO [{code}] not for {quoted}"]
                    self.login(gate, "u", password)
            gate.wait_log(event="backend_failed", detail="(withheld: it quotes the password)")
            self.assertEqual(len(store.logins), 4)
            for secret in (password, plain):
                self.assertNotIn(secret, gate.log_text())

    def test_a_bounded_number_at_a_time_and_those_who_leave(self):
        def stall(wire):
            wire.send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
            while True:
                wire.line()

        with Server(stall) as store, RecordingSmtp() as outgoing:
            gate = self.gate_for(store, outgoing, max_concurrent=2)
            probes = store.connections
            with contextlib.ExitStack() as stack:
                wires = [stack.enter_context(gate.connect("smtp", tls=True)) for _ in range(4)]
                for wire in wires:
                    clients.greeting(wire)
                    wire.command("EHLO tester.example.test")
                    wire.send(clients.login_command("smtp", "u", "p"))
                clients.poll_until(lambda: store.connections >= probes + 2, "two logins")
                # The loop has read what all of them sent once it greets another client.
                with gate.connect("smtp", tls=True) as other:
                    clients.greeting(other)
                self.assertEqual(store.connections, probes + 2)
                for wire in wires[:2]:
                    wire.reset()
                clients.poll_until(lambda: store.connections >= probes + 4, "the other two")
                for wire in wires[2:]:
                    wire.reset()  # who only closes would still get an answer
            gate.settled()

    def test_a_certificate_alone_needs_no_question(self):
        pki = ClientPki(run_directory() / "login-pki")
        alice = pki.issue("alice", email="alice@example.test")
        listeners = {"smtp": {**SMTP["smtp"], "client_certificates": "request",
                              "client_ca_file": pki.ca, "client_certificate_user": "email"}}
        with RecordingImap(users={}) as store, RecordingSmtp() as outgoing:
            gate = self.gate_for(store, outgoing, listeners)
            with gate.connect("smtp", tls=pki.context(alice)) as wire:
                clients.greeting(wire)
                wire.command("EHLO tester.example.test")
                self.assertTrue(wire.command("AUTH EXTERNAL =").startswith("235"))
            self.assertEqual(store.logins, [])
