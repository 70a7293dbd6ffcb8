# The manifests in deploy/kubernetes: against the real schemas, against each other, and against the
# program. What would need a cluster is not tried.
# SPDX-License-Identifier: Apache-2.0
import copy
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import tomllib
import unittest
import urllib.error
import urllib.request

import yaml
from gatepost import (BINARY, HOST, SOURCE, CertificateAuthority, Port, run_directory,
                      run_gatepost, spawn)
from wire import DEADLINE, Wire, poll_until

FOLDER = SOURCE / "deploy/kubernetes"
SCHEMAS = SOURCE / "tests/kubernetes"
INSTALLED = SOURCE / "build/kubernetes"  # npm's packages; nothing outside of the checkout
PORTS = {"imap": 143, "imaps": 993, "pop3": 110, "pop3s": 995, "smtp": 25, "smtp-26": 26,
         "submission": 587, "submissions": 465}
OLD_SERVER_PORTS = {"smtp", "smtp-26"}  # the sidecar's mail server keeps them
PRE_STOP_MARGIN = 10
BY_SESSIONS = "components: [by-sessions]\n"


def kustomize(folder):
    """The objects that a kustomization makes, less the hash in the names of ConfigMaps."""
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text())
    objects = []
    for name in settings.get("resources", []):
        path = folder / name
        objects += kustomize(path) if path.is_dir() else [
            one for one in yaml.safe_load_all(path.read_text()) if one]
    for wanted in settings.get("configMapGenerator", []):
        objects.append({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": wanted["name"],
                         "labels": settings.get("generatorOptions", {}).get("labels", {})},
            "data": {file: (folder / file).read_text() for file in wanted["files"]}})
    for name in settings.get("components", []):
        component = yaml.safe_load((folder / name / "kustomization.yaml").read_text())
        for patch in component["patches"]:
            change(objects, patch["target"], yaml.safe_load(patch["patch"]))
    images = {image["name"]: f"{image['newName']}:{image['newTag']}"
              for image in settings.get("images", [])}
    for one in objects:
        for container in containers(one):
            container["image"] = images.get(container["image"], container["image"])
    unknown = settings.keys() - {"apiVersion", "kind", "resources", "configMapGenerator", "images",
                                 "generatorOptions", "components"}
    assert not unknown, unknown
    return objects


def change(objects, target, steps):
    """A patch in the form of RFC 6902, as far as ours go: values behind the last one of a list."""
    one, = (one for one in objects
            if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"]))
    for step in steps:
        *way, end = step["path"].strip("/").split("/")
        assert (step["op"], end) == ("add", "-"), step
        functools.reduce(lambda at, key: at[key], way, one).append(step["value"])


@functools.cache
def ingress_by_sessions():
    """The folder of the form "ingress" with the component that its kustomization has as a comment."""
    root = pathlib.Path(tempfile.mkdtemp(prefix="by-sessions-", dir=run_directory()))
    for name in ("kubernetes", "grafana"):
        shutil.copytree(SOURCE / "deploy" / name, root / name)
    file = root / "kubernetes/ingress/kustomization.yaml"
    assert file.read_text().count(f"\n#{BY_SESSIONS}") == 1
    file.write_text(file.read_text().replace(f"\n#{BY_SESSIONS}", f"\n{BY_SESSIONS}"))
    return file.parent


def pod_of(one):
    return one.get("spec", {}).get("template", {}).get("spec", {})


def containers(one):
    return [*pod_of(one).get("initContainers", []), *pod_of(one).get("containers", [])]


def manifests():
    """Every object of every file, by the form that it is part of."""
    return {"ingress": kustomize(FOLDER / "ingress"), "sidecar": kustomize(FOLDER / "sidecar"),
            "ingress by sessions": kustomize(ingress_by_sessions()),
            "gateway-api": list(yaml.safe_load_all(
                (FOLDER / "gateway-api/tcproutes.yaml").read_text()))}


def install_schemas():
    wanted = SCHEMAS / "package.json"
    if not (INSTALLED / "node_modules").exists() or (
            INSTALLED / "package.json").read_text() != wanted.read_text():
        shutil.rmtree(INSTALLED, ignore_errors=True)
        INSTALLED.mkdir(parents=True)
        shutil.copy(wanted, INSTALLED)
        try:
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts",
                 "--loglevel=error", f"--cache={INSTALLED}/cache"], cwd=INSTALLED, check=True,
                stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE)
        except BaseException:
            shutil.rmtree(INSTALLED)
            raise
        shutil.rmtree(INSTALLED / "cache", ignore_errors=True)
    shutil.copy(SCHEMAS / "validate.mjs", INSTALLED)


def problems(objects):
    result = subprocess.run(["node", INSTALLED / "validate.mjs"], input=json.dumps(objects),
                            capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert not result.stderr, result.stderr
    return result.stdout.splitlines()


class Schemas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        install_schemas()

    def test_every_manifest(self):
        # A mistake of each sort among them shows that somebody looks: an unknown key, a wrong type.
        bad = copy.deepcopy(next(one for one in manifests()["ingress"] if one["kind"] == "Deployment"))
        bad["metadata"]["name"] = "bad"
        container = bad["spec"]["template"]["spec"]["containers"][0]
        container["securityContext"]["readOnlyRootFileSystem"] = True
        container["readinessProbe"]["periodSeconds"] = "5"
        found = problems([one for form in manifests().values() for one in form] + [bad])
        self.assertEqual([line for line in found if not line.startswith("Deployment/bad: ")], [])
        self.assertTrue(any("readOnlyRootFileSystem" in line for line in found), found)
        self.assertTrue(any("periodSeconds must be integer" in line for line in found), found)

    def test_every_file_is_part_of_a_form(self):
        reached = set()

        def walk(folder):
            reached.add(folder / "kustomization.yaml")
            settings = yaml.safe_load((folder / "kustomization.yaml").read_text())
            for name in settings.get("resources", []) + settings.get("components", []):
                path = (folder / name).resolve()
                walk(path) if path.is_dir() else reached.add(path)
        for form in ("ingress", "sidecar", "ingress/by-sessions"):
            walk(FOLDER / form)
        files = set(FOLDER.rglob("*.yaml")) - {FOLDER / "gateway-api/tcproutes.yaml"}
        self.assertEqual(files - reached, set())

    @unittest.skipUnless(shutil.which("kubectl"), "kubectl is not installed")
    def test_kustomize_makes_the_same(self):
        for folder in (FOLDER / "ingress", FOLDER / "sidecar", ingress_by_sessions()):
            result = subprocess.run(["kubectl", "kustomize", folder], capture_output=True,
                                    text=True, timeout=DEADLINE, check=False)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            made = re.sub(r"\bgatepost-[0-9a-z]{10}\b", "gatepost", result.stdout)

            def by_name(objects):
                return {(one["kind"], one["metadata"]["name"]): one for one in objects}
            wanted = by_name(kustomize(folder))
            found = by_name(yaml.safe_load_all(made))
            self.assertEqual(found.keys(), wanted.keys())
            for name, one in wanted.items():
                if not one["metadata"].get("labels"):
                    one["metadata"].pop("labels", None)
                self.assertEqual(found[name], one)


class Form:
    """One form, with the objects of each kind by hand."""

    def __init__(self, name):
        self.name, self.objects = name, manifests()[name]
        self.workload = next(one for one in self.objects if pod_of(one))
        self.pod = pod_of(self.workload)
        self.gatepost = next(container for container in containers(self.workload)
                             if container["name"] == "gatepost")
        self.toml = next(one for one in self.objects if one["kind"] == "ConfigMap"
                         and "gatepost.toml" in one["data"])["data"]["gatepost.toml"]
        self.config = tomllib.loads(self.toml)
        self.ports = {port["name"]: port["containerPort"] for port in self.gatepost["ports"]}

    def one(self, kind):
        return next(one for one in self.objects if one["kind"] == kind)

    def files(self):
        """Path in the container -> (name of the secret or ConfigMap, key), of what must be there."""
        keys = {"mail-tls": ["tls.crt", "tls.key"], "gatepost-tickets": ["ticket.keys"],
                "gatepost": ["gatepost.toml"]}
        volumes = {volume["name"]: volume.get("secret", {}).get("secretName")
                   or volume["configMap"]["name"] for volume in self.pod["volumes"]}
        return {f"{mount['mountPath']}/{key}": (volumes[mount["name"]], key)
                for mount in self.gatepost["volumeMounts"] for key in keys[volumes[mount["name"]]]}

    def groups(self):
        """Those that the kubelet gives to every volume and to the container: the pod's fsGroup, or none."""
        group = self.pod["securityContext"].get("fsGroup")
        return [] if group is None else [group]

    def mode(self, source):
        """What the kubelet gives the files of a secret or ConfigMap, which are root's."""
        origins = [volume.get("secret") or volume["configMap"] for volume in self.pod["volumes"]]
        keys, = (keys for keys in origins if source in (keys.get("secretName"), keys.get("name")))
        return keys.get("defaultMode", 0o644)

    def unpack(self, root, config):
        """Lays the container's files under `root` and returns the configuration's file."""
        chain, key = CertificateAuthority(root / "pki").issue("mail", ["mail.example.org"])
        contents = {"tls.crt": chain.read_text(), "tls.key": key.read_text(),
                    "ticket.keys": os.urandom(80).hex() + "\n",
                    "gatepost.toml": config.replace('"/etc/gatepost', f'"{root}/etc/gatepost')}
        for path, (_, name) in self.files().items():
            file = root / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(contents[name])
        return root / self.gatepost["args"][-1].lstrip("/")


class Agreement(unittest.TestCase):
    def forms(self):
        for name in ("ingress", "sidecar"):
            with self.subTest(form=name):
                yield Form(name)

    def test_ports(self):
        for form in self.forms():
            listeners = {int(address.rsplit(":", 1)[1]): listener
                         for listener in form.config["listener"] for address in listener["addresses"]}
            admin = int(form.config["admin"]["address"].rsplit(":", 1)[1])
            self.assertEqual(set(form.ports.values()), {*listeners, admin})
            self.assertEqual(form.ports["admin"], admin)
            service = {port["name"]: port for port in form.one("Service")["spec"]["ports"]}
            missing = OLD_SERVER_PORTS if form.name == "sidecar" else set()
            self.assertEqual(set(service), PORTS.keys() - missing)
            self.assertEqual(set(service), form.ports.keys() - {"admin"})
            for name, port in service.items():
                self.assertEqual((port["port"], port["targetPort"]), (PORTS[name], name))
                listener = listeners[form.ports[name]]
                self.assertEqual(listener["name"], f"{listener['protocol']}-{PORTS[name]}")
                self.assertEqual(listener["tls"], "implicit" if PORTS[name] in (993, 995, 465)
                                 else "starttls")
                self.assertNotIn("cleartext_login", listener)  # the default: "deny"
            self.assertEqual(form.one("Service")["spec"]["selector"],
                             form.workload["spec"]["template"]["metadata"]["labels"])
            admitted = [port["port"] for rule in form.one("NetworkPolicy")["spec"]["ingress"]
                        if "from" not in rule for port in rule["ports"]]
            self.assertEqual(set(admitted), set(service))
            monitor = form.one("PodMonitor")["spec"]
            self.assertEqual(monitor["podMetricsEndpoints"][0]["port"], "admin")
            self.assertEqual(monitor["selector"]["matchLabels"],
                             form.workload["spec"]["template"]["metadata"]["labels"])
            if form.name == "ingress":
                ways_out = {port["port"] for rule in form.one("NetworkPolicy")["spec"]["egress"]
                            for port in rule["ports"]}
                backends = {int(member.rsplit(":", 1)[1]) for pool in form.config["pool"].values()
                            for member in pool["members"]}
                self.assertEqual(ways_out, backends | {53})

    def test_gateway_api(self):
        gateway, *routes = manifests()["gateway-api"]
        self.assertEqual({listener["name"]: listener["port"]
                          for listener in gateway["spec"]["listeners"]}, PORTS)
        for route in routes:
            name = route["metadata"]["name"]
            self.assertEqual(route["spec"]["parentRefs"],
                             [{"name": gateway["metadata"]["name"], "sectionName": name}])
            self.assertEqual(route["spec"]["rules"],
                             [{"backendRefs": [{"name": "gatepost", "port": PORTS[name]}]}])
        self.assertEqual(len(routes), len(PORTS))

    def test_a_drain_has_its_time(self):
        seconds = {"s": 1, "m": 60}
        for form in self.forms():
            drain = form.config["process"]["drain_timeout"]
            drain = int(drain[:-1]) * seconds[drain[-1]]
            sleep = max(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
                        .get("seconds", 0) for container in containers(form.workload))
            self.assertGreater(sleep, 0)
            self.assertGreaterEqual(form.pod["terminationGracePeriodSeconds"],
                                    sleep + drain + PRE_STOP_MARGIN)

    def test_the_autoscaler(self):
        forms = {name: Form(name) for name in ("ingress", "ingress by sessions")}
        metrics = {name: form.one("HorizontalPodAutoscaler")["spec"]["metrics"]
                   for name, form in forms.items()}
        # One that the cluster itself has: while a metric is unknown, no pod is taken away.
        self.assertEqual([metric["type"] for metric in metrics["ingress"]], ["Resource"])
        cpu, sessions = metrics["ingress by sessions"]
        self.assertEqual([cpu], metrics["ingress"])
        self.assertIn(f"| `{sessions['pods']['metric']['name']}` | gauge |",
                      (SOURCE / "gateway/observe/metrics.md").read_text())
        self.assertLess(int(sessions["pods"]["target"]["averageValue"]),
                        forms["ingress"].config["limits"]["max_connections"])
        for form in forms.values():
            spec = form.one("HorizontalPodAutoscaler")["spec"]
            self.assertEqual((spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]),
                             (form.workload["kind"], form.workload["metadata"]["name"]))
            down = spec["behavior"]["scaleDown"]
            self.assertEqual(down["stabilizationWindowSeconds"], 3600)
            self.assertEqual(down["policies"], [{"type": "Pods", "value": 1, "periodSeconds": 1800}])

    def test_nothing_that_root_could_do(self):
        for form in self.forms():
            context = {**form.pod["securityContext"], **form.gatepost["securityContext"]}
            self.assertTrue(context["runAsNonRoot"] and context["readOnlyRootFilesystem"])
            self.assertGreater(context["runAsUser"], 0)
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
            self.assertFalse(context["allowPrivilegeEscalation"])
            self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertGreater(min(form.ports.values()), 1023)

    def test_secrets(self):
        for form in self.forms():
            certificate = form.one("Certificate")["spec"]["secretName"]
            sources = {source for source, _ in form.files().values()}
            self.assertIn(certificate, sources)
            self.assertIn(form.config["hostname"], form.one("Certificate")["spec"]["dnsNames"])
            for mount in form.gatepost["volumeMounts"]:
                self.assertNotIn("subPath", mount)
            for source in sources - {"gatepost", certificate}:  # who makes it is told how
                self.assertIn(f"create secret generic {source}",
                              (FOLDER / form.name / "kustomization.yaml").read_text())

    def test_rules_and_dashboard_are_those_of_the_project(self):
        rules = (FOLDER / "monitoring/prometheusrule.yaml")
        self.assertEqual(
            yaml.safe_load(rules.read_text())["spec"],
            yaml.safe_load((SOURCE / "deploy/prometheus/gatepost.rules.yml").read_text()),
            "run deploy/kubernetes/monitoring/update-rules")
        for form in self.forms():
            boards = [one for one in form.objects if "gatepost.json" in one.get("data", {})]
            self.assertEqual(len(boards), 1)
            self.assertEqual(boards[0]["metadata"]["labels"], {"grafana_dashboard": "1"})

    def test_the_program_takes_the_configuration(self):
        for form in self.forms():
            with tempfile.TemporaryDirectory(dir=run_directory()) as directory:
                file = form.unpack(pathlib.Path(directory), form.toml)
                result = run_gatepost("check", file)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("mail.example.org", result.stdout)

    @unittest.skipUnless(os.geteuid() == 0, "files of root, and another user")
    def test_the_containers_user_can_read_what_is_mounted(self):
        # A copy, since that user may not look into the folder of a build.
        program = shutil.copy(BINARY, run_directory() / "gatepost")
        for form in self.forms():
            with tempfile.TemporaryDirectory(dir=run_directory()) as directory:
                root = pathlib.Path(directory)
                root.chmod(0o755)
                file = form.unpack(root, form.toml)
                for path, (source, _) in form.files().items():
                    mounted = root / path.lstrip("/")
                    os.chown(mounted, 0, (form.groups() or [0])[0])
                    mounted.chmod(form.mode(source))
                context = {**form.pod["securityContext"], **form.gatepost["securityContext"]}
                result = subprocess.run(
                    [program, "check", file], user=context["runAsUser"], group=context["runAsGroup"],
                    extra_groups=form.groups(), capture_output=True, text=True, timeout=DEADLINE,
                    check=False)
                self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_the_mail_stores_volume_keeps_its_group_and_modes(self):
        form = Form("sidecar")
        self.assertTrue(form.workload["spec"]["volumeClaimTemplates"])
        self.assertEqual(form.groups(), [])
        # All may read the key in its volume, so it is in no other container.
        self.assertEqual([container["name"] for container in containers(form.workload)
                          if "mail-tls" in {mount["name"] for mount in container["volumeMounts"]}],
                         ["gatepost"])

    def test_the_program_serves_it(self):
        for form in self.forms():
            reserved = {number: Port() for number in form.ports.values()}
            text = re.sub(r'"0\.0\.0\.0:(\d+)"',
                          lambda match: f'"{HOST}:{reserved[int(match[1])].number}"', form.toml)
            with tempfile.TemporaryDirectory(dir=run_directory()) as directory:
                root = pathlib.Path(directory)
                file = form.unpack(root, text)
                process = spawn([*form.gatepost["args"][:-1], str(file)], root / "stderr")
                try:
                    for probe in ("livenessProbe", "readinessProbe"):
                        get = form.gatepost[probe]["httpGet"]
                        port = reserved[form.ports[get["port"]]].number
                        poll_until(lambda: answers(f"http://{HOST}:{port}{get['path']}"), probe)
                    for name in form.ports.keys() - {"admin", "imaps", "pop3s", "submissions"}:
                        with Wire.connect(reserved[form.ports[name]].number) as wire:
                            self.assertRegex(wire.line(), r"^(\* OK|\+OK|220)")
                finally:
                    process.terminate()
                    self.assertEqual(process.wait(DEADLINE), 0, (root / "stderr").read_text())
                    for port in reserved.values():
                        port.release()


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
