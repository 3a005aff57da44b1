/* SPDX-License-Identifier: Apache-2.0 */
/* Memory control: what is done to one VM, by the policy or by hand, and how that ends. */
#include "base/log.h"
#include "base/util.h"
#include "daemon/memory/control_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* How often the progress of a change is judged: policy_progress(). */
#define JUDGE_US 1000000u

/* --- Changes, and their ends --- */

static struct memory_change change_of(const struct memory_vm *memory, uint64_t actual_bytes,
				      const char *why)
{
	return (struct memory_change){.vm = memory->vm,
				      .from_bytes = memory->from_bytes,
				      .target_bytes = memory->mover.target_bytes,
				      .actual_bytes = actual_bytes,
				      .private_bytes = memory->sample.private_bytes,
				      .took_us = now_us() - memory->began_us,
				      .why = why};
}

/* Nothing is taken again before the guest has spoken: it is asked instead of waited for. */
static void ask_guest(const struct memory_vm *memory)
{
	const struct msg msg = {.type = FRAME_MEMORY_GET};

	(void)agent_link_send(vm_link(memory->vm), &msg);
}

static void tell_reached(struct memory_control *control, struct memory_vm *memory, uint64_t actual)
{
	const struct memory_control_ops *ops = control->config.ops;
	struct memory_change change = change_of(memory, actual, NULL);
	bool is_squeeze = memory->mover.target_bytes < memory->from_bytes;
	void (*tell)(void *, const struct memory_change *) =
		is_squeeze ? ops->on_squeeze : ops->on_release;

	log_debug(vm_id(memory->vm), "Balloon %ju -> %ju MiB in %ju ms",
		  (uintmax_t)(change.from_bytes >> 20), (uintmax_t)(actual >> 20),
		  (uintmax_t)(change.took_us / 1000));
	if (is_squeeze) {
		control->counters.squeezes++;
		ask_guest(memory);
	} else {
		control->counters.releases++;
	}
	if (tell)
		tell(control->config.user, &change);
}

static void tell_failure(struct memory_control *control, struct memory_vm *memory, uint64_t actual,
			 const char *why)
{
	struct memory_change change = change_of(memory, actual, why);

	log_notice(vm_id(memory->vm), "Balloon %ju -> %ju MiB ends at %ju: %s",
		   (uintmax_t)(change.from_bytes >> 20), (uintmax_t)(change.target_bytes >> 20),
		   (uintmax_t)(actual >> 20), why);
	if (control->config.ops->on_failure)
		control->config.ops->on_failure(control->config.user, &change);
}

/* Refused by QEMU, or never answered: left alone as if it had stalled. */
static void fail(struct memory_control *control, struct memory_vm *memory, int error,
		 uint64_t actual)
{
	char why[96];

	control->counters.failures++;
	snprintf(why, sizeof(why), "QEMU: %s", strerror(-error));
	(void)policy_stalled(&control->policy, &memory->sample, now_us());
	tell_failure(control, memory, actual, why);
}

static void count_moved(struct memory_counters *counters, uint64_t from_bytes, uint64_t to_bytes)
{
	if (to_bytes < from_bytes)
		counters->taken_bytes += from_bytes - to_bytes;
	else
		counters->given_bytes += to_bytes - from_bytes;
}

static void on_moved(void *user, int error, uint64_t actual)
{
	struct memory_vm *memory = user;
	struct memory_control *control = memory->control;
	memory_done_fn on_hand_done = TAKE_PTR(memory->on_hand_done);
	uint64_t unused;

	count_moved(&control->counters, memory->from_bytes, actual);
	memory->sample.actual_bytes = actual;
	memory->sample.target_bytes = memory->mover.target_bytes;
	if (error == 0) {
		/* What it learnt from stalls before is over. */
		(void)policy_progress(&control->policy, &memory->sample, now_us(), &unused);
		tell_reached(control, memory, actual);
	} else if (error == -ETIME) {
		control->counters.stalls++;
		tell_failure(control, memory, actual, "the guest does not follow");
	} else if (error != -ECANCELED) {
		fail(control, memory, error, actual);
	}
	if (!on_hand_done)
		return;
	/* What failed holds no more than where it ended. */
	memory->is_pinned =
		(error == 0 ? memory->mover.target_bytes : actual) < memory->sample.size_bytes;
	on_hand_done(memory->hand_user, error, actual);
}

static int set_target(struct memory_vm *memory, uint64_t target_bytes, bool drop_caches)
{
	struct balloon *balloon = vm_balloon(memory->vm);
	struct agent_link *link = drop_caches ? vm_link(memory->vm) : NULL;
	int r;

	if (!balloon)
		return -ENOTCONN;
	if (vm_is_halted(memory->vm))
		vm_resume(memory->vm);
	r = mover_set(&memory->mover, balloon, link, target_bytes, on_moved, memory);
	if (r < 0)
		return r;
	memory->from_bytes = balloon->actual_bytes;
	memory->began_us = memory->judged_us = now_us();
	return 0;
}

static void set_policy_target(struct memory_control *control, struct memory_vm *memory,
			      uint64_t target_bytes, bool drop_caches)
{
	int r = set_target(memory, target_bytes, drop_caches);

	if (r == 0 && drop_caches)
		control->counters.cache_drops++;
	if (r < 0 && r != -ENOTCONN)
		fail(control, memory, r, memory->sample.actual_bytes);
}

void control_watch(struct memory_control *control, struct memory_vm *memory)
{
	uint64_t now = now_us(), target;

	if (memory->mover.state != MOVER_MOVING || now - memory->judged_us < JUDGE_US)
		return;
	memory->judged_us = now;
	if (policy_progress(&control->policy, &memory->sample, now, &target) == POLICY_STALLED)
		mover_give_up(&memory->mover, target);
}

void control_wake(struct memory_control *control, struct memory_vm *memory)
{
	uint64_t target = policy_on_exec(&control->policy, &memory->sample, now_us());

	if (target == memory->sample.target_bytes)
		return;
	set_policy_target(control, memory, target, false);
	memory->sample.is_in_flight = memory->mover.state != MOVER_STILL;
	memory->sample.target_bytes = target;
}

/* --- The policy's actions --- */

static void kill_vm(struct memory_control *control, struct memory_vm *memory)
{
	log_warning(vm_id(memory->vm),
		    "Ended, because the host's memory ran out: it has %ju MiB of its own",
		    (uintmax_t)(memory->sample.private_bytes >> 20));
	control->counters.kills++;
	if (control->config.ops->on_oom)
		control->config.ops->on_oom(control->config.user, memory->vm);
	vm_end_for_memory(memory->vm);
}

void control_act(struct memory_control *control, const struct policy_action *action)
{
	struct memory_vm *memory = control->memories[action->index];

	switch (action->kind) {
	case POLICY_DROP_SPARE:
		if (control->config.ops->drop_spare(control->config.user, memory->vm))
			control->counters.spares_dropped++;
		else
			policy_kept(&memory->sample);
		break;
	case POLICY_SET_TARGET:
		set_policy_target(control, memory, action->target_bytes, action->drop_caches);
		break;
	case POLICY_STOP_VCPU:
		vm_halt(memory->vm);
		control->counters.vcpus_halted++;
		break;
	case POLICY_KILL_VM:
		kill_vm(control, memory);
		break;
	}
}

/* --- What the owner of VMs tells --- */

void memory_control_vm_memory(struct memory_control *control, struct vm *vm)
{
	struct memory_vm *memory = vm_memory(vm);

	if (!memory)
		return;
	mover_memory_came(&memory->mover, vm_telemetry(vm)->memory.id);
	memory_vm_see_stall(memory, now_us());
	/* What waits for memory works. Nothing to give is nothing to do. */
	if (!memory->sample.is_stalled || control->config.is_off ||
	    memory->sample.target_bytes >= memory->sample.size_bytes)
		return;
	if (memory->sample.state == POLICY_IDLE)
		memory_control_vm_work(control, vm);
	else
		control_hurry(control);
}

void memory_control_vm_work(struct memory_control *control, struct vm *vm)
{
	struct memory_vm *memory = memory_vm_get(control, vm);

	if (!memory || control->config.is_off)
		return;
	memory->active_us = now_us();
	memory_vm_look(memory, control->config.meter, memory->active_us);
	control_wake(control, memory);
}

/* The record stays: a step may be looking at it. */
void memory_control_vm_stops(struct memory_control *control UNUSED, struct vm *vm)
{
	struct memory_vm *memory = vm_memory(vm);

	if (memory)
		mover_stop(&memory->mover);
}

void memory_control_vm_ends(struct memory_control *control, struct vm *vm)
{
	struct memory_vm *memory = vm_memory(vm);

	if (memory)
		control_reclaim_vm_ends(control, memory);
	memory_vm_forget(vm);
}

/* --- By hand --- */

int memory_control_balloon(struct memory_control *control, struct vm *vm, uint64_t target_bytes,
			   memory_done_fn on_done, void *user)
{
	struct memory_vm *memory = memory_vm_get(control, vm);
	uint64_t now = now_us();
	int r;

	if (!memory)
		return -ENOMEM;
	memory_vm_look(memory, control->config.meter, now);
	r = set_target(memory, target_bytes, false);
	if (r < 0)
		return r;
	policy_moved(&memory->sample, target_bytes, now);
	memory->is_pinned = target_bytes < memory->sample.size_bytes;
	memory->on_hand_done = on_done;
	memory->hand_user = user;
	return 0;
}
