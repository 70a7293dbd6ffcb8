# An HTTP service that speaks nginx's auth_http protocol, as Mailu's and others do, under a test's
# hand; and Debian's nginx, which asks the very same service.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import http.server
import pathlib
import socket
import subprocess
import tempfile
import threading
import urllib.parse

from gatepost import HOST, Port, certificates, run_directory
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


class AuthService:
    """`users` maps names to passwords, `servers` protocols to (host, port).

    `answers` are what the next questions get, each a dict of fields, bytes that are sent as they
    are, or a function of the question that returns one of these; when it is empty, `users` decide.
    While `held` is cleared, nobody gets an answer.
    """

    def __init__(self, users, servers, tls=None, keep_alive=True):
        self.users, self.servers = users, servers
        self.questions, self.answers = [], []
        self.extra = {}  # fields of every answer that lets somebody in
        self.refusal = {"Auth-Status": "Invalid login or password", "Auth-Wait": "0"}
        self.held = threading.Event()
        self.held.set()
        self.connections = 0
        self._open = set()
        self._lock = threading.Lock()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"
            wbufsize = -1  # header and body in one piece: with it the connection is free again

            def setup(self):
                with service._lock:
                    service.connections += 1
                    service._open.add(self.request)
                super().setup()

            def finish(self):
                with contextlib.suppress(OSError):
                    super().finish()
                with service._lock:
                    service._open.discard(self.request)

            def do_GET(self):
                question = Question(self.path, self.headers.items(), self.client_address)
                with service._lock:
                    service.questions.append(question)
                    answer = service.answers.pop(0) if service.answers else service.decide
                service.held.wait(DEADLINE)
                if callable(answer):
                    answer = answer(question)
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                    self.close_connection = True
                    return
                self.send_response_only(200)
                for name, value in answer.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"body\n")

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # a client that went away

        self._server = Listener((HOST, 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True,
                                                  do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://{HOST}:{self.port}/auth?key=1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,),
                                        daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def decide(self, question):
        user = question.decoded("Auth-User")
        if question["Auth-Method"] != "external" and \
                self.users.get(user) != question.decoded("Auth-Pass"):
            return self.refusal
        host, port = self.servers[question["Auth-Protocol"]]
        return {"Auth-Status": "OK", "Auth-Server": host, "Auth-Port": str(port), **self.extra}

    def drop_connections(self):
        """Ends the connections that are kept."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.held.set()
        self._server.shutdown()
        self._server.server_close()
        self.drop_connections()


class Nginx:
    """Debian's nginx as a mail proxy for the same service; ports[protocol] are with implicit TLS."""

    def __init__(self, service, client_ca, directives=""):
        self._ports = {protocol: Port() for protocol in ("imap", "pop3", "smtp")}
        self.ports = {protocol: port.number for protocol, port in self._ports.items()}
        directory = pathlib.Path(tempfile.mkdtemp(prefix="nginx-", dir=run_directory()))
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
  imap_auth plain;
  pop3_auth plain;
  smtp_auth plain;
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
