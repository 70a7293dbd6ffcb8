# The container image, without an engine: what deploy/container-root lays out is all that the image has.
# In it, with a read-only root, as nobody and without a capability, the program carries mail.
# SPDX-License-Identifier: Apache-2.0
import pathlib
import re
import shlex
import subprocess
import unittest
from unittest import mock

import clients
import gatepost
from gatepost import (BINARY, SOURCE, certificates, pools, port_table, run_directory,
                      start_backends)
from wire import DEADLINE, poll_until

USER = 10001

# What an engine does: mounts of its own, the image read-only, and then the program alone. $1 is the
# root, $2 a folder from outside. The capabilities that are left serve to change root and user; who is no
# longer root has none of them.
ENTER = """
mount --bind "$1" "$1"
mount --bind /proc "$1/proc"
mount --bind /dev "$1/dev"
mount --bind "$2" "$1$2"
mount -o remount,bind,ro "$1"
root=$1; shift 2
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \\
  chroot --userspec=%d:%d "$root" "$@"
""" % (USER, USER)


class Dockerfile(unittest.TestCase):
    TEXT = (SOURCE / "deploy/Dockerfile").read_text()

    def test_it_runs_the_script_and_nothing_else(self):
        steps = re.sub(r"\\\n\s*", "", self.TEXT)
        runs = re.findall(r"^RUN (.*)", steps, re.MULTILINE)
        self.assertEqual(len(runs), 1)
        script = re.search(r"/src/(deploy/\S+)", runs[0])[1]
        self.assertTrue((SOURCE / script).exists())
        self.assertEqual(script, "deploy/container-root")
        # The last stage begins with nothing.
        last = steps[steps.rindex("\nFROM "):]
        self.assertTrue(last.startswith("\nFROM scratch\n"))
        self.assertIn(f"\nUSER {USER}:{USER}\n", last)
        self.assertIn('ENTRYPOINT ["/usr/bin/gatepost"]', last)
        self.assertIn('CMD ["serve", "--config",', last)

    def test_ports_are_those_of_kubernetes(self):
        exposed = set(re.search(r"^EXPOSE (.*)", self.TEXT, re.MULTILINE)[1].split())
        toml = (SOURCE / "deploy/kubernetes/ingress/gatepost.toml").read_text()
        self.assertEqual(exposed, set(re.findall(r"0\.0\.0\.0:(\d+)", toml)))


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = run_directory() / "image"
        subprocess.run([SOURCE / "deploy/container-root", "--binary", BINARY, cls.root], check=True,
                       timeout=DEADLINE)

    def test_what_is_in_it(self):
        files = {"/" + str(path.relative_to(self.root)) for path in self.root.rglob("*")
                 if not path.is_dir()}
        libraries = {path for path in files if re.search(r"/lib(64)?/.*\.so(\.|$)", path)}
        self.assertEqual(files - libraries,
                         {"/usr/bin/gatepost", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
                          "/etc/ssl/certs/ca-certificates.crt"})
        writable = [path for path in self.root.rglob("*")
                    if not path.is_symlink() and path.stat().st_mode & 0o022]
        self.assertEqual(writable, [])

    def in_image(self, arguments, stderr_file, max_descriptors=None):
        stderr_file.parent.chmod(0o755)  # for the image's user
        with open(stderr_file, "ab") as stderr:
            return subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", ENTER, "enter",
                 str(self.root), str(run_directory()), "/usr/bin/gatepost", *arguments],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)

    def test_it_carries_mail(self):
        backends = start_backends()
        certificates().key.chmod(0o644)
        self.root.joinpath(str(run_directory()).lstrip("/")).mkdir(parents=True, exist_ok=True)
        with mock.patch.object(gatepost, "spawn", self.in_image):
            gate = gatepost.Gatepost(port_table(), pools(backends))
        self.addCleanup(gate.stop)
        status = dict(line.split(":\t", 1) for line in
                      pathlib.Path(f"/proc/{gate.process.pid}/status").read_text().splitlines())
        self.assertEqual(set(status["Uid"].split()), {str(USER)})
        self.assertEqual((int(status["CapPrm"], 16), int(status["CapEff"], 16)), (0, 0))
        self.assertEqual(status["NoNewPrivs"], "1")
        mounts = pathlib.Path(f"/proc/{gate.process.pid}/mountinfo").read_text().splitlines()
        root = next(line.split() for line in mounts if line.split()[4] == "/")
        self.assertIn("ro", root[5].split(","))

        gate.wait_capabilities()
        message = clients.Message()
        with clients.smtp(gate, "465", "alice", backends.users["alice"]) as client:
            client.sendmail(message.sender, [message.to], message.data)
        reader = clients.imap(gate, "143", "bob", backends.users["bob"])
        reader.select()

        def arrived():
            reader.noop()
            return reader.search(None, "HEADER", "Message-ID", message.id)[1][0]
        poll_until(arrived, "the message")
        reader.logout()
        gate.wait_active(0)

    def test_the_script_refuses_what_it_does_not_know(self):
        occupied = run_directory() / "occupied"
        occupied.mkdir()
        (occupied / "file").touch()
        for arguments in ("--strange x /nowhere", f"--binary {BINARY} {shlex.quote(str(occupied))}"):
            result = subprocess.run([SOURCE / "deploy/container-root", *shlex.split(arguments)],
                                    capture_output=True, text=True, timeout=DEADLINE, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("container-root:", result.stderr)
