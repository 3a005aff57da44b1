#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files go into a session, a program works on them, and its result comes out."""

import pathlib
import tempfile

from execsandbox import Sandbox
from execsandbox.errors import FileNotFoundError

with Sandbox() as sandbox, tempfile.TemporaryDirectory() as directory:
    table = pathlib.Path(directory, "table.csv")
    table.write_text("pears,3\napples,12\n")
    with sandbox.session(language="shell") as session:
        print(session.files.upload(table, "data/table.csv"), "bytes are there")
        session.files.write("data/sort.sh", "sort data/*.csv >data/sorted", mode=0o755)
        session.exec("./data/sort.sh")
        for file in session.files.list("data"):
            print(f"{file.mode:o} {file.size:3} {file.name}")

        sorted_table = pathlib.Path(directory, "sorted.csv")
        session.files.download("data/sorted", sorted_table, progress=lambda done, total: print(done, "of", total))
        print(sorted_table.read_text(), end="")

        session.files.remove("data", recursive=True)
        try:
            session.files.read("data/sorted")
        except FileNotFoundError as error:
            print(error)
