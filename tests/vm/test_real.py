# SPDX-License-Identifier: Apache-2.0
"""The real QEMU: its jail seen from outside, its end at every moment, several at once."""

import os
import re
import signal
import unittest

import support
import jail_view  # of tests/acceptance, which support has put into the path
from support import VmTest, until

# A program that says it is up and then stays, whatever signal comes.
STUBBORN = "trap '' TERM INT HUP; echo up; while :; do sleep 1; done"


class Real(VmTest):
    def started(self, client, code="echo up; sleep 600", **params):
        """A shell program that has printed 'up': its request, its VM, QEMU's pid."""
        request = client.request("run", language="shell", code=code, stream=True, **params)
        client.wait_output(request, "up\n")
        vm = client.wait_notification(
            lambda method, given: method == "run.started" and given["id"] == request)["vm"]
        return request, vm, self.vm_pid(client, vm)

    def test_killed_and_abandoned(self):
        """QEMU killed while booting and running, callers gone while booting and running."""
        sandbox = self.daemon(boot_attempts=1)
        client, other = sandbox.client(), sandbox.client()

        booting = client.request("run", language="shell", code="true")
        os.kill(self.only_vm(client)["pid"], signal.SIGKILL)
        error = self.assert_error(3003, client.wait, booting)
        self.assertTrue(error.data["retryable"])

        other.request("run", language="shell", code="true")
        pid = self.only_vm(client)["pid"]
        other.close()
        until(lambda: not os.path.exists(f"/proc/{pid}"), "QEMU ends with its caller")

        request, _, pid = self.started(client)
        os.kill(pid, signal.SIGKILL)
        error = self.assert_error(3004, client.wait, request)
        self.assertFalse(error.data["retryable"])

        another = sandbox.client()
        _, _, pid = self.started(another)
        another.close()
        until(lambda: not os.path.exists(f"/proc/{pid}"), "QEMU ends with its caller")

    def test_libraries(self):
        """QEMU has what it needs and, in place of what it never calls, one file that is no library of the host."""
        _, _, pid = self.started(self.daemon().client())
        with open(f"/proc/{pid}/maps", encoding="ascii") as file:
            mapped = {os.path.basename(line.split()[5]).partition(".")[0] for line in file if len(line.split()) > 5}
        self.assertLessEqual({"qemu-stubs", "libgnutls", "libglib-2"}, mapped)
        self.assertFalse(mapped & {"libcapstone", "libcrypto", "libibverbs", "libslirp", "libgio-2"})

    def test_boot_killed_once(self):
        """With an attempt left the caller notices nothing but time."""
        client = self.daemon(boot_attempts=2).client()
        request = client.request("run", language="shell", code="echo fine")
        os.kill(self.only_vm(client)["pid"], signal.SIGKILL)
        self.assertEqual(client.wait(request)["stdout"], "fine\n")

    def test_timeout_of_a_stubborn_program(self):
        """A program that ignores SIGTERM ends at deadline + grace + 250 ms, and so does its VM."""
        sandbox = self.daemon()
        client = sandbox.client()
        result = client.call("run", language="shell", code=STUBBORN, timeout_seconds=3)
        self.assertEqual((result["status"], result["exit_code"]), ("timeout", 124))
        self.assertIn(result["stdout"], ("", "up\n"))
        # The host's word on how long: what is over the promise is a loaded machine's.
        self.assertLess(result["timing"]["execute_ms"], 3000 + 50 + 250 + 1000)
        self.assertGreaterEqual(result["timing"]["execute_ms"], 3000)

    def test_three_at_once(self):
        client = self.daemon(max_vms=3).client()
        requests = [client.request("run", language="shell", code=f"echo vm {i}; hostname")
                    for i in range(3)]
        results = [client.wait(request) for request in requests]
        for i, result in enumerate(results):
            self.assertEqual(result["status"], "ok", result)
            self.assertTrue(result["stdout"].startswith(f"vm {i}\n"))
        self.assertEqual(len({result["vm"] for result in results}), 3)
        self.assertEqual(len({result["stdout"].split("\n")[1] for result in results}), 3)

    def test_daemon_killed_while_running(self):
        """kill -9 of daemon and launcher takes the real QEMU along."""
        sandbox = self.daemon()
        _, vm, pid = self.started(sandbox.client())
        sandbox.vms_seen.add(vm)
        launcher = sandbox.launcher()
        sandbox.signal(signal.SIGKILL)
        sandbox.wait()
        os.kill(pid, 0)
        os.kill(launcher, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{pid}"), "QEMU ends with its launcher")
        until(lambda: not sandbox.leftovers(), "no process of a VM is left")


class Jail(VmTest):
    """QEMU, seen from outside while it boots: the jail is complete before it starts."""

    @classmethod
    def setUpClass(cls):
        cls.sandbox = support.Daemon().start()
        try:
            client = cls.sandbox.client()
            client.request("run", language="shell", code="sleep 600", timeout_seconds=600)
            cls.vm = VmTest.only_vm(cls(), client)
            cls.pid = cls.vm["pid"]
            until(lambda: "qemu" in support.read_text(f"/proc/{cls.pid}/comm"), "QEMU is executed")
            # QEMU's own -sandbox comes late in its start; QMP answers behind it.
            until(lambda: f"{cls.vm['vm']}: QMP: negotiating -> ready" in cls.sandbox.log()
                  or client.call("vm.info", vm=cls.vm["vm"])["state"] == "running", "QMP is up")
        except BaseException:
            cls.sandbox.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.sandbox.assert_clean()
        cls.sandbox.stop()

    @unittest.skipUnless(os.geteuid() == 0, "needs root: it enters the jail")
    def test_as_written(self):
        """From outside and inside: what docs/SECURITY.md names for a VM that boots, and nothing else."""
        self.assertEqual(jail_view.problems(self.pid, "booted"), [])

    def test_stand_ins(self):
        """All names of libraries that stand in for others lead to one descriptor, which cannot be written."""
        stubs = f"/proc/{self.pid}/root/stubs"
        targets = {os.readlink(os.path.join(stubs, name)) for name in os.listdir(stubs)}
        self.assertEqual(len(targets), 1)
        number = re.fullmatch("/proc/self/fd/([0-9]+)", targets.pop()).group(1)
        self.assertEqual(os.path.basename(os.readlink(f"/proc/{self.pid}/fd/{number}")), "qemu-stubs.so")
        flags = re.search("^flags:\t([0-7]+)$", jail_view.read(self.pid, f"fdinfo/{number}"), re.M).group(1)
        self.assertEqual(int(flags, 8) & os.O_ACCMODE, os.O_RDONLY)

    def test_first_to_go(self):
        """When the host runs out of memory a VM goes before the daemon."""
        mine = int(support.read_text(f"/proc/{self.sandbox.process.pid}/oom_score_adj"))
        self.assertGreater(int(jail_view.read(self.pid, "oom_score_adj")), mine)


class TemplateJail(VmTest):
    @unittest.skipUnless(os.geteuid() == 0, "needs root: it enters the jail")
    def test_as_written(self):
        """A VM that becomes a template has memory that is not sealed yet, and no more than a VM that boots."""
        sandbox = self.daemon(templates="auto", pool_python=0, pool_javascript=0, pool_shell=0)
        client = sandbox.client()
        request = client.request("run", language="shell", code="echo cloned")

        def find():
            for process in support.processes():
                name = re.match(r"\S+/qemu\S* -name (\S+) .*,share=on ", process.command)
                if name and f"{name.group(1)}: QMP: negotiating -> ready" in sandbox.log():
                    return process.pid
            return None

        pid = until(find, "a template's QEMU answers")
        os.kill(pid, signal.SIGSTOP)  # it would be done in a second
        try:
            self.assertEqual(jail_view.problems(pid, "template"), [])
        finally:
            os.kill(pid, signal.SIGCONT)
        self.assertEqual(client.wait(request)["stdout"], "cloned\n")
