/* SPDX-License-Identifier: Apache-2.0 */
/* One stream from the host: the program's text into its file, or standard input into a pipe. */
#include "guest-agent/input.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

static void take(struct input *input, size_t len)
{
	if (len == 0)
		return;
	if (input->tells_all)
		flow_receiver_take_told(&input->receiver, len);
	else if (!flow_receiver_take(&input->receiver, len))
		return;
	input->ops->on_credit(input->user);
}

static void drop_buffer(struct input *input)
{
	size_t len = input->len;

	free(input->buffer);
	input->buffer = NULL;
	input->start = input->len = 0;
	take(input, len);
}

static void close_descriptor(struct input *input)
{
	if (input->fd >= 0)
		ev_io_stop(loop_ev(input->loop), &input->watcher);
	input->fd = close_fd(input->fd);
	input->state = INPUT_CLOSED;
	drop_buffer(input);
}

static void finish(struct input *input, int error)
{
	close_descriptor(input);
	input->ops->on_end(input->user, error);
}

/* Writes as much as the descriptor takes. Returns the bytes written, or -errno. */
static ssize_t write_some(struct input *input, const uint8_t *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(input->fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Moves what waits into the descriptor and ends when that was the last. */
static void flush(struct input *input)
{
	ssize_t n =
		input->len > 0 ? write_some(input, input->buffer + input->start, input->len) : 0;

	if (n < 0) {
		finish(input, (int)n);
		return;
	}
	input->start += (size_t)n;
	input->len -= (size_t)n;
	take(input, (size_t)n);
	if (input->len > 0) {
		ev_io_start(loop_ev(input->loop), &input->watcher);
		return;
	}
	ev_io_stop(loop_ev(input->loop), &input->watcher);
	drop_buffer(input);
	if (input->receiver.is_ended)
		finish(input, 0);
}

static void on_writable(struct ev_loop *ev UNUSED, ev_io *watcher, int events UNUSED)
{
	flush(watcher->data);
}

void input_init(struct input *input, struct loop *loop, const struct input_ops *ops, void *user)
{
	*input = (struct input){
		.loop = loop, .ops = ops, .user = user, .state = INPUT_WAITING, .fd = -1};
	flow_receiver_init(&input->receiver);
}

void input_fini(struct input *input)
{
	if (input->fd >= 0)
		ev_io_stop(loop_ev(input->loop), &input->watcher);
	input->fd = close_fd(input->fd);
	free(input->buffer);
	input->buffer = NULL;
}

void input_open(struct input *input, int fd_take)
{
	input->fd = fd_take;
	input->state = INPUT_OPEN;
	ev_io_init(&input->watcher, on_writable, fd_take, EV_WRITE);
	input->watcher.data = input;
	flush(input);
}

void input_discard(struct input *input)
{
	close_descriptor(input);
}

/* Keeps bytes for later; the receiver's limit bounds what can wait to one window. */
static int keep(struct input *input, const uint8_t *data, size_t len)
{
	uint8_t *grown;

	if (input->len > 0 && input->start > 0)
		memmove(input->buffer, input->buffer + input->start, input->len);
	input->start = 0;
	grown = realloc(input->buffer, input->len + len);
	if (!grown)
		return -ENOMEM;
	input->buffer = grown;
	memcpy(input->buffer + input->len, data, len);
	input->len += len;
	return 0;
}

int input_data(struct input *input, uint64_t offset, const uint8_t *data, size_t len)
{
	size_t skip;
	int r = flow_receiver_data(&input->receiver, offset, len, &skip);

	if (r < 0)
		return r;
	data += skip;
	len -= skip;
	if (len == 0)
		return 0;
	switch (input->state) {
	case INPUT_WAITING:
		return keep(input, data, len);
	case INPUT_OPEN:
		r = keep(input, data, len);
		if (r == 0)
			flush(input);
		return r;
	case INPUT_CLOSED:
		take(input, len);
		return 0;
	}
	return -EINVAL;
}

int input_end(struct input *input, uint64_t offset)
{
	int r = flow_receiver_end(&input->receiver, offset);

	if (r < 0)
		return r;
	if (input->state == INPUT_OPEN && input->len == 0)
		finish(input, 0);
	return 0;
}
