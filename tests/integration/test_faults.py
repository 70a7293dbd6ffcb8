# Everything that can go wrong around the gateway: backends that are down, silent, slow, mad or liars,
# clients that vanish, stall or come in crowds, descriptors that run out, and shutting down.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import resource
import signal
import socket
import threading
import unittest

import clients
from clients import LOGIN_OK, LOGIN_UNAVAILABLE
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp, Server, refused_port
from gatepost import (HOST, GatewayTestCase, certificates, client_context, sanitized,
                      strange_certificates)
from wire import Closed, Wire, poll_until

RECORDING = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}
IMPLICIT = {p: {"protocol": p, "tls": "implicit", "pool": p} for p in RECORDING}
SHORT = {"connect_timeout": "1s", "login_timeout": "1s"}


def hold(wire):
    """Serves nothing until the peer leaves."""
    wire.rest()


class FaultTestCase(GatewayTestCase):
    def start_imap(self, members, pool=None, **options):
        """A gateway with the listeners imaps and imap in front of `members`."""
        keys = {"members": members, "tls": "none", **(pool or {})}
        return self.start({"imaps": {"protocol": "imap", "tls": "implicit"},
                           "imap": {"protocol": "imap", "tls": "starttls",
                                    "cleartext_login": "allow"}}, {"pool": keys}, **options)

    def attempt(self, gate, name, protocol="imap", **options):
        """Logs in and returns the answer."""
        with gate.connect(name, tls=gate.listeners[name]["tls"] == "implicit", **options) as wire:
            clients.greeting(wire)
            return clients.login(wire, protocol, "u", "p")

    def assert_answer(self, answer, expected, protocol):
        self.assertTrue(answer.startswith(expected[protocol]), answer)

    def assert_unavailable(self, gate, protocol):
        """A login ends in a temporary failure, and the client may go on."""
        with self.subTest(protocol), gate.connect(protocol, tls=True) as wire:
            clients.greeting(wire)
            self.assert_answer(clients.login(wire, protocol, "u", "p"), LOGIN_UNAVAILABLE, protocol)
            wire.send(clients.QUIT[protocol] + "\r\n")
            self.assertTrue(wire.rest())


# ---- backends

class BadBackends(FaultTestCase):
    """Each is a temporary failure: never a wrong password, never a hang, nothing left behind."""

    def assert_each_unavailable(self, handler, answer=None, **pool):
        with contextlib.ExitStack() as stack:
            servers = {p: stack.enter_context(Server(handler)) for p in RECORDING}
            gate = self.start(IMPLICIT, {
                p: {"members": [s.member], "tls": "none", **SHORT, **pool}
                for p, s in servers.items()})
            for protocol in servers:
                self.assert_unavailable(gate, protocol)
            gate.settled()
            self.assertEqual(gate.metrics().value("auth_attempts_total", result="failed"), 0)

    def test_refuses_the_connection(self):
        sock, port = refused_port()
        with sock:
            gate = self.start(IMPLICIT, {p: {"members": [f"{HOST}:{port}"], "tls": "none"}
                                         for p in RECORDING})
            for protocol in RECORDING:
                self.assert_unavailable(gate, protocol)

    def test_is_silent(self):
        self.assert_each_unavailable(hold)

    def test_closes_at_once(self):
        self.assert_each_unavailable(lambda wire: None)

    def test_resets_at_once(self):
        self.assert_each_unavailable(lambda wire: wire.reset())

    def test_closes_in_its_greeting(self):
        self.assert_each_unavailable(lambda wire: wire.send("* OK [CAPAB"))

    def test_greets_with_garbage(self):
        self.assert_each_unavailable(lambda wire: (wire.send(bytes(range(256)) * 20 + b"\r\n"),
                                                   wire.rest()))

    def test_greets_without_end(self):
        def flood(wire):
            while True:
                wire.send(b"x" * 65536)
        self.assert_each_unavailable(flood)

    def test_speaks_http(self):
        self.assert_each_unavailable(lambda wire: (
            wire.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), wire.rest()))

    def test_refuses_service(self):
        def refuse(wire):
            # Which protocol it is shows in what the gateway would take for a greeting: all three.
            wire.send("* BYE busy\r\n-ERR [SYS/TEMP] busy\r\n421 4.3.2 busy\r\n")
        self.assert_each_unavailable(refuse)

    def test_tls_expected_and_not_spoken(self):
        self.assert_each_unavailable(lambda wire: (wire.send("* OK hello\r\n"), wire.rest()),
                                     tls="implicit", verify=False)

    def test_closes_behind_the_login(self):
        for protocol, make in RECORDING.items():
            with self.subTest(protocol), make() as backend:
                closing = "CLOSE"
                backend.answer = lambda *_: closing
                backend.answer_plain = lambda *_: closing
                original = backend.next_line

                def next_line(wire, original=original):
                    line = original(wire)
                    if line.upper().split(" ")[0] in ("PASS", "AUTH") or " LOGIN " in line \
                            or " AUTHENTICATE " in line:
                        raise Closed()
                    return line
                backend.next_line = next_line
                gate = self.start({protocol: IMPLICIT[protocol]},
                                  {protocol: {"members": [backend.member], "tls": "none"}})
                self.assert_unavailable(gate, protocol)
                gate.settled()


class BackendTls(FaultTestCase):
    def test_certificate_that_does_not_verify(self):
        """Wrong authority, wrong name: no password leaves the gateway."""
        for name, served, pool in (
                ("authority", strange_certificates(), {"server_name": "localhost"}),
                ("name", certificates(), {"server_name": "other.example.test"})):
            with RecordingImap(tls=served.server_context()) as backend:
                gate = self.start_imap([backend.member],
                                       {"tls": "starttls", "ca_file": certificates().ca, **pool})
                answer = self.attempt(gate, "imaps")
                self.assertRegex(answer, r"^l NO \[(UNAVAILABLE|SERVERBUG)\]", name)
                self.assertEqual(backend.logins, [])
                gate.settled()

    def test_verification_switched_off(self):
        with RecordingImap(tls=strange_certificates().server_context()) as backend:
            gate = self.start_imap([backend.member], {"tls": "starttls", "verify": False})
            self.assert_answer(self.attempt(gate, "imaps"), LOGIN_OK, "imap")
            gate.settled()

    def test_no_starttls_there(self):
        for protocol, expected in (("imap", r"^l NO \[SERVERBUG\]"), ("pop3", r"^-ERR \[SYS/PERM\]"),
                                   ("smtp", "^454 4.7.0")):
            with self.subTest(protocol), RECORDING[protocol]() as backend:
                gate = self.start({protocol: IMPLICIT[protocol]}, {protocol: {
                    "members": [backend.member], "tls": "starttls", "verify": False}})
                self.assertRegex(self.attempt(gate, protocol, protocol), expected)
                self.assertEqual(backend.logins, [])
                gate.settled()

    def test_bytes_behind_the_starttls_answer(self):
        """Response injection: what arrives before the handshake is not believed after it."""
        def imap(wire):
            wire.send("* OK [CAPABILITY IMAP4rev1 STARTTLS] hello\r\n")
            tag = wire.line().split(" ")[0]
            wire.send(f"{tag} OK begin\r\n* CAPABILITY IMAP4rev1 INJECTED\r\n")
            wire.rest()

        def pop3(wire):
            wire.send("+OK hello\r\n")
            while wire.line() != "STLS":
                wire.send("+OK\r\nSTLS\r\nUSER\r\n.\r\n")
            wire.send("+OK begin\r\n+OK injected\r\n")
            wire.rest()

        def smtp(wire):
            wire.send("220 hello\r\n")
            while wire.line() != "STARTTLS":
                wire.send("250-backend\r\n250 STARTTLS\r\n")
            wire.send("220 begin\r\n250 injected\r\n")
            wire.rest()
        for protocol, handler in (("imap", imap), ("pop3", pop3), ("smtp", smtp)):
            with Server(handler) as backend:
                gate = self.start({protocol: IMPLICIT[protocol]}, {protocol: {
                    "members": [backend.member], "tls": "starttls", "verify": False, **SHORT}})
                answer = self.attempt(gate, protocol, protocol)
                self.assertNotIn("injected", answer.lower())
                self.assertFalse(answer.startswith(LOGIN_OK[protocol]), answer)
                gate.settled()


class LyingBackends(FaultTestCase):
    def test_preauth(self):
        """Whoever the backend takes us for, it is not our user."""
        with Server(lambda wire: (wire.send("* PREAUTH welcome root\r\n"), wire.rest())) as backend:
            gate = self.start_imap([backend.member], SHORT)
            self.assertRegex(self.attempt(gate, "imaps"), "^l NO ")
            gate.settled()

    def test_answers_before_the_question(self):
        def imap(wire):
            wire.send("* OK hello\r\n" + "".join(
                f"{tag} OK [CAPABILITY IMAP4rev1] logged in\r\n"
                for tag in ("a", "A1", "1", "a1", "g1", "0", "A001")))
            wire.rest()

        def pop3(wire):
            wire.send("+OK hello\r\n+OK\r\n+OK logged in\r\n")
            wire.rest()

        def smtp(wire):
            wire.send("220 hello\r\n250-backend\r\n250 AUTH PLAIN\r\n235 welcome\r\n")
            wire.rest()
        for protocol, handler in (("imap", imap), ("pop3", pop3), ("smtp", smtp)):
            with Server(handler) as backend:
                gate = self.start({protocol: IMPLICIT[protocol]}, {protocol: {
                    "members": [backend.member], "tls": "none", **SHORT}})
                answer = self.attempt(gate, protocol, protocol)
                self.assertFalse(answer.startswith(LOGIN_OK[protocol]), answer)
                gate.settled()

    def test_smtp_replies_to_nothing_after_login(self):
        """A reply without its command would shift every later one."""
        def unasked(wire):
            wire.send("250 nobody asked\r\n")
        with RecordingSmtp() as backend:
            gate = self.start({"smtp": IMPLICIT["smtp"]},
                              {"smtp": {"members": [backend.member], "tls": "none"}})
            with clients.logged_in(gate, "smtp", "u", "p") as wire:
                unasked(backend.wires[-1])
                self.assertNotIn(b"250", wire.rest())
            gate.settled()


class SlowBackends(FaultTestCase):
    def test_byte_by_byte(self):
        for protocol, make in RECORDING.items():
            for tls in (None, certificates().server_context()):
                with self.subTest(protocol, tls=bool(tls)), make(tls=tls) as backend:
                    talk = backend.handler

                    def dribble(wire, talk=talk):
                        wire.dribble = True
                        talk(wire)
                    backend.handler = dribble
                    gate = self.start({protocol: IMPLICIT[protocol]}, {protocol: {
                        "members": [backend.member], "tls": "starttls" if tls else "none",
                        **({"ca_file": certificates().ca, "server_name": "localhost"} if tls
                           else {})}})
                    gate.wait_capabilities()
                    with clients.logged_in(gate, protocol, "u", "p", dribble=True) as wire:
                        wire.send(clients.QUIT[protocol] + "\r\n")
                        self.assertTrue(wire.rest())
                    gate.settled()

    def test_untagged_lines_before_the_login_answer(self):
        lines = ["* CAPABILITY IMAP4rev1 IDLE", "* OK [ALERT] quota is nearly reached",
                 "* NO the disk is 98% full", "* 3 EXISTS"]
        with RecordingImap(untagged_before_login=lines) as backend:
            gate = self.start_imap([backend.member])
            self.assert_answer(self.attempt(gate, "imaps"), LOGIN_OK, "imap")
            with gate.connect("imaps", tls=True) as wire:
                clients.greeting(wire)
                answer = wire.imap("l", "LOGIN u p")
                self.assertIn("* OK [ALERT] quota is nearly reached", answer)
                self.assertRegex(answer[-1], r"^l OK \[CAPABILITY .*MOVE")
            gate.settled()

    def test_bytes_behind_the_login_answer_are_relayed(self):
        with RecordingImap(after_login=lambda wire: (wire.send("* 1 EXISTS\r\n* OK more\r\n"),
                                                     wire.rest())) as backend:
            gate = self.start_imap([backend.member])
            with clients.logged_in(gate, "imaps", "u", "p") as wire:
                self.assertEqual([wire.line(), wire.line()], ["* 1 EXISTS", "* OK more"])
            gate.settled()


class SeveralMembers(FaultTestCase):
    def test_the_next_member_serves(self):
        sock, port = refused_port()
        with sock, RecordingImap() as good:
            with Server(lambda wire: wire.send("* BYE busy\r\n")) as busy:
                gate = self.start_imap([f"{HOST}:{port}", busy.member, good.member])
                for _ in range(6):
                    self.assert_answer(self.attempt(gate, "imaps"), LOGIN_OK, "imap")
                self.assertEqual(len(good.logins), 6)
                gate.settled()

    def test_a_refusal_is_final(self):
        """The password is not tried on the next member."""
        with RecordingImap(users={}) as first, RecordingImap(users={}) as second:
            gate = self.start_imap([first.member, second.member])
            self.assertRegex(self.attempt(gate, "imaps"), r"^l NO \[AUTHENTICATIONFAILED\]")
            self.assertEqual(len(first.logins) + len(second.logins), 1)
            gate.settled()

    def test_a_member_that_comes_back(self):
        sock, port = refused_port()
        gate = self.start_imap([f"{HOST}:{port}"])
        self.assert_answer(self.attempt(gate, "imaps"), LOGIN_UNAVAILABLE, "imap")
        with RecordingImap() as backend:
            sock.listen()
            relay = threading.Thread(target=self.pipe_once, args=(sock, backend.port), daemon=True)
            relay.start()
            poll_until(lambda: self.attempt(gate, "imaps").startswith("l OK"), "a login")
            failed = gate.log_lines(event="backend_failed")
            self.assertEqual([line["cause"] for line in failed], ["unreachable"])
            recovered = gate.wait_log(event="backend_recovered")
            self.assertEqual(len(recovered), 1)
            self.assertEqual(recovered[0]["backend"], f"{HOST}:{port}")
            self.assertGreaterEqual(int(recovered[0]["failures"]), 1)
            gate.settled()
            sock.close()

    @staticmethod
    def pipe_once(listener, port):
        """Connects what arrives at `listener` to `port`, both ways."""
        def copy(source, target):
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                backend = socket.create_connection((HOST, port))
                for pair in ((client, backend), (backend, client)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    def test_the_backend_dies_during_the_session(self):
        farewell = {"imap": "* BYE", "pop3": "", "smtp": "421"}
        with contextlib.ExitStack() as stack:
            backends = {p: stack.enter_context(make()) for p, make in RECORDING.items()}
            gate = self.start(IMPLICIT, {p: {"members": [b.member], "tls": "none"}
                                         for p, b in backends.items()})
            gate.wait_capabilities()
            for protocol, backend in backends.items():
                for reset in (False, True):
                    with self.subTest(protocol, reset=reset), \
                            clients.logged_in(gate, protocol, "u", "p") as wire:
                        backend.drop_connections(reset)
                        rest = wire.rest().decode()
                        if reset or protocol == "smtp":  # a FIN can be the end of a conversation
                            self.assertTrue(rest.startswith(farewell[protocol]), rest)
            gate.settled()


# ---- clients

class VanishingClients(FaultTestCase):
    def test_in_every_phase(self):
        """FIN or RST after each step of a login, and in the middle of a transfer."""
        def endless(wire):
            wire.line()
            while True:
                wire.send(b"x" * 65536)
        with RecordingImap(after_login=endless) as backend:
            gate = self.start_imap([backend.member])
            steps = [b"", b"l LOG", b"l LOGIN {1}\r\n", b"l AUTHENTICATE LOGIN\r\n",
                     b"l LOGIN u p\r\n", b"l LOGIN u p\r\nf FETCH 1 BODY[]\r\n"]
            for data in steps:
                for end in (Wire.close, Wire.reset):
                    for name, tls in (("imaps", True), ("imap", False)):
                        wire = gate.connect(name, tls=tls)
                        wire.send(data)
                        if data.endswith(b"[]\r\n"):
                            wire.read(200_000)
                        end(wire)
            # In the middle of a handshake.
            for end in (Wire.close, Wire.reset):
                wire = gate.connect("imaps")
                wire.send(b"\x16\x03\x01\x02\x00\x01")
                end(wire)
            gate.settled()

    def test_while_the_backend_is_silent(self):
        def silent_later(wire):
            if backend.connections > 1:  # the first one asks for capabilities
                wire.rest()
        with Server(silent_later) as backend:
            gate = self.start_imap([backend.member], {"login_timeout": "5m"})
            wire = gate.connect("imaps", tls=True)
            clients.greeting(wire)
            connections = backend.connections
            wire.send("l LOGIN u p\r\n")
            poll_until(lambda: backend.connections > connections, "a connection to the backend")
            wire.reset()
            gate.settled()

    def test_in_mail_data(self):
        """What was not ended by its client is no message."""
        for end in (Wire.close, Wire.reset):
            with RecordingSmtp() as backend:
                gate = self.start({"smtp": IMPLICIT["smtp"]},
                                  {"smtp": {"members": [backend.member], "tls": "none"}})
                wire = clients.logged_in(gate, "smtp", "u", "p")
                for command in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA"):
                    wire.command(command)
                wire.send(b"half a message\r\n" * 10_000)
                end(wire)
                gate.settled()
            self.assertEqual((backend.messages, backend.unfinished), ([], 1))


class SlowClients(FaultTestCase):
    SIZE = 200_000_000
    ROOM = 8_000_000  # what a gateway may hold for one session, with room for the allocator

    def test_a_reader_that_stalls(self):
        """The backend is not read faster than the client takes it."""
        sent = []

        def give(wire):
            wire.line()
            block = b"y" * 1_000_000
            for _ in range(self.SIZE // len(block)):
                wire.send(block)
                sent.append(len(block))
            wire.rest()
        with RecordingImap(after_login=give) as backend:
            gate = self.start_imap([backend.member])
            for name, tls in (("imaps", None), ("imap", False)):
                sent.clear()
                with self.subTest(name), clients.logged_in(gate, name, "u", "p", tls=tls) as wire:
                    before = gate.pss()
                    wire.send("f FETCH 1 BODY[]\r\n")
                    wire.read(1)
                    self.wait_for_standstill(sent)
                    self.assertLess(sum(sent), self.SIZE)  # it was stopped
                    if not sanitized():
                        self.assertLess(gate.pss() - before, self.ROOM)
                    wire.skip(self.SIZE - 1)
                    if not sanitized():
                        self.assertLess(gate.pss() - before, self.ROOM)
                    # The end of the client is the end of the backend's connection.
                gate.settled()

    def test_a_backend_that_stalls(self):
        """The other way: an upload waits for the backend."""
        go_on = threading.Event()
        received = []

        def take(wire):
            go_on.wait()
            wire.skip(50_000_000)
            received.append(50_000_000)
            wire.send("* BYE thanks\r\n")
        with RecordingImap(after_login=take) as backend, contextlib.ExitStack() as ending:
            ending.callback(go_on.set)  # before the backend waits for its threads
            gate = self.start_imap([backend.member])
            with clients.logged_in(gate, "imaps", "u", "p") as wire:
                before = gate.pss()
                sent = []

                def upload():
                    with contextlib.suppress(OSError):  # a failed test closes it
                        for _ in range(50):
                            wire.send(b"z" * 1_000_000)
                            sent.append(1)
                thread = threading.Thread(target=upload, daemon=True)
                thread.start()
                self.wait_for_standstill(sent)
                self.assertLess(len(sent), 50)
                if not sanitized():
                    self.assertLess(gate.pss() - before, self.ROOM)
                go_on.set()
                thread.join()
                self.assertEqual(wire.line(), "* BYE thanks")
            self.assertEqual(received, [50_000_000])
            gate.settled()

    @staticmethod
    def wait_for_standstill(progress):
        """Waits until `progress` grows no more: the same in 20 looks, 10 ms apart."""
        looks = [-1]

        def still():
            looks.append(len(progress))
            return len(looks) > 20 and len(set(looks[-20:])) == 1
        poll_until(still, "a standstill")


class Crowds(FaultTestCase):
    def test_half_open_connections_and_a_good_client(self):
        """500 that never finish; one of another address that does not notice."""
        with RecordingImap() as backend:
            gate = self.start_imap([backend.member],
                                   limits={"max_connections_per_address": 1000,
                                           "tls_handshake_timeout": "5m", "login_timeout": "5m"})
            crowd = []
            try:
                for i in range(500):
                    wire = gate.connect("imaps")
                    if i % 2:
                        wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                    crowd.append(wire)
                gate.wait_active(500)
                for _ in range(5):
                    self.assert_answer(self.attempt(gate, "imaps"), LOGIN_OK, "imap")
                    self.assert_answer(self.attempt(gate, "imap"), LOGIN_OK, "imap")
            finally:
                for wire in crowd:
                    wire.close()
            gate.settled()

    def test_everybody_at_once(self):
        """A crowd whose ClientHellos arrive at the same moment; some of it leaves before its turn."""
        with RecordingImap() as backend, contextlib.ExitStack() as held:
            gate = self.start_imap([backend.member], limits={"max_connections_per_address": 1000})
            gate.process.send_signal(signal.SIGSTOP)  # connections and bytes gather in the kernel
            try:
                crowd = [held.enter_context(gate.connect("imaps")) for _ in range(200)]
                threads = [threading.Thread(target=self.come_and_stay, args=(wire, i % 4 == 0))
                           for i, wire in enumerate(crowd)]
                for thread in threads:
                    thread.start()
            finally:
                gate.process.send_signal(signal.SIGCONT)
            for thread in threads:
                thread.join()
            stayed = [wire for i, wire in enumerate(crowd) if i % 4]
            for wire in stayed:
                self.assertTrue(clients.greeting(wire).startswith("* OK"))
            self.assert_answer(clients.login(stayed[-1], "imap", "u", "p"), LOGIN_OK, "imap")
            gate.wait_active(len(stayed))
            held.close()
            gate.settled()

    @staticmethod
    def come_and_stay(wire, leaves):
        if leaves:
            wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            wire.reset()
        else:
            wire.start_tls(client_context())

    def test_deadlines_before_login(self):
        """Handshake and login have absolute deadlines, whatever the client does."""
        with RecordingImap() as backend:
            gate = self.start_imap([backend.member], limits={"tls_handshake_timeout": "300ms",
                                                            "login_timeout": "600ms"})
            with gate.connect("imaps") as silent, gate.connect("imap") as busy, \
                    gate.connect("imap") as idle:
                self.assertEqual(silent.rest(), b"")
                clients.greeting(idle)
                self.assertRegex(idle.rest().decode(), r"^\* BYE")
                with contextlib.suppress(OSError):  # it may end between two commands
                    while busy.fill():
                        busy.send("n NOOP\r\n")
                self.assertIn(b"* BYE", busy.received)
            gate.wait_log(event="session", result="tls_timeout")
            gate.wait_log(2, event="session", result="login_timeout")
            gate.settled()

    def test_limit_of_an_address(self):
        with contextlib.ExitStack() as stack:
            backends = {p: stack.enter_context(make()) for p, make in RECORDING.items()}
            gate = self.start(
                {p: {"protocol": p, "tls": "starttls", "pool": p} for p in RECORDING},
                {p: {"members": [b.member], "tls": "none"} for p, b in backends.items()},
                limits={"max_connections_per_address": 3})
            for protocol, refusal in (("imap", "* BYE [UNAVAILABLE]"), ("pop3", "-ERR [SYS/TEMP]"),
                                      ("smtp", "421 4.7.0")):
                with self.subTest(protocol), contextlib.ExitStack() as held:
                    for _ in range(3):
                        clients.greeting(held.enter_context(gate.connect(protocol)))
                    with gate.connect(protocol) as wire:
                        self.assertTrue(wire.rest().decode().startswith(refusal))
                    other = held.enter_context(gate.connect(protocol, source="127.0.0.2"))
                    self.assertTrue(clients.greeting(other).startswith(clients.GREETING[protocol]))
                gate.wait_active(0)
            self.assertEqual(gate.metrics().value("connections_rejected_total"), 3)
            gate.settled()

    def test_limit_of_all(self):
        with RecordingImap() as backend:
            gate = self.start_imap([backend.member], limits={"max_connections": 2})
            with gate.connect("imap") as a, gate.connect("imap", source="127.0.0.2") as b:
                clients.greeting(a)
                clients.greeting(b)
                with gate.connect("imap", source="127.0.0.3") as wire:
                    self.assertTrue(wire.rest().startswith(b"* BYE [UNAVAILABLE]"))
                with gate.connect("imaps", source="127.0.0.3") as wire:
                    self.assertEqual(wire.rest(), b"")
            gate.wait_active(0)
            self.assert_answer(self.attempt(gate, "imaps"), LOGIN_OK, "imap")
            gate.settled()

    def test_limit_of_descriptors(self):
        """As many sessions as the log says, all with a backend; whoever comes then hears words."""
        with contextlib.ExitStack() as stack:
            backends = {p: stack.enter_context(make()) for p, make in RECORDING.items()}
            gate = self.start(
                {p: {"protocol": p, "tls": "starttls", "pool": p, "cleartext_login": "allow"}
                 for p in RECORDING},
                {p: {"members": [b.member], "tls": "none", "ready_connections": 20}
                 for p, b in backends.items()},
                max_descriptors=400, limits={"max_connections_per_address": 10_000})
            gate.wait_capabilities()
            limits = gate.wait_log(event="limits")[0]
            self.assertEqual(limits["descriptors"], "400")
            sessions = int(limits["sessions"])
            self.assertGreater(sessions, 30)
            held = contextlib.ExitStack()
            with held:
                for i in range(sessions):
                    protocol = ("imap", "pop3", "smtp")[i % 3]
                    wire = held.enter_context(gate.connect(protocol))
                    clients.greeting(wire)
                    self.assert_answer(clients.login(wire, protocol, "u", "p"), LOGIN_OK, protocol)
                for protocol, words in (("imap", "* BYE [UNAVAILABLE]"), ("pop3", "-ERR [SYS/TEMP]"),
                                        ("smtp", "421 4.3.2")):
                    with gate.connect(protocol) as refused:
                        self.assertEqual(refused.rest().decode()[:len(words)], words)
                self.assertEqual(gate.metrics().value("connections_rejected_total",
                                                      reason="global_limit"), 3)
                gate.process.send_signal(signal.SIGHUP)  # it has files to open
                self.assertEqual(gate.wait_log(event="reload")[0]["result"], "ok")
                self.assertEqual(gate.log_lines(event="accept_failed"), [])
            gate.wait_active(0)
            self.assert_answer(self.attempt(gate, "imap"), LOGIN_OK, "imap")

    @unittest.skipIf(sanitized() == "address", "UBSan's own checks need descriptors")
    def test_no_descriptors_left(self):
        """EMFILE at accept neither spins nor kills, and is over when others leave."""
        with RecordingImap() as backend:
            gate = self.start_imap([backend.member], max_descriptors=200, limits={
                "max_connections": 1, "max_connections_per_address": 10_000})
            # The limit of connections keeps descriptors free by itself: take them from outside.
            # Below what is open, so that not even a descriptor held in reserve helps.
            self.set_descriptor_limit(gate, 3)
            crowd = [gate.connect("imap") for _ in range(30)]
            try:
                gate.wait_log(event="accept_failed")
                cpu = self.cpu_ticks(gate)
                looks = []
                poll_until(lambda: looks.append(gate.process.poll()) or len(looks) == 100, "looks")
                self.assertEqual(set(looks), {None})
                self.assertLess(self.cpu_ticks(gate) - cpu, 50)  # half of the least time it took
            finally:
                for wire in crowd:
                    wire.close()
                self.set_descriptor_limit(gate, 200)
            poll_until(lambda: self.try_login(gate), "a login")
            gate.settled()

    def try_login(self, gate):
        with contextlib.suppress(OSError, Closed):
            return self.attempt(gate, "imap").startswith("l OK")
        return False

    @staticmethod
    def set_descriptor_limit(gate, count):

        resource.prlimit(gate.process.pid, resource.RLIMIT_NOFILE, (count, 200))

    @staticmethod
    def cpu_ticks(gate):
        with open(f"/proc/{gate.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])


class IdleTimeouts(FaultTestCase):
    def test_each_protocol_says_goodbye(self):
        with contextlib.ExitStack() as stack:
            backends = {p: stack.enter_context(make()) for p, make in RECORDING.items()}
            gate = self.start(IMPLICIT, {p: {"members": [b.member], "tls": "none"}
                                         for p, b in backends.items()},
                              idle_timeout=dict.fromkeys(RECORDING, "1s"))
            for protocol, farewell in (("imap", "* BYE"), ("pop3", ""), ("smtp", "421 4.4.2")):
                with self.subTest(protocol), clients.logged_in(gate, protocol, "u", "p") as wire:
                    self.assertTrue(wire.rest().decode().startswith(farewell))
                gate.wait_log(event="session", protocol=protocol, result="idle_timeout")
            gate.settled()


    def test_a_backend_that_takes_its_time_with_a_message(self):
        """A client that were told of idleness now would send the message again."""
        answers = threading.Event()
        self.addCleanup(answers.set)

        def taken(_):
            answers.wait()
            return "250 2.0.0 queued"
        with RecordingSmtp(data_reply=taken) as backend:
            gate = self.start({"smtp": IMPLICIT["smtp"]},
                              {"smtp": {"members": [backend.member], "tls": "none"}},
                              idle_timeout={"smtp": "1s"})
            with clients.logged_in(gate, "smtp", "u", "p") as wire:
                for command in ("MAIL FROM:<a@x.test>", "RCPT TO:<b@x.test>", "DATA"):
                    wire.command(command)
                wire.send("Subject: slow\r\n\r\n.\r\n")
                poll_until(lambda: backend.messages, "the message to arrive")
                # Those who come now and are idle measure the time: more than it would have had.
                for _ in range(2):
                    with clients.logged_in(gate, "smtp", "u", "p") as other:
                        other.rest()
                answers.set()
                self.assertEqual(wire.line(), "250 2.0.0 queued")
                self.assertTrue(wire.rest().startswith(b"421 4.4.2"))  # idle from here on
            gate.settled()


# ---- shutting down

class Drain(FaultTestCase):
    def start_three(self, stack, **options):
        backends = {p: stack.enter_context(make()) for p, make in RECORDING.items()}
        gate = self.start(IMPLICIT, {p: {"members": [b.member], "tls": "none"}
                                     for p, b in backends.items()}, **options)
        gate.wait_capabilities()
        return gate, backends

    def test_sessions_are_told(self):
        with contextlib.ExitStack() as stack:
            gate, _ = self.start_three(stack, process={"drain_timeout": "3s"})
            wires = {p: stack.enter_context(clients.logged_in(gate, p, "u", "p"))
                     for p in RECORDING}
            waiting = {p: stack.enter_context(gate.connect(p, tls=True)) for p in RECORDING}
            for wire in waiting.values():
                clients.greeting(wire)
            gate.process.send_signal(signal.SIGTERM)
            for wire, farewells in (
                    (wires["imap"], "* BYE"), (wires["smtp"], "421 4.3.2"), (wires["pop3"], ""),
                    (waiting["imap"], "* BYE"), (waiting["smtp"], "421 4.3.2"),
                    (waiting["pop3"], "-ERR [SYS/TEMP]")):
                self.assertTrue(wire.rest().decode().startswith(farewells), farewells)
            gate.stop(send_signal=None)

    def test_nothing_is_said_inside_mail_data(self):
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_three(stack, process={"drain_timeout": "60s"})
            wire = stack.enter_context(clients.logged_in(gate, "smtp", "u", "p"))
            for command in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA"):
                wire.command(command)
            wire.send("first half\r\n")
            gate.process.send_signal(signal.SIGTERM)
            gate.wait_log(event="drain")
            self.assertFalse(wire.readable())
            wire.send("second half\r\n.\r\n")
            self.assertEqual(wire.reply()[:3], "250")
            self.assertTrue(wire.rest().startswith(b"421 4.3.2"))
            self.assertEqual(backends["smtp"].messages, [b"first half\r\nsecond half\r\n"])
            gate.stop(send_signal=None)

    def test_mail_data_at_the_deadline(self):
        """The session ends without a word, and the message does not count."""
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_three(stack, process={"drain_timeout": "500ms"})
            wire = stack.enter_context(clients.logged_in(gate, "smtp", "u", "p"))
            for command in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA"):
                wire.command(command)
            wire.send("first half\r\n")
            gate.process.send_signal(signal.SIGTERM)
            self.assertEqual(wire.rest(), b"")
            self.assertEqual(backends["smtp"].messages, [])
            gate.stop(send_signal=None)

    def test_not_ready_and_not_accepting(self):
        with contextlib.ExitStack() as stack:
            gate, _ = self.start_three(stack, process={"drain_timeout": "60s"})
            wire = stack.enter_context(clients.logged_in(gate, "smtp", "u", "p"))
            wire.command("MAIL FROM:<a@example.test>")  # an open transaction keeps the session
            gate.process.send_signal(signal.SIGTERM)
            poll_until(lambda: gate.http("/readyz")[0] == 503, "not ready")
            self.assertEqual(gate.http("/healthz")[0], 200)
            self.assertEqual(gate.metrics().value("draining"), 1)
            poll_until(lambda: self.refused(gate), "a refused connection")
            wire.command("RSET")
            self.assertTrue(wire.rest().startswith(b"421"))
            gate.stop(send_signal=None)

    @staticmethod
    def refused(gate):
        try:
            gate.connect("imap").close()
        except ConnectionRefusedError:
            return True
        return False

    def test_a_second_signal_ends_at_once(self):
        for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)):
            with contextlib.ExitStack() as stack:
                gate, _ = self.start_three(stack, process={"drain_timeout": "1h"})
                wire = stack.enter_context(clients.logged_in(gate, "smtp", "u", "p"))
                wire.command("MAIL FROM:<a@example.test>")
                gate.process.send_signal(first)
                gate.wait_log(event="drain")
                gate.process.send_signal(second)
                gate.process.wait(60)
                self.assertEqual(wire.rest(), b"")
                self.assertEqual(gate.process.returncode, 128 + second)
                gate.kill()

    def test_without_sessions_it_ends_at_once(self):
        with contextlib.ExitStack() as stack:
            gate, _ = self.start_three(stack, process={"drain_timeout": "1h"})
            gate.stop(signal.SIGINT)


