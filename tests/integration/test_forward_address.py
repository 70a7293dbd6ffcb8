# The client's real address at the backend: the PROXY protocol to real Dovecot and Postfix, which log
# it, over IPv4 and IPv6; and its bytes, as a backend of the test's own sees them.
# SPDX-License-Identifier: Apache-2.0
import socket
import ssl
import struct

import clients
from client_pki import ClientPki
from fault_servers import RecordingImap, RecordingSmtp
from gatepost import GatewayTestCase, address, run_directory, start_backends
from wire import poll_until

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


class RealBackends(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        verified = {"ca_file": backends.ca_file, "server_name": backends.server_name,
                    "forward_client_address": "proxy-v2"}
        cls.share(listeners(),
                  {"imap": {"members": [address(backends.imap_proxied_port)], "tls": "none",
                            "forward_client_address": "proxy-v2", "connect_early": True},
                   "pop3": {"members": [address(backends.pop3s_proxied_port)], "tls": "implicit",
                            **verified},
                   "smtp": {"members": [address(backends.smtp_proxied_port)], "tls": "starttls",
                            **verified}}, ipv6=True)
        cls.gate.wait_capabilities()

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
                    with self.subTest(listener, host=host, tls=tls):
                        seen = len(self.lines(log, words))
                        self.login(listener, host=host, source=source, tls=tls)
                        line = poll_until(lambda: self.lines(log, words)[seen:],
                                          f"{words} in {log}")[-1]
                        if host == "::1" and protocol == "imap":
                            # Not from a trusted network: only TLS makes it secured, and that TLS
                            # was the client's with the gateway.
                            self.assertEqual("secured" in line, tls is not False, line)

    @staticmethod
    def lines(log, words):
        """Lines of a server's log with all these words."""
        return [line for line in log.read_text(errors="replace").splitlines()
                if all(word in line for word in words)]


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
