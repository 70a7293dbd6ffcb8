# Certificates of clients and backends for the tests: a CA of its own, leaves of every kind, and
# revocation lists, made by the openssl command.
# SPDX-License-Identifier: Apache-2.0
import base64
import pathlib
import ssl
import subprocess

from gatepost import certificates

CONFIG = """\
[ca]
default_ca = ours
[ours]
dir = {directory}
database = $dir/index
new_certs_dir = $dir
serial = $dir/serial
crlnumber = $dir/crlnumber
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
policy = policy
unique_subject = no
copy_extensions = copy
[policy]
commonName = supplied
organizationName = optional
"""


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True,
                          text=True).stdout


class ClientPki:
    """`ca` is the CA's certificate; issue() makes leaves, revoke() and crl() lists."""

    def __init__(self, directory, name="Client CA"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.ca = self.directory / "ca.pem"
        self.config = self.directory / "ca.cnf"
        self.config.write_text(CONFIG.format(directory=self.directory))
        (self.directory / "index").touch()
        for file in ("serial", "crlnumber"):
            (self.directory / file).write_text("1000\n")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "30", "-subj", f"/CN={name}",
                "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout", self.directory / "ca.key", "-out", self.ca)

    def issue(self, name, subject=None, email=None, usage="clientAuth", expired=False, host=None):
        """Makes <name>.pem and <name>.key; returns `name`. With `host`: a server's."""
        usage = "serverAuth" if host else usage
        extensions = ["-addext", f"extendedKeyUsage={usage}"]
        if email:
            extensions += ["-addext", f"subjectAltName=email:{email}"]
        if host:
            extensions += ["-addext", f"subjectAltName=DNS:{host}"]
        request = self.directory / f"{name}.csr"
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", subject or f"/CN={name}", *extensions,
                "-keyout", self.directory / f"{name}.key", "-out", request)
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"] if expired else [
            "-days", "20"]
        openssl("ca", "-batch", "-notext", "-config", self.config, "-in", request, *dates,
                "-out", self.directory / f"{name}.pem")
        return name

    def revoke(self, name):
        openssl("ca", "-config", self.config, "-revoke", self.directory / f"{name}.pem")

    def crl(self, name="crl", expired=False):
        """Writes the list of what was revoked so far, and returns its path."""
        file = self.directory / f"{name}.crl"
        dates = ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z"
                 ] if expired else ["-crldays", "5"]
        openssl("ca", "-config", self.config, "-gencrl", *dates, "-out", file)
        return file

    def files(self, name):
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    def context(self, name=None, version=None):
        """A client that presents <name>.pem; None: nothing."""
        context = certificates().client_context(version)
        if name:
            context.load_cert_chain(*self.files(name))
        return context

    def key_sha256(self, name):
        """What the reference says how to get."""
        return self._key_sha256(self.files(name)[0])

    @staticmethod
    def _key_sha256(certificate):
        public = openssl("x509", "-in", certificate, "-noout", "-pubkey")
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], check=True,
                             input=public.encode(), capture_output=True).stdout
        return subprocess.run(["sha256sum"], input=der, check=True,
                              capture_output=True).stdout.decode().split()[0]

    def pin(self, name=None):
        """The key as pin_sha256 has it; without a name the CA's."""
        digest = self._key_sha256(self.files(name)[0] if name else self.ca)
        return base64.b64encode(bytes.fromhex(digest)).decode()

    def server_context(self, name):
        """A server that presents <name>.pem."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(name))
        return context

    def subject(self, name):
        """The subject as RFC 4514 has it, by OpenSSL."""
        text = openssl("x509", "-in", self.files(name)[0], "-noout", "-subject", "-nameopt",
                       "RFC2253")
        return text.strip().removeprefix("subject=")


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
