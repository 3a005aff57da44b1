/* SPDX-License-Identifier: Apache-2.0 */
/* RunResult: every way a run ends, as status, exit code and signal. */
#include "daemon/session/result.h"

#include "base/util.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_json.h"
#include "tests/unit/test_scarce.h"

#include <signal.h>

static struct msg_exit receipt;
static struct output out, err;
static struct run_outcome outcome;

static void setup(void)
{
	receipt = (struct msg_exit){.exec = 1, .reason = MSG_REASON_EXITED};
	out = err = (struct output){.limit = 100};
	outcome = (struct run_outcome){.exit = &receipt,
				       .out = &out,
				       .err = &err,
				       .vm = "vm_1",
				       .language = "python",
				       .start = "boot"};
}

static void teardown(void)
{
	output_fini(&out);
	output_fini(&err);
	json_decref(receipt.error);
}

static void set_receipt(const char *reason, uint64_t exit_code, uint64_t signal)
{
	strcpy(receipt.reason, reason);
	receipt.exit_code = exit_code;
	receipt.signal = signal;
}

static void assert_outcome(const char *status, int exit_code, const char *signal)
{
	json_auto_t *result = run_result(&outcome);

	ck_assert_ptr_nonnull(result);
	ck_assert_json_str(result, "status", status);
	ck_assert_json_int(result, "exit_code", exit_code);
	ck_assert_json_str(result, "signal", signal);
}

START_TEST(test_exits)
{
	assert_outcome("ok", 0, NULL);
	for (unsigned code = 1; code < 256; code++) {
		set_receipt(MSG_REASON_EXITED, code, 0);
		assert_outcome("error", (int)code, NULL);
	}
}
END_TEST

START_TEST(test_signals)
{
	set_receipt(MSG_REASON_SIGNALED, 0, SIGKILL);
	assert_outcome("signal", 137, "SIGKILL");
	set_receipt(MSG_REASON_SIGNALED, 0, SIGSEGV);
	assert_outcome("signal", 139, "SIGSEGV");
	set_receipt(MSG_REASON_SIGNALED, 0, SIGXCPU);
	assert_outcome("signal", 152, "SIGXCPU");
	set_receipt(MSG_REASON_SIGNALED, 0, 40); /* a real-time signal has no name */
	assert_outcome("signal", 168, "SIG40");
}
END_TEST

START_TEST(test_oom_and_output_limit)
{
	set_receipt(MSG_REASON_OOM, 0, 0);
	assert_outcome("oom", 137, "SIGKILL");
	set_receipt(MSG_REASON_OUTPUT_LIMIT, 0, 0);
	assert_outcome("output_limit", 137, "SIGKILL");
}
END_TEST

START_TEST(test_verdicts_of_the_host)
{
	outcome.verdict = VERDICT_TIMEOUT;
	set_receipt(MSG_REASON_SIGNALED, 0, SIGKILL);
	assert_outcome("timeout", 124, NULL);
	set_receipt(MSG_REASON_EXITED, 0, 0); /* it caught SIGTERM and left in time to say so */
	assert_outcome("timeout", 124, NULL);
	outcome.exit = NULL;
	assert_outcome("timeout", 124, NULL);
	outcome.verdict = VERDICT_CANCELLED;
	assert_outcome("cancelled", 143, NULL);
	outcome.exit = &receipt;
	assert_outcome("cancelled", 143, NULL);
}
END_TEST

/* An OOM reported as a timeout is the commonest complaint of this field. */
START_TEST(test_oom_is_told_even_at_the_deadline)
{
	set_receipt(MSG_REASON_OOM, 0, SIGKILL);
	outcome.verdict = VERDICT_TIMEOUT;
	assert_outcome("oom", 137, "SIGKILL");
	/* Who cancelled is told so, as the API has it. */
	outcome.verdict = VERDICT_CANCELLED;
	assert_outcome("cancelled", 143, NULL);
}
END_TEST

/* The receipt is the guest's word: numbers that no kernel gives must not become others. */
START_TEST(test_impossible_numbers)
{
	json_auto_t *result = NULL;

	set_receipt(MSG_REASON_SIGNALED, 0, INT64_MAX);
	result = run_result(&outcome);
	ck_assert_json_str(result, "status", "signal");
	ck_assert_int_le(json_integer_value(json_need(result, "exit_code")), 255);
	ck_assert_int_ge(json_integer_value(json_need(result, "exit_code")), 128);
	json_decref(result);
	set_receipt(MSG_REASON_SIGNALED, 0, INT32_MAX);
	result = run_result(&outcome);
	ck_assert_int_le(json_integer_value(json_need(result, "exit_code")), 255);
	json_decref(result);
	/* Never "ok" by a truncated number. */
	set_receipt(MSG_REASON_EXITED, UINT64_C(1) << 32, 0);
	result = run_result(&outcome);
	ck_assert_json_str(result, "status", "error");
	ck_assert_json_int(result, "exit_code", 255);
}
END_TEST

START_TEST(test_claimed_error_has_three_members)
{
	json_auto_t *without = run_result(&outcome), *with = NULL;
	json_t *error;

	ck_assert(json_is_null(json_need(without, "error")));
	receipt.error = JSON({"name" : "ValueError", "value" : "x", "evil" : "y"});
	with = run_result(&outcome);
	error = json_need(with, "error");
	ck_assert_uint_eq(json_object_size(error), 3);
	ck_assert_json_str(error, "name", "ValueError");
	ck_assert_json_str(error, "value", "x");
	ck_assert(json_is_null(json_need(error, "traceback")));
}
END_TEST

START_TEST(test_shape)
{
	static const char *const members[] = {"status",
					      "exit_code",
					      "signal",
					      "stdout",
					      "stderr",
					      "stdout_truncated",
					      "stderr_truncated",
					      "stdout_bytes",
					      "stderr_bytes",
					      "error",
					      "files",
					      "timing",
					      "usage",
					      "vm",
					      "language",
					      "start"};
	static const char *const usage[] = {"cpu_user_ms",       "cpu_system_ms",
					    "memory_peak_bytes", "page_faults_major",
					    "oom_kills",         "swap_peak_bytes"};
	json_auto_t *result = NULL;

	receipt.cpu_user_us = 123456;
	receipt.memory_peak_bytes = 1 << 20;
	receipt.stdout_bytes = 5;
	outcome.queue_us = 1000;
	outcome.total_us = 2500000;
	ck_assert_int_eq(output_add(&out, (const uint8_t *)"hello", 5), 0);
	result = run_result(&outcome);
	for (size_t i = 0; i < ELEMENTSOF(members); i++)
		json_need(result, members[i]);
	ck_assert_uint_eq(json_object_size(result), ELEMENTSOF(members));
	for (size_t i = 0; i < ELEMENTSOF(usage); i++)
		json_need(json_need(result, "usage"), usage[i]);
	ck_assert_double_eq_tol(
		json_number_value(json_need(json_need(result, "usage"), "cpu_user_ms")), 123.45,
		0.011);
	ck_assert_double_eq_tol(
		json_number_value(json_need(json_need(result, "timing"), "total_ms")), 2500, 0.011);
	ck_assert_json_str(result, "stdout", "hello");
	ck_assert_json_str(result, "vm", "vm_1");
	ck_assert_json_str(result, "start", "boot");
}
END_TEST

/* It tells of no VM, and of no start. */
START_TEST(test_of_a_process)
{
	json_auto_t *result = NULL;

	outcome.vm = outcome.start = NULL;
	outcome.session = "ses_1";
	result = run_result(&outcome);
	ck_assert_json_str(result, "session", "ses_1");
	ck_assert_ptr_null(json_object_get(result, "vm"));
	ck_assert_ptr_null(json_object_get(result, "start"));
}
END_TEST

/* Whichever piece of it there is no memory for: there is none, not one that lacks something. */
START_TEST(test_without_memory)
{
	json_auto_t *whole = NULL;
	bool has_failed = true;

	set_receipt(MSG_REASON_SIGNALED, 0, SIGKILL);
	receipt.error = JSON({"name" : "ValueError", "value" : "x", "traceback" : "y"});
	outcome.session = "ses_1";
	ck_assert_int_eq(output_add(&out, (const uint8_t *)"hello", 5), 0);
	ck_assert_int_eq(output_add(&err, (const uint8_t *)"\xff", 1), 0);
	whole = run_result(&outcome);
	ck_assert_ptr_nonnull(whole);
	for (long nth = 0; has_failed; nth++) {
		json_auto_t *result = NULL;

		scarce_begin(nth);
		result = run_result(&outcome);
		has_failed = scarce_end();
		ck_assert(result || has_failed);
		if (result)
			ck_assert_msg(json_equal(result, whole), "Without allocation %ld", nth);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("result");
	TCase *tests = tcase_create("result");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_exits);
	tcase_add_test(tests, test_signals);
	tcase_add_test(tests, test_oom_and_output_limit);
	tcase_add_test(tests, test_verdicts_of_the_host);
	tcase_add_test(tests, test_oom_is_told_even_at_the_deadline);
	tcase_add_test(tests, test_impossible_numbers);
	tcase_add_test(tests, test_claimed_error_has_three_members);
	tcase_add_test(tests, test_shape);
	tcase_add_test(tests, test_of_a_process);
	tcase_add_test(tests, test_without_memory);
	suite_add_tcase(suite, tests);
	return suite;
}
