# The control socket: what `gatepost status` and its siblings show, what they end, and who may ask.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import unittest
import unittest.mock

import clients
import gatepost
from clients import Message
from fault_servers import RecordingImap, RecordingSmtp
from gatepost import (BINARY, HOST, Certificates, GatewayTestCase, address, pools, port_table,
                      run_directory, run_gatepost, start_backends)
import test_upgrade
from wire import DEADLINE, poll_until

SOCKET = {"socket": "control.sock"}
LISTENERS = {name: keys for name, keys in port_table().items() if name in ("993", "995", "587")}
KICKED = {"imap": "* BYE Session ended by the administrator.",
          "pop3": "-ERR [SYS/TEMP] Session ended by the administrator",
          "smtp": "421 4.3.2 gate.example.test Session ended by the administrator"}


def setUpModule():
    global backends
    backends = start_backends()
    test_upgrade.setUpModule()  # processes that others have started


def opened(fifo):
    try:
        return open(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), "wb")
    except OSError:  # nobody reads
        return None


def ask_raw(path, data, end=True):
    """What the socket answers to these bytes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(str(path))
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(data)
        if end:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(65536):
                answer += data
        return answer


class ControlTestCase(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        cls.share(LISTENERS, pools(backends), admin=SOCKET)
        cls.gate.wait_capabilities()
        cls.socket = cls.gate.directory / "control.sock"

    def login(self, name, user="alice", gate=None):
        return clients.logged_in(gate or self.gate, name, user, backends.users[user])

    def sessions(self, *arguments):
        return self.gate.control_json("sessions", *arguments)["sessions"]

    def wait_sessions(self, count, *arguments):
        return poll_until(lambda: len(found := self.sessions(*arguments)) == count and found,
                          f"{count} sessions")


class Sessions(ControlTestCase):
    def test_what_a_session_is(self):
        members = {"imap": backends.imap_port, "pop3": backends.pop3s_port,
                   "smtp": backends.smtp_port}
        with self.login("993") as imap, self.login("995", "bob") as pop3, \
                self.login("587") as smtp:
            imap.imap("a", "NOOP")
            pop3.command("NOOP")
            smtp.command("NOOP")
            found = {entry["protocol"]: entry for entry in self.sessions()}
            self.assertEqual(set(found), {"imap", "pop3", "smtp"})
            for wire, protocol, listener, user in ((imap, "imap", "993", "alice"),
                                                   (pop3, "pop3", "995", "bob"),
                                                   (smtp, "smtp", "587", "alice")):
                entry = found[protocol]
                self.assertEqual(entry["listener"], listener)
                self.assertEqual(entry["user"], user)
                self.assertEqual(entry["client"], f"{HOST}:{wire.sock.getsockname()[1]}")
                self.assertEqual(entry["backend"], address(members[protocol]))
                self.assertEqual(entry["pool"], LISTENERS[listener]["pool"])
                self.assertEqual((entry["tls"], entry["state"]), ("TLSv1.3", "relaying"))
                self.assertGreater(entry["bytes_out"], 0)
                self.assertGreaterEqual(entry["age_ms"], entry["idle_ms"])
            self.assertEqual(found["imap"]["bytes_in"], len("a NOOP\r\n"))
            self.assertEqual(found["imap"]["mechanism"], "cleartext")
            self.assertEqual(found["smtp"]["mechanism"], "PLAIN")
            table = self.gate.control("sessions")
            self.assertIn("3 of 3 sessions", table)
            self.assertRegex(table, rf"(?m)^{found['pop3']['id']}  pop3 +bob ")
            for password in backends.users.values():
                self.assertNotIn(password, table + json.dumps(found))
            imap.imap("q", "LOGOUT")
        # The log knows it by the same name.
        self.gate.wait_log(event="session", id=found["imap"]["id"], user="alice", result="done")

    def test_some_of_them(self):
        with self.login("993"), self.login("993", "bob"), self.login("587", "bob"):
            users = lambda *arguments: sorted(entry["user"] for entry in self.sessions(*arguments))
            self.assertEqual(users("--user", "bob"), ["bob", "bob"])
            self.assertEqual(users("--user", "bob", "--protocol", "imap"), ["bob"])
            self.assertEqual(users("--backend", "stores-imap"), ["alice", "bob"])
            self.assertEqual(users("--backend", address(backends.smtp_port)), ["bob"])
            self.assertEqual(users("--user", "Bob"), [])
            answer = self.gate.control_json("sessions", "--limit", 2)
            self.assertEqual((answer["matched"], len(answer["sessions"])), (3, 2))
            answer = self.gate.control_json("sessions", "--limit", 0)
            self.assertEqual((answer["matched"], answer["sessions"]), (3, []))
            self.assertEqual(self.gate.control("sessions", "--user", "nobody"), "0 of 0 sessions\n")

    def test_before_the_login(self):
        with self.gate.connect("993", tls=True) as wire:
            clients.greeting(wire)
            entry, = self.wait_sessions(1)
            self.assertEqual((entry["state"], entry["user"], entry["backend"]), ("login", "", ""))

    def test_hostile_names_do_not_reach_the_terminal(self):
        with self.gate.connect("993", tls=True) as wire:
            clients.greeting(wire)
            user = "evil\x1b]0;owned\x07\x9b31m\u009b\xff"
            wire.imap("a", f"AUTHENTICATE PLAIN {clients.plain(user, 'x')}")
            entry, = self.sessions()
            self.assertTrue(entry["user"].startswith("evil\x1b"))  # JSON has it escaped
            table = self.gate.control("sessions")
            self.assertIn("evil?]0;owned?", table)
            self.assertFalse([c for c in table if c != "\n" and not c.isprintable()], table)

    def test_sixty_sessions_of_two_workers(self):
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(self.login("993"))
            entries = self.sessions()
            self.assertEqual(len({entry["id"] for entry in entries}), 60)
            ages = [entry["age_ms"] for entry in entries]
            self.assertEqual(ages, sorted(ages, reverse=True))


class Kick(ControlTestCase):
    def assert_kicked(self, wire, protocol):
        self.assertEqual(wire.line(), KICKED[protocol])
        self.assertEqual(wire.rest(), b"")

    def test_a_user(self):
        before = self.gate.metrics().value("sessions_closed_total", reason="kicked")
        with self.login("993") as imap, self.login("587") as smtp, self.login("993", "bob") as other:
            self.assertIn("2 sessions", self.gate.control("kick", "alice"))
            self.assert_kicked(imap, "imap")
            self.assert_kicked(smtp, "smtp")
            self.assertTrue(other.imap("a", "NOOP")[-1].startswith("a OK"))
        self.gate.wait_active(0)
        self.assertEqual(self.gate.metrics().value("sessions_closed_total", reason="kicked"),
                         before + 2)
        line = self.gate.wait_log(event="control", command="kick")[-1]
        self.assertEqual((line["uid"], json.loads(line["request"])["user"]), ("0", "alice"))
        self.gate.wait_log(event="session", result="kicked", user="alice", protocol="imap")
        self.gate.control("kick", "alice", code=1)

    def test_a_session(self):
        with self.login("995") as pop3, self.login("995") as other:
            entry = next(entry for entry in self.sessions("--protocol", "pop3")
                         if entry["client"].endswith(f":{pop3.sock.getsockname()[1]}"))
            self.assertEqual(self.gate.control_json("kick", entry["id"]), {"kicked": 1})
            self.assert_kicked(pop3, "pop3")
            self.assertTrue(other.command("NOOP").startswith("+OK"))

    def test_a_backend(self):
        with self.login("993") as imap, self.login("587") as smtp:
            member = address(backends.imap_port)
            self.assertEqual(self.gate.control_json("kick", member), {"kicked": 1})
            self.assert_kicked(imap, "imap")
            self.assertTrue(smtp.command("NOOP").startswith("250"))
            self.gate.control("kick", "--backend", "outgoing", "--user", "alice")
            self.assert_kicked(smtp, "smtp")

    def test_a_message_under_way_arrives(self):
        backends.empty_mailbox("bob")
        message = Message(sender="alice@example.test", to="bob@example.test")
        with self.login("587") as wire:
            wire.command("MAIL FROM:<alice@example.test>")
            wire.command("RCPT TO:<bob@example.test>")
            wire.command("DATA")
            data = message.stuffed()
            wire.send(data[:100])
            self.gate.control("kick", "alice")
            wire.send(data[100:])
            self.assertTrue(wire.reply().startswith("250"))
            self.assert_kicked(wire, "smtp")
        with clients.Store(backends, "bob") as store:
            self.assertEqual(clients.body_of(store.wait_for(message.id)), message.body)

    def test_whoever_has_not_logged_in(self):
        with self.gate.connect("993", tls=True) as wire:
            clients.greeting(wire)
            entry, = self.wait_sessions(1)
            self.gate.control("kick", entry["id"])
            self.assert_kicked(wire, "imap")

    def test_nobody_by_mistake(self):
        with self.login("993") as wire:
            self.gate.control("kick", code=2)
            self.gate.control("kick", "--protocol", "imap", code=2)
            self.assertTrue(wire.imap("a", "NOOP")[-1].startswith("a OK"))


class Deadline(GatewayTestCase):
    def test_a_kicked_client_cannot_stay(self):
        """A transaction that never ends is ended after drain_timeout."""
        with RecordingSmtp(users={"u": "p"}) as backend:
            gate = self.start({"smtps": {"protocol": "smtp", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}},
                              process={"drain_timeout": "1s"}, admin=SOCKET)
            with clients.logged_in(gate, "smtps", "u", "p") as wire:
                wire.command("MAIL FROM:<a@example.test>")
                gate.control("kick", "u")
                self.assertEqual(wire.line(), KICKED["smtp"])
                self.assertEqual(wire.rest(), b"")
            gate.wait_log(event="session", result="kicked")


class Status(ControlTestCase):
    def test_it_agrees_with_the_metrics(self):
        with self.login("993"), self.login("587"), self.gate.connect("993", tls=True) as failing:
            clients.greeting(failing)
            clients.login(failing, "imap", "alice", "wrong")
            status, metrics = self.gate.control_json("status"), self.gate.metrics()
            self.assertEqual((status["state"], status["problem"]), ("serving", ""))
            self.assertEqual(status["pid"], self.gate.process.pid)
            self.assertEqual(status["workers"], 2)
            self.assertEqual(status["connections"], 3)
            self.assertEqual(status["connection_limit"], metrics.value("session_limit"))
            protocols = {entry["protocol"]: entry for entry in status["protocols"]}
            for name, entry in protocols.items():
                self.assertEqual(entry["connections"],
                                 metrics.value("connections_active", protocol=name))
                for key, result in (("logins_ok", "ok"), ("logins_failed", "failed"),
                                    ("logins_deferred", "tempfail"), ("logins_limited", "limited")):
                    self.assertEqual(entry[key], metrics.value("auth_attempts_total",
                                                               protocol=name, result=result))
                self.assertEqual(entry["bytes_out"], metrics.value("bytes_total", protocol=name,
                                                                   direction="out"))
            self.assertEqual([protocols[p]["sessions"] for p in ("imap", "pop3", "smtp")], [1, 0, 1])
            self.assertGreaterEqual(protocols["imap"]["logins_failed"], 1)
            for entry in status["listeners"]:
                self.assertEqual(entry["accepted"], metrics.value("connections_accepted_total",
                                                                  listener=entry["name"]))
            for version, count in status["tls_versions"].items():
                self.assertEqual(count, metrics.value("tls_sessions_total", version=version))
            text = self.gate.control("status")
            self.assertRegex(text, r"gatepost \d+\.\d+\.\d+, serving\n")
            self.assertRegex(text, r"(?m)^imap +2 +1 ")

    def test_backends(self):
        with self.login("993"):
            entries = {entry["pool"]: entry
                       for entry in self.gate.control_json("backends")["backends"]}
            entry = entries["stores-imap"]
            self.assertEqual((entry["member"], entry["state"], entry["sessions"], entry["share"]),
                             (address(backends.imap_port), "up", 1, 1))
            self.assertEqual(entries["outgoing"]["sessions"], 0)
            self.assertRegex(self.gate.control("backends"), r"(?m)^stores-imap +imap +\S+ +up +1 ")

    def test_a_backend_that_is_down(self):
        with RecordingImap() as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none",
                                     "health_interval": "100ms"}}, admin=SOCKET)
            poll_until(lambda: gate.control_json("backends")["backends"][0]["state"] == "up", "up")
            backend.close()
            entry = poll_until(
                lambda: (entry := gate.control_json("backends")["backends"][0])["state"] == "down"
                and entry, "down")
            self.assertIn("refused", entry["problem"])

    def test_certificates(self):
        certificate, = self.gate.control_json("certificates")["certificates"]
        self.assertEqual(certificate["name"], "localhost")
        self.assertEqual(certificate["not_after"],
                         self.gate.metrics().value("tls_certificate_not_after_timestamp_seconds"))
        begin = self.gate.metrics().value("tls_certificate_not_before_timestamp_seconds")
        self.assertIn((certificate["not_after"] - begin) / 86400, (19, 20))
        self.assertIn(certificate["days_left"], (19, 20))
        self.assertIn("localhost", self.gate.control("certificates"))


class Leaving(GatewayTestCase):
    def test_an_answer_that_comes_too_late_harms_nobody(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET)
            text = gate.config_text()
            gate.config_file.unlink()
            os.mkfifo(gate.config_file)  # the reload reads until somebody has written
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(gate.directory / "control.sock"))
                asking.sendall(b'{"command":"reload"}\n')
                gate.wait_log(event="control", command="reload")
                gate.process.send_signal(signal.SIGTERM)
                poll_until(lambda: not (gate.directory / "control.sock").exists(), "its end")
                # Nobody can write before the reload has begun to read.
                writer = poll_until(lambda: opened(gate.config_file), "a reader")
                writer.write(text.encode())
                writer.close()
            self.assertEqual(gate.process.wait(DEADLINE), 0)
            gate.wait_log(event="stop")


class Drain(GatewayTestCase):
    def start_gate(self, **keys):
        backend = RecordingImap(users={"u": "p"})
        self.addCleanup(backend.close)
        return self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                          {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET, **keys)

    def test_it_ends_and_the_socket_goes(self):
        gate = self.start_gate()
        with clients.logged_in(gate, "imaps", "u", "p") as wire:
            self.assertIn("drains, 1 connections left", gate.control("drain", "--wait"))
            self.assertTrue(wire.line().startswith("* BYE"))
        self.assertEqual(gate.process.wait(DEADLINE), 0)
        self.assertFalse((gate.directory / "control.sock").exists())
        gate.wait_log(event="drain", signal="control")

    def test_the_second_changes_nothing(self):
        gate = self.start_gate(process={"drain_timeout": "1m"})
        with clients.logged_in(gate, "imaps", "u", "p") as wire:
            wire.imap("a", "NOOP")
            wire.send("b")  # the backend waits for the rest of the command
            with clients.logged_in(gate, "imaps", "u", "p"):
                gate.control("drain")
                self.assertEqual(gate.control_json("status")["state"], "draining")
                self.assertFalse(gate.control_json("drain")["begun"])
        self.assertEqual(gate.process.wait(DEADLINE), 0)


class Reload(GatewayTestCase):
    def test_sessions_of_the_configuration_before_are_there_too(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET)
            with clients.logged_in(gate, "imaps", "u", "p") as old:
                gate.limits["max_bad_commands"] = 7
                gate.write_config()
                gate.reload()
                with clients.logged_in(gate, "imaps", "u", "p") as new:
                    status = gate.control_json("status")
                    self.assertEqual((status["generation"], status["generations"]), (2, 2))
                    self.assertEqual(status["protocols"][0]["sessions"], 2)
                    self.assertEqual(len(gate.control_json("sessions")["sessions"]), 2)
                    self.assertEqual(gate.control_json("kick", "u"), {"kicked": 2})
                    for wire in (old, new):
                        self.assertEqual(wire.line(), KICKED["imap"])
            poll_until(lambda: gate.control_json("status")["generations"] == 1, "one generation")

    def test_the_command_says_what_came_of_it(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET)
            self.assertEqual(gate.control_json("reload"), {"changed": False, "generation": 1})
            gate.limits["max_bad_commands"] = 7
            gate.write_config()
            self.assertIn("in use, as generation 2", gate.control("reload"))
            good = gate.config_text()
            gate.config_file.write_text(good.replace("[limits]", "[limit]").replace(
                "implicit", "implict"))
            # The command finds the socket by the configuration, which is no good at the moment.
            result = run_gatepost("reload", "--socket", gate.directory / "control.sock")
            self.assertEqual(result.returncode, 1)
            for word in ("nothing has changed", "limit: unknown key", '"implict"'):
                self.assertIn(word, result.stderr)
            gate.wait_log(count=2, event="reload", trigger="control", result="failed")
            gate.config_file.write_text(good.replace(
                'socket = "control.sock"', 'socket = "other.sock"'))
            result = run_gatepost("reload", "--socket", gate.directory / "control.sock")
            self.assertIn("changes only with a restart: admin.socket", result.stdout)
            # It still does, however often the same file is read.
            result = run_gatepost("reload", "--json", "--socket", gate.directory / "control.sock")
            self.assertEqual(json.loads(result.stdout), {"changed": False, "generation": 3,
                                                         "restart": "admin.socket"})
            self.assertEqual(gate.metrics().value("config_reloads_total", result="failed"), 1)

    def test_certificates_that_are_refused(self):
        own = Certificates(pathlib.Path(tempfile.mkdtemp(dir=run_directory())))
        folder = own.chain.parent / "pairs"
        (folder / "good").mkdir(parents=True)
        shutil.copy(own.chain, folder / "good/fullchain.pem")
        shutil.copy(own.key, folder / "good/privkey.pem")
        with RecordingImap() as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET,
                              certificates=[{"chain": own.chain, "key": own.key},
                                            {"directory": folder}])
            good = own.chain.read_text()
            own.chain.write_text("garbage")
            result = run_gatepost("reload", "--config", gate.config_file)
            self.assertEqual((result.returncode, result.stdout), (1, ""), result.stderr)
            self.assertRegex(result.stderr, "configuration is as before.*not taken")
            self.assertRegex(result.stderr, rf"(?m)^{own.chain}: .*certificate")
            line = gate.wait_log(event="reload", trigger="control", result="failed")[0]
            answer = gate.control_json("reload", code=1)
            refused = answer.pop("not_taken")
            self.assertEqual(answer, {"changed": False, "generation": 1})
            self.assertEqual(refused, [{"file": str(own.chain), "problem": line["detail"]}])
            count = lambda result: gate.metrics().value("config_reloads_total", result=result)
            self.assertEqual((count("ok"), count("failed")), (0, 2))
            self.assertEqual(gate.metrics().value("config_last_reload_successful"), 0)
            own.chain.write_text(good)
            self.assertEqual(gate.control_json("reload"), {"changed": False, "generation": 1})
            gate.wait_log(event="reload", trigger="control", result="ok")
            self.assertEqual((count("ok"), count("failed")), (1, 2))
            self.assertEqual(gate.metrics().value("config_last_reload_successful"), 1)
            # Beside a good one in the same folder it is no reason to refuse a configuration.
            shutil.copytree(folder / "good", folder / "other")
            (folder / "other/privkey.pem").write_text("garbage")
            gate.limits["max_bad_commands"] = 7
            gate.write_config()
            answer = gate.control_json("reload", code=1)
            self.assertEqual([answer["changed"], [file["file"] for file in answer["not_taken"]]],
                             [True, [str(folder / "other/fullchain.pem")]])


class Upgrade(GatewayTestCase):
    def test_the_process_of_before_is_asked_too(self):
        with RecordingImap(users={"u": "p", "v": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET)
            with clients.logged_in(gate, "imaps", "u", "p") as old, \
                    clients.logged_in(gate, "imaps", "v", "p") as other:
                before = test_upgrade.upgrade(gate)
                beside = gate.directory / f"control.sock.{before.pid}"
                self.assertEqual(stat.S_IMODE(beside.stat().st_mode), 0o600)
                with clients.logged_in(gate, "imaps", "u", "p") as new:
                    listed = gate.control_json("sessions")
                    self.assertEqual(listed["matched"], 3)
                    self.assertEqual([entry["user"] for entry in listed["sessions"]],
                                     ["u", "u", "v"])
                    self.assertEqual(gate.control_json("status")["old_processes"],
                                     [{"pid": before.pid, "connections": 2}])
                    self.assertIn(f"process {before.pid} from before an upgrade, 2 connections",
                                  gate.control("status"))
                    self.assertEqual(gate.control_json("kick", "u"), {"kicked": 2})
                    for wire in (old, new):
                        self.assertTrue(wire.line().startswith("* BYE"))
                # There is nobody of that name in the newest process.
                self.assertEqual(gate.control_json("kick", "v"), {"kicked": 1})
                self.assertTrue(other.line().startswith("* BYE"))
            self.assertEqual(before.wait(DEADLINE), 0)
            self.assertFalse(beside.exists())
            self.assertNotIn("old_processes", gate.control_json("status"))
            gate.settled()

    def test_what_a_dead_process_has_left_is_removed(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET)
            left = gate.directory / "control.sock.1"
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(left))
            self.assertEqual(gate.control_json("status")["pid"], gate.process.pid)
            test_upgrade.upgrade(gate)
            self.assertFalse(left.exists())

    def test_the_newer_program_answers(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET)
            with clients.logged_in(gate, "imaps", "u", "p") as wire:
                before = test_upgrade.upgrade(gate)
                self.assertEqual(gate.control_json("status")["pid"], gate.process.pid)
                wire.imap("q", "LOGOUT")
            self.assertEqual(before.wait(DEADLINE), 0)
            # Its end has not taken the socket of the other with it.
            self.assertEqual(gate.control_json("status")["pid"], gate.process.pid)
            gate.settled()

    def test_the_command_says_what_came_of_it(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET)
            with clients.logged_in(gate, "imaps", "u", "p"):
                before = gate.process
                result = gate.control_json("upgrade")
                self.assertEqual(result["sessions"], 1)
                test_upgrade.follow(gate, result["process"])
            self.assertEqual(before.wait(DEADLINE), 0)
            good = gate.config_text()
            gate.config_file.write_text("nonsense = 1")
            result = run_gatepost("upgrade", "--socket", gate.directory / "control.sock")
            self.assertEqual(result.returncode, 1)
            self.assertIn("ended before it served", result.stderr)
            gate.config_file.write_text(good)
            self.assertEqual(gate.control_json("status")["pid"], gate.process.pid)
            gate.stderr_file.write_text("")  # its words are no lines of a log

    def test_a_program_that_cannot_be_started_changes_nothing(self):
        program = run_directory() / "gatepost-that-goes"
        shutil.copy2(gatepost.BINARY, program)
        with RecordingImap(users={"u": "p"}) as backend:
            with unittest.mock.patch.object(gatepost, "BINARY", program):
                gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                                  {"p": {"members": [backend.member], "tls": "none"}},
                                  admin=SOCKET)
            program.unlink()
            with clients.logged_in(gate, "imaps", "u", "p") as wire:
                for _ in range(2):
                    result = run_gatepost("upgrade", "--socket", gate.directory / "control.sock")
                    self.assertEqual(result.returncode, 1)
                    self.assertIn("no such file", result.stderr)
                self.assertEqual(gate.control_json("status")["pid"], gate.process.pid)
                self.assertTrue(wire.imap("n", "NOOP")[-1].startswith("n OK"))

    def test_a_newer_program_that_fails_leaves_the_socket(self):
        with RecordingImap(users={"u": "p"}) as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}}, admin=SOCKET)
            gate.config_file.write_text("nonsense = 1")
            gate.process.send_signal(signal.SIGUSR2)
            # What the other says of its configuration is there, too, and is no log line.
            poll_until(lambda: "event=upgrade result=failed" in gate.log_text(), "the failure")
            result = run_gatepost("status", "--json", "--socket", gate.directory / "control.sock")
            self.assertEqual(json.loads(result.stdout)["pid"], gate.process.pid, result.stderr)


class Permissions(ControlTestCase):
    def test_its_mode(self):
        mode = self.socket.stat().st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        with RecordingImap() as backend:
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}},
                              admin={**SOCKET, "socket_mode": "0660"})
            self.assertEqual(stat.S_IMODE((gate.directory / "control.sock").stat().st_mode), 0o660)

    def test_strangers_are_kept_out(self):
        nobody = pwd.getpwnam("nobody")
        program = shutil.copy(BINARY, run_directory())  # where nobody may run it
        self.gate.directory.chmod(0o755)

        def become():
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
        # Without what names a file that nobody can read.
        environment = {name: value for name, value in os.environ.items() if name != "TSAN_OPTIONS"}
        result = subprocess.run([program, "drain", "--socket", self.socket], capture_output=True,
                                text=True, check=False, timeout=DEADLINE, preexec_fn=become,
                                env=environment)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("Permission denied", result.stderr)
        self.assertEqual(self.gate.control_json("status")["state"], "serving")


class Unreachable(unittest.TestCase):
    def assert_exit(self, code, pattern, *arguments):
        result = run_gatepost(*arguments)
        self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
        self.assertRegex(result.stderr, pattern)

    def test_nobody_is_there(self):
        path = run_directory() / "nobody.sock"
        self.assert_exit(3, r"nobody\.sock: No such file.*does not run", "status", "--socket", path)
        with socket.socket(socket.AF_UNIX) as sock:  # a gateway that has died
            sock.bind(str(path))
        self.assert_exit(3, "Connection refused.*does not run", "drain", "--socket", path)

    def test_somebody_else_is_there(self):
        path = run_directory() / "mute.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            sock.listen()
            process = subprocess.Popen([BINARY, "status", "--socket", path],
                                       stderr=subprocess.PIPE, text=True)
            peer, _ = sock.accept()
            peer.recv(100)
            peer.close()
            _, stderr = process.communicate(timeout=DEADLINE)
            self.assertEqual(process.returncode, 3)
            self.assertIn("without an answer", stderr)

    def test_whom_nobody_can_mean(self):
        id = "5fba17c90100000a0003"
        for arguments in ((), ("--protocol", "imap"), ("",), ("--user", ""), ("", "--user", "u"),
                          ("u", "--user", ""), ("--user", "u", "--backend", "")):
            self.assert_exit(2, "whom|is empty", "kick", *arguments, "--socket", "/nowhere")
        for arguments in (("bob", "--user", "alice"), ("store1:143", "--backend", "store2:143")):
            self.assert_exit(2, rf'"{arguments[0]}" is a .*{arguments[1]}; name one of both',
                             "kick", *arguments, "--socket", "/nowhere")
        for arguments in (("bob", "--backend", "p"), ("store1:143", "--user", "bob"),
                          (id, "--user", "bob", "--backend", "p", "--protocol", "imap")):
            self.assert_exit(3, "does not run", "kick", *arguments, "--socket", "/nowhere")

    def test_no_socket_is_configured(self):
        path = run_directory() / "without.toml"
        path.write_text("""[[certificate]]
chain = "c"
key = "k"
[[listener]]
protocol = "imap"
addresses = ["127.0.0.1:1"]
pool = "p"
[pool.p]
members = ["127.0.0.1:2"]
""")
        self.assert_exit(2, r"without\.toml: there is no admin\.socket", "sessions", "-c", path)
        path.write_text("[admin]\nsocket = 1\n")
        self.assert_exit(2, r"without\.toml:2:10: admin.socket", "sessions", "-c", path)
        path.write_text("no TOML")
        self.assert_exit(2, r"without\.toml:1:\d+: ", "sessions", "-c", path)
        # What else is wrong keeps nobody from asking.
        path.write_text(f"""nonsense = 1\n[admin]\nsocket = "{path}.sock"\n""")
        self.assert_exit(3, r"without\.toml\.sock", "sessions", "-c", path)
        self.assert_exit(2, r"missing\.toml: cannot be read: No such file", "sessions", "-c",
                         run_directory() / "missing.toml")
        self.assertEqual(run_gatepost("sessions", "--protocol", "http").returncode, 2)


class Takeover(ControlTestCase):
    def start_second(self):
        path = run_directory() / "second.toml"
        text = self.gate.config_text().replace(address(self.gate.admin_port), "off")
        for port in self.gate.ports.values():
            text = text.replace(address(port), address(port).replace(HOST, "127.0.0.77"))
        path.write_text(text.replace('"control.sock"', f'"{self.socket}"'))
        return run_gatepost("serve", "--config", path)

    def test_a_live_gateway_keeps_its_socket(self):
        result = self.start_second()
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("admin.socket: another process listens at", result.stderr)
        self.assertEqual(self.gate.control_json("status")["pid"], self.gate.process.pid)

    def test_a_dead_ones_is_replaced(self):
        with RecordingImap() as backend:
            path = run_directory() / "left.sock"
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(path))
            gate = self.start({"imaps": {"protocol": "imap", "tls": "implicit"}},
                              {"p": {"members": [backend.member], "tls": "none"}},
                              admin={"socket": path})
            self.assertEqual(gate.control_json("status")["pid"], gate.process.pid)
            gate.stop()
            self.assertFalse(path.exists())

    def test_another_file_is_not_touched(self):
        path = run_directory() / "precious"
        path.write_text("data")
        config = run_directory() / "precious.toml"
        config.write_text(self.gate.config_text().replace('"control.sock"', f'"{path}"').replace(
            HOST, "127.0.0.78"))
        result = run_gatepost("serve", "--config", config)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("is no socket", result.stderr)
        self.assertEqual(path.read_text(), "data")


class Hostile(ControlTestCase):
    def error(self, data, **options):
        answer = ask_raw(self.socket, data, **options)
        self.assertTrue(answer.endswith(b"\n"), answer)
        return json.loads(answer)["error"]

    def test_nonsense(self):
        for data, words in ((b"hello\n", "no JSON object"), (b"\xff\xfe\x00\n", "no JSON object"),
                            (b"[1]\n", "no JSON object"), (b"{}\n", 'no "command"'),
                            (b"[" * 4000 + b"\n", "no JSON object"),
                            (b'{"command":7}\n', 'no "command"'),
                            (b'{"command":"shutdown"}\n', "no such command"),
                            (b'{"command":"status","user":"x"}\n', 'takes no "user"'),
                            (b'{"command":"sessions","limit":-1}\n', "wrong type"),
                            (b'{"command":"kick","user":["x"]}\n', "wrong type"),
                            (b'{"command":"kick","user":""}\n', "kick whom")):
            self.assertIn(words, self.error(data))

    def test_too_long(self):
        self.assertIn("too long", self.error(b"x" * 100_000, end=False))
        self.assertIn("too long", self.error(b'{"command":"' + b"x" * 5000 + b'"}\n'))

    def test_the_line_comes_in_pieces(self):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(str(self.socket))
            for byte in b'{"command":"certificates"}\n{"command":"drain"}\n':
                with contextlib.suppress(BrokenPipeError):
                    sock.sendall(bytes([byte]))
            answer = bytearray()
            # What it never reads of the second line resets the connection, behind the answer.
            with contextlib.suppress(ConnectionResetError):
                while piece := sock.recv(65536):
                    answer += piece
        lines = answer.splitlines()
        self.assertEqual(len(lines), 1)
        self.assertIn("certificates", json.loads(lines[0])["result"])
        self.assertEqual(self.gate.control_json("status")["state"], "serving")

    def test_silent_clients_hold_up_nobody_and_are_closed(self):
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(15)]
            for sock in silent:
                sock.settimeout(DEADLINE)
                sock.connect(str(self.socket))
            self.assertEqual(self.gate.control_json("status")["state"], "serving")
            deaf = stack.enter_context(socket.socket(socket.AF_UNIX))
            deaf.connect(str(self.socket))
            deaf.sendall(b'{"command":')
            self.assertEqual(ask_raw(self.socket, b'{"command":"status"}\n'), b"")  # one too many
            for sock in silent:
                self.assertEqual(sock.recv(1), b"")
        self.assertEqual(self.gate.control_json("status")["state"], "serving")

    def test_whoever_asks_and_leaves(self):
        for _ in range(50):
            # One who comes while too many are there is closed at once.
            with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(BrokenPipeError):
                sock.connect(str(self.socket))
                sock.sendall(b'{"command":"sessions"}\n')
        poll_until(lambda: ask_raw(self.socket, b'{"command":"status"}\n'), "an answer")
