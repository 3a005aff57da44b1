/* SPDX-License-Identifier: Apache-2.0 */
/* `daemon.*`: what SIGTERM and SIGHUP do, for those who want an answer. */
#include "daemon/method/methods.h"

/* Again while it drains: the answer is the same, and nothing is begun anew. */
struct rpc_reply method_daemon_drain(struct rpc_call *call, const json_t *params UNUSED)
{
	struct daemon *daemon = rpc_call_context(call);

	daemon_drain(daemon);
	return rpc_reply_result(
		call, json_pack("{s:I}", "vms", (json_int_t)pool_admission(daemon->pool)->vms));
}

struct rpc_reply method_daemon_reload(struct rpc_call *call, const json_t *params UNUSED)
{
	json_t *result = NULL;
	struct rpc_error *error = daemon_reload(rpc_call_context(call), &result);

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, result);
}
