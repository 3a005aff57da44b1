/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl status: what the daemon is and whether it can run code. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/table.h"

#include <stdio.h>
#include <string.h>

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

/* One member of `info` per line, nested ones behind their parent's name. */
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
	print_members("", info);
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
