/* SPDX-License-Identifier: Apache-2.0 */
/* Results of programs with an exec_id: what one daemon leaves, the next one answers with. */
#include "tests/unit/test_results_fixture.h"

/* --- What has ended. --- */

START_TEST(test_file_comes_and_goes)
{
	struct result_record *record = begin(ONE);

	/* Until it is sent to a guest it can be asked for again. */
	ck_assert_uint_eq(count_files(), 0);
	results_dispatched(record, &place);
	ck_assert_uint_eq(count_files(), 1);
	end(record, "x", 1, 1);
	ck_assert_uint_eq(count_files(), 1);
	record = begin("{\"exec_id\": \"two\"}");
	results_dispatched(record, &place);
	ck_assert_uint_eq(count_files(), 2);
	answer(record, NULL);
	results_forget(record, NULL);
	json_decref(reply());
	ck_assert_uint_eq(count_files(), 1);
	config.result_seconds = 0;
	results_drop_expired(results);
	ck_assert_uint_eq(count_files(), 0);
}
END_TEST

static const struct {
	const char *bytes;
	size_t len, total;
} outputs[] = {{"", 0, 0},
	       {"hello w\xc3\xb6rld", 12, 12},
	       {"a\0b\x01\n", 5, 5},
	       {"\xff\xfe\0", 3, 3},
	       {"xy\xe2\x82", 4, 1000}};
#define CUT_OUTPUT 4

static json_t *get_from(size_t offset)
{
	char text[64];

	snprintf(text, sizeof(text), "{\"exec_id\": \"one\", \"stdout_offset\": %zu}", offset);
	return call("get", text);
}

/* The answers of one daemon are those of the next, to the byte; from where a text was cut in the
 * middle of a character there is none. */
START_TEST(test_result_survives)
{
	size_t offsets = _i == CUT_OUTPUT ? 3 : 6;
	struct result_record *record = begin(ONE);
	json_t *before[6];

	results_dispatched(record, &place);
	end(record, outputs[_i].bytes, outputs[_i].len, outputs[_i].total);
	for (size_t offset = 0; offset < offsets; offset++)
		before[offset] = get_from(offset);
	end_at_once();
	ck_assert_int_eq(load(NULL), 0);
	for (size_t offset = 0; offset < offsets; offset++) {
		json_t *after = get_from(offset);

		ck_assert(json_equal(before[offset], after));
		json_decref(after);
		json_decref(before[offset]);
	}
	/* It does not run again, and its name is taken. */
	json_decref(call("run", ONE));
	ck_assert_uint_eq(begun_count, 0);
	assert_code("run", "{\"exec_id\": \"one\", \"code\": \"other\"}", RPC_EXEC_ID_CONFLICT);
}
END_TEST

START_TEST(test_error_survives)
{
	struct result_record *record = begin(ONE);
	struct rpc_error *error =
		rpc_error_set(rpc_error_new(RPC_VM_LOST, "Gone"), "vm", json_string("vm_1"));
	json_auto_t *before = NULL, *after = NULL;

	results_dispatched(record, &place);
	answer(record, NULL);
	json_decref(reply());
	results_fail(record, error);
	rpc_error_free(error);
	before = call("get", GET);
	end_at_once();
	ck_assert_int_eq(load(NULL), 0);
	after = call("get", GET);
	ck_assert_json_int(after, "code", RPC_VM_LOST);
	ck_assert(json_equal(before, after));
}
END_TEST

/* A daemon that stops in peace leaves its results, too. */
START_TEST(test_destroy_leaves_files)
{
	struct result_record *record = begin(ONE);

	results_dispatched(record, &place);
	end(record, "x", 1, 1);
	record = begin("{\"exec_id\": \"two\"}");
	results_dispatched(record, &place);
	results_destroy(results);
	rpc_call_finish_error(TAKE_PTR(begun[1].call), rpc_error_no_memory());
	json_decref(reply());
	ck_assert_int_eq(load(NULL), 0);
	json_decref(call("get", GET));
	assert_code("get", "{\"exec_id\": \"two\"}", RPC_VM_LOST);
}
END_TEST

/* --- What runs. --- */

/* One that was sent when the daemon died, and is loaded. */
static void lose_daemon(void)
{
	results_dispatched(begin(ONE), &place);
	end_at_once();
	json_decref(reply());
	running = NULL;
	ck_assert_int_eq(load(&load_ops), 0);
	ck_assert_ptr_nonnull(running);
}

START_TEST(test_running_is_told)
{
	json_auto_t *params_wanted = json_of(ONE), *progress = NULL;

	lose_daemon();
	ck_assert(json_equal(json_need(running_saved, "params"), params_wanted));
	ck_assert_json_str(running_saved, "vm", "vm_1");
	ck_assert_json_str(running_saved, "session", "ses_1");
	ck_assert_json_str(running_saved, "start", "warm");
	ck_assert_json_int(running_saved, "number", 7);
	ck_assert_json_int(running_saved, "granted_us", 5);
	ck_assert_int_ge(json_integer_value(json_need(running_saved, "dispatched_us")),
			 json_integer_value(json_need(running_saved, "asked_us")));
	json_decref(running_saved);
	progress = call("get", GET);
	ck_assert_json_str(progress, "state", "running");
	ck_assert_json_str(progress, "session", "ses_1");
	ck_assert_json_str(progress, "stdout", "");
	results_forget(running, NULL);
	ck_assert_uint_eq(count_files(), 0);
	assert_code("get", GET, RPC_EXEC_NOT_FOUND);
}
END_TEST

/* The same request does not run again: it waits for the one that runs. */
START_TEST(test_running_is_joined)
{
	struct output out = {.limit = 10}, err = {.limit = 10};
	json_auto_t *result = JSON({"status" : "ok", "stdout" : "x", "stderr" : ""});
	json_auto_t *answered = NULL;

	lose_daemon();
	json_decref(running_saved);
	send_call("run", ONE);
	assert_code("run", "{\"exec_id\": \"one\", \"code\": \"other\"}", RPC_EXEC_ID_CONFLICT);
	ck_assert_uint_eq(begun_count, 0);
	results_adopted(running, FAKE_EXEC);
	ck_assert_int_eq(output_add(&out, (const uint8_t *)"x", 1), 0);
	results_end(running, result, &out, &err);
	answered = reply();
	ck_assert(json_equal(answered, result));
	end_at_once();
	ck_assert_int_eq(load(NULL), 0);
	json_decref(TAKE_PTR(answered));
	answered = call("get", GET);
	ck_assert(json_equal(answered, result));
}
END_TEST

START_TEST(test_running_is_cancelled)
{
	struct rpc_error *error = rpc_error_new(RPC_CANCELLED, "Cancelled");
	char cancel[128];

	lose_daemon();
	json_decref(running_saved);
	send_call("run", ONE);
	snprintf(cancel, sizeof(cancel),
		 "{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":%d}}",
		 last_id);
	fx_send(&client, cancel);
	fx_wait(running->is_cancelled);
	ck_assert_uint_eq(cancelled, 0);
	results_adopted(running, FAKE_EXEC);
	ck_assert_uint_eq(cancelled, 1);
	results_fail(running, error);
	rpc_error_free(error);
	fx_expect_error(&client, RPC_CANCELLED);
}
END_TEST

/* Nobody takes it on: it is not known how it ended, now and later. */
START_TEST(test_running_is_lost)
{
	results_dispatched(begin(ONE), &place);
	end_at_once();
	json_decref(reply());
	ck_assert_int_eq(load(NULL), 0);
	assert_code("get", GET, RPC_VM_LOST);
	end_at_once();
	ck_assert_int_eq(load(&load_ops), 0);
	assert_code("run", ONE, RPC_VM_LOST);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("results");
	TCase *tests = tcase_create("results");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_file_comes_and_goes);
	tcase_add_loop_test(tests, test_result_survives, 0, ELEMENTSOF(outputs));
	tcase_add_test(tests, test_error_survives);
	tcase_add_test(tests, test_destroy_leaves_files);
	tcase_add_test(tests, test_running_is_told);
	tcase_add_test(tests, test_running_is_joined);
	tcase_add_test(tests, test_running_is_cancelled);
	tcase_add_test(tests, test_running_is_lost);
	suite_add_tcase(suite, tests);
	return suite;
}
