# Handshakes with an RSA certificate: their signatures are made beside the loop, for clients that wait
# and for clients that don't.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import signal
import socket
import ssl
import struct
import threading

from clients import greeting, logged_in
from gatepost import HOST
from test_certificates import CertificateTestCase
from wire import DEADLINE

CROWD = 300  # more than may wait for a signature at a time
STORM_THREADS = 4


class Signing(CertificateTestCase):
    def setUp(self):
        super().setUp()
        self.rsa = self.pki.install(self.pki.issue("localhost", key_type="rsa"), "rsa")
        self.gateway_for_a_crowd()

    def gateway_for_a_crowd(self, **limits):
        self.gateway([self.rsa], process={"workers": 1},
                     limits={"max_connections_per_address": 2 * CROWD, **limits})
        self.gate.wait_capabilities()

    def hello(self):
        """A socket on which a ClientHello has been sent, and the client that waits for an answer."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.pki.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        wire = socket.create_connection((HOST, self.gate.ports["implicit"]), timeout=DEADLINE)
        self.addCleanup(wire.close)
        wire.sendall(outgoing.read())
        return wire, client, incoming, outgoing

    def finish(self, wire, client, incoming, outgoing):
        """Ends that handshake and returns the greeting."""
        text = b""
        while not text:
            try:
                client.do_handshake()
                wire.sendall(outgoing.read())
                text = client.read()
            except ssl.SSLWantReadError:
                data = wire.recv(65536)
                self.assertTrue(data, "closed during the handshake")
                incoming.write(data)
        return text

    def threads(self):
        return [line.split()[1] for status in self.gate.tasks() for line in status.splitlines()
                if line.startswith("Name:")]

    def test_no_thread_before_the_first(self):
        self.assertNotIn("signer", self.threads())
        self.shown()
        self.assertIn("signer", self.threads())

    def test_a_crowd_is_served(self):
        crowd = [self.hello() for _ in range(CROWD)]
        with logged_in(self.gate, "implicit", "u", "p", tls=self.pki.context()) as wire:
            for one in crowd:
                self.assertTrue(self.finish(*one).startswith(b"* OK"))
            wire.imap("n", "NOOP")
        for one in crowd:
            one[0].close()

    def test_clients_that_leave_before_their_signature(self):
        crowd = [self.hello() for _ in range(CROWD)]
        for i, one in enumerate(crowd):
            if i % 3 == 1:
                one[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if i % 3:
                one[0].close()  # half of them with a reset
        for one in crowd[::3]:
            self.assertTrue(self.finish(*one).startswith(b"* OK"))
            one[0].close()

    def test_handshakes_that_time_out_while_they_wait(self):
        self.gate.stop()
        self.gateway_for_a_crowd(tls_handshake_timeout="1s")
        crowd = [self.hello() for _ in range(CROWD)]  # none of them answers
        for wire, *_ in crowd:
            while wire.recv(65536):
                pass
            wire.close()
        self.gate.wait_log(CROWD, event="session", result="tls_timeout")

    def test_reload_during_a_storm(self):
        ends = threading.Event()
        served, problems = [], []

        def storm():
            while not ends.is_set():
                try:
                    with self.gate.connect("starttls") as wire:
                        greeting(wire)
                        wire.imap("t", "STARTTLS")
                        wire.start_tls(self.pki.context(), "localhost")
                        wire.imap("n", "NOOP")
                    served.append(1)
                except (OSError, AssertionError) as error:
                    problems.append(error)

        storms = [threading.Thread(target=storm) for _ in range(STORM_THREADS)]
        for thread in storms:
            thread.start()
        try:
            for _ in range(5):
                self.pki.install(self.pki.issue("localhost", key_type="rsa"), "rsa")
                self.gate.reload()
        finally:
            ends.set()
            for thread in storms:
                thread.join()
        self.assertEqual(problems, [])
        self.assertGreater(len(served), 0)

    def test_a_drain_waits_for_no_signature(self):
        for _ in range(CROWD):
            self.hello()
        self.gate.stop(signal.SIGTERM)
