# SPDX-License-Identifier: Apache-2.0
"""Every example prints what the README says it prints."""

import glob
import os
import re
import subprocess
import sys
import unittest

CLIENT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))


class Examples(unittest.TestCase):
    def test_output(self):
        with open(os.path.join(CLIENT, "README.md"), encoding="utf-8") as readme:
            blocks = re.findall(r"^\$ python3 (examples/\w+\.py)\n(.*?)(?=^\$ |^```)", readme.read(), re.M | re.S)
        told = dict(blocks)
        examples = [os.path.relpath(path, CLIENT) for path in glob.glob(f"{CLIENT}/examples/*.py")]
        self.assertEqual(sorted(told), sorted(examples))
        for example in examples:
            with self.subTest(example=example):
                done = subprocess.run([sys.executable, "-B", example], cwd=CLIENT, capture_output=True, text=True,
                                      timeout=120, env=dict(os.environ, PYTHONPATH=CLIENT))
                self.assertEqual((done.stdout, done.stderr, done.returncode), (told[example], "", 0))
