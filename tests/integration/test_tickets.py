# Session tickets: what one gateway gave is good at another that has the same keys, while the keys
# change; OpenSSL is the client.
# SPDX-License-Identifier: Apache-2.0
import secrets
import unittest

from clients import s_client
from fault_servers import RecordingImap
from gatepost import Gatepost, GatewayTestCase, run_directory

VERSIONS = ("-tls1_2", "-tls1_3")


class TicketTestCase(GatewayTestCase):
    def setUp(self):
        self.backend = RecordingImap(users={"u": "p"})
        self.addCleanup(self.backend.close)
        self.folder = run_directory() / self.id().rpartition(".")[2]
        self.folder.mkdir()
        self.keys = [secrets.token_hex(80)]
        self.key_file = self.folder / "ticket.keys"
        self.write_keys()

    def write_keys(self):
        self.key_file.write_text("".join(key + "\n" for key in self.keys))

    def change_keys(self):
        """What the reference tells operators to do."""
        self.keys = self.keys[-2:] + [secrets.token_hex(80)]
        self.write_keys()

    def gateway(self, **keys):
        gate = Gatepost({"implicit": {"protocol": "imap", "tls": "implicit"},
                         "starttls": {"protocol": "imap", "tls": "starttls"},
                         "pop3": {"protocol": "pop3", "tls": "implicit", "pool": "pop3"}},
                        {"imap": {"members": [self.backend.member], "tls": "none"},
                         "pop3": {"members": [self.backend.member], "tls": "none"}}, **keys)
        self.addCleanup(gate.stop)
        return gate

    def session_file(self, version):
        return self.folder / f"session{version}"

    def connect(self, gate, version, listener="implicit"):
        """Connects with the session of the last time, if there was one; whether it was resumed."""
        session = self.session_file(version)
        arguments = [version, "-sess_out", str(session)]
        if session.exists():
            arguments += ["-sess_in", str(session)]
        if gate.listeners[listener]["tls"] == "starttls":
            arguments += ["-starttls", gate.listeners[listener]["protocol"]]
        said = s_client(gate.ports[listener], *arguments)
        self.assertIn("Verify return code: 0 (ok)", said)
        reused = "\nReused, " in said
        self.assertNotEqual(reused, "\nNew, " in said, said)
        return reused


class SharedKeys(TicketTestCase):
    def test_two_gateways_resume_while_keys_change(self):
        one, two = (self.gateway(tls={"ticket_key_file": self.key_file}) for _ in range(2))
        for version in VERSIONS:
            self.assertFalse(self.connect(one, version))
            self.assertTrue(self.connect(two, version))
            self.assertTrue(self.connect(two, version, "starttls"))
        for _ in range(2):  # in TLS 1.2, s_client keeps the first ticket, whatever it is given
            self.change_keys()
            self.assertEqual(one.reload()["ticket_keys"], str(len(self.keys)))
            for version in VERSIONS:
                self.assertTrue(self.connect(one, version))
                self.assertTrue(self.connect(two, version))  # which has not read the file yet
            two.reload()
            for version in VERSIONS:
                self.assertTrue(self.connect(two, version, "starttls"))
                self.assertTrue(self.connect(one, version))
        for _ in range(2):  # the keys that the tickets have are gone
            self.change_keys()
        one.reload()
        for version in VERSIONS:
            self.assertFalse(self.connect(one, version))
            self.assertTrue(self.connect(one, version))
        metrics = one.metrics()
        self.assertEqual(metrics.value("tls_tickets_total", key="unknown"), 2)
        self.assertGreater(metrics.value("tls_tickets_total", key="other"), 0)
        self.assertGreater(metrics.value("tls_sessions_total", resumed="yes", version="1.2"), 0)

    def test_a_changed_file_is_taken_by_itself(self):
        gate = self.gateway(tls={"ticket_key_file": self.key_file})
        self.change_keys()
        line = gate.wait_log(event="reload", trigger="files")[-1]
        self.assertEqual((line["result"], line["ticket_keys"]), ("ok", "2"))
        metrics = gate.metrics()
        self.assertEqual(metrics.value("tls_certificate_reloads_total", result="ok",
                                       certificate=str(self.key_file)), 1)

    def test_a_bad_file_changes_nothing(self):
        gate = self.gateway(tls={"ticket_key_file": self.key_file})
        for version in VERSIONS:
            self.assertFalse(self.connect(gate, version))
        self.key_file.write_text("oops\n")
        detail = gate.reload("failed")["detail"]
        self.assertRegex(detail, "ticket.keys:1: not a ticket key; use 160 hexadecimal digits")
        self.assertNotIn("oops", gate.log_text())
        for version in VERSIONS:
            self.assertTrue(self.connect(gate, version))
        self.assertNotIn(self.keys[0], gate.log_text())


class OwnKeys(TicketTestCase):
    def test_they_outlive_a_reload_and_open_no_other_protocol(self):
        gate, other = self.gateway(), self.gateway()
        for version in VERSIONS:
            self.assertFalse(self.connect(gate, version))
            self.assertTrue(self.connect(gate, version, "starttls"))
        gate.reload()
        for version in VERSIONS:
            self.assertTrue(self.connect(gate, version))
            self.assertFalse(self.connect(gate, version, "pop3"))
            self.assertFalse(self.connect(other, version))


if __name__ == "__main__":
    unittest.main()
