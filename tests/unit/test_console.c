/* SPDX-License-Identifier: Apache-2.0 */
/* The boot log: the last bytes are kept, and only printable lines come out. */
#include "daemon/vm/console.h"

#include "base/util.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static struct loop *loop;
static struct console console;
static int guest;

static void setup(void)
{
	int fds[2];

	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	console_init(&console, loop, fds[0]);
	guest = fds[1];
}

static void teardown(void)
{
	console_close(&console);
	close_fd(guest);
	loop_destroy(loop);
}

static void say(const void *data, size_t len)
{
	uint64_t before = console.written;

	ck_assert_int_eq(write(guest, data, len), (ssize_t)len);
	ck_assert(WAIT_FOR(loop, console.written == before + len));
}

static void assert_tail(size_t max, const char *text)
{
	_cleanup_free_ char *tail = console_tail(&console, max);

	ck_assert_str_eq(tail, text);
}

START_TEST(test_tail)
{
	assert_tail(100, "");
	say("one\r\ntwo\n", 9);
	assert_tail(100, "one\ntwo\n");
	assert_tail(4, "two\n");
	assert_tail(0, "");
}
END_TEST

START_TEST(test_hostile_text_is_dropped)
{
	static const char text[] = "a\33[31mb\0c\x80\xff\td\177\n";

	say(text, sizeof(text) - 1);
	assert_tail(100, "a[31mbcd\n");
}
END_TEST

START_TEST(test_the_last_bytes_are_kept)
{
	_cleanup_free_ char *tail = NULL;
	char line[16];

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(line, sizeof(line), "line %06u", i);
		line[11] = '\n';
		say(line, 12);
	}
	assert_tail(24, "line 001998\nline 001999\n");
	tail = console_tail(&console, SIZE_MAX);
	ck_assert_uint_eq(strlen(tail), CONSOLE_SIZE);
	ck_assert_str_eq(tail + CONSOLE_SIZE - 12, "line 001999\n");
}
END_TEST

START_TEST(test_closed_stays_readable)
{
	say("last words\n", 11);
	guest = close_fd(guest);
	ck_assert(WAIT_FOR(loop, !stream_is_open(&console.stream)));
	assert_tail(100, "last words\n");
	console_close(&console);
	assert_tail(100, "last words\n");
}
END_TEST

START_TEST(test_never_opened)
{
	static struct console unused;

	console_close(&unused);
	ck_assert(!unused.stream.loop);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("console");
	TCase *tests = tcase_create("console");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_tail);
	tcase_add_test(tests, test_hostile_text_is_dropped);
	tcase_add_test(tests, test_the_last_bytes_are_kept);
	tcase_add_test(tests, test_closed_stays_readable);
	tcase_add_test(tests, test_never_opened);
	suite_add_tcase(suite, tests);
	return suite;
}
