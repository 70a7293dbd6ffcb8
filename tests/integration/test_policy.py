# The policy service: what it is asked and told is what Debian's Dovecot asks and tells it of the same
# login, and what it decides holds; where it does not answer, logins go on.
# SPDX-License-Identifier: Apache-2.0
import base64

import clients
from fault_servers import RecordingImap, RecordingPop3, RecordingSmtp, refused_port
from gatepost import (GatewayTestCase, address, certificates, pools, run_directory, run_gatepost,
                      start_backends, strange_certificates, table)
from policy_service import PolicyService, password_hash
from wire import poll_until

RECORDING = {"imap": RecordingImap, "pop3": RecordingPop3, "smtp": RecordingSmtp}
NONCE = "pepper of the policy"

# Its second question, about a login that has succeeded, is none that the gateway asks.
DOVECOT_POLICY = """\
auth_policy_server_url = {url}
auth_policy_hash_nonce = {nonce}
auth_policy_check_after_auth = no
imap_id_retain = yes
auth_policy_server_api_header = X-API-Key:4711
"""


def secret(name, text):
    file = run_directory() / name
    file.write_text(text + "\n")
    file.chmod(0o600)
    return file


class PolicyTestCase(GatewayTestCase):
    def service(self, **keys):
        service = PolicyService(**keys)
        self.addCleanup(service.close)
        return service

    def keys(self, *services, **keys):
        return {"urls": [service.url() for service in services],
                "nonce_file": secret("policy-nonce", NONCE), **keys}

    def gate_for(self, *services, policy=None, users=None, names=None, **keys):
        """A gateway before a backend of each protocol that keeps record of its logins."""
        self.backends = {p: make(users=users or {"alice": "right"})
                         for p, make in RECORDING.items()}
        for backend in self.backends.values():
            self.addCleanup(backend.close)
        gate = self.start({p: {"protocol": p, "tls": "implicit", "pool": p} for p in RECORDING},
                          {p: {"members": [backend.member], "tls": "none"}
                           for p, backend in self.backends.items()},
                          policy=policy or self.keys(*services), users=names,
                          **{"process": {"workers": 1}, **keys})
        self.addCleanup(lambda: [service.let_go() for service in services])
        return gate

    def login(self, protocol="imap", user="alice", password="right"):
        with self.gate.connect(protocol, tls=True) as wire:
            clients.greeting(wire)
            return clients.login(wire, protocol, user, password)

    def counted(self, command, result):
        return self.gate.metrics().value("policy_requests_total", command=command, result=result)

    def wait_counted(self, command, result, count):
        poll_until(lambda: self.counted(command, result) == count, f"{count} {command} {result}")

    def assert_in(self, protocol="imap", **login):
        answer = self.login(protocol, **login)
        self.assertTrue(answer.startswith(clients.LOGIN_OK[protocol]), answer)


class BesideDovecot(PolicyTestCase):
    def test_asks_and_tells_what_dovecot_does(self):
        """Both ask about one and the same login: the gateway, and the Dovecot behind it, which hears from
        the gateway who the client is, and so has the very same words."""
        service = self.service()
        backends = start_backends(auth=DOVECOT_POLICY.format(url=service.url("dovecot"),
                                                             nonce=NONCE))
        users = pools(backends, forward_client_address="native")
        self.start({p: {"protocol": p, "tls": "implicit", "pool": f"stores-{p}"}
                    for p in ("imap", "pop3")},
                   {name: keys for name, keys in users.items() if name.startswith("stores")},
                   policy=self.keys(service, header_file=secret("policy-header", "X-API-Key: 4711")))
        self.addCleanup(service.let_go)
        right = backends.users["alice"]
        for protocol in ("imap", "pop3"):
            for password in (right, "not it"):
                with self.subTest(protocol, right=password == right), \
                        self.gate.connect(protocol, tls=True, source="127.0.0.9") as wire:
                    clients.greeting(wire)
                    if protocol == "imap":
                        wire.imap("i", 'ID ("name" "a \\"client\\"" "version" "1.0")')
                    answer = clients.login(wire, protocol, "alice", password)
                    expected = clients.LOGIN_OK if password == right else clients.LOGIN_REFUSED
                    self.assertTrue(answer.startswith(expected[protocol]), answer)
                for command in ("allow", "report"):
                    ours, theirs = poll_until(
                        lambda c=command: all(both := [service.of(c, who) for who in
                                                       ("gate", "dovecot")]) and both,
                        f"{command} of both")
                    self.assertEqual((len(ours), len(theirs)), (1, 1))
                    told = dict(ours[0].body)
                    # Dovecot 2.3 has none.
                    fail_type = told.pop("fail_type")
                    self.assertEqual(fail_type, "credentials" if command == "report"
                                     and password != right else "")
                    # The gateway's own fields of ID, which 2.3 takes for the client's.
                    device = theirs[0].body.pop("device_id")
                    self.assertTrue(device.endswith(told.pop("device_id")), device)
                    self.assertEqual(told, theirs[0].body)
                    self.assertEqual(told["pwhash"],
                                     password_hash(NONCE, "alice", password))
                    self.assertEqual(
                        (told["login"], told["remote"], told["protocol"], told["tls"]),
                        ("alice", "127.0.0.9", protocol, True))
                    self.assertEqual(ours[0].body["device_id"],
                                     '"name" "a \\"client\\"" "version" "1.0"'
                                     if protocol == "imap" else "")
                    for name in ("Content-Type", "X-API-Key"):
                        self.assertEqual(ours[0].headers[name], theirs[0].headers[name])
                    if command == "report":
                        self.assertEqual((told["success"], told["policy_reject"]),
                                         (password == right, False))
                with service._lock:
                    service.told.clear()


class Decisions(PolicyTestCase):
    def test_refused_is_as_wrong_and_nobody_else_is_asked(self):
        service = self.service()
        service.decide = lambda told: {"status": -1, "msg": "known\r\nbotnet"}
        gate = self.gate_for(service)
        for protocol, backend in self.backends.items():
            with self.subTest(protocol):
                answer = self.login(protocol)
                service.decide, refusing = (lambda told: {"status": 0}), service.decide
                self.assertEqual(answer, self.login(protocol, password="wrong"))
                service.decide = refusing
                self.assertTrue(answer.startswith(clients.LOGIN_REFUSED[protocol]), answer)
                self.assertEqual(backend.logins, [("alice", "wrong")])
        lines = gate.wait_log(count=3, event="login_failed", reason="policy")
        self.assertEqual({line["detail"] for line in lines},
                         {"the policy service said: known??botnet"})
        self.wait_counted("allow", "refuse", 3)
        self.wait_counted("report", "ok", 6)
        reports = [told.body for told in service.of("report")]
        self.assertEqual([(r["success"], r["policy_reject"], r["fail_type"]) for r in reports],
                         [(False, True, "policy"), (False, False, "credentials")] * 3)
        self.assertEqual(gate.metrics().value("auth_failures_total", reason="policy"), 3)

    def test_a_delayed_login_waits_and_holds_up_nobody(self):
        service = self.service()
        service.decide = lambda told: {"status": 60 if told.body["login"] == "alice" else 0}
        gate = self.gate_for(service, policy=self.keys(service, max_delay="1m"),
                             users={"alice": "right", "bob": "his"},
                             admin={"socket": run_directory() / "policy.sock"})
        with gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            wire.send('l LOGIN "alice" "right"\r\n')
            line, = gate.wait_log(event="login_policy", user="alice")
            self.assertEqual((line["result"], line["delay_ms"]), ("delay", "60000"))
            self.assert_in(user="bob", password="his")
            self.assertEqual(self.backends["imap"].logins, [("bob", "his")])
            session, = gate.control_json("sessions")["sessions"]
            self.assertEqual(session["state"], "authenticating")
            wire.reset()

    def test_a_delay_has_a_bound_and_an_end(self):
        service = self.service()
        service.decide = lambda told: {"status": 9223372036854775807}
        gate = self.gate_for(service, policy=self.keys(service, max_delay="200ms"))
        for protocol in RECORDING:
            self.assert_in(protocol)
        self.assertEqual([line["delay_ms"] for line in gate.wait_log(3, event="login_policy")],
                         ["200"] * 3)

    def test_log_only_lets_everything_go_on(self):
        service = self.service()
        gate = self.gate_for(service, policy=self.keys(service, log_only=True))
        for status, result in ((-1, "refuse"), (3600, "delay")):
            service.decide = lambda told, status=status: {"status": status}
            self.assert_in()
            line, = gate.wait_log(event="login_policy", result=result)
            self.assertEqual(line["ignored"], "yes")

    def test_who_is_throttled_is_not_asked_about(self):
        service = self.service()
        self.gate_for(service, throttle={"max_failures_per_user_and_address": 1})
        self.assertTrue(self.login(password="wrong").startswith("l NO [AUTHENTICATIONFAILED]"))
        self.assertTrue(self.login().startswith("l NO [LIMIT]"))
        self.wait_counted("report", "ok", 1)
        self.assertEqual((len(service.of("allow")), len(service.of("report"))), (1, 1))

    def test_the_name_is_the_normalized_one_and_may_be_anything(self):
        service = self.service()
        service.decide = lambda told: {"status": -("\ufffd" in told.body["login"])}
        self.gate_for(service, policy=self.keys(service, hash_bits=256, urls=[
            service.url() + "?tenant=a&"]), users={"alice@example.org": "right"},
            names={"lower_case": "all", "default_domain": "example.org"})
        self.assert_in(user="ALICE")
        with self.gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            wire.send(b"l AUTHENTICATE PLAIN " + base64.b64encode(b"\0b\xff\"\0pass") + b"\r\n")
            wire.line()
        self.wait_counted("report", "ok", 2)
        first, second = service.of("allow")
        self.assertEqual(first.query, {"tenant": "a"})
        self.assertEqual(first.body["login"], "alice@example.org")
        self.assertEqual(first.body["pwhash"],
                         password_hash(NONCE, "alice@example.org", "right", 256))
        self.assertEqual(second.body["login"], "b�\"@example.org")


class Outages(PolicyTestCase):
    def test_without_the_service_logins_go_on(self):
        sock, port = refused_port()
        self.addCleanup(sock.close)
        gate = self.gate_for(policy=self.keys(urls=[f"http://{address(port)}/"]))
        for _ in range(3):
            self.assert_in()
        self.wait_counted("allow", "error", 1)
        self.assertEqual(self.counted("allow", "dropped"), 2)  # it has just been asked in vain
        line, = gate.wait_log(event="policy_failed", command="allow")
        self.assertIn("refused", line["detail"])
        self.assertNotIn(NONCE, gate.log_text())

    def test_a_silent_service_is_not_waited_for(self):
        service = self.service()
        service.held["allow"].clear()
        gate = self.gate_for(service, policy=self.keys(service, timeout="200ms"))
        self.assert_in()
        self.wait_counted("allow", "timeout", 1)
        gate.wait_log(event="policy_failed", command="allow", detail="no answer in time")

    def test_nobody_waits_for_a_report(self):
        service = self.service()
        service.held["report"].clear()
        gate = self.gate_for(service, policy=self.keys(service, timeout="200ms"))
        self.assert_in()
        self.wait_counted("report", "timeout", 1)
        self.assert_in()
        self.assertEqual(self.counted("allow", "ok"), 2)
        gate.wait_log(event="policy_failed", command="report")

    def test_nonsense_is_an_outage(self):
        for name, answer, status in (("no JSON", b"status 0", 200), ("empty", b"", 200),
                                     ("no object", b"[0]", 200), ("no status", {"msg": "x"}, 200),
                                     ("a word", {"status": "-1"}, 200),
                                     ("a fraction", {"status": -0.5}, 200),
                                     ("too long", b'{"status": -1, "x": "' + b"x" * 20000 + b'"}',
                                      200), ("an error", {"status": -1}, 500)):
            with self.subTest(name):
                service = self.service()
                service.decide, service.status = (lambda told, a=answer: a), status
                gate = self.gate_for(service)
                self.assert_in()
                self.wait_counted("allow", "error", 1)
                gate.wait_log(event="policy_failed", command="allow")

    def test_the_next_url_answers(self):
        bad, good = self.service(), self.service()
        bad.status = 503
        good.decide = lambda told: {"status": -1}
        gate = self.gate_for(bad, good)
        self.assertTrue(self.login().startswith(clients.LOGIN_REFUSED["imap"]))
        self.assertEqual(self.backends["imap"].logins, [])
        self.wait_counted("report", "ok", 1)
        bad.status = 200
        gate.wait_log(event="policy_failed", command="report")
        self.assertEqual(len(good.of("report")), 1)

    def test_an_outage_refuses_for_a_while_where_that_is_wanted(self):
        service = self.service()
        service.status = 503
        self.gate_for(service, policy=self.keys(service, reject_on_failure=True))
        for protocol in RECORDING:
            answer = self.login(protocol)
            self.assertTrue(answer.startswith(clients.LOGIN_UNAVAILABLE[protocol]), answer)
        self.assertEqual(self.counted("allow", "error"), 3)
        service.status = 200
        self.assert_in()
        self.wait_counted("report", "ok", 1)  # an outage is no outcome

    def test_a_session_that_ends_is_asked_about_no_more(self):
        service = self.service()
        service.held["allow"].clear()
        gate = self.gate_for(service, policy=self.keys(service, timeout="2s"))
        with gate.connect("imap", tls=True) as wire:
            clients.greeting(wire)
            wire.send('l LOGIN "alice" "right"\r\n')
            poll_until(lambda: service.of("allow"), "the question")
            wire.reset()
        gate.settled()
        service.held["allow"].set()
        self.assert_in()
        self.assertEqual(self.backends["imap"].logins, [("alice", "right")])

    def test_tls_is_verified(self):
        header = secret("policy-header", "Authorization: Basic d2ZvcmNlOmtleQ==")
        service = self.service(tls=certificates().server_context())
        keys = self.keys(service, header_file=header, ca_file=certificates().ca)
        self.gate_for(service, policy=keys)
        self.assert_in()
        self.wait_counted("report", "ok", 1)
        self.assertEqual(service.of("allow")[0].headers["Authorization"], "Basic d2ZvcmNlOmtleQ==")
        gate = self.gate_for(service, policy={**keys, "ca_file": strange_certificates().ca})
        self.assert_in()
        self.wait_counted("allow", "error", 1)
        self.assertEqual(len(service.of("allow")), 1)
        gate.wait_log(event="policy_failed", command="allow")

    def test_its_connections_are_set_aside(self):
        """A question's and a report's, and as many that lie ready, are not for sessions."""
        def sessions(policy):
            gate = self.start({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                              {"stores": {"members": ["127.0.0.1:1"], "tls": "none"}},
                              policy=policy, process={"workers": 2}, max_descriptors=1000)
            return int(gate.wait_log(event="limits")[0]["sessions"])

        keys = {**self.keys(), "urls": ["http://127.0.0.1:1/"], "max_concurrent": 40}
        descriptors = 2 * 2 * 40 * 2
        self.assertEqual(sessions(None) - sessions(keys), descriptors / 2)
        self.assertEqual(sessions(None) - sessions({**keys, "report": False}), descriptors / 4)


class Files(GatewayTestCase):
    def test_what_the_files_hold_is_checked(self):
        gate = self.start({"imap": {"protocol": "imap", "tls": "implicit", "pool": "stores"}},
                          {"stores": {"members": ["127.0.0.1:1"], "tls": "none"}})
        for nonce, header, expected in (
                ("", "X-Key: 1", "policy-nonce"), ("n", "no header", "policy-header")):
            policy = {"urls": ["http://127.0.0.1:1/"], "nonce_file": secret("policy-nonce", nonce),
                      "header_file": secret("policy-header", header)}
            file = gate.directory / "policy.toml"
            file.write_text(gate.config_text() + table("[policy]", policy))
            result = run_gatepost("check", file)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(expected, result.stderr)
            self.assertNotIn("no header", result.stderr)
