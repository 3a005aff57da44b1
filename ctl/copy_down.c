/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files out of a session.
 *
 * Theory of operation: a file is written beside its name, under one of ours, and gets its name when
 * it is complete: the target is replaced as a whole or not at all, and a link that stands there is
 * replaced, not followed. Its size is the one it was planned with; one that has become shorter is
 * an error. Pieces of several files may be in flight; one that is larger than a piece is poured, if
 * it can be. What the guest says about modes is cut to
 * permissions, and those to what the umask leaves.
 */
#include "ctl/beneath.h"
#include "ctl/copy.h"
#include "ctl/output.h"
#include "ctl/pour.h"
#include "ctl/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define TEMPORARY_SIZE 48

struct down_file {
	const struct plan_entry *entry;
	int fd, dir_fd;
	char temporary[TEMPORARY_SIZE]; /* in dir_fd; empty: a stream */
	const char *name;
	uint64_t asked, written;
};

struct piece {
	struct down *down; /* NULL: free */
	struct down_file *file;
	uint64_t offset;
	size_t len;
};

struct down {
	struct copy *copy;
	const char *path; /* in the session */
	const struct landing *landing;
	mode_t umask;
	size_t next;
	struct down_file files[COPY_WINDOW]; /* without an entry: free */
	struct down_file *current;           /* whose pieces are asked for; NULL: none */
	struct piece pieces[COPY_WINDOW];
	struct down_file *poured; /* the file that comes over a socket; NULL: none */
	struct pour pour;
};

/* --- One file. --- */

static void drop(struct down_file *file)
{
	if (*file->temporary)
		unlinkat(file->dir_fd, file->temporary, 0);
	file->fd = close_fd(file->fd);
	file->dir_fd = close_fd(file->dir_fd);
	*file->temporary = '\0';
	file->entry = NULL;
}

/* Where an entry stands: its directory, and its name in that. */
static int find_place(const struct down *down, const struct plan_entry *entry,
		      const char **ret_name)
{
	const struct landing *landing = down->landing;
	_cleanup_close_ int root_fd = -1;

	if (!*entry->path || !*landing->name)
		return beneath_parent(landing->dir_fd, *entry->path ? entry->path : landing->name,
				      ret_name);
	root_fd = openat(landing->dir_fd, landing->name,
			 O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return root_fd < 0 ? -errno : beneath_parent(root_fd, entry->path, ret_name);
}

static int check_target(const struct down_file *file)
{
	struct stat stat;

	if (fstatat(file->dir_fd, file->name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(stat.st_mode))
		return -EISDIR;
	return S_ISREG(stat.st_mode) || S_ISLNK(stat.st_mode) ? 0 : -EEXIST;
}

static int open_temporary(struct down_file *file)
{
	uint64_t random;

	random_bytes(&random, sizeof(random));
	snprintf(file->temporary, sizeof(file->temporary), ".execsandbox-%016llx.part",
		 (unsigned long long)random);
	file->fd = openat(file->dir_fd, file->temporary,
			  O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (file->fd >= 0)
		return 0;
	*file->temporary = '\0';
	return -errno;
}

static int open_file(const struct down *down, struct down_file *file)
{
	int r;

	if (down->landing->stream_fd >= 0)
		return 0;
	r = find_place(down, file->entry, &file->name);
	if (r < 0)
		return r;
	file->dir_fd = r;
	r = check_target(file);
	return r < 0 ? r : open_temporary(file);
}

static int put(const struct down *down, const struct down_file *file, const uint8_t *data,
	       size_t len, uint64_t offset)
{
	if (!*file->temporary)
		return output_bytes(down->landing->stream_fd, data, len);
	while (len > 0) {
		ssize_t n = pwrite(file->fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Gives it its mode, time and name. */
static int complete(const struct down *down, struct down_file *file)
{
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, file->entry->mtime};
	mode_t mode = file->entry->mode;

	if (!*file->temporary)
		return 0;
	if (mode == MODE_UNKNOWN)
		mode = 0666;
	if (fchmod(file->fd, mode & ~down->umask) < 0 || futimens(file->fd, times) < 0)
		return -errno;
	if (renameat(file->dir_fd, file->temporary, file->dir_fd, file->name) < 0)
		return -errno;
	*file->temporary = '\0';
	return 0;
}

static enum copy_step finish(struct down *down, struct down_file *file)
{
	int r = complete(down, file);

	if (r < 0)
		return copy_fail(down->copy, "Cannot complete", file->entry->path, r);
	if (down->current == file)
		down->current = NULL;
	progress_add(&down->copy->progress, 0, 1);
	drop(file);
	return COPY_SENT;
}

/* --- Pieces. --- */

static void on_piece(void *user, const json_t *result)
{
	struct piece piece = *(struct piece *)user;
	struct down *down = piece.down;
	struct down_file *file = piece.file;
	const json_t *data = json_object_get(result, "data");
	const char *encoding = json_string_value(json_object_get(result, "encoding"));
	uint8_t *bytes = NULL;
	ssize_t len = source_get_bytes(data, encoding, &bytes);
	int r;

	((struct piece *)user)->down = NULL;
	if (len != (ssize_t)piece.len) {
		free(bytes);
		copy_changed(down->copy, file->entry->path);
		return;
	}
	r = put(down, file, bytes, piece.len, piece.offset);
	free(bytes);
	if (r < 0) {
		copy_fail(down->copy, "Cannot write", file->entry->path, r);
		return;
	}
	file->written += piece.len;
	progress_add(&down->copy->progress, piece.len, 0);
	if (file->written == file->entry->size)
		finish(down, file);
}

static enum copy_step ask(struct down *down)
{
	struct down_file *file = down->current;
	struct piece *piece = down->pieces;
	json_t *params = copy_params(down->copy, down->path, file->entry->path);

	while (piece->down)
		piece++;
	*piece = (struct piece){
		.down = down,
		.file = file,
		.offset = file->asked,
		.len = (size_t)MIN(file->entry->size - file->asked, (uint64_t)COPY_PIECE),
	};
	file->asked += piece->len;
	if (file->asked == file->entry->size)
		down->current = NULL;
	json_object_set_new(params, "offset", json_integer((json_int_t)piece->offset));
	json_object_set_new(params, "length", json_integer((json_int_t)piece->len));
	json_object_set_new(params, "encoding", json_string("base64"));
	return copy_send(down->copy, "file.read", params, on_piece, piece);
}

/* --- Pouring. --- */

static int put_poured(void *user, const uint8_t *data, size_t len, uint64_t offset)
{
	const struct down *down = user;

	return put(down, down->poured, data, len, offset);
}

static void on_poured_some(void *user, size_t len)
{
	struct down *down = user;

	progress_add(&down->copy->progress, len, 0);
}

static void on_pour_failed(void *user, int error)
{
	struct down *down = user;

	if (error == -EMSGSIZE)
		copy_changed(down->copy, down->poured->entry->path);
	else
		copy_fail(down->copy, "Cannot write", down->poured->entry->path, error);
}

static const struct pour_ops pour_ops = {
	.put = put_poured, .on_progress = on_poured_some, .on_failure = on_pour_failed};

/* The reply says that all of it is in the socket. */
static void on_poured(void *user, const json_t *result)
{
	struct down *down = user;
	struct down_file *file = down->poured;

	if (result)
		pour_drain(&down->pour);
	if (down->copy->is_done) /* by an error of that */
		return;
	pour_close(&down->pour);
	down->poured = NULL;
	if (!result) /* again, in pieces */
		down->current = file;
	else if (down->pour.left > 0)
		copy_changed(down->copy, file->entry->path);
	else
		finish(down, file);
}

static enum copy_step pour(struct down *down, struct down_file *file)
{
	json_t *params = copy_params(down->copy, down->path, file->entry->path);
	int passed_fd =
		pour_in(&down->pour, down->copy->ctl->loop, file->entry->size, &pour_ops, down);

	if (passed_fd < 0) {
		json_decref(params);
		return copy_fail(down->copy, "Cannot receive", file->entry->path, passed_fd);
	}
	down->poured = file;
	json_object_set_new(params, "length", json_integer((json_int_t)file->entry->size));
	return copy_send_passing(down->copy, "file.read", params, passed_fd, on_poured, down);
}

/* --- The steps. --- */

static enum copy_step make_directory(struct down *down, const struct plan_entry *entry)
{
	_cleanup_close_ int dir_fd = -1;
	const char *name = "";
	int r = 0;

	if (*entry->path || *down->landing->name) {
		dir_fd = find_place(down, entry, &name);
		r = dir_fd < 0 ? dir_fd : beneath_mkdir(dir_fd, name, entry->mode | 0700);
	}
	if (r < 0)
		return copy_fail(down->copy, "Cannot make the directory", entry->path, r);
	return COPY_SENT;
}

static enum copy_step begin(struct down *down)
{
	const struct plan_entry *entry = &down->copy->plan->entries[down->next];
	struct down_file *file = down->files;
	int r;

	if (entry->is_directory) {
		down->next++;
		return make_directory(down, entry);
	}
	while (file->entry)
		file++;
	down->next++;
	*file = (struct down_file){.entry = entry, .fd = -1, .dir_fd = -1};
	r = open_file(down, file);
	if (r < 0)
		return copy_fail(down->copy, "Cannot write", entry->path, r);
	if (entry->size == 0)
		return finish(down, file);
	if (entry->size > COPY_PIECE && !down->copy->lacks_descriptors)
		return pour(down, file);
	down->current = file;
	return COPY_SENT;
}

static enum copy_step step(void *user)
{
	struct down *down = user;

	if (down->poured)
		return COPY_WAITS;
	if (down->current)
		return ask(down);
	return down->next < down->copy->plan->len ? begin(down) : COPY_DONE;
}

int copy_down(struct copy *copy, const char *path, const struct landing *landing)
{
	struct down down = {
		.copy = copy,
		.path = path,
		.landing = landing,
		.umask = umask(0),
		.pour = {.fd = -1},
	};
	int status;

	umask(down.umask);
	copy->step = step;
	copy->user = &down;
	status = copy_run(copy);
	pour_close(&down.pour);
	for (size_t i = 0; i < COPY_WINDOW; i++)
		if (down.files[i].entry)
			drop(&down.files[i]);
	return status;
}
