# Certificates that change while Gatepost runs: what clients are shown, what goes on undisturbed.
# SPDX-License-Identifier: Apache-2.0
import hashlib
import shutil
import signal
import ssl
import unittest

from clients import greeting, logged_in
from fault_servers import RecordingImap
from gatepost import GatewayTestCase, run_directory
from local_backends import CertificateAuthority
from wire import poll_until


class Pki:
    """A folder with pairs of one authority, and what is needed to break them."""

    def __init__(self, name):
        self.folder = run_directory() / name
        self.authority = CertificateAuthority(self.folder / "authority")
        self.issued = 0

    def issue(self, *hosts, **options):
        """A new chain and key, in the authority's folder."""
        self.issued += 1
        return self.authority.issue(f"issued-{self.issued}", hosts or ["localhost"], **options)

    def install(self, pair, name):
        """Copies `pair` over <name>.pem and <name>.key, in place; returns the keys for a
        [[certificate]]."""
        chain, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        for source, target in zip(pair, (chain, key)):
            with open(target, "wb") as file:
                file.write(source.read_bytes())
        return {"chain": chain, "key": key}

    def context(self, version=None):
        context = ssl.create_default_context(cafile=str(self.authority.ca_file))
        if version:
            context.minimum_version = context.maximum_version = version
        return context


def fingerprint(pair):
    """Of a chain file's first certificate."""
    pem = pair[0].read_text()
    end = "-----END CERTIFICATE-----"
    der = ssl.PEM_cert_to_DER_cert(pem[:pem.index(end) + len(end)])
    return hashlib.sha256(der).hexdigest()


class CertificateTestCase(GatewayTestCase):
    """Gateways with certificates of the test's own, in front of one recording IMAP server."""

    LISTENERS = {"implicit": {"protocol": "imap", "tls": "implicit"},
                 "starttls": {"protocol": "imap", "tls": "starttls"}}

    def setUp(self):
        self.backend = RecordingImap(users={"u": "p"})
        self.addCleanup(self.backend.close)
        self.pki = Pki(self.id().rpartition(".")[2])

    def gateway(self, certificates, listeners=None, **keys):
        return self.start(listeners or self.LISTENERS,
                          {"imap": {"members": [self.backend.member], "tls": "none"}},
                          certificates=certificates, **keys)

    def shown(self, listener="implicit", name="localhost"):
        """The fingerprint of the certificate that a new client is shown."""
        with self.gate.connect(listener) as wire:
            if self.gate.listeners[listener]["tls"] == "starttls":
                greeting(wire)
                wire.imap("t", "STARTTLS")
            wire.start_tls(self.pki.context(), name)
            return hashlib.sha256(wire.tls.getpeercert(True)).hexdigest()

    def reload(self, result="ok"):
        """Sends SIGHUP and returns the line that says what came of it."""
        before = len(self.gate.log_lines(event="reload"))
        self.gate.process.send_signal(signal.SIGHUP)
        line = self.gate.wait_log(count=before + 1, event="reload")[-1]
        self.assertEqual(line["result"], result, line)
        return line


class Signal(CertificateTestCase):
    def test_new_certificates_for_new_clients(self):
        old, new = self.pki.issue(), self.pki.issue()
        self.gateway([self.pki.install(old, "gate")])
        self.assertEqual(self.shown(), fingerprint(old))
        self.pki.install(new, "gate")
        self.assertEqual(self.shown(), fingerprint(old))
        self.reload()
        for listener in self.LISTENERS:
            poll_until(lambda l=listener: self.shown(l) == fingerprint(new), "the new certificate")

    def test_nobody_is_disturbed(self):
        """Live sessions go on, a handshake that has begun ends well, and tickets stay good."""
        self.gateway([self.pki.install(self.pki.issue(), "gate")])
        context = self.pki.context(ssl.TLSVersion.TLSv1_3)
        live = [logged_in(self.gate, listener, "u", "p", tls=context) for listener in self.LISTENERS]
        ticket = live[0].tls.session
        self.assertTrue(ticket.has_ticket)
        half = self.gate.connect("implicit")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            tls.do_handshake()
        half.sock.sendall(outgoing.read())
        incoming.write(half.sock.recv(65536))

        new = self.pki.issue()
        self.pki.install(new, "gate")
        self.reload()
        poll_until(lambda: self.shown() == fingerprint(new), "the new certificate")

        tls.do_handshake()
        half.sock.sendall(outgoing.read())
        self.assertNotEqual(hashlib.sha256(tls.getpeercert(True)).hexdigest(), fingerprint(new))
        half.close()
        for wire in live:
            self.assertEqual(wire.imap("n", "NOOP"), ["n OK NOOP done"])
            wire.close()
        with self.gate.connect("implicit") as wire:
            wire.start_tls(context, session=ticket)
            self.assertTrue(wire.tls.session_reused)

    def test_what_is_broken_is_not_taken(self):
        pair = self.pki.issue()
        keys = self.pki.install(pair, "gate")
        self.gateway([keys])
        shutil.copy(self.pki.issue()[1], keys["key"])
        self.assertRegex(self.reload("failed")["detail"], "does not match")
        self.assertEqual(self.shown(), fingerprint(pair))


if __name__ == "__main__":
    unittest.main()
