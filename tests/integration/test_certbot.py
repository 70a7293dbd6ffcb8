# certbot as the README has it: Debian's own, which gets and renews certificates of a local ACME server.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import grp
import json
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import unittest

from fault_servers import RecordingImap
from gatepost import HOST, SOURCE, GatewayTestCase, Port, certificates, run_directory
from wire import DEADLINE, poll_until

USER = "nobody"


def acme_server(case, directory):
    """Starts Pebble, which believes everybody; -> the URL of its ACME directory."""
    ports = [Port() for _ in range(4)]
    for port in ports:
        case.addCleanup(port.release)
    listen, management, http, tls = (port.number for port in ports)
    config = directory / "pebble.json"
    config.write_text(json.dumps({"pebble": {
        "listenAddress": f"{HOST}:{listen}", "managementListenAddress": f"{HOST}:{management}",
        "certificate": str(certificates().chain), "privateKey": str(certificates().key),
        "httpPort": http, "tlsPort": tls}}))
    log = open(directory / "pebble.log", "wb")
    case.addCleanup(log.close)
    server = subprocess.Popen(
        ["pebble", "-config", config], stdout=log, stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "PEBBLE_VA_ALWAYS_VALID": "1", "PEBBLE_VA_NOSLEEP": "1",
             "PEBBLE_WFE_NONCEREJECT": "0"})
    case.addCleanup(server.wait)
    case.addCleanup(server.kill)
    context = ssl.create_default_context(cafile=str(certificates().ca))

    def answers():
        assert server.poll() is None, (directory / "pebble.log").read_text()
        with contextlib.suppress(OSError), \
                ssl.create_connection((HOST, listen), timeout=DEADLINE) as raw, \
                context.wrap_socket(raw, server_hostname="localhost"):
            return True
        return False
    poll_until(answers, "Pebble")
    return f"https://localhost:{listen}/dir", http


@unittest.skipUnless(os.geteuid() == 0, "certbot's keys are root's, as the README says")
class Certbot(GatewayTestCase):
    def setUp(self):
        self.backend = RecordingImap(users={"u": "p"})
        self.addCleanup(self.backend.close)
        # Outside the run's folder, into which only root may look.
        self.folder = pathlib.Path("/run") / f"gatepost-certbot-{os.getpid()}"
        self.folder.mkdir()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.letsencrypt = self.folder / "letsencrypt"
        self.url, self.http_port = acme_server(self, run_directory())

    def certbot(self, *arguments):
        result = subprocess.run(
            ["certbot", *arguments, "--config-dir", self.letsencrypt, "--work-dir",
             self.folder / "work", "--logs-dir", self.folder / "logs", "--server", self.url,
             "--non-interactive"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                 "REQUESTS_CA_BUNDLE": str(certificates().ca)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def obtain(self, name):
        self.certbot("certonly", "--standalone", "--http-01-port", str(self.http_port),
                     "--agree-tos", "--register-unsafely-without-email", "-d", name)

    def open_to_gatepost(self):
        """The README's commands, for our folder and user."""
        readme = (SOURCE / "README.md").read_text()
        commands, = re.findall(r"```sh\n(chgrp gatepost /etc/letsencrypt.*?)```", readme, re.S)
        commands = commands.replace("/etc/letsencrypt", str(self.letsencrypt)).replace(
            "chgrp gatepost", "chgrp " + grp.getgrgid(65534).gr_name)
        subprocess.run(["sh", "-e", "-c", commands], check=True)

    def on_disk(self, name):
        pem = (self.letsencrypt / "live" / name / "fullchain.pem").read_text()
        end = "-----END CERTIFICATE-----"
        return ssl.PEM_cert_to_DER_cert(pem[:pem.index(end) + len(end)])

    def shown(self, name):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.gate.connect("imap") as wire:
            wire.start_tls(context, name)
            return wire.tls.getpeercert(True)

    def test_obtained_and_renewed(self):
        self.obtain("mail.test")
        self.letsencrypt.chmod(0o755)  # as certbot leaves /etc/letsencrypt
        self.open_to_gatepost()
        self.folder.chmod(0o755)
        self.start({"imap": {"protocol": "imap", "tls": "implicit"}},
                   {"imap": {"members": [self.backend.member], "tls": "none"}},
                   certificates=[{"directory": self.letsencrypt / "live"}],
                   process={"user": USER, "file_poll_interval": "1h"})
        first = self.on_disk("mail.test")
        self.assertEqual(self.shown("mail.test"), first)
        self.certbot("renew", "--force-renewal", "--no-random-sleep-on-renew")
        self.assertNotEqual(self.on_disk("mail.test"), first)
        poll_until(lambda: self.shown("mail.test") == self.on_disk("mail.test"), "the renewed one")
        # A name that is added later: its key is not readable until the commands are given again.
        self.obtain("other.test")
        line, = self.gate.wait_log(event="certificate", result="failed")
        self.assertIn("Permission denied", line["detail"])
        self.open_to_gatepost()
        poll_until(lambda: self.shown("other.test") == self.on_disk("other.test"), "the added one")
        self.assertEqual(self.shown("mail.test"), self.on_disk("mail.test"))


if __name__ == "__main__":
    unittest.main()
