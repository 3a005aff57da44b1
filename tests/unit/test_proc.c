/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: exact descriptors, how they end, kills, wrappers that behave, lie, hang and die. */
#include "daemon/launcher/proc.h"

#include "tests/fake/wait.h"
#include "tests/unit/suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* A wrapper as bubblewrap is one: starts the program, tells its pid on 3, ends with its status. */
#define WRAPPER_START "exec sleep 1000 & child=$!; "
#define WRAPPER_TELL  "echo \"{ \\\"child-pid\\\": $child }\" >&3; exec 3>&-; "
#define WRAPPER_WAIT  "wait $child; exit $?"

static struct loop *loop;
static struct proc *proc;
static int end_count, gone_count, fds_before;
static pid_t told_pid;
static struct proc_status last;
static bool must_destroy;

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void on_pid(void *user UNUSED, pid_t pid)
{
	told_pid = pid;
}

static void on_end(void *user UNUSED)
{
	end_count++;
	if (must_destroy)
		proc_destroy(TAKE_PTR(proc));
}

static void on_gone(void *user UNUSED, const struct proc_status *status)
{
	gone_count++;
	last = *status;
}

static const struct proc_ops ops = {.on_pid = on_pid, .on_end = on_end, .on_gone = on_gone};

static void setup(void)
{
	proc = NULL;
	end_count = gone_count = 0;
	told_pid = 0;
	must_destroy = false;
	/* Orphans of killed wrappers come to us, so that we can tell that none is left. */
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	fds_before = count_fds();
	ck_assert_int_eq(loop_create(&loop), 0);
}

/* Nothing may be left: no child, no descriptor. */
static void teardown(void)
{
	proc_destroy(proc);
	loop_destroy(loop);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
	ck_assert_int_eq(count_fds(), fds_before);
}

/* A wrapper that was killed leaves its program, which is dead or dying, to the next subreaper: us.
 * A program that lived on would hang this. */
static void reap_orphans(void)
{
	while (waitpid(-1, NULL, 0) > 0)
		;
}

static int spawn_with(const char *script, const struct proc_fds *fds, int info_fd_take)
{
	static const struct proc_limit limits[] = {{.resource = RLIMIT_NOFILE, .value = 77}};
	char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
	struct proc_spec spec = {.argv = argv,
				 .fds = fds,
				 .limits = limits,
				 .n_limits = 1,
				 .info_fd_take = info_fd_take,
				 .oom_score_adj = 500};

	return proc_spawn(loop, "test", &spec, &ops, NULL, &proc);
}

static void spawn_plain(const char *script)
{
	ck_assert_int_eq(spawn_with(script, NULL, -1), 0);
}

/* The script has the info pipe as 3 and, when given, `extra_fd` as 4. */
static void spawn_wrapper(const char *script, int extra_fd)
{
	struct proc_fds fds = {.len = 0};
	int info[2];

	ck_assert_int_eq(pipe2(info, O_CLOEXEC), 0);
	ck_assert_int_eq(proc_fds_add(&fds, info[1]), 3);
	if (extra_fd >= 0)
		ck_assert_int_eq(proc_fds_add(&fds, extra_fd), 4);
	ck_assert_int_eq(spawn_with(script, &fds, info[0]), 0);
	close(info[1]);
}

static void expect_gone(enum proc_end end, int code)
{
	ck_assert(WAIT_FOR(loop, gone_count == 1));
	ck_assert_int_eq(last.end, end);
	ck_assert_int_eq(last.code, code);
}

START_TEST(test_exit_status_is_told)
{
	spawn_plain("exit 7");
	ck_assert_int_gt(proc_pid(proc), 0);
	ck_assert_int_eq(gone_count, 0);
	expect_gone(PROC_END_EXITED, 7);
	ck_assert_int_eq(end_count, 1);
}
END_TEST

START_TEST(test_signal_is_told)
{
	spawn_plain("kill -USR1 $$");
	expect_gone(PROC_END_SIGNALED, SIGUSR1);
}
END_TEST

START_TEST(test_128_and_more_of_a_plain_program_is_its_own)
{
	spawn_plain("exit 137");
	expect_gone(PROC_END_EXITED, 137);
}
END_TEST

START_TEST(test_kill_ends_it)
{
	spawn_plain("trap '' TERM INT HUP; exec sleep 1000");
	proc_kill(proc);
	proc_kill(proc);
	expect_gone(PROC_END_SIGNALED, SIGKILL);
	ck_assert_int_eq(end_count, 1);
	proc_kill(proc);
}
END_TEST

/* Runs a script whose output (3) is `expected`. */
static void expect_output(const char *script, const char *expected)
{
	struct proc_fds fds = {.len = 0};
	char text[512] = {0};
	int out[2];

	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	ck_assert_int_eq(proc_fds_add(&fds, out[1]), 3);
	ck_assert_int_eq(spawn_with(script, &fds, -1), 0);
	close(out[1]);
	expect_gone(PROC_END_EXITED, 0);
	ck_assert_int_ge(read(out[0], text, sizeof(text) - 1), 0);
	ck_assert_str_eq(text, expected);
	close(out[0]);
	proc_destroy(TAKE_PTR(proc));
	gone_count = end_count = 0;
}

START_TEST(test_nothing_is_inherited_but_what_is_listed)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
	sigset_t usr1;
	int leak = open("/dev/null", O_RDONLY); /* not CLOEXEC on purpose */

	sigaction(SIGPIPE, &ignore, &before);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	setenv("EXECSANDBOX_TEST", "1", 1);
	expect_output("exec ls /proc/self/fd >&3", "0\n1\n2\n3\n4\n"); /* 4: the listing */
	expect_output("for i in 0 1; do x=$(readlink /proc/$$/fd/$i); echo $x >&3; done",
		      "/dev/null\n/dev/null\n");
	expect_output("wc -c < /proc/$$/environ >&3", "0\n");
	/* Signals 32 and 33 are glibc's own (NPTL): sigaction() refuses them, and posix_spawn() of
	 * a parent like make leaves them ignored, or the one that it has no handler for. */
	expect_output("grep -E 'Sig(Blk|Ign)' /proc/$$/status | tr -d '\\t\\n' | "
		      "sed 's/Ign:0000000[01][08]0000000/Ign:0/; s/0*//g' >&3",
		      "SigBlk:SigIgn:");
	expect_output("ulimit -n >&3; ulimit -Hn >&3", "77\n77\n");
	expect_output("cat /proc/$$/oom_score_adj >&3", "500\n");
	sigprocmask(SIG_UNBLOCK, &usr1, NULL);
	sigaction(SIGPIPE, &before, NULL);
	close(leak);
}
END_TEST

/* Our numbers and the child's overlap every way round. */
START_TEST(test_descriptors_land_on_their_numbers)
{
	struct proc_fds fds = {.len = 0};
	int pipes[4][2];
	char byte;

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pipe2(pipes[i], O_CLOEXEC), 0);
	for (int i = 3; i >= 0; i--)
		ck_assert_int_eq(proc_fds_add(&fds, pipes[i][1]), 6 - i);
	ck_assert_int_eq(
		spawn_with("for i in 3 4 5 6; do printf $i >&$i; done; printf x >&7", &fds, -1), 0);
	expect_gone(PROC_END_EXITED, 2); /* there is no 7 */
	for (int i = 0; i < 4; i++) {
		close(pipes[i][1]);
		ck_assert_int_eq(read(pipes[i][0], &byte, 1), 1);
		ck_assert_int_eq(byte, '6' - i);
		ck_assert_int_eq(read(pipes[i][0], &byte, 1), 0);
		close(pipes[i][0]);
	}
}
END_TEST

START_TEST(test_descriptors_are_bounded)
{
	struct proc_fds fds = {.len = 0};

	for (int i = 0; i < PROC_FDS_MAX; i++)
		ck_assert_int_eq(proc_fds_add(&fds, 0), PROC_FD_FIRST + i);
	ck_assert_int_eq(proc_fds_add(&fds, 0), -ENOSPC);
	ck_assert_int_eq(spawn_with("exit 0", &fds, -1), 0);
	expect_gone(PROC_END_EXITED, 0);
}
END_TEST

START_TEST(test_failed_starts_leave_nothing)
{
	static const char *const paths[] = {"/nonexistent", "/etc/passwd", "/"};
	static const int errors[] = {-ENOENT, -EACCES, -EACCES};
	struct proc_fds closed = {.fds = {1000}, .len = 1};

	for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
		char *argv[] = {(char *)paths[i], NULL};
		struct proc_spec spec = {.argv = argv, .info_fd_take = -1};

		ck_assert_int_eq(proc_spawn(loop, "test", &spec, &ops, NULL, &proc), errors[i]);
		ck_assert_ptr_null(proc);
	}
	ck_assert_int_eq(spawn_with("exit 0", &closed, -1), -EBADF);
}
END_TEST

START_TEST(test_last_words_are_kept)
{
	const char *words;

	spawn_plain(
		"i=0; while [ $i -lt 3000 ]; do echo \"line $i\" >&2; i=$((i+1)); done; exit 1");
	expect_gone(PROC_END_EXITED, 1);
	words = proc_stderr(proc);
	ck_assert_uint_eq(strlen(words), PROC_STDERR_SIZE);
	ck_assert_str_eq(words + strlen(words) - 10, "line 2999\n");
}
END_TEST

START_TEST(test_few_words_are_whole)
{
	spawn_plain("printf one >&2; printf ' two' >&2; exit 3");
	expect_gone(PROC_END_EXITED, 3);
	ck_assert_str_eq(proc_stderr(proc), "one two");
}
END_TEST

START_TEST(test_wrapped_program_is_found_and_killed)
{
	spawn_wrapper(WRAPPER_START WRAPPER_TELL WRAPPER_WAIT, -1);
	ck_assert_int_eq(proc_pid(proc), 0);
	ck_assert(WAIT_FOR(loop, told_pid > 0));
	ck_assert_int_eq(proc_pid(proc), told_pid);
	ck_assert_int_eq(kill(told_pid, 0), 0);
	proc_kill(proc);
	expect_gone(PROC_END_SIGNALED, SIGKILL);
	ck_assert_int_eq(end_count, 1);
	ck_assert_int_eq(kill(told_pid, 0), -1);
}
END_TEST

START_TEST(test_wrapped_program_ends_by_itself)
{
	int gate[2];

	ck_assert_int_eq(pipe2(gate, O_CLOEXEC), 0);
	spawn_wrapper("{ read x; exit 5; } <&4 & child=$!; " WRAPPER_TELL WRAPPER_WAIT, gate[0]);
	ck_assert(WAIT_FOR(loop, told_pid > 0));
	ck_assert_int_eq(write(gate[1], "\n", 1), 1);
	expect_gone(PROC_END_EXITED, 5);
	ck_assert_int_eq(end_count, 1);
	close(gate[0]);
	close(gate[1]);
}
END_TEST

START_TEST(test_a_jail_that_fails_tells_why)
{
	spawn_wrapper("echo 'no namespaces here' >&2; exit 1", -1);
	expect_gone(PROC_END_EXITED, 1);
	ck_assert_str_eq(proc_stderr(proc), "no namespaces here\n");
	ck_assert_int_eq(told_pid, 0);
	ck_assert_int_eq(end_count, 0);
}
END_TEST

START_TEST(test_a_kill_waits_for_the_pid)
{
	int gate[2];

	ck_assert_int_eq(pipe2(gate, O_CLOEXEC), 0);
	spawn_wrapper("read x <&4; " WRAPPER_START WRAPPER_TELL WRAPPER_WAIT, gate[0]);
	proc_kill(proc);
	ck_assert_int_eq(gone_count, 0);
	ck_assert_int_eq(write(gate[1], "\n", 1), 1);
	expect_gone(PROC_END_SIGNALED, SIGKILL);
	ck_assert_int_gt(told_pid, 0);
	close(gate[0]);
	close(gate[1]);
}
END_TEST

START_TEST(test_a_kill_does_not_wait_for_ever)
{
	spawn_wrapper("kill -STOP $$", -1);
	proc_kill(proc);
	expect_gone(PROC_END_UNKNOWN, SIGKILL);
	ck_assert_int_eq(told_pid, 0);
}
END_TEST

/* The wrapper stops for good right after it has told the pid, and reaps nothing. */
START_TEST(test_a_hanging_wrapper_is_killed)
{
	spawn_wrapper(WRAPPER_START WRAPPER_TELL "kill -STOP $$", -1);
	ck_assert(WAIT_FOR(loop, told_pid > 0));
	proc_kill(proc);
	ck_assert(WAIT_FOR(loop, end_count == 1));
	expect_gone(PROC_END_UNKNOWN, SIGKILL);
	reap_orphans();
	ck_assert_int_eq(kill(told_pid, 0), -1);
}
END_TEST

START_TEST(test_a_wrapper_that_dies_takes_its_program_along)
{
	int gate[2];

	ck_assert_int_eq(pipe2(gate, O_CLOEXEC), 0);
	spawn_wrapper(WRAPPER_START WRAPPER_TELL "read x <&4; kill -KILL $$", gate[0]);
	ck_assert(WAIT_FOR(loop, told_pid > 0));
	ck_assert_int_eq(write(gate[1], "\n", 1), 1);
	expect_gone(PROC_END_UNKNOWN, SIGKILL);
	ck_assert_int_eq(end_count, 1);
	reap_orphans();
	ck_assert_int_eq(kill(told_pid, 0), -1);
	close(gate[0]);
	close(gate[1]);
}
END_TEST

/* A pid that is not the wrapper's child is never touched, whatever the wrapper says. */
START_TEST(test_lies_about_the_pid_are_not_believed)
{
	static const char *const lies[] = {
		"{\\\"child-pid\\\": 1}",
		"{\\\"child-pid\\\": $PPID}",
		"{\\\"child-pid\\\": $$}",
		"{\\\"child-pid\\\": 0}",
		"{\\\"child-pid\\\": -1}",
		"{\\\"child-pid\\\": 4294967297}",
		"{\\\"child-pid\\\": \\\"1\\\"}",
		"{}",
		"[1]",
	};

	for (size_t i = 0; i < ELEMENTSOF(lies); i++) {
		char script[256];

		snprintf(script, sizeof(script), "echo \"%s\" >&3; exec sleep 1000", lies[i]);
		gone_count = 0;
		spawn_wrapper(script, -1);
		proc_kill(proc);
		expect_gone(PROC_END_UNKNOWN, SIGKILL);
		ck_assert_int_eq(told_pid, 0);
		proc_destroy(TAKE_PTR(proc));
	}
	ck_assert_int_eq(end_count, 0);
}
END_TEST

START_TEST(test_endless_info_is_bounded)
{
	spawn_wrapper("exec tr '\\0' x </dev/zero >&3", -1);
	/* The reader hangs up after its cap: tr ends by SIGPIPE, or is killed for having no pid. */
	ck_assert(WAIT_FOR(loop, gone_count == 1));
	ck_assert_int_eq(last.end, PROC_END_UNKNOWN);
	ck_assert_int_eq(told_pid, 0);
}
END_TEST

START_TEST(test_destroying_kills_and_reaps)
{
	pid_t pid;

	spawn_plain("exec sleep 1000");
	pid = proc_pid(proc);
	proc_destroy(TAKE_PTR(proc));
	ck_assert_int_eq(kill(pid, 0), -1);
	spawn_wrapper(WRAPPER_START WRAPPER_TELL WRAPPER_WAIT, -1);
	proc_destroy(TAKE_PTR(proc)); /* the pid has not even come */
	spawn_wrapper(WRAPPER_START WRAPPER_TELL WRAPPER_WAIT, -1);
	ck_assert(WAIT_FOR(loop, told_pid > 0));
	proc_destroy(TAKE_PTR(proc));
	ck_assert_int_eq(end_count + gone_count, 0);
	reap_orphans();
}
END_TEST

START_TEST(test_destroying_inside_a_callback)
{
	must_destroy = true;
	spawn_plain("exit 0");
	ck_assert(WAIT_FOR(loop, end_count == 1));
	spawn_wrapper(WRAPPER_START WRAPPER_TELL WRAPPER_WAIT, -1);
	ck_assert(WAIT_FOR(loop, told_pid > 0));
	proc_kill(proc);
	ck_assert(WAIT_FOR(loop, end_count == 2));
	ck_assert_int_eq(gone_count, 0);
	reap_orphans();
}
END_TEST

/* A daemon that dies takes its processes along. */
START_TEST(test_programs_die_with_us)
{
	struct pollfd poll_fd = {.events = POLLIN};
	int out[2];
	pid_t daemon, pid = 0;

	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	daemon = fork();
	ck_assert_int_ge(daemon, 0);
	if (daemon == 0) {
		ssize_t n;

		spawn_with("exec sleep 1000", NULL, -1);
		pid = proc_pid(proc);
		n = write(out[1], &pid, sizeof(pid));
		pause();
		_exit(n > 0 ? 0 : 1);
	}
	ck_assert_int_eq(read(out[0], &pid, sizeof(pid)), sizeof(pid));
	poll_fd.fd = pidfd_open(pid, 0);
	ck_assert_int_ge(poll_fd.fd, 0);
	ck_assert_int_eq(poll(&poll_fd, 1, 0), 0);
	kill(daemon, SIGKILL);
	ck_assert_int_eq(poll(&poll_fd, 1, WAIT_SECONDS * 1000), 1);
	ck_assert_int_eq(waitpid(daemon, NULL, 0), daemon);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	close(poll_fd.fd);
	close(out[0]);
	close(out[1]);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("proc");
	TCase *plain = tcase_create("plain"), *wrapped = tcase_create("wrapped");

	tcase_add_checked_fixture(plain, setup, teardown);
	tcase_add_checked_fixture(wrapped, setup, teardown);
	tcase_set_timeout(plain, 60);
	tcase_set_timeout(wrapped, 120);
	tcase_add_test(plain, test_exit_status_is_told);
	tcase_add_test(plain, test_signal_is_told);
	tcase_add_test(plain, test_128_and_more_of_a_plain_program_is_its_own);
	tcase_add_test(plain, test_kill_ends_it);
	tcase_add_test(plain, test_nothing_is_inherited_but_what_is_listed);
	tcase_add_test(plain, test_descriptors_land_on_their_numbers);
	tcase_add_test(plain, test_descriptors_are_bounded);
	tcase_add_test(plain, test_failed_starts_leave_nothing);
	tcase_add_test(plain, test_last_words_are_kept);
	tcase_add_test(plain, test_few_words_are_whole);
	tcase_add_test(plain, test_programs_die_with_us);
	tcase_add_test(wrapped, test_wrapped_program_is_found_and_killed);
	tcase_add_test(wrapped, test_wrapped_program_ends_by_itself);
	tcase_add_test(wrapped, test_a_jail_that_fails_tells_why);
	tcase_add_test(wrapped, test_a_kill_waits_for_the_pid);
	tcase_add_test(wrapped, test_a_kill_does_not_wait_for_ever);
	tcase_add_test(wrapped, test_a_hanging_wrapper_is_killed);
	tcase_add_test(wrapped, test_a_wrapper_that_dies_takes_its_program_along);
	tcase_add_test(wrapped, test_lies_about_the_pid_are_not_believed);
	tcase_add_test(wrapped, test_endless_info_is_bounded);
	tcase_add_test(wrapped, test_destroying_kills_and_reaps);
	tcase_add_test(wrapped, test_destroying_inside_a_callback);
	suite_add_tcase(suite, plain);
	suite_add_tcase(suite, wrapped);
	return suite;
}
