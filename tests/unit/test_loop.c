/* SPDX-License-Identifier: Apache-2.0 */
/* The loop: what is deferred runs once, in order, after the callbacks and before the loop sleeps.
 */
#include "base/loop.h"

#include "base/util.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"

#include <string.h>

static struct loop *loop;
static struct defer a, b, c;
static char happened[64];

static void note(void *user)
{
	strcat(happened, user);
}

static void setup(void)
{
	ck_assert_int_eq(loop_create(&loop), 0);
	a = b = c = (struct defer){0};
	happened[0] = '\0';
}

static void teardown(void)
{
	loop_destroy(loop);
}

START_TEST(test_deferred_calls_run_in_order_and_once)
{
	loop_defer(loop, &b, note, (void *)"b");
	loop_defer(loop, &a, note, (void *)"a");
	loop_defer(loop, &b, note, (void *)"B"); /* queued already: stays as it is */
	ck_assert_str_eq(happened, "");
	loop_run_once(loop, false);
	ck_assert_str_eq(happened, "ba");
	loop_run_once(loop, false);
	ck_assert_str_eq(happened, "ba");
	loop_defer(loop, &b, note, (void *)"b");
	loop_run_once(loop, false);
	ck_assert_str_eq(happened, "bab");
}
END_TEST

START_TEST(test_cancel_at_each_place)
{
	struct defer *const all[] = {&a, &b, &c};
	static const char *const left[] = {"bc", "ac", "ab"};

	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		loop_defer(loop, &a, note, (void *)"a");
		loop_defer(loop, &b, note, (void *)"b");
		loop_defer(loop, &c, note, (void *)"c");
		loop_defer_cancel(loop, all[i]);
		loop_defer_cancel(loop, all[i]); /* idle: nothing happens */
		ck_assert(!all[i]->is_queued);
		happened[0] = '\0';
		loop_run_once(loop, false);
		ck_assert_str_eq(happened, left[i]);
	}
	/* The queue goes on behind a cancelled tail. */
	loop_defer(loop, &a, note, (void *)"a");
	loop_defer_cancel(loop, &a);
	loop_defer(loop, &b, note, (void *)"b");
	loop_defer(loop, &a, note, (void *)"a");
	happened[0] = '\0';
	loop_run_once(loop, false);
	ck_assert_str_eq(happened, "ba");
}
END_TEST

static void note_and_defer(void *user)
{
	note(user);
	loop_defer(loop, &b, note, (void *)"b");
	loop_defer(loop, &a, note, (void *)"!"); /* itself, again */
}

START_TEST(test_defer_inside_defer_runs_before_the_loop_sleeps)
{
	loop_defer(loop, &a, note_and_defer, (void *)"a");
	loop_run_once(loop, false);
	ck_assert_str_eq(happened, "ab!");
}
END_TEST

static void cancel_others(void *user)
{
	note(user);
	loop_defer_cancel(loop, &b);
}

START_TEST(test_cancel_inside_defer)
{
	loop_defer(loop, &a, cancel_others, (void *)"a");
	loop_defer(loop, &b, note, (void *)"b");
	loop_defer(loop, &c, note, (void *)"c");
	loop_run_once(loop, false);
	ck_assert_str_eq(happened, "ac");
}
END_TEST

/* The defer lives in the object that it frees. */
static void free_owner(void *user)
{
	note((void *)"f");
	free(user);
}

START_TEST(test_owner_may_free_itself)
{
	struct defer *owner = calloc(1, sizeof(*owner));

	ck_assert_ptr_nonnull(owner);
	loop_defer(loop, owner, free_owner, owner);
	loop_defer(loop, &a, note, (void *)"a");
	loop_run_once(loop, false);
	ck_assert_str_eq(happened, "fa");
}
END_TEST

static void defer_from_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	loop_defer(loop, &a, note, timer->data);
	note((void *)"t");
}

START_TEST(test_callbacks_come_before_what_they_defer)
{
	ev_timer first, second;

	ev_timer_init(&first, defer_from_timer, 0., 0.);
	ev_timer_init(&second, defer_from_timer, 0., 0.);
	first.data = second.data = (void *)"a";
	loop_timer_start(loop, &first, 0.);
	loop_timer_start(loop, &second, 0.);
	ck_assert(WAIT_FOR(loop, strchr(happened, 'a')));
	ck_assert_str_eq(happened, "tta");
}
END_TEST

static void stop_loop(void *user)
{
	note(user);
	loop_stop(loop);
}

START_TEST(test_run_ends_at_stop_and_runs_what_is_left)
{
	ev_timer timer;

	ev_timer_init(&timer, defer_from_timer, 0., 0.);
	timer.data = (void *)"a";
	loop_timer_start(loop, &timer, 0.001);
	ck_assert(WAIT_FOR(loop, strchr(happened, 'a')));
	loop_defer(loop, &b, stop_loop, (void *)"s");
	loop_run(loop);
	ck_assert_str_eq(happened, "tas");
}
END_TEST

START_TEST(test_destroy_runs_what_is_left)
{
	loop_defer(loop, &a, note, (void *)"a");
	loop_destroy(loop);
	ck_assert_str_eq(happened, "a");
	loop_destroy(NULL);
	setup();
}
END_TEST

/* Started long after the loop last looked at the clock, a timer still waits its whole time. */
START_TEST(test_timer_counts_from_the_present)
{
	ev_timer timer;
	uint64_t started, busy_until = now_us() + 50000;

	ev_timer_init(&timer, defer_from_timer, 0., 0.);
	timer.data = (void *)"a";
	loop_run_once(loop, false);
	while (now_us() < busy_until)
		;
	started = now_us();
	loop_timer_start(loop, &timer, 0.03);
	loop_timer_start(loop, &timer, 0.03); /* again: it starts anew */
	ck_assert(WAIT_FOR(loop, strchr(happened, 't')));
	ck_assert_uint_ge(now_us() - started, 29000);
	loop_timer_start(loop, &timer, 0.);
	loop_timer_stop(loop, &timer);
	happened[0] = '\0';
	loop_run_once(loop, false);
	ck_assert_str_eq(happened, "");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("loop");
	TCase *tests = tcase_create("loop");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_deferred_calls_run_in_order_and_once);
	tcase_add_test(tests, test_cancel_at_each_place);
	tcase_add_test(tests, test_defer_inside_defer_runs_before_the_loop_sleeps);
	tcase_add_test(tests, test_cancel_inside_defer);
	tcase_add_test(tests, test_owner_may_free_itself);
	tcase_add_test(tests, test_callbacks_come_before_what_they_defer);
	tcase_add_test(tests, test_run_ends_at_stop_and_runs_what_is_left);
	tcase_add_test(tests, test_destroy_runs_what_is_left);
	tcase_add_test(tests, test_timer_counts_from_the_present);
	suite_add_tcase(suite, tests);
	return suite;
}
