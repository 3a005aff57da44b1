/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream over a non-blocking descriptor: moves bytes, knows no protocol. */
#include "base/stream.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* One read: large enough for a data frame of the guest link, small enough to be fair to others. */
#define READ_SIZE (64u * 1024)
#define QUEUE_MIN 4096u
/* Of one message. */
#define DESCRIPTORS_MAX 8
/* Less is sooner copied than its owner finds another buffer. */
#define TAKE_MIN (256u * 1024)

static void end(struct stream *stream, int error)
{
	stream_close(stream);
	stream->ops->on_end(stream->user, error);
}

static void on_hangup(struct ev_loop *ev UNUSED, ev_io *watcher, int events UNUSED)
{
	end(watcher->data, 0);
}

/* Reports the end of a peer whose data nobody reads any more. 0 or -errno. */
static int watch_hangup(struct stream *stream)
{
	struct epoll_event nothing = {.events = 0}; /* EPOLLHUP and EPOLLERR come unasked */

	stream->hangup_fd = epoll_create1(EPOLL_CLOEXEC);
	if (stream->hangup_fd < 0)
		return -errno;
	if (epoll_ctl(stream->hangup_fd, EPOLL_CTL_ADD, stream->fd, &nothing) < 0)
		return -errno;
	ev_io_init(&stream->hangup, on_hangup, stream->hangup_fd, EV_READ);
	stream->hangup.data = stream;
	ev_io_start(loop_ev(stream->loop), &stream->hangup);
	return 0;
}

/* read() gave 0: has the peer closed, or only shut its sending side down? */
static void on_read_end(struct stream *stream)
{
	struct pollfd state = {.fd = stream->fd};
	int r;

	if (!stream->ops->on_half_close || poll(&state, 1, 0) != 0) {
		end(stream, 0);
		return;
	}
	r = watch_hangup(stream);
	if (r < 0) {
		end(stream, r);
		return;
	}
	stream->is_half_closed = true;
	ev_io_stop(loop_ev(stream->loop), &stream->reader);
	stream->ops->on_half_close(stream->user);
}

static void take_descriptors(struct stream *stream, struct msghdr *header)
{
	struct cmsghdr *part;

	for (part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
		const unsigned char *at = CMSG_DATA(part);
		size_t left = part->cmsg_len - CMSG_LEN(0);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (; left >= sizeof(int); at += sizeof(int), left -= sizeof(int)) {
			int fd;

			memcpy(&fd, at, sizeof(fd));
			/* An earlier one may have been the last straw. */
			if (stream_is_open(stream))
				stream->ops->on_descriptor(stream->user, fd);
			else
				close_fd(fd);
		}
	}
}

/* Those that do not fit are closed by the kernel. */
static ssize_t receive(struct stream *stream, void *buf, size_t size)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
	} control;
	struct iovec part = {.iov_base = buf, .iov_len = size};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	ssize_t n;

	if (stream->ops->on_descriptor) {
		header.msg_control = control.bytes;
		header.msg_controllen = sizeof(control.bytes);
	}
	n = recvmsg(stream->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n > 0 && stream->ops->on_descriptor)
		take_descriptors(stream, &header);
	return n;
}

static ssize_t put_passing(struct stream *stream, const void *data, size_t len)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS}};
	struct iovec part = {.iov_base = (void *)data, .iov_len = len};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	ssize_t n;

	memcpy(CMSG_DATA(&control.header), &stream->passing_fd, sizeof(int));
	n = sendmsg(stream->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		stream->passing_fd = close_fd(stream->passing_fd);
	return n;
}

static ssize_t put(struct stream *stream, const void *data, size_t len)
{
	if (stream->passing_fd >= 0)
		return put_passing(stream, data, len);
	return stream->is_socket ? send(stream->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
				 : write(stream->fd, data, len);
}

static void on_readable(struct ev_loop *ev UNUSED, ev_io *watcher, int events UNUSED)
{
	struct stream *stream = watcher->data;
	uint8_t buf[READ_SIZE];
	ssize_t n = stream->is_socket ? receive(stream, buf, sizeof(buf))
				      : read(stream->fd, buf, sizeof(buf));

	if (!stream_is_open(stream)) /* ended by a descriptor that came */
		return;
	if (n > 0)
		stream->ops->on_data(stream->user, buf, (size_t)n);
	else if (n == 0)
		on_read_end(stream);
	else if (errno != EAGAIN && errno != EINTR)
		end(stream, errno == ECONNRESET || errno == EIO ? 0 : -errno);
}

/* Writes from the queue until the descriptor is full. False once the stream has ended. */
static bool flush(struct stream *stream)
{
	while (stream->queue_len > 0) {
		ssize_t n = put(stream, stream->queue + stream->queue_start, stream->queue_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0) {
			end(stream, errno == EPIPE || errno == ECONNRESET ? 0 : -errno);
			return false;
		}
		stream->queue_start += (size_t)n;
		stream->queue_len -= (size_t)n;
	}
	stream->queue_start = 0;
	return true;
}

static void on_writable(struct ev_loop *ev, ev_io *watcher, int events UNUSED)
{
	struct stream *stream = watcher->data;

	if (!flush(stream) || stream->queue_len > 0)
		return;
	ev_io_stop(ev, &stream->writer);
	if (stream->is_finishing) {
		end(stream, 0);
		return;
	}
	/* A burst is over: give its memory back. */
	free(stream->queue);
	stream->queue = NULL;
	stream->queue_size = 0;
	if (stream->ops->on_drain)
		stream->ops->on_drain(stream->user);
}

void stream_init(struct stream *stream, struct loop *loop, int fd_take, size_t queue_max,
		 const struct stream_ops *ops, void *user)
{
	int flags = fcntl(fd_take, F_GETFL), type;
	socklen_t type_len = sizeof(type);

	*stream = (struct stream){
		.loop = loop,
		.ops = ops,
		.user = user,
		.fd = fd_take,
		.passing_fd = -1,
		.queue_max = queue_max,
		.hangup_fd = -1,
	};
	stream->is_socket = getsockopt(fd_take, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0;
	if (flags >= 0 && !(flags & O_NONBLOCK))
		fcntl(fd_take, F_SETFL, flags | O_NONBLOCK);
	ev_io_init(&stream->reader, on_readable, fd_take, EV_READ);
	ev_io_init(&stream->writer, on_writable, fd_take, EV_WRITE);
	stream->reader.data = stream->writer.data = stream;
	ev_io_start(loop_ev(loop), &stream->reader);
}

void stream_close(struct stream *stream)
{
	if (!stream_is_open(stream))
		return;
	ev_io_stop(loop_ev(stream->loop), &stream->reader);
	ev_io_stop(loop_ev(stream->loop), &stream->writer);
	if (stream->hangup_fd >= 0)
		ev_io_stop(loop_ev(stream->loop), &stream->hangup);
	stream->hangup_fd = close_fd(stream->hangup_fd);
	stream->fd = close_fd(stream->fd);
	stream->passing_fd = close_fd(stream->passing_fd);
	free(stream->queue);
	stream->queue = NULL;
	stream->queue_start = stream->queue_len = stream->queue_size = 0;
}

/* Makes room for `len` more bytes behind the queued ones. */
static int reserve(struct stream *stream, size_t len)
{
	size_t size = MAX(stream->queue_size, QUEUE_MIN);
	uint8_t *grown;

	if (stream->queue_start + stream->queue_len + len <= stream->queue_size)
		return 0;
	if (stream->queue_len > 0)
		memmove(stream->queue, stream->queue + stream->queue_start, stream->queue_len);
	stream->queue_start = 0;
	while (size < stream->queue_len + len)
		size *= 2;
	if (size == stream->queue_size)
		return 0;
	grown = realloc(stream->queue, size);
	if (!grown)
		return -ENOBUFS;
	stream->queue = grown;
	stream->queue_size = size;
	return 0;
}

/* How much goes at once, or why nothing may go. */
static ssize_t write_now(struct stream *stream, const uint8_t *bytes, size_t len)
{
	ssize_t n = 0;

	if (!stream_is_open(stream) || stream->is_finishing)
		return -EPIPE;
	if (stream->queue_len + len > stream->queue_max)
		return -ENOBUFS;
	if (stream->queue_len == 0 && len > 0)
		n = put(stream, bytes, len);
	/* A failed descriptor shows again when the queue is flushed from the loop. */
	return MAX(n, 0);
}

static int enqueue(struct stream *stream, const uint8_t *bytes, size_t len)
{
	int r;

	if (len == 0)
		return 0;
	r = reserve(stream, len);
	if (r < 0) {
		/* Half a message may be out: no more bytes can follow it. The loop reports the end.
		 */
		shutdown(stream->fd, SHUT_RDWR);
		return r;
	}
	memcpy(stream->queue + stream->queue_start + stream->queue_len, bytes, len);
	stream->queue_len += len;
	ev_io_start(loop_ev(stream->loop), &stream->writer);
	return 0;
}

int stream_write(struct stream *stream, const void *data, size_t len)
{
	ssize_t n = write_now(stream, data, len);

	return n < 0 ? (int)n : enqueue(stream, (const uint8_t *)data + n, len - (size_t)n);
}

int stream_write_take(struct stream *stream, uint8_t **data, size_t len)
{
	ssize_t n = write_now(stream, *data, len);

	if (n < 0)
		return (int)n;
	if (stream->queue_len > 0 || len - (size_t)n < TAKE_MIN)
		return enqueue(stream, *data + n, len - (size_t)n);
	free(stream->queue);
	stream->queue = TAKE_PTR(*data);
	stream->queue_start = (size_t)n;
	stream->queue_len = len - (size_t)n;
	stream->queue_size = len;
	ev_io_start(loop_ev(stream->loop), &stream->writer);
	return 0;
}

int stream_pass(struct stream *stream, int fd_take)
{
	if (!stream_is_open(stream) || stream->passing_fd >= 0) {
		close_fd(fd_take);
		return stream_is_open(stream) ? -EBUSY : -EPIPE;
	}
	stream->passing_fd = fd_take;
	return 0;
}

size_t stream_queued(const struct stream *stream)
{
	return stream->queue_len;
}

void stream_finish(struct stream *stream)
{
	if (!stream_is_open(stream) || stream->is_finishing)
		return;
	stream->is_finishing = true;
	ev_io_stop(loop_ev(stream->loop), &stream->reader);
	ev_io_start(loop_ev(stream->loop), &stream->writer);
}

void stream_pause(struct stream *stream)
{
	stream->is_paused = true;
	if (stream_is_open(stream))
		ev_io_stop(loop_ev(stream->loop), &stream->reader);
}

void stream_resume(struct stream *stream)
{
	stream->is_paused = false;
	if (stream_is_open(stream) && !stream->is_finishing && !stream->is_half_closed)
		ev_io_start(loop_ev(stream->loop), &stream->reader);
}
