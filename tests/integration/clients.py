# Mail clients for the tests: Python's own libraries against a gateway's listeners, and the few raw
# exchanges that all tests need.
# SPDX-License-Identifier: Apache-2.0
import base64
import imaplib
import poplib
import random
import smtplib
import subprocess
import uuid

from gatepost import HOST, certificates, client_context
from wire import DEADLINE, poll_until

imaplib._MAXLINE = 1 << 30  # a FETCH of tens of megabytes
poplib._MAXLINE = 1 << 20

GREETING = {"imap": "* OK", "pop3": "+OK", "smtp": "220"}


def plain(user, password, authorization=""):
    return base64.b64encode(f"{authorization}\0{user}\0{password}".encode()).decode()


def s_client(port, *arguments):
    """Runs openssl s_client, without OpenSSL's own ban on old versions, and returns what it says."""
    ciphers = [] if "-cipher" in arguments else ["-cipher", "ALL:@SECLEVEL=0"]
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"{HOST}:{port}", "-CAfile", certificates().ca,
         "-servername", "localhost", "-ign_eof", *ciphers, *arguments],
        input="a LOGOUT\r\nQUIT\r\n", capture_output=True, text=True, timeout=DEADLINE, check=False)
    return result.stdout + result.stderr


# ---- raw

def greeting(wire):
    return wire.line()


def start_tls(wire, protocol, context=None):
    """Asks for TLS and starts it; a greeting was read already."""
    answer = {
        "imap": lambda: wire.imap("t", "STARTTLS")[-1],
        "pop3": lambda: wire.command("STLS"),
        "smtp": lambda: (wire.command("EHLO tester.example.test"), wire.command("STARTTLS"))[1],
    }[protocol]()
    assert answer.startswith({"imap": "t OK", "pop3": "+OK", "smtp": "220"}[protocol]), answer
    wire.start_tls(context or client_context())


def login_command(protocol, user, password):
    """The login in one piece, as a pipelining client sends it."""
    return {
        "imap": f'l LOGIN "{user}" "{password}"\r\n',
        "pop3": f"USER {user}\r\nPASS {password}\r\n",
        "smtp": f"AUTH PLAIN {plain(user, password)}\r\n",
    }[protocol]


def login(wire, protocol, user, password):
    """Logs in behind the greeting and returns the final answer, whatever it is."""
    if protocol == "imap":
        return wire.imap("l", f'LOGIN "{user}" "{password}"')[-1]
    if protocol == "pop3":
        answer = wire.command(f"USER {user}")
        return wire.command(f"PASS {password}") if answer.startswith("+OK") else answer
    wire.command("EHLO tester.example.test")
    return wire.command(f"AUTH PLAIN {plain(user, password)}")


LOGIN_OK = {"imap": "l OK", "pop3": "+OK", "smtp": "235"}
LOGIN_REFUSED = {"imap": "l NO [AUTHENTICATIONFAILED]", "pop3": "-ERR [AUTH]",
                 "smtp": "535 5.7.8"}
LOGIN_UNAVAILABLE = {"imap": "l NO [UNAVAILABLE]", "pop3": "-ERR [SYS/TEMP]",
                     "smtp": "454 4.7.0"}
QUIT = {"imap": "q LOGOUT", "pop3": "QUIT", "smtp": "QUIT"}


def logged_in(gate, name, user, password, tls=None, **options):
    """A Wire to the listener, with its login done. `tls` False: cleartext on a STARTTLS port."""
    keys = gate.listeners[name]
    protocol = keys["protocol"]
    implicit = keys["tls"] == "implicit"
    wire = gate.connect(name, tls=implicit and (tls or True), **options)
    try:
        answer = greeting(wire)
        assert answer.startswith(GREETING[protocol]), answer
        if not implicit and tls is not False:
            start_tls(wire, protocol, tls)
        answer = login(wire, protocol, user, password)
        assert answer.startswith(LOGIN_OK[protocol]), answer
    except BaseException:
        wire.close()
        raise
    return wire


# ---- libraries

def imap(gate, name, user=None, password=None, context=None, encryption=None):
    """An imaplib client; `encryption` none, starttls or implicit, default as the listener has it."""
    encryption = encryption or gate.listeners[name]["tls"]
    if encryption == "implicit":
        client = imaplib.IMAP4_SSL(HOST, gate.ports[name], timeout=DEADLINE,
                                   ssl_context=context or client_context())
    else:
        client = imaplib.IMAP4(HOST, gate.ports[name], timeout=DEADLINE)
        if encryption == "starttls":
            client.starttls(context or client_context())
    if user:
        client.login(user, password)
    return client


def pop3(gate, name, user=None, password=None, context=None, encryption=None):
    encryption = encryption or gate.listeners[name]["tls"]
    if encryption == "implicit":
        client = poplib.POP3_SSL(HOST, gate.ports[name], timeout=DEADLINE,
                                 context=context or client_context())
    else:
        client = poplib.POP3(HOST, gate.ports[name], timeout=DEADLINE)
        if encryption == "starttls":
            client.stls(context or client_context())
    if user:
        client.user(user)
        client.pass_(password)
    return client


def smtp(gate, name, user=None, password=None, context=None, encryption=None):
    encryption = encryption or gate.listeners[name]["tls"]
    if encryption == "implicit":
        client = smtplib.SMTP_SSL(HOST, gate.ports[name], timeout=DEADLINE,
                                  context=context or client_context())
    else:
        client = smtplib.SMTP(HOST, gate.ports[name], timeout=DEADLINE)
        if encryption == "starttls":
            client.starttls(context=context or client_context())
    if user:
        client.login(user, password)
    return client


# ---- messages

class Message:
    """A message with a body that is hard to carry; `data` has CRLF line ends."""

    def __init__(self, size=2000, sender="alice@example.test", to="bob@example.test", seed=7):
        self.id = f"<{uuid.uuid4()}@example.test>"
        self.sender, self.to = sender, to
        random_bytes = random.Random(seed)
        # 8-bit bytes, lines of dots, long and empty lines.
        block = b"".join([
            b".\r\n", b"..\r\n", b".leading dot\r\n", b"\r\n", b"from here\r\nFrom there\r\n",
            "Grüße aus Köln, 日本語\r\n".encode(), b"latin1: \xe4\xf6\xfc \xff\r\n",
            b"x" * 900 + b"\r\n",
            random_bytes.randbytes(600).replace(b"\r", b"r").replace(b"\n", b"n")
            .replace(b"\0", b"0") + b"\r\n",
        ])
        repeats = max(1, size // len(block))
        self.body = block * repeats + b"the end\r\n"
        self.data = (f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: Tëst\r\n"
                     f"Message-ID: {self.id}\r\nMIME-Version: 1.0\r\n"
                     "Content-Type: text/plain; charset=utf-8\r\n"
                     "Content-Transfer-Encoding: 8bit\r\n\r\n").replace("ë", "e").encode() \
            + self.body

    def stuffed(self):
        """The mail data as it goes over the wire, with its end."""
        lines = self.data.split(b"\r\n")
        return b"\r\n".join(b"." + line if line.startswith(b".") else line
                            for line in lines) + b".\r\n"


def body_of(message):
    return message.split(b"\r\n\r\n", 1)[1]


class Store:
    """A direct look at the real Dovecot, past the gateway."""

    def __init__(self, backends, user):
        self.client = imaplib.IMAP4(HOST, backends.imap_port, timeout=DEADLINE)
        self.client.login(user, backends.users[user])
        self.client.select()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.client.logout()

    def find(self, message_id):
        self.client.noop()
        return self.client.search(None, "HEADER", "Message-ID", message_id)[1][0].split()

    def wait_for(self, message_id):
        """Waits for a delivery and returns the message."""
        numbers = poll_until(lambda: self.find(message_id), f"delivery of {message_id}")
        return self.client.fetch(numbers[-1], "(RFC822)")[1][0][1]
