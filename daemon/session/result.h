/* SPDX-License-Identifier: Apache-2.0 */
/* RunResult: one typed outcome and a receipt for every run. Pure. */
#ifndef DAEMON_SESSION_RESULT_H
#define DAEMON_SESSION_RESULT_H

#include "daemon/session/output.h"
#include "protocol/message.h"
#include "protocol/rpc_error.h"

/* Who ended the run; the guest's receipt says how it ended otherwise. */
enum run_verdict {
	VERDICT_NONE,      /* the program itself, or the guest's limits */
	VERDICT_TIMEOUT,   /* the host's clock */
	VERDICT_CANCELLED, /* the caller */
};

struct run_outcome {
	enum run_verdict verdict;
	const struct msg_exit *exit; /* NULL: the guest gave no receipt */
	const struct output *out, *err;
	uint64_t queue_us, start_us, execute_us, total_us;
	const char *vm, *language, *start; /* start: "warm", "clone" or "boot" */
	const char *session;               /* NULL: none */
	json_t *files;                     /* that were collected; NULL: none */
};

/* What the guest says of a program that it could not start, as the error to answer. */
struct rpc_error *run_start_error(const char *detail);

/* New reference, or NULL without memory. */
json_t *run_result(const struct run_outcome *outcome);

#endif
