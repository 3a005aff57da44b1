/* SPDX-License-Identifier: Apache-2.0 */
/* How runs ended and how long they took, since the start: for `metrics`. */
#ifndef DAEMON_SESSION_RUN_COUNTERS_H
#define DAEMON_SESSION_RUN_COUNTERS_H

#include "daemon/pool/pool.h"
#include "daemon/session/result.h"

#include <stddef.h>
#include <stdint.h>

/* Upper bounds of the buckets in seconds: a warm run takes 10 ms here, a boot seconds. */
#define RUN_BUCKETS 13
extern const double run_bucket_seconds[RUN_BUCKETS];

struct run_histogram {
	uint64_t counts[RUN_BUCKETS + 1]; /* the last: over all bounds; not cumulative */
	double sum_seconds;
};

/* Statuses of RunResult, and "abandoned": nobody was there to be answered. Ended by NULL. */
extern const char *const run_statuses[];
#define RUN_STATUSES 8
#define RUN_CODES    64

struct run_counters {
	uint64_t ended[POOL_LANGUAGES_MAX][RUN_STATUSES]; /* by method_languages, run_statuses */
	uint64_t errors[RUN_CODES];                       /* by the index of rpc_code_at() */
	struct run_histogram queue, start[POOL_START_BOOT + 1], execute;
};

/* A run has a result; `status` is one of run_statuses. */
void run_counters_add(struct run_counters *counters, const char *status,
		      const struct run_outcome *outcome, enum pool_start start);

/* Its caller has gone. */
void run_counters_add_abandoned(struct run_counters *counters, const char *language);

/* It was answered with an error. */
void run_counters_add_error(struct run_counters *counters, int code);

#endif
