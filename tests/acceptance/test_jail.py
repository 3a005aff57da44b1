# SPDX-License-Identifier: Apache-2.0
"""A live QEMU is seen from outside and inside, and has nothing that docs/SECURITY.md does not name."""

import os
import re
import unittest

import jail_view
from support import DaemonTest, needs_root

TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

SLEEPER = "import time\nprint('up', flush=True)\nwhile True:\n    time.sleep(1)\n"


@needs_root
class Jail(DaemonTest):
    def setUp(self):
        super().setUp()
        self.request = self.start(SLEEPER)
        self.vm = self.client.call("vm.info", vm=self.vm_of(self.request))
        self.client.wait_output(self.request, "up")
        self.pid = self.vm["pid"]
        self.addCleanup(self.stop, self.request)

    def test_list(self):
        """Namespaces, ids, descriptors, mappings, mounts, paths, processes, devices: as written, both ways."""
        start = "clone" if "-incoming" in jail_view.read(self.pid, "cmdline") else "booted"
        self.assertEqual(jail_view.problems(self.pid, start), [])

    def test_what_is_more_is_found(self):
        """The list is not empty words: of a process that is no QEMU hardly anything is on it."""
        seen = jail_view.outside(os.getpid())
        kinds = {line.split(": ", 1)[1].split(" '")[0] for line in jail_view.differences(seen, {"clone"})}
        self.assertLessEqual({"user", "status", "namespace", "descriptor", "mapping", "mount", "place"}, kinds)
        self.assertIn("not on the list: status 'Seccomp 0'", jail_view.differences(seen, {"clone"}))

    def test_threads(self):
        """The filter is on every thread, and none has a capability."""
        threads = os.listdir(f"/proc/{self.pid}/task")
        self.assertGreaterEqual(len(threads), 2)
        for thread in threads:
            status = jail_view.read(self.pid, f"task/{thread}/status")
            self.assertRegex(status, "(?m)^Seccomp:\t2$")
            self.assertRegex(status, "(?m)^Seccomp_filters:\t2$")
            self.assertEqual(set(re.findall("(?m)^Cap...:\t([0-9a-f]+)$", status)), {"0" * 16})


class Document(unittest.TestCase):
    def setUp(self):
        with open(jail_view.DOCUMENT, encoding="utf-8") as stream:
            self.text = stream.read()

    def test_claims(self):
        """Every test that docs/SECURITY.md names is there."""
        claims = re.findall(r"(?<![\w/])(acceptance|vm|unit)/([a-z_]+)((?: `\w+`)*)", self.text.partition("## Who")[2])
        self.assertGreater(len(claims), 20)
        for folder, name, tests in claims:
            path = os.path.join(TREE, "tests", folder, f"test_{name}.{'c' if folder == 'unit' else 'py'}")
            with self.subTest(claim=f"{folder}/{name}{tests}"), open(path, encoding="utf-8") as stream:
                source = stream.read()
                for test in re.findall(r"\w+", tests):
                    self.assertRegex(source, rf"(def|class) {test}\b")

    def test_counts(self):
        """The numbers of system calls are those of the filter."""
        with open(os.path.join(TREE, "daemon/vm/jail_filter.c"), encoding="utf-8") as stream:
            source = stream.read()
        allowed, fatal = (len(re.findall("SCMP_SYS", source.partition(f"{name}[] = {{")[2].partition("};")[0]))
                          for name in ("allowed", "fatal"))
        self.assertIn(f"{allowed} system calls", self.text)
        self.assertIn(f"{fatal} calls that only an intruder makes", self.text)
