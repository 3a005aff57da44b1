/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a file operation over a socket that its caller has sent along. */
#include "daemon/session/file_socket.h"

#include "base/util.h"
#include "protocol/flow.h"

#include <string.h>
#include <sys/socket.h>

/* What the guest may send without credit, and one piece of it. */
#define QUEUE_MAX (2 * FLOW_WINDOW)

static size_t take_size(size_t *size)
{
	size_t taken = *size;

	*size = 0;
	return taken;
}

static bool has_option(int fd, int option, int expected)
{
	int value;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == expected;
}

bool file_socket_is_fit(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	return has_option(fd, SO_DOMAIN, AF_UNIX) && has_option(fd, SO_TYPE, SOCK_STREAM) &&
	       getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
}

static void break_off(struct file_socket *socket)
{
	file_socket_close(socket);
	socket->ops->on_broken(socket->user);
}

/* --- Writing a file: from the caller to the guest. --- */

static void complete_writing(struct file_socket *socket)
{
	agent_link_write_end(socket->link, socket->number);
	file_socket_close(socket);
	socket->ops->on_complete(socket->user);
}

/* What the link does not take is kept, and nothing more is read. */
static void keep(struct file_socket *socket, const uint8_t *data, size_t len)
{
	socket->pending = malloc(len);
	if (!socket->pending) {
		break_off(socket);
		return;
	}
	memcpy(socket->pending, data, len);
	socket->pending_len = len;
	stream_pause(&socket->stream);
}

static void write_on(struct file_socket *socket, const uint8_t *data, size_t len)
{
	ssize_t n = agent_link_write(socket->link, socket->number, data, len);

	/* A link that takes nothing any more is heard of otherwise. */
	if (n < 0)
		n = 0;
	socket->left -= (uint64_t)n;
	if ((size_t)n < len)
		keep(socket, data + n, len - (size_t)n);
	else if (socket->left == 0)
		complete_writing(socket);
}

static void on_data(void *user, const uint8_t *data, size_t len)
{
	struct file_socket *socket = user;

	/* Nobody sends anything to a reader. */
	if (!socket->is_writing)
		return;
	socket->ops->on_progress(socket->user);
	write_on(socket, data, (size_t)MIN((uint64_t)len, socket->left));
}

void file_socket_on_input(struct file_socket *socket)
{
	uint8_t *pending;

	if (!socket->is_open || socket->pending_len == 0)
		return;
	pending = TAKE_PTR(socket->pending);
	stream_resume(&socket->stream);
	write_on(socket, pending, take_size(&socket->pending_len));
	free(pending);
}

/* --- Reading one: from the guest to the caller. --- */

void file_socket_on_output(struct file_socket *socket, const uint8_t *data, size_t len)
{
	if (!socket->is_open) {
		/* Nobody wants it, and it must not keep the exec from its end. */
		agent_link_take(socket->link, socket->number, SUBSTREAM_STDOUT, len);
		return;
	}
	socket->held += len;
	/* A queue that is full is one of a guest beyond its credit, which the link refuses. */
	(void)stream_write(&socket->stream, data, len);
	socket->ops->on_progress(socket->user);
	if (stream_queued(&socket->stream) == 0)
		agent_link_take(socket->link, socket->number, SUBSTREAM_STDOUT,
				take_size(&socket->held));
}

static void on_drain(void *user)
{
	struct file_socket *socket = user;

	socket->ops->on_progress(socket->user);
	agent_link_take(socket->link, socket->number, SUBSTREAM_STDOUT, take_size(&socket->held));
}

void file_socket_end(struct file_socket *socket)
{
	socket->is_ending = true;
	stream_finish(&socket->stream);
}

/* --- Both. --- */

static void on_end(void *user, int error)
{
	struct file_socket *socket = user;

	if (socket->is_ending && error == 0) {
		file_socket_close(socket);
		socket->ops->on_complete(socket->user);
		return;
	}
	break_off(socket);
}

/* The caller of a reader may have no more to say. */
static void on_half_close(void *user)
{
	struct file_socket *socket = user;

	if (socket->is_writing)
		break_off(socket);
}

static const struct stream_ops stream_ops = {
	.on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_half_close = on_half_close};

static void start(struct file_socket *socket, struct loop *loop, int fd_take)
{
	socket->is_open = true;
	stream_init(&socket->stream, loop, fd_take, QUEUE_MAX, &stream_ops, socket);
}

void file_socket_start_reading(struct file_socket *socket, struct loop *loop, int fd_take)
{
	start(socket, loop, fd_take);
}

void file_socket_start_writing(struct file_socket *socket, struct loop *loop, int fd_take,
			       uint64_t size)
{
	socket->is_writing = true;
	socket->left = size;
	start(socket, loop, fd_take);
	if (size == 0)
		complete_writing(socket);
}

void file_socket_close(struct file_socket *socket)
{
	if (!socket->is_open)
		return;
	socket->is_open = false;
	agent_link_take(socket->link, socket->number, SUBSTREAM_STDOUT, take_size(&socket->held));
	stream_close(&socket->stream);
	free(TAKE_PTR(socket->pending));
	socket->pending_len = 0;
}
