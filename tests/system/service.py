# SPDX-License-Identifier: Apache-2.0
"""The service on a machine: what its users and its admin do there, and what is looked at from outside."""

import contextlib
import json
import os

import packages
from container import Container, until

DAEMON = "execsandboxd.service"
LAUNCHER = "execsandbox-launcher.service"
SOCKETS = ("execsandboxd.socket", "execsandbox-launcher.socket")
CONF = "/etc/execsandbox/execsandboxd.conf.d/50-test.conf"
# Fewer warm VMs than shipped: they are made under TCG, on a machine that has other tests to run.
POOL = "[pool]\npool_python = 0\npool_javascript = 0\npool_shell = 1\npool_hot = 0\n"
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")


def status_of(pid):
    """{field: text} of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as stream:
        return dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)


def namespaces(pid):
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}


def cgroups(pid):
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as stream:
        return stream.read()


class Service:
    """Users alice, who is in group execsandbox, and bob, who is not."""

    def __init__(self, root_tar, debs):
        self.container = Container(root_tar)
        self.debs = debs
        self.run = self.container.run
        self.check = self.container.check

    def install(self):
        packages.install(self.container, self.debs)
        self.container.write(CONF, POOL)
        self.check("useradd", "--groups", "execsandbox", "alice")
        self.check("useradd", "bob")

    # --- execsandboxctl. ---

    def ctl(self, *words, user="alice"):
        return self.run("execsandboxctl", *words, user=user)

    def ok(self, *words, user="alice"):
        """What it prints; an error when it fails."""
        return self.check("execsandboxctl", *words, user=user)

    def call(self, method, *params):
        """An admin's call."""
        return json.loads(self.check("execsandboxctl", "call", method, *params))

    def shell(self, code, *words):
        return self.ok("run", "-l", "shell", *words, "-c", code)

    # --- systemd. ---

    def state(self, unit):
        return self.run("systemctl", "is-active", unit).stdout.strip()

    def main_pid(self, unit=DAEMON):
        """As the host has it; 0 when there is none."""
        pid = int(self.container.show(unit, "MainPID")["MainPID"])
        for host_pid in self.container.processes() if pid else ():
            with contextlib.suppress(OSError, KeyError):
                if status_of(host_pid)["NSpid"].split()[1:2] == [str(pid)]:
                    return host_pid
        return 0

    def until_restarted(self, old_pid, what, deadline=20):
        def is_there():
            return self.state(DAEMON) == "active" and self.main_pid() not in (0, old_pid)
        until(is_there, what, deadline)
        return self.main_pid()

    def revive(self):
        """As OPERATING.md says, after units were given up."""
        self.check("systemctl", "reset-failed", "execsandbox*")
        self.check("systemctl", "start", *SOCKETS, DAEMON)

    # --- Virtual machines. ---

    def qemus(self):
        """{host pid: command line} of every QEMU inside: not of the bubblewrap around it."""
        return {pid: line for pid, line in self.container.processes().items()
                if line.split(" ", 1)[0].rsplit("/", 1)[-1].startswith("qemu-system")}

    def qemu_of(self, vm):
        return next((pid for pid, line in self.qemus().items() if vm in line), 0)

    def vm_directories(self):
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(os.path.join(self.container.root, "run/execsandbox/vm"))
        return self.run("ls", "-A", "/run/execsandbox/vm").stdout.split()

    def session(self):
        """(session, its VM, the VM's QEMU), with a variable and a file in it."""
        session = self.ok("session", "create", "-l", "shell").strip()
        self.ok("session", "exec", session, "-p", "kept=41; echo there >file")
        vm = json.loads(self.ok("session", "info", session, "--json"))["vm"]
        return session, vm, self.qemu_of(vm)

    def assert_session(self, session, qemu):
        """It is the same machine, with the same interpreter in it, and the same file."""
        assert self.ok("session", "exec", session, "-p", "echo $((kept + 1)) $(cat file)").split() == ["42", "there"]
        assert qemu in self.qemus(), "another QEMU answers"
