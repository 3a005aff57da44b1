# SPDX-License-Identifier: Apache-2.0
"""Clients that are processes, so that they can be killed: execsandboxctl, with and without an exec_id."""

import json
import subprocess

import history
from customer import CALL_SECONDS, Customer
from runners import program


class Program(Customer):
    """Has execsandboxctl run something. One that was killed leaves a program with an exec_id behind, and comes back for it."""

    def once(self):
        token = self.token()
        has_id = self.rng.random() < 0.6
        request = self.request("run", "nonce", token=token, exec_id=f"{self.world.seed}-{token}" if has_id else None)
        params = program(self.rng, token)
        answer = self.begin(request, "execsandboxctl")
        self.run_program(request, answer, params | ({"exec_id": request.exec_id} if has_id else {}))
        answer.heard = self.history.now()
        if has_id:
            self.settle(request, **params)

    def run_program(self, request, answer, params):
        self.world.serves()
        words = [f"{key}:={json.dumps(value)}" for key, value in params.items()]
        with self.world.lock:
            process = subprocess.Popen([self.world.ctl, "--socket", self.world.socket, "--json", "call", "run", *words],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.world.programs.append(process)
        try:
            output, errors = process.communicate(timeout=CALL_SECONDS + 30)
            self.judge(request, answer, process.returncode, output, errors)
        except subprocess.TimeoutExpired:
            answer.kind = history.SILENT
            process.kill()
            process.communicate()
        finally:
            with self.world.lock:
                self.world.programs.remove(process)

    def judge(self, request, answer, status, output, errors):
        if status == -9:
            answer.kind = history.LEFT
            request.is_left = not request.exec_id
        elif status == 0:
            answer.kind, answer.value = history.RESULT, json.loads(output)
        elif status == 1:
            error = json.loads(output or errors)["error"]
            answer.kind, answer.code, answer.value, answer.text = history.ERROR, error["code"], error["data"], error["message"]
        else:
            answer.kind, answer.text = history.CLOSED, errors.strip()
