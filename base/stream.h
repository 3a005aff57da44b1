/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte stream over a non-blocking descriptor: moves bytes, knows no protocol.
 *
 * Theory of operation: reads are handed to on_data at once and never kept; writes go out directly
 * when the descriptor takes them and are queued otherwise. stream_close() may be called inside any
 * callback: it stops everything and no callback comes after it. The memory belongs to the owner,
 * who frees it outside the stream's callbacks (loop_defer). Programs ignore SIGPIPE. A peer that
 * only shut its sending side down is told from one that closed by POLLHUP; while it is half closed
 * nothing is read, so an epoll set of its own, asking for no events and thus reporting only hangups
 * and errors, watches for the rest of its end (libev cannot be asked for that). Sockets are never
 * waited for, whatever others who hold them make of O_NONBLOCK. Used by rpc/conn, vm/qmp,
 * vm/agent_link, the guest agent, execsandboxctl and the fakes of the tests.
 */
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include "base/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream_ops {
	/* Bytes came in. They are the callee's only during the call. */
	void (*on_data)(void *user, const uint8_t *data, size_t len);
	/* The peer closed (error 0) or the descriptor failed (negative errno). Comes once, last. */
	void (*on_end)(void *user, int error);
	/* The write queue went empty after having been non-empty. May be NULL. */
	void (*on_drain)(void *user);
	/* The peer has shut down its sending side and still reads: no more on_data, writing goes
	 * on, and on_end still comes, at once when the peer closes altogether. NULL: such an end is
	 * on_end like any other. */
	void (*on_half_close)(void *user);
	/* A descriptor came (SCM_RIGHTS), before the bytes that it came with. NULL: they are
	 * refused by the kernel. */
	void (*on_descriptor)(void *user, int fd_take);
};

struct stream {
	struct loop *loop;
	const struct stream_ops *ops;
	void *user;
	int fd;         /* -1 once closed */
	int passing_fd; /* goes with the next bytes; -1: none */
	ev_io reader, writer;
	bool is_socket;
	bool is_paused;
	bool is_finishing;
	bool is_half_closed;
	int hangup_fd; /* epoll set that reports the peer's end while half closed; else -1 */
	ev_io hangup;
	uint8_t *queue;
	size_t queue_start, queue_len, queue_size;
	size_t queue_max;
};

/*
 * Takes `fd` (any pollable descriptor; made non-blocking here) and starts reading. `queue_max`
 * bounds the bytes that may wait to be written.
 */
void stream_init(struct stream *stream, struct loop *loop, int fd_take, size_t queue_max,
		 const struct stream_ops *ops, void *user);

/* Stops watchers, closes the descriptor, drops the queue. Safe in callbacks and when closed
 * already. */
void stream_close(struct stream *stream);

/*
 * Writes or queues all of `data`. 0; -ENOBUFS when the queue would go over queue_max (nothing was
 * queued); -EPIPE when closed. A failing descriptor is reported later through on_end, never from
 * here.
 */
int stream_write(struct stream *stream, const void *data, size_t len);

/*
 * The same for a buffer from malloc(): when much of it has to wait, and nothing does before it, the
 * stream keeps the buffer instead of a copy, and `*data` is NULL.
 */
int stream_write_take(struct stream *stream, uint8_t **data, size_t len);

/* Sends a descriptor over a Unix socket (SCM_RIGHTS), with the next bytes that go out. 0; -EBUSY
 * while another one has not gone; -EPIPE when closed. */
int stream_pass(struct stream *stream, int fd_take);

/* Bytes still waiting to be written. */
size_t stream_queued(const struct stream *stream);

/* Writes out what is queued, then closes by itself and calls on_end(0). No more reads come. */
void stream_finish(struct stream *stream);

/* Stops and restarts reading: back-pressure. */
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

static inline bool stream_is_open(const struct stream *stream)
{
	return stream->fd >= 0;
}

#endif
