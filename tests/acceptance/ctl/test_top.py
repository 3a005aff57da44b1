#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""execsandboxctl top in a terminal (tmux), against a scripted daemon.

EXECSANDBOXCTL names the program (default: build/ctl/execsandboxctl of this tree).
"""

import json
import os
import re
import sys
import tempfile
import unittest

from test_ctl import CTL, ENVIRONMENT, CtlTest, answer, fail
from tmux import Terminal

from fake_daemon import FakeDaemon

MIB = 1 << 20


def vm(name, pss_mib, **changes):
    result = {
        "vm": name, "language": "python", "state": "running", "policy_state": "busy",
        "size_bytes": 256 * MIB, "uptime_ms": 61000, "pss_bytes": pss_mib * MIB,
        "cpu_us": 6100000, "balloon_actual_bytes": 192 * MIB, "balloon_target_bytes": 128 * MIB,
        "is_moving": False, "is_pinned": False, "guest_total_bytes": 240 * MIB,
        "guest_available_bytes": 64 * MIB, "zram_orig_bytes": 30, "zram_used_bytes": 10,
        "age_ms": 100,
    }
    result.update(changes)
    return result


def stats(*vms, **host):
    result = {
        "total_bytes": 16 << 30, "available_bytes": 3 << 29, "managed_bytes": 1000,
        "managed_available_bytes": 250, "reserve_bytes": 1 << 30, "budget_bytes": 2 << 30,
        "psi_some_avg10": 1.25, "psi_full_avg10": 0, "level": "yellow", "state": "soft",
    }
    result.update(host)
    return {"host": result, "vms": list(vms)}


STATS = stats(
    vm("vm_small", 20, language="shell", policy_state="idle", is_pinned=True),
    vm("vm_big", 200, is_moving=True),
    vm("vm_spare", 30, language="javascript", policy_state="spare", balloon_actual_bytes=None,
       balloon_target_bytes=None),
)


def order(screen):
    """The VMs from the top down."""
    return re.findall(r"^(vm_\w+)", screen, re.M)


class Once(CtlTest):
    def test_once(self):
        """--once: host and VMs as tables, the greatest first, numbers without blanks."""
        with FakeDaemon({"memory.stats": answer(STATS)}) as daemon:
            done = self.ctl("top", "--once", daemon=daemon)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        lines = done.stdout.decode().splitlines()
        self.assertRegex(lines[1], r"16 GiB +1.5 GiB +1 GiB +2 GiB +1.25 +0 +yellow soft")
        self.assertEqual(lines[3].split(), "VM LANGUAGE STATE SIZE USED TARGET ACTUAL ZRAM PSS "
                         "CPU% AGE".split())
        self.assertEqual(lines[4].split(), "vm_big python busy~ 256M 128M 128M 192M 3.0 200M 10.0 "
                         "1m01s".split())
        self.assertEqual(order("\n".join(lines)), ["vm_big", "vm_spare", "vm_small"])

    def test_no_vm(self):
        """--once without VMs has the host alone."""
        with FakeDaemon({"memory.stats": answer(stats())}) as daemon:
            done = self.ctl("top", "--once", daemon=daemon)
        self.assertEqual((done.returncode, len(done.stdout.splitlines())), (0, 2))

    def test_json(self):
        """--json prints the result itself."""
        with FakeDaemon({"memory.stats": answer(STATS)}) as daemon:
            done = self.ctl("top", "--json", daemon=daemon)
        self.assertEqual(json.loads(done.stdout), STATS)

    def test_no_terminal(self):
        """Without a terminal there is no screen: 2 and a hint."""
        with FakeDaemon({}) as daemon:
            done = self.ctl("top", daemon=daemon)
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"hint: execsandboxctl top --once", done.stderr)

    def test_errors(self):
        """No daemon is 4, an error reply 1, an interval that is none 2, an odd answer no crash."""
        self.assertEqual(self.ctl("top", "--once", "-s", "/nonexistent/socket").returncode, 4)
        with FakeDaemon({"memory.stats": fail(-32603, "Broken")}) as daemon:
            self.assertEqual(self.ctl("top", "--once", daemon=daemon).returncode, 1)
            self.assertEqual(self.ctl("top", "-i", "0.1", daemon=daemon).returncode, 2)
        with FakeDaemon({"memory.stats": answer(["?"])}) as daemon:
            self.assertEqual(self.ctl("top", "--once", daemon=daemon).returncode, 1)


class Screen(unittest.TestCase):
    def daemon(self, handlers=None, path=None):
        daemon = FakeDaemon({"memory.stats": answer(STATS), **(handlers or {})}, path)
        self.addCleanup(daemon.close)
        return daemon

    def terminal(self, daemon, **options):
        environment = dict(ENVIRONMENT, EXECSANDBOX_SOCKET=getattr(daemon, "path", daemon))
        environment.update(options.pop("env", {}))
        terminal = Terminal(environment, **options)
        self.addCleanup(terminal.close)
        return terminal

    def top(self, daemon, **options):
        """A terminal with top in it; its exit status is said when it ends."""
        terminal = self.terminal(daemon, **options)
        terminal.type(f"{CTL} top -i 0.25; echo status=$?")
        terminal.wait_for(r"^VM ")
        return terminal

    def sent(self, daemon, method):
        return [one.get("params") for one in daemon.requests if one["method"] == method]

    def test_screen(self):
        """Host, totals, history and a row per VM, within 120 columns; q ends it with 0."""
        terminal = self.top(self.daemon())
        screen = terminal.wait_for(r"^In use +▆▆+ +75 %$")
        lines = screen.splitlines()
        self.assertRegex(lines[0], r"^Host +yellow \(soft\) +1.5 GiB of 16 GiB available +"
                         r"PSI some 1.2 full 0.0 +budget 2 GiB +reserve 1 GiB$")
        self.assertRegex(lines[1], r"^VMs +3 of 768 MiB +balloons leave 384 MiB +PSS 250 MiB +"
                         r"overcommit 3.1 x$")
        self.assertRegex(screen, r"(?m)^vm_big +python +busy~ +256M +128M +128M +192M +3.0 +200M +"
                         r"0.0 +1m01s +█{11}░{5,6}$")
        self.assertRegex(screen, r"(?m)^vm_small +shell +idle! ")
        self.assertRegex(screen, r"(?m)^vm_spare +javascript +spare +256M +176M +- +- +3.0 +30M ")
        self.assertEqual(order(screen), ["vm_big", "vm_spare", "vm_small"])
        self.assertLessEqual(max(map(len, lines)), 120)
        terminal.keys("q")
        self.assertNotIn("vm_big", terminal.wait_for("status=0"))

    def test_sorting(self):
        """< and > change the column, R the direction."""
        terminal = self.top(self.daemon())
        for keys, expected in (
            ("R", ["vm_small", "vm_spare", "vm_big"]),  # PSS, the least first
            ("R", ["vm_big", "vm_spare", "vm_small"]),
            (">>>", ["vm_big", "vm_small", "vm_spare"]),  # round the end: by VM
            (">", ["vm_spare", "vm_big", "vm_small"]),  # by language
            ("<<", ["vm_big", "vm_small", "vm_spare"]),  # by age, which is the same: by VM
        ):
            with self.subTest(keys=keys):
                terminal.keys(*keys)
                terminal.wait_until(lambda screen: order(screen) == expected, str(expected))

    def test_squeeze(self):
        """s asks how far, Enter sends it, the answer is said; Escape sends nothing."""
        result = {"vm": "vm_spare", "target_bytes": 99 * MIB, "actual_bytes": 100 * MIB,
                  "reached": False}
        daemon = self.daemon({"memory.balloon": answer(result)})
        terminal = self.top(daemon)
        terminal.keys("s")
        terminal.wait_for(r"^Squeeze vm_big to how many MiB: 160_")  # 128 and a quarter
        terminal.keys("Escape")
        terminal.wait_for(r"^q quit")
        self.assertEqual(self.sent(daemon, "memory.balloon"), [])
        terminal.keys("Down", "s", "BSpace", "BSpace", "BSpace", "BSpace", "x", "9", "9")
        terminal.wait_for(r"^Squeeze vm_spare to how many MiB: 99_")
        terminal.keys("Enter")
        terminal.wait_for(r"^vm_spare has 100 MiB and does not follow")
        self.assertEqual(self.sent(daemon, "memory.balloon"),
                         [{"vm": "vm_spare", "target_mb": 99}])

    def test_release(self):
        """r gives a VM its size back."""
        result = {"vm": "vm_big", "target_bytes": 256 * MIB, "actual_bytes": 256 * MIB,
                  "reached": True}
        daemon = self.daemon({"memory.balloon": answer(result)})
        terminal = self.top(daemon)
        terminal.keys("r")
        terminal.wait_for(r"^vm_big has 256 MiB$")
        self.assertEqual(self.sent(daemon, "memory.balloon"), [{"vm": "vm_big", "target_mb": 256}])

    def test_refusal(self):
        """What the daemon refuses is said, whatever bytes it says it with."""
        daemon = self.daemon({"memory.balloon": fail(-32010, "Not\x1b[31m für\tyou")})
        terminal = self.top(daemon)
        terminal.keys("r")
        terminal.wait_for(r"^Not\?\[31m f\?\?r\?you$")

    def test_long_answer(self):
        """A squeeze that takes its time does not stop the screen."""
        def stall(connection, request):
            del connection, request
        daemon = self.daemon({"memory.balloon": stall})
        terminal = self.top(daemon)
        terminal.keys("r")
        terminal.wait_for(r"^vm_big to 256 MiB \.\.\.")
        seen = len(self.sent(daemon, "memory.stats"))
        terminal.wait_until(lambda _: len(self.sent(daemon, "memory.stats")) > seen + 1, "a look")

    def test_widths(self):
        """Columns go where there is no room; nothing wraps, even in a terminal of one cell."""
        terminal = self.top(self.daemon(), columns=80, lines=24)
        screen = terminal.wait_for(r"^VM +LANGUAGE +STATE +SIZE +USED +ACTUAL +PSS +CPU%$")
        self.assertLessEqual(max(map(len, screen.splitlines())), 80)
        self.assertRegex(screen, r"(?m)^vm_big +python +busy~ +256M +128M +192M +200M +[01]0?.0$")
        terminal.resize(40, 8)
        screen = terminal.wait_for(r"^VM +STATE +PSS$")
        self.assertEqual(len(order(screen)), 3)
        terminal.resize(2, 1)
        terminal.wait_until(lambda screen: screen.strip() == "q", "the last line")
        terminal.resize(200, 30)
        terminal.wait_for(r"^VM .* AGE +MEMORY$")
        terminal.keys("q")
        terminal.wait_for("status=0")

    def test_many_vms(self):
        """More VMs than lines: the list follows the selection."""
        many = stats(*(vm(f"vm_{i:03}", 500 - i) for i in range(100)))
        terminal = self.top(self.daemon({"memory.stats": answer(many)}), lines=15)
        self.assertEqual(order(terminal.text())[0], "vm_000")
        terminal.keys("End")
        terminal.wait_until(lambda screen: order(screen)[-1:] == ["vm_099"], "the last VM")
        terminal.keys("NPage", "Up", "s")
        terminal.wait_for(r"^Squeeze vm_098 ")
        terminal.keys("Escape", "Home")
        terminal.wait_until(lambda screen: order(screen)[:1] == ["vm_000"], "the first VM")

    def test_help(self):
        """? shows the keys in place of the rows, and hides them."""
        terminal = self.top(self.daemon())
        terminal.keys("?")
        self.assertEqual(order(terminal.wait_for(r"squeeze: set what the VM keeps")), [])
        terminal.keys("?")
        terminal.wait_until(order, "the rows")

    def test_daemon_comes_back(self):
        """A daemon that goes is said; the next one at the same place is shown."""
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "socket")
            with FakeDaemon({"memory.stats": answer(STATS)}, path) as first:
                terminal = self.top(first)
            terminal.wait_for(r"^No daemon at '.*': No such file or directory; trying again")
            with FakeDaemon({"memory.stats": answer(stats(vm("vm_new", 1)))}, path):
                terminal.wait_until(lambda screen: order(screen) == ["vm_new"], "the new daemon's")
                terminal.wait_for(r"^q quit")
                terminal.keys("q")
                terminal.wait_for("status=0")

    def test_errors(self):
        """An answer that is an error, or none that is understood, is said; then all is well."""
        answers = [fail(-32603, "Broken"), answer({"vms": 1}), answer(STATS)]
        at = [0]

        def handler(connection, request):
            answers[at[0]](connection, request)

        terminal = self.terminal(self.daemon({"memory.stats": handler}))
        terminal.type(f"{CTL} top -i 0.25")
        terminal.wait_for(r"^Broken")
        at[0] = 1
        terminal.wait_for(r"^The daemon's answer is not understood")
        at[0] = 2
        terminal.wait_for(r"^vm_big")
        terminal.wait_for(r"^q quit")

    def test_no_daemon(self):
        """No daemon at the start: 4 and the usual words, no screen."""
        terminal = self.terminal("/nonexistent/socket")
        terminal.type(f"{CTL} top; echo status=$?")
        self.assertIn("Cannot connect to '/nonexistent/socket'", terminal.wait_for("status=4"))

    def test_dumb_terminal(self):
        """A terminal that cannot show a screen is told from one that can."""
        terminal = self.terminal(self.daemon())
        for term in ("dumb", "no-such-terminal", ""):
            terminal.type(f"clear; TERM={term} {CTL} top; echo status=$?")
            self.assertIn("top --once", terminal.wait_for("status=2"))

    def test_terminal_is_left_as_it_was(self):
        """q, Ctrl-C, and Ctrl-Z in between: the modes and the screen are as before."""
        terminal = self.terminal(self.daemon())
        terminal.type("echo kept; modes=$(stty -g)")
        for number, keys in enumerate((["q"], ["C-c"], ["C-z"]), 1):
            terminal.type(f"{CTL} top -i 0.25; echo status=$?")
            terminal.wait_for(r"^vm_big")
            terminal.keys(*keys)
            if keys == ["C-z"]:
                terminal.wait_for(r"Stopped")
                terminal.type(f'[ "$(stty -g)" = "$modes" ] && echo same-{number}; fg')
                terminal.wait_for(r"^vm_big")
                terminal.wait_for(r"^q quit")
                terminal.keys("q")
                terminal.wait_until(lambda screen: "same-3" in screen, "the modes")
            terminal.wait_until(
                lambda screen: len(re.findall(r"^status=", screen, re.M)) >= number, "the end")
            terminal.type(f'[ "$(stty -g)" = "$modes" ] && echo as-before-{number}')
            self.assertIn("kept", terminal.wait_for(f"^as-before-{number}"))

    def test_terminated(self):
        """SIGTERM ends it as q does."""
        terminal = self.terminal(self.daemon())
        terminal.type(f"{CTL} top & echo $!; fg")
        terminal.wait_for(r"^vm_big")
        terminal.keys("C-z")
        terminal.wait_for("Stopped")
        terminal.type("clear; kill %1; fg; echo status=$?")
        terminal.wait_for("^status=0")

    def test_no_block_characters(self):
        """Without UTF-8 all is ASCII."""
        terminal = self.top(self.daemon(), env={"LC_ALL": "C"})
        screen = terminal.wait_for(r"^In use +\*\*+ +75 %$")
        self.assertTrue(screen.isascii())
        self.assertRegex(screen, r"(?m)^vm_big .* #{11}-{5,6}$")

    def test_colours(self):
        """Colours, and none with NO_COLOR."""
        for env, has_colours in (({}, True), ({"NO_COLOR": "1"}, False)):
            with self.subTest(env=env):
                terminal = self.top(self.daemon(), env=env)
                terminal.wait_for(r"^vm_big")
                shown = terminal.text(has_escapes=True)
                self.assertEqual(bool(re.search(r"\x1b\[(\d+;)*3[1-7]", shown)), has_colours)
                self.assertRegex(shown, r"\x1b\[(\d+;)*7")  # the selected row all the same

    def test_hostile_texts(self):
        """What a daemon sends steers no terminal and breaks no line."""
        bad = stats(
            vm("\x1b]0;x\x07\x1b[2Jvm\r\nü" + "x" * 500, 1e300, language="%s%n" + "y" * 99,
               policy_state="\x1b[5m" + "z" * 99, uptime_ms=1e300, cpu_us=1e300),
            5, None, [], vm("vm_good", 7), level="\x1b[7m" * 40, state="%n", psi_some_avg10=1e308,
        )
        terminal = self.top(self.daemon({"memory.stats": answer(bad)}))
        screen = terminal.wait_for(r"^\?\]0;x\?\?\[2Jvm\?\?")
        self.assertRegex(screen, r"(?m)^vm_good +python ")
        self.assertRegex(screen, r"^Host +\?\[7m\?")
        self.assertLessEqual(max(map(len, screen.splitlines())), 120)
        self.assertEqual(len(re.findall(r"^VM ", screen, re.M)), 1)

    def test_silent_daemon(self):
        """A daemon that does not answer is said."""
        terminal = self.terminal(self.daemon({"memory.stats": lambda connection, request: None}))
        terminal.type(f"{CTL} top -i 0.25")
        terminal.wait_for(r"^The daemon does not answer")
        terminal.keys("q")
        terminal.wait_for(re.escape("ready$"))


if __name__ == "__main__":
    program = unittest.main(exit=False)
    bad = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - bad} passed, {bad} failed")
    sys.exit(bad != 0)
