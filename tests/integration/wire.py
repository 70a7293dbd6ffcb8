# A line-and-bytes connection for tests: cleartext or TLS, with everything under the test's hand.
#
# TLS runs over memory BIOs, so that a test can send a close_notify and go on reading, dribble
# the handshake byte by byte, or put bytes behind STARTTLS. Every wait has the one generous DEADLINE;
# no test sleeps.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import select
import socket
import ssl
import struct
import threading
import time

DEADLINE = 120.0  # seconds; only a hang reaches it, also under sanitizers on a busy machine


class Closed(Exception):
    """The peer closed; `rest` is what had arrived and was not yet read."""

    def __init__(self, rest=b""):
        super().__init__(f"connection closed, unread: {rest!r}")
        self.rest = rest


def poll_until(condition, what, deadline=DEADLINE):
    """Calls `condition` until it returns something true, and returns that."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not reached before the deadline: {what}")
        time.sleep(0.01)  # between two looks, not a synchronisation


class Wire:
    def __init__(self, sock, name="", dribble=False):
        self.sock = sock
        self.name = name
        self.dribble = dribble  # send one byte a segment
        self.received = bytearray()
        self.closed = False  # the peer has ended its side
        self._tls = None
        self._tls_lock = threading.Lock()  # one thread may send while another receives
        self.sock.settimeout(DEADLINE)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(cls, port, host="127.0.0.1", source=None, tls=None, server_hostname="localhost",
                receive_buffer=None, dribble=False):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            sock.bind((source, 0))
        sock.settimeout(DEADLINE)
        sock.connect((host, port))
        wire = cls(sock, dribble=dribble)
        if tls:
            try:
                wire.start_tls(tls, server_hostname)
            except BaseException:
                wire.close()
                raise
        return wire

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # ---- TLS

    def start_tls(self, context, server_hostname="localhost", server_side=False,
                  session=None):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(bytes(self.received))
        self.received.clear()
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side,
                               server_hostname=None if server_side else server_hostname,
                               session=session)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                data = self._recv()
                if not data:
                    raise Closed() from None
                self._incoming.write(data)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # the alert
                raise
        self._tls = tls
        self._flush()

    @property
    def tls(self):
        return self._tls

    def _flush(self):
        data = self._outgoing.read()
        if data:
            self._send_raw(data)

    def _send_raw(self, data):
        if self.dribble:
            for i in range(len(data)):
                self.sock.sendall(data[i:i + 1])
        else:
            self.sock.sendall(data)

    def _recv(self):
        try:
            return self.sock.recv(65536)
        except ConnectionResetError:
            return b""

    # ---- sending

    def send(self, data):
        if isinstance(data, str):
            data = data.encode()
        if self._tls is None:
            self._send_raw(data)
            return
        view = memoryview(data)
        while view:
            with self._tls_lock:
                written = self._tls.write(view[:65536])
                records = self._outgoing.read()
            self._send_raw(records)  # not under the lock: the peer may want to be read first
            view = view[written:]

    def half_close(self):
        """Ends our side (close_notify under TLS, FIN) and leaves the other open."""
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLSyscallError):
                self._tls.unwrap()
            self._flush()
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    # ---- receiving

    def fill(self):
        """Waits for more bytes; False when the peer has closed."""
        if self.closed:
            return False
        while True:
            if self._tls is not None:
                try:
                    with self._tls_lock:
                        data = self._tls.read(65536)
                    if data:
                        self.received += data
                        return True
                    self.closed = True
                    return False
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    self.closed = True
                    return False
            data = self._recv()
            if not data:
                self.closed = True
                return False
            if self._tls is None:
                self.received += data
                return True
            with self._tls_lock:
                self._incoming.write(data)

    def readable(self):
        """Whether something has arrived that read calls would not wait for."""
        return bool(self.received) or bool(select.select([self.sock], [], [], 0)[0])

    def read(self, size):
        while len(self.received) < size:
            if not self.fill():
                raise Closed(bytes(self.received))
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    def skip(self, size, chunk=1 << 20):
        """Reads and forgets `size` bytes."""
        while size:
            size -= len(self.read(min(size, chunk)))

    def until(self, end):
        """Reads up to and with the bytes `end`."""
        start = 0
        while (at := self.received.find(end, start)) < 0:
            start = max(0, len(self.received) - len(end) + 1)
            if not self.fill():
                raise Closed(bytes(self.received))
        data = bytes(self.received[:at + len(end)])
        del self.received[:at + len(end)]
        return data

    def line(self):
        """One line without its CRLF."""
        line = self.until(b"\n")
        if not line.endswith(b"\r\n"):
            raise AssertionError(f"line without CRLF: {line!r}")
        return line[:-2].decode("latin-1")

    def rest(self):
        """Everything up to the end of the connection."""
        while self.fill():
            pass
        data = bytes(self.received)
        self.received.clear()
        return data

    # ---- the three protocols

    def command(self, text):
        self.send(text + "\r\n")
        return self.reply()

    def reply(self):
        """One SMTP reply: its lines joined by LF."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def multiline(self):
        """A POP3 multi-line response behind its first line, dot-unstuffed."""
        if self.received.startswith(b".\r\n") or self._starts_with_dot():
            self.read(3)
            return b""
        body = self.until(b"\r\n.\r\n")[:-3]
        return b"".join(line[1:] if line.startswith(b".") else line
                        for line in body.splitlines(keepends=True))

    def _starts_with_dot(self):
        while len(self.received) < 3:
            if not self.fill():
                raise Closed(bytes(self.received))
        return self.received.startswith(b".\r\n")

    def imap(self, tag, command):
        """Sends an IMAP command and returns all response lines up to the tagged one."""
        self.send(f"{tag} {command}\r\n")
        return self.tagged(tag)

    def tagged(self, tag):
        lines = [self.line()]
        while not lines[-1].startswith(tag + " "):
            lines.append(self.line())
        return lines
