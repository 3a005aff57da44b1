/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One output of a run: from the program's pipe into the stream to the host.
 *
 * Theory of operation: bytes up to the limit go into the flow sender, which keeps them until the
 * host has taken them; when it is full the pipe is left alone, and the program waits. Bytes over
 * the limit are read and counted, so that no program hangs on output nobody wants. A program that
 * writes little and often is read at intervals: each read is a frame, and the agent, which has
 * priority over it, would otherwise send every line by itself. While processes live the pipe is
 * read by the loop; output_drain() reads what they left behind.
 */
#ifndef GUEST_AGENT_OUTPUT_H
#define GUEST_AGENT_OUTPUT_H

#include "base/loop.h"
#include "protocol/flow.h"

struct output_ops {
	/* Bytes or the end are waiting in the sender. */
	void (*on_ready)(void *user);
	/* The first byte over the limit came; once. */
	void (*on_limit)(void *user);
	/* What others still write to after output_drain_shared(). */
	void (*on_left)(void *user, int fd_take);
};

struct output {
	struct loop *loop;
	const struct output_ops *ops;
	void *user;
	int fd; /* -1: not started, or finished */
	ev_io watcher;
	ev_timer pause;
	struct flow_sender sender;
	bool is_shared; /* others may write, too; the program's bytes are the next `left` ones */
	size_t left;
	uint64_t limit; /* bytes sent at the most */
	uint64_t total; /* bytes the program wrote */
};

void output_init(struct output *output, struct loop *loop, uint64_t limit,
		 const struct output_ops *ops, void *user);
void output_fini(struct output *output);

/* Takes the read end of the pipe (non-blocking) and starts reading. */
void output_start(struct output *output, int fd_take);

/* The host gave credit: reading may go on. */
void output_resume(struct output *output);

/*
 * To be called when nobody can write any more: reads what is left, as far as there is room, and
 * ends the stream when the pipe is empty. Call again after more credit. True when it has ended.
 */
bool output_drain(struct output *output);

/* The same where others go on writing: what is in the pipe now is the program's, and what comes
 * later is not read here: on_left gets the descriptor. Call output_drain() after more credit. */
bool output_drain_shared(struct output *output);

#endif
