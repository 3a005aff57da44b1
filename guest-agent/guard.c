/* SPDX-License-Identifier: Apache-2.0 */
/* The pressure guard: decides when a guest thrashes without hope. */
#include "guest-agent/guard.h"

#include <string.h>

#define FULL_PERCENT 60 /* docs/MEMORY.md: full >= 60 % */
/* mem_used_total is checked against the limit after each allocation and then taken back: a device
 * at its cap hovers just below it. */
#define CAP_PERCENT 95
/* Seen of a thrashing Bun with a full swap: 12 to 38 % for as long as it was let, and 10,000 pages
 * of files read again in a second. Its last pages come and go. */
#define SWAP_FULL_PERCENT 10
#define SWAP_FREE_PERCENT 5
/* Of the time since the sample before. */
#define STALLED_PERCENT 10
/* What would help, if the host gave it back, and how long it may take to. */
#define BALLOONED_BYTES     (16u << 20)
#define BALLOON_PATIENCE_US 10000000u

void guard_reset(struct guard *guard)
{
	guard->len = 0;
	guard->hopeless_since_us = 0;
}

static void drop_first(struct guard *guard)
{
	guard->len--;
	memmove(guard->samples, guard->samples + 1, guard->len * sizeof(guard->samples[0]));
}

/* In all of the window. */
static bool is_swap_full(const struct guard *guard)
{
	for (size_t i = 0; i < guard->len; i++)
		if (guard->samples[i].swap_free * 100 >
		    guard->samples[i].swap_total * SWAP_FREE_PERCENT)
			return false;
	return true;
}

static bool is_hopeless(const struct guard *guard, const struct guard_sample *sample)
{
	uint64_t elapsed = sample->now_us - guard->samples[0].now_us;
	uint64_t stalled = sample->full_total_us - guard->samples[0].full_total_us;

	if (elapsed < GUARD_WINDOW_US || sample->zram_limit == 0)
		return false;
	if (is_swap_full(guard) && stalled * 100 >= elapsed * SWAP_FULL_PERCENT)
		return true;
	return stalled * 100 >= elapsed * FULL_PERCENT &&
	       sample->zram_used * 100 >= sample->zram_limit * CAP_PERCENT;
}

/* Since the sample before. */
static bool is_stalled(const struct guard *guard)
{
	const struct guard_sample *now = &guard->samples[guard->len - 1], *before = now - 1;

	return guard->len > 1 && (now->full_total_us - before->full_total_us) * 100 >=
					 (now->now_us - before->now_us) * STALLED_PERCENT;
}

static void take(struct guard *guard, const struct guard_sample *sample)
{
	if (guard->len == GUARD_SAMPLES)
		drop_first(guard);
	guard->samples[guard->len++] = *sample;
	/* Keep the youngest sample that is a whole window old, and all after it. */
	while (guard->len > 1 && sample->now_us - guard->samples[1].now_us >= GUARD_WINDOW_US)
		drop_first(guard);
}

enum guard_verdict guard_step(struct guard *guard, const struct guard_sample *sample)
{
	take(guard, sample);
	if (!is_hopeless(guard, sample)) {
		if (sample->now_us - guard->hopeless_us >= GUARD_WINDOW_US)
			guard->hopeless_since_us = 0;
		return is_stalled(guard) ? GUARD_STALLED : GUARD_FINE;
	}
	if (guard->hopeless_since_us == 0)
		guard->hopeless_since_us = sample->now_us;
	guard->hopeless_us = sample->now_us;
	if (sample->ballooned >= BALLOONED_BYTES &&
	    sample->now_us - guard->hopeless_since_us < BALLOON_PATIENCE_US)
		return GUARD_STALLED;
	return GUARD_HOPELESS;
}
