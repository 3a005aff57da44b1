/* SPDX-License-Identifier: Apache-2.0 */
/* What `execsandboxctl top` shows: rows, order, selection, texts. */
#include "tests/unit/suite.h"

#include "ctl/top_model.h"

#include "base/util.h"
#include "tests/unit/test_json.h"

#include <errno.h>
#include <string.h>

#define MIB    (1 << 20)
#define SECOND 1000000ull

static struct top_model model;
static char cell[TOP_TEXT_SIZE];

static void setup(void)
{
	model = (struct top_model){.sort = TOP_PSS};
}

static void teardown(void)
{
	top_model_fini(&model);
}

/* Takes an answer with these VMs. */
static void take(const char *vms, uint64_t now_us)
{
	json_auto_t *stats = json_pack("{s:{s:i, s:i}, s:o}", "host", "managed_bytes", 1000,
				       "managed_available_bytes", 250, "vms", json_of(vms));

	ck_assert_int_eq(top_model_take(&model, stats, now_us), 0);
}

static const char *cell_of(size_t row, enum top_column column)
{
	ck_assert_uint_lt(row, model.count);
	top_cell(&model.rows[row], column, cell);
	return cell;
}

/* The VMs' ids from the top down. */
static const char *order(void)
{
	static char ids[64];
	char *at = ids;

	for (size_t i = 0; i < model.count; i++)
		at = stpcpy(at, model.rows[i].vm);
	*at = '\0';
	return ids;
}

#define ONE_VM                                                                               \
	"[{\"vm\": \"a\", \"language\": \"python\", \"state\": \"running\","                 \
	"  \"policy_state\": \"busy\", \"size_bytes\": 268435456, \"uptime_ms\": 10000,"     \
	"  \"guest_total_bytes\": 250000000, \"guest_available_bytes\": 67108864,"           \
	"  \"balloon_actual_bytes\": 134217728, \"balloon_target_bytes\": 104857600,"        \
	"  \"zram_orig_bytes\": 3000, \"zram_used_bytes\": 1000, \"pss_bytes\": 1610612736," \
	"  \"cpu_us\": 2500000, \"is_moving\": true, \"is_pinned\": true, \"age_ms\": 100}]"

START_TEST(test_cells)
{
	static const char *const texts[] = {
		[TOP_VM] = "a",        [TOP_LANGUAGE] = "python", [TOP_STATE] = "busy~!",
		[TOP_SIZE] = "256M",   [TOP_USED] = "64M",        [TOP_TARGET] = "100M",
		[TOP_ACTUAL] = "128M", [TOP_ZRAM] = "3.0",        [TOP_PSS] = "1.5G",
		[TOP_CPU] = "25.0",    [TOP_AGE] = "10s",
	};

	take(ONE_VM, SECOND);
	for (enum top_column column = TOP_VM; column < TOP_COLUMNS; column++)
		ck_assert_str_eq(cell_of(0, column), texts[column]);
	ck_assert(!model.rows[0].is_silent);
}
END_TEST

START_TEST(test_unknown)
{
	take("[{\"vm\": \"a\", \"state\": \"starting\", \"policy_state\": null, \"pss_bytes\": "
	     "null}]",
	     SECOND);
	ck_assert_str_eq(cell_of(0, TOP_STATE), "starting");
	ck_assert_str_eq(cell_of(0, TOP_LANGUAGE), "-");
	for (enum top_column column = TOP_SIZE; column < TOP_COLUMNS; column++)
		ck_assert_str_eq(cell_of(0, column), "-");
}
END_TEST

START_TEST(test_used_before_the_balloon_is_known)
{
	take("[{\"vm\": \"a\", \"guest_total_bytes\": 2097152, \"guest_available_bytes\": "
	     "1048576}]",
	     SECOND);
	ck_assert_str_eq(cell_of(0, TOP_USED), "1.0M");
}
END_TEST

START_TEST(test_processor)
{
	take("[{\"vm\": \"a\", \"cpu_us\": 1000000, \"uptime_ms\": 2000}]", 10 * SECOND);
	ck_assert_str_eq(cell_of(0, TOP_CPU), "50.0");
	take("[{\"vm\": \"a\", \"cpu_us\": 4000000, \"uptime_ms\": 4000}]", 12 * SECOND);
	ck_assert_str_eq(cell_of(0, TOP_CPU), "150.0");
	take("[{\"vm\": \"a\", \"cpu_us\": 4000000, \"uptime_ms\": 4000}]", 12 * SECOND);
	ck_assert_str_eq(cell_of(0, TOP_CPU), "-");
	take("[{\"vm\": \"a\", \"cpu_us\": null, \"uptime_ms\": 5000}]", 13 * SECOND);
	ck_assert_str_eq(cell_of(0, TOP_CPU), "-");
}
END_TEST

START_TEST(test_silence)
{
	take("[{\"vm\": \"a\", \"policy_state\": \"busy\", \"age_ms\": 6001},"
	     " {\"vm\": \"b\", \"policy_state\": \"busy\", \"age_ms\": 5999},"
	     " {\"vm\": \"c\", \"policy_state\": \"idle\", \"age_ms\": 60000},"
	     " {\"vm\": \"d\", \"policy_state\": \"spare\"}]",
	     SECOND);
	for (size_t i = 0; i < 4; i++)
		ck_assert(model.rows[i].is_silent == (i == 0));
	ck_assert(model.rows[3].is_spare);
}
END_TEST

/* --- Order and selection --- */

#define THREE_VMS                                                                        \
	"[{\"vm\": \"b\", \"language\": \"shell\", \"state\": \"x\", \"pss_bytes\": 5}," \
	" {\"vm\": \"c\", \"language\": \"python\", \"state\": \"x\"},"                  \
	" {\"vm\": \"a\", \"language\": \"shell\", \"state\": \"w\", \"pss_bytes\": 7}]"

static const struct {
	enum top_column column;
	const char *order;
} orders[] = {
	{TOP_PSS, "abc"},   {TOP_VM, "abc"},  {TOP_LANGUAGE, "cab"},
	{TOP_STATE, "abc"}, {TOP_CPU, "abc"}, /* none is known: by id */
};

START_TEST(test_order)
{
	char reversed[4] = "";

	take(THREE_VMS, SECOND);
	top_model_sort(&model, orders[_i].column, false);
	ck_assert_str_eq(order(), orders[_i].order);
	top_model_sort(&model, orders[_i].column, true);
	for (size_t i = 0; i < 3; i++)
		reversed[i] = orders[_i].order[2 - i];
	ck_assert_str_eq(order(), reversed);
}
END_TEST

START_TEST(test_selection_follows)
{
	take(THREE_VMS, SECOND);
	ck_assert_str_eq(top_model_selected(&model)->vm, "a");
	top_model_select(&model, 1);
	ck_assert_str_eq(top_model_selected(&model)->vm, "b");
	top_model_sort(&model, TOP_LANGUAGE, false);
	ck_assert_str_eq(top_model_selected(&model)->vm, "b");
	ck_assert_uint_eq(model.selected, 2);
	take("[{\"vm\": \"b\", \"language\": \"ada\"}, {\"vm\": \"z\", \"language\": \"zsh\"}]",
	     2 * SECOND);
	ck_assert_str_eq(top_model_selected(&model)->vm, "b");
	ck_assert_uint_eq(model.selected, 0);
}
END_TEST

START_TEST(test_selection_ends)
{
	take(THREE_VMS, SECOND);
	top_model_select(&model, 100);
	ck_assert_uint_eq(model.selected, 2);
	top_model_select(&model, -100);
	ck_assert_uint_eq(model.selected, 0);
	top_model_select(&model, 2);
	take("[{\"vm\": \"x\"}, {\"vm\": \"y\"}]", 2 * SECOND); /* its VM is gone */
	ck_assert_str_eq(top_model_selected(&model)->vm, "y");
	take("[]", 3 * SECOND);
	ck_assert_ptr_null(top_model_selected(&model));
	top_model_select(&model, 1);
	ck_assert_uint_eq(model.selected, 0);
}
END_TEST

START_TEST(test_selection_keeps_its_line)
{
	take("[{\"vm\": \"a\", \"pss_bytes\": 9}, {\"vm\": \"b\", \"pss_bytes\": 8},"
	     " {\"vm\": \"c\", \"pss_bytes\": 7}]",
	     SECOND);
	top_model_select(&model, 1);
	take("[{\"vm\": \"c\", \"pss_bytes\": 7}, {\"vm\": \"d\", \"pss_bytes\": 6},"
	     " {\"vm\": \"a\", \"pss_bytes\": 9}]",
	     2 * SECOND);
	ck_assert_str_eq(top_model_selected(&model)->vm, "c");
}
END_TEST

/* --- What a daemon may send --- */

START_TEST(test_refused)
{
	static const char *const answers[] = {"{}",
					      "[]",
					      "{\"vms\": []}",
					      "{\"host\": {}}",
					      "{\"host\": 1, \"vms\": []}",
					      "{\"host\": {}, \"vms\": {}}"};

	take(THREE_VMS, SECOND);
	for (size_t i = 0; i < ELEMENTSOF(answers); i++) {
		json_auto_t *answer = json_of(answers[i]);

		ck_assert_int_eq(top_model_take(&model, answer, 2 * SECOND), -EBADMSG);
	}
	ck_assert_uint_eq(model.count, 3);
	ck_assert_uint_eq(model.taken_us, SECOND);
}
END_TEST

START_TEST(test_hostile)
{
	take("[1, null, {\"vm\": \"\\u001b[2J\\u00fc\\n\", \"state\": 7, \"size_bytes\": 1e300,"
	     " \"uptime_ms\": 1e300, \"pss_bytes\": -5, \"cpu_us\": 1e300,"
	     " \"guest_available_bytes\": 1e300, \"balloon_actual_bytes\": 1e300,"
	     " \"zram_orig_bytes\": 1e300, \"zram_used_bytes\": 1e-300}]",
	     SECOND);
	top_model_sort(&model, TOP_SIZE, false);
	ck_assert_str_eq(model.rows[0].vm, "?[2J???"); /* escape, two bytes of u-umlaut, newline */
	for (enum top_column column = TOP_VM; column < TOP_COLUMNS; column++)
		ck_assert_uint_lt(strlen(cell_of(0, column)), TOP_TEXT_SIZE);
	ck_assert_str_eq(cell_of(0, TOP_PSS), "-");
	ck_assert_uint_le(top_row_target_mb(&model.rows[0]), 1u << 30);
}
END_TEST

/* --- Texts --- */

static const struct {
	double number;
	enum top_column column;
	const char *text;
} texts[] = {
	{0, TOP_SIZE, "0B"},
	{999, TOP_SIZE, "999B"},
	{1000, TOP_SIZE, "1.0K"},
	{10 * 1024, TOP_SIZE, "10K"},
	{999. * MIB, TOP_SIZE, "999M"},
	{1000. * MIB, TOP_SIZE, "1.0G"},
	{1.5 * 1024 * MIB, TOP_SIZE, "1.5G"},
	{59999, TOP_AGE, "59s"},
	{61000, TOP_AGE, "1m01s"},
	{3600000 + 125000, TOP_AGE, "1h02m"},
	{90000000, TOP_AGE, "1d01h"},
	{2.345, TOP_ZRAM, "2.3"},
};

START_TEST(test_texts)
{
	struct top_row row = {0};

	row.numbers[texts[_i].column] = texts[_i].number;
	top_cell(&row, texts[_i].column, cell);
	ck_assert_str_eq(cell, texts[_i].text);
	ck_assert_int_le((int)strlen(cell), top_columns[texts[_i].column].width);
}
END_TEST

START_TEST(test_columns_fit)
{
	bool is_shown[TOP_COLUMNS];
	int shown_before = 0;

	for (int width = 1; width <= 120; width++) {
		int taken = top_columns_fit(width, TOP_AGE, is_shown), shown = 0;

		for (size_t i = 0; i < TOP_COLUMNS; i++)
			shown += is_shown[i];
		ck_assert(is_shown[TOP_VM]);
		ck_assert(taken <= width || shown == 1);
		ck_assert(shown == 1 || is_shown[TOP_AGE]);
		ck_assert_int_ge(shown, shown_before);
		shown_before = shown;
	}
	ck_assert_int_eq(shown_before, TOP_COLUMNS);
	top_columns_fit(80, TOP_PSS, is_shown);
	ck_assert(is_shown[TOP_LANGUAGE] && is_shown[TOP_CPU] && !is_shown[TOP_TARGET]);
}
END_TEST

START_TEST(test_totals)
{
	struct top_totals totals;

	totals = top_model_totals(&model);
	ck_assert_double_eq(totals.overcommit, 0);
	take("[{\"vm\": \"a\", \"size_bytes\": 600, \"pss_bytes\": 100},"
	     " {\"vm\": \"b\", \"size_bytes\": 400, \"pss_bytes\": 300, \"balloon_actual_bytes\": "
	     "50}]",
	     SECOND);
	totals = top_model_totals(&model);
	ck_assert_double_eq(totals.size, 1000);
	ck_assert_double_eq(totals.actual, 50);
	ck_assert_double_eq(totals.pss, 400);
	ck_assert_double_eq(totals.overcommit, 2.5);
}
END_TEST

static const struct {
	double used, size;
	unsigned target_mb;
} targets[] = {
	{100. * MIB, 256. * MIB, 125},
	{10. * MIB, 256. * MIB, 64},
	{250. * MIB, 256. * MIB, 256},
	{-1, 256. * MIB, 128},
	{-1, -1, 64},
};

START_TEST(test_target)
{
	struct top_row row = {0};

	row.numbers[TOP_USED] = targets[_i].used;
	row.numbers[TOP_SIZE] = targets[_i].size;
	ck_assert_uint_eq(top_row_target_mb(&row), targets[_i].target_mb);
}
END_TEST

START_TEST(test_history)
{
	char text[3 * TOP_HISTORY + 1];

	ck_assert_uint_eq(top_sparkline(&model, 10, true, text), 0);
	ck_assert_str_eq(text, "");
	for (size_t i = 0; i < TOP_HISTORY + 3; i++)
		take("[]", SECOND);
	ck_assert_uint_eq(model.history_count, TOP_HISTORY);
	model.history[TOP_HISTORY - 1] = 1;
	model.history[TOP_HISTORY - 2] = 0;
	ck_assert_uint_eq(top_sparkline(&model, 3, true, text), 3);
	ck_assert_str_eq(text, "* @");
	ck_assert_uint_eq(top_sparkline(&model, 3, false, text), 3);
	ck_assert_str_eq(text, "▆ █");
	ck_assert_uint_eq(top_sparkline(&model, TOP_HISTORY, false, text), TOP_HISTORY);
}
END_TEST

START_TEST(test_bar)
{
	struct top_row row = {0};
	char text[64];

	row.numbers[TOP_SIZE] = 100;
	row.numbers[TOP_USED] = 30;
	row.numbers[TOP_ACTUAL] = 70;
	top_bar(&row, 10, true, text);
	ck_assert_str_eq(text, "###----   ");
	top_bar(&row, 4, false, text);
	ck_assert_str_eq(text, "█░░ ");
	row.numbers[TOP_USED] = 500; /* a guest's claim is not drawn beyond what it has */
	top_bar(&row, 10, true, text);
	ck_assert_str_eq(text, "#######   ");
	row.numbers[TOP_USED] = -1;
	top_bar(&row, 10, true, text);
	ck_assert_str_eq(text, "");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ctl top");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_cells);
	tcase_add_test(tcase, test_unknown);
	tcase_add_test(tcase, test_used_before_the_balloon_is_known);
	tcase_add_test(tcase, test_processor);
	tcase_add_test(tcase, test_silence);
	tcase_add_loop_test(tcase, test_order, 0, ELEMENTSOF(orders));
	tcase_add_test(tcase, test_selection_follows);
	tcase_add_test(tcase, test_selection_ends);
	tcase_add_test(tcase, test_selection_keeps_its_line);
	tcase_add_test(tcase, test_refused);
	tcase_add_test(tcase, test_hostile);
	tcase_add_loop_test(tcase, test_texts, 0, ELEMENTSOF(texts));
	tcase_add_test(tcase, test_columns_fit);
	tcase_add_test(tcase, test_totals);
	tcase_add_loop_test(tcase, test_target, 0, ELEMENTSOF(targets));
	tcase_add_test(tcase, test_history);
	tcase_add_test(tcase, test_bar);
	suite_add_tcase(suite, tcase);
	return suite;
}
