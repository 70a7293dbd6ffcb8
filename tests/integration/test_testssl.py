# What testssl.sh says about listeners of each protocol, of each profile, of each kind of TLS.
# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import json
import subprocess
import unittest

from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import HOST, GatewayTestCase, certificates, run_directory
from wire import DEADLINE

# Side by side, since each takes half a minute; what it says to be offered, and what it may call worse
# than good: TLS 1.0 and 1.1 are what the legacy profile is for.
CHECKS = ["--protocols", "--heartbleed", "--ccs-injection", "--renegotiation"]
EXPECTED = {
    "imap-implicit-modern": (["TLS1_3"], set()),
    "smtp-starttls-intermediate": (["TLS1_2", "TLS1_3"], set()),
    "pop3-starttls-legacy": (["TLS1", "TLS1_1", "TLS1_2", "TLS1_3"], {"TLS1", "TLS1_1"}),
}
VERSIONS = ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3")


class Testssl(GatewayTestCase):
    def findings(self, name):
        """Runs testssl.sh; its findings as {id: (severity, finding)}."""
        keys = self.gate.listeners[name]
        report = run_directory() / f"{name}.json"
        starttls = ["--starttls", keys["protocol"]] if keys["tls"] == "starttls" else []
        result = subprocess.run(
            ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none",
             "--add-ca", certificates().ca, "--jsonfile", report, *CHECKS, *starttls,
             f"{HOST}:{self.gate.ports[name]}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=4 * DEADLINE,
            check=False)
        self.assertTrue(report.exists(), result.stdout + result.stderr)
        return {finding["id"].split()[0]: (finding["severity"], finding["finding"])
                for finding in json.loads(report.read_text())}

    def test_findings(self):
        pools = {}
        for protocol, recording in (("imap", RecordingImap), ("pop3", RecordingPop3),
                                    ("smtp", RecordingSmtp)):
            backend = recording(users={"u": "p"})
            self.addCleanup(backend.close)
            pools[protocol] = {"members": [backend.member], "tls": "none"}
        listeners = {}
        for name in EXPECTED:
            protocol, tls, profile = name.split("-")
            listeners[name] = {"protocol": protocol, "tls": tls, "tls_profile": profile,
                               "pool": protocol}
        self.start(listeners, pools, limits={"max_connections_per_address": 1000})
        with concurrent.futures.ThreadPoolExecutor(len(EXPECTED)) as threads:
            reports = {name: threads.submit(self.findings, name) for name in EXPECTED}
        for name, (offered, excused) in EXPECTED.items():
            with self.subTest(name):
                found = reports[name].result()
                self.assertEqual([version for version in VERSIONS if found[version][1].startswith(
                    ("offered", "is offered"))], offered)
                bad = {identifier: finding for identifier, finding in found.items()
                       if finding[0] not in ("OK", "INFO", "DEBUG", "WARN")}  # WARN is about itself
                self.assertEqual(set(bad), excused, bad)
                self.assertEqual(found["heartbleed"][0], "OK")
                self.assertEqual(found["secure_client_renego"][0], "OK")


if __name__ == "__main__":
    unittest.main()
