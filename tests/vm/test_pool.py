# SPDX-License-Identifier: Apache-2.0
"""Clones, the spares that wait, and who gets them (fake QEMU)."""

import json
import os
import signal
import time

from pool_support import PoolTest
from support import RpcError, until

# A clone on its way: the fake dies there, or something else goes wrong, and with what code a run ends
# that has no attempt left.
FAULTS = {
    "spawn die": 3003, "greeting die": 3003, "getfd die": 3003, "capabilities die": 3003,
    "migrate die": 3003, "state die": 3003, "completed die": 3003, "after-completed die": 3003,
    "cont die": 3003, "hello die": 3003, "identity die": 3003,
    "getfd refuse": 3003, "capabilities refuse": 3003, "migrate refuse": 3003, "completed failed": 3003,
    "cont refuse": 3003,
}
# It takes the boot timeout to notice these.
HANGS = {
    "spawn hang": 3001, "greeting hang": 3001, "getfd hang": 3001, "state hang": 3001,
    "completed never": 3001, "cont hang": 3001, "hello hang": 3001, "identity ignore": 3001,
}
# On the way of a spare that a run does not take, and what the log says.
SPARE_FAULTS = {
    "rehearsal wrong": "its no-op printed something else",
    "rehearsal die": "died at rehearsal",
    "rehearsal hang": "no answer in time",
    "stop refuse": "cannot stop its vCPU",
    "stop die": "died at stop",
    "stop hang": "cannot stop its vCPU",
}


class Clones(PoolTest):
    def test_fails(self):
        """One attempt: a typed error. Two: the last one boots. Then all is well again."""
        single, double = self.pool(boot_attempts=1), self.pool(boot_attempts=2)
        for sandbox in (single, double):
            self.until_template(sandbox)
        for plan, code in FAULTS.items():
            with self.subTest(plan=plan):
                self.assert_fault(single, double, plan, code)

    def test_hangs(self):
        settings = {"boot_timeout_seconds": 1}
        single, double = self.pool(boot_attempts=1, **settings), self.pool(boot_attempts=2, **settings)
        for sandbox in (single, double):
            self.until_template(sandbox)
        for plan, code in HANGS.items():
            with self.subTest(plan=plan):
                self.assert_fault(single, double, plan, code)

    def assert_fault(self, single, double, plan, code):
        for sandbox in (single, double):
            sandbox.plan(f"clone {plan}")
        with single.client() as once, double.client() as twice:
            request = self.python_request(twice, "out a")
            error = self.assert_error(code, self.python, once, "out never")
            self.assertTrue(error.data["retryable"])
            self.assertTrue(error.data["vm"].startswith("vm_"))
            result = twice.wait(request)
            self.assertEqual((result["status"], result["stdout"], result["start"]), ("ok", "a\n", "boot"))
            for sandbox, client in ((single, once), (double, twice)):
                sandbox.plan()
                self.assertEqual(self.python(client, "out a")["start"], "clone")

    def test_fails_in_the_run(self):
        """After dispatch the outcome is unknown, of a clone as of any VM; the next run is well."""
        sandbox = self.pool()
        client = sandbox.client()
        self.until_template(sandbox)
        sandbox.plan("clone run die")
        error = self.assert_error(3004, self.python, client, "out never")
        self.assertFalse(error.data["retryable"])
        sandbox.plan()
        self.assertEqual(self.python(client, "out a")["start"], "clone")

    def test_spare_that_goes_is_not_given(self):
        """Runs that are read behind the pool.set that ends all spares are answered by other VMs."""
        sandbox = self.pool(pool_python=2)
        client = sandbox.client()
        for _ in range(5):
            client.call("pool.set", language="python", size=2)
            gone = {vm["vm"] for vm in self.spares(client, 2)}
            wishes = [("pool.set", {"language": "python", "size": 0})]
            wishes += [("run", {"language": "python", "code": "out a"})] * 2
            client.send_raw(b"".join(json.dumps(
                {"jsonrpc": "2.0", "id": f"{number}", "method": method, "params": params}).encode() + b"\n"
                for number, (method, params) in enumerate(wishes)))
            for number in ("1", "2"):
                self.assertNotIn(client.wait(number)["vm"], gone)
            client.wait("0")

    def test_each_its_own_entropy(self):
        """No two clones of a template got the same, warm or not."""
        sandbox = self.pool(pool_python=3)
        client = sandbox.client()
        self.spares(client, 3)
        requests = [self.python_request(client, "entropy") for _ in range(20)]
        seen = {client.wait(request)["stdout"] for request in requests}
        self.assertEqual(len(seen), 20)


class Starts(PoolTest):
    def test_values(self):
        """warm, clone, boot: what it was, with times that fit."""
        sandbox = self.pool(pool_python=1)
        client = sandbox.client()
        self.spares(client, 1)
        self.until_template(sandbox, "shell-64")
        for language, params, start in (("python", {}, "warm"), ("shell", {}, "clone"),
                                        ("python", {"limits": {"memory_mb": 128}}, "boot")):
            begun = time.monotonic()
            result = client.call("run", language=language, code="standby", **params)
            took_ms = (time.monotonic() - begun) * 1000
            self.assertEqual(result["start"], start)
            self.assertEqual(result["stdout"], "started\n" if start == "boot" else "waited\n")
            timing = result["timing"]
            parts = timing["queue_ms"] + timing["start_ms"] + timing["execute_ms"]
            self.assertAlmostEqual(parts, timing["total_ms"], delta=1)
            self.assertLessEqual(timing["total_ms"], took_ms + 1)
            if start != "warm":
                self.assertGreater(timing["start_ms"], 0)
            self.spares(client, 1)

    def test_boots_without_templates(self):
        client = self.pool(templates="off").client()
        self.assertEqual(self.python(client, "out a")["start"], "boot")


class Spares(PoolTest):
    def test_faults_on_the_way(self):
        """A spare that does not become warm is not used; the next one is made after a while."""
        for plan, words in SPARE_FAULTS.items():
            with self.subTest(plan=plan):
                sandbox = self.pool(f"clone {plan}", pool_python=1, boot_timeout_seconds=1)
                self.until_log(sandbox, words)
                self.assertEqual(self.vms(sandbox.client(), "paused"), [])
                sandbox.plan()
                client = sandbox.client()
                self.spares(client, 1)
                self.assertEqual(self.python(client, "out a")["start"], "warm")
                self.assert_settled(sandbox)

    def test_interpreters_do_not_wait(self):
        """JavaScript's wait in the clone alone: fewer than asked for is a fault."""
        sandbox = self.pool("clone prepare fewer", pool_javascript=1)
        self.until_log(sandbox, "its interpreter does not wait: one does not start")
        sandbox.plan()
        client = sandbox.client()
        self.spares(client, 1)
        self.assertEqual(client.call("run", language="javascript", code="standby")["stdout"], "waited\n")

    def test_dead_ones_are_replaced(self):
        sandbox = self.pool(pool_python=3)
        client = sandbox.client()
        before = self.spares(client, 3)
        for vm in before:
            os.kill(vm["pid"], signal.SIGKILL)
        until(lambda: not {vm["vm"] for vm in before} & {vm["vm"] for vm in self.vms(client)}, "they are gone")
        self.spares(client, 3)
        result = self.python(client, "out a")
        self.assertEqual((result["status"], result["start"]), ("ok", "warm"))
        self.assertNotIn(result["vm"], {vm["vm"] for vm in before})

    def test_dead_ones_are_not_handed_out(self):
        """All spares die and runs come in the same moment: each run gets a VM that lives."""
        sandbox = self.pool(pool_python=3)
        client = sandbox.client()
        for _ in range(5):
            before = self.spares(client, 3)
            sandbox.signal(signal.SIGSTOP)
            requests = [self.python_request(client, "out a") for _ in range(3)]
            for vm in before:
                self.kill(vm["pid"])
            sandbox.signal(signal.SIGCONT)
            results = [client.wait(request) for request in requests]
            self.assertEqual([result["stdout"] for result in results], ["a\n"] * 3)

    def test_fails_at_cont(self):
        """A spare that does not continue: the run's outcome is unknown, long before its timeout."""
        for action, words in (("die", "died at cont"), ("refuse", "refused as planned"),
                              ("hang", "did not answer in time")):
            with self.subTest(action=action):
                sandbox = self.pool(pool_python=1)
                client = sandbox.client()
                self.spares(client, 1)
                sandbox.plan(f"clone cont {action}")
                error = self.assert_error(3004, self.python, client, "out never", timeout_seconds=60)
                self.assertIn(words, error.message)
                sandbox.plan()
                self.spares(client, 1)
                self.assertEqual(self.python(client, "out a")["start"], "warm")
                self.assert_settled(sandbox)

    def test_closes_qmp(self):
        """A QEMU that hangs QMP up and lives on is ended and replaced: nothing would continue it."""
        sandbox = self.pool("clone stopped close", pool_python=1)
        self.until_log(sandbox, "QEMU closed QMP and goes on")
        sandbox.plan()
        client = sandbox.client()
        self.spares(client, 1)
        self.assertEqual(self.python(client, "out a")["start"], "warm")

    def test_no_vm_twice(self):
        """Concurrent runs, more than there are spares and more than may start: each has its own VM."""
        sandbox = self.pool(pool_python=4, max_vms=8)
        client = sandbox.client()
        self.spares(client, 4)
        with self.watch(sandbox) as watch:
            requests = [self.python_request(client, "standby") for _ in range(40)]
            results = [client.wait(request) for request in requests]
            self.spares(client, 4)
        self.assertEqual(len({result["vm"] for result in results}), 40)
        self.assertEqual({result["stdout"] for result in results}, {"waited\n"})
        starts = [result["start"] for result in results]
        self.assertGreaterEqual(starts.count("warm"), 4)
        self.assertEqual(starts.count("boot"), 0)
        self.assertLessEqual(watch.processes, 8)
        self.assertLessEqual(watch.current, 8)
        self.assertGreaterEqual(watch.processes, 4)

    def test_burst_over_an_empty_pool(self):
        """All at once before the first template is there: all of them end well."""
        sandbox = self.pool("template completed late", pool_python=2, max_vms=6)
        client = sandbox.client()
        with self.watch(sandbox) as watch:
            requests = [client.request("run", language=language, code="out a")
                        for _ in range(10) for language in ("python", "javascript", "shell")]
            results = [client.wait(request) for request in requests]
        self.assertEqual({result["status"] for result in results}, {"ok"})
        self.assertEqual(len({result["vm"] for result in results}), 30)
        # A template that is being made is a VM besides those of admission.
        self.assertLessEqual(watch.processes, 7)
        self.assertLessEqual(watch.current, 6)

    def test_refill_waits_for_runs(self):
        """While a run waits for its clone to start, no spare is started."""
        sandbox = self.pool(pool_python=1, pool_shell=3, boot_timeout_seconds=2)
        client = sandbox.client()
        self.spares(client, 4)
        sandbox.plan("clone hello hang")
        requests = [client.request("run", language="javascript", code="out a")]
        self.until_hanging(sandbox)
        for vm in self.vms(client, "paused"):
            os.kill(vm["pid"], signal.SIGKILL)
        until(lambda: not self.vms(client, "paused"), "no spare is left")
        most = 0
        while "trying again" not in sandbox.log():
            most = max(most, len(self.vms(client)))
        self.assertEqual(most, 1)
        sandbox.plan()
        for request in requests:
            self.assertEqual(client.wait(request)["status"], "ok")
        self.spares(client, 4)

    def test_refill_is_bounded(self):
        """Spares that hang are made one at a time, whatever else goes on."""
        sandbox = self.pool(pool_python=4, boot_timeout_seconds=3)
        self.until_template(sandbox, "shell-64")
        client = sandbox.client()
        self.spares(client, 4)
        sandbox.plan("clone hello hang")
        for vm in self.vms(client, "paused"):
            os.kill(vm["pid"], signal.SIGKILL)
        self.until_log(sandbox, "Failed while starting")
        most = 0
        while sandbox.log().count("Failed while starting") < 3:
            starting = [vm for vm in self.vms(client, "starting") if vm["uid"] is None]
            most = max(most, len(starting))
            client.call("pool.set", language="shell", size=0)  # has the refill looked at again
        self.assertEqual(most, int(os.cpu_count() / 2) or 1)

    def test_refill_after_spawning_failed(self):
        """QEMU is away for a while: the pool fills again by itself, with no run that asks for it."""
        sandbox = self.pool(pool_python=1)
        client = sandbox.client()
        vm = self.spares(client, 1)[0]
        os.rename(sandbox.program, sandbox.program + ".away")
        os.kill(vm["pid"], signal.SIGKILL)
        self.until_log(sandbox, "Cannot start a spare VM", 2)
        os.rename(sandbox.program + ".away", sandbox.program)
        self.spares(client, 1)

    def test_loaded_ones(self):
        """Spares that only wait: told apart from their template when they are taken, not warm."""
        sandbox = self.pool(pool_python=3, pool_hot=1)
        client = sandbox.client()
        self.assertEqual(sorted(vm["state"] for vm in self.spares(client, 3)), ["loaded", "loaded", "paused"])
        results = [client.wait(request) for request in
                   [self.python_request(client, "standby", "entropy") for _ in range(3)]]
        self.assertEqual(sorted(result["start"] for result in results), ["clone", "clone", "warm"])
        self.assertEqual(len({result["stdout"] for result in results}), 3)
        self.assertEqual(len({result["vm"] for result in results}), 3)
        self.spares(client, 3)

    def test_loaded_ones_die(self):
        """While they wait, and in the moment that runs come for them."""
        sandbox = self.pool(pool_python=3, pool_hot=0)
        client = sandbox.client()
        for _ in range(5):
            before = self.spares(client, 3)
            self.assertEqual({vm["state"] for vm in before}, {"loaded"})
            sandbox.signal(signal.SIGSTOP)
            requests = [self.python_request(client, "out a") for _ in range(3)]
            for vm in before:
                self.kill(vm["pid"])
            sandbox.signal(signal.SIGCONT)
            results = [client.wait(request) for request in requests]
            self.assertEqual([result["stdout"] for result in results], ["a\n"] * 3)

    def test_loaded_ones_fail_when_taken(self):
        """Nothing has been dispatched yet: the run gets another VM, every time."""
        sandbox = self.pool(pool_python=1, pool_hot=0, boot_timeout_seconds=1)
        client = sandbox.client()
        for plan in ("cont die", "cont refuse", "cont hang", "hello die", "hello hang", "identity ignore"):
            with self.subTest(plan=plan):
                self.spares(client, 1)
                sandbox.plan(f"clone {plan}")
                result = self.python(client, "out a")
                self.assertEqual((result["status"], result["start"]), ("ok", "boot"))
                # One that does well: the template is not at fault.
                sandbox.plan()
                self.spares(client, 1)
                self.assertEqual(self.python(client, "out a")["start"], "clone")

    def test_improved(self):
        """A rehearsed spare that was taken is replaced from among the loaded ones."""
        sandbox = self.pool(pool_python=2, pool_hot=1)
        client = sandbox.client()
        loaded = next(vm for vm in self.spares(client, 2) if vm["state"] == "loaded")
        self.assertEqual(self.python(client, "out a")["start"], "warm")
        after = self.spares(client, 2)
        self.assertIn((loaded["vm"], "paused"), [(vm["vm"], vm["state"]) for vm in after])
        self.assertEqual(self.python(client, "out a")["vm"], loaded["vm"])

    def test_improving_fails(self):
        sandbox = self.pool(pool_python=2, pool_hot=1, boot_timeout_seconds=1)
        client = sandbox.client()
        for plan in ("cont die", "hello die", "identity ignore", "rehearsal die", "rehearsal hang", "stop die"):
            with self.subTest(plan=plan):
                self.spares(client, 2)
                sandbox.plan(f"clone {plan}")
                warm = self.vms(client, "paused")[0]
                failures = sandbox.log().count("Failed while") + sandbox.log().count("does not become warm")
                os.kill(warm["pid"], signal.SIGKILL)
                # Its own end, and then the one that was to replace it.
                until(lambda: sandbox.log().count("Failed while")
                      + sandbox.log().count("does not become warm") >= failures + 2, "another one has failed")
                self.assertNotIn(warm["vm"], [vm["vm"] for vm in self.vms(client)])
                sandbox.plan()

    def test_another_kind_needs_the_room(self):
        """Spares go for a run of a language that has none; not one VM too many; then they come back."""
        sandbox = self.pool(pool_python=2, max_vms=2)
        client = sandbox.client()
        self.spares(client, 2)
        self.until_template(sandbox, "shell-64")
        with self.watch(sandbox) as watch:
            for _ in range(5):
                request, _ = self.play_started(client, "hang")
                vm = next(vm for vm in self.vms(client) if vm["language"] == "shell")
                self.release(client, vm["vm"])
                self.assertEqual(client.wait(request)["status"], "ok")
            self.spares(client, 2)
        self.assertLessEqual(watch.processes, 2)
        self.assertLessEqual(watch.current, 2)

    def test_refused_with_spares(self):
        """No queue, and spares fill the host: nobody is refused for their sake."""
        sandbox = self.pool(pool_python=2, max_vms=2, queue_max=0)
        client = sandbox.client()
        self.until_template(sandbox, "shell-64")
        self.spares(client, 2)
        self.assertEqual(self.play(client, "out a")["stdout"], "a\n")
        self.spares(client, 2)

    def test_cancelled(self):
        """In every state of a request: one answer, and its VM ends."""
        sandbox = self.pool("clone hello hang", pool_python=1, boot_timeout_seconds=2)
        client = sandbox.client()
        self.until_hanging(sandbox)
        for _ in range(3):
            request = self.python_request(client, "out never")
            client.cancel(request)
            self.assert_error(-32800, client.wait, request)
        sandbox.plan()
        self.spares(client, 1)
        for _ in range(5):
            request, _ = self.python_started(client, "hang")
            client.cancel(request)
            self.assert_error(-32800, client.wait, request)

    def test_leaves_nothing(self):
        """Many runs of all kinds: as many descriptors as before."""
        sandbox = self.pool(pool_python=2, pool_shell=1, max_vms=6)
        client = sandbox.client()
        self.until_stored(sandbox, 3)
        self.spares(client, 3)
        before = sandbox.descriptors()
        programs = (["out a"], ["die 1"], ["abuse garbage"], ["hang"], ["fill 300000"])
        requests = [client.request("run", language=("python", "shell", "javascript")[i % 3],
                                   code="\n".join(programs[i % 5]), timeout_seconds=0.3) for i in range(60)]
        for request in requests:
            try:
                client.wait(request)
            except RpcError as error:  # the outcome is another test's
                self.assertIn(error.code, (3004, 3006))
        self.spares(client, 3)
        until(lambda: sandbox.descriptors() <= before, f"at most {before} descriptors are open")


class Ends(PoolTest):
    def filled(self, **settings):
        sandbox = self.pool(pool_python=2, pool_shell=1, **settings)
        client = sandbox.client()
        self.spares(client, 3)
        return sandbox, client

    def test_idle(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            sandbox, _ = self.filled()
            self.end(sandbox, number)

    def test_drain(self):
        """SIGTERM with a run: the spares go at once and none is made; the run ends well."""
        sandbox, client = self.filled()
        request, vm = self.python_started(client, "hang")
        pid = self.vm_pid(client, vm)
        sandbox.signal(signal.SIGTERM)
        until(lambda: self.qemus(sandbox) == [pid], "only the run's VM is left")
        os.kill(pid, signal.SIGUSR1)
        self.assertEqual(client.wait(request)["status"], "ok")
        self.assertEqual(sandbox.wait(), 0)
        self.assert_nothing_left(sandbox)

    def test_drain_with_a_queue(self):
        """What waits at SIGTERM was taken on: it is run, without spares too."""
        sandbox, client = self.filled(max_vms=3)
        started = [self.python_started(client, "hang") for _ in range(3)]
        waiting = self.python_request(client, "out late")
        until(lambda: client.call("info")["vms"]["queued"] == 1, "one waits")
        pids = [self.vm_pid(client, vm) for _, vm in started]
        sandbox.signal(signal.SIGTERM)
        until(lambda: "Draining" in sandbox.log(), "the daemon drains")
        for pid in pids:
            os.kill(pid, signal.SIGUSR1)
        for request, _ in started:
            self.assertEqual(client.wait(request)["status"], "ok")
        self.assertEqual(client.wait(waiting)["stdout"], "late\n")
        self.assertEqual(sandbox.wait(), 0)
        self.assert_nothing_left(sandbox)

    def test_at_every_moment(self):
        """SIGTERM and SIGINT while templates and clones are on their way."""
        for plan in ("template greeting hang", "template rehearsal hang", "template state hang",
                     "clone greeting hang", "clone state hang", "clone rehearsal hang", "clone stop hang"):
            for number in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(plan=plan, number=number):
                    sandbox = self.pool(plan, pool_python=1)
                    self.until_hanging(sandbox)
                    self.end(sandbox, number)

    def test_with_a_run_that_waits(self):
        """SIGINT while a run waits for its template, or for its clone."""
        for plan in ("template hello hang", "clone hello hang"):
            with self.subTest(plan=plan):
                sandbox = self.pool(plan)
                client = sandbox.client()
                request = self.python_request(client, "out never")
                self.until_hanging(sandbox)
                client.call("rpc.ping")
                sandbox.signal(signal.SIGINT)
                self.assert_error(1001, client.wait, request)
                self.assertEqual(sandbox.wait(), 0)
                self.assert_nothing_left(sandbox)
