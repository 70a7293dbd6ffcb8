# What a relayed packet costs, counted: strace looks at the system calls of a running gateway.
# SPDX-License-Identifier: Apache-2.0
import re
import shutil
import subprocess
import unittest

import clients
from fault_servers import RecordingImap
from gatepost import GatewayTestCase, sanitized

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
