# SPDX-License-Identifier: Apache-2.0
"""What was asked, what was answered, and what was done to the daemon meanwhile.

Clients, the killer and the supervisor write it while they run, each its own part; the checker
(promises.py) reads it when all is over. Times are seconds since the history began.
"""

import dataclasses
import threading
import time

# How an answer came out. LEFT: the client itself went away, or was killed, and was owed nothing.
RESULT, ERROR, CLOSED, SILENT, LEFT, RUNNING = "result", "error", "closed", "silent", "left", "running"

# Codes of the public API that the checker knows more of than that they are errors.
CANCELLED = -32800
NEVER_RAN = (1001, 1003, 1011, 3001, 3002, 3003, 4003)
SESSION_NOT_FOUND, SESSION_CLOSED, PROCESS_NOT_FOUND, EXEC_NOT_FOUND = 4001, 4002, 4010, 4021
# A VM that stood still may be given up by a daemon that came meanwhile.
STOP_AFTERMATH_SECONDS = 5


@dataclasses.dataclass
class Answer:
    """One reply, or what came instead of it. `how` is what was done to get it."""

    how: str
    asked: float
    heard: float = None
    kind: str = None
    value: dict = None  # the result, or the error's data
    code: int = 0
    text: str = ""

    @property
    def reason(self):
        return self.value.get("reason") if self.kind == ERROR else None

    @property
    def vm(self):
        return (self.value or {}).get("vm")

    def never_ran(self):
        """Does it say that the program was not started, and never will be?"""
        if self.kind != ERROR:
            return False
        if "dispatched" in self.value:
            return not self.value["dispatched"]
        return self.code in (*NEVER_RAN, SESSION_NOT_FOUND, SESSION_CLOSED)

    def is_final(self):
        return self.kind in (RESULT, ERROR) and self.code != EXEC_NOT_FOUND

    def __str__(self):
        if self.kind == ERROR:
            return f"error {self.code} {self.text!r} {self.value}"
        if self.kind == RESULT and "status" in self.value:
            output = self.value.get("stdout", "")
            return f"{self.value['status']} {self.value.get('exit_code')} {output[:120]!r} vm={self.vm}"
        return f"{self.kind} {str(self.value)[:160] if self.value else self.text}"


@dataclasses.dataclass
class Request:
    """One thing that somebody wanted, with all that was answered to it."""

    number: int
    who: str
    method: str
    promise: str  # which rule of promises.py knows what a result must be
    token: str
    session: str = None
    exec_id: str = None
    order: tuple = None  # (connection, place): of requests that were sent behind each other on one
    details: dict = dataclasses.field(default_factory=dict)
    answers: list = dataclasses.field(default_factory=list)
    is_left: bool = False  # the client has lost interest

    @property
    def asked(self):
        return self.answers[0].asked if self.answers else None

    @property
    def heard(self):
        return max((answer.heard for answer in self.answers if answer.heard is not None), default=None)

    def final(self):
        """The first answer that settles it, or None."""
        return next((answer for answer in self.answers if answer.is_final()), None)

    def result(self):
        return next((answer for answer in self.answers if answer.kind == RESULT), None)

    def never_ran(self):
        """It was answered, and each answer that settles it says that it never ran."""
        said = [answer for answer in self.answers if answer.kind not in (RUNNING,)]
        return bool(said) and all(answer.never_ran() for answer in said)

    def is_cut_off(self):
        """Its connection went away, and its program with it."""
        return not self.exec_id and any(answer.kind in (CLOSED, LEFT) for answer in self.answers)

    def __str__(self):
        words = [f"#{self.number} {self.who} {self.method} ({self.promise}) token={self.token}"]
        words += [f"{name}={value}" for name, value in
                  (("session", self.session), ("exec_id", self.exec_id)) if value]
        return " ".join(words)


@dataclasses.dataclass
class Fault:
    """Something done to the daemon or its VMs, from `began` to `ended` (None: to the end)."""

    kind: str
    began: float
    ended: float = None
    vm: str = None  # None: it concerns all
    detail: str = ""
    told: float = None  # when the guest was told to do it, where it is the guest that does


@dataclasses.dataclass
class Session:
    name: str
    vm: str
    opened: float
    closed: float = None  # when its user asked for that
    lost: float = None  # when its user heard of its end


@dataclasses.dataclass
class Life:
    """One daemon process, from its start; `back` is when it answered, `died` when it ended."""

    started: float
    since: float  # when its predecessor had died; `started` for the first
    back: float = None
    died: float = None
    status: int = None
    missing: list = dataclasses.field(default_factory=list)  # sessions it should have adopted
    orphans: list = dataclasses.field(default_factory=list)  # VMs neither adopted nor reaped in time
    reaped: float = None  # when there were none, or it was too late; None: nobody could tell
    is_looked_after: bool = False


class History:
    def __init__(self):
        self.lock = threading.Lock()
        self.epoch = time.monotonic()
        self.requests, self.faults, self.lives = [], [], []
        self.sessions = {}
        self.leftovers = []  # what was there behind the end
        self.notes = []  # what is wrong beyond requests

    def now(self):
        return time.monotonic() - self.epoch

    def request(self, who, method, promise, token, **fields):
        with self.lock:
            request = Request(len(self.requests), who, method, promise, token, **fields)
            self.requests.append(request)
        return request

    def fault(self, kind, vm=None, detail="", seconds=None):
        """Begins one; it ends after `seconds`, or when somebody sets `ended`."""
        now = self.now()
        fault = Fault(kind, now, None if seconds is None else now + seconds, vm, detail)
        with self.lock:
            self.faults.append(fault)
        return fault

    def life(self, since=None):
        now = self.now()
        life = Life(now, now if since is None else since)
        with self.lock:
            self.lives.append(life)
        return life

    def open_session(self, name, vm):
        with self.lock:
            self.sessions[name] = Session(name, vm, self.now())

    def close_session(self, name):
        with self.lock:
            self.sessions[name].closed = self.now()

    def lose_session(self, name):
        with self.lock:
            self.sessions[name].lost = self.now()

    def living_sessions(self):
        """Sessions that their users have and that nothing explains the end of."""
        now = self.now()
        with self.lock:
            lost = {fault.vm for fault in self.faults if fault.vm and (
                fault.kind != "stop" or fault.ended is None or now - fault.ended < STOP_AFTERMATH_SECONDS)}
            # A launcher takes all VMs of its time along.
            ends = [fault.began for fault in self.faults if fault.kind == "launcher"]
            return [one for one in self.sessions.values()
                    if one.closed is None and one.lost is None and one.vm not in lost
                    and all(one.opened > end for end in ends)]

    def note(self, text):
        with self.lock:
            self.notes.append((self.now(), text))

    def causes(self, kinds, since, until, vm=None):
        """Faults of these kinds that touch the time, and the VM where both are known."""
        return [fault for fault in self.faults
                if fault.kind in kinds and fault.began <= until
                and (fault.ended is None or fault.ended >= since)
                and (vm is None or fault.vm is None or fault.vm == vm)]

    def tell(self, request):
        """The lines of a request's life, with what was done to the daemon around it."""
        lines = [str(request)]
        for answer in request.answers:
            heard = "never" if answer.heard is None else f"{answer.heard:.3f}"
            lines.append(f"  {answer.asked:9.3f} {answer.how} -> {heard} {answer}")
        if request.answers:
            since, until = request.asked - 2, (request.heard or request.asked) + 1
            vm = self.sessions[request.session].vm if request.session in self.sessions else None
            for fault in self.faults:
                if fault.began <= until and (fault.ended is None or fault.ended >= since) or (vm and fault.vm == vm):
                    ended = "" if fault.ended is None else f" to {fault.ended:.3f}"
                    lines.append(f"  {fault.began:9.3f} FAULT {fault.kind}{ended} {fault.vm or ''} {fault.detail}")
        return "\n".join(lines)
