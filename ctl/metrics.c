/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl metrics: the daemon's numbers, as Prometheus reads them. */
#include "ctl/ctl.h"
#include "ctl/output.h"

#include <string.h>

static int metrics(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	json_auto_t *result = NULL;
	const char *text;
	int status = ctl_fetch(ctl, "metrics", NULL, &result);

	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	text = json_string_value(json_object_get(result, "text")) ?: "";
	return ctl_printed(output_bytes(STDOUT_FILENO, text, strlen(text)));
}

const struct verb verb_metrics = {
	.name = "metrics",
	.synopsis = "",
	.summary = "Print the daemon's numbers in Prometheus' text format (admin)",
	.details = "For the textfile collector of Prometheus' node exporter, to a file that is "
		   "renamed into its directory: 'execsandboxctl metrics > execsandbox.tmp && mv "
		   "execsandbox.tmp execsandbox.prom'.",
	.usage_status = EXIT_USAGE,
	.handler = metrics,
};
