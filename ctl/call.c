/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl call: any method with any parameters. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/params.h"

#include "protocol/method.h"

/* Notifications that belong to the call (run.output, …) are data too: a line each. */
static void on_notification(void *user UNUSED, const char *method, const json_t *params)
{
	json_auto_t *line = json_pack("{s:s, s:O*}", "method", method, "params", params);

	output_json(line, true);
}

static int call(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *params = json_object();
	struct call_result result;
	char why[PARAMS_WHY_SIZE];
	int status;

	for (size_t i = 1; i < arguments->operand_count; i++) {
		if (params_add(params, arguments->operands[i], why) == 0)
			continue;
		output_error("call: %s", why);
		output_hint("execsandboxctl help %s",
			    method_find(arguments->operands[0]) ? arguments->operands[0] : "call");
		return EXIT_USAGE;
	}
	ctl->on_notification = on_notification;
	result = ctl_call(ctl, arguments->operands[0], TAKE_PTR(params), 0);
	status = ctl_report(ctl, &result);
	if (result.outcome == CALL_RESULT)
		status = ctl_printed(output_json(result.value, false));
	json_decref(result.value);
	return status;
}

const struct verb verb_call = {
	.name = "call",
	.synopsis = "METHOD [KEY=TEXT | KEY:=JSON]...",
	.summary = "Call any method of the API and print its result",
	.details =
		"KEY=TEXT passes a string, KEY:=JSON any JSON value; a dotted key such as "
		"limits.memory_mb:=128 makes an object. Notifications that come before the result "
		"are printed as one line each. 'help METHOD' shows a method's parameters.",
	.operands_min = 1,
	.operands_max = 128,
	.usage_status = EXIT_USAGE,
	.handler = call,
};
