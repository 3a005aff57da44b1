#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plays the acceptance suite against the daemon at EXECSANDBOX_SOCKET.

    tests/acceptance/suite.py [-j N] [-k TEXT]

N tests run at once (default 2), each in a VM or two of its own. Tests and classes marked exclusive
run alone, behind the others; tests/acceptance/test_leftovers.py is last. The closing line is
"N passed, N failed"; the exit status is 1 when anything failed. Skipped tests are named with their
reason and count as neither.
"""

import argparse
import concurrent.futures
import os
import sys
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True


class Result(unittest.TestResult):
    """Gathers the outcome of one test; a failed subtest fails its test."""

    def __init__(self):
        super().__init__()
        self.subtests = []

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.subtests.append((subtest, self._exc_info_to_string(err, test)))

    def problems(self):
        return self.errors + self.failures + self.subtests


class Report:
    """Prints outcomes as they come and counts them."""

    def __init__(self):
        self.lock = threading.Lock()
        self.passed = self.failed = self.skipped = 0

    def add(self, test, result, seconds):
        name = test.id().removeprefix("test_")
        with self.lock:
            if result.problems():
                self.failed += 1
                print(f"FAIL {name} ({seconds:.1f} s): {test.shortDescription()}")
                for problem, text in result.problems():
                    print(f"  in {problem}\n  " + text.rstrip().replace("\n", "\n  "))
            elif result.skipped:
                self.skipped += 1
                print(f"skip {name}: {result.skipped[0][1]}")
            else:
                self.passed += 1
                print(f"ok   {name} ({seconds:.1f} s): {test.shortDescription()}")
            sys.stdout.flush()


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def is_marked(test, mark):
    method = getattr(test, test._testMethodName, None)
    return getattr(test, mark, False) or getattr(method, mark, False)


def run_one(test, report):
    result = Result()
    begun = time.monotonic()
    test.run(result)
    report.add(test, result, time.monotonic() - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-j", type=int, default=2, metavar="N", help="tests at once")
    parser.add_argument("-k", default="", metavar="TEXT", help="only tests whose name has TEXT")
    options = parser.parse_args()
    if not os.environ.get("EXECSANDBOX_SOCKET"):
        sys.exit("EXECSANDBOX_SOCKET must name the socket of a running daemon")
    found = unittest.defaultTestLoader.discover(HERE, pattern="test_*.py", top_level_dir=HERE)
    tests = [test for test in flatten(found) if options.k in test.id()]
    last = [test for test in tests if is_marked(test, "is_last")]
    alone = [test for test in tests if is_marked(test, "is_exclusive") and test not in last]
    report = Report()
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        shared = [test for test in tests if test not in last and test not in alone]
        list(pool.map(lambda test: run_one(test, report), shared))
    for test in alone + last:
        run_one(test, report)
    if report.skipped:
        print(f"{report.skipped} skipped")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
