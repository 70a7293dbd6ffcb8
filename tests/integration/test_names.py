# Pools whose members the DNS names, with dnsmasq as the name server.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import pathlib
import signal
import socket
import subprocess
import tempfile
import unittest
from unittest import mock

import clients
import gatepost
from fault_servers import RecordingImap
from gatepost import Certificates, GatewayTestCase, run_directory
from wire import DEADLINE, poll_until

NAME = "stores.example.test"
LISTENER = {"imap": {"protocol": "imap", "tls": "implicit"}}


class NameServer:
    """dnsmasq on a loopback address: `hosts` maps names to addresses, `services` are SRV records."""

    def __init__(self, hosts=None, services=(), ttl=0):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=run_directory()))
        self.hosts_file = self.directory / "hosts"
        self.services, self.ttl = services, ttl
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.9", 0))
            self.port = probe.getsockname()[1]
        self.process = None
        self._write(hosts or {})
        self.start()

    @property
    def address(self):
        return f"127.0.0.9:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def _write(self, hosts):
        self.hosts_file.write_text("".join(
            f"{address} {name}\n" for name, addresses in hosts.items() for address in addresses))

    def start(self):
        # Only the process itself and its descriptors go: no fork, no change of the user.
        self.process = subprocess.Popen(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=",
             f"--port={self.port}", "--listen-address=127.0.0.9", "--bind-interfaces", "--no-resolv",
             "--no-hosts", f"--addn-hosts={self.hosts_file}", f"--local-ttl={self.ttl}",
             "--local=/example.test/", "--user=root", "--group=root", "--log-facility=-",
             *(f"--srv-host={service}" for service in self.services)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def change(self, hosts):
        """Other addresses from now on."""
        self._write(hosts)
        self.process.send_signal(signal.SIGHUP)


class SilentNameServer:
    """It never answers; what it is asked waits in its socket."""

    def __init__(self, port=0):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.9", port))
        self._socket.settimeout(DEADLINE)

    @property
    def address(self):
        return f"127.0.0.9:{self._socket.getsockname()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._socket.close()

    def next_question(self):
        """Name and type (RFC 1035 4.1.2)."""
        question = self._socket.recv(512)[12:]
        labels = []
        while length := question[0]:
            labels.append(question[1:1 + length].decode())
            question = question[1 + length:]
        return ".".join(labels), int.from_bytes(question[1:3], "big")


class Names(GatewayTestCase):
    def start_named(self, stack, member, server, **pool):
        return self.start(LISTENER, {"stores": {
            "members": [member], "dns_server": server.address, "dns_interval": "100ms",
            "tls": "none", **pool}})

    @staticmethod
    def members(gate):
        return {labels["member"] for name, labels, value in gate.metrics().series
                if name == "gatepost_backend_up" and value == 1}

    def wait_members(self, gate, *members):
        poll_until(lambda: self.members(gate) == set(members), f"the members {members}")

    def attempt(self, gate, user):
        with gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            return clients.login(wire, "imap", user, "pass-word")

    def log_in(self, gate, count=20):
        for i in range(count):
            answer = self.attempt(gate, f"user{i}")
            self.assertTrue(answer.startswith("l OK"), answer)

    def test_members_appear_and_leave(self):
        with contextlib.ExitStack() as stack:
            one = stack.enter_context(RecordingImap(host="127.0.0.2"))
            two = stack.enter_context(RecordingImap(host="127.0.0.3", port=one.port))
            three = stack.enter_context(RecordingImap(host="127.0.0.4", port=one.port))
            server = stack.enter_context(NameServer({NAME: ["127.0.0.2", "127.0.0.3"]}))
            gate = self.start_named(stack, f"dns:{NAME}:{one.port}", server)
            self.wait_members(gate, one.member, two.member)
            self.log_in(gate)
            self.assertTrue(one.logins and two.logins)
            with contextlib.ExitStack() as held:
                wires = [held.enter_context(clients.logged_in(gate, "imap", f"user{i}", "p"))
                         for i in range(20)]
                server.change({NAME: ["127.0.0.2", "127.0.0.4"]})
                self.wait_members(gate, one.member, three.member)
                line = gate.wait_log(2, event="members")[-1]
                self.assertEqual((line["added"], line["removed"]), (three.member, two.member))
                before = len(two.logins)
                self.log_in(gate)
                self.assertTrue(three.logins)
                self.assertEqual(len(two.logins), before)
                for wire in wires:  # nobody was disconnected
                    self.assertTrue(wire.imap("n", "NOOP")[-1].startswith("n OK"))
            gate.settled()

    def test_a_name_without_an_answer_keeps_its_members(self):
        with contextlib.ExitStack() as stack:
            one = stack.enter_context(RecordingImap(host="127.0.0.2"))
            server = stack.enter_context(NameServer({NAME: ["127.0.0.2"]}))
            gate = self.start_named(stack, f"dns:{NAME}:{one.port}", server)
            self.wait_members(gate, one.member)
            server.change({})
            line = gate.wait_log(event="name_resolution")[0]
            self.assertEqual((line["name"], line["result"]), (NAME, "failed"))
            self.log_in(gate, 3)
            self.assertGreater(gate.metrics().value("backend_name_lookups_total", result="failed"), 0)
            server.change({NAME: ["127.0.0.2"]})
            gate.wait_log(event="name_resolution", result="ok")
            gate.settled()

    def test_a_name_that_comes_late(self):
        with contextlib.ExitStack() as stack:
            one = stack.enter_context(RecordingImap(host="127.0.0.2"))
            server = stack.enter_context(NameServer())
            gate = self.start_named(stack, f"dns:{NAME}:{one.port}", server)
            self.assertTrue(self.attempt(gate, "u").startswith("l NO [UNAVAILABLE]"))
            line = gate.wait_log(event="login_deferred")[0]
            self.assertEqual(line["detail"], "the pool's names have no addresses")
            server.change({NAME: ["127.0.0.2"]})
            self.wait_members(gate, one.member)
            self.log_in(gate, 3)
            gate.settled()

    def test_silent_names_do_not_wait_for_each_other(self):
        """Each is asked before any is asked again."""
        names = [f"store{i}.example.test" for i in range(12)]
        with SilentNameServer() as server:
            gate = self.start(LISTENER, {"stores": {
                "members": [f"dns:{name}:143" for name in names],
                "dns_server": server.address, "tls": "none"}})
            asked = [server.next_question() for _ in range(2 * len(names))]  # A and AAAA
            self.assertEqual({name for name, kind in asked}, set(names))
            self.assertEqual(len(set(asked)), len(asked), asked)
            gate.limits["max_connections_per_address"] = 500
            gate.write_config()
            self.assertEqual(gate.reload()["generation"], "2")
            gate.wait_log(event="generation_ended", generation="1")
            gate.settled()

    def test_descriptors_are_set_aside_for_them(self):
        """For eight members of a name, and for its being asked of three name servers."""
        def sessions(kind):
            members = [f"{kind}localhost:{port}" for port in (1, 2)]
            gate = self.start(LISTENER, {"stores": {"members": members, "tls": "none"}},
                              max_descriptors=1000)
            return int(gate.wait_log(event="limits")[0]["sessions"])

        self.assertEqual(sessions("") - sessions("dns:"), (8 + 3 - 1) * 2 / 2)

    def test_a_reload_keeps_the_members_of_a_name_without_an_answer(self):
        other = "other.example.test"
        with contextlib.ExitStack() as stack:
            one = stack.enter_context(RecordingImap(host="127.0.0.2"))
            two = stack.enter_context(RecordingImap(host="127.0.0.3", port=one.port))
            three = stack.enter_context(RecordingImap(host="127.0.0.4", port=one.port))
            server = stack.enter_context(NameServer({NAME: ["127.0.0.2"], other: ["127.0.0.3"]}))
            gate = self.start(LISTENER, {"stores": {
                "members": [f"dns:{name}:{one.port}" for name in (NAME, other)],
                "dns_server": server.address, "dns_interval": "100ms", "tls": "none"}})
            self.wait_members(gate, one.member, two.member)
            server.change({NAME: ["127.0.0.2"]})
            gate.wait_log(event="name_resolution", name=other)
            gate.limits["max_connections_per_address"] = 500
            gate.write_config()
            self.assertEqual(gate.reload()["generation"], "2")
            server.change({NAME: ["127.0.0.2", "127.0.0.4"]})  # what is seen was answered behind it
            self.wait_members(gate, one.member, two.member, three.member)
            self.assertEqual([line["removed"] for line in gate.log_lines(event="members")
                              if "removed" in line], [])
            gate.settled()

    def test_the_certificate_carries_the_name(self):
        served = Certificates(run_directory() / "named-pki", hosts=(NAME,))
        with contextlib.ExitStack() as stack:
            one = stack.enter_context(RecordingImap(host="127.0.0.2", tls=served.server_context()))
            server = stack.enter_context(NameServer({NAME: ["127.0.0.2"],
                                                     "other.example.test": ["127.0.0.2"]}))
            gate = self.start_named(stack, f"dns:{NAME}:{one.port}", server, tls="starttls",
                                    ca_file=served.ca)
            self.wait_members(gate, one.member)
            self.log_in(gate, 3)
            gate.settled()
            gate = self.start_named(stack, f"dns:other.example.test:{one.port}", server,
                                    tls="starttls", ca_file=served.ca)
            self.assertEqual(gate.wait_log(event="backend_down")[0]["cause"], "tls_name")
            gate.settled()

    def test_service_records(self):
        """The targets with the lowest priority serve, the others when these are down."""
        with contextlib.ExitStack() as stack:
            first, second, spare = (stack.enter_context(RecordingImap()) for _ in range(3))
            server = stack.enter_context(NameServer(services=[
                f"_imap._tcp.example.test,localhost,{first.port},10,30000",
                f"_imap._tcp.example.test,localhost,{second.port},10,10000",
                f"_imap._tcp.example.test,localhost,{spare.port},20,1"]))
            gate = self.start_named(stack, "srv:_imap._tcp.example.test", server)
            self.wait_members(gate, *(f"localhost:{b.port}" for b in (first, second, spare)))
            self.log_in(gate, 40)
            self.assertGreater(len(first.logins), len(second.logins))
            self.assertTrue(second.logins)
            self.assertEqual(spare.logins, [])
            first.close()
            second.close()
            self.log_in(gate, 20)
            self.assertGreater(len(spare.logins), 10)
            gate.settled()


# $1 is what /etc/resolv.conf shall hold, the rest the program, which keeps its process.
WITH_NAME_SERVER = """
mount --bind "$1" /etc/resolv.conf
shift
exec "$@"
"""


class SystemsNameServer(GatewayTestCase):
    """Lookups by getaddrinfo, of which none can be taken back that has begun."""

    def spawn(self, arguments, stderr_file, max_descriptors=None):
        file = run_directory() / "silent-resolv.conf"
        file.write_text("nameserver 127.0.0.9\noptions timeout:30 attempts:5\n")
        with open(stderr_file, "ab") as stderr:
            return subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-e", "-c",
                 WITH_NAME_SERVER, "enter", file, gatepost.BINARY, *arguments],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)

    def test_nobody_waits_for_a_silent_one(self):
        """Whoever asks a gateway that was reloaded is answered, and it ends when it is told to."""
        with SilentNameServer(port=53) as server:
            with mock.patch.object(gatepost, "spawn", self.spawn):
                gate = self.start(LISTENER, {"stores": {
                    "members": [f"silent{i}.example.test:143" for i in range(6)], "tls": "none"}},
                    admin={"socket": "control.sock"})
            for generation in ("1", "2"):
                server.next_question()
                gate.limits["max_connections_per_address"] = 500 + int(generation)
                gate.write_config()
                gate.reload()
                gate.wait_log(event="generation_ended", generation=generation)
                gate.control("status")
            gate.stop()


if __name__ == "__main__":
    unittest.main()
