/* SPDX-License-Identifier: Apache-2.0 */
/* The rate of the host's time stamp counter, which a guest is told instead of measuring it. */
#include "daemon/vm/tsc.h"

#include "base/util.h"

#include <errno.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>

/* Long enough that the two ends' jitter (under 1 us) is below 50 ppm, short enough for a start. */
#define INTERVAL_NS 20000000L
/* Of so many readings the one that was least disturbed counts. */
#define READINGS 16
/* 100 MHz to 20 GHz: everything else is a broken counter. */
#define KHZ_MIN 100000u
#define KHZ_MAX 20000000u

#define LEAF_TSC        0x15u
#define LEAF_POWER      0x80000007u
#define POWER_INVARIANT (1u << 8)

struct reading {
	uint64_t tsc, ns;
};

/* Pairs the counter with the clock; an interrupted pairing shows by the time it took. */
static struct reading read_both(void)
{
	struct reading best = {0};
	uint64_t best_took = UINT64_MAX;

	for (int i = 0; i < READINGS; i++) {
		struct timespec ts;
		uint64_t before = __rdtsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
		after = __rdtsc();
		if (after - before >= best_took)
			continue;
		best_took = after - before;
		best.tsc = before + (after - before) / 2;
		best.ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	}
	return best;
}

static bool is_invariant(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(LEAF_POWER, &a, &b, &c, &d) && (d & POWER_INVARIANT);
}

/* 0 where CPUID does not tell (older processors, most hypervisors). */
static uint64_t khz_from_cpuid(void)
{
	unsigned denominator, numerator, crystal_hz, d;

	if (!__get_cpuid_count(LEAF_TSC, 0, &denominator, &numerator, &crystal_hz, &d))
		return 0;
	if (denominator == 0 || numerator == 0 || crystal_hz == 0)
		return 0;
	return (uint64_t)crystal_hz * numerator / denominator / 1000;
}

static uint64_t khz_from_clock(void)
{
	struct timespec interval = {.tv_nsec = INTERVAL_NS};
	struct reading first = read_both(), last;

	clock_nanosleep(CLOCK_MONOTONIC, 0, &interval, NULL);
	last = read_both();
	if (last.ns <= first.ns || last.tsc <= first.tsc)
		return 0;
	return (uint64_t)((double)(last.tsc - first.tsc) * 1e6 / (double)(last.ns - first.ns));
}

int tsc_measure(uint32_t *ret_khz)
{
	uint64_t khz;

	if (!is_invariant())
		return -ENOTSUP;
	khz = khz_from_cpuid();
	if (khz == 0)
		khz = khz_from_clock();
	if (khz < KHZ_MIN || khz > KHZ_MAX)
		return -ERANGE;
	*ret_khz = (uint32_t)khz;
	return 0;
}

#else

int tsc_measure(uint32_t *ret_khz UNUSED)
{
	return -ENOTSUP;
}

#endif
