# Dovecot's auth process as the authority: the real one with every mechanism that it offers, and a played
# one for what it may say besides.
# SPDX-License-Identifier: Apache-2.0
import base64
import hmac
import json
import os
import socket
import threading

import clients
from client_pki import ClientPki
from fault_servers import RecordingImap, RecordingSmtp, refused_port
from gatepost import (GatewayTestCase, address, certificates, pools, run_directory,
                      run_gatepost, start_backends)
from test_mechanisms import POOL, PROTOCOLS, Exchange, Scram, Tokens, first_message
from wire import poll_until

# Users of passdbs of their own are no users of the stores: what the gateway is told of them, it alone
# makes use of.
DOVECOT_AUTH = """\
auth_mechanisms = plain login scram-sha-1 scram-sha-256 cram-md5 xoauth2 oauthbearer external
auth_debug = yes
auth_ssl_username_from_cert = yes
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {directory}/oauth2.conf
}}
passdb {{
  driver = static
  mechanisms = external
  args = nopassword
}}
passdb {{
  driver = checkpassword
  args = {directory}/out-of-order
  username_filter = unlucky*
}}
passdb {{
  driver = passwd-file
  args = {directory}/elsewhere
  username_filter = !alice !bob !gate
}}
service auth {{
  unix_listener gatepost {{
    mode = 0666
  }}
  inet_listener {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


def setUpModule():
    global backends, secret, tcp_port, tokens, pki, elsewhere
    directory = run_directory()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tcp_port = probe.getsockname()[1]
    tokens = Tokens(directory)
    checkpassword = directory / "out-of-order"  # 111: for a while (cr.yp.to/checkpwd)
    checkpassword.write_text("#!/bin/sh\nexit 111\n")
    checkpassword.chmod(0o755)
    elsewhere = RecordingImap(tls=certificates().server_context())
    where = f"proxy host=127.0.0.1 port={elsewhere.member.split(':')[1]}"
    (directory / "elsewhere").write_text("".join(
        f"{user}:{{PLAIN}}pw-{user}::::::{fields}\n" for user, fields in {
            "moved": where,
            "renamed": f"{where} destuser=other@there pass=theirs",
            "spoken": f"{where} nologin master=gate pass=masters",
            "secured": f"{where} starttls=yes proxy_mech=PLAIN",
            "closed": "nologin reason=Closed-for-today",
            "athome": "allow_nets=127.0.0.7",
        }.items()))
    backends = start_backends(auth=DOVECOT_AUTH.format(port=tcp_port, directory=directory))
    secret = directory / "master-password"
    secret.write_text(backends.master_password)
    secret.chmod(0o600)
    pki = ClientPki(directory / "client-pki")
    pki.issue("alice", email="alice@example.test")


def tearDownModule():
    elsewhere.close()


def listeners(**keys):
    return {p: {"protocol": p, "tls": "implicit", "pool": POOL[p], **keys} for p in PROTOCOLS}


def master():
    """The keys of a pool where a master user speaks for the clients."""
    return {"login": "master", "master_user": backends.master_user, "master_password_file": secret}


def unix_socket():
    return str(backends.directory / "dovecot/gatepost")


class AuthorityTestCase(GatewayTestCase):
    def greeted(self, protocol, context=True, **options):
        wire = self.gate.connect(protocol, tls=context, **options)
        clients.greeting(wire)
        return wire

    def assert_answer(self, answer, expected, protocol):
        self.assertTrue(answer.startswith(expected[protocol]), answer)

    def capabilities(self, protocol="imap", **options):
        with self.greeted(protocol, **options) as wire:
            return wire.imap("c", "CAPABILITY")[0] if protocol == "imap" else \
                wire.command("EHLO tester.example.test")


def cram_md5(user, password):
    return lambda challenge: f"{user} " + hmac.new(password.encode(), challenge.encode(),
                                                   "md5").hexdigest()


def offers_scram(test):
    return "AUTH=SCRAM-SHA-256" in test.capabilities()


class RealDovecot(AuthorityTestCase):
    """Who a client is says the auth process; a master user speaks for it at the backends."""

    def begin(self, name, account=None, keys=None, limits=None):
        self.start(listeners(**(keys or {})), pools(backends, **(master() if account is None
                                                                 else account)),
                   authority={"kind": "dovecot", "socket": name}, limits=limits)
        self.gate.wait_capabilities()
        self.gate.baseline_fds += 2  # each worker's connection to Dovecot
        # It says itself what it has, to each worker.
        for _ in range(8):
            poll_until(lambda: "AUTH=XOAUTH2" in self.capabilities() or account is not None,
                       "mechanisms of Dovecot")

    def log_in(self, wire, protocol, mechanism, user, password):
        """The last answer; SCRAM's server must have proven itself where it is good."""
        if mechanism == "CRAM-MD5":
            return Exchange(wire, protocol, mechanism).finish(None, cram_md5(user, password))
        if mechanism.startswith("SCRAM"):
            scram = Scram(mechanism, user, password)
            answer = Exchange(wire, protocol, mechanism, scram.first()).finish(None, scram.answer)
            if answer.startswith(clients.LOGIN_OK[protocol]):
                self.assertTrue(scram.verified)
            return answer
        if mechanism == "LOGIN":
            prompts = {"Username:": user, "Password:": password}
            return Exchange(wire, protocol, mechanism).finish(None, prompts.get)
        if mechanism == "PLAIN":
            return Exchange(wire, protocol, mechanism, clients.plain(user, password)).hear()
        if mechanism in ("XOAUTH2", "OAUTHBEARER"):
            token = tokens.sign(user, None if password == backends.users[user] else b"strange")
            challenges = []
            answer = Exchange(wire, protocol, mechanism,
                              first_message(mechanism, user, token)).finish(
                None, lambda challenge: challenges.append(challenge) or "\1")
            for challenge in challenges:  # Dovecot's, to which the client has its dummy answer
                self.assertIn("status", json.loads(challenge))
            return answer
        return clients.login(wire, protocol, user, password)

    def test_every_mechanism_on_every_protocol(self):
        mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "XOAUTH2",
                      "OAUTHBEARER", "cleartext")
        for name in (unix_socket(), address(tcp_port)):
            self.begin(name)
            for protocol in PROTOCOLS:
                for mechanism in mechanisms:
                    with self.subTest(protocol, mechanism=mechanism, socket=name), \
                            self.greeted(protocol) as wire:
                        answer = self.log_in(wire, protocol, mechanism, "alice", "wrong")
                        self.assert_answer(answer, clients.LOGIN_REFUSED, protocol)
                        answer = self.log_in(wire, protocol, mechanism, "alice",
                                             backends.users["alice"])
                        self.assert_answer(answer, clients.LOGIN_OK, protocol)
                        wire.command(clients.QUIT[protocol])
            for mechanism in ("CRAM-MD5", "SCRAM-SHA-256", "OAUTHBEARER"):
                self.gate.wait_log(count=3, event="session", mechanism=mechanism, user="alice",
                                   login="ok")
                self.gate.wait_log(count=3, event="login_failed", mechanism=mechanism,
                                   user="alice", reason="credentials", authority="dovecot")
            metrics = self.gate.metrics()
            for result in ("ok", "deny"):
                # POP3 has no LOGIN of its own beside USER and PASS, which are "cleartext".
                self.assertEqual(24, metrics.value("authority_requests_total",
                                                   authority="dovecot", result=result))
            self.assertEqual(1, metrics.value("authority_up", authority="dovecot"))
            self.assertNotIn(backends.users["alice"], self.gate.log_text())
            self.gate.stop()

    def test_programs_find_their_way(self):
        """Python's libraries choose CRAM-MD5 by themselves, or can be told to."""
        self.begin(unix_socket())
        password = backends.users["bob"]
        imap = clients.imap(self.gate, "imap")
        self.assertEqual("OK", imap.login_cram_md5("bob", password)[0])
        self.assertEqual("OK", imap.select()[0])
        imap.logout()
        smtp = clients.smtp(self.gate, "smtp")
        smtp.ehlo("tester.example.test")
        self.assertEqual(235, smtp.login("bob", password)[0])  # the strongest that it knows first
        smtp.quit()
        pop3 = clients.pop3(self.gate, "pop3", "bob", password)
        self.assertTrue(pop3.noop().startswith(b"+OK"))
        pop3.quit()
        self.gate.wait_log(count=2, event="session", user="bob", mechanism="CRAM-MD5", login="ok")

    def test_a_certificate_alone(self):
        self.begin(unix_socket(), keys={
            "client_certificates": "request", "client_ca_file": pki.ca,
            "client_certificate_user": "email"})
        for protocol in PROTOCOLS:
            with self.subTest(protocol), \
                    self.greeted(protocol, pki.context("alice")) as wire:
                answer = Exchange(wire, protocol, "EXTERNAL", "=").hear()
                self.assert_answer(answer, clients.LOGIN_OK, protocol)
                wire.command(clients.QUIT[protocol])
        self.assertNotIn("EXTERNAL", self.capabilities())
        self.gate.wait_log(count=3, event="session", user="alice", mechanism="EXTERNAL")

    def test_dovecot_learns_who_asks(self):
        self.begin(unix_socket())
        with self.greeted("imap", source="127.0.0.7") as wire:
            self.assert_answer(self.log_in(wire, "imap", "PLAIN", "bob", backends.users["bob"]),
                               clients.LOGIN_OK, "imap")
            port = wire.sock.getsockname()[1]
            wire.command(clients.QUIT["imap"])
        session = self.gate.wait_log(event="session", user="bob", login="ok")[0]["id"]
        line = poll_until(lambda: next((l for l in backends.dovecot_log.read_text().splitlines()
                                        if f"session={session}" in l and "AUTH" in l), None),
                          "the question in Dovecot's log")
        for part in ("rip=127.0.0.7", f"rport={port}", f"lport={self.gate.ports['imap']}",
                     "secured", "local_name=localhost", "service=imap"):
            self.assertIn(part, line)
        self.assertNotIn("no-penalty", line)
        self.assertNotIn("real_", line)

    def test_dovecot_judges_by_the_clients_address(self):
        self.begin(unix_socket(), {})
        for source, expected in (("127.0.0.8", clients.LOGIN_REFUSED),
                                 ("127.0.0.7", {"imap": "l NO [SERVERBUG]"})):  # no mailbox
            with self.subTest(source), self.greeted("imap", source=source) as wire:
                self.assert_answer(clients.login(wire, "imap", "athome", "pw-athome"), expected,
                                   "imap")

    def test_a_client_may_cancel_or_leave(self):
        self.begin(unix_socket())
        for protocol in PROTOCOLS:
            with self.subTest(protocol), self.greeted(protocol) as wire:
                exchange = Exchange(wire, protocol, "CRAM-MD5")
                exchange.challenge()
                exchange.say("*")
                self.assert_answer(exchange.hear(), {"imap": "l BAD", "pop3": "-ERR",
                                                     "smtp": "501"}, protocol)
                answer = self.log_in(wire, protocol, "CRAM-MD5", "alice", backends.users["alice"])
                self.assert_answer(answer, clients.LOGIN_OK, protocol)
            with self.subTest(protocol), self.greeted(protocol) as wire:
                Exchange(wire, protocol, "CRAM-MD5").challenge()

    def test_many_share_one_connection(self):
        """Each gets its own answer, whatever order they come in."""
        self.begin(unix_socket())
        wires = [self.greeted("imap") for _ in range(40)]
        try:
            exchanges = [Exchange(wire, "imap", "CRAM-MD5") for wire in wires]
            challenges = [exchange.challenge() for exchange in exchanges]
            self.assertEqual(len(wires), len(set(challenges)))
            users = [("alice", "bob")[i % 2] for i in range(len(wires))]
            for i in reversed(range(len(wires))):
                wrong = "x" if i % 3 == 0 else ""
                answer = cram_md5(users[i], backends.users[users[i]] + wrong)(challenges[i])
                exchanges[i].say(base64.b64encode(answer.encode()).decode())
            for i, exchange in enumerate(exchanges):
                expected = clients.LOGIN_REFUSED if i % 3 == 0 else clients.LOGIN_OK
                self.assert_answer(exchange.hear(), expected, "imap")
        finally:
            for wire in wires:
                wire.close()
        for user in ("alice", "bob"):
            self.gate.wait_log(count=13, event="session", user=user, login="ok")

    def test_what_is_too_long_for_dovecot_harms_nobody(self):
        self.begin(unix_socket(), limits={"max_line_bytes": 65536})
        with self.greeted("imap") as waiting, self.greeted("imap") as wire:
            exchange = Exchange(waiting, "imap", "CRAM-MD5")
            challenge = exchange.challenge()
            for length in range(11900, 12300, 40):  # around what Dovecot takes for a line
                wire.send(f"l AUTHENTICATE PLAIN {clients.plain('alice', 'x' * length)}\r\n")
                self.assert_answer(wire.tagged("l")[-1], clients.LOGIN_REFUSED, "imap")
                if length % 160 == 100:  # before there are too many failures
                    wire.close()
                    wire = self.greeted("imap")
            wire.close()
            answer = cram_md5("alice", backends.users["alice"])(challenge)
            exchange.say(base64.b64encode(answer.encode()).decode())
            self.assert_answer(exchange.hear(), clients.LOGIN_OK, "imap")
        self.assertEqual([], self.gate.log_lines(event="authority_failed"))

    def test_a_master_user_of_dovecots_acts_for_another(self):
        for account in ({}, master()):
            self.begin(unix_socket(), account)
            with self.subTest(account), self.greeted("imap") as wire:
                message = clients.plain(backends.master_user, backends.master_password, "bob")
                answer = Exchange(wire, "imap", "PLAIN", message).hear()
                self.assert_answer(answer, clients.LOGIN_OK, "imap")
                wire.command(clients.QUIT["imap"])
            self.gate.wait_log(event="session", user="bob", login="ok")
            self.gate.stop()

    def test_without_another_login_only_passwords_are_taken(self):
        self.begin(unix_socket(), {})
        capabilities = self.capabilities()
        self.assertIn("AUTH=PLAIN", capabilities)
        # Tokens go on to Dovecot, which has them.
        poll_until(lambda: "AUTH=OAUTHBEARER" in self.capabilities(), "tokens")
        for mechanism in ("SCRAM", "CRAM"):
            self.assertNotIn(mechanism, self.capabilities())
        for protocol in PROTOCOLS:
            for mechanism in ("PLAIN", "OAUTHBEARER"):
                with self.subTest(protocol, mechanism=mechanism), self.greeted(protocol) as wire:
                    answer = self.log_in(wire, protocol, mechanism, "bob", backends.users["bob"])
                    self.assert_answer(answer, clients.LOGIN_OK, protocol)
                    wire.command(clients.QUIT[protocol])

    def begin_elsewhere(self, pool, **authority):
        self.start({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                   {"stores": pool}, authority={"kind": "dovecot", "socket": unix_socket(),
                                                **authority})
        self.gate.baseline_fds += 3  # to Dovecot, and a probe

    def test_where_users_live_and_as_whom_they_log_in_there(self):
        self.begin_elsewhere({"members": ["127.0.0.1:1"], "tls": "none"}, returns_pass=True)
        expected = {"moved": ("", "moved", "pw-moved"),
                    "renamed": ("", "other@there", "theirs"),
                    "spoken": ("spoken", "gate", "masters")}
        for user, login in expected.items():
            with self.subTest(user), self.greeted("imap") as wire:
                self.assert_answer(clients.login(wire, "imap", user, f"pw-{user}"),
                                   clients.LOGIN_OK, "imap")
            self.assertEqual((elsewhere.authorizations.pop(), *elsewhere.logins.pop()), login)
        # What the passdb returns is enough for who has told us no password.
        poll_until(lambda: offers_scram(self), "SCRAM")
        for user in ("renamed", "spoken"):
            with self.subTest(user), self.greeted("imap") as wire:
                answer = self.log_in(wire, "imap", "SCRAM-SHA-256", user, f"pw-{user}")
                self.assert_answer(answer, clients.LOGIN_OK, "imap")
            self.assertEqual((elsewhere.authorizations.pop(), *elsewhere.logins.pop()),
                             expected[user])
        with self.greeted("imap") as wire:
            answer = self.log_in(wire, "imap", "SCRAM-SHA-256", "moved", "pw-moved")
            self.assertTrue(answer.startswith("l NO [SERVERBUG]"), answer)
        self.assertIn("has no master_user", self.gate.wait_log(
            event="login_deferred", user="moved")[0]["detail"])
        with self.greeted("imap") as wire:
            self.assertEqual(clients.login(wire, "imap", "closed", "pw-closed"),
                             "l NO [AUTHORIZATIONFAILED] Closed-for-today")
            self.assert_answer(clients.login(wire, "imap", "closed", "wrong"),
                               clients.LOGIN_REFUSED, "imap")
        self.assertNotIn("theirs", self.gate.log_text())

    def test_tls_as_the_passdb_wants_it(self):
        cas = run_directory() / "both-cas.pem"
        cas.write_text(backends.ca_file.read_text() + certificates().ca.read_text())
        for pool, expected in (({"members": ["127.0.0.1:1"], "tls": "none"}, "l NO [SERVERBUG]"),
                               ({"members": [address(backends.imaps_port)], "tls": "implicit",
                                 "server_name": "localhost", "ca_file": cas}, "l OK")):
            self.begin_elsewhere(pool)
            with self.subTest(pool["tls"]), self.greeted("imap") as wire:
                answer = clients.login(wire, "imap", "secured", "pw-secured")
                self.assertTrue(answer.startswith(expected), answer)
            self.gate.stop()
        self.assertEqual(elsewhere.logins.pop(), ("secured", "pw-secured"))
        self.assertIn("STARTTLS", [line.split(" ")[1] for line in elsewhere.lines[-3:]])

    def test_out_of_order_is_temporary(self):
        self.begin(unix_socket())
        for protocol in PROTOCOLS:
            with self.subTest(protocol), self.greeted(protocol) as wire:
                answer = clients.login(wire, protocol, "unlucky", "x")
                self.assert_answer(answer, clients.LOGIN_UNAVAILABLE, protocol)
        self.gate.wait_log(count=3, event="login_deferred", user="unlucky", reason="unavailable")

    def test_dovecot_is_started_anew(self):
        self.begin(unix_socket())
        with self.greeted("imap") as waiting:
            Exchange(waiting, "imap", "CRAM-MD5").challenge()
            backends.dovecot.stop()
            try:
                self.gate.wait_log(event="authority_failed", authority="dovecot")
                poll_until(lambda: self.gate.metrics().value("authority_up", authority="dovecot")
                           == 0, "the metric")
                waiting.send("eA==\r\n")  # whatever it is: nobody is there to hear it
                self.assertTrue(waiting.tagged("l")[-1].startswith(
                    clients.LOGIN_UNAVAILABLE["imap"]))
                with self.greeted("imap") as wire:
                    self.assert_answer(
                        clients.login(wire, "imap", "alice", backends.users["alice"]),
                        clients.LOGIN_UNAVAILABLE, "imap")
            finally:
                backends.dovecot.start()
            self.gate.wait_log(event="authority_recovered", authority="dovecot")

            def logged_in():
                with self.greeted("imap") as wire:
                    answer = self.log_in(wire, "imap", "CRAM-MD5", "alice",
                                         backends.users["alice"])
                    return answer.startswith("l OK")
            poll_until(logged_in, "a login")


class PlayedDovecot:
    """A server on a Unix socket; `answers` maps a user to the rest of a line, None: no answer."""

    HANDSHAKE = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n"

    def __init__(self, path, answers, handshake=HANDSHAKE):
        self.path, self.answers, self.handshake = str(path), answers, handshake
        self.questions, self.connections, self.cancelled = [], [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        threads = []
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                break
            self.connections.append(connection)
            threads.append(threading.Thread(target=self.talk, args=(connection,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def talk(self, connection):
        users = {}
        try:
            connection.sendall(self.handshake.encode())
            for line in connection.makefile("r", newline="\n"):
                command, _, rest = line.rstrip("\n").partition("\t")
                number, _, rest = rest.partition("\t")
                if command == "CANCEL":
                    self.cancelled.append(users[number])
                if command not in ("AUTH", "CONT"):
                    continue
                message = base64.b64decode(rest.rpartition("resp=")[2]).decode()
                user = users.setdefault(number, message.split("\0")[-2] if "\0" in message else "")
                self.questions.append(user)
                answer = self.answers.get(user, "FAIL\t{}")
                if answer is not None:
                    connection.sendall((answer.format(number) + "\n").encode())
        except OSError:
            pass

    def drop(self):
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.drop()
        self.thread.join()
        for connection in self.connections:
            connection.close()
        os.unlink(self.path)


class Played(AuthorityTestCase):
    def setUp(self):
        self.path = run_directory() / f"auth-{self._testMethodName[-20:]}"
        self.backend = RecordingImap()
        self.addCleanup(self.backend.close)

    def play(self, answers=None, **options):
        played = PlayedDovecot(self.path, answers or {}, **options)
        self.addCleanup(played.close)
        return played

    def begin(self, **authority):
        self.start({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                   {"stores": {"members": [self.backend.member], "tls": "none"}},
                   authority={"kind": "dovecot", "socket": str(self.path), **authority},
                   process={"workers": 1})
        self.gate.wait_capabilities()
        self.gate.baseline_fds += 1  # the connection to Dovecot

    def login(self, user, password="secret"):
        with self.greeted("imap") as wire:
            return clients.login(wire, "imap", user, password)

    def up(self):
        return self.login("probe").startswith("l NO [AUTHENTICATIONFAILED]")

    def test_refusals(self):
        self.play({"temp": "FAIL\t{}\tcode=temp_fail", "authz": "FAIL\t{}\tcode=authz_fail",
                   "disabled": "FAIL\t{}\tuser=disabled\tcode=user_disabled",
                   "expired": "FAIL\t{}\tcode=pass_expired", "old": "FAIL\t{}\ttemp",
                   "nonsense": "OK\t{}\tuser=nonsense\tport=0\thost=a"})
        self.begin()
        for user, code in (("temp", "UNAVAILABLE"), ("old", "UNAVAILABLE"),
                           ("authz", "AUTHORIZATIONFAILED"), ("disabled", "CONTACTADMIN"),
                           ("expired", "EXPIRED"), ("nobody", "AUTHENTICATIONFAILED"),
                           ("nonsense", "SERVERBUG")):
            answer = self.login(user)
            self.assertTrue(answer.startswith(f"l NO [{code}]"), answer)
        self.assertEqual([], self.backend.logins)

    def test_mail_from_outside_knows_nothing_of_a_login_that_failed(self):
        """Dovecot wants another way to the backend of its users: not to that of all others."""
        self.play({"u": "OK\t{}\tuser=u\tstarttls"})
        sock, port = refused_port()
        self.addCleanup(sock.close)
        with RecordingSmtp() as outside:
            self.start({"mx": {"protocol": "smtp", "tls": "implicit", "pool": "users",
                               "relay": "local-domains", "local_domains": ["example.test"],
                               "inbound_pool": "outside"}},
                       {"users": {"members": [address(port)], "tls": "implicit",
                                  "ca_file": certificates().ca},
                        "outside": {"members": [outside.member], "tls": "none", "login": "none"}},
                       authority={"kind": "dovecot", "socket": str(self.path)},
                       process={"workers": 1})
            self.gate.baseline_fds += 1
            poll_until(lambda: self.gate.metrics().value("authority_up", authority="dovecot") == 1,
                       "the played Dovecot")
            with self.gate.connect("mx", tls=True) as wire:
                clients.greeting(wire)
                wire.command("EHLO tester.example.test")
                answer = wire.command("AUTH PLAIN " + clients.plain("u", "secret"))
                self.assert_answer(answer, clients.LOGIN_UNAVAILABLE, "smtp")
                self.assertTrue(wire.command("MAIL FROM:<a@elsewhere.example>").startswith("250"))
                self.assertTrue(wire.command("RCPT TO:<b@example.test>").startswith("250"))
                wire.command("QUIT")

    def test_an_outage_is_no_wrong_password_and_has_an_end(self):
        self.begin()
        self.assertTrue(self.login("same").startswith("l NO [UNAVAILABLE]"))
        self.gate.wait_log(event="authority_failed", authority="dovecot")
        played = self.play({"same": "OK\t{}\tuser=same", "silent": None})
        poll_until(self.up, "the played Dovecot")
        self.gate.wait_log(event="authority_recovered", authority="dovecot")
        self.assertTrue(self.login("same").startswith("l OK"))
        self.assertEqual(self.backend.logins.pop(), ("same", "secret"))
        with self.greeted("imap") as wire:  # one who waits for the answer when it dies
            wire.send('l LOGIN "silent" "secret"\r\n')
            poll_until(lambda: "silent" in played.questions, "the question")
            played.drop()
            self.assertTrue(wire.tagged("l")[-1].startswith("l NO [UNAVAILABLE]"))
        poll_until(self.up, "the played Dovecot again")

    def test_silence_has_an_end(self):
        played = self.play({"silent": None})
        self.begin(timeout="500ms")
        answer = self.login("silent")
        self.assertTrue(answer.startswith("l NO [UNAVAILABLE]"), answer)
        poll_until(lambda: "silent" in played.cancelled, "the cancelled question")
        self.assertEqual(1, self.gate.metrics().value("authority_requests_total",
                                                      authority="dovecot", result="timeout"))
        poll_until(self.up, "another connection")
        self.assertEqual(2, len(played.connections))

    def test_what_a_client_cancels_is_cancelled(self):
        """Else the answer to it would be taken for that to the next login of the same client."""
        played = self.play({"first": "CONT\t{}\t"})
        self.begin()
        with self.greeted("imap") as wire:
            exchange = Exchange(wire, "imap", "PLAIN", clients.plain("first", "secret"))
            self.assertEqual(exchange.challenge(), "")
            exchange.say("*")
            self.assertTrue(exchange.hear().startswith("l BAD"))
            poll_until(lambda: played.cancelled == ["first"], "the cancelled question")
            exchange = Exchange(wire, "imap", "PLAIN", clients.plain("first", "secret"))
            exchange.challenge()
        poll_until(lambda: played.cancelled == ["first", "first"], "that of the client that left")

    def test_an_answer_may_come_before_the_clients(self):
        """Dovecot does not wait for ever; a client can hear of that when it has answered."""
        self.play({"slow": "CONT\t{0}\t\nFAIL\t{0}\tuser=slow\tcode=temp_fail"})
        self.begin()
        with self.greeted("imap") as wire:
            exchange = Exchange(wire, "imap", "PLAIN", clients.plain("slow", "secret"))
            exchange.challenge()
            poll_until(lambda: self.gate.metrics().value(
                "authority_requests_total", authority="dovecot", result="error") == 1,
                "the answer")
            exchange.say("")
            self.assert_answer(exchange.hear(), clients.LOGIN_UNAVAILABLE, "imap")

    def test_only_so_many_ask_at_a_time(self):
        played = self.play({"silent": None})
        self.begin(max_concurrent=2)
        wires = [self.greeted("imap") for _ in range(3)]
        try:
            for wire in wires[:2]:
                wire.send('l LOGIN "silent" "secret"\r\n')
            poll_until(lambda: played.questions.count("silent") == 2, "two questions")
            wires[2].send('l LOGIN "third" "secret"\r\n')
            # What the worker has done since, it did after it had read that.
            self.capabilities()
            self.assertNotIn("third", played.questions)
            # The one who leaves makes room.
            wires.pop(0).reset()
            self.assert_answer(wires[1].tagged("l")[-1], clients.LOGIN_REFUSED, "imap")
        finally:
            for wire in wires:
                wire.reset()

    def test_a_last_message_goes_to_the_client_first(self):
        self.play({"proven": "OK\t{}\tuser=proven\tresp=dj1wcm9vZg=="},
                  handshake=PlayedDovecot.HANDSHAKE.replace("DONE", "MECH\tXOAUTH2\nDONE"))
        self.backend.capability += " AUTH=XOAUTH2"
        self.begin()
        with self.greeted("imap") as wire:
            exchange = Exchange(wire, "imap", "PLAIN", clients.plain("proven", "secret"))
            self.assertEqual(exchange.challenge(), "v=proof")
            exchange.say("")
            self.assert_answer(exchange.hear(), clients.LOGIN_OK, "imap")

    def test_nonsense_is_an_outage(self):
        played = self.play(handshake="HELO\n220 what\nVERSION\t2\t0\nDONE\n")
        self.begin()
        self.assertTrue(self.login("same").startswith("l NO [UNAVAILABLE]"))
        self.gate.wait_log(event="authority_failed", authority="dovecot")
        self.assertEqual([], played.questions)

    def test_guesses_are_throttled_whatever_the_mechanism(self):
        """With CRAM-MD5 nobody knows before the answer whom a client means."""
        class Cram(PlayedDovecot):
            def talk(self, connection):
                connection.sendall(self.handshake.encode())
                for line in connection.makefile("r", newline="\n"):
                    command, number, *rest = line.rstrip("\n").split("\t")
                    if command == "AUTH":
                        connection.sendall(f"CONT\t{number}\tPDE+\n".encode())
                    if command == "CONT":
                        user, word = base64.b64decode(rest[0]).decode().split(" ")
                        answer = "OK" if word == "right" else "FAIL"
                        connection.sendall(f"{answer}\t{number}\tuser={user}\n".encode())
        played = Cram(self.path, {}, PlayedDovecot.HANDSHAKE.replace("PLAIN", "CRAM-MD5"))
        self.addCleanup(played.close)
        self.start({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                   {"stores": {"members": [self.backend.member], "tls": "none", "login": "fixed",
                               "account": "all", "account_password_file": secret}},
                   authority={"kind": "dovecot", "socket": str(self.path)},
                   throttle={"max_failures_per_user": 3, "max_failures_per_user_and_address": 0},
                   limits={"max_failed_logins": 10}, process={"workers": 1})
        self.gate.baseline_fds += 1
        poll_until(lambda: "AUTH=CRAM-MD5" in self.capabilities(), "CRAM-MD5")
        self.assertIn("LOGINDISABLED", self.capabilities())  # it has nothing for a password

        def try_login(user, word, source):
            with self.greeted("imap", source=source) as wire:
                return Exchange(wire, "imap", "CRAM-MD5").finish(None, lambda _: f"{user} {word}")
        for i in range(3):
            self.assert_answer(try_login("alice", f"guess{i}", f"127.0.0.1{i}"),
                               clients.LOGIN_REFUSED, "imap")
        self.gate.wait_log(event="ban", scope="user", user="alice")
        self.assertTrue(try_login("alice", "right", "127.0.0.20").startswith("l NO [LIMIT]"))
        self.assert_answer(try_login("bob", "right", "127.0.0.20"), clients.LOGIN_OK, "imap")
        self.assertEqual(1, len(self.backend.logins))


class Configuration(GatewayTestCase):
    def test_check_says_what_cannot_work(self):
        file = run_directory() / "passwordless.toml"
        file.write_text(f"""\
[[certificate]]
chain = "{certificates().chain}"
key = "{certificates().key}"
[[listener]]
protocol = "imap"
addresses = ["127.0.0.1:0"]
mechanisms = ["PLAIN", "SCRAM-SHA-256"]
pool = "stores"
[pool.stores]
members = ["127.0.0.1:143"]
[[authority]]
kind = "dovecot"
socket = "/run/dovecot/auth-client"
""")
        checked = run_gatepost("check", file)
        self.assertNotEqual(0, checked.returncode)
        self.assertIn('"SCRAM-SHA-256" tells no password, and pool "stores" has no login without it',
                      checked.stderr)
        file.write_text(file.read_text() + "returns_pass = true\n")
        checked = run_gatepost("check", file)
        self.assertEqual(0, checked.returncode, checked.stderr)
        self.assertIn("Dovecot's auth process at /run/dovecot/auth-client", checked.stdout)
