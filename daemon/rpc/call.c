/* SPDX-License-Identifier: Apache-2.0 */
/* One request on its way to its one reply. */
#include "daemon/rpc/call.h"

#include "base/log.h"
#include "daemon/rpc/internal.h"
#include "daemon/rpc/wire.h"

#include <assert.h>

/* What the server's scratch buffer keeps between messages: most replies fit. */
#define SCRATCH_KEEP_BYTES (64u * 1024)

static const struct rpc_call_ops no_ops = {0};

struct rpc_call *rpc_call_create(struct rpc_conn *conn, struct rpc_batch *batch,
				 const json_t *request_id, char *id_text_take)
{
	struct rpc_call *call = calloc(1, sizeof(*call));

	if (!call) {
		free(id_text_take);
		return NULL;
	}
	call->id = json_incref((json_t *)request_id);
	call->id_text = id_text_take;
	call->conn = conn;
	call->batch = batch;
	call->ops = &no_ops;
	if (batch)
		rpc_batch_hold(batch);
	LIST_INSERT_HEAD(&conn->calls, call, link);
	conn->call_count++;
	conn->server->calls_in_flight++;
	return call;
}

static void release(void *user)
{
	struct rpc_call *call = user;

	json_decref(call->id);
	json_decref(call->result);
	rpc_error_free(call->error);
	free(call->id_text);
	free(call);
}

/* Takes the call off its connection. Its memory stays until the end of the iteration, so that the
 * dispatcher, and an assertion about a second finish, still find its state. */
static void detach(struct rpc_call *call, enum call_state state)
{
	struct rpc_conn *conn = call->conn;

	LIST_REMOVE(call, link);
	rpc_conn_unhold(conn, call->held_bytes);
	conn->call_count--;
	conn->server->calls_in_flight--;
	call->state = state;
	call->conn = NULL;
	if (call->batch)
		rpc_batch_release(call->batch);
	rpc_conn_settle(conn);
	rpc_server_check_idle(conn->server);
	loop_defer(conn->server->loop, &call->release, release, call);
}

/* Writes the reply's text, without line end. */
static void add_reply(struct text *text, const struct rpc_call *call, const struct rpc_error *error)
{
	if (error)
		wire_add_error(text, call->id_text, error);
	else
		wire_add_result(text, call->id_text, call->result);
}

/* A reply that cannot be sent becomes an error that can. */
static void add_failure(struct text *text, const struct rpc_call *call)
{
	struct rpc_error *error = rpc_error_new(
		RPC_MESSAGE_TOO_LARGE,
		"The reply is longer than %zu bytes or does not fit into memory",
		MIN(call->conn->server->limits.unsent_max_bytes, (size_t)TEXT_MAX_BYTES));

	rpc_error_hint(error, "ask for less in one call");
	text_reset(text, SCRATCH_KEEP_BYTES);
	add_reply(text, call, error);
	rpc_error_free(error);
}

static void send_text(struct rpc_conn *conn, struct rpc_batch *batch, struct text *text)
{
	if (!batch)
		text_add_string(text, "\n");
	if (text->is_failed)
		rpc_conn_end(conn, LOG_WARNING, "Closed: no memory for a message");
	else if (batch)
		rpc_batch_add(batch, text->data, text->len);
	else
		rpc_conn_send_text(conn, text);
}

static void send_reply(struct rpc_call *call)
{
	struct text *text = &call->conn->server->scratch;

	if (!call->id_text || !rpc_conn_is_writable(call->conn))
		return;
	text_reset(text, SCRATCH_KEEP_BYTES);
	add_reply(text, call, call->error);
	if (text->is_failed || text->len >= call->conn->server->limits.unsent_max_bytes)
		add_failure(text, call);
	send_text(call->conn, call->batch, text);
}

void rpc_conn_answer_error(struct rpc_conn *conn, struct rpc_batch *batch, const char *id_text,
			   struct rpc_error *error_take)
{
	struct text *text = &conn->server->scratch;

	text_reset(text, SCRATCH_KEEP_BYTES);
	wire_add_error(text, id_text, error_take);
	rpc_error_free(error_take);
	send_text(conn, batch, text);
}

static void set_outcome(struct rpc_call *call, json_t *result_take, struct rpc_error *error_take)
{
	if (!result_take && !error_take)
		error_take =
			rpc_error_new(RPC_INTERNAL_ERROR, "The result does not fit into memory");
	call->result = result_take;
	call->error = error_take;
}

static struct rpc_reply reply(struct rpc_call *call, json_t *result_take,
			      struct rpc_error *error_take)
{
	assert(call->state == CALL_RUNNING);
	set_outcome(call, result_take, error_take);
	call->state = CALL_REPLIED;
	return (struct rpc_reply){.private_call = call};
}

struct rpc_reply rpc_reply_result(struct rpc_call *call, json_t *result_take)
{
	return reply(call, result_take, NULL);
}

struct rpc_reply rpc_reply_error(struct rpc_call *call, struct rpc_error *error_take)
{
	return reply(call, NULL, error_take);
}

struct rpc_reply rpc_reply_pending(struct rpc_call *call, const struct rpc_call_ops *ops,
				   void *user)
{
	assert(call->state == CALL_RUNNING);
	call->ops = ops;
	call->user = user;
	call->state = CALL_PENDING;
	return (struct rpc_reply){.private_call = call};
}

void rpc_call_run(struct rpc_call *call, rpc_handler_fn fn, const json_t *params)
{
	const struct rpc_reply made = fn(call, params);

	/* The handler's value says that it decided; the state, what. */
	assert(made.private_call == call && call->state != CALL_RUNNING);
	if (call->state != CALL_REPLIED)
		return;
	send_reply(call);
	detach(call, CALL_FINISHED);
}

void rpc_call_refuse(struct rpc_call *call, struct rpc_error *error_take)
{
	assert(call->state == CALL_RUNNING);
	set_outcome(call, NULL, error_take);
	send_reply(call);
	detach(call, CALL_FINISHED);
}

static void finish(struct rpc_call *call, json_t *result_take, struct rpc_error *error_take)
{
	assert(call->state == CALL_PENDING);
	set_outcome(call, result_take, error_take);
	send_reply(call);
	detach(call, CALL_FINISHED);
}

void rpc_call_finish_result(struct rpc_call *call, json_t *result_take)
{
	finish(call, result_take, NULL);
}

void rpc_call_finish_error(struct rpc_call *call, struct rpc_error *error_take)
{
	finish(call, NULL, error_take);
}

void rpc_call_cancel(struct rpc_call *call)
{
	if (call->state != CALL_PENDING || call->is_cancelled)
		return;
	call->is_cancelled = true;
	if (call->ops->on_cancel)
		call->ops->on_cancel(call->user);
}

void rpc_call_stop(struct rpc_call *call)
{
	if (call->state == CALL_PENDING && call->ops->on_stop)
		call->ops->on_stop(call->user);
}

bool rpc_call_hold(struct rpc_call *call, size_t bytes)
{
	if (!rpc_conn_hold(call->conn, bytes))
		return false;
	call->held_bytes += bytes;
	return true;
}

void rpc_call_gone(struct rpc_call *call)
{
	const struct rpc_call_ops *ops = call->ops;

	/* Before the callback: whoever finishes it in there is told so by the assertion. */
	detach(call, CALL_GONE);
	if (ops->on_gone)
		ops->on_gone(call->user);
}

void rpc_conn_notify(struct rpc_conn *conn, const char *method, json_t *params_take)
{
	struct text *text = &conn->server->scratch;

	if (rpc_conn_is_writable(conn)) {
		text_reset(text, SCRATCH_KEEP_BYTES);
		wire_add_notification(text, method, params_take);
		send_text(conn, NULL, text);
	}
	json_decref(params_take);
}

void rpc_call_notify(struct rpc_call *call, const char *method, json_t *params_take)
{
	rpc_conn_notify(call->conn, method, params_take);
}

const json_t *rpc_call_id(const struct rpc_call *call)
{
	return call->id;
}

const struct rpc_peer *rpc_call_peer(const struct rpc_call *call)
{
	return &call->conn->peer;
}

void *rpc_call_context(const struct rpc_call *call)
{
	return call->conn->server->context;
}

bool rpc_call_is_congested(const struct rpc_call *call)
{
	return rpc_conn_is_congested(call->conn);
}

struct rpc_conn *rpc_call_conn(const struct rpc_call *call)
{
	return call->conn;
}

int rpc_call_take_descriptor(struct rpc_call *call)
{
	return rpc_conn_take_descriptor(call->conn);
}
