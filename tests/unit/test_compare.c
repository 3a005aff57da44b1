/* SPDX-License-Identifier: Apache-2.0 */
/* Two configurations: what differs, what a running daemon takes over, what it does not. */
#include "conf/compare.h"

#include "tests/unit/suite.h"

#include <string.h>

/* Text that every type of key takes, but not each key its bounds: the first that is good and new
 * counts. */
static const char *const values[] = {
	"/somewhere/else",
	"somebody",
	"off",
	"error",
	"journal",
	"tcg",
	"1",
	"2",
	"7",
	"65",
	"200",
	"17M",
	"1K",
	"0.5",
	"9",
	NULL,
};

static struct config running, wanted;
static struct config_changes changes;

static void setup(void)
{
	ck_assert_int_eq(config_defaults(&running), 0);
	ck_assert_int_eq(config_defaults(&wanted), 0);
}

static void teardown(void)
{
	config_fini(&running);
	config_fini(&wanted);
}

static void change(struct config *config, const struct config_option *option)
{
	char why[CONFIG_WHY_SIZE];

	for (size_t i = 0; values[i]; i++)
		if (config_option_set(option, values[i], config, why) == 0 &&
		    !config_option_is_same(option, &running, &wanted))
			return;
	ck_abort_msg("no other value for '%s'", option->key);
}

START_TEST(the_same_differs_in_nothing)
{
	config_compare(&running, &wanted, &changes);
	ck_assert_uint_eq(changes.live_count + changes.fixed_count, 0);
}
END_TEST

START_TEST(each_key_is_seen)
{
	for (const struct config_option *option = config_schema; option->key; option++) {
		change(&wanted, option);
		config_compare(&running, &wanted, &changes);
		ck_assert_uint_eq(changes.live_count, option->is_live ? 1 : 0);
		ck_assert_uint_eq(changes.fixed_count, option->is_live ? 0 : 1);
		ck_assert_ptr_eq(option->is_live ? changes.live[0] : changes.fixed[0], option);
		teardown();
		setup();
	}
}
END_TEST

/* Parts of the daemon have borrowed the strings. */
START_TEST(no_string_is_live)
{
	for (const struct config_option *option = config_schema; option->key; option++)
		ck_assert_msg(!option->is_live || !config_option_is_string(option),
			      "'%s' is text, and live", option->key);
}
END_TEST

START_TEST(what_is_live_is_taken)
{
	const char *socket = running.socket;
	size_t live = 0, fixed = 0;

	for (const struct config_option *option = config_schema; option->key; option++) {
		change(&wanted, option);
		live += option->is_live;
		fixed += !option->is_live;
	}
	config_compare(&running, &wanted, &changes);
	ck_assert_uint_eq(changes.live_count, live);
	config_take_live(&running, &wanted, &changes);
	config_compare(&running, &wanted, &changes);
	ck_assert_uint_eq(changes.live_count, 0);
	ck_assert_uint_eq(changes.fixed_count, fixed);
	ck_assert_ptr_eq(running.socket, socket);
	ck_assert_str_eq(running.socket, "/run/execsandbox.sock");
}
END_TEST

START_TEST(keys_are_listed)
{
	const struct config_option *const some[] = {config_schema_find(NULL, "node"),
						    config_schema_find(NULL, "qemu")};
	_cleanup_free_ char *none = config_keys(some, 0);
	_cleanup_free_ char *both = config_keys(some, 2);

	ck_assert_str_eq(none, "");
	ck_assert_str_eq(both, "node, qemu");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("compare");
	TCase *tests = tcase_create("compare");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, the_same_differs_in_nothing);
	tcase_add_test(tests, each_key_is_seen);
	tcase_add_test(tests, no_string_is_live);
	tcase_add_test(tests, what_is_live_is_taken);
	tcase_add_test(tests, keys_are_listed);
	suite_add_tcase(suite, tests);
	return suite;
}
