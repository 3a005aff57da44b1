/* SPDX-License-Identifier: Apache-2.0 */
/* A background process that outlives the daemon. */
#include "daemon/session/process_record.h"

#include "base/log.h"
#include "daemon/session/session_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const limit_names[PROCESS_STREAMS] = {
	[PROCESS_STDOUT] = "stdout_limit",
	[PROCESS_STDERR] = "stderr_limit",
};

/* Beside the sockets of its VM. */
static void ring_name(uint32_t number, size_t stream, char ret[32])
{
	snprintf(ret, 32, "%u.%s", number, stream == PROCESS_STDERR ? "err" : "out");
}

void process_keep(struct process *process)
{
	int dir_fd = vm_open_dir(vm_get_host(process->vm), vm_id(process->vm));
	int r = MIN(dir_fd, 0);
	char name[32];

	for (size_t i = 0; i < PROCESS_STREAMS && r == 0; i++) {
		ring_name(process->number, i, name);
		r = ring_keep(&process->rings[i], dir_fd, name);
	}
	close_fd(dir_fd);
	process->is_kept = r == 0;
	if (r < 0)
		log_warning(process->id, "Would not outlive the daemon, its output is not kept: %s",
			    strerror(-r));
}

bool process_is_recorded(const struct process *process)
{
	return process->state != PROCESS_STARTING && !process->is_unwanted && process->is_kept;
}

static json_t *pack_exit(const struct process *process)
{
	struct msg msg = {.type = FRAME_EXIT, .exit = process->exit};
	_cleanup_free_ char *text = NULL;

	msg.exit.exec = process->number;
	return msg_encode(&msg, &text) < 0 ? NULL : json_string(text);
}

static bool add_number(json_t *record, const char *name, uint64_t value)
{
	return json_object_set_new(record, name, json_integer((json_int_t)value)) == 0;
}

json_t *process_record(const struct process *process)
{
	json_t *record =
		json_pack("{s:s, s:I, s:s*, s:I, s:I, s:I, s:I, s:b}", "id", process->id, "number",
			  (json_int_t)process->number, "command", process->command, "rows",
			  (json_int_t)process->rows, "columns", (json_int_t)process->columns,
			  "begun_us", (json_int_t)process->begun_us, "started_ns",
			  (json_int_t)process->started_ns, "is_closing", process->input.is_closing);
	bool is_whole = record != NULL;

	for (size_t i = 0; i < PROCESS_STREAMS && is_whole; i++)
		is_whole = add_number(record, limit_names[i], process->rings[i].limit);
	if (is_whole && process->state == PROCESS_ENDED)
		is_whole = json_object_set_new(record, "exit", pack_exit(process)) == 0 &&
			   add_number(record, "execute_us", process->execute_us) &&
			   add_number(record, "ended_ns", process->ended_ns);
	if (is_whole)
		return record;
	json_decref(record);
	return NULL;
}

/* --- What was. --- */

static uint64_t number_of(const json_t *record, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(record, name));

	return value > 0 ? (uint64_t)value : 0;
}

/* Its receipt, if it has one. False when that is none. */
static bool recall_exit(struct process *process, const json_t *record)
{
	const json_t *text = json_object_get(record, "exit");
	const char *why;
	struct msg msg;

	if (!text)
		return true;
	if (msg_decode(FRAME_EXIT, (const uint8_t *)json_string_value(text),
		       json_string_length(text), &msg, &why) < 0)
		return false;
	json_decref(TAKE_PTR(msg.exit.error));
	process->exit = msg.exit;
	process->execute_us = number_of(record, "execute_us");
	process->ended_ns = number_of(record, "ended_ns");
	process->state = PROCESS_ENDED;
	return true;
}

static bool recall(struct process *process, const json_t *record)
{
	const char *id = json_string_value(json_object_get(record, "id"));
	const char *command = json_string_value(json_object_get(record, "command"));
	uint64_t number = number_of(record, "number");

	if (!id || number == 0 || number > FRAME_EXEC_MAX ||
	    (size_t)snprintf(process->id, sizeof(process->id), "%s", id) >= sizeof(process->id))
		return false;
	process->state = PROCESS_RUNNING;
	process->number = (uint32_t)number;
	process->command = command ? strdup(command) : NULL;
	process->rows = number_of(record, "rows");
	process->columns = number_of(record, "columns");
	process->begun_us = MIN(number_of(record, "begun_us"), now_us());
	process->started_ns = number_of(record, "started_ns");
	process->input.is_closing = json_is_true(json_object_get(record, "is_closing"));
	return recall_exit(process, record);
}

struct process *process_recall(struct processes *processes, const json_t *record, int vm_dir_fd)
{
	struct process *process = process_new(processes);
	char name[32];
	int r = 0;

	if (!process)
		return NULL;
	if (!recall(process, record)) {
		process_free(process);
		return NULL;
	}
	for (size_t i = 0; i < PROCESS_STREAMS && r == 0; i++) {
		ring_name(process->number, i, name);
		r = ring_load(&process->rings[i], (size_t)number_of(record, limit_names[i]),
			      vm_dir_fd, name);
		if (r == 0 && process->state == PROCESS_ENDED)
			ring_trim(&process->rings[i]);
	}
	if (r < 0) {
		log_warning(process->id, "Its output is not there: %s", strerror(-r));
		process_free(process);
		return NULL;
	}
	process->is_kept = true;
	return process;
}

/* --- How it goes on. --- */

void process_tell_received(const struct process *process, json_t *received)
{
	if (process->state == PROCESS_ENDED)
		return;
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		agent_link_tell_received(received, process->number, process_stream_subs[i],
					 process->rings[i].end);
}

int process_take_up(struct process *process, struct vm *vm, const struct msg_hello_reply *hello)
{
	struct agent_link_resume resume = {
		.exec = process->number,
		.is_background = true,
		.output_bytes = {process->rings[PROCESS_STDOUT].end,
				 process->rings[PROCESS_STDERR].end},
	};
	int r;

	if (process->state == PROCESS_ENDED)
		return 0;
	process->vm = vm;
	process->input.written = agent_link_received(hello, process->number, SUBSTREAM_STDIN);
	r = agent_link_resume(vm_link(vm), &resume, hello);
	if (r == 0)
		process_input_pump(process);
	return r;
}
