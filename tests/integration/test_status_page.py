# The status page in a real browser: what it shows is what /metrics has, whatever a stranger has sent
# is text, and it can be read in the dark, on a telephone, with a keyboard and by a screen reader.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import http.client
import json
import re
import socket
import unittest

import chromium
import clients
from fault_servers import RecordingImap, RecordingSmtp, Server, refused_port
from gatepost import GATE_NAME, HOST, GatewayTestCase, address
from wire import DEADLINE, poll_until

LISTENERS = {"imaps": {"protocol": "imap", "tls": "implicit", "pool": "stores"},
             "submission": {"protocol": "smtp", "tls": "starttls", "pool": "outgoing"}}
HOSTILE = '<img src=x onerror="window.owned=1"></script><script>window.owned=1</script>'

# The cells of a table by the name of its row and of its column.
CELLS = """(id => Object.fromEntries([...document.querySelectorAll("#" + id + " tbody tr")].map(row =>
  [row.cells[0].firstChild.textContent, Object.fromEntries([...row.cells].map((cell, i) =>
    [document.querySelectorAll("#" + id + " thead th")[i].textContent, cell.textContent]))])))"""
# The least contrast of any text with what is behind it (WCAG 2.2, 1.4.3).
CONTRAST = """(() => {
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let least = 21, what = "";
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    if (!element.checkVisibility() || element.closest("style, script, noscript, .skip")) continue;
    let behind = element;
    while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
    const pair = [light(parse(getComputedStyle(element).color)),
                  light(parse(getComputedStyle(behind || document.body).backgroundColor))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < least) [least, what] = [contrast, element.textContent];
  }
  return {least, what};
})()"""


def setUpModule():
    if chromium.PROGRAM is None:
        raise unittest.SkipTest("chromium is not installed")
    global browser
    browser = chromium.Chromium()
    unittest.addModuleCleanup(browser.close)


class PageTestCase(GatewayTestCase):
    def open(self, gate, width=1200, dark=False):
        browser.look(width, dark=dark)
        browser.open(f"http://{HOST}:{gate.admin_port}/")
        browser.wait_for("document.documentElement.dataset.shown")

    def cells(self, table):
        return browser.evaluate(f"{CELLS}({json.dumps(table)})")

    def text(self, id):
        return browser.evaluate(f"document.getElementById({json.dumps(id)}).textContent")

    def fail_login(self, gate, user, name="imaps"):
        with gate.connect(name, tls=True) as wire:
            clients.greeting(wire)
            wire.imap("a", f"AUTHENTICATE PLAIN {clients.plain(user, 'wrong')}")


class Page(PageTestCase):
    @classmethod
    def setUpClass(cls):
        cls.imap = RecordingImap(users={"u": "p"})
        cls.smtp = RecordingSmtp(users={"u": "p"})
        cls.addClassCleanup(cls.imap.close)
        cls.addClassCleanup(cls.smtp.close)
        cls.share(LISTENERS, {"stores": {"members": [cls.imap.member], "tls": "none"},
                              "outgoing": {"members": [cls.smtp.member], "tls": "none"}},
                  admin={"socket": "control.sock"})
        cls.gate.wait_capabilities()

    def tearDown(self):
        browser.open("about:blank#")
        super().tearDown()

    def test_it_shows_what_the_metrics_have(self):
        self.fail_login(self.gate, "mallory")
        with clients.logged_in(self.gate, "imaps", "u", "p") as wire, \
                clients.logged_in(self.gate, "imaps", "u", "p"), \
                clients.logged_in(self.gate, "submission", "u", "p"):
            wire.imap("a", "NOOP")
            self.open(self.gate)
            metrics = self.gate.metrics()
            shown = self.cells("protocols")
            self.assertEqual(set(shown), {"IMAP", "SMTP"})
            for row, protocol in (("IMAP", "imap"), ("SMTP", "smtp")):
                attempts = {result: f"{metrics.value('auth_attempts_total', protocol=protocol, result=result):.0f}"
                            for result in ("ok", "failed", "tempfail", "limited")}
                self.assertEqual(
                    (shown[row]["Clients"], shown[row]["Logins"], shown[row]["Refused"], shown[row]["Deferred"],
                     shown[row]["Limited"]),
                    (f"{metrics.value('connections_active', protocol=protocol):.0f}", attempts["ok"],
                     attempts["failed"], attempts["tempfail"], attempts["limited"]))
            self.assertEqual(self.text("connections"), f"{metrics.value('connections_active'):.0f}")
            self.assertIn("3 logged in", self.text("connections-more"))
            backends = self.cells("backends")
            for member, pool in ((self.imap.member, "stores"), (self.smtp.member, "outgoing")):
                self.assertEqual(backends[member]["Sessions"],
                                 f"{metrics.value('backend_sessions_active', member=member):.0f}")
                self.assertEqual((backends[member]["Pool"], backends[member]["State"]), (pool, "up"))
                self.assertRegex(backends[member]["Login takes"], r"^[\d.]+ ms$")
            self.assertEqual(backends[self.imap.member]["Share"], "100 %")
            for name, row in self.cells("listeners").items():
                self.assertEqual(row["Accepted"], f"{metrics.value('connections_accepted_total', listener=name):.0f}")
            version = f"TLS 1.3: {metrics.value('tls_sessions_total', version='1.3'):.0f} (100 %)"
            self.assertIn(version, self.text("tls"))
            certificate = self.cells("certificates")["localhost"]
            self.assertRegex(certificate["Left"], r"^(19|20) days$")
            failed = browser.evaluate("document.querySelector('#failed tbody tr').innerText")
            self.assertRegex(failed, rf"mallory\s+{re.escape(HOST)}\s+credentials\s+IMAP\s+PLAIN\s+imaps")
            self.assertEqual(self.text("state"), "serving")
            self.assertIn(GATE_NAME, self.text("facts"))
            # What changes is seen without a reload.
            with clients.logged_in(self.gate, "imaps", "u", "p"):
                browser.wait_for("document.getElementById('connections').textContent === '4'")
        self.assertEqual(browser.complaints, [])

    def test_nothing_comes_from_elsewhere(self):
        self.open(self.gate)
        names = browser.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        self.assertEqual({name for name in names if not name.startswith("data:")},
                         {f"http://{HOST}:{self.gate.admin_port}/api/status"})

    def test_text_stays_text(self):
        for user in (HOSTILE, "\u202egro.elpmaxe@ecila", "a" * 250, "\x1b[31mred"):
            self.fail_login(self.gate, user)
        self.open(self.gate, width=360)
        self.assertIn(HOSTILE, self.text("failed"))
        self.assertIsNone(browser.evaluate("window.owned || null"))
        self.assertEqual(browser.evaluate("document.querySelectorAll('img, iframe, object').length"), 0)
        self.assertEqual(browser.evaluate("document.scripts.length"), 1)
        self.assertLessEqual(browser.evaluate("document.documentElement.scrollWidth"), 360)
        # Were there a way for markup to come in, the policy would still be in its way.
        browser.evaluate(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(HOSTILE)})")
        self.assertIsNone(browser.evaluate("window.owned || null"))

    def test_it_can_be_read_by_everybody(self):
        colours = set()
        with clients.logged_in(self.gate, "imaps", "u", "p"):
            for width in (360, 768, 1200):
                for dark in (False, True):
                    self.open(self.gate, width, dark)
                    self.assertLessEqual(browser.evaluate("document.documentElement.scrollWidth"), width)
                    contrast = browser.evaluate(CONTRAST)
                    self.assertGreaterEqual(contrast["least"], 4.5, contrast)
                    colours.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        self.assertEqual(len(colours), 2)
        self.assertEqual(browser.complaints, [])

    def test_a_screen_reader_is_told(self):
        self.open(self.gate)
        names = browser.names()
        for wanted in (("heading", "Gatepost"), ("heading", "Backends"), ("status", ""),
                       ("region", "Backends"), ("button", "Pause"), ("columnheader", "Sessions"),
                       ("rowheader", self.imap.member)):
            self.assertIn(wanted, names)
        images = [name for role, name in names if role == "image"]
        self.assertTrue(any(name.startswith("Connections over the last minutes, now ") for name in images), images)
        self.assertTrue(all(images), images)

    def test_the_keyboard_is_enough(self):
        self.open(self.gate)
        seen = []
        for _ in range(4):
            browser.press("Tab", 9)
            seen.append(browser.evaluate("document.activeElement.id || document.activeElement.className"))
        self.assertEqual(seen, ["skip", "pause", "protocols", "backends"])
        self.assertNotEqual(browser.evaluate("getComputedStyle(document.activeElement).outlineStyle"), "none")
        browser.evaluate("document.getElementById('pause').focus()")
        browser.press("Enter", 13)
        self.assertEqual(browser.evaluate("document.getElementById('pause').getAttribute('aria-pressed')"), "true")
        before = browser.evaluate("document.documentElement.dataset.shown")
        with clients.logged_in(self.gate, "imaps", "u", "p"):
            poll_until(lambda: int(json.loads(self.gate.http("/api/status")[1])["time"]) > int(before) + 3,
                       "time to pass")
            self.assertEqual(browser.evaluate("document.documentElement.dataset.shown"), before)

    def test_the_same_as_on_the_socket(self):
        status, text = self.gate.http("/api/status")
        self.assertEqual(status, 200)
        over_http, over_socket = json.loads(text), self.gate.control_json("status")
        for volatile in ("time", "connections"):
            del over_http[volatile], over_socket[volatile]
        self.assertEqual(over_http, over_socket)


class Requests(PageTestCase):
    @classmethod
    def setUpClass(cls):
        cls.backend = RecordingImap(users={"u": "p"})
        cls.addClassCleanup(cls.backend.close)
        cls.share({"imaps": LISTENERS["imaps"]}, {"stores": {"members": [cls.backend.member], "tls": "none"}})

    def ask(self, path, host, method="GET"):
        connection = http.client.HTTPConnection(HOST, self.gate.admin_port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True)
            if host is not None:
                connection.putheader("Host", host)
            connection.endheaders()
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()

    def test_no_foreign_name_leads_here(self):
        """A page of evil.example whose name was made to lead to this address learns nothing."""
        port = self.gate.admin_port
        for path in ("/", "/api/status"):
            for host in (address(port), f"localhost:{port}", "LOCALHOST", f"[::1]:{port}",
                         f"{GATE_NAME}:{port}", "192.0.2.1"):
                self.assertEqual(self.ask(path, host)[0], 200, host)
            for host in (None, "", f"evil.example:{port}", "127.0.0.1.evil.example", f"x.{GATE_NAME}",
                         "localhost.evil.example", "[::1", "evil.example:127.0.0.1"):
                status, _, body = self.ask(path, host)
                self.assertIn(status, (400, 403), host)
                self.assertNotIn("backends", body)
        # Prometheus may have any name for it.
        self.assertEqual(self.ask("/metrics", f"mail-1.monitoring:{port}")[0], 200)
        self.assertEqual(self.ask("/healthz", "kubelet")[0], 200)

    def test_the_policy(self):
        nonces = set()
        for _ in range(3):
            _, headers, body = self.ask("/", "localhost")
            nonce, = set(re.findall(r"'nonce-([0-9a-f]{32})'", headers["Content-Security-Policy"]))
            self.assertEqual(re.findall(r'nonce="([^"]*)"', body), [nonce, nonce])
            self.assertTrue(headers["Content-Security-Policy"].startswith("default-src 'none';"))
            self.assertNotIn("unsafe", headers["Content-Security-Policy"])
            self.assertEqual(headers["X-Frame-Options"], "DENY")
            self.assertIsNone(headers["Access-Control-Allow-Origin"])
            nonces.add(nonce)
        self.assertEqual(len(nonces), 3)
        self.assertEqual(self.ask("/api/status", "localhost", "POST")[0], 405)
        self.assertEqual(self.ask("/", "localhost", "HEAD")[2], "")
        self.assertEqual(self.ask("/status.html", "localhost")[0], 404)

    def test_silent_browsers_keep_no_scrape_waiting(self):
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(contextlib.closing(
                    socket.create_connection((HOST, self.gate.admin_port))))
            self.assertEqual(self.ask("/metrics", "localhost")[0], 200)


class Troubles(PageTestCase):
    def test_fifty_backends_of_which_one_says_nasty_things(self):
        def nasty(wire):
            wire.send(f"* BYE {HOSTILE}\r\n")
        with contextlib.ExitStack() as stack:
            bad = stack.enter_context(Server(nasty))
            good = [stack.enter_context(RecordingImap()) for _ in range(3)]
            dead = [refused_port() for _ in range(46)]
            members = [server.member for server in good] + [address(port) for _, port in dead] + [bad.member]
            for sock, _ in dead:
                stack.callback(sock.close)
            gate = self.start({"imaps": LISTENERS["imaps"]},
                              {"stores": {"members": members, "tls": "none", "health_interval": "100ms"}},
                              admin={"socket": "control.sock"})
            poll_until(lambda: sum(entry["state"] == "up" for entry in
                                   gate.control_json("backends")["backends"]) == 3, "three members up")
            self.open(gate, width=360)
            rows = self.cells("backends")
            self.assertEqual(len(rows), 50)
            self.assertEqual(self.text("backends-sum"), "3 of 50 up")
            self.assertIn("down", list(rows.values())[0]["State"])  # what is wrong comes first
            self.assertEqual({row["State"] for row in list(rows.values())[-3:]}, {"up"})
            self.assertIn("<img src=x", rows[bad.member]["State"])
            self.assertIsNone(browser.evaluate("window.owned || null"))
            self.assertLessEqual(browser.evaluate("document.documentElement.scrollWidth"), 360)
            browser.open("about:blank#")

    def test_a_drain_and_the_end(self):
        with RecordingSmtp(users={"u": "p"}) as backend:
            gate = self.start({"submission": LISTENERS["submission"]},
                              {"outgoing": {"members": [backend.member], "tls": "none"}},
                              process={"drain_timeout": "1m"}, admin={"socket": "control.sock"})
            with clients.logged_in(gate, "submission", "u", "p") as wire:
                wire.command("MAIL FROM:<a@example.test>")  # nothing ends inside a transaction
                self.open(gate)
                gate.control("drain")
                browser.wait_for("document.getElementById('state').textContent === 'draining'")
                browser.wait_for(
                    "document.getElementById('notice').textContent.includes('1 connection is left')")
            self.assertEqual(gate.process.wait(DEADLINE), 0)
            browser.wait_for("document.getElementById('notice').textContent.includes('does not answer')")
            browser.open("about:blank#")

    def test_strangers_learn_no_names(self):
        """Where others than this machine reach the address, failed logins have neither user nor client."""
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": LISTENERS["imaps"]},
                              {"stores": {"members": [backend.member], "tls": "none"}},
                              admin={"socket": "control.sock"}, admin_host="0.0.0.0")
            self.fail_login(gate, "carol")
            failed, = json.loads(gate.http("/api/status")[1])["failed_logins"]
            self.assertEqual(failed["reason"], "credentials")
            self.assertEqual({"user", "client"} & set(failed), set())
            self.open(gate)
            self.assertIn("hidden", self.text("failed"))
            self.assertNotIn("carol", browser.evaluate("document.documentElement.outerHTML"))
            self.assertEqual(gate.control_json("status")["failed_logins"][0]["user"], "carol")
            browser.open("about:blank#")
