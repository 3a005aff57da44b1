/* SPDX-License-Identifier: Apache-2.0 */
/* Packets and messages between daemon and launcher: round trips, limits, what is not taken. */
#include "daemon/launcher/message.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define ID "vm_0123456789abcdef"

static const struct leaf_limits leaf = {
	.memory_max_bytes = UINT64_C(5) << 32, .cpu_percent = 200, .pids_max = 256};

static int ends[2], fds_before;
static struct packet packet;

static void setup(void)
{
	fds_before = test_open_fds();
	packet = (struct packet)PACKET_NONE;
	ck_assert_int_eq(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
}

/* Nothing that came is left open. */
static void teardown(void)
{
	packet_clear(&packet);
	close_fd(ends[0]);
	close_fd(ends[1]);
	ck_assert_int_eq(test_open_fds(), fds_before);
}

static void send_text(const char *text, size_t len)
{
	ck_assert_int_eq(send(ends[0], text, len, 0), (ssize_t)len);
}

START_TEST(test_round_trip)
{
	json_auto_t *json = json_pack("{s:s, s:i}", "type", "x", "n", 7);
	struct stat sent, came;
	int fds[] = {ends[0], ends[1]};

	ck_assert_int_eq(packet_send(ends[0], json, fds, 2), 0);
	ck_assert_int_eq(packet_receive(ends[1], &packet), 1);
	ck_assert(json_equal(packet.json, json));
	ck_assert_uint_eq(packet.n_fds, 2);
	ck_assert(!packet.is_cut);
	ck_assert_int_eq(fcntl(packet.fds[0], F_GETFD), FD_CLOEXEC);
	fstat(ends[1], &sent);
	fstat(packet.fds[1], &came);
	ck_assert_uint_eq(sent.st_ino, came.st_ino);
	ck_assert_str_eq(packet_string(packet.json, "type"), "x");
	ck_assert_int_eq(packet_number(packet.json, "n"), 7);
	ck_assert_ptr_null(packet_string(packet.json, "n"));
	ck_assert_int_eq(packet_number(packet.json, "type"), 0);
	{
		_cleanup_close_ int taken = packet_take_fd(&packet, 1);

		ck_assert_int_ge(taken, 0);
		ck_assert_int_eq(packet_take_fd(&packet, 1), -1);
		ck_assert_int_eq(packet_take_fd(&packet, 2), -1);
	}
}
END_TEST

START_TEST(test_nothing_there)
{
	ck_assert_int_eq(packet_receive(ends[1], &packet), -EAGAIN);
	ends[0] = close_fd(ends[0]);
	ck_assert_int_eq(packet_receive(ends[1], &packet), 0);
}
END_TEST

START_TEST(test_no_objects)
{
	static const char *const texts[] = {"[]", "7", "{", "{} {}", "\xff", "{\"a\":1,\"a\":2}"};
	char large[PACKET_SIZE_MAX + 2];

	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		send_text(texts[i], strlen(texts[i]));
		ck_assert_int_eq(packet_receive(ends[1], &packet), -EBADMSG);
	}
	send_text("{\0}", 3);
	ck_assert_int_eq(packet_receive(ends[1], &packet), -EBADMSG);
	/* An object, but for what does not fit. */
	memset(large, ' ', sizeof(large));
	memcpy(large, "{}", 2);
	send_text(large, sizeof(large));
	ck_assert_int_eq(packet_receive(ends[1], &packet), -EBADMSG);
	send_text(large, PACKET_SIZE_MAX);
	ck_assert_int_eq(packet_receive(ends[1], &packet), 1);
}
END_TEST

static void *no_memory(size_t size UNUSED)
{
	return NULL;
}

/* It is not lost: nobody would send it again. */
START_TEST(test_no_memory)
{
	json_auto_t *json = json_pack("{s:s}", "type", "x");

	ck_assert_int_eq(packet_send(ends[0], json, ends, 1), 0);
	json_set_alloc_funcs(no_memory, free);
	ck_assert_int_eq(packet_send(ends[0], json, NULL, 0), -ENOMEM);
	ck_assert_int_eq(packet_receive(ends[1], &packet), -ENOMEM);
	json_set_alloc_funcs(malloc, free);
	ck_assert(packet_is_scarcity(-ENOMEM) && !packet_is_scarcity(-EPIPE));
	ck_assert_int_eq(packet_receive(ends[1], &packet), 1);
	ck_assert(json_equal(packet.json, json));
	ck_assert_uint_eq(packet.n_fds, 1);
	ck_assert_int_eq(packet_receive(ends[1], &packet), -EAGAIN);
}
END_TEST

START_TEST(test_too_much_to_send)
{
	char large[PACKET_SIZE_MAX];
	json_auto_t *json = NULL, *small = json_object();
	int fds[PACKET_FDS_MAX + 1], r;

	memset(large, 'x', sizeof(large));
	json = json_pack("{s:s%}", "a", large, sizeof(large));
	ck_assert_int_eq(packet_send(ends[0], json, NULL, 0), -EMSGSIZE);
	for (size_t i = 0; i < ELEMENTSOF(fds); i++)
		fds[i] = ends[0];
	ck_assert_int_eq(packet_send(ends[0], small, fds, PACKET_FDS_MAX + 1), -EMSGSIZE);
	ck_assert_int_eq(packet_send(ends[0], small, fds, PACKET_FDS_MAX), 0);
	ck_assert_int_eq(packet_receive(ends[1], &packet), 1);
	ck_assert_uint_eq(packet.n_fds, PACKET_FDS_MAX);
	do {
		r = packet_send(ends[0], small, NULL, 0);
	} while (r == 0);
	ck_assert_int_eq(r, -EAGAIN);
	ends[1] = close_fd(ends[1]);
	r = packet_send(ends[0], small, NULL, 0);
	ck_assert_msg(r == -EPIPE || r == -ECONNRESET, "%d",
		      r); /* as there was more to read or not */
}
END_TEST

static void receive_without_numbers(void)
{
	struct rlimit limit = {.rlim_cur = (rlim_t)ends[1] + 2, .rlim_max = (rlim_t)ends[1] + 2};
	json_t *json = json_object();
	int fds[] = {ends[0], ends[0], ends[0], ends[0]};

	EXPECT(packet_send(ends[0], json, fds, 4) == 0);
	EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	EXPECT(packet_receive(ends[1], &packet) == 1);
	EXPECT(packet.is_cut);
	EXPECT(packet.n_fds < 4);
	packet_clear(&packet);
	json_decref(json);
}

START_TEST(test_descriptors_that_do_not_fit)
{
	in_child(receive_without_numbers);
}
END_TEST

/* --- Spawns. --- */

static int pass_spawn(const struct proc_spec *spec, const int *fds, size_t n,
		      struct spawn_request *ret)
{
	json_auto_t *json = message_spawn(ID, spec, &leaf);

	ck_assert_ptr_nonnull(json);
	ck_assert_int_eq(packet_send(ends[0], json, fds, n), 0);
	ck_assert_int_eq(packet_receive(ends[1], &packet), 1);
	return message_read_spawn(&packet, ret);
}

START_TEST(test_spawn)
{
	static const struct proc_limit limits[] = {{.resource = RLIMIT_CORE, .value = 0},
						   {.resource = RLIMIT_NOFILE, .value = 256},
						   {.resource = RLIMIT_AS, .value = RLIM_INFINITY}};
	char *argv[] = {(char *)"/bin/x", (char *)"", (char *)"a \"b\"\n\xc3\xa4", NULL};
	struct proc_spec spec = {.argv = argv,
				 .limits = limits,
				 .n_limits = 3,
				 .info_fd_take = 0,
				 .oom_score_adj = 500,
				 .has_no_huge_pages = true};
	struct spawn_request request;
	int fds[] = {ends[0], ends[0], ends[1]}, info_fd;

	ck_assert_int_eq(pass_spawn(&spec, fds, 3, &request), 0);
	ck_assert_str_eq(request.id, ID);
	for (size_t i = 0; i < 3; i++)
		ck_assert_str_eq(request.spec.argv[i], argv[i]);
	ck_assert_ptr_null(request.spec.argv[3]);
	ck_assert_int_eq(request.spec.fds->len, 2);
	ck_assert_uint_eq(request.spec.n_limits, 3);
	for (size_t i = 0; i < 3; i++) {
		ck_assert_int_eq(request.spec.limits[i].resource, limits[i].resource);
		ck_assert_uint_eq(request.spec.limits[i].value, limits[i].value);
	}
	ck_assert_int_eq(request.spec.oom_score_adj, 500);
	ck_assert(request.spec.has_no_huge_pages);
	ck_assert_uint_eq(request.leaf.memory_max_bytes, leaf.memory_max_bytes);
	ck_assert_uint_eq(request.leaf.cpu_percent, 200);
	ck_assert_uint_eq(request.leaf.pids_max, 256);
	info_fd = request.spec.info_fd_take;
	ck_assert_int_ge(info_fd, 0);
	spawn_request_fini(&request);
	ck_assert_int_eq(fcntl(info_fd, F_GETFD), -1);
}
END_TEST

START_TEST(test_plain_spawn)
{
	char *argv[] = {(char *)"/bin/x", NULL};
	struct proc_spec spec = {.argv = argv, .info_fd_take = -1};
	struct spawn_request request;

	ck_assert_int_eq(pass_spawn(&spec, NULL, 0, &request), 0);
	ck_assert_int_eq(request.spec.info_fd_take, -1);
	ck_assert_int_eq(request.spec.fds->len, 0);
	ck_assert(!request.spec.has_no_huge_pages);
	spawn_request_fini(&request);
}
END_TEST

START_TEST(test_what_a_child_said)
{
	json_auto_t *text = message_text("a\tb\n\x01\xff\x7f\xc3\xa4 z");

	ck_assert_str_eq(json_string_value(text), "a\tb\n????? z");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("packet");
	TCase *tests = tcase_create("packet");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_round_trip);
	tcase_add_test(tests, test_nothing_there);
	tcase_add_test(tests, test_no_objects);
	tcase_add_test(tests, test_no_memory);
	tcase_add_test(tests, test_too_much_to_send);
	tcase_add_test(tests, test_descriptors_that_do_not_fit);
	tcase_add_test(tests, test_spawn);
	tcase_add_test(tests, test_plain_spawn);
	tcase_add_test(tests, test_what_a_child_said);
	suite_add_tcase(suite, tests);
	return suite;
}
