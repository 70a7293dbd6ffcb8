# The client's real address at the backend: by each method to real Dovecot and Postfix, which log it,
# over IPv4 and IPv6, and through a chain of two gateways; and the PROXY protocol's bytes, as a backend of
# the test's own sees them.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import crypt
import socket
import ssl
import struct
import threading

import clients
from client_pki import ClientPki
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp, Server
from gatepost import (Gatepost, GatewayTestCase, Port, address, client_context, run_directory,
                      start_backends)
from wire import Wire, poll_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROTOCOLS = ("imap", "pop3", "smtp")


def setUpModule():
    global backends, pki
    backends = start_backends()
    pki = ClientPki(run_directory() / "forward-pki")
    pki.issue("alice")


def listeners():
    found = {}
    for protocol in PROTOCOLS:
        keys = {"protocol": protocol, "pool": protocol}
        found[f"{protocol}-implicit"] = {**keys, "tls": "implicit"}
        found[f"{protocol}-starttls"] = {**keys, "tls": "starttls", "cleartext_login": "allow"}
    return found


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def tlvs(data):
    found = {}
    while data:
        kind, size = struct.unpack(">BH", data[:3])
        found[kind], data = data[3:3 + size], data[3 + size:]
    return found


class Header:
    """A PROXY header of version 2, taken apart by the document."""

    def __init__(self, wire):
        head = wire.read(16)
        assert head.startswith(SIGNATURE), head
        self.command, family, size = struct.unpack(">BBH", head[12:])
        body = wire.read(size)
        self.source = self.destination = None
        if self.command == 0x20:
            assert (family, size) == (0, 0)
            return
        assert self.command == 0x21
        width, kind = {0x11: (4, socket.AF_INET), 0x21: (16, socket.AF_INET6)}[family]
        ports = struct.unpack(">HH", body[2 * width:2 * width + 4])
        self.source = (socket.inet_ntop(kind, body[:width]), ports[0])
        self.destination = (socket.inet_ntop(kind, body[width:2 * width]), ports[1])
        self.tlvs = tlvs(body[2 * width + 4:])
        checksum = self.tlvs[3]
        whole = head + body
        assert struct.pack(">I", crc32c(whole.replace(b"\3\0\4" + checksum, b"\3\0\4\0\0\0\0",
                                                      1))) == checksum
        self.ssl = None
        if 0x20 in self.tlvs:
            client, verify = struct.unpack(">BI", self.tlvs[0x20][:5])
            self.ssl = {"client": client, "verify": verify, **tlvs(self.tlvs[0x20][5:])}


def proxied(recording):
    """A recording backend that wants a header first, and keeps those of clients."""

    class Proxied(recording):
        def talk(self, wire):
            header = Header(wire)
            if header.command == 0x21:
                self.headers.append(header)
            super().talk(wire)

    backend = Proxied.__new__(Proxied)
    backend.headers = []
    backend.__init__()
    return backend


def real_pools(method):
    """The three protocols' real backends, told by `method`."""
    verified = {"ca_file": backends.ca_file, "server_name": backends.server_name,
                "forward_client_address": method}
    ports = ((backends.imap_port, backends.pop3s_port, backends.smtp_port) if method == "native" else
             (backends.imap_proxied_port, backends.pop3s_proxied_port, backends.smtp_proxied_port))
    return {"imap": {"members": [address(ports[0])], "tls": "none",
                     "forward_client_address": method, "connect_early": True},
            "pop3": {"members": [address(ports[1])], "tls": "implicit", **verified},
            "smtp": {"members": [address(ports[2])], "tls": "starttls", **verified}}


class RealBackends:
    """Real servers' logs; `method` is how they are told."""

    method = None
    tells_tls = False  # Dovecot learns that the client's connection is secured

    @classmethod
    def setUpClass(cls):
        cls.share(listeners(), cls.pools(), ipv6=True)
        cls.gate.wait_capabilities()

    @classmethod
    def pools(cls):
        return real_pools(cls.method)

    def login(self, listener, user="alice", tls=None, **options):
        with clients.logged_in(self.gate, listener, user, backends.users[user], tls=tls,
                               **options) as wire:
            protocol = self.gate.listeners[listener]["protocol"]
            if protocol == "smtp":
                self.assertTrue(wire.command("MAIL FROM:<alice@example.test>").startswith("250"))
                self.assertTrue(wire.command("RCPT TO:<bob@example.test>").startswith("250"))

    def test_the_servers_log_the_clients_address(self):
        number = 20
        for listener, keys in self.gate.listeners.items():
            protocol = keys["protocol"]
            for tls in (None, False) if keys["tls"] == "starttls" else (None,):
                for host in ("127.0.0.1", "::1"):
                    number += 1
                    source = f"127.0.0.{number}" if host == "127.0.0.1" else "::1"
                    log = backends.postfix_log if protocol == "smtp" else backends.dovecot_log
                    words = [f"client=unknown[{source}]", "sasl_username=alice"]
                    if protocol != "smtp":
                        words = [f"{protocol}-login: Info: Login: user=<alice>", f"rip={source},",
                                 f"lip={host},"]
                        if protocol == "pop3" and self.method == "native":
                            words.pop()  # Dovecot 2.3 has no DESTADDR in POP3
                    with self.subTest(listener, host=host, tls=tls):
                        seen = len(self.lines(log, words))
                        self.login(listener, host=host, source=source, tls=tls)
                        line = poll_until(lambda: self.lines(log, words)[seen:],
                                          f"{words} in {log}")[-1]
                        if host == "::1" and protocol == "imap" and self.tells_tls:
                            # Not from a trusted network: only TLS makes it secured, and that TLS
                            # was the client's with the gateway.
                            self.assertEqual("secured" in line, tls is not False, line)

    @staticmethod
    def lines(log, words):
        """Lines of a server's log with all these words."""
        return [line for line in log.read_text(errors="replace").splitlines()
                if all(word in line for word in words)]


class ProxyV2(RealBackends, GatewayTestCase):
    method, tells_tls = "proxy-v2", True


class ProxyV1(RealBackends, GatewayTestCase):
    method = "proxy-v1"


class Native(RealBackends, GatewayTestCase):
    method = "native"

    def test_the_backends_believe_it(self):
        for protocol in PROTOCOLS:
            self.login(f"{protocol}-implicit")
        metrics = self.gate.metrics()
        for protocol, method in (("pop3", "pop3-xclient"), ("smtp", "smtp-xclient")):
            self.assertEqual(metrics.value("backend_forwarding_trusted", backend=protocol,
                                           method=method), 1)
        self.assertFalse(self.gate.log_lines(cause="not_trusted"))
        # Dovecot 2.3 does not say.
        self.assertEqual(metrics.value("backend_forwarding_trusted", method="imap-id"), 0)
        self.gate.wait_log(event="forwarding_unconfirmed", pool="imap")

    def test_the_backend_hears_the_clients_name_and_greeting(self):
        with self.gate.connect("imap-implicit", tls=True) as wire:
            clients.greeting(wire)
            wire.imap("i", 'ID ("name" "Mutt" "x-originating-ip" "203.0.113.1")')
            self.assertTrue(clients.login(wire, "imap", "alice", backends.users["alice"])
                            .startswith("l OK"))
        poll_until(lambda: self.lines(backends.dovecot_log, ["ID sent:", "name=Mutt"]), "the ID")
        self.assertFalse(self.lines(backends.dovecot_log, ["203.0.113.1"]))


class ReadyNative(Native):
    """Connections that were made for nobody, told of their client when it comes."""

    @classmethod
    def pools(cls):
        return {name: {**{key: value for key, value in keys.items() if key != "connect_early"},
                       "ready_connections": 2} for name, keys in real_pools("native").items()}


class Chain(RealBackends):
    """The outer gateway tells the inner one by `outer`, and that one the backends by `method`."""

    outer = None
    method = "native"

    @classmethod
    def pools(cls):
        believed = ({"trusted_networks": ["127.0.0.0/8"]} if cls.outer == "native" else
                    {"proxy_protocol": cls.outer[-2:], "proxy_networks": ["127.0.0.0/8"]})
        cls.inner = Gatepost({p: {"protocol": p, "pool": p, "tls": "starttls",
                                  "cleartext_login": "allow", **believed} for p in PROTOCOLS},
                             real_pools(cls.method))
        cls.addClassCleanup(cls.inner.stop)
        cls.inner.wait_capabilities()
        return {p: {"members": [address(cls.inner.ports[p])],
                    "forward_client_address": cls.outer} for p in PROTOCOLS}

    def test_both_gateways_know_the_client(self):
        for number, protocol in enumerate(PROTOCOLS, 90):
            self.login(f"{protocol}-implicit", source=f"127.0.0.{number}")
            own = self.gate.wait_log(event="session", listener=f"{protocol}-implicit")[-1]
            inner = self.inner.wait_log(event="session", client=own["client"])[0]
            self.assertEqual(inner["login"], "ok")
            self.assertTrue(inner["proxy"].startswith("127.0.0.1:"))
            if self.outer != "proxy-v1":
                self.assertEqual(inner["proxy_session"], own["id"])
            if self.outer == "native":
                self.assertEqual(self.gate.metrics().value("backend_forwarding_trusted",
                                                           backend=protocol), 1)


class NativeNative(Chain, GatewayTestCase):
    outer = "native"


class ProxyNative(Chain, GatewayTestCase):
    outer = "proxy-v2"


class NativeProxy(Chain, GatewayTestCase):
    outer, method, tells_tls = "native", "proxy-v2", True


class OldProxyNative(Chain, GatewayTestCase):
    outer = "proxy-v1"


def told(recording, answers):
    """A recording backend with canned answers to what introduces a client; `told` has the lines."""

    class Told(recording):
        def next_line(self, wire):
            while True:
                line = super().next_line(wire)
                answer = answers(line)
                if answer is None:
                    return line
                self.told.append(line)
                wire.send(answer + "\r\n")

    backend = Told.__new__(Told)
    backend.told = []
    return backend


class Introductions(GatewayTestCase):
    """What is said of the client, and what is made of the answers."""

    def start_told(self, protocol, answers, **options):
        recording = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}[protocol]
        backend = told(recording, answers)
        backend.__init__(**options)
        self.addCleanup(backend.close)
        self.start({protocol: {"protocol": protocol, "tls": "implicit"}},
                   {protocol: {"members": [backend.member], "forward_client_address": "native"}})
        self.gate.wait_capabilities()
        return backend

    def trusted(self):
        return self.gate.metrics().value("backend_forwarding_trusted")

    def test_imap(self):
        verdict = ["Trusted ID completed."]

        def answer(line):
            tag, verb, *_ = line.split(" ")
            return f'* ID ("name" "x")\r\n{tag} OK {verdict[0]}' if verb == "ID" else None

        backend = self.start_told("imap", answer,
                                  capability="IMAP4rev1 ID LITERAL+ SASL-IR AUTH=PLAIN")
        with clients.logged_in(self.gate, "imap", "u", "p") as wire:
            own = wire.sock.getsockname()
        words = backend.told[-1].split('"')[1::2]
        fields = dict(zip(words[::2], words[1::2]))
        session = self.gate.wait_log(event="session", client=f"{own[0]}:{own[1]}")[0]
        self.assertEqual(fields, {
            "x-session-id": session["id"], "x-originating-ip": own[0],
            "x-originating-port": str(own[1]), "x-connected-ip": "127.0.0.1",
            "x-connected-port": str(self.gate.ports["imap"]), "x-proxy-ttl": "6",
            "x-client-transport": "TLS", "x-connected-name": "localhost"})
        self.assertEqual(self.trusted(), 1)
        verdict[0] = "ID completed."
        clients.logged_in(self.gate, "imap", "u", "p").close()
        self.assertEqual(self.trusted(), 0)
        self.gate.wait_log(event="backend_failed", cause="not_trusted")
        verdict[0] = "Trusted ID completed."
        clients.logged_in(self.gate, "imap", "u", "p").close()
        self.gate.wait_log(event="backend_recovered")
        self.assertEqual(self.trusted(), 1)

    def test_imap_without_id(self):
        self.start_told("imap", lambda line: None)
        clients.logged_in(self.gate, "imap", "u", "p").close()
        self.gate.wait_log(event="backend_failed", cause="not_trusted")
        self.assertIn("gatepost_backend_forwarding_trusted{", self.gate.metrics().text)
        self.assertEqual(self.trusted(), 0)

    def test_pop3_without_xclient(self):
        self.start_told("pop3", lambda line: None)
        clients.logged_in(self.gate, "pop3", "u", "p").close()
        self.gate.wait_log(event="backend_failed", cause="not_trusted")

    def test_smtp_refused(self):
        backend = self.start_told(
            "smtp", lambda line: "550 5.7.0 not from you" if line.startswith("XCLIENT") else None)
        clients.logged_in(self.gate, "smtp", "u", "p").close()
        self.assertEqual(backend.told, ["XCLIENT NAME=[UNAVAILABLE] ADDR=127.0.0.1"])
        self.gate.wait_log(event="backend_failed", cause="not_trusted")

    def test_smtp_does_not_want_the_client(self):
        self.start_told(
            "smtp", lambda line: "554 5.7.1 on a list" if line.startswith("XCLIENT") else None)
        with self.gate.connect("smtp", tls=True) as wire:
            clients.greeting(wire)
            self.assertTrue(clients.login(wire, "smtp", "u", "p").startswith("535 5.7.8"))
        self.gate.wait_log(event="login_failed", reason="authorization")

    def test_an_introduced_session_is_made_anew(self):
        """A message with a bare newline costs the backend's connection; the next hears the same."""
        backend = self.start_told(
            "smtp", lambda line: "220 go on" if line.startswith("XCLIENT") else None)
        with clients.logged_in(self.gate, "smtp", "u", "p") as wire:
            for command in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA"):
                wire.command(command)
            wire.send("a\nb\r\n.\r\n")
            self.assertTrue(wire.reply().startswith("5"))
            self.assertTrue(wire.command("MAIL FROM:<a@example.test>").startswith("250"))
        self.assertEqual(len(backend.told), 2)
        self.assertEqual(backend.told[0], backend.told[1])
        self.assertEqual(backend.lines.count("EHLO tester.example.test"), 2)


class NotExpected(GatewayTestCase):
    def test_the_log_says_what_may_be_wrong(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"stores": {"members": [backend.member], "tls": "none",
                                          "forward_client_address": "proxy-v1"}})
            with gate.connect("imaps", tls=True) as wire:
                clients.greeting(wire)
                clients.login(wire, "imap", "u", "p")
            line = gate.wait_log(event="backend_failed", cause="protocol")[0]
            self.assertIn("does this port expect the PROXY protocol", line["detail"])


class XclientLogin(GatewayTestCase):
    """A backend that is told who has logged in here, instead of a login there."""

    def start_with(self, member):
        passwords = run_directory() / "xclient-passwords"
        passwords.write_text("alice:" + crypt.crypt("pw", crypt.METHOD_SHA512) + "\n")
        self.start({"smtp": {"protocol": "smtp", "tls": "implicit"}},
                   {"smtp": {"members": [member], "login": "none", "xclient_login": True,
                             "forward_client_address": "native"}},
                   authority={"kind": "passwords", "file": passwords})
        self.gate.wait_capabilities()

    def test_postfix_takes_the_client_for_authenticated(self):
        self.start_with(address(backends.smtp_port))
        with clients.logged_in(self.gate, "smtp", "alice", "pw", source="127.0.0.77") as wire:
            self.assertTrue(wire.command("MAIL FROM:<alice@example.test>").startswith("250"))
            self.assertTrue(wire.command("RCPT TO:<bob@example.test>").startswith("250"))
        poll_until(lambda: RealBackends.lines(backends.postfix_log,
                                              ["client=unknown[127.0.0.77]", "sasl_username=alice"]),
                   "the user in Postfix's log")

    def test_nobody_is_let_through_unnamed(self):
        backend = RecordingSmtp(keywords=("SIZE 1000",))
        self.addCleanup(backend.close)
        self.start_with(backend.member)
        with self.gate.connect("smtp", tls=True) as wire:
            clients.greeting(wire)
            self.assertTrue(clients.login(wire, "smtp", "alice", "pw").startswith("454 4.7.0"))
        self.gate.wait_log(event="login_deferred", reason="misconfigured")


class Loops(GatewayTestCase):
    def test_our_own_listener_is_no_backend(self):
        reserved = Port()
        own = address(reserved.number)
        self.start({"imap": {"protocol": "imap", "tls": "implicit", "addresses": [own]}},
                   {"imap": {"members": [f"localhost:{reserved.number}"]}})
        self.addCleanup(reserved.release)
        with Wire.connect(reserved.number, tls=client_context()) as wire:
            clients.greeting(wire)
            self.assertTrue(clients.login(wire, "imap", "u", "p").startswith("l NO [SERVERBUG]"))
        self.gate.wait_log(event="backend_failed", cause="own_address")

    def test_a_session_is_passed_on_seven_times(self):
        """Through a forwarder, so that nobody sees that the next is the same gateway."""

        def forward(wire):
            if self.gate is None:  # its first probe
                return
            with Wire.connect(self.gate.ports["imap"]) as onward:
                pump = threading.Thread(target=copy, args=(wire, onward))
                pump.start()
                copy(onward, wire)
                pump.join()

        def copy(source, sink):
            with contextlib.suppress(OSError):
                while source.fill():
                    sink.send(bytes(source.received))
                    source.received.clear()
                sink.half_close()

        loop = Server(forward)
        self.addCleanup(loop.close)
        self.start({"imap": {"protocol": "imap", "tls": "starttls", "cleartext_login": "allow",
                             "trusted_networks": ["127.0.0.1"]}},
                   {"imap": {"members": [loop.member], "forward_client_address": "native"}})
        self.gate.wait_capabilities()
        with self.gate.connect("imap", source="127.0.0.9") as wire:
            clients.greeting(wire)
            self.assertTrue(clients.login(wire, "imap", "u", "no part of the log")
                            .startswith("l NO [UNAVAILABLE]"))
        lines = self.gate.wait_log(event="login_deferred", client="127.0.0.9", count=7)
        self.assertEqual(len(lines), 7)
        self.assertEqual([("TTL" in line["detail"], line["reason"]) for line in lines],
                         [(True, "misconfigured")] + 6 * [(False, "unavailable")])


class Bytes(GatewayTestCase):
    """What is said of the client's connection."""

    @classmethod
    def setUpClass(cls):
        cls.imap, cls.smtp = proxied(RecordingImap), proxied(RecordingSmtp)
        for backend in (cls.imap, cls.smtp):
            cls.addClassCleanup(backend.close)
        asked = {"client_certificates": "request", "client_ca_file": pki.ca}
        cls.share({"imap": {"protocol": "imap", "tls": "implicit", "pool": "imap", **asked},
                   "clear": {"protocol": "imap", "tls": "starttls", "cleartext_login": "allow",
                             "pool": "imap"},
                   "smtp": {"protocol": "smtp", "tls": "implicit", "pool": "smtp", **asked}},
                  {"imap": {"members": [cls.imap.member], "forward_client_address": "proxy-v2"},
                   "smtp": {"members": [cls.smtp.member], "forward_client_address": "proxy-v2"}},
                  ipv6=True)
        cls.gate.wait_capabilities()

    def header(self, listener, backend, context=None, tls=None, **options):
        backend.headers.clear()
        with clients.logged_in(self.gate, listener, "alice", "x", tls=context or tls,
                               **options) as wire:
            return backend.headers[-1], wire.sock.getsockname()[:2], wire

    def test_addresses_and_session(self):
        for host in ("127.0.0.1", "::1"):
            header, own, _ = self.header("imap", self.imap, host=host)
            self.assertEqual(header.source, own)
            self.assertEqual(header.destination, (host, self.gate.ports["imap"]))
            session = self.gate.wait_log(event="session", id=header.tlvs[5].decode())[0]
            self.assertTrue(session["client"].endswith(f":{own[1]}"))

    def test_tls(self):
        context = pki.context(version=ssl.TLSVersion.TLSv1_3)
        context.set_alpn_protocols(["imap"])
        header, _, _ = self.header("imap", self.imap, context)
        self.assertEqual(header.tlvs[1], b"imap")
        self.assertEqual(header.tlvs[2], b"localhost")
        self.assertEqual((header.ssl["client"], header.ssl["verify"]), (1, 1))
        self.assertEqual(header.ssl[0x21], b"TLSv1.3")
        self.assertTrue(header.ssl[0x23].startswith(b"TLS_"))
        self.assertNotIn(0x22, header.ssl)

    def test_a_certificate(self):
        header, _, _ = self.header("imap", self.imap, pki.context("alice"))
        self.assertEqual((header.ssl["client"], header.ssl["verify"]), (7, 0))
        self.assertEqual(header.ssl[0x22], b"alice")

    def test_no_tls(self):
        header, _, _ = self.header("clear", self.imap, tls=False)
        self.assertIsNone(header.ssl)
        self.assertEqual(set(header.tlvs), {3, 5})

    def test_a_connection_that_is_made_anew(self):
        """A message with a bare newline costs the backend's connection; the next one says the same."""
        self.smtp.headers.clear()
        with clients.logged_in(self.gate, "smtp", "alice", "x", tls=pki.context("alice")) as wire:
            for command in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA"):
                wire.command(command)
            wire.send("a\nb\r\n.\r\n")
            self.assertTrue(wire.reply().startswith("5"))
            self.assertTrue(wire.command("MAIL FROM:<a@example.test>").startswith("250"))
        self.assertEqual(len(self.smtp.headers), 2)
        first, second = self.smtp.headers
        self.assertEqual((first.source, first.tlvs[5], first.ssl),
                         (second.source, second.tlvs[5], second.ssl))
        self.assertEqual(second.ssl[0x22], b"alice")
