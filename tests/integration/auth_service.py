# An HTTP service that speaks nginx's auth_http protocol, as Mailu's and others do, under a test's
# hand; and Debian's nginx, which asks the very same service.
# SPDX-License-Identifier: Apache-2.0
import pathlib
import socket
import subprocess
import tempfile
import threading
import urllib.parse

from gatepost import HOST, Port, certificates, run_directory
from http_service import HttpService
from wire import DEADLINE, poll_until


class Question:
    """What came in one request: the fields in their order, as they were sent."""

    def __init__(self, path, fields, connection):
        self.path, self.fields, self.connection = path, fields, connection

    def __getitem__(self, name):
        found = [value for field, value in self.fields if field.lower() == name.lower()]
        assert len(found) <= 1, self.fields
        return found[0] if found else None

    def decoded(self, name):
        # http.server takes the bytes of a header for Latin-1.
        return urllib.parse.unquote_to_bytes(self[name].encode("latin-1")).decode()

    def names(self):
        return [name for name, _ in self.fields]


class AuthService(HttpService):
    """`users` maps names to passwords, `servers` protocols to (host, port).

    `answers` are what the next questions get, each a dict of fields, bytes that are sent as they
    are, or a function of the question that returns one of these; when it is empty, `users` decide.
    While `held` is cleared, nobody gets an answer.
    """

    def __init__(self, users, servers, **keys):
        self.users, self.servers = users, servers
        self.questions, self.answers = [], []
        self.extra = {}  # fields of every answer that lets somebody in
        self.refusal = {"Auth-Status": "Invalid login or password", "Auth-Wait": "0"}
        self.held = threading.Event()
        self.held.set()
        super().__init__(**keys)
        self.url = f"{self.origin}/auth?key=1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def serve(self, handler):
        question = Question(handler.path, handler.headers.items(), handler.client_address)
        with self._lock:
            self.questions.append(question)
            answer = self.answers.pop(0) if self.answers else self.decide
        self.held.wait(DEADLINE)
        if callable(answer):
            answer = answer(question)
        if isinstance(answer, bytes):
            handler.wfile.write(answer)
            handler.close_connection = True
            return
        handler.send_response_only(200)
        for name, value in answer.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"body\n")

    def decide(self, question):
        user = question.decoded("Auth-User")
        if question["Auth-Method"] != "external" and \
                self.users.get(user) != question.decoded("Auth-Pass"):
            return self.refusal
        host, port = self.servers[question["Auth-Protocol"]]
        return {"Auth-Status": "OK", "Auth-Server": host, "Auth-Port": str(port), **self.extra}

    def close(self):
        self.held.set()
        super().close()


class Nginx:
    """Debian's nginx as a mail proxy for the same service; ports[protocol] are with implicit TLS."""

    def __init__(self, service, client_ca, directives="", methods=None):
        self._ports = {protocol: Port() for protocol in ("imap", "pop3", "smtp")}
        self.ports = {protocol: port.number for protocol, port in self._ports.items()}
        directory = pathlib.Path(tempfile.mkdtemp(prefix="nginx-", dir=run_directory()))
        methods = {**dict.fromkeys(self.ports, "plain"), **(methods or {})}
        servers = "".join(f"server {{ listen {HOST}:{port} ssl; protocol {protocol}; }}\n"
                          for protocol, port in self.ports.items())
        (directory / "nginx.conf").write_text(f"""\
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
user root;
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr notice;
events {{}}
mail {{
  server_name gate.example.test;
  auth_http {service.url};
  auth_http_pass_client_cert on;
  imap_auth {methods["imap"]};
  pop3_auth {methods["pop3"]};
  smtp_auth {methods["smtp"]};
  ssl_certificate {certificates().chain};
  ssl_certificate_key {certificates().key};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_verify_client optional;
  ssl_client_certificate {client_ca};
  {directives}
  {servers}
}}
""")
        self.log = directory / "log"
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/nginx", "-p", directory, "-c", directory / "nginx.conf",
                 "-e", "stderr"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            poll_until(self._answers, "nginx")
        except BaseException:
            self.close()
            raise

    def _answers(self):
        assert self._process.poll() is None, self.log.read_text()
        try:
            for port in self.ports.values():
                socket.create_connection((HOST, port), timeout=DEADLINE).close()
            return True
        except OSError:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._process.terminate()
        self._process.wait(DEADLINE)
        for port in self._ports.values():
            port.release()
