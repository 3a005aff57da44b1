# SPDX-License-Identifier: Apache-2.0
"""The agent of a real VM by itself: interpreters that wait."""

import time
import unittest

from guest import MEMORY, MEMORY_DROP, Guest

PROGRAMS = {
    "python": "import sys\nprint(open('/proc/self/cgroup').read().strip(), sys.argv[1:], input())",
    "javascript": "console.log(require('fs').readFileSync('/proc/self/cgroup', 'utf8').trim(),"
                  " process.argv.slice(2), await Bun.stdin.text())",
    "shell": 'cat /proc/self/cgroup; echo "$*"; cat',
}
FACTS = {
    "python": "import os\nprint(sorted(os.listdir('/proc/self/fd')), os.listdir('/tmp'),"
              " sorted(os.listdir('/home/user')), sorted(os.environ.items()), os.getcwd())",
    # Bun keeps the directory it reads open while it lists it, in either case.
    "javascript": "const fs = require('fs'); console.log(fs.readdirSync('/proc/self/fd').length,"
                  " fs.readdirSync('/tmp'), fs.readdirSync('/home/user').sort(), process.env,"
                  " process.cwd(), process.argv, Bun.argv, import.meta.path, Bun.main)",
    "shell": '(cd /proc/$$/fd; ls . /tmp ~); env | sort; pwd; echo "$0 $# $- $?"; declare -p OLDPWD',
}
# Each with what it prints and its exit code; none may leave a process.
ENDS = (
    ("import atexit\natexit.register(print, 'bye')\nprint(1)", "1\nbye\n", 0),
    ("class A:\n    def __del__(self): print('del', x)\nx, a = 1, A()", "del 1\n", 0),
    ("import threading, time\nthreading.Thread(target=lambda: time.sleep(.2) or print('t')).start()",
     "t\n", 0),
    ("import sys\nsys.exit(300)", "", 44),
    ("import os\nos.write(100, b'\\0\\7')\nwhile True: pass", "", 7),
    ("import os, time\nif os.fork() == 0: time.sleep(600)\nprint(2)", "2\n", 0),
    ("import multiprocessing as m\nif __name__ == '__main__':\n    for way in ('fork', 'spawn'):\n"
     "        p = m.get_context(way).Process(target=print, args=(way,))\n        p.start(); p.join()",
     "fork\nspawn\n", 0),
)
ERRORS = {
    "python": ("raise ValueError('no')", 1, {"name": "ValueError", "value": "no"}),
    "javascript": ("const x: number = 1; throw new TypeError('no ' + x)", 1,
                   {"name": "TypeError", "value": "no 1"}),
    "shell": ("exit 7", 7, None),
}


class Standby(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.guest = Guest()

    @classmethod
    def tearDownClass(cls):
        cls.guest.close()

    def setUp(self):
        for language in PROGRAMS:
            self.guest.prepare(language, 0)

    def prepare(self, language, count):
        prepared = self.guest.prepare(language, count)
        self.assertEqual((prepared["waiting"], prepared.get("detail", "")), (count, ""))

    def test_takes_one_that_waits(self):
        """Its cgroup tells it from one that was started for the run."""
        for language, code in PROGRAMS.items():
            with self.subTest(language=language):
                self.prepare(language, 2)
                for expected in ("standby-", "standby-", "run-"):
                    result = self.guest.run(language, code, stdin=b"typed\n", args=["one", "t w"])
                    self.assertEqual(result["reason"], "exited", result)
                    self.assertEqual(result["stderr"], "")
                    self.assertIn("/user/" + expected, result["stdout"])
                    for word in ("one", "t w", "typed"):
                        self.assertIn(word, result["stdout"])

    def test_user_code_ends_the_others(self):
        for language in PROGRAMS:
            self.prepare(language, 1)
        result = self.guest.run("shell", "sleep 0.3; ls -d /proc/[0-9]* | wc -l", rehearsal=False)
        alone = self.guest.run("shell", "sleep 0.3; ls -d /proc/[0-9]* | wc -l", rehearsal=False)
        self.assertEqual(result["stdout"], alone["stdout"])

    def test_no_difference(self):
        for language, code in FACTS.items():
            for cwd in ("", "/usr"):
                with self.subTest(language=language, cwd=cwd):
                    anew = self.guest.run(language, code, cwd=cwd)
                    self.prepare(language, 1)
                    waited = self.guest.run(language, code, cwd=cwd)
                    self.assertEqual(waited["stdout"], anew["stdout"])
                    self.assertEqual(waited["stderr"], anew["stderr"])

    def test_errors(self):
        for language, (code, status, error) in ERRORS.items():
            with self.subTest(language=language):
                self.prepare(language, 1)
                result = self.guest.run(language, code)
                self.assertEqual((result["reason"], result["exit_code"]), ("exited", status))
                if error:
                    self.assertLessEqual(error.items(), result["error"].items())

    def test_limits(self):
        """Set when it is taken; CPU time counts from there."""
        self.prepare("python", 2)
        result = self.guest.run("python", "while True: pass", cpu_seconds=1)
        self.assertEqual((result["reason"], result["signal"]), ("signaled", 24))
        result = self.guest.run("python", "x = bytearray(150 << 20)", memory_max_bytes=64 << 20)
        # What is over it goes to zram.
        self.assertEqual(result["memory_peak_bytes"], 64 << 20, result)

    def test_receipt(self):
        """Less than the start-up alone takes, which was seconds ago."""
        self.prepare("python", 2)
        anew = self.guest.run("python", "pass", env={"LANG": "C.UTF-8"})
        self.guest.run("python", "pass")
        waited = self.guest.run("python", "pass")
        self.assertLess(waited.get("cpu_user_us", 0) + waited.get("cpu_system_us", 0),
                        anew.get("cpu_user_us", 0) + anew.get("cpu_system_us", 0))
        self.assertLess(waited["first_ms"] or waited["exit_ms"], anew["exit_ms"])

    def test_ends(self):
        """Of Python, anew and by one that waited; what a farewell leaves is killed."""
        for code, output, status in ENDS:
            for count in (0, 1):
                with self.subTest(code=code, waited=bool(count)):
                    self.prepare("python", count)
                    result = self.guest.run("python", code)
                    self.assertEqual((result["reason"], result.get("exit_code", 0), result["stdout"]),
                                     ("exited", status, output), result)
        self.prepare("python", 0)
        listed = self.guest.run("shell", "for i in {1..50}; do ls -d /sys/fs/cgroup/user/*/ | wc -l;"
                                " sleep 0.1; done | grep -m1 -x 1")
        # Its own is the only one left.
        self.assertEqual(listed["stdout"], "1\n")


class Memory(unittest.TestCase):
    def test_drop(self):
        """The page cache goes when the host says so, and what it says of its memory adds up."""
        alone = Guest()
        self.addCleanup(alone.close)
        alone.run("shell", "find /usr/lib -type f | head -2000 | xargs cat >/dev/null")
        alone.prepare("python", 1)
        before, _ = alone.memory()
        after, took_ms = alone.memory(MEMORY_DROP)
        print(f"dropped {(before['mem_caches'] - after.get('mem_caches', 0)) >> 20} MiB in {took_ms:.0f} ms")
        self.assertGreater(before["mem_caches"], 30 << 20)
        self.assertLess(after["mem_caches"], before["mem_caches"] / 2)
        self.assertGreater(after["mem_free"], before["mem_free"] + (20 << 20))
        for memory in (before, after):
            kinds = memory["mem_free"] + memory["mem_caches"] + memory["mem_anonymous"]
            self.assertLess(kinds, memory["mem_total"])
            self.assertGreater(memory["mem_anonymous"], 0)
        # The agent has gone on with its work.
        self.assertEqual(alone.run("shell", "echo on")["stdout"], "on\n")
        # A second drop while one runs is done with it, and the answer bears its id.
        alone.run("shell", "find /usr/lib -type f | head -2000 | xargs cat >/dev/null")
        alone.socket.sendall(alone.message(MEMORY_DROP, id=1001) + alone.message(MEMORY_DROP, id=1002))
        answers = [alone.until(MEMORY)["id"]]
        while answers[-1] != 1002:
            answers.append(alone.until(MEMORY)["id"])
        self.assertNotIn(1001, answers)

    def test_first_report(self):
        """It comes right behind a program's start: who was given this VM need not wait for 2 s."""
        alone = Guest()
        self.addCleanup(alone.close)
        for _ in range(3):
            begun = alone.begin("shell", "sleep 1")
            report = alone.until(MEMORY)
            took_ms = (time.monotonic() - begun) * 1000
            print(f"the first report came {took_ms:.0f} ms behind EXEC")
            self.assertEqual(report["id"], 0)
            self.assertLess(took_ms, 1000)
            self.assertEqual(alone.end(begun)["reason"], "exited")
