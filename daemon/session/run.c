/* SPDX-License-Identifier: Apache-2.0 */
/* One `run`: a program, a fresh VM, an outcome. */
#include "daemon/session/run.h"

#include "base/log.h"
#include "daemon/session/output.h"
#include "daemon/session/request.h"
#include "daemon/session/result.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The only exec of its VM. */
#define EXEC_NUMBER 1
/* What a guest gets to report its end after the SIGKILL (API, "Closer rules"). */
#define KILL_REPORT_SECONDS 0.25

enum run_state {
	RUN_WAITING,
	RUN_RUNNING,
	RUN_KILLING,
	RUN_DONE,
};

struct run {
	struct run_env env;
	enum run_state state;
	enum run_verdict verdict;
	struct rpc_call *call; /* NULL once answered or gone */
	struct run_request request;
	struct pool_request wish;
	struct vm *vm; /* from on_vm to the end */
	char vm_id[VM_ID_SIZE];
	struct output out, err;
	size_t held[2];  /* bytes not credited yet because the caller is slow */
	json_int_t seq;  /* of run.output */
	bool is_started; /* run.started was sent */
	uint64_t asked_us, granted_us, dispatched_us;
	ev_timer deadline;
	struct defer free_later;
};

static const char *const state_names[] = {
	[RUN_WAITING] = "waiting",
	[RUN_RUNNING] = "running",
	[RUN_KILLING] = "killing",
	[RUN_DONE] = "done",
};
static_assert(ELEMENTSOF(state_names) == RUN_DONE + 1, "every state has a name");

static void free_run(void *user)
{
	struct run *run = user;

	output_fini(&run->out);
	output_fini(&run->err);
	run_request_fini(&run->request);
	free(run);
}

static void set_state(struct run *run, enum run_state state)
{
	log_debug(run->vm_id, "Run %s -> %s", state_names[run->state], state_names[state]);
	run->state = state;
	if (state != RUN_DONE)
		return;
	loop_timer_stop(run->env.loop, &run->deadline);
	if (run->vm)
		pool_release(run->env.pool, TAKE_PTR(run->vm));
	else
		pool_cancel(run->env.pool, &run->wish);
	loop_defer(run->env.loop, &run->free_later, free_run, run);
}

/* --- Answers. --- */

static struct output *output_of(struct run *run, enum frame_substream sub)
{
	return sub == SUBSTREAM_STDERR ? &run->err : &run->out;
}

static void stream_chunk(struct run *run, enum frame_substream sub, bool is_end)
{
	json_t *chunk, *params;

	if (!run->request.is_streaming || !run->call || !rpc_call_id(run->call))
		return;
	chunk = output_next_chunk(output_of(run, sub), is_end);
	if (!chunk)
		return;
	params = json_pack("{s:O, s:I, s:s}", "id", rpc_call_id(run->call), "seq", run->seq++,
			   "stream", sub == SUBSTREAM_STDERR ? "stderr" : "stdout");
	json_object_update_missing(params, chunk);
	json_decref(chunk);
	rpc_call_notify(run->call, "run.output", params);
}

static json_t *make_result(struct run *run, const struct msg_exit *exit)
{
	uint64_t now = now_us();
	bool has_run = run->dispatched_us > 0;
	const char *status;
	json_t *result;
	struct run_outcome outcome = {
		.verdict = run->verdict,
		.exit = exit,
		.out = &run->out,
		.err = &run->err,
		.queue_us = (run->granted_us ? run->granted_us : now) - run->asked_us,
		.start_us = has_run ? run->dispatched_us - run->granted_us : 0,
		.execute_us = has_run ? now - run->dispatched_us : 0,
		.total_us = now - run->asked_us,
		.vm = run->vm_id,
		.language = run->request.language,
		.start = pool_start_name(run->wish.start),
	};

	result = run_result(&outcome);
	status = json_string_value(json_object_get(result, "status"));
	if (status)
		run_counters_add(run->env.counters, status, &outcome, run->wish.start);
	return result;
}

static void answer_error(struct run *run, struct rpc_error *error_take)
{
	struct rpc_call *call = TAKE_PTR(run->call);

	if (error_take->code != RPC_CANCELLED) /* that has a result, which was counted */
		run_counters_add_error(run->env.counters, error_take->code);

	if (call)
		rpc_call_finish_error(call, error_take);
	else
		rpc_error_free(error_take);
	set_state(run, RUN_DONE);
}

/* The run has an outcome; `exit` is the guest's receipt or NULL. */
static void answer(struct run *run, const struct msg_exit *exit)
{
	struct rpc_call *call;
	json_t *result;

	stream_chunk(run, SUBSTREAM_STDOUT, true);
	stream_chunk(run, SUBSTREAM_STDERR, true);
	result = make_result(run, exit);
	if (run->verdict == VERDICT_CANCELLED) {
		struct rpc_error *error = rpc_error_new(
			RPC_CANCELLED, "The run was cancelled; data.result has its output so far");

		answer_error(run, rpc_error_set(error, "result", result));
		return;
	}
	call = TAKE_PTR(run->call);
	if (call)
		rpc_call_finish_result(call, result);
	else
		json_decref(result);
	set_state(run, RUN_DONE);
}

/* --- The guest speaks. --- */

static void credit(struct run *run, enum frame_substream sub, size_t len)
{
	size_t *held = &run->held[sub == SUBSTREAM_STDERR];

	/* Only streamed output waits for its reader: what is kept for the result is bounded anyway,
	 * and must not keep a program that has ended from being answered in time. */
	if (run->request.is_streaming && run->call && rpc_call_is_congested(run->call)) {
		*held += len;
		return;
	}
	agent_link_take(vm_link(run->vm), EXEC_NUMBER, sub, len + *held);
	*held = 0;
}

static void on_receipt(struct run *run, const struct msg_exit *exit)
{
	if (strcmp(exit->reason, MSG_REASON_FAILED) == 0 && run->verdict == VERDICT_NONE) {
		answer_error(run, rpc_error_new(RPC_VM_TRANSIENT,
						"The guest could not start the program: %.200s",
						exit->detail));
		return;
	}
	answer(run, exit);
}

/* Once: a guest that repeats itself does not fill its client's connection. */
static void notify_started(struct run *run)
{
	if (!run->request.is_streaming || run->is_started || !run->call || !rpc_call_id(run->call))
		return;
	run->is_started = true;
	rpc_call_notify(run->call, "run.started",
			json_pack("{s:O, s:s}", "id", rpc_call_id(run->call), "vm", run->vm_id));
}

static void on_message(void *user, const struct msg *msg)
{
	struct run *run = user;

	if (run->state == RUN_DONE)
		return;
	if (msg->type == FRAME_EXIT && msg->exit.exec == EXEC_NUMBER)
		on_receipt(run, &msg->exit);
	else if (msg->type == FRAME_STARTED)
		notify_started(run);
}

static void on_output(void *user, uint32_t exec UNUSED, enum frame_substream sub,
		      const uint8_t *data, size_t len)
{
	struct run *run = user;
	int r;

	if (run->state == RUN_DONE)
		return;
	r = output_add(output_of(run, sub), data, len);
	if (r < 0) {
		answer_error(run,
			     rpc_error_new(r == -EMSGSIZE ? RPC_GUEST_PROTOCOL : RPC_INTERNAL_ERROR,
					   r == -EMSGSIZE ? "The guest sent more output than "
							    "the run's limit"
							  : "The daemon is out of memory"));
		return;
	}
	stream_chunk(run, sub, false);
	credit(run, sub, len);
}

static void on_lost(void *user, struct rpc_error *error_take)
{
	struct run *run = user;

	if (run->state == RUN_KILLING) {
		/* It was to die anyway: the verdict stands. */
		rpc_error_free(error_take);
		answer(run, NULL);
		return;
	}
	rpc_error_hint(error_take, "whether the program had effects is not known; the VM is gone");
	answer_error(run, error_take);
}

static const struct vm_client_ops client_ops = {
	.on_message = on_message, .on_output = on_output, .on_lost = on_lost};

/* --- Steps, in time order. --- */

static int dispatch(struct run *run)
{
	struct run_request *request = &run->request;
	struct msg_exec exec = {
		.exec = EXEC_NUMBER,
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
	};

	memcpy(exec.language, request->language, sizeof(exec.language));
	return agent_link_exec(vm_link(run->vm), &exec, TAKE_PTR(request->code), request->code_len,
			       TAKE_PTR(request->input), request->input_len);
}

static void on_vm(void *user, struct vm *vm)
{
	struct run *run = user;
	int r;

	run->vm = vm;
	memcpy(run->vm_id, vm_id(vm), sizeof(run->vm_id));
	run->granted_us = run->wish.granted_us;
	run->dispatched_us = now_us();
	vm_attach(vm, run->wish.spec.uid, &client_ops, run);
	set_state(run, RUN_RUNNING);
	r = dispatch(run);
	if (r < 0) {
		answer_error(run,
			     rpc_error_new(RPC_VM_TRANSIENT, "Cannot send the program to VM %s: %s",
					   run->vm_id, strerror(-r)));
		return;
	}
	loop_timer_start(run->env.loop, &run->deadline, run->request.timeout_seconds);
}

static void on_no_vm(void *user, struct rpc_error *error_take)
{
	answer_error(user, error_take);
}

static void kill_run(struct run *run, enum run_verdict verdict)
{
	double grace_seconds = (double)run->env.config->kill_grace_ms / 1000;
	struct msg msg = {.type = FRAME_KILL,
			  .kill = {.exec = EXEC_NUMBER,
				   .grace_ms = (uint64_t)run->env.config->kill_grace_ms}};

	run->verdict = verdict;
	set_state(run, RUN_KILLING);
	/* A link that takes no KILL has the same end as a guest that ignores it: the next deadline.
	 */
	(void)agent_link_send(vm_link(run->vm), &msg);
	loop_timer_start(run->env.loop, &run->deadline, grace_seconds + KILL_REPORT_SECONDS);
}

static void on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct run *run = timer->data;

	if (run->state == RUN_RUNNING)
		kill_run(run, VERDICT_TIMEOUT);
	else
		answer(run, NULL);
}

/* --- The caller. --- */

static void on_cancel(void *user)
{
	struct run *run = user;

	switch (run->state) {
	case RUN_WAITING:
		run->verdict = VERDICT_CANCELLED;
		answer(run, NULL);
		break;
	case RUN_RUNNING:
		kill_run(run, VERDICT_CANCELLED);
		break;
	case RUN_KILLING:
	case RUN_DONE:
		break;
	}
}

static void on_gone(void *user)
{
	struct run *run = user;

	run->call = NULL;
	if (run->state == RUN_DONE)
		return;
	run_counters_add_abandoned(run->env.counters, run->request.language);
	set_state(run, RUN_DONE);
}

static void on_congested(void *user, bool is_congested)
{
	struct run *run = user;

	if (is_congested || !run->vm || run->state == RUN_DONE)
		return;
	credit(run, SUBSTREAM_STDOUT, 0);
	credit(run, SUBSTREAM_STDERR, 0);
}

static void on_stop(void *user)
{
	struct run *run = user;
	struct rpc_error *error =
		run->state == RUN_WAITING
			? rpc_error_new(RPC_DRAINING, "The daemon stopped; the code never ran")
			: rpc_error_new(RPC_VM_LOST, "The daemon stopped while the code ran");

	if (run->state == RUN_DONE) {
		rpc_error_free(error);
		return;
	}
	answer_error(run, rpc_error_hint(error, run->state == RUN_WAITING
							? "send it again after the restart"
							: "whether it had effects is not known"));
}

static const struct rpc_call_ops call_ops = {.on_cancel = on_cancel,
					     .on_gone = on_gone,
					     .on_congested = on_congested,
					     .on_stop = on_stop};

static struct run *run_new(const struct run_env *env, struct rpc_call *call,
			   const struct run_request *request)
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->env = *env;
	run->call = call;
	run->request = *request;
	run->asked_us = now_us();
	run->out.limit = request->stdout_limit;
	run->err.limit = request->stderr_limit;
	run->wish = (struct pool_request){
		.spec = {.memory_mb = request->vm_memory_mb, .uid = rpc_call_peer(call)->uid},
		.on_vm = on_vm,
		.on_failed = on_no_vm,
		.user = run};
	run->wish.spec.language = run->request.language;
	ev_timer_init(&run->deadline, on_deadline, 0., 0.);
	run->deadline.data = run;
	return run;
}

static struct rpc_reply refuse(const struct run_env *env, struct rpc_call *call,
			       struct rpc_error *error_take)
{
	run_counters_add_error(env->counters, error_take->code);
	return rpc_reply_error(call, error_take);
}

struct rpc_reply run_start(const struct run_env *env, struct rpc_call *call, const json_t *params)
{
	struct run_request request;
	struct rpc_error *error =
		run_request_parse(params, env->config, pool_max_memory_mb(env->pool), &request);
	struct run *run;

	if (error)
		return refuse(env, call, error);
	if (!rpc_call_hold(call, request.code_len + request.input_len)) {
		run_request_fini(&request);
		error = rpc_error_new(
			RPC_QUOTA_EXCEEDED,
			"Programs and input of your requests in flight fill the buffers");
		return refuse(env, call, rpc_error_hint(error, "wait for some of them to end"));
	}
	run = run_new(env, call, &request);
	if (!run) {
		run_request_fini(&request);
		return refuse(env, call,
			      rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory"));
	}
	error = pool_acquire(env->pool, &run->wish);
	if (error) {
		free_run(run);
		return refuse(env, call, error);
	}
	return rpc_reply_pending(call, &call_ops, run);
}
