/* SPDX-License-Identifier: Apache-2.0 */
/* QMP: the handshake, replies by id, deadlines, ends, events, and a QEMU that is not well. */
#include "daemon/vm/qmp.h"

#include "base/util.h"
#include "tests/fake/fake_qmp.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LONG_MS  60000
#define SHORT_MS 20
#define LOG_SIZE 4096

static struct loop *loop;
static struct fake_qmp *fake;
static struct qmp *qmp;
static int ready_count, end_count, end_error, event_count;
static uint64_t event_time;
/* What happened, in order: "a:{"x":1} b:-32 end:0 ". */
static char happened[LOG_SIZE];

static void note(const char *format, ...) PRINTF_LIKE(1, 2);
static void note(const char *format, ...)
{
	size_t len = strlen(happened);
	va_list args;

	va_start(args, format);
	vsnprintf(happened + len, sizeof(happened) - len, format, args);
	va_end(args);
}

static void on_ready(void *user UNUSED)
{
	ready_count++;
}

static void on_event(void *user UNUSED, const char *name, const json_t *data, uint64_t time_us)
{
	char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;

	note("%s:%s ", name, text ? text : "-");
	free(text);
	event_time = time_us;
	event_count++;
}

static void on_end(void *user UNUSED, int error)
{
	note("end:%d ", error);
	end_error = error;
	end_count++;
}

static const struct qmp_ops ops = {.on_ready = on_ready, .on_event = on_event, .on_end = on_end};

static void on_done(void *user, const json_t *ret, const struct qmp_error *error)
{
	char *text = ret ? json_dumps(ret, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	ck_assert(!ret != !error);
	if (error)
		note("%s:%d ", (const char *)user, error->error);
	else
		note("%s:%s ", (const char *)user, text);
	free(text);
}

static void connect_with(uint32_t handshake_ms)
{
	int fds[2];

	happened[0] = '\0';
	ready_count = end_count = event_count = end_error = 0;
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fake = fake_qmp_create(loop, fds[0]);
	ck_assert_int_eq(qmp_create(loop, "test", fds[1], handshake_ms, &ops, NULL, &qmp), 0);
}

static void connect_unready(void)
{
	connect_with(LONG_MS);
}

static void connect_ready(void)
{
	connect_with(LONG_MS);
	fake_qmp_handshake(fake);
	ck_assert(WAIT_FOR(loop, ready_count == 1));
}

static void teardown(void)
{
	qmp_destroy(qmp);
	fake_qmp_destroy(fake);
	loop_destroy(loop);
	qmp = NULL;
	fake = NULL;
}

static void command(const char *name, uint32_t deadline_ms)
{
	ck_assert_int_eq(qmp_command(qmp, name, NULL, deadline_ms, on_done, (void *)name), 0);
}

static void expect(const char *text)
{
	ck_assert_msg(WAIT_FOR(loop, strlen(happened) >= strlen(text)), "only '%s' happened",
		      happened);
	ck_assert_str_eq(happened, text);
}

START_TEST(test_handshake_comes_before_commands)
{
	ck_assert_int_eq(qmp_command(qmp, "stop", json_object(), LONG_MS, on_done, (void *)"stop"),
			 -ENOTCONN);
	fake_qmp_send_text(fake, FAKE_QMP_GREETING);
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) == 1));
	ck_assert_int_eq(qmp_command(qmp, "stop", NULL, LONG_MS, on_done, (void *)"stop"),
			 -ENOTCONN);
	ck_assert_int_eq(ready_count, 0);
	{
		json_auto_t *capabilities = fake_qmp_take(fake);

		ck_assert_str_eq(json_string_value(json_object_get(capabilities, "execute")),
				 "qmp_capabilities");
		fake_qmp_reply(fake, capabilities, "{}");
	}
	ck_assert(WAIT_FOR(loop, ready_count == 1));
	ck_assert_str_eq(happened, "");
}
END_TEST

START_TEST(test_a_slow_handshake_ends)
{
	connect_with(SHORT_MS);
	fake_qmp_send_text(fake, FAKE_QMP_GREETING);
	ck_assert(WAIT_FOR(loop, end_count == 1));
	ck_assert_int_eq(end_error, -ETIMEDOUT);
	teardown();
}
END_TEST

START_TEST(test_refused_capabilities_end)
{
	json_auto_t *capabilities = NULL;

	fake_qmp_send_text(fake, FAKE_QMP_GREETING);
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) == 1));
	capabilities = fake_qmp_take(fake);
	fake_qmp_fail(fake, capabilities, "GenericError", "no");
	ck_assert(WAIT_FOR(loop, end_count == 1));
	ck_assert_int_eq(end_error, -EPROTO);
	ck_assert_int_eq(ready_count, 0);
}
END_TEST

START_TEST(test_replies_go_to_their_ids)
{
	json_auto_t *first = NULL, *second = NULL;

	command("first", LONG_MS);
	ck_assert_int_eq(qmp_command(qmp, "second", json_pack("{s:i}", "value", 7), LONG_MS,
				     on_done, (void *)"second"),
			 0);
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) == 2));
	first = fake_qmp_take(fake);
	second = fake_qmp_take(fake);
	ck_assert_ptr_null(json_object_get(first, "arguments"));
	ck_assert_int_eq(
		json_integer_value(json_object_get(json_object_get(second, "arguments"), "value")),
		7);
	fake_qmp_reply(fake, second, "{\"n\": 2}");
	fake_qmp_reply(fake, second, "{\"n\": 22}"); /* twice: nobody waits any more */
	fake_qmp_send_text(fake, "{\"return\": {}, \"id\": 999}\r\n{\"return\": {}}\r\n"
				 "{\"return\": {}, \"id\": \"1\"}\r\n{\"note\": 1}\r\n");
	fake_qmp_reply(fake, first, "[1]");
	expect("second:{\"n\":2} first:[1] ");
	ck_assert_int_eq(end_count, 0);
}
END_TEST

static void on_refused(void *user, const json_t *ret, const struct qmp_error *error)
{
	ck_assert_ptr_null(ret);
	ck_assert_int_eq(error->error, -EREMOTEIO);
	ck_assert_str_eq(error->class, "DeviceNotFound");
	ck_assert_str_eq(error->desc, "Device 'x' not found");
	*(bool *)user = true;
}

START_TEST(test_errors_carry_class_and_words)
{
	json_auto_t *taken = NULL;
	bool is_done = false;

	ck_assert_int_eq(qmp_command(qmp, "cont", NULL, LONG_MS, on_refused, &is_done), 0);
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) == 1));
	taken = fake_qmp_take(fake);
	fake_qmp_fail(fake, taken, "DeviceNotFound", "Device 'x' not found");
	ck_assert(WAIT_FOR(loop, is_done));
}
END_TEST

START_TEST(test_late_replies_are_dropped)
{
	json_auto_t *late = NULL;

	command("late", SHORT_MS);
	command("other", LONG_MS);
	expect("late:-110 ");
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) == 2));
	late = fake_qmp_take(fake);
	fake_qmp_reply(fake, late, "{}");
	{
		json_auto_t *other = fake_qmp_take(fake);

		fake_qmp_reply(fake, other, "{}");
	}
	expect("late:-110 other:{} ");
}
END_TEST

START_TEST(test_an_end_fails_all_in_order_then_tells)
{
	command("a", LONG_MS);
	command("b", LONG_MS);
	command("c", LONG_MS);
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) == 3));
	fake_qmp_destroy(TAKE_PTR(fake));
	expect("a:-32 b:-32 c:-32 end:0 ");
	ck_assert_int_eq(qmp_command(qmp, "d", NULL, LONG_MS, on_done, (void *)"d"), -ENOTCONN);
}
END_TEST

START_TEST(test_destroying_cancels_without_an_end)
{
	command("a", LONG_MS);
	command("b", LONG_MS);
	qmp_destroy(TAKE_PTR(qmp));
	ck_assert_str_eq(happened, "a:-125 b:-125 ");
	ck_assert(WAIT_FOR(loop, fake_qmp_is_closed(fake)));
	ck_assert_int_eq(end_count, 0);
}
END_TEST

static void on_done_destroy(void *user, const json_t *ret, const struct qmp_error *error)
{
	on_done(user, ret, error);
	qmp_destroy(TAKE_PTR(qmp));
}

START_TEST(test_destroying_inside_callbacks)
{
	ck_assert_int_eq(qmp_command(qmp, "x", NULL, LONG_MS, on_done_destroy, (void *)"x"), 0);
	command("y", LONG_MS);
	fake_qmp_answer(fake, "unused", "{}");
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) == 2));
	{
		json_auto_t *x = fake_qmp_take(fake), *y = fake_qmp_take(fake);

		fake_qmp_reply(fake, x, "{}");
		fake_qmp_reply(fake, y, "{}"); /* in the same read: must not be looked at */
	}
	expect("x:{} y:-125 ");
	ck_assert(WAIT_FOR(loop, fake_qmp_is_closed(fake)));
	ck_assert_int_eq(end_count, 0);
}
END_TEST

START_TEST(test_destroying_while_slots_fail)
{
	ck_assert_int_eq(qmp_command(qmp, "x", NULL, LONG_MS, on_done_destroy, (void *)"x"), 0);
	command("y", LONG_MS);
	fake_qmp_destroy(TAKE_PTR(fake));
	expect("x:-32 y:-32 ");
	ck_assert_int_eq(end_count, 0);
}
END_TEST

START_TEST(test_events_have_data_and_time)
{
	fake_qmp_send_text(
		fake,
		"{\"timestamp\": {\"seconds\": 12, \"microseconds\": 34}, \"event\": "
		"\"BALLOON_CHANGE\", \"data\": {\"actual\": 5}}\r\n\r\n"
		"{\"timestamp\": {\"seconds\": -1, \"microseconds\": -1}, \"event\": \"STOP\"}\n");
	ck_assert(WAIT_FOR(loop, event_count == 2));
	ck_assert_str_eq(happened, "BALLOON_CHANGE:{\"actual\":5} STOP:- ");
	ck_assert_uint_eq(event_time, 0);
	fake_qmp_send_text(fake, "{\"timestamp\": {\"seconds\": 12, \"microseconds\": 34}, "
				 "\"event\": \"RESUME\"}\r\n");
	ck_assert(WAIT_FOR(loop, event_count == 3));
	ck_assert_uint_eq(event_time, 12000034);
	/* No integer holds these. */
	fake_qmp_send_text(fake, "{\"timestamp\": {\"seconds\": 17e300, \"microseconds\": "
				 "17000000009223372036854775807}, \"event\": \"RESUME\"}\r\n");
	ck_assert(WAIT_FOR(loop, event_count == 4));
	ck_assert_uint_eq(event_time, 0);
}
END_TEST

START_TEST(test_any_split_reads_the_same)
{
	static const char text[] = FAKE_QMP_GREETING
		"{\"return\": {}, \"id\": 1}\r\n{\"event\": \"A\"}\r\n{\"event\": \"B\"}\r\n";

	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		size_t received = fake_qmp_received(fake);

		fake_qmp_send(fake, text + i, 1);
		/* One byte per read: let the client take it before the next one. */
		loop_run_once(loop, false);
		loop_run_once(loop, false);
		if (i == sizeof(FAKE_QMP_GREETING) - 2)
			ck_assert(WAIT_FOR(loop, fake_qmp_received(fake) == received + 1));
	}
	ck_assert(WAIT_FOR(loop, event_count == 2));
	ck_assert_int_eq(ready_count, 1);
	ck_assert_str_eq(happened, "A:- B:- ");
}
END_TEST

START_TEST(test_a_long_reply_is_taken_and_a_longer_one_ends)
{
	static char line[QMP_LINE_MAX + 2];
	int len = snprintf(line, sizeof(line), "{\"event\": \"LONG\", \"data\": {\"x\": \"");

	memset(line + len, 'x', QMP_LINE_MAX - 3 - (size_t)len);
	memcpy(line + QMP_LINE_MAX - 3, "\"}}\n", 4);
	fake_qmp_send(fake, line, QMP_LINE_MAX + 1);
	ck_assert(WAIT_FOR(loop, event_count == 1));
	command("open", LONG_MS);
	happened[0] = '\0';
	memset(line, ' ', QMP_LINE_MAX + 1);
	fake_qmp_send(fake, line, QMP_LINE_MAX + 1);
	expect("open:-32 end:-71 ");
}
END_TEST

START_TEST(test_nonsense_ends)
{
	static const char *const lines[] = {"hello\r\n",
					    "[]\n",
					    "{\"return\": {}\n",
					    "{\"a\":1,\"a\":2}\n",
					    "\"text\"\n",
					    "7\n",
					    "{}}\n",
					    "\x01\x02\xff\n",
					    "null\n",
					    "{\"event\": \"\xff\"}\n"};

	for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
		connect_ready();
		fake_qmp_send_text(fake, lines[i]);
		ck_assert_msg(WAIT_FOR(loop, end_count == 1), "line %zu", i);
		ck_assert_int_eq(end_error, -EPROTO);
		teardown();
	}
}
END_TEST

START_TEST(test_a_strange_greeting_ends)
{
	fake_qmp_send_text(fake, "{\"event\": \"STOP\"}\r\n");
	ck_assert(WAIT_FOR(loop, end_count == 1));
	ck_assert_int_eq(end_error, -EPROTO);
	ck_assert_int_eq(event_count, 0);
}
END_TEST

START_TEST(test_open_commands_are_bounded)
{
	for (int i = 0; i < QMP_SLOTS_MAX; i++)
		command("n", LONG_MS);
	ck_assert_int_eq(qmp_command(qmp, "n", json_object(), LONG_MS, on_done, (void *)"n"),
			 -ENOBUFS);
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) == QMP_SLOTS_MAX));
	{
		json_auto_t *first = fake_qmp_take(fake);

		fake_qmp_reply(fake, first, "{}");
	}
	expect("n:{} ");
	command("n", LONG_MS);
}
END_TEST

/* A descriptor travels with its command, and is the same open file on the other side. */
START_TEST(test_descriptors_travel_with_their_command)
{
	int fds[2], passed[2], got;
	struct stat sent_stat, got_stat;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	char text[512] = {0};
	struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};

	qmp_destroy(qmp);
	ready_count = 0;
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(qmp_create(loop, "test", fds[1], LONG_MS, &ops, NULL, &qmp), 0);
	ck_assert_int_eq(write_all(fds[0], FAKE_QMP_GREETING, strlen(FAKE_QMP_GREETING)), 0);
	ck_assert(WAIT_FOR(loop, recv(fds[0], text, sizeof(text), MSG_DONTWAIT | MSG_PEEK) > 0));
	ck_assert_int_gt(read(fds[0], text, sizeof(text) - 1), 0);
	ck_assert_ptr_nonnull(strstr(text, "qmp_capabilities"));
	ck_assert_int_eq(write_all(fds[0], "{\"return\": {}, \"id\": 1}\n", 24), 0);
	ck_assert(WAIT_FOR(loop, ready_count == 1));

	ck_assert_int_eq(pipe(passed), 0);
	ck_assert_int_eq(qmp_command_fd(qmp, "getfd", json_pack("{s:s}", "fdname", "state"),
					passed[0], LONG_MS, on_done, (void *)"getfd"),
			 0);
	memset(text, 0, sizeof(text));
	ck_assert_int_gt(recvmsg(fds[0], &message, MSG_CMSG_CLOEXEC), 0);
	ck_assert_ptr_nonnull(strstr(text, "\"fdname\":\"state\""));
	ck_assert_uint_eq(((struct cmsghdr *)control)->cmsg_len, CMSG_LEN(sizeof(int)));
	memcpy(&got, CMSG_DATA((struct cmsghdr *)control), sizeof(int));
	ck_assert_int_eq(fstat(passed[0], &sent_stat), 0);
	ck_assert_int_eq(fstat(got, &got_stat), 0);
	ck_assert_uint_eq(sent_stat.st_ino, got_stat.st_ino);
	close(got);
	close(passed[0]);
	close(passed[1]);
	close(fds[0]);
	expect("getfd:-32 end:0 ");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("qmp");
	TCase *unready = tcase_create("unready"), *ready = tcase_create("ready"),
	      *own = tcase_create("own");

	tcase_add_checked_fixture(unready, connect_unready, teardown);
	tcase_add_test(unready, test_handshake_comes_before_commands);
	tcase_add_test(unready, test_refused_capabilities_end);
	tcase_add_test(unready, test_any_split_reads_the_same);
	tcase_add_test(unready, test_a_strange_greeting_ends);
	tcase_add_checked_fixture(ready, connect_ready, teardown);
	tcase_add_test(ready, test_replies_go_to_their_ids);
	tcase_add_test(ready, test_errors_carry_class_and_words);
	tcase_add_test(ready, test_late_replies_are_dropped);
	tcase_add_test(ready, test_an_end_fails_all_in_order_then_tells);
	tcase_add_test(ready, test_destroying_cancels_without_an_end);
	tcase_add_test(ready, test_destroying_inside_callbacks);
	tcase_add_test(ready, test_destroying_while_slots_fail);
	tcase_add_test(ready, test_events_have_data_and_time);
	tcase_add_test(ready, test_a_long_reply_is_taken_and_a_longer_one_ends);
	tcase_add_test(ready, test_open_commands_are_bounded);
	tcase_add_test(ready, test_descriptors_travel_with_their_command);
	tcase_add_test(own, test_a_slow_handshake_ends);
	tcase_add_test(own, test_nonsense_ends);
	tcase_set_timeout(ready, 60);
	tcase_set_timeout(unready, 60);
	tcase_set_timeout(own, 120);
	suite_add_tcase(suite, unready);
	suite_add_tcase(suite, ready);
	suite_add_tcase(suite, own);
	return suite;
}
