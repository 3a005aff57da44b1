/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a file or a pipe, a piece at a time. */
#include "ctl/feed.h"

#include "base/util.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>

static void on_readable(struct ev_loop *ev, ev_io *watcher, int events UNUSED)
{
	struct feed *feed = watcher->data;

	ev_io_stop(ev, watcher);
	feed->on_ready(feed->user);
}

int feed_open(struct feed *feed, struct loop *loop, int fd_take, size_t size,
	      void (*on_ready)(void *user), void *user)
{
	_cleanup_close_ int fd = fd_take;
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return -errno;
	if (S_ISDIR(stat.st_mode))
		return -EISDIR;
	*feed = (struct feed){.loop = loop,
			      .fd = -1,
			      .is_regular = S_ISREG(stat.st_mode),
			      .data = malloc(size),
			      .size = size,
			      .on_ready = on_ready,
			      .user = user};
	if (!feed->data)
		return -ENOMEM;
	feed->fd = TAKE_FD(fd);
	ev_io_init(&feed->readable, on_readable, feed->fd, EV_READ);
	feed->readable.data = feed;
	return 0;
}

static bool is_readable(const struct feed *feed)
{
	struct pollfd pollfd = {.fd = feed->fd, .events = POLLIN};

	return feed->is_regular || poll(&pollfd, 1, 0) != 0;
}

int feed_fill(struct feed *feed)
{
	while (feed->len < feed->size && !feed->is_end) {
		ssize_t n;

		if (!is_readable(feed)) {
			ev_io_start(loop_ev(feed->loop), &feed->readable);
			return 0;
		}
		n = read(feed->fd, feed->data + feed->len, feed->size - feed->len);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		feed->is_end = n == 0;
		feed->len += (size_t)MAX(n, 0);
	}
	return 1;
}

void feed_taken(struct feed *feed)
{
	feed->len = 0;
}

void feed_close(struct feed *feed)
{
	if (feed->fd < 0)
		return;
	ev_io_stop(loop_ev(feed->loop), &feed->readable);
	feed->fd = close_fd(feed->fd);
	free(feed->data);
	feed->data = NULL;
}
