/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a file over a socket whose other end has gone to the daemon with a request.
 *
 * Theory of operation: bytes move in the loop as either side takes them, straight from the file
 * into the socket, or out of it by a piece of a buffer. That all of them have come is known from
 * the reply to the request and from their number, not from here.
 */
#ifndef CTL_POUR_H
#define CTL_POUR_H

#include "base/loop.h"

#include <stddef.h>
#include <stdint.h>

struct pour_ops {
	/* Reading: takes what came; 0 or -errno, which ends it. */
	int (*put)(void *user, const uint8_t *data, size_t len, uint64_t offset);
	/* Bytes have moved. */
	void (*on_progress)(void *user, size_t len);
	/* It has ended early: -errno; -ENODATA when the file to send has become shorter, -EMSGSIZE
	 * when more came than was to come. */
	void (*on_failure)(void *user, int error);
};

struct pour {
	struct loop *loop;
	const struct pour_ops *ops;
	void *user;
	int fd;      /* our end of the socket; -1: none */
	int file_fd; /* to send; -1: what comes is put */
	uint64_t offset, left;
	ev_io watcher;
};

/* Sends `left` bytes of `file_fd_take` from `offset` on. The other end of the socket, or -errno. */
int pour_out(struct pour *pour, struct loop *loop, int file_fd_take, uint64_t offset, uint64_t left,
	     const struct pour_ops *ops, void *user);

/* Puts `left` bytes that come. The other end, or -errno. */
int pour_in(struct pour *pour, struct loop *loop, uint64_t left, const struct pour_ops *ops,
	    void *user);

/* Takes what has come and was not put yet; callbacks may come. */
void pour_drain(struct pour *pour);

void pour_close(struct pour *pour);

#endif
