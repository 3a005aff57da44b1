# SPDX-License-Identifier: Apache-2.0
"""Sessions in real VMs: what stays from one program to the next, and what does not."""

import base64
import time

from client import RpcError
from support import DaemonTest, connect, vms_seen


class Session(DaemonTest):
    def setUp(self):
        super().setUp()
        made = self.client.call("session.create", language="shell", env={"COLOR": "red"}, metadata={"test": self.id()})
        vms_seen.add(made["vm"])
        self.session = made["session"]
        self.addCleanup(self.close)

    def close(self):
        with connect() as client:
            try:
                client.call("session.close", session=self.session)
            except RpcError as error:
                self.assertEqual(error.code, 4002)

    def exec(self, command, **params):
        return self.client.call("session.exec", session=self.session, command=command, **params)

    def exec_ok(self, command, **params):
        result = self.exec(command, **params)
        self.assertEqual((result["status"], result["stderr"]), ("ok", ""), result)
        return result["stdout"]

    def test_files_stay(self):
        """Files, modes and links in the home directory and /tmp are there for the next program."""
        self.exec_ok("mkdir -p a/b && printf 'grüße' >a/b/c && chmod 600 a/b/c && ln -s a/b/c d && echo t >/tmp/t")
        self.assertEqual(self.exec_ok("cat d; stat -c ' %a' a/b/c; cat /tmp/t"), "grüße 600\nt\n")
        self.assertEqual(self.exec_ok("python3 -c 'print(open(\"d\").read()[:2])'"), "gr\n")

    def test_world(self):
        """Standard input, variables of the session and of the program, the words of argv."""
        self.assertEqual(self.exec_ok('cat; echo "$COLOR $SHAPE"', stdin="in ", env={"SHAPE": "round"}), "in red round\n")
        self.assertEqual(self.exec_ok('echo "$COLOR $SHAPE"', env={"COLOR": "blue"}), "blue \n")
        self.assertEqual(self.exec_ok('echo "$COLOR"'), "red\n")
        result = self.client.call("session.exec", session=self.session,
                                  argv=["printf", "%s|", "a b", "", "$HOME", "-n", "ü'\"\\"])
        self.assertEqual(result["stdout"], "a b||$HOME|-n|ü'\"\\|")
        result = self.client.call("session.exec", session=self.session, argv=["-no-such-program"])
        self.assertEqual((result["status"], result["exit_code"]), ("error", 127))
        sent = bytes(range(256)) * 64
        result = self.exec("cat", stdin=base64.b64encode(sent).decode(), stdin_encoding="base64")
        self.assertEqual(base64.b64decode(result["stdout"]), sent)

    def test_nothing_runs_on(self):
        """Processes of a program end with it: the next one is alone."""
        self.exec_ok("sleep 1000 & (setsid sleep 1000 &) ; echo started")
        self.assertEqual(self.exec_ok("ps -eo user,comm | grep -c '^user *sleep' || true"), "0\n")
        result = self.exec("trap '' TERM; setsid sleep 1000 & sleep 1000", timeout_seconds=0.5)
        self.assertEqual((result["status"], result["exit_code"]), ("timeout", 124))
        self.assertEqual(self.exec_ok("ps -eo user,comm | grep -c '^user *sleep' || true"), "0\n")

    def test_an_interpreter_waits(self):
        """Behind a program, however short, the next one's bash is started ahead."""
        self.exec_ok("true")
        time.sleep(3)
        self.assertGreaterEqual(int(self.exec_ok("ps -o etimes= -p $$")), 1)

    def test_outcomes_are_its_own(self):
        """What one program does of its memory, its signals and its output is not the next one's."""
        self.assertEqual(self.exec("kill -SEGV $$")["signal"], "SIGSEGV")
        result = self.exec("python3 -c 'x = bytearray(1 << 30)'")
        self.assertIn(result["status"], ("oom", "error"))
        self.assertEqual(self.exec("head -c 3000000 /dev/zero | tr '\\0' x")["stdout_bytes"], 3000000)
        result = self.exec("echo on")
        self.assertEqual((result["status"], result["stdout"], result["usage"]["oom_kills"]), ("ok", "on\n", 0))

    def test_refused(self):
        for params in ({}, {"command": "echo", "argv": ["echo"]}, {"argv": []}, {"argv": [""]}, {"code": "print(1)"},
                       {"code": "1", "command": "echo"}):
            with self.assertRaises(RpcError) as caught:
                self.client.call("session.exec", session=self.session, **params)
            self.assertEqual(caught.exception.code, -32602, params)
        with self.assertRaises(RpcError) as caught:
            self.exec(" ")
        self.assertEqual((caught.exception.code, caught.exception.data["field"]), (2001, "command"))


class Interpreter(DaemonTest):
    """The Python of a session: what it keeps, what it shows, and what is each program's own."""

    def setUp(self):
        super().setUp()
        made = self.client.call("session.create", env={"COLOR": "red"})
        vms_seen.add(made["vm"])
        self.session = made["session"]
        self.addCleanup(lambda: self.client.call("session.close", session=self.session))

    def exec(self, code, **params):
        return self.client.call("session.exec", session=self.session, code=code, **params)

    def exec_ok(self, code, **params):
        result = self.exec(code, **params)
        self.assertEqual((result["status"], result["exit_code"], result["stderr"]), ("ok", 0, ""), result)
        return result["stdout"]

    def test_keeps_what_it_defines(self):
        """Variables, imports, functions, classes; the directory; files that are open."""
        self.assertEqual(self.exec_ok("import math as m\nx = 40\ndef f(y):\n    return x + y\nclass C: pass\n"
                                      "import os\nos.mkdir('d'); os.chdir('d')\nfile = open('kept', 'w')"), "")
        self.assertEqual(self.exec_ok("x += 1\nprint(f(1), C().__class__.__module__, m.floor(2.5), os.getcwd())"),
                         "42 __main__ 2 /home/user/d\n")
        self.exec_ok("file.write('text'); file.close()")
        self.assertEqual(self.client.call("session.exec", session=self.session, command="cat d/kept")["stdout"], "text")

    def test_shows_the_last_value(self):
        """As a notebook does: the value of a last expression, but None, and no other."""
        self.assertEqual(self.exec_ok("1\n'grüße'"), "'grüße'\n")
        self.assertEqual(self.exec_ok("_ * 2"), "'grüßegrüße'\n")
        self.assertEqual(self.exec_ok("None"), "")
        self.assertEqual(self.exec_ok("y = 7"), "")
        self.assertEqual(self.exec_ok("if True:\n    8"), "")
        self.assertEqual(self.exec_ok("# nothing but a comment"), "")

    def test_exceptions(self):
        """They are told, with the lines of the program that raised, and cost nothing that was defined."""
        self.exec_ok("x = 1\ndef fail():\n    raise ValueError('no\\x00pe')")
        result = self.exec("y = 2\nfail()")
        self.assertEqual((result["status"], result["exit_code"]), ("error", 1))
        self.assertEqual((result["error"]["name"], result["error"]["value"]), ("ValueError", "no\\x00pe"))
        self.assertIn("    raise ValueError", result["stderr"])
        self.assertIn("    fail()", result["stderr"])
        self.assertNotIn("resident.py", result["stderr"])
        self.assertEqual(self.exec_ok("x, y"), "(1, 2)\n")
        result = self.exec("x = (1")
        self.assertEqual((result["status"], result["error"]["name"]), ("error", "SyntaxError"))
        for code, status in (("import sys; sys.exit(3)", 3), ("raise SystemExit", 0), ("sys.exit('words')", 1),
                             ("raise KeyboardInterrupt", 130)):
            self.assertEqual(self.exec(code)["exit_code"], status, code)
        result = self.exec("def deep(n):\n    return deep(n + 1)\ndeep(0)")
        self.assertEqual(result["error"]["name"], "RecursionError")
        self.assertEqual(self.exec_ok("x"), "1\n")

    def test_streams_are_each_programs_own(self):
        """Input of one program is not left to the next; output behind its end is nobody's."""
        self.assertEqual(self.exec_ok("import sys\nsys.stdin.readline()", stdin="a\nb\n"), "'a\\n'\n")
        self.assertEqual(self.exec_ok("sys.stdin.read()", stdin="c"), "'c'\n")
        self.assertEqual(self.exec_ok("sys.stdin.read()"), "''\n")
        self.exec_ok("import threading, time\n"
                     "def late():\n    time.sleep(0.3)\n    print('late', flush=True)\n"
                     "threading.Thread(target=late).start()")
        self.assertEqual(self.exec_ok("time.sleep(0.1)\n1"), "1\n")
        self.exec_ok("time.sleep(0.5)")
        self.exec_ok("sys.stdout.close()")
        self.assertEqual(self.exec_ok("2"), "2\n")
        result = self.exec("import logging\nlogging.warning('told')")
        self.assertEqual(result["stderr"], "WARNING:root:told\n")
        self.assertEqual(self.exec("logging.warning('again')")["stderr"], "WARNING:root:again\n")

    def test_variables(self):
        """The session's, and the program's own on top, which go with it."""
        self.assertEqual(self.exec_ok("import os\nos.environ['COLOR'], os.environ.get('SHAPE')", env={"SHAPE": "round"}),
                         "('red', 'round')\n")
        self.assertEqual(self.exec_ok("os.environ.get('SHAPE')"), "")
        self.exec_ok("os.environ['SET'] = '1'")
        self.assertEqual(self.exec_ok("os.environ['SET']"), "'1'\n")

    def test_a_fresh_one(self):
        """An interpreter that ends or is ended is followed by a fresh one; files stay."""
        for code, params, status in (("import os\nos._exit(5)", {}, ("error", 5)),
                                     ("import os\nos.kill(os.getpid(), 9)", {}, ("signal", 137)),
                                     ("while True: pass", {"timeout_seconds": 0.5}, ("timeout", 124)),
                                     ("x = [bytearray(1 << 20) for _ in range(4000)]", {}, ("oom", 137))):
            self.exec_ok("x = 1\nopen('kept', 'w').close()")
            result = self.exec(code, **params)
            # Python may be told of it in time to raise MemoryError.
            if result["error"] and result["error"]["name"] == "MemoryError":
                continue
            self.assertEqual((result["status"], result["exit_code"]), status, code)
            self.assertEqual(self.exec_ok("'x' in globals()"), "False\n", code)
            self.assertEqual(self.exec_ok("import os\nos.path.exists('kept')"), "True\n")

    def test_children_do_not_answer(self):
        """fork, multiprocessing, background processes: a child neither answers for its parent nor reaches its channel."""
        self.assertEqual(self.exec_ok("import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nx = pid > 0\nx"),
                         "False\nTrue\n")
        self.assertEqual(self.exec_ok("x"), "True\n")
        self.assertEqual(self.exec_ok("import multiprocessing\ndef double(n):\n    return 2 * n\n"
                                      "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
                                      "    print(pool.map(double, range(4)))"), "[0, 2, 4, 6]\n")
        self.exec_ok("import subprocess\nsleeper = subprocess.Popen(['sleep', '1000'])")
        self.assertEqual(self.exec_ok("sleeper.poll()"), "")
        self.assertEqual(self.exec_ok("print(subprocess.check_output(['ls', '/proc/self/fd'], text=True).split())"),
                         "['0', '1', '2', '3']\n")
        pid = int(self.exec_ok("os.getpid()"))
        look = f"ls /proc/{pid}/fd; exec 3</proc/{pid}/fd/0; ls /proc/$$/fd >/dev/null && echo mine"
        result = self.client.call("session.exec", session=self.session, command=look)
        self.assertEqual((result["stdout"], result["stderr"].count(f"/proc/{pid}/fd")), ("mine\n", 2), result)

    def test_order_with_commands(self):
        requests = [self.client.request("session.exec", session=self.session, **program) for program in (
            {"code": "open('f', 'w').write('1')"}, {"command": "printf 2 >>f"}, {"code": "open('f').read()"})]
        self.assertEqual([self.client.wait(request)["stdout"] for request in requests], ["1\n", "", "'12'\n"])

    def test_receipt(self):
        """Of each program what it has used itself."""
        self.exec_ok("sum(i * i for i in range(1_000_000))")
        result = self.exec("1")
        self.assertLess(result["usage"]["cpu_user_ms"], 200)
        self.assertEqual((result["stdout_bytes"], result["language"]), (2, "python"))
        result = self.exec("print('x' * 3_000_000)")
        self.assertEqual((result["stdout_bytes"], result["stdout_truncated"]), (3_000_001, True))
