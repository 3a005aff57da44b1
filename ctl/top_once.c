/* SPDX-License-Identifier: Apache-2.0 */
/* `execsandboxctl top --once`: the figures of top without a screen. */
#include "ctl/top_once.h"

#include "ctl/ctl.h"
#include "ctl/memory_host.h"
#include "ctl/output.h"
#include "ctl/table.h"
#include "ctl/top_model.h"

#include <stdio.h>

static json_t *row_json(const struct top_row *row)
{
	json_t *object = json_object();

	for (enum top_column column = TOP_VM; column < TOP_COLUMNS; column++) {
		char cell[TOP_TEXT_SIZE];

		top_cell(row, column, cell);
		json_object_set_new(object, top_columns[column].title, json_string(cell));
	}
	return object;
}

static int print_rows(const struct top_model *model)
{
	struct column columns[TOP_COLUMNS + 1] = {{.title = NULL}};
	json_auto_t *rows = json_array();

	for (size_t i = 0; i < TOP_COLUMNS; i++)
		columns[i] = (struct column){top_columns[i].title, top_columns[i].title,
					     i <= TOP_STATE ? CELL_TEXT : CELL_NUMBER};
	for (size_t i = 0; i < model->count; i++)
		json_array_append_new(rows, row_json(&model->rows[i]));
	fputc('\n', stdout);
	return table_print(columns, rows);
}

int top_once(struct ctl *ctl)
{
	json_auto_t *stats = NULL;
	struct top_model model = {.sort = TOP_PSS};
	int status = ctl_fetch(ctl, "memory.stats", NULL, &stats);
	int r;

	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(stats, false));
	r = top_model_take(&model, stats, now_us());
	if (r == 0)
		r = memory_host_print(stats);
	if (r == 0 && model.count > 0)
		r = print_rows(&model);
	top_model_fini(&model);
	return ctl_printed(r);
}
