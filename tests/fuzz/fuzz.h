/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz harnesses share: the entry points, checks, and a way to play bytes at a stream.
 *
 * Theory of operation: a harness is one file with LLVMFuzzerTestOneInput(), linked with libFuzzer
 * (`make fuzz`) or with replay.c, which runs the corpus once (`make fuzz-corpus`). A harness is a
 * function of its input: random_bytes() is replaced (-Wl,--wrap) by a generator that starts afresh
 * with every input, nothing waits for time to pass, and log lines are formatted and thrown away.
 * Inputs that go over a stream begin with one byte that says in pieces of how many bytes the rest
 * is written; 0 is all at once.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "base/loop.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Called by libFuzzer and by replay.c. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finding: ends the process the way sanitizers do. Not assert(): it must not compile to nothing.
 */
#define FUZZ_CHECK(condition)                                                                     \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                                  \
		}                                                                                 \
	} while (0)

/* To be called first for every input: quiet logs, random bytes from the beginning. */
void fuzz_begin(void);

/* A pair of connected, non-blocking Unix stream sockets. */
void fuzz_socketpair(int ret_fds[2]);

/* The piece length that an input's first byte says, for `len` bytes behind it. */
size_t fuzz_piece(uint8_t first, size_t len);

/*
 * Writes `data` to `fd` in pieces, lets the loop deal with each, and calls `on_settled` (may be
 * NULL) after each, which should read what came back. Ends early when the other end has closed.
 */
void fuzz_play(struct loop *loop, int fd, const uint8_t *data, size_t len, size_t piece,
	       void (*on_settled)(void *user), void *user);

/* Lets the loop deal with everything that is due now. */
void fuzz_settle(struct loop *loop);

/* Reads and drops what came back. */
void fuzz_drain(int fd);

#endif
