/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: strict order, never one VM or one MiB over, nobody forgotten. */
#include "daemon/pool/admission.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#define TICKETS 64
#define STEPS   20000

static struct admission admission;
static struct admission_ticket tickets[TICKETS];
static size_t granted[STEPS]; /* indexes of tickets, in the order of on_granted */
static size_t granted_count;

static void on_granted(void *user)
{
	struct admission_ticket *ticket = user;

	ck_assert_int_eq(ticket->state, ADMISSION_GRANTED);
	granted[granted_count++] = (size_t)(ticket - tickets);
}

static void start(size_t max_vms, size_t queue_max, uint64_t memory_mb)
{
	admission_init(&admission, &(struct admission_limits){.max_vms = max_vms,
							      .queue_max = queue_max,
							      .memory_mb = memory_mb});
	granted_count = 0;
	for (size_t i = 0; i < TICKETS; i++)
		tickets[i] =
			(struct admission_ticket){.on_granted = on_granted, .user = &tickets[i]};
}

static enum admission_state ask(size_t i, uint64_t memory_mb)
{
	return admission_request(&admission, &tickets[i], memory_mb, 0);
}

START_TEST(test_grants_up_to_the_limit_then_queues_in_order)
{
	start(2, 2, 1000);
	ck_assert_int_eq(ask(0, 100), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(1, 100), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(2, 100), ADMISSION_WAITING);
	ck_assert_int_eq(ask(3, 100), ADMISSION_WAITING);
	ck_assert_int_eq(ask(4, 100), ADMISSION_IDLE);
	ck_assert_uint_eq(admission.waiting, 2);
	admission_release(&admission, &tickets[1], 0);
	ck_assert_uint_eq(granted_count, 1);
	admission_release(&admission, &tickets[0], 0);
	ck_assert_uint_eq(granted_count, 2);
	ck_assert_uint_eq(granted[0], 2);
	ck_assert_uint_eq(granted[1], 3);
	ck_assert_uint_eq(admission.vms, 2);
	ck_assert_uint_eq(admission.memory_used_mb, 200);
}
END_TEST

START_TEST(test_memory_that_never_fits_is_refused)
{
	start(10, 10, 1000);
	ck_assert_int_eq(ask(0, 1001), ADMISSION_IDLE);
	ck_assert_int_eq(ask(0, UINT64_MAX), ADMISSION_IDLE);
	ck_assert_int_eq(ask(0, 1000), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(1, 1), ADMISSION_WAITING);
}
END_TEST

/* Small requests that would fit do not pass a large one that waits. */
START_TEST(test_large_request_is_not_overtaken)
{
	start(10, 10, 1000);
	ck_assert_int_eq(ask(0, 400), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(1, 400), ADMISSION_GRANTED);
	ck_assert_int_eq(ask(2, 900), ADMISSION_WAITING);
	ck_assert_int_eq(ask(3, 100), ADMISSION_WAITING);
	admission_release(&admission, &tickets[0], 0);
	ck_assert_uint_eq(granted_count, 0);
	admission_release(&admission, &tickets[1], 0);
	ck_assert_uint_eq(granted_count, 2);
	ck_assert_uint_eq(granted[0], 2);
	ck_assert_uint_eq(granted[1], 3);
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
	ck_assert_uint_eq(granted_count, 1);
	ck_assert_uint_eq(granted[0], 2);
	/* The tail can be cancelled, and the queue goes on behind it. */
	admission_cancel(&admission, &tickets[3], 0);
	ck_assert_uint_eq(admission.waiting, 0);
	ck_assert_int_eq(ask(4, 500), ADMISSION_WAITING);
	admission_release(&admission, &tickets[0], 0);
	ck_assert_int_eq(tickets[4].state, ADMISSION_GRANTED);
}
END_TEST

START_TEST(test_calls_in_a_wrong_state_change_nothing)
{
	start(1, 1, 100);
	ask(0, 100);
	admission_cancel(&admission, &tickets[0], 0);
	ck_assert_int_eq(tickets[0].state, ADMISSION_GRANTED);
	admission_release(&admission, &tickets[1], 0);
	ck_assert_uint_eq(admission.vms, 1);
	admission_release(&admission, &tickets[0], 0);
	admission_release(&admission, &tickets[0], 0);
	ck_assert_uint_eq(admission.vms, 0);
	ck_assert_uint_eq(admission.memory_used_mb, 0);
}
END_TEST

START_TEST(test_retry_after_grows_with_the_queue_and_with_hold_times)
{
	uint64_t empty, before;

	start(2, 64, 10000);
	empty = admission_retry_after_ms(&admission);
	ck_assert_uint_gt(empty, 0);
	before = empty;
	for (size_t i = 0; i < 32; i++) {
		ask(i, 1);
		ck_assert_uint_ge(admission_retry_after_ms(&admission), before);
		before = admission_retry_after_ms(&admission);
	}
	ck_assert_uint_ge(before, 10 * empty);

	start(1, 1, 100);
	for (size_t i = 0; i < 50; i++) {
		ask(0, 1);
		admission_release(&admission, &tickets[0], 60000000);
	}
	ck_assert_uint_gt(admission_retry_after_ms(&admission), 50000);
	ck_assert_uint_le(admission_retry_after_ms(&admission), 60000);
	for (size_t i = 0; i < 100; i++) {
		ask(0, 1);
		admission_release(&admission, &tickets[0], 1000);
	}
	ck_assert_uint_lt(admission_retry_after_ms(&admission), 100);
}
END_TEST

/* --- Random operations against a model that keeps the plain truth. --- */

static size_t queue[TICKETS], queue_len;

static void model_forget(size_t ticket)
{
	size_t kept = 0;

	for (size_t i = 0; i < queue_len; i++)
		if (queue[i] != ticket)
			queue[kept++] = queue[i];
	queue_len = kept;
}

static void check_against_truth(void)
{
	size_t vms = 0, waiting = 0;
	uint64_t memory_mb = 0;

	for (size_t i = 0; i < TICKETS; i++) {
		vms += tickets[i].state == ADMISSION_GRANTED;
		waiting += tickets[i].state == ADMISSION_WAITING;
		memory_mb += tickets[i].state == ADMISSION_GRANTED ? tickets[i].memory_mb : 0;
	}
	ck_assert_uint_eq(admission.vms, vms);
	ck_assert_uint_eq(admission.waiting, waiting);
	ck_assert_uint_eq(admission.memory_used_mb, memory_mb);
	ck_assert_uint_le(vms, admission.limits.max_vms);
	ck_assert_uint_le(memory_mb, admission.limits.memory_mb);
	ck_assert_uint_le(waiting, admission.limits.queue_max);
	ck_assert_uint_eq(waiting, queue_len);
	/* Whoever heads the queue does not fit: nobody waits without need. */
	if (queue_len > 0)
		ck_assert(vms == admission.limits.max_vms ||
			  memory_mb + tickets[queue[0]].memory_mb > admission.limits.memory_mb);
}

/* The grants of one operation are the head of the model's queue, in order. */
static void take_grants(void)
{
	for (size_t i = 0; i < granted_count; i++) {
		ck_assert_uint_gt(queue_len, 0);
		ck_assert_uint_eq(granted[i], queue[0]);
		model_forget(queue[0]);
	}
	granted_count = 0;
}

START_TEST(test_random_operations_are_exact)
{
	srandom((unsigned)_i);
	start(1 + (size_t)random() % 12, (size_t)random() % 30, 2000);
	queue_len = 0;
	for (int step = 0; step < STEPS; step++) {
		size_t i = (size_t)random() % TICKETS;
		struct admission_ticket *ticket = &tickets[i];

		if (ticket->state == ADMISSION_IDLE) {
			uint64_t memory_mb = random() % 20 ? 1 + (uint64_t)random() % 500
							   : 1500 + (uint64_t)random() % 600;
			enum admission_state state = ask(i, memory_mb);

			ck_assert_uint_eq(granted_count, 0);
			if (state == ADMISSION_GRANTED)
				ck_assert_uint_eq(queue_len, 0);
			if (state == ADMISSION_WAITING)
				queue[queue_len++] = i;
			if (state == ADMISSION_IDLE)
				ck_assert(memory_mb > 2000 ||
					  queue_len == admission.limits.queue_max);
		} else if (ticket->state == ADMISSION_WAITING && random() % 4 == 0) {
			model_forget(i);
			admission_cancel(&admission, ticket, 0);
		} else if (ticket->state == ADMISSION_GRANTED) {
			admission_release(&admission, ticket, (uint64_t)step);
		}
		take_grants();
		check_against_truth();
	}
}
END_TEST

/* A ticket that is released inside the callback of its own grant, as a run that ended meanwhile. */
static void release_at_once(void *user)
{
	granted_count++;
	admission_release(&admission, user, 0);
}

START_TEST(test_release_inside_a_grant_passes_the_share_on)
{
	start(1, 8, 100);
	ask(0, 100);
	for (size_t i = 1; i < 4; i++) {
		tickets[i].on_granted = release_at_once;
		ask(i, 100);
	}
	admission_release(&admission, &tickets[0], 0);
	ck_assert_uint_eq(granted_count, 3);
	ck_assert_uint_eq(admission.vms, 0);
	ck_assert_uint_eq(admission.waiting, 0);
	ck_assert_int_eq(ask(5, 100), ADMISSION_GRANTED);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("admission");
	TCase *tests = tcase_create("admission");

	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_grants_up_to_the_limit_then_queues_in_order);
	tcase_add_test(tests, test_memory_that_never_fits_is_refused);
	tcase_add_test(tests, test_large_request_is_not_overtaken);
	tcase_add_test(tests, test_cancelling_the_head_lets_the_next_through);
	tcase_add_test(tests, test_calls_in_a_wrong_state_change_nothing);
	tcase_add_test(tests, test_retry_after_grows_with_the_queue_and_with_hold_times);
	tcase_add_loop_test(tests, test_random_operations_are_exact, 1, 11);
	tcase_add_test(tests, test_release_inside_a_grant_passes_the_share_on);
	suite_add_tcase(suite, tests);
	return suite;
}
