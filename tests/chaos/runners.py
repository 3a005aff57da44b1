# SPDX-License-Identifier: Apache-2.0
"""Clients of `run`: with and without exec_id, of great output, that cancel, that are late, that vanish."""

import contextlib
import time

import history
from client import Closed, RpcError
from customer import CALL_SECONDS, Customer, take
from promises import lines_of

PROGRAMS = {
    "python": "import os, time\nprint('{token}', os.urandom(8).hex(), flush=True)\ntime.sleep({pause})\nprint('{token} end')",
    "shell": "echo {token} $(od -An -N8 -tx1 /dev/urandom | tr -d ' ')\nsleep {pause}\necho {token} end",
}
PAUSE_SECONDS = 1.5
# More than what a connection buffers, so that a reader that is slow holds the program up.
LINES_MAX = 60000


def program(rng, token):
    language = rng.choice(sorted(PROGRAMS))
    pause = round(rng.uniform(0, PAUSE_SECONDS) if rng.random() < 0.5 else 0, 3)
    return {"language": language, "code": PROGRAMS[language].format(token=token, pause=pause), "timeout_seconds": 30}


class Runner(Customer):
    """Runs and waits."""

    def once(self):
        request = self.request("run", "nonce")
        self.ask(request, "run", "run", **program(self.rng, request.token))


class Claimer(Customer):
    """Runs with an exec_id: waits for it, asks twice at once, or leaves and comes back for the result. Some of them time out."""

    def once(self):
        token, timeout = self.token(), round(self.rng.uniform(0.3, 2), 3)
        if self.rng.random() < 0.2:
            request = self.request("run", "timeout", token=token, exec_id=f"{self.world.seed}-{token}", details={"timeout": timeout})
            params = {"language": "shell", "code": f"echo {token}\nsleep 1000", "timeout_seconds": timeout}
        else:
            request = self.request("run", "nonce", token=token, exec_id=f"{self.world.seed}-{token}")
            params = program(self.rng, token)
        way = self.rng.choice((self.wait, self.wait, self.stream, self.go, self.twice))
        way(request, params)
        self.settle(request, **params)
        if self.rng.random() < 0.5:  # all who ask later are told the same
            self.ask(request, "session.result", "session.result", exec_id=request.exec_id)

    def wait(self, request, params):
        self.ask(request, "run", "run", exec_id=request.exec_id, **params)

    def go(self, request, params):
        self.leave(request, self.rng.uniform(0, 1), "run", exec_id=request.exec_id, **params)

    def twice(self, request, params):
        with contextlib.suppress(OSError, Closed), self.connect() as first, self.connect() as second:
            sent = [(client, self.begin(request, "one of two")) for client in (first, second)]
            for client, _ in sent:
                client.request("run", exec_id=request.exec_id, **params)
            for client, answer in sent:
                take(answer, lambda client=client: client.wait(1))
                answer.heard = self.history.now()
        for answer in request.answers:  # the connection was gone before the request
            if answer.kind is None:
                answer.kind, answer.heard = history.CLOSED, self.history.now()

    def stream(self, request, params):
        """What it begins with tells one run of the program from another."""
        answer = self.begin(request, "run, streamed")
        with contextlib.suppress(OSError), self.connect() as client:
            answer.asked = self.history.now()
            take(answer, lambda: self.listen(client, request, params))
        answer.kind = answer.kind or history.SILENT
        answer.heard = self.history.now()

    def listen(self, client, request, params):
        number = client.request("run", exec_id=request.exec_id, stream=True, **params)
        while number not in client.replies:
            client.receive()
            text = client.streamed(number)
            if any(method == "run.started" for method, _ in client.notifications):
                request.details.setdefault("started_at", self.history.now())
            if "\n" in text:
                request.details.setdefault("started", text.split("\n")[0])
        return client.wait(number)


class Slow(Customer):
    """Runs what writes much, and reads it slowly, as a stream."""

    def once(self):
        request = self.request("run", "lines", details={"lines": self.rng.randrange(1, LINES_MAX), "chunks": []})
        size = len(lines_of(request.token, 1))
        request.details["lines"] = min(request.details["lines"], (1 << 20) // size)
        code = f"for i in range({request.details['lines']}): print('{request.token} %07d' % i)"
        answer = self.begin(request, "run, streamed")
        with contextlib.suppress(OSError), self.connect(CALL_SECONDS + 60) as client:
            answer.asked = self.history.now()
            take(answer, lambda: self.sip(client, request, code))
        answer.kind = answer.kind or history.SILENT
        answer.heard = self.history.now()

    def sip(self, client, request, code):
        number = client.request("run", language="python", code=code, stream=True, timeout_seconds=60)
        while number not in client.replies:
            client.receive()
            while client.notifications:
                method, params = client.notifications.pop(0)
                if method == "run.started":
                    request.details.setdefault("started_at", self.history.now())
                if method == "run.output":
                    request.details["chunks"].append((params["seq"], params["data"]))
            time.sleep(self.rng.uniform(0, 0.02))
        return client.wait(number)


class Impatient(Customer):
    """Cancels what never ends, or has it time out."""

    def once(self):
        token = self.token()
        if self.rng.random() < 0.5:
            timeout = round(self.rng.uniform(0.3, 1.5), 3)
            request = self.request("run", "timeout", token=token, details={"timeout": timeout})
            self.ask(request, "run", "run", language="shell", code=f"echo {token}\nsleep 1000", timeout_seconds=timeout)
            return
        request = self.request("run", "cancel", token=token)
        answer = self.begin(request, "run, cancelled")
        with contextlib.suppress(OSError), self.connect() as client:
            answer.asked = self.history.now()
            take(answer, lambda: self.cancel(client, token))
        answer.kind = answer.kind or history.SILENT
        answer.heard = self.history.now()

    def cancel(self, client, token):
        number = client.request("run", language="shell", code=f"echo {token}\nsleep 1000", timeout_seconds=600)
        with contextlib.suppress(TimeoutError):
            client.wait_notification(lambda *_: number in client.replies, self.rng.uniform(0, 1))
        client.cancel(number)
        return client.wait(number)


class Vanisher(Customer):
    """Asks and is gone: its programs go with it."""

    def once(self):
        request = self.request("run", "any", is_left=True)
        self.leave(request, self.rng.uniform(0, 0.8), "run", **program(self.rng, request.token), stream=True)


class Rude(Customer):
    """Says what no client says: garbage, half lines, floods. It is owed nothing; the others must not notice."""

    def once(self):
        say = self.rng.choice((self.garbage, self.half, self.flood, self.many))
        with contextlib.suppress(OSError, Closed, RpcError), self.connect() as client:
            say(client)

    def garbage(self, client):
        client.send_raw(self.rng.randbytes(self.rng.randrange(1, 20000)) + b"\n")
        client.receive(1)

    def half(self, client):
        line = b'{"jsonrpc":"2.0","id":1,"method":"run","params":{"language":"shell","code":"echo 1"}}\n'
        client.send_raw(line[:self.rng.randrange(len(line))])
        client.receive(self.rng.uniform(0, 0.5))

    def flood(self, client):
        client.send_raw(b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}\n' * 2000)
        client.receive(1)

    def many(self, client):
        for number in range(100):
            client.send({"jsonrpc": "2.0", "id": number, "method": "run",
                         "params": {"language": "shell", "code": "sleep 5" if number < 3 else " "}})
        client.receive(1)
