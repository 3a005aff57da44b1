#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws what the simulator wrote: memory, overcommit and target changes over time, one SVG each per scenario.

    plot_sim.py sim.csv DIR
"""
import csv
import math
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
from plot import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, line, text, y_step  # noqa: E402

X_STEP = 300
FIGURES = (
    ("memory", "memory in use", "GiB", "in_use_gib"),
    ("overcommit", "overcommit: sizes of the VMs that are served / memory in use", "times", "overcommit"),
    ("targets", "changes of balloon targets", "in 10 s", "moves"),
)


def draw_over_time(title, y_title, series):
    """Line plot with a linear x axis in seconds. `series`: (name, [(x, y)])."""
    points = [point for _, one in series for point in one]
    last = max(x for x, _ in points)
    highest = max(max(y for _, y in points), 1e-9)
    step = y_step(highest)
    top = math.ceil(highest / step) * step
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(x, y):
        return LEFT + (right - LEFT) * x / last, bottom - (bottom - TOP) * y / top

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', text(LEFT, 26, title, "start", 16)]
    for x in range(0, int(last) + 1, X_STEP):
        parts += [line(at(x, 0)[0], TOP, at(x, 0)[0], bottom), text(at(x, 0)[0], bottom + 18, f"{x:g}")]
    for number in range(round(top / step) + 1):
        y = at(0, number * step)[1]
        parts += [line(LEFT, y, right, y), text(LEFT - 8, y + 4, f"{number * step:g}", "end")]
    parts += [text((LEFT + right) / 2, HEIGHT - 16, "seconds"), text(LEFT, TOP - 8, y_title, "start", 12)]
    for number, (name, one) in enumerate(series):
        colour, y = COLOURS[number % len(COLOURS)], TOP + 22 * number + 10
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in one))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<rect x="{right + 16}" y="{y - 8}" width="14" height="10" fill="{colour}"/>')
        parts.append(text(right + 36, y + 1, name, "start", 12))
    return "\n".join(parts) + "\n</svg>\n"


def series_of(rows, column):
    found = {}
    for row in rows:
        found.setdefault(row["regime"], []).append((float(row["second"]), float(row[column])))
    if column == "in_use_gib":
        found["managed"] = [(float(row["second"]), float(row["managed_gib"])) for row in rows if row["regime"] == "policy"]
    return list(found.items())


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        chosen = [row for row in rows if row["scenario"] == scenario]
        for name, title, unit, column in FIGURES:
            path = os.path.join(target, f"{scenario}-{name}.svg")
            with open(path, "w", encoding="utf-8") as file:
                file.write(draw_over_time(f"{scenario}: {title}", unit, series_of(chosen, column)))
            print(path)


if __name__ == "__main__":
    main()
