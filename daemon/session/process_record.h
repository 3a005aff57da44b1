/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A background process that outlives the daemon.
 *
 * Theory of operation: its session's record (session_record.h) has what is known of each process
 * that the guest has started, and of those that have ended; its last output is kept beside the VM's
 * sockets (ring.h). What was on its way to its input is not: that was for calls which have ended
 * with the daemon.
 */
#ifndef DAEMON_SESSION_PROCESS_RECORD_H
#define DAEMON_SESSION_PROCESS_RECORD_H

#include "daemon/session/process.h"

/* Has its output kept from now on, in its VM's directory. */
void process_keep(struct process *process);

/* Shall the next daemon know it? Not one that is not known to run, or is unwanted. */
bool process_is_recorded(const struct process *process);

/* What it needs then. New reference, or NULL without memory. */
json_t *process_record(const struct process *process);

/* One of an earlier daemon: RUNNING or ENDED. NULL when that is no record, or its output is not
 * there. */
struct process *process_recall(struct processes *processes, const json_t *record, int vm_dir_fd);

/* Adds what is here of its outputs, as in HELLO. */
void process_tell_received(const struct process *process, json_t *received);

/* Goes on in its VM, whose guest knows it unless it has ended. 0 or -errno. */
int process_take_up(struct process *process, struct vm *vm, const struct msg_hello_reply *hello);

#endif
