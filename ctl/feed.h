/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a file or a pipe, a piece at a time.
 *
 * Theory of operation: a regular file is read when it is asked; a pipe or a terminal is waited for
 * in the loop, so that a slow one holds nothing else up, and Ctrl-C ends it.
 */
#ifndef CTL_FEED_H
#define CTL_FEED_H

#include "base/loop.h"

#include <stddef.h>
#include <stdint.h>

struct feed {
	struct loop *loop;
	int fd; /* -1: none */
	bool is_regular;
	uint8_t *data; /* of `size` */
	size_t len, size;
	bool is_end; /* nothing comes behind the piece */
	ev_io readable;
	void (*on_ready)(void *user);
	void *user;
};

/* Reads from `fd_take`; pieces are of `size` bytes but the last. 0 or -errno. */
int feed_open(struct feed *feed, struct loop *loop, int fd_take, size_t size,
	      void (*on_ready)(void *user), void *user);

/*
 * Fills the piece. 1: data, len and is_end are set; there may be no bytes at the end. 0: on_ready()
 * comes when it is worth while to ask again. Or -errno.
 */
int feed_fill(struct feed *feed);

/* Empties the piece for the next one. */
void feed_taken(struct feed *feed);

void feed_close(struct feed *feed);

#endif
