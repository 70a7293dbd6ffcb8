# The client's address from PROXY headers: real HAProxy in front, both versions, over IPv4 and IPv6; and
# all that must not be believed.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import socket
import struct
import subprocess
import unittest

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import HOST, GatewayTestCase, Port, client_context, run_directory
from wire import DEADLINE, Wire, poll_until

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
RECORDING = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}
CLIENT, SERVER = "192.0.2.7", "198.51.100.1"


def version1(source=CLIENT, family="TCP4", port=49152):
    return f"PROXY {family} {source} {SERVER} {port} 143\r\n".encode()


def version2(source=CLIENT, port=49152, tlvs=b"", command=0x21):
    body = socket.inet_aton(source) + socket.inet_aton(SERVER) + struct.pack(">HH", port, 143) + tlvs
    return SIGNATURE + struct.pack(">BBH", command, 0x11, len(body)) + body


class HaProxy:
    """Debian's HAProxy: for each name a pair of its port (IPv4 and IPv6) and a line `server`."""

    def __init__(self, servers):
        reserved = {name: Port() for name in servers}
        self.ports = {name: port.number for name, port in reserved.items()}
        directory = run_directory() / f"haproxy-{next(iter(self.ports.values()))}"
        directory.mkdir()
        config = directory / "haproxy.cfg"
        config.write_text("defaults\n  mode tcp\n  timeout connect 60s\n  timeout client 120s\n"
                          "  timeout server 120s\n" + "".join(
                              f"listen {name}\n  bind 127.0.0.1:{self.ports[name]}\n"
                              f"  bind [::1]:{self.ports[name]}\n  server gatepost {server}\n"
                              for name, server in servers.items()))
        with open(directory / "log", "wb") as log:
            self.process = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", config],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        poll_until(lambda: self.process.poll() is not None or all(map(self.answers, self.ports.values())),
                   "HAProxy")
        for port in reserved.values():
            port.release()
        assert self.process.poll() is None, (directory / "log").read_text()

    @staticmethod
    def answers(port):
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(DEADLINE)


def wire_through(port, implicit, host=HOST, source=None):
    return Wire.connect(port, host=host, source=source, tls=client_context() if implicit else None)


class ProxyProtocolTestCase(GatewayTestCase):
    @classmethod
    def share_gateway(cls, listeners, **keys):
        pools = {}
        for protocol, recording in RECORDING.items():
            backend = recording(users={"u": "p"})
            cls.addClassCleanup(backend.close)
            pools[protocol] = {"members": [backend.member]}
        cls.share(listeners, pools, **keys)
        cls.gate.wait_capabilities()

    def headers(self, **labels):
        return self.gate.metrics().value("proxy_protocol_headers_total", **labels)


class BehindHaProxy(ProxyProtocolTestCase):
    @classmethod
    def setUpClass(cls):
        listeners = {}
        for protocol in RECORDING:
            for tls in ("implicit", "starttls"):
                for version in ("v1", "v2", "both"):
                    listeners[f"{protocol}-{tls}-{version}"] = {
                        "protocol": protocol, "pool": protocol, "tls": tls,
                        "proxy_protocol": version, "proxy_networks": ["127.0.0.1"]}
        cls.share_gateway(listeners)
        how = {"v1": "send-proxy", "v2": "send-proxy-v2",
               "both": "send-proxy-v2-ssl proxy-v2-options crc32c,unique-id"}
        cls.haproxy = HaProxy({name: f"{HOST}:{port} {how[name.split('-')[2]]}"
                               for name, port in cls.gate.ports.items()})
        cls.addClassCleanup(cls.haproxy.stop)

    def test_the_client_is_who_haproxy_says(self):
        number = 20
        for name, keys in self.gate.listeners.items():
            for host in (HOST, "::1"):
                with self.subTest(name, host=host):
                    number += 1
                    source = f"127.0.0.{number}" if host == HOST else "::1"
                    wire = wire_through(self.haproxy.ports[name], keys["tls"] == "implicit", host,
                                        source)
                    with wire:
                        clients.greeting(wire)
                        if keys["tls"] == "starttls":
                            clients.start_tls(wire, keys["protocol"])
                        answer = clients.login(wire, keys["protocol"], "u", "p")
                        self.assertTrue(answer.startswith(clients.LOGIN_OK[keys["protocol"]]))
                        port = wire.sock.getsockname()[1]
                        wire.send(clients.QUIT[keys["protocol"]] + "\r\n")
                        wire.rest()
                    shown = f"{source}:{port}" if host == HOST else f"[::1]:{port}"
                    line = self.gate.wait_log(event="session", client=shown)[0]
                    self.assertEqual((line["login"], line["result"]), ("ok", "done"))
                    self.assertTrue(line["proxy"].startswith("127.0.0.1:"), line)
        for version in ("v1", "v2"):
            self.assertGreater(self.headers(version=version, result="ok"), 0)

    def test_a_failed_login_is_the_clients(self):
        with wire_through(self.haproxy.ports["imap-implicit-v2"], True, source="127.0.0.99") as wire:
            clients.greeting(wire)
            self.assertTrue(clients.login(wire, "imap", "u", "wrong").startswith("l NO"))
        self.gate.wait_log(event="login_failed", client="127.0.0.99")


class Headers(ProxyProtocolTestCase):
    @classmethod
    def setUpClass(cls):
        listeners = {}
        for protocol in RECORDING:
            for tls in ("implicit", "starttls"):
                listeners[f"{protocol}-{tls}"] = {
                    "protocol": protocol, "pool": protocol, "tls": tls, "cleartext_login": "allow",
                    "proxy_protocol": "both", "proxy_networks": ["127.0.0.1", "127.0.0.64/26"]}
                if tls == "implicit":
                    del listeners[f"{protocol}-{tls}"]["cleartext_login"]
        for version in ("v1", "v2"):
            listeners[version] = {"protocol": "imap", "pool": "imap", "tls": "starttls",
                                  "proxy_protocol": version,
                                  "proxy_networks": ["127.0.0.0/8"]}
        cls.share_gateway(listeners, limits={"proxy_header_timeout": "300ms",
                                             "max_connections_per_address": 5})

    def refused(self, name, data, result, source=None, **labels):
        """What is sent, is answered by an end without a word."""
        before = self.headers(listener=name, result=result, **labels)
        with self.gate.connect(name, source=source) as wire:
            if data:
                wire.send(data)
            self.assertEqual(wire.rest(), b"")
        self.assertEqual(self.headers(listener=name, result=result, **labels), before + 1)

    def test_both_versions_in_pieces(self):
        for name, keys in self.gate.listeners.items():
            for version, header in (("v1", version1()), ("v2", version2()),
                                    ("v2", version2(tlvs=b"\xe0\0\3abc")),
                                    ("v1", version1("2001:db8::7", "TCP6").replace(
                                        SERVER.encode(), b"2001:db8::1"))):
                if name in ("v1", "v2") and name != version:
                    continue
                with self.subTest(name, header=header):
                    before = self.headers(listener=name, version=version, result="ok")
                    for dribble in (False, True):
                        with self.gate.connect(name, dribble=dribble) as wire:
                            wire.send(header)
                            if keys["tls"] == "implicit":
                                wire.start_tls(client_context())
                            greeting = clients.greeting(wire)
                            self.assertTrue(greeting.startswith(clients.GREETING[keys["protocol"]]))
                    after = poll_until(lambda: self.headers(listener=name, version=version,
                                                            result="ok") - before, "headers")
                    self.assertEqual(after, 2)

    def test_the_first_command_in_the_headers_packet(self):
        with self.gate.connect("imap-starttls") as wire:
            wire.send(version2(port=50001) + b'a LOGIN "u" "p"\r\n')
            clients.greeting(wire)
            self.assertTrue(wire.tagged("a")[-1].startswith("a OK"))
        self.gate.wait_log(event="session", client=f"{CLIENT}:50001", login="ok")

    def test_health_checks_are_the_proxys_own(self):
        for header in (b"PROXY UNKNOWN\r\n", version2(command=0x20),
                       SIGNATURE + b"\x20\0\0\0"):
            with self.subTest(header=header):
                with self.gate.connect("smtp-starttls") as wire:
                    wire.send(header)
                    self.assertTrue(clients.greeting(wire).startswith("220"))
                    own = wire.sock.getsockname()
                line = self.gate.wait_log(event="session", client=f"{own[0]}:{own[1]}")[0]
                self.assertNotIn("proxy", line)
        self.assertEqual(self.headers(result="local"), 3)

    def test_nobody_else_may_say_so(self):
        for source in ("127.0.0.2", "127.0.0.63", "127.0.0.128"):
            self.refused("imap-starttls", version2(), "untrusted", source=source)
        self.gate.wait_log(event="proxy_untrusted", count=3)
        with self.gate.connect("imap-starttls", source="127.0.0.65") as wire:
            wire.send(version2())
            self.assertTrue(clients.greeting(wire).startswith("* OK"))

    def test_anything_else_is_dropped(self):
        for name in self.gate.listeners:
            with self.subTest(name):
                self.refused(name, b"a NOOP\r\n", "malformed", version="none")
                self.refused(name, b"\x16\x03\x01\x02\0", "malformed", version="none")
                self.refused(name, b"", "timeout", version="none")
                self.refused(name, SIGNATURE[:5], "malformed" if name == "v1" else "timeout")
        self.refused("imap-starttls", version1("192.0.2.256"), "malformed", version="v1")
        self.refused("imap-starttls", version2(tlvs=b"\3\0\4abcd"), "malformed", version="v2")
        self.refused("imap-starttls", version2(tlvs=b"\4\0"), "malformed", version="v2")
        self.refused("imap-starttls", SIGNATURE + b"\x21\x11\xff\xff", "malformed", version="v2")
        self.refused("v1", version2(), "malformed", version="none")
        self.refused("v2", version1(), "malformed", version="none")

    def test_a_port_check_is_no_attack(self):
        before = self.headers(result="closed")
        self.gate.connect("imap-implicit").close()
        poll_until(lambda: self.headers(result="closed") == before + 1, "a closed connection")

    def test_the_limit_is_the_clients(self):
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                wire = stack.enter_context(self.gate.connect("imap-starttls"))
                wire.send(version2("192.0.2.99"))
                self.assertTrue(clients.greeting(wire).startswith("* OK"))
            for name, words in (("imap-starttls", b"* BYE [UNAVAILABLE] Too many connections"),
                                ("smtp-starttls", b"421 4.7.0 "), ("imap-implicit", b"")):
                with self.gate.connect(name) as wire:
                    wire.send(version2("192.0.2.99"))
                    self.assertTrue(wire.rest().startswith(words))
            for number in range(100, 110):  # all of them of one proxy
                wire = stack.enter_context(self.gate.connect("imap-starttls"))
                wire.send(version2(f"192.0.2.{number}"))
                self.assertTrue(clients.greeting(wire).startswith("* OK"))
        for _ in range(6):  # nothing is counted twice, or never given back
            self.gate.wait_active(0)
            with self.gate.connect("imap-starttls") as wire:
                wire.send(version2("192.0.2.99"))
                self.assertTrue(clients.greeting(wire).startswith("* OK"))
        self.assertEqual(self.gate.metrics().value("connections_rejected_total", reason="ip_limit"), 3)


if __name__ == "__main__":
    unittest.main()
