# SPDX-License-Identifier: Apache-2.0
"""The packages under test: installed, replaced by a later version, purged."""

import glob
import os
import re
import shutil
import subprocess

NAMES = ("execsandbox-guest", "execsandboxctl", "execsandboxd")


def find(directory):
    """Their files, in the order of NAMES."""
    paths = []
    for name in NAMES:
        found = glob.glob(os.path.join(directory, f"{name}_*.deb"))
        if len(found) != 1:
            raise AssertionError(f"{len(found)} files {name}_*.deb in '{directory}'; 'make deb' makes them")
        paths += found
    return paths


def install(container, debs):
    """dpkg -i, without a network: what they depend on is in the root tree."""
    place = os.path.join(container.root, "var/tmp/debs")
    shutil.rmtree(place, ignore_errors=True)
    os.makedirs(place)
    for path in debs:
        shutil.copy(path, place)
    names = [os.path.join("/var/tmp/debs", os.path.basename(path)) for path in debs]
    out = container.check("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-unsafe-io", "--install", *names, timeout=300)
    shutil.rmtree(place)
    return out


def purge(container):
    return container.check("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--purge", *reversed(NAMES))


def version(container, name="execsandboxd"):
    return container.check("dpkg-query", "--show", "--showformat=${Version}", name)


def later(debs, directory):
    """The same files as packages of a later version. They depend on each other by it."""
    made = []
    for path in debs:
        tree = os.path.join(directory, "tree")
        subprocess.run(["dpkg-deb", "--raw-extract", path, tree], check=True)
        control = os.path.join(tree, "DEBIAN/control")
        with open(control, encoding="utf-8") as stream:
            text = stream.read()
        old = re.search(r"^Version: (.*)$", text, re.M)[1]
        with open(control, "w", encoding="utf-8") as stream:
            stream.write(text.replace(old, old + "+later"))
        made.append(os.path.join(directory, os.path.basename(path).replace(old, old + "+later")))
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made[-1]], check=True, capture_output=True)
        shutil.rmtree(tree)
    return made
