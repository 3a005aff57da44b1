/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl list: the VMs that the caller may see. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/table.h"

static const struct column columns[] = {
	{"VM", "vm", CELL_TEXT},
	{"STATE", "state", CELL_TEXT},
	{"LANGUAGE", "language", CELL_TEXT},
	{"PID", "pid", CELL_NUMBER},
	{"MEMORY MB", "memory_mb", CELL_NUMBER},
	{"UID", "uid", CELL_NUMBER},
	{"START", "start_ms", CELL_MILLIS},
	{"CREATED", "created_at", CELL_TEXT},
	{.title = NULL},
};

static int list(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	json_auto_t *result = NULL;
	const json_t *vms;
	int status = ctl_fetch(ctl, "vm.list", NULL, &result);

	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	vms = json_object_get(result, "vms");
	if (json_array_size(vms) == 0) {
		output_note("No VM is running");
		return EXIT_OK;
	}
	return ctl_printed(table_print(columns, vms));
}

const struct verb verb_list = {
	.name = "list",
	.synopsis = "",
	.summary = "List your VMs; all of them for an admin",
	.details =
		"A VM that is 'paused' waits warm in the pool for a run: its CPU is stopped, and "
		"it has no UID, because it is nobody's yet.",
	.usage_status = EXIT_USAGE,
	.handler = list,
};
