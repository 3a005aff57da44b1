/* SPDX-License-Identifier: Apache-2.0 */
/* `events.*`: subscriptions of one connection. */
#include "daemon/method/methods.h"

struct rpc_reply method_events_subscribe(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	json_t *result = NULL;
	struct rpc_error *error = events_subscribe(
		rpc_server_events(daemon->server), rpc_call_conn(call),
		json_object_get(params, "types"), json_object_get(params, "since_seq"), &result);

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, result);
}

struct rpc_reply method_events_unsubscribe(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error =
		events_unsubscribe(rpc_server_events(daemon->server), rpc_call_conn(call),
				   json_string_value(json_object_get(params, "subscription")));

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, json_object());
}
