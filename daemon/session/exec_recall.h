/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with an exec_id that an earlier daemon began.
 *
 * Theory of operation: what the earlier daemon knew when it sent the program is in the record of
 * its result (results.h), and what its outputs were in spools beside the VM's sockets, always
 * written before the guest heard that they were taken. exec_recall() reads both. When the VM has
 * been adopted, exec_take_up() goes on: the guest knows the program, then the rest of its text,
 * input and outputs is sent; or it does not, because EXEC was lost on its way: then it is sent
 * again, under the same number, which the guest runs once. Its deadline is what it was.
 */
#ifndef DAEMON_SESSION_EXEC_RECALL_H
#define DAEMON_SESSION_EXEC_RECALL_H

#include "daemon/session/exec.h"

/* Has its outputs written to its VM's directory, too, from now on. */
void exec_spool(struct exec *exec);

/* What it is about to be killed for is written first: the next daemon may be the one that hears of
 * its end. */
void exec_note_verdict(struct exec *exec);

/* It has ended, which is kept: that is of no use any more. */
void exec_drop_verdict(struct exec *exec);

/* Checks what its caller gave to `method`, as it was when that was called: a record may be of a
 * daemon that knew other parameters, or damaged. NULL, or what is wrong. */
struct rpc_error *exec_recall_check(const char *method, const json_t *saved) WARN_UNUSED;

/* VM_LOST: its record is not whole. */
struct rpc_error *exec_recall_error(void) WARN_UNUSED;

/*
 * Of what results_load() says of it, and of the request it came from (taken). Its call is gone; the
 * record is its own from here on. NULL when it cannot be known how it went on: its output was not
 * kept.
 */
struct exec *exec_recall(const struct exec_config *config, struct run_request *request_take,
			 struct result_record *record, const json_t *saved, int vms_fd);

/* Adds what is here of its outputs, as in HELLO. */
void exec_tell_received(const struct exec *exec, json_t *received);

/* Goes on in its VM, which is attached and has said this. */
void exec_take_up(struct exec *exec, struct vm *vm, const struct msg_hello_reply *hello);

uint32_t exec_number(const struct exec *exec);

#endif
