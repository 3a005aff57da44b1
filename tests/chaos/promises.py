# SPDX-License-Identifier: Apache-2.0
"""What the daemon promises, held against a history: each rule yields what it looked at, and what is wrong with it.

The promises are those of docs/PROTOCOL.md ("Outcomes", "Errors") and docs/SESSIONS.md. A daemon that is killed loses its
connections, with them the calls without exec_id, and the VMs of its pool; nothing else. An error is right only when something
was done that explains it: to this VM, at this time.
"""

import collections
import dataclasses
import re

from causes import Causes
from history import CANCELLED, CLOSED, ERROR, EXEC_NOT_FOUND, RESULT, RUNNING, SILENT

NONCE = re.compile(r"([\w-]+) ([0-9a-f]{16})\n\1 end\n")
COUNT = re.compile(r"([\w-]+) ([0-9a-f]{16}) (\d+)\n")
TICK = "%08d\n"
TICK_BYTES = 9
# Behind its deadline a program has its kill grace, and the guest 250 ms to report; the rest is the machine's load.
TIMEOUT_LATE_SECONDS = 5
# Within which a daemon that lives says what it has adopted.
TOLD_SECONDS = 10


@dataclasses.dataclass
class Promises:
    """What is expected of this build and machine. `adopts`: sessions and exec_ids outlive their daemon."""

    adopts: bool = True
    back_seconds: float = 1.0  # until it answers, has adopted, and has reaped the rest


@dataclasses.dataclass
class Finding:
    rule: str
    subject: str
    problem: str  # "" when all is well
    request: object = None


def lines_of(token, count):
    return "".join(f"{token} {number:07d}\n" for number in range(count))


def ticks(offset, length):
    """What a ticker has written from a byte on."""
    first = offset // TICK_BYTES
    text = "".join(TICK % number for number in range(first, first + length // TICK_BYTES + 2))
    return text[offset % TICK_BYTES:][:length]


# Each says what is wrong with a result, or "".

def result_nonce(request, value):
    match = NONCE.fullmatch(value["stdout"])
    return "" if value["status"] == "ok" and match and match[1] == request.token else "a wrong result"


def result_echo(request, value):
    return "" if (value["status"], value["stdout"]) == ("ok", request.token + "\n") else "a wrong result"


def result_silent(_, value):
    return "" if (value["status"], value["stdout"]) == ("ok", "") else "a wrong result"


def result_count(request, value):
    match = COUNT.fullmatch(value["stdout"])
    return "" if value["status"] == "ok" and match and match[1] == request.token else "a wrong result"


def result_lines(request, value):
    expected = lines_of(request.token, request.details["lines"])
    if value["status"] != "ok" or value["stdout"] != expected:
        return f"a wrong result: {value['status']}, {len(value['stdout'])} bytes instead of {len(expected)}"
    chunks = request.details.get("chunks")
    if chunks is None:
        return ""
    if [seq for seq, _ in chunks] != list(range(chunks[0][0], chunks[0][0] + len(chunks)) if chunks else []):
        return "a chunk of the stream is missing or doubled"
    return "" if "".join(text for _, text in chunks) == expected else "the stream is not the result"


def result_timeout(request, value):
    # Its first line may not have come by then.
    if (value["status"], value["exit_code"]) != ("timeout", 124) or value["stdout"] not in ("", request.token + "\n"):
        return "no timeout where one was due"
    late = value["timing"]["execute_ms"] / 1000 - request.details["timeout"]
    if late < -0.01:
        return f"its timeout came {-late:.3f} s early"
    return f"its timeout came {late:.3f} s late" if late > TIMEOUT_LATE_SECONDS else ""


def result_cancel(_, value):
    return f"a result '{value['status']}' of what was cancelled and never ends"


def result_write(request, value):
    return "" if value["bytes"] == len(request.details["content"]) else "another number of bytes"


def result_any(_, __):
    return ""


# By Request.promise. Of log, read, ticks and processes the rules below know more.
RESULTS = {"nonce": result_nonce, "echo": result_echo, "silent": result_silent, "count": result_count, "lines": result_lines,
           "timeout": result_timeout, "cancel": result_cancel, "write": result_write,
           "log": result_any, "read": result_any, "ticks": result_any, "processes": result_any, "any": result_any}


def answered(history, _):
    """Each request is answered in its time; one with an exec_id comes to an end."""
    for request in history.requests:
        problem = ""
        if any(answer.kind == SILENT for answer in request.answers):
            problem = "not answered within its deadline"
        elif any(answer.kind is None for answer in request.answers):
            problem = "its client has stuck"
        elif request.exec_id and not request.is_left and request.answers and not request.final():
            problem = "never came to an end"
        yield "request", problem, request


def explained(history, promises):
    """No error, and no closed connection, without something that explains it."""
    causes = Causes(history, promises.adopts)
    for request in history.requests:
        for answer in request.answers:
            if answer.kind in (ERROR, CLOSED):
                yield "error", causes.missing(request, answer), request


def right(history, _):
    """A result is that of its own program."""
    for request in history.requests:
        for answer in request.answers:
            if answer.kind == RESULT:
                yield "result", RESULTS[request.promise](request, answer.value), request
            if request.promise == "cancel" and answer.code == CANCELLED:
                partial = answer.value.get("result", {})
                is_right = partial.get("status") == "cancelled" and request.token.startswith(partial["stdout"].strip())
                yield "cancelled", "" if is_right else "a wrong partial result", request


def same(history, promises):
    """All answers to one exec_id are one: it did not run twice, nor is it forgotten."""
    causes = Causes(history, promises.adopts)
    for request in history.requests:
        if not request.exec_id:
            continue
        settled, problem = None, ""
        started = request.details.get("started")
        for answer in request.answers:
            if not answer.is_final() or answer.never_ran() or causes.is_unrecorded(request, answer.heard):
                continue
            if answer.kind == RESULT and started and started not in answer.value.get("stdout", started):
                problem = f"what its stream began with, {started!r}, is not in its result: it ran twice"
            mine = (answer.kind, answer.code, outputs(answer))
            if settled and settled != mine:
                problem = f"it was answered {settled} before and {mine} later"
            settled = settled or mine
        yield "exec_id", problem, request


def outputs(answer):
    if answer.kind == RESULT:
        return tuple(answer.value.get(name) for name in ("status", "exit_code", "stdout", "vm"))
    return answer.value.get("name")


def by_session(history, *promised):
    found = collections.defaultdict(list)
    for request in history.requests:
        if request.session and request.promise in promised:
            found[request.session].append(request)
    return found


def once(history, promises):
    """The file to which each program of a session appends its token: nothing lost, doubled, wrong, out of order."""
    causes = Causes(history, promises.adopts)
    writers = by_session(history, "echo", "silent", "log")
    for session, requests in writers.items():
        appends = {request.token: request for request in requests if request.promise != "log"}
        before = []
        for reading in requests:
            value = reading.result() if reading.promise == "log" else None
            if value is None:
                continue
            lines = log_lines(value)
            yield f"log of {session}", log_problem(appends, lines, before, value, causes), reading
            before = lines


def log_problem(appends, lines, before, answer, causes):
    if lines[:len(before)] != before:
        return f"the log went back: {len(before)} lines before, now {len(lines)}"
    seen = collections.Counter(lines)
    for token, times in seen.items():
        if token not in appends:
            return f"{token!r} was never written here"
        if times > 1 and not may_run_again(appends[token], answer, causes):
            return f"{token} is there {times} times: it ran again"
        if appends[token].never_ran():
            return f"{token} is there, and its caller was told that it never ran"
    for token, request in appends.items():
        result = request.result()
        if result and result.heard < answer.asked and token not in seen:
            return f"{token} is lost: its program has ended well before"
    return order_problem([appends[token] for token in dict.fromkeys(lines)])


def may_run_again(request, reading, causes):
    """Where the disk was full, its client may have been told to send it again. By itself it does not run again, but
    where nothing of it was written down."""
    was_told = any(answer.code == EXEC_NOT_FOUND for answer in request.answers)
    return bool(request.exec_id) and (was_told and causes.is_unrecorded(request, reading.heard)
                                      or causes.is_begun_unrecorded(request, reading.heard))


def log_lines(answer):
    return (answer.value.get("stdout") or answer.value.get("data") or "").split("\n")[:-1]


def order_problem(requests):
    """Programs of a session run one behind the other, as they came."""
    for first, second in zip(requests, requests[1:]):
        ended = second.result()
        is_behind = ended and ended.heard < first.asked and not second.exec_id
        if is_behind or (first.order and second.order and first.order[0] == second.order[0] and first.order > second.order):
            return f"{first.token} ran before {second.token}, which came first"
    return ""


def counted(history, promises):
    """The number in a session's interpreter goes up by one with each program, and never back."""
    causes = Causes(history, promises.adopts)
    for session, requests in by_session(history, "count").items():
        yield f"interpreter of {session}", interpreter_problem(history, session, requests, causes), requests[-1]


def interpreter_problem(history, session, requests, causes):
    answers = sorted(((match, request) for request in requests
                      if (result := request.result()) and (match := COUNT.fullmatch(result.value["stdout"]))),
                     key=lambda pair: pair[1].result().heard)
    breaks = [request for request in history.requests if request.session == session
              and request.details.get("interpreter") and ends_interpreter(request)]
    for (one, first), (two, second) in zip(answers, answers[1:]):
        since, until = first.asked, second.result().heard
        # Sent again, or ended as what nobody knows.
        forgotten = [request for request in requests if causes.is_unrecorded(request, until)
                     and request.asked <= until and (request.heard or until) >= since]
        if one[2] != two[2]:
            if not forgotten and not any(request.asked <= until and (request.heard or until) >= since for request in breaks):
                return f"a fresh interpreter at {second.token}, and nothing had ended the one before"
            continue
        step = int(two[3]) - int(one[3])
        unknown = sum(1 for request in requests if not request.result() and not request.never_ran()
                      and request.asked <= until and (request.heard or until) >= since)
        if step < 1:
            return f"{two[3]} at {second.token} behind {one[3]} at {first.token}: it went back"
        if step > 1 + unknown + len(forgotten):
            return f"{two[3]} at {second.token} behind {one[3]} at {first.token}: something ran again"
    return ""


def ends_interpreter(request):
    """A timeout, a cancellation and a connection that went away do."""
    return request.promise in ("timeout", "cancel") or request.is_cut_off()


def stored(history, _):
    """A file holds what was written last, whole."""
    for session, requests in by_session(history, "write", "read").items():
        allowed = {None}
        for request in requests:
            if request.promise == "write":
                allowed = allowed_contents(request, allowed)
                continue
            answer = request.final()
            if answer and answer.kind == RESULT:
                is_right = answer.value["data"] in allowed
            elif answer and answer.code == 5001:
                is_right = None in allowed
            else:
                continue
            yield f"file of {session}", "" if is_right else "it is neither what was written last nor what was on its way", request


def allowed_contents(request, allowed):
    """One worker writes one file: behind a success there is one content, behind a lost connection two."""
    if request.result():
        return {request.details["content"]}
    return allowed if request.never_ran() else allowed | {request.details["content"]}


def ticked(history, promises):
    """The numbered output of a background process: the right bytes at each offset, and it never starts anew."""
    causes = Causes(history, promises.adopts)
    for process, requests in by_process(history).items():
        furthest, looked = 0, history.sessions[process[0]].opened
        for request in requests:
            answer = request.answers[-1]
            if answer.kind not in (RESULT, RUNNING):
                continue
            # A ring that cannot grow drops what is oldest.
            is_full = bool(causes.full(looked, answer.heard))
            problem, furthest = tick_problem(request, answer, furthest, is_full)
            looked = answer.asked
            yield f"output of {process}", problem, request


def by_process(history):
    found = collections.defaultdict(list)
    for request in history.requests:
        if request.promise == "ticks":
            found[request.session, request.details["process"]].append(request)
    return found


def tick_problem(request, answer, furthest, is_full):
    value, asked = answer.value, request.details["offset"]
    offset, text = value["stdout_offset"], value["stdout"]
    if answer.kind == RESULT:
        return "it has ended, and nobody had ended it", furthest
    if text != ticks(offset, len(text)):
        return f"from {offset} on it says {text[:40]!r}", furthest
    if offset < asked:
        return f"output from {offset} on where {asked} was asked for", furthest
    if offset > asked and not is_full:
        return f"output from {offset} on where {asked} was asked for, and nothing was lost", furthest
    if value["stdout_bytes"] < furthest:
        return f"{value['stdout_bytes']} bytes in all, and there were {furthest}: it began again", furthest
    return "", max(furthest, value["stdout_bytes"])


def listed(history, promises):
    """The processes of a session are those that its client has started."""
    causes = Causes(history, promises.adopts)
    for request in history.requests:
        if request.promise == "processes" and (answer := request.result()):
            yield f"processes of {request.session}", list_problem(request, answer, causes), request


def list_problem(request, answer, causes):
    states = {one["process"]: one["state"] for one in answer.value["processes"]}
    mine = request.details["process"]
    if ended := [process for process, state in states.items() if state != "running"]:
        return f"{ended[0]} has ended, and nobody had ended it"
    if mine and mine not in states and not causes.is_process_lost(request, answer):
        return f"{mine} is not there"
    strangers = sorted(set(states) - {mine})
    if len(strangers) > request.details["unsure"]:
        return f"{strangers} are there, and nobody has started {'them' if not request.details['unsure'] else 'so many'}"
    return ""


def bitten(history, _):
    """A guest whose agent was told to end, or to speak garbage, is no more soon."""
    for fault in history.faults:
        if fault.told is None or history.causes(("stop",), fault.told, fault.ended, fault.vm):
            continue
        names = [session.name for session in history.sessions.values() if session.vm == fault.vm]
        alive = [request for request in history.requests if request.session in names and request.method != "session.close"
                 and (answer := request.result()) and answer.asked > fault.ended]
        problem = f"it was told to end ({fault.kind}) at {fault.told:.3f}, and still did something later" if alive else ""
        yield f"guest of {fault.vm}", problem, alive[0] if alive else None


def known(history, promises):
    """An exec_id whose program was seen to run, or to have ended, is known from then on. One that waits may have to be sent again.
    Of what was said to have started nobody says later that it never ran."""
    causes = Causes(history, promises.adopts)
    for request in history.requests:
        problem, confirmed = "", request.details.get("started_at")
        for answer in request.answers:
            if answer.never_ran() and confirmed and confirmed < answer.heard and not causes.is_unrecorded(request, answer.heard):
                problem = f"it had run at {confirmed:.3f}, and is said to have never done so"
            if answer.is_final() or answer.kind == RUNNING and answer.value["stdout"]:
                # Said to have never run, it is free again.
                confirmed = None if answer.never_ran() else confirmed or answer.heard
            if answer.code == EXEC_NOT_FOUND and confirmed and confirmed < answer.asked:
                lost = causes.is_unrecorded(request, answer.heard) or (
                    not promises.adopts and history.causes(("daemon",), confirmed, answer.heard))
                problem = "" if lost else f"it was known at {confirmed:.3f} and is forgotten"
        yield "exec_id", problem, request


def lived(history, promises):
    """The daemon ends only when it is killed, and is back, with all that is alive, in its time."""
    causes = Causes(history, promises.adopts)
    for number, life in enumerate(history.lives):
        if life.died is not None and life.status is not None:
            is_killed = history.causes(("daemon", "handover", "stopped"), life.died - 2, life.died)
            yield f"daemon {number}", "" if is_killed else f"it ended by itself with {life.status} at {life.died:.3f}", None
        if number and life.back is not None:
            took = life.back - life.since
            yield f"daemon {number}", f"it was back after {took:.3f} s" if took > promises.back_seconds else "", None
        elif number and life.died is None:
            yield f"daemon {number}", "it does not come back", None
        if number and life.reaped is not None:
            took = life.reaped - life.since
            yield f"daemon {number}", f"all was adopted and reaped after {took:.3f} s" if took > promises.back_seconds else "", None
        elif life.is_looked_after and (life.died or history.now()) > life.since + promises.back_seconds + TOLD_SECONDS:
            is_short = history.causes(("descriptors", "memory"), life.since, life.since + promises.back_seconds + TOLD_SECONDS)
            yield f"daemon {number}", "" if is_short else "nobody could tell what it has adopted", None
        for session in life.missing:
            mine, looked = history.sessions[session], life.since + promises.back_seconds
            is_lost = causes.may_be_unresponsive(mine, looked) or causes.is_born_unrecorded(mine, life.since)
            yield f"daemon {number}", "" if is_lost else f"it has not adopted {session}", None
        for orphan in life.orphans:
            yield f"daemon {number}", f"it has not reaped {orphan} within {promises.back_seconds} s", None


def clean(history, _):
    """Nothing is left at the end."""
    yield "the end", f"left: {'; '.join(history.leftovers)}" if history.leftovers else "", None
    for when, text in history.notes:
        yield "note", f"at {when:.3f}: {text}", None


RULES = (answered, explained, right, same, known, once, counted, stored, ticked, listed, bitten, lived, clean)


def check(history, promises):
    """All findings, the good ones too."""
    return [Finding(rule.__name__, subject, problem, request)
            for rule in RULES for subject, problem, request in rule(history, promises)]
