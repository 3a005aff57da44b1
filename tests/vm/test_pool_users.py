# SPDX-License-Identifier: Apache-2.0
"""Two users at once: turns, quotas, and spares that are nobody's (fake QEMU)."""

import contextlib
import grp
import json
import os
import traceback

from client import Client, RpcError
from pool_support import PoolTest
from support import until

# Users that nobody is; what tells them apart for the daemon is the number alone.
FIRST, SECOND = 64001, 64002


class User:
    """A client in a process of another uid, told what to do a line at a time."""

    def __init__(self, socket, uid):
        to_child, self.to_child = os.pipe()
        self.from_child, from_child = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.to_child)
                os.close(self.from_child)
                self.become(uid)
                self.serve(Client(socket), os.fdopen(to_child), os.fdopen(from_child, "w"))
            except Exception:  # the test only sees that no answer comes
                traceback.print_exc()
            os._exit(0)
        os.close(to_child)
        os.close(from_child)
        self.orders, self.answers = os.fdopen(self.to_child, "w"), os.fdopen(self.from_child)

    def become(self, uid):
        group = grp.getgrnam("execsandbox").gr_gid
        os.setgroups([group])
        os.setresgid(group, group, group)
        os.setresuid(uid, uid, uid)

    def serve(self, client, orders, answers):
        for line in orders:
            order, words, params = json.loads(line)
            try:
                answer = getattr(client, order)(*words, **params)
            except RpcError as error:
                answer = {"error": error.code, "data": error.data}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

    def do(self, order, *words, **params):
        self.orders.write(json.dumps([order, words, params]) + "\n")
        self.orders.flush()
        return json.loads(self.answers.readline())

    def call(self, method, **params):
        return self.do("call", method, **params)

    def wait(self, request):
        return self.do("wait", request)

    def close(self):
        self.orders.close()
        self.answers.close()
        os.waitpid(self.pid, 0)


class Requests:
    """Runs of one user that were sent and not waited for."""

    def __init__(self, user, count, *lines):
        self.user = user
        self.ids = [user.do("request", "run", language="python", code="\n".join(lines))
                    for _ in range(count)]

    def wait(self):
        return [self.user.wait(request) for request in self.ids]


class Users(PoolTest):
    def user(self, sandbox, uid):
        user = User(sandbox.socket, uid)
        self.addCleanup(user.close)
        return user

    def full(self, **settings):
        """A daemon with one VM, which root uses, and two users."""
        sandbox = self.pool(max_vms=1, **settings)
        self.until_template(sandbox, "shell-64")
        client = sandbox.client()
        first, second = self.user(sandbox, FIRST), self.user(sandbox, SECOND)
        request, vm = self.python_started(client, "hang")
        return sandbox, client, (request, vm), first, second

    def test_turns(self):
        """A flood of one user delays another's runs by one run each, not by the flood."""
        sandbox, client, (request, vm), first, second = self.full()
        flood = Requests(first, 20, "out flood")
        until(lambda: client.call("info")["vms"]["queued"] == 20, "the flood waits")
        few = Requests(second, 3, "out few")
        until(lambda: client.call("info")["vms"]["queued"] == 23, "all wait")
        self.release(client, vm)
        self.assertEqual(client.wait(request)["status"], "ok")
        few_ms = max(result["timing"]["queue_ms"] for result in few.wait())
        flood_ms = sorted(result["timing"]["queue_ms"] for result in flood.wait())
        # They came last and were served among the first: behind at most four of the flood.
        self.assertLess(few_ms, flood_ms[5])

    def test_quota(self):
        """Over its own quota a user waits, and holds up nobody."""
        sandbox = self.pool(max_vms=6, vms_per_uid=2, pool_python=2)
        first, second = self.user(sandbox, FIRST), self.user(sandbox, SECOND)
        client = sandbox.client()
        self.spares(client, 2)
        hanging = Requests(first, 5, "hang")
        until(lambda: len([vm for vm in self.vms(client, "running") if vm["uid"] == FIRST]) == 2, "two run")
        until(lambda: client.call("info")["vms"]["queued"] == 3, "three wait")
        self.assertEqual(second.call("run", language="python", code="out a")["stdout"], "a\n")
        self.assertEqual(self.python(client, "out a")["status"], "ok")
        self.assertEqual(len([vm for vm in self.vms(client) if vm["uid"] == FIRST]), 2)
        def release_all():
            for vm in self.vms(client, "running"):
                with contextlib.suppress(ProcessLookupError, RpcError):
                    self.release(client, vm["vm"])
            vms = client.call("info")["vms"]
            return vms["queued"] == 0 and vms["current"] == len(self.vms(client, "paused"))
        until(release_all, "all have ended")
        self.assertEqual({result["status"] for result in hanging.wait()}, {"ok"})

    def test_queue_of_a_user(self):
        """Its part of the queue is full: 3002 with a time to come back; the other's is not."""
        sandbox, client, (request, vm), first, second = self.full(queue_per_uid=2)
        waiting = Requests(first, 2, "out a")
        until(lambda: client.call("info")["vms"]["queued"] == 2, "two wait")
        refused = first.call("run", language="python", code="out never")
        self.assertEqual(refused["error"], 3002)
        self.assertGreater(refused["data"]["retry_after_ms"], 0)
        other = Requests(second, 1, "out b")
        until(lambda: client.call("info")["vms"]["queued"] == 3, "three wait")
        self.release(client, vm)
        client.wait(request)
        self.assertEqual([result["stdout"] for result in waiting.wait() + other.wait()], ["a\n", "a\n", "b\n"])

    def test_spares_are_nobodys(self):
        """A spare shows to no user; once taken it is theirs, and the other still does not see it."""
        sandbox = self.pool(pool_python=1)
        client = sandbox.client()
        first, second = self.user(sandbox, FIRST), self.user(sandbox, SECOND)
        spare = self.spares(client, 1)[0]
        self.assertIsNone(spare["uid"])
        self.assertEqual(first.call("vm.list")["vms"], [])
        request = Requests(first, 1, "hang")
        until(lambda: [vm["vm"] for vm in first.call("vm.list")["vms"]] == [spare["vm"]], "it is theirs")
        self.assertEqual(second.call("vm.list")["vms"], [])
        self.assertIn("error", second.call("vm.info", vm=spare["vm"]))
        until(lambda: self.vms(client, "running"), "it runs")
        self.release(client, spare["vm"])
        self.assertEqual(request.wait()[0]["start"], "warm")
