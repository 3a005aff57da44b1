/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One `run`: a program and a fresh VM.
 *
 * Theory of operation: a run asks the pool for a VM, puts its files there, hands it to its exec
 * (exec.h), fetches the files that were asked for, and releases it when that is done: it never runs
 * other code. Files that cannot be put there are an error, and the program never runs; those that
 * cannot be fetched are told of in the result. A caller who goes takes the run and its VM along.
 */
#ifndef DAEMON_SESSION_RUN_H
#define DAEMON_SESSION_RUN_H

#include "daemon/pool/pool.h"
#include "daemon/session/exec.h"

struct vm_record;

struct run_env {
	const struct exec_env *exec;
	struct pool *pool;
	int vms_fd; /* borrowed: one directory per VM */
};

/* Handles one `run` call; params have passed method_validate(). */
struct rpc_reply run_start(const struct run_env *env, struct rpc_call *call,
			   const json_t *params) WARN_UNUSED;

/*
 * Goes on with a run that an earlier daemon began in this VM: `record` and `saved` are of
 * results_load(). NULL when it is on its way, and on_settled comes once its VM has answered or has
 * not; else the error, and the record is the caller's still.
 */
struct rpc_error *run_recall(const struct run_env *env, const struct vm_record *vm,
			     struct result_record *record, const json_t *saved,
			     void (*on_settled)(void *user), void *user) WARN_UNUSED;

#endif
