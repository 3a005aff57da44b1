/* SPDX-License-Identifier: Apache-2.0 */
/* How runs ended and how long they took, since the start: for `metrics`. */
#include "daemon/session/run_counters.h"

#include "base/util.h"
#include "protocol/method.h"
#include "protocol/rpc_error.h"

#include <assert.h>
#include <string.h>

#define ABANDONED "abandoned"

const char *const run_statuses[] = {"ok",           "error",     "timeout", "signal", "oom",
				    "output_limit", "cancelled", ABANDONED, NULL};
static_assert(ELEMENTSOF(run_statuses) == RUN_STATUSES + 1, "every status has a counter");

static size_t index_of(const char *const *names, const char *name)
{
	size_t i = 0;

	while (names[i] && strcmp(names[i], name) != 0)
		i++;
	return i;
}

static void count(struct run_counters *counters, const char *language, const char *status)
{
	size_t at = index_of(method_languages, language), what = index_of(run_statuses, status);

	if (at < POOL_LANGUAGES_MAX && what < RUN_STATUSES)
		counters->ended[at][what]++;
}

void run_counters_add(struct run_counters *counters, const char *status,
		      const struct run_outcome *outcome, enum pool_start start)
{
	bool has_run = outcome->execute_us > 0; /* not: cancelled before it had a VM */

	count(counters, outcome->language, status);
	/* A session has its VM already: its programs wait for each other, and not for the host. */
	if (!outcome->session)
		histogram_add(&counters->queue, outcome->queue_us);
	if (has_run && !outcome->session)
		histogram_add(&counters->start[start], outcome->start_us);
	if (has_run)
		histogram_add(&counters->execute, outcome->execute_us);
}

void run_counters_add_abandoned(struct run_counters *counters, const char *language)
{
	count(counters, language, ABANDONED);
}

void run_counters_add_error(struct run_counters *counters, int code)
{
	const char *name, *help;
	int known;

	for (size_t i = 0; i < RUN_CODES && rpc_code_at(i, &known, &name, &help); i++)
		if (known == code)
			counters->errors[i]++;
}
