/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How Python programs end: whatever the agent's runner cuts short, nobody may see a difference.
 *
 * Each program is run by plain python3, by one with the runner, and by one that has waited. All
 * must print the same and have the same status; and those that can end early have to.
 */
#include "tests/unit/suite.h"

#include "base/util.h"
#include "guest-agent/go.h"
#include "guest-agent/language.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAX 65536
#define RUNNERS    "build/guest-agent/runners/python"

static char home[] = "/tmp/test_agent_end_XXXXXX";

/* Does it end early, with a farewell? That is what saves the time; a program that may be seen to
 * end must not. */
enum haste {
	EARLY,
	LATE,
};

#define DEL                                       \
	"class A:\n"                              \
	"    def __init__(self, n): self.n = n\n" \
	"    def __del__(self): print('del', self.n)\n"

static const struct {
	enum haste haste;
	const char *code;
} programs[] = {
	{EARLY, "print('hello')\n"},
	{EARLY, ""},
	/* Exit statuses. */
	{EARLY, "import sys\nsys.exit()\n"},
	{EARLY, "import sys\nsys.exit(0)\n"},
	{EARLY, "import sys\nsys.exit(7)\n"},
	{EARLY, "import sys\nsys.exit(256 + 9)\n"},
	{EARLY, "import sys\nsys.exit(-1)\n"},
	{EARLY, "import sys\nsys.exit(1 << 100)\n"},
	{EARLY, "import sys\nsys.exit(None)\n"},
	{EARLY, "import sys\nsys.exit(True)\n"},
	{EARLY, "import sys\nsys.exit('why')\n"},
	{EARLY, "import sys\nsys.exit((1, 2))\n"},
	{EARLY, "import sys\nsys.exit([3])\n"},
	{EARLY, "raise SystemExit\n"},
	{EARLY, "raise SystemExit(4)\n"},
	{EARLY, "exit(5)\n"},
	{EARLY, "class E(SystemExit): pass\nraise E(6)\n"},
	{LATE, "class E(SystemExit):\n    @property\n    def code(self):\n"
	       "        print('asked')\n        return 8\nraise E(6)\n"},
	{EARLY, "try:\n    raise SystemExit(3)\nfinally:\n    print('finally')\n"},
	{EARLY, "def f():\n    import sys\n    sys.exit(2)\nf()\n"},
	{LATE, "import os\nprint('lost', end='')\nos._exit(9)\n"},
	/* Exceptions. */
	{LATE, "def f():\n    return 1 / 0\nf()\n"},
	{LATE, "x = (1,\n"},
	{LATE, "raise KeyboardInterrupt\n"},
	{LATE, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n"},
	{LATE, "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('no') from e\n"},
	{LATE, "raise ExceptionGroup('some', [ValueError(1), OSError(2)])\n"},
	{LATE, "import sys\nsys.excepthook = lambda *a: exec('1', globals())\nraise OSError\n"},
	/* Finalizers: globals, in order; cycles; what a frame held; what needs other globals. */
	{LATE, DEL "a = A('a')\nb = A('b')\n"},
	{LATE, DEL "a = A('a')\na.me = a\nb = A('b')\nb.me = a\n"},
	{EARLY, DEL "def f():\n    import sys\n    local = A('local')\n    sys.exit(3)\nf()\n"},
	{LATE, DEL "def f():\n    local = A('local')\n    1 / 0\nf()\n"},
	{LATE, DEL "import sys\nkept = A('kept')\nsys.exit(kept.n)\n"},
	{LATE, "x = 'global'\nclass A:\n    def __del__(self): print(x, b)\na, b = A(), [1]\n"},
	{LATE, "class A:\n    __slots__ = ()\n    def __del__(self): print('bare')\na = A()\n"},
	{LATE, "class A: pass\na = A()\nA.__del__ = lambda self: print('late')\n"},
	{LATE, DEL "import json\njson.kept = A('in a module')\n"},
	{LATE, DEL "import gc\na = A('frozen')\ngc.freeze()\n"},
	{LATE, DEL "import gc\na = A('thawed')\ngc.unfreeze()\n"},
	{EARLY, DEL "a = A('gone')\ndel a\ndel A\nimport gc\ngc.collect()\n"},
	{LATE, "def g():\n    try:\n        yield 1\n    finally:\n        print('closed')\n"
	       "x = g()\nnext(x)\n"},
	{LATE, "async def f(): pass\nx = f()\n"},
	{LATE, "import weakref\nclass A: pass\na = A()\nr = weakref.ref(a, print)\n"},
	{LATE,
	 "import weakref\nclass A: pass\na = A()\nr = weakref.ref(a, lambda r: print('x'))\n"},
	{EARLY, "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 'x')\n"},
	/* Files with output in them. */
	{LATE, "f = open('/proc/self/fd/2', 'w')\nf.write('buffered')\n"},
	{LATE, "import io, os\nf = io.BufferedWriter(io.FileIO(os.dup(1), 'w'))\nf.write(b'x')\n"},
	{LATE, "import io\nclass S(io.StringIO):\n    def close(self): print('closed')\ns = S()\n"},
	{EARLY, "with open('/proc/self/fd/2', 'w') as f:\n    f.write('closed')\n"},
	{EARLY, "import io\ns = io.StringIO('x')\nb = io.BytesIO(b'x')\n"},
	{EARLY,
	 "import csv, io, json, re, datetime, collections, functools\nprint(json.dumps([1]))"},
	/* Exit handlers: the last registered first; their own ends are no end of the program. */
	{EARLY, "import atexit\nfor i in range(3): atexit.register(print, i)\n"},
	{EARLY, "import atexit\natexit.register(lambda: 1 / 0)\natexit.register(print, 'x')\n"},
	{EARLY, "import atexit, sys\natexit.register(sys.exit, 3)\nsys.exit(4)\n"},
	{LATE, "import atexit, os\natexit.register(os._exit, 3)\n"},
	{LATE, DEL "import atexit\natexit.register(lambda: globals().update(a=A('new')))\n"},
	{EARLY, "import atexit, sys\natexit.register(print, 'x', end='')\nsys.exit(5)\n"},
	/* Threads: those that are no daemons are waited for, and may end as they like. */
	{EARLY, "import threading, time\ndef f():\n    time.sleep(.1)\n    print('thread')\n"
		"threading.Thread(target=f).start()\n"},
	{EARLY, "import threading, time\n"
		"threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"},
	{EARLY, "import threading, sys\nt = threading.Thread(target=sys.exit, args=(3,))\n"
		"t.start(); t.join()\nsys.exit(6)\n"},
	{EARLY, "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='T')\n"
		"t.start(); t.join()\n"},
	/* Streams. */
	{EARLY, "import sys\nsys.stdout.write('no line')\n"},
	{EARLY, "import sys\nprint('x')\nsys.stdout.close()\n"},
	{LATE, "import os, sys\nsys.stdout.write('lost')\nos.close(1)\n"},
	{LATE, "import os, sys\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
	       "sys.stdout.write('no room')\n"},
	{LATE, "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\n"
	       "sys.stdout.write('wrapped')\n"},
	{LATE, "import sys\nclass S:\n    def write(self, s): pass\n"
	       "    def flush(self): sys.__stdout__.write('flushed')\nsys.stdout = S()\n"},
	{LATE, "import ctypes\nctypes.CDLL(None).printf(b'in C')\n"},
	/* Processes. */
	{LATE, "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nprint('both')\n"
	       "if not pid: raise SystemExit(3)\nos.execv('/bin/echo', ['echo', 'else'])\n"},
	{EARLY, "import os\npid = os.fork()\nif pid: print(os.waitpid(pid, 0)[1])\n"
		"else: print('child')\n"},
	{EARLY, "import subprocess\nprint(subprocess.run(['echo', 'x'], capture_output=True))\n"},
	/* Who looks at the interpreter. */
	{LATE, "import sys\nsys.setprofile(lambda f, e, a: print(e, f.f_code.co_name))\n"},
	{LATE, "import sys\nsys.settrace(lambda f, e, a: print(e, f.f_code.co_name))\n"},
	{LATE, "import sys\nsys.addaudithook(lambda e, a: print(e) if 'cpython' in e else 0)\n"},
	{LATE, "import gc\ngc.callbacks.append(lambda p, i: print(p, i['generation']))\n"},
	{EARLY, "import inspect, sys\nprint([f.function for f in inspect.stack()], "
		"sys.getrecursionlimit(), sys.gettrace(), sys.getprofile())\n"},
	{EARLY, "def f(n):\n    try:\n        return f(n + 1)\n    except RecursionError:\n"
		"        return n\nprint(f(0))\n"},
	{EARLY, "import __main__, sys\nprint(sorted(vars(__main__)), '_execsandbox_at_end' in "
		"sys.modules)\n"},
};

enum manner {
	PLAIN,   /* plain python3 whose lines appear as they are printed */
	RUNNER,  /* started for its program */
	WAITING, /* started before it knew its program */
};

struct outcome {
	char out[OUTPUT_MAX], err[OUTPUT_MAX], report[OUTPUT_MAX];
	size_t report_len;
	int status;
};

struct ends {
	int ours, theirs;
};

static struct ends make_pipe(void)
{
	int ends[2];

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	return (struct ends){ends[0], ends[1]};
}

/* What it left in the pipe, which holds all of it. */
static size_t collect(struct ends *pipe, char *buf)
{
	ssize_t n;

	fcntl(pipe->ours, F_SETFL, O_NONBLOCK);
	n = read(pipe->ours, buf, OUTPUT_MAX - 1);
	n = MAX(n, 0);
	buf[n] = '\0';
	close(pipe->ours);
	return (size_t)n;
}

static void write_file(const char *name, const char *text)
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", home, name);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	fclose(file);
}

static void execute(enum manner manner, const char *runner, const int fds[5])
{
	char program[PATH_MAX], path[PATH_MAX + 16];
	const char *const argv[] = {"/usr/bin/python3", program, NULL};
	const char *const environment[] = {"PATH=/usr/bin:/bin",
					   "LANG=C.UTF-8",
					   path,
					   manner == PLAIN ? NULL : REPORT_FD_ENV "=100",
					   manner == WAITING ? GO_FD_ENV "=101" : NULL,
					   NULL};

	setsid();
	signal(SIGPIPE, SIG_DFL);
	snprintf(program, sizeof(program), "%s/main.py", home);
	snprintf(path, sizeof(path), "PYTHONPATH=%s%s", manner == PLAIN ? home : runner,
		 manner == PLAIN ? "/site" : "");
	dup2(fds[0], 0);
	dup2(fds[1], 1);
	dup2(fds[2], 2);
	if (manner != PLAIN)
		dup2(fds[3], REPORT_FD);
	if (manner == WAITING)
		dup2(fds[4], GO_FD);
	if (chdir(home) == 0)
		execve(argv[0], (char *const *)argv, (char *const *)environment);
	_exit(127);
}

static void let_go(int fd)
{
	char message[16], word;
	size_t len = go_encode_run(message, sizeof(message), "", NULL, NULL);

	ck_assert_int_eq(read(fd, &word, 1), 1);
	ck_assert_int_eq(write(fd, message, len), (ssize_t)len);
	close(fd);
}

static void run(enum manner manner, const char *runner, const char *code, struct outcome *ret)
{
	struct ends out = make_pipe(), err = make_pipe(), report = make_pipe();
	int go[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pid_t pid;

	write_file("main.py", manner == WAITING ? "" : code);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		execute(manner, runner,
			(int[]){null, out.theirs, err.theirs, report.theirs, go[1]});
	close(null), close(out.theirs), close(err.theirs), close(report.theirs), close(go[1]);
	if (manner == WAITING) {
		write_file("main.py", code);
		let_go(go[0]);
	} else {
		close(go[0]);
	}
	ck_assert_int_eq(waitpid(pid, &ret->status, 0), pid);
	kill(-pid, SIGKILL);
	collect(&out, ret->out);
	collect(&err, ret->err);
	ret->report_len = collect(&report, ret->report);
}

static struct outcome plain, ours;

/* Addresses differ from process to process. */
static void hide_addresses(char *text)
{
	for (char *at = text; (at = strstr(at, "0x"));) {
		size_t digits = strspn(at + 2, "0123456789abcdef");

		memmove(at + 2, at + 2 + digits, strlen(at + 2 + digits) + 1);
		at += 2;
	}
}

static void assert_same(enum manner manner, const char *runner, const char *code)
{
	run(PLAIN, runner, code, &plain);
	run(manner, runner, code, &ours);
	hide_addresses(plain.out), hide_addresses(plain.err);
	hide_addresses(ours.out), hide_addresses(ours.err);
	ck_assert_str_eq(ours.out, plain.out);
	ck_assert_str_eq(ours.err, plain.err);
	ck_assert_int_eq(ours.status, plain.status);
}

/* The farewell says what wait(2) says. */
static bool was_early(void)
{
	return ours.report_len == 2 && ours.report[0] == '\0' && WIFEXITED(ours.status) &&
	       (unsigned char)ours.report[1] == WEXITSTATUS(ours.status);
}

/* A copy: Python leaves byte code beside what it imports, and the image is made of the original. */
static const char *copy_runner(void)
{
	static char runner[64];
	char command[256];

	snprintf(runner, sizeof(runner), "%s/runner", home);
	snprintf(command, sizeof(command), "cp -r %s %s", RUNNERS, runner);
	ck_assert_msg(pclose(popen(command, "r")) == 0, "tests run in the top directory");
	return runner;
}

START_TEST(test_runner)
{
	assert_same(RUNNER, copy_runner(), programs[_i].code);
	ck_assert_msg(was_early() == (programs[_i].haste == EARLY), "%s", programs[_i].code);
}
END_TEST

START_TEST(test_waiting)
{
	assert_same(WAITING, copy_runner(), programs[_i].code);
	ck_assert_msg(was_early() == (programs[_i].haste == EARLY), "%s", programs[_i].code);
}
END_TEST

/* A guest whose Python is not the module's: slower, and the same. */
START_TEST(test_without_the_module)
{
	const char *runner = copy_runner();
	char module[128];

	snprintf(module, sizeof(module), "%s/_execsandbox_at_end.so", runner);
	ck_assert_int_eq(unlink(module), 0);
	assert_same(_i == 0 ? RUNNER : WAITING, runner, DEL "import sys\na = A(1)\nsys.exit(7)\n");
	ck_assert_uint_eq(ours.report_len, 0);
	ck_assert_int_eq(WEXITSTATUS(ours.status), 7);
	/* One that cannot be loaded. */
	write_file("runner/_execsandbox_at_end.so", "no library");
	assert_same(_i == 0 ? RUNNER : WAITING, runner, "print(1)\n");
	ck_assert_uint_eq(ours.report_len, 0);
}
END_TEST

static void setup(void)
{
	char path[PATH_MAX];

	ck_assert_ptr_nonnull(mkdtemp(strcpy(home, "/tmp/test_agent_end_XXXXXX")));
	snprintf(path, sizeof(path), "%s/site", home);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	write_file("site/sitecustomize.py",
		   "import os, sys\nsys.stdout.reconfigure(line_buffering=True)\n"
		   "del os.environ['PYTHONPATH']\nsys.path.remove(os.path.dirname(__file__))\n");
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static void teardown(void)
{
	nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_end");
	TCase *tcase = tcase_create("ends");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, test_runner, 0, ELEMENTSOF(programs));
	tcase_add_loop_test(tcase, test_waiting, 0, ELEMENTSOF(programs));
	tcase_add_loop_test(tcase, test_without_the_module, 0, 2);
	suite_add_tcase(suite, tcase);
	return suite;
}
