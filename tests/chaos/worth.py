# SPDX-License-Identifier: Apache-2.0
"""What a run must have done for its verdict to be worth anything: faults that met somebody, and clients that were served."""

from history import CANCELLED, RUNNING
from promises import Finding
from schedule import KILLS

# Those that a guest does by itself, when it is told to.
TOLD = ("agent", "garbage")
# Share of requests that come to what was asked for: about half of what runs on busy machines have. The rest meets a daemon
# that is not there, or loses its VM.
FLOORS = {"run": 0.1, "session.create": 0.2, "session.exec": 0.1, "file.read": 0.1, "file.write": 0.1, "process.wait": 0.1}
# Meanwhile a request is turned down at once, and the next one follows.
SHORT = ("descriptors", "memory", "runtime", "disk", "handover")
# Of fewer the share says nothing.
REQUESTS_MIN = 30


def is_served(request):
    """A result; or the end, the word or the gap that it was sent for."""
    return bool(request.result()) or any(
        answer.kind == RUNNING or answer.code == CANCELLED and request.promise == "cancel" or answer.code == 5001 and request.promise == "read"
        for answer in request.answers)


def check(history, counts, kinds, kills_min, has_floors):
    """Findings: of kills, of kinds of fault, of methods."""
    killed = sum(counts[kind] for kind in KILLS)
    problem = f"{killed} kills have met somebody, and at least {kills_min} had to" if killed < kills_min else ""
    yield Finding("worth", "kills", problem)
    for kind in kinds:
        told = kind not in TOLD or any(fault.kind == kind and fault.told is not None for fault in history.faults)
        yield Finding("worth", f"fault '{kind}'", "" if counts[kind] and told else "it has met nobody")
    for method, floor in FLOORS.items() if has_floors else ():
        asked = [request for request in history.requests if request.method == method and request.answers and not request.is_left
                 and not history.causes(SHORT, request.asked, request.heard or request.asked)]
        if len(asked) < REQUESTS_MIN:
            continue
        share = sum(map(is_served, asked)) / len(asked)
        yield Finding("worth", method, f"{share:.0%} of {len(asked)} were served, less than {floor:.0%}" if share < floor else "")
