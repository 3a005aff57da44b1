/* SPDX-License-Identifier: Apache-2.0 */
/* Admission and the pool: who gets a spare, which have to go, and callbacks that call back. */
#include "tests/unit/test_admission.h"

/* --- Spares --- */

START_TEST(test_spare_is_given_to_one_ticket_of_its_kind)
{
	start(10, 10, 1000);
	stock(0, &bash, 50);
	stock(1, &python, 50);
	stock(2, &python, 50);
	ck_assert_uint_eq(admission.vms, 3);
	ck_assert_uint_eq(admission.running, 0);
	ck_assert_int_eq(ask(0, 200), ADMISSION_GRANTED);
	ck_assert_ptr_eq(tickets[0].spare, &spares[1]);
	ck_assert_int_eq(spares[1].state, ADMISSION_SPARE_NONE);
	ck_assert_uint_eq(admission.vms, 3);
	ck_assert_uint_eq(admission.spares, 2);
	ck_assert_uint_eq(admission.memory_used_mb, 300);
	/* Its share is the ticket's: the spare's owner has nothing to give back. */
	admission_spare_end(&admission, &spares[1], 0);
	ck_assert_uint_eq(admission.vms, 3);
	ask(1, 200);
	ck_assert_ptr_eq(tickets[1].spare, &spares[2]);
	ask(2, 200);
	ck_assert_ptr_null(tickets[2].spare);
	release(0);
	ck_assert_ptr_null(tickets[0].spare);
	ck_assert_uint_eq(reclaimed_count, 0);
	finish();
}
END_TEST

/* One that dies is nobody's any more, but has its share until it is dead. */
START_TEST(test_spare_that_leaves_is_not_given)
{
	start(2, 10, 400);
	stock(0, &python, 100);
	stock(1, &python, 100);
	admission_spare_leave(&admission, &spares[0]);
	admission_spare_leave(&admission, &spares[0]);
	ck_assert_uint_eq(admission.vms, 2);
	ck_assert_int_eq(ask(0, 100), ADMISSION_GRANTED);
	ck_assert_ptr_eq(tickets[0].spare, &spares[1]);
	/* The host is full until it is gone, and nothing else has to go for this one. */
	ck_assert_int_eq(ask(1, 100), ADMISSION_WAITING);
	ck_assert_uint_eq(reclaimed_count, 0);
	admission_spare_end(&admission, &spares[0], 0);
	ck_assert_int_eq(tickets[1].state, ADMISSION_GRANTED);
	ck_assert_ptr_null(tickets[1].spare);
	admission_spare_leave(&admission, &spares[1]);
	ck_assert_uint_eq(admission.reclaimed, 0);
	finish();
}
END_TEST

START_TEST(test_host_full_of_spares_serves_their_kind_without_destroying_one)
{
	start(3, 3, 600);
	for (size_t i = 0; i < 3; i++)
		stock(i, &python, 200);
	ck_assert(!begin(3, &python, 1));
	for (size_t i = 0; i < 3; i++) {
		ck_assert_int_eq(ask(i, 200), ADMISSION_GRANTED);
		ck_assert_ptr_eq(tickets[i].spare, &spares[i]);
	}
	ck_assert_uint_eq(reclaimed_count, 0);
	ck_assert_uint_eq(admission.vms, 3);
	finish();
}
END_TEST

/* A spare that grows needs room; only as many others go as give it. */
START_TEST(test_growing_a_spare_reclaims_others_oldest_first)
{
	start(10, 10, 400);
	stock(0, &python, 100);
	stock(1, &bash, 100);
	ck_assert(begin(2, &bash, 100));
	stock(3, &python, 100);
	ck_assert_int_eq(ask(0, 250), ADMISSION_WAITING);
	/* 300 are others': 150 have to go, which is the two oldest of them. */
	ck_assert_uint_eq(reclaimed_count, 2);
	ck_assert_uint_eq(reclaimed[0], 1);
	ck_assert_uint_eq(reclaimed[1], 2);
	admission_spare_end(&admission, &spares[1], 0);
	ck_assert_uint_eq(granted_count, 0);
	admission_spare_end(&admission, &spares[2], 0);
	EXPECT_GRANTS(0);
	ck_assert_ptr_eq(tickets[0].spare, &spares[0]);
	ck_assert_uint_eq(admission.memory_used_mb, 350);
	finish();
}
END_TEST

START_TEST(test_spares_of_another_kind_make_way)
{
	start(3, 1, 1000);
	for (size_t i = 0; i < 3; i++)
		stock(i, &bash, 10);
	ck_assert_int_eq(ask(0, 100), ADMISSION_WAITING);
	ck_assert_uint_eq(reclaimed_count, 1);
	ck_assert_uint_eq(reclaimed[0], 0);
	/* Nobody gets what is reclaimed, nor does it become ready. */
	admission_spare_ready(&admission, &spares[0], 0);
	ck_assert_int_eq(spares[0].state, ADMISSION_SPARE_RECLAIMED);
	ck_assert_uint_eq(admission.vms, 3);
	/* A head that could take a spare at once waits for the one before it all the same. */
	tickets[1].kind = &bash;
	ck_assert_int_eq(ask_as(2, 1, 100), ADMISSION_IDLE); /* the queue holds one */
	admission.limits.queue_max = 2;
	ck_assert_int_eq(ask_as(2, 1, 100), ADMISSION_WAITING);
	admission_spare_end(&admission, &spares[0], 0);
	EXPECT_GRANTS(0, 1);
	ck_assert_ptr_null(tickets[0].spare);
	ck_assert_ptr_eq(tickets[1].spare, &spares[1]);
	finish();
}
END_TEST

START_TEST(test_no_spare_goes_when_that_would_not_help)
{
	start_with((struct admission_limits){
		.max_vms = 4, .max_running = 2, .queue_max = 9, .memory_mb = 1000});
	ask(0, 400);
	stock(0, &bash, 300);
	stock(1, &bash, 300);
	ck_assert_int_eq(ask(1, 700), ADMISSION_WAITING); /* 400 are no spare's */
	ck_assert_uint_eq(reclaimed_count, 0);
	/* Cancelled, somebody smaller needs one of the two. */
	ck_assert_int_eq(ask(2, 200), ADMISSION_WAITING);
	admission_cancel(&admission, &tickets[1], 0);
	ck_assert_uint_eq(reclaimed_count, 1);
	admission_spare_end(&admission, &spares[0], 0);
	EXPECT_GRANTS(2);
	/* Both vCPUs are taken. */
	ck_assert_int_eq(ask(3, 400), ADMISSION_WAITING);
	ck_assert_uint_eq(reclaimed_count, 1);
	release(2);
	ck_assert_uint_eq(reclaimed_count, 2);
	admission_spare_end(&admission, &spares[1], 0);
	EXPECT_GRANTS(3);
	finish();
}
END_TEST

START_TEST(test_head_waits_for_a_starting_spare_of_its_kind)
{
	start(2, 9, 1000);
	ck_assert(begin(0, &python, 100));
	ck_assert(begin(1, &python, 100));
	ck_assert_int_eq(ask(0, 200), ADMISSION_WAITING);
	ck_assert_int_eq(ask(1, 200), ADMISSION_WAITING);
	ck_assert_uint_eq(reclaimed_count, 0);
	admission_spare_ready(&admission, &spares[1], 0);
	EXPECT_GRANTS(0);
	ck_assert_ptr_eq(tickets[0].spare, &spares[1]);
	/* One that fails to start makes room as well. */
	admission_spare_end(&admission, &spares[0], 0);
	EXPECT_GRANTS(1);
	ck_assert_ptr_null(tickets[1].spare);
	finish();
}
END_TEST

START_TEST(test_spare_begins_only_when_nobody_waits)
{
	start(2, 9, 1000);
	ask(0, 600);
	ask(1, 500);
	ck_assert(!begin(0, &python, 1));
	ck_assert_int_eq(spares[0].state, ADMISSION_SPARE_NONE);
	admission_cancel(&admission, &tickets[1], 0);
	ck_assert(!begin(0, &python, 401));
	ck_assert(begin(0, &python, 400));
	ck_assert(!begin(1, &python, 0)); /* two VMs exist */
	finish();
}
END_TEST

/* Spares make way even where nothing may wait. */
START_TEST(test_full_queue_does_not_refuse_whom_spares_hold_up)
{
	start(1, 0, 1000);
	stock(0, &bash, 10);
	ck_assert_int_eq(ask(0, 100), ADMISSION_WAITING);
	ck_assert_int_eq(ask_as(2, 1, 100), ADMISSION_IDLE);
	ck_assert_int_eq(refusal, ADMISSION_QUEUE_FULL);
	admission_spare_end(&admission, &spares[0], 0);
	EXPECT_GRANTS(0);
	ck_assert_int_eq(ask(1, 100), ADMISSION_IDLE);
	finish();
}
END_TEST

/* --- Callbacks that call back --- */

static void reclaim_at_once(void *user, struct admission_spare *spare)
{
	on_reclaim(user, spare);
	admission_spare_end(&admission, spare, 0);
}

START_TEST(test_reclaim_that_ends_at_once_grants_by_return_value)
{
	start(2, 2, 100);
	admission.on_reclaim = reclaim_at_once;
	stock(0, &bash, 50);
	stock(1, &bash, 50);
	ck_assert_int_eq(ask(0, 100), ADMISSION_GRANTED);
	ck_assert_uint_eq(reclaimed_count, 2);
	ck_assert_uint_eq(granted_count, 0); /* not told twice */
	ck_assert_int_eq(ask(1, 100), ADMISSION_WAITING);
	release(0);
	EXPECT_GRANTS(1);
	finish();
}
END_TEST

/* A ticket that is released inside the callback of its own grant, as a run that ended meanwhile. */
static void release_at_once(void *user)
{
	on_granted(user);
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
	release(0);
	EXPECT_GRANTS(1, 2, 3);
	ck_assert_uint_eq(admission.vms, 0);
	ck_assert_int_eq(ask(5, 100), ADMISSION_GRANTED);
	finish();
}
END_TEST

/* The grant of 1 cancels 2, asks for 4 and gives back 0. */
static void meddle(void *user)
{
	on_granted(user);
	admission_cancel(&admission, &tickets[2], 0);
	ck_assert_int_eq(ask_as(1, 4, 10), ADMISSION_WAITING);
	release(0);
	ck_assert_uint_eq(granted_count, 1); /* grants do not nest */
}

START_TEST(test_callback_may_cancel_ask_and_release)
{
	start(2, 8, 100);
	ask_as(1, 0, 10);
	ask_as(1, 5, 10);
	tickets[1].on_granted = meddle;
	ask_as(1, 1, 10);
	ask_as(2, 2, 10);
	ask_as(3, 3, 10);
	release(5);
	EXPECT_GRANTS(1, 3);
	release(3);
	EXPECT_GRANTS(4);
	finish();
}
END_TEST

/* --- Size --- */

#define MANY 50000

static struct admission_ticket many_tickets[MANY];
static struct admission_spare many_spares[MANY];

static void end_at_once(void *user UNUSED, struct admission_spare *spare)
{
	admission_spare_end(&admission, spare, 0);
}

/* On a host full of spares of two kinds, each run takes one or has one reclaimed. What is quadratic
 * does not end before check's deadline. */
START_TEST(test_cost_does_not_grow_with_the_number_of_spares)
{
	static const int none; /* a kind without spares */
	struct admission_limits limits = {MANY, MANY, MANY, MANY, 0, 0, 0};
	size_t begun = 0, served = 0; /* check writes a file for each assertion that holds */

	admission_init(&admission, &limits);
	admission.on_reclaim = end_at_once;
	for (size_t i = 0; i < MANY; i++) {
		many_spares[i] =
			(struct admission_spare){.kind = i % 2 ? &python : &bash, .memory_mb = 1};
		begun += admission_spare_begin(&admission, &many_spares[i]);
	}
	for (size_t i = MANY; i-- > 0;)
		admission_spare_ready(&admission, &many_spares[i], 0);
	for (size_t i = 0; i < MANY; i++) {
		many_tickets[i] = (struct admission_ticket){
			.kind = i % 2 ? &python : &none, .memory_mb = 1, .uid = (uid_t)(i % 6)};
		served += admission_request(&admission, &many_tickets[i], 0, &refusal) ==
			  ADMISSION_GRANTED;
	}
	for (size_t i = 0; i < MANY; i++)
		admission_release(&admission, &many_tickets[i], 0);
	ck_assert_uint_eq(begun, MANY);
	ck_assert_uint_eq(served, MANY);
	ck_assert_uint_eq(admission.vms, 0);
	ck_assert(TAILQ_EMPTY(&admission.kinds));
	admission_fini(&admission);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("admission_spares");
	TCase *tests = tcase_create("admission_spares");

	tcase_add_test(tests, test_spare_is_given_to_one_ticket_of_its_kind);
	tcase_add_test(tests, test_spare_that_leaves_is_not_given);
	tcase_add_test(tests, test_host_full_of_spares_serves_their_kind_without_destroying_one);
	tcase_add_test(tests, test_growing_a_spare_reclaims_others_oldest_first);
	tcase_add_test(tests, test_spares_of_another_kind_make_way);
	tcase_add_test(tests, test_no_spare_goes_when_that_would_not_help);
	tcase_add_test(tests, test_head_waits_for_a_starting_spare_of_its_kind);
	tcase_add_test(tests, test_spare_begins_only_when_nobody_waits);
	tcase_add_test(tests, test_full_queue_does_not_refuse_whom_spares_hold_up);
	tcase_add_test(tests, test_reclaim_that_ends_at_once_grants_by_return_value);
	tcase_add_test(tests, test_release_inside_a_grant_passes_the_share_on);
	tcase_add_test(tests, test_callback_may_cancel_ask_and_release);
	tcase_add_test(tests, test_cost_does_not_grow_with_the_number_of_spares);
	suite_add_tcase(suite, tests);
	return suite;
}
