#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The completion script of execsandboxctl: what bash offers at the end of a command line, by function and by the Tab key."""

import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
import unittest

TREE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
sys.path.insert(0, os.path.join(TREE, "tests/fake"))
from fake_daemon import FakeDaemon  # noqa: E402

CTL = os.environ.get("EXECSANDBOXCTL", os.path.join(TREE, "build/ctl/execsandboxctl"))
DEADLINE = 20

# Completes the line $2 with the script $1 as bash would: readline's words are the arguments behind.
COMPLETE = """
. "$1" || exit 1
COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDS=("${@:3}") COMP_CWORD=$(($# - 3))
_execsandboxctl || exit 1
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""


def ctl(*words, **options):
    return subprocess.run([CTL, *words], capture_output=True, text=True, timeout=DEADLINE, **options)


def split_as_readline(line):
    """Words break at blanks, and before and behind '=' and ':' (COMP_WORDBREAKS)."""
    words = re.findall(r"[=:]+|[^\s=:]+", line)
    return words + [""] if line.endswith(" ") else words


def verbs():
    """{verb: its long options}, by the help texts."""
    found = {}
    for line in ctl("help").stdout.split("\n\n")[1].splitlines():
        name = line[2:18].strip()
        found[name] = re.findall(r"^ +(?:-., )?--([a-z-]+)", ctl("help", *name.split()).stdout, re.M)
    return found


class CompletionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.script = os.path.join(cls.directory.name, "completion")
        with open(cls.script, "w", encoding="utf-8") as file:
            file.write(ctl("completion", "bash").stdout)
        # Words complete to files, so to these alone.
        cls.files = os.path.join(cls.directory.name, "files")
        os.makedirs(os.path.join(cls.files, "lib"))
        for name in ("main.py", "made of"):
            with open(os.path.join(cls.files, name), "w", encoding="utf-8"):
                pass
        cls.environment = {
            "PATH": f"{os.path.dirname(CTL)}:{os.environ['PATH']}", "HOME": cls.files, "TERM": "dumb", "LC_ALL": "C.UTF-8",
            "EXECSANDBOX_SOCKET": os.path.join(cls.files, "no.sock"),
        }

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def complete(self, line, socket=None):
        """What is offered for `execsandboxctl LINE` with the cursor at its end."""
        line = f"execsandboxctl {line}"
        done = subprocess.run(
            ["bash", "--norc", "-c", COMPLETE, "bash", self.script, line, *split_as_readline(line)],
            env=dict(self.environment, **({"EXECSANDBOX_SOCKET": socket} if socket else {})), cwd=self.files,
            capture_output=True, text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), line)
        return done.stdout.splitlines()


class Tables(CompletionTest):
    def test_every_verb(self):
        """Every verb is offered, of two words by its second one; nothing else is."""
        names = list(verbs())
        self.assertGreater(len(names), 30)
        self.assertEqual(sorted(self.complete("")), sorted({name.split()[0] for name in names}))
        for first in {name.split()[0] for name in names if " " in name}:
            with self.subTest(group=first):
                offered = self.complete(f"{first} ")
                for name in names:
                    if name.startswith(first + " "):
                        self.assertIn(name.split()[1], offered)

    def test_every_option(self):
        """Every long option of every verb is offered there, and no other."""
        for name, options in verbs().items():
            with self.subTest(verb=name):
                self.assertIn("help", options)
                self.assertEqual(sorted(self.complete(f"{name} --")), sorted("--" + option for option in options))

    def test_every_method(self):
        """`call` and `help` offer the methods that `help call` lists."""
        methods = re.findall(r"^  ([a-z_.]+) ", ctl("help", "call").stdout.split("Methods:")[1], re.M)
        self.assertGreater(len(methods), 30)
        self.assertEqual(sorted(self.complete("call ")), sorted(methods))
        self.assertLessEqual(set(methods), set(self.complete("help ")))
        for method in methods:
            with self.subTest(method=method):
                text = ctl("help", method).stdout
                keys = re.findall(r"^  ([a-z_]+) +\w", text.partition("Parameters:")[2], re.M)
                offered = {re.split(r"[.:=]", key)[0] for key in self.complete(f"call {method} ")}
                if text.startswith("Method"):  # not those that are verbs, too
                    self.assertEqual(offered, set(keys))
                elif method == "run":
                    self.assertLess({"language", "code", "limits"}, offered)

    def test_script_is_sound(self):
        """shellcheck has nothing to say."""
        done = subprocess.run(["shellcheck", "-s", "bash", self.script], capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_other_shell(self):
        """A shell that has none is refused, with the one that has."""
        done = ctl("completion", "zsh")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("completion bash", done.stderr)


class Places(CompletionTest):
    def test_words(self):
        """A word that is begun is ended; what stands before it decides."""
        for line, offered in (
            ("mem", ["memory"]),
            ("--js", ["--json"]),
            ("--json sta", ["status"]),
            ("--socket main.py sta", ["status"]),
            ("session cr", ["create"]),
            ("session create --na", ["--name"]),
            ("run -l ", ["python", "javascript", "shell"]),
            ("run --language j", ["javascript"]),
            ("run --language=j", ["javascript"]),
            ("run --language=", ["python", "javascript", "shell"]),
            ("run -t 5 --mem", ["--memory"]),
            ("pool set py", ["python"]),
            ("pool set python ", []),
            ("template build ", ["python", "javascript", "shell"]),
            ("completion ", ["bash"]),
            ("call memory.ba", ["memory.balloon"]),
            ("call memory.balloon t", ["target_mb:="]),
            ("call run limits.mem", ["limits.memory_mb:="]),
            ("call run limits.memory_mb:=1", []),
            ("call run code=x lang", ["language="]),
            ("memory policy bud", ["budget_mb="]),
            ("memory policy mode=auto bud", ["budget_mb="]),
            ("nonsense ", []),
            ("status ", []),
            ("run -c ", []),
            ("run -- m", []),
        ):
            with self.subTest(line=line):
                self.assertEqual(self.complete(line), offered)

    def test_files(self):
        """Where a file may stand, files are offered, blanks in their names and all."""
        for line in ("run m", "--socket m", "run --socket=m", "cp m", "cp -r lib m"):
            with self.subTest(line=line):
                self.assertEqual(sorted(self.complete(line)), ["made of", "main.py"])

    def test_without_daemon(self):
        """No daemon, no sessions and no complaint."""
        self.assertEqual(self.complete("session info "), [])
        self.assertEqual(self.complete("memory balloon "), [])


class Daemon(CompletionTest):
    SESSIONS = {"sessions": [
        {"session": "sess_1a", "name": "alpha", "state": "idle", "vm": "vm_1"},
        {"session": "sess_2b", "name": None, "state": "idle", "vm": "vm_2"},
        {"session": "sess_3c", "name": "$(touch evil) x", "state": "idle", "vm": "vm_3"},
    ]}
    VMS = {"vms": [{"vm": "vm_1", "state": "busy"}, {"vm": "vm_9", "state": "paused"}]}

    def daemon(self):
        return FakeDaemon({
            "session.list": lambda connection, request: connection.result(request, self.SESSIONS),
            "vm.list": lambda connection, request: connection.result(request, self.VMS),
        })

    def test_ids(self):
        """Sessions go by id and name, VMs by id; copies take a colon behind a session."""
        ids = ["alpha", "sess_1a", "sess_2b", "sess_3c"]
        with self.daemon() as daemon:
            for line, offered in (
                ("session info ", ids),
                ("session exec a", ["alpha"]),
                ("shell sess_2", ["sess_2b"]),
                ("ls ", ids),
                ("memory balloon ", ["vm_1", "vm_9"]),
                ("memory reclaim --vm vm_9", ["vm_9"]),
                ("cp main.py ", ["alpha:", "lib", "made of", "main.py", "sess_1a:", "sess_2b:", "sess_3c:"]),
                ("cp al", ["alpha:"]),
                ("cp alpha:", []),
            ):
                with self.subTest(line=line):
                    self.assertEqual(sorted(self.complete(line, daemon.path)), offered)

    def test_socket_option(self):
        """The daemon that is asked is that of --socket."""
        with self.daemon() as daemon:
            self.assertEqual(self.complete(f"-s {daemon.path} session info al"), ["alpha"])

    def test_names_run_nothing(self):
        """What another has put into a name is not a command here."""
        with self.daemon() as daemon:
            self.complete("session info ", daemon.path)
            self.complete("cp ", daemon.path)
        self.assertFalse(os.path.exists(os.path.join(self.files, "evil")))


class Tab(CompletionTest):
    def type(self, line, expected):
        """Types `line` at an interactive bash, and waits for the text."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.files)
            os.execvpe("bash", ["bash", "--noprofile", "--norc", "-i"], dict(self.environment, PS1="> "))
        shown = b""
        try:
            os.write(terminal, f"source {self.script}\n{line}".encode())
            until = time.monotonic() + DEADLINE
            while expected.encode() not in shown:
                if not select.select([terminal], [], [], max(0, until - time.monotonic()))[0]:
                    self.fail(f"{line!r} does not show {expected!r}: {shown.decode()!r}")
                shown += os.read(terminal, 4096)
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)

    def test_tab(self):
        """The key itself: a verb and an option, behind '=' and in a key with ':='."""
        self.type("execsandboxctl session cr\t --he\t\n", "Usage: execsandboxctl session create")
        self.type("execsandboxctl pool get --socket=mai\t--he\t\n", "Usage: execsandboxctl pool get")
        self.type("execsandboxctl run --language=java\t", "--language=javascript ")
        self.type("execsandboxctl call memory.bal\ttar\t5", "call memory.balloon target_mb:=5")


if __name__ == "__main__":
    program = unittest.main(exit=False)
    bad = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - bad} passed, {bad} failed")
    sys.exit(1 if bad else 0)
