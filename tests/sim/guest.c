/* SPDX-License-Identifier: Apache-2.0 */
/* One guest of the simulator. */
#include "tests/sim/guest.h"

#include "base/util.h"

#include <math.h>

#define MIB (1024. * 1024)

/* zram: half of the memory, its content at most a quarter (MEMORY.md, 1). */
#define ZRAM_DISK  (GUEST_SIZE / 2)
#define ZRAM_LIMIT (GUEST_SIZE / 4)
/* 3.6: LN(2.4, 0.3); section 6 has 1.1 (random numbers) to 3.8 (Python objects). */
#define RATIO_MEDIAN 2.4
#define RATIO_SIGMA  0.3
/* Of anonymous memory, what can be compressed at all (3.5). */
#define SWAPPABLE 0.85
/* A page out of or into the zram, with its fault: assumed 10 us, between 1.7 us (section 5, lz4)
 * and what TCG takes. */
#define SWAP_MIB_PER_S 400.
/* A guest's kernel keeps min_free_kbytes free, 4 % (MEMORY.md, 1), when its balloon inflates. */
#define WATERMARK (GUEST_SIZE / 25)
/* 3.5: "out of puff", a guest's driver tries again every 0.2 s. */
#define PUFF_SECONDS 0.2
/* Section 6: 136 MiB in 0.6 to 0.8 s. */
#define BALLOON_MIB_PER_S 180.
/* 1.5: 78 MiB are back within 2 s. */
#define REPORTED_PER_S 0.5
/* Assumed: of what a run takes, so much is page cache, which stays; of the rest so much stays in
 * the session (variables, modules). */
#define CACHE_PART 0.3
#define STAYS_PART 0.1
/* Assumed: a session ends after so many runs. */
#define SESSION_RUNS 30
/* Assumed: a run touches this part of what was compressed. */
#define TOUCHED_PART 0.5
/* The policy's simulation has 10 and 30 % of them as extremes; here they are rare. */
#define DEAF_PART  0.02
#define FALSE_PART 0.01

/* --- Random numbers --- */

double guest_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.;
}

double guest_exponential(uint64_t *seed, double mean)
{
	return -mean * log(1 - guest_random(seed));
}

double guest_lognormal(uint64_t *seed, double median, double sigma)
{
	double radius = sqrt(-2 * log(1 - guest_random(seed)));

	return median * exp(sigma * radius * cos(2 * M_PI * guest_random(seed)));
}

/* --- Memory --- */

static double available(const struct guest *guest)
{
	double taken = GUEST_SHARED + guest->used + guest->packed / guest->ratio;

	return MAX(guest->actual - taken, 0);
}

static double free_memory(const struct guest *guest)
{
	return MAX(available(guest) - guest->cache, 0);
}

double guest_private(const struct guest *guest)
{
	switch (guest->phase) {
	case GUEST_DEAD:
		return 0;
	case GUEST_SPARE_PHASE:
		return GUEST_SPARE;
	case GUEST_IDLE:
	case GUEST_WAITING:
	case GUEST_BUSY:
		break;
	}
	return GUEST_OVERHEAD + guest->used + guest->cache + guest->spent +
	       guest->packed / guest->ratio;
}

static double swap_free(const struct guest *guest)
{
	double room = MIN(ZRAM_DISK, ZRAM_LIMIT * guest->ratio);

	return MAX(room - guest->packed, 0);
}

/* Compresses until `wanted` has come free, or nothing is left to; returns what came free. */
static double compress(struct guest *guest, double wanted, double *stall)
{
	double saved = 1 - 1 / guest->ratio;
	double pages = MIN(wanted / saved, MIN(swap_free(guest), guest->used * SWAPPABLE));

	guest->used -= pages;
	guest->packed += pages;
	*stall += pages / SWAP_MIB_PER_S;
	return pages * saved;
}

/* Makes `wanted` free beyond what is; returns how much it could. */
static double reclaim(struct guest *guest, double wanted, double *stall)
{
	double got = MIN(wanted, guest->cache * 0.9);

	guest->cache -= got;
	if (got < wanted)
		got += compress(guest, wanted - got, stall);
	if (got < wanted && guest->actual < GUEST_SIZE) {
		double back = MIN(wanted - got, GUEST_SIZE - guest->actual);

		guest->actual += back;
		*stall += PUFF_SECONDS;
		got += back;
	}
	return got;
}

/* Free memory that is taken is first what was in use before. */
static double take(struct guest *guest, double wanted, double *stall)
{
	double got = MIN(wanted, free_memory(guest));

	guest->spent -= MIN(guest->spent, got);
	if (got < wanted)
		got += reclaim(guest, wanted - got, stall);
	return got;
}

/* --- Life --- */

void guest_create(struct guest *guest, const struct guest_habits *habits, unsigned tick,
		  uint64_t *seed)
{
	double luck = guest_random(seed);

	*guest = (struct guest){
		.nature = luck < DEAF_PART                ? GUEST_DEAF
			  : luck < DEAF_PART + FALSE_PART ? GUEST_FALSE
							  : GUEST_HONEST,
		.phase = GUEST_IDLE,
		.used = MIN(guest_lognormal(seed, habits->live, habits->live_sigma), 140),
		.ratio = MAX(guest_lognormal(seed, RATIO_MEDIAN, RATIO_SIGMA), 1.1),
		.actual = GUEST_SIZE,
		.target = GUEST_SIZE,
		.since = tick,
		.next = tick + 1 + (unsigned)guest_exponential(seed, habits->idle_mean),
	};
}

static double run_grow(struct guest *guest, double wanted, bool *ret_is_oom)
{
	double stall = 0, got = take(guest, wanted, &stall);
	double cached = MIN(got * CACHE_PART, free_memory(guest));

	guest->used += got - cached;
	guest->temporary += got - cached;
	guest->cache += cached;
	*ret_is_oom = got < wanted - 0.01;
	return stall;
}

double guest_run_begin(struct guest *guest, const struct guest_habits *habits, unsigned tick,
		       uint64_t *seed, bool *ret_is_oom)
{
	double seconds = 1 + guest_exponential(seed, habits->run_mean);
	double growth = guest_lognormal(seed, habits->growth, habits->growth_sigma);
	double pages = guest->packed * TOUCHED_PART, stall = pages / SWAP_MIB_PER_S;

	guest->phase = GUEST_BUSY;
	guest->since = tick;
	guest->next = tick + (unsigned)seconds;
	guest->is_stopped = false;
	guest->temporary = 0;
	/* Most of it comes in the first half of the run. */
	guest->growth_per_s = MIN(growth, 180) / MAX(seconds / 2, 1);
	guest->packed -= pages;
	guest->used += take(guest, pages * (1 - 1 / guest->ratio), &stall) + pages / guest->ratio;
	*ret_is_oom = false;
	return stall;
}

double guest_run_on(struct guest *guest, bool *ret_is_oom)
{
	return run_grow(guest, guest->growth_per_s, ret_is_oom);
}

void guest_run_end(struct guest *guest, const struct guest_habits *habits, unsigned tick,
		   uint64_t *seed)
{
	double freed = MIN(guest->temporary * (1 - STAYS_PART), guest->used);

	if (guest_random(seed) < 1. / SESSION_RUNS) {
		guest_create(guest, habits, tick, seed);
		return;
	}
	guest->used -= freed;
	guest->spent += freed;
	guest->temporary = 0;
	guest->phase = GUEST_IDLE;
	guest->since = tick;
	guest->next = tick + 1 + (unsigned)guest_exponential(seed, habits->idle_mean);
}

/* --- Giving memory back --- */

void guest_report_free(struct guest *guest)
{
	if (guest->nature != GUEST_FALSE && !guest->is_stopped)
		guest->spent *= 1 - REPORTED_PER_S;
}

static double inflate(struct guest *guest, double wanted)
{
	double stall = 0, part, left = wanted;

	if (guest->nature == GUEST_FALSE) {
		guest->actual -= wanted;
		return 0;
	}
	/* Free memory first: what the host does not hold, then what it does. */
	part = MIN(left, MAX(free_memory(guest) - WATERMARK, 0));
	guest->spent -= MIN(guest->spent, MAX(part - (free_memory(guest) - guest->spent), 0));
	left -= part;
	part = MIN(left, guest->cache);
	guest->cache -= part;
	left -= part;
	if (left > 0)
		left -= compress(guest, left, &stall);
	guest->actual -= wanted - MAX(left, 0);
	return guest->phase == GUEST_BUSY ? stall : 0;
}

double guest_move_balloon(struct guest *guest, double seconds)
{
	double pace = BALLOON_MIB_PER_S * seconds;
	double way = guest->target - guest->actual;

	if (guest->nature == GUEST_DEAF || way == 0)
		return 0;
	if (way < 0)
		return inflate(guest, MIN(-way, pace));
	guest->actual += MIN(way, pace);
	return 0;
}

static uint64_t bytes(double mib)
{
	return (uint64_t)(MAX(mib, 0) * MIB);
}

/* A false one says that all of its memory is free. */
void guest_speak(struct guest *guest, unsigned tick)
{
	double total = GUEST_SIZE - 20; /* a kernel of 256 MiB shows about 236 */
	double can = guest->nature == GUEST_FALSE ? guest->actual : available(guest);
	double caches = MIN(guest->cache, can);

	can = MIN(can, total);
	guest->stats_tick = tick;
	guest->stats = (struct policy_guest){
		.is_known = true,
		.total_bytes = bytes(total),
		.available_bytes = bytes(can),
		.free_bytes = bytes(can - caches),
		.caches_bytes = bytes(caches),
		.swap_free_bytes = bytes(swap_free(guest)),
		.anonymous_bytes = bytes(guest->used),
		.zram_orig_bytes = bytes(guest->packed),
		.zram_used_bytes = bytes(guest->packed / guest->ratio),
	};
}
