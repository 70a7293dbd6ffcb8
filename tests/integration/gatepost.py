# The harness: runs the real gateway on free loopback ports and looks into it from outside.
#
# GATEPOST_BINARY names the program. Gatepost(...) writes a configuration, starts it, waits for
# /readyz; settled() asserts that no session and no descriptor stayed behind; stop() that it exits
# with 0 and that no sanitizer complained. GatewayTestCase does both after every test.
# SPDX-License-Identifier: Apache-2.0
import atexit
import contextlib
import functools
import http.client
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

from wire import DEADLINE, Wire, poll_until

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "deploy"))
from local_backends import Backends, CertificateAuthority  # noqa: E402

BINARY = pathlib.Path(os.environ.get("GATEPOST_BINARY", SOURCE / "build/dev/gatepost")).resolve()
HOST = "127.0.0.1"
GATE_NAME = "gate.example.test"

SANITIZER_REPORT = re.compile(
    r"ERROR: AddressSanitizer|runtime error:|WARNING: ThreadSanitizer|ERROR: LeakSanitizer"
    r"|LeakSanitizer: detected|SUMMARY: \w*Sanitizer")


@functools.cache
def sanitized():
    """Which sanitizer the program was built with: "address", "thread" or ""."""
    program = BINARY.read_bytes()
    if b"__asan_init" in program:
        return "address"
    return "thread" if b"__tsan_init" in program else ""


@functools.cache
def run_directory():
    """A folder for this run of a test module, removed at its end."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="gatepost-test-"))
    path.chmod(0o755)  # the backends' own users must get through
    if os.environ.get("GATEPOST_KEEP"):
        print(f"keeping {path}")
    else:
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


# ---- ports

# Taken from below the kernel's ephemeral range. The abstract socket reserves a number among all
# test processes of the machine until it is closed: SO_REUSEPORT would let two gateways share one.
class Port:
    def __init__(self):
        for _ in range(1000):
            self.number = random.randint(15000, 32000)
            self._reservation = socket.socket(socket.AF_UNIX)
            try:
                self._reservation.bind(f"\0gatepost-test-port-{self.number}")
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, self.number))
                return
            except OSError:
                self._reservation.close()
        raise AssertionError("no free port")

    def release(self):
        self._reservation.close()


# ---- certificates

class Certificates:
    """A certificate authority with one ECDSA leaf; `chain`, `key` and `ca` are files."""

    def __init__(self, directory, hosts=("localhost", GATE_NAME, HOST), days=20):
        authority = CertificateAuthority(directory)
        self.ca = authority.ca_file
        self.chain, self.key = authority.issue("gate", list(hosts), days=days)

    def client_context(self, version=None, alpn=None):
        context = ssl.create_default_context(cafile=str(self.ca))
        if version:
            context.minimum_version = context.maximum_version = version
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def server_context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


@functools.cache
def certificates():
    return Certificates(run_directory() / "pki")


@functools.cache
def strange_certificates():
    """A certificate that nobody trusts."""
    return Certificates(run_directory() / "strange-pki")


def own_certificate():
    """The keys of a [[certificate]] for certificates()."""
    return {"chain": certificates().chain, "key": certificates().key}


def client_context(version=None, alpn=None):
    return certificates().client_context(version, alpn)


# ---- configuration

def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value) if isinstance(value, int) else json.dumps(str(value))


def table(header, values):
    return "\n".join([header] + [f"{key} = {toml(value)}" for key, value in values.items()]) + "\n"


def address(port):
    return f"{HOST}:{port}"


# ---- what the program says

class Metrics:
    """A parsed /metrics page."""

    SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
    LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

    def __init__(self, text):
        self.text = text
        self.series = []
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = self.SERIES.match(line).groups()
                self.series.append((name, dict(self.LABEL.findall(labels or "")), float(value)))

    def value(self, name, **labels):
        """Sum of the series `name` (without prefix) that have these labels; 0 if there is none."""
        return sum(value for n, have, value in self.series
                   if n == "gatepost_" + name and labels.items() <= have.items())

    def names(self):
        return {name for name, _, _ in self.series}


LOGFMT = re.compile(r'([A-Za-z_][\w.]*)=("(?:[^"\\]|\\.)*"|[^" ]*)(?: |$)')


def parse_logfmt(line):
    """One logfmt line as a dict; raises when a part of it is none."""
    fields, at = {}, 0
    while at < len(line):
        match = LOGFMT.match(line, at)
        if not match:
            raise ValueError(f"not logfmt at column {at}: {line!r}")
        key, value = match.groups()
        fields[key] = json.loads(value) if value.startswith('"') else value
        at = match.end()
    return fields


def descriptors(pid):
    """What the descriptors of a process are, as /proc has it."""
    targets = []
    with contextlib.suppress(OSError):  # it has ended
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed between two looks
                targets.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return targets


class Gatepost:
    """One running gateway.

    `listeners` maps a short name of the test's choice to keys of [[listener]]; its port is
    ports[name], on 127.0.0.1 and, with `ipv6`, on ::1. `pools` maps a pool's name to keys of [pool.NAME]. `certificates` are the keys of
    each [[certificate]], by default the module's own.
    """

    def __init__(self, listeners, pools, authority=None, limits=None, idle_timeout=None,
                 log=None, process=None, max_descriptors=None, hostname=GATE_NAME,
                 certificates=None, ipv6=False, tls=None, users=None, arguments=(),
                 throttle=None, routes=(), admin=None, admin_host=HOST, policy=None):
        self.listeners, self.pools = listeners, pools
        # One [[authority]], or a list of them.
        self.authorities = authority if isinstance(authority, list) else [authority or
                                                                          {"kind": "backend"}]
        self.limits = {"failed_login_delay": "10ms", **(limits or {})}
        # All tests are one address, and many of them guess passwords.
        self.throttle = {"exempt_networks": ["127.0.0.0/8", "::1"]} if throttle is None else throttle
        self.policy = policy or {}
        self.idle_timeout = idle_timeout or {}
        self.log = {"failed_handshake_interval": "0s", **(log or {})}
        self.certificates, self.tls = certificates or [own_certificate()], tls or {}
        self.users = users or {}
        self.process_keys = {"drain_timeout": "10s", "workers": 2, **(process or {})}
        self.max_descriptors, self.hostname, self.ipv6 = max_descriptors, hostname, ipv6
        self.routes = routes  # the keys of each [[route]]
        self.admin, self.admin_host = admin or {}, admin_host
        self.arguments = list(arguments)  # of `gatepost serve`, besides --config
        self.process, self.ports = None, {}
        for attempt in range(5):
            if self._start():
                break
            if attempt == 4 or "in use" not in self.log_text():
                raise AssertionError(f"gatepost did not start:\n{self.log_text()}")
        self.baseline_fds = self._steady_fds()

    def config_text(self):
        parts = [f'hostname = "{self.hostname}"\n']
        parts += [table("[[certificate]]", keys) for keys in self.certificates]
        for name, keys in self.listeners.items():
            parts.append(table("[[listener]]", {
                "name": name, "addresses": [address(self.ports[name])]
                + ([f"[::1]:{self.ports[name]}"] if self.ipv6 else []),
                "pool": next(iter(self.pools)), **keys}))
        for name, keys in self.pools.items():
            # Backends that count their connections are not to be disturbed by checks that go well.
            parts.append(table(f"[pool.{name}]", {"health_interval": "1h", **keys}))
        parts += [table("[[route]]", keys) for keys in self.routes]
        parts += [table("[[authority]]", keys) for keys in self.authorities]
        parts.append(table("[users]", self.users))
        parts.append(table("[tls]", self.tls))
        parts.append(table("[limits]", self.limits))
        parts.append(table("[throttle]", self.throttle))
        parts += [table("[policy]", self.policy)] if self.policy else []
        parts.append(table("[idle_timeout]", self.idle_timeout))
        parts.append(table("[log]", self.log))
        parts.append(table("[admin]", {"address": f"{self.admin_host}:{self.admin_port}",
                                       **self.admin}))
        parts.append(table("[process]", self.process_keys))
        return "\n".join(parts)

    def _start(self):
        self._reserved = {name: Port() for name in [*self.listeners, "\0admin"]}
        self.ports = {name: port.number for name, port in self._reserved.items()}
        self.admin_port = self.ports.pop("\0admin")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="gate-", dir=run_directory()))
        self.config_file = self.directory / "gatepost.toml"
        self.config_file.write_text(self.config_text())
        self.stderr_file = self.directory / "stderr"
        self.process = spawn(["serve", "--config", str(self.config_file), *self.arguments],
                             self.stderr_file, self.max_descriptors)
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self._release_ports()
                return False
            if self.ready():
                return True
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"gatepost is not ready:\n{self.log_text()}")

    def _release_ports(self):
        for port in self._reserved.values():
            port.release()

    # ---- looking into it

    def http(self, path):
        """Status and body of the admin listener's answer."""
        connection = http.client.HTTPConnection(HOST, self.admin_port, timeout=DEADLINE)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def ready(self):
        try:
            return self.http("/readyz")[0] == 200
        except OSError:
            return False

    def metrics(self):
        status, text = self.http("/metrics")
        assert status == 200, text
        return Metrics(text)

    def wait_capabilities(self):
        """Waits until the backends were asked for their capabilities."""
        poll_until(lambda: self.metrics().value("backend_capabilities_known") >= len(self.pools),
                   "backend capabilities")
        self.baseline_fds = self._steady_fds()  # without the connections that asked

    def active(self):
        return int(self.metrics().value("connections_active"))

    def wait_active(self, count):
        poll_until(lambda: self.active() == count, f"{count} active connections")

    def log_text(self):
        return self.stderr_file.read_text(errors="surrogateescape")

    def log_lines(self, **fields):
        """Parsed log lines that have these fields."""
        parse = json.loads if self.log.get("format") == "json" else parse_logfmt
        lines = [parse(line) for line in self.log_text().splitlines()]
        return [line for line in lines if fields.items() <= line.items()]

    def wait_log(self, count=1, **fields):
        """Waits for `count` log lines with these fields and returns them."""
        return poll_until(lambda: (lines := self.log_lines(**fields)) and len(lines) >= count
                          and lines, f"{count} log lines with {fields}")

    def fds(self):
        """What its descriptors are, without /dev/null, which libuv keeps one of a loop from its first
        use, and without the pipes to a sanitizer's symbolizer, a child from the first report that
        is compared with the suppressions."""
        children = {child for task in self._tasks("children") for child in task.split()}
        foreign = {target for child in children for target in descriptors(child)
                   if target.startswith("pipe:")}
        return [target for target in descriptors(self.process.pid)
                if target != "/dev/null" and target not in foreign]

    def _tasks(self, name):
        """The file `name` of every thread in /proc."""
        for file in pathlib.Path(f"/proc/{self.process.pid}/task").glob(f"*/{name}"):
            yield file.read_text()

    def tasks(self):
        """/proc/PID/task/*/status of every thread."""
        return self._tasks("status")

    def _steady_fds(self):
        # The admin server closes a scrape's socket on its own time: wait for two equal looks.
        last = -1
        while (now := len(self.fds())) != last:
            last = now
            self.http("/healthz")
        return now

    def pss(self):
        """Proportional set size in bytes."""
        text = pathlib.Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE).group(1)) * 1024

    def settled(self):
        """Asserts that no connection of either side and no descriptor stays behind."""
        self.wait_active(0)
        poll_until(lambda: self.metrics().value("backend_sessions_active") == 0,
                   "no backend sessions")
        poll_until(lambda: len(self.fds()) <= self.baseline_fds,
                   f"descriptors back to {self.baseline_fds}: {sorted(self.fds())}")

    def reload(self, result="ok"):
        """Sends SIGHUP and returns the line that says what came of it."""
        before = len(self.log_lines(event="reload", trigger="signal"))
        self.process.send_signal(signal.SIGHUP)
        line = self.wait_log(count=before + 1, event="reload", trigger="signal")[-1]
        assert line["result"] == result, line
        return line

    def add_port(self, name):
        """Takes a free port for a listener that comes with a reload."""
        self._reserved[name] = Port()
        self.ports[name] = self._reserved[name].number

    def write_config(self):
        self.config_file.write_text(self.config_text())

    # ---- its control socket

    def control(self, command, *arguments, code=0):
        """Runs a command that asks this gateway, and returns its standard output."""
        result = run_gatepost(command, "--config", self.config_file, *arguments)
        assert result.returncode == code, f"{result.returncode}: {result.stdout}{result.stderr}"
        return result.stdout

    def control_json(self, command, *arguments, code=0):
        return json.loads(self.control(command, "--json", *arguments, code=code))

    # ---- clients

    def connect(self, name, tls=False, **options):
        """A Wire to the listener `name`; `tls`: True or a client context, for implicit TLS."""
        context = client_context() if tls is True else (tls or None)
        return Wire.connect(self.ports[name], tls=context, **options)

    # ---- ending it

    def stop(self, send_signal=signal.SIGTERM):
        """Ends the program; it must exit with 0 and without a sanitizer's report."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None and send_signal:
            process.send_signal(send_signal)
        try:
            code = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"gatepost does not end:\n{self.log_text()[-4000:]}") from None
        finally:
            self._release_ports()
        report = SANITIZER_REPORT.search(self.log_text())
        if report:
            raise AssertionError("sanitizer report:\n" + self.log_text()[report.start():][:8000])
        assert code == 0, f"exit code {code}:\n{self.log_text()[-4000:]}"

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self._release_ports()


def spawn(arguments, stderr_file, max_descriptors=None):
    def limit():
        if max_descriptors:  # the hard limit: the program raises its own up to it
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, max_descriptors), max_descriptors))
    with open(stderr_file, "ab") as stderr:
        return subprocess.Popen([BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=stderr,
                                stderr=stderr, preexec_fn=limit)


def run_gatepost(*arguments, stdin=""):
    """Runs a command of the program to its end."""
    return subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True,
                          text=True, timeout=DEADLINE, check=False)


class GatewayTestCase(unittest.TestCase):
    """Gives tests gateways that must be settled after each test, and that end well.

    A class that sets up `cls.gate` in setUpClass shares it between its tests; start() makes one for
    a single test.
    """

    gate = None
    maxDiff = None

    @classmethod
    def share(cls, *arguments, **keys):
        cls.gate = Gatepost(*arguments, **keys)
        cls.addClassCleanup(cls.gate.stop)
        return cls.gate

    def start(self, *arguments, **keys):
        self.gate = Gatepost(*arguments, **keys)
        self.addCleanup(self.gate.stop)
        self.addCleanup(self._settle, self.gate)
        return self.gate

    @staticmethod
    def _settle(gate):
        if gate.process is not None and gate.process.poll() is None:
            gate.settled()

    def tearDown(self):
        if type(self).gate is not None and type(self).gate.process is not None:
            type(self).gate.settled()


# ---- real backends

def start_backends(**options):
    """Dovecot and Postfix for a test module, until its end; one pair a module."""
    backends = Backends(run_directory() / "backends", **options)
    backends.start()
    unittest.addModuleCleanup(backends.stop)
    return backends


def pools(backends, **keys):
    """One pool a protocol, all over verified TLS."""
    verified = {"ca_file": backends.ca_file, "server_name": backends.server_name, **keys}
    return {
        "stores-imap": {"members": [address(backends.imap_port)], "tls": "starttls", **verified},
        "stores-pop3": {"members": [address(backends.pop3s_port)], "tls": "implicit", **verified},
        "outgoing": {"members": [address(backends.smtp_port)], "tls": "starttls", **verified},
    }


def port_table(cleartext_login="allow", **smtp):
    """The documented port table: port name -> keys of its listener."""
    starttls = {"tls": "starttls", "cleartext_login": cleartext_login}
    implicit = {"tls": "implicit"}
    return {
        "143": {"protocol": "imap", "pool": "stores-imap", **starttls},
        "993": {"protocol": "imap", "pool": "stores-imap", **implicit},
        "110": {"protocol": "pop3", "pool": "stores-pop3", **starttls},
        "995": {"protocol": "pop3", "pool": "stores-pop3", **implicit},
        "25": {"protocol": "smtp", "pool": "outgoing", **starttls, **smtp},
        "26": {"protocol": "smtp", "pool": "outgoing", **starttls, **smtp},
        "587": {"protocol": "smtp", "pool": "outgoing", **starttls, **smtp},
        "465": {"protocol": "smtp", "pool": "outgoing", **implicit, **smtp},
    }
