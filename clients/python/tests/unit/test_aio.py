# SPDX-License-Identifier: Apache-2.0
"""AsyncSandbox and AsyncSession against a scripted daemon; what they share with Sandbox is tested there."""

import asyncio
import inspect
import unittest

from execsandbox import (AsyncFiles, AsyncProcess, AsyncSandbox, AsyncSession, ConnectError, ConnectionLostError, Files,
                         Process, Sandbox, Session, errors)
from scripted import SESSION, ScriptedTest, answer, fail, hold, pages, result, stream, until_cancelled


class AsyncTest(ScriptedTest, unittest.IsolatedAsyncioTestCase):
    async def connect(self, **handlers):
        daemon = self.serve(**handlers)
        sandbox = await AsyncSandbox(daemon.path).connect()
        self.addAsyncCleanup(sandbox.close)
        return sandbox, daemon

    def test_same_names(self):
        """Both APIs have the same methods with the same arguments."""
        for waiting, awaited in ((Sandbox, AsyncSandbox), (Session, AsyncSession), (Process, AsyncProcess),
                                 (Files, AsyncFiles)):
            for name, method in inspect.getmembers(waiting, inspect.isfunction):
                if not name.startswith("_"):
                    self.assertEqual(inspect.signature(method).parameters,
                                     inspect.signature(getattr(awaited, name)).parameters, name)

    async def test_gather(self):
        """Many calls at once, more than the daemon takes, answered in another order."""
        sandbox, _ = await self.connect(run=hold(64))
        done = await asyncio.gather(*(sandbox.run(str(n)) for n in range(128)))
        self.assertEqual([one.stdout for one in done], [str(n) for n in range(128)])

    async def test_streaming(self):
        """Callbacks may be functions and coroutine functions."""
        def handler(connection, request):
            stream(connection, request, ("stdout", "a"), ("stderr", "e"))
            connection.result(request, result(stdout="ab", stderr="e"))

        sandbox, _ = await self.connect(run=handler)
        heard = []

        async def hear(text):
            await asyncio.sleep(0)
            heard.append(text)

        await sandbox.run("x", on_stdout=hear, on_stderr=heard.append)
        self.assertEqual(heard, ["a", "e", "b"])

    async def test_cancel(self):
        """A task that is cancelled cancels its call; the connection goes on."""
        sandbox, _ = await self.connect(run=until_cancelled, rpc_ping=answer("pong"))
        started = asyncio.Event()
        task = asyncio.create_task(sandbox.run("x", on_stdout=lambda text: started.set()))
        await started.wait()
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.05):
                await sandbox.run("x")
        await sandbox.ping()

    async def test_callback_raises(self):
        sandbox, _ = await self.connect(run=until_cancelled, rpc_ping=answer("pong"))

        async def bad(text):
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            await sandbox.run("x", on_stdout=bad)
        await sandbox.ping()

    async def test_lost_in_the_middle(self):
        def handler(connection, request):
            connection.send_raw(b'{"jsonrpc":"2.0","id":1,"resu')
            connection.close()

        sandbox, _ = await self.connect(run=handler)
        for _ in range(2):
            with self.assertRaises(ConnectionLostError):
                await sandbox.run("x")

    async def test_close_elsewhere(self):
        started = asyncio.Event()
        loop = asyncio.get_running_loop()
        sandbox, _ = await self.connect(
            run=lambda connection, request: loop.call_soon_threadsafe(started.set))
        task = asyncio.create_task(sandbox.run("x"))
        await started.wait()
        await sandbox.close()
        with self.assertRaises(ConnectionLostError):
            await task
        await sandbox.close()

    async def test_not_connected(self):
        with self.assertRaises(ConnectionLostError):
            await AsyncSandbox("/none").ping()
        with self.assertRaises(ConnectError):
            async with AsyncSandbox("/none"):
                pass

    async def test_session(self):
        sandbox, daemon = await self.connect(
            session_create=answer(SESSION), session_info=answer(SESSION), session_list=pages,
            session_exec=answer(result(stdout="x")), session_update=answer({**SESSION, "name": "n"}),
            session_close=fail(4002, "Closed", reason="closed"))
        async with sandbox.session(language="shell") as session:
            self.assertEqual((await session.exec("x")).stdout, "x")
            await session.update(name="n")
            self.assertEqual((session.name, (await session.info()).state), ("n", "idle"))
        session = await sandbox.find_session("ses_1")
        with self.assertRaises(errors.SessionClosedError):
            await session.close()
        self.assertEqual([one.session async for one in sandbox.sessions()], ["ses_0", "ses_1", "ses_2"])
        methods = [one["method"].partition(".")[2] for one in daemon.requests]
        self.assertEqual(methods, ["create", "exec", "update", "info", "close", "info", "close", "list", "list"])
