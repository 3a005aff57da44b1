/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MEMORY_DROP: what the agent does until the kernel has dropped the caches.
 *
 * The kernel's file is a pipe here, and full: a drop takes until the test reads from it.
 */
#include "tests/unit/test_agent_host.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"

static struct host host;
static char dir[TEST_DIR_SIZE], path[TEST_DIR_SIZE + sizeof("/drop_caches")];
static int pipe_fd;

static void setup(void)
{
	char fill[4096] = {0};

	test_dir_make(dir);
	snprintf(path, sizeof(path), "%s/drop_caches", dir);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	pipe_fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	ck_assert_int_ge(pipe_fd, 0);
	while (write(pipe_fd, fill, sizeof(fill)) > 0)
		;
	host_start_dropping(&host, NULL, path);
	host_hello(&host);
}

static void teardown(void)
{
	host_stop(&host);
	close(pipe_fd);
	test_dir_remove(dir);
}

/* Lets what was started write; returns how many did. */
static size_t drain(void)
{
	char bytes[4096];
	size_t drops = 0;
	ssize_t n;

	while ((n = read(pipe_fd, bytes, sizeof(bytes))) > 0)
		for (ssize_t i = 0; i < n; i++)
			drops += bytes[i] == '3';
	return drops;
}

static void send_drop(uint64_t id)
{
	host_send(&host, &(struct msg){.type = FRAME_MEMORY_DROP, .ping.id = id});
}

static bool is_answered(uint64_t id)
{
	return host.memory.id == id;
}

START_TEST(test_drop_is_answered_when_it_is_done)
{
	size_t drops;

	send_drop(7);
	/* It holds up neither PING nor MEMORY_GET. (A run's end would end it: without cgroups all
	 * processes are the run's.) */
	host_ping(&host);
	host_send(&host, &(struct msg){.type = FRAME_MEMORY_GET, .ping.id = 8});
	HOST_WAIT(&host, is_answered(8));
	drops = drain();
	HOST_WAIT(&host, is_answered(7));
	ck_assert_uint_eq(drops + drain(), 1);
	ck_assert_uint_gt(host.memory.mem_total, 0);
}
END_TEST

/* One drop for both, one answer, with the id of the later one; then it can be asked anew. */
START_TEST(test_drop_while_one_runs)
{
	size_t drops;

	send_drop(7);
	host_ping(&host);
	send_drop(9);
	host_ping(&host);
	drops = drain();
	while (!is_answered(9)) {
		HOST_WAIT(&host, host.memory.id != 0);
		ck_assert_uint_eq(host.memory.id, 9);
	}
	drops += drain();
	ck_assert_uint_eq(drops, 1);
	send_drop(10);
	HOST_WAIT(&host, is_answered(10));
	ck_assert_uint_eq(drain(), 1);
}
END_TEST

/* Its host has gone meanwhile: the next one is served as if nothing was. */
START_TEST(test_drop_outlives_its_host)
{
	send_drop(7);
	host_ping(&host);
	host_reconnect(&host);
	host_hello(&host);
	drain();
	send_drop(1);
	HOST_WAIT(&host, is_answered(1));
	host_ping(&host);
}
END_TEST

/* Where nothing can be dropped it is answered all the same: who asked goes on. */
START_TEST(test_drop_of_nothing)
{
	static const char *const paths[] = {NULL, "/proc/there/is/no/such/file", "/proc/self/stat"};

	for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
		host_stop(&host);
		host_start_dropping(&host, NULL, paths[i]);
		host_hello(&host);
		send_drop(5 + i);
		HOST_WAIT(&host, is_answered(5 + i));
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_drop");
	TCase *tcase = tcase_create("drop");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_drop_is_answered_when_it_is_done);
	tcase_add_test(tcase, test_drop_while_one_runs);
	tcase_add_test(tcase, test_drop_outlives_its_host);
	tcase_add_test(tcase, test_drop_of_nothing);
	suite_add_tcase(suite, tcase);
	return suite;
}
