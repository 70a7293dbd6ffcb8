# The dialogues of tests/dialogues over the wire against the real program: each once as it stands and
# once byte by byte. Their format: tests/unit/protocols/dialogue.h.
#
# The login is answered by a recording backend as the dialogue says; what only an engine in memory can
# be told (facts without a listener that matches, refusals that no backend causes) is skipped by name.
# SPDX-License-Identifier: Apache-2.0
import codecs
import functools
import re
import unittest

from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import SOURCE, GatewayTestCase, client_context

FOLDER = SOURCE / "tests/dialogues"
HOSTNAME = "mail.example.org"


def unescape(text):
    """The bytes of a text with C's escapes."""
    return codecs.escape_decode(text.encode())[0]


class Dialogue:
    """A parsed file. `skip` says why it can't run over the wire, or is empty."""

    AUTHENTICATE = re.compile(r'\S+ authzid="(.*?)" user="(.*?)" password="(.*)"$')

    def __init__(self, path):
        self.path = path
        self.name = path.stem
        self.protocol = path.parent.name
        self.splittable = True
        self.skip = ""
        self.facts = {}
        self.steps = []  # (kind, value)
        for line in path.read_text().splitlines():
            self._parse(line)
        self._wire_facts()

    def _parse(self, line):
        if line == "# no-split":
            self.splittable = False
        elif not line or line.startswith("#"):
            pass
        elif line.startswith("facts: "):
            text, _, capabilities = line[7:].partition(" capabilities=")
            self.facts = dict(word.split("=") for word in text.split())
            self.facts["capabilities"] = tuple(filter(None, capabilities.split(",")))
        elif line.startswith("c -> ") or line == "c ->":
            self._send(line[5:].encode() + b"\r\n")
        elif line.startswith("c raw> "):
            self._send(unescape(line[7:]))
        elif line.startswith("c <- ") or line == "c <-":
            self.steps.append(("line", line[5:]))
        elif line.startswith("c <~ "):
            self.steps.append(("regex", line[5:]))
        elif line == "-> starttls":
            self.steps.append(("starttls", None))
        elif line.startswith("-> authenticate "):
            parts = self.AUTHENTICATE.match(line[16:]).groups()
            self.steps.append(("authenticate", tuple(unescape(part).decode() for part in parts)))
        elif line.startswith("then ok"):
            self.steps.append(("ok", line[8:]))
        elif line.startswith("then failed "):
            self.steps.append(("failed", None))
            if line != "then failed kBadCredentials":
                self.skip = "no backend refuses in this way"
        elif line.startswith("-> quit "):
            self.steps.append(("quit", line[8:]))
        else:
            self.skip = f"step not known here: {line}"

    def _send(self, data):
        if self.steps and self.steps[-1][0] == "send":
            data = self.steps.pop()[1] + data
        self.steps.append(("send", data))

    def _wire_facts(self):
        if "local" in self.facts:
            self.skip = "needs an inbound pool: test_inbound does it"
        if "external" in self.facts:
            self.skip = "needs a client certificate: test_external does it"
        if "mechanisms" in self.facts:
            self.skip = "needs a backend that has them: test_mechanisms does it"
        if "apop" in self.facts:
            self.skip = "no timestamp comes twice: test_auth_http_digests does it"
        tls, cleartext = self.facts.get("tls"), self.facts.get("cleartext", "deny")
        self.bare_newline = self.facts.get("bare_newline", "reject")
        if tls == "active":
            self.listener = ("implicit", None)
        elif tls == "offered":
            self.listener = ("starttls", cleartext)
        else:
            self.skip = "every listener offers TLS"
            self.listener = None

    def listener_name(self):
        return "-".join(filter(None, (*self.listener, self.bare_newline, self.facts.get("proxy"),
                                      self.pool())))

    def pool(self):
        """Pools differ in their backends' capabilities."""
        index = sorted({d.facts["capabilities"] for d in dialogues()
                        if d.protocol == self.protocol}).index(self.facts["capabilities"])
        return f"{self.protocol}-{index}"

    def login_answers(self):
        """What the backend is to say to each login, in order; None refuses."""
        answers = []
        for at, (kind, status) in enumerate(self.steps):
            if kind == "failed":
                answers.append(None)
            elif kind == "ok":
                if not status:  # the engine's own words: the next line has them
                    status = self.steps[at + 1][1]
                    if self.protocol == "imap":
                        status = status.split(" ", 1)[1]
                answers.append(status)
        return answers

    def credentials(self):
        return [value for kind, value in self.steps if kind == "authenticate"]


@functools.cache
def dialogues():
    return [Dialogue(path) for path in sorted(FOLDER.glob("*/*.dialog"))]


def imap_backend(capabilities):
    # No capabilities in the facts stand for a backend that was not asked yet; what the gateway
    # says of itself is then the same as with this least of all.
    return RecordingImap(capability=" ".join(capabilities or
                                             ["IMAP4rev1", "AUTH=PLAIN", "SASL-IR", "LITERAL+"]))


def pop3_backend(capabilities):
    return RecordingPop3(capabilities=[*capabilities, "USER", "SASL PLAIN"])


def smtp_backend(capabilities):
    return RecordingSmtp(keywords=[*capabilities, "AUTH PLAIN LOGIN"])


class WireTestCase(GatewayTestCase):
    protocol = None
    make_backend = None

    @classmethod
    def setUpClass(cls):
        own = [d for d in dialogues() if d.protocol == cls.protocol and not d.skip]
        cls.backends, pools, listeners = {}, {}, {}
        for dialogue in own:
            pool = dialogue.pool()
            if pool not in cls.backends:
                backend = cls.make_backend(dialogue.facts["capabilities"])
                cls.addClassCleanup(backend.close)
                cls.backends[pool] = backend
                pools[pool] = {"members": [backend.member], "tls": "none"}
            tls, cleartext = dialogue.listener
            keys = {"protocol": cls.protocol, "pool": pool, "tls": tls}
            if cleartext:
                keys["cleartext_login"] = cleartext
            if "proxy" in dialogue.facts:
                keys["trusted_networks"] = ["127.0.0.0/8"]
            if cls.protocol == "smtp":
                keys["bare_newline"] = dialogue.bare_newline
            listeners[dialogue.listener_name()] = keys
        cls.share(listeners, pools, hostname=HOSTNAME,
                  limits={"max_failed_logins": 100, "failed_login_delay": "0s"})
        cls.gate.wait_capabilities()

    def run_dialogue(self, dialogue, dribble):
        backend = self.backends[dialogue.pool()]
        backend.logins.clear()
        backend.authorizations.clear()
        backend.answers = dialogue.login_answers()
        name = dialogue.listener_name()
        expected = dialogue.credentials()
        with self.gate.connect(name, tls=dialogue.listener[0] == "implicit",
                               dribble=dribble) as wire:
            for kind, value in dialogue.steps:
                if kind == "send":
                    wire.send(value)
                elif kind == "line":
                    self.assertEqual(wire.line(), value)
                elif kind == "regex":
                    self.assertRegex(wire.line(), value)
                elif kind == "starttls":
                    wire.start_tls(client_context())
                elif kind == "quit":
                    self.assertEqual(wire.rest(), b"")
                elif kind in ("ok", "failed"):
                    pass  # the answer to the login is on its way
        logins = [(authorization, user, password)
                  for (user, password), authorization in zip(backend.logins,
                                                             backend.authorizations)]
        self.assertEqual(logins, expected)


class Imap(WireTestCase):
    protocol, make_backend = "imap", staticmethod(imap_backend)


class Pop3(WireTestCase):
    protocol, make_backend = "pop3", staticmethod(pop3_backend)


class Smtp(WireTestCase):
    protocol, make_backend = "smtp", staticmethod(smtp_backend)


def _add(case, dialogue):
    def whole(self):
        self.run_dialogue(dialogue, dribble=False)

    def byte_by_byte(self):
        self.run_dialogue(dialogue, dribble=True)

    for run in [whole] + ([byte_by_byte] if dialogue.splittable else []):
        test = unittest.skip(dialogue.skip)(run) if dialogue.skip else run
        setattr(case, f"test_{dialogue.name}_{run.__name__}", test)


def _add_all():
    cases = {case.protocol: case for case in (Imap, Pop3, Smtp)}
    for dialogue in dialogues():
        _add(cases[dialogue.protocol], dialogue)


_add_all()
