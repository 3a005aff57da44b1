# SPDX-License-Identifier: Apache-2.0
"""A daemon is killed, and the next one goes on: sessions, their state, processes and programs, with real guests."""

import hashlib
import os
import shutil
import signal
import socket
import tempfile
import time

import support
from client import RpcError
from support import DEADLINE, VmTest, moment, read_text, until

# From the next daemon's start until clients are served (docs/SESSIONS.md says one second; loaded machines take longer).
BACK_SECONDS = 5.0


class Recovery(VmTest):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="execsandbox-vm-test-")
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        os.chmod(cls.directory, 0o755)

    def setUp(self):
        super().setUp()
        self.sandbox = self.prepare(templates="auto", pool_python=0, pool_javascript=0, pool_shell=0)
        self.sandbox.state = os.path.join(self.directory, "state")  # templates are made once
        self.sandbox.start()
        self.client = self.sandbox.client()

    def tearDown(self):
        if self.sandbox.process.poll() is None:
            with self.sandbox.client() as client:
                client.call("pool.set", language="shell", size=0)
                for session in client.call("session.list")["sessions"]:
                    client.call("session.close", session=session["session"])
        super().tearDown()

    def restart(self, number=signal.SIGKILL, away=0):
        """Ends the daemon with a signal and starts the next one at once, as its unit would, or after the seconds in which
        there is nobody to ask. Seconds until it answers."""
        self.sandbox.signal(number)
        self.status = self.sandbox.wait()
        # Only now: a daemon that lives ends the programs of callers who go.
        for client in self.sandbox.clients:
            client.close()
        self.sandbox.clients.clear()
        time.sleep(away)
        begun = time.monotonic()
        self.sandbox.start()
        seconds = time.monotonic() - begun
        self.client = self.sandbox.client()
        return seconds

    def create(self, language="shell", **params):
        return self.client.call("session.create", language=language, **params)["session"]

    def exec(self, session, **params):
        return self.client.call("session.exec", session=session, **params)

    def info(self, session):
        return self.client.call("session.info", session=session)

    def test_session(self):
        """Same VM, same files, same interpreter, same settings; and what is told of it."""
        session = self.create("python", name="box", metadata={"a": "b\0c"}, env={"WHO": "me"}, idle_timeout_seconds=77,
                              timeout_seconds=3000)
        self.exec(session, code="x = 41\nopen('kept', 'w').write('here')")
        before = self.info(session)
        pid = self.client.call("vm.info", vm=before["vm"])["pid"]
        seconds = self.restart()
        self.assertLess(seconds, BACK_SECONDS)
        after = self.info("box")
        for name in ("session", "name", "vm", "language", "memory_mb", "uid", "start", "execs", "created_at", "metadata",
                     "idle_timeout_seconds", "expires_at", "bind"):
            self.assertEqual(after[name], before[name], name)
        self.assertEqual((after["state"], self.client.call("vm.info", vm=after["vm"])["pid"]), ("idle", pid))
        result = self.exec(session, code="import os\nx += 1\nprint(x, open('kept').read(), os.environ['WHO'])")
        self.assertEqual((result["stdout"], result["vm"]), ("42 here me\n", before["vm"]))
        self.assertEqual(self.info(session)["execs"], 2)

    def test_again_and_again(self):
        """Any number of times, each one a generation further."""
        session = self.create("python")
        self.exec(session, code="n = 0")
        for _ in range(4):
            self.restart()
            self.exec(session, code="n += 1")
        self.assertEqual(self.exec(session, code="print(n)")["stdout"], "4\n")

    def test_order_and_names(self):
        made = [self.create(name=f"s{i}") for i in range(3)]
        self.restart()
        listed = self.client.call("session.list")["sessions"]
        self.assertEqual([session["session"] for session in listed], made)
        with self.assertRaises(RpcError):
            self.create(name="s1")

    def test_program_with_exec_id_goes_on(self):
        """Its output before, across and behind the kill is whole, and it ran once."""
        session = self.create()
        text = "echo begin >> log; for i in $(seq 1 60); do echo line $i; sleep 0.05; done; echo end >> log"
        request = self.client.request("session.exec", session=session, command=text, exec_id="e1", stream=True)
        self.client.wait_output(request, "line 3")
        self.restart()
        progress = self.client.call("session.result", exec_id="e1")
        self.assertEqual(progress["state"], "running")
        self.assertIn("line 3\n", progress["stdout"])
        # The same request again is not run again, but answered with the first one.
        result = self.exec(session, command=text, exec_id="e1")
        self.assertEqual(result["stdout"], "".join(f"line {i}\n" for i in range(1, 61)))
        self.assertEqual((result["status"], result["exit_code"]), ("ok", 0))
        self.assertEqual(self.exec(session, command="cat log")["stdout"], "begin\nend\n")
        self.restart()
        self.assertEqual(self.client.call("session.result", exec_id="e1")["stdout"], result["stdout"])
        tail = self.client.call("session.result", exec_id="e1", stdout_offset=len(result["stdout"]) - 8)
        self.assertEqual(tail["stdout"], "line 60\n")

    def test_program_that_ends_meanwhile(self):
        """Nobody is there when it ends: the guest keeps output and receipt until somebody comes."""
        session = self.create()
        request = self.client.request("session.exec", session=session, exec_id="e1", stream=True,
                                      command="echo first; sleep 0.4; head -c 100000 /dev/zero | tr '\\0' x; exit 3")
        self.client.wait_output(request, "first")
        self.restart(away=1.5)
        result = until(lambda: self.ended("e1"), "it has ended")
        self.assertEqual((result["status"], result["exit_code"]), ("error", 3))
        self.assertEqual(result["stdout"], "first\n" + 100000 * "x")

    def ended(self, exec_id):
        result = self.client.call("session.result", exec_id=exec_id)
        return None if result.get("state") == "running" else result

    def test_large_output_is_whole(self):
        """More than a window is on its way when the daemon is killed, again and again."""
        session = self.create()
        count = 150000
        request = self.client.request("session.exec", session=session, exec_id="big", stream=True, command=f"seq 1 {count}")
        self.client.wait_output(request, "1\n")
        for _ in range(3):
            self.restart()
            time.sleep(0.05)
        result = until(lambda: self.ended("big"), "it has ended")
        expected = "".join(f"{i}\n" for i in range(1, count + 1))
        self.assertEqual(hashlib.sha256(result["stdout"].encode()).hexdigest(), hashlib.sha256(expected.encode()).hexdigest())

    def test_timeout_counts_on(self):
        """The deadline is what it was."""
        session = self.create()
        request = self.client.request("session.exec", session=session, exec_id="e1", stream=True, timeout_seconds=3,
                                      command="echo on; sleep 60")
        self.client.wait_output(request, "on")
        begun = time.monotonic()
        self.restart()
        result = until(lambda: self.ended("e1"), "it has ended")
        self.assertEqual((result["status"], result["exit_code"], result["stdout"]), ("timeout", 124, "on\n"))
        self.assertLess(time.monotonic() - begun, 3 + BACK_SECONDS)

    def test_timeout_while_it_is_killed(self):
        """Killed between its deadline and the guest's word of its end: it is a timeout, not a signal."""
        self.sandbox.settings["kill_grace_ms"] = 1500
        self.restart()
        session = self.create()
        request = self.client.request("session.exec", session=session, exec_id="e1", stream=True, timeout_seconds=1,
                                      command="trap 'sleep 0.7; trap - TERM; kill -TERM $$' TERM; echo on; while :; do sleep 0.1; done")
        self.client.wait_output(request, "on")
        path = os.path.join(self.sandbox.runtime, "vm", self.info(session)["vm"])
        until(lambda: any(name.endswith(".verdict") for name in os.listdir(path)), "it is being killed")
        self.restart()
        result = until(lambda: self.ended("e1"), "it has ended")
        self.assertEqual((result["status"], result["exit_code"]), ("timeout", 124))
        # What was noted for that has gone with the program.
        self.assertEqual([name for name in os.listdir(path) if name.endswith(".verdict")], [])

    def test_wall_clock_is_set(self):
        """A day ahead and three back while there is no daemon: a session has the time it had, a result is there."""
        self.sandbox.give_clock()
        self.restart()
        session = self.create(timeout_seconds=3000)
        self.exec(session, exec_id="e1", command="echo once")
        for days in (1, -3):
            self.sandbox.clock.set(days * 24 * 3600)
            self.restart()
            self.assertEqual(self.ended("e1")["stdout"], "once\n")
            left = moment(self.info(session)["expires_at"]) - (time.time() + days * 24 * 3600)
            self.assertTrue(2500 < left < 3001, left)
        self.exec(session, command="true")

    def test_cancel_after(self):
        session = self.create()
        request = self.client.request("session.exec", session=session, exec_id="e1", stream=True, command="echo on; sleep 60")
        self.client.wait_output(request, "on")
        self.restart()
        joined = self.client.request("session.exec", session=session, exec_id="e1", command="echo on; sleep 60")
        self.client.cancel(joined)
        self.assert_error(-32800, self.client.wait, joined)
        self.assertEqual(self.exec(session, command="echo next")["stdout"], "next\n")

    def test_program_without_exec_id(self):
        """Its caller is gone, so it is killed; the session and what it did stay, and the next one runs behind it."""
        session = self.create()
        request = self.client.request("session.exec", session=session, stream=True,
                                      command="echo mark > file; echo on; sleep 60; echo never > file")
        self.client.wait_output(request, "on")
        self.restart()
        begun = time.monotonic()
        result = self.exec(session, command="cat file; ps ax | grep -c '[s]leep 60'")
        self.assertEqual(result["stdout"], "mark\n0\n")
        self.assertLess(time.monotonic() - begun, BACK_SECONDS)

    def test_short_program_keeps_its_interpreter(self):
        """One that ends by itself is waited for: killing it would end the interpreter with all that is in there."""
        session = self.create("python")
        self.exec(session, code="x = 'kept'")
        request = self.client.request("session.exec", session=session, stream=True,
                                      code="import time\nprint('on', flush=True)\ntime.sleep(0.3)\nx += ' and more'")
        self.client.wait_output(request, "on")
        self.restart()
        self.assertEqual(self.exec(session, code="print(x)")["stdout"], "kept and more\n")

    def test_processes(self):
        """They go on, with their output, input and ends; one that ended before is still known."""
        session = self.create()
        ended = self.exec(session, command="echo early; exit 7", background=True)["process"]
        self.client.call("process.wait", session=session, process=ended)
        # What it is called in a list is cut in the middle of a character.
        cat = self.exec(session, command="cat; echo over #" + 300 * "\u00fc", background=True)["process"]
        ticks = self.exec(session, command="i=0; while :; do echo $((i++)); sleep 0.02; done", background=True)["process"]
        self.client.call("process.write", session=session, process=cat, data="before\n")
        until(lambda: self.output(session, cat) == "before\n", "it echoes")
        before = self.output(session, ticks)
        self.restart()
        listed = {process["process"]: process for process in self.client.call("process.list", session=session)["processes"]}
        self.assertEqual([listed[process]["state"] for process in (ended, cat, ticks)], ["ended", "running", "running"])
        self.assertEqual(listed[ended]["exit_code"], 7)
        self.assertEqual(self.output(session, ended), "early\n")
        self.client.call("process.write", session=session, process=cat, data="after\n")
        self.client.call("process.close_stdin", session=session, process=cat)
        result = self.client.call("process.wait", session=session, process=cat)
        self.assertEqual((result["status"], result["stdout"]), ("ok", "before\nafter\nover\n"))
        until(lambda: len(self.output(session, ticks)) > len(before) + 20, "it goes on ticking")
        self.client.call("process.signal", session=session, process=ticks, signal="KILL")
        lines = self.client.call("process.wait", session=session, process=ticks)["stdout"].split()
        self.assertEqual(lines, [str(i) for i in range(len(lines))])

    def output(self, session, process):
        return self.client.call("process.wait", session=session, process=process, timeout_seconds=0)["stdout"]

    def test_run_with_exec_id(self):
        """A run of its own goes on as well, and its files are collected; its VM goes with it."""
        request = self.client.request("run", language="shell", exec_id="r1", stream=True, collect=["out"],
                                      files=[{"path": "in", "data": "given"}], stdin="typed",
                                      code="echo on; sleep 1; cat in - > out; echo done")
        self.client.wait_output(request, "on")
        self.restart()
        result = until(lambda: self.ended("r1"), "it has ended")
        self.assertEqual((result["status"], result["stdout"]), ("ok", "on\ndone\n"))
        self.assertEqual([(file["path"], file["data"]) for file in result["files"]], [("out", "giventyped")])
        until(lambda: not self.client.call("vm.list")["vms"], "its VM is gone")

    def test_run_that_is_being_collected(self):
        """Its files were on their way when the daemon was killed: they are fetched anew."""
        request = self.client.request("run", language="shell", exec_id="r1", stream=True, collect=["big"],
                                      code="head -c 3000000 /dev/zero | tr '\\0' x > big; echo done")
        self.client.wait_output(request, "done")
        time.sleep(0.05)
        for _ in range(2):
            self.restart()
        result = until(lambda: self.ended("r1"), "it has ended")
        self.assertEqual((result["status"], result["stdout"]), ("ok", "done\n"))
        self.assertEqual([(file["path"], file.get("data", file)) for file in result["files"]], [("big", 3000000 * "x")])

    def pass_the_deadline(self, command):
        """The result of a command whose deadline passes while there is no daemon."""
        request = self.client.request("session.exec", session=self.create(), exec_id="e1", stream=True, timeout_seconds=4, command=command)
        self.client.wait_output(request, "on")
        self.restart(away=6)
        return until(lambda: self.ended("e1"), "it has ended")

    def test_what_ended_in_time_is_no_timeout(self):
        """The deadline passed while nobody was there; the program had ended before it, with much to say."""
        result = self.pass_the_deadline("echo on; sleep 0.5; head -c 100000 /dev/zero | tr '\\0' x")
        self.assertEqual((result["status"], result["stdout_bytes"]), ("ok", 100003))

    def test_what_had_not_ended_in_time_is_a_timeout(self):
        """It was still at work when its deadline passed, with more to say than a window holds while nobody reads."""
        result = self.pass_the_deadline("echo on; sleep 0.5; head -c 500000 /dev/zero | tr '\\0' x; sleep 60")
        self.assertEqual((result["status"], result["exit_code"]), ("timeout", 124))
        self.assertEqual(result["stdout"], "on\n" + (result["stdout_bytes"] - 3) * "x")
        self.assertGreater(result["stdout_bytes"], 100003)

    def test_other_configuration(self):
        """What was accepted goes on as it was, whatever the configuration says by now."""
        session = self.create(limits={"stdout_bytes": 300000, "stderr_bytes": 70000})
        ticks = self.exec(session, command="while :; do echo tick; sleep 0.02; done", background=True)["process"]
        until(lambda: self.output(session, ticks), "it ticks")
        request = self.client.request("session.exec", session=session, exec_id="e1", stream=True, timeout_seconds=100,
                                      command="echo on; sleep 1; head -c 200000 /dev/zero | tr '\\0' x")
        self.client.wait_output(request, "on")
        self.sandbox.settings.update(max_timeout_seconds=2, default_timeout_seconds=1, stdout_max_bytes=65536,
                                     stderr_max_bytes=65536, code_max_bytes=16)
        self.restart()
        result = until(lambda: self.ended("e1"), "it has ended")
        self.assertEqual((result["status"], result["stdout_bytes"]), ("ok", 200003))
        self.assertEqual(self.client.call("process.list", session=session)["processes"][0]["state"], "running")

    def test_the_rest_is_gone(self):
        """Runs nobody can come back to, spares, and sessions that belong to a connection: no process of theirs is left."""
        self.client.call("pool.set", language="shell", size=2)
        until(lambda: self.client.call("pool.get", language="shell")["warm"] == 2, "there are spares", 200)
        bound = self.create(bind="connection")
        request = self.client.request("run", language="shell", stream=True, code="echo on; sleep 60")
        self.client.wait_output(request, "on")
        until(lambda: self.client.call("pool.get", language="shell")["warm"] == 2, "there are spares again")
        vms = [vm["vm"] for vm in self.client.call("vm.list")["vms"]]
        self.assertGreaterEqual(len(vms), 4)
        self.restart()
        now = [vm["vm"] for vm in self.client.call("vm.list")["vms"]]
        self.assertFalse(set(now) & set(vms))
        gone = [process for process in support.processes() if any(vm in process.command for vm in vms)]
        self.assertEqual(gone, [])
        self.assertFalse(set(self.sandbox.vm_directories()) & set(vms))
        self.assert_error((4001, 4002), self.info, bound)

    def test_vm_that_died_with_the_daemon(self):
        """Its session is closed, its program lost, and both are told."""
        session = self.create()
        request = self.client.request("session.exec", session=session, exec_id="e1", stream=True, command="echo on; sleep 60")
        self.client.wait_output(request, "on")
        pid = self.client.call("vm.info", vm=self.info(session)["vm"])["pid"]
        self.sandbox.signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        self.restart()
        self.assert_error(3004, self.client.call, "session.result", exec_id="e1")
        self.assert_error((4001, 4002), self.info, session)

    def test_squeezed(self):
        """What the balloon of the daemon before has taken is known, and given back when there is work."""
        session = self.create()
        vm = self.info(session)["vm"]
        self.assertTrue(self.client.call("memory.balloon", vm=vm, target_mb=160)["reached"])
        self.restart()
        self.assertEqual(self.exec(session, command="echo fine")["stdout"], "fine\n")
        until(lambda: self.balloon(vm) == (256 << 20, 256 << 20), "it has its memory back")

    def balloon(self, vm):
        stats = next(one for one in self.client.call("memory.stats")["vms"] if one["vm"] == vm)
        return stats["balloon_actual_bytes"], stats["balloon_target_bytes"]

    def test_guest_that_does_not_answer(self):
        """Others are served all the same; it is given up at its deadline."""
        stuck, other = self.create(), self.create()
        pid = self.client.call("vm.info", vm=self.info(stuck)["vm"])["pid"]
        sleeper = self.exec(stuck, command="sleep 1000", background=True)["process"]
        self.sandbox.settings["boot_timeout_seconds"] = 4
        os.kill(pid, signal.SIGSTOP)
        seconds = self.restart()
        self.assertLess(seconds, BACK_SECONDS)
        self.assertEqual(self.exec(other, command="echo fine")["stdout"], "fine\n")
        self.assertEqual(self.info(stuck)["state"], "starting")
        self.assert_error(4003, self.client.call, "process.signal", session=stuck, process=sleeper, signal="KILL")
        file = self.client.request("file.stat", session=stuck, path="x")
        queued = self.client.request("session.exec", session=stuck, command="echo never")
        until(lambda: not self.alive(pid), "it is given up")
        self.assertEqual(self.assert_error(4002, self.info, stuck).data["reason"], "vm_lost")
        for request in (file, queued):
            self.assert_error(4002, self.client.wait, request)

    def test_guest_that_answers_late(self):
        """Whoever asked meanwhile is answered."""
        session = self.create()
        self.client.call("file.write", session=session, path="x", data="here")
        pid = self.client.call("vm.info", vm=self.info(session)["vm"])["pid"]
        os.kill(pid, signal.SIGSTOP)
        self.restart()
        file = self.client.request("file.read", session=session, path="x")
        program = self.client.request("session.exec", session=session, command="cat x")
        self.client.call("session.update", session=session, timeout_seconds=2000)
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(self.client.wait(file)["data"], "here")
        self.assertEqual(self.client.wait(program)["stdout"], "here")
        self.assertIsNotNone(self.info(session)["expires_at"])

    def test_file_behind_what_was_at_work(self):
        """The guest is still at an operation whose caller went with the daemon: the next one is done behind that."""
        session = self.create()
        for path in ("a", "b"):
            ours, theirs = socket.socketpair()
            with ours:
                with theirs, self.client.lend_descriptor(theirs.fileno()):
                    self.client.request("file.write", session=session, path="never", descriptor=True, size=4 << 20)
                ours.settimeout(DEADLINE)
                ours.sendall(bytes(2 << 20))
                self.restart()
            self.assertEqual(self.client.call("file.write", session=session, path=path, data="here"), {"bytes": 4})
        listed = self.client.call("file.list", session=session, path=".")["entries"]
        self.assertEqual([entry["name"] for entry in listed if not entry["name"].startswith(".")], ["a", "b"])

    def test_end_while_a_guest_does_not_answer(self):
        session = self.create()
        pid = self.client.call("vm.info", vm=self.info(session)["vm"])["pid"]
        os.kill(pid, signal.SIGSTOP)
        self.restart()
        self.sandbox.signal(signal.SIGTERM)
        self.assertEqual(self.sandbox.wait(), 0)
        until(lambda: not self.alive(pid), "QEMU has ended with the daemon")
        self.sandbox.start()

    def test_guests_that_do_not_answer_leave_places(self):
        """As many as may start at once: others get VMs and spares all the same. They are given up long before boot_timeout."""
        stuck = [self.create() for _ in range(max(os.cpu_count(), 2))]
        pids = [self.client.call("vm.info", vm=self.info(session)["vm"])["pid"] for session in stuck]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        self.restart()
        self.assertEqual(self.client.call("run", language="shell", code="echo new")["stdout"], "new\n")
        self.client.call("pool.set", language="shell", size=1)
        until(lambda: self.client.call("pool.get", language="shell")["warm"] == 1, "there is a spare")
        self.assertEqual([self.alive(pid) for pid in pids], [True] * len(pids))
        until(lambda: not any(self.alive(pid) for pid in pids), "they are given up", deadline=30)
        self.assert_error(4002, self.info, stuck[0])

    def alive(self, pid):
        try:
            return read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def test_hand_over(self):
        """SIGUSR1: a short call is waited for, new work is refused, and the session goes on with the next daemon."""
        session = self.create("python")
        self.exec(session, code="x = 5")
        request = self.client.request("run", language="shell", stream=True, code="echo on; sleep 1; echo done")
        self.client.wait_output(request, "on")
        self.sandbox.signal(signal.SIGUSR1)
        self.assertEqual(self.client.wait(request)["stdout"], "on\ndone\n")
        self.assertEqual(self.sandbox.wait(), 75)
        self.sandbox.start()
        self.client = self.sandbox.client()
        self.assertEqual(self.exec(session, code="print(x)")["stdout"], "5\n")

    def test_records_are_removed(self):
        """A session that closes leaves nothing; results go with their time."""
        session = self.create()
        self.exec(session, command="echo x", exec_id="e1")
        self.client.call("session.close", session=session)
        until(lambda: not self.sandbox.vm_directories(), "its directory is gone")
        self.sandbox.settings["result_seconds"] = 1
        self.restart()
        until(lambda: not os.listdir(os.path.join(self.sandbox.runtime, "results")), "the result is gone")

    def test_broken_records(self):
        """A record that cannot be read ends its VM; the daemon says so and serves."""
        session = self.create()
        vm = self.info(session)["vm"]
        path = os.path.join(self.sandbox.runtime, "vm", vm, "record.json")
        self.sandbox.signal(signal.SIGKILL)
        self.sandbox.wait()
        with open(path, "r+", encoding="utf-8") as file:
            file.truncate(os.path.getsize(path) // 2)
        self.sandbox.start()
        self.client = self.sandbox.client()
        self.assert_error(4001, self.info, session)
        until(lambda: not self.sandbox.vm_directories(), "its directory is gone")
        self.assertIn(f"{vm}: Ending it: nobody can come back for it", self.sandbox.log())

