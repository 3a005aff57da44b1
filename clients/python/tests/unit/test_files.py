# SPDX-License-Identifier: Apache-2.0
"""Files and AsyncFiles against a scripted daemon that keeps files in a dictionary."""

import asyncio
import base64
import io
import os
import tempfile
import unittest
import unittest.mock

from execsandbox import AsyncSandbox, Sandbox, _transfer, errors
from scripted import SESSION, ScriptedTest, answer, fail

PIECE = 4


class Store:
    """What a session does with file.write, file.read and file.stat."""

    def __init__(self):
        self.files, self.modes, self.uploads = {}, {}, {}

    def handlers(self):
        return {"session_info": answer(SESSION), "file_write": self.write, "file_read": self.read,
                "file_stat": self.stat}

    def write(self, connection, request):
        params = request["params"]
        data = base64.b64decode(params.get("data", ""))
        answered = {"bytes": len(data)}
        upload = params.get("upload")
        if upload == "open":
            answered["upload"] = upload = f"upl_{len(self.uploads)}"
            self.uploads[upload] = (params["path"], data)
        elif upload:
            path, before = self.uploads[upload]
            assert params.get("offset", len(before)) == len(before)
            self.uploads[upload] = (path, before + data)
        if upload and params.get("commit"):
            self.files.update([self.uploads.pop(upload)])
        elif not upload:
            self.put(params, data)
        connection.result(request, answered)

    def put(self, params, data):
        before = self.files.get(params["path"], b"")
        if params.get("append"):
            data = before + data
        elif "offset" in params:
            data = before[:params["offset"]] + data + before[params["offset"] + len(data):]
        self.files[params["path"]] = data
        self.modes[params["path"]] = params.get("mode")

    def read(self, connection, request):
        params = request["params"]
        content = self.files[params["path"]]
        data = content[params["offset"]:params["offset"] + params["length"]]
        connection.result(request, {"data": base64.b64encode(data).decode(), "encoding": "base64",
                                    "bytes": len(data), "size": len(content),
                                    "eof": params["offset"] + len(data) >= len(content)})

    def stat(self, connection, request):
        path = request["params"]["path"]
        connection.result(request, {"name": path, "type": "file", "size": len(self.files[path]), "mode": "6751",
                                    "mtime": "2026-01-02T03:04:05.678Z"})


class FilesCase(ScriptedTest):
    def setUp(self):
        patch = unittest.mock.patch.object(_transfer, "PIECE_BYTES", PIECE)
        patch.start()
        self.addCleanup(patch.stop)
        self.store = Store()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = directory.name

    def open(self, **handlers):
        """(files, daemon)."""
        daemon = self.serve(**{**self.store.handlers(), **handlers})
        sandbox = Sandbox(daemon.path)
        self.addCleanup(sandbox.close)
        return sandbox.find_session("ses_1").files, daemon

    def path(self, name, content=None):
        path = os.path.join(self.directory, name)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        return path

    def content(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()


class FilesTest(FilesCase):
    def test_write_and_read(self):
        """One piece, several, none; text is UTF-8; ranges."""
        files, daemon = self.open()
        for data in (b"", b"\xff", b"1234", b"12345", b"12345678", b"123456789"):
            with self.subTest(data=data):
                self.assertEqual(files.write("a/b", data), len(data))
                self.assertEqual((files.read("a/b"), self.store.uploads), (data, {}))
        self.assertEqual((files.read("a/b", offset=2, length=5), files.read("a/b", offset=8)), (b"34567", b"9"))
        self.assertEqual((files.read("a/b", offset=8, length=5), files.read("a/b", length=0)), (b"9", b""))
        files.write("text", "ü", mode=0o600)
        self.assertEqual(daemon.requests[-1]["params"], {"session": "ses_1", "path": "text", "mode": "0600",
                                                         "data": "w7w=", "encoding": "base64"})

    def test_in_place(self):
        files, _ = self.open()
        files.write("f", b"12345", append=True)
        files.write("f", b"67890", append=True)
        files.write("f", b"abcdef", offset=1)
        files.write("f", b"", append=True)
        self.assertEqual(files.read("f"), b"1abcdef890")

    def test_the_others(self):
        entry = {"type": "file", "size": 3, "mode": "0644", "mtime": "t"}
        listed = [{**entry, "name": "/w==", "encoding": "base64", "new": 1},
                  {**entry, "name": "l", "type": "symlink", "target": "/w==", "target_encoding": "base64"},
                  {**entry, "name": "d", "type": "directory", "mode": "1777"}]
        files, daemon = self.open(file_list=answer({"entries": listed, "truncated": True}), file_mkdir=answer({}),
                                  file_remove=answer({}), file_rename=answer({}))
        found = files.list("d", recursive=True)
        self.assertEqual([(one.name, one.target, one.mode, one.is_directory) for one in found],
                         [("\udcff", None, 0o644, False), ("l", "\udcff", 0o644, False), ("d", None, 0o1777, True)])
        self.assertEqual((found.truncated, len(found), found.entries[0].raw["new"]), (True, 3, 1))
        files.mkdir("m", mode=0o700, recursive=True)
        files.remove("m", recursive=True)
        files.rename("a", "b", replace=True)
        self.assertEqual([one["params"] for one in daemon.requests[1:]], [
            {"session": "ses_1", "path": "d", "recursive": True},
            {"session": "ses_1", "path": "m", "mode": "0700", "recursive": True},
            {"session": "ses_1", "path": "m", "recursive": True},
            {"session": "ses_1", "path": "a", "new_path": "b", "replace": True}])
        with self.assertRaises(ValueError):
            files.stat(found.entries[0].name)

    def test_copies(self):
        """Paths and open files, both ways; mode and progress; a link is replaced, not followed."""
        files, _ = self.open()
        source = self.path("source", b"123456789")
        os.chmod(source, 0o640)
        heard = []
        self.assertEqual(files.upload(source, "f", progress=lambda *far: heard.append(far)), 9)
        self.assertEqual((self.store.files["f"], heard), (b"123456789", [(4, 9), (8, 9), (9, 9)]))
        files.upload(self.path("small", b"x"), "small")
        self.assertEqual(self.store.modes["small"], "0644")
        self.assertEqual(files.upload(io.BytesIO(b"12345"), "g"), 5)
        os.symlink(source, self.path("link"))
        heard.clear()
        self.assertEqual(files.download("g", self.path("link"), progress=lambda *far: heard.append(far)), 5)
        self.assertEqual((self.content("link"), self.content("source"), heard), (b"12345", b"123456789", [(4, 5), (5, 5)]))
        status = os.lstat(self.path("link"))
        umask = os.umask(0)
        os.umask(umask)
        self.assertEqual(status.st_mode, 0o100751 & ~umask)
        target = io.BytesIO()
        files.download("f", target)
        self.assertEqual(target.getvalue(), b"123456789")

    def test_a_slow_pipe(self):
        """Pieces are whole, whatever a pipe brings at a time."""
        files, daemon = self.open()
        chunks = [b"12", b"3", b"4", b"5"]
        source = unittest.mock.Mock(read=lambda size: chunks.pop(0) if chunks else b"")
        files.upload(source, "f")
        self.assertEqual([one["params"]["data"] for one in daemon.requests[1:3]], ["MTIzNA==", "NQ=="])

    def test_not_complete(self):
        """A copy that fails, or is given up, changes nothing and leaves nothing."""
        files, daemon = self.open(file_read=fail(5001, "There is no such file"))
        self.path("old", b"old")
        self.store.files["f"] = b"123456789"
        with self.assertRaises(errors.FileNotFoundError):
            files.download("f", self.path("old"))
        daemon.handlers["file.read"] = self.store.read
        for copy in (lambda: files.download("f", self.path("old"), progress=lambda *_: 1 / 0),
                     lambda: files.upload(self.path("old"), "f", progress=lambda *_: 1 / 0)):
            self.path("old", b"old old")
            with self.assertRaises(ZeroDivisionError):
                copy()
        self.assertEqual((os.listdir(self.directory), self.content("old")), (["old"], b"old old"))
        self.assertEqual(self.store.files["f"], b"123456789")
        with self.assertRaises(NotADirectoryError):
            files.download("f", self.path("old/f"))


class AsyncFilesTest(FilesCase, unittest.IsolatedAsyncioTestCase):
    async def open_async(self, **handlers):
        daemon = self.serve(**{**self.store.handlers(), **handlers})
        sandbox = await AsyncSandbox(daemon.path).connect()
        self.addAsyncCleanup(sandbox.close)
        return (await sandbox.find_session("ses_1")).files

    async def test_copies(self):
        files = await self.open_async(file_list=answer({"entries": []}), file_mkdir=answer({}),
                                      file_remove=answer({}), file_rename=answer({}))
        heard = []

        async def hear(done, total):
            await asyncio.sleep(0)
            heard.append((done, total))

        self.assertEqual(await files.upload(self.path("a", b"123456789"), "f", progress=hear), 9)
        self.assertEqual(await files.download("f", self.path("b"), progress=hear), 9)
        self.assertEqual((self.content("b"), heard), (b"123456789", [(4, 9), (8, 9), (9, 9)] * 2))
        await files.write("f", "12", append=True)
        self.assertEqual(await files.read("f", offset=8), b"912")
        self.assertEqual((await files.stat("f")).size, 11)
        self.assertEqual(len(await files.list()), 0)
        await files.mkdir("d")
        await files.rename("d", "e")
        await files.remove("e")

    async def test_cancel(self):
        """A task that is cancelled leaves nothing of a file that was not complete."""
        began = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold(connection, request):
            loop.call_soon_threadsafe(began.set)
            assert connection.receive()["method"] == "$/cancelRequest"

        files = await self.open_async(file_read=hold)
        self.store.files["f"] = b"1"
        task = asyncio.create_task(files.download("f", self.path("b")))
        await began.wait()
        self.assertRegex(os.listdir(self.directory)[0], r"^\.execsandbox-.*\.part$")
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertEqual(os.listdir(self.directory), [])
