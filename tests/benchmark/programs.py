# The benchmark's own programs, and what the machine is. SPDX-License-Identifier: Apache-2.0
"""Builds and starts the load generator and the backend."""

import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_BUILD = ROOT / "build/release"


def build(folder, gatepost=True):
    subprocess.run(["ninja", "-C", folder, "bench_load", "bench_backend"]
                   + (["gatepost"] if gatepost else []), check=True, stdout=subprocess.DEVNULL)


class Backend:
    """The cheap backend; `ports` by protocol. Ends with its standard input."""

    def __init__(self, folder):
        self._start([Path(folder) / "tests/benchmark/bench_backend"])

    def _start(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.ports = json.loads(self.process.stdout.readline())

    def stop(self):
        end(self.process)


class FarBackend(Backend):
    """The backend on `ports`, one round trip away."""

    def __init__(self, ports, round_trip_ms):
        self._start([sys.executable, ROOT / "tests/benchmark/far_backend.py", str(round_trip_ms),
                     *(str(ports[protocol]) for protocol in ("imap", "pop3", "smtp"))])


def end(process):
    """Ends a program that serves until its standard input ends."""
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def machine_facts(gatepost):
    cpu = next((line.split(":", 1)[1].strip() for line in
                Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
                if line.startswith("model name")), platform.machine())
    version = subprocess.run([gatepost, "version"], capture_output=True, text=True,
                             check=False).stdout.strip().replace("\n", ", ")
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                            capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}, load average "
                   f"{os.getloadavg()[0]:.1f} at the start",
        "Gatepost": f"{version} {commit}".strip(),
    }
