/* SPDX-License-Identifier: Apache-2.0 */
/* What is written to a background process. */
#include "daemon/session/process_input.h"

#include "daemon/session/process.h"
#include "protocol/base64.h"

#include <string.h>

/* VEOF of a terminal, unless a program sets another. */
#define END_OF_FILE '\4'

struct process_write {
	TAILQ_ENTRY(process_write) link;
	struct process *process;
	struct rpc_call *call; /* NULL: nobody waits */
	char *data;
	size_t len, sent;
	uint64_t end; /* of its bytes in the process's input, once all are sent */
	struct defer free_later;
};

void process_input_init(struct process_input *input)
{
	TAILQ_INIT(&input->writes);
}

static void free_write(void *user)
{
	struct process_write *write = user;

	free(write->data);
	free(write);
}

/* It leaves the queue; its call has been answered, or is gone. */
static void drop(struct process_write *write)
{
	struct process *process = write->process;
	bool was_waited_for = write->call != NULL;

	TAILQ_REMOVE(&process->input.writes, write, link);
	process->input.waiting -= write->len - write->sent;
	process->input.count--;
	write->call = NULL;
	loop_defer(process->processes->config.env->loop, &write->free_later, free_write, write);
	if (was_waited_for)
		processes_call_ended(process->processes);
}

static void finish(struct process_write *write)
{
	if (write->call)
		rpc_call_finish_result(write->call,
				       json_pack("{s:I}", "bytes", (json_int_t)write->len));
	drop(write);
}

static void fail(struct process_write *write, const struct rpc_error *error)
{
	if (write->call)
		rpc_call_finish_error(write->call,
				      rpc_error_set(rpc_error_copy(error), "bytes",
						    json_integer((json_int_t)write->sent)));
	drop(write);
}

/* --- The caller. --- */

static void on_cancel(void *user)
{
	struct rpc_error *error = rpc_error_new(RPC_CANCELLED, "The write was cancelled");

	fail(user, error);
	rpc_error_free(error);
}

static void on_gone(void *user)
{
	drop(user);
}

static void on_stop(void *user)
{
	struct rpc_error *error =
		rpc_error_new(RPC_VM_LOST, "The daemon stopped before the input was taken");

	fail(user, error);
	rpc_error_free(error);
}

static const struct rpc_call_ops call_ops = {
	.on_cancel = on_cancel, .on_gone = on_gone, .on_stop = on_stop};

/* --- The queue. --- */

static struct process_write *add(struct process *process, struct rpc_call *call, char *data_take,
				 size_t len)
{
	struct process_write *write = calloc(1, sizeof(*write));

	if (!write) {
		free(data_take);
		return NULL;
	}
	write->process = process;
	write->call = call;
	write->data = data_take;
	write->len = len;
	process->input.waiting += len;
	process->input.count++;
	TAILQ_INSERT_TAIL(&process->input.writes, write, link);
	return write;
}

void process_input_add(struct process *process, char *data_take, size_t len)
{
	if (add(process, NULL, data_take, len))
		process_input_pump(process);
}

/* False when the window is full, or there is no link any more. */
static bool send(struct process *process, struct process_write *write)
{
	struct process_input *input = &process->input;
	ssize_t n = agent_link_write(vm_link(process->vm), process->number,
				     write->data + write->sent, write->len - write->sent);

	if (n < 0)
		return false;
	write->sent += (size_t)n;
	input->waiting -= (size_t)n;
	input->written += (size_t)n;
	write->end = input->written;
	return write->sent == write->len;
}

void process_input_pump(struct process *process)
{
	struct process_input *input = &process->input;
	struct process_write *write;

	if (process->state == PROCESS_ENDED || !process->vm)
		return;
	TAILQ_FOREACH(write, &input->writes, link)
	if (write->sent < write->len && !send(process, write))
		return;
	if (input->is_closing)
		agent_link_write_end(vm_link(process->vm), process->number);
}

void process_input_taken(struct process *process, uint64_t taken)
{
	struct process_write *write;

	while ((write = TAILQ_FIRST(&process->input.writes)) && write->sent == write->len &&
	       write->end <= taken)
		finish(write);
	process_input_pump(process);
}

void process_input_fail(struct process *process, const struct rpc_error *error)
{
	struct process_write *write;

	process->input.is_closing = true;
	while ((write = TAILQ_FIRST(&process->input.writes)))
		fail(write, error);
}

/* --- The methods. --- */

static struct rpc_error *check_open(const struct process *process)
{
	struct rpc_error *error = process_require_living(process);

	if (error || !process->input.is_closing)
		return error;
	return rpc_error_set(rpc_error_new(RPC_INVALID_PARAMS,
					   "Standard input of process %s is closed", process->id),
			     "field", json_string("process"));
}

/* NULL with the error. */
static char *decode(const json_t *params, size_t *ret_len, struct rpc_error **ret_error)
{
	const json_t *text = json_object_get(params, "data");
	const char *encoding = json_string_value(json_object_get(params, "encoding"));
	size_t len = json_string_length(text);
	uint8_t *data = NULL;

	if (encoding && strcmp(encoding, "base64") == 0) {
		ssize_t n = base64_decode(json_string_value(text), len, &data);

		if (n < 0) {
			*ret_error = rpc_error_set(
				rpc_error_new(RPC_INVALID_PARAMS, "Parameter 'data' is not base64"),
				"field", json_string("data"));
			return NULL;
		}
		*ret_len = (size_t)n;
		return (char *)data;
	}
	data = malloc(len + 1);
	if (!data) {
		*ret_error = rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
		return NULL;
	}
	memcpy(data, json_string_value(text), len);
	*ret_len = len;
	return (char *)data;
}

static struct rpc_error *full(const struct process *process)
{
	struct rpc_error *error = rpc_error_new(
		RPC_TOO_MANY_REQUESTS, "%zu writes to process %s wait already, with %zu bytes",
		process->input.count, process->id, process->input.waiting);

	rpc_error_set(error, "max", json_integer(PROCESS_INPUT_MAX));
	return rpc_error_hint(error, "wait for the writes before this one");
}

static bool is_full(const struct process *process, size_t len)
{
	const struct process_input *input = &process->input;

	return input->count >= PROCESS_WRITES_MAX ||
	       len > PROCESS_INPUT_MAX - MIN(input->waiting, (size_t)PROCESS_INPUT_MAX);
}

/* The write, queued; NULL with the error. */
static struct process_write *accept(struct process *process, struct rpc_call *call,
				    const json_t *params, struct rpc_error **ret_error)
{
	struct process_write *write;
	size_t len;
	char *data;

	*ret_error = check_open(process);
	data = *ret_error ? NULL : decode(params, &len, ret_error);
	if (!data)
		return NULL;
	if (is_full(process, len)) {
		free(data);
		*ret_error = full(process);
		return NULL;
	}
	if (!rpc_call_hold(call, len)) {
		free(data);
		*ret_error = rpc_error_hint(
			rpc_error_new(RPC_QUOTA_EXCEEDED,
				      "Input of your requests in flight fills the buffers"),
			"wait for some of them to end");
		return NULL;
	}
	write = add(process, call, data, len);
	if (!write)
		*ret_error = rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	return write;
}

struct rpc_reply process_write(struct process *process, struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct process_write *write = accept(process, call, params, &error);
	struct rpc_reply reply;

	if (!write)
		return rpc_reply_error(call, error);
	reply = rpc_reply_pending(call, &call_ops, write);
	processes_call_began(process->processes);
	process_input_pump(process);
	if (write->len == 0)
		process_input_taken(process, 0);
	return reply;
}

struct rpc_reply process_close_stdin(struct process *process, struct rpc_call *call)
{
	struct rpc_error *error = check_open(process);
	char *end;

	if (!error && is_full(process, 1))
		error = full(process);
	if (error)
		return rpc_reply_error(call, error);
	if (process->rows > 0) {
		end = malloc(1);
		if (end)
			*end = END_OF_FILE;
		if (!end || !add(process, NULL, end, 1))
			return rpc_reply_error(call, rpc_error_new(RPC_INTERNAL_ERROR,
								   "The daemon is out of memory"));
	} else {
		process->input.is_closing = true;
		processes_save(process->processes);
	}
	process_input_pump(process);
	return rpc_reply_result(call, json_object());
}
