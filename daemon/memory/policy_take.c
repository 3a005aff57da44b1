/* SPDX-License-Identifier: Apache-2.0 */
/* Who gives memory to the host, in which order, and who gets it back. */
#include "base/util.h"
#include "daemon/memory/policy_internal.h"

#include <assert.h>

/* A change of direction costs the guest twice: not within 10 s under pressure, else 100 s.
 * Source: ChromeOS balloon_blocker.h. Who got its memory for work and is idle again has shown that
 * it needs it no more: such a VM waits only while there is time. */
#define OPPOSITE_HIGH_US (10 * SECOND)
#define OPPOSITE_LOW_US  (100 * SECOND)
#define OPPOSITE_IDLE_US (20 * SECOND)

/* In this order, the highest first; within one, by price. */
enum { CLASS_NONE, CLASS_BLIND, CLASS_BUSY, CLASS_IDLE };

/* --- Spares --- */

/* A spare whose memory is not known is taken for the smallest there is. */
static uint64_t spare_bytes(const struct policy_sample *vm)
{
	return MAX(vm->is_private_known ? vm->private_bytes : 0, MIB);
}

static void drop_spares(struct policy_round *round)
{
	while (round->budget_bytes > 0) {
		size_t largest = round->n;

		for (size_t i = 0; i < round->n; i++) {
			const struct policy_sample *vm = &round->vms[i];

			if (vm->state != POLICY_SPARE || !policy_may_act(round, i))
				continue;
			if (largest == round->n ||
			    spare_bytes(vm) > spare_bytes(&round->vms[largest]))
				largest = i;
		}
		if (largest == round->n)
			return;
		policy_act(round, largest, POLICY_DROP_SPARE);
		round->vms[largest].vm->ended_us = round->now_us;
		round->budget_bytes = less(round->budget_bytes, spare_bytes(&round->vms[largest]));
		round->is_taking = true;
	}
}

/* --- Balloons --- */

/* How much of its memory a VM is thought to use, 1 … 0; about exp(-idle / 60 s), without libm. */
static double activity(const struct policy_sample *vm)
{
	double t = (double)vm->idle_us / (60. * SECOND);

	return vm->state == POLICY_BUSY ? 1 : 1 / (1 + t + t * t / 2);
}

/* The idle tax of ESX, 75 %: memory in use costs 1, idle memory 4. Who has fewer shares pays more.
 */
static double price(const struct policy_round *round, const struct policy_sample *vm)
{
	double active = activity(vm);
	uint64_t private_bytes = vm->is_private_known ? vm->private_bytes : vm->actual_bytes;

	return (double)private_bytes * (active + 4 * (1 - active)) * round->mean_shares /
	       shares_of(vm);
}

/* How long its memory stays with a VM that got it back. */
static uint64_t opposite_time(const struct policy_round *round, const struct policy_sample *vm)
{
	bool is_high = round->policy->level >= POLICY_ORANGE;

	/* Rather to and fro than killed. */
	if (round->policy->level == POLICY_BLACK)
		return SPACING_US;
	if (vm->state == POLICY_IDLE && vm->vm->is_up_for_work)
		return is_high ? SPACING_US : OPPOSITE_IDLE_US;
	return is_high ? OPPOSITE_HIGH_US : OPPOSITE_LOW_US;
}

/* May this VM be squeezed now, whatever it has? */
static bool is_open(const struct policy_round *round, size_t index)
{
	const struct policy_sample *vm = &round->vms[index];
	const struct policy_vm *record = vm->vm;
	uint64_t opposite_us = opposite_time(round, vm);

	if (vm->state == POLICY_SPARE || !vm->can_balloon || vm->is_in_flight ||
	    !policy_may_act(round, index) || policy_has_failed(vm, round->now_us))
		return false;
	if (vm->state == POLICY_BUSY && (round->policy->level < POLICY_RED || vm->is_stalled))
		return false;
	return !is_within(round->now_us, record->up_us, opposite_us);
}

static int class_of(const struct policy_sample *vm, const struct policy_offer *offer)
{
	if (offer->bytes == 0)
		return CLASS_NONE;
	if (offer->is_blind)
		return CLASS_BLIND;
	return vm->state == POLICY_IDLE ? CLASS_IDLE : CLASS_BUSY;
}

/* What each VM offers; those that have just moved are asked in the next step. */
static void ask_all(struct policy_round *round)
{
	for (size_t i = 0; i < round->n; i++) {
		const struct policy_sample *vm = &round->vms[i];
		struct policy_vm *record = vm->vm;
		struct policy_offer offer;

		record->class = CLASS_NONE;
		if (!is_open(round, i))
			continue;
		if (record->direction < 0 &&
		    is_within(round->now_us, record->down_us, SPACING_US)) {
			round->is_taking = true;
			continue;
		}
		offer = policy_offer(round->policy, vm, round->now_us, round->budget_bytes);
		record->class = class_of(vm, &offer);
		record->price = price(round, vm);
	}
}

static bool is_before(const struct policy_vm *a, const struct policy_vm *b)
{
	return a->class != b->class ? a->class > b->class : a->price > b->price;
}

static size_t dearest(const struct policy_round *round)
{
	size_t found = round->n;

	for (size_t i = 0; i < round->n; i++) {
		const struct policy_vm *record = round->vms[i].vm;

		if (record->class != CLASS_NONE && policy_may_act(round, i) &&
		    (found == round->n || is_before(record, round->vms[found].vm)))
			found = i;
	}
	return found;
}

/* Targets are whole MiB, rounded so that no more is taken. */
static uint64_t round_up(uint64_t bytes)
{
	return (bytes + MIB - 1) / MIB * MIB;
}

static void squeeze(struct policy_round *round, size_t index)
{
	const struct policy_sample *vm = &round->vms[index];
	struct policy_offer offer =
		policy_offer(round->policy, vm, round->now_us, round->budget_bytes);
	struct policy_action *action = policy_act(round, index, POLICY_SET_TARGET);

	action->target_bytes = MIN(round_up(vm->actual_bytes - offer.bytes), vm->size_bytes);
	action->drop_caches = offer.drop_caches;
	policy_move(vm, action->target_bytes, offer.gain_bytes, round->now_us);
	round->budget_bytes = less(round->budget_bytes, offer.gain_bytes);
	round->inflating++;
	round->is_taking = true;
}

void policy_take(struct policy_round *round)
{
	if (round->policy->level >= POLICY_ORANGE)
		drop_spares(round);
	/* What is not asked now may be next time: that is not all that could be done. */
	round->is_taking |=
		round->budget_bytes == 0 || round->inflating >= round->policy->config.inflating_max;
	ask_all(round);
	while (round->budget_bytes > 0 && round->inflating < round->policy->config.inflating_max) {
		size_t index = dearest(round);

		if (index == round->n)
			return;
		squeeze(round, index);
	}
}

/* --- Giving back --- */

/* Busy VMs have their turns over this time of calm, each at its own moment. */
#define GIVE_BACK_US (16 * SECOND)
/* An idle VM gets a twentieth of its size at a time. */
#define GIVE_IDLE_US   (100 * SECOND)
#define GIVE_IDLE_PART 20
/* A stalled one, from RED on, an eighth. */
#define GIVE_STALLED_PART 8

/* A number from 0 to GIVE_BACK_US that is the VM's own. Source: Knuth, multiplicative hashing. */
static uint64_t turn_us(uint64_t key)
{
	return (key * 0x9e3779b97f4a7c15ull >> 32) * GIVE_BACK_US >> 32;
}

static bool lacks_memory(const struct policy_round *round, size_t index)
{
	const struct policy_sample *vm = &round->vms[index];

	return vm->can_balloon && !vm->is_in_flight && policy_may_act(round, index) &&
	       vm->target_bytes < vm->size_bytes && round->now_us >= vm->vm->stall_until_us;
}

static void give(struct policy_round *round, size_t index, uint64_t target_bytes)
{
	const struct policy_sample *vm = &round->vms[index];
	struct policy_action *action = policy_act(round, index, POLICY_SET_TARGET);

	action->target_bytes = target_bytes;
	policy_move(vm, MAX(target_bytes, vm->actual_bytes), 0, round->now_us);
}

/* A guest that stalls may lose its run: it does not wait for its turn, nor for calm. */
static void give_stalled(struct policy_round *round)
{
	for (size_t i = 0; i < round->n; i++) {
		const struct policy_sample *vm = &round->vms[i];
		uint64_t part = round->policy->level < POLICY_RED
					? vm->size_bytes
					: vm->size_bytes / GIVE_STALLED_PART;

		if (vm->is_stalled && vm->state == POLICY_BUSY && lacks_memory(round, i))
			give(round, i, MIN(vm->target_bytes + round_up(part), vm->size_bytes));
	}
}

static void give_busy(struct policy_round *round)
{
	for (size_t i = 0; i < round->n; i++) {
		const struct policy_sample *vm = &round->vms[i];

		if (vm->state == POLICY_BUSY && lacks_memory(round, i) &&
		    round->policy->calm_us >= turn_us(vm->key) &&
		    !is_within(round->now_us, vm->vm->down_us, OPPOSITE_HIGH_US))
			give(round, i, vm->size_bytes);
	}
}

/* Stopped ones are left: their next run gives it back. */
static void give_idle(struct policy_round *round)
{
	double over = (round->head - round->policy->config.resume_head) *
		      (double)round->host->managed_bytes;
	/* An eighth of what is over per step: what guests fill again shows before the next ones. */
	uint64_t left_bytes = over > 0 ? (uint64_t)over / 8 : 0;

	for (size_t i = 0; i < round->n && left_bytes > 0; i++) {
		const struct policy_sample *vm = &round->vms[i];
		uint64_t part = round_up(vm->size_bytes / GIVE_IDLE_PART);

		if (vm->state != POLICY_IDLE || vm->is_stopped || !lacks_memory(round, i) ||
		    is_within(round->now_us, vm->vm->moved_us, GIVE_IDLE_US))
			continue;
		give(round, i, MIN(vm->target_bytes + part, vm->size_bytes));
		left_bytes = less(left_bytes, part);
	}
}

void policy_give_back(struct policy_round *round)
{
	if (round->policy->level < POLICY_BLACK)
		give_stalled(round);
	if (round->policy->level < POLICY_RED)
		give_busy(round);
	if (round->policy->level == POLICY_GREEN)
		give_idle(round);
}

/* --- Stopping --- */

/* The offer is only exhausted when the guest has spoken since its balloon settled. */
void policy_stop_idle(struct policy_round *round)
{
	if (round->policy->level == POLICY_GREEN)
		return;
	for (size_t i = 0; i < round->n; i++) {
		const struct policy_sample *vm = &round->vms[i];
		const struct policy_vm *record = vm->vm;

		if (vm->state != POLICY_IDLE || !vm->can_stop || vm->is_stopped ||
		    vm->is_in_flight || !policy_may_act(round, i) || record->direction >= 0 ||
		    policy_has_failed(vm, round->now_us))
			continue;
		if (policy_offer(round->policy, vm, round->now_us, MIB).is_exhausted)
			policy_act(round, i, POLICY_STOP_VCPU);
	}
}
