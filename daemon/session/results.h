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
 *
 * With a directory records outlive the daemon: each is a file there (results_file.c) from right
 * before its program is sent to a guest, and again at its end, before the guest is told to forget
 * it. Whichever instruction a daemon dies at, the next one finds what was asked or how it ended,
 * and no program runs twice. What cannot be written (disk full) is kept in memory only.
 * A record that was loaded and whose program may still run has no exec until results_adopted().
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

/* Where the records' files are, borrowed for longer than the results; -1: there are none. 0 or
 * -ENOMEM. */
int results_create(struct loop *loop, const struct config *config, int dir_fd,
		   struct results **ret);

/* Ends the programs that still run, which is answered to who waits. What has ended stays in its
 * files. NULL is fine. */
void results_destroy(struct results *results);

/* The records that a daemon before has left; each may be NULL. */
struct results_load_ops {
	/*
	 * A program that was sent to a guest and of whose end nothing is known. `saved` is valid
	 * during the call (keep a reference to keep it): {uid, exec_id, params, vm, session?,
	 * language, start, number, settled?, asked_ns, asked_us, granted_us, dispatched_us}; the
	 * last three are CLOCK_MONOTONIC, of this boot. The record is answered as running, and may
	 * be joined and cancelled, until results_adopted(), results_fail() or results_forget(), at
	 * once or later. NULL: it fails with VM_LOST.
	 */
	void (*on_running)(void *user, struct result_record *record, const json_t *saved);
};

/* Once, before anything else. Files that are malformed are removed, which is logged. 0 or -errno:
 * then some are not known. */
int results_load(struct results *results, const struct results_load_ops *ops, void *user);

/* Has the call's exec_id been seen? Then `ret` is its reply, and nothing shall be run. */
bool results_join(struct results *results, struct rpc_call *call, const json_t *params,
		  struct rpc_reply *ret) WARN_UNUSED;

/* A record for the call's exec_id, which results_join() has not found; `bytes` are what its request
 * takes. NULL when it has none, or with the error in `ret_error`. */
struct result_record *results_begin(struct results *results, const struct rpc_call *call,
				    const json_t *params, struct exec *exec, size_t bytes,
				    struct rpc_error **ret_error) WARN_UNUSED;

/* Where and how its program goes to a guest. */
struct results_dispatch {
	const char *vm, *session, *language, *start; /* session: NULL: none */
	uint32_t number;
	uint64_t granted_us;
	json_t *settled; /* request_record(); NULL: none. Borrowed */
};

/* Right before the program is sent. */
void results_dispatched(struct result_record *record, const struct results_dispatch *dispatch);

/* Its program has an exec again. One that was cancelled meanwhile is cancelled now. */
void results_adopted(struct result_record *record, struct exec *exec);

/* The exec has ended, with a result or an error; takes the bytes of its outputs, whose spools are
 * removed. The record knows it no longer. It is in its file when they return: the guest may forget
 * it now. */
void results_end(struct result_record *record, json_t *result, struct output *out,
		 struct output *err);
void results_fail(struct result_record *record, const struct rpc_error *error);

/* It never ran. Who joined hears the error; NULL: nobody can have. */
void results_forget(struct result_record *record, const struct rpc_error *error);

/* Handles session.result. */
struct rpc_reply results_get(struct results *results, struct rpc_call *call,
			     const json_t *params) WARN_UNUSED;

#endif
