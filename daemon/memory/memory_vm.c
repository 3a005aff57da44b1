/* SPDX-License-Identifier: Apache-2.0 */
/* What memory control knows of one VM, and what it does to it. */
#include "daemon/memory/memory_vm.h"

#include "base/util.h"
#include "daemon/memory/guest_stats.h"
#include "daemon/memory/host.h"

#include <inttypes.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
/* QEMU's own anonymous memory, without translated code: docs/PERFORMANCE.md, M1. */
#define QEMU_OWN_BYTES (11 * MIB)
/* A program that sleeps takes 1 to 2 % of a processor with the guest's timers and its telemetry. */
#define ACTIVE_PERCENT 5
/* Shorter looks than this see the kernel's ticks more than the program. */
#define ACTIVITY_US   1000000u
#define IDLE_AFTER_US 5000000u

const struct memory_meter memory_meter_kernel = {.anonymous = process_anonymous_read,
						 .cpu = process_cpu_read};

/* Ids are random hexadecimal digits behind the last '_'. */
static uint64_t key_of(const struct vm *vm)
{
	const char *digits = strrchr(vm_id(vm), '_');

	return digits ? strtoull(digits + 1, NULL, 16) : 0;
}

struct memory_vm *memory_vm_get(struct memory_control *control, struct vm *vm)
{
	struct memory_vm *memory = vm_memory(vm);

	if (memory)
		return memory;
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return NULL;
	memory->vm = vm;
	memory->control = control;
	memory->sample.vm = &memory->policy;
	memory->sample.key = key_of(vm);
	memory->sample.size_bytes = vm_get_spec(vm)->memory_mb * MIB;
	mover_init(&memory->mover, vm_get_host(vm)->loop);
	vm_set_memory(vm, memory);
	return memory;
}

void memory_vm_forget(struct vm *vm)
{
	struct memory_vm *memory = vm_memory(vm);

	if (!memory)
		return;
	vm_set_memory(vm, NULL);
	mover_stop(&memory->mover);
	free(memory);
}

bool memory_vm_is_managed(const struct vm *vm)
{
	return vm_get_spec(vm)->start != QEMU_TEMPLATE && vm_get_state(vm) < VM_STOPPING &&
	       vm_pid(vm) > 0;
}

/* --- Activity --- */

/* Does the program work? Not asked while its memory moves: that is work of our own making. */
static void see_activity(struct memory_vm *memory, uint64_t cpu_us, uint64_t now_us)
{
	uint64_t span_us = now_us - memory->cpu_seen_us;

	if (memory->mover.state != MOVER_STILL) {
		memory->cpu_seen_us = 0;
		return;
	}
	if (memory->cpu_seen_us > 0 && span_us < ACTIVITY_US)
		return;
	if (memory->cpu_seen_us > 0 &&
	    (cpu_us - MIN(cpu_us, memory->cpu_us)) * 100 > span_us * ACTIVE_PERCENT)
		memory->active_us = now_us;
	memory->cpu_us = cpu_us;
	memory->cpu_seen_us = now_us;
}

/* A tenth of the time between two reports. */
#define STALLED_PART 10
/* Reports come every 0.5 s while code waits, else every 2 s. */
#define STALL_MAX_AGE_US 3000000u
/* It is the guest's word, and takes from others: believed for so long, and not again so soon. */
#define STALL_BELIEVED_US 10000000u
#define STALL_AGAIN_US    60000000u

/* Only what the balloon has can be given back; one at rest has no code that could wait. */
static bool may_stall(const struct memory_vm *memory)
{
	const struct balloon *balloon = vm_balloon(memory->vm);

	return balloon && balloon->actual_bytes < memory->sample.size_bytes &&
	       vm_rest_us(memory->vm) == 0;
}

static bool is_believed(struct memory_vm *memory, uint64_t now_us)
{
	if (memory->stall_began_us == 0 || now_us - memory->stall_began_us >= STALL_AGAIN_US)
		memory->stall_began_us = now_us;
	return now_us - memory->stall_began_us < STALL_BELIEVED_US;
}

void memory_vm_see_stall(struct memory_vm *memory, uint64_t now_us)
{
	uint64_t total_us = vm_telemetry(memory->vm)->memory.user_stall_us;
	uint64_t span_us = now_us - memory->stall_seen_us;
	bool is_stalled = memory->stall_seen_us > 0 && total_us > memory->stall_us &&
			  (total_us - memory->stall_us) * STALLED_PART >= span_us;

	memory->sample.is_stalled = is_stalled && may_stall(memory) && is_believed(memory, now_us);
	memory->stall_us = total_us;
	memory->stall_seen_us = now_us;
}

static enum policy_vm_state state_of(const struct memory_vm *memory, uint64_t now_us)
{
	const struct vm *vm = memory->vm;

	if (vm_get_spec(vm)->uid == VM_UID_NONE)
		return POLICY_SPARE;
	if (vm_get_state(vm) != VM_RUNNING)
		return POLICY_BUSY;
	if (vm_rest_us(vm) > 0 || now_us - memory->active_us >= IDLE_AFTER_US)
		return POLICY_IDLE;
	return POLICY_BUSY;
}

static void fill_state(struct memory_vm *memory, uint64_t now_us)
{
	struct policy_sample *sample = &memory->sample;
	uint64_t since_us;

	/* A run begins with work. */
	if (vm_get_state(memory->vm) != VM_RUNNING || memory->active_us == 0)
		memory->active_us = now_us;
	if (now_us - memory->stall_seen_us > STALL_MAX_AGE_US)
		sample->is_stalled = false;
	if (sample->is_stalled)
		memory->active_us = now_us;
	sample->state = state_of(memory, now_us);
	since_us = MAX(vm_rest_us(memory->vm), memory->active_us);
	sample->idle_us = sample->state == POLICY_IDLE ? now_us - MIN(since_us, now_us) : 0;
	sample->is_stopped = vm_is_halted(memory->vm);
	sample->can_stop = vm_rest_us(memory->vm) > 0;
}

/* --- The sample --- */

static void fill_balloon(struct memory_vm *memory)
{
	const struct balloon *balloon = vm_balloon(memory->vm);
	struct policy_sample *sample = &memory->sample;

	sample->actual_bytes = balloon ? balloon->actual_bytes : sample->size_bytes;
	sample->target_bytes = balloon ? balloon->target_bytes : sample->size_bytes;
	sample->is_in_flight = memory->mover.state != MOVER_STILL;
	/* Until the balloon's command goes out the target is what the mover is about to set. */
	if (sample->is_in_flight)
		sample->target_bytes = memory->mover.target_bytes;
	sample->can_balloon = balloon && !memory->is_pinned;
}

static void fill_guest(struct memory_vm *memory, uint64_t now_us)
{
	const struct vm_telemetry *telemetry = vm_telemetry(memory->vm);
	const struct balloon *balloon = vm_balloon(memory->vm);
	const struct balloon_stats *driver =
		balloon && balloon->stats.updated_s > 0 ? &balloon->stats : NULL;

	guest_stats_join(telemetry->received_us > 0 ? &telemetry->memory : NULL,
			 now_us - MIN(telemetry->received_us, now_us), driver,
			 driver ? now_us - MIN(driver->received_us, now_us) : 0,
			 &memory->sample.guest);
}

/* Translated code fills its buffer with time; what is not there yet the policy takes for the
 * guest's, who cannot give it. */
uint64_t memory_vm_overhead(const struct vm_host *host, const char *language)
{
	return QEMU_OWN_BYTES + vm_translation_mb(host, language) * MIB / 2;
}

void memory_vm_look(struct memory_vm *memory, const struct memory_meter *meter, uint64_t now_us)
{
	struct policy_sample *sample = &memory->sample;
	pid_t pid = vm_pid(memory->vm);
	uint64_t cpu_us;

	sample->is_private_known = pid > 0 && meter->anonymous(pid, &sample->private_bytes) == 0;
	if (pid > 0 && meter->cpu(pid, &cpu_us) == 0)
		see_activity(memory, cpu_us, now_us);
	fill_state(memory, now_us);
	fill_balloon(memory);
	fill_guest(memory, now_us);
	sample->start_bytes =
		memory_vm_overhead(vm_get_host(memory->vm), vm_get_spec(memory->vm)->language);
	sample->overhead_bytes = MIN(sample->start_bytes, sample->private_bytes);
}
