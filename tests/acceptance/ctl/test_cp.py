#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""execsandboxctl cp and ls against a scripted session, which may be one that lies.

EXECSANDBOXCTL names the program (default: build/ctl/execsandboxctl of this tree).
"""

import base64
import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

from test_ctl import CTL, DEADLINE, ENVIRONMENT, FakeDaemon, answer, fail

PIECE = 1 << 20
TIME = "2026-01-02T03:04:05.678Z"


def entry(name, data=b"", **changes):
    return {"name": name, "type": "file", "size": len(data), "mode": "0644", "mtime": TIME, **changes}


def directory(name, mode="0755"):
    return entry(name, type="directory", mode=mode)


def refuse_descriptor(connection, request):
    """What a daemon says behind somebody who relays the connection, and no descriptors."""
    while connection.descriptors:
        connection.take_socket().close()
    connection.error(request, -32602, "No descriptor came", field="descriptor")


class Guest:
    """Files that are read: content by path; `entries` are what lists say, whether true or not."""

    def __init__(self, entries, files=None, is_relayed=False):
        self.entries, self.files, self.is_relayed = entries, files or {}, is_relayed

    def handlers(self):
        return {"file.stat": self.stat, "file.list": self.list, "file.read": self.read}

    def stat(self, connection, request):
        path = request["params"]["path"]
        found = [one for one in self.entries if one["name"] == path]
        connection.result(request, found[0] if found else directory(path))

    def list(self, connection, request):
        connection.result(request, {"entries": self.entries, "truncated": False})

    def read(self, connection, request):
        params = request["params"]
        content = self.files[os.path.normpath(params["path"]).removeprefix("tree/")]
        offset = params.get("offset", 0)
        data = content[offset:offset + params["length"]]
        if "descriptor" in params and self.is_relayed:
            refuse_descriptor(connection, request)
        elif "descriptor" in params:
            with connection.take_socket() as sock:
                sock.sendall(data)
            connection.result(request, {"bytes": len(data), "size": len(content), "eof": True})
        else:
            connection.result(request, {"data": base64.b64encode(data).decode(), "encoding": "base64",
                                        "bytes": len(data), "size": len(content), "eof": True})


class CopyTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def daemon(self, handlers):
        daemon = FakeDaemon(handlers)
        self.addCleanup(daemon.close)
        return daemon

    def start(self, daemon, *words, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([CTL, *words], cwd=self.directory, umask=0o022,
                                env=dict(ENVIRONMENT, EXECSANDBOX_SOCKET=daemon.path), **options)

    def ctl(self, daemon, *words, stdin=b""):
        """(exit status, stdout, stderr)."""
        with self.start(daemon, *words, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(stdin, timeout=DEADLINE)
        return process.returncode, out, err.decode(errors="replace")

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, data, mode=0o644):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(data)
        os.chmod(self.path(name), mode)

    def content(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def left(self):
        """All paths below the directory."""
        return sorted(os.path.relpath(os.path.join(folder, name), self.directory)
                      for folder, folders, files in os.walk(self.directory) for name in folders + files)


class Into(CopyTest):
    """Where nothing is there yet."""

    def guest(self, **handlers):
        written = lambda connection, request: connection.result(
            request, {"bytes": len(base64.b64decode(request["params"].get("data", "")))})
        missing = fail(5001, "It does not exist")
        return self.daemon({"file.stat": missing, "file.mkdir": answer({}), "file.write": written,
                            **{name.replace("_", "."): one for name, one in handlers.items()}})

    def test_tree(self):
        """Directories, files and modes; links and pipes are left out, which is said."""
        self.write("src/a/x", b"\xff", 0o755)
        self.write("src/y", b"")
        os.mkdir(self.path("src/closed"), 0o555)
        os.symlink("y", self.path("src/link"))
        os.mkfifo(self.path("src/pipe"))
        daemon = self.guest()
        status, out, err = self.ctl(daemon, "--json", "cp", "-r", "src", "s:t")
        self.assertEqual((status, json.loads(out)), (0, {"files": 2, "directories": 3, "bytes": 1, "left_out": 2}))
        self.assertIn("2, the first is 'link'", err)
        common = {"session": "s", "encoding": "base64"}
        self.assertEqual([(one["method"], one["params"]) for one in daemon.requests[1:]], [
            ("file.mkdir", {"session": "s", "path": "t", "recursive": True, "mode": "0755"}),
            ("file.mkdir", {"session": "s", "path": "t/a", "recursive": True, "mode": "0755"}),
            ("file.write", {**common, "path": "t/a/x", "mode": "0755", "data": "/w=="}),
            ("file.mkdir", {"session": "s", "path": "t/closed", "recursive": True, "mode": "0755"}),
            ("file.write", {**common, "path": "t/y", "mode": "0644", "data": ""})])

    def test_pieces(self):
        """They are in flight together; the file gets its name when all of them were answered."""
        data = os.urandom(3 * PIECE + 5)
        self.write("big", data)
        pieces = {}

        def write(connection, request):
            params = request["params"]
            if "descriptor" in params:
                refuse_descriptor(connection, request)
            elif params.get("upload") == "open":
                pieces[params.get("offset", 0)] = base64.b64decode(params["data"])
                connection.result(request, {"bytes": PIECE, "upload": "upl_1"})
                following = [connection.receive() for _ in range(3)]
                for one in following:
                    pieces[one["params"]["offset"]] = base64.b64decode(one["params"]["data"])
                    self.assertEqual((one["params"]["upload"], "commit" in one["params"]), ("upl_1", False))
                for one in following:
                    connection.result(one, {"bytes": len(pieces[one["params"]["offset"]])})
            else:
                self.assertEqual(params, {"session": "s", "path": "big", "upload": "upl_1",
                                          "offset": len(data), "commit": True})
                connection.result(request, {"bytes": 0, "size": len(data)})

        daemon = self.guest(file_write=write)
        self.assertEqual(json.loads(self.ctl(daemon, "--json", "cp", "big", "s:big")[1])["bytes"], len(data))
        self.assertEqual(b"".join(pieces[offset] for offset in sorted(pieces)), data)
        self.assertEqual(daemon.requests[-1]["params"]["commit"], True)

    def test_poured(self):
        """A large file is one call with a socket, and the others go on behind it; of one that shrinks nothing stays."""
        data = os.urandom(3 * PIECE + 5)
        self.write("t/big", data, 0o600)
        self.write("t/next", b"")
        got = []

        def write(connection, request):
            params = request["params"]
            if "descriptor" in params:
                self.assertEqual(params, {"session": "s", "path": "t/big", "mode": "0600", "size": len(data), "descriptor": True})
                with connection.take_socket() as sock:
                    while sum(map(len, got)) < len(data):
                        got.append(sock.recv(PIECE))
            connection.result(request, {"bytes": params.get("size", 0)})

        daemon = self.guest(file_write=write)
        status, out, err = self.ctl(daemon, "--json", "cp", "-r", "t", "s:t")
        self.assertEqual((status, json.loads(out)["bytes"], err), (0, len(data), ""))
        self.assertEqual(b"".join(got), data)
        self.assertEqual(daemon.requests[-1]["params"]["path"], "t/next")

        def shrink(connection, request):
            os.truncate(self.path("t/big"), PIECE)
            with connection.take_socket() as sock:
                while sock.recv(PIECE):
                    pass
            connection.error(request, 3003, "The other end was closed")

        self.write("t/big", bytes(64 * PIECE))
        status, _, err = self.ctl(self.guest(file_write=shrink), "cp", "t/big", "s:big")
        self.assertEqual((status, err), (1, "execsandboxctl: It changed while it was copied: 't/big'\n"))
        self.write("t/big", bytes(64 * PIECE))
        refused = lambda connection, request: (connection.take_socket().close(), connection.error(request, 5006, "No space"))
        status, _, err = self.ctl(self.guest(file_write=refused), "cp", "t/big", "s:big")
        self.assertEqual((status, err), (1, "execsandboxctl: No space\n"))

    def test_a_piece_fails(self):
        """The first error ends it, and no file gets its name."""
        self.write("big", bytes(5 * PIECE))

        def write(connection, request):
            if "descriptor" in request["params"]:
                refuse_descriptor(connection, request)
            elif request["params"].get("upload") == "open":
                connection.result(request, {"bytes": PIECE, "upload": "upl_1"})
            else:
                connection.error(request, 5006, "'big' finds no space", hint="remove some files")

        daemon = self.guest(file_write=write)
        status, _, err = self.ctl(daemon, "cp", "big", "s:big")
        self.assertEqual((status, err), (1, "execsandboxctl: 'big' finds no space\nhint: remove some files\n"))
        self.assertNotIn("commit", json.dumps(daemon.requests))

    def test_standard_input(self):
        """It has no mode; what is smaller than a piece is one call, whatever a pipe brings at a time."""
        daemon = self.guest()
        with self.start(daemon, "cp", "-", "s:f", stdin=subprocess.PIPE) as process:
            for byte in b"abc":
                process.stdin.write(bytes([byte]))
                process.stdin.flush()
            process.stdin.close()
            self.assertEqual(process.wait(DEADLINE), 0)
        self.assertEqual(daemon.requests[1]["params"], {"session": "s", "path": "f", "data": "YWJj", "encoding": "base64"})

    def test_ctrl_c_at_a_pipe(self):
        asked = threading.Event()

        def missing(connection, request):
            asked.set()
            connection.error(request, 5001, "It does not exist")

        daemon = self.guest(file_stat=missing)
        with self.start(daemon, "cp", "-", "s:f", stdin=subprocess.PIPE) as process:
            self.assertTrue(asked.wait(DEADLINE))
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(DEADLINE), 130)
            process.stdin.close()

    def test_where_to(self):
        """A directory gets the source under its name; its content with '/.'; the home is one."""
        self.write("src/f", b"")
        there = answer(directory("d"))
        for words, paths in ((("src/f", "s:"), ["f"]), (("src/f", "s:d"), ["d/f"]), (("src/f", "s:d/"), ["d/f"]),
                             (("-r", "src", "s:d"), ["d/src", "d/src/f"]), (("-r", "src/.", "s:d"), ["d/f"]),
                             (("-r", "src/", "s:"), ["src", "src/f"])):
            with self.subTest(words=words):
                daemon = self.guest(file_stat=there)
                self.assertEqual(self.ctl(daemon, "cp", *words), (0, b"", ""))
                self.assertEqual([one["params"]["path"] for one in daemon.requests[1:]], paths)

    def test_refused(self):
        """What cannot be meant, and what is not there: nothing is written."""
        self.write("src/f", b"")
        self.write("bad/" + os.fsdecode(b"\xff"), b"")
        for words, status, reason in (
            (("a", "b"), 2, "Neither 'a' nor 'b'"), (("s:a", "s:b"), 2, "Both 'a' and 'b'"), (("src",), 2, "missing"),
            (("src", "s:"), 1, "'src' is a directory\nhint: -r"), (("nope", "s:"), 1, "Cannot open 'nope': No such"),
            (("src/f", "s:f/"), 1, "'f/' is no directory"), (("-r", "bad", "s:"), 1, "is not UTF-8"),
            (("src/f", os.fsdecode(b"s:\xff")), 2, "not UTF-8"),
        ):
            with self.subTest(words=words):
                daemon = self.guest()
                done = self.ctl(daemon, "cp", *words)
                self.assertEqual(done[0], status, done)
                self.assertIn(reason, done[2])
                self.assertLessEqual({one["method"] for one in daemon.requests}, {"file.stat"})
        for code, status in ((4001, 3), (4002, 3), (5007, 1), (4003, 1)):
            self.assertEqual(self.ctl(self.guest(file_stat=fail(code, "No")), "cp", "src/f", "s:")[0], status)


class OutOf(CopyTest):
    def copy(self, guest, *words, **changes):
        daemon = self.daemon({**guest.handlers(), **{name.replace("_", "."): one for name, one in changes.items()}})
        return self.ctl(daemon, "cp", *words)

    def test_tree(self):
        """Contents, modes within the umask and without setuid, times; what stands there is replaced."""
        for is_relayed in (False, True):
            with self.subTest(is_relayed=is_relayed):
                self.copy_tree(is_relayed)
                shutil.rmtree(self.path("t"))

    def copy_tree(self, is_relayed):
        big = os.urandom(2 * PIECE + 3)
        guest = Guest([directory("a", mode="0500"), entry("a/big", big, mode="6755"), entry("a/empty", mode="0666"),
                       entry("link", type="symlink", target="/etc/passwd"), entry("pipe", type="fifo"),
                       entry("z", b"z", mode="0600")], {"a/big": big, "z": b"z"}, is_relayed)
        self.write("t/z", b"old")
        self.assertEqual(self.copy(guest, "-r", "s:tree/.", "t"),
                         (0, b"", "execsandboxctl: Left out, links and special files: 2, the first is 'link'\n"))
        self.assertEqual(self.left(), ["t", "t/a", "t/a/big", "t/a/empty", "t/z"])
        self.assertEqual((self.content("t/a/big"), self.content("t/z")), (big, b"z"))
        self.assertEqual([os.stat(self.path(name)).st_mode & 0o7777 for name in ("t/a", "t/a/big", "t/a/empty", "t/z")],
                         [0o700, 0o755, 0o644, 0o600])
        self.assertEqual(os.stat(self.path("t/z")).st_mtime_ns, 1767323045678000000)

    def test_where_to(self):
        guest = Guest([entry("tree/f", b"x"), entry("f", b"x")], {"f": b"x"})
        os.mkdir(self.path("d"))
        self.write("old", b"old")
        os.symlink("old", self.path("link"))
        os.mkfifo(self.path("pipe"))
        for target in ("d", "d/g", "new", "link"):
            self.assertEqual(self.copy(guest, "s:tree/f", target), (0, b"", ""))
        self.assertEqual(self.left(), ["d", "d/f", "d/g", "link", "new", "old", "pipe"])
        self.assertEqual((self.content("link"), self.content("old")), (b"x", b"old"))  # replaced, not followed
        self.assertEqual(self.copy(guest, "s:tree/f", "-"), (0, b"x", ""))
        reader = os.open(self.path("pipe"), os.O_RDONLY | os.O_NONBLOCK)
        self.assertEqual(self.copy(guest, "s:tree/f", "pipe"), (0, b"", ""))  # written to, not replaced
        self.assertEqual(os.read(reader, 9), b"x")
        os.close(reader)
        for target, reason in (("no/f", "No such file"), ("no/", "Not a directory"), ("old/f", "Not a directory")):
            status, _, err = self.copy(guest, "s:tree/f", target)
            self.assertEqual(status, 1)
            self.assertIn(reason, err)
        self.assertEqual(self.copy(guest, "-r", "s:tree", "old")[0], 1)
        self.assertEqual(self.content("old"), b"old")

    def test_hostile_names(self):
        """Names that lead elsewhere are refused before anything is written."""
        for name in ("..", "../f", "/f", "a/../../f", "a/..", ".", "", "a//f", "a\0f", "a/", "x" * 256):
            for bad in (entry(name, b"x"), directory(name), entry("/3o=", b"x", encoding="base64")):
                with self.subTest(name=name, type=bad["type"]):
                    guest = Guest([entry("good", b"x"), bad], {"good": b"x"})
                    os.mkdir(self.path("t"))
                    status, _, err = self.copy(guest, "-r", "s:tree", "t/u")
                    self.assertEqual((status, self.left()), (1, ["t"]), err)
                    self.assertIn("nothing was copied", err)
                    os.rmdir(self.path("t"))

    def test_links_here(self):
        """A link below the target is no way out: neither for a file in it nor for a directory."""
        os.makedirs(self.path("elsewhere"))
        os.makedirs(self.path("t"))
        os.symlink("../elsewhere", self.path("t/d"))
        for entries in ([entry("d/f", b"x")], [directory("d")], [directory("d/e")]):
            self.assertEqual(self.copy(Guest(entries, {"d/f": b"x"}), "-r", "s:tree/.", "t")[0], 1)
        os.symlink("elsewhere", self.path("tree"))
        self.assertEqual(self.copy(Guest([entry("f", b"x")], {"f": b"x"}), "-r", "s:tree", ".")[0], 1)
        self.assertEqual(self.left(), ["elsewhere", "t", "t/d", "tree"])

    def test_no_terminal_codes(self):
        """What the guest calls its files does not reach the terminal as it is."""
        guest = Guest([entry("\x1b[2Jx\n", type="symlink")])
        self.assertIn("'?[2Jx?'", self.copy(guest, "-r", "s:tree", "t")[2])

    def test_lies_about_content(self):
        """Less than there should be, more, or nonsense: the old file stays, and nothing else."""
        guest = Guest([entry("f", bytes(2 * PIECE))])
        self.write("f", b"old")

        def less(connection, request):
            connection.take_socket().close()
            connection.result(request, {"bytes": 2 * PIECE, "size": 2 * PIECE, "eof": True})

        def more(connection, request):
            with connection.take_socket() as sock, contextlib.suppress(OSError):
                sock.sendall(bytes(2 * PIECE + 1))

        for read in (less, more):
            status, _, err = self.copy(guest, "s:f", "f", file_read=read)
            self.assertEqual((status, self.left(), self.content("f")), (1, ["f"], b"old"))
            self.assertIn("changed while it was copied", err)
        text = base64.b64encode(bytes(PIECE)).decode()
        for data, encoding in ((text[:-4], "base64"), (text + "AAAA", "base64"), ("", "base64"), ("!", "base64"),
                               ("x", "rot13"), (None, "base64"), (7, "base64")):
            with self.subTest(data=str(data)[:10]):
                result = {"data": data, "encoding": encoding, "size": 2 * PIECE, "eof": False}
                status, _, err = self.copy(guest, "s:f", "f", file_read=lambda connection, request: (
                    refuse_descriptor(connection, request) if "descriptor" in request["params"]
                    else connection.result(request, result)))
                self.assertEqual((status, self.left(), self.content("f")), (1, ["f"], b"old"))
                self.assertIn("changed while it was copied", err)

    def test_ends_in_the_middle(self):
        """An error, a daemon that leaves, Ctrl-C: no half of a file stays."""
        guest = Guest([entry("f", bytes(3 * PIECE))], {"f": bytes(3 * PIECE)})

        def after_first(then):
            def read(connection, request):
                with connection.take_socket() as sock:
                    sock.sendall(bytes(PIECE))
                    then(connection, request)
            return read

        gone = after_first(lambda connection, request: connection.close())
        self.assertEqual(self.copy(guest, "s:f", "f", file_read=gone)[0], 4)
        removed = after_first(lambda connection, request: connection.error(request, 5001, "It does not exist"))
        self.assertEqual(self.copy(guest, "s:f", "f", file_read=removed)[0], 3)
        asked = threading.Event()
        daemon = self.daemon({**guest.handlers(), "file.read": after_first(lambda *_: asked.set())})
        with self.start(daemon, "cp", "s:f", "f") as process:
            self.assertTrue(asked.wait(DEADLINE))
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(DEADLINE), 130)
        self.assertEqual(self.left(), [])

    def test_reader_leaves(self):
        guest = Guest([entry("f", bytes(4 * PIECE))], {"f": bytes(4 * PIECE)})
        daemon = self.daemon(guest.handlers())
        with self.start(daemon, "cp", "s:f", "-") as process:
            process.stdout.read(1)
            process.stdout.close()
            self.assertEqual((process.wait(DEADLINE), process.stderr.read()), (1, b""))

    def test_lists_that_are_cut(self):
        """What is too much for one list is asked for by directories; what never ends, ends."""
        def cut(connection, request):
            path, recursive = request["params"]["path"], request["params"]["recursive"]
            entries = [directory("a"), entry("x")] if path == "tree" else [entry("y")]
            connection.result(request, {"entries": entries, "truncated": recursive and path == "tree"})

        self.assertEqual(self.copy(Guest([]), "-r", "s:tree", "t", file_list=cut), (0, b"", ""))
        self.assertEqual(self.left(), ["t", "t/a", "t/a/y", "t/x"])

        def endless(connection, request):
            connection.result(request, {"entries": [directory("a")], "truncated": request["params"]["recursive"]})

        status, _, err = self.copy(Guest([]), "-r", "s:tree", "u", file_list=endless)
        self.assertEqual((status, os.path.exists(self.path("u"))), (1, False))
        self.assertIn("too deep", err)
        status, _, err = self.copy(Guest([]), "-r", "s:tree", "u",
                                   file_list=answer({"entries": [], "truncated": True}))
        self.assertEqual((status, "too much" in err), (1, True))

    def test_links_there(self):
        """A link that is named leads to a directory, to a file, or nowhere."""
        link = entry("l", type="symlink", target="x")
        guest = Guest([link, entry("f", b"x")], {"l": b"linked", "f": b"x"})
        self.assertEqual(self.copy(guest, "s:l", "a", file_list=fail(5004, "No directory")), (0, b"", ""))
        self.assertEqual((self.content("a"), os.stat(self.path("a")).st_mode & 0o777), (b"linked", 0o644))
        self.assertEqual(self.copy(guest, "s:l", "d")[0], 1)  # without -r
        guest.files["l/f"] = b"x"
        self.assertEqual(self.copy(guest, "-r", "s:l", "d")[0], 0)
        self.assertEqual(self.content("d/f"), b"x")
        self.assertEqual(self.copy(guest, "s:l", "e", file_list=fail(5001, "No"), file_read=fail(5001, "No"))[0], 3)


class Shown(CopyTest):
    def on_terminal(self, term):
        """What a copy shows that takes long enough."""
        size = 3 * PIECE
        guest = Guest([entry("f", bytes(size))], {"f": bytes(size)})

        def slow(connection, request):
            with connection.take_socket() as sock:
                for piece in range(4):
                    sock.sendall(bytes(PIECE if piece < 3 else 0))
                    threading.Event().wait(0.3)
            connection.result(request, {"bytes": size, "size": size, "eof": True})

        daemon = self.daemon({**guest.handlers(), "file.read": slow})
        master, slave = pty.openpty()
        shown = []

        def listen():
            try:
                while data := os.read(master, 4096):
                    shown.append(data)
            except OSError:
                pass  # the other end is closed

        listener = threading.Thread(target=listen)
        with subprocess.Popen([CTL, "cp", "s:f", "f"], cwd=self.directory, stdin=subprocess.DEVNULL, stderr=slave,
                              env=dict(ENVIRONMENT, EXECSANDBOX_SOCKET=daemon.path, **term)) as process:
            os.close(slave)
            listener.start()
            self.assertEqual(process.wait(DEADLINE), 0)
        listener.join()
        os.close(master)
        return b"".join(shown).decode()

    def test_progress(self):
        """A line that is drawn over itself, and its end; no line on a dumb terminal."""
        shown = self.on_terminal({"TERM": "xterm", "NO_COLOR": "1"})
        self.assertRegex(shown, r"\r [345]\d%  1[.\d]* MiB of 3 MiB  [\d.]+ [KM]iB/s  \[=+> +\]\x1b\[K")
        self.assertRegex(shown, r"\r\x1b\[Knote: 1 file, 3 MiB in [\d.]+ s\r\n$")
        self.assertRegex(self.on_terminal({"TERM": "dumb"}), r"^note: 1 file, 3 MiB in [\d.]+ s\r\n$")

    def test_ls(self):
        """As ls -l; of a file itself; as JSON."""
        entries = [directory("d", mode="1777"), entry("f", b"12", mode="4750"), entry("/2Y=", encoding="base64"),
                   entry("l", type="symlink", mode="0777", target="/w==", target_encoding="base64"),
                   entry("p", type="fifo"), entry("s", type="socket"), entry("c", type="device")]
        daemon = self.daemon(Guest(entries).handlers())
        status, out, err = self.ctl(daemon, "ls", "s:d")
        self.assertEqual((status, err), (0, ""))
        rows = [line.split(maxsplit=3) for line in out.decode().splitlines()]
        self.assertEqual([(row[0], row[3]) for row in rows[1:]], [
            ("drwxrwxrwt", "d"), ("-rwsr-x---", "f"), ("-rw-r--r--", "?f"), ("lrwxrwxrwx", "l -> ?"),
            ("prw-r--r--", "p"), ("srw-r--r--", "s"), ("crw-r--r--", "c")])
        self.assertEqual(rows[2][1:3], ["2", TIME])
        self.assertEqual(json.loads(self.ctl(daemon, "ls", "s", "--json")[1])["entries"], entries)
        self.assertEqual([one["params"] for one in daemon.requests], [
            {"session": "s", "path": "d", "recursive": False}, {"session": "s", "path": "", "recursive": False}])

    def test_ls_others(self):
        handlers = {"file.list": fail(5004, "It is no directory"), "file.stat": answer(entry("f", b"1"))}
        self.assertIn(b" f\n", self.ctl(self.daemon(handlers), "ls", "s:f")[1])
        self.assertEqual(self.ctl(self.daemon({"file.list": fail(5001, "No")}), "ls", "s:f")[0], 3)
        cut = answer({"entries": [entry("f")], "truncated": True})
        self.assertIn("hint: there is more", self.ctl(self.daemon({"file.list": cut}), "ls", "-r", "s")[2])


if __name__ == "__main__":
    program = unittest.main(exit=False)
    bad = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - bad} passed, {bad} failed")
    sys.exit(bad != 0)
