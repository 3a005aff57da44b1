# SPDX-License-Identifier: Apache-2.0
"""Files of sessions and runs in real VMs: what clients write, code reads, and the other way round."""

import base64
import hashlib
import os
import socket

from client import RpcError
from support import DaemonTest, connect, vms_seen


class Files(DaemonTest):
    def setUp(self):
        super().setUp()
        self.session = self.create()

    def create(self, **params):
        made = self.client.call("session.create", language="shell", **params)
        vms_seen.add(made["vm"])
        self.addCleanup(self.close, made["session"])
        return made["session"]

    def close(self, session):
        with connect() as client:
            try:
                client.call("session.close", session=session)
            except RpcError as error:
                self.assertEqual(error.code, 4002)

    def file(self, method, path=None, **params):
        if path is not None:
            params["path"] = path
        return self.client.call(f"file.{method}", session=self.session, **params)

    def exec(self, command, **params):
        result = self.client.call("session.exec", session=self.session, command=command, **params)
        self.assertEqual((result["status"], result["stderr"]), ("ok", ""), result)
        return result["stdout"]

    def assert_error(self, code, method, *args, **params):
        with self.assertRaises(RpcError) as caught:
            self.file(method, *args, **params)
        self.assertEqual(caught.exception.code, code, caught.exception.message)
        return caught.exception

    def names(self, path=None, **params):
        return [entry["name"] for entry in self.file("list", path, **params)["entries"]]

    def test_both_ways(self):
        """Text, bytes, modes and odd names, from clients to programs and back."""
        self.file("write", "a/b/grüße 🐍.txt", data="hällo\n", mode="0600")
        self.assertEqual(self.exec("cat a/b/gr*; stat -c '%a %U' a/b/gr*"), "hällo\n600 user\n")
        every = bytes(range(256)) * 40
        self.file("write", "/home/user/bytes", data=base64.b64encode(every).decode(), encoding="base64")
        self.assertEqual(self.exec("md5sum <bytes"), hashlib.md5(every).hexdigest() + "  -\n")
        self.exec("printf 'out \\0' >program && chmod 4751 program && ln -s program link && mkdir d && mkfifo f")
        read = self.file("read", "link")
        self.assertEqual((read["data"], read["eof"], read["size"]), ("out \0", True, 5))
        self.assertEqual(base64.b64decode(self.file("read", "bytes")["data"]), every)
        self.assertEqual(base64.b64decode(self.file("read", "bytes", offset=200, length=5)["data"]), every[200:205])
        stat = self.file("stat", "link")
        self.assertEqual((stat["type"], stat["target"], self.file("stat", "program")["mode"]), ("symlink", "program", "4751"))
        self.file("rename", "a/b/grüße 🐍.txt", new_path="x/y")
        self.file("mkdir", "d/e/f", recursive=True)
        self.assertEqual(self.names("d", recursive=True), ["e", "e/f"])
        self.assertEqual(self.names("x"), ["y"])
        for path in ("a", "x", "d"):
            self.assert_error(5002, "remove", path)
            self.file("remove", path, recursive=True)
        self.assertEqual(self.names(), ["bytes", "f", "link", "program"])

    def test_in_place(self):
        """Appending and writing at an offset change the file that programs have open; a whole write replaces it."""
        self.file("write", "log", data="one\n")
        self.exec("exec 9<log; { read x <&9; while ! read y <&9; do sleep 0.05; done; echo \"$x $y\" >seen; } & sleep 0.2"
                  " && echo two >>log; wait")
        self.file("write", "log", data="three\n", append=True)
        self.file("write", "log", data="ONE", offset=0)
        self.file("write", "log", data="x", offset=20)
        self.assertEqual(self.exec("cat seen; tr '\\0' . <log"), "one two\nONE\ntwo\nthree\n......x")
        self.exec("ln log hard")
        self.file("write", "log", data="new")
        self.assertEqual(self.exec("cat log; stat -c ' %h' log hard"), "new 1\n 1\n")

    def test_ways_out(self):
        """Nothing outside /home/user is read or written, by whatever way."""
        self.exec("ln -s / root; ln -s /etc/passwd passwd; ln -s .. up; ln -s /proc/self/cwd cwd; ln -s /dev/zero zero;"
                  "ln -s loop loop; mkfifo fifo; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'")
        outside = ("../../etc/passwd", "root/etc/passwd", "passwd", "up/user/x", "cwd/x", "zero", "loop", "fifo",
                   "/etc/passwd", "/home/user/../../etc/passwd", "/proc/1/environ", "/home/user2/x", "x\0y", "s")
        for path in outside:
            self.assert_error(2005, "read", path)
        for path in (*outside, "..", ".", "x/.."):
            self.assert_error(2005, "write", path, data="x")
        for path in ("root/tmp/x", "up/x", "../x"):
            self.assert_error(2005, "write", path, data="x", append=True)
            self.assert_error(2005, "mkdir", path, recursive=True)
            self.assert_error(2005, "remove", path, recursive=True)
            self.assert_error(2005, "stat", path)
            self.assert_error(2005, "rename", "fifo", new_path=path)
        self.assert_error(2005, "list", "root")
        self.file("remove", "root", recursive=True)
        self.assertIn("root:", self.exec("ls -d /etc && cat /etc/passwd"))

    def test_refusals(self):
        """What cannot be done says why, and leaves things as they were."""
        self.exec("mkdir d; echo x >f; mkdir shut; touch shut/f; chmod 0 shut; echo y >mine; chmod 0 mine")
        for code, method, path, params in (
                (5001, "read", "none", {}), (5001, "remove", "none", {}), (5001, "stat", "d/none", {}),
                (5001, "list", "none", {}), (5001, "rename", "none", {"new_path": "g"}), (5001, "mkdir", "p/q", {}),
                (5002, "mkdir", "d", {}), (5002, "rename", "f", {"new_path": "d"}), (5003, "read", "d", {}),
                (5003, "write", "d", {"data": "x"}), (5003, "write", "d", {"data": "x", "append": True}),
                (5004, "write", "f/g", {"data": "x"}), (5004, "list", "f", {}), (5007, "read", "shut/f", {}),
                (5007, "write", "shut/f", {"data": "x"}), (5007, "read", "mine", {}), (2005, "write", "n" * 256, {"data": "x"}),
                (5001, "write", None, {"upload": "upl_none", "commit": True})):
            error = self.assert_error(code, method, path, **params)
            self.assertEqual(error.data["session"], self.session)
        self.assertEqual(self.exec("cat f; chmod 700 shut; ls shut d"), "x\nd:\n\nshut:\nf\n")

    def test_no_space(self):
        """A full disk refuses the file and keeps what was there; so does what grows in place."""
        self.session = self.create(limits={"disk_mb": 4})
        self.file("write", "a", data="old")
        error = self.assert_error(5006, "write", "a", data="x" * (5 << 20))
        self.assertIn("disk_mb", error.data["hint"])
        upload = self.file("write", "a", upload="open")["upload"]
        for i in range(3):
            self.file("write", upload=upload, offset=i << 20, data="x" * (1 << 20))
        self.assert_error(5006, "write", upload=upload, offset=3 << 20, data="x" * (2 << 20))
        self.assertEqual(self.file("read", "a")["data"], "old")
        self.assertEqual(self.exec("ls -A | grep -v main.sh"), "a\n")

    def test_server_killed(self):
        """User code can end the file server, and nothing else: the next operation has a new one. It sees nothing of it."""
        upload = self.file("write", "big", upload="open", data="x")["upload"]
        self.assertEqual(self.exec("pgrep -x files; grep -l files /proc/[0-9]*/comm; true"), "")
        self.exec("for pid in $(seq 2 4000); do [ $pid = $$ ] || kill -9 $pid 2>/dev/null; done; true")
        self.assert_error(5001, "write", upload=upload, commit=True)
        self.file("write", "small", data="x")
        self.assertEqual(self.names(), ["small"])

    def test_own_main(self):
        """A file of the user's with the name of programs' texts stays, and so does one that a program makes."""
        self.file("write", "main.sh", data="echo mine")
        result = self.client.call("session.exec", session=self.session, argv=["bash", "main.sh"])
        self.assertEqual((result["status"], result["stdout"]), ("ok", "mine\n"))
        self.file("remove", "main.sh")
        self.exec("cat >main.sh <<<'echo other'")
        self.assertEqual(self.exec("bash ./main.sh"), "other\n")
        self.exec("rm main.sh; mkdir main.sh")
        self.assertEqual(self.exec("ls -d main.sh"), "main.sh\n")

    def test_beside_a_program(self):
        """Files go in and out while a program runs, and the program sees them."""
        request = self.client.request("session.exec", session=self.session, stream=True,
                                      command="echo on; until [ -e go ]; do sleep 0.05; done; cat go >out; cat out")
        self.client.wait_output(request, "on\n")
        self.file("write", "go", data="went")
        self.assertEqual(self.client.wait(request)["stdout"], "on\nwent")
        self.assertEqual(self.file("read", "out")["data"], "went")

    def test_pieces(self):
        """24 MiB in pieces, several in flight, both ways; nothing is there before the last."""
        sent = os.urandom(24 << 20)
        upload = self.file("write", "big", upload="open", mode="0640")["upload"]
        requests = [self.client.request("file.write", session=self.session, upload=upload, offset=at, encoding="base64",
                                        data=base64.b64encode(sent[at:at + (3 << 20)]).decode())
                    for at in range(0, len(sent), 3 << 20)]
        for request in requests:
            self.assertEqual(self.client.wait(request)["bytes"], 3 << 20)
        self.assert_error(5001, "stat", "big")
        self.assertEqual(self.file("write", upload=upload, commit=True)["size"], len(sent))
        got, end = b"", False
        while not end:
            piece = self.file("read", "big", offset=len(got))
            self.assertEqual(len(base64.b64decode(piece["data"])), piece["bytes"])
            got += base64.b64decode(piece["data"])
            end = piece["eof"]
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(sent).digest())
        self.assertEqual(self.exec("stat -c %a big"), "640\n")


    def over_socket(self, method, path, **params):
        """A request with one end of a socketpair; returns its id and the other end."""
        ours, theirs = socket.socketpair()
        with self.client.lend_descriptor(theirs.fileno()):
            request = self.client.request(f"file.{method}", session=self.session, path=path, descriptor=True, **params)
        theirs.close()
        return request, ours

    def test_sockets(self):
        """40 MiB over descriptors that come with the calls, written and read at once; fewer than said replace nothing."""
        sent, got = os.urandom(40 << 20), b""
        request, ours = self.over_socket("write", "big", size=len(sent), mode="0600")
        ours.sendall(sent)
        self.assertEqual(self.client.wait(request), {"bytes": len(sent)})
        ours.close()
        request, ours = self.over_socket("read", "big", offset=1)
        while piece := ours.recv(1 << 20):
            got += piece
        self.assertEqual(self.client.wait(request), {"bytes": len(sent) - 1, "size": len(sent), "eof": True})
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(sent[1:]).digest())
        ours.close()
        request, ours = self.over_socket("write", "big", size=100)
        ours.sendall(b"x" * 99)
        ours.close()
        with self.assertRaises(RpcError) as caught:
            self.client.wait(request)
        self.assertEqual(caught.exception.code, 3003, caught.exception.message)
        self.assertEqual(self.file("stat", "big")["size"], len(sent))
        request, ours = self.over_socket("read", "none")
        with self.assertRaises(RpcError) as caught:
            self.client.wait(request)
        self.assertEqual((caught.exception.code, ours.recv(1)), (5001, b""))
        ours.close()


class RunFiles(DaemonTest):
    def test_in_and_out(self):
        """`files` are there before the program and `collect` comes with the result, in every language."""
        programs = {
            "python": "import data.module as m\nopen('out/x', 'w').write(m.text[::-1])",
            "javascript": "import {text} from './data/module.js'; import {writeFileSync} from 'fs';"
                          "writeFileSync('out/x', [...text].reverse().join(''))",
            "shell": ". data/module; rev <<<\"$text\" | tr -d '\\n' >out/x",
        }
        texts = {"python": ("data/module.py", "text = 'hällo'\n"),
                 "javascript": ("data/module.js", "export const text = 'hällo'\n"), "shell": ("data/module", "text=hällo\n")}
        for language, code in programs.items():
            path, text = texts[language]
            files = [{"path": path, "data": text}, {"path": "/home/user/out/.keep"},
                     {"path": "bin", "data": "AP8=", "encoding": "base64", "mode": "0700"}]
            result = self.run_code(code, language, files=files, collect=["out/x", "bin", "none", "out"])
            self.assertEqual((result["status"], result["stderr"]), ("ok", ""), result)
            (out, binary, none, directory) = result["files"]
            self.assertEqual((out["data"], out["size"]), ("olläh", 6))
            self.assertEqual((binary["data"], binary["encoding"], binary["mode"]), ("AP8=", "base64", "0700"))
            self.assertEqual((none["error"]["code"], directory["error"]["code"]), (5001, 5003))

    def test_failures(self):
        """A file that cannot be put there is an error before the program; what a failed program left is fetched."""
        with self.assertRaises(RpcError) as caught:
            self.run_code("print(1)", files=[{"path": "a"}, {"path": "a/b"}])
        self.assertEqual((caught.exception.code, caught.exception.data["field"]), (5004, "files[1]"))
        result = self.run_code("open('left', 'w').write('x')\nwhile True: pass", timeout_seconds=1, collect=["left"])
        self.assertEqual((result["status"], result["files"][0]["data"]), ("timeout", "x"))
