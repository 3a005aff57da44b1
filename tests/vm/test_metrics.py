# SPDX-License-Identifier: Apache-2.0
"""What `metrics` tells: the truth, in a text that Prometheus' own linter takes (fake QEMU)."""

import os
import re
import shutil
import subprocess

import support
from support import VmTest, until

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def promtool():
    """Where ./quickstart puts it when the system has none."""
    own = os.path.join(support.HERE, "..", "..", "build", "tools", "promtool")
    return shutil.which("promtool") or own


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

    def test_lint_and_values(self):
        client = self.daemon("normal").client()
        for code in ("out 1", "out 2", "exit 3"):
            self.play(client, code)
        hanging = client.request("run", language="shell", code="hang")
        self.only_vm(client)
        self.assert_error(2001, client.wait, client.request("run", language="python", code=""))
        result, samples = self.scrape(client)
        self.assertEqual(result["content_type"], "text/plain; version=0.0.4")
        lint = subprocess.run([promtool(), "check", "metrics"], input=result["text"], text=True,
                              capture_output=True, check=False)
        self.assertEqual((lint.returncode, lint.stdout, lint.stderr), (0, "", ""))
        self.assertEqual(samples["execsandbox_runs_total", 'language="shell",status="ok"'], 2)
        self.assertEqual(samples["execsandbox_runs_total", 'language="shell",status="error"'], 1)
        self.assertEqual(samples["execsandbox_run_errors_total", 'error="CODE_INVALID"'], 1)
        self.assertEqual(samples["execsandbox_run_start_seconds_count", 'start="boot"'], 3)
        self.assertEqual(samples["execsandbox_run_execute_seconds_count", ""], 3)
        self.assertGreater(samples["execsandbox_run_execute_seconds_sum", ""], 0)
        self.assertEqual(samples["execsandbox_vms", 'state="running"'], 1)
        self.assertEqual(samples["execsandbox_admission_running", ""], 1)
        self.assertEqual(samples["execsandbox_memory_level", 'level="green"'], 1)
        self.assertEqual(samples["execsandbox_connections", ""], 1)
        self.assertGreater(samples["execsandbox_memory_managed_bytes", ""], 256 << 20)
        self.assertGreater(samples["process_resident_memory_bytes", ""], 1 << 20)
        self.assertGreater(samples["process_open_fds", ""], 5)
        until(lambda: self.scrape(client)[1]["execsandbox_vm_memory_size_bytes", ""] == 256 << 20,
              "memory control has looked at the VM")
        client.cancel(hanging)
        until(lambda: self.scrape(client)[1]["execsandbox_runs_total", 'language="shell",status="cancelled"'] == 1,
              "the cancelled run is counted")
