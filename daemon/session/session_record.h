/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session that outlives the daemon.
 *
 * Theory of operation: a session that is not bound to a connection is recorded with its VM
 * (vm_record.h) before its caller hears of it, and again whenever something changes that the next
 * daemon needs. That one makes the session anew with session_recall(): it is STARTING until its VM
 * has answered, and then goes on. A program with an exec_id goes on with it (exec_recall.h), as do
 * background processes (process_record.h). Anything else that the guest is at had a caller who has
 * gone with the earlier daemon (stray.h); the session's next program waits for its end.
 */
#ifndef DAEMON_SESSION_SESSION_RECORD_H
#define DAEMON_SESSION_SESSION_RECORD_H

#include "daemon/session/session.h"
#include "daemon/vm/vm_record.h"

/* Kept in the record of its VM; a failure costs no more than its next life. */
void session_save(struct session *session);

/* A program with an exec_id of the session, as its result's record has it. */
struct session_past_program {
	struct result_record *record; /* NULL: there is none */
	const json_t *saved;          /* results_load() */
};

/*
 * Makes a session of what the record of its VM says. NULL when it is on its way, and on_settled
 * comes once its VM has answered, or has not; else the error: it cannot be, and the program's
 * record is the caller's still.
 */
struct rpc_error *session_recall(struct sessions *sessions, const struct vm_record *vm,
				 const json_t *owner, const struct session_past_program *program,
				 int vms_fd, void (*on_settled)(void *user),
				 void *user) WARN_UNUSED;

/* Its VM is there and attached: goes on. */
void session_take_up(struct session *session);

#endif
