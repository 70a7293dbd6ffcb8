# The tour: what a user of an old mail system does in a day, through Gatepost, with the wire shown.
#
# Knows ports, users and a CA file; not who listens there. deploy/quickstart.py starts what it needs.
# SPDX-License-Identifier: Apache-2.0
"""The customer's day as numbered steps that print what was sent and received."""

import imaplib
import os
import re
import ssl
import sys
import time
import urllib.request
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from recording_clients import (Imap, ImapTls, Pop3, Pop3Tls, Recorder, Smtp, SmtpTls, Transcript)

DELIVERY_SECONDS = 20
WHOLE, BRIEF = 24, 4  # lines of one speaker in a row that a step shows


class StepFailed(Exception):
    """A step saw something else than it must; the text says what."""


class Printer:
    """Writes the tour, in colour on a terminal only."""

    def __init__(self, stream=sys.stdout):
        self._stream = stream
        self._colour = (stream.isatty() and "NO_COLOR" not in os.environ
                        and os.environ.get("TERM") != "dumb")

    def title(self, text):
        self._print("\n" + self._paint("1", text))

    def plain(self, text=""):
        self._print(text)

    def wire(self, lines):
        names = sorted({name for name, _, _ in lines})
        width = max((len(name) for name in names), default=0)
        for name, who, text in lines:
            label = f"{name:<{width}} " if len(names) > 1 else ""
            speaker = "   " if who == "--" else f"{who}: "
            code = {"C": "36", "S": "0", "--": "2"}[who]  # cyan, plain, faint
            self._print(f"    {label}{self._paint(code, (speaker + text).rstrip())}")

    def good(self, text):
        self._print(f"  {self._paint('32', '✔')} {text}")

    def bad(self, text):
        self._print(f"  {self._paint('31', '✘')} {text}")

    def _paint(self, code, text):
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _print(self, text):
        print(text, file=self._stream, flush=True)


class Tour:
    """Runs all steps; `failures` names those that failed.

    port: a dictionary from the documented port number to the real one, and "imap-strict",
    "pop3-strict", "smtp-strict" for listeners that refuse logins without TLS.
    """

    def __init__(self, printer, host, port, server_name, ca_file, users, domain, metrics_url):
        self.failures = []
        self._print = printer
        self._host = host
        self._port = port
        self._server_name = server_name
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._passwords = users
        self._domain = domain
        self._metrics_url = metrics_url
        self._transcript = Transcript(users.values())
        self._message = self._phone = self._laptop = None
        self._waits = 0

    def run(self, interrupted):
        """Makes the tour; `interrupted` raises when it shall end before."""
        before = self._read_metrics()
        steps = [
            ("Bob sends a message: SMTP 465, implicit TLS, AUTH PLAIN", WHOLE, self._send_465),
            ("Alice reads it on her phone: IMAP 993, implicit TLS", WHOLE, self._read_993),
            ("and on her laptop: IMAP 143, STARTTLS", WHOLE, self._read_143),
            ("She flags it on the phone; the laptop, in IDLE, shows it", WHOLE, self._flag),
            ("An office program downloads it, leaving a copy: POP3 995, implicit TLS", WHOLE,
             self._download),
            ("and another time without a copy: POP3 110, STLS", BRIEF, self._download_and_delete),
            ("Alice sends too: SMTP 587, STARTTLS, AUTH LOGIN", WHOLE,
             lambda: self._send_starttls(587)),
            ("and through SMTP 25, STARTTLS, AUTH PLAIN", BRIEF, lambda: self._send_starttls(25)),
            ("and through SMTP 26, STARTTLS, AUTH PLAIN", BRIEF, lambda: self._send_starttls(26)),
            ("Rows of the table without encryption: cleartext_login = \"allow\"", BRIEF,
             self._cleartext),
            ("Nobody sends without SMTP AUTH", BRIEF, self._no_auth),
            ("A wrong password is refused", BRIEF, self._wrong_password),
            ("No login without TLS: cleartext_login = \"deny\", the default", BRIEF, self._strict),
            (f"The metrics that moved: {self._metrics_url}", WHOLE,
             lambda: self._show_metrics(before)),
        ]
        for number, (title, most_lines, step) in enumerate(steps, 1):
            self._print.title(f"{number}/{len(steps)}  {title}")
            try:
                result = step()
            except Exception as error:  # whatever a client raises is this step's failure
                self._print.wire(self._transcript.take(WHOLE))
                self._print.bad(f"{type(error).__name__}: {error}")
                self.failures.append(title)
            else:
                self._print.wire(self._transcript.take(most_lines))
                self._print.good(result)
            # A client that is interrupted in a reply may raise something of its own instead.
            interrupted()

    # The steps, in order. Each returns what it has shown, or raises.

    def _send_465(self):
        with SmtpTls(self._recorder("bob"), self._host, self._port[465]) as client:
            client.login("bob", self._passwords["bob"])
            self._message = self._send(client, "bob", "alice", "The tour begins")
        self._wait_for(self._message)
        return "accepted, and delivered to Alice by the backend"

    def _read_993(self):
        self._phone = ImapTls(self._recorder("phone"), self._host, self._port[993])
        self._phone.login("alice", self._passwords["alice"])
        self._read_with(self._phone)
        return "the message that Bob sent"

    def _read_143(self):
        recorder = self._recorder("laptop")
        self._laptop = Imap(recorder, self._host, self._port[143])
        self._laptop.starttls(recorder)
        self._laptop.login("alice", self._passwords["alice"])
        self._read_with(self._laptop)
        return "the same message, on a second client"

    def _flag(self):
        tag = self._laptop.begin_idle()
        self._phone.store("1", "+FLAGS", r"(\Flagged)")
        began = time.monotonic()
        self._laptop.wait_pushed(rb"^\* 1 FETCH .*\\Flagged")
        waited = time.monotonic() - began
        self._laptop.end_idle(tag)
        return f"the laptop saw the flag {waited:.1f} s later, without asking"

    def _download(self):
        client = Pop3Tls(self._recorder("office"), self._host, self._port[995])
        client.user("alice")
        client.pass_(self._passwords["alice"])
        _, lines, _ = client.retr(1)
        client.quit()
        self._expect(self._is_ours(b"\r\n".join(lines)), "not the message that Bob sent")
        self._expect(self._phone_counts() == 1, "the copy on the server is gone")
        return "downloaded; IMAP still has it"

    def _download_and_delete(self):
        recorder = self._recorder("office")
        client = Pop3(recorder, self._host, self._port[110])
        client.stls(recorder)
        client.user("alice")
        client.pass_(self._passwords["alice"])
        client.retr(1)
        client.dele(1)
        client.quit()
        self._expect(self._phone_counts() == 0, "IMAP still has the message")
        for client in (self._phone, self._laptop):
            client.logout()
        return "deleted; the phone sees it go"

    def _send_starttls(self, port):
        recorder = self._recorder("alice")
        with Smtp(recorder, self._host, self._port[port]) as client:
            client.ehlo()
            client.starttls(context=recorder)
            client.ehlo()
            self._log_in(client, "alice", "LOGIN" if port == 587 else "PLAIN")
            message = self._send(client, "alice", "bob", f"Sent through port {port}")
        self._wait_for(message)
        return "accepted and delivered to Bob"

    def _cleartext(self):
        imap = Imap(self._recorder("imap 143"), self._host, self._port[143])
        imap.login("bob", self._passwords["bob"])
        imap.logout()
        pop3 = Pop3(self._recorder("pop3 110"), self._host, self._port[110])
        pop3.user("bob")
        pop3.pass_(self._passwords["bob"])
        pop3.quit()
        for port in (25, 26, 587):
            with Smtp(self._recorder(f"smtp {port}"), self._host, self._port[port]) as smtp:
                smtp.ehlo()
                self._log_in(smtp, "bob", "PLAIN")
        return "logged in on 143, 110, 25, 26 and 587 without TLS"

    def _no_auth(self):
        for port in (465, 587, 25, 26):
            recorder = self._recorder(f"smtp {port}")
            client = (SmtpTls if port == 465 else Smtp)(recorder, self._host, self._port[port])
            with client:
                client.ehlo()
                if port != 465:
                    client.starttls(context=recorder)
                    client.ehlo()
                code, text = client.docmd(f"MAIL FROM:<bob@{self._domain}>")
                self._expect(code == 530 and b"5.7.0" in text, f"{port}: not refused with 530")
        return "530 5.7.0 on 465, 587, 25 and 26"

    def _wrong_password(self):
        with SmtpTls(self._recorder("smtp 465"), self._host, self._port[465]) as smtp:
            smtp.ehlo()
            code, _ = smtp.docmd("AUTH", "PLAIN AGJvYgB3cm9uZw==")  # \0bob\0wrong
            self._expect(code == 535, "SMTP: not refused with 535")
        imap = ImapTls(self._recorder("imap 993"), self._host, self._port[993])
        try:
            imap.login("bob", "wrong")
        except imaplib.IMAP4.error as error:
            self._expect("AUTHENTICATIONFAILED" in str(error), f"IMAP: {error}")
        else:
            raise StepFailed("IMAP: logged in")
        imap.logout()
        return "535 5.7.8 and NO [AUTHENTICATIONFAILED]; no backend's words reach the client"

    def _strict(self):
        imap = Imap(self._recorder("imap"), self._host, self._port["imap-strict"])
        self._expect("LOGINDISABLED" in imap.capabilities, "IMAP: no LOGINDISABLED")
        try:
            imap.login("bob", self._passwords["bob"])
        except imaplib.IMAP4.error as error:
            self._expect("PRIVACYREQUIRED" in str(error), f"IMAP: {error}")
        else:
            raise StepFailed("IMAP: logged in")
        imap.logout()
        pop3 = Pop3(self._recorder("pop3"), self._host, self._port["pop3-strict"])
        offered = pop3.capa()
        self._expect("STLS" in offered and "USER" not in offered and "SASL" not in offered,
                     "POP3: CAPA offers a login")
        pop3.quit()
        with Smtp(self._recorder("smtp"), self._host, self._port["smtp-strict"]) as smtp:
            smtp.ehlo()
            self._expect(not smtp.has_extn("AUTH"), "SMTP: EHLO offers AUTH")
            code, _ = smtp.docmd(f"MAIL FROM:<bob@{self._domain}>")
            self._expect(code == 530, "SMTP: not refused with 530")
        return "LOGINDISABLED, no USER, no AUTH; a LOGIN all the same gets PRIVACYREQUIRED"

    def _show_metrics(self, before):
        moved = [(name, value - before.get(name, 0.0))
                 for name, value in self._read_metrics().items() if value > before.get(name, 0.0)]
        for name, change in moved:
            self._print.plain(f"    {f'+{change:g}':>7}  {name}")
        self._expect(any("auth_attempts_total" in name for name, _ in moved),
                     "no login was counted")
        return (f"{len(moved)} counters moved; {self._waits} of the IMAP connections are the tour's, "
                "waiting for deliveries")

    # What the steps share.

    def _recorder(self, name):
        return Recorder(self._transcript, name, self._tls, self._server_name)

    def _send(self, client, sender, recipient, subject):
        message = EmailMessage()
        message["From"] = f"{sender.capitalize()} <{sender}@{self._domain}>"
        message["To"] = f"{recipient.capitalize()} <{recipient}@{self._domain}>"
        message["Subject"] = subject
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self._domain)
        message.set_content("Grüße through the gateway.\n.A line that begins with a dot.\n",
                            cte="8bit")
        client.send_message(message)
        return message

    def _log_in(self, client, user, mechanism):
        client.user, client.password = user, self._passwords[user]
        client.auth(mechanism, client.auth_plain if mechanism == "PLAIN" else client.auth_login)

    def _read_with(self, client):
        client.select()
        _, parts = client.fetch("1", "(FLAGS BODY.PEEK[])")
        self._expect(isinstance(parts[0], tuple) and self._is_ours(parts[0][1]),
                     "not the message that Bob sent")

    def _is_ours(self, raw):
        # With the servers' own fields in front, nothing of it may differ.
        sent = self._message.as_bytes().replace(b"\n", b"\r\n")
        return raw.rstrip(b"\r\n").endswith(sent.rstrip(b"\r\n"))

    def _phone_counts(self):
        self._phone.noop()  # here the server may tell what is gone
        _, [numbers] = self._phone.search(None, "ALL")
        return len(numbers.split())

    def _wait_for(self, message):
        """Waits for the delivery, which is the backend's business, in a connection not shown."""
        user = re.search(r"<(\w+)@", message["To"]).group(1)
        self._waits += 1
        recorder = Recorder(Transcript([]), "", self._tls, self._server_name)
        client = ImapTls(recorder, self._host, self._port[993])
        try:
            client.login(user, self._passwords[user])
            client.select(readonly=True)
            deadline = time.monotonic() + DELIVERY_SECONDS
            while not client.search(None, "HEADER", "Message-ID", message["Message-ID"])[1][0]:
                if time.monotonic() > deadline:
                    raise StepFailed(f"not delivered to {user} after {DELIVERY_SECONDS} s")
                time.sleep(0.1)
                client.noop()
        finally:
            client.logout()

    def _read_metrics(self):
        with urllib.request.urlopen(self._metrics_url, timeout=10) as answer:
            text = answer.read().decode()
        values = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if re.match(r"gatepost_[a-z_]+_total(\{|$)", name):
                values[name] = float(value)
        return values

    @staticmethod
    def _expect(condition, otherwise):
        if not condition:
            raise StepFailed(otherwise)
