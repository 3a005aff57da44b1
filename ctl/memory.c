/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl memory stats, memory balloon: the memory of host and VMs. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/table.h"

#include <stdio.h>

static const struct column host_columns[] = {
	{"HOST TOTAL", "total_bytes", CELL_BYTES},
	{"AVAILABLE", "available_bytes", CELL_BYTES},
	{"PSI SOME %", "psi_some_avg10", CELL_NUMBER},
	{"PSI FULL %", "psi_full_avg10", CELL_NUMBER},
	{"STATE", "state", CELL_TEXT},
	{.title = NULL},
};

static const struct column vm_columns[] = {
	{"VM", "vm", CELL_TEXT},
	{"RSS", "rss_bytes", CELL_BYTES},
	{"GUEST TOTAL", "guest_total_bytes", CELL_BYTES},
	{"AVAILABLE", "guest_available_bytes", CELL_BYTES},
	{"BALLOON", "balloon_actual_bytes", CELL_BYTES},
	{"TARGET", "balloon_target_bytes", CELL_BYTES},
	{"ZRAM DATA", "zram_orig_bytes", CELL_BYTES},
	{"ZRAM USED", "zram_used_bytes", CELL_BYTES},
	{"AGE", "age_ms", CELL_MILLIS},
	{.title = NULL},
};

static int stats(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL, *hosts = NULL;
	json_t *params = json_pack("{s:s*}", "vm", arguments->operands[0]);
	int status = ctl_fetch(ctl, "memory.stats", params, &result);
	int r;

	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	hosts = json_pack("[O]", json_object_get(result, "host"));
	r = table_print(host_columns, hosts);
	if (r == 0 && json_array_size(json_object_get(result, "vms")) > 0) {
		fputc('\n', stdout);
		r = table_print(vm_columns, json_object_get(result, "vms"));
	}
	return ctl_printed(r);
}

const struct verb verb_memory_stats = {
	.name = "memory stats",
	.synopsis = "[VM]",
	.summary = "Show the memory of the host and of your VMs",
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = stats,
};

static int balloon(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	char target[BYTES_TEXT_SIZE], actual[BYTES_TEXT_SIZE];
	double target_mb;
	int status;

	if (parse_number(arguments->operands[1], &target_mb) < 0 ||
	    target_mb != (double)(json_int_t)target_mb) {
		output_error("memory balloon: '%s' is not a whole number of MiB",
			     arguments->operands[1]);
		output_hint("execsandboxctl help memory balloon");
		return EXIT_USAGE;
	}
	status = ctl_fetch(ctl, "memory.balloon",
			   json_pack("{s:s, s:I}", "vm", arguments->operands[0], "target_mb",
				     (json_int_t)target_mb),
			   &result);
	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	printf("%s: %s of %s asked for\n", arguments->operands[0],
	       format_bytes(json_number_value(json_object_get(result, "actual_bytes")), actual),
	       format_bytes(json_number_value(json_object_get(result, "target_bytes")), target));
	return EXIT_OK;
}

const struct verb verb_memory_balloon = {
	.name = "memory balloon",
	.synopsis = "VM MB",
	.summary = "Set what memory a VM keeps; its balloon takes the rest (admin)",
	.details = "Waits for the guest to follow and prints the memory it then had.",
	.operands_min = 2,
	.operands_max = 2,
	.usage_status = EXIT_USAGE,
	.handler = balloon,
};
