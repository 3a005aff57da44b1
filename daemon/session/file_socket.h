/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a file operation over a socket that its caller has sent along.
 *
 * Theory of operation: to write, what the caller sends goes into the exec's input as the guest
 * takes it, `size` bytes and no more; to read, the exec's output goes to the caller and is credited
 * when that has taken it. Either way the slower end holds the other up, and what waits here is
 * bounded by a window. The socket is shared with the caller, who can do to it what it likes: it is
 * never waited for (base/stream.h).
 */
#ifndef DAEMON_SESSION_FILE_SOCKET_H
#define DAEMON_SESSION_FILE_SOCKET_H

#include "base/stream.h"
#include "daemon/vm/agent_link.h"

struct file_socket_ops {
	/* Bytes have moved. */
	void (*on_progress)(void *user);
	/* Reading: all is with the caller. Writing: all is with the guest link. */
	void (*on_complete)(void *user);
	/* The caller ended its side before. Once, and last. */
	void (*on_broken)(void *user);
};

struct file_socket {
	const struct file_socket_ops *ops;
	void *user;
	struct agent_link *link;
	uint32_t number; /* of the exec */
	struct stream stream;
	bool is_open, is_writing, is_ending;
	uint64_t left;    /* writing: bytes that are to come */
	size_t held;      /* reading: bytes that are not credited */
	uint8_t *pending; /* writing: what the link has not taken */
	size_t pending_len;
};

/* Whether it is a connected Unix stream socket. */
bool file_socket_is_fit(int fd);

/* Takes the socket. Reading. */
void file_socket_start_reading(struct file_socket *socket, struct loop *loop, int fd_take);
/* The same for `size` bytes to write. */
void file_socket_start_writing(struct file_socket *socket, struct loop *loop, int fd_take,
			       uint64_t size);

/* Output of the exec. */
void file_socket_on_output(struct file_socket *socket, const uint8_t *data, size_t len);
/* There is no more of it: on_complete comes when the caller has it. */
void file_socket_end(struct file_socket *socket);
/* The link has room for more input. */
void file_socket_on_input(struct file_socket *socket);

/* Without callbacks. Harmless when it is closed or was never open. */
void file_socket_close(struct file_socket *socket);

#endif
