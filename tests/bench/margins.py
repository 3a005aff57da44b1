#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares what was measured with what is promised: build/bench.json with the margins in docs/SPECIFICATION.md.

    tests/bench/margins.py [--bench FILE] [--specification FILE] [--only GROUP,…]

The table of the document is the only place where margins are. A promised row that the bench has not measured is a
failure, unless --only names groups of the bench without it. The closing line is "N passed, N failed".
"""
import argparse
import json
import os
import re
import sys

CONDITION = re.compile(r"(p50|p90|p99|value) (>|<|is not) (.+)")
NUMBER = re.compile(r"([\d,.]+) ?(.*)")
COLUMNS = ("id", "promise", "goal", "figure", "shown by", "fails at", "row")


class Malformed(ValueError):
    """A row of the document that cannot be checked."""


class Margin:
    """One row: which row of the bench, which figure of it, and what it must not be."""

    def __init__(self, cells):
        self.key, self.promise = cells["id"], cells["promise"]
        found = CONDITION.fullmatch(cells["fails at"])
        if not found:
            raise Malformed(f"{self.key}: '{cells['fails at']}' is no condition such as 'p50 > 10 ms'")
        self.statistic, self.sign, bound = found.groups()
        self.bound, self.unit = (bound, None) if self.sign == "is not" else self.split(bound)
        self.what, _, self.subject = (part.strip() for part in cells["row"].partition(" @ "))

    def split(self, text):
        found = NUMBER.fullmatch(text)
        if not found:
            raise Malformed(f"{self.key}: '{text}' is no number with a unit")
        return float(found[1].replace(",", "")), found[2]

    def fits(self, row):
        """Its text, of which '…' stands for any, and a part of its subject."""
        pattern = ".*".join(re.escape(part) for part in self.what.split("…"))
        return row["key"] == self.key and self.subject in row["subject"] and re.fullmatch(pattern, row["what"]) is not None

    def judge(self, rows):
        """(whether it holds, what was found)."""
        found = [row for row in rows if self.fits(row)]
        if not found:
            return False, f"not measured: '{self.what}'"
        problems, said = [], []
        for row in found:
            holds, text = self.holds(row)
            said.append(text)
            if not holds:
                problems.append(text)
        return not problems, "; ".join(problems or said)

    def holds(self, row):
        if "missing" in row:
            return False, f"n/a: {row['missing']}"
        if self.statistic not in row:
            return False, f"has no {self.statistic}"
        value = row[self.statistic]
        if self.sign == "is not":
            return str(value) == self.bound, f"{value}, wanted {self.bound}"
        number = float(str(value).replace(",", ""))
        if row.get("unit", "") != self.unit and self.unit:
            return False, f"is in '{row.get('unit', '')}', not in '{self.unit}'"
        is_over = number > self.bound if self.sign == ">" else number < self.bound
        return not is_over, f"{self.statistic} {number:.3g} {self.unit}, fails at {self.sign} {self.bound:g}"


def table(text):
    """The rows under 'Promised', as dictionaries."""
    rows, is_inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else None
        if cells and tuple(cells) == COLUMNS:
            is_inside = True
        elif is_inside and cells is None:
            break
        elif is_inside and not line.startswith("|---"):
            if len(cells) != len(COLUMNS):
                raise Malformed(f"a row of {len(cells)} cells: {line}")
            rows.append(dict(zip(COLUMNS, cells)))
    if not rows:
        raise Malformed("the document has no table of promises")
    return rows


def group_of(cells):
    found = re.search(r"BENCH_ONLY=(\w+)", cells["shown by"])
    return found[1] if found else None


def margins(text, only=None):
    """Those that the bench shows; of these groups, if any are named."""
    return [Margin(cells) for cells in table(text) if cells["row"] != "-" and (not only or group_of(cells) in only)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", default="build/bench.json")
    parser.add_argument("--specification", default="docs/SPECIFICATION.md")
    parser.add_argument("--only", help="groups of the bench, with commas")
    options = parser.parse_args()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    with open(options.specification, encoding="utf-8") as file:
        wanted = margins(file.read(), options.only.split(",") if options.only else None)
    with open(options.bench, encoding="utf-8") as file:
        rows = [row for group in json.load(file)["groups"].values() for row in group["rows"]]
    failed = 0
    for margin in wanted:
        holds, text = margin.judge(rows)
        failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {margin.key:3} {margin.promise}: {text}")
    print(f"{len(wanted) - failed} passed, {failed} failed")
    return 1 if failed or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
