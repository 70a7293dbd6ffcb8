# Starts the real backends and Gatepost on loopback, makes the tour, stays until Ctrl-C, cleans up.
#
# deploy/quickstart calls it as root when packages and binary are there. All that it writes lies in
# one temporary directory; all that it starts is ended by process id, however it ends itself.
# SPDX-License-Identifier: Apache-2.0
"""The part of deploy/quickstart that runs as root."""

import argparse
import contextlib
import errno
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from local_backends import (ADDRESS, BackendError, Backends, CertificateAuthority, DOMAIN, Server,
                            free_ports)
from tour import Printer, Tour

HOST_NAME = f"mail.{DOMAIN}"
ADMIN_PORT = 9143
UNPRIVILEGED_USER = "nobody"

# The documented port table: protocol, port, TLS.
LISTENERS = [
    ("imap", 143, "starttls"),
    ("imap", 993, "implicit"),
    ("pop3", 110, "starttls"),
    ("pop3", 995, "implicit"),
    ("smtp", 25, "starttls"),
    ("smtp", 26, "starttls"),
    ("smtp", 587, "starttls"),
    ("smtp", 465, "implicit"),
]
PROTOCOLS = ("imap", "pop3", "smtp")


class Interruption:
    """Ctrl-C and the like as SystemExit, once; raise_again for who may have swallowed it."""

    def __init__(self):
        self.number = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)

    def raise_again(self):
        if self.number is not None:
            raise SystemExit(128 + self.number)

    def _handle(self, number, _frame):
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)  # the cleaning up is under way
        self.number = number
        self.raise_again()


def main():
    options = parse_arguments()
    sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)
    require_free_ports(options.port_offset)
    interruption = Interruption()
    with contextlib.ExitStack() as cleanup:
        directory = Path(tempfile.mkdtemp(prefix="gatepost-"))
        cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)  # the backends' own users must get through
        try:
            return run(options, directory, cleanup, interruption)
        except (BackendError, OSError) as error:
            print(f"quickstart: {error}", file=sys.stderr)
            return 1


def run(options, directory, cleanup, interruption):
    printer = Printer()
    authority = CertificateAuthority(directory / "tls")
    certificate = authority.issue("gatepost", [HOST_NAME, "localhost", ADDRESS])

    backends = Backends(directory / "backends", authority=authority)
    cleanup.callback(backends.stop)
    backends.start()

    ports = {port: port + options.port_offset for _, port, _ in LISTENERS}
    ports.update(zip((f"{protocol}-strict" for protocol in PROTOCOLS), free_ports(3)))
    config = directory / "gatepost.toml"
    config.write_text(configuration(backends, certificate, ports, ADMIN_PORT + options.port_offset))
    gateway = Server("Gatepost", [options.gatepost, "serve", "--config", config],
                     [port for name, port in ports.items() if name not in (993, 995, 465)],
                     [ports[port] for port in (993, 995, 465)], directory / "gatepost.log")
    cleanup.callback(gateway.stop)
    gateway.start()

    metrics_url = f"http://{ADDRESS}:{ADMIN_PORT + options.port_offset}/metrics"
    printer.plain(f"Gatepost serves {', '.join(str(ports[port]) for _, port, _ in LISTENERS)} on "
                  f"{ADDRESS}, in front of\n"
                  f"Dovecot on {backends.imap_port} (IMAP) and {backends.pop3_port} (POP3) and "
                  f"Postfix on {backends.smtp_port}. C: is what a client sends,\n"
                  "S: what it gets from Gatepost.")
    tour = Tour(printer, ADDRESS, ports, HOST_NAME, authority.ca_file, backends.users, DOMAIN,
                metrics_url)
    tour.run(interruption.raise_again)
    printer.plain()
    if tour.failures:
        printer.bad(f"{len(tour.failures)} steps failed: {'; '.join(tour.failures)}")
        printer.plain(f"\nThe end of Gatepost's log:\n{gateway.log_tail()}")
    else:
        printer.good("every step of the tour succeeded")
    if options.once:
        return 1 if tour.failures else 0

    printer.plain(hints(backends, authority, ports, metrics_url, gateway, config))
    try:
        while gateway.running and backends.dovecot.running and backends.postfix.running:
            time.sleep(0.5)
    except SystemExit:
        if interruption.number != signal.SIGINT:
            raise
        printer.plain("\nStopping, and removing everything.")
        return 0
    raise BackendError(f"a server ended by itself:\n{gateway.log_tail()}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gatepost", type=Path, required=True, help="the gateway's binary")
    parser.add_argument("--port-offset", type=int, default=0)
    parser.add_argument("--once", action="store_true")
    return parser.parse_args()


def require_free_ports(offset):
    """Ends with a useful message when a documented port is taken."""
    busy = []
    for port in [port + offset for _, port, _ in LISTENERS] + [ADMIN_PORT + offset]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ADDRESS, port))
            except OSError as error:
                if error.errno == errno.EACCES:
                    sys.exit(f"quickstart: port {port} needs root")
                busy.append(f"  {port}{owner_of(port)}")
    if busy:
        print("quickstart: these ports are taken:", *busy, "Stop what has them, or choose others:",
              f"  deploy/quickstart --port-offset {10000 if offset != 10000 else 20000}",
              sep="\n", file=sys.stderr)
        sys.exit(2)


def owner_of(port):
    try:
        listing = subprocess.run(["ss", "-H", "-ltnp", f"sport = :{port}"], capture_output=True,
                                 text=True, check=False).stdout
    except FileNotFoundError:
        return ""
    match = re.search(r'\("([^"]+)",pid=(\d+)', listing)
    return f" by {match[1]}, process {match[2]}" if match else ""


def configuration(backends, certificate, ports, admin_port):
    chain, key = certificate
    pool = {"imap": "stores", "pop3": "stores-pop3", "smtp": "outgoing"}
    member = {"imap": backends.imap_port, "pop3": backends.pop3_port, "smtp": backends.smtp_port}
    parts = [f'''\
# Written by deploy/quickstart: the documented port table in front of one Dovecot and one Postfix.
hostname = "{HOST_NAME}"

[[certificate]]
chain = "{chain}"
key = "{key}"
''']
    for protocol, port, tls in LISTENERS:
        # The table has a row without encryption for each STARTTLS port.
        cleartext = 'cleartext_login = "allow"\n' if tls == "starttls" else ""
        parts.append(f'''\
[[listener]]
name = "{protocol}-{port}"
protocol = "{protocol}"
addresses = ["{ADDRESS}:{ports[port]}"]
tls = "{tls}"
{cleartext}pool = "{pool[protocol]}"
''')
    for protocol in PROTOCOLS:
        parts.append(f'''\
[[listener]]  # cleartext_login is "deny" by default
name = "{protocol}-strict"
protocol = "{protocol}"
addresses = ["{ADDRESS}:{ports[f"{protocol}-strict"]}"]
pool = "{pool[protocol]}"
''')
    for protocol in PROTOCOLS:
        parts.append(f'''\
[pool.{pool[protocol]}]
members = ["{ADDRESS}:{member[protocol]}"]
tls = "starttls"
ca_file = "{backends.ca_file}"
server_name = "{backends.server_name}"
''')
    parts.append(f'''\
[[authority]]
kind = "backend"

[admin]
address = "{ADDRESS}:{admin_port}"

[process]
user = "{UNPRIVILEGED_USER}"
drain_timeout = "2s"
''')
    return "\n".join(parts)


def hints(backends, authority, ports, metrics_url, gateway, config):
    users = "\n".join(f"    {f'{user}@{DOMAIN}':<20} user {user:<6} password {password}"
                      for user, password in backends.users.items())
    return f'''
Gatepost keeps running. For your own mail program:

    server   {ADDRESS}, certificate for {HOST_NAME} and localhost
    CA       {authority.ca_file}
    IMAP     {ports[993]} TLS, {ports[143]} STARTTLS or none
    POP3     {ports[995]} TLS, {ports[110]} STARTTLS or none
    SMTP     {ports[465]} TLS, {ports[587]} {ports[25]} {ports[26]} STARTTLS or none, with authentication

{users}

    curl --cacert {authority.ca_file} -u alice:{backends.users["alice"]} imaps://localhost:{ports[993]}/INBOX

    metrics  {metrics_url}
    config   {config}
    logs     {gateway.log_path}
             {backends.dovecot_log}
             {backends.postfix_log}

Ctrl-C stops everything and removes it.'''


if __name__ == "__main__":
    sys.exit(main())
