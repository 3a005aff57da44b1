# SPDX-License-Identifier: Apache-2.0
"""The making of templates, and everything that goes wrong in it (fake QEMU)."""

import os
import signal

from pool_support import PoolTest
from support import processes, until

# The moments of a template's life, in time order; the fake dies there.
DEATHS = ("spawn", "greeting", "hello", "identity", "prepare", "rehearsal", "stop", "stopped", "getfd",
          "capabilities", "migrate", "state", "completed")
# What else goes wrong, and what the log says of it.
FAULTS = {
    "rehearsal wrong": "its no-op printed something else",
    "prepare fewer": "its interpreter does not wait: one does not start",
    "stop refuse": "cannot save its devices",
    "getfd refuse": "cannot save its devices",
    "migrate refuse": "cannot save its devices",
    "state large": "the machine's state is too large",
    "completed failed": "QEMU says that the migration failed",
}
# Where it hangs for as long as the daemon's own deadlines let it: boot_timeout.
HANGS = ("spawn hang", "greeting hang", "hello hang", "identity ignore", "prepare hang", "rehearsal ignore")
# The same for saving (snapshot.c: ten seconds).
SAVING_HANGS = ("stop hang", "getfd hang", "state hang", "completed never", "state endless")


class Making(PoolTest):
    def assert_boots(self, sandbox, words):
        """The template fails with these words, which is told once; runs boot."""
        with sandbox.client() as client:
            result = self.python(client, "out cold")
            self.assertEqual((result["status"], result["stdout"], result["start"]), ("ok", "cold\n", "boot"))
        told = [line for line in sandbox.log().splitlines() if "python-64: not ready, its VMs boot" in line]
        self.assertEqual(len(told), 1, told)
        self.assertIn(words, told[0])

    def test_dies(self):
        """At every moment: the run that waited boots, and no process is left of the template."""
        for moment in DEATHS:
            with self.subTest(moment=moment):
                sandbox = self.pool(f"template {moment} die")
                self.assert_boots(sandbox, f"died at {moment}" if moment != "spawn" else "")
                self.assert_settled(sandbox)

    def test_dies_when_all_is_saved(self):
        """The stream is whole and completed: what QEMU does then is nobody's concern."""
        sandbox = self.pool("template after-completed die")
        self.until_template(sandbox)
        self.assertEqual(self.python(sandbox.client(), "out a")["start"], "clone")

    def test_faults(self):
        for plan, words in FAULTS.items():
            with self.subTest(plan=plan):
                sandbox = self.pool(f"template {plan}")
                self.assert_boots(sandbox, words)
                self.assert_settled(sandbox)

    def test_hangs(self):
        """All at once, because each takes its deadline."""
        sandboxes = {plan: self.pool(f"template {plan}", boot_timeout_seconds=1)
                     for plan in HANGS + SAVING_HANGS}
        for plan, sandbox in sandboxes.items():
            with self.subTest(plan=plan):
                self.assert_boots(sandbox, "")
                # The others would take their time as well.
                sandbox.signal(signal.SIGINT)
        for sandbox in sandboxes.values():
            self.assertEqual(sandbox.wait(), 0)
            self.assert_nothing_left(sandbox)

    def test_unsupported(self):
        """A QEMU without x-ignore-shared: told once, tried once, and everything boots."""
        sandbox = self.pool("template capabilities refuse")
        client = sandbox.client()
        for language in ("python", "javascript", "shell"):
            result = client.call("run", language=language, code="out a")
            self.assertEqual((result["status"], result["start"]), ("ok", "boot"))
        self.assertEqual(sandbox.log().count("This host makes no templates"), 1)
        self.assertEqual(sandbox.log().count("Template booting -> rehearsing"), 1)

    def test_events(self):
        """MIGRATION events before and after the stream: both are needed, in any order."""
        for when in ("early", "late"):
            with self.subTest(when=when):
                sandbox = self.pool(f"template completed {when}", f"clone completed {when}", pool_python=1)
                client = sandbox.client()
                self.spares(client, 1)
                result = self.python(client, "out a")
                self.assertEqual((result["status"], result["start"]), ("ok", "warm"))
                self.assert_settled(sandbox)

    def test_lost_acknowledgement(self):
        """A template is saved before its agent read the end of the rehearsal: clones run all the same."""
        sandbox = self.pool("template ack ignore", pool_python=1, pool_javascript=1, pool_shell=1)
        client = sandbox.client()
        self.spares(client, 3)
        for language in ("python", "javascript", "shell"):
            self.assertEqual(client.call("run", language=language, code="standby")["stdout"], "waited\n")
        self.assertNotIn("A clone does not become warm", sandbox.log())

    def test_run_waits_for_its_template(self):
        """Who comes while the template of a default size is made gets a clone of it."""
        sandbox = self.pool("template completed late")
        result = self.python(sandbox.client(), "standby")
        self.assertEqual((result["start"], result["stdout"]), ("clone", "waited\n"))

    def test_other_sizes(self):
        """A size that nobody has asked for boots while its template is made; then it is cloned."""
        sandbox = self.pool()
        client = sandbox.client()
        limits = {"memory_mb": 128}
        self.until_template(sandbox, "shell-64")
        self.assertEqual(self.python(client, "out a", limits=limits)["start"], "boot")
        self.until_template(sandbox, "python-128")
        self.assertEqual(self.python(client, "out a", limits=limits)["start"], "clone")

    def test_evicted(self):
        """Templates beyond their memory go, least recently used first, and are loaded when wanted."""
        sandbox = self.pool(template_memory_mb=4 * 64 + 128)
        client = sandbox.client()
        self.until_template(sandbox, "shell-64")
        for language in ("python", "shell"):
            self.play_sized(client, language)
            self.until_template(sandbox, f"{language}-128")
        self.until_log(sandbox, "python-128: evicted from memory for shell-128")
        self.play_sized(client, "python")
        self.until_log(sandbox, "python-128: loaded in")
        self.assertEqual(self.play_sized(client, "python")["start"], "clone")

    def play_sized(self, client, language):
        return client.call("run", language=language, code="out a", limits={"memory_mb": 128})

    def test_clones_fail_so_it_is_made_anew(self):
        """A template whose state is broken: three clones fail, the next template is good."""
        sandbox = self.pool("template state broken", pool_python=1)
        self.until_template(sandbox)
        sandbox.plan()
        self.until_log(sandbox, "python-64: 3 clones in a row failed, making it anew")
        client = sandbox.client()
        # Whoever comes meanwhile boots at the last attempt.
        result = self.python(client, "out a")
        self.assertEqual(result["status"], "ok")
        self.spares(client, 1)
        self.assertEqual(self.python(client, "out a")["start"], "warm")

    def test_clones_never_work(self):
        """A QEMU that saves and cannot load: made anew once, then VMs boot, and health says so."""
        sandbox = self.pool("template state broken", pool_python=1)
        self.until_log(sandbox, "python-64: not ready, its VMs boot: Clones of it do not work")
        client = sandbox.client()
        self.assertEqual(client.call("template.info", name="python-64")["state"], "failed")
        self.assertEqual(self.python(client, "out a")["start"], "boot")
        self.assertEqual(sandbox.log().count("making it anew"), 1)

    def test_no_images_yet(self):
        """Templates fail while there are no images; runs say so; nothing crashes."""
        sandbox = self.prepare_pool(pool_python=1)
        sandbox.images = "/nonexistent/images"
        client = sandbox.start().client()
        self.assert_error(3005, self.python, client, "out never")
        self.assertIn("python-64: not ready", sandbox.log())


class Killed(PoolTest):
    """kill -9 of the daemon at a moment: the next one ends its VMs, sweeps and works."""

    def assert_recovers(self, sandbox, start="warm", with_launcher=False):
        old = set(sandbox.vm_directories())
        launcher = sandbox.launcher()
        sandbox.signal(signal.SIGKILL)
        if with_launcher:
            os.kill(launcher, signal.SIGKILL)
        sandbox.wait()
        store = os.path.join(sandbox.state, "templates")
        unfinished = [name for name in os.listdir(store) if name.startswith(".")]
        sandbox.plan()
        sandbox.clients.clear()
        sandbox.start()
        self.assertFalse(old.intersection(sandbox.vm_directories()))
        self.assertEqual([process for process in processes() if any(vm in process.command for vm in old)], [])
        client = sandbox.client()
        self.spares(client, 1)
        self.assertEqual(self.python(client, "out a")["start"], start)
        self.assertFalse(set(unfinished) & set(os.listdir(store)))

    def test_in_a_template(self):
        for moment in ("spawn", "greeting", "hello", "identity", "rehearsal", "stop", "state", "completed"):
            with self.subTest(moment=moment):
                sandbox = self.pool(f"template {moment} hang", pool_python=1)
                self.until_hanging(sandbox)
                self.assert_recovers(sandbox)

    def test_in_a_clone(self):
        for moment in ("spawn", "greeting", "state", "hello", "identity", "rehearsal", "stop", "stopped"):
            with self.subTest(moment=moment):
                sandbox = self.pool(f"clone {moment} hang", pool_python=1)
                self.until_hanging(sandbox)
                self.until_stored(sandbox)
                self.assert_recovers(sandbox)
                self.assertIn("python-64: loaded in", sandbox.log())

    def test_with_spares_and_a_run(self):
        sandbox = self.pool(pool_python=1)
        client = sandbox.client()
        self.spares(client, 1)
        self.python_started(client, "hang")
        until(lambda: self.vms(client, "paused"), "a spare waits beside the run")
        self.assert_recovers(sandbox)

    def test_launcher_too(self):
        """A jail killed in its first milliseconds, before its child has asked to die with it, leaves that behind: the next
        launcher looks for it."""
        for moment in ("spawn", "greeting", "state"):
            with self.subTest(moment=moment):
                sandbox = self.pool(f"clone {moment} hang", pool_python=1)
                self.until_hanging(sandbox)
                self.until_stored(sandbox)
                self.assert_recovers(sandbox, with_launcher=True)

    def test_while_saving(self):
        """As soon as a template is ready it is being written: what is half written is swept."""
        sandbox = self.pool(pool_python=1)
        self.until_template(sandbox)
        self.assert_recovers(sandbox)
