/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that follow the output of a session's processes. */
#include "daemon/session/attach.h"

#include "daemon/rpc/conn.h"

#include <errno.h>
#include <string.h>

/* Of one notification: small enough that others have their turn on the connection. */
#define CHUNK_BYTES (64u * 1024)

struct attachment {
	LIST_ENTRY(attachment) link;
	struct processes *processes;
	struct rpc_conn *conn;
	struct rpc_conn_watch watch;
	LIST_HEAD(, follower) followers;
	bool has_all; /* those that are started later, too, and the programs */
	uint64_t next_of_program[PROCESS_STREAMS];
	struct defer pump, free_later;
};

static bool takes_more(const struct attachment *attachment)
{
	return rpc_conn_is_writable(attachment->conn) && !rpc_conn_is_congested(attachment->conn);
}

static void send_chunk(const struct follower *follower, size_t stream, uint64_t offset,
		       json_t *chunk_take)
{
	const struct process *process = follower->process;
	json_t *params = json_pack(
		"{s:s, s:s, s:I, s:s}", "session", process->processes->config.session, "process",
		process->id, "offset", (json_int_t)offset, "stream", process_stream_names[stream]);

	json_object_update_missing(params, chunk_take);
	json_decref(chunk_take);
	rpc_conn_notify(follower->attachment->conn, "process.output", params);
}

static void pump_stream(struct follower *follower, size_t stream)
{
	const struct ring *ring = &follower->process->rings[stream];
	bool is_end = follower->process->state == PROCESS_ENDED;
	uint64_t *next = &follower->next[stream], offset;
	json_t *chunk;

	while (takes_more(follower->attachment)) {
		offset = MAX(*next, ring->start);
		chunk = ring_next_chunk(ring, next, CHUNK_BYTES, is_end);
		if (!chunk)
			return;
		send_chunk(follower, stream, offset, chunk);
	}
}

static void pump(struct follower *follower)
{
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		pump_stream(follower, i);
}

void attach_pump(struct process *process)
{
	struct follower *follower;

	LIST_FOREACH(follower, &process->followers, of_process)
	pump(follower);
}

/* --- The session's programs. --- */

static void send_of_program(const struct attachment *attachment, size_t stream, uint64_t begin,
			    json_t *chunk_take)
{
	const struct processes *processes = attachment->processes;
	json_t *params =
		json_pack("{s:n, s:s, s:I, s:I, s:s}", "id", "session", processes->config.session,
			  "exec", (json_int_t)processes->exec_number, "offset", (json_int_t)begin,
			  "stream", process_stream_names[stream]);

	json_object_update_missing(params, chunk_take);
	json_decref(chunk_take);
	rpc_conn_notify(attachment->conn, "run.output", params);
}

static void pump_program(struct attachment *attachment)
{
	const struct exec *exec = attachment->processes->exec;
	json_t *chunk;

	for (size_t i = 0; i < PROCESS_STREAMS && exec && attachment->has_all; i++)
		while (takes_more(attachment)) {
			uint64_t begin = attachment->next_of_program[i];

			chunk = exec_output_chunk(exec, process_stream_subs[i],
						  &attachment->next_of_program[i], CHUNK_BYTES);
			if (!chunk)
				break;
			send_of_program(attachment, i, begin, chunk);
		}
}

void attach_program_pump(struct processes *processes)
{
	struct attachment *attachment;

	LIST_FOREACH(attachment, &processes->attachments, link)
	pump_program(attachment);
}

void attach_program_begin(struct processes *processes, const struct exec *exec, uint64_t number)
{
	struct attachment *attachment;

	processes->exec = exec;
	processes->exec_number = number;
	LIST_FOREACH(attachment, &processes->attachments, link)
	memset(attachment->next_of_program, 0, sizeof(attachment->next_of_program));
}

void attach_program_end(struct processes *processes, const struct exec *exec)
{
	if (processes->exec == exec)
		processes->exec = NULL;
}

/* --- Connections. --- */

static void on_drained(void *user)
{
	struct attachment *attachment = user;
	struct follower *follower;

	pump_program(attachment);
	LIST_FOREACH(follower, &attachment->followers, of_attachment)
	{
		pump(follower);
		process_credit(follower->process);
	}
}

static void end_follower(struct follower *follower)
{
	LIST_REMOVE(follower, of_process);
	LIST_REMOVE(follower, of_attachment);
	free(follower);
}

void attach_forget(struct process *process)
{
	struct follower *follower;

	while ((follower = LIST_FIRST(&process->followers)))
		end_follower(follower);
}

static void end(struct attachment *attachment)
{
	struct processes *processes = attachment->processes;
	struct follower *follower;

	rpc_conn_watch_stop(&attachment->watch);
	loop_defer_cancel(processes->config.env->loop, &attachment->pump);
	while ((follower = LIST_FIRST(&attachment->followers))) {
		struct process *process = follower->process;

		end_follower(follower);
		process_credit(process);
	}
	LIST_REMOVE(attachment, link);
	loop_defer(processes->config.env->loop, &attachment->free_later, free, attachment);
}

static void on_connection_end(void *user)
{
	struct attachment *attachment = user;
	struct processes *processes = attachment->processes;

	end(attachment);
	processes->config.on_change(processes->config.user);
}

void attach_end_all(struct processes *processes)
{
	struct attachment *attachment;

	while ((attachment = LIST_FIRST(&processes->attachments))) {
		struct rpc_conn *conn = attachment->conn;

		end(attachment);
		rpc_conn_let_go(conn);
	}
}

/* The connection's; NULL without memory. */
static struct attachment *find_or_make(struct processes *processes, struct rpc_conn *conn)
{
	struct attachment *attachment;

	LIST_FOREACH(attachment, &processes->attachments, link)
	if (attachment->conn == conn)
		return attachment;
	attachment = calloc(1, sizeof(*attachment));
	if (!attachment)
		return NULL;
	attachment->processes = processes;
	attachment->conn = conn;
	LIST_INIT(&attachment->followers);
	LIST_INSERT_HEAD(&processes->attachments, attachment, link);
	attachment->watch.on_drained = on_drained;
	rpc_conn_watch_start(conn, &attachment->watch, on_connection_end, attachment);
	rpc_conn_hold_open(conn);
	return attachment;
}

static struct follower *find_follower(const struct attachment *attachment,
				      const struct process *process)
{
	struct follower *follower;

	LIST_FOREACH(follower, &attachment->followers, of_attachment)
	if (follower->process == process)
		return follower;
	return NULL;
}

/* 0 or -ENOMEM; one that it follows already goes to the new place. */
static int follow(struct attachment *attachment, struct process *process,
		  const uint64_t offsets[PROCESS_STREAMS])
{
	struct follower *follower = find_follower(attachment, process);

	if (!follower) {
		follower = calloc(1, sizeof(*follower));
		if (!follower)
			return -ENOMEM;
		follower->attachment = attachment;
		follower->process = process;
		LIST_INSERT_HEAD(&process->followers, follower, of_process);
		LIST_INSERT_HEAD(&attachment->followers, follower, of_attachment);
	}
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		follower->next[i] = MIN(offsets[i], process->rings[i].end);
	return 0;
}

void attach_add(struct process *process)
{
	static const uint64_t beginning[PROCESS_STREAMS];
	struct attachment *attachment;

	LIST_FOREACH(attachment, &process->processes->attachments, link)
	if (attachment->has_all)
		(void)follow(attachment, process, beginning);
}

/* All there are, from here on. */
static int follow_all(struct attachment *attachment)
{
	static const uint64_t now[PROCESS_STREAMS] = {UINT64_MAX, UINT64_MAX};
	struct process *process;
	int r = 0;

	attachment->has_all = true;
	TAILQ_FOREACH(process, &attachment->processes->list, link)
	if (r == 0 && !find_follower(attachment, process))
		r = follow(attachment, process, now);
	return r;
}

static json_t *describe(const struct attachment *attachment)
{
	json_t *list = json_array();
	const struct follower *follower;

	LIST_FOREACH(follower, &attachment->followers, of_attachment)
	json_array_append_new(
		list, json_pack("{s:s, s:I, s:I}", "process", follower->process->id,
				"stdout_offset", (json_int_t)follower->next[PROCESS_STDOUT],
				"stderr_offset", (json_int_t)follower->next[PROCESS_STDERR]));
	return json_pack("{s:s, s:o}", "session", attachment->processes->config.session,
			 "processes", list);
}

static uint64_t offset_of(const json_t *params, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(params, name));
}

static struct rpc_error *check(const json_t *params)
{
	static const char *const names[] = {"stdout_offset", "stderr_offset"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (json_object_get(params, names[i]) && !json_object_get(params, "process"))
			return rpc_error_set(rpc_error_new(RPC_INVALID_PARAMS,
							   "'%s' is that of one process", names[i]),
					     "field", json_string(names[i]));
	return NULL;
}

struct rpc_reply attach_start(struct processes *processes, struct rpc_call *call,
			      const json_t *params)
{
	const uint64_t offsets[PROCESS_STREAMS] = {
		[PROCESS_STDOUT] = offset_of(params, "stdout_offset"),
		[PROCESS_STDERR] = offset_of(params, "stderr_offset")};
	struct rpc_error *error = check(params);
	struct process *process = NULL;
	struct attachment *attachment;

	if (!error && json_object_get(params, "process"))
		process = processes_find(processes, params, &error);
	if (error)
		return rpc_reply_error(call, error);
	attachment = find_or_make(processes, rpc_call_conn(call));
	if (!attachment ||
	    (process ? follow(attachment, process, offsets) : follow_all(attachment)) < 0)
		return rpc_reply_error(
			call, rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory"));
	processes->config.on_change(processes->config.user);
	/* Behind the answer. */
	loop_defer(processes->config.env->loop, &attachment->pump, on_drained, attachment);
	return rpc_reply_result(call, describe(attachment));
}
