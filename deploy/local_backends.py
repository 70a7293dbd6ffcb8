# Real backends for the demonstration and the tests: Debian's Dovecot and Postfix, started privately.
#
#   with Backends(directory) as backends:
#       imaplib.IMAP4("127.0.0.1", backends.imap_port).login("alice", backends.users["alice"])
#
# Everything lives below `directory`: configuration, mail, queue, logs, sockets, certificates. Nothing
# outside it is read (but the programs) or written; every port is an ephemeral one on 127.0.0.1; no
# mail leaves the machine. Needs root, as both servers do to change to their own users. Packages:
# deploy/install-packages run. Standard library only.
#
# Postfix delivers through Dovecot's LDA, not LMTP: Dovecot 2.3 has no SMTPUTF8 in LMTP.
# SPDX-License-Identifier: Apache-2.0
"""Starts Dovecot and Postfix in a private directory on loopback."""

import base64
import contextlib
import os
import pwd
import secrets
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

DOMAIN = "example.test"
ADDRESS = "127.0.0.1"
MAIL_USER = "mail"  # Debian's own; owns the mailboxes and runs the LDA
START_ATTEMPTS = 3  # a port that was free a moment ago may be taken
START_SECONDS = 20
STOP_SECONDS = 10
MAX_SOCKET_PATH = 107  # sun_path without its NUL


class BackendError(Exception):
    """A backend did not start; the text ends with the last lines of its log."""


class CertificateAuthority:
    """A throw-away certificate authority; `ca_file` is what clients trust."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ca_file = self.directory / "ca.pem"
        self._key = self.directory / "ca.key"
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-days", "30", "-subj", "/CN=Gatepost throw-away CA",
                 "-addext", "basicConstraints=critical,CA:TRUE",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                 "-keyout", self._key, "-out", self.ca_file)

    def issue(self, name, hosts, key_type="ec", days=30):
        """Makes <name>.pem (the chain) and <name>.key for DNS names and IP addresses; -> both paths."""
        chain, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        names = ",".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts)
        extensions.write_text(
            "basicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature,keyEncipherment\n"
            "extendedKeyUsage=serverAuth\n"
            "subjectKeyIdentifier=hash\n"
            "authorityKeyIdentifier=keyid\n"
            f"subjectAltName={names}\n")
        algorithm = {"ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
                     "rsa": ["-newkey", "rsa:2048"]}[key_type]
        _openssl("req", "-new", *algorithm, "-nodes", "-subj", f"/CN={hosts[0]}",
                 "-keyout", key, "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.ca_file, "-CAkey", self._key,
                 "-set_serial", str(secrets.randbits(63)), "-days", str(days),
                 "-extfile", extensions, "-out", chain)
        request.unlink()
        extensions.unlink()
        return chain, key


class Server:
    """One master process: start() returns when every port answers, stop() when all of it is gone."""

    def __init__(self, name, command, ports, tls_ports, log_path, environment=None):
        self.name = name
        self.ports = ports  # those that greet at once
        self.tls_ports = tls_ports
        self.log_path = log_path
        self._command = [str(word) for word in command]
        self._environment = environment or {}
        self._process = None
        self._guard = None

    @property
    def pid(self):
        return self._process.pid if self._process else None

    @property
    def running(self):
        return self._process is not None and not self._has_ended()

    def start(self):
        assert self._process is None, f"{self.name} runs already"
        # A session of its own: Ctrl-C in the terminal reaches us alone, and a signal to the group
        # reaches every process of the server.
        with open(self.log_path, "ab") as log, _signals_deferred():
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **self._environment}, start_new_session=True)
            # Ends the group when this process is gone without a word, even by SIGKILL: the pipe
            # closes. (Linux's parent death signal does not survive the servers' change of user.)
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", 'read -r line || kill -s TERM -- "-$1"', "guard", str(self.pid)],
                stdin=subprocess.PIPE, start_new_session=True)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        process, self._process = self._process, None
        if process is None:
            return
        self._guard.communicate(b"stopped\n")
        # To the whole process group at once: Dovecot's master would wait a second for its children.
        # The master is not reaped yet, dead or alive, so the group's number cannot be another's.
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _group_lives(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log_tail(self, lines=15):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def _has_ended(self):
        # Without reaping it: stop() needs the process group's number to stay ours.
        return bool(os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        for port in self.ports + self.tls_ports:
            while not _answers(port, greets=port in self.ports):
                if self._has_ended():
                    raise BackendError(f"{self.name} ended at once:\n{self.log_tail()}")
                if time.monotonic() > deadline:
                    raise BackendError(f"{self.name} does not listen on {port} after "
                                       f"{START_SECONDS} s:\n{self.log_tail()}")
                time.sleep(0.02)


class Backends:
    """Dovecot and Postfix with one set of users.

    auth                  lines of Dovecot's configuration about other ways to log in
    users                 user name -> password; the mail address is <user>@example.test
    master_user, master_password   an account that may act for every user (SASL PLAIN's authorization
                          identity)
    imap_port, pop3_port  cleartext and STARTTLS/STLS; imaps_port, pop3s_port: implicit TLS
    smtp_port             cleartext and STARTTLS, relays for authenticated users only
    smtps_port            the same with implicit TLS
    smtp_noauth_port      an old server without AUTH that trusts whoever connects
    smtp_mx_port          a mail exchanger: mail for the users from everybody, without AUTH; it expects
                          the PROXY protocol first
    imap_proxied_port, smtp_proxied_port   as imap_port and smtp_port, and pop3s_proxied_port as
                          pop3s_port, but they expect the PROXY protocol first
    ca_file, server_name  what to verify the backends' certificate with
    dovecot, postfix      Server: stop() and start() one of them alone, on the same ports
    dovecot_log, postfix_log, delivery_log
    """

    server_name = "localhost"
    domain = DOMAIN
    address = ADDRESS

    def __init__(self, directory, users=None, authority=None, auth=""):
        self.directory = Path(directory).resolve()
        self.users = dict(users or {name: secrets.token_urlsafe(12) for name in ("alice", "bob")})
        self.master_user, self.master_password = "gate", secrets.token_urlsafe(12)
        self.authority = authority
        self.auth = auth
        self.ca_file = None
        self.dovecot = self.postfix = None
        self.dovecot_log = self.directory / "dovecot.log"
        self.postfix_log = self.directory / "postfix.log"
        self.delivery_log = self.directory / "mail" / "delivery.log"
        self._dovecot_config = self.directory / "dovecot.conf"

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.stop()

    def start(self):
        """Writes the configuration and starts both servers; on failure neither stays behind."""
        if os.geteuid() != 0:
            raise BackendError("Dovecot and Postfix need root to change to their own users")
        longest = self.directory / "queue/private/dovecot-delivery"
        if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
            raise BackendError(f"{self.directory}: too long a path for Unix sockets")
        self.directory.mkdir(parents=True, exist_ok=True)
        # The servers' own users must get through; mkdtemp makes 0700.
        self.directory.chmod(0o755)
        for parent in self.directory.parents:
            if not parent.stat().st_mode & stat.S_IXOTH:
                raise BackendError(f"{parent} must let the users mail, dovecot and postfix through "
                                   "(mode 0755)")
        if self.authority is None:
            self.authority = CertificateAuthority(self.directory / "tls")
        self.ca_file = self.authority.ca_file
        self._chain, self._key = self.authority.issue("backend", [self.server_name, self.address])
        self._write_users()
        for attempt in range(1, START_ATTEMPTS + 1):
            self._choose_ports()
            self._configure_dovecot()
            self._configure_postfix()
            try:
                self.dovecot.start()
                self.postfix.start()
                return self
            except BackendError as error:
                self.stop()
                if attempt == START_ATTEMPTS or "Address already in use" not in str(error):
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self):
        for server in (self.postfix, self.dovecot):
            if server:
                server.stop()

    def doveadm(self, *arguments):
        """Runs doveadm on these mailboxes and returns what it prints."""
        return _run("doveadm", "-c", self._dovecot_config, *arguments)

    def empty_mailbox(self, user):
        """Removes every message of every folder of `user`."""
        self.doveadm("expunge", "-u", user, "mailbox", "*", "all")

    def message_count(self, user, mailbox="INBOX"):
        """Counts the messages of one folder, without a login."""
        status = self.doveadm("mailbox", "status", "-u", user, "messages", mailbox)
        return int(status.rsplit("messages=", 1)[1])

    def deliver(self, user, message):
        """Puts `message` (bytes) into the INBOX of `user` without SMTP."""
        _run("doveadm", "-c", self._dovecot_config, "save", "-u", user, input=message)

    def _write_users(self):
        self._write_passwords("users", self.users)
        self._write_passwords("masters", {self.master_user: self.master_password})
        mail = self.directory / "mail"
        mail.mkdir(exist_ok=True)
        owner = pwd.getpwnam(MAIL_USER)
        os.chown(mail, owner.pw_uid, owner.pw_gid)

    def _write_passwords(self, name, users):
        # A password file of Dovecot, user:password, for its auth process alone.
        # Base64 lets a password have a colon.
        lines = [f"{user}:{{PLAIN.b64}}{base64.b64encode(password.encode()).decode()}\n"
                 for user, password in users.items()]
        _write(self.directory / name, "".join(lines), 0o640)
        os.chown(self.directory / name, 0, pwd.getpwnam("dovecot").pw_gid)

    def _choose_ports(self):
        (self.imap_port, self.imaps_port, self.pop3_port, self.pop3s_port, self.smtp_port,
         self.smtps_port, self.smtp_noauth_port, self.imap_proxied_port, self.pop3s_proxied_port,
         self.smtp_proxied_port, self.smtp_mx_port) = free_ports(11)

    def _configure_dovecot(self):
        owner = pwd.getpwnam(MAIL_USER)
        _write(self._dovecot_config, DOVECOT_CONFIG.format(
            directory=self.directory, address=ADDRESS, auth=self.auth, log=self.dovecot_log, delivery_log=self.delivery_log,
            chain=self._chain, key=self._key, uid=owner.pw_uid, gid=owner.pw_gid, user=MAIL_USER,
            imap_port=self.imap_port, imaps_port=self.imaps_port,
            pop3_port=self.pop3_port, pop3s_port=self.pop3s_port,
            imap_proxied_port=self.imap_proxied_port, pop3s_proxied_port=self.pop3s_proxied_port))
        self.dovecot = Server("Dovecot", ["/usr/sbin/dovecot", "-F", "-c", self._dovecot_config],
                              [self.imap_port, self.pop3_port],
                              [self.imaps_port, self.pop3s_port, self.imap_proxied_port,
                               self.pop3s_proxied_port], self.dovecot_log)

    def _configure_postfix(self):
        config = self.directory / "postfix"
        config.mkdir(exist_ok=True)
        mailboxes = ", ".join(f"{{{user}@{DOMAIN} = {user}}}" for user in self.users)
        _write(config / "main.cf", POSTFIX_MAIN.format(
            directory=self.directory, domain=DOMAIN, address=ADDRESS, mailboxes=mailboxes,
            log=self.postfix_log, chain=self._chain, key=self._key))
        _write(config / "master.cf", POSTFIX_MASTER.format(
            address=ADDRESS, smtp_port=self.smtp_port, smtps_port=self.smtps_port,
            smtp_noauth_port=self.smtp_noauth_port, smtp_proxied_port=self.smtp_proxied_port,
            smtp_mx_port=self.smtp_mx_port,
            user=MAIL_USER, config=self._dovecot_config))
        # Postfix takes a file of this very second for one that is being edited, and waits.
        for name in ("main.cf", "master.cf"):
            os.utime(config / name, (time.time() - 60,) * 2)
        self._make_queue()
        # Without the postfix(1) command, which checks and repairs the system's own installation; but
        # with what it sets so that errors before postlogd runs reach our log, not syslog.
        self.postfix = Server("Postfix", ["/usr/lib/postfix/sbin/master", "-c", config, "-d"],
                              [self.smtp_port, self.smtp_noauth_port],
                              [self.smtps_port, self.smtp_proxied_port, self.smtp_mx_port],
                              self.postfix_log,
                              {"POSTLOG_SERVICE": f"{self.directory}/queue/public/postlog",
                               "POSTLOG_HOSTNAME": f"backend.{DOMAIN}"})

    def _make_queue(self):
        # The layout and the owners of /etc/postfix/postfix-files.
        owner = pwd.getpwnam("postfix")
        queue = self.directory / "queue"
        queue.mkdir(exist_ok=True)
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming",
                     "private", "public", "saved", "trace"):
            _make_owned(queue / name, owner, 0o755 if name == "public" else 0o700)
        (queue / "pid").mkdir(exist_ok=True)
        _make_owned(self.directory / "postfix-data", owner, 0o700)


def free_ports(count):
    """Picks `count` different TCP ports of loopback that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for candidate in sockets:
            candidate.bind((ADDRESS, 0))
        return [candidate.getsockname()[1] for candidate in sockets]
    finally:
        for candidate in sockets:
            candidate.close()


@contextlib.contextmanager
def _signals_deferred():
    """Holds back what would raise between a process's start and our knowing of it.

    By handlers and not by a mask, which the new process would inherit. Python runs handlers in the
    main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = []
    handlers = {number: signal.signal(number, lambda number, _: held.append(number))
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in held:
            signal.raise_signal(number)


def _answers(port, greets):
    try:
        with socket.create_connection((ADDRESS, port), timeout=2) as connection:
            return not greets or connection.recv(512) != b""
    except OSError:
        return False


def _group_lives(group):
    # Zombies do not count: whoever adopted the master's children may be slow to reap them.
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            status = Path(entry.path, "stat").read_text(errors="replace")
        except OSError:
            continue  # ended meanwhile
        state, _, process_group = status.rpartition(")")[2].split()[:3]
        if int(process_group) == group and state not in "ZX":
            return True
    return False


def _make_owned(directory, owner, mode):
    directory.mkdir(exist_ok=True)
    directory.chmod(mode)
    os.chown(directory, owner.pw_uid, owner.pw_gid)


def _write(path, text, mode=0o644):
    path.write_text(text)
    path.chmod(mode)


def _is_address(host):
    return ":" in host or host.replace(".", "").isdigit()


def _run(*command, **options):
    command = [str(word) for word in command]
    result = subprocess.run(command, capture_output=True, check=False, **options)
    if result.returncode != 0:
        raise BackendError(f"{' '.join(command)}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout.decode(errors="replace")


def _openssl(*arguments):
    _run("openssl", *arguments)


DOVECOT_CONFIG = """\
base_dir = {directory}/dovecot
state_dir = {directory}/dovecot
log_path = {log}
log_timestamp = "%Y-%m-%d %H:%M:%S "
auth_verbose = yes
protocols = imap pop3
listen = {address}

ssl = yes
ssl_cert = <{chain}
ssl_key = <{key}
ssl_min_protocol = TLSv1.2

# The gateway stands between: this server sees loopback only, trusts it and takes cleartext logins.
disable_plaintext_auth = no
login_trusted_networks = 127.0.0.0/8
haproxy_trusted_networks = 127.0.0.0/8
auth_mechanisms = plain login
{auth}
auth_username_format = %Ln
auth_failure_delay = 0
mail_max_userip_connections = 1000
imap_id_log = *

mail_location = maildir:~/Maildir
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = {uid}
first_valid_gid = {gid}
mailbox_idle_check_interval = 1s
pop3_uidl_format = %g

# Whom the master acts for must be a user all the same.
passdb {{
  driver = passwd-file
  args = {directory}/masters
  master = yes
  result_success = continue
}}
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={directory}/mail/%Ln
}}

protocol lda {{
  # Postfix runs it as {user}, who may not write to the servers' log.
  log_path = {delivery_log}
}}

service imap-login {{
  service_count = 0
  client_limit = 2000
  process_min_avail = 1
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = {imaps_port}
    ssl = yes
  }}
  inet_listener imap-proxied {{
    port = {imap_proxied_port}
    haproxy = yes
  }}
}}
service pop3-login {{
  service_count = 0
  client_limit = 2000
  process_min_avail = 1
  inet_listener pop3 {{
    port = {pop3_port}
  }}
  inet_listener pop3s {{
    port = {pop3s_port}
    ssl = yes
  }}
  inet_listener pop3s-proxied {{
    port = {pop3s_proxied_port}
    ssl = yes
    haproxy = yes
  }}
}}
service imap {{
  process_limit = 2000
}}
service pop3 {{
  process_limit = 2000
}}
service auth {{
  client_limit = 8000
  unix_listener smtpd {{
    mode = 0600
    user = postfix
  }}
  unix_listener auth-userdb {{
    mode = 0600
    user = {user}
  }}
}}
service anvil {{
  client_limit = 8000
  # No growing delay for failed logins: they all come from one address.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  client_limit = 8000
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""

POSTFIX_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/postfix-data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {log}
maillog_file_prefixes = {directory}

inet_interfaces = {address}
# Only so that a proxy may tell of an IPv6 client: what it says is refused otherwise.
inet_protocols = all
myhostname = backend.{domain}
mydomain = {domain}
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
default_process_limit = 300

# Local users only; whatever else is accepted goes nowhere.
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_transport = dovecot
default_transport = error:no mail leaves this machine
relay_transport = error:no mail leaves this machine
disable_dns_lookups = yes
smtpd_peername_lookup = no
biff = no

# An empty list of our networks: a client may send when it has logged in, not because it is near.
mynetworks =
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {directory}/dovecot/smtpd
smtpd_sasl_security_options = noanonymous
broken_sasl_auth_clients = no
smtpd_tls_security_level = may
smtpd_tls_chain_files = {key}, {chain}
smtpd_tls_auth_only = no
smtpd_tls_loglevel = 1

# Trusts its clients as a server behind a proxy does: the gateway must not pass XCLIENT on.
smtpd_authorized_xclient_hosts = 127.0.0.0/8
smtpd_authorized_xforward_hosts = 127.0.0.0/8
smtpd_client_event_limit_exceptions = 127.0.0.0/8
smtpd_error_sleep_time = 0
smtpd_delay_reject = yes
message_size_limit = 62914560
mailbox_size_limit = 0
virtual_mailbox_limit = 0
dovecot_destination_recipient_limit = 1
"""

# service type private unpriv chroot wakeup maxproc command
POSTFIX_MASTER = """\
{address}:{smtp_port} inet n - n - - smtpd
{address}:{smtps_port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
{address}:{smtp_proxied_port} inet n - n - - smtpd
  -o smtpd_upstream_proxy_protocol=haproxy
{address}:{smtp_mx_port} inet n - n - - smtpd
  -o smtpd_upstream_proxy_protocol=haproxy
  -o smtpd_sasl_auth_enable=no
  -o smtpd_relay_restrictions=reject_unauth_destination
  -o smtpd_recipient_restrictions=reject_unauth_destination
{address}:{smtp_noauth_port} inet n - n - - smtpd
  -o smtpd_sasl_auth_enable=no
  -o mynetworks=127.0.0.0/8
  -o smtpd_relay_restrictions=permit_mynetworks,reject
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
error     unix - - n - - error
retry     unix - - n - - error
anvil     unix - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
dovecot   unix - n n - 4 pipe
  flags=ODRu user={user} argv=/usr/lib/dovecot/dovecot-lda -c {config} -f ${{sender}} -d ${{user}}
"""
