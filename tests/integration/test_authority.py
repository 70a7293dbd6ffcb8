# Who may log in: the password file and the backend as authorities, the replies to each refusal, the
# growing delay, and outages that are never "wrong password".
# SPDX-License-Identifier: Apache-2.0
import contextlib
import crypt
import time
import warnings

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp, refused_port
from gatepost import GatewayTestCase, run_directory, run_gatepost

warnings.filterwarnings("ignore", category=DeprecationWarning)

PROTOCOLS = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}
PASSWORD = "correct horse: battery"


def listeners(pools):
    return {p: {"protocol": p, "tls": "implicit", "pool": p} for p in pools}


def write_passwords(name, lines):
    path = run_directory() / name
    path.write_text("".join(line + "\n" for line in lines))
    return path


class AuthorityTestCase(GatewayTestCase):
    def attempt(self, wire, protocol, user, password):
        """One login and its answer, on a connection that may have had others."""
        return clients.login(wire, protocol, user, password)

    def login(self, protocol, user, password):
        with self.gate.connect(protocol, tls=True) as wire:
            clients.greeting(wire)
            return self.attempt(wire, protocol, user, password)

    def sasl(self, wire, protocol, response):
        command = {"imap": "l AUTHENTICATE PLAIN ", "pop3": "AUTH PLAIN ",
                   "smtp": "AUTH PLAIN "}[protocol]
        if protocol == "imap":
            wire.send(command + response + "\r\n")
            return wire.tagged("l")[-1]
        return wire.command(command + response)

    def assert_answer(self, answer, expected, protocol):
        self.assertTrue(answer.startswith(expected[protocol]), answer)


class PasswordFile(AuthorityTestCase):
    """The file decides; the backend gets the client's credentials or the file's."""

    @classmethod
    def setUpClass(cls):
        cls.backends = {p: make() for p, make in PROTOCOLS.items()}
        cls.other = RecordingImap()
        for backend in (*cls.backends.values(), cls.other):
            cls.addClassCleanup(backend.close)
        ours = run_gatepost("hash-password", stdin=PASSWORD + "\n")
        assert ours.returncode == 0, ours.stderr
        entry = run_gatepost("hash-password", "entry@example.test", stdin=PASSWORD + "\n").stdout
        passwords = write_passwords("passwords", [
            "# users of the tests", "",
            f"ours@example.test:{ours.stdout.strip()}",
            entry.strip(),
            "yescrypt:" + crypt.crypt(PASSWORD, "$y$j7T$abcdefghijklmnop"),
            "bcrypt:" + crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)),
            "sha512:" + crypt.crypt(PASSWORD, crypt.mksalt(crypt.METHOD_SHA512, rounds=5000)),
            "mapped:" + crypt.crypt(PASSWORD, "$y$j7T$abcdefghijklmnop")
            + ":login=account@store password=its own secret",
            "elsewhere:" + crypt.crypt(PASSWORD, "$y$j7T$abcdefghijklmnop") + ":pool=other",
            "there:" + crypt.crypt(PASSWORD, "$y$j7T$abcdefghijklmnop")
            + f":backend={cls.other.member}",
        ])
        pools = {p: {"members": [b.member], "tls": "none"} for p, b in cls.backends.items()}
        keys = listeners(pools)
        pools["other"] = {"members": [cls.other.member], "tls": "none"}
        cls.share(keys, pools, authority={"kind": "passwords", "file": passwords})

    def setUp(self):
        for backend in (*self.backends.values(), self.other):
            backend.logins.clear()

    def test_every_kind_of_hash(self):
        for user in ("ours@example.test", "entry@example.test", "yescrypt", "bcrypt", "sha512"):
            for protocol, backend in self.backends.items():
                with self.subTest(user, protocol=protocol):
                    self.assert_answer(self.login(protocol, user, PASSWORD), clients.LOGIN_OK,
                                       protocol)
                    self.assertEqual(backend.logins.pop(), (user, PASSWORD))

    def test_refusals_are_alike_and_reach_no_backend(self):
        for protocol, backend in self.backends.items():
            answers = {self.login(protocol, user, password)
                       for user, password in (
                ("yescrypt", "wrong"), ("bcrypt", "wrong"), ("sha512", PASSWORD + "x"),
                ("yescrypt", PASSWORD[:-1]), ("nobody", PASSWORD))}
            self.assertEqual(len(answers), 1, answers)
            self.assert_answer(answers.pop(), clients.LOGIN_REFUSED, protocol)
            self.assertEqual(backend.logins, [])

    def test_a_failed_login_is_logged_at_once(self):
        for protocol in PROTOCOLS:
            with self.gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                user = f"nobody-{protocol}"
                self.attempt(wire, protocol, user, "wrong")
                line = self.gate.wait_log(event="login_failed", user=user)[0]  # still connected
                self.assertEqual(line["protocol"], protocol)
                self.assertTrue(line["client"].startswith("127.0.0.1"), line)
                self.assertTrue(line["mechanism"])
                self.assertTrue(line["reason"])
                attempts = self.gate.metrics().value("auth_attempts_total", protocol=protocol,
                                                     result="failed")
                self.assertGreaterEqual(attempts, 1)

    def test_login_and_backend_of_the_entry(self):
        for protocol, backend in self.backends.items():
            self.assert_answer(self.login(protocol, "mapped", PASSWORD), clients.LOGIN_OK, protocol)
            self.assertEqual(backend.logins, [("account@store", "its own secret")])
        for user in ("elsewhere", "there"):
            self.assert_answer(self.login("imap", user, PASSWORD), clients.LOGIN_OK, "imap")
            self.assertEqual(self.other.logins.pop(), (user, PASSWORD))
        self.assertNotIn("its own secret", self.gate.log_text())

    def test_authorization_identity(self):
        """RFC 4616: the file can't say who may act for whom, so nobody may; oneself is nothing."""
        refused = {"imap": "l NO [AUTHORIZATIONFAILED]", "pop3": "-ERR [AUTH]", "smtp": "535 5.7.8"}
        for protocol, backend in self.backends.items():
            with self.gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                if protocol == "smtp":
                    wire.command("EHLO tester")
                answer = self.sasl(wire, protocol, clients.plain("yescrypt", PASSWORD, "bcrypt"))
                self.assert_answer(answer, refused, protocol)
                self.assertEqual(backend.logins, [])
                answer = self.sasl(wire, protocol, clients.plain("yescrypt", PASSWORD, "yescrypt"))
                self.assert_answer(answer, clients.LOGIN_OK, protocol)

    def test_a_backend_that_refuses_is_no_wrong_password(self):
        """The password was right by our authority: asking the user for another would be in vain."""
        misconfigured = {"imap": "l NO [SERVERBUG]", "pop3": "-ERR [SYS/PERM]", "smtp": "454 4.7.0"}
        for protocol, backend in self.backends.items():
            backend.answers = [None]
            answer = self.login(protocol, "yescrypt", PASSWORD)
            self.assert_answer(answer, misconfigured, protocol)
            self.assertNotIn("backend says no", answer)


class NoLoginAtTheBackend(AuthorityTestCase):
    def test_smtp_to_a_server_without_auth(self):
        with RecordingSmtp(keywords=["PIPELINING", "8BITMIME"]) as backend:
            passwords = write_passwords("smtp-passwords", ["u:" + crypt.crypt(
                PASSWORD, crypt.mksalt(crypt.METHOD_SHA512, rounds=5000))])
            gate = self.start(listeners(["smtp"]), {"smtp": {
                "members": [backend.member], "tls": "none", "login": "none"}},
                authority={"kind": "passwords", "file": passwords})
            self.assertTrue(self.login("smtp", "u", "wrong").startswith("535"))
            with clients.logged_in(gate, "smtp", "u", PASSWORD) as wire:
                wire.command("MAIL FROM:<a@example.test>")
                wire.command("RCPT TO:<b@example.test>")
                wire.command("DATA")
                wire.send("x\r\n.\r\n")
                self.assertEqual(wire.reply()[:3], "250")
            self.assertNotIn("AUTH", backend.commands())
            self.assertEqual(backend.messages, [b"x\r\n"])
            gate.settled()


class BackendDecides(AuthorityTestCase):
    @classmethod
    def setUpClass(cls):
        users = {"alice": "right"}
        cls.backends = {p: make(users=users) for p, make in PROTOCOLS.items()}
        for backend in cls.backends.values():
            cls.addClassCleanup(backend.close)
        pools = {p: {"members": [b.member], "tls": "none"} for p, b in cls.backends.items()}
        cls.share(listeners(pools), pools)
        cls.gate.wait_capabilities()

    def setUp(self):
        for backend in self.backends.values():
            backend.logins.clear()
            backend.authorizations.clear()

    def test_wrong_then_right_on_one_connection(self):
        for protocol, backend in self.backends.items():
            with self.subTest(protocol), self.gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                for password in ("wrong", "wronger"):
                    answer = self.attempt(wire, protocol, "alice", password)
                    self.assert_answer(answer, clients.LOGIN_REFUSED, protocol)
                    self.assertNotIn("backend says no", answer)  # it may tell who exists
                answer = self.attempt(wire, protocol, "alice", "right")
                self.assert_answer(answer, clients.LOGIN_OK, protocol)
                self.assertEqual([p for _, p in backend.logins], ["wrong", "wronger", "right"])
                wire.send(clients.QUIT[protocol] + "\r\n")
                wire.rest()
            line = self.gate.wait_log(event="session", protocol=protocol, user="alice",
                                      result="done")[-1]
            self.assertIn(str(backend.port), line["backend"])

    def test_passwords_with_every_printable_character(self):
        user = 'al ice"\\%{}()*@example.test'
        password = r'''"\ {3}%*()[]'` ~!@#$^&_=+|;:,.<>/?é€'''
        for protocol, backend in self.backends.items():
            backend.users[user] = password
            with self.subTest(protocol), self.gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                if protocol == "smtp":
                    wire.command("EHLO tester")
                answer = self.sasl(wire, protocol, clients.plain(user, password))
                self.assert_answer(answer, clients.LOGIN_OK, protocol)
        with self.gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            parts = [part.encode() for part in (user, password)]
            wire.send(f"l LOGIN {{{len(parts[0])}}}\r\n")
            self.assertTrue(wire.line().startswith("+"))
            wire.send(parts[0] + f" {{{len(parts[1])}}}\r\n".encode())
            self.assertTrue(wire.line().startswith("+"))
            wire.send(parts[1] + b"\r\n")
            self.assertTrue(wire.tagged("l")[-1].startswith("l OK"))

    def test_authorization_identity_goes_to_the_backend(self):
        for protocol, backend in self.backends.items():
            with self.subTest(protocol), self.gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                if protocol == "smtp":
                    wire.command("EHLO tester")
                self.assert_answer(
                    self.sasl(wire, protocol, clients.plain("alice", "right", "shared")),
                    clients.LOGIN_OK, protocol)
                self.assertEqual(backend.authorizations, ["shared"])

    def test_cancelled_and_malformed_exchanges(self):
        for protocol, (cancelled, malformed) in {
                "imap": ("l BAD", "l BAD"), "pop3": ("-ERR", "-ERR"),
                "smtp": ("501", "501 5.5.2")}.items():
            with self.subTest(protocol), self.gate.connect(protocol, tls=True) as wire:
                clients.greeting(wire)
                command = "l AUTHENTICATE PLAIN" if protocol == "imap" else "AUTH PLAIN"
                if protocol == "smtp":
                    wire.command("EHLO tester")
                for response, expected in (("*", cancelled), ("not base64!", malformed),
                                           ("AAAA", malformed)):
                    wire.send(command + "\r\n")
                    wire.line()
                    wire.send(response + "\r\n")
                    answer = wire.line()
                    self.assertTrue(answer.startswith(expected), answer)
                self.assert_answer(self.attempt(wire, protocol, "alice", "right"),
                                   clients.LOGIN_OK, protocol)
            self.assertEqual(len(self.backends[protocol].logins), 1)


class Chain(AuthorityTestCase):
    """Several authorities: the first one that is for the listener and the domain decides."""

    @classmethod
    def setUpClass(cls):
        hashed = crypt.crypt(PASSWORD, "$y$j7T$abcdefghijklmnop")
        staff = write_passwords("chain-staff", [f"alice@staff.test:{hashed}", f"bob:{hashed}"])
        pop3 = write_passwords("chain-pop3", [f"bob:{hashed}"])
        cls.backends = {p: make(users={"carol": "backend's", "alice@staff.test": "backend's"})
                        for p, make in PROTOCOLS.items()}
        for backend in cls.backends.values():
            cls.addClassCleanup(backend.close)
        pools = {p: {"members": [b.member], "tls": "none"} for p, b in cls.backends.items()}
        cls.share(listeners(pools), pools, authority=[
            {"name": "staff", "kind": "passwords", "file": staff,
             "domains": ["Staff.Test", "other.test"]},
            {"name": "pop3", "kind": "passwords", "file": pop3, "listeners": ["pop3"]},
            {"kind": "backend", "listeners": ["imap", "pop3"], "domains": ["x.test"]},
            {"name": "rest", "kind": "backend", "listeners": ["imap"]},
        ])

    def setUp(self):
        for backend in self.backends.values():
            backend.logins.clear()

    def counted(self, authority):
        metrics = self.gate.metrics()
        return {result: metrics.value("authority_requests_total", authority=authority,
                                      result=result)
                for result in ("ok", "deny", "wait", "error", "timeout")}

    def test_the_first_that_is_for_the_client_decides(self):
        self.backends["imap"].answers = ["OK go on", "OK go on"]
        for protocol, user, password, expected in (
                ("imap", "alice@STAFF.test", PASSWORD, clients.LOGIN_REFUSED),  # no such user
                ("imap", "alice@staff.test", PASSWORD, clients.LOGIN_OK),
                ("imap", "bob", PASSWORD, clients.LOGIN_OK),  # whatever it is, to the backend
                ("pop3", "bob", PASSWORD, clients.LOGIN_REFUSED)):
            with self.subTest(protocol, user=user):
                answer = self.login(protocol, user, password)
                # The backend of POP3 knows no bob: that his password was right is another matter.
                expected = {"pop3": "-ERR [SYS/PERM]"} if protocol == "pop3" else expected
                self.assert_answer(answer, expected, protocol)

    def test_no_fall_through_on_a_refusal(self):
        before = self.counted("staff"), self.counted("rest")
        self.assert_answer(self.login("imap", "alice@staff.test", "backend's"),
                           clients.LOGIN_REFUSED, "imap")
        self.assertEqual(self.backends["imap"].logins, [])
        after = self.counted("staff"), self.counted("rest")
        self.assertEqual(after[0]["deny"], before[0]["deny"] + 1)
        self.assertEqual(after[1], before[1])

    def test_nobody_is_for_the_user(self):
        self.assert_answer(self.login("smtp", "carol", "backend's"), clients.LOGIN_REFUSED, "smtp")
        self.assertEqual(self.backends["smtp"].logins, [])
        line = self.gate.wait_log(event="login_failed", user="carol", protocol="smtp")[0]
        self.assertEqual((line["reason"], line["detail"], line.get("authority")),
                         ("credentials", "no authority is for this user here", None))

    def test_the_backend_as_authority_is_counted_by_its_answers(self):
        before = self.counted("rest")
        self.assert_answer(self.login("imap", "carol", "backend's"), clients.LOGIN_OK, "imap")
        self.assert_answer(self.login("imap", "carol", "wrong"), clients.LOGIN_REFUSED, "imap")
        after = self.counted("rest")
        self.assertEqual({r: after[r] - before[r] for r in after},
                         {"ok": 1, "deny": 1, "wait": 0, "error": 0, "timeout": 0})
        # Whether it works is said of each member.
        self.assertNotIn('gatepost_authority_up{authority="rest"}', self.gate.http("/metrics")[1])
        self.assertIn('gatepost_authority_up{authority="staff"}', self.gate.http("/metrics")[1])

    def test_check_tells_who_decides(self):
        result = run_gatepost("check", self.gate.config_file)
        for pattern in ("staff  .*2 users in .*chain-staff; domains staff.test, other.test",
                        "rest  .*the backend itself; listeners imap"):
            self.assertRegex(result.stdout, pattern)


class Failures(AuthorityTestCase):
    def test_too_many_failed_logins_close(self):
        farewell = {"imap": "* BYE", "pop3": "-ERR", "smtp": "421"}
        with contextlib.ExitStack() as stack:
            backends = {p: stack.enter_context(make(users={})) for p, make in PROTOCOLS.items()}
            gate = self.start(listeners(backends), {
                p: {"members": [b.member], "tls": "none"} for p, b in backends.items()},
                limits={"max_failed_logins": 3, "failed_login_delay": "10ms"})
            gate.wait_capabilities()
            for protocol, backend in backends.items():
                with self.subTest(protocol), gate.connect(protocol, tls=True) as wire:
                    clients.greeting(wire)
                    for _ in range(3):
                        self.assert_answer(self.attempt(wire, protocol, "u", "p"),
                                           clients.LOGIN_REFUSED, protocol)
                    rest = wire.rest().decode()
                    self.assertTrue(rest.startswith(farewell[protocol]) or rest == "", rest)
                    self.assertEqual(len(backend.logins), 3)
                gate.wait_log(event="session", protocol=protocol, result="too_many_failures")
            gate.settled()

    def test_each_refusal_takes_longer(self):
        """Only lower bounds: 0.1 s, doubled with each failure."""
        with RecordingImap(users={"u": "right"}) as backend:
            gate = self.start(listeners(["imap"]),
                              {"imap": {"members": [backend.member], "tls": "none"}},
                              limits={"failed_login_delay": "100ms"})
            with gate.connect("imap", tls=True) as wire:
                clients.greeting(wire)
                for least in (0.1, 0.2, 0.4):
                    started = time.monotonic()
                    self.attempt(wire, "imap", "u", "wrong")
                    self.assertGreaterEqual(time.monotonic() - started, least)
                self.assert_answer(self.attempt(wire, "imap", "u", "right"), clients.LOGIN_OK,
                                   "imap")
            gate.settled()

    def test_leaving_during_the_delay(self):
        with RecordingImap(users={}) as backend:
            gate = self.start(listeners(["imap"]),
                              {"imap": {"members": [backend.member], "tls": "none"}},
                              limits={"failed_login_delay": "15s"})
            wire = gate.connect("imap", tls=True)
            clients.greeting(wire)
            wire.send(clients.login_command("imap", "u", "wrong"))
            gate.wait_log(event="login_failed")  # before the delay, not behind it
            wire.reset()
            gate.settled()

    def test_no_backend_is_a_temporary_failure(self):
        sock, port = refused_port()
        with sock:
            gate = self.start(listeners(PROTOCOLS), {
                p: {"members": [f"127.0.0.1:{port}"], "tls": "none"} for p in PROTOCOLS})
            for protocol in PROTOCOLS:
                with self.subTest(protocol), gate.connect(protocol, tls=True) as wire:
                    clients.greeting(wire)
                    for _ in range(2):
                        answer = self.attempt(wire, protocol, "u", "p")
                        self.assert_answer(answer, clients.LOGIN_UNAVAILABLE, protocol)
            self.assertEqual(gate.metrics().value("auth_attempts_total", result="failed"), 0)
            self.assertGreaterEqual(gate.metrics().value("auth_attempts_total", result="tempfail"),
                                    6)
            self.assertEqual(gate.metrics().value("authority_requests_total", authority="backend",
                                                  result="error"), 6)
            # Whether it works is said of each member.
            self.assertNotIn("gatepost_authority_up", gate.http("/metrics")[1])
            gate.settled()
