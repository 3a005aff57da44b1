/* SPDX-License-Identifier: Apache-2.0 */
/* What one VM can give to the host, and how its balloon moves, stalls and comes back. */
#include "base/util.h"
#include "daemon/memory/policy_internal.h"

#include <assert.h>

/* --- What the guest claims, as far as it is possible --- */

struct claims {
	uint64_t used; /* what it keeps and could not give; includes the zram's own memory */
	uint64_t free; /* beyond its page cache */
	uint64_t caches;
	uint64_t swappable;  /* anonymous memory its zram still has room for */
	uint64_t compressed; /* what its zram saves already */
	double saved;        /* of memory that goes into its zram, the part that comes free */
};

static bool is_possible(const struct policy_sample *vm)
{
	const struct policy_guest *guest = &vm->guest;
	uint64_t total = guest->total_bytes;

	return guest->is_known && total > 0 && total <= vm->size_bytes &&
	       guest->available_bytes <= MIN(total, vm->actual_bytes) &&
	       guest->free_bytes <= total && guest->caches_bytes <= total;
}

/* A stopped guest's last word stays true. */
static bool is_stale(const struct policy *policy, const struct policy_sample *vm)
{
	return !vm->is_stopped && vm->guest.age_us > policy->config.guest_max_age_us;
}

/* Its word is from before its balloon settled: the next one will do. */
static bool is_outdated(const struct policy_sample *vm, uint64_t now_us)
{
	const struct policy_vm *record = vm->vm;

	return record->direction &&
	       less(now_us, vm->guest.age_us) < MAX(record->settled_us, record->moved_us);
}

/* Measured on live guests: 1.1 for random numbers to 3.8 for Python objects with lz4. */
#define RATIO_MIN     1.1
#define RATIO_MAX     3.5
#define RATIO_DEFAULT 2.0
#define RATIO_FROM    (4 * MIB) /* less in the zram says nothing of the rest */

static double zram_ratio(const struct policy_guest *guest)
{
	double ratio;

	if (guest->zram_orig_bytes < RATIO_FROM || guest->zram_used_bytes == 0)
		return RATIO_DEFAULT;
	ratio = (double)guest->zram_orig_bytes / (double)guest->zram_used_bytes;
	return MIN(MAX(ratio, RATIO_MIN), RATIO_MAX);
}

/* Pages the zram still takes. At its limit a guest stalls: the last fifth is its own reserve. */
static uint64_t zram_room(const struct policy_guest *guest)
{
	uint64_t limit = guest->zram_limit_bytes / 5 * 4;
	double room = (double)less(limit, guest->zram_used_bytes) * zram_ratio(guest);

	return guest->zram_limit_bytes > 0 ? (uint64_t)room : UINT64_MAX;
}

static struct claims claims_of(const struct policy_sample *vm)
{
	const struct policy_guest *guest = &vm->guest;
	uint64_t orig = MIN(guest->zram_orig_bytes, vm->size_bytes);
	uint64_t anonymous = MIN(guest->anonymous_bytes, vm->size_bytes);

	return (struct claims){
		.used = less(vm->actual_bytes, guest->available_bytes),
		.free = less(guest->available_bytes, guest->caches_bytes),
		.caches = guest->caches_bytes,
		/* Some of it is locked or in use right now. */
		.swappable =
			MIN(MIN(guest->swap_free_bytes, zram_room(guest)), anonymous * 85 / 100),
		.compressed = less(orig, guest->zram_used_bytes),
		.saved = 1 - 1 / zram_ratio(guest),
	};
}

static uint64_t guest_private_bytes(const struct policy_sample *vm)
{
	if (!vm->is_private_known)
		return vm->actual_bytes;
	return less(vm->private_bytes, vm->overhead_bytes);
}

/*
 * What the guest uses and its QEMU has not of its own is the template's: at least what is missing
 * for use alone. A page that is written to leaves it; that is little, and the greatest value stays.
 */
static void learn_shared(const struct policy_sample *vm, const struct claims *claims)
{
	uint64_t missing = less(claims->used, guest_private_bytes(vm));

	vm->vm->shared_bytes = MAX(vm->vm->shared_bytes, missing);
}

void policy_learn_guest(const struct policy *policy, const struct policy_sample *vm)
{
	struct claims claims;

	if (!is_possible(vm) || vm->guest.age_us > policy->config.guest_max_age_us)
		return;
	claims = claims_of(vm);
	learn_shared(vm, &claims);
	if (vm->state == POLICY_IDLE)
		vm->vm->used_idle_bytes = MIN(claims.used + claims.compressed, vm->size_bytes);
}

/* --- Floors --- */

#define BUSY_KEEP_BYTES  (32 * MIB)
#define IDLE_SLACK_BYTES (24 * MIB)

/* The guest's min_free_kbytes, which its kernel does not go below: 4 % of the memory, at least 5632
 * kB (MEMORY.md, 1). */
static uint64_t min_free_bytes(const struct policy_sample *vm)
{
	return MAX(5632 * KIB, vm->size_bytes / 25);
}

/* What the guest's kernel and agent need to stay alive; less when the host is at RED. */
static uint64_t reserve_bytes(const struct policy *policy, const struct policy_sample *vm)
{
	return (policy->level >= POLICY_RED ? 8 : 16) * MIB + min_free_bytes(vm);
}

static uint64_t floor_bytes(const struct policy *policy, const struct policy_sample *vm,
			    uint64_t now_us, bool is_blind)
{
	const struct policy_vm *record = vm->vm;
	uint64_t floor = policy->config.floor_bytes;

	if (now_us < record->floor_until_us)
		floor = MAX(floor, record->learned_floor_bytes);
	if (vm->state == POLICY_BUSY)
		floor = MAX(floor, vm->size_bytes / 4 + BUSY_KEEP_BYTES);
	if (vm->state == POLICY_BUSY || is_blind)
		floor = MAX(floor, record->used_idle_bytes + IDLE_SLACK_BYTES);
	if (is_blind)
		floor = MAX(floor, vm->size_bytes / 2);
	return floor;
}

/* --- Offers --- */

/*
 * Free pages and caches that are not in the QEMU's own memory: never touched, reported free, or
 * still the template's. They cost the host nothing, and an inflating balloon takes them first:
 * measured, 60 MiB of them brought 0. Only what goes beyond them is sure to bring something. The
 * last free pages the kernel keeps.
 */
static uint64_t absent_bytes(const struct policy_sample *vm, const struct claims *claims)
{
	uint64_t in_use = less(claims->used, vm->vm->shared_bytes);
	uint64_t own = guest_private_bytes(vm), resident = less(own, in_use);
	uint64_t claimed = less(claims->free + claims->caches, resident + min_free_bytes(vm));

	return MIN(claimed, less(vm->actual_bytes, own));
}

static uint64_t compressible(const struct policy *policy, const struct policy_sample *vm,
			     const struct claims *claims)
{
	if (vm->state != POLICY_IDLE || policy->level < POLICY_ORANGE)
		return 0;
	return (uint64_t)((double)claims->swappable * claims->saved);
}

/* All it could give at this level. */
static uint64_t room_bytes(const struct policy *policy, const struct policy_sample *vm,
			   const struct claims *claims, uint64_t now_us)
{
	/* What it calls available is less than free and caches together. */
	uint64_t room = MIN(claims->free + claims->caches / 10 * 9, vm->guest.available_bytes);

	room = less(room + compressible(policy, vm, claims), reserve_bytes(policy, vm));
	return MIN(room, less(vm->actual_bytes, floor_bytes(policy, vm, now_us, false)));
}

/* Of a VM's size, by level: never more than a quarter at once of what is worth something. Pages
 * that cost nothing come on top: they have to go first, are free, and 136 MiB of them move in 0.7
 * s. */
static const uint64_t step_percent[] = {0, 5, 10, 25, 25};
static_assert(ELEMENTSOF(step_percent) == POLICY_BLACK + 1, "one step per level");

static uint64_t percent(uint64_t bytes, uint64_t part)
{
	return bytes / 100 * part + bytes % 100 * part / 100;
}

/* Not worth a move: 4 MiB, or a hundredth of a large VM. */
static uint64_t least_bytes(const struct policy_sample *vm)
{
	return MAX(4 * MIB, vm->size_bytes / 100);
}

/* A blind squeeze goes in small steps, to half: the guest has not said what it needs, and
 * deflate-on-oom is all that protects it. */
static struct policy_offer offer_blind(const struct policy *policy, const struct policy_sample *vm,
				       uint64_t now_us)
{
	struct policy_offer offer = {.is_blind = true};
	uint64_t room = less(vm->actual_bytes, floor_bytes(policy, vm, now_us, true));
	uint64_t gain = less(guest_private_bytes(vm), MIB);

	if (policy->level < POLICY_RED || MIN(room, gain) < least_bytes(vm))
		return offer;
	offer.bytes = MIN(room, percent(vm->size_bytes, step_percent[POLICY_YELLOW]));
	offer.gain_bytes = MIN(offer.bytes, gain);
	return offer;
}

struct policy_offer policy_offer(const struct policy *policy, const struct policy_sample *vm,
				 uint64_t now_us, uint64_t wanted_bytes)
{
	struct policy_offer offer = {0};
	struct claims claims;
	uint64_t room, absent, gain, step, least = least_bytes(vm);

	if (!vm->guest.is_known || is_stale(policy, vm))
		return offer_blind(policy, vm, now_us);
	if (is_outdated(vm, now_us))
		return offer;
	if (!is_possible(vm))
		return offer_blind(policy, vm, now_us);
	claims = claims_of(vm);
	room = room_bytes(policy, vm, &claims, now_us);
	absent = absent_bytes(vm, &claims);
	gain = MIN(less(room, absent), less(guest_private_bytes(vm), MIB));
	offer.is_exhausted = MIN(room, gain) < least;
	if (offer.is_exhausted)
		return offer;
	step = percent(vm->size_bytes, step_percent[policy->level]) + absent;
	/* No more than is wanted, but what costs nothing comes on top. */
	offer.bytes = MIN(MIN(room, step), absent + MAX(wanted_bytes, least));
	offer.gain_bytes = MIN(less(offer.bytes, absent), gain);
	offer.drop_caches = vm->state == POLICY_IDLE && offer.bytes > claims.free;
	return offer;
}

/* --- Moves --- */

void policy_move(const struct policy_sample *vm, uint64_t target_bytes, uint64_t gain_bytes,
		 uint64_t now_us)
{
	struct policy_vm *record = vm->vm;
	bool is_down = target_bytes < vm->actual_bytes;

	record->direction = is_down ? -1 : 1;
	*(is_down ? &record->down_us : &record->up_us) = now_us;
	record->moved_us = record->progress_us = now_us;
	record->progress_bytes = vm->actual_bytes;
	record->moved_bytes =
		is_down ? vm->actual_bytes - target_bytes : target_bytes - vm->actual_bytes;
	record->settled_us = 0;
	if (!is_down)
		record->is_up_for_work = vm->state == POLICY_BUSY;
	/* Squeezes that follow each other are measured as one: what they brought shows late. */
	if (!is_down || record->expected_gain_bytes == 0) {
		record->expected_gain_bytes = 0;
		record->private_before_bytes = vm->private_bytes;
		record->measured_us = now_us;
	}
	record->expected_gain_bytes += gain_bytes;
}

void policy_moved(const struct policy_sample *vm, uint64_t target_bytes, uint64_t now_us)
{
	policy_move(vm, target_bytes, 0, now_us);
}

/* Who has taken so much since has something else to give than what was tried. */
#define GROWN_BYTES (16 * MIB)

bool policy_has_failed(const struct policy_sample *vm, uint64_t now_us)
{
	const struct policy_vm *record = vm->vm;
	bool is_useless = now_us < record->useless_until_us &&
			  vm->private_bytes < record->useless_bytes + GROWN_BYTES;

	return is_useless || now_us < record->stall_until_us;
}

uint64_t policy_on_exec(struct policy *policy, const struct policy_sample *vm, uint64_t now_us)
{
	uint64_t current = MIN(vm->target_bytes, vm->size_bytes);
	uint64_t lack = vm->size_bytes - current;
	uint64_t give = policy->level < POLICY_RED ? lack : lack / 2;

	/* Half of little is all of it: else a VM comes close to its size and never there. */
	if (lack < least_bytes(vm))
		give = lack;
	if (!vm->can_balloon || give == 0)
		return vm->target_bytes;
	policy_move(vm, MAX(current + give, vm->actual_bytes), 0, now_us);
	vm->vm->is_up_for_work = true;
	return current + give;
}

/* --- Progress --- */

/* crosvm and ChromeOS call a balloon stalled at under 15 MB/s for 4 s; ours are slower under TCG
 * and with a guest that compresses. */
#define STALL_US          (2 * SECOND)
#define STALL_BYTES_PER_S (4 * MIB)
#define SLOWEST_PER_S     (32 * MIB) /* with STALL_GRACE_US on top: the end of all patience */
#define STALL_GRACE_US    (5 * SECOND)
#define BACKOFF_MIN_US    (30 * SECOND)
#define BACKOFF_MAX_US    (600 * SECOND)

uint64_t policy_stalled(struct policy *policy, const struct policy_sample *vm, uint64_t now_us)
{
	struct policy_vm *record = vm->vm;
	uint64_t target = vm->actual_bytes + MAX(8 * MIB, vm->size_bytes / 100 * 3);

	record->backoff_us =
		record->backoff_us ? MIN(2 * record->backoff_us, BACKOFF_MAX_US) : BACKOFF_MIN_US;
	record->stall_until_us = now_us + record->backoff_us;
	record->expected_gain_bytes = 0;
	if (vm->target_bytes > vm->actual_bytes)
		return MIN(vm->actual_bytes, vm->size_bytes);
	target = MIN(MAX(target, policy->config.floor_bytes), vm->size_bytes);
	record->learned_floor_bytes = target;
	record->floor_until_us = now_us + BACKOFF_MAX_US;
	return target;
}

static bool stands_still(struct policy_vm *record, uint64_t actual_bytes, uint64_t now_us)
{
	uint64_t elapsed_us = less(now_us, record->progress_us);
	uint64_t moved = less(actual_bytes, record->progress_bytes) +
			 less(record->progress_bytes, actual_bytes);

	if (less(now_us, record->moved_us) >
	    STALL_GRACE_US + record->moved_bytes / (SLOWEST_PER_S / SECOND + 1))
		return true;
	if (elapsed_us < STALL_US)
		return false;
	if (moved < STALL_BYTES_PER_S / 1000 * (elapsed_us / 1000))
		return true;
	record->progress_us = now_us;
	record->progress_bytes = actual_bytes;
	return false;
}

enum policy_progress policy_progress(struct policy *policy, const struct policy_sample *vm,
				     uint64_t now_us, uint64_t *ret_target)
{
	if (less(vm->actual_bytes, vm->target_bytes) < REACHED_BYTES &&
	    less(vm->target_bytes, vm->actual_bytes) < REACHED_BYTES) {
		vm->vm->backoff_us = 0;
		return POLICY_REACHED;
	}
	if (!stands_still(vm->vm, vm->actual_bytes, now_us))
		return POLICY_MOVING;
	*ret_target = policy_stalled(policy, vm, now_us);
	return POLICY_STALLED;
}
