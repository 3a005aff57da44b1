/* SPDX-License-Identifier: Apache-2.0 */
/* The host's line of memory.stats, as a table. */
#include "ctl/memory_host.h"

#include "ctl/table.h"

#include <errno.h>

static const struct column columns[] = {
	{"HOST TOTAL", "total_bytes", CELL_BYTES},
	{"AVAILABLE", "available_bytes", CELL_BYTES},
	{"RESERVE", "reserve_bytes", CELL_BYTES},
	{"BUDGET", "budget_bytes", CELL_BYTES},
	{"PSI SOME %", "psi_some_avg10", CELL_NUMBER},
	{"PSI FULL %", "psi_full_avg10", CELL_NUMBER},
	{"LEVEL", "level", CELL_TEXT},
	{"STATE", "state", CELL_TEXT},
	{.title = NULL},
};

int memory_host_print(const json_t *stats)
{
	json_auto_t *hosts = json_pack("[O]", json_object_get(stats, "host"));

	return hosts ? table_print(columns, hosts) : -ENOMEM;
}
