/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's devices, saved from one QEMU and loaded into another, over QMP. */
#include "daemon/vm/snapshot.h"

#include "base/util.h"
#include "daemon/vm/vm_image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Saving takes 2-8 ms and loading 1-9 ms on a quiet host; a busy one gets a thousand times that. */
#define OPERATION_SECONDS 10.
#define COMMAND_MS        10000
#define FD_NAME           "state"
#define URI               "fd:" FD_NAME

static void stop(struct snapshot *snapshot)
{
	ev_io_stop(loop_ev(snapshot->loop), &snapshot->io);
	loop_timer_stop(snapshot->loop, &snapshot->deadline);
	snapshot->pipe_fd = close_fd(snapshot->pipe_fd);
	snapshot->remote_fd = close_fd(snapshot->remote_fd);
	snapshot->on_done = NULL;
}

static void finish(struct snapshot *snapshot, int error, const char *why)
{
	snapshot_done_fn on_done = snapshot->on_done;

	if (!on_done)
		return;
	stop(snapshot);
	on_done(snapshot->user, error, why);
}

static void finish_if_whole(struct snapshot *snapshot)
{
	if (snapshot->has_stream && snapshot->has_completed)
		finish(snapshot, 0, "");
}

static void on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	finish(timer->data, -ETIMEDOUT, "QEMU does not get on with its state");
}

void snapshot_event(struct snapshot *snapshot, const json_t *data)
{
	const char *status = json_string_value(json_object_get(data, "status"));

	if (!snapshot->on_done || !status)
		return;
	if (strcmp(status, "failed") == 0) {
		finish(snapshot, -EIO, "QEMU says that the migration failed");
	} else if (strcmp(status, "completed") == 0) {
		snapshot->has_completed = true;
		finish_if_whole(snapshot);
	}
}

/* --- Our end of the pipe. --- */

static int grow(struct snapshot *snapshot)
{
	uint8_t *larger;

	if (snapshot->saved && snapshot->done < snapshot->len)
		return 0;
	if (snapshot->len >= VM_IMAGE_STATE_MAX)
		return -EFBIG;
	larger = realloc(snapshot->saved, snapshot->len ? 2 * snapshot->len : 65536);
	if (!larger)
		return -ENOMEM;
	snapshot->saved = larger;
	snapshot->len = snapshot->len ? 2 * snapshot->len : 65536;
	return 0;
}

static void on_readable(struct ev_loop *ev UNUSED, ev_io *io, int events UNUSED)
{
	struct snapshot *snapshot = io->data;
	int r = grow(snapshot);
	ssize_t n;

	if (r < 0) {
		finish(snapshot, r, "the machine's state is too large");
		return;
	}
	n = read(io->fd, snapshot->saved + snapshot->done, snapshot->len - snapshot->done);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		finish(snapshot, -errno, "cannot read the machine's state");
	} else if (n > 0) {
		snapshot->done += (size_t)n;
	} else if (n == 0) {
		ev_io_stop(loop_ev(snapshot->loop), &snapshot->io);
		snapshot->has_stream = true;
		finish_if_whole(snapshot);
	}
}

static void on_writable(struct ev_loop *ev UNUSED, ev_io *io, int events UNUSED)
{
	struct snapshot *snapshot = io->data;
	ssize_t n =
		write(io->fd, snapshot->loading + snapshot->done, snapshot->len - snapshot->done);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		finish(snapshot, -errno, "QEMU does not take its state");
		return;
	}
	snapshot->done += (size_t)MAX(n, (ssize_t)0);
	if (snapshot->done < snapshot->len)
		return;
	ev_io_stop(loop_ev(snapshot->loop), &snapshot->io);
	snapshot->pipe_fd = close_fd(snapshot->pipe_fd);
	snapshot->has_stream = true;
	finish_if_whole(snapshot);
}

/* --- Commands. --- */

static int command(struct snapshot *snapshot, const char *name, json_t *args_take,
		   qmp_done_fn on_done)
{
	return qmp_command(snapshot->qmp, name, args_take, COMMAND_MS, on_done, snapshot);
}

/* The answer of a command that has nothing behind it but the events. */
static void on_step(void *user, const json_t *ret UNUSED, const struct qmp_error *error)
{
	if (error)
		finish(user, error->error, error->desc);
}

static void on_capabilities(void *user, const json_t *ret UNUSED, const struct qmp_error *error)
{
	/* A QEMU that does not know the capability refuses the whole command. */
	if (error)
		finish(user, error->error == -EREMOTEIO ? -EOPNOTSUPP : error->error, error->desc);
}

static int set_capabilities(struct snapshot *snapshot)
{
	return command(snapshot, "migrate-set-capabilities",
		       json_pack("{s:[{s:s, s:b}, {s:s, s:b}]}", "capabilities", "capability",
				 "x-ignore-shared", "state", 1, "capability", "events", "state", 1),
		       on_capabilities);
}

/* QEMU runs commands in the order they come, so they are all sent at once. */
static int hand_over(struct snapshot *snapshot, const char *migrate)
{
	int r = qmp_command_fd(snapshot->qmp, "getfd", json_pack("{s:s}", "fdname", FD_NAME),
			       snapshot->remote_fd, COMMAND_MS, on_step, snapshot);

	snapshot->remote_fd = close_fd(snapshot->remote_fd);
	if (r == 0)
		r = set_capabilities(snapshot);
	if (r == 0)
		r = command(snapshot, migrate, json_pack("{s:s}", "uri", URI), on_step);
	return r;
}

static void on_stopped(void *user, const json_t *ret UNUSED, const struct qmp_error *error)
{
	struct snapshot *snapshot = user;
	int r;

	if (!snapshot->on_done)
		return;
	if (error) {
		finish(snapshot, error->error, error->desc);
		return;
	}
	r = hand_over(snapshot, "migrate");
	if (r < 0)
		finish(snapshot, r, "cannot send commands to QEMU");
}

/* --- Operations. --- */

static int open_pipe(struct snapshot *snapshot, bool we_read, size_t size)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	snapshot->pipe_fd = ends[we_read ? 0 : 1];
	snapshot->remote_fd = ends[we_read ? 1 : 0];
	/* Room for all of it, where the user's pipes may have that: QEMU then never waits for us.
	 */
	(void)fcntl(snapshot->pipe_fd, F_SETPIPE_SZ, (int)size);
	return fcntl(snapshot->pipe_fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static void begin(struct snapshot *snapshot, struct qmp *qmp, snapshot_done_fn on_done, void *user)
{
	snapshot->qmp = qmp;
	snapshot->on_done = on_done;
	snapshot->user = user;
	snapshot->len = snapshot->done = 0;
	snapshot->has_stream = snapshot->has_completed = false;
	loop_timer_start(snapshot->loop, &snapshot->deadline, OPERATION_SECONDS);
}

void snapshot_init(struct snapshot *snapshot, struct loop *loop)
{
	*snapshot = (struct snapshot){.loop = loop, .pipe_fd = -1, .remote_fd = -1};
	ev_timer_init(&snapshot->deadline, on_deadline, 0., 0.);
	snapshot->deadline.data = snapshot;
}

void snapshot_fini(struct snapshot *snapshot)
{
	stop(snapshot);
	free(TAKE_PTR(snapshot->saved));
}

int snapshot_save(struct snapshot *snapshot, struct qmp *qmp, snapshot_done_fn on_done, void *user)
{
	int r = open_pipe(snapshot, true, VM_IMAGE_STATE_MAX);

	begin(snapshot, qmp, on_done, user);
	if (r == 0)
		r = command(snapshot, "stop", NULL, on_stopped);
	if (r < 0) {
		stop(snapshot);
		return r;
	}
	ev_io_init(&snapshot->io, on_readable, snapshot->pipe_fd, EV_READ);
	snapshot->io.data = snapshot;
	ev_io_start(loop_ev(snapshot->loop), &snapshot->io);
	return 0;
}

int snapshot_load(struct snapshot *snapshot, struct qmp *qmp, const uint8_t *state, size_t len,
		  snapshot_done_fn on_done, void *user)
{
	int r = open_pipe(snapshot, false, len);

	begin(snapshot, qmp, on_done, user);
	snapshot->loading = state;
	snapshot->len = len;
	if (r == 0)
		r = hand_over(snapshot, "migrate-incoming");
	if (r < 0) {
		stop(snapshot);
		return r;
	}
	ev_io_init(&snapshot->io, on_writable, snapshot->pipe_fd, EV_WRITE);
	snapshot->io.data = snapshot;
	ev_io_start(loop_ev(snapshot->loop), &snapshot->io);
	return 0;
}

uint8_t *snapshot_take(struct snapshot *snapshot, size_t *ret_len)
{
	*ret_len = snapshot->done;
	return TAKE_PTR(snapshot->saved);
}
