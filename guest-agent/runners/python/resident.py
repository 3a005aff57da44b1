# SPDX-License-Identifier: Apache-2.0
"""The Python of a session: runs one program after another in one `__main__`, and keeps what they define.

The agent sends each program on a socket (guest-agent/resident.h): its text, input and outputs as
descriptors, directory and variables as a go message. The answer is an exit status and, of an uncaught
exception, a report. As in a notebook, the value of a last expression is shown. A forked child never
answers for its parent.
"""
# What is in C only: `ast`, `signal` and `socket` would cost the first program of a session more than all the rest.
import _ast
import _signal
import _socket
import array
import builtins
import linecache
import os
import sys
import time
import types

DESCRIPTORS = 4
# Of programs whose lines tracebacks can still show.
TEXTS_MAX = 1 << 20
texts = []


class Signals:
    """Let in while a program runs and while the interpreter waits, held in between: there an exception
    that a program's handler raises would end the interpreter."""

    every = _signal.valid_signals()
    mask = ()  # as the programs want it

    def let(self):
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)

    def hold(self):
        mask = None
        while True:
            try:
                if mask is None:
                    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
                _signal.pthread_sigmask(_signal.SIG_BLOCK, self.every)
                self.mask = mask
                return
            except BaseException:  # one has come before
                pass


class Program:
    """One program: its text, and what is its own of the process."""

    def __init__(self, number, descriptors, message):
        flush()  # what came in between is nobody's
        code, *streams = descriptors
        with open(code, "rb") as file:
            file.seek(0)
            self.text = file.read()
        for number_of, descriptor in enumerate(streams):
            os.dup2(descriptor, number_of, inheritable=True)
            os.close(descriptor)
        self.name = f"<program {number}>"
        self.cwd, count, *rest = message.split(b"\0")[:-1]
        self.argv = ["", *map(os.fsdecode, rest[:int(count)])]
        self.variables = dict(variable.split(b"=", 1) for variable in rest[int(count):])
        self.argv_before, self.before = None, {}

    def enter(self):
        """Arguments and variables are this program's only; the directory stays, as everything does."""
        if len(self.argv) > 1:
            self.argv_before, sys.argv = getattr(sys, "argv", [""]), self.argv
        self.before = {name: os.environb.get(name) for name in self.variables}
        os.environb.update(self.variables)
        self.set_zone()
        if self.cwd:
            os.chdir(self.cwd)
        open_streams()

    def leave(self):
        for name, value in self.before.items():
            # What the program has set itself stays.
            if os.environb.get(name) != self.variables[name]:
                continue
            if value is None:
                del os.environb[name]
            else:
                os.environb[name] = value
        self.set_zone()
        if self.argv_before is not None and getattr(sys, "argv", None) is self.argv:
            sys.argv = self.argv_before
        close_streams()

    def set_zone(self):
        """The C library has read the zone at the interpreter's start."""
        if b"TZ" in self.variables:
            time.tzset()


def open_streams():
    """Input anew, lest one program reads what another has left; outputs only if they are closed, so
    that whoever keeps them (logging does) goes on writing."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    for name, number, errors in (("stdout", 1, "surrogateescape"), ("stderr", 2, "backslashreplace")):
        stream = getattr(sys, f"__{name}__")
        if stream is None or stream.closed:
            stream = open(number, "w", 1, encoding="utf-8", errors=errors, closefd=False)
            setattr(sys, f"__{name}__", stream)
            setattr(sys, name, stream)


def flush():
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except Exception:  # closed, or nobody reads, or the program's own
            pass


def close_streams():
    """What goes on in the background writes to nobody."""
    flush()
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number, inheritable=True)
    os.close(null)


def text_of(value, limit):
    return value[:limit].replace("\0", "\\x00").encode("utf-8", "backslashreplace")


def tell(error):
    """Has the exception printed as Python does, by a hook of the program's if there is one; its report."""
    import traceback  # only now: not every session has an exception

    kind, trace = type(error), error.__traceback__
    try:
        value = str(error)
    except BaseException:  # the program's, whatever it is
        value = f"<unprintable {kind.__name__} object>"
    # Python's own hook reads the lines of programs from files, where these are not.
    lines = "".join(traceback.format_exception(kind, error, trace))
    try:
        if sys.excepthook is sys.__excepthook__:
            sys.stderr.write(lines)
        else:
            sys.excepthook(kind, error, trace)
    except BaseException:  # nobody can be told
        pass
    lines = text_of(lines, len(lines))[-40000:].decode("utf-8", "ignore").encode("utf-8")
    return b"\0".join((text_of(kind.__name__, 128), text_of(value, 4096), lines))


def exit_status(code):
    """As Python ends for SystemExit."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(1 << 63) <= code < 1 << 63 else 0xFF
    try:
        print(code, file=sys.stderr)
    except BaseException:  # nobody can be told
        pass
    return 1


def evaluate(program, names):
    tree = compile(program.text, program.name, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)
    shown = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
    exec(compile(tree, program.name, "exec", dont_inherit=True), names)
    if shown:
        sys.displayhook(eval(compile(_ast.Expression(shown.value), program.name, "eval", dont_inherit=True), names))


def skip_ours(trace):
    """The traceback from the program's own frames on."""
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def run(program, names, signals):
    """Exit status and report of a program."""
    lines = program.text.decode("utf-8", "replace").splitlines(True)
    linecache.cache[program.name] = (len(program.text), None, lines, program.name)
    texts.append((program.name, len(program.text)))
    while sum(size for _, size in texts) > TEXTS_MAX and len(texts) > 1:
        linecache.cache.pop(texts.pop(0)[0], None)
    try:
        try:
            signals.let()
            evaluate(program, names)
        finally:
            signals.hold()
        return 0, b""
    except SystemExit as error:
        return exit_status(error.code), b""
    except BaseException as error:  # the program's, whatever it is
        error.__traceback__ = skip_ours(error.__traceback__)
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        return (130 if isinstance(error, KeyboardInterrupt) else 1), tell(error)


def receive(control):
    """Descriptors and message of the next program; None when there is none any more."""
    room = _socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = control.recvmsg(4, room, _socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    descriptors = array.array("i")
    for _, _, content in ancillary:
        descriptors.frombytes(content)
    while len(data) < 4:
        data += control.recv(4 - len(data))
    message, length = b"", int.from_bytes(data, "little")
    while len(message) < length and (chunk := control.recv(length - len(message))):
        message += chunk
    return descriptors, message


def wait(control, signals):
    """Until there is a program, or the end. Handlers of signals and finalizers that programs have left
    run here, too: what they raise is nobody's, and costs nothing that was defined."""
    while True:
        try:
            signals.let()
            control.recv(1, _socket.MSG_PEEK)
            signals.hold()
            return
        except BaseException:
            signals.hold()
            os.fstat(control.fileno())  # it is there still


def add_user_site():
    """The user's own packages, and what they run at a start: not before the channel is closed to children."""
    import site

    if os.path.isdir(site.getusersitepackages()):
        site.addsitedir(site.getusersitepackages())


def main(descriptor, is_fresh=False):
    control = _socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    os.register_at_fork(after_in_child=control.close)
    if is_fresh:
        add_user_site()
    pid = os.getpid()
    module = types.ModuleType("__main__")
    module.__builtins__ = builtins
    sys.modules["__main__"] = module
    sys.path.insert(0, "")
    sys.argv = [""]
    number, signals = 0, Signals()
    while True:
        wait(control, signals)
        received = receive(control)
        if received is None:
            return
        number += 1
        program = Program(number, *received)
        program.enter()
        status, report = run(program, module.__dict__, signals)
        if os.getpid() != pid:
            flush()
            os._exit(status)
        program.leave()
        control.sendall(bytes([status]) + len(report).to_bytes(4, "little") + report)


def start():
    """Of a process that was started to be this; one that has waited comes to main()."""
    try:
        from _execsandbox_at_end import stay

        stay()
    except ImportError:  # another version of Python than the module's
        pass
    del sys.path[0]
    main(int(os.environ.pop("EXECSANDBOX_GO_FD")), is_fresh=True)


if __name__ == "__main__":
    start()
