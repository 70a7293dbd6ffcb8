# Connections to backends that are opened before they are needed: connect_early and ready_connections,
# with real Dovecot and Postfix, and with backends that count.
# SPDX-License-Identifier: Apache-2.0
import concurrent.futures
import contextlib

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp
from gatepost import GatewayTestCase, certificates, pools, port_table, start_backends
from wire import poll_until

RECORDING = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}
LISTENERS = {p: {"protocol": p, "tls": "implicit", "pool": p} for p in RECORDING}
WORKERS = 2


def early(gate, result=None):
    labels = {"result": result} if result else {}
    return gate.metrics().value("backend_early_connections_total", **labels)


class EarlyTestCase(GatewayTestCase):
    def start_recording(self, stack, users=None, tls=False, **pool):
        """A gateway in front of three recording backends, and these."""
        keys = {"tls": "none", **pool}
        context = None
        if tls:
            context = certificates().server_context()
            keys = {"tls": "starttls", "ca_file": certificates().ca, "server_name": "localhost",
                    **pool}
        backends = {p: stack.enter_context(make(users=users, tls=context))
                    for p, make in RECORDING.items()}
        gate = self.start(LISTENERS, {p: {"members": [b.member], **keys}
                                      for p, b in backends.items()},
                          process={"workers": WORKERS})
        gate.wait_capabilities()
        return gate, backends

    def work(self, gate, protocol):
        """A whole session."""
        with clients.logged_in(gate, protocol, "u", "p") as wire:
            wire.send(clients.QUIT[protocol] + "\r\n")
            self.assertTrue(wire.rest())


class Real(EarlyTestCase):
    """The documented ports with either setting, and with both."""

    def test_sessions(self):
        backends = start_backends()
        for keys in ({"connect_early": True}, {"connect_early": False}, {"ready_connections": 2},
                     {"connect_early": True, "ready_connections": 2}):
            with self.subTest(**keys):
                gate = self.start(port_table(), pools(backends, **keys))
                gate.wait_capabilities()
                for password, expected in 3 * (("wrong", clients.LOGIN_REFUSED),
                                               (backends.users["alice"], clients.LOGIN_OK)):
                    # Side by side, since real servers take their time to refuse.
                    with concurrent.futures.ThreadPoolExecutor(len(gate.listeners)) as threads:
                        for attempt in [threads.submit(self.attempt, gate, name, password, expected)
                                        for name in gate.listeners]:
                            attempt.result()
                self.send_and_read(gate, backends)
                # A restart makes everything that was ready stale.
                backends.dovecot.stop()
                backends.dovecot.start()
                poll_until(lambda: gate.metrics().value("backend_up") == len(gate.pools), "all up")
                for _ in range(6):
                    for name in ("993", "995", "465"):
                        self.attempt(gate, name, backends.users["alice"], clients.LOGIN_OK)
                gate.wait_active(0)
                gate.stop()

    def attempt(self, gate, name, password, expected):
        protocol = gate.listeners[name]["protocol"]
        with gate.connect(name, tls=gate.listeners[name]["tls"] == "implicit") as wire:
            clients.greeting(wire)
            answer = clients.login(wire, protocol, "alice", password)
            self.assertTrue(answer.startswith(expected[protocol]), answer)
            wire.send(clients.QUIT[protocol] + "\r\n")
            wire.rest()

    def send_and_read(self, gate, backends):
        message = clients.Message()
        client = clients.smtp(gate, "465", "alice", backends.users["alice"])
        client.sendmail(message.sender, message.to, message.data, ["BODY=8BITMIME"])
        client.quit()
        with clients.Store(backends, "bob") as store:
            store.wait_for(message.id)
        client = clients.imap(gate, "993", "bob", backends.users["bob"])
        client.select()
        numbers = client.search(None, "HEADER", "Message-ID", message.id)[1][0]
        self.assertEqual(clients.body_of(client.fetch(numbers, "(BODY[])")[1][0][1]), message.body)
        client.logout()


class ConnectEarly(EarlyTestCase):
    def test_the_backend_is_ready_before_the_login(self):
        for tls in (False, True):
            with self.subTest(tls=tls), contextlib.ExitStack() as stack:
                gate, backends = self.start_recording(stack, connect_early=True, tls=tls)
                for protocol, backend in backends.items():
                    before, used = backend.connections, early(gate, "used")
                    with gate.connect(protocol, tls=True) as wire:
                        clients.greeting(wire)
                        poll_until(lambda: backend.connections == before + 1, "a connection")
                        self.assertTrue(clients.login(wire, protocol, "u", "p")
                                        .startswith(clients.LOGIN_OK[protocol]))
                        self.assertEqual(backend.connections, before + 1)
                    self.assertEqual(early(gate, "used"), used + 1)
                gate.settled()

    def test_clients_that_leave_without_a_login(self):
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_recording(stack, connect_early=True)
            for protocol, backend in backends.items():
                before = backend.connections
                with gate.connect(protocol, tls=True) as wire:
                    clients.greeting(wire)
                    poll_until(lambda: backend.connections == before + 1, "a connection")
            gate.settled()
            self.assertEqual((early(gate, "used"), early(gate, "unused")), (0, 3))

    def test_a_refused_login_and_another(self):
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_recording(stack, connect_early=True, users={"u": "p"})
            for protocol, backend in backends.items():
                with gate.connect(protocol, tls=True) as wire:
                    clients.greeting(wire)
                    for password, expected in (("wrong", clients.LOGIN_REFUSED),
                                               ("wrong", clients.LOGIN_REFUSED),
                                               ("p", clients.LOGIN_OK)):
                        answer = clients.login(wire, protocol, "u", password)
                        self.assertTrue(answer.startswith(expected[protocol]), answer)
                self.assertEqual([p for _, p in backend.logins], ["wrong", "wrong", "p"])
            gate.settled()

    def test_one_that_the_backend_gave_up(self):
        """The client thinks for longer than the backend waits: it notices nothing."""
        for reset in (False, True):
            with self.subTest(reset=reset), contextlib.ExitStack() as stack:
                gate, backends = self.start_recording(stack, connect_early=True)
                for protocol, backend in backends.items():
                    before = backend.connections
                    with gate.connect(protocol, tls=True) as wire:
                        clients.greeting(wire)
                        poll_until(lambda: backend.connections == before + 1, "a connection")
                        backend.drop_connections(reset)
                        answer = clients.login(wire, protocol, "u", "p")
                        self.assertTrue(answer.startswith(clients.LOGIN_OK[protocol]), answer)
                gate.settled()

    def test_strangers_do_not_exhaust_the_backend(self):
        """At most 64 at a time a worker, however many clients wait."""
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_recording(stack, connect_early=True)
            probes = backends["imap"].connections
            crowd = [stack.enter_context(gate.connect("imap", source=f"127.0.0.{2 + i // 90}",
                                                      tls=True)) for i in range(180)]
            for wire in crowd:
                clients.greeting(wire)
            self.assertLessEqual(backends["imap"].connections - probes, 64 * WORKERS)
            for wire in crowd:
                self.assertTrue(clients.login(wire, "imap", "u", "p").startswith("l OK"))
                wire.close()
            gate.settled()

    def test_switched_off(self):
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_recording(stack, connect_early=False)
            before = backends["imap"].connections
            with gate.connect("imap", tls=True) as wire:
                clients.greeting(wire)
                wire.imap("a", "NOOP")
                self.assertEqual(backends["imap"].connections, before)
                self.assertTrue(clients.login(wire, "imap", "u", "p").startswith("l OK"))
            self.assertEqual(early(gate), 0)
            gate.settled()


class ReadyConnections(EarlyTestCase):
    READY = 3

    def start_ready(self, stack, **options):
        gate, backends = self.start_recording(stack, ready_connections=self.READY,
                                              connect_early=False, **options)
        for backend in backends.values():
            self.wait_full(backend)
        gate.wait_capabilities()  # once more, for the descriptors
        return gate, backends

    def wait_full(self, backend):
        poll_until(lambda: self.alive(backend) == self.READY * WORKERS, "full shelves")

    @staticmethod
    def alive(backend):
        """Connections of the backend that the gateway keeps open."""
        return sum(1 for thread in backend.threads() if thread.is_alive())

    def test_they_are_used_and_replaced(self):
        for tls in (False, True):
            with self.subTest(tls=tls), contextlib.ExitStack() as stack:
                gate, backends = self.start_ready(stack, tls=tls)
                for protocol, backend in backends.items():
                    before = backend.connections
                    for count in range(1, 3 * self.READY * WORKERS):
                        self.work(gate, protocol)
                        poll_until(lambda: backend.connections == before + count, "another one")
                        self.wait_full(backend)
                gate.settled()

    def test_more_clients_than_are_ready(self):
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_ready(stack)
            for protocol in backends:
                wires = [stack.enter_context(clients.logged_in(gate, protocol, "u", "p"))
                         for _ in range(4 * self.READY * WORKERS)]
                for wire in wires:
                    wire.send(clients.QUIT[protocol] + "\r\n")
                    self.assertTrue(wire.rest())
            gate.settled()

    def test_all_of_them_given_up(self):
        """No login fails for it, whether the gateway has noticed or not."""
        for reset in (False, True):
            with self.subTest(reset=reset), contextlib.ExitStack() as stack:
                gate, backends = self.start_ready(stack)
                for protocol, backend in backends.items():
                    backend.drop_connections(reset)
                    for _ in range(self.READY * WORKERS + 2):
                        self.work(gate, protocol)
                gate.settled()

    def test_shutting_down(self):
        with contextlib.ExitStack() as stack:
            gate, backends = self.start_ready(stack)
            gate.stop()
            for backend in backends.values():
                poll_until(lambda: self.alive(backend) == 0, "no connection left")
