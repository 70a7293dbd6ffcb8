# The Debian package: what is in it, and that it installs, starts, logs somebody in and leaves.
#
# It is installed into this very system, of which a mount namespace sees an overlay: dpkg, its database,
# the maintainer scripts and the dependencies are the real ones, and nothing of it remains.
# SPDX-License-Identifier: Apache-2.0
import os
import re
import ssl
import subprocess
import unittest

import clients
from fault_servers import RecordingImap
from gatepost import BINARY, HOST, SOURCE, Port, run_directory, run_gatepost, sanitized
from overlay import Overlay
from wire import DEADLINE, Wire, poll_until

FOLDER = SOURCE / "deploy/debian"

def run(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                            timeout=DEADLINE, check=False, **options)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


class Texts(unittest.TestCase):
    """The manual page and the completion know the commands and options of the program, and no others."""

    @classmethod
    def setUpClass(cls):
        text = run_gatepost("--help").stdout
        cls.commands = set(re.findall(r"^  ([a-z][a-z-]+)  ", text[text.index("Subcommands:"):],
                                      re.MULTILINE))
        cls.options = set()
        for said in [text, *(run_gatepost(command, "--help").stdout for command in cls.commands)]:
            cls.options |= set(re.findall(r"--[a-z][a-z-]+", said[said.index("Options:"):]))

    def test_manual_page(self):
        page = run("man", "--warnings", "-l", FOLDER / "gatepost.8",
                   env={**os.environ, "MANWIDTH": "1000", "LC_ALL": "C"})
        self.assertEqual(set(re.findall(r"--[a-z][a-z-]+", page)), self.options)
        section = page[page.index("\nCOMMANDS"):page.index("\nOPTIONS")]
        self.assertEqual(set(re.findall(r"^       ([a-z-]+)", section, re.MULTILINE)), self.commands)

    def complete(self, *words):
        script = (f'. "{FOLDER}/gatepost.bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _gatepost; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        return set(run("bash", "-c", script, "bash", "gatepost", *words).split())

    def test_completion(self):
        self.assertEqual(self.complete(""), self.commands | {"--help", "--version"})
        self.assertEqual(self.complete("ha"), {"hash-password"})
        offered = set().union(*(self.complete(command, "--") for command in self.commands))
        self.assertEqual(offered | {"--version"}, self.options)
        self.assertIn("/etc/passwd", self.complete("serve", "--config", "/etc/passw"))


@unittest.skipIf(sanitized(), "a package of a sanitizer's build is of no use")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = run_directory() / "package"
        folder.mkdir()
        run("cpack", "-G", "DEB", "-B", folder, "--config", BINARY.parent / "CPackConfig.cmake",
            cwd=folder)
        cls.file = next(folder.glob("gatepost_*.deb"))
        cls.overlay = Overlay()
        cls.addClassCleanup(cls.overlay.close)

    def test_its_life(self):
        self.looks_like_a_package()
        said = self.overlay.run(f"DEBIAN_FRONTEND=noninteractive dpkg -i {self.file}")
        self.assertIn("systemctl enable --now gatepost", said)
        self.overlay.run("gatepost check")  # as installed, with the certificate that postinst made
        self.starts_and_logs_in()
        # What somebody has changed survives an upgrade, and a removal.
        self.overlay.run("echo '# mine' >> /etc/gatepost/gatepost.toml")
        before = self.overlay.run("cat /etc/gatepost/tls/self-signed.crt")
        self.overlay.run(f"DEBIAN_FRONTEND=noninteractive dpkg -i {self.file}")
        self.assertEqual(self.overlay.run("cat /etc/gatepost/tls/self-signed.crt"), before)
        self.overlay.run("dpkg -r gatepost")
        self.assertIn("# mine", self.overlay.run("cat /etc/gatepost/gatepost.toml"))
        self.overlay.run("test ! -e /usr/bin/gatepost")
        self.overlay.run("dpkg -P gatepost")
        self.overlay.run("test ! -e /etc/gatepost && test ! -e /etc/fail2ban/filter.d/gatepost.conf")

    def looks_like_a_package(self):
        control = run("dpkg-deb", "--field", self.file)
        for library in ("libuv1", "libstdc++6", "libtomlplusplus3", "android-libboringssl"):
            self.assertRegex(control, rf"(?m)^Depends:.*\b{re.escape(library)}")
        self.assertNotIn("libssl3", control)
        contents = run("dpkg-deb", "--contents", self.file)
        for line in contents.splitlines():
            self.assertRegex(line, r"^\S+ root/root ")
            self.assertNotRegex(line.split()[0], r"^-.{4}w|^-.{7}w")  # writable for others
        for path in ("usr/bin/gatepost", "usr/lib/systemd/system/gatepost.service",
                     "usr/lib/sysusers.d/gatepost.conf", "etc/gatepost/gatepost.toml",
                     "etc/fail2ban/filter.d/gatepost.conf", "usr/share/man/man8/gatepost.8",
                     "usr/share/bash-completion/completions/gatepost",
                     "usr/share/gatepost/grafana/gatepost.json",
                     "usr/share/gatepost/prometheus/gatepost.rules.yml",
                     "usr/share/doc/gatepost/copyright"):
            self.assertRegex(contents, rf"(?m) \./{re.escape(path)}$")

    def starts_and_logs_in(self):
        """As the unit starts it: as gatepost, with one capability and no way to more."""
        with RecordingImap(users={"u": "p"}) as backend:
            ports = [Port() for _ in range(4)]
            imap, pop3, smtp, admin = (port.number for port in ports)
            self.overlay.run(
                f"sed -e 's/0.0.0.0:993/{HOST}:{imap}/; s/0.0.0.0:995/{HOST}:{pop3}/; "
                f"s/0.0.0.0:465/{HOST}:{smtp}/; s/, \"\\[::\\]:[0-9]*\"//; "
                f"s/127.0.0.1:143/{backend.member}/; "
                f"s/^\\[admin\\]$/&\\naddress = \"{HOST}:{admin}\"/' /etc/gatepost/gatepost.toml "
                "> /etc/gatepost/test.toml; "
                # As RuntimeDirectory= makes it.
                "install -d -o gatepost -g gatepost -m 750 /run/gatepost; "
                "chgrp gatepost /etc/gatepost/test.toml; chmod 640 /etc/gatepost/test.toml")
            command = re.search(r"^ExecStart=(.*) /etc/gatepost/gatepost.toml$",
                                (SOURCE / "deploy/systemd/gatepost.service").read_text(),
                                re.MULTILINE)[1]
            self.overlay.run(
                "setpriv --reuid gatepost --regid gatepost --clear-groups --no-new-privs "
                "--inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service "
                "--bounding-set=-all,+net_bind_service "
                f"{command} /etc/gatepost/test.toml > /tmp/gatepost.log 2>&1 & echo $! > /tmp/pid")
            try:
                wire = poll_until(lambda: connected(imap), "the gateway listens")
                with wire:
                    clients.greeting(wire)
                    self.assertTrue(clients.login(wire, "imap", "u", "p").startswith("l OK"))
                    self.assertIn(" imap ", self.overlay.run("gatepost sessions"))
            finally:
                self.overlay.run("kill $(cat /tmp/pid); cat /tmp/gatepost.log")
                self.overlay.run("while kill -0 $(cat /tmp/pid); do sleep 0.05; done")
                self.overlay.run("rm /etc/gatepost/test.toml /tmp/gatepost.log")
                for port in ports:
                    port.release()


def connected(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # signed by nobody
    try:
        return Wire.connect(port, tls=context)
    except OSError:
        return None
