#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes the README's picture of `execsandboxctl top` from a running daemon, as an admin.

    EXECSANDBOX_SOCKET=build/run/execsandbox.sock docs/gen/top_picture.py > docs/top.svg

Starts programs that hold memory or compute, gives the daemon a budget that is a little small for them, squeezes one VM by key, and
draws what is then in the terminal. The budget is taken back at the end. Needs tmux.
"""

import html
import itertools
import os
import re
import signal
import subprocess
import sys

TREE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
sys.path.insert(0, os.path.join(TREE, "tests/acceptance/ctl"))
from tmux import Terminal  # noqa: E402

CTL = os.path.join(TREE, "build/ctl/execsandboxctl")
COLUMNS, LINES = 118, 17
BUDGET_MB = 720

HOLD = """
import time
block = b"".join(i.to_bytes(8, "little") * 32 for i in range({mib} << 12))
print("ready", flush=True)
time.sleep(600)
"""
COMPUTE_PYTHON = "print('ready', flush=True)\nn = 0\nwhile True:\n    n += 1\n"
COMPUTE_JAVASCRIPT = "console.log('ready'); for (let n = 0;; n++);"
WAIT_SHELL = "echo ready; while :; do sleep 0.2; done"
PROGRAMS = (
    ("python", HOLD.format(mib=120)), ("python", HOLD.format(mib=60)), ("python", HOLD.format(mib=30)),
    ("python", COMPUTE_PYTHON), ("javascript", COMPUTE_JAVASCRIPT), ("shell", WAIT_SHELL),
)

# --- The terminal's text ---

PLAIN, BACKGROUND = "#d4d7dd", "#16181d"
PALETTE = ("#5c6370", "#e5646e", "#8cc570", "#e0b45c", "#62aeef", "#c678dd", "#56b6c2", "#d4d7dd")
SIZE, CELL_WIDTH, CELL_HEIGHT, MARGIN = 14, 8.43, 19, 16
EIGHTHS = "▁▂▃▄▅▆▇█"
BLOCKS = EIGHTHS + "░"


def apply(style, codes):
    """A copy of the style after the codes of one escape sequence (SGR)."""
    style = dict(style)
    for code in map(int, codes.split(";") if codes else ["0"]):
        if code == 0:
            style = {}
        elif code in (1, 2, 4, 7):
            style[code] = True
        elif code in (22, 24, 27):
            for gone in {22: (1, 2), 24: (4,), 27: (7,)}[code]:
                style.pop(gone, None)
        elif 30 <= code <= 37:
            style["colour"] = PALETTE[code - 30]
        elif code == 39:
            style.pop("colour", None)
    return style


def cells(screen):
    """Per line a list of (character, style)."""
    style = {}
    for line in screen.rstrip("\n").split("\n"):
        row = []
        for part in re.split(r"(\x1b\[[\d;]*m|\x1b\(B|\x0f|\x0e)", line):
            if part.startswith("\x1b["):
                style = apply(style, part[2:-1])
            elif not part.startswith(("\x1b", "\x0f", "\x0e")):
                row += [(character, style) for character in part]
        yield row


# --- The picture ---


def rectangle(x, y, width, height, colour, opacity=1.0):
    faint = f' fill-opacity="{opacity}"' if opacity < 1 else ""
    return f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{colour}"{faint}/>'


def draw_blocks(text, x, y, colour):
    """Runs of one block character; fonts leave gaps between them, rectangles do not."""
    kind, height = text[0], CELL_HEIGHT - 5
    share = (EIGHTHS.index(kind) + 1) / 8 if kind in EIGHTHS else 1
    opacity = 0.3 if kind == "░" else 1
    return rectangle(x, y + 2 + height * (1 - share), len(text) * CELL_WIDTH, height * share, colour, opacity)


def draw_text(text, x, y, colour, style):
    bold = ' font-weight="bold"' if style.get(1) else ""
    dim = ' fill-opacity="0.6"' if style.get(2) and not style.get(7) else ""
    line = ' text-decoration="underline"' if style.get(4) else ""
    lead = len(text) - len(text.lstrip(" "))
    word = text.strip(" ")
    return (f'<text x="{x + lead * CELL_WIDTH:.2f}" y="{y + SIZE:.2f}" textLength="{len(word) * CELL_WIDTH:.2f}" '
            f'fill="{colour}"{bold}{dim}{line}>{html.escape(word)}</text>')


def draw_piece(text, x, y, style):
    colour = BACKGROUND if style.get(7) else style.get("colour", PLAIN)
    if text[0] in BLOCKS:
        yield draw_blocks(text, x, y, colour)
    elif text.strip(" "):
        yield draw_text(text, x, y, colour, style)


def draw_line(row, y):
    """Cells of one style; blocks by their kind, words that stand two blanks apart each for itself."""
    x = MARGIN
    for (_, kind), group in itertools.groupby(row, lambda cell: (cell[1], cell[0] if cell[0] in BLOCKS else "")):
        group = list(group)
        text, style = "".join(character for character, _ in group), group[0][1]
        if style.get(7):
            yield rectangle(x, y, len(text) * CELL_WIDTH, CELL_HEIGHT, style.get("colour", PLAIN))
        for piece in [text] if kind else re.findall(r"(?:\S| (?! ))+|  +", text):
            yield from draw_piece(piece, x, y, style)
            x += len(piece) * CELL_WIDTH


def draw(screen):
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, LINES * CELL_HEIGHT + 2 * MARGIN
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
             f'font-family="ui-monospace, \'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="{SIZE}">',
             "<title>execsandboxctl top</title>",
             f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="{BACKGROUND}"/>']
    for number, row in enumerate(cells(screen)):
        parts += draw_line(row, MARGIN + number * CELL_HEIGHT)
    return "\n".join(parts) + "\n</svg>\n"


# --- What is shown ---


def start(language, code):
    """A run that has said that it is ready."""
    run = subprocess.Popen([CTL, "run", "-l", language, "-t", "600", "-c", code], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE)
    if run.stdout.readline() != b"ready\n":
        raise RuntimeError(f"the {language} program did not start")
    return run


def take_picture(terminal):
    terminal.type(f"exec {CTL} top -i 0.5")
    terminal.wait_for(r"^vm_\w+ +python +idle")
    terminal.wait_for(r"^In use +\S{25}")
    subprocess.run([CTL, "memory", "policy", f"budget_mb={BUDGET_MB}"], check=True, stdout=subprocess.DEVNULL)
    terminal.wait_for(r"^In use +\S{60}")
    terminal.keys("s", *["BSpace"] * 4, *"112", "Enter")
    terminal.wait_for(r"^vm_\w+ +python +\w+! +256M +\w+ +112M +11\dM")
    return terminal.text(has_escapes=True)


def main():
    runs, terminal = [], Terminal(dict(os.environ), COLUMNS, LINES)
    try:
        for program in PROGRAMS:
            runs.append(start(*program))
        sys.stdout.write(draw(take_picture(terminal)))
    finally:
        terminal.close()
        for run in runs:
            run.send_signal(signal.SIGINT)
            run.communicate()
        subprocess.run([CTL, "memory", "policy", "budget_mb=0"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
