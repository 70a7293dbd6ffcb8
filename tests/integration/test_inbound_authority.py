# Who of a local domain there is, says a service that speaks nginx's auth_http (Auth-Method: none), for each
# recipient of mail from outside; real Postfix behind, and Debian's nginx beside.
# SPDX-License-Identifier: Apache-2.0
import re

import clients
from auth_service import AuthService, Nginx
from client_pki import ClientPki
from fault_servers import RecordingSmtp, refused_port
from gatepost import HOST, address, client_context, pools, run_directory, start_backends
from test_inbound import InboundTestCase, mx_listener
from wire import Wire

ADDRESS = re.compile("<([^>]*)>")


def setUpModule():
    global backends
    backends = start_backends()


class RecipientsTestCase(InboundTestCase):
    def service(self):
        """A service that knows who there is: everybody whose name does not begin with "no"."""
        service = AuthService({}, {})
        self.addCleanup(service.close)

        def decide(question):
            name = ADDRESS.search(question["Auth-SMTP-To"]).group(1)
            if not name.startswith("no"):
                return {"Auth-Status": "OK", "Auth-Server": HOST, "Auth-Port": "1"}
            return {"Auth-Status": f"{name} is nobody", "Auth-Error-Code": "550 5.1.1"}
        service.decide = decide
        return service

    def begin(self, urls, mx, listener=None, **authority):
        gate = self.start({"mx": mx_listener(inbound_authority="recipients", **(listener or {}))}, {
            "outgoing": pools(backends)["outgoing"],
            "mx": {"members": [mx], "login": "none"}},
            authority={"kind": "http", "name": "recipients", "urls": urls, **authority})
        gate.wait_capabilities()
        return gate

    def recording(self):
        mx = RecordingSmtp()
        self.addCleanup(mx.close)
        return mx

    def finish(self, gate, *services):
        for service in services:  # connections to it are kept: they are no leak
            service.let_go()
        gate.settled()


class RealPostfix(RecipientsTestCase):
    def test_mail_reaches_those_who_are_there(self):
        service = self.service()
        gate = self.begin([service.url], address(backends.smtp_noauth_port))
        message = clients.Message()
        client = clients.smtp(gate, "mx", encryption="none")
        refused = client.sendmail(message.sender, ["bob@example.test", "nobody@example.test"],
                                  message.data)
        self.assertEqual(refused, {"nobody@example.test":
                                   (550, b"5.1.1 nobody@example.test is nobody")})
        client.quit()
        with clients.Store(backends, "bob") as store:
            store.wait_for(message.id)
        asked = [(q["Auth-SMTP-To"], q["Auth-Login-Attempt"]) for q in service.questions]
        self.assertEqual(asked, [("RCPT TO:<bob@example.test>", "1"),
                                 ("RCPT TO:<nobody@example.test>", "2")])
        for result in ("ok", "deny"):
            self.assertEqual(1, gate.metrics().value("authority_requests_total",
                                                     authority="recipients", result=result))
        self.finish(gate, service)

    def test_nginx_asks_the_same(self):
        """Field for field, of the one recipient that nginx asks about."""
        service = self.service()
        pki = ClientPki(run_directory() / "inbound-authority-pki")
        service.decide = lambda question: {"Auth-Status": "OK", "Auth-Server": HOST,
                                           "Auth-Port": str(backends.smtp_noauth_port)}
        gate = self.begin([service.url], address(backends.smtp_noauth_port),
                          listener={"tls": "implicit"})
        with Nginx(service, pki.ca, "xclient off;", methods={"smtp": "none"}) as nginx:
            ours, theirs = (self.question(service, port)
                            for port in (gate.ports["mx"], nginx.ports["smtp"]))
        own = {"host", "client-port", "auth-port", "client-host", "auth-ssl-verify"}
        self.assertEqual(*([(name.lower(), value) for name, value in question.fields
                            if name.lower() not in own] for question in (ours, theirs)))
        self.assertEqual((ours["Auth-Method"], ours["Auth-SMTP-Helo"], ours["Auth-SMTP-From"],
                          ours["Auth-SMTP-To"]),
                         ("none", "client.example", "MAIL FROM:<stranger@elsewhere.example> SIZE=3",
                          "RCPT TO:<bob@example.test>"))
        self.finish(gate, service)

    def question(self, service, port):
        del service.questions[:]
        with Wire.connect(port, tls=client_context()) as wire:
            clients.greeting(wire)
            wire.command("EHLO client.example")
            wire.command("MAIL FROM:<stranger@elsewhere.example> SIZE=3")
            answer = wire.command("RCPT TO:<bob@example.test>")
            self.assertTrue(answer.startswith("250"), answer)
            wire.command("QUIT")
        question, = service.questions
        return question


class Judgements(RecipientsTestCase):
    def test_a_flight_of_recipients(self):
        mx, service = self.recording(), self.service()
        gate = self.begin([service.url], mx.member)
        with gate.connect("mx") as wire:
            clients.greeting(wire)
            wire.command("EHLO client.example")
            mx.lines.clear()
            wire.send("MAIL FROM:<a@b>\r\nRCPT TO:<u@example.test>\r\nRCPT TO:<no1@example.test>\r\n"
                      "RCPT TO:<v@foreign.example>\r\nRCPT TO:<w@example.test>\r\nDATA\r\n")
            self.assertEqual([wire.reply() for _ in range(5)][2:4],
                             ["550 5.1.1 no1@example.test is nobody", "550 5.7.1 Relaying denied"])
            self.assertTrue(wire.reply().startswith("354"))
            self.assertEqual(wire.command("x\r\n.")[:3], "250")
            wire.command("QUIT")
        self.assertEqual([line for line in mx.lines if line.startswith("RCPT")],
                         ["RCPT TO:<u@example.test>", "RCPT TO:<w@example.test>"])
        self.assertEqual(len(service.questions), 3)  # a foreign one is nobody's to judge
        self.finish(gate, service)

    def test_an_outage_is_temporary(self):
        mx = self.recording()
        sock, port = refused_port()
        with sock:
            gate = self.begin([f"http://{HOST}:{port}/"], mx.member)
            with self.stranger() as wire:
                for _ in range(2):
                    self.assertEqual(wire.command("RCPT TO:<u@example.test>"),
                                     "451 4.3.0 Temporary failure, try again later")
                self.assertTrue(wire.command("NOOP").startswith("250"))
            self.assertNotIn("RCPT", mx.commands())
            self.assertEqual(2, gate.metrics().value("authority_requests_total",
                                                     authority="recipients", result="error"))
            self.finish(gate)

    def test_what_the_service_may_say(self):
        mx, service = self.recording(), self.service()
        gate = self.begin([service.url], mx.member)
        with self.stranger() as wire:
            for answer, reply in (
                    ({"Auth-Status": "Go away"}, "550 5.7.1 Go away"),
                    ({"Auth-Status": "Later", "Auth-Error-Code": "450 4.2.1"}, "450 4.2.1 Later"),
                    ({"Auth-Status": "No", "Auth-Error-Code": "250"}, "550 5.7.1 No"),
                    ({}, "451 4.3.0 Temporary failure, try again later")):
                service.answers = [answer]
                self.assertEqual(wire.command("RCPT TO:<u@example.test>"), reply)
            service.answers = [{"Auth-Status": "WAIT"}]  # then it says yes
            asked = len(service.questions)
            self.assertTrue(wire.command("RCPT TO:<u@example.test>").startswith("250"))
            self.assertEqual(len(service.questions), asked + 2)
        self.finish(gate, service)

    def test_clients_and_backends_that_leave(self):
        mx, service = self.recording(), self.service()
        gate = self.begin([service.url], mx.member)
        service.held.clear()
        wire = self.stranger()
        wire.send("RCPT TO:<u@example.test>\r\n")
        clients.poll_until(lambda: service.questions, "a question")
        wire.close()
        with self.stranger() as other:
            other.send("RCPT TO:<v@example.test>\r\n")
            clients.poll_until(lambda: len(service.questions) == 2, "another question")
            mx.drop_connections()
            self.assertTrue(other.reply().startswith("421 4.3.0"))
            self.assertEqual(other.rest(), b"")
        service.held.set()
        self.assertNotIn("RCPT", mx.commands())
        self.finish(gate, service)
