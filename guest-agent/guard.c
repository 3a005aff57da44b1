/* SPDX-License-Identifier: Apache-2.0 */
/* The pressure guard: decides when a guest thrashes without hope. */
#include "guest-agent/guard.h"

#include <string.h>

#define FULL_PERCENT 60 /* docs/MEMORY.md: full >= 60 % */
/* mem_used_total is checked against the limit after each allocation and then taken back: a device
 * at its cap hovers just below it. */
#define CAP_PERCENT 95

void guard_reset(struct guard *guard)
{
	guard->len = 0;
}

static void drop_first(struct guard *guard)
{
	guard->len--;
	memmove(guard->samples, guard->samples + 1, guard->len * sizeof(guard->samples[0]));
}

bool guard_step(struct guard *guard, const struct guard_sample *sample)
{
	const struct guard_sample *first = guard->samples;
	uint64_t elapsed, stalled;

	if (guard->len == GUARD_SAMPLES)
		drop_first(guard);
	guard->samples[guard->len++] = *sample;
	/* Keep the youngest sample that is a whole window old, and all after it. */
	while (guard->len > 1 && sample->now_us - first[1].now_us >= GUARD_WINDOW_US)
		drop_first(guard);

	elapsed = sample->now_us - first->now_us;
	stalled = sample->full_total_us - first->full_total_us;
	return elapsed >= GUARD_WINDOW_US && stalled * 100 >= elapsed * FULL_PERCENT &&
	       sample->zram_limit > 0 &&
	       sample->zram_used * 100 >= sample->zram_limit * CAP_PERCENT;
}
