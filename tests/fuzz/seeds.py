#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of the fuzz corpora: corpus/NAME/seed-*, from the wire's own description.

Other files of a corpus are regression inputs: each once made its harness fail, or brought it to code
that the seeds do not reach. Run again after a change of the wire; the output is always the same.
"""
import hashlib
import json
import os
import re
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
HELLO, IDENTITY, EXEC, KILL, MEMORY_GET, PING, EXIT_ACK = 1, 2, 3, 4, 5, 6, 7
PREPARE, MEMORY_DROP, SIGNAL, RESIZE = 8, 9, 10, 11
READY, HELLO_REPLY, IDENTITY_DONE, STARTED, EXIT, MEMORY, PONG = 32, 33, 34, 35, 36, 37, 38
DATA, END, CREDIT = 64, 65, 66
STDIN, STDOUT, STDERR, CODE = 0, 1, 2, 3
WINDOW = 256 * 1024
NONCE, SYNC = b"N" * 16, b"M" * 16


def frame(kind, payload=b"", stream=0):
    return struct.pack("<IBI", len(payload), kind, stream) + payload + b"\n"


def message(kind, **fields):
    return frame(kind, json.dumps(fields, separators=(",", ":")).encode())


def data(sub, offset, payload, number=1):
    return frame(DATA, struct.pack("<Q", offset) + payload, number * 4 + sub)


def end(sub, offset, number=1):
    return frame(END, struct.pack("<Q", offset), number * 4 + sub)


def credit(sub, taken, limit, number=1):
    return frame(CREDIT, struct.pack("<QQ", taken, limit), number * 4 + sub)


def receipt(**more):
    fields = {"exec": 1, "reason": "exited", "exit_code": 0, "signal": 0, "stdout_bytes": 2, "stderr_bytes": 0,
              "cpu_user_us": 1000, "memory_peak_bytes": 4096, "execute_us": 2000}
    return message(EXIT, **{**fields, **more})


MEMORY_FIELDS = {"id": 0, "mem_total": 1 << 28, "mem_free": 1 << 26, "mem_available": 1 << 27, "mem_caches": 1 << 25,
                 "mem_anonymous": 1 << 26, "swap_total": 1 << 28,
                 "zram_orig_data_size": 4096, "psi_some_avg10_centi": 150, "user_processes": 3}
ERROR = {"name": "ValueError", "value": "v\u00e9", "traceback": "Traceback\n"}
HELLO_FIELDS = {"version": 1, "nonce": NONCE.hex(), "sync": SYNC.hex()}
IDENTITY_FIELDS = {"id": 9, "entropy": "5a" * 64, "realtime_ns": 1700000000000000000, "hostname": "vm",
                   "machine_id": "11" * 16}


def guest_frames():
    run = message(STARTED, exec=1) + data(STDOUT, 0, b"1\n") + end(STDOUT, 2) + end(STDERR, 0) + receipt()
    yield "run", b"\0\0" + run
    yield "run-in-pieces", b"\7\0" + run
    yield "output-kept", b"\0\2" + run
    yield "big-input", b"\0\4" + credit(STDIN, WINDOW, 2 * WINDOW) + credit(CODE, 8, WINDOW + 8) + run
    yield "signal", b"\0\0" + end(STDOUT, 0) + end(STDERR, 0) + receipt(reason="signaled", signal=9, stdout_bytes=0)
    yield "error", b"\0\0" + data(STDERR, 0, b"\xff\xfe\xc3") + end(STDERR, 3) + receipt(exit_code=1, error=ERROR)
    yield "oom", b"\0\0" + receipt(reason="oom", oom_kills=1)
    yield "limit", b"\0\0" + data(STDOUT, 0, b"x" * 900) + receipt(reason="output_limit", stdout_bytes=10**9)
    yield "failed", b"\0\0" + receipt(reason="failed", detail="Cannot enter the working directory")
    yield "memory", b"\0\0" + message(MEMORY, **MEMORY_FIELDS) + message(PONG, id=1) + message(IDENTITY_DONE, id=2)
    yield "memory-lies", b"\0\0" + message(MEMORY, **{**MEMORY_FIELDS, "id": 7, "mem_caches": 2**63 - 1, "mem_anonymous": 2**63 - 1}) + message(
        MEMORY, **{**MEMORY_FIELDS, "mem_caches": -1})
    yield "repeat", b"\0\0" + data(STDOUT, 0, b"abcd") + data(STDOUT, 2, b"cdef") + data(STDOUT, 8, b"gap")
    yield "other-exec", b"\0\0" + data(STDOUT, 0, b"x", number=2) + receipt(exec=2)
    yield "raw-ready", b"\3\1" + message(READY, version=1, agent="0.1.0") + message(READY, version=1, agent="again")
    yield "raw-early", b"\0\1" + message(MEMORY, **MEMORY_FIELDS)
    yield "host-frame", b"\0\0" + message(PING, id=1)
    yield "over-long", b"\0\0" + struct.pack("<IBI", 1 << 30, DATA, 5)


# Steps of tests/fuzz/guest.h.
OUT, ERR, ENDED, EXITED, MESSAGE, RAW, CREDITED, CALLER = range(8)
# Calls of fuzz_guest_files.c, in its order.
(CALL_LIST, CALL_READ, CALL_READ_BASE64, CALL_READ_SOCKET, CALL_WRITE, CALL_WRITE_SOCKET, CALL_UPLOAD, CALL_STAT, CALL_MKDIR,
 CALL_RENAME, CALL_PLACED, CALL_FETCHED) = range(12)


def step(what, content=b"", number=1):
    """Of exec `number`."""
    return struct.pack("<BH", what + 8 * (number - 1), len(content)) + content


def said(*results, read=b""):
    """A file server that answers a list of operations and ends."""
    text = json.dumps(list(results), separators=(",", ":")).encode()
    return step(OUT, read) * bool(read) + step(ERR, text) + step(ENDED) + step(EXITED)


def guest_files():
    entry = {"name": "a", "type": "file", "size": 3, "mode": 0o100644, "mtime_ns": 1700000000000000000}
    odd = {"name_hex": "ff41", "type": "symlink", "target_hex": "fe", "mode": 0o777, "mtime_ns": -1}
    missing, full = {"error": 2}, {"error": 28}
    calls = {
        "list": (CALL_LIST, said({"entries": [entry, odd, {}], "is_truncated": True})),
        "list-nonsense": (CALL_LIST, said({"entries": {"a": 1}, "is_truncated": 1})),
        "list-missing": (CALL_LIST, said(missing)),
        "read": (CALL_READ, said({"length": 5, "size": 9}, read="a\u00e9\u20ac".encode()[:5])),
        "read-all": (CALL_READ, said({"length": 2, "size": 2}, read=b"ab")),
        "read-lie": (CALL_READ, said({"length": 3, "size": 2}, read=b"ab")),
        "read-base64": (CALL_READ_BASE64, said({"length": 2, "size": 2**63 - 1}, read=b"\xff\0")),
        "read-more": (CALL_READ_BASE64, step(OUT, b"123456789")),
        "read-socket": (CALL_READ_SOCKET, said({"length": 900, "size": 901}, read=b"x" * 900)),
        "read-socket-closed": (CALL_READ_SOCKET, step(CALLER, b"x") + said({"length": 3, "size": 3}, read=b"abc")),
        "write": (CALL_WRITE, said({"size": 4})),
        "write-full": (CALL_WRITE, said(full)),
        "write-socket": (CALL_WRITE_SOCKET, step(CALLER, b"y" * 600) + step(CREDITED, b"\0\x58\2") + step(CALLER, b"z" * 400) + said(
            {"size": 1000})),
        "write-socket-short": (CALL_WRITE_SOCKET, step(CALLER, b"y" * 600) + step(CALLER, b"xx") + said({"size": 600})),
        "upload": (CALL_UPLOAD, said({}, {}, {"size": 1})),
        "upload-stale": (CALL_UPLOAD, said({}, {"error": 116}, {"error": 116})),
        "stat": (CALL_STAT, said({"entry": entry})),
        "stat-odd": (CALL_STAT, said({"entry": odd})),
        "mkdir": (CALL_MKDIR, said({})),
        "rename": (CALL_RENAME, said({"error": 17})),
        "placed": (CALL_PLACED, said({"size": 1}, full)),
        "fetched": (CALL_FETCHED, said({"length": 2, "size": 2, "mode": 420}, missing, {"length": 9, "size": 9}, read=b"abc")),
        "too-few": (CALL_FETCHED, said({})),
        "no-json": (CALL_STAT, step(ERR, b"Traceback") + step(ENDED) + step(EXITED)),
        "stopped": (CALL_READ, step(CALLER) + step(MESSAGE, bytes([EXIT]) + json.dumps(
            {"exec": 1, "reason": "signaled", "exit_code": 0, "signal": 9}).encode())),
        "failed": (CALL_STAT, step(MESSAGE, bytes([EXIT]) + b'{"exec":1,"reason":"failed","detail":"no server"}')),
        "raw": (CALL_STAT, step(RAW, message(PONG, id=1)) + step(OUT, b"x", number=2) + step(EXITED)),
    }
    for name, (call, steps) in calls.items():
        yield name, bytes([call, 0]) + steps
    yield "late", bytes([CALL_READ, 0]) + step(CALLER, b"...") * 2 + said({"length": 0, "size": 0})
    yield "late-reader", bytes([CALL_READ_SOCKET, 0]) + step(OUT, b"x" * 2000) * 6 + step(ERR, b'[{"length":12000,"size":12000}]') + step(
        ENDED) + step(EXITED) + step(CALLER, b"...") + step(CALLER, b"read")
    yield "refused", bytes([CALL_READ, 1]) + step(OUT, b"x" * 4000) + step(OUT, b"x" * 200) + step(EXITED)
    yield "stopped-at-once", bytes([CALL_READ, 2]) + said({"length": 0, "size": 0})


# Requests of fuzz_guest_session.c, in its order.
(ASK_CODE, ASK_STREAM, ASK_COMMAND, ASK_EXEC_ID, ASK_BACKGROUND, ASK_TERMINAL, ASK_ATTACH, ASK_FOLLOW, ASK_RESULT, ASK_INFO, ASK_LIST,
 ASK_UPDATE, ASK_CLOSE, ASK_PROCESSES, ASK_WAIT, ASK_PROGRESS, ASK_WRITE, ASK_CLOSE_STDIN, ASK_SIGNAL, ASK_RESIZE, ASK_READ_FILE,
 ASK_WRITE_FILE, ASK_FILES, ASK_SESSION, ASK_CANCEL, ASK_AGAIN,
 ASK_TIME, ASK_METADATA, ASK_NAME) = range(29)


def ask(*what):
    """Steps of the client: numbers of requests, or pairs with what they are about."""
    return b"".join(step(CALLER, bytes(one if isinstance(one, tuple) else (one, 0))) for one in what)


def ask_with(request, text):
    """One with a text for its parameter."""
    return step(CALLER, bytes([request, 0]) + text.encode())


def begun(number=1):
    return step(MESSAGE, bytes([STARTED]) + b'{"exec":%d}' % number)


def ended(number=1):
    return step(ENDED, number=number) + step(EXITED, number=number)


def guest_session():
    gone = step(MESSAGE, bytes([EXIT]) + b'{"exec":1,"reason":"failed","detail":"no such program"}')
    yield "code", ask(ASK_CODE) + begun() + step(OUT, b"1\n") + ended()
    yield "stream", ask(ASK_STREAM) + begun() + step(OUT, b"\xc3") + step(OUT, b"\xa9") + step(ERR, b"\xff") + ended()
    yield "queue", ask(ASK_CODE, ASK_COMMAND, ASK_INFO) + ended() + step(OUT, b"12345678", number=2) + ended(2)
    yield "limit", ask(ASK_COMMAND) + step(OUT, b"123456789")
    yield "exec-id", ask(ASK_EXEC_ID, ASK_RESULT, ASK_AGAIN, ASK_EXEC_ID) + step(OUT, b"x") + ended() + ask(ASK_RESULT)
    yield "exec-id-lost", ask(ASK_EXEC_ID, ASK_AGAIN) + step(RAW, b"\0" * 12) + ask(ASK_RESULT)
    background = ask(ASK_BACKGROUND) + step(CREDITED, b"\0\2") + begun()
    yield "background", background + ask(ASK_ATTACH, ASK_PROCESSES, ASK_WAIT) + step(OUT, b"ab") + ask(ASK_PROGRESS) + ended() + ask(ASK_WAIT)
    yield "background-input", background + ask(ASK_WRITE, ASK_WRITE, ASK_CLOSE_STDIN) + step(CREDITED, b"\0\x0c") + step(
        CREDITED, b"\0\x16") + ask(ASK_WRITE) + ended()
    yield "background-followed", background + step(OUT, b"x" * 900) + ask(ASK_FOLLOW) + step(ERR, b"y" * 50) + ask(ASK_AGAIN) + ended()
    yield "background-failed", ask(ASK_BACKGROUND) + gone + ask(ASK_PROCESSES)
    yield "background-unstarted", ask(ASK_BACKGROUND, ASK_CANCEL) + begun() + ask(ASK_PROCESSES) + ended()
    yield "background-cancelled", ask(ASK_BACKGROUND, (ASK_CANCEL, 2)) + begun() + ended() + ask(ASK_PROCESSES)
    yield "terminal", ask(ASK_TERMINAL) + begun() + ask(ASK_RESIZE, ASK_CLOSE_STDIN, ASK_SIGNAL, ASK_PROCESSES) + ended()
    yield "two", ask(ASK_BACKGROUND, ASK_BACKGROUND, ASK_ATTACH, ASK_CODE) + begun() + begun(2) + step(OUT, b"1", number=2) + step(
        OUT, b"2", number=3) + ended(3) + ended(2) + ended(1)
    yield "files", ask(ASK_READ_FILE, ASK_WRITE_FILE, ASK_FILES) + said({"length": 1, "size": 1}, read=b"x") + step(
        ERR, b'[{"size":4}]', number=2) + ended(2) + step(ERR, b'[{"entries":[{"name":"a"}]}]', number=3) + ended(3)
    yield "file-lie", ask(ASK_READ_FILE, ASK_CODE) + step(OUT, b"x" * 100) + step(OUT, b"x" * 8) + step(ERR, b"[" * 900)
    yield "cancelled", ask(ASK_STREAM, (ASK_CANCEL, 2)) + step(OUT, b"late") + ended()
    yield "cancelled-waiting", ask(ASK_CODE, ASK_CODE, (ASK_CANCEL, 3)) + ended()
    yield "gone", ask(ASK_STREAM, ASK_AGAIN) + step(OUT, b"x") + ended()
    yield "closed", ask(ASK_STREAM, ASK_BACKGROUND, ASK_READ_FILE, ASK_CLOSE, ASK_INFO)
    yield "bound", ask(ASK_SESSION, ASK_LIST, ASK_AGAIN, ASK_LIST, ASK_UPDATE)
    yield "broken", ask(ASK_CODE, ASK_BACKGROUND, ASK_WAIT) + step(RAW, message(PING, id=1)) + ask(ASK_INFO)
    yield "no-start", ask(ASK_CODE) + gone
    yield "timeout", ask(ASK_STREAM, ASK_TIME) + step(OUT, b"late") + ended() + ask(ASK_INFO)
    yield "timeout-unreported", ask(ASK_STREAM, ASK_CODE, ASK_TIME, ASK_TIME, ASK_TIME, ASK_INFO)
    yield "start-late", ask(ASK_BACKGROUND, ASK_TIME, ASK_TIME)
    yield "many-files", ask(*[ASK_READ_FILE] * 8, ASK_CODE) + said({"length": 0, "size": 0}) + ask((ASK_CANCEL, 3), (ASK_CANCEL, 4))
    yield "cancelled-write", background + ask(ASK_WRITE, ASK_WAIT, (ASK_CANCEL, 3), (ASK_CANCEL, 4), ASK_TIME)
    yield "cancelled-create", ask(ASK_SESSION, (ASK_CANCEL, 2), ASK_SESSION, ASK_AGAIN)
    yield "twice", ask(ASK_CODE, ASK_CODE) + ended() + ended() + ended(2) + ended(2)
    for name, text in {"nul": "a\0b", "accents": "\u00e9\u20ac\U0001f600", "quotes": "\"\\\n"}.items():
        yield f"metadata-{name}", ask_with(ASK_METADATA, text) + ask(ASK_INFO, ASK_LIST, ASK_CODE) + ended() + ask(ASK_INFO)
        yield f"name-{name}", ask_with(ASK_NAME, text) + ask(ASK_INFO) + ask_with(ASK_SESSION, text) + ask(ASK_LIST)
    # What people are shown of a command is cut: not inside of a character.
    for length in range(196, 201):
        text = "x" * length + "\u20ac\u00e9\U0001f600" * 3
        for ask_for, name in ((ASK_BACKGROUND, "command"), (ASK_TERMINAL, "argv")):
            yield f"cut-{name}-{length}", ask_with(ask_for, text) + begun() + ask(ASK_PROCESSES, ASK_CODE) + ended(2) + ended()
    yield "command-accents", ask_with(ASK_COMMAND, "echo \u00e9") + ask_with(ASK_EXEC_ID, "echo \u20ac") + ask(ASK_RESULT, ASK_INFO) + ended() + ended(2)


def host_frames():
    hello = message(HELLO, **HELLO_FIELDS)
    execute = message(EXEC, exec=1, language="python", args=["a", "b"], env={"A": "1"}, stdout_limit=1 << 20,
                      stderr_limit=1 << 20, realtime_ns=0)
    code = data(CODE, 0, b"print(1)\n") + end(CODE, 9)
    yield "run", b"\0" + hello + execute + code + data(STDIN, 0, b"in") + end(STDIN, 2)
    yield "run-in-pieces", b"\5" + hello + execute + code
    yield "credit", b"\0" + hello + execute + code + credit(STDOUT, 4, WINDOW + 4) + message(EXIT_ACK, exec=1)
    yield "kill", b"\0" + hello + execute + message(KILL, exec=1, grace_ms=0) + message(EXIT_ACK, exec=1)
    staying = message(EXEC, exec=1, language="python", args=["stay"], stdout_limit=1 << 20, stderr_limit=1 << 20)
    yield "kill-running", b"\0" + hello + staying + code + message(KILL, exec=1, grace_ms=50)
    beside = message(EXEC, exec=1, language="shell", args=["stay"], stdout_limit=4, stderr_limit=4, is_background=True, terminal_rows=2,
                     terminal_columns=70000)
    yield "background", b"\0" + hello + beside + code + data(STDIN, 0, b"in") + message(
        RESIZE, exec=1, rows=2**63 - 1, columns=0) + message(SIGNAL, exec=1, signal=15) + message(SIGNAL, exec=1, signal=2**63 - 1)
    yield "two-runs", b"\0" + hello + execute + message(EXEC, exec=2, language="shell", stdout_limit=4, stderr_limit=4)
    yield "unknown-language", b"\0" + hello + message(EXEC, exec=3, language="cobol", stdout_limit=1, stderr_limit=1)
    yield "hello-again", b"\0" + hello + execute + code + b"half a fr" + SYNC + message(
        HELLO, received={"5": 2, "6": 0}, **HELLO_FIELDS)
    yield "sync-in-pieces", b"\3" + hello + struct.pack("<IB", 100, DATA) + SYNC + message(HELLO, **HELLO_FIELDS)
    yield "identity", b"\0" + hello + message(IDENTITY, **IDENTITY_FIELDS) + message(MEMORY_GET, id=4) + message(MEMORY_DROP, id=6) + message(PING, id=5)
    yield "drops", b"\0" + hello + message(MEMORY_DROP, id=1) + message(MEMORY_DROP, id=2**63 - 1) + execute + code + message(MEMORY_DROP)
    yield "repeat", b"\0" + hello + execute + execute + data(CODE, 0, b"ab") + data(CODE, 1, b"bc") + data(CODE, 9, b"gap")
    plain = message(EXEC, exec=2, language="shell", stdout_limit=2, stderr_limit=1 << 20, stop_at_limit=True)
    short = data(CODE, 0, b"ls", number=2) + end(CODE, 2, number=2)
    yield "ends", b"\0" + hello + plain + short + end(STDIN, 0, number=2) + credit(STDOUT, 4, WINDOW + 4, number=2)
    yield "ends-acknowledged", b"\x40" + hello + plain + short + message(EXIT_ACK, exec=2) + message(PING, id=1)
    resident = message(EXEC, exec=3, language="python", is_resident=True, stdout_limit=9, stderr_limit=9)
    yield "resident", b"\x20" + hello + message(PREPARE, id=1, language="python", count=0, is_resident=True) + resident + data(
        CODE, 0, b"1", number=3) + end(CODE, 1, number=3) + message(KILL, exec=3)
    yield "prepare", b"\0" + hello + message(PREPARE, id=1, language="shell", count=2) + plain + short + message(
        PREPARE, id=2, language="shell", count=0) + message(PREPARE, id=3, language="cobol", count=2**63 - 1)
    yield "resumed", b"\0" + hello + plain + short + SYNC + message(HELLO, received={"9": 2, "10": 0}, **HELLO_FIELDS) + credit(
        STDOUT, 4, WINDOW + 4, number=2)
    yield "before-hello", b"\0" + execute + code
    yield "guest-frame", b"\0" + hello + message(PONG, id=1)


def frames():
    for name, body in guest_frames():
        yield "guest-" + name, b"\3\0" + body[2:]
    for name, body in host_frames():
        yield "host-" + name, b"\4\0" + body[1:]
    yield "marker", b"\2\1" + b"M" * 9 + b"xM" + SYNC + message(PONG, id=1)


GREETING = ('{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, '
            '"capabilities": ["oob"]}}\r\n')


def qmp():
    ready = GREETING + '{"return": {}, "id": 1}\r\n'
    answers = "".join('{"return": {"status": "running", "running": true}, "id": %d}\r\n' % i for i in range(2, 12))
    stamp = '"timestamp": {"seconds": 1700000000, "microseconds": 5}'
    change = '{"event": "BALLOON_CHANGE", "data": {"actual": 134217728}, %s}\r\n' % stamp
    stats = ('{"return": {"stats": {"stat-free-memory": 1000, "stat-total-memory": 262144000, '
             '"stat-available-memory": -1, "stat-swap-in": 18446744073709551615}, "last-update": 1700000000}, "id": %d}\r\n')
    texts = {
        "greeting": GREETING,
        "ready": ready,
        "answers": ready + answers,
        "backwards": ready + "".join(reversed(answers.splitlines(keepends=True))),
        "balloon": ready + change + answers + change,
        "query-balloon": ready + "".join('{"return": {"actual": 134217728}, "id": %d}\r\n' % i for i in range(2, 12)),
        "stats": ready + "".join(stats % i for i in range(2, 12)),
        "errors": ready + "".join('{"error": {"class": "GenericError", "desc": "no"}, "id": %d}\r\n' % i for i in range(2, 12)),
        "twice": ready + '{"return": {}, "id": 2}\r\n' * 2,
        "unknown-id": ready + '{"return": 1, "id": 99}\r\n{"return": 1, "id": "x"}\r\n{"return": 1}\r\n',
        "event-first": '{"event": "RESUME", %s}\r\n' % stamp + ready,
        "refused": GREETING + '{"error": {"class": "CommandNotFound", "desc": "no"}, "id": 1}\r\n',
        "shutdown": ready + '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}, %s}\r\n' % stamp,
        "no-json": ready + "hello\r\n",
        "array": ready + "[1]\r\n",
    }
    for name, text in texts.items():
        yield name, b"\0" + text.encode()
    yield "balloon-in-pieces", b"\x0b" + texts["balloon"].encode()


def vectors():
    """What tests/vectors send, one input a case, without the cases that are only large."""
    folder = os.path.join(HERE, "..", "vectors")
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".txt"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            cases = re.split(r"^== ", file.read(), flags=re.M)[1:]
        for number, case in enumerate(cases):
            if "--*" in case:
                continue
            sent = "".join(line[4:] + "\\n" if line.startswith("-->") else line[4:]
                           for line in case.split("\n") if line.startswith(("-->", "---")))
            raw = re.sub(rb"\\(x[0-9a-fA-F]{2}|[nrt0\\])", unescape, sent.encode())
            if 0 < len(raw) < 2000:
                yield f"{name[:-4]}-{number:02}", raw


def unescape(match):
    text = match.group(1)
    if text[:1] == b"x":
        return bytes([int(text[1:], 16)])
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}[text]


RUN_PARAMS = {
    "run": {"language": "python", "code": "print(1)"},
    "run-full": {"language": "shell", "code": "cat", "args": ["-", "x"], "stdin": "AAEC", "stdin_encoding": "base64",
                 "env": {"NAME": "v"}, "timeout_seconds": 1.5, "stream": True,
                 "limits": {"memory_mb": 192, "pids": 16, "disk_mb": 8, "cpu_seconds": 2, "stdout_bytes": 10,
                            "stderr_bytes": 0, "on_output": "stop"}},
    "run-blank": {"language": "python", "code": " \n"},
    "run-nul": {"language": "python", "code": "a\0b"},
    "run-bad-base64": {"language": "python", "code": "1", "stdin": "A===", "stdin_encoding": "base64"},
    "run-ld": {"language": "python", "code": "1", "env": {"LD_PRELOAD": "x", "": "y"}},
    "run-edges": {"language": "javascript", "code": "1", "timeout_seconds": 0.1, "limits": {"memory_mb": 1}},
    "run-huge": {"language": "python", "code": "1", "timeout_seconds": 1e308, "limits": {"memory_mb": 2**62}},
    "vm": {"vm": "vm_0123456789abcdef"},
    "balloon": {"vm": "vm_1", "target_mb": 128},
    "subscribe": {"types": ["vm.*", "*"], "since_seq": 3},
    "unsubscribe": {"subscription": "sub_1"},
    "session": {"language": "python", "env": {"A": "1"}, "name": "box", "metadata": {"k": "v"}, "idle_timeout_seconds": 9,
                "limits": {"memory_mb": 512}, "bind": "connection", "on_timeout": "close"},
    "session-command": {"session": "box", "command": "echo $A", "env": {"A": "2"}, "stdin": "x", "stream": True},
    "session-argv": {"session": "ses_1", "argv": ["ls", "-l", ""], "timeout_seconds": 2.5},
    "session-background": {"session": "box", "argv": ["sh"], "background": True, "cwd": "a/b", "stdin": "x",
                           "terminal": {"rows": 24, "columns": 80}},
    "process": {"session": "box", "process": "proc_1"},
    "process-signal": {"session": "box", "process": "proc_1", "signal": "SIGINT"},
    "process-write": {"session": "box", "process": "proc_1", "data": "eA==", "encoding": "base64"},
    "process-resize": {"session": "box", "process": "proc_1", "rows": 1, "columns": 65535},
    "process-wait": {"session": "box", "process": "proc_1", "timeout_seconds": 0, "stdout_offset": 3, "stderr_offset": 0},
    "run-files": {"language": "shell", "code": "cat", "files": [{"path": "a/b", "data": "AA==", "encoding": "base64", "mode": "0755"}],
                  "collect": ["/home/user/a", "b"]},
    "run-files-bad": {"language": "python", "code": "1", "files": [{"path": "main.py", "data": ""}], "collect": ["../x", "/etc/passwd"]},
    "exec-id": {"language": "python", "code": "1", "exec_id": "e", "retain_seconds": 5},
    "file": {"session": "box", "path": "/home/user/a//b", "recursive": True, "mode": "755"},
    "file-write": {"session": "box", "path": "a", "data": "x", "append": True, "mode": "0644"},
    "file-upload": {"session": "box", "path": "a", "upload": "open", "data": "eA==", "encoding": "base64", "commit": True, "offset": 0},
    "file-upload-on": {"session": "box", "upload": "upl_1", "descriptor": True, "size": 9, "offset": 1099511627776},
    "file-read": {"session": "box", "path": "a", "offset": 3, "length": 8388608, "encoding": "base64"},
    "file-rename": {"session": "box", "path": "a", "new_path": "/home/user", "replace": True},
    "file-nul": {"session": "box", "path": "a\0b", "new_path": "/home/userx"},
    "session-list": {"limit": 2, "cursor": "7", "state": "idle"},
    "empty": {},
    "unknown": {"colour": {"deep": [[{}]]}},
}


def method_params():
    for name, params in RUN_PARAMS.items():
        yield name, json.dumps(params).encode()


def rpc_line():
    for name, raw in vectors():
        yield name, b"\0" + raw

    def call(method, number=1, **params):
        return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode() + b"\n"

    run = RUN_PARAMS["run"]
    cancel = b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}\n'
    yield "cancel", b"\0" + call("run", **run) + cancel
    yield "release", b"\0" + call("run", **run) + call("run", "two", **run) + call("info", 3)
    yield "same-id", b"\0" + call("run", **run) * 2
    yield "at-once", b"\x09" + call("health") + call("rpc.ping", 2) + call("rpc.version", 3)
    yield "events", b"\0" + call("events.subscribe", types=["vm.*"], since_seq=0) + call("info", 2) + call(
        "events.unsubscribe", 3, subscription="sub_1")
    yield "batch", b"\0[" + b",".join(call(method, i, **run)[:-1] for i, method in enumerate(["run", "info", "rpc.ping"])) + b"]\n"
    yield "unfinished", b"\x10" + call("run", **run)[:-9]


def config():
    with open(os.path.join(HERE, "..", "..", "conf", "execsandboxd.conf"), encoding="utf-8") as file:
        shipped = file.read()
    set_all = re.sub(r"^#([a-z_]+ = )", r"\1", shipped, flags=re.M)
    texts = {
        "all-keys": re.sub(r"^#.*\n|^\n", "", set_all, flags=re.M),
        "comments": shipped[:600],
        "unknown-key": "[vm]\nno_such = 1\n[nowhere]\na = b\n",
        "sizes": "[limits]\ncode_max_bytes = 192M\nstdin_max_bytes = 1K\nstdout_max_bytes = 12x\n",
        "twice": "[vm]\nmax_vms = 1\nmax_vms = 2\n",
        "no-section": "max_vms = 1\n",
        "no-value": "[daemon]\nnode =\nadmin_group\n",
        "quotes": "[daemon]\nnode = \"a b\"\n user = 'x'\nlog_level = DEBUG ; note\n",
        "seconds": "[limits]\ndefault_timeout_seconds = 0.000001\nmax_timeout_seconds = 1.2345678\n",
        "contradiction": "[memory]\nmin_memory_mb = 512\nmax_memory_mb = 128\n",
        "crlf": "[vm]\r\naccel = tcg\r\n",
    }
    for name, text in texts.items():
        yield name, text.encode()
    yield "nul", b"[vm]\naccel = t\0cg\n"
    yield "latin1", b"[daemon]\nnode = caf\xe9\n"


def launcher():
    vm = "vm_0123456789abcdef"
    words = {"type": "spawn", "id": vm, "argv": ["/usr/bin/bwrap", "--", "q"], "limits": [[7, 64], [4, -1]], "oom_score_adj": 500,
             "no_huge_pages": True, "has_info_fd": True, "cgroup": {"memory_max_bytes": 1 << 28, "cpu_percent": 100, "pids_max": 64}}

    def lines(*packets):
        return b"\n".join(one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode() for one in packets)

    def said(kind, **more):
        return {"type": kind, "id": vm, **more}

    def with_fds(count, packet):
        return b"+" * count + lines(packet)

    yield "spawn", b"\0" + lines(with_fds(5, words))
    yield "spawn-plain", b"\0" + lines({**words, "has_info_fd": False}, {**words, "has_info_fd": True})
    for name, wrong in (("id", {"id": "../vm_0123456789abcdef"}), ("argv", {"argv": ["q"]}), ("limits", {"limits": [[1]] * 17}), (
            "leaf", {"cgroup": {"memory_max_bytes": 0}}), ("score", {"oom_score_adj": -1})):
        yield "spawn-" + name, b"\0" + lines({**words, **wrong})
    yield "too-many-fds", b"\0" + lines(with_fds(34, words), with_fds(60, words))
    yield "no-object", b"\0" + lines([1], b"", b"{")
    hello, synced = {"type": "hello", "version": 1, "cgroup": "v2", "pid": 7}, {"type": "synced"}
    yield "list", b"\1" + lines(with_fds(1, hello), with_fds(1, said("vm", pid=9)), synced, b"!a", said("end", stderr="x"), said(
        "gone", end=1, code=3, oom_kill=True), b"!d")
    yield "life", b"\1" + lines(hello, synced, b"!s", said("spawned"), with_fds(1, said("pid", pid=5)), b"!k", said("end"), said("gone", end=2, code=9))
    yield "failed", b"\1" + lines(hello, synced, b"!s", said("failed", errno=2), said("gone"))
    yield "lost", b"\1" + lines(hello, synced, b"!s", with_fds(1, said("pid", pid=5)), b"!s", {"type": "gone"})
    yield "version", b"\1" + lines({**hello, "version": 2}, synced)
    yield "foreign-end", b"\1" + lines(hello, said("vm", pid=9), synced, said("gone", end=0), said("vm"), b"!a")
    yield "twice", b"\1" + lines(hello, synced, b"!s", b"!s", with_fds(2, said("pid", pid=5)), with_fds(1, said("pid", pid=6)), said("end"), said("end"))


def manifest():
    fields = {"version": 1, "identity": {"qemu": "7.2", "argv": ["-M", "microvm"], "memory_mb": 256}, "memory_mb": 256,
              "state_bytes": 57344, "sync": SYNC.hex(), "ram_sha256": "0a" * 32, "state_sha256": "1b" * 32}

    def text(**more):
        whole = {key: value for key, value in {**fields, **more}.items() if value is not None}
        canonical = json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()
        return json.dumps({**whole, "checksum": hashlib.sha256(canonical).hexdigest()}, indent=2).encode() + b"\n"

    yield "good", text()
    yield "version", text(version=2)
    yield "unknown", text(colour="red")
    yield "missing", text(state_sha256=None)
    yield "checksum", text().replace(b"7.2", b"7.3")
    yield "trailer", text(sync="0a" * 16)
    yield "upper-case", text(ram_sha256="0A" * 32)
    yield "zero", text(memory_mb=0)
    yield "largest", text(memory_mb=1 << 20, state_bytes=1 << 20)
    yield "too-large", text(state_bytes=(1 << 20) + 1)
    yield "real", text(memory_mb=256.0, identity={"a": 1e308, "b": -0.0, "c": 0.1})
    yield "identity", text(identity=[])
    yield "deep", text(identity={"a": [[[[{"b": [None, True, "\u00e9\U0001f600"]}]]]]})
    yield "twice", b'{"version": 1, "version": 1}'
    yield "array", b"[1]"
    yield "cut", text()[:100]


def records():
    vm, result, ring, spool = range(4)
    lost, gone, silent, deadline = 4, 8, 16, 32
    request = {"language": "python", "stop_at_limit": False, "env": {"A": "1"}, "memory_mb": 256, "vm_memory_mb": 256, "stdout_limit": 9999,
               "stderr_limit": 9999, "pids": 64, "cpu_seconds": 0, "disk_mb": 64}
    process = {"id": "proc_1", "number": 1, "command": "sleep 9", "rows": 0, "columns": 0, "begun_us": 1, "started_ns": 1, "stdout_limit": 64, "stderr_limit": 64,
               "is_closing": False}
    exited = {"exec": 1, "reason": "exited", "exit_code": 0, "signal": 0, "stdout_bytes": 5, "stderr_bytes": 5, "cpu_user_us": 1,
              "memory_peak_bytes": 1, "execute_us": 1}
    session = {"kind": "session", "id": "ses_1", "name": "box", "order": 3, "start": 0, "exec_count": 1, "created_ns": 1, "expires_us": 0,
               "idle_timeout_seconds": 60.0, "timeout_seconds": 0.0, "metadata": {"k": "v"}, "last_number": 2, "request": request,
               "processes": []}
    running = {"uid": 0, "exec_id": "e", "state": "running", "bytes": 9000, "asked_ns": 1, "params": {"session": "ses_1", "code": "1", "exec_id": "e"},
               "vm": "vm_1", "session": "ses_1", "language": "python", "start": "warm", "number": 2, "asked_us": 1, "granted_us": 2,
               "dispatched_us": 3, "settled": {**request, "timeout_seconds": 9.0}}
    ended = {"uid": 0, "exec_id": "e", "state": "ended", "request": "0a" * 32, "ended_us": 2**63 - 1}
    done = {"status": "ok", "exit_code": 0, "stdout": "hi", "stderr": "/w==", "stderr_encoding": "base64"}
    error = {"code": 3004, "message": "The VM is lost", "data": {"name": "VM_LOST", "retryable": False}}
    run = {**running, "params": {"language": "python", "code": "1", "exec_id": "e", "timeout_seconds": 9}, "session": None}

    def text(value):
        return json.dumps({key: one for key, one in value.items() if one is not None}, separators=(",", ":")).encode()

    def of_vm(owner, program=None, hello=None, steps=b"", flags=0, **more):
        fields = {"id": "vm_1", "language": "python", "memory_mb": 256, "uid": 0, "is_clone": True, "created_ns": 1, "start_us": 1,
                  "sync": SYNC.hex(), **more}
        return bytes([vm | flags]) + b"\0".join([text({"version": 1, "vm": fields, "owner": owner}), text(program) if program else b"",
                                                 text(hello) if hello else b"", steps])

    def knows(*numbers, **received):
        return {"version": 1, "execs": list(numbers), "received": {str(key[1:]): value for key, value in received.items()}}

    with_processes = {**session, "processes": [process, {**process, "id": "proc_2", "number": 7}]}
    with_ended = {**session, "processes": [{**process, "exit": json.dumps(exited), "execute_us": 1, "ended_ns": 2}]}
    yield "session", of_vm(session, hello=knows())
    yield "session-gone", of_vm(with_processes, running, flags=gone)
    yield "session-silent", of_vm(with_processes, running, flags=silent | deadline)
    yield "session-processes", of_vm(with_processes, hello=knows(1, _4=0), steps=step(RAW, data(STDOUT, 5, b"more")) + step(
        RAW, end(STDOUT, 9) + end(STDERR, 5) + receipt(stdout_bytes=9, stderr_bytes=5)))
    yield "session-process-forgotten", of_vm(with_processes, hello=knows())
    yield "session-ended", of_vm(with_ended, hello=knows())
    yield "session-strays", of_vm(session, hello=knows(3, 4), steps=step(RAW, receipt(exec=3) + receipt(exec=4)))
    yield "session-strays-stay", of_vm(session, hello=knows(3), flags=deadline)
    yield "session-program", of_vm(session, running, knows(2, _11=1, _8=0), step(RAW, data(STDOUT, 4, b"!", 2) + end(STDOUT, 5, 2) + end(
        STDERR, 0, 2) + receipt(exec=2, stdout_bytes=5)))
    yield "session-program-forgotten", of_vm(with_processes, running, knows(1))
    yield "session-program-sent-again", of_vm(session, {**running, "number": 3}, knows(_12=0))
    yield "session-timeout", of_vm({**session, "expires_us": 5, "timeout_seconds": 5.0}, hello=knows(), flags=deadline)
    yield "session-no-request", of_vm({**session, "request": {}})
    yield "session-no-processes", of_vm({**session, "processes": {}})
    yield "run", of_vm({"kind": "run"}, run, knows(2, _11=1, _8=0), step(RAW, end(STDOUT, 4, 2) + end(STDERR, 0, 2) + receipt(
        exec=2, stdout_bytes=4)))
    yield "run-deadline", of_vm({"kind": "run"}, run, knows(2, _11=1, _8=0), flags=deadline)
    yield "run-gone", of_vm({"kind": "run"}, run, flags=gone)
    yield "run-unknown", of_vm({"kind": "run"})
    yield "run-collect", of_vm({"kind": "run"}, {**run, "params": {**run["params"], "collect": ["a"]}}, knows(2, 9, _11=1, _8=0), step(
        RAW, end(STDOUT, 4, 2) + end(STDERR, 0, 2) + receipt(exec=2, stdout_bytes=4)))
    yield "vm-other", of_vm(session, id="vm_2")
    yield "vm-numbers", of_vm(session, memory_mb=0, uid=-1)
    for name, one in {"running": running, "running-run": run, "ended": {**ended, "result": done}, "error": {**ended, "error": error},
                      "ended-both": {**ended, "result": done, "error": error}, "ended-long-ago": {**ended, "result": done, "ended_us": 1},
                      "running-number": {**running, "number": 0}, "state": {**running, "state": "gone"}}.items():
        yield name, bytes([result]) + text(one)
    yield "lost", bytes([result | lost]) + text(running)

    def of_ring(limit, size, start, stop, content):
        return struct.pack("<8Q", 0x31676e6972627378, size, limit, start, stop, 0, 0, 0) + content

    for name, file in {"empty": of_ring(64, 0, 0, 0, b""), "full": of_ring(64, 8, 5, 13, b"abcdefgh"),
                                           "behind": of_ring(64, 8, 50, 9, b"abcdefgh"), "half": of_ring(64, 8, 1, 4, b"\xc3\xa9cdefgh"),
                                           "too-much": of_ring(64, 8, 1, 10, b"abcdefgh"), "size": of_ring(64, 9, 1, 2, b"abcdefgh"),
                                           "far": of_ring(64, 8, 2**63 - 9, 2**63 - 1, b"abcdefgh"), "cut": b"xsbring1"}.items():
        yield "ring-" + name, bytes([ring, 1]) + file
    for limit in range(5):
        yield f"ring-limit-{limit}", bytes([ring, limit]) + of_ring((0, 64, 4096, 10000, 1 << 20)[limit], 0, 0, 0, b"")
        yield f"spool-limit-{limit}", bytes([spool, limit]) + b"h\xc3\xa9llo" * 6


def main():
    for make in [config, frames, guest_files, guest_frames, guest_session, host_frames, launcher, manifest, method_params, qmp, records, rpc_line]:
        folder = os.path.join(HERE, "corpus", make.__name__)
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            if name.startswith("seed-"):
                os.remove(os.path.join(folder, name))
        for name, content in make():
            with open(os.path.join(folder, "seed-" + name), "wb") as file:
                file.write(content)


if __name__ == "__main__":
    main()
