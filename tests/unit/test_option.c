/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration values: every type with what it takes and what it refuses, every key's bounds,
 * overrides and contradictions. */
#include "conf/option.h"

#include "conf/config.h"
#include "conf/schema.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>

static struct config config;
static struct config_report report;

static void setup(void)
{
	ck_assert_int_eq(config_defaults(&config), 0);
}

static void teardown(void)
{
	config_fini(&config);
	config_report_clear(&report);
}

/* Refused for that reason, which names the key, and nothing changed. */
static void assert_refused(const char *key, const char *text, const char *what)
{
	const struct config_option *option = config_schema_find(NULL, key);
	char *before = config_option_format(option, &config), *after;
	char quoted_key[64];

	snprintf(quoted_key, sizeof(quoted_key), "'%s'", key);
	config_report_clear(&report);
	ck_assert_msg(config_set(&config, key, text, &report) == -EINVAL, "%s = %s", key, text);
	ck_assert_uint_eq(report.count, 1);
	ck_assert_msg(strstr(report.problems[0], what), "%s lacks %s", report.problems[0], what);
	ck_assert_ptr_nonnull(strstr(report.problems[0], quoted_key));
	after = config_option_format(option, &config);
	ck_assert_str_eq(before, after);
	free(before);
	free(after);
}

static void assert_accepted(const char *key, const char *text)
{
	ck_assert_msg(config_set(&config, key, text, &report) == 0, "%s = %s", key, text);
}

START_TEST(test_defaults)
{
	ck_assert_str_eq(config.socket, "/run/execsandbox.sock");
	ck_assert_str_eq(config.user, "execsandbox-vm");
	ck_assert_str_eq(config.admin_group, "");
	ck_assert_int_eq(config.log_level, LOG_INFO);
	ck_assert_int_eq(config.log_target, CONFIG_LOG_AUTO);
	ck_assert_int_eq(config.accel, CONFIG_ACCEL_AUTO);
	ck_assert_int_eq(config.kill_grace_ms, 50);
	ck_assert_uint_eq(config.code_max_bytes, 1 << 20);
	ck_assert_uint_eq(config.buffered_bytes_per_uid, 64 << 20);
	ck_assert_int_eq(config.default_memory_mb, 256);
	ck_assert(config.max_timeout_seconds == 3600.);
	ck_assert_int_eq(config_check(&config, &report), 0);
}
END_TEST

START_TEST(test_bool)
{
	struct {
		bool flag;
	} values = {false};
	const struct config_option option = {"s",  "flag", CONFIG_BOOL, NULL,     0,    0,
					     "no", NULL,   0,           "A flag", false};
	static const char *const bad[] = {"", "1", "0", "Yes", "yess", "y", "yes no"};
	char why[CONFIG_WHY_SIZE];
	char *text;

	ck_assert_int_eq(config_option_set(&option, "on", &values, why), 0);
	ck_assert(values.flag);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		ck_assert_int_eq(config_option_set(&option, bad[i], &values, why), -EINVAL);
		ck_assert(values.flag);
		ck_assert_ptr_nonnull(strstr(why, "yes or no"));
	}
	text = config_option_format(&option, &values);
	ck_assert_str_eq(text, "yes");
	free(text);
	ck_assert_int_eq(config_option_set(&option, "false", &values, why), 0);
	ck_assert(!values.flag);
}
END_TEST

START_TEST(test_integers)
{
	static const char *const bad[] = {
		"",    "192M", "-1",  "+1",  "0x10", "1 2", " 1",   "1 ",
		"1.0", "1e3",  "ten", "1,0", "\"",   "inf", "1MiB", "9999999999999999",
	};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		assert_refused("max_vms", bad[i], "is not a whole number");
	assert_refused("max_vms", "99999999999999999999999", "is not a whole number");
	assert_accepted("max_vms", "0012");
	ck_assert_int_eq(config.max_vms, 12);
}
END_TEST

START_TEST(test_sizes)
{
	static const char *const bad[] = {
		"", "1m", "1MB", "1 M", "K", "1.5M", "-1M", "1T", "M1", "1KK", "1K x",
	};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		assert_refused("code_max_bytes", bad[i], "is not a size");
	/* (2^34 + 1) * 2^30 is 1G in 64 bits. */
	assert_refused("buffered_bytes_per_uid", "17179869185G", "is out of range");
	assert_accepted("buffered_bytes_per_uid", "3G");
	ck_assert_uint_eq(config.buffered_bytes_per_uid, 3ull << 30);
	assert_accepted("buffered_bytes_per_uid", "1048577");
	ck_assert_uint_eq(config.buffered_bytes_per_uid, 1048577);
}
END_TEST

START_TEST(test_seconds)
{
	static const char *const bad[] = {
		"",    ".5", "1.",    "1s",        "1,5", "nan", "inf",
		"1e1", "-1", "1.2.3", "0.1234567", "0x1", "1 ",
	};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		assert_refused("queue_timeout_seconds", bad[i], "is not a number of seconds");
	assert_accepted("queue_timeout_seconds", "12.000001");
	ck_assert(config.queue_timeout_seconds == 12.000001);
}
END_TEST

START_TEST(test_names)
{
	char name[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; /* 33 */

	assert_refused("node", "-h", "is not a name");
	assert_refused("node", ".h", "is not a name");
	assert_refused("node", "a/b", "is not a name");
	assert_refused("node", "a b", "is not a name");
	assert_refused("node", "'h'", "is not a name");
	assert_refused("node", "h\xc3\xa4", "is not printable ASCII");
	assert_refused("node", "a\nb", "'a?b' is not printable ASCII");
	assert_refused("user", "", "is empty");
	assert_refused("node", name, "is too long");
	name[32] = '\0';
	assert_accepted("node", name);
	assert_accepted("node", "");
	assert_accepted("node", "_h-1.b");
}
END_TEST

START_TEST(test_paths)
{
	char path[256];

	assert_refused("socket", "", "is empty");
	assert_refused("socket", "run/x.sock", "does not begin with '/'");
	assert_refused("socket", "/", "is too short");
	assert_refused("socket", "/a\tb", "is not printable ASCII");
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	assert_refused("socket", path, "is too long");
	path[107] = '\0';
	assert_accepted("socket", path);
	ck_assert_str_eq(config.socket, path);
}
END_TEST

START_TEST(test_choices)
{
	static const char *const bad[] = {"", "xen", "TCG", "tc", "tcg ", "1"};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		assert_refused("accel", bad[i], "takes auto, kvm or tcg");
	assert_accepted("accel", "kvm");
	ck_assert_int_eq(config.accel, CONFIG_ACCEL_KVM);
}
END_TEST

/* A long wrong value is cut, and the message still ends with what would be right. */
START_TEST(test_long_values_in_messages)
{
	char text[5000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_refused("accel", text,
		       "xxx...' is not one of the choices: 'accel' takes auto, kvm "
		       "or tcg");
	assert_refused("buffered_bytes_per_uid", text,
		       "takes 1M to 16G bytes (with K, M, G or nothing)");
	assert_refused("drain_timeout_seconds", text, "takes 0 to 3600 seconds");
	assert_refused("kill_grace_ms", text, "takes 0 to 5000 ms");
}
END_TEST

/* Both bounds of every number are accepted, what lies next to them is not. */
START_TEST(test_bounds)
{
	struct config_option option = config_schema[_i];
	char *text;
	double bounds[] = {option.min, option.max};
	union {
		int64_t integer;
		uint64_t bytes;
		double seconds;
	} value;

	if (option.type != CONFIG_INTEGER && option.type != CONFIG_SIZE &&
	    option.type != CONFIG_SECONDS)
		return;
	option.offset = 0;
	for (int side = 0; side < 2; side++) {
		for (int step = 0; step < 2; step++) {
			double number = bounds[side] + (side == 0 ? -step : step);

			if (number < 0)
				continue;
			if (option.type == CONFIG_SECONDS)
				value.seconds = number;
			else if (option.type == CONFIG_SIZE)
				value.bytes = (uint64_t)number;
			else
				value.integer = (int64_t)number;
			text = config_option_format(&option, &value);
			ck_assert_ptr_nonnull(text);
			if (step == 0)
				assert_accepted(option.key, text);
			else
				assert_refused(option.key, text, "is out of range");
			free(text);
		}
	}
}
END_TEST

START_TEST(test_schema_is_sound)
{
	const struct config_option *option = &config_schema[_i];

	ck_assert_ptr_eq(config_schema_find(NULL, option->key), option); /* keys are unique */
	ck_assert(option->max >= option->min);
	ck_assert(option->max < 9007199254740992.); /* 2^53 */
	ck_assert_int_ne(option->help[strlen(option->help) - 1], '.');
	ck_assert_int_eq((option->type == CONFIG_CHOICE), option->choices != NULL);
	ck_assert_int_eq((option->type == CONFIG_INTEGER), option->unit != NULL);
}
END_TEST

START_TEST(test_set)
{
	ck_assert_int_eq(config_set(&config, "max_vms", "5", &report), 0);
	ck_assert_int_eq(config_set(&config, "daemon.socket", "/tmp/s", &report), 0);
	ck_assert_int_eq(config.max_vms, 5);
	ck_assert_str_eq(config.socket, "/tmp/s");
	ck_assert_int_eq(config_set(&config, "daemon.max_vms", "6", &report), -ENOENT);
	ck_assert_int_eq(config_set(&config, "nothing", "6", &report), -ENOENT);
	ck_assert_int_eq(config_set(&config, ".max_vms", "6", &report), -ENOENT);
	ck_assert_int_eq(config_set(&config, "max_vms", "6M", &report), -EINVAL);
	ck_assert_int_eq(config_set(&config, "socket", "s", &report), -EINVAL);
	ck_assert_int_eq(config.max_vms, 5);
	ck_assert_str_eq(config.socket, "/tmp/s");
	ck_assert_uint_eq(report.count, 5);
}
END_TEST

START_TEST(test_contradictions)
{
	static const struct {
		const char *key, *value, *word;
	} cases[] = {
		{"min_memory_mb", "512", "min_memory_mb"},
		{"max_memory_mb", "128", "max_memory_mb"},
		{"max_timeout_seconds", "29.9", "max_timeout_seconds"},
		{"stdin_max_bytes", "16M", "stdin_max_bytes"},
		{"buffered_bytes_per_uid", "15M", "buffered_bytes_per_uid"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		config_fini(&config);
		ck_assert_int_eq(config_defaults(&config), 0);
		ck_assert_int_eq(config_set(&config, cases[i].key, cases[i].value, &report), 0);
		ck_assert_int_eq(config_check(&config, &report), -EINVAL);
		ck_assert_uint_eq(report.count, 1);
		ck_assert_ptr_nonnull(strstr(report.problems[0], cases[i].word));
		config_report_clear(&report);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("option");
	TCase *tcase = tcase_create("option");
	int options = 0;

	while (config_schema[options].key)
		options++;
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_defaults);
	tcase_add_test(tcase, test_bool);
	tcase_add_test(tcase, test_integers);
	tcase_add_test(tcase, test_sizes);
	tcase_add_test(tcase, test_seconds);
	tcase_add_test(tcase, test_names);
	tcase_add_test(tcase, test_paths);
	tcase_add_test(tcase, test_choices);
	tcase_add_test(tcase, test_long_values_in_messages);
	tcase_add_test(tcase, test_set);
	tcase_add_test(tcase, test_contradictions);
	tcase_add_loop_test(tcase, test_bounds, 0, options);
	tcase_add_loop_test(tcase, test_schema_is_sound, 0, options);
	suite_add_tcase(suite, tcase);
	return suite;
}
