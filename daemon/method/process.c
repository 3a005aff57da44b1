/* SPDX-License-Identifier: Apache-2.0 */
/* `process.*` and session.attach: background processes of sessions, and their output. */
#include "daemon/session/process.h"

#include "daemon/method/methods.h"
#include "daemon/session/attach.h"
#include "daemon/session/session.h"

/* The processes of the caller's session. NULL with the error. */
static struct processes *find_all(struct rpc_call *call, const json_t *params,
				  struct rpc_error **ret_error)
{
	struct session *session = method_find_session(call, params, ret_error);

	return session ? session_processes(session) : NULL;
}

static struct process *find(struct rpc_call *call, const json_t *params,
			    struct rpc_error **ret_error)
{
	struct processes *processes = find_all(call, params, ret_error);

	return processes ? processes_find(processes, params, ret_error) : NULL;
}

struct rpc_reply method_session_attach(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct processes *processes = find_all(call, params, &error);

	return processes ? attach_start(processes, call, params) : rpc_reply_error(call, error);
}

struct rpc_reply method_process_list(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	const struct processes *processes = find_all(call, params, &error);

	return processes ? rpc_reply_result(call, processes_list(processes))
			 : rpc_reply_error(call, error);
}

struct rpc_reply method_process_signal(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct process *process = find(call, params, &error);

	return process ? process_signal(process, call, params) : rpc_reply_error(call, error);
}

struct rpc_reply method_process_write(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct process *process = find(call, params, &error);

	return process ? process_write(process, call, params) : rpc_reply_error(call, error);
}

struct rpc_reply method_process_close_stdin(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct process *process = find(call, params, &error);

	return process ? process_close_stdin(process, call) : rpc_reply_error(call, error);
}

struct rpc_reply method_process_wait(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct process *process = find(call, params, &error);

	return process ? process_wait(process, call, params) : rpc_reply_error(call, error);
}

struct rpc_reply method_process_resize(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct process *process = find(call, params, &error);

	return process ? process_resize(process, call, params) : rpc_reply_error(call, error);
}
