/* SPDX-License-Identifier: Apache-2.0 */
/* The error object: its codes, its data, and text that is not fit to be sent. */
#include "protocol/rpc_error.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_json.h"

START_TEST(test_shape)
{
	struct rpc_error *error = rpc_error_new(RPC_CAPACITY, "All %d VMs are busy", 3);
	json_auto_t *json = NULL;
	json_t *data;

	ck_assert_ptr_eq(rpc_error_set(error, "retry_after_ms", json_integer(5)), error);
	ck_assert_ptr_eq(rpc_error_hint(error, "come back in %d ms", 5), error);
	json = rpc_error_to_json(error);
	rpc_error_free(error);
	ck_assert_json_int(json, "code", 3002);
	ck_assert_json_str(json, "message", "All 3 VMs are busy");
	data = json_need(json, "data");
	ck_assert_json_str(data, "name", "CAPACITY");
	ck_assert(json_is_true(json_need(data, "retryable")));
	ck_assert_json_int(data, "retry_after_ms", 5);
	ck_assert_json_str(data, "hint", "come back in 5 ms");
}
END_TEST

START_TEST(test_codes_of_the_api)
{
	static const struct {
		int code;
		const char *name;
		bool is_retryable;
	} known[] = {
		{-32700, "PARSE_ERROR", false},
		{-32600, "INVALID_REQUEST", false},
		{-32601, "METHOD_NOT_FOUND", false},
		{-32602, "INVALID_PARAMS", false},
		{-32800, "CANCELLED", false},
		{1001, "DRAINING", true},
		{1002, "UNAUTHORIZED", false},
		{1010, "MESSAGE_TOO_LARGE", false},
		{1011, "TOO_MANY_REQUESTS", true},
		{2001, "CODE_INVALID", false},
		{2002, "ENV_INVALID", false},
		{2003, "LANGUAGE_UNKNOWN", false},
		{2006, "LIMIT_INVALID", false},
		{3001, "VM_BOOT_TIMEOUT", true},
		{3002, "CAPACITY", true},
		{3003, "VM_TRANSIENT", true},
		{3004, "VM_LOST", false},
		{3005, "VM_CONFIG", false},
		{3006, "GUEST_PROTOCOL", false},
	};

	for (size_t i = 0; i < ELEMENTSOF(known); i++) {
		ck_assert_str_eq(rpc_code_name(known[i].code), known[i].name);
		ck_assert_int_eq(rpc_code_is_retryable(known[i].code), known[i].is_retryable);
	}
	ck_assert_str_eq(rpc_code_name(4711), "UNKNOWN");
	ck_assert(!rpc_code_is_retryable(4711));
}
END_TEST

START_TEST(test_walk_visits_each_code_once)
{
	const char *name, *help;
	size_t count = 0;
	int code, other;

	for (; rpc_code_at(count, &code, &name, &help); count++) {
		ck_assert_str_eq(rpc_code_name(code), name);
		ck_assert(*help && !strchr(help, '\n'));
		for (size_t i = 0; i < count; i++) {
			const char *other_name;

			ck_assert(rpc_code_at(i, &other, &other_name, &help));
			ck_assert_int_ne(other, code);
			ck_assert_str_ne(other_name, name);
		}
	}
	ck_assert_uint_gt(count, 20);
	ck_assert(!rpc_code_at(count + 1000, &code, &name, &help));
}
END_TEST

/* A message may quote what a caller or a guest wrote. */
START_TEST(test_text_that_is_not_utf8)
{
	struct rpc_error *error = rpc_error_new(RPC_PATH_INVALID, "Bad path '\xff\xfe'");
	json_auto_t *json = NULL;

	rpc_error_hint(error, "not \xc3 this");
	rpc_error_set(error, "field", json_string("\xff"));
	json = rpc_error_to_json(error);
	rpc_error_free(error);
	ck_assert_ptr_nonnull(json);
	ck_assert(json_is_string(json_need(json, "message")));
	ck_assert_json_str(json_need(json, "data"), "name", "PATH_INVALID");
	ck_assert_ptr_null(json_object_get(json_need(json, "data"), "field"));
	ck_assert_ptr_null(json_object_get(json_need(json, "data"), "hint"));
}
END_TEST

START_TEST(test_free)
{
	struct rpc_error *error = NULL;

	rpc_error_free(NULL);
	rpc_error_freep(&error);
	error = rpc_error_new(RPC_INTERNAL_ERROR, "x");
	rpc_error_freep(&error);
	ck_assert_ptr_null(error);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("rpc_error");
	TCase *tests = tcase_create("rpc_error");

	tcase_add_test(tests, test_shape);
	tcase_add_test(tests, test_codes_of_the_api);
	tcase_add_test(tests, test_walk_visits_each_code_once);
	tcase_add_test(tests, test_text_that_is_not_utf8);
	tcase_add_test(tests, test_free);
	suite_add_tcase(suite, tests);
	return suite;
}
