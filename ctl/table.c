/* SPDX-License-Identifier: Apache-2.0 */
/* JSON objects as rows of a table for people, by libsmartcols. */
#include "ctl/table.h"

#include "ctl/output.h"

#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>

static const char *format_number(enum cell_type type, double number, char buf[CELL_SIZE])
{
	switch (type) {
	case CELL_BYTES:
		return format_bytes(number, buf);
	case CELL_MILLIS:
		if (number < 1000)
			snprintf(buf, CELL_SIZE, "%.0f ms", number);
		else
			snprintf(buf, CELL_SIZE, "%.1f s", number / 1000);
		return buf;
	case CELL_TEXT:
	case CELL_NUMBER:
		break;
	}
	snprintf(buf, CELL_SIZE, number == (double)(json_int_t)number ? "%.0f" : "%.2f", number);
	return buf;
}

const char *cell_format(enum cell_type type, const json_t *value, char buf[CELL_SIZE])
{
	if (json_is_number(value))
		return format_number(type, json_number_value(value), buf);
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_boolean(value))
		return json_is_true(value) ? "yes" : "no";
	return "-";
}

static int add_row(struct libscols_table *table, const struct column *columns, const json_t *row)
{
	struct libscols_line *line = scols_table_new_line(table, NULL);
	char buf[CELL_SIZE];

	if (!line)
		return -ENOMEM;
	for (size_t i = 0; columns[i].title; i++)
		if (scols_line_set_data(line, i,
					cell_format(columns[i].type,
						    json_object_get(row, columns[i].key), buf)))
			return -ENOMEM;
	return 0;
}

static int fill(struct libscols_table *table, const struct column *columns, const json_t *rows)
{
	const json_t *row;
	size_t i;

	for (i = 0; columns[i].title; i++)
		if (!scols_table_new_column(table, columns[i].title, 0,
					    columns[i].type == CELL_TEXT ? 0 : SCOLS_FL_RIGHT))
			return -ENOMEM;
	json_array_foreach (rows, i, row)
		if (add_row(table, columns, row) < 0)
			return -ENOMEM;
	return scols_print_table(table) < 0 ? -ENOMEM : 0;
}

int table_print(const struct column *columns, const json_t *rows)
{
	struct libscols_table *table = scols_new_table();
	int r;

	if (!table)
		return -ENOMEM;
	r = fill(table, columns, rows);
	scols_unref_table(table);
	return r;
}

static void print_members(const char *prefix, const json_t *object)
{
	const json_t *value;
	const char *key;
	char buf[CELL_SIZE], name[CELL_SIZE];

	json_object_foreach ((json_t *)object, key, value) {
		snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "." : "", key);
		if (json_is_object(value)) {
			print_members(name, value);
		} else if (json_is_array(value)) {
			_cleanup_free_ char *text =
				json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(15));

			printf("%-32s %s\n", name, text ?: "-");
		} else {
			printf("%-32s %s\n", name, cell_format(CELL_TEXT, value, buf));
		}
	}
}

void members_print(const json_t *object)
{
	print_members("", object);
}
