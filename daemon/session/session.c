/* SPDX-License-Identifier: Apache-2.0 */
/* One session: a VM that a user keeps, from session.create to its close. */
#include "daemon/session/session.h"

#include "base/log.h"
#include "daemon/session/attach.h"
#include "daemon/session/session_internal.h"
#include "daemon/session/session_record.h"
#include "protocol/moment.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {
	[SESSION_STARTING] = "starting",
	[SESSION_IDLE] = "idle",
	[SESSION_BUSY] = "busy",
	[SESSION_CLOSED] = "closed",
};
static_assert(ELEMENTSOF(state_names) == SESSION_CLOSED + 1, "every state has a name");

const char *session_state_name(enum session_state state)
{
	return state_names[state];
}

const char *const session_open_states[] = {"starting", "idle", "busy", NULL};
static_assert(ELEMENTSOF(session_open_states) == SESSION_CLOSED + 1, "every open state is there");

static const char *const reason_names[] = {
	[REASON_CLOSED] = "closed",
	[REASON_IDLE_TIMEOUT] = "idle_timeout",
	[REASON_TIMEOUT] = "timeout",
	[REASON_CONNECTION_CLOSED] = "connection_closed",
	[REASON_CANCELLED] = "cancelled",
	[REASON_NO_VM] = "no_vm",
	[REASON_VM_LOST] = "vm_lost",
	[REASON_MEMORY_PRESSURE] = "memory_pressure",
	[REASON_GUEST_PROTOCOL] = "guest_protocol",
	[REASON_UNRESPONSIVE] = "unresponsive",
	[REASON_DAEMON_STOPPED] = "daemon_stopped",
};
static_assert(ELEMENTSOF(reason_names) == SESSION_REASONS, "every reason has a name");

const char *session_reason_name(enum session_reason reason)
{
	return reason_names[reason];
}

static void free_later(void *user)
{
	session_free(user);
}

void session_free(struct session *session)
{
	struct session_program *program;

	while ((program = TAILQ_FIRST(&session->programs))) {
		TAILQ_REMOVE(&session->programs, program, link);
		exec_free(program->exec);
		free(program);
	}
	processes_fini(&session->processes);
	run_request_fini(&session->request);
	json_decref(session->metadata);
	free(session);
}

void session_set_state(struct session *session, enum session_state state)
{
	log_debug(session->id, "Session %s -> %s", state_names[session->state], state_names[state]);
	session->state = state;
}

static void publish(const struct session *session, const char *type, const char *reason)
{
	const struct sessions_config *config = &session->sessions->config;

	if (config->on_event)
		config->on_event(config->user, type, session->id, session->uid, reason);
}

/* Who recalled it waits no longer. */
static void settled(struct session *session)
{
	void (*on_settled)(void *user) = TAKE_PTR(session->on_settled);

	if (on_settled)
		on_settled(session->settled_user);
}

/* --- Its end. --- */

struct rpc_error *session_closed_error(const char *id, enum session_reason why)
{
	const char *reason = session_reason_name(why);
	struct rpc_error *error =
		rpc_error_new(RPC_SESSION_CLOSED, "Session %s is closed: %s", id, reason);

	rpc_error_set(error, "session", json_string(id));
	rpc_error_set(error, "reason", json_string(reason));
	return rpc_error_hint(error, "what was in it is gone; session.create makes another");
}

static void fail_programs(struct session *session, enum session_reason reason)
{
	struct session_program *program;

	while ((program = TAILQ_FIRST(&session->programs))) {
		struct rpc_error *error = session_closed_error(session->id, reason);
		bool has_begun = !exec_is_waiting(program->exec);

		rpc_error_set(error, "dispatched", json_boolean(has_begun));
		if (has_begun)
			rpc_error_set(error, "result", exec_partial_result(program->exec));
		exec_fail(program->exec, error);
	}
}

void session_close(struct session *session, enum session_reason reason)
{
	struct sessions *sessions = session->sessions;
	struct rpc_call *call = TAKE_PTR(session->call);
	bool had_vm = session->state != SESSION_STARTING || session->is_recalled;

	if (session->state == SESSION_CLOSED)
		return;
	log_info(session->id, "Closed: %s", session_reason_name(reason));
	/* Before anybody is told: the next daemon must not find it open again. */
	if (session->vm && !session->is_bound)
		vm_record_remove(session->vm);
	session_set_state(session, SESSION_CLOSED);
	loop_timer_stop(session_loop(session), &session->idle_timer);
	loop_timer_stop(session_loop(session), &session->timeout_timer);
	rpc_conn_watch_stop(&session->conn_watch);
	strays_stop(&session->strays);
	fail_programs(session, reason);
	session_files_fail(session, reason);
	processes_close(&session->processes, reason);
	if (call)
		rpc_call_finish_error(call, session_closed_error(session->id, reason));
	if (session->vm)
		pool_release(sessions->config.pool, TAKE_PTR(session->vm));
	else
		pool_cancel(sessions->config.pool, &session->wish);
	sessions_remove(sessions, session, reason);
	if (had_vm)
		publish(session, "session.closed", session_reason_name(reason));
	settled(session);
	loop_defer(session_loop(session), &session->free_later, free_later, session);
}

static void on_idle_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	session_close(timer->data, REASON_IDLE_TIMEOUT);
}

static void on_timeout_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	session_close(timer->data, REASON_TIMEOUT);
}

static void on_connection_end(void *user)
{
	session_close(user, REASON_CONNECTION_CLOSED);
}

/* --- The VM: what the guest says goes to whose number it has. --- */

static void on_message(void *user, const struct msg *msg)
{
	struct session *session = user;

	if (processes_on_message(&session->processes, msg) ||
	    session_files_on_message(session, msg) || strays_on_message(&session->strays, msg))
		return;
	if (session->state == SESSION_BUSY)
		exec_client_ops.on_message(TAILQ_FIRST(&session->programs)->exec, msg);
}

/* What comes between programs is nobody's; who sends it gets no credit for more. */
static void on_output(void *user, uint32_t number, enum frame_substream sub, const uint8_t *data,
		      size_t len)
{
	struct session *session = user;

	if (processes_on_output(&session->processes, number, sub, data, len) ||
	    session_files_on_output(session, number, sub, data, len))
		return;
	if (session->state != SESSION_BUSY)
		return;
	exec_client_ops.on_output(TAILQ_FIRST(&session->programs)->exec, number, sub, data, len);
	attach_program_pump(&session->processes);
}

static void on_input(void *user, uint32_t number, uint64_t taken)
{
	struct session *session = user;

	if (!processes_on_input(&session->processes, number, taken))
		(void)session_files_on_input(session, number);
}

static enum session_reason reason_of_loss(const struct rpc_error *error)
{
	switch (error->code) {
	case RPC_CAPACITY:
		return REASON_MEMORY_PRESSURE;
	case RPC_GUEST_PROTOCOL:
		return REASON_GUEST_PROTOCOL;
	default:
		return REASON_VM_LOST;
	}
}

static void on_lost(void *user, struct rpc_error *error_take)
{
	struct session *session = user;

	session->lost_reason = reason_of_loss(error_take);
	if (session->state == SESSION_BUSY) {
		rpc_error_set(error_take, "session", json_string(session->id));
		/* It is answered with the error itself, and closes the session. */
		exec_client_ops.on_lost(TAILQ_FIRST(&session->programs)->exec, error_take);
		return;
	}
	rpc_error_free(error_take);
	session_close(session, session->lost_reason);
}

static const struct vm_client_ops client_ops = {
	.on_message = on_message, .on_output = on_output, .on_input = on_input, .on_lost = on_lost};

static void go_on_with_timeout(struct session *session)
{
	uint64_t now = now_us(), left = session->expires_us - MIN(session->expires_us, now);

	if (session->expires_us > 0)
		loop_timer_start(session_loop(session), &session->timeout_timer,
				 MIN((double)left / 1e6, session->timeout_seconds));
}

void session_set_timeout(struct session *session)
{
	uint64_t us = (uint64_t)(session->timeout_seconds * 1e6);

	session->expires_us = session->expires_ns = 0;
	if (session->timeout_seconds <= 0)
		return;
	session->expires_us = now_us() + us;
	session->expires_ns = realtime_ns() + us * 1000;
}

void session_start_timeout(struct session *session)
{
	loop_timer_stop(session_loop(session), &session->timeout_timer);
	session_set_timeout(session);
	go_on_with_timeout(session);
}

/* Its interpreter may start before there is code for it. */
static void announce(const struct session *session)
{
	struct msg msg = {.type = FRAME_PREPARE,
			  .prepare = {.is_resident = true, .env = session->request.env}};

	memcpy(msg.prepare.language, session->request.language, sizeof(msg.prepare.language));
	(void)agent_link_send(vm_link(session->vm), &msg);
}

static void on_vm(void *user, struct vm *vm)
{
	struct session *session = user;
	struct rpc_call *call = TAKE_PTR(session->call);

	session->vm = vm;
	vm_attach(vm, session->uid, &client_ops, session);
	if (session->is_recalled) {
		go_on_with_timeout(session);
		session_take_up(session);
		/* What was changed while it waited. */
		session_save(session);
		settled(session);
		session_files_advance(session);
		return;
	}
	session_start_timeout(session);
	session_set_state(session, SESSION_IDLE);
	session_save(session);
	announce(session);
	session->sessions->counters.created++;
	publish(session, "session.created", NULL);
	if (call)
		rpc_call_finish_result(call, session_describe(session));
	session_begin_first(session);
	session_files_advance(session);
}

/* The one that an earlier daemon began; which closes the session. */
static void lose_program(struct session *session)
{
	struct session_program *program = TAILQ_FIRST(&session->programs);

	if (program && !exec_is_waiting(program->exec))
		exec_client_ops.on_lost(program->exec, rpc_error_new(RPC_VM_LOST,
								     "The VM of session %s did not "
								     "outlive the daemon",
								     session->id));
}

static void on_no_vm(void *user, struct rpc_error *error_take)
{
	struct session *session = user;
	struct rpc_call *call = TAKE_PTR(session->call);

	if (call)
		rpc_call_finish_error(call, error_take);
	else
		rpc_error_free(error_take);
	if (session->is_recalled)
		lose_program(session);
	session_close(session, session->is_recalled ? REASON_VM_LOST : REASON_NO_VM);
}

/* --- session.create --- */

static void on_create_cancel(void *user)
{
	struct session *session = user;

	rpc_call_finish_error(TAKE_PTR(session->call),
			      rpc_error_new(RPC_CANCELLED, "The session was not made"));
	session_close(session, REASON_CANCELLED);
}

static void on_create_gone(void *user)
{
	struct session *session = user;

	session->call = NULL;
	session_close(session, REASON_CONNECTION_CLOSED);
}

static void on_create_stop(void *user)
{
	struct session *session = user;

	rpc_call_finish_error(TAKE_PTR(session->call),
			      rpc_error_new(RPC_DRAINING, "The daemon stopped before the session "
							  "had a VM"));
	session_close(session, REASON_DAEMON_STOPPED);
}

static const struct rpc_call_ops create_ops = {
	.on_cancel = on_create_cancel, .on_gone = on_create_gone, .on_stop = on_create_stop};

struct session *session_new(struct sessions *sessions, uid_t uid)
{
	const struct config *config = sessions->config.exec->config;
	struct session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->sessions = sessions;
	session->uid = uid;
	session->created_ns = realtime_ns();
	session->idle_timeout_seconds = config->session_idle_seconds;
	session->metadata = json_object();
	session->lost_reason = REASON_VM_LOST;
	TAILQ_INIT(&session->programs);
	session_files_init(&session->files);
	session_init_processes(session);
	ev_timer_init(&session->idle_timer, on_idle_timer, 0., 0.);
	ev_timer_init(&session->timeout_timer, on_timeout_timer, 0., 0.);
	session->idle_timer.data = session->timeout_timer.data = session;
	return session;
}

void session_make_wish(struct session *session)
{
	session->wish.spec = (struct vm_spec){.memory_mb = session->request.vm_memory_mb,
					      .uid = session->uid,
					      .language = session->request.language};
	session->wish.on_vm = on_vm;
	session->wish.on_failed = on_no_vm;
	session->wish.user = session;
}

/* NULL, or the error: then there is no session yet. */
static struct rpc_error *prepare_session(struct session *session, const json_t *params)
{
	const struct sessions_config *config = &session->sessions->config;
	const char *bind = json_string_value(json_object_get(params, "bind"));
	struct rpc_error *error = session_request_parse(
		params, config->exec->config, pool_max_memory_mb(config->pool), &session->request);

	if (!error)
		error = session_check_settings(session, params);
	if (error)
		return error;
	session_apply_settings(session, params);
	session->is_bound = bind && strcmp(bind, "connection") == 0;
	session_make_wish(session);
	return pool_acquire(config->pool, &session->wish);
}

struct rpc_reply session_create(struct sessions *sessions, struct rpc_call *call,
				const json_t *params)
{
	struct session *session = session_new(sessions, rpc_call_peer(call)->uid);
	struct rpc_error *error;

	if (!session)
		return rpc_reply_error(
			call, rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory"));
	error = prepare_session(session, params);
	if (error) {
		session_free(session);
		return rpc_reply_error(call, error);
	}
	sessions_add(sessions, session);
	if (session->is_bound)
		rpc_conn_watch_start(rpc_call_conn(call), &session->conn_watch, on_connection_end,
				     session);
	session->call = call;
	return rpc_reply_pending(call, &create_ops, session);
}
