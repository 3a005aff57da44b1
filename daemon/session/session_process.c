/* SPDX-License-Identifier: Apache-2.0 */
/* A session and its background processes: what the one asks of the other. */
#include "daemon/session/session_internal.h"
#include "daemon/session/session_record.h"

static void on_change(void *user)
{
	session_settle(user);
}

static void on_save(void *user)
{
	session_save(user);
}

static void on_unresponsive(void *user)
{
	session_close(user, REASON_UNRESPONSIVE);
}

/* Outputs of all of a user's processes have as much memory together as results have. */
static size_t room(void *user)
{
	const struct session *session = user, *other;
	size_t used = 0, max = (size_t)session->sessions->config.exec->config->result_bytes_per_uid;

	TAILQ_FOREACH(other, &session->sessions->open, link)
	if (other->uid == session->uid)
		used += processes_bytes(&other->processes);
	return max - MIN(used, max);
}

void session_init_processes(struct session *session)
{
	const struct processes_config config = {.env = session->sessions->config.exec,
						.session = session->id,
						.node = session->sessions->config.node,
						.on_change = on_change,
						.on_save = on_save,
						.on_unresponsive = on_unresponsive,
						.room = room,
						.user = session};

	processes_init(&session->processes, &config);
}

static struct rpc_error *no_vm(const struct session *session)
{
	struct rpc_error *error =
		rpc_error_new(RPC_SESSION_BUSY, "Session %s waits for its VM", session->id);

	return rpc_error_set(error, "session", json_string(session->id));
}

/* It works from now on. NULL, or why it does not. */
static struct rpc_error *begin_work(struct session *session)
{
	if (!session->vm)
		return no_vm(session);
	return session_work_begin(session)
		       ? NULL
		       : session_closed_error(session->id, session->lost_reason);
}

/* Its text and the beginning of its input, which wait until the guest takes them. */
static struct rpc_error *hold(struct session *session, struct rpc_call *call,
			      const struct run_request *request)
{
	size_t bytes = request->code_len + request->input_len;

	if (bytes <= room(session) && rpc_call_hold(call, bytes))
		return NULL;
	return rpc_error_hint(rpc_error_new(RPC_QUOTA_EXCEEDED,
					    "Input and output of your processes fill the buffers"),
			      "wait for some of them to end");
}

struct rpc_reply session_exec_background(struct session *session, struct rpc_call *call,
					 const json_t *params)
{
	const struct exec_env *env = session->sessions->config.exec;
	struct rpc_error *error = processes_check_room(&session->processes);
	struct run_request request;
	struct rpc_reply reply;

	if (!error)
		error = exec_request_parse(params, env->config, &session->request, &request);
	if (error)
		return rpc_reply_error(call, error);
	error = hold(session, call, &request);
	if (!error)
		error = begin_work(session);
	if (error) {
		run_request_fini(&request);
		return rpc_reply_error(call, error);
	}
	reply = processes_start(&session->processes, call, &request, session->vm,
				session_next_number(session));
	session->sessions->counters.processes_started++;
	session_work_end(session);
	return reply;
}

struct processes *session_processes(struct session *session)
{
	session_settle(session);
	return &session->processes;
}
