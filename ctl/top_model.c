/* SPDX-License-Identifier: Apache-2.0 */
/* What `execsandboxctl top` shows, without a screen. */
#include "ctl/top_model.h"

#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct top_column_info top_columns[TOP_COLUMNS] = {
	[TOP_VM] = {"VM", 19, 11},       [TOP_LANGUAGE] = {"LANGUAGE", 10, 4},
	[TOP_STATE] = {"STATE", 9, 9},   [TOP_SIZE] = {"SIZE", 6, 5},
	[TOP_USED] = {"USED", 6, 8},     [TOP_TARGET] = {"TARGET", 6, 3},
	[TOP_ACTUAL] = {"ACTUAL", 6, 7}, [TOP_ZRAM] = {"ZRAM", 5, 2},
	[TOP_PSS] = {"PSS", 6, 10},      [TOP_CPU] = {"CPU%", 6, 6},
	[TOP_AGE] = {"AGE", 7, 1},
};

/* Three of the guest's reports are missing (docs/MEMORY.md: every 2 s). */
#define SILENT_MS 6000

/* Beyond this a number is a lie; it still fits into every integer that it is turned into. */
#define NUMBER_MAX 1e15

/* The API's floor for targets (docs/MEMORY.md). */
#define TARGET_MIN_MB 64

#define MIB 1048576.

/* --- Reading --- */

void top_printable(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

static void take_text(const json_t *object, const char *key, char ret[TOP_TEXT_SIZE])
{
	snprintf(ret, TOP_TEXT_SIZE, "%s", json_string_value(json_object_get(object, key)) ?: "-");
	top_printable(ret);
}

static double take_number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? MIN(json_number_value(value), NUMBER_MAX) : -1;
}

static double difference(double a, double b)
{
	return a < 0 || b < 0 ? -1 : MAX(a - b, 0.);
}

static double ratio(double a, double b)
{
	return a >= 0 && b > 0 ? a / b : -1;
}

/* The guest's total does not shrink with its balloon: what it has is what the balloon leaves. */
static double take_used(const json_t *vm)
{
	double has = take_number(vm, "balloon_actual_bytes");

	return difference(has >= 0 ? has : take_number(vm, "guest_total_bytes"),
			  take_number(vm, "guest_available_bytes"));
}

static void take_row(const json_t *vm, struct top_row *row)
{
	const char *policy_state = json_string_value(json_object_get(vm, "policy_state"));
	double *numbers = row->numbers;

	take_text(vm, "vm", row->vm);
	take_text(vm, "language", row->language);
	take_text(vm, policy_state ? "policy_state" : "state", row->state);
	numbers[TOP_SIZE] = take_number(vm, "size_bytes");
	numbers[TOP_USED] = take_used(vm);
	numbers[TOP_TARGET] = take_number(vm, "balloon_target_bytes");
	numbers[TOP_ACTUAL] = take_number(vm, "balloon_actual_bytes");
	numbers[TOP_ZRAM] =
		ratio(take_number(vm, "zram_orig_bytes"), take_number(vm, "zram_used_bytes"));
	numbers[TOP_PSS] = take_number(vm, "pss_bytes");
	numbers[TOP_AGE] = take_number(vm, "uptime_ms");
	row->cpu_us = take_number(vm, "cpu_us");
	row->is_moving = json_is_true(json_object_get(vm, "is_moving"));
	row->is_pinned = json_is_true(json_object_get(vm, "is_pinned"));
	row->is_spare = strcmp(row->state, "spare") == 0;
	row->is_silent = strcmp(row->state, "busy") == 0 && take_number(vm, "age_ms") > SILENT_MS;
}

static void take_host(const json_t *host, struct top_host *ret)
{
	ret->total = take_number(host, "total_bytes");
	ret->available = take_number(host, "available_bytes");
	ret->managed = take_number(host, "managed_bytes");
	ret->managed_available = take_number(host, "managed_available_bytes");
	ret->reserve = take_number(host, "reserve_bytes");
	ret->budget = take_number(host, "budget_bytes");
	ret->some = take_number(host, "psi_some_avg10");
	ret->full = take_number(host, "psi_full_avg10");
	take_text(host, "level", ret->level);
	take_text(host, "state", ret->state);
}

static const struct top_row *find_row(const struct top_model *model, const char *vm)
{
	for (size_t i = 0; i < model->count; i++)
		if (strcmp(model->rows[i].vm, vm) == 0)
			return &model->rows[i];
	return NULL;
}

/* Per cent of one processor since the look before; at the first look of a VM, since its start. */
static double cpu_percent(const struct top_model *model, const struct top_row *row, uint64_t now_us)
{
	const struct top_row *before = find_row(model, row->vm);
	double share = ratio(row->cpu_us, row->numbers[TOP_AGE] * 1000);

	if (before)
		share = ratio(difference(row->cpu_us, before->cpu_us),
			      (double)(now_us - MIN(model->taken_us, now_us)));
	return share < 0 ? -1 : 100 * share;
}

static void remember(struct top_model *model)
{
	const struct top_host *host = &model->host;
	double available = ratio(host->managed_available, host->managed);

	if (available < 0)
		return;
	if (model->history_count == TOP_HISTORY)
		memmove(model->history, model->history + 1,
			(TOP_HISTORY - 1) * sizeof(model->history[0]));
	else
		model->history_count++;
	model->history[model->history_count - 1] = MAX(1 - available, 0.);
}

/* --- Order and selection --- */

/* Texts from a to z, numbers from the greatest down; VMs that are equal by their id. */
static int compare(const void *a, const void *b, void *user)
{
	const struct top_model *model = user;
	const struct top_row *one = a, *other = b;
	double more = other->numbers[model->sort] - one->numbers[model->sort];
	int order = (more > 0) - (more < 0);

	if (model->sort == TOP_LANGUAGE)
		order = strcmp(one->language, other->language);
	else if (model->sort == TOP_STATE)
		order = strcmp(one->state, other->state);
	if (order == 0)
		order = strcmp(one->vm, other->vm);
	return model->is_reversed ? -order : order;
}

/* `vm` is selected if it is there, else the line that was. */
static void arrange(struct top_model *model, const char *vm)
{
	const struct top_row *row;

	if (model->count > 0)
		qsort_r(model->rows, model->count, sizeof(*model->rows), compare, model);
	row = find_row(model, vm);
	if (row)
		model->selected = (size_t)(row - model->rows);
	top_model_select(model, 0);
}

static void selected_vm(const struct top_model *model, char ret[TOP_TEXT_SIZE])
{
	const struct top_row *row = top_model_selected(model);

	snprintf(ret, TOP_TEXT_SIZE, "%s", row ? row->vm : "");
}

int top_model_take(struct top_model *model, const json_t *stats, uint64_t now_us)
{
	const json_t *vms = json_object_get(stats, "vms"), *vm;
	char selected[TOP_TEXT_SIZE];
	struct top_row *rows;
	size_t i;

	if (!json_is_array(vms) || !json_is_object(json_object_get(stats, "host")))
		return -EBADMSG;
	rows = calloc(json_array_size(vms) + 1, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	json_array_foreach (vms, i, vm) {
		take_row(vm, &rows[i]);
		rows[i].numbers[TOP_CPU] = cpu_percent(model, &rows[i], now_us);
	}
	selected_vm(model, selected);
	free(model->rows);
	model->rows = rows;
	model->count = json_array_size(vms);
	model->taken_us = now_us;
	take_host(json_object_get(stats, "host"), &model->host);
	remember(model);
	arrange(model, selected);
	return 0;
}

void top_model_fini(struct top_model *model)
{
	free(model->rows);
}

void top_model_sort(struct top_model *model, enum top_column sort, bool is_reversed)
{
	char selected[TOP_TEXT_SIZE];

	selected_vm(model, selected);
	model->sort = sort;
	model->is_reversed = is_reversed;
	arrange(model, selected);
}

void top_model_select(struct top_model *model, long step)
{
	long last = MAX((long)model->count - 1, 0L);

	model->selected = (size_t)MAX(MIN((long)model->selected + step, last), 0L);
}

const struct top_row *top_model_selected(const struct top_model *model)
{
	return model->selected < model->count ? &model->rows[model->selected] : NULL;
}

/* --- What is computed --- */

struct top_totals top_model_totals(const struct top_model *model)
{
	struct top_totals totals = {0};

	for (size_t i = 0; i < model->count; i++) {
		const double *numbers = model->rows[i].numbers;

		totals.size += MAX(numbers[TOP_SIZE], 0.);
		totals.actual += MAX(numbers[TOP_ACTUAL], 0.);
		totals.pss += MAX(numbers[TOP_PSS], 0.);
	}
	totals.overcommit = MAX(ratio(totals.size, totals.pss), 0.);
	return totals;
}

unsigned top_row_target_mb(const struct top_row *row)
{
	double used = row->numbers[TOP_USED], size = MAX(row->numbers[TOP_SIZE], 0.);
	double target = used >= 0 ? used * 1.25 : size / 2;

	return (unsigned)(MIN(MAX(target, TARGET_MIN_MB * MIB), MAX(size, TARGET_MIN_MB * MIB)) /
			  MIB);
}

/* --- Texts --- */

static void size_text(double bytes, char buf[TOP_TEXT_SIZE])
{
	static const char units[] = "BKMGTPE";
	size_t unit = 0;

	for (; bytes >= 1000 && unit < sizeof(units) - 2; unit++)
		bytes /= 1024;
	snprintf(buf, TOP_TEXT_SIZE, bytes < 10 && unit > 0 ? "%.1f%c" : "%.0f%c", bytes,
		 units[unit]);
}

static void age_text(double ms, char buf[TOP_TEXT_SIZE])
{
	unsigned long seconds = (unsigned long)(ms / 1000);

	if (seconds < 60)
		snprintf(buf, TOP_TEXT_SIZE, "%lus", seconds);
	else if (seconds < 3600)
		snprintf(buf, TOP_TEXT_SIZE, "%lum%02lus", seconds / 60, seconds % 60);
	else if (seconds < 86400)
		snprintf(buf, TOP_TEXT_SIZE, "%luh%02lum", seconds / 3600, seconds / 60 % 60);
	else
		snprintf(buf, TOP_TEXT_SIZE, "%lud%02luh", seconds / 86400, seconds / 3600 % 24);
}

void top_cell(const struct top_row *row, enum top_column column, char buf[TOP_TEXT_SIZE])
{
	double number = row->numbers[column];

	if (column == TOP_VM)
		snprintf(buf, TOP_TEXT_SIZE, "%s", row->vm);
	else if (column == TOP_LANGUAGE)
		snprintf(buf, TOP_TEXT_SIZE, "%s", row->language);
	else if (column == TOP_STATE)
		snprintf(buf, TOP_TEXT_SIZE, "%.40s%s%s", row->state, row->is_moving ? "~" : "",
			 row->is_pinned ? "!" : "");
	else if (number < 0)
		snprintf(buf, TOP_TEXT_SIZE, "-");
	else if (column == TOP_ZRAM || column == TOP_CPU)
		snprintf(buf, TOP_TEXT_SIZE, "%.1f", number);
	else if (column == TOP_AGE)
		age_text(number, buf);
	else
		size_text(number, buf);
}

static int width_of(const bool is_shown[TOP_COLUMNS])
{
	int width = -1;

	for (size_t i = 0; i < TOP_COLUMNS; i++)
		width += is_shown[i] ? top_columns[i].width + 1 : 0;
	return width;
}

int top_columns_fit(int width, enum top_column sort, bool ret_is_shown[TOP_COLUMNS])
{
	for (size_t i = 0; i < TOP_COLUMNS; i++)
		ret_is_shown[i] = true;
	for (int priority = 1; priority < TOP_COLUMNS && width_of(ret_is_shown) > width; priority++)
		for (size_t i = 0; i < TOP_COLUMNS; i++)
			if (top_columns[i].priority == priority && i != sort)
				ret_is_shown[i] = false;
	if (width_of(ret_is_shown) > width && sort != TOP_VM)
		ret_is_shown[sort] = false;
	return width_of(ret_is_shown);
}

size_t top_sparkline(const struct top_model *model, size_t width, bool is_ascii, char *buf)
{
	static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	static const char *const ascii[] = {" ", ".", ":", "-", "=", "+", "*", "#", "@"};
	const char *const *marks = is_ascii ? ascii : blocks;
	size_t count = MIN(width, model->history_count);

	*buf = '\0';
	for (size_t i = model->history_count - count; i < model->history_count; i++)
		buf = stpcpy(buf, marks[(size_t)(model->history[i] * 8 + 0.5)]);
	return count;
}

void top_bar(const struct top_row *row, size_t width, bool is_ascii, char *buf)
{
	double size = row->numbers[TOP_SIZE];
	double used = ratio(row->numbers[TOP_USED], size);
	double actual = ratio(row->numbers[TOP_ACTUAL], size);

	*buf = '\0';
	if (used < 0 || actual < 0)
		return;
	for (size_t i = 0; i < width; i++) {
		double middle = ((double)i + 0.5) / (double)width;

		if (middle < MIN(used, actual))
			buf = stpcpy(buf, is_ascii ? "#" : "█");
		else
			buf = stpcpy(buf, middle >= actual ? " " : is_ascii ? "-" : "░");
	}
}
