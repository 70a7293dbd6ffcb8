# What must never pass: cleartext passwords, injected commands, foreign protocols, mail without a
# login, smuggled messages, forged log lines, and OpenSSL in the process.
# SPDX-License-Identifier: Apache-2.0
import base64
import pathlib
import ssl
import subprocess

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import (GATE_NAME, HOST, GatewayTestCase, certificates, client_context,
                      parse_logfmt)
from wire import Closed

USER, PASSWORD = "alice@example.test", "S3cret-pass-word!"
STARTTLS_PORTS = {"imap": "imap", "pop3": "pop3", "smtp": "smtp"}


class RecordedTestCase(GatewayTestCase):
    """A gateway in front of three recording backends, shared by a class."""

    smtp_options = {}
    limits = {}

    @classmethod
    def setUpClass(cls):
        users = {USER: PASSWORD}
        cls.imap_backend = RecordingImap(users=users)
        cls.pop3_backend = RecordingPop3(users=users)
        cls.smtp_backend = RecordingSmtp(users=users, **cls.smtp_options)
        backends = (cls.imap_backend, cls.pop3_backend, cls.smtp_backend)
        for backend in backends:
            cls.addClassCleanup(backend.close)
        pools = {protocol: {"members": [backend.member], "tls": "none"}
                 for protocol, backend in zip(STARTTLS_PORTS, backends)}
        listeners = {}
        for protocol in pools:
            keys = {"protocol": protocol, "pool": protocol}
            listeners[protocol] = {**keys, "tls": "starttls", "cleartext_login": "deny"}
            listeners[protocol + "-allow"] = {**keys, "tls": "starttls",
                                              "cleartext_login": "allow"}
            listeners[protocol + "s"] = {**keys, "tls": "implicit"}
        listeners["smtps-normalize"] = {"protocol": "smtp", "pool": "smtp", "tls": "implicit",
                                        "bare_newline": "normalize"}
        listeners["imaps-modern"] = {"protocol": "imap", "pool": "imap", "tls": "implicit",
                                     "tls_profile": "modern"}
        cls.share(listeners, pools, limits=cls.limits)
        cls.gate.wait_capabilities()

    def setUp(self):
        for backend in (self.imap_backend, self.pop3_backend, self.smtp_backend):
            backend.logins.clear()

    def logged_in(self, name, **options):
        return clients.logged_in(self.gate, name, USER, PASSWORD, **options)


class CleartextLogin(RecordedTestCase):
    def test_imap_without_tls_is_refused(self):
        with self.gate.connect("imap") as wire:
            self.assertIn("LOGINDISABLED", wire.line())
            capability = wire.imap("a", "CAPABILITY")[0]
            self.assertIn("STARTTLS", capability)
            self.assertNotIn("AUTH=", capability)
            self.assertRegex(wire.imap("b", f'LOGIN "{USER}" "{PASSWORD}"')[-1],
                             r"^b NO \[PRIVACYREQUIRED\]")
            self.assertRegex(
                wire.imap("c", f"AUTHENTICATE PLAIN {clients.plain(USER, PASSWORD)}")[-1],
                r"^c NO \[PRIVACYREQUIRED\]")
        self.assertEqual(self.imap_backend.logins, [])

    def test_pop3_without_tls_is_refused(self):
        with self.gate.connect("pop3") as wire:
            clients.greeting(wire)
            self.assertTrue(wire.command("CAPA").startswith("+OK"))
            capabilities = wire.multiline().decode().split("\r\n")
            self.assertIn("STLS", capabilities)
            self.assertNotIn("USER", capabilities)
            self.assertFalse([line for line in capabilities if line.startswith("SASL")])
            for command in (f"USER {USER}", f"PASS {PASSWORD}",
                            f"AUTH PLAIN {clients.plain(USER, PASSWORD)}"):
                self.assertTrue(wire.command(command).startswith("-ERR"), command)
        self.assertEqual(self.pop3_backend.logins, [])

    def test_smtp_without_tls_is_refused(self):
        with self.gate.connect("smtp") as wire:
            clients.greeting(wire)
            keywords = wire.command("EHLO tester")
            self.assertIn("STARTTLS", keywords)
            self.assertNotIn("AUTH", keywords)
            for command in (f"AUTH PLAIN {clients.plain(USER, PASSWORD)}", "AUTH LOGIN",
                            "MAIL FROM:<a@example.test>"):
                self.assertEqual(wire.command(command),
                                 "530 5.7.0 Must issue a STARTTLS command first")
        self.assertEqual(self.smtp_backend.logins, [])

    def test_allowed_where_the_listener_says_so(self):
        for protocol in STARTTLS_PORTS:
            with self.subTest(protocol), self.logged_in(protocol + "-allow", tls=False):
                pass


class Injection(RecordedTestCase):
    COMMANDS = {"imap": ("t STARTTLS\r\n", "i NOOP\r\n"),
                "pop3": ("STLS\r\n", "NOOP\r\n"),
                "smtp": ("STARTTLS\r\n", "NOOP\r\n")}

    def test_bytes_behind_starttls_close_the_connection(self):
        for protocol, (starttls, injected) in self.COMMANDS.items():
            with self.subTest(protocol), self.gate.connect(protocol) as wire:
                clients.greeting(wire)
                if protocol == "smtp":
                    wire.command("EHLO tester")
                wire.send(starttls + injected)
                answer = wire.rest().decode()
                self.assertEqual(answer.count("\r\n"), 1, answer)  # a farewell, nothing served
                self.assertNotRegex(answer, r"^(t OK|\+OK|220)")
            self.gate.wait_log(event="session", protocol=protocol, result="command_injection")

    def test_a_handshake_in_the_same_segment_is_one_too(self):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            tls.do_handshake()
        with self.gate.connect("pop3") as wire:
            clients.greeting(wire)
            wire.send(b"STLS\r\n" + outgoing.read())
            self.assertTrue(wire.rest().startswith(b"-ERR"))

    def test_what_was_said_before_starttls_is_forgotten(self):
        with self.gate.connect("smtp") as wire:
            clients.greeting(wire)
            clients.start_tls(wire, "smtp")
            self.assertRegex(wire.command(f"AUTH PLAIN {clients.plain(USER, PASSWORD)}"), "^503")
        with self.gate.connect("pop3-allow") as wire:
            clients.greeting(wire)
            wire.command(f"USER {USER}")
            clients.start_tls(wire, "pop3")
            self.assertTrue(wire.command(f"PASS {PASSWORD}").startswith("-ERR"))


class ForeignProtocols(RecordedTestCase):
    def assert_closed_at_once(self, wire, name, result):
        """The connection ends with one line at most, and the log says why."""
        answer = wire.rest()
        self.assertLessEqual(answer.count(b"\n"), 1, answer)
        self.gate.wait_log(event="session", listener=name, result=result)

    def test_cleartext(self):
        hello_bio = ssl.MemoryBIO()
        tls = client_context().wrap_bio(ssl.MemoryBIO(), hello_bio, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            tls.do_handshake()
        for name, first_bytes in {
                "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                "post": b"POST /a HTTP/1.1\r\nContent-Length: 20\r\n\r\nEHLO x\r\nQUIT\r\n",
                "tls": hello_bio.read(), "ssh": b"SSH-2.0-OpenSSH_9.2\r\n"}.items():
            for protocol in STARTTLS_PORTS:
                with self.subTest(name, protocol=protocol), self.gate.connect(protocol) as wire:
                    clients.greeting(wire)
                    wire.send(first_bytes)
                    self.assert_closed_at_once(wire, protocol, "foreign_protocol")

    def test_http_inside_tls(self):
        for protocol in STARTTLS_PORTS:
            with self.subTest(protocol), self.gate.connect(protocol + "s", tls=True) as wire:
                clients.greeting(wire)
                wire.send(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nNOOP\r\nQUIT\r\n")
                self.assert_closed_at_once(wire, protocol + "s", "foreign_protocol")

    def test_cleartext_on_a_tls_port(self):
        for protocol in STARTTLS_PORTS:
            with self.subTest(protocol), self.gate.connect(protocol + "s") as wire:
                wire.send(b"GET / HTTP/1.0\r\n\r\n")
                wire.rest()
                self.gate.wait_log(event="session", listener=protocol + "s", result="tls_failed")

    def test_foreign_alpn_is_refused(self):
        for protocol in STARTTLS_PORTS:
            with self.subTest(protocol):
                with self.assertRaisesRegex(ssl.SSLError, "(?i)no.application.protocol"):
                    self.gate.connect(protocol + "s", tls=client_context(alpn=["http/1.1", "h2"]))
                with self.gate.connect(protocol + "s",
                                       tls=client_context(alpn=["h2", protocol])) as wire:
                    self.assertEqual(wire.tls.selected_alpn_protocol(), protocol)
                    self.assertTrue(clients.greeting(wire))

    def test_tls_versions(self):
        old = client_context()
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, Closed)):
            self.gate.connect("imaps", tls=old)
        with self.assertRaises((ssl.SSLError, Closed)):
            self.gate.connect("imaps-modern", tls=client_context(ssl.TLSVersion.TLSv1_2))
        with self.gate.connect("imaps-modern", tls=client_context(ssl.TLSVersion.TLSv1_3)) as wire:
            clients.greeting(wire)


class WithoutLogin(RecordedTestCase):
    COMMANDS = ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA", "VRFY bob",
                "EXPN staff", "ETRN example.test")

    def setUp(self):
        super().setUp()
        self.seen = len(self.smtp_backend.lines)

    def test_every_mail_command_needs_a_login(self):
        with self.gate.connect("smtps", tls=True) as wire:
            clients.greeting(wire)
            wire.command("EHLO tester")
            for command in self.COMMANDS:
                self.assertEqual(wire.command(command), "530 5.7.0 Authentication required")
            payload = "RCPT TO:<b@example.test>\r\nQUIT\r\n"
            wire.send(f"BDAT {len(payload)} LAST\r\n{payload}")
            self.assertEqual(wire.reply(), "530 5.7.0 Authentication required")
            self.assertTrue(wire.command("NOOP").startswith("250"))  # one reply to all of that
        self.assertEqual(self.smtp_backend.lines[self.seen:], [])

    def test_pipelined_behind_a_refused_login(self):
        with self.gate.connect("smtps", tls=True) as wire:
            clients.greeting(wire)
            wire.send(f"EHLO tester\r\nAUTH PLAIN {clients.plain(USER, 'wrong')}\r\n"
                      "MAIL FROM:<a@example.test>\r\nNOOP\r\nQUIT\r\n")
            codes = [wire.reply()[:3] for _ in range(5)]
            self.assertEqual(codes, ["250", "535", "530", "250", "221"])
            self.assertEqual(wire.rest(), b"")
        self.assertNotIn("MAIL", self.smtp_backend.commands()[self.seen:])


class AfterLogin(RecordedTestCase):
    def test_commands_of_a_trusted_peer_never_reach_the_backend(self):
        with self.logged_in("smtps") as wire:
            seen = len(self.smtp_backend.lines)
            for command, code in {"XCLIENT LOGIN=root": "550", "XFORWARD NAME=x": "550",
                                  "xclient ADDR=192.0.2.1": "550",
                                  f"AUTH PLAIN {clients.plain('bob', 'x')}": "503",
                                  "STARTTLS": "503"}.items():
                self.assertEqual(wire.command(command)[:3], code, command)
            self.assertEqual(wire.command("MAIL FROM:<a@example.test>")[:3], "250")
            # The same in one segment with commands that do pass: each reply in its place.
            wire.send("RCPT TO:<b@example.test>\r\nXCLIENT LOGIN=root\r\nNOOP\r\nRSET\r\n")
            self.assertEqual([wire.reply()[:3] for _ in range(4)], ["250", "550", "250", "250"])
            self.assertEqual(self.smtp_backend.commands()[seen:], ["MAIL", "RCPT", "NOOP", "RSET"])

    def test_ehlo_is_filtered(self):
        with self.gate.connect("smtps", tls=True) as wire:
            clients.greeting(wire)
            before = wire.command("EHLO tester").split("\n")
            self.assertEqual(wire.command(f"AUTH PLAIN {clients.plain(USER, PASSWORD)}")[:3], "235")
            after = wire.command("EHLO tester").split("\n")
        for lines in (before, after):
            keywords = [line[4:].split(" ")[0] for line in lines]
            self.assertEqual(keywords[0], GATE_NAME)
            for wanted in ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN"):
                self.assertIn(wanted, keywords)
            for forbidden in ("XCLIENT", "XFORWARD", "STARTTLS"):
                self.assertNotIn(forbidden, keywords)
        self.assertIn("AUTH PLAIN LOGIN", before[-1])
        self.assertFalse([line for line in after if "AUTH" in line])


class Smuggling(RecordedTestCase):
    """RFC 5321 §2.3.8, §4.1.1.4: CRLF.CRLF ends the data and nothing else does, to nobody."""

    ENDINGS = (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r",
               b"\r.\n", b"\r\r\n.\r\r\n", b"\r\n.\r\r\n", b"\n\r\n.\n")
    SECOND = (b"MAIL FROM:<evil@example.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\n"
              b"Subject: smuggled\r\n\r\nsmuggled\r\n.\r\n")

    def send_data(self, wire, data):
        for command, code in (("MAIL FROM:<a@example.test>", "250"),
                              ("RCPT TO:<b@example.test>", "250"), ("DATA", "354")):
            self.assertEqual(wire.command(command)[:3], code)
        wire.send(data)
        return wire.reply()

    def take_messages(self):
        messages, self.smtp_backend.messages = self.smtp_backend.messages, []
        return messages

    def test_bare_newlines_are_refused(self):
        for ending in self.ENDINGS:
            with self.subTest(ending), self.logged_in("smtps") as wire:
                reply = self.send_data(wire, b"Subject: first\r\n\r\nfirst" + ending + self.SECOND)
                self.assertRegex(reply, "^550 5.6.11")
                # The session goes on, and no reply to the smuggled commands is in the way.
                self.assertEqual(self.send_data(wire, b"Subject: good\r\n\r\ngood\r\n.\r\n")[:3],
                                 "250")
                self.assertEqual(wire.command("QUIT")[:3], "221")
                self.assertEqual(self.take_messages(), [b"Subject: good\r\n\r\ngood\r\n"])

    def test_bare_newlines_are_normalized(self):
        for ending in self.ENDINGS:
            with self.subTest(ending), self.logged_in("smtps-normalize") as wire:
                reply = self.send_data(wire, b"Subject: first\r\n\r\nfirst" + ending + self.SECOND)
                self.assertEqual(reply[:3], "250")
                self.assertEqual(wire.command("QUIT")[:3], "221")
                messages = self.take_messages()
                self.assertEqual(len(messages), 1, messages)
                self.assertIn(b"MAIL FROM:<evil@example.test>", messages[0])
                self.assertNotRegex(messages[0], rb"[^\r]\n|\r[^\n]")

    def test_byte_by_byte(self):
        for name, code, count in (("smtps", "550", 0), ("smtps-normalize", "250", 1)):
            with self.subTest(name), self.logged_in(name, dribble=True) as wire:
                reply = self.send_data(wire, b"first\n.\r\n" + self.SECOND)
                self.assertEqual(reply[:3], code)
                self.assertEqual(wire.command("QUIT")[:3], "221")
                self.assertEqual(len(self.take_messages()), count)

    def test_chunks(self):
        """RFC 3030: a chunk's size is its end; a bare newline in it is refused all the same."""
        with self.logged_in("smtps") as wire:
            for payload, code in ((b"Subject: x\r\n\r\na\n.\nMAIL FROM:<e@example.test>\r\n", "550"),
                                  (b"Subject: x\r\n\r\n.\r\nMAIL FROM:<e@example.test>\r\n", "250")):
                wire.command("MAIL FROM:<a@example.test>")
                wire.command("RCPT TO:<b@example.test>")
                wire.send(f"BDAT {len(payload)} LAST\r\n".encode() + payload)
                self.assertEqual(wire.reply()[:3], code)
            self.assertEqual(wire.command("NOOP")[:3], "250")
        self.assertEqual(self.take_messages(), [payload])

    def test_no_chunks_while_normalizing(self):
        with self.logged_in("smtps-normalize") as wire:
            self.assertNotIn("CHUNKING", wire.command("EHLO tester"))
            payload = "QUIT\r\nMAIL FROM:<e@example.test>\r\n"
            wire.send(f"BDAT {len(payload)} LAST\r\n{payload}")
            self.assertEqual(wire.reply()[:3], "502")
            self.assertEqual(wire.command("NOOP")[:3], "250")

    def test_bare_newlines_in_commands(self):
        with self.logged_in("smtps") as wire:
            seen = len(self.smtp_backend.lines)
            wire.send(b"NOOP\nMAIL FROM:<e@example.test>\r\n")
            self.assertEqual([wire.reply()[:3], wire.reply()[:3]], ["500", "250"])
            wire.send(b"NOOP x\rMAIL FROM:<e@example.test>\r\n")
            self.assertEqual(wire.reply()[:3], "500")
            self.assertEqual(self.smtp_backend.commands()[seen:], ["MAIL"])


class Secrets(RecordedTestCase):
    def test_no_password_in_the_log(self):
        wrong = "Wr0ng-pass-word?"
        for password in (wrong, PASSWORD):
            for protocol in STARTTLS_PORTS:
                with self.gate.connect(protocol + "s", tls=True) as wire:
                    clients.greeting(wire)
                    clients.login(wire, protocol, USER, password)
                with self.gate.connect(protocol + "s", tls=True) as wire:
                    clients.greeting(wire)
                    if protocol == "smtp":
                        wire.command("EHLO tester")
                    wire.send({"imap": "l AUTHENTICATE LOGIN\r\n"}.get(protocol, "AUTH LOGIN\r\n"))
                    for part in (USER, password):
                        wire.line()
                        wire.send(base64.b64encode(part.encode()) + b"\r\n")
                    wire.line()
            # A client out of step sends its password where a command belongs.
            with self.gate.connect("imaps", tls=True) as wire:
                clients.greeting(wire)
                wire.imap(password, password)
        for protocol in STARTTLS_PORTS:
            self.gate.wait_log(2, event="login_failed", protocol=protocol)
        self.gate.wait_log(14, event="session")
        text = self.gate.log_text()
        self.assertIn(USER, text)
        for password in (wrong, PASSWORD):
            for form in (password, base64.b64encode(password.encode()).decode(),
                         clients.plain(USER, password), clients.plain(USER, password)[8:-4]):
                self.assertNotIn(form, text)

    def test_user_names_forge_no_log_line(self):
        forged = 'x"\r\nts=2026 level=info event=session user=forged result="done'
        encoded = base64.b64encode(f"\0{forged}\0x".encode()).decode()
        quoted = 'al"ice \\ event=forged a=b\t\x1b[31m'
        with self.gate.connect("imaps", tls=True) as wire:
            clients.greeting(wire)
            wire.send(f"a LOGIN {{{len(forged)}+}}\r\n{forged} x\r\n")
            wire.tagged("a")
            wire.imap("b", f"AUTHENTICATE PLAIN {encoded}")
            wire.imap("c", f"AUTHENTICATE PLAIN {clients.plain(quoted, 'x')}")
        with self.gate.connect("smtps", tls=True) as wire:
            clients.greeting(wire)
            wire.command("EHLO x event=forged\ty")
            wire.command(f"AUTH PLAIN {encoded}")
            wire.command(f"AUTH PLAIN {clients.plain(quoted, 'x')}")
        self.gate.wait_log(event="session", listener="smtps")
        self.gate.wait_log(event="session", listener="imaps")
        for line in self.gate.log_text().split("\n"):
            fields = parse_logfmt(line)
            self.assertNotEqual(fields.get("event"), "forged")
            self.assertNotEqual(fields.get("user"), "forged")
            self.assertNotRegex(line, r"[\x00-\x1f\x7f]")


class Process(RecordedTestCase):
    def test_no_openssl_in_the_process(self):
        self.gate.metrics()
        with self.logged_in("imaps"):
            maps = pathlib.Path(f"/proc/{self.gate.process.pid}/maps").read_text()
        self.assertNotRegex(maps, r"lib(ssl|crypto)\.so\.[1-9]")
        self.assertIn("libuv", maps)  # that it is the right file, and read while it ran

    def test_no_core_dump_holds_a_password(self):
        limits = pathlib.Path(f"/proc/{self.gate.process.pid}/limits").read_text()
        self.assertRegex(limits, r"Max core file size\s+0\s+0\s")

    def test_certificate_and_name(self):
        """openssl's own client verifies what we present."""
        result = subprocess.run(
            ["openssl", "s_client", "-connect", f"{HOST}:{self.gate.ports['imaps']}", "-quiet",
             "-CAfile", certificates().ca, "-verify_return_error", "-verify_hostname", GATE_NAME,
             "-crlf"], input=b"a LOGOUT\n", capture_output=True, timeout=120, check=True)
        self.assertIn(b"a OK", result.stdout)
