# SPDX-License-Identifier: Apache-2.0
"""A shell in a terminal of its own, by a tmux server of its own."""

import os
import re
import subprocess
import tempfile
import time

DEADLINE = 20
PROMPT = "ready$ "


class Terminal:
    """`columns` x `lines` with bash at its prompt; close() ends it and all that runs in it."""

    def __init__(self, environment, columns=120, lines=30):
        self.directory = tempfile.TemporaryDirectory(prefix="terminal-")
        self.environment = {
            name: value for name, value in environment.items() if not name.startswith("TMUX")
        }
        self.environment.update(TERM="xterm-256color")
        self.environment.setdefault("LC_ALL", "C.UTF-8")
        config = os.path.join(self.directory.name, "tmux.conf")
        with open(config, "w", encoding="utf-8") as stream:
            # All lines are the program's, and nothing waits for more keys behind Escape.
            stream.write("set -g status off\nset -g escape-time 0\n")
        self._tmux("-f", config, "new-session", "-d", "-x", str(columns), "-y", str(lines),
                   "env", f"PS1={PROMPT}", "bash", "--norc", "--noprofile")
        try:
            self.wait_for(re.escape(PROMPT.strip()))
        except AssertionError:
            self.close()
            raise

    def _tmux(self, *words):
        return subprocess.run(
            ["tmux", "-u", "-S", os.path.join(self.directory.name, "socket"), *words],
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DEADLINE, check=True, encoding="utf-8",
        ).stdout

    def keys(self, *names):
        """Presses keys by tmux's names (Enter, C-c, …)."""
        self._tmux("send-keys", *names)

    def type(self, text):
        """A command line and Enter."""
        self._tmux("send-keys", "-l", text)
        self.keys("Enter")

    def resize(self, columns, lines):
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def text(self, has_escapes=False):
        """What is on the screen; with its colours as escape sequences."""
        return self._tmux("capture-pane", "-p", *(["-e"] if has_escapes else []))

    def wait_until(self, condition, what):
        """Waits until condition(screen); returns the screen."""
        stop = time.monotonic() + DEADLINE
        while not condition(shown := self.text()):
            if time.monotonic() > stop:
                raise AssertionError(f"{what} is not there; the screen:\n{shown}")
            time.sleep(0.05)
        return shown

    def wait_for(self, pattern):
        """Waits until a regular expression matches in the screen; returns the screen."""
        return self.wait_until(re.compile(pattern, re.M).search, f"'{pattern}'")

    def close(self):
        try:
            self._tmux("kill-server")
        finally:
            self.directory.cleanup()
