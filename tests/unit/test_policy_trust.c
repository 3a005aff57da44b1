/* SPDX-License-Identifier: Apache-2.0 */
/* The memory policy: guests that lie or stall, the last resort, what is given back, credit. */
#include "tests/unit/test_policy.h"

/* --- Guests that lie, fail and stall --- */

static void lie_available(struct policy_guest *guest)
{
	guest->available_bytes = 300 * MIB;
}

static void lie_total(struct policy_guest *guest)
{
	guest->total_bytes = UINT64_MAX;
}

static void lie_caches(struct policy_guest *guest)
{
	guest->caches_bytes = UINT64_MAX - 5;
}

static void be_stale(struct policy_guest *guest)
{
	guest->age_us = 7 * SECOND;
}

static void be_silent(struct policy_guest *guest)
{
	guest->is_known = false;
}

static void (*const doubts[])(struct policy_guest *) = {lie_available, lie_total, lie_caches,
							be_stale, be_silent};

/* Below RED nothing is taken on such a word; from RED on by small steps, last, to half. */
START_TEST(doubtful_guests_are_squeezed_blindly_and_last)
{
	start(2);
	vm_is(0, POLICY_IDLE)->private_bytes = 250 * MIB;
	vm_is(1, POLICY_BUSY);
	doubts[_i](&vms[0].guest);
	head(7);
	step();
	ck_assert(!has_action(0));
	head(4);
	step();
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(order_of(0), 1);
	ck_assert_uint_ge(action_of(0)->target_bytes, SIZE - SIZE / 20);
	for (unsigned i = 0; i < 60; i++) {
		step_after(2 * SECOND);
		for (size_t k = 0; k < count; k++)
			vms[actions[k].index].actual_bytes = vms[actions[k].index].target_bytes =
				actions[k].target_bytes;
		vms[0].private_bytes -= vms[0].private_bytes > 100 * MIB ? 10 * MIB : 0;
		vms[0].guest.age_us = MAX(vms[0].guest.age_us, 7 * SECOND);
	}
	ck_assert_uint_ge(vms[0].actual_bytes, SIZE / 2);
	ck_assert_uint_le(vms[0].actual_bytes, SIZE - SIZE / 10);
}
END_TEST

/* Its actual size shrinks as was said, and it claims to have as much as before. */
static void obey_falsely(void)
{
	obey(0);
	vms[0].guest.available_bytes = 180 * MIB;
	vms[0].guest.free_bytes = 100 * MIB;
	vms[0].guest.caches_bytes = 80 * MIB;
}

START_TEST(who_brings_nothing_is_useless_for_a_minute)
{
	unsigned seconds = 0;

	start(1);
	vm_is(0, POLICY_IDLE)->private_bytes = 270 * MIB;
	head(7);
	while (records[0].useless_until_us == 0 && seconds++ < 20) {
		step();
		obey_falsely();
	}
	ck_assert_uint_le(seconds, 7);
	ck_assert_uint_eq(records[0].useless_until_us, now + 60 * SECOND);
	for (unsigned i = 0; i < 59; i++) {
		step();
		ck_assert_uint_eq(count, 0);
	}
	vm_has(0, SIZE);
	step();
	expect_action(0, POLICY_SET_TARGET);
}
END_TEST

START_TEST(who_brings_something_is_not_useless)
{
	start(1);
	vm_is(0, POLICY_IDLE);
	head(15);
	step();
	obey(has_action(0) ? records[0].expected_gain_bytes / 2 : 0);
	head(50);
	for (unsigned i = 0; i < 8; i++)
		step();
	ck_assert_uint_eq(records[0].useless_until_us, 0);
	ck_assert_uint_eq(records[0].expected_gain_bytes, 0);
}
END_TEST

START_TEST(a_stall_is_given_up_with_a_floor_and_a_pause)
{
	uint64_t target = 0;

	start(1);
	vm_is(0, POLICY_IDLE);
	head(7);
	step();
	vms[0].target_bytes = actions[0].target_bytes;
	vms[0].is_in_flight = true;
	vms[0].actual_bytes = 240 * MIB; /* moved by 16 MiB, then no more */
	ck_assert_int_eq(policy_progress(&policy, &vms[0], now + SECOND, &target), POLICY_MOVING);
	ck_assert_int_eq(policy_progress(&policy, &vms[0], now + 2 * SECOND, &target),
			 POLICY_MOVING);
	ck_assert_int_eq(policy_progress(&policy, &vms[0], now + 3 * SECOND, &target),
			 POLICY_MOVING);
	now += 4 * SECOND;
	ck_assert_int_eq(policy_progress(&policy, &vms[0], now, &target), POLICY_STALLED);
	ck_assert_uint_eq(target, 248 * MIB);
	vms[0].actual_bytes = vms[0].target_bytes = target;
	vms[0].is_in_flight = false;
	for (unsigned i = 0; i < 29; i++) {
		step();
		ck_assert_uint_eq(count, 0);
	}
	/* The floor it taught stays. */
	step();
	step();
	expect_action(0, POLICY_STOP_VCPU);
	ck_assert_uint_eq(records[0].learned_floor_bytes, 248 * MIB);
	/* The pause doubles, to ten minutes. */
	for (unsigned i = 0; i < 8; i++)
		policy_stalled(&policy, &vms[0], now);
	ck_assert_uint_eq(records[0].stall_until_us, now + 600 * SECOND);
	vms[0].actual_bytes = vms[0].target_bytes;
	ck_assert_int_eq(policy_progress(&policy, &vms[0], now, &target), POLICY_REACHED);
	ck_assert_uint_eq(records[0].backoff_us, 0);
}
END_TEST

START_TEST(a_trickle_ends_too)
{
	uint64_t target = 0;
	enum policy_progress progress = POLICY_MOVING;
	unsigned seconds = 0;

	start(1);
	vm_is(0, POLICY_IDLE);
	head(1);
	step();
	vms[0].target_bytes = actions[0].target_bytes;
	while (progress == POLICY_MOVING && seconds < 60) {
		vms[0].actual_bytes -= 9 * MIB / 2;
		progress = policy_progress(&policy, &vms[0], now + ++seconds * SECOND, &target);
	}
	ck_assert_int_eq(progress, POLICY_STALLED);
	/* 5 s and 169 MiB at 32 MiB/s. */
	ck_assert_uint_le(seconds, 11);
}
END_TEST

/* --- Giving back --- */

static const struct {
	double head;
	uint64_t from, to;
} execs[] = {
	{50, 128, 256}, {15, 128, 256}, {7, 128, 256}, {4, 128, 192},
	{1, 128, 192},  {1, 254, 256},  {1, 256, 256},
};

START_TEST(a_run_gets_memory_at_once)
{
	start(1);
	vm_is(0, POLICY_IDLE);
	vm_has(0, execs[_i].from * MIB);
	head(execs[_i].head);
	count = policy_step(&policy, now, &host, vms, 0, actions);
	ck_assert_uint_eq(policy_on_exec(&policy, &vms[0], now), execs[_i].to * MIB);
}
END_TEST

/* What it was given stays for 10 s under pressure, 100 s at YELLOW; when that was for work and it
 * is idle again, for 20 s at YELLOW, 2 s under pressure. */
static const struct {
	bool for_work;
	double head;
	unsigned seconds;
} gifts[] = {{false, 15, 100}, {false, 7, 10}, {true, 15, 20}, {true, 7, 2}};

START_TEST(no_squeeze_soon_after_a_gift)
{
	uint64_t given_us;

	start(1);
	vm_is(0, POLICY_IDLE);
	vm_has(0, 192 * MIB);
	vms[0].guest.available_bytes = 132 * MIB;
	vms[0].guest.free_bytes = 52 * MIB;
	step();
	if (gifts[_i].for_work)
		ck_assert_uint_eq(policy_on_exec(&policy, &vms[0], now), SIZE);
	else
		policy_moved(&vms[0], SIZE, now);
	vm_has(0, SIZE);
	vms[0].guest.available_bytes = 196 * MIB;
	vms[0].guest.free_bytes = 116 * MIB;
	given_us = now;
	head(gifts[_i].head);
	do {
		step();
	} while (count == 0 && now < given_us + 200 * SECOND);
	ck_assert_uint_eq(now - given_us, gifts[_i].seconds * SECOND);
}
END_TEST

/* Whose code waits for memory is not squeezed further, and gets some below BLACK. */
static const struct {
	double head;
	uint64_t target;
} stalls[] = {{50, 256}, {15, 256}, {4, 160}, {1, 0}};

START_TEST(a_stalled_vm_gets_memory)
{
	start(1);
	vm_is(0, POLICY_BUSY)->is_stalled = true;
	vm_has(0, 128 * MIB);
	vms[0].guest.available_bytes = 68 * MIB;
	vms[0].guest.free_bytes = 0;
	vms[0].guest.caches_bytes = 68 * MIB;
	head(stalls[_i].head);
	step();
	ck_assert_uint_eq(count, stalls[_i].target ? 1 : 0);
	if (stalls[_i].target)
		ck_assert_uint_eq(actions[0].target_bytes, stalls[_i].target * MIB);
}
END_TEST

START_TEST(busy_vms_have_all_back_soon_after_pressure)
{
	uint64_t green_us;
	unsigned missing = VMS, most = 0;

	start(VMS);
	for (size_t i = 0; i < VMS; i++) {
		vm_is(i, POLICY_BUSY);
		vm_has(i, 128 * MIB);
	}
	head(4);
	step();
	head(60);
	while (policy.level != POLICY_GREEN) {
		step();
		obey(0);
	}
	for (green_us = now; missing > 0 && now < green_us + 60 * SECOND;) {
		step();
		obey(0);
		most = MAX(most, (unsigned)count);
		missing = 0;
		for (size_t i = 0; i < VMS; i++)
			missing += vms[i].actual_bytes < SIZE;
	}
	ck_assert_uint_le(now - green_us, 17 * SECOND);
	ck_assert_uint_lt(most, VMS / 2);
}
END_TEST

/* Not only on GREEN: nobody is kept short for as long as the host is not at its best. */
START_TEST(busy_vms_have_all_back_below_red)
{
	uint64_t calm_us;
	unsigned missing = VMS;

	start(VMS);
	for (size_t i = 0; i < VMS; i++) {
		vm_is(i, POLICY_BUSY);
		vm_has(i, 128 * MIB);
	}
	head(4);
	step();
	ck_assert_uint_eq(policy.level, POLICY_RED);
	head(_i ? 11 : 21);
	while (policy.level > (_i ? POLICY_ORANGE : POLICY_YELLOW))
		step();
	for (calm_us = now; missing > 0 && now < calm_us + 400 * SECOND;) {
		step();
		obey(0);
		missing = 0;
		for (size_t i = 0; i < VMS; i++)
			missing += vms[i].actual_bytes < SIZE;
	}
	ck_assert_uint_gt(now - calm_us, (_i ? 128 : 32) * SECOND);
	ck_assert_uint_le(now - calm_us, (_i ? 257 : 65) * SECOND);
}
END_TEST

START_TEST(idle_vms_get_it_back_slowly)
{
	uint64_t began_us, first_us = 0;

	start(1);
	vm_is(0, POLICY_IDLE);
	vm_has(0, 128 * MIB);
	records[0].direction = -1;
	records[0].down_us = records[0].moved_us = began_us = now;
	head(29);
	for (unsigned i = 0; i < 200; i++)
		step();
	ck_assert_uint_eq(vms[0].actual_bytes, 128 * MIB);
	head(40);
	while (now < began_us + 405 * SECOND) {
		step();
		if (count > 0 && first_us == 0)
			first_us = now;
		obey(0);
	}
	/* At 201 s, 301 s, 401 s. */
	ck_assert_uint_eq(first_us - began_us, 201 * SECOND);
	ck_assert_uint_eq(vms[0].actual_bytes, (128 + 3 * 13) * MIB);
}
END_TEST

/* --- The last resort --- */

static void no_balloons(void)
{
	for (size_t i = 0; i < n; i++)
		vm_is(i, i % 2 ? POLICY_BUSY : POLICY_IDLE)->can_balloon = false;
}

START_TEST(after_five_seconds_of_black_the_greatest_goes)
{
	unsigned kills = 0;

	start(6);
	host.managed_bytes = GIB;
	no_balloons();
	vms[3].private_bytes = 300 * MIB;
	vms[4].private_bytes = 350 * MIB;
	vms[4].shares = 10; /* its share is 10 of 15 */
	head(2);
	step();
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_uint_eq(count, 0);
		step();
	}
	ck_assert_uint_eq(count, 0);
	step();
	ck_assert_uint_eq(count, 1);
	expect_action(3, POLICY_KILL_VM);
	/* Five seconds until the next, and the first is not named again at once. */
	for (unsigned i = 0; i < 5; i++) {
		step();
		kills += (unsigned)count;
	}
	ck_assert_uint_eq(kills, 1);
}
END_TEST

START_TEST(who_failed_a_squeeze_goes_before_a_greater_one)
{
	start(4);
	host.managed_bytes = GIB;
	no_balloons();
	vms[1].private_bytes = 700 * MIB;
	vms[2].private_bytes = 300 * MIB;
	records[2].useless_until_us = now + 1000 * SECOND;
	records[2].useless_bytes = vms[2].private_bytes;
	vms[3].private_bytes = 40 * MIB; /* not over its share: no ground to go first */
	records[3].useless_until_us = now + 1000 * SECOND;
	records[3].useless_bytes = vms[3].private_bytes;
	head(2);
	for (unsigned i = 0; i < 6; i++)
		step();
	ck_assert_uint_eq(count, 1);
	expect_action(2, POLICY_KILL_VM);
}
END_TEST

START_TEST(nobody_goes_while_others_still_give)
{
	uint64_t began_us;

	start(VMS);
	for (size_t i = 0; i < n; i++)
		vm_is(i, POLICY_IDLE);
	vms[0].private_bytes = 300 * MIB;
	vms[0].can_balloon = false;
	head(2);
	for (began_us = now; now < began_us + 7 * SECOND;) {
		step();
		obey(50 * MIB);
		ck_assert(!has_action(0));
	}
	while (!has_action(0) && now < began_us + 30 * SECOND) {
		step();
		obey(50 * MIB);
	}
	expect_action(0, POLICY_KILL_VM);
}
END_TEST

START_TEST(what_is_over_the_budget_is_needed_too)
{
	start(1);
	vm_is(0, POLICY_BUSY)->can_balloon = false;
	host.managed_bytes = GIB;
	head(0);
	host.over_bytes = 200 * MIB;
	step();
	ck_assert_uint_eq(policy.need_bytes, (uint64_t)(0.225 * (double)GIB) + 200 * MIB);
}
END_TEST

/* BLACK is left at 5 % and after 3 s: no reason to kill at 3 %, nor in these. */
START_TEST(nobody_goes_when_the_host_recovers)
{
	uint64_t began_us;

	start(2);
	host.managed_bytes = GIB;
	no_balloons();
	head(2);
	for (unsigned i = 0; i < 4; i++)
		step();
	head(_i ? 3 : 6);
	for (unsigned i = 0; i < 10; i++) {
		step();
		ck_assert_uint_eq(count, 0);
	}
	ck_assert_int_eq(policy.level, _i ? POLICY_BLACK : POLICY_RED);
	/* Five seconds begin anew. */
	head(2);
	for (began_us = now; count == 0 && now < began_us + 20 * SECOND;)
		step();
	ck_assert_int_eq(actions[0].kind, POLICY_KILL_VM);
	ck_assert_uint_ge(now - began_us, 5 * SECOND);
	ck_assert_uint_le(now - began_us, 6 * SECOND);
}
END_TEST

/* One that always promises and never delivers holds nobody up for ever, least of all beyond the
 * budget. */
START_TEST(promises_end)
{
	uint64_t began_us;

	start(2);
	vm_is(0, POLICY_BUSY)->private_bytes = 600 * MIB;
	vms[0].can_balloon = false;
	vm_is(1, POLICY_IDLE);
	vms[1].is_in_flight = true;
	head(2);
	host.over_bytes = _i ? 100 * MIB : 0;
	for (began_us = now; !has_action(0) && now < began_us + 60 * SECOND;) {
		step();
		records[1] = (struct policy_vm){.direction = -1,
						.down_us = now,
						.measured_us = now,
						.expected_gain_bytes = 10 * MIB};
	}
	expect_action(0, POLICY_KILL_VM);
	ck_assert_uint_ge(now - began_us, (_i ? 10 : 30) * SECOND);
	ck_assert_uint_le(now - began_us, (_i ? 12 : 32) * SECOND);
}
END_TEST

/* --- Credit --- */

START_TEST(credit_is_what_is_above_the_reserve_and_not_promised)
{
	start(2);
	vm_is(0, POLICY_BUSY);
	vm_is(1, POLICY_IDLE);
	host.managed_bytes = GIB;
	head(50);
	step();
	/* 46 % of 1 GiB, and 40 MiB for the run that has just begun. */
	ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB) - 40 * MIB);
	vms[0].private_bytes += 30 * MIB;
	step();
	/* A thirtieth of what is left lapses in each second. */
	ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB) -
						       (uint64_t)(10. * (double)MIB * (29. / 30.)));
	vms[0].private_bytes += 60 * MIB;
	step();
	ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB));
	ck_assert(policy_admit(&policy, 400 * MIB));
	ck_assert(!policy_admit(&policy, 100 * MIB));
	ck_assert(policy_admit(&policy, 60 * MIB));
}
END_TEST

/* A fresh clone's QEMU still has its own 27 MiB before it; code that sleeps meanwhile goes on. */
START_TEST(a_first_run_fills_its_qemu_too)
{
	start(1);
	vm_is(0, _i ? POLICY_IDLE : POLICY_BUSY)->private_bytes = 20 * MIB;
	vms[0].can_stop = false;
	vms[0].start_bytes = 27 * MIB;
	host.managed_bytes = GIB;
	head(50);
	step();
	ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB) - 47 * MIB);
}
END_TEST

/* Granted requests that still wait for their VMs: the next step does not give it away again. */
START_TEST(what_is_promised_is_no_credit)
{
	start(0);
	host.managed_bytes = GIB;
	host.promised_bytes = 300 * MIB;
	head(50);
	step();
	ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB) - 300 * MIB);
}
END_TEST

START_TEST(a_vm_at_rest_holds_no_credit)
{
	start(1);
	vm_is(0, POLICY_IDLE)->start_bytes = 27 * MIB;
	host.managed_bytes = GIB;
	head(50);
	step();
	ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB));
}
END_TEST

START_TEST(a_run_that_does_not_grow_holds_no_credit_for_ever)
{
	start(1);
	vm_is(0, POLICY_BUSY);
	host.managed_bytes = GIB;
	head(50);
	step();
	for (unsigned i = 0; i < 30; i++) {
		ck_assert_uint_lt(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB));
		step();
	}
	ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB));
}
END_TEST

START_TEST(there_is_no_credit_at_black_or_below_the_reserve)
{
	start(0);
	head(_i ? 3.9 : 2);
	step();
	ck_assert_uint_eq(policy.credit_bytes, 0);
	ck_assert(!policy_admit(&policy, 1));
	ck_assert(policy_admit(&policy, 0));
	ck_assert_uint_ge(policy.retry_ms, 4000);
}
END_TEST

/* After three runs a VM's own figure counts. */
START_TEST(a_vm_teaches_what_its_runs_take)
{
	start(1);
	vm_is(0, POLICY_IDLE);
	host.managed_bytes = GIB;
	head(50);
	for (unsigned run = 0; run < 3; run++) {
		vms[0].state = POLICY_BUSY;
		vms[0].private_bytes = 100 * MIB;
		step();
		ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB) - 40 * MIB);
		vms[0].private_bytes = (run == 0 ? 180 : 104) * MIB;
		step();
		vms[0].state = POLICY_IDLE;
		step();
	}
	vms[0].state = POLICY_BUSY;
	vms[0].private_bytes = 100 * MIB;
	step();
	/* 80 MiB once, and two runs of less. */
	ck_assert_uint_eq(policy.credit_bytes, (uint64_t)(0.46 * (double)GIB) - 80 * MIB * 49 / 64);
}
END_TEST

static TCase *trust_cases(void)
{
	TCase *tests = tcase_create("trust");

	tcase_add_loop_test(tests, doubtful_guests_are_squeezed_blindly_and_last, 0,
			    ELEMENTSOF(doubts));
	tcase_add_test(tests, who_brings_nothing_is_useless_for_a_minute);
	tcase_add_test(tests, who_brings_something_is_not_useless);
	tcase_add_test(tests, a_stall_is_given_up_with_a_floor_and_a_pause);
	tcase_add_test(tests, a_trickle_ends_too);
	tcase_add_test(tests, after_five_seconds_of_black_the_greatest_goes);
	tcase_add_test(tests, who_failed_a_squeeze_goes_before_a_greater_one);
	tcase_add_test(tests, nobody_goes_while_others_still_give);
	tcase_add_loop_test(tests, nobody_goes_when_the_host_recovers, 0, 2);
	tcase_add_loop_test(tests, promises_end, 0, 2);
	tcase_add_test(tests, what_is_over_the_budget_is_needed_too);
	return tests;
}

static TCase *give_cases(void)
{
	TCase *tests = tcase_create("give");

	tcase_add_loop_test(tests, a_run_gets_memory_at_once, 0, ELEMENTSOF(execs));
	tcase_add_loop_test(tests, no_squeeze_soon_after_a_gift, 0, ELEMENTSOF(gifts));
	tcase_add_loop_test(tests, a_stalled_vm_gets_memory, 0, ELEMENTSOF(stalls));
	tcase_add_test(tests, busy_vms_have_all_back_soon_after_pressure);
	tcase_add_loop_test(tests, busy_vms_have_all_back_below_red, 0, 2);
	tcase_add_test(tests, idle_vms_get_it_back_slowly);
	tcase_add_test(tests, credit_is_what_is_above_the_reserve_and_not_promised);
	tcase_add_loop_test(tests, a_first_run_fills_its_qemu_too, 0, 2);
	tcase_add_test(tests, what_is_promised_is_no_credit);
	tcase_add_test(tests, a_vm_at_rest_holds_no_credit);
	tcase_add_test(tests, a_run_that_does_not_grow_holds_no_credit_for_ever);
	tcase_add_loop_test(tests, there_is_no_credit_at_black_or_below_the_reserve, 0, 2);
	tcase_add_test(tests, a_vm_teaches_what_its_runs_take);
	return tests;
}

Suite *unit_suite(void)
{
	Suite *suite = suite_create("policy trust");

	suite_add_tcase(suite, trust_cases());
	suite_add_tcase(suite, give_cases());
	return suite;
}
