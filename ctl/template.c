/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl template list, info, build, remove: what VMs are cloned from. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/table.h"

#include <stdio.h>

static const struct column columns[] = {
	{"NAME", "name", CELL_TEXT},
	{"STATE", "state", CELL_TEXT},
	{"STORED", "stored", CELL_TEXT},
	{"CLONES", "clones", CELL_NUMBER},
	{"LOAD", "load_ms", CELL_MILLIS},
	{"BUILD", "build_ms", CELL_MILLIS},
	{"USED", "used_at", CELL_TEXT},
	{"ERROR", "error", CELL_TEXT},
	{.title = NULL},
};

static int list(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	json_auto_t *result = NULL;
	json_t *templates, *at;
	size_t i;
	int status = ctl_fetch(ctl, "template.list", NULL, &result);

	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	templates = json_object_get(result, "templates");
	if (json_array_size(templates) == 0) {
		output_note("There is no template: every VM boots");
		return EXIT_OK;
	}
	/* A table has no inner objects. */
	json_array_foreach (templates, i, at)
		json_object_set(at, "build_ms",
				json_object_get(json_object_get(at, "build"), "total_ms"));
	return ctl_printed(table_print(columns, templates));
}

const struct verb verb_template_list = {
	.name = "template list",
	.synopsis = "",
	.summary = "List the templates that VMs are cloned from",
	.details = "A template that is 'absent' is made, or loaded from disk when it is stored "
		   "there, as soon as a run wants it.",
	.usage_status = EXIT_USAGE,
	.handler = list,
};

static int info(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	int status = ctl_fetch(ctl, "template.info",
			       json_pack("{s:s}", "name", arguments->operands[0]), &result);

	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	members_print(result);
	return EXIT_OK;
}

const struct verb verb_template_info = {
	.name = "template info",
	.synopsis = "NAME",
	.summary = "Show one template: state, hashes, times, why it failed",
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = info,
};

static void print_built(const json_t *built)
{
	const json_t *times = json_object_get(built, "build");
	char total[CELL_SIZE], boot[CELL_SIZE], rehearsal[CELL_SIZE];

	printf("%s: %s after %s (boot %s, rehearsal %s)\n",
	       json_string_value(json_object_get(built, "name")) ?: "?",
	       json_string_value(json_object_get(built, "state")) ?: "?",
	       cell_format(CELL_MILLIS, json_object_get(times, "total_ms"), total),
	       cell_format(CELL_MILLIS, json_object_get(times, "boot_ms"), boot),
	       cell_format(CELL_MILLIS, json_object_get(times, "rehearsal_ms"), rehearsal));
}

/* How long it takes depends on what else is being built: it waits without a deadline. */
static int build(struct ctl *ctl, const struct arguments *arguments)
{
	json_t *params = json_pack("{s:s}", "language", arguments->operands[0]);
	struct call_result call;
	double memory_mb;
	int status;

	if (arguments->operands[1]) {
		if (parse_number(arguments->operands[1], &memory_mb) < 0 ||
		    memory_mb != (double)(json_int_t)memory_mb) {
			output_error("template build: '%s' is not a whole number of MiB",
				     arguments->operands[1]);
			output_hint("execsandboxctl help template build");
			json_decref(params);
			return EXIT_USAGE;
		}
		json_object_set_new(params, "memory_mb", json_integer((json_int_t)memory_mb));
	}
	call = ctl_call(ctl, "template.build", params, 0);
	status = ctl_report(ctl, &call);
	if (call.outcome == CALL_RESULT && ctl->is_json)
		status = ctl_printed(output_json(call.value, false));
	else if (call.outcome == CALL_RESULT)
		print_built(call.value);
	json_decref(call.value);
	return status;
}

const struct verb verb_template_build = {
	.name = "template build",
	.synopsis = "LANGUAGE [MB]",
	.summary = "Make a template anew and wait until it is ready (admin)",
	.details = "MB is the memory of its VMs, rounded up to a size class; the daemon's default "
		   "without it. Runs go on using the present one until the new one is ready. "
		   "Ctrl-C ends the waiting, not the building.",
	.operands_min = 1,
	.operands_max = 2,
	.usage_status = EXIT_USAGE,
	.handler = build,
};

static int template_remove(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	int status = ctl_fetch(ctl, "template.remove",
			       json_pack("{s:s}", "name", arguments->operands[0]), &result);

	if (status == EXIT_OK && ctl->is_json)
		return ctl_printed(output_json(result, false));
	if (status == EXIT_OK)
		output_note("%s is removed", arguments->operands[0]);
	return status;
}

const struct verb verb_template_remove = {
	.name = "template remove",
	.synopsis = "NAME",
	.summary = "Forget a template and delete it from disk (admin)",
	.details = "VMs that were cloned from it go on. One of the default size is made again when "
		   "it is next wanted, which is at once where the pool keeps warm VMs.",
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = template_remove,
};
