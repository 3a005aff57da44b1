/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl pool, pool get, pool set: warm VMs that wait for runs. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/table.h"

static const struct column columns[] = {
	{"LANGUAGE", "language", CELL_TEXT}, {"MEMORY MB", "memory_mb", CELL_NUMBER},
	{"WARM", "warm", CELL_NUMBER},       {"STARTING", "starting", CELL_NUMBER},
	{"TARGET", "target", CELL_NUMBER},   {.title = NULL},
};

/* One pool, or {pools: […]}. */
static int print(const struct ctl *ctl, const json_t *result)
{
	const json_t *pools = json_object_get(result, "pools");
	json_auto_t *one = NULL;

	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	one = pools ? NULL : json_pack("[O]", result);
	return ctl_printed(table_print(columns, pools ?: one));
}

static int get(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	int status = ctl_fetch(ctl, "pool.get",
			       json_pack("{s:s*}", "language", arguments->operands[0]), &result);

	return status == EXIT_OK ? print(ctl, result) : status;
}

const struct verb verb_pool = {
	.name = "pool",
	.synopsis = "",
	.summary = "Show the warm VMs of all languages (admin)",
	.usage_status = EXIT_USAGE,
	.handler = get,
};

const struct verb verb_pool_get = {
	.name = "pool get",
	.synopsis = "[LANGUAGE]",
	.summary = "Show the warm VMs of one language, or of all (admin)",
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = get,
};

static int set(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	double size;
	int status;

	if (parse_number(arguments->operands[1], &size) < 0 || size != (double)(json_int_t)size) {
		output_error("pool set: '%s' is not a whole number of VMs", arguments->operands[1]);
		output_hint("execsandboxctl help pool set");
		return EXIT_USAGE;
	}
	status = ctl_fetch(ctl, "pool.set",
			   json_pack("{s:s, s:I}", "language", arguments->operands[0], "size",
				     (json_int_t)size),
			   &result);
	return status == EXIT_OK ? print(ctl, result) : status;
}

const struct verb verb_pool_set = {
	.name = "pool set",
	.synopsis = "LANGUAGE SIZE",
	.summary = "Set how many VMs of a language wait warm (admin)",
	.details = "Holds until the daemon ends; pool_python, pool_javascript and pool_shell in "
		   "execsandboxd.conf(5) are what it starts with. The VMs are made in the "
		   "background: 'pool get' shows how far that is.",
	.operands_min = 2,
	.operands_max = 2,
	.usage_status = EXIT_USAGE,
	.handler = set,
};
