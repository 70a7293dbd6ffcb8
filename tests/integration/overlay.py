# This system with an overlay over it, in namespaces of its own: where a test installs and configures
# real packages as root would, and nothing of it remains. Needs root.
# SPDX-License-Identifier: Apache-2.0
import subprocess
import tempfile

from gatepost import run_directory

# $1: a folder to mount in.
ENTER = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
exec chroot "$1/root" sh -c "cd /; exec sh"
"""


class Overlay:
    """A shell in it. With `own_network` it has a loopback of its own, so any port is free."""

    def __init__(self, own_network=False):
        directory = tempfile.mkdtemp(prefix="overlay-", dir=run_directory())
        self._shell = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
             *(["--net"] if own_network else []), "sh", "-ec", ENTER, "overlay", directory],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if own_network:
            self.run("ip link set lo up")

    def run(self, command, check=True):
        """Runs a line of shell and returns what it says; it must succeed, unless `check` is off."""
        self._shell.stdin.write(f"({command}) </dev/null 2>&1; code=$?; echo; echo exit code $code\n")
        self._shell.stdin.flush()
        said = ""
        while not (last := self._shell.stdout.readline()).startswith("exit code "):
            assert last, f"the shell has ended: {said}"
            said += last
        assert not check or int(last.split()[-1]) == 0, f"{command}: {said}"
        return said.strip()

    def close(self):
        """The overlay goes with the shell, and so does whatever still runs in it."""
        self._shell.communicate()
