/* SPDX-License-Identifier: Apache-2.0 */
/* How runs ended and how long they took, since the start: for `metrics`. */
#ifndef DAEMON_SESSION_RUN_COUNTERS_H
#define DAEMON_SESSION_RUN_COUNTERS_H

#include "base/histogram.h"
#include "daemon/pool/pool.h"
#include "daemon/session/result.h"

#include <stddef.h>
#include <stdint.h>

/* Statuses of RunResult, and "abandoned": nobody was there to be answered. Ended by NULL. */
extern const char *const run_statuses[];
#define RUN_STATUSES 8
#define RUN_CODES    64

struct run_counters {
	uint64_t ended[POOL_LANGUAGES_MAX][RUN_STATUSES]; /* by method_languages, run_statuses */
	uint64_t errors[RUN_CODES];                       /* by the index of rpc_code_at() */
	struct histogram queue, start[POOL_START_BOOT + 1], execute;
};

/* A run has a result; `status` is one of run_statuses. */
void run_counters_add(struct run_counters *counters, const char *status,
		      const struct run_outcome *outcome, enum pool_start start);

/* Its caller has gone. */
void run_counters_add_abandoned(struct run_counters *counters, const char *language);

/* It was answered with an error. */
void run_counters_add_error(struct run_counters *counters, int code);

#endif
