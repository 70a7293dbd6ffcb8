# A real browser for tests: Debian's chromium without a window, driven over a pipe.
#
# Chromium(...).open(url) gives a page; what scripts and policies complain about is in `complaints`.
# SPDX-License-Identifier: Apache-2.0
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

from wire import DEADLINE

PROGRAM = shutil.which("chromium")


class Chromium:
    """One browser, spoken to in its DevTools protocol: JSON messages that end with NUL, on 3 and 4."""

    def __init__(self, *arguments):
        self._folder = tempfile.mkdtemp(prefix="gatepost-chromium-")
        self._number, self._session, self._buffer, self.complaints = 0, None, b"", []
        self._read, far_write = os.pipe()  # of which the second number is above 3
        far_read, self._write = os.pipe()
        # Where tests run as root, and in containers, its own sandbox is not to be had.
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$@" 3<&{far_read} 4>&{far_write}', "sh", PROGRAM,
             "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-extensions", "--disable-background-networking",
             f"--user-data-dir={self._folder}", "--remote-debugging-pipe", *arguments, "about:blank"],
            pass_fds=(far_read, far_write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(far_read)
        os.close(far_write)
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page["targetId"],
                                  flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.send(domain + ".enable")
        self.send("Emulation.setScrollbarsHidden", hidden=True)  # they differ between systems

    def close(self):
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._folder, ignore_errors=True)

    def send(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self._notice(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], DEADLINE)
            data = os.read(self._read, 1 << 20) if ready else b""
            assert data, "chromium has gone, or does not answer"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _notice(self, event):
        parameters = event.get("params", {})
        if event.get("method") == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters["exceptionDetails"]))

    def open(self, url):
        """Goes there, and returns when the page with all that it names is loaded."""
        self.complaints.clear()
        self.send("Page.navigate", url=url)
        self.wait_for("location.href !== 'about:blank' && document.readyState === 'complete'")

    def evaluate(self, expression):
        """The value of a JavaScript expression; None where it throws."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)
        return None if "exceptionDetails" in result else result["result"].get("value")

    def wait_for(self, expression):
        """Waits until the expression is something true, and returns it."""
        end = time.monotonic() + DEADLINE
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"never true: {expression}\n{self.complaints}"
            time.sleep(0.05)  # between two looks
        return value

    def look(self, width, height=900, dark=False):
        """Sets the size of the window and the colours that its user prefers."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def press(self, key, number):
        """Presses a key, of which `number` is the virtual key code."""
        text = "\r" if key == "Enter" else ""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=number, text=text if kind == "keyDown" else "")

    def screenshot(self, path):
        image = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(image["data"]))

    def names(self):
        """What a screen reader is told: (role, name) of everything that is not ignored."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", ""))
                for node in nodes if not node.get("ignored") and "role" in node]
