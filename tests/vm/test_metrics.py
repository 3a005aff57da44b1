# SPDX-License-Identifier: Apache-2.0
"""What `metrics` tells: the truth, in a text that Prometheus' own linter takes (fake QEMU)."""

import json
import os
import re
import shutil
import subprocess
import tempfile

import support
from pool_support import PoolTest
from support import VmTest, until

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


# Where ./quickstart puts it when the system has none.
TOOLS = os.path.join(support.HERE, "..", "..", "build", "tools")
DOCUMENT = os.path.join(support.HERE, "..", "..", "docs", "METRICS.md")


def promtool():
    path = shutil.which("promtool") or shutil.which("promtool", path=TOOLS)
    if not path:
        raise AssertionError("promtool is neither in PATH nor in build/tools: "
                             "'sudo ./quickstart --packages-only' fetches it")
    return path


class Metrics(VmTest):
    @staticmethod
    def scrape(client):
        result = client.call("metrics")
        samples = {}
        for line in result["text"].splitlines():
            if line.startswith("#"):
                continue
            name, labels, value = SAMPLE.match(line).groups()
            samples[name, labels or ""] = float(value)
        return result, samples

    def until_sample(self, client, value, name, labels=""):
        until(lambda: self.scrape(client)[1][name, labels] == value, f"{name}{{{labels}}} is {value}")

    def assert_lint(self, text):
        lint = subprocess.run([promtool(), "check", "metrics"], input=text, text=True, capture_output=True, check=False)
        self.assertEqual((lint.returncode, lint.stdout, lint.stderr), (0, "", ""))

    def test_lint_and_values(self):
        client = self.daemon("normal").client()
        for code in ("out 1", "out 2", "exit 3"):
            self.play(client, code)
        self.assert_error(2001, client.wait, client.request("run", language="python", code=""))
        hanging, _ = self.play_started(client, "hang")
        # A share is given back, and a VM looked at, a moment after an answer.
        self.until_sample(client, 1, "execsandbox_admission_running")
        self.until_sample(client, 256 << 20, "execsandbox_vm_memory_size_bytes")
        result, samples = self.scrape(client)
        self.assertEqual(result["content_type"], "text/plain; version=0.0.4")
        self.assert_lint(result["text"])
        self.assertEqual(samples["execsandbox_runs_total", 'language="shell",status="ok"'], 2)
        self.assertEqual(samples["execsandbox_runs_total", 'language="shell",status="error"'], 1)
        self.assertEqual(samples["execsandbox_run_errors_total", 'error="CODE_INVALID"'], 1)
        self.assertEqual(samples["execsandbox_run_start_seconds_count", 'start="boot"'], 3)
        self.assertEqual(samples["execsandbox_run_execute_seconds_count", ""], 3)
        self.assertGreater(samples["execsandbox_run_execute_seconds_sum", ""], 0)
        self.assertEqual(samples["execsandbox_vms", 'language="shell",state="running"'], 1)
        self.assertEqual(sum(value for (name, _), value in samples.items()
                             if name == "execsandbox_memory_pressure_level"), 1)
        self.assertEqual(samples["execsandbox_connections", ""], 1)
        self.assertGreater(samples["execsandbox_memory_managed_bytes", ""], 256 << 20)
        self.assertGreater(samples["process_resident_memory_bytes", ""], 1 << 20)
        self.assertGreater(samples["process_open_fds", ""], 5)
        client.cancel(hanging)
        self.until_sample(client, 1, "execsandbox_runs_total", 'language="shell",status="cancelled"')


class Documented(PoolTest):
    """docs/METRICS.md has every metric that there is, with its type and labels, and no other."""

    ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?)\|", re.M)

    def documented(self):
        with open(DOCUMENT, encoding="utf-8") as text:
            return {name: (kind, sorted(re.findall(r"`(\w+)`", labels)))
                    for name, kind, labels in self.ROW.findall(text.read())}

    def told(self, text):
        kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
        labels = {name: None for name in kinds}
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            name, pairs, _ = SAMPLE.match(line).groups()
            if name not in kinds:
                name = re.sub("_(bucket|sum|count)$", "", name)
            found = sorted(set(re.findall(r'(\w+)="', pairs or "")) - {"le"})
            self.assertIn(labels[name], (None, found), name)
            labels[name] = found
        return {name: (kind, labels[name]) for name, kind in kinds.items()}

    def test_docs(self):
        client = self.pool(pool_shell=1).client()
        self.spares(client, 1)
        text = client.call("metrics")["text"]
        self.assertEqual(self.told(text), self.documented())
        self.assertLess(len([line for line in text.splitlines() if line[0] != "#"]), 300)
        samples = Metrics.scrape(client)[1]
        self.assertEqual(samples["execsandbox_pool_spares", 'language="shell",state="rehearsed"'], 1)
        self.assertEqual(samples["execsandbox_pool_spares_target", 'language="shell"'], 1)
        self.assertEqual(samples["execsandbox_vms", 'language="shell",state="paused"'], 1)
        self.assertEqual(samples["execsandbox_templates", 'language="shell",state="ready"'], 1)
        self.assertEqual(samples["execsandbox_vm_starts_total", 'start="clone"'], 1)
        until(lambda: Metrics.scrape(client)[1]["execsandbox_vm_starts_total", 'start="template"'] == 3,
              "a VM was started for the template of each language")

    def test_alerts(self):
        """The alerts of the document are expressions that Prometheus takes, of metrics that there are."""
        with open(DOCUMENT, encoding="utf-8") as text:
            alerts = text.read().partition("## Alerts")[2]
        expressions = re.findall(r"^```\n(.*?)^```", alerts, re.M | re.S)
        self.assertEqual(len(expressions), 4)
        rules = {"groups": [{"name": "docs", "rules": [
            {"alert": f"Alert{index}", "expr": text} for index, text in enumerate(expressions)]}]}
        # JSON is YAML.
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump(rules, file)
            file.flush()
            lint = subprocess.run([promtool(), "check", "rules", file.name], text=True, capture_output=True, check=False)
        self.assertEqual((lint.returncode, lint.stderr), (0, ""), lint.stdout)
        names = {re.sub("_count$", "", name) for name in re.findall(r"execsandbox_\w+", alerts)}
        self.assertEqual(names - set(self.documented()), set())

    def test_failures_are_counted(self):
        client = self.pool("clone completed failed", pool_shell=1).client()
        until(lambda: Metrics.scrape(client)[1]["execsandbox_vm_failures_total", 'state="starting"'] > 0,
              "a clone that did not start is counted")
