/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl status: what the daemon is and whether it can run code. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/table.h"

#include <stdio.h>

/* "checks" of health: {name, ok, detail}. */
static void print_checks(const json_t *checks)
{
	const json_t *check;
	size_t i;

	json_array_foreach (checks, i, check) {
		bool is_ok = json_is_true(json_object_get(check, "ok"));
		const char *detail = json_string_value(json_object_get(check, "detail"));

		printf("  %s%-4s%s %s%s%s\n",
		       style_start(STDOUT_FILENO, is_ok ? STYLE_GOOD : STYLE_BAD),
		       is_ok ? "ok" : "fail", style_stop(STDOUT_FILENO),
		       json_string_value(json_object_get(check, "name")) ?: "?",
		       detail && *detail ? ": " : "", detail ?: "");
	}
}

static int status(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	json_auto_t *info = NULL, *health = NULL, *both = NULL;
	bool is_ready;
	int r = ctl_fetch(ctl, "info", NULL, &info);

	if (r == EXIT_OK)
		r = ctl_fetch(ctl, "health", NULL, &health);
	if (r != EXIT_OK)
		return r;
	is_ready = json_is_true(json_object_get(health, "ready"));
	if (ctl->is_json) {
		both = json_pack("{s:O, s:O}", "info", info, "health", health);
		r = ctl_printed(output_json(both, false));
		return r != EXIT_OK ? r : is_ready ? EXIT_OK : EXIT_ERROR;
	}
	printf("%s%s%s\n", style_start(STDOUT_FILENO, is_ready ? STYLE_GOOD : STYLE_BAD),
	       is_ready ? "ready" : "not ready", style_stop(STDOUT_FILENO));
	print_checks(json_object_get(health, "checks"));
	members_print(info);
	return is_ready ? EXIT_OK : EXIT_ERROR;
}

const struct verb verb_status = {
	.name = "status",
	.synopsis = "",
	.summary = "Show the daemon's versions, limits and health",
	.details = "The exit status is 1 when the daemon answers but cannot run code.",
	.usage_status = EXIT_USAGE,
	.handler = status,
};
