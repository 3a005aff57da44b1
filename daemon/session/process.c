/* SPDX-License-Identifier: Apache-2.0 */
/* One background process of a session, and the calls about it. */
#include "daemon/session/process.h"

#include "base/log.h"
#include "daemon/session/attach.h"
#include "daemon/session/result.h"
#include "protocol/moment.h"
#include "protocol/utf8.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* A guest whose memory is short takes seconds to start a program; one that hangs is given up. */
#define START_SECONDS 30.
/* What a program's output may be before the guest counts and drops it: for ever. */
#define OUTPUT_FOREVER (1ull << 60)
/* Of a ring, whatever all of its user's have. */
#define RING_MIN_BYTES (64u * 1024)
/* What a list shows of a command. */
#define COMMAND_MAX_BYTES 200

const char *const process_stream_names[PROCESS_STREAMS] = {
	[PROCESS_STDOUT] = "stdout",
	[PROCESS_STDERR] = "stderr",
};

const enum frame_substream process_stream_subs[PROCESS_STREAMS] = {
	[PROCESS_STDOUT] = SUBSTREAM_STDOUT,
	[PROCESS_STDERR] = SUBSTREAM_STDERR,
};

static const char *const state_names[] = {
	[PROCESS_STARTING] = "starting",
	[PROCESS_RUNNING] = "running",
	[PROCESS_ENDED] = "ended",
};
static_assert(ELEMENTSOF(state_names) == PROCESS_ENDED + 1, "every state has a name");

static struct loop *loop_of(const struct process *process)
{
	return process->processes->config.env->loop;
}

static void set_state(struct process *process, enum process_state state)
{
	log_debug(process->id, "Process %s -> %s", state_names[process->state], state_names[state]);
	process->state = state;
}

/* --- Its start. --- */

static void on_start_cancel(void *user)
{
	struct process *process = user;
	struct msg msg = {.type = FRAME_KILL, .kill = {.exec = process->number}};

	process->is_unwanted = true;
	(void)agent_link_send(vm_link(process->vm), &msg);
	rpc_call_finish_error(TAKE_PTR(process->call),
			      rpc_error_new(RPC_CANCELLED, "The process was not started"));
}

/* It goes on: process.list shows it. */
static void on_start_gone(void *user)
{
	struct process *process = user;

	process->call = NULL;
}

static void on_start_stop(void *user)
{
	struct process *process = user;

	rpc_call_finish_error(TAKE_PTR(process->call),
			      rpc_error_new(RPC_VM_LOST,
					    "The daemon stopped before the process was "
					    "known to run"));
}

static const struct rpc_call_ops start_ops = {
	.on_cancel = on_start_cancel, .on_gone = on_start_gone, .on_stop = on_start_stop};

static void on_start_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	const struct process *process = timer->data;
	const struct processes_config *config = &process->processes->config;

	config->on_unresponsive(config->user);
}

/* Whole characters. */
static size_t command_len(const char *text, size_t len)
{
	return utf8_cut(text, MIN(len, (size_t)COMMAND_MAX_BYTES));
}

/* What it is called in a list: its first line, or its words. */
static char *make_command(const struct run_request *request)
{
	json_auto_t *words = NULL;
	const json_t *word;
	char *text = NULL, *longer;
	size_t i;

	if (json_array_size(request->args) == 0)
		return strndup(request->code,
			       command_len(request->code, strcspn(request->code, "\n")));
	json_array_foreach (request->args, i, word) {
		if (asprintf(&longer, "%s%s%s", text ?: "", text ? " " : "",
			     json_string_value(word)) < 0)
			break;
		free(text);
		text = longer;
		if (strlen(text) > COMMAND_MAX_BYTES) {
			text[command_len(text, strlen(text))] = '\0';
			break;
		}
	}
	return text;
}

struct process *process_new(struct processes *processes)
{
	struct process *process = calloc(1, sizeof(*process));

	if (!process)
		return NULL;
	process->processes = processes;
	process_input_init(&process->input);
	LIST_INIT(&process->followers);
	TAILQ_INIT(&process->waits);
	ev_timer_init(&process->start_deadline, on_start_deadline, 0., 0.);
	process->start_deadline.data = process;
	return process;
}

static struct process *process_of_request(struct processes *processes, struct rpc_call *call,
					  const struct run_request *request, struct vm *vm,
					  uint32_t number)
{
	struct process *process = process_new(processes);

	if (!process)
		return NULL;
	process->call = call;
	process->vm = vm;
	process->number = number;
	process->command = make_command(request);
	process->rows = request->terminal_rows;
	process->columns = request->terminal_columns;
	process->begun_us = now_us();
	ring_init(&process->rings[PROCESS_STDOUT], request->stdout_limit);
	ring_init(&process->rings[PROCESS_STDERR], request->stderr_limit);
	draw_id(process->id, sizeof(process->id), processes->config.node, "proc");
	return process;
}

static int send_exec(const struct process *process, struct run_request *request)
{
	struct msg_exec msg = {
		.exec = process->number,
		.args = request->args,
		.env = request->env,
		.realtime_ns = realtime_ns(),
		.stdout_limit = OUTPUT_FOREVER,
		.stderr_limit = OUTPUT_FOREVER,
		.memory_max_bytes = request->memory_mb << 20,
		.pids_max = request->pids,
		.cpu_seconds = request->cpu_seconds,
		.disk_max_bytes = request->disk_mb << 20,
		.is_background = true,
		.terminal_rows = request->terminal_rows,
		.terminal_columns = request->terminal_columns,
	};

	memcpy(msg.language, request->language, sizeof(msg.language));
	snprintf(msg.cwd, sizeof(msg.cwd), "%s", request->cwd ?: "");
	return agent_link_exec(vm_link(process->vm), &msg, TAKE_PTR(request->code),
			       request->code_len, NULL, 0);
}

struct process *process_create(struct processes *processes, struct rpc_call *call,
			       struct run_request *request_take, struct vm *vm, uint32_t number,
			       struct rpc_error **ret_error)
{
	struct process *process = process_of_request(processes, call, request_take, vm, number);
	int r = process ? send_exec(process, request_take) : 0;

	if (!process)
		*ret_error = rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	else if (r < 0)
		*ret_error = rpc_error_new(RPC_VM_TRANSIENT, "Cannot send the program to VM %s: %s",
					   vm_id(vm), strerror(-r));
	if (*ret_error) {
		run_request_fini(request_take);
		if (process)
			process_free(process);
		return NULL;
	}
	if (request_take->input_len > 0)
		process_input_add(process, TAKE_PTR(request_take->input), request_take->input_len);
	run_request_fini(request_take);
	loop_timer_start(loop_of(process), &process->start_deadline, START_SECONDS);
	return process;
}

struct rpc_reply process_reply_pending(struct process *process)
{
	return rpc_reply_pending(process->call, &start_ops, process);
}

void process_on_started(struct process *process)
{
	struct rpc_call *call = TAKE_PTR(process->call);

	if (process->state != PROCESS_STARTING)
		return;
	/* Of one that was cancelled it is the end that must come by then. */
	if (!process->is_unwanted)
		loop_timer_stop(loop_of(process), &process->start_deadline);
	set_state(process, PROCESS_RUNNING);
	process->started_ns = realtime_ns();
	processes_save(process->processes);
	if (call)
		rpc_call_finish_result(call,
				       json_pack("{s:s, s:s}", "process", process->id, "session",
						 process->processes->config.session));
}

/* --- Its output. --- */

static size_t room_for(const struct process *process, const struct ring *ring)
{
	const struct processes_config *config = &process->processes->config;
	size_t room = ring->size < ring->limit ? config->room(config->user) : 0;

	return MAX(room, RING_MIN_BYTES - MIN(ring->size, (size_t)RING_MIN_BYTES));
}

void process_on_output(struct process *process, enum frame_substream sub, const uint8_t *data,
		       size_t len)
{
	size_t stream = sub == SUBSTREAM_STDERR ? PROCESS_STDERR : PROCESS_STDOUT;
	struct ring *ring = &process->rings[stream];

	ring_add(ring, data, len, room_for(process, ring));
	process->held[stream] += len;
	attach_pump(process);
	process_credit(process);
}

/* Is one of them further behind than what may still come would leave of the ring? */
static bool is_waited_for(const struct process *process, size_t stream)
{
	const struct ring *ring = &process->rings[stream];
	const struct follower *follower;

	LIST_FOREACH(follower, &process->followers, of_process)
	if (ring->end - follower->next[stream] > ring->limit / 2)
		return true;
	return false;
}

void process_credit(struct process *process)
{
	for (size_t i = 0; i < PROCESS_STREAMS && process->vm; i++) {
		if (process->held[i] == 0 || is_waited_for(process, i) ||
		    !processes_may_credit(process->processes, process->held[i]))
			continue;
		agent_link_take(vm_link(process->vm), process->number, process_stream_subs[i],
				process->held[i]);
		process->held[i] = 0;
	}
}

/* --- Its end. --- */

struct rpc_error *process_require_living(const struct process *process)
{
	struct rpc_error *error;

	if (process->state != PROCESS_ENDED)
		return NULL;
	error = rpc_error_new(RPC_PROCESS_NOT_FOUND, "Process %s has ended", process->id);
	rpc_error_set(error, "process", json_string(process->id));
	rpc_error_set(error, "reason", json_string("ended"));
	return rpc_error_hint(error, "process.wait has its result");
}

static void stop_timers(struct process *process)
{
	loop_timer_stop(loop_of(process), &process->start_deadline);
}

void process_on_exit(struct process *process, const struct msg_exit *exit)
{
	struct rpc_call *call = TAKE_PTR(process->call);
	struct rpc_error *error;

	stop_timers(process);
	process->vm = NULL;
	process->exit = *exit;
	process->exit.error = NULL; /* the shell's programs have none */
	process->execute_us = now_us() - process->begun_us;
	process->ended_ns = realtime_ns();
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		ring_trim(&process->rings[i]);
	set_state(process, PROCESS_ENDED);
	if (call)
		rpc_call_finish_error(call, run_start_error(exit->detail));
	error = process_require_living(process);
	process_input_fail(process, error);
	rpc_error_free(error);
	attach_pump(process);
	process_end_waits(process, NULL);
}

void process_fail(struct process *process, const struct rpc_error *error)
{
	struct rpc_call *call = TAKE_PTR(process->call);

	stop_timers(process);
	process->vm = NULL;
	if (call)
		rpc_call_finish_error(call, rpc_error_copy(error));
	process_input_fail(process, error);
	process_end_waits(process, error);
}

static void free_later(void *user)
{
	struct process *process = user;

	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		ring_fini(&process->rings[i]);
	free(process->command);
	free(process);
}

void process_free(struct process *process)
{
	stop_timers(process);
	attach_forget(process);
	loop_defer(loop_of(process), &process->free_later, free_later, process);
}

/* --- process.signal and process.resize --- */

/* Its number; 0 when there is none of that name. */
static int parse_signal(const char *name)
{
	if (strncmp(name, "SIG", 3) == 0)
		name += 3;
	for (int number = 1; number < SIGRTMIN; number++) {
		const char *known = sigabbrev_np(number);

		if (known && strcmp(known, name) == 0)
			return number;
	}
	return 0;
}

static struct rpc_error *send(const struct process *process, const struct msg *msg)
{
	int r;

	/* One that was recalled, until its guest has answered. */
	if (!process->vm)
		return rpc_error_hint(rpc_error_new(RPC_SESSION_BUSY,
						    "The session of process %s waits for its VM",
						    process->id),
				      "send it again in a moment");
	r = agent_link_send(vm_link(process->vm), msg);
	return r < 0 ? rpc_error_new(RPC_VM_TRANSIENT, "Cannot reach the guest of process %s: %s",
				     process->id, strerror(-r))
		     : NULL;
}

struct rpc_reply process_signal(struct process *process, struct rpc_call *call,
				const json_t *params)
{
	const char *name = json_string_value(json_object_get(params, "signal")) ?: "TERM";
	struct rpc_error *error = process_require_living(process);
	struct msg msg = {.type = FRAME_SIGNAL, .signal = {.exec = process->number}};
	int number = parse_signal(name);

	if (!error && number == 0)
		error = rpc_error_set(
			rpc_error_hint(rpc_error_new(RPC_INVALID_PARAMS,
						     "There is no signal '%.32s'", name),
				       "names are such as SIGTERM, TERM, KILL, USR1"),
			"field", json_string("signal"));
	if (error)
		return rpc_reply_error(call, error);
	msg.signal.signal = (uint64_t)number;
	error = send(process, &msg);
	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, json_object());
}

struct rpc_reply process_resize(struct process *process, struct rpc_call *call,
				const json_t *params)
{
	uint64_t rows = (uint64_t)json_integer_value(json_object_get(params, "rows"));
	uint64_t columns = (uint64_t)json_integer_value(json_object_get(params, "columns"));
	struct rpc_error *error = process_require_living(process);
	struct msg msg = {.type = FRAME_RESIZE,
			  .resize = {.exec = process->number, .rows = rows, .columns = columns}};

	if (!error && process->rows == 0)
		error = rpc_error_set(rpc_error_new(RPC_INVALID_PARAMS,
						    "Process %s has no terminal", process->id),
				      "field", json_string("process"));
	if (!error)
		error = send(process, &msg);
	if (error)
		return rpc_reply_error(call, error);
	process->rows = rows;
	process->columns = columns;
	processes_save(process->processes);
	return rpc_reply_result(call, json_object());
}

/* --- How it is. --- */

/* The figures of its receipt, as a RunResult without output. */
static json_t *receipt(const struct process *process)
{
	static const struct output none;
	bool has_failed = strcmp(process->exit.reason, MSG_REASON_FAILED) == 0;
	struct msg_exit exit = process->exit;
	struct run_outcome outcome = {.exit = &exit,
				      .out = &none,
				      .err = &none,
				      .execute_us = process->execute_us,
				      .total_us = process->execute_us,
				      .session = process->processes->config.session,
				      .language = "shell"};
	json_t *result;

	/* As a shell says it of a program that it cannot start. */
	if (has_failed)
		exit.exit_code = 126;
	result = run_result(&outcome);
	if (result && has_failed)
		json_object_set_new(result, "error",
				    json_pack("{s:s, s:s, s:n}", "name", "StartError", "value",
					      exit.detail, "traceback"));
	return result;
}

json_t *process_result(const struct process *process, const uint64_t offsets[PROCESS_STREAMS])
{
	bool has_ended = process->state == PROCESS_ENDED;
	json_t *result = has_ended ? receipt(process)
				   : json_pack("{s:s, s:s}", "state", "running", "session",
					       process->processes->config.session);

	if (!result)
		return NULL;
	json_object_set_new(result, "process", json_string(process->id));
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		ring_to_result(&process->rings[i], process_stream_names[i], offsets[i], has_ended,
			       result);
	return result;
}

json_t *process_describe(const struct process *process)
{
	static const char *const figures[] = {"status", "exit_code", "signal"};
	json_auto_t *result = process->state == PROCESS_ENDED ? receipt(process) : NULL;
	json_t *object =
		json_pack("{s:s, s:s, s:s*, s:o, s:o, s:b, s:I, s:I}", "process", process->id,
			  "state", state_names[process->state], "command", process->command,
			  "started_at", moment_json(process->started_ns), "ended_at",
			  moment_json(process->ended_ns), "stdin_open", !process->input.is_closing,
			  "stdout_bytes", (json_int_t)process->rings[PROCESS_STDOUT].end,
			  "stderr_bytes", (json_int_t)process->rings[PROCESS_STDERR].end);

	if (!object)
		return NULL;
	json_object_set_new(object, "terminal",
			    process->rows > 0
				    ? json_pack("{s:I, s:I}", "rows", (json_int_t)process->rows,
						"columns", (json_int_t)process->columns)
				    : json_null());
	for (size_t i = 0; i < ELEMENTSOF(figures); i++)
		json_object_set(object, figures[i],
				result ? json_object_get(result, figures[i]) : json_null());
	return object;
}
