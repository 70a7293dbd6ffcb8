# A customer's day against real Dovecot and Postfix: what one client changes another sees, large and
# awkward messages arrive byte by byte as they were sent, pipelining and half-close lose nothing.
# SPDX-License-Identifier: Apache-2.0
import hashlib
import subprocess
import threading

import clients
from clients import Message, body_of
from fault_servers import RecordingImap
from gatepost import (HOST, GatewayTestCase, address, certificates, client_context, pools,
                      port_table, start_backends)

LARGE = 30_000_000


def setUpModule():
    global backends
    backends = start_backends()


class MailTestCase(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        cls.share(port_table(), pools(backends))
        cls.gate.wait_capabilities()

    def setUp(self):
        for user in backends.users:
            backends.empty_mailbox(user)

    def login(self, name, user="alice", **options):
        return clients.logged_in(self.gate, name, user, backends.users[user], **options)

    def imap(self, name="993", user="alice"):
        client = clients.imap(self.gate, name, user, backends.users[user])
        client.select()
        return client

    def pop3(self, user="alice"):
        return clients.pop3(self.gate, "995", user, backends.users[user])

    def assert_same(self, got, sent):
        """Like assertEqual, without printing megabytes."""
        self.assertEqual((len(got), hashlib.sha256(got).hexdigest()),
                         (len(sent), hashlib.sha256(sent).hexdigest()))


class TwoClients(MailTestCase):
    def test_flags_and_removal_show_on_the_other(self):
        phone, laptop = self.imap("993"), self.imap("143")
        message = Message()
        phone.append("INBOX", None, None, message.data)
        laptop.noop()
        self.assertNotIn(rb"\Flagged", laptop.fetch("1", "(FLAGS)")[1][0])
        phone.noop()
        phone.store("1", "+FLAGS", r"(\Flagged)")
        laptop.noop()
        self.assertIn(rb"\Flagged", laptop.fetch("1", "(FLAGS)")[1][0])
        laptop.store("1", "+FLAGS", r"(\Deleted)")
        laptop.expunge()
        phone.noop()
        self.assertEqual(phone.search(None, "ALL")[1], [b""])
        phone.logout()
        laptop.logout()

    def test_idle_is_pushed(self):
        with self.login("993") as idler:
            idler.imap("s", "SELECT INBOX")
            idler.send("i IDLE\r\n")
            self.assertTrue(idler.line().startswith("+"))
            other = self.imap("143")
            other.append("INBOX", None, None, Message().data)
            self.await_line(idler, "* 1 EXISTS")
            other.noop()
            other.store("1", "+FLAGS", r"(\Answered)")
            self.await_line(idler, r"\Answered")
            idler.send("DONE\r\n")
            self.assertTrue(idler.tagged("i")[-1].startswith("i OK"))
            other.logout()

    @staticmethod
    def await_line(wire, text):
        while text not in wire.line():
            pass


class LargeMessages(MailTestCase):
    def test_smtp_in_imap_and_pop3_out(self):
        message = Message(LARGE)
        client = clients.smtp(self.gate, "465", "alice", backends.users["alice"])
        client.sendmail(message.sender, message.to, message.data, ["BODY=8BITMIME"])
        client.quit()
        with clients.Store(backends, "bob") as store:
            store.wait_for(message.id)
        client = self.imap(user="bob")
        data = client.fetch("1", "(BODY.PEEK[])")[1][0][1]
        self.assert_same(body_of(data), message.body)
        client.logout()
        with self.login("995", "bob") as wire:
            wire.command("RETR 1")
            self.assert_same(wire.multiline(), data)
            wire.command("QUIT")

    def test_imap_append_and_fetch(self):
        message = Message(LARGE, seed=9)
        client = self.imap("143")
        self.assertEqual(client.append("INBOX", None, None, message.data)[0], "OK")
        self.assert_same(client.fetch("1", "(BODY.PEEK[])")[1][0][1], message.data)
        client.logout()

    def test_chunks(self):
        """BDAT (RFC 3030), all of it pipelined, chunk borders anywhere."""
        message = Message(3_000_000)
        with self.login("465") as wire:
            wire.send(f"MAIL FROM:<{message.sender}> BODY=8BITMIME\r\nRCPT TO:<{message.to}>\r\n")
            parts = [message.data[:1], message.data[1:70_001], message.data[70_001:2_000_000],
                     message.data[2_000_000:], b""]
            for part in parts[:-1]:
                wire.send(f"BDAT {len(part)}\r\n".encode() + part)
            wire.send("BDAT 0 LAST\r\nQUIT\r\n")
            self.assertEqual([wire.reply()[:3] for _ in range(8)], ["250"] * 7 + ["221"])
            self.assertEqual(wire.rest(), b"")
        with clients.Store(backends, "bob") as store:
            self.assert_same(body_of(store.wait_for(message.id)), message.body)

    def test_both_ways_at_once(self):
        """Neither direction waits for the other."""
        message = Message(5_000_000)
        backends.deliver("alice", message.data)
        with self.login("993") as wire:
            wire.imap("s", "SELECT INBOX")
            upload = threading.Thread(target=wire.send, args=(
                b"".join([b"f FETCH 1 BODY.PEEK[]\r\n", b"n NOOP\r\n" * 20_000]),))
            upload.start()
            while "FETCH" not in wire.line():
                pass
            self.assert_same(wire.read(len(message.data)), message.data)
            wire.tagged("f")
            for _ in range(20_000):
                wire.tagged("n")
            upload.join()


class Pop3(MailTestCase):
    def test_leaving_a_copy_then_deleting(self):
        messages = [Message(to="alice@example.test", seed=i) for i in range(3)]
        for message in messages:
            backends.deliver("alice", message.data)
        client = self.pop3()
        uids = client.uidl()[1]
        for number, message in enumerate(messages, 1):
            lines = client.retr(number)[1]
            self.assertEqual(b"\r\n".join(lines) + b"\r\n", message.data)
        client.quit()
        client = self.pop3()
        self.assertEqual(client.uidl()[1], uids)
        self.assertEqual(client.stat()[0], 3)
        client.dele(1)
        client.dele(3)
        client.rset()
        client.dele(2)
        client.quit()
        client = self.imap()
        self.assertEqual(client.search(None, "ALL")[1], [b"1 2"])
        client.logout()


class Pipelining(MailTestCase):
    """Everything behind the login in the login's own segment is served, in order."""

    def test_imap(self):
        backends.deliver("alice", Message().data)
        with self.gate.connect("993", tls=True) as wire:
            clients.greeting(wire)
            wire.send(clients.login_command("imap", "alice", backends.users["alice"])
                      + "a SELECT INBOX\r\nb FETCH 1 RFC822.SIZE\r\nc NOOP\r\nd LOGOUT\r\n")
            for tag in "labcd":
                self.assertTrue(wire.tagged(tag)[-1].startswith(tag + " OK"))
            self.assertEqual(wire.rest(), b"")

    def test_pop3(self):
        backends.deliver("alice", Message().data)
        with self.gate.connect("995", tls=True) as wire:
            clients.greeting(wire)
            wire.send(clients.login_command("pop3", "alice", backends.users["alice"])
                      + "STAT\r\nNOOP\r\nUIDL 1\r\nQUIT\r\n")
            lines = wire.rest().decode().splitlines()
        self.assertEqual([line[:3] for line in lines], ["+OK"] * 6)
        self.assertRegex(lines[2], r"^\+OK 1 \d+")

    def test_smtp(self):
        message = Message()
        with self.gate.connect("465", tls=True) as wire:
            clients.greeting(wire)
            wire.send("EHLO tester\r\n"
                      + clients.login_command("smtp", "alice", backends.users["alice"])
                      + f"MAIL FROM:<{message.sender}> BODY=8BITMIME\r\n"
                      f"RCPT TO:<{message.to}>\r\nDATA\r\n")
            self.assertEqual([wire.reply()[:3] for _ in range(5)],
                             ["250", "235", "250", "250", "354"])
            wire.send(message.stuffed() + b"NOOP\r\nQUIT\r\n")
            self.assertEqual([wire.reply()[:3] for _ in range(3)], ["250", "250", "221"])
            self.assertEqual(wire.rest(), b"")
        with clients.Store(backends, "bob") as store:
            self.assertEqual(body_of(store.wait_for(message.id)), message.body)


class HalfClose(MailTestCase):
    """A client may end its side and read on: every answer still comes.

    Behind TLS, Dovecot 2.3 itself forgets its answers when its client half-closes; the gateway
    tells a backend behind TLS only when it has fallen silent.
    """

    def test_behind_quit(self):
        cleartext = {"stores-imap": backends.imap_port, "stores-pop3": backends.pop3_port,
                     "outgoing": backends.smtp_port}
        plain = self.start(port_table(), {pool: {"members": [address(port)], "tls": "none"}
                                          for pool, port in cleartext.items()})
        plain.wait_capabilities()
        imap = "a SELECT INBOX\r\nb NOOP\r\nc LOGOUT\r\n", ["a OK", "b OK", "c OK"]
        pop3 = "STAT\r\nNOOP\r\nQUIT\r\n", ["+OK"] * 3
        smtp = "NOOP\r\nRSET\r\nQUIT\r\n", ["250", "250", "221"]
        for gate in (plain, type(self).gate):
            for name, tls, (commands, answers) in (
                    ("993", None, imap), ("143", None, imap), ("143", False, imap),
                    ("995", None, pop3), ("465", None, smtp)):
                with self.subTest(name, tls=tls, backend=gate.pools["outgoing"]["tls"]), \
                        clients.logged_in(gate, name, "alice", backends.users["alice"],
                                          tls=tls) as wire:
                    wire.send(commands)
                    wire.half_close()
                    lines = wire.rest().decode().splitlines()
                    got = [line for line in lines if line.startswith(tuple(answers))]
                    self.assertEqual(len(got), len(answers), lines)
        plain.settled()

    def test_before_login(self):
        with self.gate.connect("993", tls=True) as wire:
            wire.send("a CAPABILITY\r\nb LOGOUT\r\n")
            wire.half_close()
            self.assertIn(b"b OK", wire.rest())

    def test_during_login(self):
        with self.gate.connect("993", tls=True) as wire:
            clients.greeting(wire)
            wire.send(clients.login_command("imap", "alice", backends.users["alice"])
                      + "a LOGOUT\r\n")
            wire.half_close()
            self.assertIn(b"a OK", wire.rest())

    def test_the_backend_goes_on(self):
        """The backend sees the end of the client's side, and what it sends then still arrives."""
        def talk(wire):
            self.assertEqual(wire.line(), "f FETCH 1 BODY[]")
            self.assertEqual(wire.rest(), b"")
            wire.send(b"x" * 5_000_000 + b"\r\nf OK done\r\n")
        tls = {"tls": "starttls", "ca_file": certificates().ca, "server_name": "localhost"}
        with RecordingImap(after_login=talk) as cleartext, \
                RecordingImap(after_login=talk, tls=certificates().server_context()) as encrypted:
            gate = self.start(
                {f"{mode}-{pool}": {"protocol": "imap", "tls": mode, "pool": pool,
                                    **({"cleartext_login": "allow"} if mode == "starttls" else {})}
                 for mode in ("implicit", "starttls") for pool in ("cleartext", "encrypted")},
                {"cleartext": {"members": [cleartext.member], "tls": "none"},
                 "encrypted": {"members": [encrypted.member], **tls}})
            for name, keys in gate.listeners.items():
                with self.subTest(name), clients.logged_in(
                        gate, name, "u", "p", tls=None if keys["tls"] == "implicit" else False) as wire:
                    wire.send("f FETCH 1 BODY[]\r\n")
                    wire.half_close()
                    self.assertEqual(len(wire.rest()), 5_000_000 + len("\r\nf OK done\r\n"))
            gate.settled()


class Programs(MailTestCase):
    """Clients that are not Python."""

    def run_program(self, *command, **options):
        result = subprocess.run([str(word) for word in command], capture_output=True, timeout=300,
                                check=False, **options)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def curl(self, scheme, port, path, *arguments, **options):
        return self.run_program(
            "curl", "--silent", "--show-error", "--ipv4", "--cacert", certificates().ca, "--user",
            f"alice:{backends.users['alice']}", *arguments,
            f"{scheme}://localhost:{self.gate.ports[port]}{path}", **options)

    def test_curl_imap(self):
        message = Message()
        backends.deliver("alice", message.data)
        self.assertIn(b"1", self.curl("imaps", "993", "/INBOX", "--request", "SEARCH ALL"))
        self.assertEqual(self.curl("imaps", "993", "/INBOX;MAILINDEX=1"), message.data)
        self.assertEqual(self.curl("imap", "143", "/INBOX;MAILINDEX=1", "--ssl-reqd"),
                         message.data)

    def test_curl_pop3(self):
        message = Message()
        backends.deliver("alice", message.data)
        self.assertEqual(self.curl("pop3s", "995", "/1"), message.data)
        self.assertEqual(self.curl("pop3", "110", "/1", "--ssl-reqd"), message.data)

    def test_curl_smtp(self):
        for scheme, port in (("smtps", "465"), ("smtp", "587")):
            message = Message()
            self.curl(scheme, port, "/tester", "--ssl-reqd", "--mail-from", message.sender,
                      "--mail-rcpt", message.to, "--upload-file", "-", input=message.data)
            with clients.Store(backends, "bob") as store:
                self.assertEqual(body_of(store.wait_for(message.id)), message.body)

    def test_swaks(self):
        for mechanism in ("PLAIN", "LOGIN"):
            message = Message()
            output = self.run_program(
                "swaks", "--server", HOST, "--port", self.gate.ports["587"], "--tls",
                "--auth", mechanism, "--auth-user", "alice", "--auth-password",
                backends.users["alice"], "--from", message.sender, "--to", message.to, "--header",
                f"Message-ID: {message.id}", "--body", "from swaks")
            self.assertIn(b"=== TLS started", output)
            with clients.Store(backends, "bob") as store:
                self.assertIn(b"from swaks", store.wait_for(message.id))

    def test_openssl_s_client(self):
        for name, starttls in (("993", []), ("143", ["-starttls", "imap"])):
            output = self.run_program(
                "openssl", "s_client", "-connect", address(self.gate.ports[name]), "-CAfile",
                certificates().ca, "-verify_return_error", "-verify_hostname", "localhost",
                "-quiet", "-ign_eof", "-crlf", *starttls,
                input=f"a LOGIN alice {backends.users['alice']}\nb LOGOUT\n".encode())
            self.assertIn(b"a OK", output)
            self.assertIn(b"b OK", output)


class Resumption(MailTestCase):
    def test_a_tls_session_is_resumed(self):
        context = client_context()
        with self.gate.connect("993", tls=context) as wire:
            clients.greeting(wire)
            session = wire.tls.session
        before = self.gate.metrics().value("tls_sessions_total", resumed="yes")
        wire = self.gate.connect("993")
        with wire:
            wire.start_tls(context, session=session)
            self.assertTrue(wire.tls.session_reused)
            clients.greeting(wire)
        self.assertEqual(self.gate.metrics().value("tls_sessions_total", resumed="yes"),
                         before + 1)
