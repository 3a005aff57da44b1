/* SPDX-License-Identifier: Apache-2.0 */
/* The wire's pure functions: shape, ids and replies as text. */
#include "daemon/rpc/wire.h"

#include "tests/unit/suite.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

static json_t *parse(const char *line, size_t len)
{
	struct rpc_error *error = NULL;
	json_t *message = wire_parse(line, len, &error);

	ck_assert((message == NULL) == (error != NULL));
	if (error)
		ck_assert_int_eq(error->code, RPC_PARSE_ERROR);
	rpc_error_free(error);
	return message;
}

static char *id_text_of(const char *json)
{
	json_auto_t *id = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	ck_assert_msg(id, "%s", json);
	return wire_id_text(id);
}

START_TEST(test_ids_keep_their_value)
{
	static const char *const cases[][2] = {
		{"1", "1"},
		{"-0", "0"},
		{"1.5", "1.5"},
		{"0.1", "0.1"},
		{"0.30000000000000004", "0.30000000000000004"},
		{"1e3", "1000.0"},
		{"5e-324", "4.94065645841247e-324"},
		{"\"a\"", "\"a\""},
		{"\"a\\u0000b\"", "\"a\\u0000b\""},
		{"\"\\u20ac\"", "\"\xe2\x82\xac\""},
		{"null", "null"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		_cleanup_free_ char *text = id_text_of(cases[i][0]);

		ck_assert_str_eq(text, cases[i][1]);
	}
}
END_TEST

START_TEST(test_real_ids_read_back_the_same)
{
	for (int i = 0; i < 20000; i++) {
		_cleanup_free_ char *text = NULL;
		json_auto_t *id = NULL;
		uint64_t bits;
		double value;

		random_bytes(&bits, sizeof(bits));
		memcpy(&value, &bits, sizeof(value));
		id = json_real(value);
		if (!id) /* not a number, or infinite */
			continue;
		text = wire_id_text(id);
		ck_assert_msg(strtod(text, NULL) == value, "%s", text);
	}
}
END_TEST

START_TEST(test_replies_are_one_compact_line)
{
	json_auto_t *result = json_pack("{s:f, s:s}", "ratio", 0.1, "text", "a\nb");
	struct rpc_error *error = rpc_error_new(RPC_CAPACITY, "No VM is free");
	struct text text = {0};

	wire_add_result(&text, "7", result);
	text_add(&text, "", 1);
	ck_assert_str_eq(text.data, "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"ratio\":0.1,"
				    "\"text\":\"a\\nb\"}}");
	text_reset(&text, SIZE_MAX);
	wire_add_error(&text, NULL, error);
	text_add(&text, "", 1);
	ck_assert_str_eq(text.data, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":3002,"
				    "\"message\":\"No VM is free\",\"data\":{\"name\":\"CAPACITY\","
				    "\"retryable\":true}}}");
	text_reset(&text, SIZE_MAX);
	wire_add_notification(&text, "event", result);
	ck_assert(!text.is_failed);
	ck_assert_mem_eq(text.data, "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{", 44);
	rpc_error_free(error);
	text_fini(&text);
}
END_TEST

/* Every prefix of a request is refused, and so is every version of it with one byte missing unless
 * that leaves JSON: the scanner before the parser must never let the parser see less. */
START_TEST(test_prefixes_are_refused)
{
	static const char line[] = "{\"jsonrpc\":\"2.0\",\"id\":\"\\\\\\\"[{\",\"method\":\"m\","
				   "\"params\":{\"a\":[1,2.5,true,null,\"\\u20ac\"]}}";

	for (size_t len = 0; len < strlen(line); len++)
		ck_assert_ptr_null(parse(line, len));
	json_decref(parse(line, strlen(line)));
	for (size_t cut = 0; cut < strlen(line); cut++) {
		char with_gap[sizeof(line)];
		json_t *plain, *strict;

		memcpy(with_gap, line, cut);
		strcpy(with_gap + cut, line + cut + 1);
		plain = json_loads(with_gap, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
		strict = parse(with_gap, strlen(with_gap));
		ck_assert((plain == NULL) == (strict == NULL));
		json_decref(plain);
		json_decref(strict);
	}
}
END_TEST

START_TEST(test_values_are_counted)
{
	const size_t elements = WIRE_VALUES_MAX - 1; /* and the list itself */
	char *line = malloc(2 * elements + 3);
	json_t *message;
	size_t len = 0;

	line[len++] = '[';
	for (size_t i = 0; i < elements; i++) {
		line[len++] = '1';
		line[len++] = ',';
	}
	line[len - 1] = ']';
	message = parse(line, len);
	ck_assert_uint_eq(json_array_size(message), elements);
	json_decref(message);
	memcpy(line + len - 1, ",1]", 3);
	ck_assert_ptr_null(parse(line, len + 2));
	free(line);
}
END_TEST

/* The worst message within all limits stays within the memory that the limit's comment promises. */
START_TEST(test_worst_message_costs_little_memory)
{
	const size_t objects = WIRE_VALUES_MAX / 2 - 1;
	char *line = malloc(3 * objects + 2);
	struct mallinfo2 before, after;
	json_t *message;
	size_t len = 0;

	line[len++] = '[';
	for (size_t i = 0; i < objects; i++) {
		memcpy(line + len, "{},", 3);
		len += 3;
	}
	line[len - 1] = ']';
	before = mallinfo2();
	message = parse(line, len);
	after = mallinfo2();
	ck_assert_uint_eq(json_array_size(message), objects);
	ck_assert_uint_lt(after.uordblks - before.uordblks, 32u << 20);
	json_decref(message);
	free(line);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("rpc_wire");
	TCase *tcase = tcase_create("wire");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, test_ids_keep_their_value);
	tcase_add_test(tcase, test_real_ids_read_back_the_same);
	tcase_add_test(tcase, test_replies_are_one_compact_line);
	tcase_add_test(tcase, test_prefixes_are_refused);
	tcase_add_test(tcase, test_values_are_counted);
	tcase_add_test(tcase, test_worst_message_costs_little_memory);
	suite_add_tcase(suite, tcase);
	return suite;
}
