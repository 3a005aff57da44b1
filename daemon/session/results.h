/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results that outlive their calls: those of programs with an exec_id.
 *
 * Theory of operation: a call with an exec_id leaves a record of who asked, and a hash of what. Its
 * program runs on when the connection has gone. The same request with that id does not run again:
 * it is answered together with the first one, or at once with what is stored. Another request with
 * it is refused with EXEC_ID_CONFLICT. A program that never ran leaves no record, so that it can be
 * sent again. Ended records stay for result_seconds, as long as those of one user fit into
 * result_bytes_per_uid: then the oldest go. What still runs is never dropped; the next one is
 * refused with QUOTA_EXCEEDED instead. An id belongs to a user, whoever's session it runs in.
 */
#ifndef DAEMON_SESSION_RESULTS_H
#define DAEMON_SESSION_RESULTS_H

#include "base/loop.h"
#include "conf/config.h"
#include "daemon/rpc/call.h"
#include "daemon/session/output.h"

struct exec;
struct result_record;
struct results;

/* 0 or -ENOMEM. */
int results_create(struct loop *loop, const struct config *config, struct results **ret);

/* Ends the programs that still run, which is answered to who waits. NULL is fine. */
void results_destroy(struct results *results);

/* Has the call's exec_id been seen? Then `ret` is its reply, and nothing shall be run. */
bool results_join(struct results *results, struct rpc_call *call, const json_t *params,
		  struct rpc_reply *ret) WARN_UNUSED;

/* A record for the call's exec_id, which results_join() has not found; `bytes` are what its request
 * takes. NULL when it has none, or with the error in `ret_error`. */
struct result_record *results_begin(struct results *results, const struct rpc_call *call,
				    const json_t *params, struct exec *exec, size_t bytes,
				    struct rpc_error **ret_error) WARN_UNUSED;

/* The exec has ended, with a result or an error; takes the bytes of its outputs. The record knows
 * it no longer. */
void results_end(struct result_record *record, json_t *result, struct output *out,
		 struct output *err);
void results_fail(struct result_record *record, const struct rpc_error *error);

/* It never ran. Who joined hears the error; NULL: nobody can have. */
void results_forget(struct result_record *record, const struct rpc_error *error);

/* Handles session.result. */
struct rpc_reply results_get(struct results *results, struct rpc_call *call,
			     const json_t *params) WARN_UNUSED;

#endif
