/* SPDX-License-Identifier: Apache-2.0 */
/* What a launcher left: directories of VMs, and the processes that bear their names. */
#include "daemon/launcher/reap.h"

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

/* A process that bears a name, of some uid; ready when it has its command line. */
static pid_t start(const char *name, uid_t uid)
{
	int ready[2];
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		if (uid != getuid() && setresuid(uid, uid, uid) < 0)
			_exit(1);
		execl("/bin/sleep", name, "1000", (char *)NULL);
		_exit(1);
	}
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 0); /* the exec has closed it */
	close(ready[0]);
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
	pid_t ours = start("qemu-" ID ",x", getuid()), second = start(OTHER_ID, getuid());
	pid_t unknown = start("vm_00000000000000aa", getuid());

	mkdir(test_dir_path(dir, ID), 0700);
	mkdir(test_dir_path(dir, OTHER_ID), 0700);
	ck_assert_int_eq(reap_strangers(vms_fd, 20), 2);
	expect_killed(ours);
	expect_killed(second);
	expect_alive(unknown);
	ck_assert_int_eq(reap_strangers(vms_fd, 20), 0);
}
END_TEST

START_TEST(test_other_users_are_left_alone)
{
	pid_t theirs = start(ID, 65534);

	mkdir(test_dir_path(dir, ID), 0700);
	ck_assert_int_eq(reap_strangers(vms_fd, 20), 0);
	expect_alive(theirs);
}
END_TEST

START_TEST(test_nothing_to_look_for)
{
	pid_t pid = start(ID, getuid());

	ck_assert_int_eq(reap_strangers(vms_fd, 20), 0);
	ck_assert_int_eq(reap_strangers(-1, 20), -EBADF);
	expect_alive(pid);
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
	tcase_add_test(tests, test_nothing_to_look_for);
	suite_add_tcase(suite, tests);
	return suite;
}
