/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a file over a socket whose other end has gone to the daemon with a request. */
#include "ctl/pour.h"

#include "base/util.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

/* At a time: the loop has other things to do. */
#define PIECE (256u * 1024)

static void fail(struct pour *pour, int error)
{
	pour_close(pour);
	pour->ops->on_failure(pour->user, error);
}

static void moved(struct pour *pour, size_t len)
{
	pour->offset += len;
	pour->left -= len;
	pour->ops->on_progress(pour->user, len);
}

static void send_some(struct pour *pour)
{
	off_t at = (off_t)pour->offset;
	ssize_t n = sendfile(pour->fd, pour->file_fd, &at, MIN(pour->left, (uint64_t)PIECE));

	if (n > 0)
		moved(pour, (size_t)n);
	else if (n == 0)
		fail(pour, -ENODATA);
	else if (errno != EAGAIN && errno != EINTR && errno != EPIPE && errno != ECONNRESET)
		fail(pour, -errno);
	/* When the daemon takes no more, its reply says why. */
	if (pour->fd >= 0 && (pour->left == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)))
		ev_io_stop(loop_ev(pour->loop), &pour->watcher);
}

/* False when there is nothing more for now. */
static bool receive_some(struct pour *pour)
{
	static uint8_t buf[PIECE];
	ssize_t n = recv(pour->fd, buf, sizeof(buf), MSG_DONTWAIT);
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		ev_io_stop(loop_ev(pour->loop), &pour->watcher);
		return false;
	}
	r = (uint64_t)n > pour->left ? -EMSGSIZE
				     : pour->ops->put(pour->user, buf, (size_t)n, pour->offset);
	if (r < 0) {
		fail(pour, r);
		return false;
	}
	moved(pour, (size_t)n);
	return pour->fd >= 0;
}

static void on_event(struct ev_loop *ev UNUSED, ev_io *watcher, int events UNUSED)
{
	struct pour *pour = watcher->data;

	if (pour->file_fd >= 0)
		send_some(pour);
	else
		receive_some(pour);
}

static int start(struct pour *pour, struct loop *loop, int file_fd_take, int events)
{
	_cleanup_close_ int file_fd = file_fd_take;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return -errno;
	pour->loop = loop;
	pour->fd = fds[0];
	pour->file_fd = TAKE_FD(file_fd);
	ev_io_init(&pour->watcher, on_event, pour->fd, events);
	pour->watcher.data = pour;
	ev_io_start(loop_ev(loop), &pour->watcher);
	return fds[1];
}

int pour_out(struct pour *pour, struct loop *loop, int file_fd_take, uint64_t offset, uint64_t left,
	     const struct pour_ops *ops, void *user)
{
	*pour = (struct pour){
		.ops = ops, .user = user, .fd = -1, .file_fd = -1, .offset = offset, .left = left};
	return start(pour, loop, file_fd_take, EV_WRITE);
}

int pour_in(struct pour *pour, struct loop *loop, uint64_t left, const struct pour_ops *ops,
	    void *user)
{
	*pour = (struct pour){.ops = ops, .user = user, .fd = -1, .file_fd = -1, .left = left};
	return start(pour, loop, -1, EV_READ);
}

void pour_drain(struct pour *pour)
{
	while (pour->fd >= 0 && receive_some(pour))
		;
}

void pour_close(struct pour *pour)
{
	if (pour->fd < 0)
		return;
	ev_io_stop(loop_ev(pour->loop), &pour->watcher);
	pour->fd = close_fd(pour->fd);
	pour->file_fd = close_fd(pour->file_fd);
}
