# Debian's redis-server under a test's hand.
# SPDX-License-Identifier: Apache-2.0
import secrets
import signal
import subprocess

from gatepost import run_directory
from wire import DEADLINE, poll_until


class Redis:
    """Debian's redis-server on a Unix socket, with a password, in memory alone."""

    def __init__(self, name):
        self.socket = run_directory() / f"{name}.sock"
        self.password = secrets.token_urlsafe(12)
        self.log = run_directory() / f"{name}.log"
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--requirepass",
             self.password, "--save", "", "--appendonly", "no", "--logfile", self.log,
             "--dir", run_directory()], stdout=subprocess.DEVNULL)
        poll_until(self.answers, "Redis")

    def answers(self):
        return self.ask("PING").strip() == "PONG"

    def ask(self, *words):
        return subprocess.run(["redis-cli", "-s", self.socket, "--no-auth-warning", "-a",
                               self.password, *words], capture_output=True, text=True,
                              timeout=DEADLINE, check=False).stdout

    def stop(self):
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            process.send_signal(signal.SIGCONT)
            process.wait(DEADLINE)

    def hang(self, on):
        self.process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)
