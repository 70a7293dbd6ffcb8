# The command line: what a person types and reads.
# SPDX-License-Identifier: Apache-2.0
import crypt
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
import warnings

from fault_servers import refused_port
from gatepost import (BINARY, HOST, SOURCE, Gatepost, Port, certificates, run_directory,
                      run_gatepost, strange_certificates)

warnings.filterwarnings("ignore", category=DeprecationWarning)

GOOD = """\
hostname = "mail.example.org"

[[certificate]]
chain = "chain.pem"
key = "key.pem"

[[listener]]
protocol = "imap"
addresses = ["127.0.0.1:1143"]
pool = "stores"

[pool.stores]
members = ["store1.internal:143"]

[[authority]]
kind = "backend"
"""


class Commands(unittest.TestCase):
    def test_version(self):
        result = run_gatepost("version")
        self.assertEqual(result.returncode, 0)
        for word in (r"gatepost \d+\.\d+\.\d+", "BoringSSL", r"libuv \d", "compiler"):
            self.assertRegex(result.stdout, word)

    def test_help(self):
        result = run_gatepost("--help")
        self.assertEqual(result.returncode, 0)
        for command in ("serve", "check", "hash-password", "version"):
            self.assertRegex(result.stdout, rf"(?m)^\s+{command}\s+\S")
        self.assertIn("--config", run_gatepost("serve", "--help").stdout)

    def test_misuse(self):
        for arguments in ((), ("nonsense",), ("serve", "--nonsense"), ("check", "a", "b")):
            result = run_gatepost(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertTrue(result.stderr + result.stdout)

    def test_an_unknown_command_is_named(self):
        for arguments in (("sesions",), ("sesions", "--json"), ("--json", "sesions")):
            result = run_gatepost(*arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn('no subcommand "sesions"; did you mean sessions?', result.stderr)
        self.assertIn("A subcommand is required", run_gatepost().stderr)
        self.assertIn("--nonsense", run_gatepost("status", "--nonsense").stderr)


class HashPassword(unittest.TestCase):
    def test_crypt_agrees(self):
        for password in ("x", "correct horse: battery", "Grüße €", 'a"b\\c '):
            result = run_gatepost("hash-password", stdin=password + "\n")
            self.assertEqual(result.returncode, 0, result.stderr)
            hashed = result.stdout.removesuffix("\n")
            self.assertTrue(hashed.startswith("$y$"), hashed)
            self.assertEqual(crypt.crypt(password, hashed), hashed)
            self.assertNotIn(password + "\n", result.stdout)

    def test_two_salts(self):
        self.assertNotEqual(*(run_gatepost("hash-password", stdin="x\n").stdout for _ in "ab"))

    def test_a_name_that_no_line_can_have(self):
        for user, why in (("a:b", '":"'), ("#x", "comment"), ("", "empty"), ("a\nb", "control"),
                          ("a\x1b[2J", "control")):
            result = run_gatepost("hash-password", user, stdin="x\n")
            self.assertEqual((result.returncode, result.stdout), (2, ""), user)
            self.assertIn(why, result.stderr)
            self.assertNotIn("\x1b", result.stderr)

    def test_no_password(self):
        for stdin in ("", "\n"):
            result = run_gatepost("hash-password", stdin=stdin)
            self.assertEqual((result.returncode, result.stdout), (1, ""))


class Check(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = run_directory() / "check"
        cls.directory.mkdir()
        shutil.copy(certificates().chain, cls.directory / "chain.pem")
        shutil.copy(certificates().key, cls.directory / "key.pem")
        shutil.copy(strange_certificates().key, cls.directory / "strange.key")

    def check(self, text, name="gatepost.toml"):
        path = self.directory / name
        path.write_text(text)
        return run_gatepost("check", path)

    def assert_refused(self, text, *patterns):
        """The file is refused, and each pattern matches one line of what is said."""
        result = self.check(text)
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        for pattern in patterns:
            self.assertTrue(any(re.search(pattern, line) for line in result.stderr.splitlines()),
                            f"{pattern!r} not in:\n{result.stderr}")
        return result.stderr

    def test_good(self):
        result = self.check(GOOD)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        for word in ("good", "127.0.0.1:1143", "store1.internal:143", "localhost"):
            self.assertIn(word, result.stdout)

    def test_the_file_may_be_an_option(self):
        self.check(GOOD)
        path = self.directory / "gatepost.toml"
        for option in ("-c", "--config"):
            result = run_gatepost("check", option, path)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn(f"{path}: good", result.stdout)
        self.assertEqual(run_gatepost("check", path, "--config", path).returncode, 2)

    def test_every_error_at_its_place(self):
        text = GOOD.replace('pool = "stores"', 'pool = "store"\ntls = "start-tls"\nnonsense = 1')
        text = text.replace("127.0.0.1:1143", "localhost:imap")
        self.assert_refused(
            text, r'gatepost\.toml:9:\d+: listener\[1\]\.addresses', r"gatepost\.toml:10:\d+:.*pool",
            r'gatepost\.toml:11:\d+: listener\[1\]\.tls.*"starttls"', r"gatepost\.toml:12:\d+:.*nonsense")

    def test_syntax_error(self):
        self.assert_refused(GOOD + "\nlimits = {\n", r"gatepost\.toml:1[89]:\d+: ")

    def test_suggestion(self):
        self.assert_refused(GOOD.replace("protocol =", "protocoll ="), r"protocoll.*protocol")

    def test_files(self):
        self.assert_refused(GOOD.replace("chain.pem", "missing.pem"),
                            r"gatepost\.toml:4:\d+: certificate\[1\]\.chain.*missing\.pem")
        self.assert_refused(GOOD.replace("key.pem", "strange.key"),
                            r"gatepost\.toml:[345]:\d+: certificate.*(match|belong)")
        (self.directory / "garbage.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
        self.assert_refused(GOOD.replace("chain.pem", "garbage.pem"),
                            r"gatepost\.toml:[345]:\d+: certificate")
        self.assert_refused(GOOD.replace('"backend"', '"passwords"\nfile = "none"'),
                            r"gatepost\.toml:17:\d+: authority\[1\]\.file")

    def test_password_file(self):
        (self.directory / "passwords").write_text("alice:$1$weak$abc\nbob\ncarol:$6$abc$xyz\n")
        self.assert_refused(GOOD.replace('"backend"', '"passwords"\nfile = "passwords"'),
                            r"passwords:1: ", r"passwords:2: ", r"passwords:3: .*no password has")

    def test_no_such_file(self):
        result = run_gatepost("check", self.directory / "no-such.toml")
        self.assertEqual(result.returncode, 2)
        self.assertIn("no-such.toml", result.stderr)

    def test_no_secret_in_a_message(self):
        (self.directory / "passwords").write_text("alice:hunter2-in-clear\n")
        text = self.assert_refused(GOOD.replace('"backend"', '"passwords"\nfile = "passwords"'),
                                   r"passwords:1: ")
        self.assertNotIn("hunter2", text)

    def test_serve_refuses_the_same(self):
        path = self.directory / "bad.toml"
        path.write_text(GOOD.replace("imap", "imaps"))
        result = run_gatepost("serve", "--config", path)
        self.assertEqual(result.returncode, 2)
        self.assertIn("bad.toml:8:", result.stderr)

    def test_the_reference_configuration(self):
        """config/gatepost.toml is good once its certificate exists."""
        text = (SOURCE / "config/gatepost.toml").read_text()
        text = re.sub(r'(?m)^(chain\s*=\s*)".*"', r'\1"chain.pem"', text)
        text = re.sub(r'(?m)^(key\s*=\s*)".*"', r'\1"key.pem"', text)
        text = re.sub(r'(?m)^(user\s*=\s*)".*"', r'\1"nobody"', text)
        result = self.check(text, "reference.toml")
        self.assertEqual(result.returncode, 0, result.stderr)
        for port in ("143", "993", "110", "995", "25", "26", "587", "465"):
            self.assertRegex(result.stdout, rf":{port}\b")


@unittest.skipUnless(os.geteuid() == 0, "root alone can become another user")
class CheckAsRoot(unittest.TestCase):
    """What root may and process.user may not."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = pathlib.Path(temporary.name)
        self.directory.chmod(0o755)
        self.pair = self.directory / "pair"
        self.pair.mkdir()
        shutil.copy(certificates().chain, self.pair / "fullchain.pem")
        shutil.copy(certificates().key, self.pair / "privkey.pem")
        self.users = self.directory / "users"
        self.users.write_text(run_gatepost("hash-password", "u", stdin="p\n").stdout)
        for file in (self.pair / "fullchain.pem", self.pair / "privkey.pem", self.users):
            file.chmod(0o644)
        self.file = self.directory / "gatepost.toml"

    def check(self, user="nobody", more="", directory=False):
        text = GOOD.replace('"chain.pem"', f'"{self.pair}/fullchain.pem"')
        text = text.replace('"key.pem"', f'"{self.pair}/privkey.pem"')
        if directory:
            text = re.sub(r'chain = .*\nkey = .*', f'directory = "{self.pair}"', text)
        text = text.replace('"backend"', f'"passwords"\nfile = "{self.users}"')
        if user:
            text += f'[process]\nuser = "{user}"\n'
        self.file.write_text(text + more)
        self.file.chmod(0o644)
        return run_gatepost("check", self.file)

    def warnings(self, **keys):
        result = self.check(**keys)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(": good", result.stdout)
        return result.stderr.splitlines()

    def test_what_no_reload_could_read(self):
        self.assertEqual(self.warnings(), [])
        for file in (self.pair / "privkey.pem", self.users):
            with self.subTest(file=file):
                file.chmod(0o600)
                line, = self.warnings()
                self.assertIn(f'warning: {file} cannot be read by "nobody" (process.user)', line)
                self.assertEqual(self.warnings(user=None), [])
                # The remedy is one.
                subprocess.run(["sh", "-c", line.rpartition("for example: ")[2]], check=True)
                self.assertEqual(self.warnings(), [])

    def test_a_folder_that_nobody_else_may_enter(self):
        self.pair.chmod(0o700)
        for directory in (False, True):
            with self.subTest(directory=directory):
                lines = self.warnings(directory=directory)
                for name in ("fullchain.pem", "privkey.pem"):
                    self.assertRegex("\n".join(lines), rf"(?m){self.pair}/{name} .*g\+x {self.pair}$")
                self.assertEqual(len(lines), 3 if directory else 2)

    def test_what_the_start_needs(self):
        log = self.directory / "log"
        self.directory.chmod(0o755)
        for key, more in (("log.file", f'[log]\nfile = "{log}"\n'),
                          ("admin.socket", f'[admin]\nsocket = "{self.directory}/socket"\n')):
            result = self.check(more=more)
            self.assertEqual(result.returncode, 2, result.stdout)
            self.assertRegex(result.stderr, rf'{key}: .* cannot be written by "nobody".*g\+wx ')
            self.assertEqual(self.check(user=None, more=more).returncode, 0)
            self.directory.chmod(0o777)
            self.assertEqual(self.warnings(more=more), [])
            self.directory.chmod(0o755)
        log.touch(0o600)
        result = self.check(more=f'[log]\nfile = "{log}"\n')
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, rf"log\.file: {log} cannot be written .*g\+w {log}\n")


class Serve(unittest.TestCase):
    def test_a_port_in_use(self):
        port = Port()
        self.addCleanup(port.release)
        sock, taken = refused_port()
        with sock:
            sock.listen()
            path = run_directory() / "taken.toml"
            path.write_text(GOOD.replace("1143", str(taken))
                            .replace("chain.pem", str(certificates().chain))
                            .replace('"key.pem"', f'"{certificates().key}"')
                            + f'[admin]\naddress = "{HOST}:{port.number}"\n')
            result = subprocess.run([BINARY, "serve", "--config", path], capture_output=True,
                                    text=True, timeout=120, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"127.0.0.1:{taken}", result.stderr)

    def test_unprivileged_user(self):
        """process.user: after binding nothing of root is left, in any thread."""
        gate = Gatepost({"imap": {"protocol": "imap", "tls": "starttls"}},
                        {"p": {"members": ["127.0.0.1:9"], "tls": "none"}},
                        process={"user": "nobody"})
        self.addCleanup(gate.stop)
        tasks = list(gate.tasks())
        self.assertGreater(len(tasks), 1)
        for status in tasks:
            self.assertRegex(status, r"Uid:\t65534\t65534\t65534\t65534")
            self.assertRegex(status, r"(?m)^CapEff:\t0+$")
            self.assertRegex(status, r"(?m)^CapPrm:\t0+$")
