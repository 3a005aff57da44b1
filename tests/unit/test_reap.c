/* SPDX-License-Identifier: Apache-2.0 */
/* What a launcher left: directories of VMs, and processes that bear their names. */
#include "daemon/launcher/reap.h"

#include "daemon/launcher/start.h"
#include "daemon/launcher/vm_dir.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>

#define ID       "vm_0123456789abcdef"
#define OTHER_ID "node-vm_fedcba9876543210"

static char dir[TEST_DIR_SIZE];
static int vms_fd, walked;

static void setup(void)
{
	test_dir_make(dir);
	vms_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	walked = 0;
}

static void teardown(void)
{
	close_fd(vms_fd);
	test_dir_remove(dir);
}

START_TEST(test_ids)
{
	static const char *const good[] = {ID, OTHER_ID, "a.b_c-vm_0000000000000000"};
	static const char *const bad[] = {
		"",
		".",
		"..",
		"vm_",
		"vm_0123456789abcde",
		"vm_0123456789abcdeg",
		"vm_0123456789abcdef0",
		"x/vm_0123456789abcdef",
		"../vm_0123456789abcdef",
		".vm_0123456789abcdef",
		"a b-vm_0123456789abcdef",
		"vm_0123456789ABCDEF",
		"0123456789abcdef",
		"launcher",
		"0123456789012345678901234567890123456789012345678901234567890123-"
		"vm_0123456789abcdef"};

	for (size_t i = 0; i < ELEMENTSOF(good); i++)
		ck_assert_msg(vm_dir_is_id(good[i]), "%s", good[i]);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		ck_assert_msg(!vm_dir_is_id(bad[i]), "%s", bad[i]);
}
END_TEST

static void on_dir(void *user UNUSED, const char *id)
{
	ck_assert_str_eq(id, ID);
	walked++;
}

START_TEST(test_directories)
{
	mkdir(test_dir_path(dir, ID), 0700);
	test_dir_write(dir, ID "/qmp.sock", "", 0);
	test_dir_write(dir, ID "/.hidden", "", 0);
	mkdir(test_dir_path(dir, "other"), 0700);
	ck_assert_int_eq(vm_dir_walk(vms_fd, on_dir, NULL), 0);
	ck_assert_int_eq(walked, 1);
	ck_assert_int_eq(vm_dir_remove(vms_fd, ID), 0);
	ck_assert_int_eq(vm_dir_remove(vms_fd, ID), 0);
	ck_assert(!test_dir_has(dir, ID));
	ck_assert(test_dir_has(dir, "other"));
}
END_TEST

/* Nothing outside is reached through a link, and no tree is taken down. */
START_TEST(test_strange_directories)
{
	mkdir(test_dir_path(dir, "outside"), 0700);
	test_dir_write(dir, "outside/file", "", 0);
	ck_assert_int_eq(symlink("outside", test_dir_path(dir, ID)), 0);
	ck_assert_int_lt(vm_dir_remove(vms_fd, ID), 0);
	ck_assert(test_dir_has(dir, "outside/file"));
	mkdir(test_dir_path(dir, OTHER_ID), 0700);
	ck_assert_int_eq(symlink("../outside", test_dir_path(dir, OTHER_ID "/link")), 0);
	mkdir(test_dir_path(dir, OTHER_ID "/sub"), 0700);
	test_dir_write(dir, OTHER_ID "/sub/file", "", 0);
	ck_assert_int_eq(vm_dir_remove(vms_fd, OTHER_ID), -ENOTEMPTY);
	ck_assert(test_dir_has(dir, OTHER_ID "/sub/file"));
	ck_assert(test_dir_has(dir, "outside/file"));
}
END_TEST

/* Waits for what closes the other end: an exec, or an end. */
static void await_exec(const int ready[2])
{
	char byte;

	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 0);
	close(ready[0]);
}

/* A process with three words, of some uid; ready when it has its command line. */
static pid_t start(const char *first, const char *second, uid_t uid)
{
	int ready[2];
	pid_t pid;

	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (uid != getuid() && setresuid(uid, uid, uid) < 0)
			_exit(1);
		execl("/bin/sh", "sh", "-c", "kill -STOP $$", "sh", first, second, (char *)NULL);
		_exit(1);
	}
	await_exec(ready);
	return pid;
}

static void expect_killed(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, WNOHANG), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void expect_alive(pid_t pid)
{
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

START_TEST(test_processes)
{
	pid_t ours = start("-name", ID, getuid()), second = start("-name", OTHER_ID, getuid());
	pid_t unnamed = start("-kernel", ID, getuid()), named = start("-name", "vm_1", getuid());

	ck_assert_int_eq(reap_strangers(20), 2);
	expect_killed(ours);
	expect_killed(second);
	expect_alive(unnamed);
	expect_alive(named);
	ck_assert_int_eq(reap_strangers(20), 0);
}
END_TEST

START_TEST(test_other_users_are_left_alone)
{
	pid_t theirs = start("-name", ID, 65534);

	ck_assert_int_eq(reap_strangers(20), 0);
	expect_alive(theirs);
}
END_TEST

/* One that starts a wrapper that starts a VM's process, whose pid comes through a pipe. */
static pid_t start_family(const char *name, pid_t *ret_vm)
{
	static const char script[] =
		"sh -c 'sh -c \"echo \\$\\$; kill -STOP \\$\\$\" sh -name " ID "; :'; :";
	char line[16] = "";
	int out[2];
	pid_t pid;

	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		execl("/bin/sh", name, "-c", script, (char *)NULL);
		_exit(1);
	}
	close(out[1]);
	ck_assert_int_gt(read(out[0], line, sizeof(line) - 1), 0);
	close(out[0]);
	*ret_vm = (pid_t)strtol(line, NULL, 10);
	return pid;
}

static bool ends(pid_t pid)
{
	for (int i = 0; i < 1000; i++) {
		if (kill(pid, 0) < 0)
			return true;
		(void)waitpid(pid, NULL, WNOHANG);
		poll(NULL, 0, 10);
	}
	return false;
}

/* Whose launcher lives is not left, of whichever launcher; whose launcher has died is. */
START_TEST(test_under_a_launcher)
{
	pid_t vm, launcher = start_family("/usr/libexec/" LAUNCHER_PROGRAM, &vm);

	ck_assert_int_eq(reap_strangers(20), 0);
	ck_assert_int_eq(kill(vm, 0), 0);
	kill(launcher, SIGKILL);
	ck_assert_int_eq(waitpid(launcher, NULL, 0), launcher);
	/* The wrapper between them bears no name. */
	ck_assert_int_eq(reap_strangers(20), 1);
	ck_assert(ends(vm));
}
END_TEST

START_TEST(test_under_something_else)
{
	pid_t vm, parent = start_family("not-" LAUNCHER_PROGRAM, &vm);

	ck_assert_int_eq(reap_strangers(20), 1);
	ck_assert(ends(vm));
	waitpid(parent, NULL, 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("reap");
	TCase *tests = tcase_create("reap");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_ids);
	tcase_add_test(tests, test_directories);
	tcase_add_test(tests, test_strange_directories);
	tcase_add_test(tests, test_processes);
	if (geteuid() == 0)
		tcase_add_test(tests, test_other_users_are_left_alone);
	tcase_add_test(tests, test_under_a_launcher);
	tcase_add_test(tests, test_under_something_else);
	suite_add_tcase(suite, tests);
	return suite;
}
