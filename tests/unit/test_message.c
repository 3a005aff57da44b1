/* SPDX-License-Identifier: Apache-2.0 */
/* Control messages: round trips, and payloads of a hostile peer. */
#include "protocol/message.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

static int decode(uint8_t type, const char *text, struct msg *ret)
{
	const char *why = NULL;
	int r = msg_decode(type, (const uint8_t *)text, strlen(text), ret, &why);

	ck_assert(r == 0 || why);
	return r;
}

START_TEST(test_exec_round_trip)
{
	struct msg in = {.type = FRAME_EXEC,
			 .exec = {.exec = 7,
				  .language = "python",
				  .args = json_pack("[s, s]", "a", "b c"),
				  .env = json_pack("{s:s}", "NAME", "value"),
				  .realtime_ns = 1700000000123456789u,
				  .stdout_limit = 1 << 20,
				  .stop_at_limit = true}};
	_cleanup_free_ char *text = NULL;
	struct msg out;

	ck_assert_int_gt(msg_encode(&in, &text), 0);
	ck_assert_int_eq(decode(FRAME_EXEC, text, &out), 0);
	ck_assert_uint_eq(out.exec.exec, 7);
	ck_assert_str_eq(out.exec.language, "python");
	ck_assert(json_equal(out.exec.args, in.exec.args));
	ck_assert(json_equal(out.exec.env, in.exec.env));
	ck_assert_uint_eq(out.exec.realtime_ns, 1700000000123456789u);
	ck_assert_uint_eq(out.exec.stdout_limit, 1 << 20);
	ck_assert_uint_eq(out.exec.stderr_limit, 0);
	ck_assert(out.exec.stop_at_limit);
	msg_clear(&in);
	msg_clear(&out);
}
END_TEST

START_TEST(test_hello_carries_bytes_and_offsets)
{
	struct msg in = {.type = FRAME_HELLO, .hello = {.version = LINK_VERSION}};
	_cleanup_free_ char *text = NULL;
	struct msg out;

	random_bytes(in.hello.nonce, sizeof(in.hello.nonce));
	random_bytes(in.hello.sync, sizeof(in.hello.sync));
	in.hello.received = json_pack("{s:I}", "5", (json_int_t)123456);
	ck_assert_int_gt(msg_encode(&in, &text), 0);
	ck_assert_int_eq(decode(FRAME_HELLO, text, &out), 0);
	ck_assert_mem_eq(out.hello.nonce, in.hello.nonce, sizeof(in.hello.nonce));
	ck_assert_mem_eq(out.hello.sync, in.hello.sync, sizeof(in.hello.sync));
	ck_assert(json_equal(out.hello.received, in.hello.received));
	msg_clear(&in);
	msg_clear(&out);
}
END_TEST

START_TEST(test_prepare_round_trip)
{
	struct msg in = {.type = FRAME_PREPARE,
			 .prepare = {.id = 5, .language = "shell", .count = 2}};
	struct msg prepared = {.type = FRAME_PREPARED,
			       .prepared = {.id = 5, .waiting = 1, .detail = "why"}};
	_cleanup_free_ char *text = NULL, *other = NULL;
	struct msg out;

	ck_assert_int_gt(msg_encode(&in, &text), 0);
	ck_assert_int_eq(decode(FRAME_PREPARE, text, &out), 0);
	ck_assert_uint_eq(out.prepare.id, 5);
	ck_assert_str_eq(out.prepare.language, "shell");
	ck_assert_uint_eq(out.prepare.count, 2);
	msg_clear(&out);
	ck_assert_int_gt(msg_encode(&prepared, &other), 0);
	ck_assert_int_eq(decode(FRAME_PREPARED, other, &out), 0);
	ck_assert_uint_eq(out.prepared.id, 5);
	ck_assert_uint_eq(out.prepared.waiting, 1);
	ck_assert_str_eq(out.prepared.detail, "why");
	msg_clear(&out);
	ck_assert_int_eq(decode(FRAME_PREPARE, "{\"id\":1}", &out), -EPROTO);
	ck_assert_int_eq(decode(FRAME_PREPARE,
				"{\"id\":1,\"language\":\"shell\",\"count\":0,"
				"\"is_resident\":true,\"env\":{\"a\":\"b\"}}",
				&out),
			 0);
	ck_assert(out.prepare.is_resident);
	ck_assert_str_eq(json_string_value(json_object_get(out.prepare.env, "a")), "b");
	msg_clear(&out);
}
END_TEST

#define MEMORY_NEEDED "{\"id\":1,\"mem_total\":9,\"mem_free\":2,\"mem_available\":3"

/* What a guest without these fields would say, and the largest that can be said. */
START_TEST(test_memory_round_trip)
{
	struct msg in = {.type = FRAME_MEMORY,
			 .memory = {.id = 1, .mem_caches = INT64_MAX, .mem_anonymous = 5}};
	_cleanup_free_ char *text = NULL;
	struct msg out;

	ck_assert_int_gt(msg_encode(&in, &text), 0);
	ck_assert_int_eq(decode(FRAME_MEMORY, text, &out), 0);
	ck_assert_uint_eq(out.memory.mem_caches, INT64_MAX);
	ck_assert_uint_eq(out.memory.mem_anonymous, 5);
	msg_clear(&out);
	ck_assert_int_eq(decode(FRAME_MEMORY, MEMORY_NEEDED "}", &out), 0);
	ck_assert_uint_eq(out.memory.mem_total, 9);
	ck_assert_uint_eq(out.memory.mem_caches, 0);
	ck_assert_uint_eq(out.memory.mem_anonymous, 0);
	msg_clear(&out);
	ck_assert_int_eq(decode(FRAME_MEMORY_DROP, "{\"id\":9223372036854775807}", &out), 0);
	ck_assert_uint_eq(out.ping.id, INT64_MAX);
	msg_clear(&out);
}
END_TEST

static const struct {
	uint8_t type;
	const char *payload;
} bad[] = {
	{FRAME_PING, ""},
	{FRAME_PING, "[]"},
	{FRAME_PING, "{}"},
	{FRAME_PING, "{\"id\":-1}"},
	{FRAME_PING, "{\"id\":1.5}"},
	{FRAME_PING, "{\"id\":99999999999999999999}"},
	{FRAME_PING, "{\"id\":\"1\"}"},
	{FRAME_PING, "{\"id\":1,\"id\":2}"},
	{FRAME_PING, "{\"id\":1}x"},
	{FRAME_PING, "{\"id\":1"},
	{FRAME_MEMORY_DROP, "{}"},
	{FRAME_MEMORY_DROP, "{\"id\":-1}"},
	{FRAME_MEMORY, MEMORY_NEEDED ",\"mem_caches\":-1}"},
	{FRAME_MEMORY, MEMORY_NEEDED ",\"mem_caches\":1.0}"},
	{FRAME_MEMORY, MEMORY_NEEDED ",\"mem_caches\":9223372036854775808}"},
	{FRAME_MEMORY, MEMORY_NEEDED ",\"mem_anonymous\":-1}"},
	{FRAME_MEMORY, MEMORY_NEEDED ",\"mem_anonymous\":\"1\"}"},
	{FRAME_MEMORY, MEMORY_NEEDED ",\"mem_anonymous\":null}"},
	{FRAME_MEMORY, "{\"mem_total\":1,\"mem_free\":1,\"mem_available\":1}"},
	{FRAME_DATA, "{\"id\":1}"},
	{200, "{\"id\":1}"},
	{FRAME_HELLO, "{\"version\":1,\"nonce\":\"00\",\"sync\":\"00\"}"},
	{FRAME_EXEC, "{\"exec\":1,\"language\":\"a language whose name is much too long to fit\","
		     "\"stdout_limit\":1,\"stderr_limit\":1}"},
	{FRAME_EXEC, "{\"exec\":1,\"language\":\"x\",\"stdout_limit\":1,\"stderr_limit\":1,"
		     "\"args\":[1]}"},
	{FRAME_EXEC, "{\"exec\":1,\"language\":\"x\",\"stdout_limit\":1,\"stderr_limit\":1,"
		     "\"env\":{\"A\":null}}"},
	{FRAME_EXEC, "{\"exec\":1,\"language\":\"x\\u0000y\",\"stdout_limit\":1,"
		     "\"stderr_limit\":1}"},
	{FRAME_EXIT, "{\"exec\":1,\"reason\":\"exited\",\"stdout_bytes\":1,\"stderr_bytes\":1,"
		     "\"error\":{\"name\":[]}}"},
};

START_TEST(test_bad_payloads_are_refused)
{
	struct msg out = {.type = 0};

	ck_assert_int_eq(decode(bad[_i].type, bad[_i].payload, &out), -EPROTO);
	ck_assert_uint_eq(out.type, 0);
}
END_TEST

START_TEST(test_unknown_fields_are_ignored)
{
	struct msg out;

	ck_assert_int_eq(decode(FRAME_PONG, "{\"id\":3,\"news\":{\"a\":[1]}}", &out), 0);
	ck_assert_uint_eq(out.ping.id, 3);
	msg_clear(&out);
}
END_TEST

START_TEST(test_over_long_message_is_not_encoded)
{
	char *long_text = malloc(FRAME_PAYLOAD_MAX + 1);
	struct msg in = {.type = FRAME_EXEC, .exec = {.exec = 1}};
	char *text = NULL;

	ck_assert_ptr_nonnull(long_text);
	memset(long_text, 'x', FRAME_PAYLOAD_MAX);
	long_text[FRAME_PAYLOAD_MAX] = '\0';
	in.exec.args = json_pack("[s]", long_text);
	ck_assert_int_eq(msg_encode(&in, &text), -EMSGSIZE);
	ck_assert_ptr_null(text);
	msg_clear(&in);
	free(long_text);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("message");
	TCase *tests = tcase_create("message");

	tcase_add_test(tests, test_exec_round_trip);
	tcase_add_test(tests, test_prepare_round_trip);
	tcase_add_test(tests, test_memory_round_trip);
	tcase_add_test(tests, test_hello_carries_bytes_and_offsets);
	tcase_add_loop_test(tests, test_bad_payloads_are_refused, 0, ELEMENTSOF(bad));
	tcase_add_test(tests, test_unknown_fields_are_ignored);
	tcase_add_test(tests, test_over_long_message_is_not_encoded);
	suite_add_tcase(suite, tests);
	return suite;
}
