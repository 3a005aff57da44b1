# SPDX-License-Identifier: Apache-2.0
"""VMs see nothing of each other, users nothing of each other's VMs, and a run nothing of the last."""

import json

from support import DaemonTest, as_other_user, connect, needs_root, vms_seen

SLEEPER = "import time\nprint('up', flush=True)\nwhile True:\n    time.sleep(1)\n"


class Neighbours(DaemonTest):
    def test_two_vms(self):
        """Two VMs at once: other files, processes, names and random numbers; no way across."""
        with connect() as other:
            secret = self.start(
                """
import os, random, socket, time, uuid
for path in ("/tmp/secret", "/home/user/secret", "/dev/shm/secret"):
    open(path, "w").write("secret")
server = socket.create_server(("127.0.0.1", 7777))
print(os.getrandom(16).hex(), random.random(), uuid.uuid4(), socket.gethostname(),
      open("/etc/machine-id").read().strip(), flush=True)
while True:
    time.sleep(1)
""",
                client=other, args=["only-in-the-first"],
            )
            first = self.vm_of(secret, other)
            other.wait_output(secret, "\n")
            result = self.run_code(
                """
import json, glob, os, random, socket, uuid
commands = []
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        commands.append(open(path).read())
    except OSError:
        pass
with socket.socket() as peer:
    reached = peer.connect_ex(("127.0.0.1", 7777))
print(json.dumps({
    "identity": [os.getrandom(16).hex(), str(random.random()), str(uuid.uuid4()),
                 socket.gethostname(), open("/etc/machine-id").read().strip()],
    "files": [path for path in ("/tmp/secret", "/home/user/secret", "/dev/shm/secret")
              if os.path.exists(path)],
    "processes": [line for line in commands if "only-in-the-first" in line],
    "reached": reached,
}))
"""
            )
            identity = other.streamed(secret).split()
            self.stop(secret, other)
        self.assertNotEqual(result["vm"], first)
        out = json.loads(result["stdout"])
        self.assertEqual((out["files"], out["processes"]), ([], []))
        self.assertNotEqual(out["reached"], 0)
        self.assertEqual(len(identity), 5)
        for one, two in zip(identity, out["identity"]):
            self.assertNotEqual(one, two)

    def test_fresh_every_time(self):
        """A run finds nothing of the run before it."""
        code = """
import os, sys
print(os.path.exists("/tmp/left"), os.path.exists("/home/user/left"))
open("/tmp/left", "w").close()
open("/home/user/left", "w").close()
"""
        results = [self.run_code(code) for _ in range(2)]
        self.assertEqual([result["stdout"] for result in results], ["False False\n"] * 2)
        self.assertNotEqual(results[0]["vm"], results[1]["vm"])


@needs_root
class Users(DaemonTest):
    def test_foreign_vm(self):
        """Another uid sees no VM of ours: not in lists, by id, in memory.stats or events."""
        request_id = self.start(SLEEPER)
        vm = self.vm_of(request_id)
        self.client.wait_output(request_id, "up")
        self.assertIn(vm, [entry["vm"] for entry in self.client.call("vm.list")["vms"]])
        seen = json.loads(
            as_other_user(
                f"""
outcomes = {{}}
for method, params in (
    ("vm.list", {{}}), ("memory.stats", {{}}), ("vm.info", {{"vm": "{vm}"}}),
    ("vm.info", {{"vm": "vm_nobody"}}), ("memory.stats", {{"vm": "{vm}"}}),
    ("memory.balloon", {{"vm": "{vm}", "target_mb": 128}}),
    ("memory.reclaim", {{"vm": "{vm}", "bytes": 1}}), ("memory.policy", {{}}), ("metrics", {{}}),
):
    try:
        outcomes[method + " " + params.get("vm", "")] = client.call(method, **params)
    except RpcError as error:
        outcomes[method + " " + params.get("vm", "")] = [error.code, error.message, error.data]
client.call("events.subscribe", since_seq=0)
client.call("rpc.ping")
outcomes["events"] = [params for _, params in client.notifications]
print(json.dumps(outcomes))
""",
                uid=65533,  # one that no other test runs code as
            )
        )
        self.assertEqual(seen["vm.list "]["vms"], [])
        self.assertEqual(seen["memory.stats "]["vms"], [])
        code, message, data = seen[f"vm.info {vm}"]
        self.assertEqual((code, data["name"]), (4030, "VM_NOT_FOUND"))
        # A foreign VM answers as one that does not exist, word for word.
        nobody = seen["vm.info vm_nobody"]
        self.assertEqual(message.replace(vm, "vm_nobody"), nobody[1])
        self.assertEqual(dict(data, vm="vm_nobody"), nobody[2])
        self.assertEqual(seen[f"memory.stats {vm}"][0], 4030)
        for refused in (f"memory.balloon {vm}", f"memory.reclaim {vm}", "memory.policy ", "metrics "):
            self.assertEqual(seen[refused][0], 1002, refused)
        self.assertEqual([event for event in seen["events"] if event.get("vm") == vm], [])
        self.stop(request_id)

    def test_own_vm(self):
        """Another uid runs code, sees its own VM, its memory and its events."""
        out = json.loads(
            as_other_user(
                f"""
subscription = client.call("events.subscribe", types=["vm.*"])
request_id = client.request("run", language="python", code={SLEEPER!r}, stream=True)
client.wait_output(request_id, "up")
listed = client.call("vm.list")["vms"]
info = client.call("vm.info", vm=listed[0]["vm"])
stats = client.call("memory.stats", vm=listed[0]["vm"])
events = [params for method, params in client.notifications if method == "event"]
client.cancel(request_id)
try:
    client.wait(request_id)
except RpcError as error:
    print(json.dumps([listed, info, stats, events, error.code]))
"""
            )
        )
        listed, info, stats, events, code = out
        self.assertEqual(code, -32800)
        self.assertEqual([vm["uid"] for vm in listed], [65534])
        vms_seen.add(info["vm"])
        self.assertEqual((info["vm"], info["state"]), (listed[0]["vm"], "running"))
        self.assertEqual(stats["vms"][0]["vm"], info["vm"])
        self.assertEqual({event["vm"] for event in events}, {info["vm"]})

    def test_cancel_across_users(self):
        """A foreign uid cannot cancel: request ids belong to a connection."""
        request_id = self.start(SLEEPER)
        self.vm_of(request_id)
        as_other_user(f"client.cancel({request_id})\nclient.call('rpc.ping')")
        self.client.wait_output(request_id, "up")
        self.assertEqual(self.stop(request_id)["status"], "cancelled")


# Tries what a debugger would on every process that it may name, and on a child of its own.
DEBUGGER = r"""
import ctypes, errno, json, os, signal
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_DETACH = 16, 17

def attempt(function, *arguments):
    try:
        function(*arguments)
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]

def attach(pid):
    if libc.ptrace(PTRACE_ATTACH, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0x40000000)  # __WALL
    libc.ptrace(PTRACE_DETACH, pid, None, None)

def debug(pid):
    return [attempt(attach, pid), attempt(lambda: open(f"/proc/{pid}/mem", "r+b").close()),
            attempt(os.listdir, f"/proc/{pid}/fd"), attempt(os.readlink, f"/proc/{pid}/exe")]

child = os.fork()
if child == 0:
    while True:
        signal.pause()
found = {pid: debug(pid) for pid in range(1, 512) if pid not in (os.getpid(), child)}
print(json.dumps({"child": debug(child), "others": found}))
os.kill(child, signal.SIGKILL)
"""


class Siblings(DaemonTest):
    def test_interpreters_are_closed(self):
        """A program may debug its children, but no interpreter that holds a channel, nor the agent."""
        session = self.client.call("session.create", language="python")
        vms_seen.add(session["vm"])
        try:
            kept = self.client.call("session.exec", session=session["session"],
                                    code="import os; secret = 7; print(os.getpid())")
            interpreter = kept["stdout"].strip()
            result = self.client.call("session.exec", session=session["session"], argv=["python3", "-c", DEBUGGER])
            self.assertEqual((result["status"], result["stderr"]), ("ok", ""), result)
            kept = self.client.call("session.exec", session=session["session"], code="print(secret)")
        finally:
            self.client.call("session.close", session=session["session"])
        out = json.loads(result["stdout"])
        self.assertEqual(out["child"], ["ok"] * 4)
        # They are there, and procfs does not show them (hidepid).
        for pid in ("1", interpreter):
            self.assertEqual(out["others"][pid], ["EPERM", "ENOENT", "ENOENT", "ENOENT"], pid)
        for pid, tried in out["others"].items():
            self.assertNotIn("ok", tried, pid)
        self.assertEqual(kept["stdout"], "7\n")
