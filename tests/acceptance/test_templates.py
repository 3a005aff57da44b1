# SPDX-License-Identifier: Apache-2.0
"""template.*, pool.*, and what health and info say of them. They change the daemon: exclusive."""

import glob
import hashlib
import json
import os

from client import RpcError
from support import DEADLINE, DaemonTest, as_other_user, connect, exclusive, needs_root

LANGUAGES = ("python", "javascript", "shell")
RFC3339 = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$"
HASH = r"^[0-9a-f]{64}$"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class TemplateTest(DaemonTest):
    def setUp(self):
        super().setUp()
        info = self.client.call("info")
        if info["templates"]["mode"] == "off" or info["templates"]["unsupported"]:
            self.skipTest("this daemon makes no templates")
        self.default_mb = info["limits"]["memory_mb_default"]

    def info(self, name):
        return self.client.call("template.info", name=name)

    def wait_ready(self, name, is_stored=True):
        """The template, once it is ready and on disk."""

        def look():
            try:
                info = self.info(name)
            except RpcError:
                return None
            self.assertNotEqual(info["state"], "failed", info["error"])
            is_kept = not is_stored or info["ram_sha256"] and info["stored"]
            return info if info["state"] == "ready" and is_kept else None

        return self.until(look, f"{name} is ready", DEADLINE)

    def remove(self, name):
        """Removes a template as soon as it is at rest; nothing when there is none."""

        def is_removed():
            try:
                self.client.call("template.remove", name=name)
                return True
            except RpcError as error:
                if error.code == 8001:
                    return True
                self.assertEqual((error.code, error.data["retryable"]), (8004, True))
                return False

        self.until(is_removed, f"{name} can be removed", DEADLINE)

    def pool(self, language):
        return self.client.call("pool.get", language=language)

    def wait_pool(self, language, warm):
        def is_there():
            pool = self.pool(language)
            return pool if (pool["warm"], pool["starting"]) == (warm, 0) else None

        return self.until(is_there, f"{warm} warm VMs of {language}", DEADLINE)


@exclusive
class Templates(TemplateTest):
    def test_default_sizes(self):
        """Each language's default size becomes ready by itself; list, info and health agree."""
        for language in LANGUAGES:
            name = f"{language}-{self.default_mb}"
            info = self.wait_ready(name)
            self.assertEqual(
                (info["name"], info["language"], info["memory_mb"], info["error"]),
                (name, language, self.default_mb, None),
            )
            self.assertEqual(info["ram_bytes"], self.default_mb << 20)
            self.assertGreater(info["state_bytes"], 10000)
            self.assertRegex(info["created_at"], RFC3339)
            self.assertTrue(info["load_ms"] or info["build"], info)
            listed = self.client.call("template.list")["templates"]
            self.assertEqual([entry["name"] for entry in listed].count(name), 1)
        self.assertEqual(
            self.client.call("info")["templates"]["languages"],
            {language: "ready" for language in LANGUAGES},
        )
        health = self.client.call("health")
        checks = {check["name"]: check for check in health["checks"]}
        self.assertTrue(health["ready"], health)
        for language in LANGUAGES:
            self.assertTrue(checks[f"template_{language}"]["ok"], checks)

    def test_one_of_each_name(self):
        """A run in another size gets a template of that size; list then has it once."""
        self.run_ok("echo small", "shell", limits={"memory_mb": 128})
        self.wait_ready("shell-128", is_stored=False)
        names = [entry["name"] for entry in self.client.call("template.list")["templates"]]
        self.assertEqual(len(names), len(set(names)), names)
        self.assertIn("shell-128", names)

    @needs_root
    def test_build(self):
        """build: rounded up to a size class, answered when ready; the hashes are those on disk."""
        self.remove("shell-128")
        built = self.client.call("template.build", language="shell", memory_mb=128)
        self.assertEqual(
            (built["name"], built["state"], built["memory_mb"]), ("shell-128", "ready", 128)
        )
        times = built["build"]
        parts = ("boot_ms", "rehearsal_ms", "save_ms", "seal_ms")
        self.assertGreater(times["boot_ms"], 0)
        self.assertAlmostEqual(times["total_ms"], sum(times[part] for part in parts), delta=1)
        self.assertIsNone(built["load_ms"])
        self.check_disk("shell-128")
        request_id = self.start("echo cloned; sleep 60", "shell", limits={"memory_mb": 128})
        self.client.wait_output(request_id, "cloned")
        self.assertEqual(self.info("shell-128")["clones"], 1)
        self.stop(request_id)
        self.until(lambda: self.info("shell-128")["clones"] == 0, "its clone is gone")

    def check_disk(self, name):
        """The hashes of info are those of the files in state_dir; returns them."""
        info = self.wait_ready(name)
        state_dir = self.client.call("info")["templates"]["state_dir"]
        found = glob.glob(os.path.join(state_dir, "templates", name + "-*"))
        self.assertEqual(len(found), 1, found)
        for part in ("ram", "state"):
            self.assertRegex(info[f"{part}_sha256"], HASH)
            self.assertEqual(info[f"{part}_sha256"], sha256(os.path.join(found[0], part)))
        self.assertEqual(os.path.getsize(os.path.join(found[0], "ram")), info["ram_bytes"])
        self.assertEqual(os.path.getsize(os.path.join(found[0], "state")), info["state_bytes"])
        return info["ram_sha256"], info["state_sha256"]

    @needs_root
    def test_build_replaces(self):
        """A second build replaces the first, also on disk; the old one's clone goes on."""
        self.client.call("template.build", language="shell", memory_mb=128)
        first = self.check_disk("shell-128")
        request_id = self.start(
            "echo begun; sleep 60", "shell",
            limits={"memory_mb": 128}, timeout_seconds=DEADLINE,
        )
        vm = self.vm_of(request_id)
        self.client.wait_output(request_id, "begun")
        with connect() as other:
            other.call("template.build", language="shell", memory_mb=128)
        second = self.check_disk("shell-128")
        self.assertNotEqual(first[0], second[0])  # entropy, clock and addresses differ
        self.assertEqual(self.client.call("vm.info", vm=vm)["state"], "running")
        self.assertEqual(self.stop(request_id)["stdout"], "begun\n")
        self.assertEqual(
            self.run_ok("echo new", "shell", limits={"memory_mb": 128}), "new\n"
        )

    @needs_root
    def test_build_by_two(self):
        """Two callers of the same build are both answered, by the same image."""
        with connect() as other:
            ids = [
                (client, client.request("template.build", language="shell", memory_mb=128))
                for client in (self.client, other)
            ]
            created = {client.wait(request_id)["created_at"] for client, request_id in ids}
        self.assertEqual(len(created), 1)
        self.wait_ready("shell-128")

    @needs_root
    def test_build_without_caller(self):
        """A build goes on when its caller cancels, and when the connection ends."""
        for how in ("cancel", "close"):
            with self.subTest(how=how):
                self.remove("shell-512")
                with connect() as other:
                    request_id = other.request("template.build", language="shell", memory_mb=512)
                    other.call("rpc.ping")
                    if how == "cancel":
                        other.cancel(request_id)
                        with self.assertRaises(RpcError) as caught:
                            other.wait(request_id)
                        self.assertEqual(caught.exception.code, -32800)
                self.assertIn(
                    self.info("shell-512")["state"], ("queued", "building", "ready")
                )
                self.wait_ready("shell-512")
        self.remove("shell-512")

    @needs_root
    def test_remove(self):
        """remove: nothing in memory and on disk; a default one is made again by the next run."""
        self.client.call("template.build", language="shell", memory_mb=128)
        self.wait_ready("shell-128")
        state_dir = self.client.call("info")["templates"]["state_dir"]
        self.remove("shell-128")
        info = self.info("shell-128")
        self.assertEqual(
            [info[key] for key in ("state", "stored", "ram_bytes", "ram_sha256", "clones")],
            ["absent", False, None, None, 0],
        )
        self.assertEqual(glob.glob(os.path.join(state_dir, "templates", "shell-128-*")), [])

        name = f"shell-{self.default_mb}"
        self.wait_ready(name)
        self.remove(name)
        self.assertEqual(self.run_ok("echo again", "shell"), "again\n")
        self.wait_ready(name)

    @needs_root
    def test_busy(self):
        """What is being made cannot be removed: 8004, retryable, with a hint."""
        request_id = self.client.request("template.build", language="shell", memory_mb=128)
        self.wait_vm("shell", 128)
        error = self.assert_error(8004, "TEMPLATE_BUSY", "template.remove", name="shell-128")
        self.assertTrue(error.data["retryable"] and error.data["hint"])
        self.client.wait(request_id)

    def wait_vm(self, language, memory_mb):
        """Waits until a template's VM is there: one that is made anew stays 'ready' meanwhile."""

        def is_there():
            return any(
                (vm["language"], vm["memory_mb"], vm["uid"]) == (language, memory_mb, None)
                for vm in self.client.call("vm.list")["vms"]
            )

        self.until(is_there, f"the VM of a template of {language}")

    @needs_root
    def test_refused(self):
        """Unknown names, languages and sizes: each its code, with bounds and hints."""
        for method in ("template.info", "template.remove"):
            for name in ("nothing", "../shell-128", "shell-9999", "x" * 63):
                error = self.assert_error(8001, "TEMPLATE_NOT_FOUND", method, name=name)
                self.assertIn("template list", error.data["hint"])
            for params in ({}, {"name": ""}, {"name": 7}, {"name": "x" * 64}):
                error = self.assert_error(-32602, "INVALID_PARAMS", method, **params)
                self.assertEqual(error.data["field"], "name")
        error = self.assert_error(2003, "LANGUAGE_UNKNOWN", "template.build", language="cobol")
        self.assertEqual(error.data["known"], list(LANGUAGES))
        limits = self.client.call("info")["limits"]
        for memory_mb in (1, limits["memory_mb_min"] - 1, limits["memory_mb_max"] + 1, 1 << 20):
            error = self.assert_error(
                2006, "LIMIT_INVALID", "template.build", language="shell", memory_mb=memory_mb
            )
            self.assertEqual(error.data["field"], "memory_mb")
            self.assertEqual(error.data["min"], limits["memory_mb_min"])
            self.assertLessEqual(error.data["max"], limits["memory_mb_max"])

    @needs_root
    def test_others(self):
        """Who is no admin reads templates and health, builds and removes nothing, sees no spare."""
        self.wait_ready(f"shell-{self.default_mb}")
        out = json.loads(as_other_user(f"""
import json
codes = {{}}
for method, params in (
    ("template.list", {{}}), ("template.info", {{"name": "shell-{self.default_mb}"}}),
    ("template.build", {{"language": "shell"}}), ("template.remove", {{"name": "shell-128"}}),
    ("pool.get", {{}}), ("pool.set", {{"language": "shell", "size": 0}}), ("vm.list", {{}}),
):
    try:
        codes[method] = client.call(method, **params)
    except RpcError as error:
        codes[method] = error.code
print(json.dumps(codes))
"""))
        for method in ("template.build", "template.remove", "pool.get", "pool.set"):
            self.assertEqual(out[method], 1002, method)
        self.assertEqual(out["template.info"]["state"], "ready")
        self.assertIn(out["template.info"]["name"],
                      [entry["name"] for entry in out["template.list"]["templates"]])
        self.assertEqual(out["vm.list"], {"vms": []})


@exclusive
class Pool(TemplateTest):
    @needs_root
    def test_up_and_down(self):
        """pool.set: more VMs become warm, paused and nobody's; fewer are ended; 0 ends all."""
        before = self.pool("shell")["target"]
        self.addCleanup(self.wait_pool, "shell", before)
        self.addCleanup(self.client.call, "pool.set", language="shell", size=before)
        self.assertEqual(self.pool("shell")["memory_mb"], self.default_mb)
        for size in (3, 1, 0, 2):
            with self.subTest(size=size):
                answer = self.client.call("pool.set", language="shell", size=size)
                self.assertEqual((answer["language"], answer["target"]), ("shell", size))
                self.wait_pool("shell", size)
                self.until(lambda: len(self.spares("shell")) == size, f"{size} spares")
        for vm in self.spares("shell"):
            self.assertEqual((vm["state"], vm["memory_mb"]), ("paused", self.default_mb))
            self.assertRegex(vm["vm"], r"^(.+-)?vm_")

    def spares(self, language):
        return [
            vm for vm in self.client.call("vm.list")["vms"]
            if vm["language"] == language and vm["uid"] is None
        ]

    @needs_root
    def test_run_from_pool(self):
        """A run takes a warm VM, which is its caller's then; another takes its place."""
        before = self.pool("shell")["target"]
        self.addCleanup(self.wait_pool, "shell", before)
        self.addCleanup(self.client.call, "pool.set", language="shell", size=before)
        self.client.call("pool.set", language="shell", size=1)
        self.wait_pool("shell", 1)
        self.until(lambda: len(self.spares("shell")) == 1, "the others are gone")
        spare = self.spares("shell")[0]["vm"]
        request_id = self.start("echo begun; sleep 60", "shell", timeout_seconds=DEADLINE)
        self.assertEqual(self.vm_of(request_id), spare)
        self.assertEqual(
            self.client.call("vm.info", vm=spare)["uid"], os.geteuid()
        )
        vms = self.client.call("info")["vms"]
        self.assertEqual(vms["running"], 1)
        self.assertLessEqual(vms["running"] + vms["spares"], vms["current"])
        self.wait_pool("shell", 1)
        self.assertNotIn(spare, [vm["vm"] for vm in self.spares("shell")])
        self.assertEqual(self.stop(request_id)["start"], "warm")

    @needs_root
    def test_all(self):
        """pool.get without a language has all of them."""
        pools = self.client.call("pool.get")["pools"]
        self.assertEqual([pool["language"] for pool in pools], list(LANGUAGES))
        for pool in pools:
            self.assertEqual(
                set(pool),
                {"language", "memory_mb", "warm", "rehearsed", "starting", "target"},
            )

    @needs_root
    def test_refused(self):
        """A size over max_vms and unknown languages are refused, with bounds; nothing changes."""
        max_vms = self.client.call("info")["vms"]["max"]
        before = self.pool("shell")
        for size in (-1, max_vms + 1, 1 << 30):
            error = self.assert_error(
                2006, "LIMIT_INVALID", "pool.set", language="shell", size=size
            )
            self.assertEqual((error.data["field"], error.data["min"]), ("size", 0))
            self.assertGreaterEqual(error.data["max"], max_vms)
        for method, params in (("pool.get", {}), ("pool.set", {"size": 1})):
            self.assert_error(2003, "LANGUAGE_UNKNOWN", method, language="cobol", **params)
        self.assert_error(-32602, "INVALID_PARAMS", "pool.set", language="shell")
        self.assertEqual(self.pool("shell")["target"], before["target"])
