/* SPDX-License-Identifier: Apache-2.0 */
/* What all programs of a session have in common, for its record. */
#include "daemon/session/request_record.h"

#include "base/util.h"

#include <stdio.h>

/* More than any record can hold, and far from the end of the numbers. */
#define BOUND_NONE (1ull << 40)

static const struct {
	const char *name;
	size_t offset;
} numbers[] = {
	{"memory_mb", offsetof(struct run_request, memory_mb)},
	{"vm_memory_mb", offsetof(struct run_request, vm_memory_mb)},
	{"stdout_limit", offsetof(struct run_request, stdout_limit)},
	{"stderr_limit", offsetof(struct run_request, stderr_limit)},
	{"pids", offsetof(struct run_request, pids)},
	{"cpu_seconds", offsetof(struct run_request, cpu_seconds)},
	{"disk_mb", offsetof(struct run_request, disk_mb)},
};

json_t *request_record(const struct run_request *request)
{
	json_t *record = json_pack("{s:s, s:f, s:b, s:O*}", "language", request->language,
				   "timeout_seconds", request->timeout_seconds, "stop_at_limit",
				   request->stop_at_limit, "env", request->env);

	for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
		const uint64_t *number = (const void *)((const char *)request + numbers[i].offset);

		if (json_object_set_new(record, numbers[i].name,
					json_integer((json_int_t)*number)) < 0) {
			json_decref(record);
			return NULL;
		}
	}
	return record;
}

static bool recall_numbers(const json_t *record, struct run_request *ret)
{
	for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
		const json_t *value = json_object_get(record, numbers[i].name);

		if (!json_is_integer(value) || json_integer_value(value) < 0)
			return false;
		*(uint64_t *)(void *)((char *)ret + numbers[i].offset) =
			(uint64_t)json_integer_value(value);
	}
	return true;
}

/* Names to texts, as EXEC sends them. */
static bool is_environment(const json_t *env)
{
	const char *name;
	const json_t *value;

	json_object_foreach ((json_t *)env, name, value)
		if (!json_is_string(value))
			return false;
	return !env || json_is_object(env);
}

bool request_settle(const json_t *record, struct run_request *request)
{
	double timeout = json_number_value(json_object_get(record, "timeout_seconds"));

	if (!(timeout > 0) || !recall_numbers(record, request))
		return false;
	request->timeout_seconds = timeout;
	return true;
}

void request_lift_bounds(const struct config *config, struct config *ret)
{
	*ret = *config;
	ret->max_timeout_seconds = 1e9;
	ret->code_max_bytes = ret->stdin_max_bytes = ret->file_max_bytes = BOUND_NONE;
	ret->stdout_max_bytes = ret->stderr_max_bytes = BOUND_NONE;
	ret->env_max = ret->args_max = INT32_MAX;
	ret->min_memory_mb = 1;
}

bool request_recall(const json_t *record, struct run_request *ret)
{
	const char *language = json_string_value(json_object_get(record, "language"));
	json_t *env = json_object_get(record, "env");

	*ret = (struct run_request){.stop_at_limit = false};
	if (!language || !is_environment(env) || !recall_numbers(record, ret) ||
	    (size_t)snprintf(ret->language, sizeof(ret->language), "%s", language) >=
		    sizeof(ret->language))
		return false;
	ret->stop_at_limit = json_is_true(json_object_get(record, "stop_at_limit"));
	ret->env = json_incref(env);
	return true;
}
