# SPDX-License-Identifier: Apache-2.0
"""Many sessions that stream at once, and clients that do not read (fake QEMU)."""

import contextlib
import json
import selectors
import time

from support import RpcError, VmTest, read_text

MIB = 1 << 20
SESSIONS, EACH, MEASURED = 64, 4 * MIB, 48 * MIB
# Of 1 MiB unsent, and a window, its copy in the result and their growth by doubling for each.
SLOW_PROGRAMS, SLOW_BYTES = 8, 12 * MIB


class Reader:
    """Counts what of run.output has come on one connection."""

    def __init__(self, client):
        self.client, self.bytes, self.buffer = client, 0, b""

    def read(self):
        self.buffer += self.client.socket.recv(1 << 18)
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            message = json.loads(line)
            assert "error" not in message, message
            if message.get("method") == "run.output":
                self.bytes += len(message["params"]["data"])


class Fairness(VmTest):
    def setUp(self):
        super().setUp()
        self.sandbox = self.daemon("normal", max_vms=SESSIONS + 2, cpu_overcommit=64, stdout_max_bytes=EACH,
                                   connections_per_uid=128, memory_overcommit_percent=1600)
        self.client = self.sandbox.client()

    def tearDown(self):
        with self.sandbox.client() as client:
            for session in client.call("session.list", limit=1000)["sessions"]:
                with contextlib.suppress(RpcError):  # one whose caller has gone may be closed already
                    client.call("session.close", session=session["session"])
        super().tearDown()

    def sessions(self, count):
        requests = [self.client.request("session.create", language="shell") for _ in range(count)]
        return [self.client.wait(request)["session"] for request in requests]

    def stream(self, client, session):
        client.request("session.exec", session=session, command=f"fill {EACH}\nhang", stream=True, timeout_seconds=300)

    def resident_bytes(self):
        status = read_text(f"/proc/{self.sandbox.process.pid}/status")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024

    def test_sessions_stream_at_once(self):
        """Of a fixed amount, counted from when all have begun, each of 64 sessions has delivered its share."""
        readers = []
        for session in self.sessions(SESSIONS):
            readers.append(Reader(self.sandbox.client()))
            self.stream(readers[-1].client, session)
        with selectors.DefaultSelector() as selector:
            for reader in readers:
                selector.register(reader.client.socket, selectors.EVENT_READ, reader)
            counted = None
            while counted is None or sum(reader.bytes for reader in readers) < sum(counted) + MEASURED:
                for key, _ in selector.select(60):
                    key.data.read()
                if counted is None and all(reader.bytes for reader in readers):
                    counted = [reader.bytes for reader in readers]
        shares = sorted(reader.bytes - before for reader, before in zip(readers, counted))
        mean = sum(shares) / len(shares)
        self.assertGreater(shares[0], mean / 2, shares)
        self.assertLess(shares[-1], 2 * mean, shares)

    def test_client_that_does_not_read(self):
        """It does not grow the daemon, nor slow others down; its programs wait for it."""
        mine, *others = self.sessions(1 + SLOW_PROGRAMS)
        self.client.call("session.exec", session=mine, command=f"fill {MIB}")
        before = self.resident_bytes()
        slow = self.sandbox.client()
        for session in others:
            self.stream(slow, session)
        took, peak = [], 0
        stop = time.monotonic() + 3
        while time.monotonic() < stop:
            started = time.monotonic()
            self.assertEqual(self.client.call("session.exec", session=mine, command="out on")["stdout"], "on\n")
            took.append(time.monotonic() - started)
            peak = max(peak, self.resident_bytes())
        self.assertLess(peak - before, SLOW_BYTES)
        self.assertLess(sorted(took)[len(took) // 2], 0.25)
        reader = Reader(slow)
        slow.socket.settimeout(60)
        while reader.bytes < SLOW_PROGRAMS * EACH:
            reader.read()
