# SPDX-License-Identifier: Apache-2.0
"""Which of the things that were done to the daemon explain an error."""

from history import CANCELLED, CLOSED, EXEC_NOT_FOUND, LEFT, PROCESS_NOT_FOUND, RESULT, SESSION_CLOSED, SESSION_NOT_FOUND

VM_ENDS = ("qemu", "agent", "garbage", "launcher")  # the VM is gone
DAEMON_ENDS = ("daemon", "handover")
# A kill is noticed a moment later; what was dispatched meanwhile meets a dead VM.
NOTICE_SECONDS = 2
# All VMs are made anew, by a machine that has two of them booting at a time.
QUEUE_SECONDS, BOOT_SECONDS = 30, 20
# A daemon that hands over waits so long for the calls that would end with it (DAEMON_HANDOVER_SECONDS). A request that was on
# its way when it was asked to it need not have read.
DRAIN_SECONDS, ON_ITS_WAY_SECONDS = 5, 0.1
# From a kill of a program to the daemon's verdict that its guest does not report it: kill_grace_ms, EXEC_KILL_REPORT_SECONDS.
# Of one that nobody comes back for the next daemon waits first (STRAY_SECONDS).
KILL_SECONDS, STRAY_SECONDS = 0.3, 2

# Of a 3004 whose VM lives: what the disk did not take. And of one whose VM was ended for want of its record, or had died.
FORGOTTEN = ("wrote down of the program is not enough", "did not fit on the disk of runtime_dir")
# What is said of a guest that is to blame, whatever the error.
BROKEN = "the guest broke the protocol"
LOST_WITH_VM = "The daemon ended while the code ran, and its VM with it"

# Errors of requests that name no session, by code: (faults that explain them, seconds they reach).
EXPLAINS = {
    CLOSED: (DAEMON_ENDS, 0.5),
    -32603: (("memory",), 0.5),
    1001: (("handover", "stopped"), NOTICE_SECONDS),
    1011: (("descriptors", "memory"), NOTICE_SECONDS),
    # A VM that stands still while it starts; or all of them start at once.
    3001: (("stop", "launcher") + DAEMON_ENDS, BOOT_SECONDS),
    # Whoever waits has waited for all of queue_timeout_seconds.
    3002: (("stop", "launcher", "qemu", "disk", "descriptors", "memory") + DAEMON_ENDS, QUEUE_SECONDS),
    # It could not be started, or ended before its client had it, or just when something was sent to it.
    3003: (VM_ENDS + ("stop", "runtime", "descriptors", "memory"), NOTICE_SECONDS),
    3004: (VM_ENDS, NOTICE_SECONDS),
    3006: (("garbage",), NOTICE_SECONDS),
}
# Reasons of SESSION_CLOSED, and what ends a VM like that.
REASONS = {"vm_lost": ("qemu", "agent", "launcher"), "guest_protocol": ("garbage",)}


class Causes:
    def __init__(self, history, adopts):
        self.history, self.adopts = history, adopts
        self.fulls = [fault for fault in history.faults if fault.kind == "runtime" or (
            fault.kind in ("descriptors", "memory") and fault.detail == "daemon")]

    def missing(self, request, answer):
        """What is wrong with this error; "" when something explains it."""
        key = CLOSED if answer.kind == CLOSED else answer.code
        if self._is_asked_for(request, answer) or self._explains(key, request, answer):
            return ""
        what = "the connection was closed" if key == CLOSED else f"error {key} ({answer.reason or answer.text})"
        return f"{what}, and nothing explains it"

    def _is_asked_for(self, request, answer):
        """Errors that the client has brought about, or that tell it to go on."""
        if answer.code == CANCELLED:
            return request.promise == "cancel"
        if answer.code == EXEC_NOT_FOUND:
            return True  # promises.known knows whether it may be
        return answer.code == 5001 and request.promise == "read"

    def _explains(self, key, request, answer):
        session = self.history.sessions.get(request.session)
        # An exec_id is answered with what happened at any time since it was sent.
        since = request.asked if request.exec_id else answer.asked
        if session and key in (SESSION_NOT_FOUND, SESSION_CLOSED):
            return self._session_is_lost(session, answer)
        if session and key == PROCESS_NOT_FOUND:
            return self.is_process_lost(request, answer)
        if key not in EXPLAINS:
            return False
        if key == 3004 and any(text in answer.text for text in FORGOTTEN):
            return self.is_unrecorded(request, answer.heard)
        if key == 3004 and LOST_WITH_VM in answer.text and (
                self.is_unrecorded(request, answer.heard) or session and self.is_born_unrecorded(session, answer.heard)):
            return True
        if key == CLOSED and is_waited_for(request):
            return bool(self.history.causes(("daemon",), since - 0.5, answer.heard)) or any(
                fault.began - ON_ITS_WAY_SECONDS < answer.asked or fault.began < answer.heard - DRAIN_SECONDS
                for fault in self.history.causes(("handover",), since - 0.5, answer.heard))
        kinds, reach = EXPLAINS[key]
        if BROKEN in (answer.reason or ""):
            kinds = ("garbage",)
        vm = session.vm if session else answer.vm
        return bool(self.history.causes(kinds, since - reach, answer.heard, vm if key in (3003, 3004, 3006) else None))

    # Sessions and their processes.

    def _session_is_lost(self, session, answer):
        if session.closed is not None:
            return answer.reason in ("closed", None)
        opened, heard = session.opened - NOTICE_SECONDS, answer.heard
        stops = self.history.causes(("stop",), opened, heard, session.vm)
        daemons = self.history.causes(DAEMON_ENDS, opened, heard)
        if not self.adopts and daemons:
            return answer.code != SESSION_CLOSED or answer.reason != "closed"
        if answer.code == SESSION_CLOSED:
            if answer.reason == "unresponsive":
                return self.may_be_unresponsive(session, heard)
            ends = self.history.causes(REASONS.get(answer.reason, ()), opened, heard, session.vm)
            return bool(ends) or answer.reason == "vm_lost" and (
                overlap(stops, daemons) or self._is_garbage_to_a_new_daemon(session, heard))
        # A new daemon knows nothing of sessions whose VMs had ended before it came, or that it found no record of.
        ends = self.history.causes(VM_ENDS, opened, heard, session.vm)
        return bool(daemons and ends) or overlap(stops, daemons) or bool(daemons) and self.may_be_unresponsive(
            session, heard) or self.is_born_unrecorded(session, heard)

    def _is_garbage_to_a_new_daemon(self, session, heard):
        """Where a guest was to have answered HELLO, its VM is one that could not be had."""
        return any(self.history.causes(DAEMON_ENDS, fault.began, heard)
                   for fault in self.history.causes(("garbage",), session.opened, heard, session.vm))

    def is_process_lost(self, request, answer):
        """Only that of which nothing was written down when it began."""
        starts = [one for one in self.history.requests if one.session == request.session
                  and (result := one.result()) and result.value.get("process") == request.details.get("process")]
        return not self.adopts and bool(self.history.causes(DAEMON_ENDS, request.asked - NOTICE_SECONDS, answer.heard)) or any(
            self.is_unrecorded(start, answer.heard) for start in starts)

    def may_be_unresponsive(self, session, heard):
        """Was a program of it killed, or its VM stopped, so shortly before its close that its guest may not have reported it?
        It was closed behind the last that it did, and before anybody heard of that."""
        mine = [request for request in self.history.requests if request.session == session.name and request.answers]
        alive = max((answer.heard for request in mine for answer in request.answers
                     if answer.kind == RESULT and answer.heard <= heard and not is_killed(request)), default=session.opened)
        since = alive - KILL_SECONDS - NOTICE_SECONDS
        return bool(self.history.causes(("stop",), since, heard, session.vm)) or any(
            request.asked < heard and self._killed_until(request, heard) >= since for request in mine
            if is_killed(request) or self.is_unrecorded(request, heard))

    def _killed_until(self, request, heard):
        """The latest moment at which the daemon may have killed its program: where its own went away, the next one does it."""
        until = min(request.heard or heard, heard)
        if self.history.causes(DAEMON_ENDS, request.asked, until + NOTICE_SECONDS):
            backs = [life.back for life in self.history.lives if life.back is not None and life.back >= request.asked]
            until = max(until, min((back for back in backs if back >= until - NOTICE_SECONDS), default=until) + STRAY_SECONDS)
        return until

    # What could not be written down.

    def full(self, since, until):
        """Times in which the daemon could not write down what it knew: the runtime directory was full, or it had no descriptor or
        memory for it."""
        return [fault for fault in self.fulls if fault.began <= until and (fault.ended is None or fault.ended >= since)]

    def _ended_behind(self, faults, until):
        return any(fault.began < end.began for fault in faults for end in self.history.causes(DAEMON_ENDS, fault.began, until))

    def is_unrecorded(self, request, until):
        """Was it begun, at work or ended while nothing could be written down, and has a daemon ended behind that? What
        was written before stays as it was, and what comes later is written."""
        if not request.answers:
            return False
        return self._ended_behind(self.full(request.asked, settled_at(request, until)), until)

    def is_begun_unrecorded(self, request, until):
        """The same of its beginning alone: nothing of it was written down."""
        ends = [answer.heard for answer in request.answers if answer.kind != LEFT and answer.heard is not None]
        return bool(request.answers) and self._ended_behind(self.full(request.asked, min(ends, default=until)), until)

    def is_born_unrecorded(self, session, until):
        """A session's record is written before its maker hears of it."""
        return self._ended_behind(self.full(session.opened - NOTICE_SECONDS, session.opened), until)


def settled_at(request, until):
    """When it had come to an end at the latest."""
    final = next((answer for answer in request.answers if answer.is_final() and not answer.never_ran()), None)
    return min(until, final.heard) if final else until


def is_killed(request):
    """Is it a program that the daemon kills?"""
    return request.promise in ("timeout", "cancel") or request.is_cut_off()


def is_waited_for(request):
    """Programs that nobody could fetch the result of are: a hand-over does not end them."""
    return request.method in ("run", "session.exec") and not request.exec_id


def overlap(stops, daemons):
    """A new daemon that finds a VM stopped may give it up."""
    return any(stop.began - NOTICE_SECONDS <= daemon.began <= (stop.ended or daemon.began) + NOTICE_SECONDS
               for stop in stops for daemon in daemons)
