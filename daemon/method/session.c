/* SPDX-License-Identifier: Apache-2.0 */
/* `session.*`: VMs that users keep. */
#include "daemon/session/session.h"

#include "daemon/method/methods.h"

struct session *method_find_session(struct rpc_call *call, const json_t *params,
				    struct rpc_error **ret_error)
{
	const struct daemon *daemon = rpc_call_context(call);

	return sessions_find(daemon->sessions, rpc_call_peer(call),
			     json_string_value(json_object_get(params, "session")), ret_error);
}

struct rpc_reply method_session_create(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error = method_require_accepting(daemon);

	if (!error)
		error = daemon_require_images(daemon);
	if (error)
		return rpc_reply_error(call, error);
	return session_create(daemon->sessions, call, params);
}

struct rpc_reply method_session_exec(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error;
	struct session *session;
	struct rpc_reply reply;

	/* Also when its session has closed since. */
	if (results_join(daemon->results, call, params, &reply))
		return reply;
	error = method_require_accepting(daemon);
	session = error ? NULL : method_find_session(call, params, &error);
	return session ? session_exec(session, call, params) : rpc_reply_error(call, error);
}

struct rpc_reply method_session_list(struct rpc_call *call, const json_t *params)
{
	const struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error = NULL;
	json_t *list = sessions_list(daemon->sessions, rpc_call_peer(call), params, &error);

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, list);
}

struct rpc_reply method_session_info(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	const struct session *session = method_find_session(call, params, &error);

	return session ? rpc_reply_result(call, session_describe(session))
		       : rpc_reply_error(call, error);
}

struct rpc_reply method_session_update(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct session *session = method_find_session(call, params, &error);

	if (session)
		error = session_update(session, params);
	return error ? rpc_reply_error(call, error)
		     : rpc_reply_result(call, session_describe(session));
}

struct rpc_reply method_session_close(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct session *session = method_find_session(call, params, &error);

	if (!session)
		return rpc_reply_error(call, error);
	session_close(session, REASON_CLOSED);
	/* It is freed behind this turn of the loop. */
	return rpc_reply_result(call, session_describe(session));
}

struct rpc_reply method_session_result(struct rpc_call *call, const json_t *params)
{
	const struct daemon *daemon = rpc_call_context(call);

	return results_get(daemon->results, call, params);
}
