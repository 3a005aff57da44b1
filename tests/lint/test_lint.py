#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each check of the lint finds its fault and leaves the good text alone."""
import sys
import unittest

import lint

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* Purpose. */\n"


def found(path, text):
    return [(finding.line, finding.check) for finding in lint.lint_text(path, text)]


class IncludeTest(unittest.TestCase):
    def test_downwards(self):
        self.assertEqual(found("daemon/pool/x.c", HEAD + '#include "daemon/vm/vm.h"\n'), [])

    def test_upwards(self):
        self.assertEqual(found("daemon/vm/x.c", HEAD + '#include "daemon/pool/pool.h"\n'),
                         [(3, "include")])

    def test_sideways(self):
        self.assertEqual(found("daemon/vm/x.c", HEAD + '#include "daemon/rpc/call.h"\n'),
                         [(3, "include")])

    def test_into_the_tests(self):
        self.assertEqual(found("base/x.c", HEAD + '#include "tests/fake/wait.h"\n'), [(3, "include")])

    def test_ctl_knows_no_daemon(self):
        self.assertEqual(found("ctl/x.c", HEAD + '#include "daemon/vm/vm.h"\n'), [(3, "include")])

    def test_protocol_exception(self):
        self.assertEqual(found("protocol/x.c", HEAD + '#include "base/util.h"\n'), [])
        self.assertEqual(found("protocol/x.c", HEAD + '#include "base/loop.h"\n'), [(3, "include")])

    def test_short_path(self):
        self.assertEqual(found("base/x.c", HEAD + '#include "util.h"\n'), [(3, "include")])

    def test_comment_is_no_include(self):
        self.assertEqual(found("base/x.c", HEAD + '/*\n#include "daemon/vm/vm.h"\n*/\n'), [])

    def test_own_header_first(self):
        text = HEAD + '#include "base/log.h"\n\n#include "base/loop.h"\n'
        self.assertEqual(found("base/loop.c", text), [(3, "include")])

    def test_order_in_a_block(self):
        self.assertEqual(found("ctl/x.c", HEAD + '#include "conf/file.h"\n#include "base/log.h"\n'),
                         [(4, "include")])
        self.assertEqual(found("ctl/x.c", HEAD + '#include "conf/file.h"\n\n#include "base/log.h"\n'),
                         [])


class GuardTest(unittest.TestCase):
    def guarded(self, name):
        return HEAD + f"#ifndef {name}\n#define {name}\n#endif\n"

    def test_by_path(self):
        self.assertEqual(found("guest-agent/x.h", self.guarded("GUEST_AGENT_X_H")), [])

    def test_other_name(self):
        self.assertEqual(found("guest-agent/x.h", self.guarded("X_H")), [(1, "guard")])

    def test_text_behind(self):
        self.assertEqual(found("base/x.h", self.guarded("BASE_X_H") + "int x;\n"), [(6, "guard")])


class CallTest(unittest.TestCase):
    def test_banned(self):
        self.assertEqual(found("base/x.c", HEAD + "\tstrcpy(a, b);\n"), [(3, "banned")])
        self.assertEqual(found("tests/x.c", HEAD + "\tsleep(1);\n"), [(3, "banned")])

    def test_word_boundaries(self):
        text = HEAD + "\tget_system(a);\n\tloop->sleep(b);\n\tfnstrcpy(c);\n"
        self.assertEqual(found("base/x.c", text), [])

    def test_comments_and_strings(self):
        text = HEAD + '/* strcpy(a) */\n\tputs("system(\\"x\\")"); // popen()\n'
        self.assertEqual(found("base/x.c", text), [])


class FileTest(unittest.TestCase):
    def test_head(self):
        self.assertEqual(found("base/x.c", "/* Purpose. */\n"), [(1, "head")])
        self.assertEqual(found("base/x.c", HEAD.split("\n")[0] + "\n\nint x;\n"), [(2, "head")])
        self.assertEqual(found("images/x", "#!/bin/sh\n" + "# SPDX-License-Identifier: Apache-2.0\n"), [])
        self.assertEqual(found("images/x", "#!/bin/sh\nset -e\n"), [(2, "head")])

    def test_marks(self):
        self.assertEqual(found("README.md", "a\nTO" + "DO: b\n"), [(2, "mark")])
        self.assertEqual(found("README.md", "TODOS\n"), [])

    def test_python(self):
        self.assertEqual(found("tests/x.py", "# SPDX-License-Identifier: Apache-2.0\nif:\n"),
                         [(2, "python")])


class SizeTest(unittest.TestCase):
    def function(self, lines):
        return HEAD + "static int big(int a)\n{\n" + "\ta++;\n" * (lines - 3) + "}\n"

    def test_function(self):
        self.assertEqual(found("base/x.c", self.function(lint.FUNCTION_LINES)), [])
        long = lint.lint_text("base/x.c", self.function(lint.FUNCTION_LINES + 1))
        self.assertEqual([(one.line, one.is_error, "big" in one.text) for one in long],
                         [(3, False, True)])

    def test_file(self):
        self.assertEqual(found("base/x.c", HEAD + "\n" * (lint.FILE_LINES - 1)), [(1, "size")])


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    bad = len(result.failures) + len(result.errors)
    print(f"selftest: {result.testsRun - bad} passed, {bad} failed")
    sys.exit(1 if bad or not result.testsRun else 0)
