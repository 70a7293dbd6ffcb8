# The filter in deploy/fail2ban on the lines that the program really writes.
# SPDX-License-Identifier: Apache-2.0
import re
import shutil
import subprocess

import clients
from fault_servers import RecordingImap, refused_port
from gatepost import SOURCE, GatewayTestCase, address, run_directory
from wire import DEADLINE, Wire

FOLDER = SOURCE / "deploy/fail2ban"
FILTER = FOLDER / "filter.d/gatepost.conf"

# Of a client that would rather have somebody else banned.
HOSTILE = [
    "x client=192.0.2.1 user=y",
    'x" client="192.0.2.1',
    'x\\" client=192.0.2.1 mechanism=PLAIN tls=implicit reason=credentials',
    'x","client":"192.0.2.1","user":"y',
    "2026-01-01T00:00:00Z",
]


def matches(text, name="log"):
    """[(address, user)] of the lines that count."""
    log = run_directory() / name
    log.write_text(text)
    result = subprocess.run(
        ["fail2ban-regex", "--usedns", "no", "--out", "<ip> <F-USER>", str(log), str(FILTER)],
        capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    assert "ERROR" not in result.stderr, result.stderr
    return [tuple(line.split(" ", 1)) for line in result.stdout.splitlines()]


class Filter(GatewayTestCase):
    def check(self, log):
        held, port = refused_port()
        with held, RecordingImap(users={"u": "p"}) as backend:
            gate = self.start(
                {"imaps": {"protocol": "imap", "tls": "implicit", "pool": "good"},
                 "down": {"protocol": "imap", "tls": "implicit", "pool": "down"}},
                {"good": {"members": [backend.member], "tls": "none"},
                 "down": {"members": [address(port)], "tls": "none"}},
                log=log, ipv6=True, limits={"max_failed_logins": 100})

            def attempt(user, password, name="imaps", answer="NO", **options):
                with gate.connect(name, tls=True, **options) as wire:
                    clients.greeting(wire)
                    said = wire.imap(
                        "a", f"AUTHENTICATE PLAIN {clients.plain(user, password)}")[-1]
                    self.assertTrue(said.startswith(f"a {answer}"), said)

            # These count ...
            attempt("u", "wrong", source="127.0.0.2")
            for user in HOSTILE:
                attempt(user, "wrong", source="127.0.0.3")
            attempt("näme", "wrong", host="::1")
            # ... and these do not: a good login, an outage, no login at all, a scanner.
            attempt("u", "p", answer="OK", source="127.0.0.4")
            attempt("u", "p", name="down", source="127.0.0.5")
            with gate.connect("imaps", tls=True, source="127.0.0.6") as wire:
                clients.greeting(wire)
                wire.imap("a", "LOGOUT")
            with Wire.connect(gate.ports["imaps"], source="127.0.0.7") as wire:
                wire.send("GET / HTTP/1.0\r\n\r\n")
                wire.rest()
            gate.settled()
            gate.wait_log(event="login_deferred")
            gate.wait_log(count=5, event="session")
            lines = len(gate.log_lines(event="login_failed"))
            found = matches(gate.log_text())
            self.assertEqual(len(found), lines)
            self.assertEqual([ip for ip, _ in found],
                             ["127.0.0.2"] + ["127.0.0.3"] * len(HOSTILE) + ["::1"])
            return gate.log_text()

    def test_logfmt(self):
        text = self.check({})
        line = next(line for line in text.splitlines() if "event=login_failed" in line)
        # As the journal hands it over, with the host and the unit's process in front.
        self.assertEqual(len(matches(f"Nov 26 01:02:03 mail gatepost[123]: {line}\n")), 0)
        self.assertEqual(matches(f"mail gatepost[123]: {line}\n", "journal")[0][0], "127.0.0.2")
        # Reasons that a guesser is not known by.
        for reason in ("expired", "unavailable", "rate"):
            self.assertEqual(matches(line.replace("reason=credentials", f"reason={reason}")), [])

    def test_json(self):
        text = self.check({"format": "json"})
        line = next(line for line in text.splitlines() if '"event":"login_failed"' in line)
        self.assertEqual(matches(f"mail gatepost[123]: {line}\n", "journal")[0][0], "127.0.0.2")

    def test_jail(self):
        # fail2ban's own configuration with our two files in their places.
        config = run_directory() / "fail2ban"
        shutil.copytree("/etc/fail2ban", config)
        for file in (FILTER, FOLDER / "jail.d/gatepost.conf"):
            shutil.copy(file, config / file.relative_to(FOLDER))
        (config / "jail.d/defaults-debian.conf").unlink(missing_ok=True)
        result = subprocess.run(["fail2ban-client", "-c", config, "--dp"], capture_output=True,
                                text=True, timeout=DEADLINE, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("['add', 'gatepost', 'systemd']", result.stdout)
        self.assertIn("login_failed", result.stdout)
        self.assertNotRegex(result.stderr, re.compile("error", re.IGNORECASE))
