/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator in short: under the policy no host runs out of memory, and without it one does, so
 * that the model can tell. `make sim` is the long form.
 */
#include "tests/sim/sim.h"

#include "tests/unit/suite.h"

#define VMS     1000
#define SECONDS 900

START_TEST(the_policy_keeps_the_host_alive)
{
	struct sim_result result;

	ck_assert_int_eq(sim_run(&sim_scenarios[_i], SIM_POLICY, VMS, SECONDS, NULL, &result), 0);
	ck_assert_uint_eq(result.host_kills, 0);
	/* Nor does it do so by killing, or by letting nobody run. */
	ck_assert_uint_eq(result.policy_kills, 0);
	ck_assert_uint_gt(result.runs, VMS);
	ck_assert_uint_lt(result.refusals, result.runs / 50);
	ck_assert_double_le(result.peak_part, 0.98);
}
END_TEST

START_TEST(without_it_the_host_kills)
{
	struct sim_result result;

	ck_assert_int_eq(sim_run(&sim_scenarios[_i], SIM_REPORTING, VMS, SECONDS, NULL, &result),
			 0);
	ck_assert_uint_gt(result.host_kills, 0);
}
END_TEST

/* More than without it, for the same memory, and seldom to and fro. */
START_TEST(the_policy_serves_more_from_less)
{
	struct sim_result with, without;
	const struct sim_scenario *scenario = &sim_scenarios[_i];

	ck_assert_int_eq(sim_run(scenario, SIM_POLICY, VMS, SECONDS, NULL, &with), 0);
	ck_assert_int_eq(sim_run(scenario, SIM_REPORTING, VMS, SECONDS, NULL, &without), 0);
	ck_assert_double_gt(with.overcommit, without.overcommit);
	ck_assert_uint_lt(with.turns, with.moves / 5);
	ck_assert_uint_lt(with.level_changes, SECONDS / 20);
}
END_TEST

START_TEST(a_seed_gives_the_same_again)
{
	struct sim_result one, other;

	ck_assert_int_eq(sim_run(&sim_scenarios[1], SIM_POLICY, 200, 300, NULL, &one), 0);
	ck_assert_int_eq(sim_run(&sim_scenarios[1], SIM_POLICY, 200, 300, NULL, &other), 0);
	ck_assert_mem_eq(&one, &other, sizeof(one));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("policy sim");
	TCase *tests = tcase_create("sim");

	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, the_policy_keeps_the_host_alive, 0, SIM_SCENARIOS);
	tcase_add_loop_test(tests, without_it_the_host_kills, 0, SIM_SCENARIOS);
	tcase_add_loop_test(tests, the_policy_serves_more_from_less, 0, SIM_SCENARIOS);
	tcase_add_test(tests, a_seed_gives_the_same_again);
	suite_add_tcase(suite, tests);
	return suite;
}
