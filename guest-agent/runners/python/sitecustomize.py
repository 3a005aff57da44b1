# SPDX-License-Identifier: Apache-2.0
"""Reports an uncaught exception of the program to the agent; otherwise leaves Python alone.

The program itself is run by plain `python3 main.py`, so that `__main__`, tracebacks, exit codes and
excepthooks are Python's own. The agent puts this directory on PYTHONPATH; the module takes the
traces of that away again before the program starts. What is reported is the program's claim.
"""
import atexit
import os
import sys


def _text(value, limit):
    return value[:limit].replace("\0", "\\x00").encode("utf-8", "backslashreplace")


def _describe(error):
    import traceback  # only now: it costs as much as the rest of the start-up together

    kind = type(error)
    try:
        value = str(error)
    except Exception:
        value = "<unprintable %s object>" % kind.__name__
    trace = "".join(traceback.format_exception(kind, error, sys.last_traceback))
    # One write that always fits the pipe (64 KiB): the end of a long traceback tells most.
    trace = _text(trace, len(trace))[-40000:].decode("utf-8", "ignore").encode("utf-8")
    return b"\0".join((_text(kind.__name__, 128), _text(value, 4096), trace))


# What programs use most. Imported while waiting only: in an ordinary start it would cost more than
# all the rest. A megabyte of them costs every run 0.4 ms, when the process's pages are freed. Not
# random: its state would be that of all clones, and to draw a new one costs a first run 3 ms.
_USUAL = (
    "bisect collections.abc copy datetime enum functools heapq io itertools json math operator os.path"
    " re string struct threading time types typing weakref"
)


def _import_usual():
    import importlib

    for name in _USUAL.split():
        importlib.import_module(name)


def _compile_resident():
    """Ahead: it would take longer than the rest of a session's first program."""
    path = os.path.join(os.path.dirname(__file__), "resident.py")
    with open(path, "rb") as file:
        return compile(file.read(), path, "exec", dont_inherit=True)


def _hides_usual(home):
    """Has the program a module of a name that was imported already? Its own must win."""
    # A tmpfs counts 20 bytes per name: only main.py is there, and a look at the names costs 2 ms.
    if os.stat(home).st_size == 20:
        return False
    for name in os.listdir(home):
        if name.partition(".")[0] in sys.modules:
            return True
    return False


def _set_variables(variables):
    for variable in variables:
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    if b"TZ" in os.environb:
        sys.modules["time"].tzset()


def _stay(fd):
    """Becomes the Python of a session (resident.py), with that session's variables."""
    message = b""
    while not message.endswith(b"\0\0"):  # and no byte of what follows
        message += os.read(fd, 1)
    _set_variables(message.split(b"\0")[1:-2])
    os.close(int(_restart["EXECSANDBOX_REPORT_FD"]))
    _at_end.pop("stay", lambda: None)()
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if not os.read(fd, 1):  # a session that has no program shall not pay for what follows
        os._exit(0)
    names = {"__name__": "resident", "__file__": _resident.co_filename}
    exec(_resident, names)
    names["main"](fd)
    os._exit(0)


def _wait():
    """Waits for the go message (guest-agent/go.h) and applies it."""
    fd = int(os.environ.pop("EXECSANDBOX_GO_FD"))
    os.write(fd, b".")
    first = os.read(fd, 1)
    if not first:
        os._exit(0)  # there is nothing to run
    if first != b"\0":
        _stay(fd)
    message = b""
    while chunk := os.read(fd, 65536):
        message += chunk
    os.close(fd)
    cwd, count, *rest = message.split(b"\0")[:-1]
    count = int(count)
    sys.argv[1:] = map(os.fsdecode, rest[:count])
    _set_variables(rest[count:])
    if cwd:
        os.chdir(cwd)
    if _hides_usual(os.path.dirname(sys.argv[0])):
        os.environ.update(_restart)
        os.set_inheritable(int(_restart["EXECSANDBOX_REPORT_FD"]), True)
        os.execv(sys.orig_argv[0], [*sys.orig_argv[:2], *sys.argv[1:]])
    # Some module's doing: all clones of a template have its state.
    if "random" in sys.modules:
        sys.modules["random"].seed()


def _watch_end(fd, report):
    """Has `report` called when the program has ended, and then the process ended early, after
    everything that could be seen (guest-agent/python/at_end.c)."""
    try:
        from _execsandbox_at_end import finish, stay, watch
    except ImportError:  # another version of Python than the module's: its own end is only slower
        atexit.register(report)
        return
    import gc

    _at_end["stay"] = stay
    sys.modules.pop("_execsandbox_at_end")
    atexit.register(finish)  # the first registered runs last
    if "EXECSANDBOX_GO_FD" in os.environ:
        # Garbage would be frozen with the rest.
        gc.collect()
    # What is there now is never looked at again: collections would write to every page of it, and a
    # clone shares pages with its template until they are written. The second freezes what marks the
    # border to the program's objects.
    gc.freeze()
    watch(fd, os.path.dirname(os.__file__), type(sys.__stdout__), report)
    gc.freeze()


_restart = {}
_at_end = {}


def _install():
    here = os.path.dirname(__file__)
    _restart.update(PYTHONPATH=here, EXECSANDBOX_REPORT_FD=os.environ.pop("EXECSANDBOX_REPORT_FD"))
    fd = int(_restart["EXECSANDBOX_REPORT_FD"])
    pid = os.getpid()
    pipe = os.fstat(fd).st_ino

    def report():
        # Python leaves an uncaught exception here whatever became of sys.excepthook; SystemExit is
        # none. A forked child that ends the same way does not speak for the program.
        error = getattr(sys, "last_value", None)
        if error is None or os.getpid() != pid:
            return
        try:
            # The program may have closed the pipe and got its number for a file of its own.
            if os.fstat(fd).st_ino == pipe:
                os.write(fd, _describe(error))
        except Exception:
            pass
        if type(error) is KeyboardInterrupt:
            # Python remembers this one to die of SIGINT later, and forgets it with the next code it
            # evaluates, which describing the error did.
            try:
                exec("raise KeyboardInterrupt")
            except KeyboardInterrupt:
                pass

    os.set_inheritable(fd, False)
    _watch_end(fd, report)
    os.environ.pop("PYTHONPATH", None)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    # Lines appear as they are printed, as on a terminal, and a killed program keeps its output.
    if sys.stdout is not None:
        sys.stdout.reconfigure(line_buffering=True)


def _wait_for_importer():
    """Waits as late as Python lets itself be held up: when it asks, after everything else that it
    starts with, whether main.py is something to import from. That costs a first run 8 ms less than
    to wait here."""
    program = sys.argv[0]

    def hook(path):
        if path == program:
            sys.path_hooks.remove(hook)
            _wait()
        raise ImportError

    sys.path_hooks.append(hook)


# Everything that can be done before the wait is done before it.
if "EXECSANDBOX_GO_FD" in os.environ:
    _import_usual()
    _resident = _compile_resident()
if "EXECSANDBOX_REPORT_FD" in os.environ:
    _install()
if "EXECSANDBOX_GO_FD" in os.environ:
    _wait_for_importer()
