# What a relayed packet costs, counted: strace looks at the system calls of a running gateway, callgrind
# at its instructions.
# SPDX-License-Identifier: Apache-2.0
import collections
import os
import re
import shutil
import subprocess
import unittest
from unittest import mock

import clients
import gatepost
from fault_servers import RecordingImap, Server
from gatepost import GatewayTestCase, sanitized
from wire import poll_until

ROUNDS = 50


@unittest.skipUnless(shutil.which("strace"), "strace is not installed")
@unittest.skipIf(sanitized(), "a sanitizer's run-time makes calls of its own")
class SystemCalls(GatewayTestCase):
    """A round trip is two reads and two writes; libuv adds a wait before each read, and nothing else."""

    def test_round_trip(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                              {"stores": {"members": [backend.member], "tls": "none"}},
                              process={"workers": 1})
            gate.wait_capabilities()
            with clients.logged_in(gate, "imaps", "u", "p") as wire:
                calls = self.calls_of(gate, lambda: [self.round_trip(wire) for _ in range(ROUNDS)])
        # Not standard error: the log's thread may still be at the line of an earlier connection.
        on_sockets = [call for call in calls if re.match(r"(read|write)\((?!2,)\d+, +[\"<]", call)]
        # The other threads wake for the log and for housekeeping, the loop for its timers.
        others = {name for name in (call.split("(")[0] for call in calls)
                  if name not in ("read", "write", "epoll_wait", "epoll_pwait", "futex",
                                  "restart_syscall", "clock_nanosleep", "poll")}
        self.assertEqual(len(on_sockets), 4 * ROUNDS)
        self.assertEqual(others, set())

    def round_trip(self, wire):
        wire.send("a NOOP\r\n")
        self.assertTrue(wire.line().startswith("a OK"))

    def calls_of(self, gate, work):
        """The system calls of all of the gateway's threads while `work` runs, one text each."""
        log = gate.directory / "strace.log"
        with subprocess.Popen(["strace", "-f", "-p", str(gate.process.pid), "-o", log],
                              stderr=subprocess.PIPE, text=True) as tracer:
            self.assertIn("attached", tracer.stderr.readline())  # one line for all the threads
            try:
                work()
            finally:
                tracer.terminate()
                tracer.stderr.read()
        calls = []
        for line in log.read_text().splitlines():
            call = line.split(maxsplit=1)[1]
            if not call.startswith(("+++", "---", "<...")):
                calls.append(call)
        return calls


@unittest.skipUnless(shutil.which("callgrind_control"), "valgrind is not installed")
@unittest.skipIf(sanitized(), "a sanitizer's run-time has instructions of its own")
class Instructions(GatewayTestCase):
    """A relayed packet takes no lock and does no atomic read-modify-write, and nobody but the loop
    asks what time it is.

    glibc has one of its own around each system call of a program with threads."""

    LOCKED = re.compile(r"\s*([0-9a-f]+):\s+(lock |xchg .*\()")

    def test_round_trip(self):
        directory = gatepost.run_directory() / "callgrind"
        directory.mkdir()
        profile, wrapper = directory / "profile", directory / "gatepost"
        wrapper.write_text(
            "#!/bin/sh\nexec valgrind --tool=callgrind --instr-atstart=no --dump-instr=yes"
            f" --compress-pos=no --callgrind-out-file={profile} {gatepost.BINARY} \"$@\"\n")
        wrapper.chmod(0o755)
        with RecordingImap(users={"u": "p"}) as backend, \
                mock.patch.object(gatepost, "BINARY", wrapper):
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                              {"stores": {"members": [backend.member], "tls": "none"}},
                              process={"workers": 1})
            gate.wait_capabilities()
            with clients.logged_in(gate, "imaps", "u", "p") as wire:
                self.instrument(gate, "on")
                for _ in range(ROUNDS):
                    wire.send("a NOOP\r\n")
                    self.assertTrue(wire.line().startswith("a OK"))
                self.instrument(gate, "off")
            gate.settled()
            gate.stop()
        executed, calls = self.read(profile.read_text())
        self.assertGreater(sum(sum(counts.values()) for counts in executed.values()), 1000 * ROUNDS)
        locked = {name: sum(counts[address] for address in self.locked(name) if address in counts)
                  for name, counts in executed.items() if os.path.exists(name)}
        of_libc = {name for name in locked if os.path.basename(name).startswith("libc.")}
        self.assertEqual({name: count for name, count in locked.items()
                          if count >= ROUNDS and name not in of_libc}, {})
        self.assertLess(sum(locked[name] for name in of_libc), 15 * ROUNDS)  # 6 calls, 2 each
        # The loop does it twice an iteration. Another thread may have looked at files meanwhile.
        times = collections.Counter()
        for (caller, called), count in calls.items():
            times[caller] += count if "clock_gettime" in called else 0
        waits = sum(count for (_, called), count in calls.items() if "epoll_" in called)
        of_loop = {caller: count for caller, count in times.items() if "libuv" in caller}
        self.assertEqual({caller: count for caller, count in times.items()
                          if count >= ROUNDS and caller not in of_loop}, {})
        self.assertGreater(waits, ROUNDS)
        self.assertLessEqual(sum(of_loop.values()), 2 * waits + 2)

    def instrument(self, gate, state):
        subprocess.run(["callgrind_control", "-i", state, str(gate.process.pid)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def read(self, profile):
        """How often each address of each object was executed, and which object called what."""
        executed, calls = collections.defaultdict(collections.Counter), collections.Counter()
        names, current, called, skip = {}, "", "", False
        for line in profile.splitlines():
            if match := re.match(r"(c?ob|c?fn)=\((\d+)\)(?: (.*))?$", line):
                kind, number, name = match.groups()
                key = (kind[-2:], number)
                if name:
                    names[key] = name
                if kind == "ob":
                    current = names[key]
                elif kind == "cfn":
                    called = names[key]
            elif line.startswith("calls="):
                skip = True  # the next line's cost is that of the callee
                calls[current, called] += int(line[len("calls="):].split()[0])
            elif match := re.match(r"0x([0-9a-f]+) \S+ (\d+)$", line):
                if not skip:
                    executed[current][int(match.group(1), 16)] += int(match.group(2))
                skip = False
        return executed, calls

    def locked(self, name):
        """The addresses of the object's atomic read-modify-write instructions."""
        with subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", name], text=True,
                              stdout=subprocess.PIPE) as objdump:
            return [int(match.group(1), 16) for line in objdump.stdout
                    if (match := self.LOCKED.match(line))]


class Flights(GatewayTestCase):
    """How many times a login waits for the backend: what a backend 20 ms away multiplies.

    The sequences (C: we send, one segment; S: the backend answers; the connection itself is one more):

        IMAP  S: * OK [CAPABILITY …]   C: AUTHENTICATE PLAIN with its response   S: OK
        POP3  S: +OK                   C: USER and PASS                          S: +OK, +OK
        SMTP  S: 220                   C: EHLO     S: 250     C: AUTH PLAIN …    S: 235

    nginx 1.22 needs two more for IMAP (LOGIN with two synchronising literals) and one more for POP3.
    """

    REPLIES = {  # what the backend answers to a line that begins so
        "imap": {"": "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n",
                 "AUTHENTICATE": "{tag} OK done\r\n", "LOGOUT": "* BYE\r\n{tag} OK done\r\n"},
        "pop3": {"": "+OK ready\r\n", "CAPA": "+OK\r\nUSER\r\nPIPELINING\r\n.\r\n",
                 "USER": "+OK\r\n", "PASS": "+OK done\r\n", "QUIT": "+OK bye\r\n"},
        "smtp": {"": "220 ready\r\n", "EHLO": "250-b\r\n250 AUTH PLAIN\r\n",
                 "AUTH": "235 2.7.0 done\r\n", "QUIT": "221 bye\r\n"},
    }
    LOGIN = {"imap": ["AUTHENTICATE"], "pop3": ["USER PASS"], "smtp": ["EHLO", "AUTH"]}

    def flights(self, protocol, ready=0, **pool):
        """The verbs of each flight of the connection that carried the login, and how many of them had
        been sent before the client came. Waits for `ready` idle connections first."""
        connections = []

        def talk(wire):
            flights = []
            connections.append(flights)
            wire.send(self.REPLIES[protocol][""])
            while True:
                data = wire.sock.recv(65536).decode()
                if not data:
                    return
                lines = [line.split() for line in data.splitlines()]
                if protocol == "imap":
                    lines = [[line[1], line[0]] for line in lines]
                flights.append(" ".join(line[0] for line in lines))
                for line in lines:
                    wire.send(self.REPLIES[protocol][line[0]].format(tag=line[-1]))

        with Server(talk) as backend:
            gate = self.start({"in": {"protocol": protocol, "tls": "implicit", "pool": "p"}},
                              {"p": {"members": [backend.member], "tls": "none", **pool}},
                              process={"workers": 1})
            gate.wait_capabilities()
            # The probe leaves; a ready connection has been greeted, asked what it must, and stays.
            prelude = {"imap": 0, "pop3": 1, "smtp": 1}[protocol]
            poll_until(lambda: sum(len(f) == prelude and len(backend.wires) > 0
                                   for f in connections) >= ready, "ready connections")
            with gate.connect("in", tls=True) as wire:  # the loop has read what came before it
                clients.greeting(wire)
            before = [len(flights) for flights in connections]
            with clients.logged_in(gate, "in", "u", "p"):
                logins = [(flights, old) for flights, old in
                          zip(connections, before + [0] * len(connections))
                          if any("AUTH" in flight or "PASS" in flight for flight in flights)]
            self.assertEqual(len(logins), 1)
            return logins[0]

    def test_as_few_as_the_protocol_allows(self):
        for protocol, expected in self.LOGIN.items():
            with self.subTest(protocol):
                self.assertEqual(self.flights(protocol), (expected, 0))

    def test_a_ready_connection_has_only_the_login_left(self):
        for protocol, expected in self.LOGIN.items():
            with self.subTest(protocol):
                flights, before = self.flights(protocol, ready=1, ready_connections=1)
                self.assertEqual(flights[before:], expected[-1:])
