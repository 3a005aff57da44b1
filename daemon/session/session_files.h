/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file operations of a session: calls of `file.*`, in the order they came.
 *
 * Theory of operation: each call waits in the session's queue until the VM is there and the one
 * before it is done; they run beside the session's programs, not behind them. A call is answered
 * when its operation has ended: a cancelled one, too, so that what it did is known. One whose
 * caller has gone is done all the same when it has begun.
 */
#ifndef DAEMON_SESSION_SESSION_FILES_H
#define DAEMON_SESSION_SESSION_FILES_H

#include "daemon/session/file_io.h"
#include "daemon/session/session.h"

#include <sys/queue.h>

/* Calls that wait in one session; more are refused with SESSION_BUSY. */
#define SESSION_FILES_MAX 64

struct session_file;

/* Part of a session. */
struct session_files {
	TAILQ_HEAD(, session_file) queue;
	size_t count;
	struct file_io *io; /* of the first in the queue; NULL: none runs */
	struct defer next;
};

void session_files_init(struct session_files *files);

/* Handles a call; params have passed method_validate(). */
struct rpc_reply session_file_call(struct session *session, struct rpc_call *call,
				   enum file_kind kind, const json_t *params) WARN_UNUSED;

/* The VM is there. */
void session_files_advance(struct session *session);

/* What the VM says. False when it is not about a file. */
bool session_files_on_message(struct session *session, const struct msg *msg);
bool session_files_on_output(struct session *session, uint32_t number, enum frame_substream sub,
			     const uint8_t *data, size_t len);
bool session_files_on_input(struct session *session, uint32_t number);

/* The session closes: all calls are answered with its end. */
void session_files_fail(struct session *session, enum session_reason reason);

#endif
