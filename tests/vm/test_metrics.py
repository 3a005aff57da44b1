# SPDX-License-Identifier: Apache-2.0
"""What `metrics` tells: the truth, in a text that Prometheus' own linter takes (fake QEMU)."""

import os
import re
import shutil
import subprocess

import support
from support import VmTest, until

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


# Where ./quickstart puts it when the system has none.
TOOLS = os.path.join(support.HERE, "..", "..", "build", "tools")


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
        self.assertEqual(samples["execsandbox_vms", 'state="running"'], 1)
        self.assertEqual(sum(value for (name, _), value in samples.items()
                             if name == "execsandbox_memory_level"), 1)
        self.assertEqual(samples["execsandbox_connections", ""], 1)
        self.assertGreater(samples["execsandbox_memory_managed_bytes", ""], 256 << 20)
        self.assertGreater(samples["process_resident_memory_bytes", ""], 1 << 20)
        self.assertGreater(samples["process_open_fds", ""], 5)
        client.cancel(hanging)
        self.until_sample(client, 1, "execsandbox_runs_total", 'language="shell",status="cancelled"')
