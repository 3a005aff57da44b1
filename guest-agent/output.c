/* SPDX-License-Identifier: Apache-2.0 */
/* One output of a run: from the program's pipe into the stream to the host. */
#include "guest-agent/output.h"

#include "base/util.h"

#include <errno.h>
#include <sys/ioctl.h>

/* A pipe holds 64 KiB unless its user changes that: one read empties it. */
#define READ_SIZE (64u * 1024)
/* Less than this in one read means that the program writes in small pieces. */
#define SMALL_READ (8u * 1024)
/* Long enough to gather lines, short enough not to be seen by people (or in a latency goal: the
 * first read and the last are never delayed). */
#define PAUSE_SECONDS 0.004

/* Reads once. Bytes read, 0 at the end, -EAGAIN when empty, -ENOBUFS without room. */
static ssize_t read_once(struct output *output)
{
	uint8_t buffer[READ_SIZE];
	uint64_t wanted = output->limit > output->total ? output->limit - output->total : 0;
	size_t room = flow_sender_room(&output->sender), max = sizeof(buffer);
	ssize_t n;

	if (output->is_shared && output->left == 0)
		return 0;
	if (wanted > 0 && room == 0)
		return -ENOBUFS;
	if (wanted > room)
		max = MIN(max, room);
	if (output->is_shared)
		max = MIN(max, output->left);
	n = read(output->fd, buffer, max);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (flow_sender_write(&output->sender, buffer, MIN((uint64_t)n, wanted)) < 0) {
		/* Without memory for the window nothing of this output can be sent. */
		output->limit = output->total;
	}
	output->total += (uint64_t)n;
	output->left -= MIN(output->left, (size_t)n);
	if (output->total > output->limit && output->total - (uint64_t)n <= output->limit)
		output->ops->on_limit(output->user);
	return n;
}

static void stop(struct output *output)
{
	if (output->fd < 0)
		return;
	ev_io_stop(loop_ev(output->loop), &output->watcher);
	loop_timer_stop(output->loop, &output->pause);
}

static void finish(struct output *output)
{
	stop(output);
	if (output->is_shared && output->fd >= 0)
		output->ops->on_left(output->user, TAKE_FD(output->fd));
	output->fd = close_fd(output->fd);
	flow_sender_end(&output->sender);
	output->ops->on_ready(output->user);
}

static void on_readable(struct ev_loop *ev UNUSED, ev_io *watcher, int events UNUSED)
{
	struct output *output = watcher->data;
	ssize_t n = read_once(output);

	if (n == -EAGAIN)
		return;
	if (n == -ENOBUFS) {
		stop(output); /* until output_resume() */
		return;
	}
	if (n <= 0) {
		finish(output);
		return;
	}
	if ((size_t)n < SMALL_READ) {
		stop(output);
		loop_timer_start(output->loop, &output->pause, PAUSE_SECONDS);
	}
	output->ops->on_ready(output->user);
}

static void on_pause_over(struct ev_loop *ev, ev_timer *timer, int events UNUSED)
{
	struct output *output = timer->data;

	ev_io_start(ev, &output->watcher);
}

void output_init(struct output *output, struct loop *loop, uint64_t limit,
		 const struct output_ops *ops, void *user)
{
	*output = (struct output){.loop = loop, .ops = ops, .user = user, .fd = -1, .limit = limit};
	flow_sender_init(&output->sender);
	ev_timer_init(&output->pause, on_pause_over, 0., 0.);
	output->pause.data = output;
}

void output_fini(struct output *output)
{
	stop(output);
	output->fd = close_fd(output->fd);
	flow_sender_fini(&output->sender);
}

void output_start(struct output *output, int fd_take)
{
	output->fd = fd_take;
	ev_io_init(&output->watcher, on_readable, fd_take, EV_READ);
	output->watcher.data = output;
	ev_io_start(loop_ev(output->loop), &output->watcher);
}

void output_resume(struct output *output)
{
	if (output->fd >= 0 && !ev_is_active(&output->pause))
		ev_io_start(loop_ev(output->loop), &output->watcher);
}

bool output_drain(struct output *output)
{
	ssize_t n;

	if (output->fd < 0) {
		flow_sender_end(&output->sender);
		return true;
	}
	stop(output);
	do {
		n = read_once(output);
	} while (n > 0);
	if (n == -ENOBUFS) {
		output->ops->on_ready(output->user);
		return false;
	}
	finish(output);
	return true;
}

bool output_drain_shared(struct output *output)
{
	int left = 0;

	if (output->fd >= 0 && ioctl(output->fd, FIONREAD, &left) == 0)
		output->left = (size_t)MAX(left, 0);
	output->is_shared = true;
	return output_drain(output);
}
