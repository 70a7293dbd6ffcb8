# Mail from outside on a port that also serves submission: local recipients get it, nobody else does,
# whatever a stranger says; with real Postfix, one that would relay for the gateway among them.
# SPDX-License-Identifier: Apache-2.0
import codecs

import clients
from fault_servers import RecordingSmtp, refused_port
from gatepost import SOURCE, GatewayTestCase, address, client_context, pools, start_backends
from wire import Wire, poll_until

DIALOGUES = SOURCE / "tests/dialogues/smtp"
# What Postfix says of a recipient whom it would relay to, if there were a way out of this machine.
WOULD_RELAY = "no mail leaves this machine"


def setUpModule():
    global backends
    backends = start_backends()


def attempts(names):
    """The RCPT commands of dialogues, as bytes without CRLF, for the domain of the real backends."""
    for path in sorted(DIALOGUES.glob(names)):
        for line in path.read_text().splitlines():
            kind, _, text = line.partition("> ")
            if kind not in ("c -", "c raw") or not text.upper().startswith("RCPT"):
                continue
            data = text.encode()
            if kind == "c raw":
                data = codecs.escape_decode(data)[0].removesuffix(b"\r\n")
            yield data.replace(b"example.org", b"example.test")


def mx_listener(**keys):
    return {"protocol": "smtp", "tls": "starttls", "pool": "outgoing", "relay": "local-domains",
            "local_domains": ["example.test"], "inbound_pool": "mx", **keys}


class InboundTestCase(GatewayTestCase):
    def stranger(self, listener="mx", sender="stranger@elsewhere.example", hello="client.example",
                 **options):
        """A client that has not logged in, behind its MAIL."""
        wire = self.gate.connect(listener, **options)
        clients.greeting(wire)
        self.assertTrue(wire.command(f"EHLO {hello}").startswith("250"))
        self.assertTrue(wire.command(f"MAIL FROM:<{sender}>").startswith("250"))
        return wire


class NothingIsRelayed(InboundTestCase):
    """Postfix believes whoever connects, and would send anything anywhere."""

    @classmethod
    def setUpClass(cls):
        cls.share({"mx": mx_listener()}, {
            "outgoing": pools(backends)["outgoing"],
            "mx": {"members": [address(backends.smtp_noauth_port)], "login": "none"}})
        cls.gate.wait_capabilities()

    def test_every_attempt(self):
        with Wire.connect(backends.smtp_noauth_port) as wire:  # it would, indeed
            clients.greeting(wire)
            wire.command("EHLO control.example")
            wire.command("MAIL FROM:<a@elsewhere.example>")
            self.assertIn(WOULD_RELAY, wire.command("RCPT TO:<victim@control.example>"))
            wire.command("QUIT")
        denied = list(attempts("inbound_relaying_denied*"))
        malformed = list(attempts("inbound_recipient_syntax*"))
        self.assertGreater(len(denied), 40)
        self.assertGreater(len(malformed), 10)
        for command in denied + malformed:
            with self.subTest(command), self.stranger() as wire:
                wire.send(command + b"\r\n")
                expected = "550 5.7.1 Relaying denied" if command in denied else "501 5.1.3"
                self.assertTrue(wire.reply().startswith(expected))
                self.assertRegex(wire.command("DATA"), "^5(54|03) ")  # no recipient
                wire.command("QUIT")
        log = backends.postfix_log.read_text(errors="replace")
        self.assertNotIn("foreign.example", log)
        self.assertGreaterEqual(self.gate.metrics().value("protocol_errors_total",
                                                          kind="relaying_denied"), len(denied))

    def test_a_local_recipient_beside_a_foreign_one(self):
        """The message goes to the one, and the next transaction starts anew."""
        before = backends.message_count("alice")
        with self.stranger() as wire:
            for _ in range(2):
                wire.send("RCPT TO:<alice@example.test>\r\nRCPT TO:<victim@foreign.example>\r\n"
                          "RCPT TO:<postmaster>\r\nDATA\r\n")
                self.assertTrue(wire.reply().startswith("250"))
                self.assertEqual(wire.reply(), "550 5.7.1 Relaying denied")
                self.assertRegex(wire.reply(), "^(250|550) ")  # whom it has for postmaster
                self.assertTrue(wire.reply().startswith("354"))
                self.assertTrue(wire.command("Subject: inbound\r\n\r\nx\r\n.").startswith("250"))
                self.assertTrue(wire.command("MAIL FROM:<>").startswith("250"))
            wire.command("QUIT")
        poll_until(lambda: backends.message_count("alice") >= before + 2, "two messages")
        self.assertNotIn("victim@foreign.example",
                         backends.postfix_log.read_text(errors="replace"))

    def test_who_has_logged_in_may(self):
        user = "alice"
        with clients.logged_in(self.gate, "mx", user, backends.users[user]) as wire:
            self.assertTrue(wire.command("MAIL FROM:<alice@example.test>").startswith("250"))
            self.assertIn(WOULD_RELAY, wire.command("RCPT TO:<friend@abroad.example>"))
            self.assertTrue(wire.command("RSET").startswith("250"))
            wire.command("QUIT")
        line = self.gate.wait_log(event="session", user=user)[0]
        self.assertEqual((line["pool"], line["login"]), ("outgoing", "ok"))

    def test_no_login_behind_mail(self):
        with self.stranger() as wire:
            self.assertTrue(wire.command("AUTH PLAIN AHUAcA==").startswith("503 5.5.1"))
            self.assertTrue(wire.command("STARTTLS").startswith("503 5.5.1"))
            self.assertNotIn("AUTH", wire.command("EHLO again.example"))
            self.assertTrue(wire.command("MAIL FROM:<>").startswith("250"))
            self.assertEqual(wire.command("RCPT TO:<victim@foreign.example>"),
                             "550 5.7.1 Relaying denied")
            wire.command("QUIT")


class AMailExchanger(InboundTestCase):
    """Postfix as it stands at the edge, behind the PROXY protocol."""

    method = "proxy-v2"
    sources = (("127.0.0.1", "127.0.0.61"), ("::1", "::1"))

    @classmethod
    def port(cls):
        return backends.smtp_mx_port

    @classmethod
    def setUpClass(cls):
        cls.share({"mx": mx_listener()}, {
            "outgoing": pools(backends)["outgoing"],
            "mx": {"members": [address(cls.port())], "login": "none",
                   "forward_client_address": cls.method}}, ipv6=True)
        cls.gate.wait_capabilities()

    def deliver(self, wire, subject):
        self.assertTrue(wire.command("RCPT TO:<bob@example.test>").startswith("250"))
        self.assertTrue(wire.command("DATA").startswith("354"))
        self.assertTrue(wire.command(f"Subject: {subject}\r\n\r\nx\r\n.").startswith("250"))

    def received(self, subject):
        """The headers of bob's message."""
        found = poll_until(
            lambda: backends.doveadm("fetch", "-u", "bob", "hdr", "header", "subject", subject),
            f"the message {subject}")
        return found.replace("\n\t", " ").replace("\r", "")

    def test_the_backend_sees_the_client(self):
        for host, source in self.sources:
            for tls in (False, True):
                subject = f"outside-{source}-{tls}".replace(":", "")
                with self.subTest(subject), self.gate.connect("mx", host=host,
                                                              source=source) as wire:
                    clients.greeting(wire)
                    self.assertIn("STARTTLS", wire.command("EHLO first.example"))
                    if tls:
                        self.assertTrue(wire.command("STARTTLS").startswith("220"))
                        wire.start_tls(client_context())
                        wire.command("EHLO second.example")
                    self.assertTrue(wire.command("MAIL FROM:<stranger@elsewhere.example>")
                                    .startswith("250"))
                    self.deliver(wire, subject)
                    wire.command("QUIT")
                    hello = "second.example" if tls else "first.example"
                    literal = source if host == "127.0.0.1" else f"IPv6:{source}"
                    self.assertIn(f"from {hello} (unknown [{literal}])", self.received(subject))
                    self.assertIn(f"client=unknown[{source}]",
                                  backends.postfix_log.read_text(errors="replace"))
                    line = self.gate.wait_log(event="session", pool="mx")[-1]
                    self.assertEqual(line["login"], "none")
                    self.assertNotIn("user", line)

    def test_the_backends_refusals_are_its_own(self):
        with self.stranger() as wire:
            self.assertRegex(wire.command("RCPT TO:<nobody@example.test>"), "^550 5.1.1 .*unknown")
            wire.command("RSET")
            self.assertTrue(wire.command("MAIL FROM:<not an address>").startswith("501"))
            self.assertTrue(wire.command("MAIL FROM:<a@elsewhere.example> SIZE=99999999999")
                            .startswith("552"))
            wire.command("QUIT")


class AMailExchangerThatIsTold(AMailExchanger):
    """One that takes XCLIENT from the gateway, and mail from loopback's IPv4 addresses."""

    method = "native"
    sources = (("127.0.0.1", "127.0.0.62"),)

    @classmethod
    def port(cls):
        return backends.smtp_noauth_port

    def test_it_believes_the_gateway(self):
        with self.stranger(source="127.0.0.63") as wire:
            self.assertTrue(wire.command("RCPT TO:<bob@example.test>").startswith("250"))
            wire.command("QUIT")
        self.assertEqual(self.gate.metrics().value("backend_forwarding_trusted", backend="mx"), 1)


class ABackendOfTheTests(InboundTestCase):
    def gateway(self, mx, **keys):
        outgoing = RecordingSmtp()
        self.addCleanup(outgoing.close)
        gate = self.start({"mx": mx_listener(**keys)}, {
            "outgoing": {"members": [outgoing.member], "tls": "none"},
            "mx": {"members": [mx], "login": "none"}})
        return gate, outgoing

    def test_the_dialogue_with_the_backend(self):
        with RecordingSmtp(keywords=["PIPELINING", "SIZE 1000", "8BITMIME"]) as mx:
            gate, outgoing = self.gateway(mx.member)
            gate.wait_capabilities()
            mx.lines.clear()
            with gate.connect("mx") as wire:
                clients.greeting(wire)
                # What both backends can do, and the smaller size.
                self.assertEqual(wire.command("EHLO client.example").splitlines()[1:],
                                 ["250-PIPELINING", "250-SIZE 1000", "250-8BITMIME",
                                  "250 STARTTLS"])
                wire.send("MAIL FROM:<a@b> SIZE=3 AUTH=root\r\nRCPT TO: <u@example.test>\r\n"
                          "RCPT TO:<v@foreign.example>\r\nDATA\r\n")
                self.assertEqual([wire.reply()[:3] for _ in range(4)],
                                 ["250", "250", "550", "354"])
                self.assertEqual(wire.command("x\r\n.")[:3], "250")
                self.assertEqual(wire.command("QUIT")[:3], "221")
            own = mx.lines.index("EHLO client.example")
            self.assertEqual(mx.lines[own - 1:], [f"EHLO {gate.hostname}", "EHLO client.example",
                                        "MAIL FROM:<a@b> SIZE=3", "RCPT TO:<u@example.test>",
                                        "DATA", "QUIT"])
            self.assertEqual(mx.messages, [b"x\r\n"])
            self.assertNotIn("MAIL", outgoing.commands())
            gate.settled()

    def test_the_rule_outlives_a_refused_message(self):
        """A bare newline costs the backend's connection; the next one is told the name again."""
        with RecordingSmtp() as mx:
            gate, _ = self.gateway(mx.member)
            gate.wait_capabilities()
            with self.stranger() as wire:
                mx.lines.clear()
                wire.command("RCPT TO:<u@example.test>")
                wire.command("DATA")
                wire.send("a\nb\r\n.\r\n")
                self.assertTrue(wire.reply().startswith("550 5.6.11"))
                self.assertTrue(wire.command("MAIL FROM:<a@b>").startswith("250"))
                self.assertEqual(wire.command("RCPT TO:<v@foreign.example>"),
                                 "550 5.7.1 Relaying denied")
                self.assertTrue(wire.command("RCPT TO:<u@example.test>").startswith("250"))
            self.assertEqual(mx.messages, [])
            own = mx.lines.index("EHLO client.example")
            self.assertEqual(mx.lines[own - 1:], [f"EHLO {gate.hostname}", "EHLO client.example",
                                            "MAIL FROM:<a@b>", "RCPT TO:<u@example.test>"])
            gate.settled()

    def test_too_many_refused_recipients(self):
        with RecordingSmtp() as mx:
            gate, _ = self.gateway(mx.member)
            gate.wait_capabilities()
            with self.stranger() as wire:
                for i in range(10):
                    self.assertEqual(wire.command(f"RCPT TO:<v{i}@foreign.example>")[:3], "550")
                self.assertTrue(wire.reply().startswith("421 4.7.0"))
                self.assertEqual(wire.rest(), b"")
            gate.wait_log(event="session", pool="mx", result="too_many_errors")
            gate.settled()

    def test_no_backend(self):
        sock, port = refused_port()
        with sock:
            gate, _ = self.gateway(f"127.0.0.1:{port}")
            with gate.connect("mx") as wire:
                clients.greeting(wire)
                wire.command("EHLO client.example")
                for _ in range(2):
                    wire.send("MAIL FROM:<a@b>\r\nRCPT TO:<u@example.test>\r\n")
                    self.assertTrue(wire.reply().startswith("451 4.3.0"))
                    self.assertTrue(wire.reply().startswith("503 5.5.1"))
                wire.command("QUIT")
            gate.wait_log(count=2, event="inbound_deferred", client="127.0.0.1")
            self.assertEqual(gate.log_lines(event="login_deferred"), [])
            gate.settled()

    def test_other_listeners_relay_nothing(self):
        with RecordingSmtp() as mx:
            gate = self.start({"mx": mx_listener(), "submission": {
                "protocol": "smtp", "tls": "starttls", "pool": "outgoing",
                "cleartext_login": "allow"}}, {
                "outgoing": {"members": [mx.member], "tls": "none"},
                "mx": {"members": [mx.member], "login": "none"}})
            with gate.connect("submission") as wire:
                clients.greeting(wire)
                wire.command("EHLO client.example")
                for command in ("MAIL FROM:<a@b>", "RCPT TO:<u@example.test>", "DATA"):
                    self.assertEqual(wire.command(command), "530 5.7.0 Authentication required")
            gate.settled()
