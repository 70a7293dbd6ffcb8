# The authority "http": nginx's auth_http protocol, with real stores behind, and Debian's nginx beside.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import ssl
import time
import urllib.parse

import clients
from auth_service import AuthService, Nginx
from client_pki import ClientPki, openssl
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp, refused_port
from gatepost import (HOST, GatewayTestCase, address, certificates, client_context, run_directory,
                      start_backends, strange_certificates)
from wire import Wire

PROTOCOLS = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}


def setUpModule():
    global backends
    backends = start_backends()


def real_servers():
    return {"imap": (HOST, backends.imap_port), "pop3": (HOST, backends.pop3_port),
            "smtp": ("localhost", backends.smtp_port)}  # a name, which nginx does not take


def listeners(**keys):
    return {p: {"protocol": p, "tls": "implicit", "pool": p, **keys} for p in PROTOCOLS}


def nowhere():
    """Pools whose members are never asked: the service names the backend."""
    return {p: {"members": ["127.0.0.1:1"], "tls": "none"} for p in PROTOCOLS}


class HttpTestCase(GatewayTestCase):
    users = {"alice": "right"}

    def service(self, servers, **keys):
        service = AuthService(dict(self.users), servers, **keys)
        self.addCleanup(service.close)
        self.services = [*getattr(self, "services", []), service]
        return service

    def gate_for(self, *urls, authority=None, **keys):
        keys = {"listeners": listeners(), "pools": nowhere(), "process": {"workers": 1}, **keys}
        gate = self.start(authority={"kind": "http", "urls": list(urls), **(authority or {})},
                          **keys)
        # Connections to the service are kept: they are no leak.
        self.addCleanup(lambda: [service.let_go() for service in self.services])
        return gate

    def recording(self):
        """A backend for each protocol that accepts everybody, and the service's `servers`."""
        made = {p: make() for p, make in PROTOCOLS.items()}
        for backend in made.values():
            self.addCleanup(backend.close)
        return made, {p: (HOST, backend.port) for p, backend in made.items()}

    def login(self, gate, protocol, user, password, context=True):
        with gate.connect(protocol, tls=context) as wire:
            clients.greeting(wire)
            return clients.login(wire, protocol, user, password)

    def assert_answer(self, answer, expected, protocol):
        self.assertTrue(answer.startswith(expected[protocol]), answer)

    def counted(self, gate, result):
        return gate.metrics().value("authority_requests_total", authority="http", result=result)


class RealStores(HttpTestCase):
    """The service knows the accounts of real Dovecot and Postfix and where they are."""

    def test_mail_goes_through(self):
        self.users = backends.users
        service = self.service(real_servers())
        gate = self.gate_for(service.url)
        password = backends.users["alice"]
        message = clients.Message()
        client = clients.smtp(gate, "smtp", "alice", password)
        client.sendmail(message.sender, ["bob@example.test"], message.data)
        client.quit()
        with clients.Store(backends, "bob") as store:
            store.wait_for(message.id)
        client = clients.imap(gate, "imap", "bob", backends.users["bob"])
        self.assertEqual(client.select()[0], "OK")
        client.logout()
        client = clients.pop3(gate, "pop3", "alice", password)
        client.stat()
        client.quit()
        for protocol in PROTOCOLS:
            self.assert_answer(self.login(gate, protocol, "alice", "wrong"), {
                "imap": "l NO [AUTHENTICATIONFAILED] Invalid login or password",
                "pop3": "-ERR [AUTH] Invalid login or password",
                "smtp": "535 5.7.8 Invalid login or password"}, protocol)
        self.assertEqual((self.counted(gate, "ok"), self.counted(gate, "deny")), (3, 3))
        self.assertEqual(service.connections, 1)

    def test_nginx_asks_the_same(self):
        """Field for field, but for what is ours alone, and what 1.22 can't do without a resolver."""
        pki = ClientPki(run_directory() / "auth-http-pki")
        alice = pki.issue("alice", subject="/CN=alice/O=Example \\\\ Söhne, Ltd",
                          email="alice@example.test")
        password = backends.users["alice"]
        self.users = backends.users
        service = self.service({**real_servers(), "smtp": (HOST, backends.smtp_port)})
        gate = self.gate_for(
            service.url, listeners=listeners(client_certificates="request", client_ca_file=pki.ca),
            authority={"pass_client_certificate": True, "headers": ["X-Key:  a b"],
                       "resolve_client_host": True})
        with Nginx(service, pki.ca, 'auth_http_header X-Key "a b";') as nginx:
            for protocol in PROTOCOLS:
                for name in (alice, None):
                    with self.subTest(protocol, certificate=name):
                        context = pki.context(name)
                        ours = self.question(service, gate.ports[protocol], protocol, context,
                                             "alice", password)
                        theirs = self.question(service, nginx.ports[protocol], protocol, context,
                                               "alice", password)
                        self.compare(ours, theirs)
                        self.assertEqual(ours["Auth-SSL-Verify"], "SUCCESS" if name else "NONE")
            older = client_context()
            older.maximum_version = ssl.TLSVersion.TLSv1_2
            pair = [self.question(service, port, "imap", older, "alice", password)
                    for port in (gate.ports["imap"], nginx.ports["imap"])]
            self.assertEqual(*(question["Auth-SSL-Protocol"] for question in pair))
            self.assertIn("ECDHE-", pair[0]["Auth-SSL-Cipher"])
            self.assertEqual(*(question["Auth-SSL-Cipher"] for question in pair))
            # What it encodes is decoded to the same.
            strange = 'gr\u00fc\u00dfe %41+"\\ &'
            service.users[strange] = "p\u00e4ss %2B+ \u20ac"
            pair = [self.question(service, port, "imap", client_context(), strange,
                                  service.users[strange])
                    for port in (gate.ports["imap"], nginx.ports["imap"])]
            for field in ("Auth-User", "Auth-Pass"):
                self.assertEqual(*(question.decoded(field) for question in pair))
            self.assertEqual(pair[0].decoded("Auth-Pass"), service.users[strange])

    def question(self, service, port, protocol, context, user, password):
        """The question that a login at `port` makes."""
        del service.questions[:]
        with Wire.connect(port, tls=context) as wire:
            clients.greeting(wire)
            if protocol == "smtp":
                wire.command("EHLO tester.example.test")
            prefix = "l AUTHENTICATE" if protocol == "imap" else "AUTH"
            response = clients.plain(user, password)
            if protocol == "imap":  # nginx has no SASL-IR
                wire.send(f"{prefix} PLAIN\r\n")
                self.assertTrue(wire.line().startswith("+"))
                wire.send(response + "\r\n")
            else:
                wire.send(f"{prefix} PLAIN {response}\r\n")
            wire.line()  # whatever the store thinks of it
        self.assertEqual(len(service.questions), 1)
        return service.questions[0]

    def compare(self, ours, theirs):
        own = {"host", "client-port", "auth-port"}
        fields = {}
        for who, question in (("ours", ours), ("theirs", theirs)):
            fields[who] = {name.lower(): urllib.parse.unquote(value) if name.lower() in (
                "auth-user", "auth-pass", "auth-ssl-cert") else value
                for name, value in question.fields if name.lower() not in own}
        # Without a resolver, nginx has no name for anybody.
        if "client-host" in fields["theirs"]:
            self.assertEqual(fields["ours"].pop("client-host"), "localhost")
            self.assertEqual(fields["theirs"].pop("client-host"), "[UNAVAILABLE]")
        self.assertEqual(fields["ours"], fields["theirs"])
        order = [name.lower() for name in ours.names() if name.lower() not in own]
        self.assertEqual(order, [name.lower() for name in theirs.names()
                                 if name.lower() not in own])


class Questions(HttpTestCase):
    def test_every_field(self):
        made, servers = self.recording()
        service = self.service(servers)
        everything = listeners(tls="starttls", cleartext_login="allow")
        gate = self.gate_for(service.url, listeners=everything,
                             authority={"headers": ["X-Key: secret", "Auth-Port: 10143"]})
        for protocol in PROTOCOLS:
            for tls in (False, None):
                del service.questions[:]
                clients.logged_in(gate, protocol, "alice", "right", tls=tls).close()
                question, = service.questions
                self.assertEqual(question.path, "/auth?key=1")
                expected = {
                    "Host": f"{HOST}:{service.port}", "Auth-Method": "plain", "Auth-User": "alice",
                    "Auth-Pass": "right", "Auth-Protocol": protocol, "Auth-Login-Attempt": "1",
                    "Client-IP": HOST, "Auth-SSL": "on", "Auth-SSL-Protocol": "TLSv1.3",
                    "Auth-SSL-Cipher": question["Auth-SSL-Cipher"],
                    "Client-Port": question["Client-Port"], "X-Key": "secret",
                    "Auth-Port": "10143"}
                if tls is False:
                    expected = {name: value for name, value in expected.items()
                                if not name.startswith("Auth-SSL")}
                self.assertEqual(question.fields, list(expected.items()))
                self.assertGreater(int(question["Client-Port"]), 0)

    def test_a_client_behind_a_proxy(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url, listeners={"imap": {
            "protocol": "imap", "tls": "starttls", "cleartext_login": "allow", "pool": "imap",
            "proxy_protocol": "v1", "proxy_networks": ["127.0.0.1"]}})
        with gate.connect("imap") as wire:
            wire.send("PROXY TCP4 192.0.2.9 192.0.2.1 4711 993\r\n")
            clients.greeting(wire)
            clients.login(wire, "imap", "alice", "right")
        question, = service.questions
        told = ["Client-IP", "Proxy-Protocol-Addr", "Proxy-Protocol-Port",
                "Proxy-Protocol-Server-Addr", "Proxy-Protocol-Server-Port", "Client-Port",
                "Auth-Port"]
        self.assertEqual([question[name] for name in told],
                         ["192.0.2.9", "192.0.2.9", "4711", "192.0.2.1", "993", "4711", "993"])
        self.assertEqual([name for name in question.names() if name in told], told)

    def test_attempts_are_counted(self):
        made, servers = self.recording()
        service = self.service(servers)
        service.refusal = {"Auth-Status": "no", "Auth-Wait": "1"}
        gate = self.gate_for(service.url)
        with gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            clients.login(wire, "imap", "alice", "wrong")
            clients.login(wire, "imap", "alice", "right")
        self.assertEqual([q["Auth-Login-Attempt"] for q in service.questions], ["1", "2"])

    def test_a_certificate_alone(self):
        made, servers = self.recording()
        pki = ClientPki(run_directory() / "auth-http-external")
        alice = pki.issue("alice", email="alice@example.test")
        service = self.service(servers)
        service.extra = {"Auth-User": "alice@store", "Auth-Pass": "of the store"}
        gate = self.gate_for(service.url, listeners=listeners(
            client_certificates="request", client_ca_file=pki.ca, client_certificate_user="email"))
        with gate.connect("imap", tls=pki.context(alice)) as wire:
            clients.greeting(wire)
            wire.send("l AUTHENTICATE EXTERNAL =\r\n")
            self.assertTrue(wire.tagged("l")[-1].startswith("l OK"))
        question, = service.questions
        self.assertEqual((question["Auth-Method"], question.decoded("Auth-User"),
                          question["Auth-Pass"], question["Auth-SSL-Verify"]),
                         ("external", "alice@example.test", "", "SUCCESS"))
        serial = openssl("x509", "-in", pki.files(alice)[0], "-noout", "-serial")
        self.assertEqual(question["Auth-SSL-Serial"], serial.strip().removeprefix("serial="))
        self.assertEqual(made["imap"].logins, [("alice@store", "of the store")])

    def test_who_may_act_for_whom_is_not_asked(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url)
        with gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            wire.send(f"l AUTHENTICATE PLAIN {clients.plain('alice', 'right', 'bob')}\r\n")
            self.assertTrue(wire.tagged("l")[-1].startswith("l NO [AUTHORIZATIONFAILED]"))
        self.assertEqual(service.questions, [])


class Answers(HttpTestCase):
    def test_user_password_and_place_are_the_services(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url)
        for extra, login in (({}, ("alice", "right")),
                             ({"Auth-User": 'al "ice%41'}, ('al "ice%41', "right")),
                             ({"auth-pass": "p@ss %20"}, ("alice", "p@ss %20")),
                             ({"Auth-User": "a", "AUTH-PASS": "b", "Auth-Server": "[::1]"}, None)):
            service.extra = extra
            for protocol, backend in made.items():
                with self.subTest(extra=extra, protocol=protocol):
                    del backend.logins[:]
                    if login is None:  # two servers: that makes no sense
                        self.assert_answer(self.login(gate, protocol, "alice", "right"),
                                           clients.LOGIN_UNAVAILABLE, protocol)
                        self.assertEqual(backend.logins, [])
                        continue
                    self.assert_answer(self.login(gate, protocol, "alice", "right"),
                                       clients.LOGIN_OK, protocol)
                    self.assertEqual(backend.logins, [login])
        self.assertNotIn("p@ss", gate.log_text())

    def test_without_a_place_the_pool_is_it(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url, pools={
            p: {"members": [backend.member], "tls": "none"} for p, backend in made.items()})
        service.answers = [{"Auth-Status": "OK"}]
        self.assert_answer(self.login(gate, "imap", "alice", "x"), clients.LOGIN_OK, "imap")

    def test_a_refusal_that_waits_and_keeps_the_session(self):
        made, servers = self.recording()
        service = self.service(servers)
        service.refusal = {"Auth-Status": "Not so fast", "Auth-Wait": "1"}
        gate = self.gate_for(service.url)
        for protocol in PROTOCOLS:
            with self.subTest(protocol), gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                started = time.monotonic()
                answer = clients.login(wire, protocol, "alice", "wrong")
                self.assertGreaterEqual(time.monotonic() - started, 1)
                self.assertIn("Not so fast", answer)
                self.assert_answer(answer, clients.LOGIN_REFUSED, protocol)
                self.assert_answer(clients.login(wire, protocol, "alice", "right"),
                                   clients.LOGIN_OK, protocol)

    def test_a_refusal_without_a_wait_ends_the_session(self):
        made, servers = self.recording()
        service = self.service(servers)
        service.refusal = {"Auth-Status": "Go away"}
        gate = self.gate_for(service.url)
        for protocol in PROTOCOLS:
            with self.subTest(protocol), gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                self.assertIn("Go away", clients.login(wire, protocol, "alice", "wrong"))
                wire.rest()

    def test_reply_codes_of_smtp(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url)
        for code, expected in (("535 5.7.99", "535 5.7.99 text"), ("454 4.7.0", "454 4.7.0 text"),
                               ("550", "550 text"), ("250 2.0.0", "535 5.7.8 text"),
                               ("535 4.7.0", "535 5.7.8 text"), ("x", "535 5.7.8 text")):
            service.answers = [{"Auth-Status": "text", "Auth-Error-Code": code}]
            self.assertEqual(self.login(gate, "smtp", "a", "b"), expected)
        service.answers = [{"Auth-Status": "text", "Auth-Error-Code": "451 4.3.0"}]
        self.assertEqual(self.login(gate, "imap", "a", "b"), "l NO [UNAVAILABLE] text")

    def test_wait_is_asked_again(self):
        made, servers = self.recording()
        service = self.service(servers)
        service.answers = [{"Auth-Status": "WAIT", "Auth-Wait": "1"}, {"Auth-Status": "WAIT"}]
        gate = self.gate_for(service.url)
        started = time.monotonic()
        self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK, "imap")
        self.assertGreaterEqual(time.monotonic() - started, 1)
        self.assertEqual([q["Auth-Login-Attempt"] for q in service.questions], ["1"] * 3)
        self.assertEqual((self.counted(gate, "wait"), self.counted(gate, "ok")), (2, 1))

    def test_a_client_that_leaves_is_forgotten(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url)
        service.held.clear()
        wire = gate.connect("imap", tls=True)
        clients.greeting(wire)
        wire.send(clients.login_command("imap", "alice", "right"))
        clients.poll_until(lambda: service.questions, "the question")
        wire.reset()
        gate.wait_active(0)
        service.answers = []
        service.held.set()
        self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK, "imap")

    def test_nonsense_is_an_outage(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url)
        good = {"Auth-Status": "OK", "Auth-Server": HOST, "Auth-Port": str(servers["imap"][1])}
        head = "".join(f"{name}: {value}\r\n" for name, value in good.items())

        def padded(size):
            return f"HTTP/1.1 200 OK\r\n{head}X-Padding: {'x' * size}\r\n\r\n".encode()

        nonsense = [
            {}, {"Auth-Server": HOST, "Auth-Port": "143"}, {**good, "Auth-Port": "0"},
            {**good, "Auth-Port": "65536"}, {**good, "Auth-Port": "x"}, {**good, "Auth-Server": ""},
            {**good, "Auth-Server": "a b"}, {**good, "Auth-Server": "x" * 300},
            {"Auth-Status": "OK", "Auth-Server": HOST}, {"Auth-Status": "OK", "Auth-Port": "1"},
            {**good, "Auth-User": ""}, {**good, "Auth-User": "a\x01b"}, {**good, "Auth-Pass": "a\tb"},
            {**good, "Auth-Wait": "soon"}, {"Auth-Status": "WAIT", "Auth-Wait": "-1"},
            b"", b"\r\n\r\n", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nAuth-Status: OK",
            f"HTTP/1.1 200 OK\r\n{head}Auth-Status: no\r\n\r\n".encode(), padded(17 * 1024),
            f"HTTP/1.1 200 OK\r\n{head}bad header\r\n\r\n".encode(), b"\x16\x03\x01\x00\x05hello",
        ]
        for answer in nonsense:
            with self.subTest(answer=answer if len(answer) < 999 else "long"):
                # A kept connection that is closed without an answer is tried once more.
                service.answers = [answer] * (2 if answer == b"" else 1)
                self.assert_answer(self.login(gate, "imap", "alice", "right"),
                                   clients.LOGIN_UNAVAILABLE, "imap")
        self.assertEqual(made["imap"].logins, [])
        self.assertEqual(self.counted(gate, "error"), len(nonsense))
        sense = [
            padded(14 * 1024), f"HTTP/1.0 404 Not found\r\n{head}\r\n".encode(),
            f"HTTP/1.1 500 \r\n{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".encode(),
            f"HTTP/1.1 200 OK\r\n{head}Auth-Status: OK\r\nContent-Length: 999999\r\n\r\nx".encode(),
        ]
        for answer in sense:
            with self.subTest(answer=answer[:40]):
                service.answers = [answer]
                self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK,
                                   "imap")


class Connections(HttpTestCase):
    def test_no_service_is_a_temporary_failure(self):
        sock, port = refused_port()
        self.services = []
        with sock:
            gate = self.gate_for(f"http://{HOST}:{port}/")
            for protocol in PROTOCOLS:
                with gate.connect(protocol, tls=True) as wire:
                    clients.greeting(wire)
                    for _ in range(2):
                        self.assert_answer(clients.login(wire, protocol, "alice", "right"),
                                           clients.LOGIN_UNAVAILABLE, protocol)
            self.assertEqual(gate.metrics().value("authority_up", authority="http"), 0)
            self.assertEqual(self.counted(gate, "error"), 6)
            self.assertEqual(len(gate.log_lines(event="authority_failed")), 1)

    def test_the_next_url_when_one_fails_and_a_short_memory(self):
        made, servers = self.recording()
        sock, port = refused_port()
        first, second = self.service(servers), self.service(servers)
        first.answers = [b"", {}]
        with sock:
            gate = self.gate_for(f"http://{HOST}:{port}/", first.url, second.url)
            for _ in range(3):
                self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK,
                                   "imap")
            self.assertEqual((len(first.questions), len(second.questions)), (1, 3))
            self.assertEqual(self.counted(gate, "ok"), 3)
            self.assertEqual(gate.metrics().value("authority_up", authority="http"), 1)
            urls = [line["url"] for line in gate.log_lines(event="authority_failed")]
            self.assertEqual(urls, [f"http://{HOST}:{port}", f"http://{HOST}:{first.port}"])
            # A refusal is an answer: nobody else is asked.
            self.login(gate, "imap", "alice", "wrong")
            self.assertEqual((len(first.questions), len(second.questions)), (1, 4))

    def test_a_silent_service_is_given_up(self):
        made, servers = self.recording()
        silent, second = self.service(servers), self.service(servers)
        silent.held.clear()
        gate = self.gate_for(silent.url, authority={"timeout": "300ms"})
        self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_UNAVAILABLE,
                           "imap")
        self.assertEqual(self.counted(gate, "timeout"), 1)
        gate.stop()
        gate = self.gate_for(silent.url, second.url, authority={"timeout": "300ms"})
        for _ in range(2):
            self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK, "imap")
        self.assertEqual((len(silent.questions), len(second.questions)), (2, 2))
        silent.held.set()

    def test_connections_are_kept(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url)
        for _ in range(5):
            self.login(gate, "imap", "alice", "right")
        self.assertEqual((len(service.questions), service.connections), (5, 1))
        service.drop_connections()  # the service has had enough of it: no login notices
        for _ in range(2):
            self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK, "imap")
        self.assertEqual(gate.log_lines(event="authority_failed"), [])
        self.assertEqual(service.connections, 2)

    def test_a_good_login_is_not_asked_about_again(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url, authority={"positive_cache": "10m"})
        service.extra = {"Auth-User": "alice@store"}
        for _ in range(3):
            self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK, "imap")
        self.assertEqual(len(service.questions), 1)
        self.assertEqual(made["imap"].logins, [("alice@store", "right")] * 3)
        self.assertEqual(self.counted(gate, "ok"), 3)
        for protocol, password in (("imap", "wrong"), ("imap", "wrong"), ("pop3", "right")):
            self.login(gate, protocol, "alice", password)
        self.assertEqual(len(service.questions), 4)
        service.extra = {"Auth-Pass": "of the store"}  # that is not kept
        service.users["bob"] = "right"
        for _ in range(2):
            self.assert_answer(self.login(gate, "imap", "bob", "right"), clients.LOGIN_OK, "imap")
        self.assertEqual(len(service.questions), 6)

    def test_a_service_that_closes_after_each_answer(self):
        made, servers = self.recording()
        service = self.service(servers, keep_alive=False)
        gate = self.gate_for(service.url)
        for _ in range(3):
            self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK, "imap")
        self.assertEqual(service.connections, 3)

    def test_a_bounded_number_at_a_time(self):
        made, servers = self.recording()
        service = self.service(servers)
        gate = self.gate_for(service.url, authority={"max_concurrent": 2, "timeout": "60s"})
        service.held.clear()
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(gate.connect("imap", tls=True)) for _ in range(5)]
            for wire in wires:
                clients.greeting(wire)
                wire.send(clients.login_command("imap", "alice", "right"))
            clients.poll_until(lambda: len(service.questions) == 2, "two questions")
            # The loop has read what all of them sent once it greets another client.
            with gate.connect("imap", tls=True) as other:
                clients.greeting(other)
            self.assertEqual(len(service.questions), 2)
            service.held.set()
            for wire in wires:
                self.assertTrue(wire.tagged("l")[-1].startswith("l OK"))
        self.assertEqual((len(service.questions), service.connections), (5, 2))

    def test_https(self):
        made, servers = self.recording()
        service = self.service(servers, tls=certificates().server_context())
        gate = self.gate_for(service.url, authority={"ca_file": certificates().ca})
        for _ in range(2):
            self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_OK, "imap")
        gate.stop()
        gate = self.gate_for(service.url, authority={"ca_file": strange_certificates().ca})
        asked = len(service.questions)
        self.assert_answer(self.login(gate, "imap", "alice", "right"), clients.LOGIN_UNAVAILABLE,
                           "imap")
        self.assertEqual(len(service.questions), asked)
        self.assertIn("certificate", gate.wait_log(event="authority_failed")[0]["detail"])
