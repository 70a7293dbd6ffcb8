# What deploy/ gives to whoever watches: alert and recording rules, the dashboard, probes from outside.
#
# A real Prometheus scrapes a running gateway that real clients use; every expression of the rules and
# of the dashboard has to return data, so that no panel is empty for a wrong label.
# SPDX-License-Identifier: Apache-2.0
import json
import math
import pathlib
import re
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request

import clients
import yaml
from gatepost import (HOST, SOURCE, GatewayTestCase, Port, address, certificates, client_context,
                      pools, port_table, run_directory, run_gatepost, start_backends)
from policy_service import PolicyService
from redis_server import Redis
from wire import DEADLINE, poll_until

RULES = SOURCE / "deploy/prometheus/gatepost.rules.yml"
RULES_TEST = SOURCE / "deploy/prometheus/gatepost.rules.test.yml"
EXAMPLE = SOURCE / "deploy/prometheus/prometheus.example.yml"
BLACKBOX = SOURCE / "deploy/prometheus/blackbox.yml"
DASHBOARD = SOURCE / "deploy/grafana/gatepost.json"

# Expressions that are empty as long as all is well, with the reason.
NEEDS_AN_EVENT = {
    'absent(up{job=~".*gatepost.*"})': "there is a gateway",
}

# The port of the documented table -> the probe's module.
PROBES = {"143": "imap_starttls", "993": "imap_tls", "110": "pop3_starttls", "995": "pop3_tls",
          "25": "smtp_starttls", "26": "smtp_starttls", "587": "smtp_starttls", "465": "smtp_tls"}


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard():
    return json.loads(DASHBOARD.read_text())


def panels():
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def dashboard_expressions():
    """(where, PromQL) of each panel and annotation, with its variables filled in."""
    found = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    found += [(note["name"], note["expr"]) for note in dashboard()["annotations"]["list"]]
    for name, expression in found:
        yield name, (expression.replace("$__rate_interval", "1m").replace("$job", ".*gatepost.*")
                     .replace("$instance", ".*"))


def at_depth_zero(pattern, text):
    """Spans of `pattern` in a PromQL expression outside of parentheses, braces and strings."""
    masked, depth, quoted = [], 0, False
    for character in text:
        if character == '"':
            quoted = not quoted
        if not quoted:
            depth -= character in ")}]"
        masked.append(character if depth == 0 and not quoted else "\0")
        if not quoted:
            depth += character in "({["
    return [match.span() for match in re.finditer(pattern, "".join(masked))]


def split(pattern, text):
    parts, start = [], 0
    for begin, end in at_depth_zero(pattern, text):
        parts.append(text[start:begin])
        start = end
    return [part.strip() for part in [*parts, text[start:]]]


def operands(expression):
    """What an expression compares: without its thresholds it must have data on a good day, too."""
    for clause in split(r"\b(?:and|or|unless)\b(?: on \(\0*\))?", expression):
        for operand in split(r"[<>=!]=|[<>]", clause):
            if re.search("[a-z]", operand):
                yield operand


def metric_names(expression):
    """Names of metrics in PromQL; those that have a colon are recorded by rules."""
    without_labels = re.sub(r'\{[^}]*\}|"[^"]*"', "", expression)
    return {name for name in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", without_labels)
            if re.search(r"(?:gatepost|process|probe)_|^up$", name)}


def promtool(*arguments):
    result = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True,
                            timeout=DEADLINE, check=False)
    return result.returncode, result.stdout + result.stderr


class Files(unittest.TestCase):
    def test_promtool_takes_rules_and_example(self):
        for arguments in (("check", "rules", RULES), ("check", "config", EXAMPLE),
                          ("test", "rules", RULES_TEST)):
            code, said = promtool(*arguments)
            self.assertEqual(code, 0, said)

    def test_every_alert_is_tested_both_ways(self):
        fires, is_silent = set(), set()
        for case in yaml.safe_load(RULES_TEST.read_text())["tests"]:
            for look in case.get("alert_rule_test", []):
                (fires if look.get("exp_alerts") else is_silent).add(look["alertname"])
        alerts = {rule["alert"] for rule in rules() if "alert" in rule}
        self.assertEqual((fires, is_silent), (alerts, alerts))

    def test_every_alert_says_what_and_how_bad(self):
        for rule in rules():
            if "alert" not in rule:
                continue
            with self.subTest(alert=rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("page", "ticket", "info"))
                self.assertEqual(set(rule["annotations"]), {"summary", "description"})

    def test_no_two_alerts_look_at_the_same(self):
        expressions = [rule["expr"] for rule in rules() if "alert" in rule]
        self.assertEqual(len(set(expressions)), len(expressions))

    def test_names_are_in_the_reference(self):
        reference = set(re.findall(r"^\| `([a-z_]+)` \| (\w+)",
                                   (SOURCE / "gateway/observe/metrics.md").read_text(), re.MULTILINE))
        known = {name for name, _ in reference} | {"up"}
        known |= {f"{name}_{part}" for name, kind in reference if kind == "histogram"
                  for part in ("bucket", "sum", "count")}
        known |= {"probe_success", "probe_ssl_earliest_cert_expiry"}  # the blackbox exporter's
        known |= {rule["record"] for rule in rules() if "record" in rule}
        used = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
        used += dashboard_expressions()
        for where, expression in used:
            with self.subTest(where):
                self.assertTrue(metric_names(expression))
                self.assertEqual(metric_names(expression) - known, set())

    def test_panels_have_places_of_their_own(self):
        taken = {}
        self.assertEqual(len({panel["id"] for panel in dashboard()["panels"]}),
                         len(dashboard()["panels"]))
        for panel in dashboard()["panels"]:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24)
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} over {taken.get((x, y))}")
                    taken[x, y] = panel["title"]
        for panel in panels():
            self.assertTrue(panel["description"], panel["title"])
            self.assertEqual(panel["datasource"]["uid"], "${datasource}")


class Server:
    """A program with an HTTP port of its own, until the test class ends."""

    def __init__(self, command, port, ready):
        self.url = f"http://{address(port.number)}"
        self._port = port
        log = tempfile.NamedTemporaryFile(dir=run_directory(), suffix=".log", delete=False)
        self._log = pathlib.Path(log.name)
        with log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            poll_until(lambda: self._process.poll() is not None or self.answers(ready),
                       f"{command[0]} is ready")
            assert self._process.poll() is None, self._log.read_text()
        except BaseException:
            self.stop()
            raise

    def answers(self, path):
        try:
            return self.get(path) is not None
        except OSError:
            return False

    def get(self, path, **query):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(query)}",
                                    timeout=DEADLINE) as answer:
            return answer.read().decode()

    def stop(self):
        self._process.terminate()
        self._process.wait(DEADLINE)
        self._port.release()


class Prometheus(Server):
    def __init__(self, config):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="prometheus-", dir=run_directory()))
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = Port()
        super().__init__(["prometheus", f"--config.file={directory}/prometheus.yml",
                          f"--storage.tsdb.path={directory}/data", "--log.level=warn",
                          f"--web.listen-address={address(port.number)}"], port, "/-/ready")

    def query(self, expression):
        try:
            answer = json.loads(self.get("/api/v1/query", query=expression))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        return [float(sample["value"][1]) for sample in answer["data"]["result"]]

    def has_data(self, expression):
        return any(not math.isnan(value) for value in self.query(expression))


def run_blackbox():
    """Starts the blackbox exporter with our modules, told to trust the tests' authority."""
    config = yaml.safe_load(BLACKBOX.read_text())
    for module in config["modules"].values():
        module["tcp"]["tls_config"] = {"ca_file": str(certificates().ca)}
    file = run_directory() / "blackbox.yml"
    file.write_text(yaml.safe_dump(config))
    port = Port()
    return Server(["prometheus-blackbox-exporter", f"--config.file={file}", "--log.level=error",
                   f"--web.listen-address={address(port.number)}"], port, "/-/healthy")


class UnderLoad(GatewayTestCase):
    @classmethod
    def setUpClass(cls):
        cls.backends = start_backends()
        # With a password file, since a verdict of the backend's is no duration of the authority.
        passwords = run_directory() / "passwords"
        passwords.write_text("".join(
            run_gatepost("hash-password", user, stdin=password).stdout
            for user, password in cls.backends.users.items()))
        redis = Redis("monitoring")
        cls.addClassCleanup(redis.stop)
        cls.policy = PolicyService()
        cls.addClassCleanup(cls.policy.close)
        nonce, key, redis_password = (run_directory() / name for name in
                                      ("nonce", "throttle-key", "redis-password"))
        for file, text in ((nonce, "nonce"), (key, "a secret of the gateways"),
                           (redis_password, redis.password)):
            file.write_text(text + "\n")
        proxied = {"protocol": "imap", "tls": "implicit", "pool": "stores-imap",
                   "proxy_protocol": "both", "proxy_networks": [HOST]}
        cls.share({**port_table(), "proxied": proxied},
                  pools(cls.backends, forward_client_address="native",
                        connect_early=True),
                  authority={"kind": "passwords", "file": passwords},
                  policy={"urls": [cls.policy.url()], "nonce_file": nonce},
                  throttle={"exempt_networks": [HOST], "redis": redis.socket,
                            "redis_password_file": redis_password, "shared_key_file": key})
        poll_until(lambda: cls.gate.metrics().value("throttle_shared") == 1, "shared state")
        cls.gate.wait_capabilities()
        cls.blackbox = run_blackbox()
        cls.addClassCleanup(cls.blackbox.stop)
        cls.prometheus = Prometheus(cls.configuration())
        cls.addClassCleanup(cls.prometheus.stop)

    def tearDown(self):
        self.policy.let_go()  # kept ones are no leak
        super().tearDown()

    @classmethod
    def configuration(cls):
        """The example, with this test's addresses and no patience."""
        config = yaml.safe_load(EXAMPLE.read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(RULES)]
        gatepost, ports = config["scrape_configs"]
        gatepost["static_configs"][0]["targets"] = [address(cls.gate.admin_port)]
        ports["scrape_interval"] = "1s"
        for static in ports["static_configs"]:
            static["targets"] = [address(cls.gate.ports[target.rsplit(":", 1)[1]])
                                 for target in static["targets"]]
        for relabel in ports["relabel_configs"]:
            if relabel["target_label"] == "__address__":
                relabel["replacement"] = cls.blackbox.url.removeprefix("http://")
        return config

    def one_of_everything(self):
        """Logins over every port, one refused, and a message."""
        for name, keys in port_table().items():
            with clients.logged_in(self.gate, name, "alice", self.backends.users["alice"]) as wire:
                wire.send(f"{clients.QUIT[keys['protocol']]}\r\n")
                wire.rest()
        message = clients.Message()
        with clients.smtp(self.gate, "465", "alice", self.backends.users["alice"]) as client:
            client.sendmail(message.sender, [message.to], message.data)
        with self.gate.connect("993", tls=True) as wire:
            clients.greeting(wire)
            clients.login(wire, "imap", "alice", "wrong")

    def test_every_expression_returns_data(self):
        wanted = [(rule.get("alert") or rule["record"], part) for rule in rules()
                  for part in operands(rule["expr"])]
        wanted += [(name, part) for name, expression in dashboard_expressions()
                   for part in operands(expression)]
        missing = [(where, part) for where, part in wanted if part not in NEEDS_AN_EVENT]
        self.assertGreater(len(missing), 80)

        def all_have_data():
            # A rate needs two scrapes with something between them.
            self.one_of_everything()
            missing[:] = [(where, part) for where, part in missing
                          if not self.prometheus.has_data(part)]
            return not missing
        try:
            poll_until(all_have_data, "data of every expression", deadline=30)
        except AssertionError:
            self.assertEqual(missing, [])
        for expression in NEEDS_AN_EVENT:
            self.assertEqual(self.prometheus.query(expression), [])
        self.rules_are_evaluated()

    def rules_are_evaluated(self):
        groups = json.loads(self.prometheus.get("/api/v1/rules"))["data"]["groups"]
        seen = [rule for group in groups for rule in group["rules"]]
        self.assertEqual(len(seen), len(rules()))
        for rule in seen:
            self.assertEqual((rule["health"], rule.get("lastError", "")), ("ok", ""), rule["name"])
            # Healthy, but for a certificate of 20 days and one login in ten that was refused.
            self.assertNotEqual(rule.get("state"), "firing", rule)

    def test_probes_see_every_port(self):
        for name, module in PROBES.items():
            with self.subTest(port=name):
                said = self.blackbox.get("/probe", module=module, target=address(self.gate.ports[name]))
                self.assertRegex(said, r"(?m)^probe_success 1$")
                self.assertRegex(said, r"(?m)^probe_ssl_earliest_cert_expiry [1-9]")
        example = {static["labels"]["__param_module"]: static["targets"]
                   for static in yaml.safe_load(EXAMPLE.read_text())["scrape_configs"][1]["static_configs"]}
        self.assertEqual({target.rsplit(":", 1)[1]: module for module, targets in example.items()
                          for target in targets}, PROBES)

    def test_a_probe_is_not_a_problem(self):
        before = self.gate.metrics()
        self.blackbox.get("/probe", module="smtp_starttls", target=address(self.gate.ports["587"]))
        poll_until(lambda: self.gate.metrics().value("sessions_closed_total", reason="done")
                   > before.value("sessions_closed_total", reason="done"), "the probe's session")
