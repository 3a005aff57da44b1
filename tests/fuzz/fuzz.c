/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzz harnesses share. */
#include "tests/fuzz/fuzz.h"

#include "base/log.h"
#include "base/util.h"

#include <signal.h>
#include <sys/socket.h>

/* More pieces than this tell nothing new: the rest of an input goes at once. */
#define PIECES_MAX 64
/* Loop iterations in which a written piece has had all its effects: read, deferred calls, answers
 * written, and the ends of those. */
#define SETTLE_ITERATIONS 3

static uint32_t random_state;

/* base/util.h's, by the linker's --wrap. */
void __wrap_random_bytes(void *buf, size_t len);
void __wrap_random_bytes(void *buf, size_t len)
{
	uint8_t *out = buf;

	/* Numerical Recipes' generator: every byte value comes, which is all that is wanted. */
	for (size_t i = 0; i < len; i++) {
		random_state = random_state * 1664525u + 1013904223u;
		out[i] = (uint8_t)(random_state >> 24);
	}
}

static void sink_nothing(int level UNUSED, const char *object UNUSED, const char *message UNUSED)
{
}

void fuzz_begin(void)
{
	signal(SIGPIPE, SIG_IGN);
	log_set_sink(sink_nothing);
	log_set_level(LOG_DEBUG);
	random_state = 1;
}

void fuzz_socketpair(int ret_fds[2])
{
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) ==
		   0);
}

size_t fuzz_piece(uint8_t first, size_t len)
{
	return first > 0 ? first : MAX(len, (size_t)1);
}

void fuzz_settle(struct loop *loop)
{
	for (int i = 0; i < SETTLE_ITERATIONS; i++)
		loop_run_once(loop, false);
}

void fuzz_drain(int fd)
{
	uint8_t buffer[16384];

	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
}

void fuzz_play(struct loop *loop, int fd, const uint8_t *data, size_t len, size_t piece,
	       void (*on_settled)(void *user), void *user)
{
	for (int pieces = 0; len > 0; pieces++) {
		size_t wanted = pieces < PIECES_MAX ? MIN(piece, len) : len;
		ssize_t n = write(fd, data, wanted);

		if (n < 0) /* closed, or not read any more: nothing else comes of it */
			return;
		data += n;
		len -= (size_t)n;
		fuzz_settle(loop);
		if (on_settled)
			on_settled(user);
	}
}
