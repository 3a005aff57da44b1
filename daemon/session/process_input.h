/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written to a background process.
 *
 * Theory of operation: writes wait in a queue and go to the link's window as it has room, in the
 * order they came. A process.write is answered when the guest has taken its bytes, so that a
 * process that does not read holds its writer back. The queue is bounded: over it writes are
 * refused. A write whose call is cancelled or gone leaves with what was not sent of it.
 */
#ifndef DAEMON_SESSION_PROCESS_INPUT_H
#define DAEMON_SESSION_PROCESS_INPUT_H

#include "daemon/rpc/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/* Bytes that wait to be written to one process. */
#define PROCESS_INPUT_MAX (4u * 1024 * 1024)

#define PROCESS_WRITES_MAX 1024

struct process;

struct process_input {
	TAILQ_HEAD(, process_write) writes;
	size_t count, waiting; /* of them, and bytes of them that were not sent */
	uint64_t written;      /* given to the link since the beginning */
	bool is_closing; /* no write is taken any more; the end follows those that are there */
};

void process_input_init(struct process_input *input);

/* Bytes that nobody waits for; takes the buffer (malloc). */
void process_input_add(struct process *process, char *data_take, size_t len);

/* Handle process.write and process.close_stdin: params have passed method_validate(). */
struct rpc_reply process_write(struct process *process, struct rpc_call *call,
			       const json_t *params) WARN_UNUSED;
struct rpc_reply process_close_stdin(struct process *process, struct rpc_call *call) WARN_UNUSED;

/* Sends what there is room for. */
void process_input_pump(struct process *process);

/* The guest has taken so many bytes in all. */
void process_input_taken(struct process *process, uint64_t taken);

/* Nothing can be written any more: answers who waits with copies of the error. */
void process_input_fail(struct process *process, const struct rpc_error *error);

#endif
