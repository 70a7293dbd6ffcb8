# Backends under the test's hand: small servers that record what they are sent, or misbehave.
#
# Server runs a handler in a thread for each connection, with a Wire. The three recording backends
# speak just enough of their protocol to log in and relay; what the gateway sent stands in `lines`.
# SPDX-License-Identifier: Apache-2.0
import base64
import re
import socket
import struct
import threading

from wire import Closed, Wire


class Connection(Wire):
    """One that may be given up: whatever comes then is not read any more."""

    given_up = False

    def fill(self):
        more = super().fill()
        if self.given_up:
            raise Closed()
        return more


class Server:
    """Listens on `host` and an ephemeral port and gives each connection to `handler`."""

    def __init__(self, handler, backlog=128, host="127.0.0.1", port=0):
        self.handler = handler
        self.host = host
        self.connections = 0
        self.errors = []
        self.wires = []
        self._lock = threading.Lock()
        self._threads = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self._listener.listen(backlog)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def member(self):
        return f"{self.host}:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            wire = Connection(connection)
            with self._lock:
                self.connections += 1
                self.wires.append(wire)
            thread = threading.Thread(target=self._serve, args=(wire,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, wire):
        try:
            self.handler(wire)
        except (Closed, OSError):
            pass  # the gateway went away
        except Exception as error:  # shown by close()
            self.errors.append(error)
        finally:
            wire.close()

    def threads(self):
        """One for each connection that there was."""
        return list(self._threads)

    def drop_connections(self, reset=False):
        """Ends every connection, with FIN or RST; the listener stays."""
        with self._lock:
            wires, self.wires = self.wires, []
        for wire in wires:
            wire.given_up = True
            try:
                if reset:  # the thread that serves it wakes up and closes it
                    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                         struct.pack("ii", 1, 0))
                    wire.sock.shutdown(socket.SHUT_RD)
                else:
                    wire.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self._acceptor.join()
        self.drop_connections()
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]


def refused_port():
    """A port on which nobody listens, kept from others while the returned socket lives."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


# ---- recording backends

class Recording(Server):
    """What the three have in common: users, TLS, and the record.

    `users` maps names to passwords, None accepts everybody. `tls` is a server context for STARTTLS.
    `answers` are the final replies to the next logins, None refuses; when it is empty `users` decide.
    """

    def __init__(self, users=None, tls=None, **options):
        self.users, self.tls = users, tls
        self.lines = []  # every command line in its order, without CRLF
        self.logins = []  # (user, password) in their order
        self.authorizations = []  # the authorization identity of each
        self.answers = []
        super().__init__(self.talk, **options)

    def talk(self, wire):
        raise NotImplementedError

    def next_line(self, wire):
        line = wire.line()
        self.lines.append(line)
        return line

    def commands(self):
        """The verbs that were received."""
        return [line.split(" ")[0].upper() for line in self.lines]

    def answer(self, user, password, authorization, success, failure):
        """Records a login and returns the answer to it."""
        self.logins.append((user, password))
        self.authorizations.append(authorization)
        if self.answers:
            return self.answers.pop(0) or failure
        return success if self.users is None or self.users.get(user) == password else failure

    def answer_plain(self, response, success, failure):
        authorization, user, password = base64.b64decode(response).decode().split("\0")
        return self.answer(user, password, authorization, success, failure)


class RecordingImap(Recording):
    def __init__(self, capability="IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN IDLE",
                 untagged_before_login=(), after_login=None, **options):
        self.capability = capability
        self.untagged_before_login = untagged_before_login
        self.after_login = after_login  # called with the wire in place of the command loop
        super().__init__(**options)

    def talk(self, wire):
        extra = " STARTTLS" if self.tls else ""
        wire.send(f"* OK [CAPABILITY {self.capability}{extra}] backend ready\r\n")
        while True:
            tag, _, command = self.next_line(wire).partition(" ")
            verb = command.split(" ")[0].upper()
            if verb == "CAPABILITY":
                wire.send(f"* CAPABILITY {self.capability}{extra}\r\n{tag} OK done\r\n")
            elif verb == "STARTTLS":
                wire.send(f"{tag} OK begin\r\n")
                wire.start_tls(self.tls, server_side=True)
                extra = ""
            elif verb in ("LOGIN", "AUTHENTICATE"):
                if not self._login(wire, tag, command):
                    continue
                if self.after_login:
                    self.after_login(wire)
                    return
            elif verb == "LOGOUT":
                wire.send(f"* BYE bye\r\n{tag} OK done\r\n")
                return
            elif verb == "IDLE":
                wire.send("+ idling\r\n")
                self.next_line(wire)
                wire.send(f"{tag} OK idle done\r\n")
            else:
                wire.send(f"{tag} OK {verb} done\r\n")

    def _login(self, wire, tag, command):
        while literal := re.search(r"\{(\d+)(\+?)\}$", command):
            if not literal.group(2):
                wire.send("+ go on\r\n")
            text = wire.read(int(literal.group(1))).decode()
            command = command[:literal.start()] + f'"{text}"' + wire.line()
        answers = (f"OK [CAPABILITY {self.capability} MOVE] Logged in",
                   "NO [AUTHENTICATIONFAILED] backend says no")
        words = command.split(" ", 2)
        if words[0].upper() == "AUTHENTICATE":
            if len(words) == 2:
                wire.send("+ \r\n")
                words.append(wire.line())
            answer = self.answer_plain(words[2], *answers)
        else:
            user, password = (quoted or plain for quoted, plain in re.findall(
                r'"((?:[^"\\]|\\.)*)"|([^ "]+)', command.split(" ", 1)[1]))
            answer = self.answer(user, password, "", *answers)
        for line in self.untagged_before_login:
            wire.send(line + "\r\n")
        wire.send(f"{tag} {answer}\r\n")
        return answer.startswith("OK")


class RecordingPop3(Recording):
    def __init__(self, capabilities=("TOP", "UIDL", "USER", "PIPELINING", "SASL PLAIN"),
                 after_login=None, **options):
        self.capabilities = capabilities
        self.after_login = after_login
        super().__init__(**options)

    def talk(self, wire):
        wire.send("+OK backend ready\r\n")
        user = ""
        encrypted = False
        while True:
            verb, _, argument = self.next_line(wire).partition(" ")
            verb = verb.upper()
            if verb == "CAPA":
                stls = ["STLS"] if self.tls and not encrypted else []
                lines = ["." + line if line.startswith(".") else line  # RFC 1939 §3
                         for line in (*self.capabilities, *stls)]
                wire.send("\r\n".join(["+OK", *lines, ".\r\n"]))
            elif verb == "STLS" and not self.tls:
                wire.send("-ERR no TLS here\r\n")
            elif verb == "STLS":
                wire.send("+OK begin\r\n")
                wire.start_tls(self.tls, server_side=True)
                encrypted = True
            elif verb == "USER":
                user = argument
                wire.send("+OK\r\n")
            elif verb in ("PASS", "AUTH"):
                if verb == "AUTH" and " " not in argument:
                    wire.send("+ \r\n")
                    argument += " " + wire.line()
                answers = ("+OK logged in", "-ERR [AUTH] backend says no")
                if verb == "PASS":
                    answer = self.answer(user, argument, "", *answers)
                else:
                    answer = self.answer_plain(argument.split(" ")[1], *answers)
                wire.send(answer + "\r\n")
                if answer.startswith("-"):
                    continue
                if self.after_login:
                    self.after_login(wire)
                    return
            elif verb == "QUIT":
                wire.send("+OK bye\r\n")
                return
            else:
                wire.send(f"+OK {verb} done\r\n")


class RecordingSmtp(Recording):
    """An SMTP server as lenient as the worst: any line of one dot ends the mail data for it.

    `messages` holds what it took for whole messages, `unfinished` counts those cut off.
    """

    KEYWORDS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN",
                "XCLIENT NAME ADDR LOGIN", "XFORWARD NAME ADDR", "AUTH PLAIN LOGIN")

    def __init__(self, keywords=KEYWORDS, data_reply=None, **options):
        self.keywords = keywords
        self.data_reply = data_reply or (lambda message: "250 2.0.0 queued")
        self.messages = []
        self.unfinished = 0
        super().__init__(**options)

    def talk(self, wire):
        wire.send("220 backend.example.test ESMTP\r\n")
        encrypted = False
        chunks = b""
        while True:
            line = self.next_line(wire)
            verb, _, argument = line.partition(" ")
            verb = verb.upper()
            if verb in ("EHLO", "HELO"):
                keywords = ["backend.example.test", *(self.keywords if verb == "EHLO" else ())]
                if self.tls and not encrypted and verb == "EHLO":
                    keywords.append("STARTTLS")
                reply = [f"250-{word}" for word in keywords]
                reply[-1] = "250 " + keywords[-1]
                wire.send("\r\n".join(reply) + "\r\n")
            elif verb == "STARTTLS":
                wire.send("220 begin\r\n")
                wire.start_tls(self.tls, server_side=True)
                encrypted = True
            elif verb == "AUTH":
                mechanism, _, response = argument.partition(" ")
                answers = ("235 2.7.0 welcome", "535 5.7.8 backend says no")
                if mechanism.upper() == "LOGIN":
                    wire.send("334 VXNlcm5hbWU6\r\n")
                    user = base64.b64decode(wire.line()).decode()
                    wire.send("334 UGFzc3dvcmQ6\r\n")
                    password = base64.b64decode(wire.line()).decode()
                    answer = self.answer(user, password, "", *answers)
                else:
                    if not response:
                        wire.send("334 \r\n")
                        response = wire.line()
                    answer = self.answer_plain(response, *answers)
                wire.send(answer + "\r\n")
            elif verb == "DATA":
                wire.send("354 go ahead\r\n")
                wire.send(self._take(self._read_data(wire)) + "\r\n")
            elif verb == "BDAT":
                size, _, last = argument.partition(" ")
                self.unfinished += 1
                chunks += wire.read(int(size))
                self.unfinished -= 1
                if last:
                    wire.send(self._take(chunks) + "\r\n")
                    chunks = b""
                else:
                    wire.send("250 2.0.0 chunk\r\n")
            elif verb == "QUIT":
                wire.send("221 2.0.0 bye\r\n")
                return
            else:
                wire.send("250 2.0.0 ok\r\n")

    def _take(self, message):
        self.messages.append(message)
        return self.data_reply(message)

    def _read_data(self, wire):
        self.unfinished += 1
        data = b""
        while (line := wire.until(b"\n")).rstrip(b"\r\n") != b".":
            data += line
        self.unfinished -= 1
        return data
