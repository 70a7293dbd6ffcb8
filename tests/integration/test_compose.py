# deploy/compose without an engine: Dovecot, Postfix and Gatepost with its very files and ports, in a
# network of their own, and a client that sends and reads.
# SPDX-License-Identifier: Apache-2.0
import re
import unittest

import yaml
from gatepost import BINARY, SOURCE, certificates, poll_until
from overlay import Overlay

FOLDER = SOURCE / "deploy/compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())


def copied(service):
    """The lines COPY of a service's Dockerfile: what goes where."""
    text = (FOLDER / service / "Dockerfile").read_text()
    *names, target = re.search(r"^COPY (.*)$", text, re.MULTILINE)[1].split()
    return names, target


class Compose(unittest.TestCase):
    def test_what_is_named_is_there(self):
        self.assertEqual(set(COMPOSE["services"]), {"gatepost", "dovecot", "postfix"})
        for service, keys in COMPOSE["services"].items():
            build = keys["build"]
            file = (FOLDER / build["context"] / build["dockerfile"] if isinstance(build, dict)
                    else FOLDER / build / "Dockerfile")
            self.assertTrue(file.exists(), file)
            if service != "gatepost":
                self.assertNotIn("ports", keys)  # nobody gets past Gatepost
                self.assertEqual(keys["networks"], ["mail"])
                for name in copied(service)[0]:
                    self.assertTrue((FOLDER / service / name).exists(), name)
        self.assertTrue(COMPOSE["networks"]["mail"]["internal"])
        gatepost = COMPOSE["services"]["gatepost"]
        listening = set(re.findall(r'"0\.0\.0\.0:(\d+)"', (FOLDER / "gatepost.toml").read_text()))
        self.assertEqual({port.rsplit(":", 1)[1] for port in gatepost["ports"]}, listening)
        self.assertEqual((gatepost["read_only"], gatepost["cap_drop"]), (True, ["ALL"]))

    def test_a_message_goes_round(self):
        overlay = Overlay(own_network=True)
        self.addCleanup(overlay.close)
        overlay.run("mkdir /log; printf '127.0.0.1 localhost dovecot postfix\\n' > /etc/hosts")
        for service in ("dovecot", "postfix"):
            names, target = copied(service)
            overlay.run(f"rm -rf {target}/conf.d; cd {FOLDER}/{service}; cp {' '.join(names)} {target}")
        overlay.run("chown mail:mail /var/mail; chgrp dovecot /etc/dovecot/users; "
                    "chmod 640 /etc/dovecot/users; mkdir -p /etc/gatepost/tls; "
                    f"cp {FOLDER}/gatepost.toml /etc/gatepost; "
                    f"cp {certificates().chain} /etc/gatepost/tls/mail.crt; "
                    f"cp {certificates().key} /etc/gatepost/tls/mail.key; "
                    f"chmod 644 /etc/gatepost/tls/mail.key; cp {BINARY} /usr/bin/gatepost")
        running = {"dovecot": "/usr/sbin/dovecot -F", "postfix": "/usr/sbin/postfix start-fg",
                   "gatepost": "setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs "
                               "gatepost serve --config /etc/gatepost/gatepost.toml"}
        for name, command in running.items():
            overlay.run(f"{command} > /log/{name}.log 2>&1 &")
        curl = f"curl --silent --show-error --cacert {certificates().ca}"

        def wait(condition, what):
            try:
                poll_until(condition, what)
            except AssertionError:
                self.fail(f"{what}: " + overlay.run("tail -n 20 /log/*.log"))

        def pools():
            metrics = overlay.run(f"{curl} http://127.0.0.1:9143/metrics", check=False)
            return len(re.findall(r"(?m)^gatepost_backend_capabilities_known\{.*\} 1$", metrics)) == 3
        wait(pools, "Gatepost has talked to every pool")
        overlay.run(f"printf 'From: alice@example.org\\r\\nSubject: round\\r\\n\\r\\nHello\\r\\n' > /log/m; "
                    f"{curl} smtps://localhost:1465 --user alice:wonderland --upload-file /log/m "
                    "--mail-from alice@example.org --mail-rcpt bob@example.org")
        wait(lambda: "Subject: round" in overlay.run(
            f"{curl} --ssl-reqd 'imap://localhost:1143/INBOX;MAILINDEX=1' --user bob:builder",
            check=False), "the message")
        self.assertIn("Subject: round", overlay.run(
            f"{curl} --ssl-reqd pop3://localhost:1110/1 --user bob:builder"))
        self.assertIn("ok", overlay.run(f"{curl} http://127.0.0.1:9143/readyz"))
        # Without a login nothing is taken, by Gatepost or behind it.
        refused = overlay.run(f"{curl} --ssl-reqd smtp://localhost:1587 --upload-file /log/m "
                              "--mail-from alice@example.org --mail-rcpt bob@example.org", check=False)
        self.assertRegex(refused, "530|554")
