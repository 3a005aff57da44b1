/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl memory stats, balloon, reclaim: the memory of host and VMs. */
#include "ctl/ctl.h"
#include "ctl/memory_host.h"
#include "ctl/output.h"
#include "ctl/table.h"

#include <stdio.h>

static const struct column vm_columns[] = {
	{"VM", "vm", CELL_TEXT},
	{"STATE", "shown_state", CELL_TEXT},
	{"SIZE", "size_bytes", CELL_BYTES},
	{"RSS", "rss_bytes", CELL_BYTES},
	{"PSS", "pss_bytes", CELL_BYTES},
	{"GUEST HAS", "guest_total_bytes", CELL_BYTES},
	{"AVAILABLE", "guest_available_bytes", CELL_BYTES},
	{"BALLOON", "balloon_actual_bytes", CELL_BYTES},
	{"TARGET", "balloon_target_bytes", CELL_BYTES},
	{"PINNED", "is_pinned", CELL_TEXT},
	{"ZRAM DATA", "zram_orig_bytes", CELL_BYTES},
	{"ZRAM USED", "zram_used_bytes", CELL_BYTES},
	{"AGE", "age_ms", CELL_MILLIS},
	{.title = NULL},
};

static int print_stats(const json_t *result)
{
	json_t *vms = json_object_get(result, "vms"), *vm;
	int r = memory_host_print(result);
	size_t i;

	if (r < 0 || json_array_size(vms) == 0)
		return r;
	/* What memory control takes it for; one that is not up yet has only its own state. */
	json_array_foreach (vms, i, vm) {
		json_t *state = json_object_get(vm, "policy_state");

		json_object_set(vm, "shown_state",
				json_is_string(state) ? state : json_object_get(vm, "state"));
	}
	fputc('\n', stdout);
	return table_print(vm_columns, vms);
}

static int stats(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	json_t *params = json_pack("{s:s*}", "vm", arguments->operands[0]);
	int status = ctl_fetch(ctl, "memory.stats", params, &result);

	if (status != EXIT_OK)
		return status;
	return ctl_printed(ctl->is_json ? output_json(result, false) : print_stats(result));
}

const struct verb verb_memory_stats = {
	.name = "memory stats",
	.synopsis = "[VM]",
	.summary = "Show the memory of the host and of your VMs",
	.details = "RSS and PSS are what the host gives a VM's QEMU, BALLOON is what the balloon "
		   "leaves the guest and TARGET what it is to leave; PINNED is a target that was "
		   "set by hand. The rest is the guest's word, AGE how old it is.",
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = stats,
};

static int balloon(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	char target[BYTES_TEXT_SIZE], actual[BYTES_TEXT_SIZE];
	json_int_t target_mb;
	int status;

	if (parse_integer(arguments->operands[1], &target_mb) < 0) {
		output_error("memory balloon: '%s' is not a whole number of MiB",
			     arguments->operands[1]);
		output_hint("execsandboxctl help memory balloon");
		return EXIT_USAGE;
	}
	status = ctl_fetch(
		ctl, "memory.balloon",
		json_pack("{s:s, s:I}", "vm", arguments->operands[0], "target_mb", target_mb),
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

enum { RECLAIM_VM };

static const struct verb_option reclaim_options[] = {
	[RECLAIM_VM] = {"vm", 0, OPTION_TEXT, "VM", 0, 0, "Take it of this VM alone"},
	{.name = NULL},
};

static const struct column reclaimed_columns[] = {
	{"VM", "vm", CELL_TEXT},
	{"BALLOON", "actual_bytes", CELL_BYTES},
	{"TARGET", "target_bytes", CELL_BYTES},
	{.title = NULL},
};

static int print_reclaimed(const json_t *result)
{
	const json_t *vms = json_object_get(result, "vms");
	char got[BYTES_TEXT_SIZE], asked[BYTES_TEXT_SIZE];

	printf("%s of %s asked for\n",
	       format_bytes(json_number_value(json_object_get(result, "reclaimed_bytes")), got),
	       format_bytes(json_number_value(json_object_get(result, "requested_bytes")), asked));
	return json_array_size(vms) > 0 ? table_print(reclaimed_columns, vms) : 0;
}

static int reclaim(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	double bytes;
	int status;

	if (parse_size(arguments->operands[0], &bytes) < 0) {
		output_error("memory reclaim: '%s' is not a size such as 512M",
			     arguments->operands[0]);
		output_hint("execsandboxctl help memory reclaim");
		return EXIT_USAGE;
	}
	status = ctl_fetch(ctl, "memory.reclaim",
			   json_pack("{s:I, s:s*}", "bytes", (json_int_t)bytes, "vm",
				     arguments->options[RECLAIM_VM].text),
			   &result);
	if (status != EXIT_OK)
		return status;
	return ctl_printed(ctl->is_json ? output_json(result, false) : print_reclaimed(result));
}

const struct verb verb_memory_reclaim = {
	.name = "memory reclaim",
	.synopsis = "SIZE",
	.summary = "Take memory of one VM, or of all in the policy's order (admin)",
	.details =
		"SIZE is in bytes, or in 1024s of them behind K, M, G or T: 512M. Waits until the "
		"guests have given it, 10 s at most, and prints what came of it. The policy gives "
		"it back when it sees fit; 'memory balloon' sets what holds.",
	.options = reclaim_options,
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = reclaim,
};
