/* SPDX-License-Identifier: Apache-2.0 */
/* One program in one VM, from its request to the answer of its call. */
#include "daemon/session/exec.h"

#include "base/log.h"
#include "daemon/session/exec_internal.h"
#include "daemon/session/exec_recall.h"
#include "daemon/session/request_record.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {
	[EXEC_WAITING] = "waiting", [EXEC_RECALLED] = "recalled",     [EXEC_RUNNING] = "running",
	[EXEC_KILLING] = "killing", [EXEC_COLLECTING] = "collecting", [EXEC_DONE] = "done",
};
static_assert(ELEMENTSOF(state_names) == EXEC_DONE + 1, "every state has a name");

void exec_free(struct exec *exec)
{
	if (!exec)
		return;
	loop_timer_stop(exec->config.env->loop, &exec->deadline);
	if (exec->record)
		results_forget(exec->record, NULL);
	output_fini(&exec->out);
	output_fini(&exec->err);
	json_decref(exec->exit.error);
	json_decref(exec->files);
	run_request_fini(&exec->request);
	free(exec);
}

static void free_later(void *user)
{
	exec_free(user);
}

void exec_set_state(struct exec *exec, enum exec_state state)
{
	log_debug(exec->vm_id, "Run %s -> %s", state_names[exec->state], state_names[state]);
	exec->state = state;
}

/* The call has its answer, or nobody wants one. */
static void finish(struct exec *exec, enum exec_end end)
{
	loop_timer_stop(exec->config.env->loop, &exec->deadline);
	/* The guest may forget it only when its result is kept; its number is free there before the
	 * next program comes. */
	if (end == EXEC_REPORTED && exec->config.is_shared) {
		exec_drop_verdict(exec);
		agent_link_exec_done(vm_link(exec->vm), exec->number);
	}
	exec_set_state(exec, EXEC_DONE);
	loop_defer(exec->config.env->loop, &exec->free_later, free_later, exec);
	exec->config.ops->on_done(exec->config.user, exec, end);
}

/* `end` is what it is if it has begun. */
static enum exec_end end_of(const struct exec *exec, enum exec_end end)
{
	return exec->state == EXEC_WAITING ? EXEC_NOT_BEGUN : end;
}

/* --- Answers. --- */

static struct output *output_of(struct exec *exec, enum frame_substream sub)
{
	return sub == SUBSTREAM_STDERR ? &exec->err : &exec->out;
}

static void stream_chunk(struct exec *exec, enum frame_substream sub, bool is_end)
{
	json_t *chunk, *params;

	if (!exec->request.is_streaming || !exec->call || !rpc_call_id(exec->call))
		return;
	chunk = output_next_chunk(output_of(exec, sub), is_end);
	if (!chunk)
		return;
	params = json_pack("{s:O, s:I, s:s}", "id", rpc_call_id(exec->call), "seq", exec->seq++,
			   "stream", sub == SUBSTREAM_STDERR ? "stderr" : "stdout");
	json_object_update_missing(params, chunk);
	json_decref(chunk);
	rpc_call_notify(exec->call, "run.output", params);
}

static json_t *make_result(struct exec *exec, enum run_verdict verdict, const struct msg_exit *exit)
{
	uint64_t now = now_us();
	bool has_run = exec->dispatched_us > 0;
	struct run_outcome outcome = {
		.verdict = verdict,
		.exit = exit,
		.out = &exec->out,
		.err = &exec->err,
		.queue_us = (exec->granted_us ? exec->granted_us : now) - exec->asked_us,
		.start_us = has_run ? exec->dispatched_us - exec->granted_us : 0,
		.execute_us = has_run ? (exec->ended_us ?: now) - exec->dispatched_us : 0,
		.total_us = now - exec->asked_us,
		.vm = exec->vm_id,
		.session = exec->config.session,
		.language = exec->request.language,
		.start = pool_start_name(exec->start),
		.files = exec->files,
	};
	json_t *result = run_result(&outcome);
	const char *status = json_string_value(json_object_get(result, "status"));

	/* One whose caller has gone was counted then. */
	if (status && (exec->call || exec->record))
		run_counters_add(exec->config.env->counters, status, &outcome, exec->start);
	return result;
}

json_t *exec_output_chunk(const struct exec *exec, enum frame_substream sub, uint64_t *offset,
			  size_t max)
{
	const struct output *output = sub == SUBSTREAM_STDERR ? &exec->err : &exec->out;

	return output_chunk_from(output, offset, max);
}

json_t *exec_partial_result(struct exec *exec)
{
	return make_result(exec, VERDICT_CANCELLED, NULL);
}

json_t *exec_progress(const struct exec *exec, uint64_t stdout_offset, uint64_t stderr_offset)
{
	json_t *progress = json_pack("{s:s, s:s*, s:s*, s:s}", "state", "running", "vm",
				     *exec->vm_id ? exec->vm_id : NULL, "session",
				     exec->config.session, "language", exec->request.language);

	if (!progress)
		return NULL;
	output_to_result_from(&exec->out, "stdout", stdout_offset, false, progress);
	output_to_result_from(&exec->err, "stderr", stderr_offset, false, progress);
	return progress;
}

void exec_answer_error(struct exec *exec, struct rpc_error *error_take, enum exec_end end)
{
	struct rpc_call *call = TAKE_PTR(exec->call);
	struct result_record *record = TAKE_PTR(exec->record);
	/* One that was abandoned, or whose result is told, was counted. */
	bool is_new = (call || record) && !json_object_get(error_take->data, "result");

	if (record && (exec->state == EXEC_WAITING || error_take->code == RPC_VM_TRANSIENT))
		results_forget(record, error_take);
	else if (record)
		results_fail(record, error_take);
	if (is_new)
		run_counters_add_error(exec->config.env->counters, error_take->code);
	if (call)
		rpc_call_finish_error(call, error_take);
	else
		rpc_error_free(error_take);
	finish(exec, end);
}

void exec_fail(struct exec *exec, struct rpc_error *error_take)
{
	if (exec->state == EXEC_DONE)
		rpc_error_free(error_take);
	else
		exec_answer_error(exec, error_take, end_of(exec, EXEC_UNREPORTED));
}

/* There is an outcome; `exit` is the guest's receipt or NULL. */
void exec_answer(struct exec *exec, const struct msg_exit *exit, enum exec_end end)
{
	struct rpc_call *call;
	json_t *result;

	stream_chunk(exec, SUBSTREAM_STDOUT, true);
	stream_chunk(exec, SUBSTREAM_STDERR, true);
	result = make_result(exec, exec->verdict, exit);
	if (exec->verdict == VERDICT_CANCELLED) {
		struct rpc_error *error = rpc_error_new(
			RPC_CANCELLED, "The run was cancelled; data.result has its output so far");

		exec_answer_error(exec, rpc_error_set(error, "result", result), end);
		return;
	}
	if (!result) {
		/* An end all the same, or it would run again. */
		exec_answer_error(exec, rpc_error_no_memory(), end);
		return;
	}
	if (exec->record)
		results_end(TAKE_PTR(exec->record), result, &exec->out, &exec->err);
	/* The result has a copy, and its reply will be another. */
	output_fini(&exec->out);
	output_fini(&exec->err);
	call = TAKE_PTR(exec->call);
	if (call)
		rpc_call_finish_result(call, result);
	else
		json_decref(result);
	finish(exec, end);
}

/* --- The guest speaks. --- */

static void credit(struct exec *exec, enum frame_substream sub, size_t len)
{
	size_t *held = &exec->held[sub == SUBSTREAM_STDERR];

	/* Only streamed output waits for its reader: what is kept for the result is bounded anyway,
	 * and must not keep a program that has ended from being answered in time. */
	if (exec->state == EXEC_RUNNING && exec->request.is_streaming && exec->call &&
	    rpc_call_is_congested(exec->call)) {
		*held += len;
		return;
	}
	agent_link_take(vm_link(exec->vm), exec->number, sub, len + *held);
	*held = 0;
}

static void collect(struct exec *exec, const struct msg_exit *exit)
{
	exec->exit = *exit;
	json_incref(exec->exit.error);
	exec->ended_us = now_us();
	loop_timer_stop(exec->config.env->loop, &exec->deadline);
	exec_set_state(exec, EXEC_COLLECTING);
	exec->config.ops->on_ended(exec->config.user, exec);
}

void exec_collected(struct exec *exec, json_t *files_take)
{
	if (exec->state != EXEC_COLLECTING) {
		json_decref(files_take);
		return;
	}
	exec->files = files_take;
	exec_answer(exec, &exec->exit, EXEC_REPORTED);
}

static void on_receipt(struct exec *exec, const struct msg_exit *exit)
{
	if (strcmp(exit->reason, MSG_REASON_FAILED) == 0 && exec->verdict == VERDICT_NONE) {
		exec_answer_error(exec, run_start_error(exit->detail), EXEC_REPORTED);
		return;
	}
	if (exec->config.ops->on_ended && exec->verdict != VERDICT_CANCELLED)
		collect(exec, exit);
	else
		exec_answer(exec, exit, EXEC_REPORTED);
}

/* Once: a guest that repeats itself does not fill its client's connection. */
static void notify_started(struct exec *exec)
{
	if (!exec->request.is_streaming || exec->is_started || !exec->call ||
	    !rpc_call_id(exec->call))
		return;
	exec->is_started = true;
	rpc_call_notify(exec->call, "run.started",
			json_pack("{s:O, s:s}", "id", rpc_call_id(exec->call), "vm", exec->vm_id));
}

static void on_message(void *user, const struct msg *msg)
{
	struct exec *exec = user;

	if (exec->state == EXEC_DONE || exec->state == EXEC_COLLECTING)
		return;
	if (msg->type == FRAME_EXIT && msg->exit.exec == exec->number)
		on_receipt(exec, &msg->exit);
	else if (msg->type == FRAME_STARTED && msg->exec_ref.exec == exec->number)
		notify_started(exec);
}

static void on_output(void *user, uint32_t number, enum frame_substream sub, const uint8_t *data,
		      size_t len)
{
	struct exec *exec = user;
	int r;

	if (exec->state == EXEC_DONE || exec->state == EXEC_COLLECTING || number != exec->number)
		return;
	r = output_add(output_of(exec, sub), data, len);
	if (r < 0) {
		exec_answer_error(
			exec,
			rpc_error_new(r == -EMSGSIZE ? RPC_GUEST_PROTOCOL : RPC_INTERNAL_ERROR,
				      r == -EMSGSIZE ? "The guest sent more output than "
						       "the run's limit"
						     : "The daemon is out of memory"),
			EXEC_BROKEN);
		return;
	}
	stream_chunk(exec, sub, false);
	credit(exec, sub, len);
}

static void on_lost(void *user, struct rpc_error *error_take)
{
	struct exec *exec = user;

	if (exec->state == EXEC_KILLING) {
		/* It was to die anyway: the verdict stands. */
		rpc_error_free(error_take);
		exec_answer(exec, NULL, EXEC_LOST);
		return;
	}
	rpc_error_hint(error_take, "whether the program had effects is not known; the VM is gone");
	exec_answer_error(exec, error_take, EXEC_LOST);
}

const struct vm_client_ops exec_client_ops = {
	.on_message = on_message, .on_output = on_output, .on_lost = on_lost};

/* --- Steps, in time order. --- */

static int dispatch(struct exec *exec)
{
	struct run_request *request = &exec->request;
	struct msg_exec msg = {
		.exec = exec->number,
		.args = request->args,
		.env = request->env,
		.realtime_ns = realtime_ns(),
		.stdout_limit = request->stdout_limit,
		.stderr_limit = request->stderr_limit,
		.stop_at_limit = request->stop_at_limit,
		.memory_max_bytes = request->memory_mb << 20,
		.pids_max = request->pids,
		.cpu_seconds = request->cpu_seconds,
		.disk_max_bytes = request->disk_mb << 20,
		.is_resident = request->is_resident,
	};

	memcpy(msg.language, request->language, sizeof(msg.language));
	snprintf(msg.cwd, sizeof(msg.cwd), "%s", request->cwd ?: "");
	return agent_link_exec(vm_link(exec->vm), &msg, TAKE_PTR(request->code), request->code_len,
			       TAKE_PTR(request->input), request->input_len);
}

void exec_set_vm(struct exec *exec, struct vm *vm, uint32_t number)
{
	exec->vm = vm;
	exec->number = number;
	memcpy(exec->vm_id, vm_id(vm), sizeof(exec->vm_id));
}

/* What the next daemon would need is written before the guest can know of it. */
static void keep(struct exec *exec)
{
	json_auto_t *settled = exec->record ? request_record(&exec->request) : NULL;
	const struct results_dispatch dispatch = {
		.vm = exec->vm_id,
		.session = exec->config.session,
		.language = exec->request.language,
		.start = pool_start_name(exec->start),
		.number = exec->number,
		.granted_us = exec->granted_us,
		.settled = settled,
	};

	if (!exec->record)
		return;
	if (!exec->out.spool) /* one that was recalled has it */
		exec_spool(exec);
	results_dispatched(exec->record, &dispatch);
}

void exec_begin(struct exec *exec, struct vm *vm, uint32_t number, enum pool_start start,
		uint64_t granted_us)
{
	int r;

	exec_set_vm(exec, vm, number);
	exec->start = start;
	exec->granted_us = granted_us;
	exec->dispatched_us = now_us();
	exec_set_state(exec, EXEC_RUNNING);
	keep(exec);
	r = dispatch(exec);
	if (r < 0) {
		exec_answer_error(exec,
				  rpc_error_new(RPC_VM_TRANSIENT,
						"Cannot send the program to VM %s: %s", exec->vm_id,
						strerror(-r)),
				  EXEC_LOST);
		return;
	}
	loop_timer_start(exec->config.env->loop, &exec->deadline, exec->request.timeout_seconds);
}

void exec_kill_program(struct exec *exec, enum run_verdict verdict)
{
	double grace_seconds = (double)exec->config.env->config->kill_grace_ms / 1000;
	struct msg msg = {.type = FRAME_KILL,
			  .kill = {.exec = exec->number,
				   .grace_ms = (uint64_t)exec->config.env->config->kill_grace_ms}};

	exec->verdict = verdict;
	if (exec->record)
		exec_note_verdict(exec);
	exec_set_state(exec, EXEC_KILLING);
	/* A link that takes no KILL has the same end as a guest that ignores it: the next deadline.
	 */
	(void)agent_link_send(vm_link(exec->vm), &msg);
	/* Its last output may go before its end can come, whether its caller reads or not. */
	credit(exec, SUBSTREAM_STDOUT, 0);
	credit(exec, SUBSTREAM_STDERR, 0);
	loop_timer_start(exec->config.env->loop, &exec->deadline,
			 grace_seconds + EXEC_KILL_REPORT_SECONDS);
}

static void on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct exec *exec = timer->data;

	if (exec->state == EXEC_RUNNING)
		exec_kill_program(exec, VERDICT_TIMEOUT);
	else
		exec_answer(exec, NULL, EXEC_UNREPORTED);
}

/* --- The caller. --- */

void exec_cancel(struct exec *exec)
{
	switch (exec->state) {
	case EXEC_WAITING:
		exec->verdict = VERDICT_CANCELLED;
		exec_answer(exec, NULL, EXEC_NOT_BEGUN);
		break;
	case EXEC_RECALLED:
		exec->verdict = VERDICT_CANCELLED;
		break;
	case EXEC_RUNNING:
		exec_kill_program(exec, VERDICT_CANCELLED);
		break;
	case EXEC_COLLECTING:
		exec->verdict = VERDICT_CANCELLED;
		exec_answer(exec, &exec->exit, EXEC_REPORTED);
		break;
	case EXEC_KILLING:
	case EXEC_DONE:
		break;
	}
}

static void on_cancel(void *user)
{
	exec_cancel(user);
}

static void on_congested(void *user, bool is_congested)
{
	struct exec *exec = user;

	if (is_congested || !exec->vm || exec->state == EXEC_DONE)
		return;
	credit(exec, SUBSTREAM_STDOUT, 0);
	credit(exec, SUBSTREAM_STDERR, 0);
}

static void on_gone(void *user)
{
	struct exec *exec = user;

	exec->call = NULL;
	if (exec->state == EXEC_DONE)
		return;
	if (exec->record) {
		/* What it held back for its reader goes on, too. */
		on_congested(exec, false);
		return;
	}
	run_counters_add_abandoned(exec->config.env->counters, exec->request.language);
	if (exec->config.is_shared && exec->state == EXEC_RUNNING)
		exec_kill_program(exec, VERDICT_CANCELLED);
	else if (!exec->config.is_shared || exec->state == EXEC_WAITING)
		finish(exec, end_of(exec, EXEC_UNREPORTED));
}

static void on_stop(void *user)
{
	struct exec *exec = user;
	bool has_begun = exec->state != EXEC_WAITING;
	struct rpc_error *error;

	if (exec->state == EXEC_COLLECTING) {
		exec_answer(exec, &exec->exit, EXEC_STOPPED);
		return;
	}
	error = has_begun ? rpc_error_new(RPC_VM_LOST, "The daemon stopped while the code ran")
			  : rpc_error_new(RPC_DRAINING, "The daemon stopped; the code never ran");

	rpc_error_hint(error, has_begun ? "whether it had effects is not known"
					: "send it again after the restart");
	if (exec->state == EXEC_DONE)
		rpc_error_free(error);
	else
		exec_answer_error(exec, error, end_of(exec, EXEC_STOPPED));
}

static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel,
					     .on_gone = on_gone,
					     .on_congested = on_congested,
					     .on_stop = on_stop};

/* --- Life. --- */

struct exec *exec_new(const struct exec_config *config, struct rpc_call *call,
		      struct run_request *request_take)
{
	struct exec *exec = calloc(1, sizeof(*exec));

	if (!exec)
		return NULL;
	exec->config = *config;
	if (config->session) {
		snprintf(exec->session_id, sizeof(exec->session_id), "%s", config->session);
		exec->config.session = exec->session_id;
	}
	exec->call = call;
	exec->request = *request_take;
	*request_take = (struct run_request){0};
	exec->asked_us = now_us();
	exec->out.limit = exec->request.stdout_limit;
	exec->err.limit = exec->request.stderr_limit;
	ev_timer_init(&exec->deadline, on_deadline, 0., 0.);
	exec->deadline.data = exec;
	return exec;
}

struct exec *exec_create(const struct exec_config *config, struct rpc_call *call,
			 const json_t *params, struct run_request *request_take,
			 struct rpc_error **ret_error)
{
	size_t bytes = request_take->code_len + request_take->input_len + config->extra_bytes;
	struct exec *exec = NULL;

	if (rpc_call_hold(call, bytes)) {
		exec = exec_new(config, call, request_take);
		if (!exec)
			*ret_error =
				rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	} else {
		*ret_error = rpc_error_hint(
			rpc_error_new(
				RPC_QUOTA_EXCEEDED,
				"Programs and input of your requests in flight fill the buffers"),
			"wait for some of them to end");
	}
	run_request_fini(request_take);
	if (exec)
		exec->record =
			results_begin(config->env->results, call, params, exec, bytes, ret_error);
	if (exec && *ret_error) {
		exec_free(exec);
		return NULL;
	}
	return exec;
}

struct rpc_reply exec_reply_pending(struct exec *exec)
{
	return rpc_reply_pending(exec->call, &call_ops, exec);
}

bool exec_hold(struct exec *exec, size_t bytes)
{
	return !exec->call || rpc_call_hold(exec->call, bytes);
}

bool exec_is_kept(const struct exec *exec)
{
	return exec->record != NULL;
}

bool exec_is_waiting(const struct exec *exec)
{
	return exec->state == EXEC_WAITING;
}

struct rpc_error *exec_refused(const struct exec_env *env, struct rpc_error *error)
{
	run_counters_add_error(env->counters, error->code);
	return error;
}
