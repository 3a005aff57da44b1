#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the corpora reach of the sources that each fuzz harness is aimed at, as a table.

    tests/fuzz/coverage.py DIR [NAME…]     DIR holds cover_NAME, built by `make fuzz-coverage`

Each program is run over tests/fuzz/corpus/NAME, and over build/fuzz/corpus/NAME with FUZZ_FOUND=1. The functions
of an aimed-at source that no input has entered are named below the table: they are other callers'
business, or the next seed's. A source of which fewer lines are reached than its floor says is a failure: its inputs
are turned away at a door that was changed.
"""
import json
import os
import subprocess
import sys

# What a harness is there for; what else it passes through is not counted.
AIMS = {
    "config": ("conf/config.c", "conf/file.c", "conf/option.c", "conf/report.c"),
    "frames": ("protocol/frame.c", "protocol/message.c"),
    "guest_files": ("daemon/session/file_io.c", "daemon/session/file_request.c", "daemon/session/file_socket.c",
                    "daemon/session/run_files.c"),
    "guest_frames": ("daemon/vm/agent_link.c", "daemon/session/output.c", "daemon/session/result.c", "protocol/flow.c"),
    "guest_session": ("daemon/session/attach.c", "daemon/session/exec.c", "daemon/session/process.c", "daemon/session/process_input.c",
                      "daemon/session/process_wait.c", "daemon/session/processes.c", "daemon/session/results.c",
                      "daemon/session/ring.c", "daemon/session/session.c", "daemon/session/session_files.c",
                      "daemon/session/session_process.c", "daemon/session/session_programs.c",
                      "daemon/session/session_settings.c", "daemon/session/sessions.c"),
    "host_frames": ("guest-agent/agent.c", "guest-agent/exec.c", "guest-agent/input.c", "guest-agent/link.c",
                    "guest-agent/output.c", "guest-agent/receipt.c", "guest-agent/report.c"),
    "launcher": ("daemon/launcher/client.c", "daemon/launcher/launch.c", "daemon/launcher/message.c", "daemon/launcher/packet.c"),
    "manifest": ("daemon/template/manifest.c",),
    "method_params": ("daemon/session/bytes.c", "daemon/session/file_request.c", "daemon/session/request.c",
                      "daemon/session/run_files.c", "protocol/method.c", "protocol/rpc_error.c"),
    "qmp": ("daemon/vm/balloon.c", "daemon/vm/qmp.c"),
    "records": ("base/kept.c", "daemon/session/adoption.c", "daemon/session/exec_recall.c", "daemon/session/process_record.c",
                "daemon/session/request_record.c", "daemon/session/results_file.c", "daemon/session/ring.c",
                "daemon/session/ring_file.c", "daemon/session/run.c", "daemon/session/session_record.c", "daemon/session/stray.c", "daemon/vm/agent_link_resume.c",
                "daemon/vm/vm_record.c"),
    "rpc_line": ("daemon/rpc/batch.c", "daemon/rpc/call.c", "daemon/rpc/conn.c", "daemon/rpc/dispatch.c", "daemon/rpc/events.c",
                 "daemon/rpc/wire.c", "protocol/utf8.c"),
}

# Per cent of lines; and where the rest is other callers' business.
FLOOR = 60
FLOORS = {"conf/config.c": 25, "daemon/rpc/conn.c": 45, "daemon/session/file_request.c": 50, "daemon/session/output.c": 30,
          "daemon/session/run.c": 45, "daemon/session/run_files.c": 55}


def corpora(name):
    folders = [f"tests/fuzz/corpus/{name}"]
    found = f"build/fuzz/corpus/{name}"
    if os.environ.get("FUZZ_FOUND") and os.path.isdir(found) and os.listdir(found):
        folders.append(found)
    return folders


def export(folder, name):
    """llvm-cov's own JSON of the harness's run over its corpora."""
    program, raw, merged = (os.path.join(folder, part) for part in (f"cover_{name}", f"{name}.profraw", f"{name}.profdata"))
    subprocess.run([program, *corpora(name)], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "LLVM_PROFILE_FILE": raw})
    subprocess.run(["llvm-profdata", "merge", "-sparse", raw, "-o", merged], check=True)
    text = subprocess.run(["llvm-cov", "export", program, f"-instr-profile={merged}", *AIMS[name]], check=True,
                          stdout=subprocess.PIPE).stdout
    return json.loads(text)["data"][0]


def relative(path):
    return os.path.relpath(path, os.getcwd())


def functions_missed(data, source):
    return sorted(function["name"].rpartition(":")[2] for function in data["functions"]
                  if function["count"] == 0 and relative(function["filenames"][0]) == source)


def report(folder, names):
    """The table, and what is below its floor."""
    lines = ["| harness | source | lines | of | % | branches | of | % |", "|---|---|--:|--:|--:|--:|--:|--:|"]
    missed, low = [], []
    for name in names:
        data = export(folder, name)
        for file in sorted(data["files"], key=lambda file: file["filename"]):
            source, cells = relative(file["filename"]), []
            for kind in ("lines", "branches"):
                part = file["summary"][kind]
                cells += [str(part["covered"]), str(part["count"]), f"{part['percent']:.0f}"]
            lines.append(f"| {name} | {source} | {' | '.join(cells)} |")
            if (reached := file["summary"]["lines"]["percent"]) < (floor := FLOORS.get(source, FLOOR)):
                low.append(f"{name}: {source}: {reached:.0f}% of its lines are reached, and {floor}% have to be")
            if functions := functions_missed(data, source):
                missed.append(f"{name}: {source}: not entered: {', '.join(functions)}")
        # One that is not there any more has no row.
        there = {relative(file["filename"]) for file in data["files"]}
        low += [f"{name}: {source}: no line of it is there" for source in AIMS[name] if source not in there]
    return "\n".join(lines + [""] + missed) + "\n", low


def main():
    folder, names = sys.argv[1], sys.argv[2:] or sorted(AIMS)
    if unknown := [name for name in names if name not in AIMS]:
        sys.exit(f"coverage.py: say in AIMS what these are aimed at: {', '.join(unknown)}")
    text, low = report(folder, names)
    os.makedirs("build/fuzz", exist_ok=True)
    with open("build/fuzz/coverage.txt", "w", encoding="utf-8") as file:
        file.write(text)
    print(text, end="")
    for line in low:
        print(f"TOO LOW {line}")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
