/* SPDX-License-Identifier: Apache-2.0 */
/* Farewells: a run ends when its program says so, and its last processes go behind EXIT. */
#include "tests/unit/test_agent_host.h"

#include "tests/unit/suite.h"

#include <mntent.h>

static struct host host;
static char group[PATH_MAX]; /* a control group for the agent; empty: this host has none */

/* Where control groups can be made and killed; a host may have none, or not let us. */
static void make_group(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	char kill_path[PATH_MAX + 16];
	struct mntent *mount;

	*group = '\0';
	while (!*group && (mount = getmntent(mounts))) {
		if (strcmp(mount->mnt_type, "cgroup2") != 0)
			continue;
		snprintf(group, sizeof(group), "%s/test_agent_%d", mount->mnt_dir, getpid());
		snprintf(kill_path, sizeof(kill_path), "%s/cgroup.kill", group);
		if (mkdir(group, 0755) == 0 && access(kill_path, W_OK) == 0)
			break;
		rmdir(group);
		*group = '\0';
	}
	endmntent(mounts);
}

static void setup(void)
{
	make_group();
	host_start(&host, *group ? group : NULL);
	host_hello(&host);
}

static void teardown(void)
{
	host_stop(&host);
	/* The agent has left no control group behind, and in none of them a process. */
	if (*group)
		ck_assert_int_eq(rmdir(group), 0);
}

static void setup_without_groups(void)
{
	*group = '\0';
	host_start(&host, NULL);
	host_hello(&host);
}

static size_t count_runs(void)
{
	char path[PATH_MAX + 8];
	struct dirent *entry;
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/user", group);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)))
		n += strncmp(entry->d_name, "run-", 4) == 0;
	closedir(dir);
	return n;
}

/* The agent works by itself; a PING between two looks makes progress visible. */
#define WAIT_PINGING(condition)                                                                 \
	do {                                                                                    \
		uint64_t deadline_us_ = now_us() + HOST_DEADLINE_US;                            \
		while (!(condition)) {                                                          \
			ck_assert_msg(now_us() < deadline_us_, "deadline passed: " #condition); \
			host_ping(&host);                                                       \
		}                                                                               \
	} while (0)

static bool is_alive(pid_t pid)
{
	return kill(pid, 0) == 0;
}

/* The host has done with the run, and uses its number again. */
static void acknowledge(uint32_t exec)
{
	host_send(&host, &(struct msg){.type = FRAME_EXIT_ACK, .exec_ref.exec = exec});
	for (int i = 0; i < 2; i++) {
		free(host.streams[exec][i].data);
		host.streams[exec][i] = (struct host_stream){0};
		flow_receiver_init(&host.streams[exec][i].flow);
	}
	flow_sender_fini(&host.code_flow[exec]);
	flow_sender_fini(&host.input_flow[exec]);
	flow_sender_init(&host.code_flow[exec]);
	flow_sender_init(&host.input_flow[exec]);
	host.has_exit[exec] = false;
}

#define CHILD                                                \
	"import os, time\n"                                  \
	"child = os.fork()\n"                                \
	"if child == 0:\n    os.setsid(); time.sleep(600)\n" \
	"print(child)\n"

/* Who writes it has as good as called _exit(): whatever goes on is killed. */
static const char *const forgers[] = {
	CHILD "os.write(100, b'\\0\\7')\ntime.sleep(600)\n",
	CHILD "if os.fork() == 0:\n    os.write(100, b'\\0\\7')\ntime.sleep(600)\n",
	CHILD "import sys\nsys.exit(7)\n",
	CHILD
	"import threading\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
	"\nraise SystemExit(7)\n",
};

START_TEST(test_farewell_ends_the_run)
{
	const struct msg_exit *exit;
	pid_t child;

	if (!*group)
		return;
	exit = host_run(&host, 1, "python", forgers[_i]);
	ck_assert_str_eq(exit->reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(exit->exit_code, 7);
	ck_assert_ptr_null(exit->error);
	child = (pid_t)strtol(host_stdout(&host, 1), NULL, 10);
	ck_assert_int_gt(child, 1);
	WAIT_PINGING(!is_alive(child));
	ck_assert_uint_eq(count_runs(), 1);
	acknowledge(1);
	WAIT_PINGING(count_runs() == 0);
}
END_TEST

static const char *const no_farewells[] = {
	"os.write(100, b'\\0\\7x')",
	"os.write(100, b'\\0')",
	"os.write(100, b'\\1\\7')",
	"os.write(100, b'a\\0b\\0c')",
	"os.write(100, b'\\0\\7' * 9)",
	"os.close(100)",
	"os.set_blocking(100, False)\n"
	"try:\n    while True: os.write(100, b'\\0')\nexcept OSError: pass",
};

/* The input comes after that was read: it ends as it likes. */
START_TEST(test_no_farewell)
{
	char code[512];

	snprintf(code, sizeof(code), "import os, sys\n%s\ninput()\nprint('on')\nsys.exit(3)\n",
		 no_farewells[_i]);
	host_run(&host, 1, "python", "pass");
	acknowledge(1);
	{
		struct msg_exec request = host_request(1, "python");

		host_exec(&host, &request, code, "\n", 1);
	}
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(host.exits[1].exit_code, 3);
	ck_assert_str_eq(host_stdout(&host, 1), "on\n");
}
END_TEST

/* Without control groups nobody can tell whom to kill: the process's own end counts. */
START_TEST(test_farewell_without_groups)
{
	const struct msg_exit *exit =
		host_run(&host, 1, "python",
			 "import os, sys\nos.write(100, b'\\0\\7')\nprint('on')\nsys.exit(3)\n");

	ck_assert_str_eq(exit->reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(exit->exit_code, 3);
	ck_assert_str_eq(host_stdout(&host, 1), "on\n");
}
END_TEST

/* Output that was written before a farewell is not lost, however much there is. */
START_TEST(test_output_before_a_farewell)
{
	host_run(&host, 1, "python", "print('o' * 1000000)\n");
	ck_assert_uint_eq(host.streams[1][0].len, 1000001);
	ck_assert_uint_eq(host.exits[1].stdout_bytes, 1000001);
	ck_assert_uint_eq(host.exits[1].exit_code, 0);
}
END_TEST

/* What a rehearsal and the run behind it do: one number, and the first one's processes may not be
 * gone when the second begins. */
START_TEST(test_number_is_used_again_at_once)
{
	for (int i = 0; i < 20; i++) {
		char code[256], expected[16];

		snprintf(code, sizeof(code),
			 "import os, time\nfor i in range(5):\n    if os.fork() == 0:\n"
			 "        time.sleep(600)\nprint(%d)\n",
			 i);
		snprintf(expected, sizeof(expected), "%d\n", i);
		host_run(&host, 1, "python", code);
		ck_assert_str_eq(host_stdout(&host, 1), expected);
		ck_assert_uint_eq(host.exits[1].exit_code, 0);
		acknowledge(1);
	}
	if (*group)
		WAIT_PINGING(count_runs() == 0);
}
END_TEST

/* teardown() then finds no process and no control group. */
START_TEST(test_agent_ends_while_processes_leave)
{
	host_run(&host, 1, "python",
		 "import os, time\nfor i in range(50):\n    if os.fork() == 0:\n"
		 "        x = bytearray(4 << 20)\n        time.sleep(600)\nprint(1)\n");
	if (_i == 0)
		acknowledge(1);
	host_ping(&host);
}
END_TEST

/* A farewell is the end, whatever the host wants afterwards. */
START_TEST(test_kill_behind_a_farewell)
{
	host_run(&host, 1, "python", "import sys\nsys.exit(5)\n");
	host_kill(&host, 1, 0);
	host_ping(&host);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(host.exits[1].exit_code, 5);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name, void (*start)(void))
{
	TCase *tcase = tcase_create(name);

	tcase_add_checked_fixture(tcase, start, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, test_no_farewell, 0, ELEMENTSOF(no_farewells));
	tcase_add_test(tcase, test_output_before_a_farewell);
	tcase_add_test(tcase, test_number_is_used_again_at_once);
	tcase_add_loop_test(tcase, test_agent_ends_while_processes_leave, 0, 2);
	tcase_add_test(tcase, test_kill_behind_a_farewell);
	suite_add_tcase(suite, tcase);
	return tcase;
}

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_farewell");
	TCase *with = add_case(suite, "with control groups", setup);
	TCase *without = add_case(suite, "without control groups", setup_without_groups);

	tcase_add_loop_test(with, test_farewell_ends_the_run, 0, ELEMENTSOF(forgers));
	tcase_add_test(without, test_farewell_without_groups);
	return suite;
}
