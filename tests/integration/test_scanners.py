# What others' tools say about the listeners: sslscan on each kind.
# SPDX-License-Identifier: Apache-2.0
import subprocess
import unittest
import xml.etree.ElementTree

from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import HOST, GatewayTestCase
from wire import DEADLINE

VERSIONS = {"modern": ["TLSv1.3"], "intermediate": ["TLSv1.2", "TLSv1.3"],
            "legacy": ["TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"]}
TLS13 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
INTERMEDIATE = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-CHACHA20-POLY1305"}
# What clients of before 2008 need; not one without forward secrecy suits an ECDSA certificate.
LEGACY = {"ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA"}
GROUPS = {"x25519", "secp256r1 (NIST P-256)", "secp384r1 (NIST P-384)"}


class Scanners(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        pools, listeners = {}, {}
        for protocol, recording in (("imap", RecordingImap), ("pop3", RecordingPop3),
                                    ("smtp", RecordingSmtp)):
            backend = recording(users={"u": "p"})
            cls.addClassCleanup(backend.close)
            pools[protocol] = {"members": [backend.member], "tls": "none"}
            for tls in ("implicit", "starttls"):
                for profile in VERSIONS:
                    listeners[f"{protocol}-{tls}-{profile}"] = {
                        "protocol": protocol, "tls": tls, "tls_profile": profile,
                        "pool": protocol}
        cls.share(listeners, pools, limits={"max_connections_per_address": 1000})

    def options(self, name, flag):
        """How a tool is told that a listener is a STARTTLS one."""
        keys = self.gate.listeners[name]
        return flag(keys["protocol"]) if keys["tls"] == "starttls" else []

    def sslscan(self, name):
        result = subprocess.run(
            ["sslscan", "--xml=-", "--sni-name=localhost",
             *self.options(name, lambda protocol: [f"--starttls-{protocol}"]),
             f"{HOST}:{self.gate.ports[name]}"],
            capture_output=True, text=True, timeout=DEADLINE, check=True)
        return xml.etree.ElementTree.fromstring(result.stdout).find("ssltest")

    def test_sslscan(self):
        for name, keys in self.gate.listeners.items():
            with self.subTest(name):
                profile = keys["tls_profile"]
                scan = self.sslscan(name)
                offered = [("SSLv" if p.get("type") == "ssl" else "TLSv") + p.get("version")
                           for p in scan.iter("protocol") if p.get("enabled") == "1"]
                self.assertEqual(offered, VERSIONS[profile])
                # Said to be supported in TLS 1.1 and below, where it takes RFC 5746's signalling for
                # it; a client that asks for one is refused.
                renegotiation = scan.find("renegotiation")
                self.assertEqual(renegotiation.get("supported"), renegotiation.get("secure"))
                self.assertEqual({h.get("vulnerable") for h in scan.iter("heartbleed")}, {"0"})
                by_version = {version: {c.get("cipher") for c in scan.iter("cipher")
                                        if c.get("sslversion") == version} for version in offered}
                self.assertEqual(by_version["TLSv1.3"], TLS13)
                if profile != "modern":
                    self.assertEqual(by_version["TLSv1.2"] - LEGACY, INTERMEDIATE)
                if profile == "legacy":
                    self.assertEqual(by_version["TLSv1.0"], LEGACY)
                    self.assertEqual(by_version["TLSv1.2"], LEGACY | INTERMEDIATE)
                # Debian's knows no post-quantum group.
                self.assertEqual({g.get("name") for g in scan.iter("group")}, GROUPS)
                self.assertEqual(scan.findtext("certificates/certificate/subject"), "localhost")


if __name__ == "__main__":
    unittest.main()
