# Every row of the documented port table, with TLS 1.2 and 1.3, against real Dovecot and Postfix:
# logs in and does what the port is for.
# SPDX-License-Identifier: Apache-2.0
import ssl

import clients
from gatepost import GatewayTestCase, client_context, pools, port_table, start_backends

VERSIONS = {"none": [None],
            "starttls": [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
            "implicit": [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]}


def setUpModule():
    global backends
    backends = start_backends()


class PortTable(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        cls.share(port_table(), pools(backends))

    def credentials(self, user="alice"):
        return {"user": user, "password": backends.users[user]}

    def assert_logged(self, port, encryption, version):
        """The session's log line tells what was spoken."""
        tls = version.name.replace("_", ".") if version else "none"
        line = self.gate.wait_log(event="session", listener=port, tls=tls)[0]
        self.assertEqual("cipher" in line, encryption != "none")
        self.assertEqual(line["user"], "alice")
        self.assertEqual(line["result"], "done")

    def imap(self, port, encryption, version):
        context = version and client_context(version)
        message = clients.Message()
        client = clients.imap(self.gate, port, **self.credentials(), context=context,
                              encryption=encryption)
        self.assertEqual(client.state, "AUTH")
        self.assertEqual(client.append("INBOX", r"\Flagged", None, message.data)[0], "OK")
        client.select()
        numbers = client.search(None, "HEADER", "Message-ID", message.id)[1][0]
        data = client.fetch(numbers, "(FLAGS BODY.PEEK[])")[1][0]
        self.assertIn(rb"\Flagged", data[0])
        self.assertEqual(data[1], message.data)
        self.assertEqual(client.logout()[0], "BYE")

    def pop3(self, port, encryption, version):
        context = version and client_context(version)
        message = clients.Message(to="alice@example.test")
        backends.empty_mailbox("alice")
        backends.deliver("alice", message.data)
        client = clients.pop3(self.gate, port, **self.credentials(), context=context,
                              encryption=encryption)
        self.assertEqual(client.stat()[0], 1)
        lines = client.retr(1)[1]
        self.assertEqual(b"\r\n".join(lines) + b"\r\n", message.data)
        self.assertTrue(client.quit().startswith(b"+OK"))

    def smtp(self, port, encryption, version):
        context = version and client_context(version)
        message = clients.Message()
        client = clients.smtp(self.gate, port, **self.credentials(), context=context,
                              encryption=encryption)
        self.assertEqual(client.sendmail(message.sender, message.to, message.data,
                                         ["BODY=8BITMIME"]), {})
        self.assertEqual(client.quit()[0], 221)
        with clients.Store(backends, "bob") as store:
            self.assertEqual(clients.body_of(store.wait_for(message.id)), message.body)


def row(port, keys, encryption, version):
    def test(self):
        getattr(self, keys["protocol"])(port, encryption, version)
        self.assert_logged(port, encryption, version)
    return test


# One test a row, named as the table names it: test_imap_143_starttls_TLSv1_3.
for _port, _keys in port_table().items():
    for _encryption in ["implicit"] if _keys["tls"] == "implicit" else ["none", "starttls"]:
        for _version in VERSIONS[_encryption]:
            _name = f"test_{_keys['protocol']}_{_port}_{_encryption}"
            setattr(PortTable, f"{_name}_{_version.name}" if _version else _name,
                    row(_port, _keys, _encryption, _version))
