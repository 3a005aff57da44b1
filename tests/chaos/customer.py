# SPDX-License-Identifier: Apache-2.0
"""One client of the daemon, a thread that asks, remembers what it was told, and copes with a daemon that dies."""

import random
import socket
import threading
import time
import traceback

import history
from client import Client, Closed, RpcError

# Longest wait for a reply behind a program's own time: queues, VMs that boot, faults that last.
CALL_SECONDS = 60
CONNECT_PAUSE_SECONDS = 0.01
THINK_SECONDS = 0.3
# An exec_id is asked for so often before it counts as stuck.
TRIES = 200


class Customer(threading.Thread):
    """Subclasses have once(), which is called until the world is over, and finish() behind it."""

    def __init__(self, world, number):
        super().__init__(name=f"{type(self).__name__.lower()}-{number}", daemon=True)
        self.world, self.history = world, world.history
        self.rng = random.Random(f"{world.seed}/{self.name}")
        self.count = 0

    def run(self):
        try:
            while not self.world.is_over.wait(self.rng.uniform(0, THINK_SECONDS)):
                self.once()
            self.finish()
        except Exception:  # a fault of the harness is a fault
            self.history.note(f"{self.name} failed: {traceback.format_exc()}")

    def once(self):
        raise NotImplementedError

    def finish(self):
        pass

    def token(self):
        self.count += 1
        return f"{self.name}-{self.count}"

    def request(self, method, promise, **fields):
        return self.history.request(self.name, method, promise, fields.pop("token", None) or self.token(), **fields)

    def connect(self, timeout=CALL_SECONDS):
        """A connection, as soon as there is a daemon."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return Client(self.world.socket, timeout)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(CONNECT_PAUSE_SECONDS)

    def begin(self, request, how):
        answer = history.Answer(how, self.history.now())
        request.answers.append(answer)
        return answer

    def ask(self, request, how, method, /, client=None, **params):
        """One call; the answer is kept with the request and returned."""
        answer = self.begin(request, how)
        seconds = CALL_SECONDS + params.get("timeout_seconds", 0)
        try:
            if client:
                take(answer, lambda: client.wait(client.request(method, **params)))
            else:
                with self.connect(seconds) as own:
                    answer.asked = self.history.now()
                    take(answer, lambda: own.wait(own.request(method, **params)))
        except OSError:
            answer.kind = history.SILENT
        answer.heard = self.history.now()
        return answer

    def settle(self, request, **params):
        """Asks for a program with an exec_id, one way or the other, until there is a result or an error that stays."""
        for _ in range(TRIES):
            if self.rng.random() < 0.5:
                answer = self.ask(request, "session.result", "session.result", exec_id=request.exec_id)
            else:
                answer = self.ask(request, "again", request.method, exec_id=request.exec_id, **params)
            if answer.kind == history.SILENT or answer.is_final() and not answer.never_ran():
                return answer
            if answer.is_final() and request.session and answer.code in (history.SESSION_NOT_FOUND, history.SESSION_CLOSED):
                return answer
            if answer.code == history.EXEC_NOT_FOUND:
                # It has not come to the daemon, or has never run: it is sent again.
                answer = self.ask(request, "again", request.method, exec_id=request.exec_id, **params)
                if answer.is_final() and not answer.never_ran():
                    return answer
            time.sleep(self.rng.uniform(0, 0.2))
        return answer

    def leave(self, request, seconds, method, /, **params):
        """Sends a request and goes away without a word."""
        answer = self.begin(request, "sent and left")
        try:
            with self.connect() as client:
                answer.asked = self.history.now()
                client.request(method, **params)
                client.wait_notification(lambda *_: False, seconds)
        except (Closed, OSError):
            pass
        answer.kind, answer.heard = history.LEFT, self.history.now()


def take(answer, call):
    """What comes of a call, in the answer."""
    try:
        answer.value = call()
        answer.kind = history.RUNNING if answer.value.get("state") == "running" else history.RESULT
    except RpcError as error:
        answer.kind, answer.code, answer.value, answer.text = history.ERROR, error.code, error.data, error.message
    except (Closed, ConnectionError):
        answer.kind = history.CLOSED
    except (TimeoutError, socket.timeout):
        answer.kind = history.SILENT
