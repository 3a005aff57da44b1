/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines of execsandboxctl: options by table, key=value words, the verb table itself. */
#include "tests/unit/suite.h"

#include "ctl/help.h"
#include "ctl/params.h"
#include "ctl/verb.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

enum { OPT_FLAG, OPT_TEXT, OPT_NUMBER, OPT_INTEGER, OPT_PAIR };

static const struct verb_option options[] = {
	[OPT_FLAG] = {"flag", 'f', OPTION_FLAG, NULL, 0, 0, "A flag"},
	[OPT_TEXT] = {"text", 't', OPTION_TEXT, "TEXT", 0, 0, "A text"},
	[OPT_NUMBER] = {"number", 'n', OPTION_NUMBER, "N", 0.1, 10, "A number"},
	[OPT_INTEGER] = {"integer", 0, OPTION_INTEGER, "N", 0, 0, "An integer"},
	[OPT_PAIR] = {"pair", 'p', OPTION_PAIR, "K=V", 0, 0, "A pair"},
	{.name = NULL},
};

static char why[OPTIONS_WHY_SIZE];

/* The parser's texts point into argv, and a compound literal inside a check ends with it: the words
 * are kept here. */
static char *words_kept[32];

#define PARSE(arguments, ...) parse(arguments, (const char *[]){"verb", ##__VA_ARGS__, NULL})

static int parse(struct arguments *arguments, const char **words)
{
	int argc = 0;

	do
		words_kept[argc] = (char *)words[argc];
	while (words[argc++]);
	return options_parse(options, argc - 1, words_kept, false, arguments, NULL, why);
}

START_TEST(test_values)
{
	struct arguments arguments;

	ck_assert_int_eq(PARSE(&arguments, "one", "-f", "--text=a b", "-n", "2.5", "two",
			       "--integer", "-7", "-pA=1", "--pair", "B=x=y", "--json", "--", "-f",
			       "three"),
			 0);
	ck_assert(arguments.options[OPT_FLAG].is_set);
	ck_assert_str_eq(arguments.options[OPT_TEXT].text, "a b");
	ck_assert_double_eq(arguments.options[OPT_NUMBER].number, 2.5);
	ck_assert_double_eq(arguments.options[OPT_INTEGER].number, -7);
	ck_assert_str_eq(json_string_value(json_object_get(arguments.options[OPT_PAIR].pairs, "B")),
			 "x=y");
	ck_assert_uint_eq(json_object_size(arguments.options[OPT_PAIR].pairs), 2);
	ck_assert(arguments.common[COMMON_JSON].is_set);
	ck_assert(!arguments.common[COMMON_HELP].is_set);
	ck_assert_uint_eq(arguments.operand_count, 2);
	ck_assert_str_eq(arguments.operands[0], "one");
	ck_assert_str_eq(arguments.operands[1], "two");
	ck_assert_ptr_null(arguments.operands[2]);
	ck_assert_uint_eq(arguments.rest_count, 2);
	ck_assert_str_eq(arguments.rest[0], "-f");
	ck_assert_str_eq(arguments.rest[1], "three");
	arguments_clear(&arguments);
}
END_TEST

START_TEST(test_nothing)
{
	struct arguments arguments;

	ck_assert_int_eq(PARSE(&arguments), 0);
	ck_assert_uint_eq(arguments.operand_count, 0);
	ck_assert_uint_eq(arguments.rest_count, 0);
	arguments_clear(&arguments);
}
END_TEST

/* A dash alone is an operand, and so is what looks like an option as a value. */
START_TEST(test_dashes)
{
	struct arguments arguments;

	ck_assert_int_eq(PARSE(&arguments, "-t", "--", "-", "--", "x"), 0);
	ck_assert_str_eq(arguments.options[OPT_TEXT].text, "--");
	ck_assert_uint_eq(arguments.operand_count, 1);
	ck_assert_str_eq(arguments.operands[0], "-");
	ck_assert_uint_eq(arguments.rest_count, 1);
	arguments_clear(&arguments);
}
END_TEST

START_TEST(test_stops_at_operand)
{
	char **argv = (char **)(const char *[]){"ctl", "--json", "run", "--flag", NULL};
	struct arguments arguments;
	int used;

	ck_assert_int_eq(options_parse(NULL, 4, argv, true, &arguments, &used, why), 0);
	ck_assert_int_eq(used, 2);
	ck_assert(arguments.common[COMMON_JSON].is_set);
	arguments_clear(&arguments);
}
END_TEST

static const struct {
	const char *word, *value, *why;
} refused[] = {
	{"--number", "11", "--number wants a number from 0.1 to 10, not '11'"},
	{"--number", "nan", "--number wants a number, not 'nan'"},
	{"--number", "inf", "--number wants a number, not 'inf'"},
	{"--number", "1e999", "--number wants a number, not '1e999'"},
	{"--number", "", "--number wants a number, not ''"},
	{"--number", "1x", "--number wants a number, not '1x'"},
	{"--number", "0x10", "--number wants a number, not '0x10'"},
	{"--integer", "1.5", "--integer wants an integer, not '1.5'"},
	{"--pair", "A", "--pair wants NAME=VALUE, not 'A'"},
	{"--pair", "=1", "--pair wants NAME=VALUE, not '=1'"},
	{"--pair", "A=\xff", "--pair: 'A=\xff' is not UTF-8"},
	{"--text", NULL, "--text wants TEXT"},
	{"-t", NULL, "--text wants TEXT"},
	{"--flag=1", NULL, "--flag takes no value"},
	{"--bogus", NULL, "Unknown option '--bogus'"},
	{"-x", NULL, "Unknown option '-x'"},
	{"-fx", NULL, "Unknown option '-x'"},
};

START_TEST(test_refused)
{
	struct arguments arguments;

	ck_assert_int_eq(PARSE(&arguments, refused[_i].word, refused[_i].value), -EINVAL);
	ck_assert_str_eq(why, refused[_i].why);
	arguments_clear(&arguments);
}
END_TEST

START_TEST(test_params)
{
	json_auto_t *params = json_object();
	json_auto_t *expected = json_pack("{s:s, s:i, s:{s:n, s:[b]}, s:s}", "a", "x=1", "b", 7,
					  "c", "d", "e", 1, "f", "");

	ck_assert_int_eq(params_add(params, "a=x=1", why), 0);
	ck_assert_int_eq(params_add(params, "b:=7", why), 0);
	ck_assert_int_eq(params_add(params, "c.d:=null", why), 0);
	ck_assert_int_eq(params_add(params, "c.e:=[true]", why), 0);
	ck_assert_int_eq(params_add(params, "f=", why), 0);
	ck_assert(json_equal(params, expected));
}
END_TEST

START_TEST(test_params_refused)
{
	static const char *const words[] = {
		"x", "=x", ":=1", "a:=", "a:={\"x\":1,\"x\":2}", "a:=1 2", "a=\xff", "b=2", "b.c=1",
	};
	json_auto_t *params = json_pack("{s:i}", "b", 1);
	json_auto_t *before = json_deep_copy(params);

	why[0] = '\0';
	ck_assert_int_eq(params_add(params, words[_i], why), -EINVAL);
	ck_assert_uint_gt(strlen(why), 0);
	ck_assert(json_equal(params, before));
}
END_TEST

/* The table keeps what its readers take for granted. */
START_TEST(test_verb_table)
{
	for (const struct verb *const *at = verb_table; *at; at++) {
		const struct verb *verb = *at;
		size_t count = 0;

		ck_assert_ptr_nonnull(verb->handler);
		ck_assert_ptr_nonnull(verb->summary);
		ck_assert_uint_le(verb->operands_min, verb->operands_max);
		ck_assert_int_ne(verb->usage_status, EXIT_OK);
		for (const struct verb_option *option = verb->options; option && option->name;
		     option++, count++) {
			ck_assert_ptr_nonnull(option->help);
			ck_assert_int_eq(option->type == OPTION_FLAG, !option->argument);
			for (size_t i = 0; i < COMMON_COUNT; i++) {
				ck_assert_str_ne(option->name, common_options[i].name);
				if (option->letter)
					ck_assert_int_ne(option->letter, common_options[i].letter);
			}
			for (const struct verb_option *other = verb->options; other < option;
			     other++)
				ck_assert(!option->letter || option->letter != other->letter);
		}
		ck_assert_uint_lt(count, OPTIONS_MAX);
	}
}
END_TEST

START_TEST(test_verb_find)
{
	char **words = (char **)(const char *[]){"memory", "stats", "vm_1"};
	int used;
	bool is_group;

	ck_assert_ptr_eq(verb_find(words, 3, &used, &is_group), &verb_memory_stats);
	ck_assert_int_eq(used, 2);
	ck_assert_ptr_null(verb_find(words, 1, &used, &is_group));
	ck_assert(is_group);
	ck_assert_ptr_eq(verb_find((char **)(const char *[]){"run"}, 1, &used, &is_group),
			 &verb_run);
	ck_assert_int_eq(used, 1);
	ck_assert_ptr_null(verb_find((char **)(const char *[]){"ru"}, 1, &used, &is_group));
	ck_assert_ptr_null(verb_find((char **)(const char *[]){"runs"}, 1, &used, &is_group));
	ck_assert(!is_group);
	ck_assert_ptr_null(verb_find(NULL, 0, &used, &is_group));
}
END_TEST

static const struct {
	const char *text;
	double bytes; /* 0: refused */
} sizes[] = {
	{"1", 1},
	{"4096", 4096},
	{"2K", 2048},
	{"1.5M", 1.5 * (1 << 20)},
	{"512MiB", 512 << 20},
	{"3G", 3. * (1 << 30)},
	{"1024T", 1ll << 50},
	{"1025T", 0},
	{"", 0},
	{"0", 0},
	{"0.5", 0},
	{"-1M", 0},
	{"M", 0},
	{"1m", 0},
	{"1MB", 0},
	{"1M ", 0},
	{"1e3", 0},
	{"1.2.3", 0},
	{"1KM", 0},
	{"nan", 0},
};

START_TEST(test_size)
{
	double bytes = 0;
	int r = parse_size(sizes[_i].text, &bytes);

	ck_assert_int_eq(r, sizes[_i].bytes > 0 ? 0 : -EINVAL);
	ck_assert_double_eq(bytes, sizes[_i].bytes);
}
END_TEST

START_TEST(test_wrap)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	fputs("name", out);
	help_wrap(out,
		  "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu "
		  "xi\n\nomicron",
		  4, true);
	fclose(out);
	ck_assert_str_eq(text,
			 "namealpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu "
			 "nu xi\n\n    omicron\n");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ctl options");
	TCase *tcase = tcase_create("all");

	tcase_add_test(tcase, test_values);
	tcase_add_test(tcase, test_nothing);
	tcase_add_test(tcase, test_dashes);
	tcase_add_test(tcase, test_stops_at_operand);
	tcase_add_loop_test(tcase, test_refused, 0, ELEMENTSOF(refused));
	tcase_add_test(tcase, test_params);
	tcase_add_loop_test(tcase, test_params_refused, 0, 9);
	tcase_add_test(tcase, test_verb_table);
	tcase_add_test(tcase, test_verb_find);
	tcase_add_loop_test(tcase, test_size, 0, ELEMENTSOF(sizes));
	tcase_add_test(tcase, test_wrap);
	suite_add_tcase(suite, tcase);
	return suite;
}
