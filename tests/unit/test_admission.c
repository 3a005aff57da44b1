/* SPDX-License-Identifier: Apache-2.0 */
/* Admission of runs: limits, order, turns of uids, quotas, and when to come back. */
#include "tests/unit/test_admission.h"

/* --- Limits and order of one uid --- */

START_TEST(test_grants_up_to_the_limit_then_queues_in_order)
{
	start(2, 2, 1000);
	ck_assert_int_eq(ask(0, 100), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(1, 100), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(2, 100), ADMISSION_WAITING);
	ck_assert_int_eq(refusal, ADMISSION_FITS);
	ck_assert_int_eq(ask(3, 100), ADMISSION_WAITING);
	ck_assert_int_eq(ask(4, 100), ADMISSION_IDLE);
	ck_assert_int_eq(refusal, ADMISSION_QUEUE_FULL);
	ck_assert_uint_eq(admission.waiting, 2);
	release(1);
	EXPECT_GRANTS(2);
	release(0);
	EXPECT_GRANTS(3);
	ck_assert_uint_eq(admission.vms, 2);
	ck_assert_uint_eq(admission.memory_used_mb, 200);
	finish();
}
END_TEST

START_TEST(test_vcpus_limit_as_vms_do)
{
	start_with((struct admission_limits){
		.max_vms = 10, .max_running = 1, .queue_max = 9, .memory_mb = 1000});
	ck_assert_int_eq(ask(0, 100), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(1, 100), ADMISSION_WAITING);
	release(0);
	EXPECT_GRANTS(1);
	ck_assert_uint_eq(admission.running, 1);
	finish();
}
END_TEST

/* At rest a VM keeps its memory and leaves its place among those that run; it takes one back though
 * there is none. */
START_TEST(test_rest_leaves_a_place)
{
	start_with((struct admission_limits){
		.max_vms = 10, .max_running = 1, .queue_max = 9, .memory_mb = 1000});
	ck_assert_int_eq(ask(0, 100), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(1, 100), ADMISSION_WAITING);
	admission_rest(&admission, &tickets[0], 0);
	admission_rest(&admission, &tickets[0], 0);
	EXPECT_GRANTS(1);
	ck_assert_uint_eq(admission.running, 1);
	ck_assert_uint_eq(admission.memory_used_mb, 200);
	admission_work(&admission, &tickets[0]);
	admission_work(&admission, &tickets[0]);
	ck_assert_uint_eq(admission.running, 2);
	ck_assert_int_eq(ask(2, 100), ADMISSION_WAITING);
	release(1);
	ck_assert_uint_eq(admission.running, 1);
	/* One that ends at rest does not give its place back twice. */
	admission_rest(&admission, &tickets[0], 0);
	EXPECT_GRANTS(2);
	release(0);
	ck_assert_uint_eq(admission.running, 1);
	finish();
}
END_TEST

START_TEST(test_memory_that_never_fits_is_refused)
{
	start(10, 10, 1000);
	ck_assert_int_eq(ask(0, 1001), ADMISSION_IDLE);
	ck_assert_int_eq(refusal, ADMISSION_TOO_LARGE);
	ck_assert_int_eq(ask(0, UINT64_MAX), ADMISSION_IDLE);
	ck_assert_int_eq(ask(0, 1000), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(1, 1), ADMISSION_WAITING);
	release(0);
	finish();
}
END_TEST

/* Small requests that would fit do not pass a large one that waits, of whatever uid. */
START_TEST(test_large_request_is_not_overtaken)
{
	start(10, 10, 1000);
	ask(0, 400);
	ask(1, 400);
	ck_assert_int_eq(ask(2, 900), ADMISSION_WAITING);
	ck_assert_int_eq(ask(3, 100), ADMISSION_WAITING);
	ck_assert_int_eq(ask_as(2000, 4, 100), ADMISSION_WAITING);
	release(0);
	ck_assert_uint_eq(granted_count, 0);
	release(1);
	EXPECT_GRANTS(2, 4);
	release(2);
	EXPECT_GRANTS(3);
	finish();
}
END_TEST

START_TEST(test_cancelling_the_head_lets_the_next_through)
{
	start(10, 10, 1000);
	ask(0, 600);
	ask(1, 900);
	ask(2, 300);
	ask(3, 300);
	admission_cancel(&admission, &tickets[1], 0);
	ck_assert_int_eq(tickets[1].state, ADMISSION_IDLE);
	EXPECT_GRANTS(2);
	/* The tail can be cancelled, and the queue goes on behind it. */
	admission_cancel(&admission, &tickets[3], 0);
	ck_assert_uint_eq(admission.waiting, 0);
	ck_assert_int_eq(ask(4, 500), ADMISSION_WAITING);
	release(0);
	ck_assert_int_eq(tickets[4].state, ADMISSION_GRANTED);
	finish();
}
END_TEST

START_TEST(test_calls_in_a_wrong_state_change_nothing)
{
	start(2, 1, 100);
	ask(0, 50);
	admission_cancel(&admission, &tickets[0], 0);
	ck_assert_int_eq(tickets[0].state, ADMISSION_GRANTED);
	release(1);
	ck_assert_uint_eq(admission.vms, 1);
	admission_spare_ready(&admission, &spares[0], 0);
	ck_assert_int_eq(spares[0].state, ADMISSION_SPARE_NONE);
	admission_spare_end(&admission, &spares[0], 0);
	ck_assert_uint_eq(admission.vms, 1);
	ck_assert(begin(0, &python, 50));
	admission_spare_end(&admission, &spares[0], 0);
	admission_spare_end(&admission, &spares[0], 0);
	release(0);
	release(0);
	finish();
}
END_TEST

/* --- Uids --- */

START_TEST(test_uids_take_turns)
{
	start(1, 20, 1000);
	ask_as(1, 0, 10);
	for (size_t i = 1; i <= 4; i++)
		ask_as(1, i, 10); /* the flood */
	ask_as(2, 5, 10);
	ask_as(2, 6, 10);
	ask_as(3, 7, 10);
	for (size_t i = 0; i < 8; i++)
		for (size_t k = 0; k < 8; k++)
			if (tickets[k].state == ADMISSION_GRANTED) {
				release(k);
				break;
			}
	EXPECT_GRANTS(1, 5, 7, 2, 6, 3, 4);
	finish();
}
END_TEST

START_TEST(test_uid_at_its_quota_does_not_hold_up_others)
{
	start_with((struct admission_limits){.max_vms = 10,
					     .max_running = 10,
					     .queue_max = 10,
					     .memory_mb = 10000,
					     .uid_vms = 2,
					     .uid_queue_max = 2,
					     .uid_memory_mb = 1000});
	ask_as(1, 0, 10);
	ask_as(1, 1, 10);
	ck_assert_int_eq(ask_as(1, 2, 10), ADMISSION_WAITING);
	ck_assert_int_eq(ask_as(1, 3, 10), ADMISSION_WAITING);
	ck_assert_int_eq(ask_as(1, 4, 10), ADMISSION_IDLE);
	ck_assert_int_eq(refusal, ADMISSION_UID_QUEUE_FULL);
	ck_assert_int_eq(ask_as(2, 5, 990), ADMISSION_GRANTED);
	/* The memory quota holds as the other does, and what is over it for good is refused. */
	ck_assert_int_eq(ask_as(2, 6, 11), ADMISSION_WAITING);
	ck_assert_int_eq(ask_as(2, 7, 10), ADMISSION_WAITING);
	ck_assert_int_eq(ask_as(3, 8, 1001), ADMISSION_IDLE);
	ck_assert_int_eq(refusal, ADMISSION_TOO_LARGE);
	/* Who waits for a quota does not keep the pool from filling. */
	stock(0, &bash, 50);
	release(5);
	EXPECT_GRANTS(6, 7);
	release(0);
	EXPECT_GRANTS(2);
	release(1);
	EXPECT_GRANTS(3);
	finish();
}
END_TEST

START_TEST(test_lowered_limits_hold_for_new_grants_only)
{
	struct admission_limits limits = {
		.max_vms = 4, .max_running = 4, .queue_max = 9, .memory_mb = 1000};

	start_with(limits);
	for (size_t i = 0; i < 4; i++)
		ask_as(1, i, 200);
	ck_assert_int_eq(ask_as(1, 4, 200), ADMISSION_WAITING);
	ck_assert_int_eq(ask_as(2, 5, 100), ADMISSION_WAITING);
	limits.max_vms = limits.max_running = 2;
	limits.memory_mb = 350;
	admission_set_limits(&admission, &limits, 0);
	ck_assert_uint_eq(admission.vms, 4);
	ck_assert_int_eq(ask_as(2, 6, 351), ADMISSION_IDLE);
	release(0);
	release(1);
	release(2);
	ck_assert_uint_eq(granted_count, 0); /* the head needs 200 of the 150 left */
	/* What has become too large for the host keeps its place and is in nobody's way. */
	limits.memory_mb = 300;
	admission_set_limits(&admission, &limits, 0);
	release(3);
	EXPECT_GRANTS(4, 5);
	ck_assert_int_eq(ask_as(1, 7, 250), ADMISSION_WAITING);
	limits.memory_mb = 240;
	admission_set_limits(&admission, &limits, 0);
	release(4);
	ck_assert_int_eq(ask_as(2, 8, 40), ADMISSION_GRANTED);
	ck_assert_int_eq(tickets[7].state, ADMISSION_WAITING);
	/* Raised limits let it through. */
	limits.memory_mb = 1000;
	limits.max_vms = limits.max_running = 9;
	admission_set_limits(&admission, &limits, 0);
	EXPECT_GRANTS(7);
	finish();
}
END_TEST

/* --- When to come back --- */

START_TEST(test_retry_after_grows_with_the_queue_and_with_hold_times)
{
	uint64_t empty, before;

	start(2, 64, 10000);
	empty = before = admission_retry_after_ms(&admission, 1000);
	ck_assert_uint_gt(empty, 0);
	for (size_t i = 0; i < 32; i++) {
		ask(i, 1);
		ck_assert_uint_ge(admission_retry_after_ms(&admission, 1000), before);
		before = admission_retry_after_ms(&admission, 1000);
	}
	ck_assert_uint_ge(before, 10 * empty);
	/* Another uid has one turn of the flood before it, not thirty. */
	ck_assert_uint_le(admission_retry_after_ms(&admission, 2000), 2 * empty);
	for (size_t i = 0; i < 32; i++)
		admission_cancel(&admission, &tickets[i], 0);
	finish();
}
END_TEST

START_TEST(test_retry_after_follows_hold_times_within_bounds)
{
	static const struct {
		uint64_t hold_us, least_ms, most_ms;
	} cases[] = {
		{60000000, 50000, 60000},
		{1000, 1, 100},
		{0, 1, 1},
		{UINT64_MAX, 300000, 300000},
	};

	start(1, 1, 100);
	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		for (size_t k = 0; k < 200; k++) {
			ask(0, 1);
			admission_release(&admission, &tickets[0], cases[i].hold_us);
		}
		ck_assert_uint_ge(admission_retry_after_ms(&admission, 7), cases[i].least_ms);
		ck_assert_uint_le(admission_retry_after_ms(&admission, 7), cases[i].most_ms);
	}
	finish();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("admission");
	TCase *tests = tcase_create("admission");

	tcase_add_test(tests, test_grants_up_to_the_limit_then_queues_in_order);
	tcase_add_test(tests, test_vcpus_limit_as_vms_do);
	tcase_add_test(tests, test_rest_leaves_a_place);
	tcase_add_test(tests, test_memory_that_never_fits_is_refused);
	tcase_add_test(tests, test_large_request_is_not_overtaken);
	tcase_add_test(tests, test_cancelling_the_head_lets_the_next_through);
	tcase_add_test(tests, test_calls_in_a_wrong_state_change_nothing);
	tcase_add_test(tests, test_uids_take_turns);
	tcase_add_test(tests, test_uid_at_its_quota_does_not_hold_up_others);
	tcase_add_test(tests, test_lowered_limits_hold_for_new_grants_only);
	tcase_add_test(tests, test_retry_after_grows_with_the_queue_and_with_hold_times);
	tcase_add_test(tests, test_retry_after_follows_hold_times_within_bounds);
	suite_add_tcase(suite, tests);
	return suite;
}
