/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that follow the output of a session's processes: session.attach.
 *
 * Theory of operation: an attachment is one connection in one session; of each process that it
 * follows it has a place in both outputs, and gets process.output notifications from there on as
 * fast as it reads. Their buffer is the process's ring: while a connection is congested nothing is
 * sent, and when it is further behind than half of the ring the guest's stream waits for it
 * (process_credit()). Whoever falls out of the ring all the same sees that by the offset.
 * One that follows all gets the output of the session's programs, too, as run.output without an id:
 * that of each as long as it runs, and what a connection has not read by then it misses.
 * It ends with its connection or the session.
 */
#ifndef DAEMON_SESSION_ATTACH_H
#define DAEMON_SESSION_ATTACH_H

#include "daemon/session/process.h"

/* Handles session.attach; params have passed method_validate(). */
struct rpc_reply attach_start(struct processes *processes, struct rpc_call *call,
			      const json_t *params) WARN_UNUSED;

/* Sends what the process has written to all that follow it. */
void attach_pump(struct process *process);

/* A new process: for those that follow all; and one that is forgotten. */
void attach_add(struct process *process);
void attach_forget(struct process *process);

/* A program of the session begins, has written, and is over. */
void attach_program_begin(struct processes *processes, const struct exec *exec, uint64_t number);
void attach_program_pump(struct processes *processes);
void attach_program_end(struct processes *processes, const struct exec *exec);

/* The session closes. */
void attach_end_all(struct processes *processes);

#endif
