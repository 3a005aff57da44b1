# SPDX-License-Identifier: Apache-2.0
"""Sessions over a guest that is well, that does not end, and that is taken away (fake QEMU)."""

import contextlib
import os
import signal
import time

from support import SessionTest, VmTest, until
from test_pool_users import FIRST, User

# Kill grace and time to report (API, "Closer rules"), and what a loaded machine adds.
KILL_SECONDS = 0.05 + 0.25
SLACK_SECONDS = 2.0


class Sessions(SessionTest):
    def start(self, session, *lines, client=None, **params):
        return (client or self.client).request("session.exec", session=session, command="\n".join(lines), **params)

    def exec(self, session, *lines, **params):
        return self.client.wait(self.start(session, *lines, **params))

    def state(self, session):
        return self.client.call("session.info", session=session)["state"]

    def assert_closed(self, session, reason):
        error = self.assert_error(4002, self.client.call, "session.info", session=session)
        self.assertEqual((error.data["reason"], error.data["session"]), (reason, session))

    def no_vms(self):
        until(lambda: not self.client.call("vm.list")["vms"], "its VM is gone")

    def test_life(self):
        """One VM from create to close; outcomes are those of runs; then it answers why it is gone."""
        made = self.client.call("session.create", language="shell", name="box", metadata={"a": "b"})
        session = made["session"]
        self.assertEqual((made["state"], made["name"], made["execs"], made["metadata"]),
                         ("idle", "box", 0, {"a": "b"}))
        for lines, status, exit_code in ((["out one"], "ok", 0), (["exit 3"], "error", 3), (["signal 9"], "signal", 137),
                                         (["oom"], "oom", 137), (["out two"], "ok", 0)):
            result = self.exec(session, *lines)
            self.assertEqual((result["status"], result["exit_code"]), (status, exit_code))
            self.assertEqual((result["vm"], result["session"]), (made["vm"], session))
        self.assertEqual(self.client.call("session.info", session="box")["execs"], 5)
        self.assertEqual([vm["session"] for vm in self.client.call("vm.list")["vms"]], [session])
        closed = self.client.call("session.close", session="box")
        self.assertEqual((closed["state"], closed["vm"]), ("closed", None))
        self.assert_closed(session, "closed")
        self.assert_error(4001, self.client.call, "session.info", session="box")
        self.no_vms()

    def test_order(self):
        """Programs run one at a time in the order they came, whichever connection they came on."""
        session = self.create()
        others = [self.sandbox.client() for _ in range(3)]
        first = self.start(session, "out x", "hang", stream=True)
        self.client.wait_output(first, "x")
        requests = []
        for i in range(9):
            client = others[i % 3]
            requests.append((client, self.start(session, f"out {i}", client=client)))
            until(lambda i=i: self.client.call("session.info", session=session)["queued"] == i + 1, "it waits")
        self.client.cancel(first)
        self.assert_error(-32800, self.client.wait, first)
        results = [client.wait(request) for client, request in requests]
        self.assertEqual([result["stdout"] for result in results], [f"{i}\n" for i in range(9)])
        begun = [result["timing"]["queue_ms"] for result in results]
        self.assertEqual(self.state(session), "idle")
        self.assertGreater(min(begun), 0)

    def test_queue_is_bounded(self):
        session = self.create()
        running = self.start(session, "out x", "hang", stream=True)
        self.client.wait_output(running, "x")
        other = self.sandbox.client()
        others = [other, self.sandbox.client()]
        waiting = [(client, self.start(session, "out y", client=client)) for client in others for _ in range(32)]
        until(lambda: self.client.call("session.info", session=session)["queued"] == 64, "all wait")
        error = self.assert_error(4003, self.exec, session, "out z")
        self.assertTrue(error.data["retryable"])
        self.client.cancel(running)
        self.assertEqual({client.wait(request)["stdout"] for client, request in waiting}, {"y\n"})

    def test_timeout_keeps_the_session(self):
        """A program that leaves at SIGTERM costs itself alone; one that nothing ends costs the session."""
        session = self.create()
        result = self.exec(session, "out so far", "hang", timeout_seconds=0.3)
        self.assertEqual((result["status"], result["stdout"]), ("timeout", "so far\n"))
        self.assertEqual(self.exec(session, "out on")["stdout"], "on\n")
        begun = time.monotonic()
        result = self.exec(session, "out again", "ignore", timeout_seconds=0.3)
        self.assertEqual((result["status"], result["stdout"]), ("timeout", "again\n"))
        self.assertLess(time.monotonic() - begun, 0.3 + KILL_SECONDS + SLACK_SECONDS)
        self.assert_closed(session, "unresponsive")
        self.no_vms()

    def test_cancel_while_waiting(self):
        """Who is cancelled before its turn never runs; the others do not notice."""
        session = self.create()
        first = self.start(session, "out x", "hang", stream=True)
        self.client.wait_output(first, "x")
        second, third = self.start(session, "out second"), self.start(session, "out third")
        self.client.cancel(second)
        self.assert_error(-32800, self.client.wait, second)
        self.client.cancel(first)
        self.assert_error(-32800, self.client.wait, first)
        self.assertEqual(self.client.wait(third)["stdout"], "third\n")

    def test_slow_reader(self):
        """A caller that does not read what it streams loses its program, at its deadline or when it goes;
        the session is not blamed."""
        flood = ["fill 900000", *["err " + "\x01" * 100_000] * 6]
        session = self.create()
        for how in ("gone", "deadline"):
            with self.subTest(how=how):
                other = self.sandbox.client()
                self.start(session, *flood, "hang", client=other, stream=True,
                           timeout_seconds=60 if how == "gone" else 1)
                time.sleep(0.7)
                if how == "gone":
                    other.close()
                self.assertEqual(self.exec(session, "out on")["stdout"], "on\n")
                other.close()

    def test_caller_goes(self):
        """A program ends with its caller; the session goes on for others."""
        session = self.create()
        other = self.sandbox.client()
        request = self.start(session, "out x", "hang", client=other, stream=True)
        other.wait_output(request, "x")
        other.close()
        self.assertEqual(self.exec(session, "out on")["stdout"], "on\n")

    def test_bound_to_its_connection(self):
        other = self.sandbox.client()
        bound = self.create(client=other, bind="connection")
        free = self.create(client=other)
        self.assertEqual(self.client.call("session.info", session=bound)["bind"], "connection")
        other.close()
        until(lambda: self.client.call("session.list")["sessions"][0]["session"] == free, "it is closed")
        self.assert_closed(bound, "connection_closed")
        self.assertEqual(self.exec(free, "out on")["stdout"], "on\n")

    def test_vm_lost(self):
        """A VM that dies takes the session along: who ran is told that, who waited that it never ran."""
        session = self.create()
        running = self.start(session, "out x", "hang", stream=True)
        self.client.wait_output(running, "x")
        waiting = self.start(session, "out y")
        os.kill(self.client.call("vm.list")["vms"][0]["pid"], signal.SIGKILL)
        self.assert_error(3004, self.client.wait, running)
        error = self.assert_error(4002, self.client.wait, waiting)
        self.assertEqual((error.data["reason"], error.data["dispatched"]), ("vm_lost", False))
        self.assert_closed(session, "vm_lost")

    def test_vm_lost_while_idle(self):
        session = self.create()
        os.kill(self.client.call("vm.list")["vms"][0]["pid"], signal.SIGKILL)
        until(lambda: not self.client.call("session.list")["sessions"], "the session is closed")
        self.assert_closed(session, "vm_lost")

    def test_broken_protocol(self):
        session = self.create()
        self.assert_error(3006, self.exec, session, "abuse garbage", "ignore")
        self.assert_closed(session, "guest_protocol")
        session = self.create(limits={"stdout_bytes": 10})
        self.assert_error(3006, self.exec, session, "fill 100")
        self.assert_closed(session, "guest_protocol")

    def test_close_while_busy(self):
        """Closing answers who ran with what there was, and who waited."""
        session = self.create()
        running = self.start(session, "out so far", "hang", stream=True)
        self.client.wait_output(running, "so far")
        waiting = self.start(session, "out y")
        self.client.call("session.close", session=session)
        error = self.assert_error(4002, self.client.wait, running)
        self.assertEqual((error.data["reason"], error.data["dispatched"]), ("closed", True))
        self.assertEqual(error.data["result"]["stdout"], "so far\n")
        error = self.assert_error(4002, self.client.wait, waiting)
        self.assertFalse(error.data["dispatched"])
        self.no_vms()

    def test_idle_timer(self):
        """It runs between programs only, and each program starts it anew."""
        session = self.create(idle_timeout_seconds=1)
        running = self.start(session, "out x", "hang", stream=True)
        time.sleep(1.5)
        self.assertEqual(self.state(session), "busy")
        self.client.cancel(running)
        self.assert_error(-32800, self.client.wait, running)
        time.sleep(0.6)
        self.exec(session, "out x")
        time.sleep(0.6)
        self.assertEqual(self.state(session), "idle")
        until(lambda: not self.client.call("session.list")["sessions"], "it is closed", 5)
        self.assert_closed(session, "idle_timeout")

    def test_timeout(self):
        """timeout_seconds closes a session whatever runs; session.update counts it from now."""
        session = self.create(timeout_seconds=1)
        self.client.call("session.update", session=session, timeout_seconds=2)
        time.sleep(1.3)
        running = self.start(session, "out x", "hang", stream=True)
        self.client.wait_output(running, "x")
        error = self.assert_error(4002, self.client.wait, running)
        self.assertEqual(error.data["reason"], "timeout")

    def test_list(self):
        made = [self.create(name=name) for name in ("a", "b", "c")]
        found = self.client.call("session.list")
        self.assertEqual([session["session"] for session in found["sessions"]], made)
        self.assertNotIn("next_cursor", found)
        page = self.client.call("session.list", limit=2)
        self.assertEqual([session["name"] for session in page["sessions"]], ["a", "b"])
        page = self.client.call("session.list", limit=2, cursor=page["next_cursor"])
        self.assertEqual([session["name"] for session in page["sessions"]], ["c"])
        self.assertNotIn("next_cursor", page)
        self.assertEqual(len(self.client.call("session.list", name="b")["sessions"]), 1)
        self.assertEqual(self.client.call("session.list", state="busy")["sessions"], [])
        self.assert_error(-32602, self.client.call, "session.list", cursor="x")

    def test_names(self):
        """A name is one session's at a time; it is free again when that is closed."""
        self.create(name="box")
        error = self.assert_error(-32602, self.create, name="box")
        self.assertEqual(error.data["field"], "name")
        self.assert_error(-32602, self.create, name="ses_x")
        self.client.call("session.close", session="box")
        self.create(name="box")
        self.client.call("session.update", session="box", name="bag", metadata={"k": "v"})
        self.assertEqual(self.client.call("session.info", session="bag")["metadata"], {"k": "v"})
        self.assert_error(4001, self.client.call, "session.info", session="box")
        self.assert_error(4001, self.client.call, "session.exec", session="ses_none", command="out x")

    def test_events(self):
        self.client.call("events.subscribe", types=["session.*"])
        session = self.create()
        self.client.call("session.close", session=session)
        seen = []
        for kind in ("session.created", "session.closed"):
            seen.append(self.client.wait_notification(
                lambda method, params, kind=kind: method == "event" and params["type"] == kind))
        self.assertEqual([event["session"] for event in seen], [session, session])
        self.assertEqual(seen[1]["data"], {"reason": "closed"})

    def test_create_is_cancelled(self):
        """Who cancels, or goes, before there is a VM leaves nothing behind."""
        sandbox = self.daemon("normal", max_vms=1)
        client = sandbox.client()
        first = client.call("session.create", language="shell")["session"]
        request = client.request("session.create", language="shell")
        until(lambda: client.call("info")["vms"]["queued"] == 1, "it waits")
        client.cancel(request)
        self.assert_error(-32800, client.wait, request)
        other = sandbox.client()
        other.request("session.create", language="shell")
        until(lambda: client.call("info")["vms"]["queued"] == 1, "it waits")
        other.close()
        until(lambda: client.call("info")["vms"]["queued"] == 0, "it has gone")
        self.assertEqual([session["session"] for session in client.call("session.list")["sessions"]], [first])
        client.call("session.close", session=first)

    def test_stop(self):
        """The daemon's end closes sessions and answers their programs."""
        session = self.create()
        other = self.sandbox.client()
        running = self.start(session, "out x", "hang", stream=True)
        self.client.wait_output(running, "x")
        waiting = self.start(session, "out y", client=other)
        until(lambda: self.client.call("session.info", session=session)["queued"] == 1, "it waits")
        self.sandbox.signal(signal.SIGINT)
        self.assert_error(3004, self.client.wait, running)
        error = self.assert_error((1001, 4002), other.wait, waiting)
        if error.code == 4002:
            self.assertEqual(error.data["reason"], "daemon_stopped")
        self.assertEqual(self.sandbox.wait(), 0)

    def test_rests_are_no_runs(self):
        """Sessions in which nothing runs do not keep others from running."""
        sandbox = self.daemon("normal", cpu_overcommit=1, max_vms=30)
        client = sandbox.client()
        sessions = [client.call("session.create", language="shell")["session"] for _ in range(os.cpu_count() + 1)]
        self.assertEqual(client.call("info")["vms"]["running"], 0)
        self.assertEqual(client.call("run", language="shell", code="out x")["stdout"], "x\n")
        results = [client.request("session.exec", session=session, command="out y") for session in sessions]
        self.assertEqual({client.wait(request)["stdout"] for request in results}, {"y\n"})
        until(lambda: client.call("info")["vms"]["running"] == 0, "all are at rest")
        for session in sessions:
            client.call("session.close", session=session)

    def test_others_do_not_see_it(self):
        """A foreign session answers as if it did not exist, open or closed; names are each user's own."""
        mine = self.create(name="box")
        with contextlib.closing(User(self.sandbox.socket, FIRST)) as other:
            self.check_as(other, mine)

    def check_as(self, other, mine):
        theirs = other.call("session.create", language="shell", name="box")["session"]
        self.assertEqual([session["session"] for session in other.call("session.list")["sessions"]], [theirs])
        for method, more in (("info", {}), ("exec", {"command": "out x"}), ("update", {"name": "x"}), ("close", {})):
            self.assertEqual(other.call(f"session.{method}", session=mine, **more)["error"], 4001, method)
        self.client.call("session.close", session=mine)
        self.assertEqual(other.call("session.info", session=mine)["error"], 4001)
        # An admin sees all by their ids, and none by another's name.
        self.assertEqual(self.client.call("session.info", session=theirs)["uid"], FIRST)
        self.assert_error(4001, self.client.call, "session.info", session="box")
        # What has an exec_id is its user's alone, too.
        self.client.call("run", language="shell", code="out x", exec_id="a")
        self.assertEqual(other.call("session.result", exec_id="a")["error"], 4021)


class ExecIds(VmTest):
    """Programs that go on without their callers."""

    def setUp(self):
        super().setUp()
        self.sandbox = self.daemon("normal")
        self.client = self.sandbox.client()

    def start(self, client, exec_id, *lines, **params):
        return client.request("run", language="shell", code="\n".join(lines), exec_id=exec_id, **params)

    def result(self, exec_id, **params):
        return self.client.call("session.result", exec_id=exec_id, **params)

    def end_of(self, exec_id):
        return until(lambda: "status" in (result := self.result(exec_id)) and result, "it has ended")

    def let_end(self):
        """Has the one program that hangs end well."""
        os.kill(self.client.call("vm.list")["vms"][0]["pid"], signal.SIGUSR1)

    def test_survives_its_connection(self):
        """What is there can be read while it runs and when it has ended, from any byte on."""
        other = self.sandbox.client()
        request = self.start(other, "a", "out one", "out zwölf", "err e", "hang", stream=True)
        other.wait_output(request, "zwölf")
        other.close()
        seen = until(lambda: (found := self.result("a"))["stderr_bytes"] == 2 and found, "all output is there")
        self.assertEqual((seen["state"], seen["stdout"], seen["stdout_offset"]), ("running", "one\nzwölf\n", 0))
        self.assertEqual(self.result("a", stdout_offset=4)["stdout"], "zwölf\n")
        self.assertEqual(self.result("a", stdout_offset=99)["stdout"], "")
        # In the middle of the ö.
        self.assertEqual(self.result("a", stdout_offset=7)["stdout_encoding"], "base64")
        self.let_end()
        result = self.end_of("a")
        self.assertEqual((result["status"], result["stdout"], result["stderr"]), ("ok", "one\nzwölf\n", "e\n"))
        later = self.result("a", stdout_offset=4, stderr_offset=2)
        self.assertEqual((later["stdout"], later["stdout_offset"], later["stderr"]), ("zwölf\n", 4, ""))
        self.assertEqual((later["status"], later["stdout_bytes"]), ("ok", result["stdout_bytes"]))

    def test_is_run_once(self):
        """The same request joins the first while it runs, and has its result afterwards."""
        others = [self.sandbox.client() for _ in range(3)]
        first = self.start(self.client, "a", "out x", "hang", stream=True)
        self.client.wait_output(first, "x")
        joined = [(client, self.start(client, "a", "out x", "hang")) for client in others[:2]]
        gone = self.start(others[2], "a", "out x", "hang")
        self.assertGreater(gone, 0)
        others[2].close()
        self.assertEqual(len(self.client.call("vm.list")["vms"]), 1)
        self.let_end()
        result = self.client.wait(first)
        self.assertEqual([client.wait(request) for client, request in joined], [result, result])
        self.assertEqual(self.client.wait(self.start(self.client, "a", "out x", "hang")), result)
        self.assertEqual(self.result("a"), result)

    def test_conflict(self):
        self.client.wait(self.start(self.client, "a", "out x"))
        for lines, more in ((["out y"], {}), (["out x"], {"stdin": "z"})):
            error = self.assert_error(4020, self.client.wait, self.start(self.client, "a", *lines, **more))
            self.assertEqual(error.data["field"], "exec_id")
        self.assert_error(4021, self.result, "b")

    def test_errors_are_kept_and_what_never_ran_is_not(self):
        error = self.assert_error(3004, self.client.wait, self.start(self.client, "lost", "die 3"))
        again = self.assert_error(3004, self.client.wait, self.start(self.client, "lost", "die 3"))
        self.assertEqual((again.message, again.data), (error.message, error.data))
        self.assert_error(3004, self.result, "lost")
        self.assert_error(3003, self.client.wait, self.start(self.client, "never", "failed x"))
        self.assert_error(4021, self.result, "never")

    def test_cancel(self):
        """Whoever of those that wait cancels, cancels it for all."""
        other = self.sandbox.client()
        first = self.start(self.client, "a", "out x", "hang", stream=True)
        self.client.wait_output(first, "x")
        second = self.start(other, "a", "out x", "hang")
        other.call("rpc.ping")
        other.cancel(second)
        for client, request in ((self.client, first), (other, second)):
            error = self.assert_error(-32800, client.wait, request)
            self.assertEqual(error.data["result"]["stdout"], "x\n")
        self.assert_error(-32800, self.result, "a")

    def test_in_a_session(self):
        """Its result outlives the session, too."""
        session = self.client.call("session.create", language="shell")["session"]
        other = self.sandbox.client()
        params = {"session": session, "command": "out x\nhang", "exec_id": "a"}
        request = other.request("session.exec", stream=True, **params)
        other.wait_output(request, "x")
        other.close()
        self.assertEqual(self.result("a")["session"], session)
        self.let_end()
        result = self.end_of("a")
        self.client.call("session.close", session=session)
        self.assertEqual(self.client.call("session.exec", **params), result)

    def test_kept_for_a_while(self):
        sandbox = self.daemon("normal", result_seconds=1)
        client = sandbox.client()
        client.wait(self.start(client, "a", "out x"))
        client.call("session.result", exec_id="a")
        time.sleep(1.2)
        self.assert_error(4021, client.call, "session.result", exec_id="a")

    def test_kept_up_to_a_size(self):
        """The oldest result goes first; what runs is never dropped, the next one is refused."""
        sandbox = self.daemon("normal", result_bytes_per_uid=100_000)
        client = sandbox.client()
        for exec_id in ("a", "b", "c"):
            client.wait(self.start(client, exec_id, "fill 20000"))
        self.assert_error(4021, client.call, "session.result", exec_id="a")
        for exec_id in ("b", "c"):
            self.assertEqual(client.call("session.result", exec_id=exec_id)["stdout_bytes"], 20000)
        running = self.start(client, "d", "out x", "hang", stdin="x" * 90_000, stream=True)
        client.wait_output(running, "x")
        self.assert_error(1003, client.wait, self.start(client, "e", "out x", stdin="x" * 20_000))
        client.cancel(running)
        self.assert_error(-32800, client.wait, running)

    def test_stop(self):
        """The daemon's end ends what runs without a caller."""
        other = self.sandbox.client()
        request = self.start(other, "a", "out x", "hang", stream=True)
        other.wait_output(request, "x")
        second = self.start(self.client, "a", "out x", "hang")
        self.client.call("rpc.ping")
        other.close()
        self.sandbox.signal(signal.SIGINT)
        self.assert_error(3004, self.client.wait, second)
        self.assertEqual(self.sandbox.wait(), 0)
