# SPDX-License-Identifier: Apache-2.0
"""Clients of sessions: what they do in one must stay there, once, and in order."""

import contextlib

import history
from client import Closed
from customer import TRIES, Customer, take

LOG, FILE = "log", "data/file"
PAUSE_SECONDS = 1.0
STEPS_MAX = 40  # then the session is closed and another one made
CONTENT_MAX = 100000
TICKER = "i=0; while :; do printf '%08d\\n' $i; i=$((i+1)); sleep 0.2; done"
COUNTER = """try: epoch
except NameError:
    import os
    epoch, count = os.urandom(8).hex(), 0
count += 1
print("{token}", epoch, count, flush=True)
import time; time.sleep({pause})
"""


class Keeper(Customer):
    """Has one session at a time, with a log, a counter in the interpreter, a file and a process that ticks."""

    session = process = None
    steps = offset = 0
    unsure = 0  # processes that were started, or not: nobody has said

    def once(self):
        if not self.session:
            return self.create()
        self.steps += 1
        if self.steps > STEPS_MAX:
            return self.close()
        way = self.rng.choice((self.append, self.append, self.append_by_id, self.append_silently, self.go_and_return, self.pipeline,
                               self.count_up, self.count_up, self.count_by_id, self.read_log, self.write, self.read,
                               self.be_late, self.cancel, self.tick, self.tick, self.list_processes))
        return way()

    def finish(self):
        """The last look, when nothing is done to the daemon any more."""
        if self.session:
            self.count_up()
        for look in (self.read_log, self.read, self.tick, self.list_processes):
            if self.session:
                look()
        if self.session:
            self.close()

    def create(self):
        request = self.request("session.create", "any")
        answer = self.ask(request, "session.create", "session.create", language="python", idle_timeout_seconds=3600)
        if answer.kind == history.RESULT:
            self.session, self.process, self.steps, self.offset, self.unsure = answer.value["session"], None, 0, 0, 0
            self.history.open_session(self.session, answer.value["vm"])

    def close(self):
        """A call that was cut off may not have come to the daemon: it is sent again."""
        self.history.close_session(self.session)
        for _ in range(TRIES):
            request = self.of_session("session.close", "any")
            if self.ask(request, "session.close", "session.close", session=self.session).kind != history.CLOSED:
                break
        self.session = None

    def of_session(self, method, promise, **fields):
        return self.request(method, promise, session=self.session, **fields)

    def heard(self, answer):
        """A session that is no more is not asked again."""
        if self.session and answer.code in (history.SESSION_NOT_FOUND, history.SESSION_CLOSED, 3004, 3006):
            self.history.lose_session(self.session)
            self.session = None
        return answer

    def exec(self, promise, how="session.exec", **params):
        token = self.token()
        request = self.of_session("session.exec", promise, token=token, details={"interpreter": "code" in params})
        filled = {key: fill(value, token, self.rng) for key, value in params.items()}
        return self.heard(self.ask(request, how, "session.exec", session=self.session, **filled))

    def exec_by_id(self, promise, is_left, **params):
        token = self.token()
        request = self.of_session("session.exec", promise, token=token, exec_id=f"{self.world.seed}-{token}")
        filled = {key: fill(value, token, self.rng) for key, value in params.items()} | {"session": self.session}
        if is_left:
            self.leave(request, self.rng.uniform(0, 0.7), "session.exec", exec_id=request.exec_id, **filled)
        else:
            self.ask(request, "session.exec", "session.exec", exec_id=request.exec_id, **filled)
        answer = self.settle(request, **filled)
        if self.rng.random() < 0.3:
            self.ask(request, "session.result", "session.result", exec_id=request.exec_id)
        return self.heard(answer)

    def append(self):
        self.exec("echo", command="echo {token} >>log; sleep {pause}; echo {token}")

    def append_by_id(self):
        self.exec_by_id("echo", False, command="echo {token} >>log; sleep {pause}; echo {token}")

    def append_silently(self):
        """Nothing that it writes tells a new daemon that it has run."""
        self.exec_by_id("silent", self.rng.random() < 0.5, command="echo {token} >>log; sleep {pause}")

    def go_and_return(self):
        self.exec_by_id("echo", True, command="echo {token} >>log; sleep {pause}; echo {token}")

    def pipeline(self):
        """Three on one connection: they run in that order."""
        sent, connection = [], self.token()
        with contextlib.suppress(OSError, Closed), self.connect() as client:
            for place in range(3):
                token = f"{connection}.{place}"
                request = self.of_session("session.exec", "echo", token=token, order=(connection, place))
                sent.append((self.begin(request, "session.exec, one of three"), client.request(
                    "session.exec", session=self.session, command=f"echo {token} >>log; echo {token}")))
            for answer, number in sent:
                take(answer, lambda number=number: client.wait(number))
                answer.heard = self.history.now()
        self.abandon([answer for answer, _ in sent])

    def abandon(self, answers):
        for answer in answers:
            if answer.kind is None:
                answer.kind, answer.heard = history.CLOSED, self.history.now()
            self.heard(answer)

    def count_up(self):
        self.exec("count", code=COUNTER)

    def count_by_id(self):
        self.exec_by_id("count", self.rng.random() < 0.5, code=COUNTER)

    def be_late(self):
        token, timeout = self.token(), round(self.rng.uniform(0.3, 1.2), 3)
        words = {"command": f"echo {token}; sleep 1000"}
        if self.rng.random() < 0.3:
            words = {"code": f"print('{token}', flush=True)\nimport time; time.sleep(1000)"}
        request = self.of_session("session.exec", "timeout", token=token,
                                  details={"timeout": timeout, "interpreter": "code" in words})
        self.heard(self.ask(request, "session.exec", "session.exec", session=self.session, timeout_seconds=timeout, **words))

    def cancel(self):
        token = self.token()
        request = self.of_session("session.exec", "cancel", token=token)
        answer = self.begin(request, "session.exec, cancelled")
        with contextlib.suppress(OSError), self.connect() as client:
            answer.asked = self.history.now()
            take(answer, lambda: self.change_mind(client, token))
        answer.kind = answer.kind or history.SILENT
        answer.heard = self.history.now()
        self.heard(answer)

    def change_mind(self, client, token):
        number = client.request("session.exec", session=self.session, command=f"echo {token}; sleep 1000", timeout_seconds=600)
        with contextlib.suppress(TimeoutError):
            client.wait_notification(lambda *_: number in client.replies, self.rng.uniform(0, 0.5))
        client.cancel(number)
        return client.wait(number)

    def read_log(self):
        if self.rng.random() < 0.5:
            self.exec("log", command="touch log; cat log")
        else:
            request = self.of_session("file.read", "log")
            answer = self.heard(self.ask(request, "file.read", "file.read", session=self.session, path=LOG))
            if answer.code == 5001:  # nothing is there yet
                answer.kind, answer.code, answer.value = history.RESULT, 0, {"data": ""}

    def write(self):
        token = self.token()
        content = f"{token}\n" * self.rng.randrange(1, CONTENT_MAX // len(token))
        request = self.of_session("file.write", "write", token=token, details={"content": content})
        self.heard(self.ask(request, "file.write", "file.write", session=self.session, path=FILE, data=content))

    def read(self):
        request = self.of_session("file.read", "read")
        self.heard(self.ask(request, "file.read", "file.read", session=self.session, path=FILE))

    def tick(self):
        """The output of a background process from where the last look has ended."""
        if not self.process:
            return self.start_ticker()
        request = self.of_session("process.wait", "ticks", details={"process": self.process, "offset": self.offset})
        answer = self.heard(self.ask(request, "process.wait", "process.wait", session=self.session, process=self.process,
                                     timeout_seconds=0.1, stdout_offset=self.offset))
        if answer.kind == history.RUNNING:
            self.offset = answer.value["stdout_offset"] + len(answer.value["stdout"])
        return answer

    def start_ticker(self):
        request = self.of_session("session.exec", "any")
        answer = self.heard(self.ask(request, "session.exec, background", "session.exec", session=self.session,
                                     command=TICKER, background=True))
        if answer.kind == history.RESULT:
            self.process, self.offset = answer.value["process"], 0
        elif answer.kind == history.CLOSED:
            self.unsure += 1

    def list_processes(self):
        """All that this client has started in its session, and nothing else."""
        request = self.of_session("process.list", "processes", details={"process": self.process, "unsure": self.unsure})
        self.heard(self.ask(request, "process.list", "process.list", session=self.session))


def fill(text, token, rng):
    pause = round(rng.uniform(0, PAUSE_SECONDS) if rng.random() < 0.5 else 0, 3)
    return text.replace("{token}", token).replace("{pause}", str(pause))
