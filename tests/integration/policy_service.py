# A policy service with weakforced's protocol, as the gateway and Dovecot ask it, under a test's hand.
# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
import threading
import urllib.parse

from http_service import HttpService
from wire import DEADLINE


def password_hash(nonce, login, password, bits=12):
    """The first bits of SHA-256 over nonce, login, NUL and password, as whole bytes in hexadecimal."""
    digest = hashlib.sha256(f"{nonce}{login}\0{password}".encode()).digest()
    return f"{int.from_bytes(digest, 'big') >> (256 - bits):0{2 * ((bits + 7) // 8)}x}"


class Told:
    """One request: `who` asked is the first part of the path."""

    def __init__(self, path, headers, body):
        url = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.who, self.command, self.query = url.path.strip("/"), query.pop("command"), query
        self.headers, self.body = headers, json.loads(body)


class PolicyService(HttpService):
    """`decide` answers allow: a dict that is sent as JSON, or bytes as they are. While held[command] is
    cleared, nobody gets an answer to that command."""

    def __init__(self, **keys):
        self.told, self.decide, self.status = [], lambda told: {"status": 0}, 200
        self.held = {command: threading.Event() for command in ("allow", "report")}
        for event in self.held.values():
            event.set()
        super().__init__(**keys)

    def serve(self, handler):
        told = Told(handler.path, handler.headers,
                    handler.rfile.read(int(handler.headers["Content-Length"])))
        with self._lock:
            self.told.append(told)
        self.held[told.command].wait(DEADLINE)
        answer = self.decide(told) if told.command == "allow" else {}
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response_only(self.status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def url(self, who="gate"):
        return f"{self.origin}/{who}"

    def of(self, command, who="gate"):
        """What was asked or told so far."""
        with self._lock:
            return [told for told in self.told if (told.command, told.who) == (command, who)]

    def close(self):
        for event in self.held.values():
            event.set()
        super().close()
