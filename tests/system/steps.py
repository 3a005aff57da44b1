# SPDX-License-Identifier: Apache-2.0
"""What the service has to do on a real systemd: steps of one story, on one machine, in their order.

Each takes the Service and fails by an exception; a step may rely on those before it.
"""

import json
import os
import tempfile
import time

import packages
from container import until
from service import CONF, DAEMON, LAUNCHER, NAMESPACES, POOL, SOCKETS, cgroups, namespaces, status_of

HANGS = "echo on; read -r line </dev/zero"


def equal(found, expected, what=""):
    assert found == expected, f"{what or 'found'}: {found!r}, not {expected!r}"


def holds(word, text):
    assert word in text, f"{word!r} is not in {text!r}"


def boots(service):
    """The machine is up, without a failed unit."""
    service.container.boot()
    equal(service.run("systemctl", "is-system-running").stdout.strip(), "running")


def installs(service):
    """dpkg -i: accounts, directories, sockets that listen; nothing runs yet."""
    service.install()
    for socket in SOCKETS:
        equal(service.state(socket), "active", socket)
    equal(service.state(DAEMON), "inactive", DAEMON)
    equal(service.check("stat", "--format=%U:%G %a", "/run/execsandbox.sock").strip(), "root:execsandbox 660")
    equal(service.check("stat", "--format=%U:%G %a", "/run/execsandbox/launcher.sock").strip(), "execsandbox-vm:execsandbox-vm 600")
    equal(service.check("stat", "--format=%U %a", "/run/execsandbox").strip(), "execsandbox-vm 700")


def starts_by_socket(service):
    """The first connection, of an ordinary user of the group, starts it."""
    holds("version", service.ok("call", "info"))
    equal(service.state(DAEMON), "active")
    equal(service.container.show(DAEMON, "Type", "NotifyAccess"), {"Type": "notify", "NotifyAccess": "main"})


def runs_code(service):
    equal(service.shell("echo $((6 * 7)) as $(id -u)").strip(), "42 as 1000")


def refuses_strangers(service):
    """Who is not in the group cannot even connect; who is in it is no admin."""
    done = service.ctl("run", "-l", "shell", "-c", "echo no", user="bob")
    equal(done.returncode, 125)
    holds("Permission denied", done.stderr)
    done = service.ctl("reload")
    equal(done.returncode, 1)
    holds("for root and the admin group", done.stderr)


def jails_qemu(service):
    """The jail is in use: no root, own namespaces, a filter, no capability; and the VM's cgroup is the launcher's."""
    session, _, qemu = service.session()
    assert qemu, "no QEMU of the session is found"
    status, uid = status_of(qemu), int(service.check("id", "--user", "execsandbox-vm"))
    assert uid, "execsandbox-vm is root"
    equal(set(status["Uid"].split()), {str(uid)}, "uid")
    equal(status["Seccomp"], "2")
    equal(status["NoNewPrivs"], "1")
    equal({int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}, {0}, "capabilities")
    ours, theirs = namespaces(service.container.leader), namespaces(qemu)
    for name in NAMESPACES:
        assert ours[name] != theirs[name], f"QEMU shares its {name} namespace with the machine"
    equal(set(os.listdir(f"/proc/{qemu}/root")) & {"etc", "home", "root", "run", "var"}, set(), "what is in the jail")
    holds(LAUNCHER, cgroups(qemu))
    service.ok("session", "close", session)


def confines_the_daemon(service):
    """What the unit says of the daemon is in force: no root, a filter, no capability, no writable and executable memory."""
    status = status_of(service.main_pid())
    assert "0" not in status["Uid"].split(), status["Uid"]
    equal(status["Seccomp"], "2")
    equal({int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}, {0}, "capabilities")
    shown = service.container.show(DAEMON, "MemoryDenyWriteExecute", "RestrictNamespaces", "ProtectSystem", "WatchdogUSec", "Delegate")
    equal(shown, {"MemoryDenyWriteExecute": "yes", "RestrictNamespaces": "yes", "ProtectSystem": "strict", "WatchdogUSec": "30s",
                  "Delegate": "no"})
    equal(service.container.show(LAUNCHER, "Delegate", "OOMPolicy", "KillMode", "ProtectKernelTunables", "ProtectKernelLogs"),
          {"Delegate": "yes", "OOMPolicy": "continue", "KillMode": "control-group", "ProtectKernelTunables": "yes",
           "ProtectKernelLogs": "yes"})


def watches_the_launchers_group(service):
    """Memory pressure is that of the unit which has the machines, not the daemon's."""
    service.ok("call", "info")
    assert any(f"/{LAUNCHER}/memory.pressure'" in line for line in service.container.journal(DAEMON).splitlines()
               if "Memory pressure: " in line), "its source is another one"


def has_tasks_for_all_machines(service):
    """What the launcher's unit allows is not met before max_vms, or is most of what the kernel has."""
    needed = 17 * service.call("info")["vms"]["max"]
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as stream:
        most = int(stream.read()) * 3 // 4
    allowed = int(service.container.show(LAUNCHER, "TasksMax")["TasksMax"])
    assert allowed >= min(needed, most), f"{allowed} tasks, of {needed} that are needed"


def limit(service, name):
    return service.call("info")["limits"][name]


def reloads(service):
    """systemctl reload: a good configuration is taken over at once, by the same daemon."""
    pid = service.main_pid()
    service.container.write(CONF, POOL + "[limits]\nenv_max = 7\n")
    service.check("systemctl", "reload", DAEMON)
    equal(limit(service, "env_max"), 7)
    equal(service.main_pid(), pid, "pid")
    equal(service.state(DAEMON), "active")


def refuses_to_reload(service):
    """A mistake, or a key for a restart: systemctl fails and the journal says why; the service goes on as it was."""
    pid = service.main_pid()
    for text, said in (
        (POOL + "[limits]\nenv_max = 9\nno_such_key = 1\n", f"{CONF}:{POOL.count(chr(10)) + 3}: "),
        (POOL + "[limits]\nenv_max = 9\n[daemon]\nnode = other\n", "A reload cannot change node"),
    ):
        service.container.write(CONF, text)
        done = service.run("systemctl", "reload", DAEMON)
        assert done.returncode, f"systemctl reload took {text!r}"
        holds(said, service.container.journal(DAEMON))
        equal(limit(service, "env_max"), 7)
        equal((service.state(DAEMON), service.main_pid()), ("active", pid))
    # By the signal there is no answer, but a line in the status.
    service.check("systemctl", "kill", "--signal=HUP", "--kill-whom=main", DAEMON)
    until(lambda: "refused" in service.container.show(DAEMON, "StatusText")["StatusText"], "the status says that it was refused", 10)
    equal((service.state(DAEMON), service.main_pid()), ("active", pid))
    service.container.write(CONF, POOL)
    service.check("systemctl", "reload", DAEMON)
    assert limit(service, "env_max") > 7


def restarts_with_a_drain(service):
    """systemctl restart: a run that is under way ends by itself and is answered; then the new daemon serves."""
    old = service.main_pid()
    run = service.container.start("execsandboxctl", "run", "-l", "shell", "-c", "echo on; sleep 3; echo off", user="alice")
    equal(run.stdout.readline(), "on\n")
    service.check("systemctl", "restart", DAEMON)
    out, err = run.communicate(timeout=30)
    equal((run.returncode, out), (0, "off\n"), err)
    assert service.main_pid() not in (0, old)
    equal(service.shell("echo new").strip(), "new")


def drains_as_long_as_it_may(service):
    """A drain is longer than the unit's TimeoutStopSec=: systemd grants what the daemon asks for, at a restart and at a drain by call."""
    path = f"/etc/systemd/system/{DAEMON}.d/test.conf"
    service.container.write(path, "[Service]\nTimeoutStopSec=1\n")
    service.check("systemctl", "daemon-reload")
    for words in (("systemctl", "restart", DAEMON), ("execsandboxctl", "drain")):
        old, (session, _, qemu) = service.main_pid(), service.session()
        run = service.container.start("execsandboxctl", "run", "-l", "shell", "-c", "echo on; sleep 4; echo off", user="alice")
        equal(run.stdout.readline(), "on\n")
        service.check(*words)
        out, err = run.communicate(timeout=30)
        equal((run.returncode, out), (0, "off\n"), err)
        until(lambda old=old: service.main_pid() != old, "that daemon has ended", 20)
        equal(service.container.show(DAEMON, "Result")["Result"], "success", words)
        equal(service.shell("echo new").strip(), "new")
        equal(service.ctl("session", "exec", session, "-c", "true").returncode, 125, "a call in a session of before")
        assert qemu not in service.qemus(), "its machine lives"
    os.unlink(service.container.root + path)
    service.check("systemctl", "daemon-reload")


def refuses_a_mistake(service):
    """A configuration that cannot be used is no reason to try again, but who waits at the socket is: until both are given up."""
    service.container.write(CONF, POOL + "no_such_key = 1\n")
    assert service.run("systemctl", "restart", DAEMON).returncode, "it starts with a mistake in its configuration"
    equal(service.container.show(DAEMON, "ActiveState", "ExecMainStatus", "NRestarts"),
          {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"})
    equal(service.state(SOCKETS[0]), "active", "the socket, without a client")
    holds(f"{CONF}:{POOL.count(chr(10)) + 1}: ", service.container.journal(DAEMON))
    assert service.ctl("call", "info").returncode, "a client was answered"
    until(lambda: service.state(SOCKETS[0]) == "failed", "the socket is given up with a client", 30)
    service.container.write(CONF, POOL)
    service.revive()
    equal(service.shell("echo mended").strip(), "mended")


def kills_and_comes_back(service):
    """kill -9 of the daemon: systemd starts another within seconds, and the session goes on in its machine."""
    session, _, qemu = service.session()
    old, started = service.main_pid(), time.monotonic()
    service.check("systemctl", "kill", "--signal=KILL", "--kill-whom=main", DAEMON)
    service.until_restarted(old, "another daemon is there")
    print(f"    back after {time.monotonic() - started:.1f} s")
    service.assert_session(session, qemu)
    service.ok("session", "close", session)


def kills_the_launcher(service):
    """kill -9 of the launcher: its machines end with it, and so do the calls and the session in them; the daemon has another one started."""
    session, _, _ = service.session()
    old, daemon = service.main_pid(LAUNCHER), service.main_pid()
    run = service.container.start("execsandboxctl", "run", "-l", "shell", "-c", HANGS, user="alice")
    equal(run.stdout.readline(), "on\n")
    service.check("systemctl", "kill", "--signal=KILL", "--kill-whom=main", LAUNCHER)
    _, err = run.communicate(timeout=20)
    equal(run.returncode, 125, err)
    holds("its launcher is gone", err)
    done = service.ctl("session", "exec", session, "-c", "true")
    equal(done.returncode, 125)
    holds("vm_lost", done.stderr)
    equal(service.shell("echo new").strip(), "new")
    equal(service.main_pid(), daemon, "pid")
    assert service.main_pid(LAUNCHER) not in (0, old), "no other launcher"


def loses_its_launcher(service):
    """A launcher that cannot start any more: calls say where to look. What OPERATING.md says mends it, for the same daemon."""
    old, path = service.main_pid(), f"/etc/systemd/system/{LAUNCHER}.d/test.conf"
    service.container.write(path, "[Service]\nExecStart=\nExecStart=/bin/false\n")
    service.check("systemctl", "daemon-reload")
    service.check("systemctl", "kill", "--signal=KILL", LAUNCHER)
    until(lambda: service.ctl("run", "-l", "shell", "-c", "true").returncode and service.state(SOCKETS[1]) == "failed",
          "the launcher's socket is given up", 30)
    done = service.ctl("run", "-l", "shell", "-c", "true")
    equal(done.returncode, 125)
    holds(f"see 'systemctl status {SOCKETS[1]}'", done.stderr)
    holds("fail  launcher ", service.ctl("doctor").stdout)
    os.unlink(service.container.root + path)
    service.check("systemctl", "daemon-reload")
    service.revive()
    holds("ok    launcher ", service.ctl("doctor").stdout)
    equal(service.shell("echo mended").strip(), "mended")
    equal(service.main_pid(), old, "pid")


def hands_over_to_a_later_package(service):
    """dpkg -i of a later version: a session, and a program with an exec_id in it, go on."""
    session, _, qemu = service.session()
    old, version = service.main_pid(), packages.version(service.container)
    program = service.container.start("execsandboxctl", "session", "exec", session, "--exec-id", "upgraded", "-c",
                                      "echo on; sleep 2; echo through", user="alice")
    equal(program.stdout.readline(), "on\n")
    with tempfile.TemporaryDirectory(dir=service.container.directory) as directory:
        packages.install(service.container, packages.later(service.debs, directory))
    equal(packages.version(service.container), version + "+later")
    service.until_restarted(old, "the new daemon is there", 60)
    program.communicate(timeout=30)  # its connection is lost, the program is not
    service.assert_session(session, qemu)
    until(lambda: "through" in service.ok("session", "result", "upgraded"), "the program has ended", 20)
    service.ok("session", "close", session)
    equal(service.shell("echo new").strip(), "new")


def barks(service):
    """The watchdog: a daemon that pets it goes on, one that stands still is started anew."""
    service.container.write(f"/etc/systemd/system/{DAEMON}.d/test.conf", "[Service]\nWatchdogSec=3\n")
    service.check("systemctl", "daemon-reload")
    service.check("systemctl", "restart", DAEMON)
    old = service.main_pid()
    first = service.container.show(DAEMON, "WatchdogTimestampMonotonic")
    until(lambda: service.container.show(DAEMON, "WatchdogTimestampMonotonic") != first, "it is petted", 10)
    equal(service.main_pid(), old, "pid")
    service.check("systemctl", "kill", "--signal=STOP", "--kill-whom=main", DAEMON)
    service.until_restarted(old, "another daemon after the watchdog", 30)
    holds("watchdog", service.container.journal(DAEMON).lower())
    os.unlink(service.container.root + f"/etc/systemd/system/{DAEMON}.d/test.conf")
    service.check("systemctl", "daemon-reload")


def stops(service):
    """systemctl stop: a run that does not end is ended at the drain's end, and no machine, process or directory is left."""
    service.container.write(CONF, POOL + "[daemon]\ndrain_timeout_seconds = 1\n")
    service.check("systemctl", "reload", DAEMON)
    service.session()
    run = service.container.start("execsandboxctl", "run", "-l", "shell", "-c", HANGS, user="alice")
    equal(run.stdout.readline(), "on\n")
    service.check("systemctl", "stop", SOCKETS[0], DAEMON)
    equal(service.qemus(), {})
    run.communicate(timeout=10)
    assert run.returncode != 0, "a run that was ended has succeeded"
    until(lambda: service.state(LAUNCHER) == "inactive", "the launcher has ended too", 20)
    equal(service.vm_directories(), [])
    equal(service.container.show(DAEMON, "Result")["Result"], "success")
    service.check("systemctl", "start", SOCKETS[0])
    equal(service.shell("echo again").strip(), "again")


def purges(service):
    """dpkg --purge: nothing of it runs, and nothing is left on disk but the accounts."""
    packages.purge(service.container)
    equal(service.qemus(), {})
    users = {line for line in service.container.processes().values() if "execsandbox" in line}
    equal(users, set(), "processes")
    left = service.check("find", "/etc", "/run", "/usr", "/lib/systemd", "/var/lib", "(", "-path", "*/dpkg/*", "-o", "-path",
                         "/run/systemd/*", ")", "-prune", "-o", "-name", "*execsandbox*", "-print").split()
    # deb-systemd-helper's notes on what was enabled are removed by purge too.
    equal(left, [], "files")
    # A slice that is empty is nothing but a name.
    units = json.loads(service.check("systemctl", "list-units", "--all", "--output=json", "execsandbox*"))
    equal([unit["unit"] for unit in units if not unit["unit"].endswith(".slice")], [], "units")
    equal(service.run("systemctl", "is-system-running").stdout.strip(), "running")


STEPS = (boots, installs, starts_by_socket, runs_code, refuses_strangers, jails_qemu, confines_the_daemon,
         watches_the_launchers_group, has_tasks_for_all_machines, reloads, refuses_to_reload, restarts_with_a_drain,
         drains_as_long_as_it_may, refuses_a_mistake, kills_and_comes_back, kills_the_launcher, loses_its_launcher,
         hands_over_to_a_later_package, barks, stops, purges)
