/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files into a session.
 *
 * Theory of operation: a file that fits into one piece is one file.write; so is a larger one with
 * a socket over which it is poured. What cannot be poured, or has no size yet, is an upload: its
 * first piece opens it and the reply has its id, the others follow in flight, and it gets its name
 * only when all of them have been answered: the target is replaced as a whole or not at all. An
 * upload that waits for a slow pipe is kept by empty pieces.
 */
#include "ctl/beneath.h"
#include "ctl/copy.h"
#include "ctl/feed.h"
#include "ctl/pour.h"
#include "protocol/base64.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

/* The guest drops an upload that nobody goes on with for 60 s. */
#define KEEP_SECONDS 20.

enum up_state {
	UP_NEXT,     /* the next entry is to begin */
	UP_POURING,  /* its bytes go over a socket */
	UP_FIRST,    /* its first piece is read */
	UP_OPENING,  /* that is on its way; the reply has the upload's id */
	UP_SENDING,  /* the other pieces are read and sent */
	UP_FINISHED, /* all are sent: to be committed when all are answered */
};

struct up {
	struct copy *copy;
	int root_fd;
	const char *path; /* in the session */
	bool is_there;    /* a directory */
	size_t next;
	enum up_state state;
	struct feed feed;
	uint64_t offset;
	size_t unanswered; /* of the upload */
	char upload[64];
	ev_timer keep;
	struct pour pour;
	uint64_t poured;
};

static const struct plan_entry *entry_of(const struct up *up)
{
	return &up->copy->plan->entries[up->next];
}

static void end_file(struct up *up)
{
	loop_timer_stop(up->copy->ctl->loop, &up->keep);
	feed_close(&up->feed);
	up->state = UP_NEXT;
	up->next++;
}

static void on_done(void *user UNUSED, const json_t *result UNUSED)
{
}

static void on_file_done(void *user, const json_t *result)
{
	struct up *up = user;

	/* Pieces of an upload were counted when they came. */
	progress_add(&up->copy->progress,
		     (uint64_t)json_integer_value(json_object_get(result, "bytes")), 1);
}

static void on_piece(void *user, const json_t *result)
{
	struct up *up = user;

	up->unanswered--;
	progress_add(&up->copy->progress,
		     (uint64_t)json_integer_value(json_object_get(result, "bytes")), 0);
	if (up->state == UP_SENDING)
		loop_timer_start(up->copy->ctl->loop, &up->keep, KEEP_SECONDS);
}

static void on_opened(void *user, const json_t *result)
{
	struct up *up = user;
	const char *upload = json_string_value(json_object_get(result, "upload"));

	snprintf(up->upload, sizeof(up->upload), "%s", upload ?: "");
	up->state = UP_SENDING;
	on_piece(up, result);
}

static json_t *mode_json(mode_t mode)
{
	return json_sprintf("%04o", (unsigned)mode & 0777);
}

static void add_piece(struct up *up, json_t *params)
{
	json_object_set_new(params, "data", base64_encode_json(up->feed.data, up->feed.len));
	json_object_set_new(params, "encoding", json_string("base64"));
	feed_taken(&up->feed);
}

static json_t *begin_params(const struct up *up)
{
	const struct plan_entry *entry = entry_of(up);
	json_t *params = copy_params(up->copy, up->path, entry->path);

	if (entry->mode != MODE_UNKNOWN)
		json_object_set_new(params, "mode", mode_json(entry->mode));
	return params;
}

/* The path is for the daemon's messages. */
static json_t *upload_params(const struct up *up)
{
	json_t *params = copy_params(up->copy, up->path, entry_of(up)->path);

	json_object_set_new(params, "upload", json_string(up->upload));
	json_object_set_new(params, "offset", json_integer((json_int_t)up->offset));
	return params;
}

static enum copy_step send_piece(struct up *up)
{
	json_t *params = upload_params(up);

	up->offset += up->feed.len;
	up->unanswered++;
	add_piece(up, params);
	return copy_send(up->copy, "file.write", params, on_piece, up);
}

static void on_keep(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct up *up = timer->data;

	if (up->copy->in_flight < COPY_WINDOW) {
		up->unanswered++;
		copy_send(up->copy, "file.write", upload_params(up), on_piece, up);
	}
}

static void on_ready(void *user)
{
	struct up *up = user;

	copy_go_on(up->copy);
}

/* --- Pouring. --- */

static void on_poured_some(void *user, size_t len)
{
	struct up *up = user;

	up->poured += len;
	progress_add(&up->copy->progress, len, 0);
}

static void on_pour_failed(void *user, int error)
{
	struct up *up = user;

	if (error == -ENODATA)
		copy_changed(up->copy, entry_of(up)->path);
	else
		copy_fail(up->copy, "Cannot read", entry_of(up)->path, error);
}

static const struct pour_ops pour_ops = {.on_progress = on_poured_some,
					 .on_failure = on_pour_failed};

static void on_poured(void *user, const json_t *result)
{
	struct up *up = user;

	pour_close(&up->pour);
	if (!result) { /* again, in pieces */
		up->copy->progress.bytes -= up->poured;
		up->state = UP_NEXT;
		return;
	}
	progress_add(&up->copy->progress, 0, 1);
	end_file(up);
}

static enum copy_step pour(struct up *up, int fd_take, uint64_t offset, uint64_t size)
{
	json_t *params = begin_params(up);
	int passed_fd =
		pour_out(&up->pour, up->copy->ctl->loop, fd_take, offset, size, &pour_ops, up);

	if (passed_fd < 0) {
		json_decref(params);
		return copy_fail(up->copy, "Cannot send", entry_of(up)->path, passed_fd);
	}
	json_object_set_new(params, "size", json_integer((json_int_t)size));
	up->poured = 0;
	up->state = UP_POURING;
	return copy_send_passing(up->copy, "file.write", params, passed_fd, on_poured, up);
}

/* Bytes of a regular file from *ret_offset on, where it stands; 0 for another one. */
static uint64_t size_of(int fd, uint64_t *ret_offset)
{
	struct stat stat;
	off_t at = lseek(fd, 0, SEEK_CUR);

	if (fstat(fd, &stat) < 0 || !S_ISREG(stat.st_mode) || at < 0 || at > stat.st_size)
		return 0;
	*ret_offset = (uint64_t)at;
	return (uint64_t)(stat.st_size - at);
}

/* --- The steps. --- */

static enum copy_step make_directory(struct up *up)
{
	const struct plan_entry *entry = entry_of(up);
	json_t *params;

	up->next++;
	if (up->is_there && !*entry->path)
		return COPY_SENT;
	params = copy_params(up->copy, up->path, entry->path);
	json_object_set_new(params, "recursive", json_true());
	/* What is in it is written by the same user. */
	json_object_set_new(params, "mode", mode_json(entry->mode | 0700));
	return copy_send(up->copy, "file.mkdir", params, on_done, up);
}

static enum copy_step begin(struct up *up)
{
	const struct plan_entry *entry = entry_of(up);
	uint64_t offset, size;
	int r;

	if (entry->is_directory)
		return make_directory(up);
	r = beneath_open(up->root_fd, entry->path);
	size = r < 0 || up->copy->lacks_descriptors ? 0 : size_of(r, &offset);
	if (size > COPY_PIECE)
		return pour(up, r, offset, size);
	if (r >= 0)
		r = feed_open(&up->feed, up->copy->ctl->loop, r, COPY_PIECE, on_ready, up);
	if (r < 0)
		return copy_fail(up->copy, "Cannot open", entry->path, r);
	up->offset = 0;
	up->state = UP_FIRST;
	return COPY_SENT;
}

static enum copy_step send_first(struct up *up)
{
	json_t *params = begin_params(up);

	up->offset = up->feed.len;
	if (up->feed.is_end) {
		add_piece(up, params);
		end_file(up);
		return copy_send(up->copy, "file.write", params, on_file_done, up);
	}
	json_object_set_new(params, "upload", json_string("open"));
	add_piece(up, params);
	up->unanswered = 1;
	up->state = UP_OPENING;
	return copy_send(up->copy, "file.write", params, on_opened, up);
}

static enum copy_step send_next(struct up *up)
{
	bool has_piece = up->feed.len > 0;

	if (up->feed.is_end)
		up->state = UP_FINISHED;
	return has_piece ? send_piece(up) : COPY_SENT;
}

static enum copy_step commit(struct up *up)
{
	json_t *params;

	if (up->unanswered > 0)
		return COPY_WAITS;
	params = upload_params(up);
	json_object_set_new(params, "commit", json_true());
	end_file(up);
	return copy_send(up->copy, "file.write", params, on_file_done, up);
}

static enum copy_step step(void *user)
{
	struct up *up = user;
	int r;

	switch (up->state) {
	case UP_NEXT:
		return up->next < up->copy->plan->len ? begin(up) : COPY_DONE;
	case UP_FIRST:
	case UP_SENDING:
		r = feed_fill(&up->feed);
		if (r < 0)
			return copy_fail(up->copy, "Cannot read", entry_of(up)->path, r);
		if (r == 0)
			return COPY_WAITS;
		return up->state == UP_FIRST ? send_first(up) : send_next(up);
	case UP_OPENING:
	case UP_POURING:
		return COPY_WAITS;
	case UP_FINISHED:
		return commit(up);
	}
	return COPY_DONE;
}

int copy_up(struct copy *copy, int root_fd, const char *path, bool is_there)
{
	struct up up = {
		.copy = copy,
		.root_fd = root_fd,
		.path = path,
		.is_there = is_there,
		.feed = {.fd = -1},
		.pour = {.fd = -1},
	};
	int status;

	ev_timer_init(&up.keep, on_keep, 0., 0.);
	up.keep.data = &up;
	copy->step = step;
	copy->user = &up;
	status = copy_run(copy);
	loop_timer_stop(copy->ctl->loop, &up.keep);
	feed_close(&up.feed);
	pour_close(&up.pour);
	return status;
}
