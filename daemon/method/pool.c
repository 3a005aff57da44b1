/* SPDX-License-Identifier: Apache-2.0 */
/* `pool.*`: how many warm VMs wait for runs of each language. */
#include "daemon/method/methods.h"

#include "protocol/method.h"

#include <errno.h>

/* Without templates there are no warm VMs, and none are wanted. */
static json_t *describe(const struct daemon *daemon, const char *language)
{
	struct pool_status status = {0};

	(void)pool_get(daemon->pool, language, &status);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "language", language, "memory_mb",
			 (json_int_t)daemon->config->default_memory_mb, "warm",
			 (json_int_t)status.warm, "rehearsed", (json_int_t)status.hot, "starting",
			 (json_int_t)status.starting, "target", (json_int_t)status.target);
}

struct rpc_reply method_pool_get(struct rpc_call *call, const json_t *params)
{
	const struct daemon *daemon = rpc_call_context(call);
	const char *only = json_string_value(json_object_get(params, "language"));
	json_t *pools;

	if (only)
		return rpc_reply_result(call, describe(daemon, only));
	pools = json_array();
	for (const char *const *language = method_languages; *language; language++)
		json_array_append_new(pools, describe(daemon, *language));
	return rpc_reply_result(call, json_pack("{s:o}", "pools", pools));
}

static struct rpc_error *no_templates(const char *language)
{
	return rpc_error_hint(rpc_error_new(RPC_BUILD_FAILED,
					    "No VM of %s can wait warm: there are no templates",
					    language),
			      "set templates = auto in execsandboxd.conf and restart the daemon");
}

static struct rpc_error *over_limit(const struct daemon *daemon, json_int_t size)
{
	json_int_t max = (json_int_t)pool_admission(daemon->pool)->limits.max_vms;
	struct rpc_error *error = rpc_error_new(RPC_LIMIT_INVALID, "size is %jd, outside 0 to %jd",
						(intmax_t)size, (intmax_t)max);

	rpc_error_set(error, "field", json_string("size"));
	rpc_error_set(error, "min", json_integer(0));
	rpc_error_set(error, "max", json_integer(max));
	return rpc_error_hint(error, "max_vms and the host's memory set this bound");
}

struct rpc_reply method_pool_set(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	const char *language = json_string_value(json_object_get(params, "language"));
	json_int_t size = json_integer_value(json_object_get(params, "size"));
	struct rpc_error *error = method_require_accepting(daemon);
	int r;

	if (error)
		return rpc_reply_error(call, error);
	r = pool_set(daemon->pool, language, (size_t)size);
	if (r == -ERANGE)
		return rpc_reply_error(call, over_limit(daemon, size));
	/* -ENOTSUP; -ENOENT when there was no memory for the language at start. */
	if (r < 0)
		return rpc_reply_error(call, no_templates(language));
	return rpc_reply_result(call, describe(daemon, language));
}
