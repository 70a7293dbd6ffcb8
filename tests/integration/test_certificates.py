# Certificates that change while Gatepost runs: what clients are shown, what goes on undisturbed.
# SPDX-License-Identifier: Apache-2.0
import hashlib
import os
import re
import shutil
import ssl
import subprocess
import threading
import unittest

from client_pki import ClientPki, openssl
from clients import greeting, logged_in
from fault_servers import RecordingImap
from gatepost import HOST, GatewayTestCase, run_directory, run_gatepost
from local_backends import CertificateAuthority
from wire import DEADLINE, poll_until


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
        """The fingerprint of the certificate that a new client is shown; `name` None: it asks for
        no name."""
        with self.gate.connect(listener) as wire:
            if self.gate.listeners[listener]["tls"] == "starttls":
                greeting(wire)
                wire.imap("t", "STARTTLS")
            context = self.pki.context()
            context.check_hostname = False
            wire.start_tls(context, name)
            return hashlib.sha256(wire.tls.getpeercert(True)).hexdigest()

    def wait_shown(self, pair, **client):
        poll_until(lambda: self.shown(**client) == fingerprint(pair), f"{pair[0]} for {client}")

    def reloads(self, result, file):
        return self.gate.metrics().value("tls_certificate_reloads_total", result=result,
                                         certificate=str(file))

class Signal(CertificateTestCase):
    def test_new_certificates_for_new_clients(self):
        old, new = self.pki.issue(), self.pki.issue()
        self.gateway([self.pki.install(old, "gate")])
        self.assertEqual(self.shown(), fingerprint(old))
        self.pki.install(new, "gate")
        self.gate.reload()
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
        self.gate.reload()
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
        self.assertRegex(self.gate.reload("failed")["detail"], "does not match")
        self.assertEqual(self.shown(), fingerprint(pair))


NEVER = {"file_poll_interval": "24h"}


def put(source, target):
    """Makes `target` a copy of `source`, in one step."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.copy(source, fresh)
    os.replace(fresh, target)


class Volume:
    """A folder as Kubernetes mounts a secret: links through "..data" to a folder of one version."""

    def __init__(self, folder):
        self.folder, self.version = folder, 0
        self.folder.mkdir(parents=True)

    def update(self, pair):
        self.version += 1
        fresh = self.folder / f"..2026_11_25_{self.version}"
        fresh.mkdir()
        for source, name in zip((*pair, pair[0]), ("tls.crt", "tls.key", "ca.crt")):
            shutil.copy(source, fresh / name)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        (self.folder / "..data_tmp").symlink_to(fresh.name)
        old = (self.folder / "..data").resolve()
        os.replace(self.folder / "..data_tmp", self.folder / "..data")
        if self.version > 1:
            shutil.rmtree(old)


class Certbot:
    """/etc/letsencrypt as certbot keeps it: numbered files in archive/, links to them in live/."""

    def __init__(self, folder):
        self.folder, self.numbers = folder, {}
        self.live = folder / "live"
        self.live.mkdir(parents=True)
        (self.live / "README").write_text("This directory contains your keys and certificates.")

    def renew(self, name, pair):
        number = self.numbers[name] = self.numbers.get(name, 0) + 1
        archive, live = self.folder / "archive" / name, self.live / name
        archive.mkdir(parents=True, exist_ok=True)
        live.mkdir(exist_ok=True)
        for source, stem in zip(pair, ("fullchain", "privkey")):
            shutil.copy(source, archive / f"{stem}{number}.pem")
        for stem in ("fullchain", "privkey"):
            link = live / f"{stem}.pem"
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../archive/{name}/{stem}{number}.pem")


class ByItself(CertificateTestCase):
    def test_written_in_place(self):
        old, new = self.pki.issue(), self.pki.issue()
        keys = self.pki.install(old, "gate")
        self.gateway([keys], process=NEVER)
        self.assertEqual(self.shown(), fingerprint(old))
        self.pki.install(new, "gate")
        for listener in self.LISTENERS:
            self.wait_shown(new, listener=listener)
        self.gate.wait_log(event="certificate", result="ok", file=str(keys["chain"]))
        self.gate.wait_log(event="reload", trigger="files", result="ok")
        self.assertEqual(self.reloads("ok", keys["chain"]), 1)
        metrics = self.gate.metrics()
        began, = (v for n, _, v in metrics.series if n == "process_start_time_seconds")
        self.assertGreater(
            metrics.value("tls_certificate_last_success_timestamp_seconds"), began - 1)

    def test_renamed(self):
        old, new = self.pki.issue(), self.pki.issue()
        keys = self.pki.install(old, "gate")
        self.gateway([keys], process=NEVER)
        for source, target in zip(new, keys.values()):
            put(source, target)
        self.wait_shown(new)

    def test_secret_volume(self):
        volume = Volume(self.pki.folder / "volume")
        pairs = [self.pki.issue() for _ in range(3)]
        volume.update(pairs[0])
        self.gateway([{"directory": volume.folder}], process=NEVER)
        self.assertEqual(self.shown(), fingerprint(pairs[0]))
        for pair in pairs[1:]:
            volume.update(pair)
            self.wait_shown(pair)

    def test_certbot(self):
        certbot = Certbot(self.pki.folder / "letsencrypt")
        first, second = self.pki.issue("a.test"), self.pki.issue("b.test")
        certbot.renew("a.test", first)
        certbot.renew("b.test", second)
        self.gateway([{"directory": certbot.live}], process=NEVER)
        self.assertEqual(self.shown(name="b.test"), fingerprint(second))
        renewed, more = self.pki.issue("b.test"), self.pki.issue("c.test")
        certbot.renew("b.test", renewed)
        self.wait_shown(renewed, name="b.test")
        certbot.renew("c.test", more)  # a new folder is watched, too
        self.wait_shown(more, name="c.test")
        more = self.pki.issue("c.test")
        certbot.renew("c.test", more)
        self.wait_shown(more, name="c.test")
        self.assertEqual(self.shown(name=None), fingerprint(first))

        def series():
            return sorted(labels["san_first"] for name, labels, _ in self.gate.metrics().series
                          if name.endswith("not_after_timestamp_seconds"))
        self.assertEqual(series(), ["a.test", "b.test", "c.test"])
        shutil.rmtree(certbot.live / "a.test")
        poll_until(lambda: series() == ["b.test", "c.test"], "a removed certificate's series")
        self.wait_shown(renewed, name=None)  # the next one is the default now

    def test_many_are_one_series(self):
        folder = self.pki.folder / "many"
        folder.mkdir()
        pair, renewed = self.pki.issue(), self.pki.issue()

        def install(source, name):
            for file, suffix in zip(source, ("crt", "key")):
                shutil.copy(file, folder / f"{name}.{suffix}")
        for number in range(100):
            install(pair, f"n{number}")
        self.gateway([{"directory": folder}], process=NEVER)

        def certificates():
            return {labels["certificate"] for name, labels, _ in self.gate.metrics().series
                    if "_tls_certificate_" in name}
        self.assertEqual(len(certificates()), 101)  # the folder is one of its own
        install(pair, "n100")
        poll_until(lambda: certificates() == {str(folder)}, "one series")
        before = self.reloads("ok", folder)
        install(renewed, "n0")
        self.wait_shown(renewed)
        poll_until(lambda: self.reloads("ok", folder) == before + 1, "a reload counted")

    def test_what_is_broken_stays_as_it_was(self):
        old, other = self.pki.issue("a.test"), self.pki.issue("b.test")
        broken, good = self.pki.install(old, "gate"), self.pki.install(other, "other")
        self.gateway([broken, good], process={"file_poll_interval": "100ms"})
        shutil.copy(self.pki.issue()[1], broken["key"])
        line, = self.gate.wait_log(event="certificate", result="failed")
        self.assertEqual(line["file"], str(broken["chain"]))
        self.assertRegex(line["detail"], "does not match")
        self.assertEqual(self.shown(name="a.test"), fingerprint(old))
        self.assertEqual(self.reloads("failed", broken["chain"]), 1)
        # The other one is renewed all the same, and nothing is said twice.
        renewed = self.pki.issue("b.test")
        self.pki.install(renewed, "other")
        self.wait_shown(renewed, name="b.test")
        self.gate.wait_log(event="reload", trigger="files")
        self.assertEqual(len(self.gate.log_lines(event="certificate", result="failed")), 1)
        self.assertEqual(self.reloads("failed", good["chain"]), 0)
        # Another cause is another line; then all is well.
        expired = self.pki.issue("a.test", days=0)
        self.pki.install(expired, "gate")
        lines = self.gate.wait_log(count=2, event="certificate", result="failed")
        self.assertRegex(lines[1]["detail"], "expired on")
        self.assertEqual(self.shown(name="a.test"), fingerprint(old))
        new = self.pki.issue("a.test")
        self.pki.install(new, "gate")
        self.wait_shown(new, name="a.test")
        poll_until(lambda: self.reloads("ok", broken["chain"]) == 1, "the success is counted")
        self.assertEqual(self.reloads("failed", broken["chain"]), 2)

    def test_a_pair_half_written(self):
        old, new = self.pki.issue(), self.pki.issue()
        keys = self.pki.install(old, "gate")
        self.gateway([keys], process={"file_poll_interval": "100ms"})
        put(new[0], keys["chain"])
        self.gate.wait_log(event="certificate", result="failed")  # as it stays so
        self.assertEqual(self.shown(), fingerprint(old))
        put(new[1], keys["key"])
        self.wait_shown(new)

    def test_what_no_event_tells_of(self):
        """A file behind a link, in a folder that nobody watches."""
        old, new = self.pki.issue(), self.pki.issue()
        keys = self.pki.install(old, "gate")
        links = self.pki.folder / "links"
        links.mkdir()
        for file in keys.values():
            (links / file.name).symlink_to(file)
        self.gateway([{key: links / file.name for key, file in keys.items()}],
                     process={"file_poll_interval": "100ms"})
        self.pki.install(new, "gate")
        self.wait_shown(new)

    def test_revocation(self):
        pki = ClientPki(self.pki.folder / "clients")
        pki.issue("alice")
        crl = pki.crl()
        self.gateway([self.pki.install(self.pki.issue(), "gate")], process=NEVER, listeners={
            "implicit": {"protocol": "imap", "tls": "implicit", "client_certificates": "require",
                         "client_ca_file": pki.ca, "client_crl_file": crl}})

        def welcome():
            context = self.pki.context(ssl.TLSVersion.TLSv1_2)
            context.load_cert_chain(*pki.files("alice"))
            with self.gate.connect("implicit") as wire:
                try:
                    wire.start_tls(context)
                except ssl.SSLError:
                    return False
                return True

        self.assertTrue(welcome())
        crl.write_text("-----BEGIN X509 CRL-----\n")
        line, = self.gate.wait_log(event="certificate", result="failed")
        self.assertRegex(line["detail"], "crl")
        self.assertTrue(welcome())
        pki.revoke("alice")
        pki.crl()
        poll_until(lambda: not welcome(), "the revoked certificate is refused")
        self.assertEqual(self.reloads("ok", pki.ca), 1)

    def test_keys_that_cannot_be_read_any_more(self):
        """process.user: what root could read at start must be readable later."""
        keys = self.pki.install(self.pki.issue(), "gate")
        keys["key"].chmod(0o600)
        self.gateway([keys], process={"user": "nobody", **NEVER})
        line, = self.gate.wait_log(event="certificate", result="failed")
        self.assertRegex(line["detail"], f"{keys['key']}: cannot read: Permission denied")

    def test_nobody_notices(self):
        """Handshakes without a pause, while the certificate is replaced again and again."""
        pairs = [self.pki.issue() for _ in range(2)]
        keys = self.pki.install(pairs[0], "gate")
        self.gateway([keys], process=NEVER)
        live = logged_in(self.gate, "implicit", "u", "p", tls=self.pki.context())
        known, done, failures = {fingerprint(pair) for pair in pairs}, threading.Event(), []
        shown = set()

        def handshakes():
            while not done.is_set():
                try:
                    shown.add(self.shown())
                except Exception as error:  # whatever it is
                    failures.append(error)

        threads = [threading.Thread(target=handshakes) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(1, 7):
            for source, target in zip(pairs[number % 2], keys.values()):
                put(source, target)
            self.wait_shown(pairs[number % 2])
            self.gate.reload()
        done.set()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(shown, known)
        self.assertEqual(live.imap("n", "NOOP"), ["n OK NOOP done"])
        live.close()


class Responder:
    """OpenSSL's OCSP responder for certificates of `authority`, without a port."""

    def __init__(self, authority):
        self.folder, self.ca = authority.directory, authority.ca_file

    def answer(self, pair, state="V"):
        """The response (DER) about the pair's certificate: "V" good, "R" revoked."""
        serial = openssl("x509", "-in", pair[0], "-noout", "-serial").strip().partition("=")[2]
        index, request, response = (self.folder / f"ocsp-{name}" for name in ("index", "req", "resp"))
        revoked = "261101000000Z" if state == "R" else ""
        index.write_text(f"{state}\t991231235959Z\t{revoked}\t{serial}\tunknown\t/CN=x\n")
        openssl("ocsp", "-issuer", self.ca, "-cert", pair[0], "-no_nonce", "-reqout", request)
        openssl("ocsp", "-index", index, "-CA", self.ca, "-rsigner", self.ca,
                "-rkey", self.folder / "ca.key", "-reqin", request, "-respout", response,
                "-ndays", "1")
        return response


class Staple(CertificateTestCase):
    def stapled(self):
        """What openssl is told about the certificate's state; "" without a response."""
        result = subprocess.run(
            ["openssl", "s_client", "-connect", f"{HOST}:{self.gate.ports['implicit']}", "-status",
             "-CAfile", self.pki.authority.ca_file], input="", capture_output=True, text=True,
            timeout=DEADLINE, check=False)
        self.assertIn("Verify return code: 0 (ok)", result.stdout, result.stderr)
        state = re.search(r"Cert Status: (\w+)", result.stdout)
        return state.group(1) if state else ""

    def test_beside_the_chain(self):
        pair = self.pki.issue()
        keys = self.pki.install(pair, "gate")
        responder = Responder(self.pki.authority)
        file = keys["chain"].with_name(keys["chain"].name + ".ocsp")
        put(responder.answer(pair), file)
        self.gateway([keys], process=NEVER)
        self.assertEqual(self.stapled(), "good")
        self.assertRegex(run_gatepost("check", self.gate.config_file).stdout,
                         r"OCSP response stapled until \d{4}-\d\d-\d\d \d\d:\d\d UTC")
        # A response that says nothing good is not passed on.
        put(responder.answer(pair, "R"), file)
        line, = self.gate.wait_log(event="certificate", result="failed", file=str(file))
        self.assertRegex(line["detail"], "says that the certificate is revoked")
        self.assertEqual(self.stapled(), "")
        self.assertEqual(self.reloads("failed", file), 1)
        put(responder.answer(pair), file)
        poll_until(lambda: self.stapled() == "good", "the response is stapled again")
        # A renewed certificate goes without the old one's, and with its own when that comes.
        pair = self.pki.issue()
        self.pki.install(pair, "gate")
        self.wait_shown(pair)
        self.assertEqual(self.stapled(), "")
        line = self.gate.wait_log(count=2, event="certificate", result="failed", file=str(file))[1]
        self.assertRegex(line["detail"], "is about another certificate")
        put(responder.answer(pair), file)
        poll_until(lambda: self.stapled() == "good", "the new response is stapled")
        file.unlink()
        poll_until(lambda: self.stapled() == "", "nothing is stapled")


class Sets(CertificateTestCase):
    def test_each_listener_has_its_own(self):
        one, two, star = (self.pki.issue("one.test"), self.pki.issue("two.test"),
                          self.pki.issue("*.test"))
        folder = self.pki.folder / "customers"
        folder.mkdir()
        for name, pair in (("two", two), ("star", star)):
            shutil.copy(pair[0], folder / f"{name}.crt")
            shutil.copy(pair[1], folder / f"{name}.key")
        self.gateway(
            [{"name": "own", **self.pki.install(one, "gate")},
             {"name": "customers", "directory": folder}],
            {"all": {"protocol": "imap", "tls": "implicit"},
             "own": {"protocol": "imap", "tls": "implicit", "certificates": ["own"]},
             "customers": {"protocol": "imap", "tls": "starttls", "strict_sni": True,
                           "certificates": ["customers"]}})
        for listener, name, pair in (
                ("all", None, one), ("all", "one.test", one), ("all", "TWO.test.", two),
                ("all", "three.test", star), ("all", "other.example", one),
                ("all", "a.b.test", one),
                ("own", "two.test", one), ("own", None, one),
                ("customers", "two.test", two), ("customers", "one.test", star),
                ("customers", None, star)):
            with self.subTest(listener=listener, name=name):
                self.assertEqual(self.shown(listener, name), fingerprint(pair))
        for name in ("other.example", "b\u00fccher.example"):
            with self.subTest(name=name):
                with self.assertRaisesRegex(ssl.SSLError, "(?i)unrecognized.name"):
                    self.shown("customers", name)
        metrics = self.gate.metrics()
        self.assertEqual(metrics.value("tls_handshake_failures_total", listener="customers",
                                       reason="server_name"), 2)

    def test_what_a_directory_has_beside_good_ones(self):
        folder = self.pki.folder / "pairs"
        folder.mkdir()
        good, expired = self.pki.issue("good.test"), self.pki.issue("expired.test", days=0)
        for name, pair in (("good", good), ("expired", expired)):
            shutil.copy(pair[0], folder / f"{name}.crt")
            shutil.copy(pair[1], folder / f"{name}.key")
        self.gateway([{"directory": folder}], process=NEVER)
        self.assertEqual(self.shown(name="expired.test"), fingerprint(good))
        self.assertEqual(self.reloads("failed", folder / "expired.crt"), 1)
        check = run_gatepost("check", self.gate.config_file)
        self.assertEqual(check.returncode, 0, check.stderr)
        self.assertRegex(check.stdout, f"1 certificate, by default {folder}/good.crt")
        self.assertRegex(check.stdout, f"{folder}/expired.crt\n    NOT USED: .*expired on")
        (folder / "good.crt").unlink()
        check = run_gatepost("check", self.gate.config_file)
        self.assertEqual(check.returncode, 2)
        self.assertRegex(check.stderr, r"gatepost\.toml:\d+:1: certificate\[1\]: .*expired on")


if __name__ == "__main__":
    unittest.main()
