/* SPDX-License-Identifier: Apache-2.0 */
/* `run`: admits new work and hands it to the session layer. */
#include "daemon/method/methods.h"

struct rpc_reply method_run(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error;
	struct rpc_reply reply;

	if (results_join(daemon->results, call, params, &reply))
		return reply;
	error = method_require_accepting(daemon);
	if (!error)
		error = daemon_require_images(daemon);
	if (error)
		return rpc_reply_error(call, error);
	return run_start(&daemon->run_env, call, params);
}
