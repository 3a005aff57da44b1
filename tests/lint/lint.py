#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what the compiler does not: who includes whom, banned calls, file heads, sizes, format.

Every check is a function that yields findings for one file; `make lint` runs them over all files of
the working tree that git does not ignore. Errors end the run with status 1, warnings (sizes) are
only shown. C is read as clang-format leaves it: a function body is what stands between a `{` and a
`}` in the first column.
"""
import argparse
import ast
import collections
import os
import re
import shutil
import subprocess
import sys

SPDX = "SPDX-License-Identifier: Apache-2.0"

# What a folder may include besides itself (docs/ARCHITECTURE.md). Folders of one level do not
# include each other.
BASE = ["base", "protocol"]
LOW = BASE + ["conf"]
HOST = LOW + ["daemon/launcher"]
MIDDLE = HOST + ["daemon/vm", "daemon/rpc"]
STORES = MIDDLE + ["daemon/template", "daemon/pool"]
WORK = STORES + ["daemon/session", "daemon/memory"]
MAY_INCLUDE = {
    "base": [],
    "protocol": [],
    "conf": BASE,
    "daemon/launcher": LOW,
    "daemon/vm": HOST,
    "daemon/rpc": LOW,
    "daemon/template": MIDDLE,
    "daemon/pool": MIDDLE + ["daemon/template"],
    "daemon/session": STORES,
    "daemon/memory": STORES,
    "daemon/method": WORK,
    "daemon": WORK + ["daemon/method"],
    "ctl": LOW,
    "guest-agent": BASE,
    "docs": LOW,
}
EXCEPTIONS = {
    "protocol": ["base/util.h", "base/log.h"],
    "daemon/method": ["daemon/daemon.h"],  # handlers get the daemon as their context
}
INCLUDES_ALL = ["tests"]

# Tests may use them on buffers of their own making: they run with AddressSanitizer.
UNBOUNDED_CALLS = {
    "strcpy": "knows no size",
    "strcat": "knows no size",
    "sprintf": "knows no size: snprintf",
    "vsprintf": "knows no size: vsnprintf",
}
BANNED_CALLS = {
    "gets": "knows no size",
    "strtok": "hidden state: strsep or strtok_r",
    "system": "a shell between us and the program",
    "popen": "a shell between us and the program",
    "alloca": "the stack has no error path",
    "atoi": "cannot say that it failed: strtol",
    "atol": "cannot say that it failed: strtol",
    "atof": "cannot say that it failed: strtod",
    "tmpnam": "a race: mkstemp",
    "mktemp": "a race: mkstemp",
    "sleep": "wait for a condition with a deadline",
    "usleep": "wait for a condition with a deadline",
}

# Warnings from these sizes on (docs/STYLE.md, "Shape").
FUNCTION_LINES, FILE_LINES, HEADER_LINES = 60, 600, 150

Finding = collections.namedtuple("Finding", "path line check text is_error")


def error(path, line, check, text):
    return Finding(path, line, check, text, True)


def warning(path, line, check, text):
    return Finding(path, line, check, text, False)


def folder_of(path, known):
    """The longest known folder that holds `path`, or None."""
    folder = os.path.dirname(path)
    while folder and folder not in known:
        folder = os.path.dirname(folder)
    return folder or None


def blank_out(text):
    """C text with comments, strings and character constants blanked, line breaks kept."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return token.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def project_includes(text):
    """(line number, path) of the #include "…" lines; comments do not count."""
    code = re.sub(r"/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match.group()), text, flags=re.S)
    for number, line in enumerate(code.split("\n"), 1):
        match = re.match(r'\s*#\s*include\s*"([^"]*)"', line)
        if match:
            yield number, match.group(1)


def check_include_direction(path, text):
    if path.split("/")[0] in INCLUDES_ALL:
        return
    home = folder_of(path, MAY_INCLUDE)
    if home is None:
        yield error(path, 1, "include", "no rule says what this folder may include: add one here")
        return
    for number, included in project_includes(text):
        target = folder_of(included, MAY_INCLUDE)
        if target is None:
            yield error(path, number, "include", f"'{included}' is not a full path of this project")
        elif target != home and target not in MAY_INCLUDE[home]:
            if included not in EXCEPTIONS.get(home, []):
                yield error(path, number, "include", f"{home} must not include {target}")


def check_include_order(path, text):
    """The own header first; each block of lines in ASCII order."""
    lines = [(number, match.group(1)) for number, line in enumerate(text.split("\n"), 1)
             if (match := re.match(r'#include ([<"].*[>"])', line))]
    if path.endswith(".c") and lines and os.path.exists(path[:-2] + ".h"):
        own = f'"{path[:-2]}.h"'
        if lines[0][1] != own:
            yield error(path, lines[0][0], "include", f"the own header {own} comes first")
    for (above, before), (number, name) in zip(lines, lines[1:]):
        if number == above + 1 and name < before:
            yield error(path, number, "include", f"{name} comes before {before} in ASCII order")


def check_include_guard(path, text):
    if not path.endswith(".h"):
        return
    guard = re.sub(r"[^A-Z0-9]", "_", path.upper())
    found = re.search(r"^#ifndef (\w+)\n#define (\w+)\n", text, re.M)
    if not found or found.group(1) != guard or found.group(2) != guard:
        yield error(path, 1, "guard", f"the include guard is {guard}")
    elif not text.endswith("#endif\n"):
        yield error(path, text.count("\n"), "guard", "text behind the include guard's #endif")


def check_banned_calls(path, text):
    banned = dict(BANNED_CALLS)
    if path.startswith("tests/"):
        # A test may compare with what a command of the host prints; its words are constants.
        del banned["popen"]
    else:
        banned.update(UNBOUNDED_CALLS)
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(banned) + r")\s*\(")
    for number, line in enumerate(blank_out(text).split("\n"), 1):
        for match in pattern.finditer(line):
            yield error(path, number, "banned", f"{match.group(1)}(): {banned[match.group(1)]}")


def check_sizes(path, text):
    lines = text.split("\n")
    limit = HEADER_LINES if path.endswith(".h") else FILE_LINES
    if len(lines) - 1 > limit:
        yield warning(path, 1, "size", f"{len(lines) - 1} lines, wished at most {limit}")
    for number, name, length in functions(lines):
        if length > FUNCTION_LINES:
            yield warning(path, number, "size", f"{name}: {length} lines, wished at most {FUNCTION_LINES}")


def functions(lines):
    """(line, name, lines) of every function, signature included."""
    start = None
    for index, line in enumerate(lines):
        if line == "{" and start is None:
            start = index
            while start > 0 and lines[start - 1] and lines[start - 1][0] not in "}/#*":
                start -= 1
        elif line == "}" and start is not None:
            signature = " ".join(lines[start:index])
            name = re.search(r"(\w+)\s*\(", signature)
            yield start + 1, name.group(1) if name else "?", index - start + 1
            start = None


def check_head(path, text):
    """The licence first, behind the interpreter's line; then a purpose for C."""
    lines = text.split("\n")
    first = 1 if lines[0].startswith("#!") else 0
    if len(lines) <= first or SPDX not in lines[first]:
        yield error(path, first + 1, "head", f"'{SPDX}' is missing here")
    elif path.endswith((".c", ".h")) and not lines[first + 1].startswith("/*"):
        yield error(path, first + 2, "head", "a sentence of purpose is missing here")


def check_marks(path, text):
    pattern = re.compile(r"\b(" + "TO" + "DO|" + "FIX" + r"ME)\b")
    for number, line in enumerate(text.split("\n"), 1):
        if pattern.search(line):
            yield error(path, number, "mark", "unfinished work does not land")


def check_python(path, text):
    try:
        ast.parse(text)
    except SyntaxError as problem:
        yield error(path, problem.lineno or 1, "python", str(problem.msg))


C_CHECKS = [check_include_direction, check_include_order, check_include_guard, check_banned_calls,
            check_sizes, check_head, check_marks]


def checks_for(path, text):
    first = text.split("\n", 1)[0]
    if path.endswith((".c", ".h")):
        return C_CHECKS
    if path.endswith(".py") or (first.startswith("#!") and "python" in first):
        return [check_head, check_marks, check_python]
    if path.endswith((".sh", ".js", "Makefile", "Makefile.inc")) or first.startswith("#!"):
        return [check_head, check_marks]
    return [check_marks]


def lint_text(path, text):
    return [finding for check in checks_for(path, text) for finding in check(path, text)]


def tree_files():
    """Files of the working tree that git tracks or would track."""
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            check=True, stdout=subprocess.PIPE).stdout.decode()
    return sorted({name for name in listed.split("\0") if name and os.path.isfile(name)})


def read_text(path):
    """The file as text; None for one that is not (fuzz corpora hold arbitrary bytes)."""
    if path.startswith("tests/fuzz/corpus/"):
        return None
    with open(path, "rb") as file:
        try:
            return file.read().decode()
        except UnicodeDecodeError:
            return None


def run_tool(command, files, check):
    """Findings of an outside tool: each line it prints about a file. None when it is missing."""
    if not shutil.which(command[0]):
        return None
    if not files:
        return []
    done = subprocess.run(command + files, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = []
    for line in done.stdout.split("\n"):
        match = re.match(r"([^:\s]+):(\d+):(?:\d+:)? (.*)", line)
        if match:
            found.append(error(match.group(1), int(match.group(2)), check, match.group(3)))
    if done.returncode and not found:
        found.append(error(command[0], 0, check, f"ended with {done.returncode}: {done.stdout.strip()}"))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--strict", action="store_true", help="a tool that is missing is an error")
    parser.add_argument("--quiet", action="store_true", help="do not show warnings")
    options = parser.parse_args()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

    texts = {path: text for path in tree_files() if (text := read_text(path)) is not None}
    findings = [finding for path, text in texts.items() for finding in lint_text(path, text)]
    c_files = [path for path in texts if path.endswith((".c", ".h"))]
    scripts = [path for path, text in texts.items() if re.match(r"#!.*\b(sh|bash|dash)\b", text)]
    missing = []
    for command, files, check in [
            (["clang-format", "--dry-run", "--Werror"], c_files, "format"),
            (["shellcheck", "-x", "-P", "SCRIPTDIR", "-f", "gcc", "-S", "warning",
              "-e", "SC1007"], scripts, "shell")]:
        found = run_tool(command, files, check)
        if found is None:
            missing.append(command[0])
        findings += found or []

    errors = [finding for finding in findings if finding.is_error]
    warnings = [finding for finding in findings if not finding.is_error]
    for finding in errors + ([] if options.quiet else warnings):
        kind = "error" if finding.is_error else "warning"
        print(f"{finding.path}:{finding.line}: {kind}: {finding.text} [{finding.check}]")
    for tool in missing:
        print(f"lint: {'error' if options.strict else 'not checked'}: {tool} is not installed")
    print(f"lint: {len(errors)} errors, {len(warnings)} warnings in {len(texts)} files "
          f"({len(c_files)} C, {len(scripts)} shell)")
    bad = {finding.path for finding in errors}
    print(f"lint: {len(texts) - len(bad.intersection(texts))} passed, {len(bad)} failed")
    return 1 if errors or (options.strict and missing) else 0


if __name__ == "__main__":
    sys.exit(main())
