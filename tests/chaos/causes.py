# SPDX-License-Identifier: Apache-2.0
"""Which of the things that were done to the daemon explain an error."""

from history import CANCELLED, CLOSED, EXEC_NOT_FOUND, SESSION_CLOSED, SESSION_NOT_FOUND

VM_ENDS = ("qemu", "agent", "garbage", "launcher")  # the VM is gone
DAEMON_ENDS = ("daemon", "handover")
ANY = VM_ENDS + DAEMON_ENDS + ("stop", "disk", "runtime", "descriptors", "memory")
# A kill is noticed a moment later; what was dispatched meanwhile meets a dead VM.
NOTICE_SECONDS = 2
# Behind a fault VMs are made anew, which costs time and what there is of the machine.
AFTERMATH_SECONDS = 15
# A daemon that hands over waits so long for the calls that would end with it (DAEMON_HANDOVER_SECONDS). A request that was on
# its way when it was asked to it need not have read.
DRAIN_SECONDS, ON_ITS_WAY_SECONDS = 5, 0.1

# Of a 3004 whose VM lives.
FORGOTTEN = "wrote down of the program is not enough"

# Errors of requests that name no session, by code: (faults that explain them, seconds they reach).
EXPLAINS = {
    CLOSED: (DAEMON_ENDS, 0.5),
    -32603: (("memory",), 0.5),
    1001: (("handover", "stopped"), NOTICE_SECONDS),
    1011: (("descriptors", "memory"), NOTICE_SECONDS),
    3001: (ANY, AFTERMATH_SECONDS),
    3002: (ANY, AFTERMATH_SECONDS),
    3003: (ANY, AFTERMATH_SECONDS),
    3004: (VM_ENDS, NOTICE_SECONDS),
    3006: (("agent", "garbage"), NOTICE_SECONDS),
}


class Causes:
    def __init__(self, history, adopts):
        self.history, self.adopts = history, adopts

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
        if session and key in (SESSION_NOT_FOUND, SESSION_CLOSED, 4010):
            return self._session_is_lost(session, answer)
        if key not in EXPLAINS:
            return False
        if key == 3004 and FORGOTTEN in answer.text:
            return self.is_unrecorded(session.opened if session else request.asked, answer.heard)
        if key == CLOSED and is_waited_for(request):
            return bool(self.history.causes(("daemon",), since - 0.5, answer.heard)) or any(
                fault.began - ON_ITS_WAY_SECONDS < answer.asked or fault.began < answer.heard - DRAIN_SECONDS
                for fault in self.history.causes(("handover",), since - 0.5, answer.heard))
        kinds, reach = EXPLAINS[key]
        vm = session.vm if session else answer.vm
        return bool(self.history.causes(kinds, since - reach, answer.heard, vm if key in (3004, 3006) else None))

    def _session_is_lost(self, session, answer):
        if session.closed is not None:
            return answer.reason in ("closed", None)
        opened, heard = session.opened - NOTICE_SECONDS, answer.heard
        ends = self.history.causes(VM_ENDS, opened, heard, session.vm)
        stops = self.history.causes(("stop",), opened, heard, session.vm)
        daemons = self.history.causes(DAEMON_ENDS, opened, heard)
        if self.is_unrecorded(opened, heard):
            return True
        if not self.adopts and daemons:
            return answer.code != SESSION_CLOSED or answer.reason != "closed"
        if answer.code == SESSION_CLOSED:
            if answer.reason == "unresponsive":
                return bool(stops) or self._has_killed_program(session, heard)
            return bool(ends) and answer.reason in ("vm_lost", "guest_protocol") or overlap(stops, daemons)
        # A new daemon knows nothing of sessions whose VMs had ended before it came.
        return bool(daemons and ends) or overlap(stops, daemons)

    def is_unrecorded(self, since, until):
        """Did a daemon end behind a time in which it could not write down what shall outlive it?"""
        full = self.history.causes(("runtime",), since, until)
        return any(fault.began < end.began for fault in full for end in self.history.causes(DAEMON_ENDS, since, until))

    def may_be_unresponsive(self, name, moment):
        """Was a program of it killed just then?"""
        return self._has_killed_program(self.history.sessions[name], moment, moment - AFTERMATH_SECONDS)

    def _has_killed_program(self, session, heard, since=0):
        """A guest that is too slow to report the end of one costs the session."""
        return any(request.promise in ("timeout", "cancel") or request.is_cut_off() for request in self.history.requests
                   if request.session == session.name and request.answers and since < request.asked < heard)


def is_waited_for(request):
    """Programs that nobody could fetch the result of are: a hand-over does not end them."""
    return request.method in ("run", "session.exec") and not request.exec_id


def overlap(stops, daemons):
    """A new daemon that finds a VM stopped may give it up."""
    return any(stop.began - NOTICE_SECONDS <= daemon.began <= (stop.ended or daemon.began) + NOTICE_SECONDS
               for stop in stops for daemon in daemons)
