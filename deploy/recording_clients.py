# Python's own mail clients with a transcript: what was really sent and received, line by line.
#
# Each class records beneath the protocol code of imaplib, poplib and smtplib and adds nothing to the
# conversation. Passwords are masked before a line is kept.
# SPDX-License-Identifier: Apache-2.0
"""imaplib, poplib and smtplib clients that record the wire."""

import base64
import imaplib
import poplib
import re
import smtplib

MASK = "********"
CLIENT_NAME = "tour.example.test"  # what we call ourselves in EHLO
TIMEOUT_SECONDS = 30
LONGEST_LINE = 100


class Transcript:
    """What several connections said, in order: (connection, who, text), who being C, S or --."""

    def __init__(self, passwords):
        self.lines = []
        self._secrets = []
        for password in passwords:
            self._secrets += [password, base64.b64encode(password.encode()).decode()]

    def add(self, connection, who, data):
        text = data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data
        if text == "":
            self.lines.append((connection, "--", "closed by the server"))
            return
        text = text.removesuffix("\n").removesuffix("\r")
        for line in text.split("\n"):
            self.lines.append((connection, who, self._presentable(line, who)))

    def take(self, most_lines):
        """Returns the lines since the last call; more of one speaker in a row are cut in the middle."""
        lines, self.lines = self.lines, []
        shown, start = [], 0
        while start < len(lines):
            end = start
            while end < len(lines) and lines[end][:2] == lines[start][:2]:
                end += 1
            speech = lines[start:end]
            cut = len(speech) - most_lines
            if cut > 1:
                half = most_lines // 2
                speech[half:half + cut] = [(*speech[0][:2], f"({cut} lines more)")]
            shown += speech
            start = end
        return shown

    def _presentable(self, line, who):
        line = line.removesuffix("\r").expandtabs(4)
        for secret in self._secrets:
            line = line.replace(secret, MASK)
        if who == "C":
            line = re.sub(r"(?i)\b(AUTH(?:ENTICATE)? PLAIN) \S+", rf"\1 {MASK}", line)
        line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
        return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE - 2] + " …"


class Recorder:
    """One connection's part of a transcript; also its TLS context, to note what was agreed."""

    def __init__(self, transcript, name, context=None, server_name=None):
        self._transcript = transcript
        self._name = name
        self._context = context
        self._server_name = server_name

    def client(self, data):
        self._transcript.add(self._name, "C", data)

    def server(self, data):
        self._transcript.add(self._name, "S", data)

    def wrap_socket(self, connection, server_hostname=None, **options):
        # What the clients ask of an SSLContext. The name to verify is the one that a user types;
        # here no DNS knows it.
        wrapped = self._context.wrap_socket(
            connection, server_hostname=self._server_name or server_hostname, **options)
        self._transcript.add(self._name, "--",
                             f"TLS: {wrapped.version()}, {wrapped.cipher()[0]}, certificate "
                             f"verified for {wrapped.server_hostname}")
        return wrapped


class _RecordedImap:
    def __init__(self, recorder, host, port, **options):
        self._recorder = recorder
        super().__init__(host, port, timeout=TIMEOUT_SECONDS, **options)

    def send(self, data):
        self._recorder.client(data)
        super().send(data)

    def readline(self):
        line = super().readline()
        self._recorder.server(line)
        return line

    def read(self, size):
        data = super().read(size)
        self._recorder.server(data)
        return data

    def begin_idle(self):
        """IDLE (RFC 2177), which imaplib of Python 3.11 lacks; returns the tag for end_idle."""
        tag = self._new_tag()
        self.send(tag + b" IDLE\r\n")
        line = self.readline()
        if not line.startswith(b"+"):
            raise self.error(f"IDLE is refused: {line!r}")
        return tag

    def wait_pushed(self, pattern):
        """Reads what the server pushes until a line matches."""
        while True:
            line = self.readline()
            if not line:
                raise self.abort("closed in IDLE")
            if re.search(pattern, line):
                return line

    def end_idle(self, tag):
        self.send(b"DONE\r\n")
        self.wait_pushed(b"^" + tag)


class Imap(_RecordedImap, imaplib.IMAP4):
    """imaplib.IMAP4(host, port); starttls(recorder)."""


class ImapTls(_RecordedImap, imaplib.IMAP4_SSL):
    """imaplib.IMAP4_SSL(host, port)."""

    def __init__(self, recorder, host, port):
        super().__init__(recorder, host, port, ssl_context=recorder)


class _RecordedPop3:
    def __init__(self, recorder, host, port, **options):
        self._recorder = recorder
        super().__init__(host, port, timeout=TIMEOUT_SECONDS, **options)

    def _putline(self, line):
        self._recorder.client(line)
        super()._putline(line)

    def _getline(self):
        line, octets = super()._getline()
        self._recorder.server(line + b"\r\n")
        return line, octets


class Pop3(_RecordedPop3, poplib.POP3):
    """poplib.POP3(host, port); stls(recorder)."""


class Pop3Tls(_RecordedPop3, poplib.POP3_SSL):
    """poplib.POP3_SSL(host, port)."""

    def __init__(self, recorder, host, port):
        super().__init__(recorder, host, port, context=recorder)


class _RecordedSmtp:
    def __init__(self, recorder, host, port, **options):
        self._recorder = recorder
        super().__init__(host, port, local_hostname=CLIENT_NAME, timeout=TIMEOUT_SECONDS, **options)

    def send(self, s):
        self._recorder.client(s)
        super().send(s)

    def getreply(self):
        code, text = super().getreply()
        *first, last = text.split(b"\n")  # smtplib has taken the codes off
        for line in first:
            self._recorder.server(b"%d-%s" % (code, line))
        self._recorder.server(b"%d %s" % (code, last))
        return code, text


class Smtp(_RecordedSmtp, smtplib.SMTP):
    """smtplib.SMTP(host, port); starttls(context=recorder)."""


class SmtpTls(_RecordedSmtp, smtplib.SMTP_SSL):
    """smtplib.SMTP_SSL(host, port)."""

    def __init__(self, recorder, host, port):
        super().__init__(recorder, host, port, context=recorder)
