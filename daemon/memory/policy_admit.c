/* SPDX-License-Identifier: Apache-2.0 */
/* Which runs may start on the memory that is there: credit instead of hope. */
#include "base/util.h"
#include "daemon/memory/policy_internal.h"

#include <assert.h>

/* --- What a run takes --- */

/* A maximum that loses an eighth per run stands in for the 90th percentile of a VM's runs. */
#define GROWTH_DECAY 8
/* So many runs of its own, then the VM's figure is used instead of the configured one. */
#define GROWTH_RUNS 3

static void see_run(struct policy_vm *record, const struct policy_sample *vm, uint64_t now_us)
{
	if (!record->is_run_known) {
		record->is_start_known = false;
		record->run_us = now_us;
	}
	record->is_run_known = true;
	if (!vm->is_private_known)
		return;
	if (!record->is_start_known)
		record->run_private_bytes = record->run_peak_bytes = vm->private_bytes;
	record->is_start_known = true;
	record->run_peak_bytes = MAX(record->run_peak_bytes, vm->private_bytes);
}

static void end_run(struct policy_vm *record)
{
	uint64_t growth = record->run_peak_bytes - record->run_private_bytes;

	record->is_run_known = false;
	/* Its memory is another's now: what it could not give then it may give now. */
	record->floor_until_us = 0;
	if (!record->is_start_known)
		return;
	record->runs++;
	record->growth_bytes =
		MAX(growth, record->growth_bytes - record->growth_bytes / GROWTH_DECAY);
}

/* Code that sleeps goes on; only a VM that waits for its owner is at rest. */
static bool has_run(const struct policy_sample *vm)
{
	return vm->state == POLICY_BUSY || (vm->state == POLICY_IDLE && !vm->can_stop);
}

void policy_learn_run(const struct policy_sample *vm, uint64_t now_us)
{
	if (has_run(vm))
		see_run(vm->vm, vm, now_us);
	else if (vm->vm->is_run_known)
		end_run(vm->vm);
}

/* What a run has not taken in so long it will not take at once: five mean runs of the model. */
#define RESERVED_US (30 * SECOND)

/* What a run that goes on is still expected to take. */
static uint64_t reservation_left(const struct policy *policy, const struct policy_sample *vm,
				 uint64_t now_us)
{
	const struct policy_vm *record = vm->vm;
	uint64_t reservation =
		record->runs < GROWTH_RUNS ? policy->config.run_bytes : record->growth_bytes;
	uint64_t left_us = less(RESERVED_US, less(now_us, record->run_us));
	uint64_t fresh = reservation + vm->start_bytes;

	if (record->is_start_known && vm->is_private_known)
		reservation = less(reservation, less(vm->private_bytes, record->run_private_bytes));
	/* A VM's first run also fills its QEMU. */
	if (record->runs == 0 && vm->is_private_known)
		reservation = MAX(reservation, less(fresh, vm->private_bytes));
	return (uint64_t)((double)reservation * ((double)left_us / (double)RESERVED_US));
}

/* --- Credit --- */

static uint64_t credit(const struct policy_round *round)
{
	const struct policy *policy = round->policy;
	double keep = policy->config.keep_head + (round->host->has_psi ? 0 : NO_PSI_HEAD);
	double above = (round->head - keep) * (double)round->host->managed_bytes;
	uint64_t reserved = round->host->promised_bytes;

	if (policy->level == POLICY_BLACK || above <= 0)
		return 0;
	for (size_t i = 0; i < round->n; i++)
		if (has_run(&round->vms[i]))
			reserved += reservation_left(policy, &round->vms[i], round->now_us);
	return less((uint64_t)above, reserved);
}

/* The shortest way below RED, or the time in which the next steps bring credit. */
static const uint64_t retry_ms[] = {1000, 1000, 2000, 4000, 7000};
static_assert(ELEMENTSOF(retry_ms) == POLICY_BLACK + 1, "one hint per level");

void policy_set_admission(struct policy_round *round)
{
	struct policy *policy = round->policy;

	policy->may_refill_spares = policy->level == POLICY_GREEN;
	policy->may_admit = policy->level < POLICY_RED;
	policy->credit_bytes = credit(round);
	policy->retry_ms = retry_ms[policy->level];
}

bool policy_admit(struct policy *policy, uint64_t cost_bytes)
{
	if (cost_bytes > policy->credit_bytes)
		return false;
	policy->credit_bytes -= cost_bytes;
	return true;
}
