# SPDX-License-Identifier: Apache-2.0
"""What a program gets and gives: languages, output, exit codes, signals, limits, its own world."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile

from support import DaemonTest, connect

MIB = 1 << 20


class Python(DaemonTest):
    def test_monstrous_exception(self):
        """An exception whose text cannot be reported costs the report, not the outcome."""
        result = self.run_code('print("out", flush=True)\nraise ValueError("\\x01" * 40000)')
        self.assertEqual((result["status"], result["exit_code"]), ("error", 1))
        self.assertEqual((result["stdout"], result["error"]), ("out\n", None))
        self.assertGreater(result["stderr_bytes"], 40000)

    def test_world(self):
        """argv, stdin, env, cwd, __main__, unicode, both outputs, the exit code, the receipt."""
        result = self.run_code(
            """
import json, os, sys
print(json.dumps({
    "argv": sys.argv, "stdin": sys.stdin.read(), "cwd": os.getcwd(), "name": __name__,
    "file": __file__, "env": dict(os.environ), "path0": sys.path[0],
    "encoding": [sys.stdout.encoding, sys.getfilesystemencoding()],
    "modules": [name for name in sys.modules if "execsandbox" in name],
}))
print("grüße 日本 🎉", file=sys.stderr)
sys.exit(3)
""",
            args=["", "a b", "ü", "--flag"], stdin="line\nzeile ü\n",
            env={"MODE": "fast", "EMPTY": "", "TZ": "Europe/Berlin"},
        )
        self.assertEqual(
            (result["status"], result["exit_code"], result["signal"]), ("error", 3, None)
        )
        out = json.loads(result["stdout"])
        self.assertEqual(out["argv"], [out["file"], "", "a b", "ü", "--flag"])
        self.assertEqual(out["stdin"], "line\nzeile ü\n")
        self.assertEqual(out["cwd"], "/home/user")
        self.assertEqual(out["name"], "__main__")
        self.assertEqual(out["file"], "/home/user/main.py")
        self.assertEqual(out["path0"], "/home/user")
        self.assertEqual(out["encoding"], ["utf-8", "utf-8"])
        env = out["env"]
        self.assertEqual((env["MODE"], env["EMPTY"], env["TZ"]), ("fast", "", "Europe/Berlin"))
        self.assertEqual((env["HOME"], env["USER"]), ("/home/user", "user"))
        self.assertNotIn("PYTHONPATH", env)
        self.assertEqual([name for name in env if "EXECSANDBOX" in name], [])
        self.assertEqual(result["stderr"], "grüße 日本 🎉\n")
        self.assertIsNone(result["error"])  # sys.exit is no uncaught exception
        self.assertEqual(result["stdout_bytes"], len(result["stdout"].encode()))
        self.assertEqual(result["stderr_bytes"], len(result["stderr"].encode()))
        self.assertFalse(result["stdout_truncated"] or result["stderr_truncated"])
        self.assertEqual((result["language"], result["files"]), ("python", []))
        self.assertIn(result["start"], ("boot", "clone", "warm"))
        timing = result["timing"]
        self.assertGreaterEqual(
            timing["total_ms"] + 1,
            timing["queue_ms"] + timing["start_ms"] + timing["execute_ms"],
        )
        usage = result["usage"]
        self.assertGreater(usage["cpu_user_ms"] + usage["cpu_system_ms"], 0)
        self.assertGreater(usage["memory_peak_bytes"], MIB)
        self.assertEqual(usage["oom_kills"], 0)

    def as_python_prints(self, code):
        """stderr and exit status of this host's python3 with `code` in /home/user/main.py."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "main.py")
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(code)
            done = subprocess.run(
                [sys.executable, path], capture_output=True, text=True, cwd=directory,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, check=False,
            )
            return done.stderr.replace(directory, "/home/user"), done.returncode

    def check_traceback(self, code, name, value=None):
        """`value` None: what the last line of the traceback says, in line 2."""
        expected, status = self.as_python_prints(code)
        if value is None:
            value = expected.splitlines()[-1].partition(": ")[2] + " (main.py, line 2)"
        result = self.run_code(code)
        self.assertEqual(result["stderr"], expected)
        self.assertEqual((result["status"], result["exit_code"]), ("error", status))
        self.assertEqual(result["error"]["name"], name)
        self.assertEqual(result["error"]["value"], value)
        self.assertEqual(result["error"]["traceback"], expected)

    def test_traceback(self):
        """A chained, uncaught exception: stderr exactly as python3 prints it, and `error`."""
        self.check_traceback(
            """class Trouble(Exception):
    pass


def inner(number):
    return 1 / number


def outer():
    try:
        inner(0)
    except ZeroDivisionError as error:
        raise Trouble("Ärger\\nzweite Zeile") from error


outer()
""",
            "Trouble", "Ärger\nzweite Zeile",
        )

    def test_syntax_error(self):
        """A syntax error: caret and all, as python3 prints it."""
        self.check_traceback("print('never')\nif True print(1)\n", "SyntaxError")

    def test_exit_message(self):
        """sys.exit with a text: on stderr, exit code 1, no exception."""
        result = self.run_code("import sys\nsys.exit('bad luck')\n")
        self.assertEqual((result["stderr"], result["exit_code"]), ("bad luck\n", 1))
        self.assertEqual((result["status"], result["error"]), ("error", None))

    def test_main_module(self):
        """__main__ is a real file: pickling, inspect and multiprocessing work."""
        self.assertEqual(
            self.run_ok(
                """
import inspect, multiprocessing, pickle

class Point:
    def __init__(self, x):
        self.x = x

def double(x):
    return 2 * x

if __name__ == "__main__":
    print(pickle.loads(pickle.dumps(Point(7))).x)
    print(inspect.getsource(double).strip().splitlines()[1].strip())
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(pool.map(double, [1, 2, 3]))
"""
            ),
            "7\nreturn 2 * x\n[2, 4, 6]\n[2, 4, 6]\n",
        )

    def test_largest_input(self):
        """1 MiB of code and 4 MiB of stdin arrive whole."""
        code = (
            "import hashlib, sys\n"
            "data = sys.stdin.buffer.read()\n"
            "print(len(data), hashlib.sha256(data).hexdigest())\n"
            "print(len(open(__file__, 'rb').read()), end=' ')\n#"
        )
        code += "x" * (MIB - len(code))
        data = os.urandom(4 * MIB)
        out = self.run_ok(code, stdin=base64.b64encode(data).decode(), stdin_encoding="base64")
        self.assertEqual(out, f"{4 * MIB} {hashlib.sha256(data).hexdigest()}\n{MIB} ")


class JavaScript(DaemonTest):
    def test_world(self):
        """argv, stdin, env, cwd, unicode, both outputs, the exit code; timers and await."""
        result = self.run_code(
            """
const input = require("fs").readFileSync(0, "utf8");
console.log(JSON.stringify({
  argv: process.argv.slice(2), input, cwd: process.cwd(), mode: process.env.MODE,
  leaks: Object.keys(process.env).filter((name) => name.includes("EXECSANDBOX")),
}));
setTimeout(() => {
  console.error("grüße 🎉");
  process.exit(5);
}, 10);
""",
            "javascript", args=["a b", "ü"], stdin="eins\n", env={"MODE": "fast"},
        )
        self.assertEqual((result["status"], result["exit_code"]), ("error", 5), result)
        self.assertEqual(
            json.loads(result["stdout"]),
            {
                "argv": ["a b", "ü"], "input": "eins\n", "cwd": "/home/user", "mode": "fast",
                "leaks": [],
            },
        )
        self.assertEqual(result["stderr"], "grüße 🎉\n")
        self.assertIsNone(result["error"])

    def test_rejected_promise(self):
        """An async function that throws: printed as Bun prints it, and reported in `error`."""
        result = self.run_code(
            "async function f() { throw new RangeError('too far') }\nf()\n"
            "setTimeout(() => console.log('never'), 50)\n",
            "javascript",
        )
        self.assertEqual((result["status"], result["exit_code"], result["stdout"]), ("error", 1, ""))
        self.assertIn("RangeError: too far", result["stderr"])
        self.assertRegex(result["stderr"], r"\n\nBun v\S+ \(Linux x64\)\n$")
        self.assertEqual(
            (result["error"]["name"], result["error"]["value"]), ("RangeError", "too far")
        )

    def test_exception(self):
        """An uncaught exception: exit code 1, its message on stderr, name and value in `error`."""
        result = self.run_code(
            'function f() { throw new TypeError("kaputt"); }\nf();\n', "javascript"
        )
        self.assertEqual((result["status"], result["exit_code"]), ("error", 1), result)
        self.assertIn("kaputt", result["stderr"])
        self.assertEqual(result["error"]["name"], "TypeError")
        self.assertEqual(result["error"]["value"], "kaputt")
        self.assertIn("main.ts", result["error"]["traceback"])

    def test_typescript(self):
        """TypeScript is accepted: types, enums, imports and top-level await."""
        self.assertEqual(
            self.run_ok(
                """
import { createHash } from "node:crypto";
enum Colour { Red = 1, Green }
interface Point { x: number; colour?: Colour }
const double = <T extends Point>(point: T): number => point.x * 2;
const waited: string = await Promise.resolve("waited");
console.log(double({ x: 21, colour: Colour.Green } as Point), Colour[2], waited);
console.log(createHash("sha256").update("x").digest("hex").slice(0, 8));
""",
                "javascript",
            ),
            "42 Green waited\n" + hashlib.sha256(b"x").hexdigest()[:8] + "\n",
        )


class Shell(DaemonTest):
    def test_world(self):
        """bash with arguments, stdin, env, pipes, both outputs and the exit code."""
        result = self.run_code(
            'echo "$# $1|$2 $MODE $PWD $BASH_VERSINFO" | tr a-z A-Z\n'
            'read -r line </dev/stdin; echo "$line"\nls /nonexistent\necho told >/dev/stderr\nexit 7\n',
            "shell", args=["a b", "ü"], stdin="grüße\n", env={"MODE": "fast"},
        )
        self.assertEqual((result["status"], result["exit_code"]), ("error", 7), result)
        self.assertEqual(result["stdout"], "2 A B|ü FAST /HOME/USER 5\ngrüße\n")
        self.assertRegex(result["stderr"], "/nonexistent.*\ntold\n")
        self.assertIsNone(result["error"])


class Output(DaemonTest):
    def test_binary(self):
        """Bytes that are not UTF-8 come as base64, stream by stream."""
        result = self.run_code(
            "import sys\nsys.stdout.buffer.write(bytes(range(256)))\n"
            "sys.stderr.write('text\\0ü')\n"
        )
        self.assertEqual(result["stdout_encoding"], "base64")
        self.assertEqual(base64.b64decode(result["stdout"]), bytes(range(256)))
        self.assertEqual(result["stdout_bytes"], 256)
        self.assertEqual(result.get("stderr_encoding", "utf-8"), "utf-8")
        self.assertEqual(result["stderr"], "text\0ü")

    def test_default_limit(self):
        """3 MiB of output: 1 MiB kept, all counted, truncation said, the run not disturbed."""
        result = self.run_code(
            "import sys\nfor i in range(3):\n    sys.stdout.write('x' * (1 << 20))\n"
            "sys.stderr.write('done')\n"
        )
        self.assertEqual((result["status"], result["stderr"]), ("ok", "done"))
        self.assertEqual(result["stdout"], "x" * MIB)
        self.assertTrue(result["stdout_truncated"])
        self.assertFalse(result["stderr_truncated"])
        self.assertEqual((result["stdout_bytes"], result["stderr_bytes"]), (3 * MIB, 4))

    def test_asked_limits(self):
        """limits.stdout_bytes and stderr_bytes cut each stream by itself, counting on."""
        result = self.run_code(
            "import sys\nsys.stdout.write('o' * 5000)\nsys.stderr.write('e' * 300)\n",
            limits={"stdout_bytes": 1000, "stderr_bytes": 0},
        )
        self.assertEqual(result["status"], "ok")
        self.assertEqual((result["stdout"], result["stderr"]), ("o" * 1000, ""))
        self.assertEqual((result["stdout_bytes"], result["stderr_bytes"]), (5000, 300))
        self.assertTrue(result["stdout_truncated"] and result["stderr_truncated"])

    def test_stop_at_limit(self):
        """limits.on_output "stop" ends the run where the output is full."""
        result = self.run_code(
            "while true; do echo 0123456789; done", "shell",
            limits={"stdout_bytes": 1000, "on_output": "stop"}, timeout_seconds=20,
        )
        self.assertEqual(result["status"], "output_limit", result)
        self.assertEqual(result["stdout"], ("0123456789\n" * 91)[:1000])
        self.assertTrue(result["stdout_truncated"])

    def test_cut_sequence(self):
        """A limit inside a character drops that character; output that ends in half a one is exact."""
        result = self.run_code(
            "import sys\nsys.stdout.write('ü' * 10)\nsys.stderr.buffer.write(b'a\\xc3')\n",
            limits={"stdout_bytes": 5},
        )
        self.assertEqual((result["stdout"], result["stdout_bytes"]), ("üü", 20))
        self.assertTrue(result["stdout_truncated"])
        self.assertEqual(result["stderr_encoding"], "base64")
        self.assertEqual(base64.b64decode(result["stderr"]), b"a\xc3")

    def test_background_holds_pipe(self):
        """A background process that keeps the output open does not delay the result."""
        result = self.run_code(
            "(setsid sleep 1000 & )\necho done\n", "shell", timeout_seconds=20
        )
        self.assertEqual((result["status"], result["stdout"]), ("ok", "done\n"))
        self.assertLess(result["timing"]["execute_ms"], 15000)


class Ends(DaemonTest):
    def test_sigkill(self):
        """A program that kills itself: signal, 128+N, its output kept."""
        result = self.run_code(
            "import os\nprint('begun', flush=True)\nos.kill(os.getpid(), 9)\n"
        )
        self.assertEqual(
            (result["status"], result["signal"], result["exit_code"], result["stdout"]),
            ("signal", "SIGKILL", 137, "begun\n"),
        )
        self.assertEqual(result["usage"]["oom_kills"], 0)

    def test_sigsegv(self):
        """A crash in native code: SIGSEGV, 139."""
        result = self.run_code("import ctypes\nctypes.string_at(8)\n")
        self.assertEqual(
            (result["status"], result["signal"], result["exit_code"]),
            ("signal", "SIGSEGV", 139),
        )

    def test_timeout(self):
        """At the deadline SIGTERM, then the end of the whole tree; the partial output stays."""
        result = self.run_code(
            "trap 'echo asked' TERM\n(trap '' TERM; setsid sleep 1000) &\necho begun\n"
            "while :; do sleep 0.05; done\n",
            "shell", timeout_seconds=3,
        )
        self.assertEqual((result["status"], result["exit_code"]), ("timeout", 124), result)
        self.assertIn(result["stdout"], ("begun\n", "begun\nasked\n"))
        self.assertGreaterEqual(result["timing"]["execute_ms"], 3000)
        self.assertLess(result["timing"]["execute_ms"], 5000)

    def test_cpu_limit(self):
        """limits.cpu_seconds ends a busy loop by SIGXCPU or SIGKILL, before the deadline."""
        result = self.run_code(
            "while True:\n    pass\n", limits={"cpu_seconds": 1}, timeout_seconds=30
        )
        self.assertEqual(result["status"], "signal", result)
        self.assertIn(result["signal"], ("SIGXCPU", "SIGKILL"))

    def test_memory_limit(self):
        """limits.memory_mb holds inside a larger VM: oom, not a timeout."""
        result = self.run_code(
            "import os\nkept = [os.urandom(1 << 20) for i in range(220)]\nprint('never')\n",
            limits={"memory_mb": 128}, timeout_seconds=60,
        )
        self.assertEqual((result["status"], result["exit_code"]), ("oom", 137), result)
        self.assertEqual(result["stdout"], "")


class World(DaemonTest):
    def test_confinement(self):
        """uid 1000, no privileges to gain, read-only root, writable homes, no devices, no network."""
        out = json.loads(
            self.run_ok(
                """
import errno, glob, json, os, socket

def attempt(function, *arguments):
    try:
        function(*arguments)
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]

def write(path):
    with open(path, "w") as stream:
        stream.write("x")
    os.unlink(path)

def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as peer:
        peer.settimeout(3)
        peer.connect(address)

def loopback():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as one:
            other, _ = server.accept()
            one.sendall(b"hello")
            data = other.recv(5)
            other.close()
    return data.decode()

status = dict(
    line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line
)
limits = open("/proc/self/limits").read()
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "no_new_privs": status["NoNewPrivs"].strip(),
    "capabilities": [status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "writes": {path: attempt(write, path + "/probe") for path in (
        "/", "/usr", "/etc", "/proc", "/sys", "/home/user", "/tmp", "/dev/shm")},
    "interfaces": [name for _, name in socket.if_nameindex()],
    "loopback": loopback(),
    "outside": attempt(connect, socket.AF_INET, ("192.0.2.1", 80)),
    "devices": {path: attempt(open, path, "rb") for path in
                glob.glob("/dev/vport*") + glob.glob("/dev/vd*") + glob.glob("/dev/zram*")
                + ["/dev/mem", "/dev/kmsg", "/proc/kcore", "/proc/1/environ"]},
    "kill": attempt(os.kill, 1, 9),
    "core": [line for line in limits.splitlines() if line.startswith("Max core file size")],
    "setuid": [path for path in glob.glob("/usr/bin/*") + glob.glob("/usr/sbin/*")
               if os.lstat(path).st_mode & 0o6000],
}))
"""
            )
        )
        self.assertEqual(out["ids"], [[1000] * 3, [1000] * 3, out["ids"][2]])
        self.assertNotIn(0, out["ids"][2])
        self.assertEqual(out["no_new_privs"], "1")
        permitted, effective, _, ambient = out["capabilities"]
        self.assertEqual({permitted, effective, ambient}, {"0" * 16})
        writes = out["writes"]
        for path in ("/home/user", "/tmp", "/dev/shm"):
            self.assertEqual(writes.pop(path), "ok", path)
        for path, outcome in writes.items():
            self.assertIn(outcome, ("EROFS", "EACCES", "EPERM", "ENOENT"), path)
        self.assertEqual(writes["/usr"], "EROFS")
        self.assertEqual(out["interfaces"], ["lo"])
        self.assertEqual(out["loopback"], "hello")
        self.assertEqual(out["outside"], "ENETUNREACH")
        for path, outcome in out["devices"].items():
            self.assertIn(outcome, ("EACCES", "EPERM", "ENOENT"), path)
        self.assertTrue(any("vport" in path for path in out["devices"]), out["devices"])
        self.assertEqual(out["kill"], "EPERM")
        self.assertEqual(out["setuid"], [])
        self.assertRegex(out["core"][0], r"size\s+0\s+0")

    def test_bounded_disk(self):
        """/home/user, /tmp and /dev/shm end in ENOSPC, in bytes and in files; the VM lives on."""
        out = json.loads(
            self.run_ok(
                """
import errno, json, os

def fill(path):
    written = 0
    try:
        with open(path + "/fill", "wb", buffering=0) as stream:
            while written < 1 << 30:
                written += stream.write(bytes(1 << 20))
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    else:
        outcome = "endless"
    os.unlink(path + "/fill")
    return outcome

def litter(path):
    count = 0
    try:
        while count < 100000:
            os.close(os.open(path + "/f%d" % count, os.O_CREAT | os.O_WRONLY))
            count += 1
        outcome = "endless"
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    for i in range(count):
        os.unlink(path + "/f%d" % i)
    return outcome

print(json.dumps({path: [fill(path), litter(path)] for path in
                  ("/home/user", "/tmp", "/dev/shm")}))
""",
                timeout_seconds=100,
            )
        )
        for path, outcomes in out.items():
            self.assertEqual(outcomes, ["ENOSPC", "ENOSPC"], path)

    def test_process_limit(self):
        """limits.pids bounds processes: forks fail with EAGAIN, the program goes on."""
        out = self.run_ok(
            """
import errno, os, signal
children = []
try:
    while len(children) < 2000:
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
except OSError as error:
    print(errno.errorcode[error.errno], len(children) <= 20)
for child in children:
    os.kill(child, signal.SIGKILL)
""",
            limits={"pids": 20},
        )
        self.assertEqual(out, "EAGAIN True\n")

    def test_fork_bomb(self):
        """A fork bomb ends at its deadline, and the daemon answers others in 500 ms meanwhile."""
        request_id = self.start(
            "echo begun\nbomb() { bomb | bomb & }\nbomb\nsleep 1000\n", "shell",
            timeout_seconds=6,
        )
        self.vm_of(request_id)
        self.client.wait_output(request_id, "begun")
        with connect() as other:
            for method in ("rpc.ping", "memory.stats", "vm.list"):
                other.wait(other.request(method), timeout=0.5)
        result = self.finish(request_id)
        self.assertEqual(result["status"], "timeout", result["status"])
        self.assertLess(result["timing"]["execute_ms"], 9000)
