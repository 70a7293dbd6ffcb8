# The guides in deploy/guides, word by word: the old configuration of each runs in the real program, and
# a client does with it what it then does with Gatepost and the new one.
# SPDX-License-Identifier: Apache-2.0
import base64
import grp
import http.server
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

import clients
from gatepost import (BINARY, HOST, SOURCE, Port, certificates, run_directory, run_gatepost, spawn,
                      start_backends)
from wire import DEADLINE, poll_until

FOLDER = SOURCE / "deploy/guides"
PORT_NUMBERS = {143: "imap", 993: "imap", 110: "pop3", 995: "pop3", 587: "smtp", 465: "smtp"}
IMPLICIT = {993, 995, 465}
CONNECT = {"imap": clients.imap, "pop3": clients.pop3, "smtp": clients.smtp}


def setUpModule():
    global backends, auth
    backends = start_backends()
    auth = AuthService()
    unittest.addModuleCleanup(auth.close)
    both = run_directory() / "both.pem"
    both.write_text(certificates().chain.read_text() + certificates().key.read_text())


def block(guide, language):
    """The first one in that language; it may be part of a list."""
    return re.search(rf"^ *```{language}\n(.*?)^ *```", (FOLDER / guide).read_text(),
                     re.MULTILINE | re.DOTALL)[1]


class AuthService:
    """An auth_http service as people have it: every user of the backends, where their mail lives."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802, the library's name
                user = urllib.parse.unquote(self.headers["Auth-User"])
                good = backends.users.get(user) == urllib.parse.unquote(self.headers["Auth-Pass"])
                port = {"imap": backends.imap_port, "pop3": backends.pop3_port,
                        "smtp": backends.smtp_noauth_port}[self.headers["Auth-Protocol"]]
                self.send_response(200)
                for name, value in ((("Auth-Status", "OK"), ("Auth-Server", HOST), ("Auth-Port", port))
                                    if good else (("Auth-Status", "no"), ("Auth-Wait", 1))):
                    self.send_header(name, str(value))
                self.end_headers()

            def log_message(self, *arguments):
                pass
        self._server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Setup:
    """One of the two configurations at work: `ports` by the well-known number."""

    def __init__(self, text, command):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="guide-", dir=run_directory()))
        self._reserved = {}
        text = self._in_this_place(text)
        self.ports = {str(number): port.number for number, port in self._reserved.items()}
        self.listeners = {str(number): {"protocol": PORT_NUMBERS[number],
                                        "tls": "implicit" if number in IMPLICIT else "starttls"}
                          for number in self._reserved}
        self.process = command(text, self.directory)

    def _port(self, number):
        return str(self._reserved.setdefault(int(number), Port()).number)

    def _in_this_place(self, text):
        """Names, ports and paths of the guide -> those of the test."""
        members = {"store.internal:143": backends.imap_port, "store.internal:110": backends.pop3_port,
                   "store.internal:10143": backends.imap_proxied_port,
                   "relay.internal:25": backends.smtp_noauth_port,
                   "relay.internal:587": backends.smtp_port, "auth.internal:9000": auth.port}
        for name, port in members.items():
            text = text.replace(name, f"{HOST}:{port}")
        text = text.replace("host=store.internal port=%{if;%s;eq;imap;143;110}",
                            f"host={HOST} port=%{{if;%s;eq;imap;{backends.imap_port};"
                            f"{backends.pop3_port}}}")
        for name, file in (("fullchain.pem", certificates().chain), ("privkey.pem", certificates().key),
                           ("both.pem", run_directory() / "both.pem")):
            text = text.replace(f"/etc/gatepost/tls/{name}", str(file))
        text = re.sub(r', "\[::\]:\d+"', "", text)
        for pattern, wanted in ((r'"0\.0\.0\.0:(\d+)"', '"{}:{}"'),  # Gatepost
                                (r"(?<=listen )(\d+)\b", "{}:{}"),  # nginx
                                (r"(?<=bind ):(\d+)\b", "{}:{}"),  # HAProxy
                                (r"(?<=accept = )(\d+)\b", "{}:{}"),  # stunnel
                                (r"(?m)^    port = (\d+)$", "    address = {}\n    port = {}")):  # Dovecot
            text = re.sub(pattern, lambda match, wanted=wanted: wanted.format(
                HOST, self._port(match[1])), text)
        return text

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError((self.directory / "log").read_text())
        try:
            for port in self.ports.values():
                socket.create_connection((HOST, port), timeout=DEADLINE).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(DEADLINE)
        for port in self._reserved.values():
            port.release()


def program(*command):
    """Runs `command` with the configuration in its place of {}."""
    def start(text, directory):
        file = directory / "config"
        file.write_text(text)
        with open(directory / "log", "wb") as output:
            return subprocess.Popen([word.format(file) for word in command], stdin=subprocess.DEVNULL,
                                    stdout=output, stderr=output)
    return start


def nginx(text, directory):
    text = (f"daemon off; pid {directory}/pid; error_log {directory}/error error;\n"
            "include /etc/nginx/modules-enabled/50-mod-mail.conf;\nevents {}\n" + text)
    return program("nginx", "-c", "{}")(text, directory)


def dovecot(text, directory):
    text = (f"base_dir = {directory}/run\nstate_dir = {directory}/state\nlog_path = {directory}/log2\n"
            + text)
    return program("/usr/sbin/dovecot", "-F", "-c", "{}")(text, directory)


def stunnel(text, directory):
    return program("stunnel", "{}")("foreground = yes\npid =\n" + text, directory)


def new(text, directory):
    file = directory / "gatepost.toml"
    file.write_text(text + f'\n[admin]\naddress = "{HOST}:0"\n')
    return spawn(["serve", "--config", str(file)], directory / "log")


class Guides(unittest.TestCase):
    def run_with(self, text, command):
        """The same day of a client: right and wrong logins on every port, and a message where one can."""
        setup = Setup(text, command)
        self.addCleanup(setup.stop)
        poll_until(setup.answers, "every port answers")
        password = backends.users["alice"]
        done = {}
        for name, keys in sorted(setup.listeners.items()):
            connect = CONNECT[keys["protocol"]]
            client = connect(setup, name, "alice", password)
            done[name] = ["logged in"]
            if keys["protocol"] == "smtp":
                message = clients.Message(size=100)
                client.sendmail(message.sender, [message.to], message.data)
                with clients.Store(backends, "bob") as store:
                    store.wait_for(message.id)
                done[name].append("sent")
                client.quit()
            with self.assertRaises(Exception) as refused:
                connect(setup, name, "alice", "wrong")
            done[name].append(type(refused.exception).__name__)
        return done

    def check(self, guide, *old):
        found = [self.run_with(block(guide, language), command) for language, command in old]
        now = self.run_with(block(guide, "toml"), new)
        for before in found:  # all that worked still does; there may be more
            self.assertEqual({name: now[name] for name in before}, before)

    def test_nginx(self):
        self.check("from-nginx-mail.md", ("nginx", nginx))

    def test_dovecot(self):
        self.check("from-dovecot-proxy.md", ("dovecot", dovecot))

    def test_haproxy_and_stunnel(self):
        self.check("from-haproxy-or-stunnel.md", ("haproxy", program("haproxy", "-db", "-f", "{}")),
                   ("stunnel", stunnel))

    def test_every_configuration_is_one(self):
        for guide in sorted(FOLDER.glob("*.md")):
            with self.subTest(guide.name):
                text = block(guide.name, "toml")
                for name, file in (("fullchain.pem", certificates().chain),
                                   ("privkey.pem", certificates().key)):
                    text = text.replace(f"/etc/gatepost/tls/{name}", str(file))
                file = run_directory() / f"{guide.name}.toml"
                file.write_text(text)
                result = run_gatepost("check", file)
                self.assertEqual(result.returncode, 0, result.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "a key of root's, and runuser")
    def test_a_key_of_root_is_readable_for_the_service(self):
        # A copy, since the service's user may not look into the folder of a build.
        program = shutil.copy(BINARY, run_directory() / "gatepost")
        for guide in sorted(path.name for path in FOLDER.glob("from-*.md")):
            with self.subTest(guide):
                key, file = (run_directory() / f"{guide}.{suffix}" for suffix in ("key", "service.toml"))
                key.touch(mode=0o600)
                key.write_text(certificates().key.read_text())

                def here(text, key=key, file=file):
                    for there, path in (("/etc/gatepost/tls/fullchain.pem", certificates().chain),
                                        ("/etc/gatepost/tls/privkey.pem", key),
                                        ("/etc/gatepost/gatepost.toml", file),
                                        ("chgrp gatepost", f"chgrp {grp.getgrgid(65534).gr_name}"),
                                        ("-u gatepost -- gatepost",
                                         f"-u {pwd.getpwuid(65534).pw_name} -- {program}")):
                        text = text.replace(there, str(path))
                    return text

                def run(commands):
                    result = subprocess.run(["sh", "-e", "-c", commands], capture_output=True,
                                            text=True, timeout=DEADLINE, check=False)
                    return result.returncode, result.stderr
                file.write_text(here(block(guide, "toml")))
                commands = here(block(guide, "sh"))
                code, said = run(commands.strip().splitlines()[-1])
                self.assertEqual(code, 2)
                self.assertRegex(said, rf"(?i){re.escape(str(key))}.*permission denied")
                self.assertEqual(run(commands), (0, ""))

    def test_the_pin_is_what_openssl_prints(self):
        # The command of old-backend.md, less its connection.
        command = re.search(r"openssl x509 -noout -pubkey \|\n.*base64",
                            (FOLDER / "old-backend.md").read_text())[0]
        pin = subprocess.run(command, shell=True, input=certificates().chain.read_text(), text=True,
                             capture_output=True, timeout=DEADLINE, check=True).stdout.strip()
        self.assertEqual(len(base64.b64decode(pin)), 32)
