# SPDX-License-Identifier: Apache-2.0
"""What a live QEMU can see, from outside (/proc) and from inside its jail, against the list in docs/SECURITY.md.

The table under "What QEMU can see" is the one written list. Each of its rows says what kind of thing, names things
(in backticks, with the wildcards of fnmatch) and when they are there. What is seen and not written is an error; so is
what is written and not seen, but for "sometimes".
"""

import fcntl
import fnmatch
import grp
import json
import os
import pwd
import re
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENT = os.path.join(HERE, "..", "..", "docs", "SECURITY.md")
HEADING = "## What QEMU can see"

F_GET_SEALS = 1034
SEALED = 0xF  # seal, shrink, grow, write

STATUS_KEYS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "TracerPid")
MOUNT_FLAGS = ("ro", "rw", "nosuid", "nodev", "noexec")
PERMISSIONS = {"r--p": "read", "---p": "read", "r-xp": "code", "--xp": "code", "rw-p": "data",
               "rwxp": "written and executed", "rw-s": "shared"}

# Runs inside the jail: in its namespaces and its root, with QEMU's uid and no capability. Only Python of /usr is there.
PROBE = r"""
import json, os, socket, stat
seen = [["host name", os.uname().nodename]]
seen += [["network device", name] for _, name in socket.if_nameindex()]
me = os.getpid()
for pid in range(1, 1 << 15):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        continue
    except PermissionError:
        pass
    if pid != me:
        seen.append(["process", str(pid)])
def try_to_write(path, mode):
    flags = os.O_WRONLY | os.O_NONBLOCK
    try:
        if stat.S_ISDIR(mode):
            path = os.path.join(path, "written")
            flags |= os.O_CREAT | os.O_EXCL
        os.close(os.open(path, flags, 0o600))
        seen.append(["writable", path])
    except OSError:
        pass
# A descriptor's link leads to the host's own mount, which is not read-only: there the file's mode decides.
def try_to_reopen(path):
    name = os.path.basename(os.readlink(path).removesuffix(" (deleted)"))
    if stat.S_ISREG(os.stat(path).st_mode) and not name.startswith("memfd:"):
        try:
            os.close(os.open(path, os.O_RDWR))
            seen.append(["writable", "descriptor of " + name])
        except OSError:
            seen.append(["read-only", "descriptor of " + name])
for top, directories, files in os.walk("/"):
    if top.count("/") > 4 or top.startswith("/usr/share/"):
        directories.clear()
    if top == "/proc/self/fd":
        for name in directories + files:
            try_to_reopen(os.path.join(top, name))
        continue
    try_to_write(top, stat.S_IFDIR)
    for name in directories + files:
        path = os.path.join(top, name)
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode) or stat.S_ISCHR(mode):
            try_to_write(path, mode)
        if not top.startswith("/usr"):
            what = " -> " + os.readlink(path) if stat.S_ISLNK(mode) else "/" if stat.S_ISDIR(mode) else ""
            seen.append(["path", path + what])
print(json.dumps(seen))
"""


def read(pid, name):
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as stream:
        return stream.read()


def written(document=DOCUMENT):
    """The rows of the list: (kind, pattern, when)."""
    with open(document, encoding="utf-8") as stream:
        section = stream.read().partition(HEADING + "\n")[2].partition("\n## ")[0]
    rows = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 4 and "`" in cells[1]:
            rows += [(cells[0], pattern, cells[2]) for pattern in re.findall("`([^`]+)`", cells[1])]
    if not rows:
        raise AssertionError(f"{document} has no table under '{HEADING}'")
    return rows


def is_covered(pattern, item):
    """fnmatch, but brackets stand for themselves: kernels name things in them."""
    return fnmatch.fnmatchcase(item, pattern.replace("[", "[[]"))


def differences(seen, conditions, rows=None):
    """What of `seen`, a set of (kind, item), is not on the list, and what of the list was not seen."""
    rows = rows or written()
    active = [row for row in rows if conditions.union(("always", "sometimes")).intersection(row[2].split(", "))]
    problems = [f"not on the list: {kind} '{item}'" for kind, item in sorted(seen)
                if not any(kind == row[0] and is_covered(row[1], item) for row in active)]
    problems += [f"on the list ({when}), not seen: {kind} '{pattern}'" for kind, pattern, when in active
                 if when != "sometimes"
                 and not any(kind == other and is_covered(pattern, item) for other, item in seen)]
    return problems


def identity(pid):
    """Who it is: ids, capabilities, namespaces, filters, environment, limits."""
    status = dict(line.split(":\t", 1) for line in read(pid, "status").splitlines() if ":\t" in line)
    uids, gids = status["Uid"].split(), status["Gid"].split()
    seen = {("user", pwd.getpwuid(int(uid)).pw_name) for uid in uids}
    seen |= {("group", grp.getgrgid(int(gid)).gr_name) for gid in gids + status["Groups"].split()}
    for name, own in (("uid_map", uids[0]), ("gid_map", gids[0])):
        is_itself = read(pid, name).split() == [own, own, "1"]
        seen.add(("status", f"{name} {'of itself' if is_itself else read(pid, name).strip()}"))
    seen |= {("status", f"{key} {status[key].strip()}") for key in STATUS_KEYS}
    for name in os.listdir(f"/proc/{pid}/ns"):
        if not name.endswith("_for_children"):
            is_shared = os.readlink(f"/proc/{pid}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
            seen.add(("namespace", f"{name} {'shared' if is_shared else 'own'}"))
    seen |= {("environment", word) for word in read(pid, "environ").split("\0") if word}
    seen.add(("status", f"oom_score_adj {read(pid, 'oom_score_adj').strip()}"))
    for line in read(pid, "limits").splitlines()[1:]:
        name, soft, hard = re.match(r"Max (.*?)\s{2,}(\S+)\s+(\S+)", line).groups()
        if hard != "unlimited":
            seen.add(("limit", f"{name} {hard if soft == hard else soft + ' of ' + hard}"))
    for name in ("cwd", "root", "exe"):
        seen.add(("place", f"{name} {os.readlink(f'/proc/{pid}/{name}')}"))
    children = [child for task in os.listdir(f"/proc/{pid}/task") for child in read(pid, f"task/{task}/children").split()]
    return seen | {("process", f"child {child}") for child in children}


def seals_of(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return fcntl.fcntl(descriptor, F_GET_SEALS)
    finally:
        os.close(descriptor)


def descriptor_name(path, unix_sockets):
    """A descriptor's target without what differs from VM to VM."""
    target = os.readlink(path)
    kind, _, rest = target.partition(":")
    if kind == "socket":
        return "unix socket" if rest.strip("[]") in unix_sockets else "socket"
    if kind == "pipe":
        return "pipe"
    if kind == "anon_inode":
        return rest
    if kind == "/memfd":
        return "sealed memory" if seals_of(path) & SEALED == SEALED else "memory"
    return target if target.startswith(("/dev/", "/proc/")) else os.path.basename(target)


def descriptors(pid):
    # All its sockets are of the host's network namespace: made there, or accepted from one that was.
    with open("/proc/net/unix", encoding="ascii", errors="replace") as stream:
        unix_sockets = {line.split()[6] for line in stream.read().splitlines()[1:]}
    seen = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            name = descriptor_name(f"/proc/{pid}/fd/{number}", unix_sockets)
            flags = int(re.search("^flags:\t([0-7]+)$", read(pid, f"fdinfo/{number}"), re.M).group(1), 8)
        except FileNotFoundError:
            continue  # closed meanwhile
        mode = "path" if flags & os.O_PATH else ("r", "w", "rw")[flags & os.O_ACCMODE]
        seen.add(("descriptor", f"{name} {mode}"))
    return seen


def mappings(pid):
    seen, translated = set(), 0
    for line in read(pid, "maps").splitlines():
        fields = line.split(None, 5)
        name = fields[5].removesuffix(" (deleted)") if len(fields) > 5 else "anonymous"
        if name.startswith("/memfd:"):
            name = "memory"
        elif name.startswith("/") and not name.startswith("/usr/"):
            name = os.path.basename(name)
        seen.add(("mapping", f"{name} {PERMISSIONS.get(fields[1], fields[1])}"))
        if fields[1].startswith("rwx"):
            low, high = (int(number, 16) for number in fields[0].split("-"))
            translated += high - low
    buffer = re.search(r"tb-size=([0-9]+)", read(pid, "cmdline"))
    if buffer and translated > int(buffer.group(1)) << 20:
        seen.add(("mapping", f"{translated} bytes written and executed, of a translation buffer of {buffer.group(1)} MiB"))
    return seen


def mounts(pid):
    seen = set()
    for line in read(pid, "mountinfo").splitlines():
        fields = line.split()
        flags = [flag for flag in MOUNT_FLAGS if flag in fields[5].split(",")]
        seen.add(("mount", f"{fields[4]} {','.join(flags)}"))
    return seen


def outside(pid):
    """What the host's /proc says of it."""
    return identity(pid) | descriptors(pid) | mappings(pid) | mounts(pid)


def other_threads(pid):
    """QEMU's threads as it numbers them: kill(2) takes their ids as well."""
    return {("process", read(pid, f"task/{task}/status").partition("NSpid:\t")[2].splitlines()[0].split()[-1])
            for task in os.listdir(f"/proc/{pid}/task") if int(task) != pid}


def inside(pid):
    """What a process of QEMU's uid without rights finds in its namespaces and its root, and what it can write."""
    threads = other_threads(pid)
    status = dict(line.split(":\t", 1) for line in read(pid, "status").splitlines() if ":\t" in line)
    uid, gid = status["Uid"].split()[0], status["Gid"].split()[0]
    done = subprocess.run(
        ["nsenter", f"--target={pid}", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--root", "--wd",
         "/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all",
         "--bounding-set=-all", "--no-new-privs", "/usr/bin/python3", "-I", "-c", PROBE],
        capture_output=True, text=True, timeout=60, env={"LC_ALL": "C.UTF-8"})
    if done.returncode != 0:
        raise AssertionError(f"the probe in the jail of {pid} failed: {done.stderr}")
    return {tuple(entry) for entry in json.loads(done.stdout)} - threads - other_threads(pid)


def conditions(pid, start):
    """`start`: clone, booted or template."""
    found = {start}
    if "LD_LIBRARY_PATH" in read(pid, "environ"):
        found.add("stand-ins")
    return found


def problems(pid, start):
    return differences(outside(pid) | inside(pid), conditions(pid, start))
