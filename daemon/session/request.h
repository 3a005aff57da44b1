/* SPDX-License-Identifier: Apache-2.0 */
/* What callers of `run`, session.create and session.exec ask for, checked against the
 * configuration.
 */
#ifndef DAEMON_SESSION_REQUEST_H
#define DAEMON_SESSION_REQUEST_H

#include "conf/config.h"
#include "protocol/message.h"
#include "protocol/rpc_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct run_request {
	char language[32];
	char *code, *input; /* bytes; may be NULL when empty */
	size_t code_len, input_len;
	json_t *args, *env; /* NULL when absent */
	char *cwd;          /* NULL: the home directory */
	double timeout_seconds;
	uint64_t memory_mb;    /* what the run's cgroup gets */
	uint64_t vm_memory_mb; /* the size class that holds it */
	uint64_t stdout_limit, stderr_limit;
	uint64_t pids, cpu_seconds, disk_mb;
	bool stop_at_limit;
	bool is_streaming;
	bool is_resident; /* in the session's interpreter, which goes on behind it */
	bool is_background;
	uint64_t terminal_rows, terminal_columns; /* of a background program; 0: it has none */
};

/*
 * Reads params that method_validate() has passed. `max_memory_mb` is what the host can give one VM.
 * NULL when good (release with run_request_fini()), otherwise the error to answer.
 */
struct rpc_error *run_request_parse(const json_t *params, const struct config *config,
				    uint64_t max_memory_mb, struct run_request *ret) WARN_UNUSED;

/* The same for session.create: what all its programs have in common, without code. */
struct rpc_error *session_request_parse(const json_t *params, const struct config *config,
					uint64_t max_memory_mb,
					struct run_request *ret) WARN_UNUSED;

/* The same for session.exec: code for the session's interpreter, a command of the shell, or the
 * words of one. What it does not say is
 * as in `session`; variables are added to the session's. */
struct rpc_error *exec_request_parse(const json_t *params, const struct config *config,
				     const struct run_request *session,
				     struct run_request *ret) WARN_UNUSED;

void run_request_fini(struct run_request *request);

/* The smallest size class (128 x 2^n, or the default) that holds `memory_mb`. */
uint64_t memory_size_class(uint64_t memory_mb, uint64_t default_mb);

#endif
