/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl memory policy: how the daemon takes and gives memory. */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/params.h"
#include "ctl/table.h"

#include "protocol/method.h"

#include <string.h>

#define POLICY_METHOD "memory.policy"

static const struct param *find_param(const char *name)
{
	const struct param *param = method_find(POLICY_METHOD)->params;

	while (param->name && strcmp(param->name, name) != 0)
		param++;
	return param->name ? param : NULL;
}

/* The method table knows which are numbers; the daemon judges names and values. */
static void type_params(json_t *params)
{
	const char *key;
	json_t *value;
	json_int_t number;

	json_object_foreach (params, key, value) {
		const struct param *param = find_param(key);

		if (!param || param->type != PARAM_INTEGER ||
		    parse_integer(json_string_value(value) ?: "", &number) < 0)
			continue;
		json_object_set_new(params, key, json_integer(number));
	}
}

static int make_params(const struct arguments *arguments, json_t *params)
{
	char why[PARAMS_WHY_SIZE];

	for (size_t i = 0; i < arguments->operand_count; i++) {
		if (params_add(params, arguments->operands[i], why) == 0)
			continue;
		output_error("memory policy: %s", why);
		output_hint("execsandboxctl help " POLICY_METHOD);
		return EXIT_USAGE;
	}
	type_params(params);
	return EXIT_OK;
}

static int policy(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *params = json_object(), *result = NULL;
	int status = make_params(arguments, params);

	if (status == EXIT_OK)
		status = ctl_fetch(ctl, POLICY_METHOD, json_incref(params), &result);
	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	members_print(result);
	return EXIT_OK;
}

const struct verb verb_memory_policy = {
	.name = "memory policy",
	.synopsis = "[KEY=VALUE...]",
	.summary = "Show how memory is taken and given, or change it (admin)",
	.details =
		"Without operands nothing changes. Keys are mode (auto, off), budget_mb, "
		"reserve_mb, floor_mb, run_mb and inflating_max; 'help memory.policy' tells what "
		"they mean. They hold until the daemon ends; execsandboxd.conf(5) has what it "
		"starts with.\n\n"
		"The rest of what is shown is how things stand: the level of pressure and its "
		"state, the memory that is needed and that new runs may take, and whether new "
		"VMs start.",
	.operands_max = 16,
	.usage_status = EXIT_USAGE,
	.handler = policy,
};
