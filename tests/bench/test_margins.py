#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of margins.py: the table of docs/SPECIFICATION.md is read, and what is beyond it fails."""
import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import bench  # noqa: E402  (the path is set above)
import margins  # noqa: E402

HEAD = f"| {' | '.join(margins.COLUMNS)} |\n|---|---|---|---|---|---|---|\n"


def margin(fails_at, row="starts", key="S8"):
    text = HEAD + f"| {key} | starts soon | 5 ms | 3 ms | `make bench BENCH_ONLY=S8` | {fails_at} | {row} |\n"
    return margins.margins(text)[0]


def row(what="starts", subject="**execsandbox**", key="S8", **more):
    return {"key": key, "what": what, "subject": subject, **more}


class Margins(unittest.TestCase):
    def judge(self, one, *rows):
        return one.judge(rows)[0]

    def test_over_and_under(self):
        for fails_at, value, holds in (("p50 > 10 ms", 9.9, True), ("p50 > 10 ms", 10.1, False), ("p50 < 10 ms", 9.9, False),
                                       ("p50 < 10 ms", 10.1, True), ("p50 > 1,000 ms", 999, True), ("p50 > 1,000 ms", 1001, False)):
            with self.subTest(fails_at=fails_at, value=value):
                self.assertEqual(self.judge(margin(fails_at), row(p50=value, unit="ms")), holds)

    def test_words(self):
        one = margin("value is not 0 of 12; 0")
        self.assertTrue(self.judge(one, row(value="0 of 12; 0", unit="")))
        self.assertFalse(self.judge(one, row(value="1 of 12; 0", unit="")))

    def test_numbers_as_text(self):
        self.assertTrue(self.judge(margin("value < 1,000"), row(value="1000", unit="")))
        self.assertFalse(self.judge(margin("value < 1,000"), row(value="999", unit="")))

    def test_another_unit_fails(self):
        self.assertFalse(self.judge(margin("p50 > 10 s"), row(p50=9, unit="ms")))

    def test_not_measured_fails(self):
        one = margin("p50 > 10 ms")
        self.assertFalse(self.judge(one))
        self.assertFalse(self.judge(one, row(key="S9", p50=1, unit="ms")))
        self.assertFalse(self.judge(one, row(what="starts, the first", p50=1, unit="ms")))
        self.assertFalse(self.judge(one, row(missing="runc is not installed")))
        self.assertFalse(self.judge(one, row(value=1, unit="ms")))

    def test_any_of_several_fails(self):
        self.assertFalse(self.judge(margin("p50 > 10 ms"), row(p50=9, unit="ms"), row(p50=11, unit="ms")))

    def test_text_and_subject(self):
        one = margin("p50 > 10 ms", "…of it, … ends @ own")
        self.assertTrue(self.judge(one, row("10 of it, and ends", "own, alone", p50=9, unit="ms"),
                                   row("10 of it, and ends", "other", p50=11, unit="ms")))

    def test_malformed(self):
        for fails_at in ("slow", "p50 > fast", "p75 > 10 ms", ""):
            with self.subTest(fails_at=fails_at), self.assertRaises(margins.Malformed):
                margin(fails_at)
        with self.assertRaises(margins.Malformed):
            margins.table("no table\n")
        with self.assertRaises(margins.Malformed):
            margins.table(HEAD + "| S1 | too | few |\n")


class Specification(unittest.TestCase):
    """The document itself: each row can be checked, or names what else fails."""

    def setUp(self):
        with open(os.path.join(HERE, "..", "..", "docs", "SPECIFICATION.md"), encoding="utf-8") as file:
            self.text = file.read()

    def test_rows(self):
        self.assertGreater(len(margins.margins(self.text)), 30)

    def test_groups_exist(self):
        for cells in margins.table(self.text):
            with self.subTest(promise=cells["promise"]):
                if cells["row"] == "-":
                    self.assertIsNone(margins.group_of(cells))
                else:
                    self.assertIn(margins.group_of(cells), bench.GROUPS)

    def test_every_goal_is_told(self):
        """Of speed, memory and reliability, promised or not: none is left out."""
        told = {line.split("|")[1].strip() for line in self.text.splitlines() if line.startswith("| ")}
        goals = {f"{kind}{number}" for kind, last in (("S", 9), ("M", 9), ("R", 10)) for number in range(1, last + 1)}
        self.assertEqual(goals - told, set())


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(bool(failed))
