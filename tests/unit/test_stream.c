/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: order and caps of the queue, ends of every kind, closing inside each callback. */
#include "base/stream.h"

#include "base/util.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define QUEUE_MAX (1u << 20)

static struct loop *loop;
static struct stream stream;
static int peer;
static char got[256];
static size_t got_len;
static int end_count, end_error, drain_count, half_close_count;
static bool close_in_data, close_in_drain, close_in_half_close;

static void on_data(void *user UNUSED, const uint8_t *data, size_t len)
{
	ck_assert_int_eq(end_count, 0);
	memcpy(got + got_len, data, MIN(len, sizeof(got) - got_len));
	got_len += MIN(len, sizeof(got) - got_len);
	if (close_in_data)
		stream_close(&stream);
}

static void on_end(void *user UNUSED, int error)
{
	end_count++;
	end_error = error;
	ck_assert(!stream_is_open(&stream));
	stream_close(&stream);
}

static void on_drain(void *user UNUSED)
{
	drain_count++;
	if (close_in_drain)
		stream_close(&stream);
}

static void on_half_close(void *user UNUSED)
{
	half_close_count++;
	if (close_in_half_close)
		stream_close(&stream);
}

static const struct stream_ops ops = {.on_data = on_data, .on_end = on_end, .on_drain = on_drain};
static const struct stream_ops ops_half = {
	.on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_half_close = on_half_close};

/* Opens a pair whose buffers hold a few KiB only. */
static void open_pair(const struct stream_ops *with)
{
	int fds[2], size = 1;

	stream_close(&stream);
	peer = close_fd(peer);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	stream_init(&stream, loop, fds[0], QUEUE_MAX, with, NULL);
	peer = fds[1];
	got_len = 0;
	end_count = drain_count = half_close_count = end_error = 0;
}

static void setup(void)
{
	ck_assert_int_eq(loop_create(&loop), 0);
	stream = (struct stream){.fd = -1, .hangup_fd = -1};
	peer = -1;
	close_in_data = close_in_drain = close_in_half_close = false;
	open_pair(&ops);
}

static void teardown(void)
{
	stream_close(&stream);
	close_fd(peer);
	loop_destroy(loop);
}

/* Reads what the peer gets, checking that byte `at` is at * 31 >> 3. */
static size_t read_pattern(size_t at)
{
	uint8_t buf[5000];
	ssize_t n = read(peer, buf, sizeof(buf));

	for (ssize_t i = 0; i < n; i++)
		ck_assert_uint_eq(buf[i], (uint8_t)((at + (size_t)i) * 31 >> 3));
	return n > 0 ? at + (size_t)n : at;
}

static uint8_t *make_pattern(size_t at, size_t len)
{
	uint8_t *data = malloc(len);

	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((at + i) * 31 >> 3);
	return data;
}

static void write_pattern(size_t at, size_t len)
{
	uint8_t *data = make_pattern(at, len);

	ck_assert_int_eq(stream_write(&stream, data, len), 0);
	free(data);
}

/* Was the buffer kept? */
static bool give_pattern(size_t at, size_t len)
{
	uint8_t *data = make_pattern(at, len);
	bool is_kept;

	ck_assert_int_eq(stream_write_take(&stream, &data, len), 0);
	is_kept = !data;
	free(data);
	return is_kept;
}

START_TEST(test_bytes_arrive_in_order_over_tiny_buffers)
{
	size_t written = 0, read_len = 0;

	srandom(1);
	while (written < QUEUE_MAX / 2) {
		size_t len = 1 + (size_t)random() % 30000;

		write_pattern(written, len);
		written += len;
		if (random() % 2)
			read_len = read_pattern(read_len);
	}
	ck_assert_uint_gt(stream_queued(&stream), 0);
	ck_assert(WAIT_FOR(loop, (read_len = read_pattern(read_len)) == written));
	ck_assert(WAIT_FOR(loop, drain_count == 1));
	ck_assert_uint_eq(stream_queued(&stream), 0);
	ck_assert_int_eq(end_count, 0);
}
END_TEST

START_TEST(test_large_buffer_is_kept_not_copied)
{
	const size_t large = QUEUE_MAX / 3, small = 100;
	uint8_t *data;
	size_t at = 0;

	ck_assert(!give_pattern(0, small));
	ck_assert(give_pattern(small, large));
	/* Behind others it waits as a copy. */
	ck_assert(!give_pattern(small + large, large));
	write_pattern(small + 2 * large, small);
	ck_assert(WAIT_FOR(loop, (at = read_pattern(at)) == 2 * (small + large)));
	ck_assert(WAIT_FOR(loop, drain_count == 1));
	/* One that is not taken stays its owner's. */
	data = make_pattern(0, QUEUE_MAX + 1);
	ck_assert_int_eq(stream_write_take(&stream, &data, QUEUE_MAX + 1), -ENOBUFS);
	ck_assert_ptr_nonnull(data);
	free(data);
}
END_TEST

START_TEST(test_queue_has_a_cap_and_refuses_whole)
{
	static uint8_t block[QUEUE_MAX / 4];
	size_t before;
	int r;

	while ((r = stream_write(&stream, block, sizeof(block))) == 0)
		ck_assert_uint_le(stream_queued(&stream), QUEUE_MAX);
	ck_assert_int_eq(r, -ENOBUFS);
	before = stream_queued(&stream);
	ck_assert_int_eq(stream_write(&stream, block, sizeof(block)), -ENOBUFS);
	ck_assert_uint_eq(stream_queued(&stream), before);
	/* What fits still goes. */
	ck_assert_int_eq(stream_write(&stream, block, QUEUE_MAX - before), 0);
	ck_assert_int_eq(stream_write(&stream, block, 1), -ENOBUFS);
	ck_assert(stream_is_open(&stream));
}
END_TEST

START_TEST(test_finish_sends_all_then_ends)
{
	size_t read_len = 0;
	char byte;

	write_pattern(0, 200000);
	stream_finish(&stream);
	stream_finish(&stream);
	ck_assert_int_eq(stream_write(&stream, "x", 1), -EPIPE);
	ck_assert_int_eq(write(peer, "unread", 6), 6);
	ck_assert(WAIT_FOR(loop, (read_len = read_pattern(read_len)) == 200000));
	ck_assert(WAIT_FOR(loop, end_count == 1));
	ck_assert_int_eq(end_error, 0);
	ck_assert_uint_eq(got_len, 0);
	ck_assert_int_le(read(peer, &byte, 1), 0);
	/* With an empty queue it ends by itself as well. */
	open_pair(&ops);
	stream_finish(&stream);
	ck_assert_int_eq(end_count, 0);
	ck_assert(WAIT_FOR(loop, end_count == 1));
}
END_TEST

START_TEST(test_peer_closes)
{
	ck_assert_int_eq(write(peer, "last", 4), 4);
	peer = close_fd(peer);
	ck_assert(WAIT_FOR(loop, end_count == 1));
	ck_assert_int_eq(end_error, 0);
	ck_assert_uint_eq(got_len, 4);
	ck_assert_int_eq(stream_write(&stream, "x", 1), -EPIPE);
	loop_run_once(loop, false);
	ck_assert_int_eq(end_count, 1);
}
END_TEST

/* The peer goes while bytes wait for it: one end, no signal, whichever side of the loop sees it. */
START_TEST(test_peer_closes_under_a_full_queue)
{
	write_pattern(0, 300000);
	ck_assert_uint_gt(stream_queued(&stream), 0);
	peer = close_fd(peer);
	ck_assert(WAIT_FOR(loop, end_count == 1));
	ck_assert_uint_eq(stream_queued(&stream), 0);
	ck_assert_int_eq(drain_count, 0);
}
END_TEST

START_TEST(test_close_in_each_callback_is_the_last_word)
{
	size_t read_len = 0;

	close_in_data = true;
	ck_assert_int_eq(write(peer, "a", 1), 1);
	ck_assert(WAIT_FOR(loop, !stream_is_open(&stream)));
	peer = close_fd(peer);
	loop_run_once(loop, false);
	ck_assert_int_eq(end_count, 0);
	close_in_data = false;

	open_pair(&ops);
	close_in_drain = true;
	write_pattern(0, 300000);
	ck_assert(WAIT_FOR(loop,
			   (read_len = read_pattern(read_len)) > 0 && !stream_is_open(&stream)));
	ck_assert_int_eq(drain_count, 1);
	ck_assert_int_eq(end_count, 0);
	close_in_drain = false;

	open_pair(&ops_half);
	close_in_half_close = true;
	shutdown(peer, SHUT_WR);
	ck_assert(WAIT_FOR(loop, !stream_is_open(&stream)));
	ck_assert_int_eq(half_close_count, 1);
	ck_assert_int_eq(end_count, 0);
}
END_TEST

START_TEST(test_half_closed_peer_still_gets_answers)
{
	size_t read_len = 0;

	open_pair(&ops_half);
	ck_assert_int_eq(write(peer, "ask", 3), 3);
	shutdown(peer, SHUT_WR);
	ck_assert(WAIT_FOR(loop, half_close_count == 1));
	ck_assert_uint_eq(got_len, 3);
	write_pattern(0, 100000);
	ck_assert(WAIT_FOR(loop, (read_len = read_pattern(read_len)) == 100000));
	ck_assert_int_eq(end_count, 0);
	stream_pause(&stream);
	stream_resume(&stream); /* there is nothing to read any more */
	loop_run_once(loop, false);
	ck_assert_int_eq(half_close_count, 1);
	peer = close_fd(peer);
	ck_assert(WAIT_FOR(loop, end_count == 1));
	ck_assert_int_eq(end_error, 0);
}
END_TEST

START_TEST(test_half_close_without_a_callback_is_an_end)
{
	shutdown(peer, SHUT_WR);
	ck_assert(WAIT_FOR(loop, end_count == 1));
	/* And a whole close is one also with the callback. */
	open_pair(&ops_half);
	peer = close_fd(peer);
	ck_assert(WAIT_FOR(loop, end_count == 1));
	ck_assert_int_eq(half_close_count, 0);
}
END_TEST

START_TEST(test_pause_holds_reading_back)
{
	ck_assert_int_eq(write(peer, "a", 1), 1);
	stream_pause(&stream);
	loop_run_once(loop, false);
	ck_assert_uint_eq(got_len, 0);
	/* Writing goes on. */
	write_pattern(0, 100);
	ck_assert_uint_eq(read_pattern(0), 100);
	stream_resume(&stream);
	ck_assert(WAIT_FOR(loop, got_len == 1));
	stream_close(&stream);
	stream_pause(&stream);
	stream_resume(&stream);
	stream_finish(&stream);
	ck_assert(!stream_is_open(&stream));
}
END_TEST

START_TEST(test_close_gives_the_descriptor_back)
{
	int fd = stream.fd;

	write_pattern(0, 300000);
	stream_close(&stream);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	ck_assert_uint_eq(stream_queued(&stream), 0);
	loop_run_once(loop, false);
	ck_assert_int_eq(end_count, 0);
}
END_TEST

static void on_descriptor(void *user, int fd_take)
{
	*(int *)user = fd_take;
}

/* It goes with the next bytes, also with those that wait; one at a time. */
START_TEST(test_descriptors)
{
	static const struct stream_ops ops_peer = {
		.on_data = on_data, .on_end = on_end, .on_descriptor = on_descriptor};
	struct stream other;
	int passed = -1, fds[2];
	struct stat sent, come;

	write_pattern(0, 100000);
	ck_assert_uint_gt(stream_queued(&stream), 0);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(fstat(fds[0], &sent), 0);
	ck_assert_int_eq(stream_pass(&stream, fds[0]), 0);
	ck_assert_int_eq(stream_pass(&stream, fds[1]), -EBUSY);
	ck_assert_int_eq(fcntl(fds[1], F_GETFD), -1); /* taken all the same */
	stream_init(&other, loop, dup(peer), QUEUE_MAX, &ops_peer, &passed);
	ck_assert(WAIT_FOR(loop, passed >= 0));
	ck_assert_int_eq(fstat(passed, &come), 0);
	ck_assert_uint_eq(come.st_ino, sent.st_ino);
	close_fd(passed);
	stream_close(&other);
	stream_close(&stream);
	ck_assert_int_eq(stream_pass(&stream, dup(peer)), -EPIPE);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("stream");
	TCase *tests = tcase_create("stream");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_bytes_arrive_in_order_over_tiny_buffers);
	tcase_add_test(tests, test_large_buffer_is_kept_not_copied);
	tcase_add_test(tests, test_queue_has_a_cap_and_refuses_whole);
	tcase_add_test(tests, test_finish_sends_all_then_ends);
	tcase_add_test(tests, test_peer_closes);
	tcase_add_test(tests, test_peer_closes_under_a_full_queue);
	tcase_add_test(tests, test_close_in_each_callback_is_the_last_word);
	tcase_add_test(tests, test_half_closed_peer_still_gets_answers);
	tcase_add_test(tests, test_half_close_without_a_callback_is_an_end);
	tcase_add_test(tests, test_pause_holds_reading_back);
	tcase_add_test(tests, test_close_gives_the_descriptor_back);
	tcase_add_test(tests, test_descriptors);
	suite_add_tcase(suite, tests);
	return suite;
}
