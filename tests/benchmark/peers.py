# The proxies that are compared: how each is configured and started.
#
# Fair means: every one of them as its documentation would have it for this work. One certificate
# pair (ECDSA P-256 and RSA-2048), TLS 1.3 with TLS_AES_128_GCM_SHA256 and X25519, session tickets,
# the same number of workers, cleartext to the same backend, time-outs for idle mail sessions,
# room for the connections of the benchmark. Where a default of a peer is slow for bulk data (nginx
# mail's 4 KiB buffer) it gets the better one. Peers log errors only; Gatepost runs with everything
# on: a log line a session, metrics, limits, deadlines.
# SPDX-License-Identifier: Apache-2.0
"""Starts Gatepost and its peers on loopback with ephemeral ports."""

import crypt
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy"))
from local_backends import Server, free_ports  # noqa: E402

PROTOCOLS = ("imap", "pop3", "smtp")
IMPLICIT, STARTTLS = "implicit", "starttls"

GATEPOST = """
hostname = "mail.benchmark.test"
{certificates}
{listeners}
{pools}
{authority}
[limits]
max_connections_per_address = 1000000
[log]
file = "{directory}/gatepost.session.log"
[admin]
address = "127.0.0.1:0"
[process]
workers = {workers}
"""

HAPROXY = """
global
    nbthread {workers}
    maxconn 9500
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-bind-curves X25519
defaults
    mode tcp
    timeout connect 5s
    timeout client 31m
    timeout server 31m
"""

NGINX = """
worker_processes {workers};
daemon off;
pid {directory}/{name}.pid;
error_log {directory}/{name}.error.log error;
include /etc/nginx/modules-enabled/50-mod-{module}.conf;
worker_rlimit_nofile 20000;
events {{ worker_connections 19900; }}
{module} {{
    ssl_certificate {certificate}-ecdsa.pem;
    ssl_certificate_key {certificate}-ecdsa.key;
    ssl_certificate {certificate}-rsa.pem;
    ssl_certificate_key {certificate}-rsa.key;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_ecdh_curve X25519;
    ssl_session_tickets on;
{body}
}}
"""

DOVECOT = """
base_dir = {directory}/dovecot
state_dir = {directory}/dovecot-state
log_path = {directory}/dovecot.log
auth_mechanisms = plain login
disable_plaintext_auth = yes
protocols = imap pop3 submission
ssl = yes
ssl_cert = <{certificate}-ecdsa.pem
ssl_key = <{certificate}-ecdsa.key
ssl_alt_cert = <{certificate}-rsa.pem
ssl_alt_key = <{certificate}-rsa.key
ssl_cipher_suites = TLS_AES_128_GCM_SHA256
ssl_curve_list = X25519
ssl_client_ca_file = {certificate}-ecdsa.pem
mail_max_userip_connections = 0
default_internal_user = dovecot
default_login_user = dovenull
submission_host = mail.benchmark.test
service anvil {{
  client_limit = 20000
  chroot =
}}
service auth {{
  client_limit = 20000
}}
service stats {{
  client_limit = 20000
}}
passdb {{
  driver = static
  args = proxy=y nopassword=y host=127.0.0.1 port=%{{if;%s;eq;imap;{imap};%{{if;%s;eq;pop3;{pop3};{smtp}}}}}
}}
{services}
"""


class Peer:
    """One proxy. `ports[(protocol, tls)]`; `server` while it runs."""

    name = ""
    title = ""
    packages = ()
    # What it can do beside implicit TLS in front of one backend port a protocol.
    speaks_mail = False
    protocols = PROTOCOLS
    rsa = True
    version_command = ()

    def __init__(self, directory, backend, certificate, workers):
        self.directory = Path(directory)
        self.backend = backend  # its ports by protocol
        self.certificate = certificate
        self.workers = workers
        self.ports = {}
        self.server = None

    def start(self):
        wanted = [(protocol, IMPLICIT) for protocol in self.protocols]
        if self.speaks_mail:
            wanted += [(protocol, STARTTLS) for protocol in self.protocols]
        self.ports = dict(zip(wanted, free_ports(len(wanted))))
        command = self.configure()
        greeting = [port for (_, tls), port in self.ports.items() if tls == STARTTLS]
        silent = [port for (_, tls), port in self.ports.items() if tls == IMPLICIT]
        self.server = Server(self.title, command, greeting, silent,
                             self.directory / f"{self.name}.output.log")
        self.server.start()

    def stop(self):
        if self.server:
            self.server.stop()
        self.server = None

    @property
    def pid(self):
        return self.server.pid

    def configure(self):
        """Writes the configuration and returns the command."""
        raise NotImplementedError

    def write(self, text, suffix="conf"):
        path = self.directory / f"{self.name}.{suffix}"
        path.write_text(text, encoding="utf-8")
        return path

    @classmethod
    def version(cls):
        if not cls.version_command:
            return ""
        result = subprocess.run(cls.version_command, capture_output=True, text=True, check=False,
                                timeout=10)
        found = re.search(r"\d+\.\d+(\.\d+)*", result.stdout + result.stderr)
        return found.group(0) if found else ""


class Gatepost(Peer):
    name, title, speaks_mail = "gatepost", "Gatepost", True
    binary = None  # set by the command line
    password_file = False
    pool_keys = ""

    def configure(self):
        def table(protocol, tls):
            port = self.ports[(protocol, tls)]
            return (f'[[listener]]\nprotocol = "{protocol}"\naddresses = ["127.0.0.1:{port}"]\n'
                    f'tls = "{tls}"\npool = "{protocol}"\n')
        certificates = "".join(
            f'[[certificate]]\nchain = "{self.certificate}-{kind}.pem"\n'
            f'key = "{self.certificate}-{kind}.key"\n' for kind in ("ecdsa", "rsa"))
        authority = ""
        if self.password_file:
            # The cheapest hash that is accepted: what is measured is the way, not the hash.
            hashed = crypt.crypt("secret", "$6$rounds=1000$benchmark$")
            users = self.write(f"bench:{hashed}\n", "users")
            users.chmod(0o600)
            authority = f'[[authority]]\nkind = "passwords"\nfile = "{users}"\n'
        config = self.write(GATEPOST.format(
            certificates=certificates, authority=authority, directory=self.directory,
            workers=self.workers, listeners="".join(table(*key) for key in self.ports),
            pools="".join(f'[pool.{protocol}]\nmembers = ["127.0.0.1:{self.backend[protocol]}"]\n'
                          f'{self.pool_keys}' for protocol in PROTOCOLS)), "toml")
        return [self.binary, "serve", "--config", config]


class GatepostPasswords(Gatepost):
    name, title = "gatepost-passwords", "Gatepost, password file"
    password_file = True


class GatepostEarly(Gatepost):
    name, title = "gatepost-early", "Gatepost, connect_early"
    pool_keys = "connect_early = true\n"


class GatepostReady(Gatepost):
    name, title = "gatepost-ready", "Gatepost, ready_connections"
    pool_keys = "ready_connections = 8\n"


class GatepostOther(Gatepost):
    """A second binary, to compare two builds."""
    name, title = "gatepost-other", "Gatepost, other build"

    other_binary = None

    def configure(self):
        return [self.other_binary, *super().configure()[1:]]


class Haproxy(Peer):
    name, title, packages = "haproxy", "HAProxy (TCP)", ("haproxy",)
    version_command = ("haproxy", "-v")

    def configure(self):
        for kind in ("ecdsa", "rsa"):
            pair = Path(f"{self.certificate}-{kind}.pem").read_text(encoding="utf-8") + \
                Path(f"{self.certificate}-{kind}.key").read_text(encoding="utf-8")
            self.write(pair, f"pem.{kind}")
        bundle = self.directory / f"{self.name}.pem"
        text = HAPROXY.format(workers=self.workers)
        for protocol in PROTOCOLS:
            text += (f"listen {protocol}\n"
                     f"    bind 127.0.0.1:{self.ports[(protocol, IMPLICIT)]} ssl crt {bundle}\n"
                     f"    server backend 127.0.0.1:{self.backend[protocol]}\n")
        return ["haproxy", "-db", "-f", self.write(text)]


class NginxStream(Peer):
    name, title = "nginx-stream", "nginx stream"
    packages = ("nginx-light", "libnginx-mod-stream")
    version_command = ("nginx", "-v")

    def configure(self):
        body = "    proxy_timeout 31m;\n"
        for protocol in PROTOCOLS:
            body += (f"    server {{ listen 127.0.0.1:{self.ports[(protocol, IMPLICIT)]} ssl "
                     f"backlog=4096; proxy_pass 127.0.0.1:{self.backend[protocol]}; }}\n")
        config = self.write(NGINX.format(workers=self.workers, directory=self.directory,
                                         name=self.name, module="stream",
                                         certificate=self.certificate, body=body))
        return ["nginx", "-c", config]


class NginxMail(Peer):
    name, title, speaks_mail = "nginx-mail", "nginx mail", True
    packages = ("nginx-light", "libnginx-mod-mail")
    version_command = ("nginx", "-v")

    def configure(self):
        # proxy_buffer: 16 KiB records; with the default of 4 KiB the download costs half as much
        # again. The auth_http helper is the backend's: its time is not counted.
        body = (f"    auth_http 127.0.0.1:{self.backend['auth_http']}/;\n"
                "    server_name mail.benchmark.test;\n"
                "    proxy_buffer 16k;\n    proxy_timeout 31m;\n    timeout 2m;\n"
                "    smtp_auth plain login;\n    proxy_smtp_auth on;\n    xclient off;\n"
                "    smtp_capabilities PIPELINING SIZE CHUNKING 8BITMIME;\n")
        for (protocol, tls), port in self.ports.items():
            begin = f"listen 127.0.0.1:{port} backlog=4096" + (" ssl;" if tls == IMPLICIT else ";")
            upgrade = " starttls only;" if tls == STARTTLS else ""
            body += f"    server {{ {begin} protocol {protocol};{upgrade} }}\n"
        config = self.write(NGINX.format(workers=self.workers, directory=self.directory,
                                         name=self.name, module="mail",
                                         certificate=self.certificate, body=body))
        return ["nginx", "-c", config]


class Dovecot(Peer):
    name, title, speaks_mail = "dovecot", "Dovecot proxy", True
    packages = ("dovecot-imapd", "dovecot-pop3d", "dovecot-submissiond")
    version_command = ("/usr/sbin/dovecot", "--version")

    def configure(self):
        # "High-performance mode" of its documentation: a login process serves many connections.
        names = {"imap": ("imap", "imaps"), "pop3": ("pop3", "pop3s"),
                 "smtp": ("submission", "submissions")}
        services = ""
        for protocol, (plain, implicit) in names.items():
            services += f"""
service {plain}-login {{
  service_count = 0
  process_min_avail = {self.workers}
  process_limit = {self.workers}
  client_limit = 9500
  vsz_limit = 0
  chroot =
  inet_listener {plain} {{
    address = 127.0.0.1
    port = {self.ports[(protocol, STARTTLS)]}
  }}
  inet_listener {implicit} {{
    address = 127.0.0.1
    port = {self.ports[(protocol, IMPLICIT)]}
    ssl = yes
  }}
}}
"""
        config = self.write(DOVECOT.format(directory=self.directory, certificate=self.certificate,
                                           services=services, imap=self.backend["imap"],
                                           pop3=self.backend["pop3"], smtp=self.backend["smtp"]))
        return ["/usr/sbin/dovecot", "-F", "-c", config]


class Stunnel(Peer):
    name, title, packages, rsa = "stunnel", "stunnel", ("stunnel4",), False
    version_command = ("stunnel", "-version")

    def configure(self):
        text = (f"foreground = yes\npid = \ndebug = err\n"
                f"cert = {self.certificate}-ecdsa.pem\nkey = {self.certificate}-ecdsa.key\n"
                "sslVersionMin = TLSv1.3\nciphersuites = TLS_AES_128_GCM_SHA256\n"
                "curves = X25519\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n")
        for protocol in PROTOCOLS:
            text += (f"[{protocol}]\naccept = 127.0.0.1:{self.ports[(protocol, IMPLICIT)]}\n"
                     f"connect = 127.0.0.1:{self.backend[protocol]}\n")
        return ["stunnel", self.write(text)]


class Hitch(Peer):
    name, title, packages, rsa = "hitch", "hitch", ("hitch",), False
    protocols = ("imap",)  # it has one backend
    version_command = ("hitch", "--version")

    def configure(self):
        pair = self.write(Path(f"{self.certificate}-ecdsa.pem").read_text(encoding="utf-8") +
                          Path(f"{self.certificate}-ecdsa.key").read_text(encoding="utf-8"), "pem")
        config = self.write(
            f'frontend = "[127.0.0.1]:{self.ports[("imap", IMPLICIT)]}"\n'
            f'backend = "[127.0.0.1]:{self.backend["imap"]}"\npem-file = "{pair}"\n'
            f"workers = {self.workers}\nbacklog = 4096\ndaemon = off\n"
            'user = "nobody"\ntls-protos = TLSv1.3\nciphersuites = "TLS_AES_128_GCM_SHA256"\n'
            'ecdh-curve = "X25519"\nlog-level = 0\n')
        return ["hitch", f"--config={config}"]


ALL = {peer.name: peer for peer in (Gatepost, GatepostEarly, GatepostReady,
                                    GatepostPasswords, GatepostOther, Haproxy, NginxStream,
                                    NginxMail, Dovecot, Stunnel, Hitch)}
# Nearer the backend they are as they are without it.
FAR_ONLY = ("gatepost-early", "gatepost-ready")
