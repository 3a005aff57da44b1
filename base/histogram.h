/* SPDX-License-Identifier: Apache-2.0 */
/* How long things took: counts in buckets that are the same for all of them. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>

/* Upper bounds of the buckets in seconds: memory control reacts within 1 ms, a warm run takes
 * 10 ms, a boot seconds. */
#define HISTOGRAM_BUCKETS 14
extern const double histogram_bounds[HISTOGRAM_BUCKETS];

/* Zero-initialised it is empty. */
struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS + 1]; /* the last: over all bounds; not cumulative */
	double sum_seconds;
};

/* Something took `us`; a bound belongs to its bucket. */
void histogram_add(struct histogram *histogram, uint64_t us);

#endif
