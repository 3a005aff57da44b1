# SPDX-License-Identifier: Apache-2.0
"""Hosts on which something is missing, broken or taken: a clear word, and no VM."""

import os
import shutil
import socket

import support
from support import VmTest, until


class Images(VmTest):
    def copy_images(self):
        """A directory with images to be spoilt."""
        sandbox = self.prepare("normal", boot_attempts=1)
        sandbox.images = os.path.join(sandbox.directory, "images")
        os.mkdir(sandbox.images)
        # Copies, because links would lead into a tree that the daemon's user may not enter; of the root
        # file system only what tells that it is one, because none of these VMs mounts it.
        for name in ("vmlinux", "manifest.json"):
            shutil.copy(os.path.join(support.IMAGES, name), sandbox.images)
        with open(os.path.join(support.IMAGES, "rootfs.erofs"), "rb") as stream:
            start = stream.read(1 << 16)
        with open(os.path.join(sandbox.images, "rootfs.erofs"), "wb") as stream:
            stream.write(start)
        return sandbox

    def test_missing_then_there(self):
        """3005 with a hint while the image is missing; once it is there, runs work without a restart."""
        sandbox = self.copy_images()
        kernel = os.path.join(sandbox.images, "vmlinux")
        os.rename(kernel, kernel + ".away")
        client = sandbox.start().client()
        error = self.assert_error(3005, self.play, client, "out never")
        self.assertFalse(error.data["retryable"])
        self.assertIn("make images", error.data["hint"])
        self.assertIn("vmlinux", error.message)
        self.assertFalse(client.call("health")["ready"])
        os.rename(kernel + ".away", kernel)
        self.assertTrue(client.call("health")["ready"])
        self.assertEqual(self.play(client, "out there")["stdout"], "there\n")
        sandbox.baseline += 2  # kernel and root file system are open now

    def test_no_directory(self):
        sandbox = self.prepare("normal")
        sandbox.images = "/nonexistent/images"
        error = self.assert_error(3005, self.play, sandbox.start().client(), "out never")
        self.assertIn("/nonexistent/images", error.message)

    def test_not_images(self):
        """Text, an empty file, a directory, a pipe: none is a guest image, none blocks the daemon."""
        for name in ("vmlinux", "rootfs.erofs", "manifest.json"):
            for kind in ("text", "empty", "directory", "pipe"):
                with self.subTest(name=name, kind=kind):
                    sandbox = self.copy_images()
                    path = os.path.join(sandbox.images, name)
                    os.unlink(path)
                    if kind == "directory":
                        os.mkdir(path)
                    elif kind == "pipe":
                        os.mkfifo(path)
                    else:
                        with open(path, "w", encoding="utf-8") as stream:
                            stream.write("no image\n" * 1000 if kind == "text" else "")
                    error = self.assert_error(3005, self.play, sandbox.start().client(), "x")
                    self.assertIn(name, error.message)

    def spoil_kernel(self, data):
        """A daemon over the real QEMU whose kernel is `data`."""
        sandbox = self.copy_images()
        sandbox.settings.pop("qemu")
        sandbox.settings.pop("bubblewrap")
        path = os.path.join(sandbox.images, "vmlinux")
        os.unlink(path)
        with open(path, "wb") as stream:
            stream.write(data)
        return sandbox.start()

    def test_kernel_cut_off(self):
        """QEMU cannot load it: its own words are in the error, or the boot times out."""
        with open(os.path.join(support.IMAGES, "vmlinux"), "rb") as stream:
            sandbox = self.spoil_kernel(stream.read(20000))
        error = self.assert_error((3003, 3005), self.play, sandbox.client(), "x")
        self.assertIn("qemu-system-x86_64", error.message)

    def test_kernel_is_another_program(self):
        with open("/usr/bin/true", "rb") as stream:
            sandbox = self.spoil_kernel(stream.read())
        error = self.assert_error((3003, 3005), self.play, sandbox.client(), "x")
        self.assertIn("qemu-system-x86_64", error.message)


class Programs(VmTest):
    def test_no_qemu(self):
        client = self.daemon("normal", qemu="/nonexistent/qemu").client()
        for _ in range(3):
            error = self.assert_error(3005, self.play, client, "x")
            self.assertIn("/nonexistent/qemu", error.message)
            self.assertIn("doctor", error.data["hint"])
        checks = {check["name"]: check for check in client.call("health")["checks"]}
        self.assertFalse(checks["qemu"]["ok"])

    def test_no_bubblewrap(self):
        client = self.daemon("normal", bubblewrap="/nonexistent/bwrap").client()
        for _ in range(3):
            error = self.assert_error(3005, self.play, client, "x")
            self.assertIn("/nonexistent/bwrap", error.message)
        self.assertFalse(client.call("health")["ready"])

    def test_bubblewrap_fails(self):
        """A jail that cannot be built is the host's fault: the wrapper's own words, at once, and in health."""
        sandbox = self.prepare("normal", boot_attempts=2)
        with open(sandbox.settings["bubblewrap"], "w", encoding="utf-8") as stream:
            stream.write("#!/bin/sh\necho 'bwrap: no namespaces here' >&2\nexit 1\n")
        client = sandbox.start().client()
        error = self.assert_error(3005, self.play, client, "x")
        self.assertIn("no namespaces here", error.message)
        self.assertEqual(sandbox.log().count("Failed while starting"), 1)
        self.assertFalse(client.call("health")["ready"])

    def test_programs_appear(self):
        """A QEMU that is installed later works without a restart."""
        sandbox = self.prepare("normal")
        os.rename(sandbox.program, sandbox.program + ".away")
        client = sandbox.start().client()
        self.assert_error(3005, self.play, client, "x")
        os.rename(sandbox.program + ".away", sandbox.program)
        self.assertEqual(self.play(client, "out there")["stdout"], "there\n")


class Kvm(VmTest):
    def test_auto(self):
        """accel = auto takes what works, and info says why."""
        info = self.daemon("normal", accel="auto").client().call("info")
        self.assertIn(info["accelerator"]["name"], ("tcg", "kvm"))
        self.assertTrue(info["accelerator"]["kvm"])

    def test_tcg(self):
        info = self.daemon("normal", accel="tcg").client().call("info")
        self.assertEqual(info["accelerator"], {"name": "tcg", "kvm": "not probed: accel = tcg"})

    def test_demanded_but_useless(self):
        """accel = kvm refuses to start where KVM is no good, and says why."""
        auto = self.daemon("normal", accel="auto").client().call("info")["accelerator"]
        if auto["name"] == "kvm":
            self.skipTest("KVM works here")
        sandbox = self.prepare("normal", accel="kvm").spawn()
        self.assertNotEqual(sandbox.wait(), 0)
        self.assertIn(f"KVM cannot be used: {auto['kvm']}", sandbox.log())


class Budget(VmTest):
    def test_as_if_the_host_had_no_more(self):
        """memory_budget_mb bounds what VMs get and what pressure is measured of."""
        client = self.daemon("normal", memory_budget_mb=400).client()
        host = client.call("memory.stats")["host"]
        self.assertEqual((host["managed_bytes"], host["level"], host["state"]), (400 << 20, "green", "calm"))
        request = client.request("run", language="shell", code="true", limits={"memory_mb": 512})
        self.assert_error(2006, client.wait, request)

    def test_pressure_has_a_level(self):
        """Two VMs that hold more than the budget are pressure, and admins hear of it."""
        client = self.daemon(memory_budget_mb=400, memory_overcommit_percent=200).client()
        client.call("events.subscribe", types=["memory.*"])
        for _ in range(2):
            client.request("run", language="python", limits={"memory_mb": 256}, timeout_seconds=600,
                           code="kept = bytearray(b'x') * (190 << 20)\nimport time; time.sleep(600)")
        event = client.wait_notification(lambda method, given: method == "event")
        self.assertEqual((event["type"], event["data"]["old_level"]), ("memory.pressure", "green"))
        self.assertLess(event["data"]["managed_available_bytes"], 0.2 * event["data"]["managed_bytes"])
        until(lambda: client.call("memory.stats")["host"]["state"] != "calm", "the state is told")


class Places(VmTest):
    def refused(self, sandbox, words):
        sandbox.spawn()
        self.assertNotEqual(sandbox.wait(), 0)
        self.assertIn(words, sandbox.log())

    def test_socket_busy(self):
        first = self.daemon("normal")
        second = self.prepare("normal")
        second.socket = first.socket
        self.refused(second, f"Another daemon listens on '{first.socket}'")
        self.assertEqual(self.play(first.client(), "out still")["stdout"], "still\n")

    def test_runtime_directory_busy(self):
        first = self.daemon("normal")
        second = self.prepare("normal")
        second.runtime = first.runtime
        self.refused(second, f"Another daemon runs in '{first.runtime}'")
        self.assertEqual(self.play(first.client(), "out still")["stdout"], "still\n")

    def test_stale_socket(self):
        """What a killed daemon left is replaced."""
        sandbox = self.prepare("normal")
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(sandbox.socket)
        self.assertEqual(self.play(sandbox.start().client(), "out here")["stdout"], "here\n")

    def test_other_file_in_the_socket_place(self):
        """A file that is no socket is somebody's: it stays."""
        sandbox = self.prepare("normal")
        with open(sandbox.socket, "w", encoding="utf-8") as stream:
            stream.write("precious")
        self.refused(sandbox, "Cannot replace")
        self.assertEqual(support.read_text(sandbox.socket), "precious")

    def test_no_such_user(self):
        self.refused(self.prepare("normal", user="nobody-has-this"), "There is no user 'nobody-has-this'")

    def test_bad_setting(self):
        sandbox = self.prepare("normal", boot_attempts=0).spawn()
        self.assertEqual(sandbox.wait(), 78)
