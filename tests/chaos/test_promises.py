#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checker, held against histories that are made up: each kind of breach is found, and nothing else.

Each test begins with a history in which all is well, which the checker must pass, and breaks one thing in it.
"""

import collections
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "acceptance"))

import history as h  # noqa: E402  (the path is set above)
import worth  # noqa: E402
from host import Host  # noqa: E402
from promises import COUNT, NONCE, Promises, check, lines_of, ticks  # noqa: E402
from schedule import KILLS, WEIGHTS, schedule  # noqa: E402

SESSION, VM, OTHER_VM = "ses_1", "vm_1", "vm_2"
NONCES = "0123456789abcdef", "fedcba9876543210"


def run_result(stdout, status="ok", exit_code=0, **more):
    return {"status": status, "exit_code": exit_code, "stdout": stdout, "vm": VM, **more}


def nonce_output(token, nonce=NONCES[0]):
    return f"{token} {nonce}\n{token} end\n"


class Made(h.History):
    """A history by hand: the times are what the test says."""

    def __init__(self):
        super().__init__()
        self.lives.append(h.Life(0, 0, 0.1))
        self.sessions[SESSION] = h.Session(SESSION, VM, 1)
        self.clock = 10

    def asked(self, method, promise, token, *answers, **fields):
        request = self.request("somebody", method, promise, token, **fields)
        for answer in answers:
            answer.asked, answer.heard = self.clock, self.clock + 1
            self.clock += 2
            request.answers.append(answer)
        return request

    def run(self, token, *answers, **fields):
        return self.asked("run", "nonce", token, *answers, **fields)

    def append(self, token, *answers, **fields):
        return self.asked("session.exec", "echo", token, *(answers or [ok(token + "\n")]), session=SESSION, **fields)

    def count(self, token, number, epoch=NONCES[0], **fields):
        return self.asked("session.exec", "count", token, ok(f"{token} {epoch} {number}\n"), session=SESSION, **fields)

    def log(self, *tokens):
        return self.asked("session.exec", "log", f"log-{self.clock}", ok("".join(f"{token}\n" for token in tokens)), session=SESSION)

    def done(self, kind, vm=None, since=0.5, until=0.5):
        """A fault around the answer that was heard last."""
        heard = self.clock - 1
        fault = h.Fault(kind, heard - since, heard + until, vm)
        self.faults.append(fault)
        return fault


def ok(stdout, **more):
    return h.Answer("call", 0, kind=h.RESULT, value=run_result(stdout, **more))


def plain(kind=h.RESULT, **value):
    return h.Answer("call", 0, kind=kind, value=value)


def error(code, **data):
    return h.Answer("call", 0, kind=h.ERROR, code=code, value=data, text="an error")


def closed():
    return h.Answer("call", 0, kind=h.CLOSED)


class Checked(unittest.TestCase):
    def setUp(self):
        self.made = Made()

    def problems(self, adopts=True):
        return [(finding.rule, finding.problem) for finding in check(self.made, Promises(adopts)) if finding.problem]

    def assert_good(self, adopts=True):
        self.assertEqual(self.problems(adopts), [])

    def assert_broken(self, rule, words, adopts=True):
        found = self.problems(adopts)
        self.assertTrue(any(name == rule and words in problem for name, problem in found), found)
        return found


class Answers(Checked):
    def test_never_answered(self):
        request = self.made.run("a", h.Answer("call", 0, kind=h.SILENT))
        self.assert_broken("answered", "deadline")
        request.answers[0].kind = None
        self.assert_broken("answered", "stuck")

    def test_no_end(self):
        request = self.made.run("a", closed(), exec_id="x")
        self.made.done("daemon")
        self.assert_broken("answered", "never came to an end")
        request.is_left = True
        self.assert_good()

    def test_wrong_result(self):
        self.made.run("a", ok(nonce_output("a")))
        self.assert_good()
        self.made.run("b", ok(nonce_output("a")))
        self.assert_broken("right", "wrong result")

    def test_wrong_status(self):
        self.made.run("a", ok(nonce_output("a"), status="error"))
        self.assert_broken("right", "wrong result")

    def test_half_a_result(self):
        self.made.asked("run", "lines", "a", ok(lines_of("a", 9)), details={"lines": 9})
        self.assert_good()
        self.made.asked("run", "lines", "a", ok(lines_of("a", 9)[:-3]), details={"lines": 9})
        self.assert_broken("right", "bytes instead of")

    def test_stream(self):
        text = lines_of("a", 4)
        for chunks, words in (([(1, text[:5]), (2, text[5:])], ""), ([(1, text[:5]), (3, text[5:])], "missing or doubled"),
                              ([(1, text[:5]), (2, text[:5])], "not the result")):
            with self.subTest(words):
                self.made = Made()
                self.made.asked("run", "lines", "a", ok(text), details={"lines": 4, "chunks": chunks})
                self.assert_broken("right", words) if words else self.assert_good()

    def test_timeout(self):
        def late(execute_ms, **more):
            self.made = Made()
            self.made.asked("run", "timeout", "a", ok("a\n", **{"status": "timeout", "exit_code": 124, **more},
                                                      timing={"execute_ms": execute_ms}), details={"timeout": 1})
        late(1050)
        self.assert_good()
        late(900)
        self.assert_broken("right", "early")
        late(9000)
        self.assert_broken("right", "late")
        late(1050, status="ok", exit_code=0)
        self.assert_broken("right", "no timeout")

    def test_cancel(self):
        self.made.asked("run", "cancel", "a", error(-32800, result=run_result("a\n", "cancelled")))
        self.assert_good()
        self.made.asked("run", "cancel", "a", error(-32800, result=run_result("b\n", "cancelled")))
        self.assert_broken("right", "partial")
        self.made.asked("run", "cancel", "a", ok("a\n"))
        self.assert_broken("right", "never ends")

    def test_cancelled_by_nobody(self):
        self.made.run("a", error(-32800, result=run_result("", "cancelled")))
        self.assert_broken("explained", "-32800")


class Errors(Checked):
    def test_closed(self):
        self.made.run("a", closed())
        self.assert_broken("explained", "connection was closed")
        self.made.done("qemu", VM)
        self.assert_broken("explained", "connection was closed")
        self.made.done("daemon")
        self.assert_good()

    def test_handed_over(self):
        """A daemon that hands over waits for those who would lose their program, and for nobody else."""
        self.made.run("a", closed())
        self.made.done("handover")
        self.assert_broken("explained", "connection was closed")
        self.made.requests[0].exec_id, self.made.requests[0].is_left = "x", True
        self.assert_good()
        self.made = Made()
        self.made.run("a", error(1001))
        self.assert_broken("explained", "1001")
        self.made.done("handover")
        self.assert_good()

    def test_lost(self):
        self.made.run("a", error(3004, vm=VM))
        self.assert_broken("explained", "3004")
        self.made.done("qemu", OTHER_VM)
        self.assert_broken("explained", "3004")
        self.made.done("daemon")
        self.assert_broken("explained", "3004")
        self.made.done("qemu", VM)
        self.assert_good()

    def test_another_time(self):
        self.made.run("a", error(3004, vm=VM))
        self.made.done("qemu", VM, since=-5, until=9)
        self.assert_broken("explained", "3004")

    def test_typed(self):
        """Only what a fault can bring about: a killed VM is no internal error, and no session is busy."""
        for code in (-32603, -32602, 1003, 1011, 3005, 4003, 4020, 5007):
            with self.subTest(code):
                self.made = Made()
                self.made.run("a", error(code, vm=VM))
                self.made.done("qemu", VM)
                self.made.done("daemon")
                self.assert_broken("explained", str(code))

    def test_capacity(self):
        self.made.run("a", error(3002))
        self.assert_broken("explained", "3002")
        self.made.done("disk")
        self.assert_good()

    def test_forgotten(self):
        """A daemon that could not write down what it knew, and one that comes after it."""
        answer = error(3004, vm=VM)
        answer.text = "What the daemon before wrote down of the program is not enough to tell how it ended"
        self.made.append("a", answer)
        self.made.done("qemu", VM)
        self.assert_broken("explained", "3004")
        self.made.done("daemon")
        self.assert_broken("explained", "3004")
        self.made.done("runtime", since=0.7)
        self.assert_good()
        for kind in ("descriptors", "memory"):
            self.made.faults[-1].kind, self.made.faults[-1].detail = kind, "daemon"
            self.assert_good()
            self.made.faults[-1].detail = "launcher"
            self.assert_broken("explained", "3004")
        self.made.faults[-1].detail = "daemon"
        self.made.faults[-1].began -= 5
        self.made.faults[-1].ended -= 5
        self.assert_broken("explained", "3004")

    def test_starting(self):
        """What keeps VMs from starting explains who has none, and only as long as it lasts."""
        for code, kind, reach in ((3001, "stop", 20), (3002, "daemon", 30), (3003, "launcher", 2)):
            with self.subTest(code):
                self.made = Made()
                self.made.run("a", error(code))
                self.made.done("client")
                self.made.done("clock")
                self.assert_broken("explained", str(code))
                self.made.done(kind, since=reach + 3, until=-reach - 1.5)
                self.assert_broken("explained", str(code))
                self.made.done(kind)
                self.assert_good()
        self.made = Made()
        self.made.append("b", error(3003))
        self.made.done("qemu", OTHER_VM)
        self.assert_broken("explained", "3003")

    def test_protocol(self):
        """Only a guest that spoke garbage has broken its word."""
        self.made.append("a", error(3006, vm=VM))
        self.made.done("agent", VM)
        self.assert_broken("explained", "3006")
        self.made.done("garbage", OTHER_VM)
        self.assert_broken("explained", "3006")
        self.made.done("garbage", VM)
        self.assert_good()
        # In other words, too.
        self.made = Made()
        self.made.run("a", error(3004, vm=VM, reason="the guest broke the protocol: output of an exec that is not there"))
        self.made.done("launcher")
        self.made.done("qemu", VM)
        self.assert_broken("explained", "broke the protocol")
        self.made.done("garbage", VM)
        self.assert_good()

    def test_launcher(self):
        self.made.append("a", error(3004, vm=VM))
        self.made.done("launcher")
        self.assert_good()


class Sessions(Checked):
    def test_vanished(self):
        """A session outlives its daemon, where daemons adopt."""
        for code, data in ((4001, {}), (4002, {"reason": "daemon_stopped"}), (4002, {"reason": "vm_lost"})):
            with self.subTest(code, **data):
                self.made = Made()
                self.made.append("a", error(code, **data))
                self.assert_broken("explained", str(code))
                self.made.done("daemon")
                self.assert_broken("explained", str(code))
                self.assert_good(adopts=False)

    def test_lost(self):
        self.made.append("a", error(4002, reason="vm_lost"))
        self.made.done("qemu", OTHER_VM)
        self.assert_broken("explained", "4002")
        self.made.done("qemu", VM)
        self.assert_good()

    def test_wrong_reason(self):
        self.made.append("a", error(4002, reason="idle_timeout"))
        self.made.done("qemu", VM)
        self.assert_broken("explained", "idle_timeout")

    def test_unresponsive(self):
        """Only where a program was killed, or the VM stood still."""
        self.made.append("a", error(4002, reason="unresponsive"))
        self.assert_broken("explained", "unresponsive")
        self.made.asked("session.exec", "cancel", "b", error(-32800, result=run_result("", "cancelled")), session=SESSION)
        self.assert_broken("explained", "unresponsive")
        self.made.append("c", error(4002, reason="unresponsive"))
        self.made.requests.pop(0)
        self.assert_good()
        self.made.append("c", ok("c\n"))
        self.made.requests.insert(1, self.made.requests.pop())
        self.made.requests[1].answers[0].asked, self.made.requests[1].answers[0].heard = 12, 13
        self.made.clock = 20
        self.made.append("d", error(4002, reason="unresponsive"))
        self.made.requests[0].answers[0].heard, self.made.requests[1].answers[0].heard = 5, 19
        self.made.requests.pop(2)
        self.assert_broken("explained", "unresponsive")

    def test_unresponsive_to_the_next_daemon(self):
        """Programs of callers who went with their daemon are waited for, and killed, by the next one."""
        self.made.append("a", closed())
        self.made.done("daemon")
        self.made.lives.append(h.Life(11.5, 11.5, 12))
        self.made.clock = 14
        self.made.append("b", error(4002, reason="unresponsive"))
        self.assert_good()

    def test_reasons(self):
        """Garbage ends in guest_protocol, all else in vm_lost."""
        for kind, reason, other in (("garbage", "guest_protocol", "vm_lost"), ("agent", "vm_lost", "guest_protocol"),
                                    ("qemu", "vm_lost", "guest_protocol")):
            with self.subTest(kind):
                self.made = Made()
                self.made.append("a", error(4002, reason=reason))
                self.made.done(kind, VM)
                self.assert_good()
                self.made.append("b", error(4002, reason=other))
                self.assert_broken("explained", other)

    def full(self, began, ended):
        self.made.faults += [h.Fault("runtime", began, ended), h.Fault("daemon", 9, 9.5)]

    def test_not_written_down(self):
        """Only a session that was opened while the disk was full is lost with its daemon, and then nobody knows of it."""
        self.made.append("a", error(4001))
        self.full(3.5, 5)
        self.assert_broken("explained", "4001")
        self.made.sessions[SESSION].opened = 4
        self.assert_good()
        self.made.append("b", error(4002, reason="guest_protocol"))
        self.assert_broken("explained", "guest_protocol")

    def test_not_written_down_not_adopted(self):
        self.made.lives.append(h.Life(9.5, 9.5, 9.7, missing=[SESSION]))
        self.made.lives[0].died = 9.5
        self.full(3.5, 5)
        self.assert_broken("lived", "not adopted")
        self.made.sessions[SESSION].opened = 4
        self.assert_good()

    def test_forgotten_with_its_vm(self):
        """A new daemon need not know of it; the old one must."""
        self.made.append("a", error(4001))
        self.made.done("qemu", VM)
        self.assert_broken("explained", "4001")
        self.made.done("daemon")
        self.assert_good()

    def test_stopped(self):
        self.made.append("a", error(4002, reason="vm_lost"))
        self.made.done("stop", VM)
        self.assert_broken("explained", "4002")
        self.made.done("daemon")
        self.assert_good()

    def test_closed_by_its_user(self):
        self.made.append("a", error(4002, reason="closed"))
        self.assert_broken("explained", "4002")
        self.made.sessions[SESSION].closed = 1
        self.assert_good()


class ExecIds(Checked):
    def test_told_twice(self):
        self.made.run("a", ok(nonce_output("a")), ok(nonce_output("a")), exec_id="x")
        self.assert_good()

    def test_other_answer(self):
        self.made.run("a", ok(nonce_output("a")), ok(nonce_output("a", NONCES[1])), exec_id="x")
        self.assert_broken("same", "answered")

    def test_result_behind_an_error(self):
        self.made.run("a", error(3004, vm=VM, name="VM_LOST"), ok(nonce_output("a")), exec_id="x")
        self.made.faults.append(h.Fault("qemu", 0, 99, VM))
        self.assert_broken("same", "answered")

    def test_sent_again(self):
        """Behind an error that says it never ran it is another try."""
        self.made.run("a", error(3003), ok(nonce_output("a")), exec_id="x")
        self.made.faults.append(h.Fault("qemu", 9, 99, VM))
        self.assert_good()

    def test_began_twice(self):
        self.made.run("a", closed(), ok(nonce_output("a", NONCES[1])), exec_id="x", details={"started": "a " + NONCES[0], "started_at": 10.5})
        self.made.faults.append(h.Fault("daemon", 9, 13))
        self.assert_broken("same", "ran twice")

    def test_forgotten(self):
        for before in (ok(nonce_output("a")), plain(h.RUNNING, stdout="a")):
            with self.subTest(before.kind):
                self.made = Made()
                self.made.run("a", before, error(4021), ok(nonce_output("a")), exec_id="x")
                self.assert_broken("known", "forgotten")
                self.made.faults.append(h.Fault("daemon", 11, 13))
                self.assert_broken("known", "forgotten")
                self.assert_good(adopts=False)

    def test_not_written_down(self):
        """What the full disk did not take is gone with its daemon, and only with it."""
        self.made.run("a", ok(nonce_output("a")), ok(nonce_output("a", NONCES[1])), exec_id="x")
        self.made.faults.append(h.Fault("runtime", 10.5, 11))
        self.assert_broken("same", "answered")
        self.made.faults.append(h.Fault("daemon", 10.2, 10.4))
        self.assert_broken("same", "answered")
        self.made.faults.append(h.Fault("daemon", 11.5, 12))
        self.assert_good()

    def test_written_down(self):
        """One full disk excuses those who were at work then, and nobody else."""
        self.made.run("a", ok(nonce_output("a")), ok(nonce_output("a", NONCES[1])), exec_id="x")
        self.made.faults += [h.Fault("runtime", 8, 9.9), h.Fault("daemon", 11.5, 12)]
        self.assert_broken("same", "answered")
        self.made.faults[0].ended = 10.1
        self.assert_good()
        self.made.faults[0].began, self.made.faults[0].ended = 11.2, 11.4
        self.assert_broken("same", "answered")

    def test_known_was_written_down(self):
        self.made.run("a", ok(nonce_output("a")), error(4021), exec_id="x")
        self.made.faults += [h.Fault("runtime", 8, 9.9), h.Fault("daemon", 11.5, 12)]
        self.assert_broken("known", "forgotten")
        self.made.faults[0].ended = 10.1
        self.assert_good()

    def test_started(self):
        """Who was told that it runs is not told that it never ran."""
        self.made.run("a", error(3003), details={"started_at": 10.5})
        self.made.done("launcher")
        self.assert_broken("known", "never done so")
        self.made.requests[0].details.clear()
        self.assert_good()

    def test_started_is_confirmed(self):
        self.made.run("a", closed(), error(4021), ok(nonce_output("a")), exec_id="x", details={"started_at": 10.5})
        self.made.done("daemon", since=4, until=-3)
        self.assert_broken("known", "forgotten")
        self.made.requests[0].details.clear()
        self.assert_good()

    def test_not_known_yet(self):
        self.made.run("a", closed(), error(4021), plain(h.RUNNING, stdout=""), error(4021), ok(nonce_output("a")), exec_id="x")
        self.made.faults.append(h.Fault("daemon", 9, 13))
        self.assert_good()


class Logs(Checked):
    def broken(self, words, *tokens):
        self.made.log(*tokens)
        return self.assert_broken("once", words)

    def setUp(self):
        super().setUp()
        for token in "abc":
            self.made.append(token)

    def test_good(self):
        self.made.log(*"abc")
        self.made.append("d")
        self.made.log(*"abcd")
        self.assert_good()

    def test_doubled(self):
        self.broken("2 times", *"abbc")

    def test_full_disk(self):
        """It may cost the result, so that the program is sent again; by itself it does not run again."""
        self.made.append("d", closed(), error(4021), ok("d\n"), exec_id="x")
        self.made.log(*"abcdd")
        self.made.faults += [h.Fault("runtime", 16, 17), h.Fault("daemon", 16, 17.5), h.Fault("daemon", 17, 17.5)]
        self.assert_good()
        # Nothing was written down of its beginning: the next daemon may take it for new.
        told = self.made.requests[3].answers.pop(1)
        self.assert_good()
        # Its end alone was not: a program that runs is not run again.
        self.made.requests[3].answers.insert(1, h.Answer("call", 17, 18, kind=h.RUNNING, value={"stdout": ""}))
        self.made.faults[0] = h.Fault("runtime", 18.5, 19)
        self.made.faults.append(h.Fault("daemon", 19.5, 20))
        self.made.requests[3].answers[-1].heard = 20.5
        self.assert_broken("once", "2 times")
        self.made.requests[3].answers.insert(2, told)
        self.assert_good()
        self.made.faults[0] = h.Fault("runtime", 2, 3)
        self.assert_broken("once", "2 times")

    def test_silent(self):
        self.made.asked("session.exec", "silent", "d", ok(""), session=SESSION, exec_id="x")
        self.made.log(*"abcd")
        self.assert_good()
        self.broken("2 times", *"abcdd")

    def test_lost(self):
        self.broken("b is lost", *"ac")

    def test_wrong(self):
        self.broken("never written", *"abcx")

    def test_order(self):
        self.broken("ran before", *"acb")

    def test_order_on_one_connection(self):
        self.made.append("d", closed(), order=("k", 0))
        self.made.append("e", closed(), order=("k", 1))
        self.made.faults.append(h.Fault("daemon", 0, 99))
        self.made.log(*"abcde")
        self.assert_good()
        self.made.requests.pop()
        self.broken("ran before", *"abced")

    def test_went_back(self):
        self.made.log(*"abc")
        self.broken("went back", *"ab")

    def test_never_ran(self):
        self.made.append("d", error(4002, dispatched=False, reason="vm_lost"))
        self.made.done("qemu", VM)
        self.made.log(*"abc")
        self.assert_good()
        self.broken("told that it never ran", *"abcd")

    def test_unknown(self):
        """Who lost the connection may find it there or not."""
        self.made.append("d", closed())
        self.made.done("daemon")
        self.made.log(*"abc")
        self.assert_good()
        self.made.log(*"abcd")
        self.assert_good()


class Counters(Checked):
    def setUp(self):
        super().setUp()
        self.made.count("a", 1)
        self.made.count("b", 2)

    def test_good(self):
        self.assert_good()

    def test_back(self):
        self.made.count("c", 2)
        self.assert_broken("counted", "went back")

    def test_doubled(self):
        self.made.count("c", 4)
        self.assert_broken("counted", "ran again")

    def test_unknown_between(self):
        self.made.asked("session.exec", "count", "c", closed(), session=SESSION)
        self.made.done("daemon")
        self.made.count("d", 4)
        self.assert_good()

    def test_fresh(self):
        self.made.count("c", 1, NONCES[1])
        self.assert_broken("counted", "fresh interpreter")
        self.made.faults += [h.Fault("runtime", 8, 9), h.Fault("daemon", 14.2, 14.5)]
        self.assert_broken("counted", "fresh interpreter")
        self.made.faults[0].ended = 14.1
        self.assert_good()

    def test_fresh_for_a_reason(self):
        self.made.asked("session.exec", "timeout", "t", ok("t\n", status="timeout", exit_code=124, timing={"execute_ms": 1000}),
                        session=SESSION, details={"timeout": 1, "interpreter": True})
        self.made.count("c", 1, NONCES[1])
        self.assert_good()

    def test_a_command_is_no_reason(self):
        self.made.append("x", closed())
        self.made.done("daemon")
        self.made.count("c", 1, NONCES[1])
        self.assert_broken("counted", "fresh interpreter")


class Files(Checked):
    def write(self, content, *answers):
        return self.made.asked("file.write", "write", content, *(answers or [plain(bytes=len(content))]), session=SESSION,
                               details={"content": content})

    def read(self, *answers):
        return self.made.asked("file.read", "read", "r", *answers, session=SESSION)

    def test_good(self):
        self.read(error(5001))
        self.write("one")
        self.read(plain(data="one"))
        self.assert_good()

    def test_lost(self):
        self.write("one")
        self.read(error(5001))
        self.assert_broken("stored", "neither")

    def test_old(self):
        self.write("one")
        self.write("two")
        self.read(plain(data="one"))
        self.assert_broken("stored", "neither")

    def test_half(self):
        self.write("one")
        self.read(plain(data="on"))
        self.assert_broken("stored", "neither")

    def test_on_its_way(self):
        self.write("one")
        self.write("two", closed())
        self.made.done("daemon")
        self.read(plain(data="one"))
        self.read(plain(data="two"))
        self.assert_good()

    def test_refused(self):
        self.write("one")
        self.write("two", error(3003))
        self.made.done("daemon")
        self.read(plain(data="two"))
        self.assert_broken("stored", "neither")


class Tickers(Checked):
    def look(self, asked, offset, text, total=None, kind=h.RUNNING):
        return self.made.asked("process.wait", "ticks", "t", plain(kind, state="running", stdout=text, stdout_offset=offset,
                               stdout_bytes=offset + len(text) if total is None else total),
                               session=SESSION, details={"process": 1, "offset": asked})

    def test_good(self):
        self.look(0, 0, ticks(0, 20))
        self.look(20, 20, ticks(20, 30))
        self.assert_good()

    def test_wrong_bytes(self):
        self.look(0, 0, ticks(9, 20))
        self.assert_broken("ticked", "it says")

    def test_gap(self):
        self.look(0, 9, ticks(9, 20))
        self.assert_broken("ticked", "nothing was lost")
        self.made.done("daemon")
        self.assert_broken("ticked", "nothing was lost")
        self.made.faults.append(h.Fault("runtime", 0.2, 0.7))
        self.assert_broken("ticked", "nothing was lost")
        self.made.faults[-1].ended = 3
        self.assert_good()

    def test_gap_behind(self):
        """A full disk costs what was written meanwhile."""
        self.look(0, 0, ticks(0, 20))
        self.made.clock = 30
        self.look(20, 20, ticks(20, 10))
        self.made.clock = 40
        self.look(30, 39, ticks(39, 20))
        self.made.faults.append(h.Fault("runtime", 8, 9))
        self.assert_broken("ticked", "nothing was lost")
        self.made.faults[0].ended = 31
        self.assert_good()

    def test_not_written_down(self):
        start = self.made.asked("session.exec", "any", "t", plain(process=1), session=SESSION)
        self.made.asked("process.wait", "ticks", "t", error(4010), session=SESSION, details={"process": 1, "offset": 0})
        self.made.faults += [h.Fault("runtime", 2, 3), h.Fault("daemon", 12, 12.5)]
        self.assert_broken("explained", "4010")
        start.answers[0].asked = 2.5
        self.assert_good()

    def test_began_again(self):
        self.look(0, 0, ticks(0, 50))
        self.look(50, 50, "", 20)
        self.assert_broken("ticked", "began again")

    def test_ended(self):
        self.look(0, 0, "", kind=h.RESULT)
        self.assert_broken("ticked", "has ended")

    def test_forgotten(self):
        self.made.asked("process.wait", "ticks", "t", error(4010), session=SESSION, details={"process": 1, "offset": 0})
        self.made.done("daemon")
        self.assert_broken("explained", "4010")


class Lists(Checked):
    """process.list, and what was started."""

    def listed(self, *states, process=None, unsure=0):
        return self.made.asked("process.list", "processes", "l", plain(processes=[
            {"process": number, "state": state} for number, state in enumerate(states, 1)]), session=SESSION,
            details={"process": process, "unsure": unsure})

    def test_good(self):
        self.listed()
        self.listed("running", process=1)
        self.listed("running", unsure=1)
        self.listed(unsure=1)
        self.assert_good()

    def test_stranger(self):
        self.listed("running", "running", process=1)
        self.assert_broken("listed", "nobody has started")

    def test_too_many(self):
        self.listed("running", "running", "running", process=1, unsure=1)
        self.assert_broken("listed", "so many")

    def test_ended(self):
        self.listed("ended", process=1)
        self.assert_broken("listed", "has ended")

    def test_gone(self):
        self.made.asked("session.exec", "any", "t", plain(process=1), session=SESSION)
        self.listed(process=1)
        self.assert_broken("listed", "not there")
        self.made.faults += [h.Fault("runtime", 8, 9), h.Fault("daemon", 11.5, 11.7)]
        self.assert_broken("listed", "not there")
        self.made.faults[0].ended = 10.1
        self.assert_good()


class Bites(Checked):
    def test_bitten(self):
        self.made.append("a")
        self.made.append("b")
        fault = h.Fault("garbage", 1, 11.5, VM)
        self.made.faults.append(fault)
        self.assert_good()  # nobody has told it
        fault.told = 1.5
        self.assert_broken("bitten", "still did something")
        fault.ended = 20
        self.assert_good()

    def test_stopped_meanwhile(self):
        self.made.append("a")
        self.made.faults += [h.Fault("agent", 1, 9, VM, told=2), h.Fault("stop", 3, 4, VM)]
        self.assert_good()
        self.made.faults[1].vm = OTHER_VM
        self.assert_broken("bitten", "still did something")


class Lives(Checked):
    def setUp(self):
        super().setUp()
        self.made.faults.append(h.Fault("daemon", 4, 5))
        self.made.lives[0].died, self.made.lives[0].status = 4.1, -9
        self.life = h.Life(4.1, 4.1, 4.6)
        self.made.lives.append(self.life)

    def test_good(self):
        self.assert_good()

    def test_died_by_itself(self):
        self.life.died, self.life.status = 20, -6
        self.assert_broken("lived", "by itself")

    def test_late(self):
        self.life.back = 6
        self.assert_broken("lived", "back after")

    def test_not_back(self):
        self.life.back = None
        self.assert_broken("lived", "does not come back")

    def test_not_adopted(self):
        self.life.missing = [SESSION]
        self.assert_broken("lived", "not adopted")

    def test_not_reaped(self):
        self.life.orphans = [VM]
        self.assert_broken("lived", "not reaped")

    def test_adopted_late(self):
        self.life.reaped = 5.0
        self.assert_good()
        self.life.reaped = 5.2
        self.assert_broken("lived", "adopted and reaped after")

    def test_nobody_could_tell(self):
        self.life.is_looked_after, self.life.died, self.life.status = True, 9, -9
        self.made.faults.append(h.Fault("daemon", 8.5, 9))
        self.assert_good()
        self.life.died = 30
        self.made.faults[-1] = h.Fault("daemon", 29.5, 30)
        self.assert_broken("lived", "nobody could tell")
        self.made.faults.append(h.Fault("memory", 4.5, 6))
        self.assert_good()

    def test_leftovers(self):
        self.made.leftovers = ["process 1"]
        self.assert_broken("clean", "process 1")

    def test_notes(self):
        self.made.note("a client failed")
        self.assert_broken("clean", "a client failed")


class Worth(Checked):
    """Of a run in which too little happened."""

    def worth(self, counts, kinds=("qemu",), kills_min=0, has_floors=False):
        return [finding.problem for finding in worth.check(self.made, collections.Counter(counts), kinds, kills_min, has_floors)
                if finding.problem]

    def test_kills(self):
        self.assertEqual(self.worth({"qemu": 3, "disk": 9}, kills_min=3), [])
        self.assertIn("at least 4", self.worth({"qemu": 3, "disk": 9}, kills_min=4)[0])

    def test_kinds(self):
        self.assertEqual(self.worth({"qemu": 1, "(client: nobody there)": 4}, ("qemu", "client")), ["it has met nobody"])
        self.assertEqual(self.worth({"garbage": 1}, ("garbage",)), ["it has met nobody"])
        self.made.faults.append(h.Fault("garbage", 1, 2, VM, told=1.5))
        self.assertEqual(self.worth({"garbage": 1}, ("garbage",)), [])

    def test_floors(self):
        for number in range(worth.REQUESTS_MIN):
            self.made.run(f"a{number}", closed() if number > 1 else ok(nonce_output(f"a{number}")))
        self.assertIn("less than 10%", self.worth({"qemu": 1}, has_floors=True)[0])
        self.assertEqual(self.worth({"qemu": 1}), [])
        self.made.requests[5].answers[0].kind = h.RESULT
        self.assertEqual(self.worth({"qemu": 1}, has_floors=True), [])
        # Where nobody could be served, nobody had to be.
        self.made.requests[5].answers[0].kind = h.CLOSED
        self.assertEqual(len(self.worth({"qemu": 1}, has_floors=True)), 1)
        self.made.faults.append(h.Fault("memory", 10, 99))
        self.assertEqual(self.worth({"qemu": 1}, has_floors=True), [])


class Leftovers(unittest.TestCase):
    """Every file that is not known to stay."""

    def strangers(self, *paths, results=()):
        with tempfile.TemporaryDirectory() as folder:
            for path in paths:
                os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
                with open(os.path.join(folder, path), "w", encoding="ascii"):
                    pass
            return sorted(Host(folder).strangers(results))

    def test_known(self):
        template = "state/templates/python-256-0123456789abcdef/"
        self.assertEqual(self.strangers("log", "jump", "run/lock", template + "ram", template + "state", template + "manifest.json"), [])

    def test_unknown(self):
        for path in ("run/sock", "run/results/.new-x", "run/vm/vm_1/record.json", "state/templates/.new-1/ram", "state/chaos-7", "jump.new"):
            with self.subTest(path):
                self.assertTrue(self.strangers("log", path))

    def test_results(self):
        name = "0-" + 64 * "a"
        self.assertEqual(self.strangers(f"run/results/{name}.json", f"run/results/{name}.lost", results={name}), [])
        self.assertEqual(self.strangers(f"run/results/{name}.json"), [f"run/results/{name}.json"])


class Schedules(unittest.TestCase):
    def test_seed(self):
        def first(seed):
            return [step for step, _ in zip(schedule(seed), range(200))]
        self.assertEqual(first(1), first(1))
        self.assertNotEqual(first(1), first(2))
        opening = [step.kind for step in first(1)[:len(WEIGHTS)]]
        self.assertEqual(sorted(opening), sorted(WEIGHTS))
        self.assertNotEqual(opening, [step.kind for step in first(2)[:len(WEIGHTS)]])
        self.assertLess(set(KILLS), {step.kind for step in first(1)[len(WEIGHTS):]})

    def test_only(self):
        self.assertEqual({step.kind for step, _ in zip(schedule(1, {"qemu": 1}), range(50))}, {"qemu"})

    def test_patterns(self):
        self.assertTrue(set(KILLS) <= set(WEIGHTS) and NONCE.fullmatch(nonce_output("a-1")) and COUNT.fullmatch(f"a-1 {NONCES[0]} 7\n"))
        self.assertEqual(ticks(7, 5), "0\n000")


if __name__ == "__main__":
    outcome = unittest.TextTestRunner(verbosity=0).run(unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__]))
    bad = len(outcome.failures) + len(outcome.errors)
    print(f"{outcome.testsRun - bad} passed, {bad} failed")
    sys.exit(bool(bad))
