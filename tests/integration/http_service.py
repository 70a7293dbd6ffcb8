# What the HTTP services under a test's hand have in common: a thread for each connection, and the end of
# all of them.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import http.server
import socket
import threading

from gatepost import HOST


class HttpService:
    """Serves on `port`, with TLS where `tls` is a server context; serve(handler) answers each request."""

    def __init__(self, tls=None, keep_alive=True):
        self.connections = 0
        self._keep_alive = keep_alive
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
                service.serve(self)
                self.close_connection |= not service._keep_alive

            do_POST = do_GET

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
        self.origin = f"{'https' if tls else 'http'}://{HOST}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def serve(self, handler):
        raise NotImplementedError

    def drop_connections(self):
        """Ends the connections that are kept."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def let_go(self):
        """Keeps no connection from now on: at the end of a test none is to stay behind."""
        self._keep_alive = False
        self.drop_connections()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self.drop_connections()
