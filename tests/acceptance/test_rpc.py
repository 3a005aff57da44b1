# SPDX-License-Identifier: Apache-2.0
"""The wire and the errors of the public API, over the real socket."""

import json
import shutil
import subprocess
import unittest

from client import Closed, RpcError
from support import SOCKET, DaemonTest, as_other_user, connect, exclusive, needs_root, vms_seen

MIB = 1 << 20
PING = {"jsonrpc": "2.0", "id": 1, "method": "rpc.ping"}
PONG = {"jsonrpc": "2.0", "id": 1, "result": "pong"}


class Wire(DaemonTest):
    def exchange(self, data, count=1):
        """Sends bytes; returns the next messages."""
        self.client.send_raw(data)
        return [self.client.read_message() for _ in range(count)]

    def assert_quiet(self):
        """Nothing but the answer to a ping is waiting on the connection."""
        self.client.send_raw(b'{"jsonrpc":"2.0","id":"quiet","method":"rpc.ping"}\n')
        self.assertEqual(
            self.client.read_message(), {"jsonrpc": "2.0", "id": "quiet", "result": "pong"}
        )

    def test_bad_lines(self):
        """A line that is no JSON is answered -32700 with id null, and reading goes on."""
        for line in (
            b"hello", b"{", b'{"jsonrpc":"2.0",}', b"[1,", b"\xff\xfe", b'{"a":"\xc3"}',
            b'{"jsonrpc":"2.0","id":1,"id":2,"method":"rpc.ping"}', b"[" * 5000, b"nul",
            b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"} x',
        ):
            with self.subTest(line=line[:60]):
                (reply,) = self.exchange(line + b"\n")
                self.assertEqual((reply["id"], reply["error"]["code"]), (None, -32700))
                self.assertEqual(reply["jsonrpc"], "2.0")
                self.assertEqual(reply["error"]["data"]["name"], "PARSE_ERROR")
        self.assert_quiet()

    def test_line_ends(self):
        """Blank lines and carriage returns are accepted; replies are one line each."""
        text = json.dumps(PING).encode()
        self.assertEqual(self.exchange(b"\n\r\n  \n" + text + b"\r\n"), [PONG])
        self.assertEqual(self.exchange(text + b"\n" + text + b"\n", 2), [PONG, PONG])
        self.assert_quiet()

    def test_split_line(self):
        """A request that comes byte by byte is one request."""
        for byte in json.dumps(PING).encode() + b"\n":
            self.client.send_raw(bytes([byte]))
        self.assertEqual(self.client.read_message(), PONG)

    def test_invalid_requests(self):
        """JSON that is no JSON-RPC 2.0 request is -32600."""
        for message, request_id in (
            (1, None), ("x", None), (None, None), ([], None), ({}, None),
            ({"jsonrpc": "1.0", "id": 7, "method": "rpc.ping"}, 7),
            ({"id": 7, "method": "rpc.ping"}, 7),
            ({"jsonrpc": "2.0", "id": 7}, 7),
            ({"jsonrpc": "2.0", "id": 7, "method": 5}, 7),
            ({"jsonrpc": "2.0", "id": {}, "method": "rpc.ping"}, None),
            ({"jsonrpc": "2.0", "id": True, "method": "rpc.ping"}, None),
            ({"jsonrpc": "2.0", "id": "x" * 129, "method": "rpc.ping"}, None),
        ):
            with self.subTest(message=message):
                (reply,) = self.exchange(json.dumps(message).encode() + b"\n")
                self.assertEqual((reply["error"]["code"], reply["id"]), (-32600, request_id))
        self.assert_quiet()

    def test_ids(self):
        """Strings, numbers and null come back as they were sent."""
        for text in ('"a"', '""', '"ü"', "0", "-5", "1.5", "9007199254740993", "null",
                     '"' + "x" * 128 + '"'):
            with self.subTest(id=text):
                self.client.send_raw(
                    b'{"jsonrpc":"2.0","id":%s,"method":"rpc.ping"}\n' % text.encode()
                )
                reply = self.client.read_message()
                self.assertEqual(reply["id"], json.loads(text))
                self.assertEqual(reply["result"], "pong")

    def test_params(self):
        """params null is absent; a list is refused; a notification is never answered."""
        for params in (None, {}):
            self.assertEqual(
                self.exchange(json.dumps(dict(PING, params=params)).encode() + b"\n"), [PONG]
            )
        (reply,) = self.exchange(json.dumps(dict(PING, params=[1])).encode() + b"\n")
        self.assertEqual(reply["error"]["code"], -32602)
        for method in ("rpc.ping", "no.such.method", "run"):
            self.client.notify(method, unknown=1)
        self.client.notify("$/cancelRequest", id="nobody")
        self.assert_quiet()

    def test_batch(self):
        """A batch: one array of replies; [] is one error; notifications alone give no bytes."""
        batch = [
            PING, {"jsonrpc": "2.0", "method": "rpc.ping"}, 5,
            {"jsonrpc": "2.0", "id": 2, "method": "no.such"},
        ]
        (replies,) = self.exchange(json.dumps(batch).encode() + b"\n")
        self.assertEqual(len(replies), 3)
        by_id = {reply["id"]: reply for reply in replies}
        self.assertEqual(by_id[1], PONG)
        self.assertEqual(by_id[2]["error"]["code"], -32601)
        self.assertEqual(by_id[None]["error"]["code"], -32600)
        (reply,) = self.exchange(b"[]\n")
        self.assertEqual((reply["id"], reply["error"]["code"]), (None, -32600))
        self.client.send_raw(b'[{"jsonrpc":"2.0","method":"rpc.ping"}]\n')
        self.assert_quiet()

    def test_batch_limit(self):
        """64 elements are served; 65 are one error."""
        def ping(count):
            return json.dumps([dict(PING, id=i) for i in range(count)]).encode() + b"\n"

        (replies,) = self.exchange(ping(64))
        self.assertEqual(sorted(reply["id"] for reply in replies), list(range(64)))
        (reply,) = self.exchange(ping(65))
        self.assertIn(reply["error"]["code"], (-32600, 1011))
        self.assert_quiet()

    def test_too_large(self):
        """A message over 16 MiB: 1010, then the end of the connection; others go on."""
        self.client.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping","params":{"x":"')
        try:
            for _ in range(17):
                self.client.send_raw(b"x" * MIB)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the rest was not wanted
        reply = self.client.read_message()
        self.assertEqual((reply["id"], reply["error"]["code"]), (None, 1010))
        self.assertEqual(reply["error"]["data"]["name"], "MESSAGE_TOO_LARGE")
        with self.assertRaises((Closed, ConnectionResetError)):
            self.client.read_message(timeout=20)
        with connect() as other:
            self.assertEqual(other.call("rpc.ping"), "pong")

    def test_half_close(self):
        """A client that only shut its sending side still gets its replies, then the end."""
        self.client.send(PING)
        self.client.half_close()
        self.assertEqual(self.client.read_message(), PONG)
        with self.assertRaises(Closed):
            self.client.read_message(timeout=10)

    def test_half_close_run(self):
        """The same while a VM runs the program."""
        request_id = self.client.request("run", language="shell", code="echo hello")
        self.client.half_close()
        self.assertEqual(self.finish(request_id)["stdout"], "hello\n")
        with self.assertRaises(Closed):
            self.client.read_message(timeout=10)

    @unittest.skipUnless(shutil.which("socat"), "needs socat")
    def test_socat(self):
        """printf | socat is a client."""
        done = subprocess.run(
            ["socat", "-t", "20", "-", f"UNIX:{SOCKET}"], input=json.dumps(PING).encode() + b"\n",
            capture_output=True, timeout=30, check=True,
        )
        self.assertEqual(json.loads(done.stdout), PONG)
        self.assertTrue(done.stdout.endswith(b"\n"))


class Methods(DaemonTest):
    def test_builtin(self):
        """rpc.ping, rpc.version, rpc.discover; every method that is described can be called."""
        self.assertEqual(self.client.call("rpc.ping"), "pong")
        self.assertEqual(self.client.call("rpc.version")["jsonrpc"], "2.0")
        document = self.client.call("rpc.discover")
        self.assertEqual(document["openrpc"], "1.3.2")
        names = [method["name"] for method in document["methods"]]
        for name in ("run", "info", "health", "vm.list", "vm.info", "memory.stats",
                     "memory.balloon", "memory.reclaim", "memory.policy", "metrics",
                     "events.subscribe", "events.unsubscribe"):
            self.assertIn(name, names)
        for name in names:
            with self.subTest(method=name):
                with self.assertRaises(RpcError) as caught:
                    self.client.call(name, no_such_parameter=1)
                self.assertIn(caught.exception.code, (-32602, 1002))

    def test_info(self):
        """info: version, accelerator, languages, limits; health: ready, with its checks."""
        info = self.client.call("info")
        self.assertRegex(info["version"], r"^\d+\.\d+")
        self.assertEqual(info["languages"], ["python", "javascript", "shell"])
        self.assertIn(info["accelerator"]["name"], ("tcg", "kvm"))
        self.assertIn(info["cgroups"], ("v2", "v1", "none"))
        self.assertGreaterEqual(info["limits"]["memory_mb_max"], 256)
        health = self.client.call("health")
        self.assertTrue(health["ready"], health)
        self.assertGreater(len(health["checks"]), 0)
        for check in health["checks"]:
            self.assertEqual(sorted(check), ["detail", "name", "ok"])

    @needs_root
    def test_metrics(self):
        """metrics: Prometheus' text, each family with its help and type, and this run counted in it."""
        name = 'execsandbox_runs_total{language="shell",status="ok"}'

        def read():
            result = self.client.call("metrics")
            self.assertEqual(result["content_type"], "text/plain; version=0.0.4")
            lines = result["text"].splitlines()
            families = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
            self.assertEqual(families, [line.split()[2] for line in lines if line.startswith("# HELP ")])
            self.assertEqual(len(families), len(set(families)))
            samples = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
            return {sample: float(value) for sample, value in samples}

        before = read()
        self.run_ok("true", "shell")
        self.assertGreater(read()[name], before[name])

    def test_not_built(self):
        """Methods of the API that are not built do not exist: -32601 with a hint."""
        for method in (
            "session.fork", "sandbox.pause", "file.copy",
            "config.get", "port.open", "snapshot.create", "", "RUN", "rpc.",
            "no.such", "$/other",
        ):
            with self.subTest(method=method):
                error = self.assert_error(-32601, "METHOD_NOT_FOUND", method)
                self.assertTrue(error.data.get("hint"))

    @needs_root
    def test_reload(self):
        """daemon.reload takes nothing over where nothing differs; who is no admin may neither reload nor drain."""
        self.assertEqual(self.client.call("daemon.reload"), {"changed": []})
        out = as_other_user("""
for method in ("daemon.reload", "daemon.drain"):
    try:
        client.call(method)
    except RpcError as error:
        print(error.code)
""")
        self.assertEqual(out.split(), ["1002", "1002"])

    def test_unknown_vm(self):
        """A VM that does not exist: 4030 with its id."""
        for method in ("vm.info", "memory.stats"):
            error = self.assert_error(4030, "VM_NOT_FOUND", method, vm="vm_nobody")
            self.assertEqual(error.data["vm"], "vm_nobody")

    @needs_root
    def test_unknown_vm_of_admin(self):
        """The same for what only an admin may call."""
        for method, params in (("memory.balloon", {"target_mb": 128}), ("memory.reclaim", {"bytes": MIB})):
            error = self.assert_error(4030, "VM_NOT_FOUND", method, vm="vm_nobody", **params)
            self.assertEqual(error.data["vm"], "vm_nobody")

    def test_parameters(self):
        """Unknown, missing and wrongly typed parameters: -32602 naming the field."""
        for params, field in (
            ({"colour": "red"}, "colour"),
            ({"packages": ["numpy"]}, "packages"), ({"network": "none"}, "network"),
            ({"exec_id": ""}, "exec_id"), ({"exec_id": "x" * 129}, "exec_id"), ({"template": "x"}, "template"),
            ({"files": {}}, "files"), ({"files": [{"data": ""}]}, "files[0].path"), ({"collect": [1]}, "collect"),
            ({"metadata": {}}, "metadata"),
            ({"code": 5}, "code"), ({"code": None}, "code"), ({"language": 5}, "language"),
            ({"args": "x"}, "args"), ({"args": [1]}, "args"), ({"env": []}, "env"),
            ({"env": {"A": 1}}, "env"), ({"timeout_seconds": "5"}, "timeout_seconds"),
            ({"stream": 1}, "stream"), ({"limits": 5}, "limits"),
            ({"limits": {"memory_mb": 256.5}}, "limits.memory_mb"),
            ({"limits": {"colour": 1}}, "limits.colour"),
            ({"limits": {"cpu_percent": 50}}, "limits.cpu_percent"),
            ({"stdin": 5}, "stdin"), ({"stdin": "?", "stdin_encoding": "base64"}, "stdin"),
            ({"stdin": "x", "stdin_encoding": "rot13"}, "stdin_encoding"),
            ({"args": ["a\0b"]}, "args"),
        ):
            with self.subTest(params=params):
                error = self.assert_run_error(-32602, "INVALID_PARAMS", **params)
                self.assertEqual(error.data["field"], field)
                self.assertIn(field.rpartition(".")[2], error.message)
        for missing in ("code", "language"):
            with self.subTest(missing=missing):
                params = {"language": "python", "code": "x"}
                del params[missing]
                error = self.assert_error(-32602, "INVALID_PARAMS", "run", **params)
                self.assertEqual(error.data["field"], missing)


class RunErrors(DaemonTest):
    def test_code(self):
        """2001: code that is empty, blank, holds a NUL, or is over 1 MiB; with a hint."""
        for code in ("", "  \n\t\r\n", "print(1)\0", "\0", "#" * (MIB + 1)):
            with self.subTest(code=code[:20]):
                error = self.assert_run_error(2001, "CODE_INVALID", code=code)
                self.assertTrue(error.data["hint"])
                self.assertFalse(error.data["retryable"])

    def test_env(self):
        """2002: names that change how code is loaded, bad names, NUL in values, too many."""
        for env in (
            {"LD_PRELOAD": "x"}, {"LD_LIBRARY_PATH": "x"}, {"PYTHONPATH": "x"},
            {"PYTHONHOME": "x"}, {"PYTHONSTARTUP": "x"}, {"BASH_ENV": "x"},
            {"NODE_OPTIONS": "x"}, {"1A": "x"}, {"": "x"}, {"A=B": "x"}, {"A B": "x"},
            {"Ä": "x"}, {"A": "x\0y"}, {f"N{i}": "" for i in range(101)},
            {"A": "x" * (200 << 10)},
        ):
            with self.subTest(env=str(env)[:60]):
                error = self.assert_run_error(2002, "ENV_INVALID", env=env)
                self.assertEqual(error.data["field"], "env")

    def test_language(self):
        """2003: an unknown language, with the known ones."""
        for language in ("cobol", "", "Python", "python3", "typescript"):
            with self.subTest(language=language):
                error = self.assert_run_error(2003, "LANGUAGE_UNKNOWN", language=language)
                self.assertEqual(
                    sorted(error.data["known"]), ["javascript", "python", "shell"]
                )

    def test_limits(self):
        """2006: limits out of bounds, with the bounds."""
        for params, field in (
            ({"timeout_seconds": 0.01}, "timeout_seconds"),
            ({"timeout_seconds": 0}, "timeout_seconds"),
            ({"timeout_seconds": -1}, "timeout_seconds"),
            ({"timeout_seconds": 3601}, "timeout_seconds"),
            ({"limits": {"memory_mb": 1}}, "limits.memory_mb"),
            ({"limits": {"memory_mb": 1 << 20}}, "limits.memory_mb"),
            ({"limits": {"memory_mb": -5}}, "limits.memory_mb"),
            ({"limits": {"pids": 0}}, "limits.pids"),
            ({"limits": {"cpu_seconds": 0}}, "limits.cpu_seconds"),
            ({"limits": {"stdout_bytes": -1}}, "limits.stdout_bytes"),
            ({"limits": {"stdout_bytes": 1 << 30}}, "limits.stdout_bytes"),
        ):
            with self.subTest(params=params):
                error = self.assert_run_error(2006, "LIMIT_INVALID", **params)
                self.assertEqual(error.data["field"], field)
                self.assertLess(error.data["min"], error.data["max"])

    def test_stdin(self):
        """2006: standard input over 4 MiB decoded, as text and as base64."""
        for params in (
            {"stdin": "x" * (4 * MIB + 1)},
            {"stdin": "eHh4" * ((4 * MIB) // 3 + 1), "stdin_encoding": "base64"},
        ):
            error = self.assert_run_error(2006, "LIMIT_INVALID", **params)
            self.assertEqual((error.data["field"], error.data["max"]), ("stdin", 4 * MIB))

    def test_no_vm_for_errors(self):
        """None of these errors has started a VM."""
        request_id = self.client.request("events.subscribe", types=["vm.*"])
        self.client.wait(request_id)
        before = len(self.client.notifications)
        self.assert_run_error(2001, "CODE_INVALID", code="")
        self.assert_run_error(2006, "LIMIT_INVALID", timeout_seconds=0)
        self.client.call("rpc.ping")
        own = {vm["vm"] for vm in self.client.call("vm.list")["vms"]}
        started = [
            params["vm"] for _, params in self.client.notifications[before:] if "vm" in params
        ]
        # Other tests may run beside this one: their VMs are in the list as well.
        self.assertEqual([vm for vm in started if vm not in own | vms_seen], [])


class Streaming(DaemonTest):
    def test_order_and_equality(self):
        """run.started, then run.output with seq rising by one; together they are the result."""
        request_id = self.start(
            """
import sys
for i in range(200):
    sys.stdout.write("zeile %d grüße 日本 🎉\\n" % i)
    if i % 10 == 0:
        sys.stdout.flush()
        print("fehler", i, file=sys.stderr)
sys.stdout.write("ohne Ende")
"""
        )
        result = self.finish(request_id)
        self.assertEqual(result["status"], "ok", result)
        notifications = self.client.notifications
        self.assertEqual(
            notifications[0], ("run.started", {"id": request_id, "vm": result["vm"]})
        )
        chunks = [params for method, params in notifications[1:]]
        self.assertEqual({method for method, _ in notifications[1:]}, {"run.output"})
        first = chunks[0]["seq"]
        self.assertIn(first, (0, 1))
        self.assertEqual(
            [chunk["seq"] for chunk in chunks], list(range(first, first + len(chunks)))
        )
        for stream in ("stdout", "stderr"):
            self.assertEqual(self.client.streamed(request_id, stream), result[stream])
        self.assertTrue(result["stdout"].endswith("zeile 199 grüße 日本 🎉\nohne Ende"))

    def test_as_it_comes(self):
        """Output arrives while the program still runs, without newline too."""
        request_id = self.start(
            "import sys, time\nsys.stdout.write('dot')\nsys.stdout.flush()\n"
            "while True:\n    time.sleep(1)\n"
        )
        self.vm_of(request_id)
        self.client.wait_output(request_id, "dot")
        self.assertNotIn(request_id, self.client.replies)
        self.stop(request_id)

    def test_not_asked_for(self):
        """Without "stream" there are no notifications."""
        self.run_ok("print('x')")
        self.assertEqual(self.client.notifications, [])

    def test_slow_reader(self):
        """A client that does not read holds the guest back; nothing is lost, others are served."""
        request_id = self.start(
            "import sys\nfor i in range(64):\n    sys.stdout.write('%063d\\n' % i * 1024)\n",
            limits={"stdout_bytes": MIB},
        )
        with connect() as other:
            for _ in range(20):
                self.assertEqual(other.call("rpc.ping"), "pong")
        result = self.finish(request_id)
        self.assertEqual((result["status"], result["stdout_bytes"]), ("ok", 4 * MIB))
        self.assertEqual(self.client.streamed(request_id), result["stdout"])


class Cancelling(DaemonTest):
    def test_cancel_running(self):
        """$/cancelRequest: -32800 with the partial output in data.result; the VM ends."""
        request_id = self.start(
            "import time\nprint('begun', flush=True)\nwhile True:\n    time.sleep(1)\n"
        )
        vm = self.vm_of(request_id)
        self.client.wait_output(request_id, "begun\n")
        partial = self.stop(request_id)
        self.assertEqual(
            (partial["status"], partial["stdout"], partial["vm"]), ("cancelled", "begun\n", vm)
        )
        self.assert_vm_ends(vm)

    def assert_vm_ends(self, vm):
        def is_gone():
            return vm not in [entry["vm"] for entry in self.client.call("vm.list")["vms"]]

        self.until(is_gone, f"{vm} ends")

    def test_cancel_waiting(self):
        """A run that has no VM yet is cancelled too."""
        request_id = self.client.request("run", language="python", code="print(1)")
        partial = self.stop(request_id)
        self.assertEqual((partial["status"], partial["stdout"]), ("cancelled", ""))

    def test_cancel_others(self):
        """A connection cannot cancel another's request: ids are its own."""
        request_id = self.client.request("run", language="shell", code="echo alive")
        with connect() as other:
            other.cancel(request_id)
            other.call("rpc.ping")
        self.assertEqual(self.finish(request_id)["stdout"], "alive\n")

    def test_connection_gone(self):
        """A run dies with its connection, at once."""
        with connect() as other:
            request_id = self.start("while True:\n    pass\n", client=other)
            vm = self.vm_of(request_id, other)
        self.assert_vm_ends(vm)

    def test_id_in_flight(self):
        """An id in flight on this connection is refused, with id null: the first goes on."""
        request_id = self.client.request("run", language="shell", code="echo first")
        self.client.send(dict(PING, id=request_id))
        reply = self.client.read_message()
        self.assertEqual((reply["id"], reply["error"]["code"]), (None, -32600))
        self.assertEqual(self.finish(request_id)["stdout"], "first\n")

    def test_completion_order(self):
        """Replies come as calls end: a ping behind a run is answered first."""
        request_id = self.client.request("run", language="shell", code="echo slow")
        self.assertEqual(self.client.call("rpc.ping"), "pong")
        self.assertNotIn(request_id, self.client.replies)
        self.assertEqual(self.finish(request_id)["stdout"], "slow\n")


class Events(DaemonTest):
    def test_life_of_a_vm(self):
        """events.subscribe shows a VM's life in order; unsubscribe ends it; since_seq repeats."""
        subscription = self.client.call("events.subscribe", types=["vm.*"])
        result = self.run_code("true", "shell")

        def of_vm():
            return [
                params for method, params in self.client.notifications
                if method == "event" and params.get("vm") == result["vm"]
            ]

        self.client.wait_notification(
            lambda method, params: params.get("vm") == result["vm"]
            and params["type"] == "vm.gone",
            30,
        )
        events = of_vm()
        types = [event["type"] for event in events]
        self.assertIn("vm.ready", types)
        self.assertEqual(types[-1], "vm.gone")
        sequence = [event["seq"] for event in events]
        self.assertEqual(sequence, sorted(set(sequence)))
        for event in events:
            self.assertEqual(event["subscription"], subscription["subscription"])
            self.assertGreater(event["seq"], subscription["seq"])
            self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$")
        self.client.call("events.unsubscribe", subscription=subscription["subscription"])

        with connect() as other:
            other.call("events.subscribe", types=["vm.gone"], since_seq=sequence[0] - 1)
            repeated = other.wait_notification(
                lambda method, params: params.get("vm") == result["vm"], 10
            )
            self.assertEqual((repeated["type"], repeated["seq"]), ("vm.gone", sequence[-1]))

    def test_refused(self):
        """Subscriptions of others and unknown ones cannot be ended."""
        self.assert_error(
            -32602, "INVALID_PARAMS", "events.unsubscribe", subscription="sub_nobody"
        )
        with connect() as other:
            subscription = other.call("events.subscribe")["subscription"]
            self.assert_error(
                -32602, "INVALID_PARAMS", "events.unsubscribe", subscription=subscription
            )


@exclusive
class Limits(DaemonTest):
    def test_requests_in_flight(self):
        """The 65th request in flight is 1011, retryable; the others go on."""
        # Runs of all the memory there is wait for each other: at most one VM boots.
        memory_mb = self.client.call("info")["limits"]["memory_mb_max"]
        ids = [
            self.client.request(
                "run", language="shell", code="true", limits={"memory_mb": memory_mb}
            )
            for _ in range(64)
        ]
        error = self.assert_error(1011, "TOO_MANY_REQUESTS", "rpc.ping")
        self.assertTrue(error.data["retryable"])
        for request_id in reversed(ids):
            self.client.cancel(request_id)
        for request_id in ids:
            with self.assertRaises(RpcError) as caught:
                self.client.wait(request_id)
            self.assertEqual(caught.exception.code, -32800)
        self.assertEqual(self.client.call("rpc.ping"), "pong")

    def test_waiting_input(self):
        """Input of runs that wait counts against the user's buffers: 1003, and room comes back."""
        memory_mb = self.client.call("info")["limits"]["memory_mb_max"]
        params = {"language": "shell", "code": "sleep 60", "stdin": "x" * (4 * MIB),
                  "limits": {"memory_mb": memory_mb}}
        ids = [self.client.request("run", **params) for _ in range(10)]
        with connect() as other:
            ids_there = [other.request("run", **params) for _ in range(10)]
            codes = []
            for client, request_ids in ((self.client, ids), (other, ids_there)):
                client.call("rpc.ping")
                for request_id in request_ids:
                    client.cancel(request_id)
                for request_id in request_ids:
                    with self.assertRaises(RpcError) as caught:
                        client.wait(request_id)
                    codes.append(caught.exception.code)
            self.assertIn(1003, codes)
            self.assertIn(-32800, codes)
            self.assertEqual(set(codes), {1003, -32800})
        self.assertEqual(self.run_ok("print(1)"), "1\n")

    def test_connections(self):
        """Too many connections of one uid: 1011 with id null, then the end; room comes back."""
        others = []
        try:
            for _ in range(200):
                others.append(connect(timeout=10))
                try:
                    others[-1].call("rpc.ping")
                except (Closed, KeyError, BrokenPipeError, ConnectionResetError):
                    break
            else:
                self.fail("200 connections were accepted")
            reply = others[-1].replies[None]
            self.assertEqual(reply["error"]["code"], 1011)
            self.assertGreaterEqual(len(others), 30)
        finally:
            for other in others:
                other.close()

        def can_connect():
            with connect() as other:
                try:
                    return other.call("rpc.ping") == "pong"
                except (Closed, BrokenPipeError, ConnectionResetError):
                    return False

        self.until(can_connect, "room for a connection")
