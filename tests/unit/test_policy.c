/* SPDX-License-Identifier: Apache-2.0 */
/* The memory policy: levels, who gives first, floors, who is stopped. */
#include "tests/unit/test_policy.h"

#include <math.h>

/* --- Levels --- */

static const struct {
	double head, some, full;
	bool has_psi;
	enum policy_level level;
} entries[] = {
	{50, 0, 0, true, POLICY_GREEN},     {20.1, 0.9, 0.9, true, POLICY_GREEN},
	{19.9, 0, 0, true, POLICY_YELLOW},  {50, 1, 0, true, POLICY_YELLOW},
	{9.9, 0, 0, true, POLICY_ORANGE},   {50, 5, 0, true, POLICY_ORANGE},
	{50, 0, 1, true, POLICY_ORANGE},    {4.9, 0, 0, true, POLICY_RED},
	{50, 0, 5, true, POLICY_RED},       {50, 100, 4, true, POLICY_ORANGE},
	{2.4, 0, 0, true, POLICY_BLACK},    {50, 0, 20, true, POLICY_BLACK},
	{0, 0, 0, true, POLICY_BLACK},      {22.6, 100, 100, false, POLICY_GREEN},
	{22.4, 0, 0, false, POLICY_YELLOW}, {12.4, 0, 0, false, POLICY_ORANGE},
	{7.4, 0, 0, false, POLICY_RED},     {4.9, 0, 0, false, POLICY_BLACK},
	{50, NAN, NAN, true, POLICY_GREEN},
};

START_TEST(levels_are_entered_at_once)
{
	start(0);
	host.has_psi = entries[_i].has_psi;
	host.some_percent = entries[_i].some;
	host.full_percent = entries[_i].full;
	head(entries[_i].head);
	step();
	ck_assert_int_eq(policy.level, entries[_i].level);
}
END_TEST

/* From BLACK with all well: so many seconds at each level. */
START_TEST(levels_are_left_one_by_one_after_a_hold)
{
	static const unsigned holds[] = {[POLICY_BLACK] = 3, 3, 10, 10};
	static const enum policy_level way[] = {POLICY_BLACK, POLICY_RED, POLICY_ORANGE,
						POLICY_YELLOW};

	start(0);
	head(2);
	step();
	head(90);
	for (size_t i = 0; i < ELEMENTSOF(way); i++) {
		for (unsigned second = 0; second <= holds[POLICY_BLACK + i]; second++) {
			ck_assert_int_eq(policy.level, way[i]);
			step();
		}
	}
	ck_assert_int_eq(policy.level, POLICY_GREEN);
}
END_TEST

/* Between the way in and the way out a level stays; a bad moment restarts the hold. */
START_TEST(levels_have_hysteresis)
{
	start(0);
	head(19);
	step();
	head(22);
	for (unsigned i = 0; i < 60; i++)
		step();
	ck_assert_int_eq(policy.level, POLICY_YELLOW);
	head(30);
	for (unsigned i = 0; i < 9; i++)
		step();
	host.some_percent = 2;
	step();
	host.some_percent = 0;
	for (unsigned i = 0; i < 9; i++)
		step();
	ck_assert_int_eq(policy.level, POLICY_YELLOW);
	step();
	step();
	ck_assert_int_eq(policy.level, POLICY_GREEN);
}
END_TEST

START_TEST(levels_have_names)
{
	ck_assert_str_eq(policy_level_name(POLICY_GREEN), "green");
	ck_assert_str_eq(policy_level_name(POLICY_BLACK), "black");
	ck_assert_str_eq(policy_pressure_name(POLICY_GREEN), "calm");
	ck_assert_str_eq(policy_pressure_name(POLICY_YELLOW), "soft");
	ck_assert_str_eq(policy_pressure_name(POLICY_ORANGE), "soft");
	ck_assert_str_eq(policy_pressure_name(POLICY_RED), "hard");
	ck_assert_str_eq(policy_pressure_name(POLICY_BLACK), "hard");
}
END_TEST

/* --- Who gives --- */

START_TEST(green_takes_nothing)
{
	start(3);
	vm_is(0, POLICY_SPARE);
	vm_is(1, POLICY_IDLE);
	vm_is(2, POLICY_BUSY);
	head(20.5);
	step();
	ck_assert_uint_eq(count, 0);
	ck_assert(policy.may_refill_spares && policy.may_admit);
}
END_TEST

static const struct {
	double head;
	bool drops, squeezes_idle, squeezes_busy;
} givers[] = {
	{15, false, true, false},
	{7, true, true, false},
	{4, true, true, true},
	{1, true, true, true},
};

START_TEST(levels_choose_who_gives)
{
	start(3);
	vm_is(0, POLICY_SPARE);
	vm_is(1, POLICY_IDLE);
	vm_is(2, POLICY_BUSY);
	head(givers[_i].head);
	step();
	ck_assert_int_eq(has_action(0), givers[_i].drops);
	ck_assert_int_eq(has_action(1), givers[_i].squeezes_idle);
	ck_assert_int_eq(has_action(2), givers[_i].squeezes_busy);
	ck_assert(!policy.may_refill_spares);
	ck_assert_int_eq(policy.may_admit, policy.level < POLICY_RED);
}
END_TEST

/* Budget of one step at ORANGE is 1 GiB, which three spares more than fill. */
START_TEST(spares_go_first_largest_first)
{
	start(5);
	for (size_t i = 0; i < 4; i++)
		vm_is(i, POLICY_SPARE)->private_bytes = (300 + 100 * i) * MIB;
	vm_is(4, POLICY_IDLE);
	head(6);
	step();
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(actions[0].index, 3);
	ck_assert_uint_eq(actions[1].index, 2);
	expect_action(3, POLICY_DROP_SPARE);
	/* They count as gone, then are named again. */
	step();
	ck_assert(!has_action(3));
	for (unsigned i = 0; i < 4; i++)
		step();
	expect_action(3, POLICY_DROP_SPARE);
}
END_TEST

START_TEST(idle_before_busy_longest_idle_and_fewest_shares_first)
{
	start(5);
	vm_is(0, POLICY_BUSY)->private_bytes = 250 * MIB;
	vm_is(1, POLICY_IDLE)->idle_us = 0;
	vm_is(2, POLICY_IDLE)->idle_us = 600 * SECOND;
	vm_is(3, POLICY_IDLE)->idle_us = 30 * SECOND;
	vm_is(4, POLICY_IDLE)->idle_us = 30 * SECOND;
	vms[4].shares = 4;
	head(4);
	step();
	ck_assert_uint_eq(count, 5);
	ck_assert_uint_eq(order_of(2), 0);
	ck_assert_uint_eq(order_of(3), 1);
	ck_assert_uint_eq(order_of(1), 2);
	ck_assert_uint_eq(order_of(4), 3);
	ck_assert_uint_eq(order_of(0), 4);
}
END_TEST

START_TEST(at_most_eight_inflate_at_once)
{
	start(VMS);
	for (size_t i = 0; i < VMS; i++)
		vm_is(i, POLICY_IDLE);
	for (size_t i = 0; i < 3; i++) {
		vms[i].is_in_flight = true;
		vms[i].target_bytes -= 20 * MIB;
	}
	head(1);
	step();
	ck_assert_uint_eq(count, 5);
}
END_TEST

/* A need of a few MiB is not answered with a quarter of a VM. */
START_TEST(no_more_than_needed)
{
	start(VMS);
	for (size_t i = 0; i < VMS; i++)
		vm_is(i, POLICY_IDLE);
	host.managed_bytes = GIB;
	head(19.9);
	step();
	/* 26.6 MiB are needed; a step brings 5 % of 256 MiB. */
	ck_assert_uint_eq(count, 3);
	ck_assert_uint_eq(policy.need_bytes,
			  (uint64_t)((0.225 - host.available_bytes / (double)GIB) * (double)GIB));
	/* The same need, and all of it is on its way. */
	step();
	ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(what_was_never_touched_is_no_gain)
{
	start(2);
	/* 60 MiB in use are on the host, 196 available are not: nothing to gain. */
	vm_is(0, POLICY_IDLE)->private_bytes = 80 * MIB;
	vms[0].guest.caches_bytes = 0;
	vms[0].guest.free_bytes = 196 * MIB;
	vm_is(1, POLICY_IDLE);
	head(15);
	step();
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(actions[0].index, 1);
	ck_assert(actions[0].target_bytes < SIZE);
}
END_TEST

/* A zram at four fifths of its limit takes no more: the guest would stall. */
START_TEST(a_full_zram_takes_no_more)
{
	start(1);
	vm_is(0, POLICY_IDLE)->guest.caches_bytes = 0;
	vms[0].private_bytes = vms[0].overhead_bytes + SIZE;
	vms[0].guest.free_bytes = vms[0].guest.available_bytes = 20 * MIB;
	vms[0].guest.anonymous_bytes = 160 * MIB;
	vms[0].guest.zram_limit_bytes = 64 * MIB;
	vms[0].guest.zram_used_bytes = _i ? 52 * MIB : 30 * MIB;
	vms[0].guest.zram_orig_bytes = 2 * vms[0].guest.zram_used_bytes;
	head(7);
	step();
	ck_assert_uint_eq(count, _i ? 0 : 1);
}
END_TEST

/* 80 of its 196 MiB of free memory and caches are on the host, 10 the kernel keeps: a quarter of
 * its size, and 106 MiB that cost nothing. */
START_TEST(two_seconds_between_steps_and_a_quarter_at_once)
{
	start(1);
	vm_is(0, POLICY_IDLE);
	head(1);
	step();
	expect_action(0, POLICY_SET_TARGET);
	ck_assert_uint_eq(actions[0].target_bytes, 87 * MIB);
	obey(64 * MIB);
	vms[0].guest.age_us = 0;
	step();
	ck_assert_uint_eq(count, 0);
	step();
	expect_action(0, POLICY_SET_TARGET);
}
END_TEST

/* --- Floors --- */

static void squeeze_to_the_end(uint64_t gained)
{
	for (unsigned i = 0; i < 60; i++) {
		step_after(2 * SECOND);
		obey(gained);
	}
}

START_TEST(idle_keeps_what_it_uses)
{
	start(1);
	vm_is(0, POLICY_IDLE);
	/* YELLOW: 60 in use, and a reserve of 26.2, and a tenth of its 80 of cache. */
	head(15);
	squeeze_to_the_end(10 * MIB);
	ck_assert_uint_ge(vms[0].actual_bytes, 86 * MIB);
	ck_assert_uint_le(vms[0].actual_bytes, 100 * MIB);
}
END_TEST

START_TEST(idle_compresses_at_orange)
{
	start(1);
	vm_is(0, POLICY_IDLE);
	head(7);
	squeeze_to_the_end(8 * MIB);
	/* 34 MiB may go into the zram, half of which comes free. */
	ck_assert_uint_ge(vms[0].actual_bytes, 64 * MIB);
	ck_assert_uint_le(vms[0].actual_bytes, 86 * MIB);
}
END_TEST

/* No cache, and nothing free on the host: what its zram saves counts beside what its kernel keeps
 * free, or small VMs would never be compressed. */
START_TEST(idle_without_cache_compresses_too)
{
	start(1);
	vm_is(0, POLICY_IDLE)->private_bytes = 80 * MIB;
	vms[0].guest.caches_bytes = 0;
	vms[0].guest.free_bytes = vms[0].guest.available_bytes;
	vms[0].guest.anonymous_bytes = 60 * MIB;
	head(15);
	step();
	ck_assert_uint_eq(count, 0);
	head(7);
	step();
	expect_action(0, POLICY_SET_TARGET);
}
END_TEST

START_TEST(busy_keeps_a_quarter_and_32)
{
	start(1);
	vm_is(0, POLICY_BUSY)->guest.available_bytes = 230 * MIB;
	vms[0].guest.free_bytes = 150 * MIB;
	vms[0].private_bytes = 240 * MIB;
	head(4);
	squeeze_to_the_end(8 * MIB);
	ck_assert_uint_eq(vms[0].actual_bytes, 96 * MIB);
}
END_TEST

START_TEST(busy_keeps_what_it_needed_when_idle)
{
	start(1);
	vm_is(0, POLICY_IDLE)->guest.available_bytes = 100 * MIB;
	vms[0].guest.free_bytes = 50 * MIB;
	vms[0].guest.caches_bytes = 50 * MIB;
	step();
	ck_assert_uint_eq(records[0].used_idle_bytes, 156 * MIB);
	vms[0].state = POLICY_BUSY;
	vms[0].guest.available_bytes = vms[0].guest.free_bytes = 220 * MIB;
	vms[0].private_bytes = 260 * MIB;
	head(4);
	squeeze_to_the_end(8 * MIB);
	ck_assert_uint_eq(vms[0].actual_bytes, 180 * MIB);
}
END_TEST

/* --- Stopping --- */

START_TEST(a_squeezed_idle_vm_is_stopped_once)
{
	unsigned stops = 0;

	start(1);
	vm_is(0, POLICY_IDLE);
	head(15);
	for (unsigned i = 0; i < 60; i++) {
		step_after(SECOND);
		if (has_action(0) && action_of(0)->kind == POLICY_STOP_VCPU) {
			ck_assert_uint_lt(vms[0].actual_bytes, 110 * MIB);
			vms[0].is_stopped = true;
			stops++;
		}
		obey(8 * MIB);
		/* Its last word grows old. */
		if (vms[0].is_stopped)
			vms[0].guest.age_us += SECOND;
	}
	ck_assert_uint_eq(stops, 1);
	/* A stopped one can still be squeezed when that is what is left. */
	head(7);
	step();
	expect_action(0, POLICY_SET_TARGET);
	ck_assert(action_of(0)->drop_caches);
}
END_TEST

static TCase *level_cases(void)
{
	TCase *tests = tcase_create("levels");

	tcase_add_loop_test(tests, levels_are_entered_at_once, 0, ELEMENTSOF(entries));
	tcase_add_test(tests, levels_are_left_one_by_one_after_a_hold);
	tcase_add_test(tests, levels_have_hysteresis);
	tcase_add_test(tests, levels_have_names);
	return tests;
}

static TCase *take_cases(void)
{
	TCase *tests = tcase_create("take");

	tcase_add_test(tests, green_takes_nothing);
	tcase_add_loop_test(tests, levels_choose_who_gives, 0, ELEMENTSOF(givers));
	tcase_add_test(tests, spares_go_first_largest_first);
	tcase_add_test(tests, idle_before_busy_longest_idle_and_fewest_shares_first);
	tcase_add_test(tests, at_most_eight_inflate_at_once);
	tcase_add_test(tests, no_more_than_needed);
	tcase_add_test(tests, what_was_never_touched_is_no_gain);
	tcase_add_loop_test(tests, a_full_zram_takes_no_more, 0, 2);
	tcase_add_test(tests, two_seconds_between_steps_and_a_quarter_at_once);
	tcase_add_test(tests, idle_keeps_what_it_uses);
	tcase_add_test(tests, idle_compresses_at_orange);
	tcase_add_test(tests, idle_without_cache_compresses_too);
	tcase_add_test(tests, busy_keeps_a_quarter_and_32);
	tcase_add_test(tests, busy_keeps_what_it_needed_when_idle);
	tcase_add_test(tests, a_squeezed_idle_vm_is_stopped_once);
	return tests;
}

Suite *unit_suite(void)
{
	Suite *suite = suite_create("policy");

	suite_add_tcase(suite, level_cases());
	suite_add_tcase(suite, take_cases());
	return suite;
}
