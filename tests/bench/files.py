# SPDX-License-Identifier: Apache-2.0
"""S7: 100 MB into a session's file and out of it again."""

import base64
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "acceptance"))
from client import Client  # noqa: E402  (the path is set above)

OWN = "**execsandbox**"
PIECE = 3 << 20
IN_FLIGHT = 4


def write_socket(client, session, data):
    ours, theirs = socket.socketpair()
    with client.lend_descriptor(theirs.fileno()):
        request = client.request("file.write", session=session, path="big", descriptor=True, size=len(data))
    theirs.close()
    ours.sendall(data)
    client.wait(request)
    ours.close()


def read_socket(client, session, data):
    ours, theirs = socket.socketpair()
    with client.lend_descriptor(theirs.fileno()):
        request = client.request("file.read", session=session, path="big", descriptor=True)
    theirs.close()
    got = 0
    while piece := ours.recv(1 << 20):
        got += len(piece)
    client.wait(request)
    ours.close()
    if got != len(data):
        raise RuntimeError(f"{got} bytes came")


def in_flight(client, requests):
    """Sends them, a few at a time; yields the replies."""
    waiting = []
    for method, params in requests:
        waiting.append(client.request(method, **params))
        if len(waiting) == IN_FLIGHT:
            yield client.wait(waiting.pop(0))
    for request in waiting:
        yield client.wait(request)


def write_json(client, session, data):
    upload = client.call("file.write", session=session, path="big", upload="open")["upload"]
    pieces = (("file.write", {"session": session, "upload": upload, "offset": at, "encoding": "base64",
                              "data": base64.b64encode(data[at:at + PIECE]).decode()})
              for at in range(0, len(data), PIECE))
    for _ in in_flight(client, pieces):
        pass
    client.call("file.write", session=session, upload=upload, commit=True)


def read_json(client, session, data):
    pieces = (("file.read", {"session": session, "path": "big", "offset": at, "length": PIECE})
              for at in range(0, len(data), PIECE))
    got = sum(len(base64.b64decode(reply["data"])) for reply in in_flight(client, pieces))
    if got != len(data):
        raise RuntimeError(f"{got} bytes came")


WAYS = (
    ("written over a descriptor", write_socket, "80 MB/s"),
    ("read over a descriptor", read_socket, "80 MB/s"),
    ("written as JSON", write_json, "0.8 of the descriptor's"),
    ("read as JSON", read_json, "0.8 of the descriptor's"),
)


def files(bench, table):
    """S7: the same file again and again, beside what the guest itself takes to copy it."""
    data = os.urandom(1 << 20) * 100
    with bench.daemon("pool_python=0", "pool_javascript=0") as served, Client(served.socket) as client:
        served.wait_templates()
        session = client.call("session.create", language="shell", limits={"memory_mb": 512, "disk_mb": 300})["session"]
        for what, way, goal in WAYS:
            samples = []
            for _ in range(bench.sizes["files"]):
                started = time.monotonic()
                way(client, session, data)
                samples.append(len(data) / 1e6 / (time.monotonic() - started))
            table.add("S7", f"100 MB {what}", OWN, samples, "MB/s", goal)
        for what, command in (("through a pipe into a file", "cat big | cat >copy"), ("out of a file", "cat big | cat >/dev/null")):
            result = client.call("session.exec", session=session, timeout_seconds=120,
                                 command=f"date +%s%N; {command}; date +%s%N; rm -f copy")
            begun, ended = map(int, result["stdout"].split())
            table.add("S7", f"100 MB {what}", "a program in the VM", [len(data) / ((ended - begun) / 1000)], "MB/s", "")
        client.call("session.close", session=session)
