/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session: a VM that a user keeps, and the programs that run in it one after the other.
 *
 * Theory of operation: session.create asks the pool for a VM and answers when it is there. Each
 * session.exec is an exec (exec.h) in the session's queue: they run one at a time, in the order
 * they came, whichever connection they came from. While none runs the VM rests: its memory can be
 * taken and its vCPU halted, and the idle timer runs. Files and what the user's programs set up in
 * the VM stay until the session closes.
 * A session closes once: asked for, idle for too long, at its timeout, with its connection if it is
 * bound to that, or because its VM is lost or a program in it cannot be ended. Programs that ran or
 * waited are then answered with SESSION_CLOSED and the reason. The sessions (sessions.h) remember a
 * closed one for a while.
 *
 * States:                              side exits, all to CLOSED
 *   STARTING  waits for a VM           no VM, create cancelled, its caller gone
 *   IDLE      the VM rests             idle timer, timeout, VM lost, session_close()
 *   BUSY      the first exec runs      timeout, VM lost, no report of an end, session_close()
 *   CLOSED    the VM was released      freed in this iteration
 */
#ifndef DAEMON_SESSION_SESSION_H
#define DAEMON_SESSION_SESSION_H

#include "daemon/session/sessions.h"

#define SESSION_NAME_SIZE 128

/* Programs that wait in one session; more are refused with SESSION_BUSY. */
#define SESSION_EXECS_MAX 64

/* Handles session.create and session.exec; params have passed method_validate(). */
struct rpc_reply session_create(struct sessions *sessions, struct rpc_call *call,
				const json_t *params) WARN_UNUSED;
struct rpc_reply session_exec(struct session *session, struct rpc_call *call,
			      const json_t *params) WARN_UNUSED;

/* Its processes, for a call about them: whoever uses them uses the session. */
struct processes *session_processes(struct session *session);

/* Changes what session.update names. NULL, or the error; then nothing is changed. */
struct rpc_error *session_update(struct session *session, const json_t *params) WARN_UNUSED;

/* Harmless when it is closed. */
void session_close(struct session *session, enum session_reason reason);

/* The Session of the API. New reference. */
json_t *session_describe(const struct session *session);

#endif
