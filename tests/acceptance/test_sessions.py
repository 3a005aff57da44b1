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
        self.assertEqual(self.exec_ok('echo "$#|$1|$2"', args=["a b", "ü"]), "2|a b|ü\n")
        sent = bytes(range(256)) * 64
        result = self.exec("cat", stdin=base64.b64encode(sent).decode(), stdin_encoding="base64")
        self.assertEqual(base64.b64decode(result["stdout"]), sent)

    def test_directory(self):
        """cwd is where a command or argv starts, absolute or from the home; what cannot be entered fails the program."""
        self.exec_ok("mkdir -p 'a b/ü' closed; echo 'pwd' >'a b/here'; chmod +x 'a b/here'; chmod 0 closed; touch file")
        for cwd, where in (("/usr", "/usr"), ("a b/ü", "/home/user/a b/ü"), ("..", "/home"), ("/tmp/", "/tmp"), (".", "/home/user")):
            self.assertEqual(self.exec_ok("pwd", cwd=cwd), where + "\n")
        result = self.client.call("session.exec", session=self.session, argv=["./here"], cwd="a b")
        self.assertEqual((result["stdout"], result["stderr"]), ("/home/user/a b\n", ""))
        for cwd, why in (("none", "No such file or directory"), ("file", "Not a directory"),
                         ("closed", "Permission denied"), ("x" * 300, "File name too long"), ("x/" * 2047, "No such file or directory")):
            result = self.exec("echo never", cwd=cwd)
            self.assertEqual((result["status"], result["exit_code"], result["stdout"]), ("error", 127, ""), result)
            self.assertEqual(result["stderr"], f"execsandbox: cannot enter the working directory '{cwd}': {why}\n")
        self.assertEqual(self.exec_ok("pwd"), "/home/user\n")

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
        for params in ({}, {"command": "echo", "argv": ["echo"]}, {"argv": []}, {"argv": [""]},
                       {"argv": ["echo"], "args": ["x"]}, {"command": "echo", "cwd": ""}, {"command": "echo", "cwd": "x" * 4096},
                       {"code": "1", "command": "echo"}):
            with self.assertRaises(RpcError) as caught:
                self.client.call("session.exec", session=self.session, **params)
            self.assertEqual(caught.exception.code, -32602, params)
        with self.assertRaises(RpcError) as caught:
            self.exec(" ")
        self.assertEqual((caught.exception.code, caught.exception.data["field"]), (2001, "command"))


class CodeTest(DaemonTest):
    """A session of `language`, and code for its interpreter."""

    language = None

    def setUp(self):
        super().setUp()
        made = self.client.call("session.create", language=self.language, env={"COLOR": "red"})
        vms_seen.add(made["vm"])
        self.session = made["session"]
        self.addCleanup(lambda: self.client.call("session.close", session=self.session))

    def exec(self, code, **params):
        return self.client.call("session.exec", session=self.session, code=code, **params)

    def exec_ok(self, code, **params):
        result = self.exec(code, **params)
        self.assertEqual((result["status"], result["exit_code"], result["stderr"]), ("ok", 0, ""), result)
        return result["stdout"]


class Interpreter(CodeTest):
    """The Python of a session: what it keeps, what it shows, and what is each program's own."""

    language = "python"

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
        self.exec_ok("os.environ.update(SET='1', COLOR='blue')")
        self.assertEqual(self.exec_ok("os.environ['SET'] + os.environ['COLOR']"), "'1blue'\n")

    def test_hog_left_behind(self):
        """What code has left running and takes all memory is ended, not the program that comes then."""
        self.exec_ok("import subprocess, sys\nhog = 'import os; x = []\\nwhile True: x.append(os.urandom(1 << 20))'\n"
                     "process = subprocess.Popen([sys.executable, '-c', hog])")
        result = self.client.call("session.exec", session=self.session, timeout_seconds=100,
                                  command="while pgrep -f urandom.1 >/dev/null; do sleep 0.3; done; echo alive")
        self.assertEqual((result["status"], result["stdout"]), ("ok", "alive\n"), result)
        self.exec_ok("1")

    def test_arguments_and_directory(self):
        """Arguments are a program's own, unless it sets them; the directory is the code's to change."""
        self.assertEqual(self.exec_ok("import sys\nsys.argv", args=["a b", "", "ü"]), "['', 'a b', '', 'ü']\n")
        self.assertEqual(self.exec_ok("sys.argv"), "['']\n")
        self.exec_ok("sys.argv = ['mine']", args=["x"])
        self.assertEqual(self.exec_ok("sys.argv"), "['mine']\n")
        self.exec_ok("del sys.argv")
        self.assertEqual(self.exec_ok("sys.argv", args=["x"]), "['', 'x']\n")
        error = self.assert_error(-32602, "INVALID_PARAMS", "session.exec", session=self.session, code="1", cwd="/tmp")
        self.assertEqual(error.data["field"], "cwd")
        self.assertIn("os.chdir()", error.data["hint"])

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


class JavaScript(CodeTest):
    """The JavaScript of a session: the same, and what is peculiar to it."""

    language = "javascript"

    def assert_fails(self, code, name, *expected):
        result = self.exec(code)
        self.assertEqual((result["status"], result["exit_code"], result["error"] and result["error"]["name"]), ("error", 1, name), result)
        for text in expected:
            self.assertIn(text, result["stderr"])
        self.assertNotIn("/execsandbox/", result["stderr"])

    def test_keeps_what_it_defines(self):
        """Declarations of all kinds, which may come again; the directory; what modules are known by."""
        self.exec_ok("const x = 40; let [y, {z}] = [1, {z: 1}]\nfunction f() { return g() }\nfunction g() { return x + y }\nclass C {}\n"
                     "import fs, {readFileSync as read} from 'node:fs'\nfs.mkdirSync('d'); process.chdir('d')\nif (x) var inner = 5")
        self.assertEqual(self.exec_ok("console.log(f() + z, inner, new C().constructor.name, typeof read, process.cwd())"),
                         "42 5 C function /home/user/d\n")
        self.exec_ok("const x = 1; function g() { return x + 1 }; class C { n = x }")
        self.assertEqual(self.exec_ok("[f(), new C().n]"), "[ 2, 1 ]\n")
        self.exec_ok("fs.writeFileSync('m.ts', 'export const one: number = 1; export type T = string; export default 7')")
        self.assertEqual(self.exec_ok("import seven, { one, T } from './m.ts'\nimport * as m from './m'\n"
                                      "[seven, one, m.one, require('./m').one, (await import('./m.ts')).default, import.meta.dir, __dirname]"),
                         '[ 7, 1, 1, 1, 7, "/home/user/d", "/home/user/d" ]\n')
        self.assertEqual(self.exec_ok("const late = await new Promise(r => setTimeout(r, 20, 'late')), crypto = require('crypto')"), "")
        self.assertEqual(self.exec_ok("late + crypto.createHash('md5').update('').digest('hex').slice(0, 4)"), '"lated41d"\n')
        self.assertEqual(self.exec_ok("export const e = 1; export default function named() { return e }"), "")
        self.assertEqual(self.exec_ok("named()"), "1\n")
        # What programs may put in the place of what runs them.
        self.exec_ok("class Map {}; const Promise = 1, Object = 2, process = 3, setImmediate = 4")
        self.assertEqual(self.exec_ok("let last: number = process; last"), "3\n")

    def test_directory_that_is_gone(self):
        """A working directory that was removed costs nothing that was defined."""
        self.exec_ok("let kept = 1; const fs = require('fs'); fs.mkdirSync('gone'); process.chdir('gone'); fs.rmdirSync('../gone')")
        self.assertEqual(self.exec_ok("kept"), "1\n")
        self.exec_ok("process.chdir('/home/user'); import os from 'os'")
        self.assertEqual(self.exec_ok("__dirname"), '"/home/user"\n')

    def test_shows_the_last_value(self):
        """As a notebook does: the value of a last expression, also of a promise, but undefined; and no other."""
        for code, shown in (("1\n'grüße'", '"grüße"\n'), ("_ + _", '"grüßegrüße"\n'), ("undefined", ""), ("let v = 7", ""), ("null", "null\n"),
                            ("if (true) { 8 }", ""), ("// a comment", ""), ("v; // one", "7\n"), ("v;;", "7\n"), ("await v", "7\n"),
                            ("(async () => ({ a: [v] }))()", "{\n  a: [ 7 ],\n}\n"),
                            ("async function main() { await 1; console.log('main') }\nmain()", "main\n"),
                            ("const _ = 3", ""), ("5", "5\n"), ("_", "3\n")):
            self.assertEqual(self.exec_ok(code), shown, code)

    def test_typescript(self):
        """Types of all kinds, and the lines of the program in spite of them."""
        self.exec_ok("interface P { x: number }\nenum Color { Red, Green = 'g' }\nimport type { Q } from './no'\nfunction id<T>(v: T): T { return v }\n"
                     "abstract class A<T> { constructor(public v: T) {} }\nclass B extends A<number> {}\nconst p: P = { x: id<number>(3) }")
        self.assertEqual(self.exec_ok("[p.x!, Color.Green, Color.Red as number, new B(4).v, id<string>('s')] satisfies unknown[]"),
                         '[ 3, "g", 0, 4, "s" ]\n')
        self.assert_fails("type Name = string\n\ninterface Named {\n  name: Name\n}\n\nfunction greet(named: Named): never {\n"
                          "  throw new RangeError(named.name)\n}\n\ngreet({ name: 'x' })", "RangeError", "8 |   throw", ":8:", ":11:")
        self.assert_fails("let a: number = 1\nlet b: = 2", "SyntaxError", "2 | let b: = 2")

    def test_exceptions(self):
        """They are told, with the lines of the program that raised, and cost nothing that was defined."""
        self.exec_ok("let kept = 1\nfunction fail(text: string) {\n  throw new TypeError(text)\n}")
        result = self.exec("let y = 2\nfail('no\\0pe')")
        self.assertEqual((result["error"]["name"], result["error"]["value"]), ("TypeError", "no\\x00pe"))
        self.assertIn("3 |   throw new TypeError(text)\n", result["stderr"])
        self.assertIn("<program 2>:2:", result["error"]["traceback"])
        for code, name, expected in (("x = (1", "SyntaxError", "1 | x = (1"), ("await 1\nfail('after')", "TypeError", "TypeError: after"),
                                     ("Promise.reject(new RangeError('nobody')); 1", "RangeError", "nobody"),
                                     ("setTimeout(fail, 5, 'timer'); await new Promise(() => {})", "TypeError", "timer"),
                                     ("throw { a: 1 }", "Object", "a: 1"), ("import './none'", "ResolveMessage", "./none"),
                                     ("import { none } from 'node:fs'; none", "SyntaxError", "none"), ("return 1", "SyntaxError", "return"),
                                     ("function deep() { deep() }\ndeep()", "RangeError", "1 | function deep")):
            self.assert_fails(code, name, expected)
        for code, status in (("process.exit(3)", 3), ("try { process.exit(4) } finally { console.log('unsaid') }", 4), ("process.exit()", 0),
                             ("setTimeout(() => process.exit(5), 5); await new Promise(() => {})", 5), ("process.exitCode = 6; 1", 6),
                             ("Promise.resolve().then(() => process.exit(7)).catch(() => process.exit(1)); await Bun.sleep(100)", 7)):
            result = self.exec(code)
            self.assertEqual((result["exit_code"], result["error"], result["stderr"]), (status, None, ""), code)
            self.assertNotIn("unsaid", result["stdout"])
        self.exec_ok("setTimeout(() => { throw new Error('told to nobody') }, 5)\n1")
        self.assertEqual(self.exec_ok("[kept, y]"), "[ 1, 2 ]\n")

    def test_streams_are_each_programs_own(self):
        """Input of one program is not left to the next, all output is there at the end, and behind it is nobody's."""
        read = "import { createInterface } from 'node:readline'\nfor await (const line of createInterface({ input: process.stdin })) console.log(line)"
        for code in (read, "for await (const line of console) console.log(line)", "console.log(await Bun.stdin.text())",
                     "console.log(require('fs').readFileSync(0, 'utf8'))",
                     "console.log(require('fs').readFileSync('/dev/stdin', 'utf8'))", "console.log(prompt('?').slice(2) + 'a\\nb')"):
            for given in ("a\nb\nc", "a\nb\nd"):
                said = self.exec_ok(code, stdin=given)
                self.assertTrue(said.startswith(("a\nb", "? a\nb")), (code, said))
        self.assertEqual(self.exec_ok("let text = ''; for await (const part of process.stdin) text += part\ntext"), '""\n')
        result = self.exec("console.log('x'.repeat(500_000)); process.stdout.write('y'.repeat(500_000)); process.stdout.end('z'); 0")
        self.assertEqual((len(result["stdout"]), result["stdout"][-4:]), (1_000_004, "yz0\n"))
        self.assertEqual(self.exec("console.log('x'.repeat(3_000_000))")["stdout_bytes"], 3_000_001)
        result = self.exec("console.log(1); process.stdout.write('2'); console.error('e'); process.stderr.write('f'); 3")
        self.assertEqual((result["stdout"], result["stderr"]), ("1\n23\n", "e\nf"))
        self.exec_ok("setTimeout(() => console.log('late'), 300); const tick = setInterval(() => ticks++, 10); let ticks = 0")
        self.assertEqual(self.exec_ok("2"), "2\n")
        self.assertIn(self.exec_ok("await Bun.sleep(600); clearInterval(tick); ticks > 5"), ("late\ntrue\n", "true\n"))

    def test_variables_and_processes(self):
        """Variables of the session and of the program; what it starts has them, and does not reach its channel."""
        self.assertEqual(self.exec_ok("[process.env.COLOR, process.env.SHAPE]", env={"SHAPE": "round"}), '[ "red", "round" ]\n')
        self.assertEqual(self.exec_ok("process.argv.slice(2)", args=["a b", "ü"]), '[ "a b", "ü" ]\n')
        self.assertEqual(self.exec_ok("process.argv.slice(1)"), '[ "/home/user/main.ts" ]\n')
        self.exec_ok("process.env.SET = '1'; const { execSync, spawn, spawnSync } = require('child_process')")
        self.assertEqual(self.exec_ok("[process.env.SHAPE, process.env.SET, execSync('echo $COLOR $SET $SHAPE').toString(), "
                                      "Bun.spawnSync(['sh', '-c', 'echo $SET']).stdout.toString()]", env={"SHAPE": "flat"}),
                         '[ "flat", "1", "red 1 flat\\n", "1\\n" ]\n')
        self.assertEqual(self.exec_ok("const sleeper = spawn('sleep', ['1000']); spawnSync('cat', { stdio: 'inherit' }).status", stdin="through "),
                         "through 0\n")
        self.assertEqual(self.exec_ok("sleeper.exitCode"), "null\n")
        self.assertEqual(self.exec_ok("execSync('ls /proc/self/fd').toString().split('\\n').length"), "5\n")
        self.assertEqual(self.exec_ok("await new Promise(r => new (require('worker_threads').Worker)("
                                      "'require(\"worker_threads\").parentPort.postMessage(6)', { eval: true }).on('message', r))"), "6\n")
        pid = int(self.exec_ok("process.pid"))
        look = f"ls /proc/{pid}/fd; exec 3</proc/{pid}/fd/0; ls /proc/$$/fd >/dev/null && echo mine"
        result = self.client.call("session.exec", session=self.session, command=look)
        self.assertEqual((result["stdout"], result["stderr"].count(f"/proc/{pid}/fd")), ("mine\n", 2), result)

    def test_a_fresh_one(self):
        """An interpreter that ends or is ended is followed by a fresh one; files stay."""
        for code, params, status in (("process.reallyExit(5)", {}, ("error", 5)),
                                     ("while (true);", {"timeout_seconds": 0.5}, ("timeout", 124)),
                                     ("const all = []; while (true) all.push(Buffer.alloc(1 << 20, 1))", {}, ("oom", 137))):
            self.exec_ok("var x = 1; require('fs').writeFileSync('kept', ''); 0")
            result = self.exec(code, **params)
            self.assertEqual((result["status"], result["exit_code"]), status, code)
            self.assertEqual(self.exec_ok("['x' in globalThis, require('fs').existsSync('kept')]"), "[ false, true ]\n", code)
        result = self.exec("const until = performance.now() + 1000; while (performance.now() < until);")
        self.assertEqual((result["language"], result["status"]), ("javascript", "ok"))
        self.assertLess(min(self.exec("1")["usage"]["cpu_user_ms"] for _ in range(3)), result["usage"]["cpu_user_ms"])


class ResidentShell(CodeTest):
    """The shell of a session. What it keeps and how programs end is tests/unit/test_agent_shell.c's."""

    language = "shell"

    def test_a_session(self):
        """What stays, what is each program's own, and that nobody comes to the channel."""
        self.exec_ok("x=5; f() { echo \"f $x $1\"; }; alias a='echo alias'; mkdir d; cd d; set -o pipefail\n"
                     "export COLOR=${COLOR}dish SHAPE=round; sleep 1000 & job=$!")
        self.assertEqual(self.exec_ok("f 1; a 2; pwd; printenv COLOR; jobs -r | wc -l; kill $job"),
                         "f 5 1\nalias 2\n/home/user/d\nreddish\n1\n")
        self.assertEqual(self.exec_ok("read a; cat; printenv SHAPE", stdin="1\ngrüße\n", env={"SHAPE": "flat"}), "grüße\nflat\n")
        self.assertEqual(self.exec_ok("cat; echo $SHAPE $COLOR"), "round reddish\n")
        result = self.exec("echo in; exit 7")
        self.assertEqual((result["status"], result["exit_code"], result["stdout"], result["language"]),
                         ("error", 7, "in\n", "shell"))
        result = self.exec("if true; then")
        self.assertEqual((result["status"], result["exit_code"], result["error"]), ("error", 2, None))
        self.assertIn("bash: line 2: syntax error", result["stderr"])
        self.assertEqual(self.exec_ok("echo $? $x; set -e; trap 'echo end' EXIT"), "2 5\nend\n")
        self.assertEqual(self.exec("false; echo no")["exit_code"], 1)
        self.assertEqual(self.exec_ok("set +e\r\nread y < <(echo sub)\r\necho $y $(echo a | cat) >/dev/stdout\r\n"), "sub a\n")
        # The channel: of a program that is started, a subshell, a command of the session.
        pid = int(self.exec_ok("echo $$"))
        self.assertEqual(self.exec_ok("ls /proc/self/fd; (ls /proc/$BASHPID/fd)").split(), ["0", "1", "2", "3"] * 2)
        result = self.exec("ls /proc/$$/fd; (echo >&101) || echo none")
        self.assertEqual((result["exit_code"], result["stdout"]), (0, "none\n"), result)
        result = self.client.call("session.exec", session=self.session, command=f"ls /proc/{pid}/fd; kill -0 {pid} && cat d/*")
        self.assertIn(f"/proc/{pid}/fd", result["stderr"])
        self.assertEqual(self.exec_ok("wc -c <<'end'\n" + "x" * 900_000 + "\nend"), "900001\n")
        with self.assertRaises(RpcError) as caught:
            self.exec("echo \0")
        self.assertEqual(caught.exception.code, 2001)
        result = self.exec("yes | head -c 3000000")
        self.assertEqual((result["stdout_bytes"], result["stdout_truncated"]), (3_000_000, True))
        self.assertLess(self.exec(":")["usage"]["cpu_user_ms"], 200)

    def test_a_fresh_one(self):
        """A shell that ends or is ended is followed by a fresh one; files stay, and the session's variables."""
        for code, params, status in (("kill -9 $$", {}, ("signal", 137)), ("exec sh -c 'exit 6'", {}, ("error", 6)),
                                     ("while :; do :; done", {"timeout_seconds": 0.5}, ("timeout", 124))):
            self.exec_ok("x=1 COLOR=blue; sleep 1000 & : >kept")
            result = self.exec(code, **params)
            self.assertEqual((result["status"], result["exit_code"]), status, code)
            self.assertEqual(self.exec("echo [$x] $COLOR; ls kept; ps -e | grep sleep")["stdout"], "[] red\nkept\n", code)
        self.exec_ok("x=1")
        result = self.exec("a=$(tail /dev/zero)", timeout_seconds=60)
        self.assertEqual((result["status"], self.exec_ok("echo [$x]")), ("oom", "[]\n"), result)
