/* SPDX-License-Identifier: Apache-2.0 */
/* Memory control: memory.reclaim, taken round by round in the steps. */
#include "base/util.h"
#include "daemon/memory/control_internal.h"

#include <errno.h>
#include <string.h>

/* Guests speak every 2 s, and only what they said after their balloon settled is believed: after
 * twice that without anything to do there is nothing to do. */
#define QUIET_US 4500000u

static bool is_in_scope(const struct reclaim *reclaim, const struct memory_vm *memory)
{
	return !*reclaim->vm || strcmp(reclaim->vm, vm_id(memory->vm)) == 0;
}

/* What the VMs that were taken from have less than before. */
static uint64_t reclaimed_bytes(const struct memory_control *control)
{
	uint64_t sum = control->reclaim.gone_bytes;

	for (size_t i = 0; i < control->count; i++) {
		const struct memory_vm *memory = control->memories[i];
		uint64_t before = memory->reclaim_before_bytes;

		if (memory->is_reclaimed)
			sum += before - MIN(before, memory->sample.private_bytes);
	}
	return sum;
}

/* --- The end --- */

static struct memory_reclaimed_vm describe(const struct memory_vm *memory)
{
	const struct balloon *balloon = vm_balloon(memory->vm);
	struct memory_reclaimed_vm vm = {.target_bytes = memory->mover.target_bytes,
					 .actual_bytes = balloon ? balloon->actual_bytes : 0};

	strncpy(vm.id, vm_id(memory->vm), sizeof(vm.id) - 1);
	return vm;
}

static void finish(struct memory_control *control)
{
	struct reclaim *reclaim = &control->reclaim;
	void (*on_done)(void *, const struct memory_reclaimed *) = TAKE_PTR(reclaim->on_done);
	struct memory_reclaimed_vm *vms = calloc(control->count + 1, sizeof(*vms));
	struct memory_reclaimed reclaimed = {.bytes = reclaimed_bytes(control), .vms = vms};

	for (size_t i = 0; i < control->count; i++) {
		struct memory_vm *memory = control->memories[i];

		/* Without memory for the list the sum is told alone. */
		if (vms && memory->is_reclaimed && vm_balloon(memory->vm))
			vms[reclaimed.count++] = describe(memory);
		memory->is_reclaimed = false;
	}
	on_done(reclaim->user, &reclaimed);
	free(vms);
}

void control_reclaim_stop(struct memory_control *control)
{
	struct reclaim *reclaim = &control->reclaim;
	void (*on_done)(void *, const struct memory_reclaimed *) = TAKE_PTR(reclaim->on_done);

	if (on_done)
		on_done(reclaim->user, NULL);
}

/* --- The rounds --- */

/* The VMs in scope to the front of the arrays; how many these are. */
static size_t select_scope(struct memory_control *control)
{
	size_t n = 0;

	for (size_t i = 0; i < control->count; i++) {
		struct memory_vm *memory = control->memories[i];

		if (!is_in_scope(&control->reclaim, memory))
			continue;
		control->memories[i] = control->memories[n];
		control->memories[n] = memory;
		n++;
	}
	/* Other actions of this step have changed some of them. */
	for (size_t i = 0; i < control->count; i++) {
		struct memory_vm *memory = control->memories[i];

		memory->sample.is_in_flight = memory->mover.state != MOVER_STILL;
		control->samples[i] = memory->sample;
	}
	return n;
}

static void mark(struct memory_vm *memory)
{
	if (memory->is_reclaimed)
		return;
	memory->is_reclaimed = true;
	memory->reclaim_before_bytes = memory->sample.private_bytes;
}

static size_t take(struct memory_control *control, uint64_t bytes)
{
	struct policy_host host = control_host(control);
	size_t n = select_scope(control);
	size_t actions = policy_reclaim(&control->policy, control->sample.measured_us, &host,
					control->samples, n, bytes, control->actions);

	for (size_t i = 0; i < actions; i++) {
		mark(control->memories[control->actions[i].index]);
		control_act(control, &control->actions[i]);
	}
	return actions;
}

static bool is_under_way(const struct memory_control *control)
{
	for (size_t i = 0; i < control->count; i++)
		if (control->memories[i]->is_reclaimed &&
		    control->memories[i]->mover.state != MOVER_STILL)
			return true;
	return false;
}

void control_reclaim_step(struct memory_control *control)
{
	struct reclaim *reclaim = &control->reclaim;
	uint64_t now = control->sample.measured_us, done;

	if (!reclaim->on_done)
		return;
	done = reclaimed_bytes(control);
	if (done < reclaim->bytes &&
	    (take(control, reclaim->bytes - done) > 0 || is_under_way(control)))
		reclaim->busy_us = now;
	if (done >= reclaim->bytes || now - MIN(now, reclaim->busy_us) >= QUIET_US ||
	    now - MIN(now, reclaim->began_us) >= (uint64_t)(MEMORY_RECLAIM_SECONDS * 1e6))
		finish(control);
}

void control_reclaim_vm_ends(struct memory_control *control, const struct memory_vm *memory)
{
	if (control->reclaim.on_done && memory->is_reclaimed)
		control->reclaim.gone_bytes += memory->reclaim_before_bytes;
}

int memory_control_reclaim(struct memory_control *control, struct vm *vm, uint64_t bytes,
			   void (*on_done)(void *user, const struct memory_reclaimed *reclaimed),
			   void *user)
{
	uint64_t now = now_us();

	if (control->reclaim.on_done)
		return -EBUSY;
	control->reclaim = (struct reclaim){
		.on_done = on_done, .user = user, .bytes = bytes, .began_us = now, .busy_us = now};
	if (vm)
		strncpy(control->reclaim.vm, vm_id(vm), sizeof(control->reclaim.vm) - 1);
	control_hurry(control);
	return 0;
}
