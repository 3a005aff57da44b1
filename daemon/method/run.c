/* SPDX-License-Identifier: Apache-2.0 */
/* `run`: admits new work and hands it to the session layer. */
#include "daemon/method/methods.h"

struct rpc_reply method_run(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error;

	if (daemon->is_draining) {
		error = rpc_error_new(RPC_DRAINING, "The daemon is stopping and takes no new work");
		return rpc_reply_error(call, rpc_error_hint(error, "try again after its restart"));
	}
	error = daemon_require_images(daemon);
	if (error)
		return rpc_reply_error(call, error);
	return run_start(&daemon->run_env, call, params);
}
