/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream from the host: the program's text into its file, or standard input into a pipe.
 *
 * Theory of operation: frames are checked by the flow receiver, so that at most one window of bytes
 * waits here. Until a descriptor is given they wait; then they are written as it takes them. When
 * nobody reads any more (EPIPE, or input_discard()) bytes are taken and dropped, so that the host
 * is never stuck.
 */
#ifndef GUEST_AGENT_INPUT_H
#define GUEST_AGENT_INPUT_H

#include "base/loop.h"
#include "protocol/flow.h"

struct input_ops {
	/* A credit is due: receiver.taken and receiver.limit have moved. */
	void (*on_credit)(void *user);
	/* Everything was written, or could not be (negative errno); the descriptor is closed. */
	void (*on_end)(void *user, int error);
};

enum input_state {
	INPUT_WAITING, /* no descriptor yet: bytes are kept */
	INPUT_OPEN,    /* bytes go to the descriptor */
	INPUT_CLOSED,  /* bytes are dropped */
};

struct input {
	struct loop *loop;
	const struct input_ops *ops;
	void *user;
	enum input_state state;
	int fd;
	ev_io watcher;
	struct flow_receiver receiver;
	bool tells_all;  /* the host waits for what it sent to be taken */
	uint8_t *buffer; /* what could not be written yet */
	size_t start, len;
};

void input_init(struct input *input, struct loop *loop, const struct input_ops *ops, void *user);
void input_fini(struct input *input);

/* Takes the descriptor (a file, or the write end of a non-blocking pipe). */
void input_open(struct input *input, int fd_take);

/* Closes the descriptor, if any, without on_end(); drops what waits and what comes. */
void input_discard(struct input *input);

/* A DATA frame. 0, -EPROTO or -ENOMEM. */
int input_data(struct input *input, uint64_t offset, const uint8_t *data, size_t len);

/* An END frame; a repeated one is fine. 0 or -EPROTO. */
int input_end(struct input *input, uint64_t offset);

#endif
