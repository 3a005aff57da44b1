/* SPDX-License-Identifier: Apache-2.0 */
/* process.wait: calls that wait for the end of a background process. */
#include "daemon/session/process.h"

struct process_wait {
	TAILQ_ENTRY(process_wait) link;
	struct process *process;
	struct rpc_call *call;
	uint64_t offsets[PROCESS_STREAMS];
	ev_timer timer;
	struct defer free_later;
};

/* Its call has been answered, or is gone. */
static void end(struct process_wait *wait)
{
	struct processes *processes = wait->process->processes;

	TAILQ_REMOVE(&wait->process->waits, wait, link);
	loop_timer_stop(processes->config.env->loop, &wait->timer);
	loop_defer(processes->config.env->loop, &wait->free_later, free, wait);
	processes_call_ended(processes);
}

static void answer(struct process_wait *wait)
{
	rpc_call_finish_result(wait->call, process_result(wait->process, wait->offsets));
	end(wait);
}

static void on_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	answer(timer->data);
}

static void on_cancel(void *user)
{
	struct process_wait *wait = user;

	rpc_call_finish_error(wait->call, rpc_error_new(RPC_CANCELLED,
							"Nobody waits for process "
							"%s any more",
							wait->process->id));
	end(wait);
}

static void on_gone(void *user)
{
	end(user);
}

static void on_stop(void *user)
{
	struct process_wait *wait = user;

	rpc_call_finish_error(wait->call, rpc_error_new(RPC_VM_LOST, "The daemon stopped while the "
								     "process ran"));
	end(wait);
}

static const struct rpc_call_ops call_ops = {
	.on_cancel = on_cancel, .on_gone = on_gone, .on_stop = on_stop};

static uint64_t offset_of(const json_t *params, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(params, name));
}

struct rpc_reply process_wait(struct process *process, struct rpc_call *call, const json_t *params)
{
	const json_t *timeout = json_object_get(params, "timeout_seconds");
	const uint64_t offsets[PROCESS_STREAMS] = {
		[PROCESS_STDOUT] = offset_of(params, "stdout_offset"),
		[PROCESS_STDERR] = offset_of(params, "stderr_offset")};
	struct process_wait *wait;

	if (process->state == PROCESS_ENDED || (timeout && json_number_value(timeout) <= 0))
		return rpc_reply_result(call, process_result(process, offsets));
	wait = calloc(1, sizeof(*wait));
	if (!wait)
		return rpc_reply_error(
			call, rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory"));
	wait->process = process;
	wait->call = call;
	memcpy(wait->offsets, offsets, sizeof(offsets));
	ev_timer_init(&wait->timer, on_timer, 0., 0.);
	wait->timer.data = wait;
	if (timeout)
		loop_timer_start(process->processes->config.env->loop, &wait->timer,
				 json_number_value(timeout));
	TAILQ_INSERT_TAIL(&process->waits, wait, link);
	processes_call_began(process->processes);
	return rpc_reply_pending(call, &call_ops, wait);
}

void process_end_waits(struct process *process, const struct rpc_error *error)
{
	struct process_wait *wait;

	while ((wait = TAILQ_FIRST(&process->waits))) {
		if (!error) {
			answer(wait);
			continue;
		}
		rpc_call_finish_error(wait->call, rpc_error_copy(error));
		end(wait);
	}
}
