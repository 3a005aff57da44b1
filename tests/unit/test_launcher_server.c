/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher's server in our own process: what it does without memory, and while it ends. */
#include "daemon/launcher/server.h"

#include "daemon/launcher/message.h"
#include "daemon/launcher/server_internal.h"
#include "daemon/launcher/start.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define ID "vm_0123456789abcdef"
#define SPAWN_AS(id, program, word)                                               \
	"{\"type\":\"spawn\",\"id\":\"" id "\",\"argv\":[\"" program "\",\"" word \
	"\"],\"cgroup\":{\"memory_max_bytes\":67108864,\"cpu_percent\":100,\"pids_max\":8}}"
#define SPAWN(program, word) SPAWN_AS(ID, program, word)

static char dir[TEST_DIR_SIZE];
static struct loop *loop;
static struct server *server;
static struct packet packet;
static int runtime_fd, listen_fd, daemon_fd, fds_before;

static void *no_memory(size_t size UNUSED)
{
	return NULL;
}

static void setup(void)
{
	struct server_config config;
	int ends[2];

	signal(SIGPIPE, SIG_IGN);
	test_dir_make(dir);
	fds_before = test_open_fds();
	packet = (struct packet)PACKET_NONE;
	runtime_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	listen_fd = launcher_listen(runtime_fd, (uid_t)-1);
	ck_assert_int_ge(listen_fd, 0);
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	daemon_fd = ends[0];
	config = (struct server_config){.loop = loop,
					.runtime_fd = runtime_fd,
					.listen_fd = listen_fd,
					.daemon_fd_take = ends[1],
					.orphan_seconds = 60,
					.children_max = 2};
	json_set_alloc_funcs(no_memory, free);
	ck_assert_int_eq(server_create(&config, &server), 0);
	json_set_alloc_funcs(malloc, free);
}

static void teardown(void)
{
	packet_clear(&packet);
	close(daemon_fd);
	server_destroy(server);
	loop_destroy(loop);
	close(listen_fd);
	close(runtime_fd);
	test_dir_remove(dir);
}

/* Whether the last packet is of that type, or one of those that wait: no event comes for them. */
static bool heard(const char *type)
{
	struct packet next;

	while (!packet.json || strcmp(packet_string(packet.json, "type"), type) != 0) {
		if (packet_receive(daemon_fd, &next) <= 0)
			return false;
		packet_clear(&packet);
		packet = next;
	}
	return true;
}

static void expect(const char *type)
{
	ck_assert_msg(WAIT_FOR(loop, heard(type)), "%s", type);
}

static void expect_of(const char *type, const char *id)
{
	do {
		packet_clear(&packet);
		expect(type);
	} while (strcmp(packet_string(packet.json, "id"), id) != 0);
}

static void say(const char *text)
{
	ck_assert_int_eq(send(daemon_fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* A daemon that lost its connection would end all its VMs. */
START_TEST(test_no_memory_to_tell)
{
	json_set_alloc_funcs(no_memory, free);
	for (size_t i = 0; i < 3; i++)
		loop_run_once(loop, false);
	json_set_alloc_funcs(malloc, free);
	ck_assert_int_eq(packet_receive(daemon_fd, &packet), -EAGAIN);
	expect("hello");
	expect("synced");
}
END_TEST

START_TEST(test_no_memory_to_read)
{
	expect("synced");
	say(SPAWN("/nonexistent", "x"));
	json_set_alloc_funcs(no_memory, free);
	for (size_t i = 0; i < 3; i++)
		loop_run_once(loop, false);
	json_set_alloc_funcs(malloc, free);
	ck_assert_int_eq(packet_receive(daemon_fd, &packet), -EAGAIN);
	expect("failed");
	ck_assert_int_eq(packet_number(packet.json, "errno"), ENOENT);
	ck_assert_str_eq(packet_string(packet.json, "id"), ID);
}
END_TEST

/* One too many is refused, which is no reason to lose the others. */
START_TEST(test_too_many)
{
	expect("synced");
	say(SPAWN_AS("vm_0000000000000001", "/bin/sleep", "1000"));
	expect("spawned");
	say(SPAWN("/bin/sleep", "1000"));
	expect_of("spawned", ID);
	say(SPAWN_AS("vm_0000000000000003", "/bin/sleep", "1000"));
	expect("failed");
	ck_assert_str_eq(packet_string(packet.json, "id"), "vm_0000000000000003");
	ck_assert_int_eq(packet_number(packet.json, "errno"), EAGAIN);
	say("{\"type\":\"kill\",\"id\":\"" ID "\"}");
	expect("gone");
	ck_assert_str_eq(packet_string(packet.json, "id"), ID);
	say(SPAWN_AS("vm_0000000000000003", "/bin/sleep", "1000"));
	expect("spawned");
}
END_TEST

/* Until nothing more can be said to the daemon. */
static void fill_daemons_socket(void)
{
	static const char text[512];

	while (send(server->daemon_fd, text, sizeof(text), MSG_NOSIGNAL) > 0)
		;
	ck_assert_int_eq(errno, EAGAIN);
}

/* What is refused is remembered until it is heard: a daemon that asks and asks and never listens
 * goes before that fills the memory. */
START_TEST(test_refusals_that_are_not_heard)
{
	const size_t max = 2 * server->config.children_max;
	char text[256];

	expect("synced");
	fill_daemons_socket();
	for (size_t i = 0; i <= max; i++) {
		ck_assert_uint_eq(server->n_children, i);
		ck_assert_int_ge(server->daemon_fd, 0);
		snprintf(text, sizeof(text), SPAWN_AS("vm_000000000000000%zu", "/nonexistent", "x"),
			 i);
		say(text);
		ck_assert(WAIT_FOR(loop, server->n_children > i || server->daemon_fd < 0));
	}
	ck_assert_int_lt(server->daemon_fd, 0);
	ck_assert_uint_eq(server->n_children, max);
}
END_TEST

/* Who connects meanwhile is not turned away: that would be tried again at once, and in vain. */
START_TEST(test_end)
{
	_cleanup_close_ int next_fd = -1;
	char byte;

	expect("synced");
	say(SPAWN("/bin/sleep", "1000"));
	expect("spawned");
	say("{\"type\":\"end\"}");
	expect("gone");
	ck_assert_int_eq(packet_number(packet.json, "end"), PROC_END_SIGNALED);
	next_fd = unix_connect_packets_at(runtime_fd, LAUNCHER_SOCKET);
	ck_assert_int_ge(next_fd, 0);
	loop_run_once(loop, false);
	ck_assert_int_eq(recv(next_fd, &byte, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

/* A connection that waits, and no number for it. */
static int connect_without_numbers(struct rlimit *before)
{
	int fd = unix_connect_packets_at(runtime_fd, LAUNCHER_SOCKET);
	struct rlimit none;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, before), 0);
	none = *before;
	none.rlim_cur = (rlim_t)fd;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert(WAIT_FOR(loop, !ev_is_active(&server->listener)));
	return fd;
}

/* It is served when there is one, and not looked for all the time until then. */
START_TEST(test_no_numbers)
{
	_cleanup_close_ int next_fd = -1;
	struct rlimit before;
	char byte;

	expect("synced");
	next_fd = connect_without_numbers(&before);
	ck_assert(WAIT_FOR(loop, ev_is_active(&server->listener)));
	ck_assert(WAIT_FOR(loop, !ev_is_active(&server->listener)));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert(WAIT_FOR(loop, recv(next_fd, &byte, 1, MSG_DONTWAIT) == 0));
	say(SPAWN("/bin/sleep", "1000"));
	expect("spawned");
}
END_TEST

/* One that ends does not begin to accept again. */
START_TEST(test_no_numbers_at_the_end)
{
	_cleanup_close_ int next_fd = -1;
	struct rlimit before;
	char byte;

	expect("synced");
	say(SPAWN("/bin/sleep", "1000"));
	expect("spawned");
	next_fd = connect_without_numbers(&before);
	say("{\"type\":\"end\"}");
	expect("gone");
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert(WAIT_FOR(loop, !ev_is_active(&server->again)));
	loop_run_once(loop, false);
	ck_assert_int_eq(recv(next_fd, &byte, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("launcher_server");
	TCase *tests = tcase_create("launcher_server");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_no_memory_to_tell);
	tcase_add_test(tests, test_no_memory_to_read);
	tcase_add_test(tests, test_too_many);
	tcase_add_test(tests, test_refusals_that_are_not_heard);
	tcase_add_test(tests, test_end);
	tcase_add_test(tests, test_no_numbers);
	tcase_add_test(tests, test_no_numbers_at_the_end);
	suite_add_tcase(suite, tests);
	return suite;
}
