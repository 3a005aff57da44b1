/* SPDX-License-Identifier: Apache-2.0 */
/* From a line to a running handler: parse, batch, look up, access, validate, call. */
#include "daemon/rpc/dispatch.h"

#include "base/log.h"
#include "daemon/rpc/internal.h"
#include "daemon/rpc/wire.h"
#include "protocol/utf8.h"

#include <errno.h>
#include <string.h>

/* How much of an unknown method's name is repeated. */
#define METHOD_SHOWN_BYTES 64u

struct dispatch_table {
	const struct method *methods;
	json_t *no_params;
	rpc_handler_fn handlers[]; /* by the method's place in `methods` */
};

static const struct rpc_handler *find_handler(const struct rpc_handler *handlers, size_t count,
					      const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(handlers[i].name, name) == 0)
			return &handlers[i];
	return NULL;
}

/* Every handler has a method and comes once. 0 or -EINVAL. */
static int check_handlers(const struct method *methods, const struct rpc_handler *handlers,
			  size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count; i++) {
		const struct method *method = method_find_in(methods, handlers[i].name);

		if (!method || strcmp(method->name, handlers[i].name) != 0) {
			log_error(NULL, "Handler '%s' has no method in the table",
				  handlers[i].name);
			r = -EINVAL;
		}
		if (find_handler(handlers, i, handlers[i].name)) {
			log_error(NULL, "Method '%s' has two handlers", handlers[i].name);
			r = -EINVAL;
		}
	}
	return r;
}

/* Gives every method its handler. 0 or -EINVAL. */
static int join(struct dispatch_table *table, const struct rpc_handler *handlers, size_t count,
		const struct rpc_handler *builtins, size_t builtin_count)
{
	int r = 0;

	for (size_t i = 0; table->methods[i].name; i++) {
		const char *name = table->methods[i].name;
		const struct rpc_handler *handler =
			find_handler(handlers, count, name)
				?: find_handler(builtins, builtin_count, name);

		if (!handler) {
			log_error(NULL, "Method '%s' has no handler", name);
			r = -EINVAL;
			continue;
		}
		table->handlers[i] = handler->fn;
	}
	return r;
}

int dispatch_table_create(const struct method *methods, const struct rpc_handler *handlers,
			  size_t handler_count, const struct rpc_handler *builtins,
			  size_t builtin_count, struct dispatch_table **ret)
{
	struct dispatch_table *table;
	size_t count = 0;
	int r, joined;

	while (methods[count].name)
		count++;
	table = calloc(1, sizeof(*table) + count * sizeof(table->handlers[0]));
	if (!table)
		return -ENOMEM;
	table->methods = methods;
	table->no_params = json_object();
	r = table->no_params ? check_handlers(methods, handlers, handler_count) : -ENOMEM;
	joined = join(table, handlers, handler_count, builtins, builtin_count);
	if (r < 0 || joined < 0) {
		dispatch_table_destroy(table);
		return r < 0 ? r : joined;
	}
	*ret = table;
	return 0;
}

void dispatch_table_destroy(struct dispatch_table *table)
{
	if (!table)
		return;
	json_decref(table->no_params);
	free(table);
}

const struct method *dispatch_table_methods(const struct dispatch_table *table)
{
	return table->methods;
}

static struct rpc_error *unknown_method(const char *name)
{
	const size_t len = strlen(name);
	const size_t shown = len > METHOD_SHOWN_BYTES ? utf8_cut(name, METHOD_SHOWN_BYTES) : len;

	return rpc_error_hint(rpc_error_new(RPC_METHOD_NOT_FOUND, "There is no method '%.*s'%s",
					    (int)shown, name, shown < len ? " (name cut)" : ""),
			      "rpc.discover lists the methods of this daemon");
}

static struct rpc_error *list_params(void)
{
	struct rpc_error *error = rpc_error_new(
		RPC_INVALID_PARAMS, "Parameters are given by name in an object, not as an array");

	return rpc_error_set(error, "field", json_string("params"));
}

/* NULL when the caller may call the method. */
static struct rpc_error *check_access(const struct method *method, const struct rpc_peer *peer)
{
	switch (method->access) {
	case ACCESS_ANY:
	case ACCESS_OWNER:
		return NULL;
	case ACCESS_ADMIN:
		break;
	}
	if (peer->is_admin)
		return NULL;
	return rpc_error_hint(rpc_error_new(RPC_UNAUTHORIZED,
					    "Method '%s' is for root and the admin group",
					    method->name),
			      "call it as root, or as a member of the configured admin_group");
}

static void run(struct rpc_call *call, const struct wire_request *request)
{
	const struct dispatch_table *table = call->conn->server->methods;
	const struct method *method = method_find_in(table->methods, request->method);
	const json_t *params = request->params ?: table->no_params;
	struct rpc_error *error;

	if (!method)
		error = unknown_method(request->method);
	else
		error = check_access(method, &call->conn->peer);
	if (!error && request->has_list_params)
		error = list_params();
	if (!error)
		error = method_validate(method, params);
	if (error)
		rpc_call_refuse(call, error);
	else
		rpc_call_run(call, table->handlers[method - table->methods], params);
}

static struct rpc_error *no_memory(void)
{
	return rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory; try again later");
}

/* $/cancelRequest: a notification, so what is wrong with its params is nobody's to hear. */
static void cancel(struct rpc_conn *conn, const struct wire_request *request)
{
	const json_t *id = json_object_get(request->params, "id");
	_cleanup_free_ char *id_text = id ? wire_id_text(id) : NULL;
	struct rpc_call *call = id_text ? rpc_conn_find_call(conn, id_text) : NULL;

	if (call)
		rpc_call_cancel(call);
}

/* What a connection does not take, whatever the method. NULL when it does. */
static struct rpc_error *check_request(struct rpc_conn *conn, const struct wire_request *request,
				       const char *id_text, bool *ret_is_id_usable)
{
	*ret_is_id_usable = true;
	if (strcmp(request->method, "$/cancelRequest") == 0)
		return rpc_error_new(RPC_INVALID_REQUEST,
				     "$/cancelRequest is a notification: send it without 'id'");
	if (id_text && rpc_conn_find_call(conn, id_text)) {
		/* An answer with this id would pass for the answer of the other request. */
		*ret_is_id_usable = false;
		return rpc_error_set(
			rpc_error_new(RPC_INVALID_REQUEST,
				      "A request with this id is in flight on this connection"),
			"field", json_string("id"));
	}
	if (conn->call_count >= RPC_IN_FLIGHT_MAX)
		return rpc_error_set(rpc_error_new(RPC_TOO_MANY_REQUESTS,
						   "%u requests are in flight on this connection",
						   RPC_IN_FLIGHT_MAX),
				     "max", json_integer(RPC_IN_FLIGHT_MAX));
	return NULL;
}

static void start(struct rpc_conn *conn, struct rpc_batch *batch,
		  const struct wire_request *request)
{
	_cleanup_free_ char *id_text = request->id ? wire_id_text(request->id) : NULL;
	bool is_id_usable;
	struct rpc_error *error = check_request(conn, request, id_text, &is_id_usable);
	struct rpc_call *call;

	if (error && request->id)
		rpc_conn_answer_error(conn, batch, is_id_usable ? id_text : NULL, error);
	else if (error)
		rpc_error_free(error);
	if (error)
		return;
	if (request->id && !id_text) {
		rpc_conn_answer_error(conn, batch, NULL, no_memory());
		return;
	}
	call = rpc_call_create(conn, batch, request->id, TAKE_PTR(id_text));
	if (call)
		run(call, request);
	else if (request->id)
		rpc_conn_answer_error(conn, batch, NULL, no_memory());
}

/* A request that was refused leaves what came with it to no other. */
static void start_with_descriptor(struct rpc_conn *conn, struct rpc_batch *batch,
				  const struct wire_request *request)
{
	bool brings_one = json_is_true(json_object_get(request->params, "descriptor"));
	size_t before = conn->descriptor_count;

	start(conn, batch, request);
	if (brings_one && conn->descriptor_count == before)
		close_fd(rpc_conn_take_descriptor(conn));
}

static void dispatch_message(struct rpc_conn *conn, struct rpc_batch *batch, const json_t *message)
{
	struct wire_request request;
	struct rpc_error *error = wire_request_read(message, &request);

	if (error) {
		_cleanup_free_ char *id_text = request.id ? wire_id_text(request.id) : NULL;

		rpc_conn_answer_error(conn, batch, id_text, error);
	} else if (!request.id && strcmp(request.method, "$/cancelRequest") == 0) {
		cancel(conn, &request);
	} else {
		start_with_descriptor(conn, batch, &request);
	}
}

static struct rpc_error *check_batch(const json_t *messages)
{
	struct rpc_error *error;

	if (json_array_size(messages) == 0)
		return rpc_error_new(RPC_INVALID_REQUEST, "A batch has at least one request");
	if (json_array_size(messages) <= WIRE_BATCH_MAX)
		return NULL;
	error = rpc_error_new(RPC_TOO_MANY_REQUESTS,
			      "The batch has %zu requests, the limit is %u; none was run",
			      json_array_size(messages), WIRE_BATCH_MAX);
	rpc_error_set(error, "max", json_integer(WIRE_BATCH_MAX));
	rpc_error_set(error, "retryable", json_false());
	return rpc_error_hint(error, "split it into smaller batches");
}

static void dispatch_batch(struct rpc_conn *conn, const json_t *messages)
{
	struct rpc_error *error = check_batch(messages);
	struct rpc_batch *batch;
	const json_t *message;
	size_t i;

	if (error) {
		rpc_conn_answer_error(conn, NULL, NULL, error);
		return;
	}
	batch = rpc_batch_create(conn);
	if (!batch) {
		rpc_conn_answer_error(conn, NULL, NULL, no_memory());
		return;
	}
	json_array_foreach (messages, i, message) {
		if (!rpc_conn_is_writable(conn))
			break;
		dispatch_message(conn, batch, message);
	}
	rpc_batch_release(batch);
}

void dispatch_line(struct rpc_conn *conn, const char *line, size_t len)
{
	struct rpc_error *error = NULL;
	json_auto_t *message = wire_parse(line, len, &error);

	if (!message)
		rpc_conn_answer_error(conn, NULL, NULL, error);
	else if (json_is_array(message))
		dispatch_batch(conn, message);
	else
		dispatch_message(conn, NULL, message);
}
