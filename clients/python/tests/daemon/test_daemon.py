# SPDX-License-Identifier: Apache-2.0
"""Both APIs against a real daemon, in real VMs."""

import asyncio
import concurrent.futures
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

from execsandbox import AsyncSandbox, Sandbox, errors

# A machine that is shared and emulates its guests gets much time.
DEADLINE = 120

FOREVER = "hostname; while true; do sleep 0.1; done"


class Stop(Exception):
    pass


def until(condition, what):
    """Polls until condition() is true: the daemon has no notification for every condition."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Runs(unittest.TestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)

    def until_gone(self, host):
        """Waits until a VM is gone, named by what `hostname` has printed in it."""
        vm = host.strip().replace("-", "_")
        until(lambda: vm not in [one["vm"] for one in self.sandbox.call("vm.list")["vms"]], f"no {vm}")

    def test_world(self):
        """Arguments, variables, standard input as text and as bytes, in all languages."""
        code = "import os, sys; print(sys.argv[1:], os.environ['A'], sys.stdin.read())"
        done = self.sandbox.run(code, args=["a b", "ü"], env={"A": "1"}, stdin="日本")
        self.assertEqual((done.stdout, done.stderr), ("['a b', 'ü'] 1 日本\n", ""))
        done = self.sandbox.run("console.log(Bun.argv[2])", "javascript", args=["x"])
        self.assertEqual(done.stdout, "x\n")
        data = bytes(range(256)) * 100
        done = self.sandbox.run("cat; printf 'e\\xff' >&2", "shell", stdin=data)
        self.assertEqual((done.stdout_raw, done.stderr_raw, done.stderr), (data, b"e\xff", "e\ufffd"))

    def test_receipt(self):
        done = self.sandbox.run("print(1)")
        self.assertTrue(done.ok)
        self.assertGreaterEqual(done.timing.total_ms, done.timing.execute_ms)
        self.assertGreater(done.usage.memory_peak_bytes, 0)
        self.assertTrue(done.vm.startswith("vm_"))
        self.assertIn(done.start, ("warm", "clone", "boot"))
        self.assertEqual((done.language, done.session, done.stdout_bytes), ("python", None, 2))

    def test_outcomes(self):
        """A program's failure is a result."""
        done = self.sandbox.run("raise KeyError('k')")
        self.assertEqual((done.status, done.exit_code, done.error.name), ("error", 1, "KeyError"))
        self.assertIn("KeyError", done.error.traceback)
        done = self.sandbox.run("kill -SEGV $$", "shell")
        self.assertEqual((done.status, done.signal, done.exit_code), ("signal", "SIGSEGV", 139))
        done = self.sandbox.run(FOREVER, "shell", timeout_seconds=0.5)
        self.assertEqual((done.status, done.exit_code, done.stdout), ("timeout", 124, done.vm.replace("_", "-") + "\n"))
        done = self.sandbox.run("yes", "shell", limits={"stdout_bytes": 1000, "on_output": "stop"})
        self.assertEqual((done.status, len(done.stdout), done.stdout_truncated), ("output_limit", 1000, True))

    def test_errors(self):
        for error, field, options in (
            (errors.CodeInvalidError, None, {"code": " "}),
            (errors.LimitInvalidError, "timeout_seconds", {"timeout_seconds": 0}),
            (errors.EnvInvalidError, "env", {"env": {"LD_PRELOAD": "x"}}),
            (errors.InvalidParamsError, "limits.colour", {"limits": {"colour": 1}}),
        ):
            with self.subTest(error=error), self.assertRaises(error) as caught:
                self.sandbox.run(**{"code": "print(1)", **options})
            self.assertEqual(caught.exception.name, error.name)
            if field:
                self.assertEqual(caught.exception.data["field"], field)
        with self.assertRaises(errors.MethodNotFoundError):
            self.sandbox.call("no.such")

    def test_streamed_is_result(self):
        """Callbacks have heard what the result has: text, bytes, output that is cut at its limit."""
        for code, limits in (
            ("for i in $(seq 2000); do echo $i grüße 日本 🎉; echo e$i >&2; done", None),
            ("head -c 100000 /dev/urandom; echo; printf '\\xe6\\x97' >&2", None),
            ("yes 日本 | head -c 200000; echo end >&2", {"stdout_bytes": 49999, "stderr_bytes": 2}),
        ):
            with self.subTest(code=code):
                out, err = [], []
                done = self.sandbox.run(code, "shell", limits=limits, on_stdout=out.append, on_stderr=err.append)
                self.assertTrue(done.ok, done)
                for heard, text, truncated in (("".join(out), done.stdout, done.stdout_truncated),
                                               ("".join(err), done.stderr, done.stderr_truncated)):
                    # The character that a limit has cut was streamed in part.
                    self.assertEqual(heard.removesuffix("\ufffd") if truncated else heard, text)
                self.assertGreater(len(out), 1)

    def test_callback_stops_the_program(self):
        heard = []

        def stop(text):
            heard.append(text)
            raise Stop

        with self.assertRaises(Stop):
            self.sandbox.run(FOREVER, "shell", on_stdout=stop)
        self.until_gone(heard[0])

    def test_interrupt(self):
        """Ctrl-C ends a program that waits for a run, and the run."""
        # Also where whoever runs the tests ignores it, as a shell has its background jobs do.
        code = ("import signal\nimport sys\nfrom execsandbox import Sandbox\n"
                "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
                "Sandbox().run(sys.argv[1], 'shell', on_stdout=lambda text: print(text, end='', flush=True))")
        with subprocess.Popen([sys.executable, "-B", "-c", code, FOREVER], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True,
                              env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))) as process:
            host = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, problems = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertIn("KeyboardInterrupt", problems)
        self.assertRegex(host, "^vm-")
        self.until_gone(host)

    def test_threads(self):
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            done = list(pool.map(lambda n: self.sandbox.run(f"echo {n}", "shell"), range(12)))
        self.assertEqual([one.stdout for one in done], [f"{n}\n" for n in range(12)])
        self.assertEqual(len({one.vm for one in done}), 12)

    def test_about_the_daemon(self):
        self.assertIn("python", self.sandbox.info()["languages"])
        self.assertTrue(self.sandbox.health()["ready"])
        self.assertIsNone(self.sandbox.ping())
        names = {one["name"] for one in self.sandbox.call("rpc.discover")["methods"]}
        self.assertIn("run", names)


class Sessions(unittest.TestCase):
    def setUp(self):
        self.sandbox = Sandbox()
        self.addCleanup(self.sandbox.close)

    def test_interpreter_and_exec_id(self):
        """Code finds what code before it has defined; a program with an exec_id is run once."""
        with self.sandbox.session() as session:
            session.exec(code="x = 41")
            self.assertEqual(session.exec(code="x + 1").stdout, "42\n")
            first = session.exec(code="x += 1\nx", exec_id=session.id)
            self.assertEqual(session.exec(code="x += 1\nx", exec_id=session.id), first)
            self.assertEqual(self.sandbox.result(session.id), first)
            with self.assertRaises(errors.ExecIdConflictError):
                session.exec(code="x", exec_id=session.id)
        with self.assertRaises(errors.ExecNotFoundError):
            self.sandbox.result("nothing")

    def test_processes(self):
        """A process in the background, spoken to and heard, waiting and awaited."""
        with self.sandbox.session(language="shell") as session:
            process = session.start("read -r line; echo \"got $line\"; seq 50000; cat; exit 3", stdin="one\n")
            self.assertIsNone(process.wait(0.1))
            self.assertEqual([one.process for one in session.processes()], [process.id])
            process.write("tail")
            process.close_stdin()
            heard = []
            done = process.wait(on_stdout=heard.append)
            wanted = "got one\n" + "".join(f"{n}\n" for n in range(1, 50001)) + "tail"
            self.assertEqual((done.exit_code, done.stdout == wanted, "".join(heard) == wanted), (3, True, True))
            self.assertEqual(process.output(8).stdout[:4], "1\n2\n")
            with self.assertRaises(errors.ProcessNotFoundError):
                process.kill()
            self.assertEqual(session.start("true", cwd="nowhere").wait().exit_code, 127)
            asyncio.run(self.shell(session.id))

    async def shell(self, session_id):
        async with AsyncSandbox() as sandbox:
            session = await sandbox.find_session(session_id)
            process = await session.start(argv=["bash", "--norc"], terminal=(24, 80))
            await process.resize(30, 90)
            await process.write("stty size; exit 7\n")
            heard = []
            self.assertEqual((await process.wait(on_stdout=heard.append)).exit_code, 7)
            self.assertIn("30 90\r\n", "".join(heard))

    def test_life(self):
        name = f"client-{uuid.uuid4().hex}"
        with self.sandbox.session(language="shell", env={"A": "1"}, metadata={"test": name}) as session:
            heard = []
            done = session.exec("echo $A $B >file; cat file", env={"B": "2"}, on_stdout=heard.append)
            self.assertEqual((done.stdout, "".join(heard), done.session), ("1 2\n", "1 2\n", session.id))
            self.assertEqual(session.exec(argv=["cat", "file", "-"], stdin=b"in").stdout, "1 2\nin")
            self.assertEqual(session.update(name=name, idle_timeout_seconds=60).idle_timeout_seconds, 60)
            self.assertEqual((session.name, session.info().name, session.info().execs), (name, name, 2))
            self.assertEqual(session.info().metadata, {"test": name})
            self.assertEqual(self.sandbox.find_session(name).id, session.id)
            with self.assertRaises(ZeroDivisionError):
                session.exec(FOREVER, on_stdout=lambda text: 1 / 0)
            self.assertEqual(session.exec("cat file").stdout, "1 2\n")
        with self.assertRaises(errors.SessionClosedError) as caught:
            session.exec("echo")
        self.assertEqual(caught.exception.data["reason"], "closed")
        with self.assertRaises(errors.SessionNotFoundError):
            self.sandbox.find_session(name)

    def test_files(self):
        """Files go in and out, larger than a piece, and programs see them; errors have their classes."""
        data = os.urandom(9 << 20)
        with self.sandbox.session(language="shell") as session, tempfile.TemporaryDirectory() as directory:
            files, path = session.files, os.path.join(directory, "file")
            self.assertEqual(files.write("a/b", data, mode=0o750), len(data))
            done = session.exec("stat -c %a a/b; sha256sum a/b")
            self.assertEqual(done.stdout, f"750\n{hashlib.sha256(data).hexdigest()}  a/b\n")
            heard = []
            self.assertEqual(files.download("a/b", path, progress=lambda *far: heard.append(far)), len(data))
            self.assertEqual((heard[-1], len(heard)), ((len(data), len(data)), 3))
            with open(path, "rb") as file:
                self.assertEqual((file.read(), os.fstat(file.fileno()).st_mode & 0o700), (data, 0o700))
            self.assertEqual(files.upload(path, "c"), len(data))
            self.assertEqual(files.read("c"), data)
            files.write("c", "ü", offset=len(data) - 1)
            self.assertEqual(files.read("c", offset=len(data) - 1), "ü".encode())
            files.rename("c", "a/c")
            files.mkdir("a/d")
            session.exec("cd a && ln -s b link && touch \"$(printf '\\377')\"")
            self.assertEqual([(one.name, one.type, one.target) for one in files.list("a")],
                             [("b", "file", None), ("c", "file", None), ("d", "directory", None),
                              ("link", "symlink", "b"), ("\udcff", "file", None)])
            self.assertEqual(files.stat("a/b").mode, 0o750)
            for error, call in ((errors.FileNotFoundError, lambda: files.read("no")),
                                (errors.FileExistsError, lambda: files.mkdir("a")),
                                (errors.IsDirectoryError, lambda: files.download("a", path)),
                                (errors.NotDirectoryError, lambda: files.list("a/b")),
                                (errors.PathInvalidError, lambda: files.stat("/etc/passwd")),
                                (errors.FileTooLargeError, lambda: files.write("f", "x", offset=1 << 40))):
                with self.assertRaises(error):
                    call()
            files.remove("a", recursive=True)
            self.assertEqual([one.name for one in files.list() if one.name == "a"], [])
            with open(path, "rb") as file:
                self.assertEqual(file.read(), data)

    def test_list(self):
        with self.sandbox.session() as first, self.sandbox.session() as second:
            listed = [one.session for one in self.sandbox.sessions(page_size=1)]
            self.assertEqual([one for one in listed if one in (first.id, second.id)], [first.id, second.id])

    def test_bound(self):
        """A session that is bound goes with its connection; the others stay."""
        with Sandbox() as other:
            bound, free = other.session(bind="connection"), other.session()
        until(lambda: bound.id not in [one.session for one in self.sandbox.sessions()], "closed")
        self.sandbox.find_session(free.id).close()


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_gather(self):
        async with AsyncSandbox() as sandbox:
            done = await asyncio.gather(*(sandbox.run(f"echo {n}", "shell") for n in range(12)))
        self.assertEqual([one.stdout for one in done], [f"{n}\n" for n in range(12)])

    async def test_cancel(self):
        """The task's end is the program's: its VM is gone while the connection is still open."""
        async with AsyncSandbox() as sandbox:
            heard = asyncio.Queue()
            task = asyncio.create_task(sandbox.run(FOREVER, "shell", on_stdout=heard.put))
            vm = (await asyncio.wait_for(heard.get(), DEADLINE)).strip().replace("-", "_")
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(DEADLINE):
                while vm in [one["vm"] for one in (await sandbox.call("vm.list"))["vms"]]:
                    await asyncio.sleep(0.05)

    async def test_session(self):
        async with AsyncSandbox() as sandbox:
            async with sandbox.session(language="shell") as session:
                await session.exec("echo x >file")
                self.assertEqual(await session.files.read("file"), b"x\n")
                self.assertEqual((await session.exec("cat file")).stdout, "x\n")
                self.assertIn(session.id, [one.session async for one in sandbox.sessions()])
            with self.assertRaises(errors.SessionClosedError):
                await session.info()
