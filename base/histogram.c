/* SPDX-License-Identifier: Apache-2.0 */
/* How long things took: counts in buckets that are the same for all of them. */
#include "base/histogram.h"

#include <stddef.h>

const double histogram_bounds[HISTOGRAM_BUCKETS] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
						    0.5,   1,     2.5,  5,     10,   30,  60};

void histogram_add(struct histogram *histogram, uint64_t us)
{
	double seconds = (double)us / 1e6;
	size_t i = 0;

	while (i < HISTOGRAM_BUCKETS && seconds > histogram_bounds[i])
		i++;
	histogram->counts[i]++;
	histogram->sum_seconds += seconds;
}
