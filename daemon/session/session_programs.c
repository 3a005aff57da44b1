/* SPDX-License-Identifier: Apache-2.0 */
/* What a session's VM works at: its programs, one after the other, and when it rests. */
#include "daemon/session/attach.h"
#include "daemon/session/exec_recall.h"
#include "daemon/session/session_internal.h"
#include "daemon/session/session_record.h"

void session_settle(struct session *session)
{
	struct loop *loop = session_loop(session);
	struct pool *pool = session->sessions->config.pool;
	bool is_working = session->work_count > 0;

	if (session->state != SESSION_IDLE && session->state != SESSION_BUSY)
		return;
	if (is_working || processes_living(&session->processes) > 0)
		pool_work(pool, session->vm);
	else
		pool_rest(pool, session->vm);
	if (is_working || processes_are_used(&session->processes))
		loop_timer_stop(loop, &session->idle_timer);
	else
		loop_timer_start(loop, &session->idle_timer, session->idle_timeout_seconds);
}

static void rest(struct session *session)
{
	session->idle_ns = realtime_ns();
	session_settle(session);
}

bool session_work_begin(struct session *session)
{
	session->work_count++;
	session_settle(session);
	if (vm_get_state(session->vm) == VM_RUNNING)
		return true;
	/* It is dying, or could not go on: on_lost() is on its way. */
	session->work_count--;
	return false;
}

void session_work_end(struct session *session)
{
	if (--session->work_count == 0)
		rest(session);
}

/* An interpreter waits for the next program: it costs memory, and saves that program its start. */
static void prepare(const struct session *session)
{
	struct msg msg = {.type = FRAME_PREPARE,
			  .prepare = {.id = session->last_number, .language = "shell", .count = 1}};

	/* Without it the next program starts as the first did. */
	(void)agent_link_send(vm_link(session->vm), &msg);
}

static void begin(struct session *session, struct session_program *program)
{
	uint32_t number;

	if (!session_work_begin(session))
		return;

	session_set_state(session, SESSION_BUSY);
	attach_program_begin(&session->processes, program->exec, ++session->exec_count);
	number = session_next_number(session);
	session_save(session);
	exec_begin(program->exec, session->vm, number, session->wish.start, now_us());
}

void session_go_on_with(struct session *session, struct session_program *program)
{
	(void)session_work_begin(session);
	session_set_state(session, SESSION_BUSY);
	attach_program_begin(&session->processes, program->exec, session->exec_count);
}

void session_begin_first(struct session *session)
{
	struct session_program *first = TAILQ_FIRST(&session->programs);

	if (first)
		begin(session, first);
	else
		rest(session);
}

void session_open(struct session *session)
{
	session_set_state(session, SESSION_IDLE);
	session_begin_first(session);
}

static enum session_reason reason_of_end(const struct session *session, enum exec_end end)
{
	switch (end) {
	case EXEC_BROKEN:
		return REASON_GUEST_PROTOCOL;
	case EXEC_LOST:
		return session->lost_reason;
	case EXEC_STOPPED:
		return REASON_DAEMON_STOPPED;
	case EXEC_UNREPORTED:
	case EXEC_REPORTED:
	case EXEC_NOT_BEGUN:
		break;
	}
	return REASON_UNRESPONSIVE;
}

static void on_program_done(void *user, struct exec *exec, enum exec_end end)
{
	struct session_program *program = user;
	struct session *session = program->session;
	bool was_command = !program->is_resident;
	struct session_program *next;

	attach_program_end(&session->processes, exec);
	TAILQ_REMOVE(&session->programs, program, link);
	session->program_count--;
	free(program);
	if (session->state == SESSION_CLOSED || end == EXEC_NOT_BEGUN)
		return;
	if (end != EXEC_REPORTED) {
		session_close(session, reason_of_end(session, end));
		return;
	}
	/* What was done is likely to be done again. */
	if (was_command && TAILQ_EMPTY(&session->programs))
		prepare(session);
	session_set_state(session, SESSION_IDLE);
	next = TAILQ_FIRST(&session->programs);
	if (next)
		begin(session, next);
	session_work_end(session);
}

static const struct exec_ops program_ops = {.on_done = on_program_done};

size_t session_waiting(const struct session *session)
{
	return session->program_count - (session->state == SESSION_BUSY ? 1 : 0);
}

static struct rpc_error *busy(const struct session *session)
{
	struct rpc_error *error = rpc_error_new(RPC_SESSION_BUSY, "%zu programs wait in session %s",
						session_waiting(session), session->id);

	rpc_error_set(error, "session", json_string(session->id));
	return rpc_error_hint(error, "wait for some of them to end");
}

static struct session_program *program_new(struct session *session,
					   const struct run_request *request)
{
	struct session_program *program = calloc(1, sizeof(*program));

	if (!program)
		return NULL;
	program->session = session;
	program->is_resident = request->is_resident;
	return program;
}

static struct exec_config program_config(struct session_program *program)
{
	return (struct exec_config){.env = program->session->sessions->config.exec,
				    .is_shared = true,
				    .session = program->session->id,
				    .ops = &program_ops,
				    .user = program};
}

struct rpc_error *session_recall_program(struct session *session, struct run_request *request_take,
					 struct result_record *record, const json_t *saved,
					 int vms_fd)
{
	struct session_program *program = program_new(session, request_take);
	struct exec_config config;

	if (!program) {
		run_request_fini(request_take);
		return rpc_error_no_memory();
	}
	config = program_config(program);
	program->exec = exec_recall(&config, request_take, record, saved, vms_fd);
	if (!program->exec) {
		free(program);
		return exec_recall_error();
	}
	TAILQ_INSERT_HEAD(&session->programs, program, link);
	session->program_count++;
	return NULL;
}

/* Takes the request. NULL with the error. */
static struct session_program *add_program(struct session *session, struct rpc_call *call,
					   const json_t *params, struct run_request *request_take,
					   struct rpc_error **ret_error)
{
	struct session_program *program = program_new(session, request_take);
	struct exec_config config;

	if (!program) {
		run_request_fini(request_take);
		*ret_error = rpc_error_no_memory();
		return NULL;
	}
	config = program_config(program);
	program->exec = exec_create(&config, call, params, request_take, ret_error);
	if (!program->exec) {
		free(program);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&session->programs, program, link);
	session->program_count++;
	return program;
}

struct rpc_reply session_exec(struct session *session, struct rpc_call *call, const json_t *params)
{
	const struct exec_env *env = session->sessions->config.exec;
	struct session_program *program = NULL;
	struct rpc_error *error = NULL;
	struct run_request request;
	struct rpc_reply reply;

	if (json_is_true(json_object_get(params, "background")))
		return session_exec_background(session, call, params);
	if (session_waiting(session) >= SESSION_EXECS_MAX)
		error = busy(session);
	else
		error = exec_request_parse(params, env->config, &session->request, &request);
	if (!error)
		program = add_program(session, call, params, &request, &error);
	if (!program)
		return rpc_reply_error(call, exec_refused(env, error));
	reply = exec_reply_pending(program->exec);
	if (session->state == SESSION_IDLE)
		begin(session, program);
	return reply;
}
