/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl reload, drain: the daemon's configuration and its end. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/table.h"

static const struct column columns[] = {
	{"KEY", "key", CELL_TEXT},
	{"FROM", "from", CELL_TEXT},
	{"TO", "to", CELL_TEXT},
	{.title = NULL},
};

static int reload(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	json_auto_t *result = NULL;
	const json_t *changed;
	int status = ctl_fetch(ctl, "daemon.reload", NULL, &result);

	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	changed = json_object_get(result, "changed");
	if (json_array_size(changed) > 0)
		return ctl_printed(table_print(columns, changed));
	output_note("Nothing has changed");
	return EXIT_OK;
}

const struct verb verb_reload = {
	.name = "reload",
	.synopsis = "",
	.summary = "Have the daemon read its configuration again (admin)",
	.details = "All of it is taken over, or nothing: a mistake in a file is answered with file "
		   "and line, and a key that only a restart can change with its name. Prints what "
		   "has changed. execsandboxd.conf(5) says which keys a reload takes over.",
	.usage_status = EXIT_USAGE,
	.handler = reload,
};

static int drain(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	json_auto_t *result = NULL;
	int status = ctl_fetch(ctl, "daemon.drain", NULL, &result);

	if (status == EXIT_OK && ctl->is_json)
		return ctl_printed(output_json(result, false));
	if (status == EXIT_OK)
		output_note("The daemon takes no new work and stops when what runs has ended");
	return status;
}

const struct verb verb_drain = {
	.name = "drain",
	.synopsis = "",
	.summary = "Let what runs end, then stop the daemon (admin)",
	.details =
		"New work is refused with DRAINING; what runs may end within "
		"drain_timeout_seconds. Sessions end with the daemon. As long as systemd holds the "
		"socket the next connection starts a daemon anew: 'systemctl stop "
		"execsandboxd.socket' first keeps it stopped.",
	.usage_status = EXIT_USAGE,
	.handler = drain,
};
