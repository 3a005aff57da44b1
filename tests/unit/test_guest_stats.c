/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's two voices: who is believed, and what no guest may make believed. */
#include "daemon/memory/guest_stats.h"

#include "tests/unit/suite.h"

#define MIB (UINT64_C(1) << 20)
#define S   UINT64_C(1000000)

static const struct msg_memory agent = {.mem_total = 240 * MIB,
					.mem_free = 20 * MIB,
					.mem_available = 100 * MIB,
					.mem_caches = 60 * MIB,
					.mem_anonymous = 90 * MIB,
					.swap_free = 110 * MIB,
					.zram_orig_data_size = 12 * MIB,
					.zram_mem_used_total = 4 * MIB};
static const struct balloon_stats driver = {.total = 239 * MIB,
					    .free = 21 * MIB,
					    .available = 101 * MIB,
					    .caches = 61 * MIB,
					    .updated_s = 1};
static struct policy_guest guest;

START_TEST(nobody_spoke)
{
	guest.total_bytes = 1;
	guest_stats_join(NULL, 0, NULL, 0, &guest);
	ck_assert(!guest.is_known);
	ck_assert_uint_eq(guest.total_bytes, 0);
	ck_assert_uint_eq(guest.age_us, 0);
}
END_TEST

START_TEST(a_fresh_agent_is_believed)
{
	guest_stats_join(&agent, 3 * S, &driver, 0, &guest);
	ck_assert(guest.is_known);
	ck_assert_uint_eq(guest.age_us, 3 * S);
	ck_assert_uint_eq(guest.total_bytes, 240 * MIB);
	ck_assert_uint_eq(guest.free_bytes, 20 * MIB);
	ck_assert_uint_eq(guest.available_bytes, 100 * MIB);
	ck_assert_uint_eq(guest.caches_bytes, 60 * MIB);
	ck_assert_uint_eq(guest.anonymous_bytes, 90 * MIB);
	ck_assert_uint_eq(guest.swap_free_bytes, 110 * MIB);
	ck_assert_uint_eq(guest.zram_orig_bytes, 12 * MIB);
	ck_assert_uint_eq(guest.zram_used_bytes, 4 * MIB);
}
END_TEST

/* Of what only the agent tells nothing is known then. */
START_TEST(the_driver_speaks_for_a_silent_agent)
{
	guest_stats_join(&agent, GUEST_STATS_KEEP_US, &driver, 2 * S, &guest);
	ck_assert_uint_eq(guest.age_us, 2 * S);
	ck_assert_uint_eq(guest.total_bytes, 239 * MIB);
	ck_assert_uint_eq(guest.available_bytes, 101 * MIB);
	ck_assert_uint_eq(guest.anonymous_bytes, 0);
	ck_assert_uint_eq(guest.swap_free_bytes, 0);
	ck_assert_uint_eq(guest.zram_orig_bytes, 0);
	guest_stats_join(NULL, 0, &driver, 2 * S, &guest);
	ck_assert_uint_eq(guest.total_bytes, 239 * MIB);
	/* Both old: the younger one, with its age. */
	guest_stats_join(&agent, 60 * S, &driver, 90 * S, &guest);
	ck_assert_uint_eq(guest.age_us, 60 * S);
	ck_assert_uint_eq(guest.total_bytes, 240 * MIB);
	ck_assert_uint_eq(guest.anonymous_bytes, 90 * MIB);
}
END_TEST

/* What cannot be is not made plausible: the policy is to see it. What overflows is not heard. */
START_TEST(lies)
{
	struct msg_memory lie = agent;

	lie.mem_available = UINT64_MAX;
	lie.mem_caches = UINT64_C(1) << 50;
	lie.mem_total = 1000 * 1000 * MIB;
	lie.mem_anonymous = INT64_MAX;
	lie.zram_orig_data_size = UINT64_MAX - 1;
	guest_stats_join(&lie, 0, NULL, 0, &guest);
	ck_assert_uint_eq(guest.available_bytes, 0);
	ck_assert_uint_eq(guest.caches_bytes, 0);
	ck_assert_uint_eq(guest.anonymous_bytes, 0);
	ck_assert_uint_eq(guest.zram_orig_bytes, 0);
	ck_assert_uint_eq(guest.total_bytes, 1000 * 1000 * MIB);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("guest stats");
	TCase *tests = tcase_create("all");

	tcase_add_test(tests, nobody_spoke);
	tcase_add_test(tests, a_fresh_agent_is_believed);
	tcase_add_test(tests, the_driver_speaks_for_a_silent_agent);
	tcase_add_test(tests, lies);
	suite_add_tcase(suite, tests);
	return suite;
}
