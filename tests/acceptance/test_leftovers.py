# SPDX-License-Identifier: Apache-2.0
"""After everything: nothing of any VM is left, in the daemon, in /proc or in the file system."""

import os

from processes import LAUNCHER, descendants, orphans, processes
from support import DaemonTest, exclusive, needs_root, vms_seen


@exclusive
class Leftovers(DaemonTest):
    is_last = True

    def setUp(self):
        """Warm VMs are no leftovers: the pool lets them go."""
        super().setUp()
        for pool in self.client.call("pool.get")["pools"]:
            self.client.call("pool.set", language=pool["language"], size=0)

    def test_no_vm(self):
        """vm.list and info know of no VM and nobody waits for one."""
        self.until(lambda: self.client.call("vm.list")["vms"] == [], "no VM is left")
        vms = self.client.call("info")["vms"]
        self.assertEqual((vms["current"], vms["queued"]), (0, 0))
        self.assertEqual(self.client.call("memory.stats")["vms"], [])

    def launchers(self):
        """Of this daemon; of all daemons of this host, when its runtime directory is not known."""
        runtime = os.environ.get("EXECSANDBOX_RUNTIME_DIR", "")
        return [
            one.pid for one in processes()
            if one.program == LAUNCHER and runtime in one.command
        ]

    def test_no_process(self):
        """Daemon and launcher have no child, and no process on this host bears the name of a VM of ours."""
        parents = [self.client.daemon_pid(), *self.launchers()]
        for parent in parents:
            self.until(lambda parent=parent: not descendants(parent), f"no descendant of {parent}")
        self.assertGreater(len(vms_seen), 0)
        named = [
            one for one in processes() if any(vm in one.command for vm in vms_seen)
        ]
        self.assertEqual(named, [])
        self.until(lambda: not orphans(), "no process of a VM is without a launcher")

    @needs_root
    def test_no_file(self):
        """The directory of VMs, which the daemon holds open, is empty; few descriptors are open."""
        descriptors = f"/proc/{self.client.daemon_pid()}/fd"
        targets = {}
        for name in os.listdir(descriptors):
            try:
                targets[name] = os.readlink(f"{descriptors}/{name}")
            except FileNotFoundError:
                pass
        directories = [
            name for name, target in targets.items()
            if target.endswith("/vm") and os.path.isdir(f"{descriptors}/{name}")
        ]
        self.assertEqual(len(directories), 1, targets)
        self.until(
            lambda: os.listdir(f"{descriptors}/{directories[0]}") == [], "no directory of a VM"
        )
        self.assertLess(len(targets), 64)
