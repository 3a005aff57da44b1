/* SPDX-License-Identifier: Apache-2.0 */
/* The background processes of one session: started, found, listed, followed, ended. */
#include "daemon/session/processes.h"

#include "base/log.h"
#include "daemon/session/attach.h"
#include "daemon/session/process.h"
#include "daemon/session/process_record.h"
#include "daemon/session/session_internal.h"

#include <string.h>

static void on_pace(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct processes *processes = timer->data;
	size_t count = 0, first, i = 0;
	struct process *process;

	processes->credited = 0;
	TAILQ_FOREACH(process, &processes->list, link)
	count++;
	/* Another one is the first each time: none has all of it for ever. */
	first = count > 0 ? processes->pace_turn++ % count : 0;
	TAILQ_FOREACH(process, &processes->list, link)
	if (i++ >= first)
		process_credit(process);
	i = 0;
	TAILQ_FOREACH(process, &processes->list, link)
	if (i++ < first)
		process_credit(process);
}

bool processes_may_credit(struct processes *processes, size_t bytes)
{
	if (processes->credited >= PROCESSES_PACE_BYTES)
		return false;
	processes->credited += bytes;
	if (!ev_is_active(&processes->pace))
		loop_timer_start(processes->config.env->loop, &processes->pace,
				 PROCESSES_PACE_SECONDS);
	return true;
}

void processes_init(struct processes *processes, const struct processes_config *config)
{
	*processes = (struct processes){.config = *config};
	ev_timer_init(&processes->pace, on_pace, 0., 0.);
	processes->pace.data = processes;
	TAILQ_INIT(&processes->list);
	LIST_INIT(&processes->attachments);
}

static void changed(const struct processes *processes)
{
	processes->config.on_change(processes->config.user);
}

size_t processes_living(const struct processes *processes)
{
	return processes->living;
}

bool processes_are_used(const struct processes *processes)
{
	return processes->calls > 0 || !LIST_EMPTY(&processes->attachments);
}

void processes_call_began(struct processes *processes)
{
	processes->calls++;
	changed(processes);
}

void processes_call_ended(struct processes *processes)
{
	processes->calls--;
	changed(processes);
}

size_t processes_bytes(const struct processes *processes)
{
	const struct process *process;
	size_t bytes = 0;

	TAILQ_FOREACH(process, &processes->list, link)
	{
		bytes += process->input.waiting;
		for (size_t i = 0; i < PROCESS_STREAMS; i++)
			bytes += process->rings[i].size;
	}
	return bytes;
}

/* --- Their number. --- */

struct rpc_error *processes_check_room(const struct processes *processes)
{
	struct rpc_error *error;

	if (processes->living < PROCESSES_MAX)
		return NULL;
	error = rpc_error_new(RPC_QUOTA_EXCEEDED, "%zu background processes run in session %s",
			      processes->living, processes->config.session);
	rpc_error_set(error, "max", json_integer(PROCESSES_MAX));
	return rpc_error_hint(error, "end some of them with process.signal");
}

static void forget(struct processes *processes, struct process *process)
{
	TAILQ_REMOVE(&processes->list, process, link);
	process_free(process);
}

static void forget_oldest_ended(struct processes *processes)
{
	struct process *process;

	TAILQ_FOREACH(process, &processes->list, link)
	{
		if (process->state != PROCESS_ENDED)
			continue;
		processes->ended--;
		forget(processes, process);
		return;
	}
}

struct rpc_reply processes_start(struct processes *processes, struct rpc_call *call,
				 struct run_request *request_take, struct vm *vm, uint32_t number)
{
	struct rpc_error *error = NULL;
	struct process *process = process_create(processes, call, request_take, vm, number, &error);

	if (!process)
		return rpc_reply_error(call, error);
	TAILQ_INSERT_TAIL(&processes->list, process, link);
	processes->living++;
	process_keep(process);
	attach_add(process);
	changed(processes);
	return process_reply_pending(process);
}

/* --- The guest speaks. --- */

static struct process *find_number(const struct processes *processes, uint64_t number)
{
	struct process *process;

	TAILQ_FOREACH(process, &processes->list, link)
	if (process->number == number && process->state != PROCESS_ENDED)
		return process;
	return NULL;
}

static void take_exit(struct processes *processes, struct process *process,
		      const struct msg_exit *exit)
{
	struct agent_link *link = vm_link(process->vm);
	uint32_t number = process->number;
	bool was_there;

	if (process->state == PROCESS_STARTING && strcmp(exit->reason, MSG_REASON_FAILED) != 0)
		process_on_started(process);
	was_there = process->state == PROCESS_RUNNING && !process->is_unwanted;
	process_on_exit(process, exit);
	processes->living--;
	if (was_there)
		processes->ended++;
	else
		forget(processes, process);
	if (processes->ended > PROCESSES_REMEMBERED)
		forget_oldest_ended(processes);
	/* The guest forgets it only when the next daemon would know, or could not be told. */
	processes_save(processes);
	agent_link_exec_done(link, number);
	changed(processes);
}

bool processes_on_message(struct processes *processes, const struct msg *msg)
{
	bool is_exit = msg->type == FRAME_EXIT;
	struct process *process;

	if (!is_exit && msg->type != FRAME_STARTED)
		return false;
	process = find_number(processes, is_exit ? msg->exit.exec : msg->exec_ref.exec);
	if (!process)
		return false;
	if (is_exit)
		take_exit(processes, process, &msg->exit);
	else
		process_on_started(process);
	return true;
}

bool processes_on_output(struct processes *processes, uint32_t number, enum frame_substream sub,
			 const uint8_t *data, size_t len)
{
	struct process *process = find_number(processes, number);

	if (process)
		process_on_output(process, sub, data, len);
	return process != NULL;
}

bool processes_on_input(struct processes *processes, uint32_t number, uint64_t taken)
{
	struct process *process = find_number(processes, number);

	if (process)
		process_input_taken(process, taken);
	return process != NULL;
}

/* --- From one daemon to the next. --- */

void processes_save(const struct processes *processes)
{
	processes->config.on_save(processes->config.user);
}

json_t *processes_record(const struct processes *processes)
{
	const struct process *process;
	json_t *list = json_array();

	TAILQ_FOREACH(process, &processes->list, link)
	if (process_is_recorded(process) &&
	    json_array_append_new(list, process_record(process)) < 0) {
		json_decref(list);
		return NULL;
	}
	return list;
}

bool processes_recall(struct processes *processes, const json_t *record, int vm_dir_fd)
{
	const json_t *one;
	size_t i;

	if (json_array_size(record) > PROCESSES_MAX + PROCESSES_REMEMBERED)
		return false;
	json_array_foreach (record, i, one) {
		struct process *process = process_recall(processes, one, vm_dir_fd);

		/* What the guest is at is a stray then. */
		if (!process)
			continue;
		TAILQ_INSERT_TAIL(&processes->list, process, link);
		if (process->state == PROCESS_ENDED)
			processes->ended++;
		else
			processes->living++;
	}
	return true;
}

void processes_tell_received(const struct processes *processes, json_t *received)
{
	const struct process *process;

	TAILQ_FOREACH(process, &processes->list, link)
	process_tell_received(process, received);
}

/* The guest has told its end to a daemon that could not write it down. */
static void forget_unknown(struct processes *processes, const struct msg_hello_reply *hello)
{
	struct process *process = TAILQ_FIRST(&processes->list), *next;

	for (; process; process = next) {
		next = TAILQ_NEXT(process, link);
		if (process->state == PROCESS_ENDED || agent_link_knows(hello, process->number))
			continue;
		log_warning(process->id, "Has ended, and how was not written down");
		processes->living--;
		forget(processes, process);
	}
}

int processes_take_up(struct processes *processes, struct vm *vm,
		      const struct msg_hello_reply *hello)
{
	struct process *process;
	int r = 0;

	forget_unknown(processes, hello);
	TAILQ_FOREACH(process, &processes->list, link)
	if (r == 0)
		r = process_take_up(process, vm, hello);
	return r;
}

bool processes_has_number(const struct processes *processes, uint64_t number)
{
	return find_number(processes, number) != NULL;
}

/* --- Who asks. --- */

static bool is_shown(const struct process *process)
{
	return process->state != PROCESS_STARTING && !process->is_unwanted;
}

struct process *processes_find(const struct processes *processes, const json_t *params,
			       struct rpc_error **ret_error)
{
	const char *id = json_string_value(json_object_get(params, "process"));
	struct process *process;
	struct rpc_error *error;

	TAILQ_FOREACH(process, &processes->list, link)
	if (strcmp(process->id, id) == 0 && is_shown(process))
		return process;
	error = rpc_error_new(RPC_PROCESS_NOT_FOUND, "There is no process '%.64s' in session %s",
			      id, processes->config.session);
	rpc_error_set(error, "process", json_string(id));
	*ret_error = rpc_error_hint(error,
				    "process.list shows them; of those that have ended, the "
				    "last %d",
				    PROCESSES_REMEMBERED);
	return NULL;
}

json_t *processes_list(const struct processes *processes)
{
	const struct process *process;
	json_t *list = json_array();

	TAILQ_FOREACH(process, &processes->list, link)
	if (is_shown(process))
		json_array_append_new(list, process_describe(process));
	return json_pack("{s:s, s:o}", "session", processes->config.session, "processes", list);
}

/* --- Their end. --- */

void processes_close(struct processes *processes, enum session_reason reason)
{
	struct rpc_error *error = session_closed_error(processes->config.session, reason);
	struct process *process;

	attach_end_all(processes);
	TAILQ_FOREACH(process, &processes->list, link)
	process_fail(process, error);
	/* Behind all that may credit, and so start it. */
	loop_timer_stop(processes->config.env->loop, &processes->pace);
	processes->living = 0;
	rpc_error_free(error);
}

void processes_fini(struct processes *processes)
{
	struct process *process;

	while ((process = TAILQ_FIRST(&processes->list)))
		forget(processes, process);
}
