/* SPDX-License-Identifier: Apache-2.0 */
/* The receipt of a run: why it ended and what it used, as the EXIT message says it. Pure. */
#ifndef GUEST_AGENT_RECEIPT_H
#define GUEST_AGENT_RECEIPT_H

#include "guest-agent/cgroup.h"
#include "protocol/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>

/* A runner's report of an uncaught exception: what fits a pipe. */
#define RECEIPT_REPORT_MAX (64u * 1024)

/* Why the agent itself ended the run. */
enum receipt_verdict {
	VERDICT_NONE,
	VERDICT_OOM,          /* the pressure guard */
	VERDICT_OUTPUT_LIMIT, /* the caller asked to stop there */
};

/* What is known when the last process of a run is gone. */
struct receipt_facts {
	enum receipt_verdict verdict;
	int status;                /* of the main process, as from waitpid(2) */
	struct rusage rusage;      /* of the main process and those it waited for */
	struct cgroup_usage usage; /* of the whole tree; zero without cgroups */
	/* What both had counted when the run got them: an interpreter that waited has worked
	 * before. Zero for one that was started for this run. */
	struct rusage rusage_before;
	struct cgroup_usage usage_before;
	uint64_t swap_peak_bytes; /* highest sample */
	uint64_t execute_us;
};

/* Fills in reason, exit code or signal, and all usage. An out-of-memory kill wins over its signal.
 */
void receipt_fill(struct msg_exit *receipt, const struct receipt_facts *facts);

/*
 * A report is name, value and traceback, divided by NUL: three texts that need no parser. Returns
 * {name, value, traceback} as a new reference, or NULL when it is anything else: user code can
 * write what it likes there.
 */
json_t *receipt_parse_report(const char *report, size_t len);

#endif
