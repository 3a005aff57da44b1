/* SPDX-License-Identifier: Apache-2.0 */
/* File operations as the host asks for them: a list of objects in, a list of results out. */
#include "guest-agent/files/ops.h"

#include "base/util.h"
#include "guest-agent/files/content.h"
#include "guest-agent/files/tree.h"
#include "guest-agent/files/uploads.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct op {
	const json_t *params;
	int in_fd, out_fd;
	json_t *result; /* an object to add to */
};

static const char *text_of(const struct op *op, const char *key)
{
	return json_string_value(json_object_get(op->params, key)) ?: "";
}

static uint64_t number_of(const struct op *op, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(op->params, key));
}

static bool flag_of(const struct op *op, const char *key)
{
	return json_is_true(json_object_get(op->params, key));
}

static mode_t mode_of(const struct op *op, mode_t otherwise)
{
	const json_t *mode = json_object_get(op->params, "mode");

	return mode ? (mode_t)json_integer_value(mode) & 07777 : otherwise;
}

static void tell(const struct op *op, const char *key, uint64_t value)
{
	json_object_set_new(op->result, key, json_integer((json_int_t)value));
}

/* The bytes are taken from the pipe whatever becomes of the file. */
static int fill(const struct op *op, int fd)
{
	int r = content_fill(fd < 0 ? -1 : fd, op->in_fd, number_of(op, "size"));

	return fd < 0 ? fd : r;
}

static int op_write(const struct op *op)
{
	_cleanup_(place_close) struct place place = PLACE_NONE;
	_cleanup_close_ int fd = -1;
	int r = place_find(text_of(op, "path"), true, &place);

	fd = r < 0 ? r : content_new(&place);
	r = fill(op, fd);
	if (r == 0)
		r = content_commit(fd, &place, mode_of(op, MODE_KEPT));
	tell(op, "bytes", number_of(op, "size"));
	return r;
}

static int op_change(const struct op *op)
{
	_cleanup_(place_close) struct place place = PLACE_NONE;
	_cleanup_close_ int fd = -1;
	bool appends = flag_of(op, "append");
	struct stat stat;
	int r = place_find(text_of(op, "path"), true, &place);

	fd = r < 0 ? r : content_open_for_change(&place, appends, mode_of(op, MODE_KEPT));
	if (fd >= 0 && !appends && lseek(fd, (off_t)number_of(op, "offset"), SEEK_SET) < 0)
		return -errno;
	r = fill(op, fd);
	if (r == 0 && fstat(fd, &stat) == 0)
		tell(op, "size", (uint64_t)stat.st_size);
	tell(op, "bytes", number_of(op, "size"));
	return r;
}

static int op_upload_open(const struct op *op)
{
	struct place place = PLACE_NONE;
	int r = place_find(text_of(op, "path"), true, &place);

	return r < 0 ? r : upload_open(text_of(op, "upload"), &place, mode_of(op, MODE_KEPT));
}

static int op_upload_write(const struct op *op)
{
	tell(op, "bytes", number_of(op, "size"));
	return upload_write(text_of(op, "upload"), number_of(op, "offset"), op->in_fd,
			    number_of(op, "size"));
}

static int op_upload_commit(const struct op *op)
{
	uint64_t size;
	int r = upload_commit(text_of(op, "upload"), &size);

	tell(op, "size", size);
	return r;
}

static int op_read(const struct op *op)
{
	struct stat stat;
	_cleanup_close_ int fd = content_open(text_of(op, "path"), &stat);
	uint64_t length;
	int r;

	if (fd < 0)
		return fd;
	r = content_send(fd, number_of(op, "offset"), number_of(op, "length"), op->out_fd, &length);
	tell(op, "size", (uint64_t)stat.st_size);
	tell(op, "mode", stat.st_mode & 07777);
	/* The bytes are in the pipe, also when an error came behind them. */
	tell(op, "length", length);
	return r;
}

static int op_list(const struct op *op)
{
	int fd = path_open(text_of(op, "path"), O_RDONLY | O_DIRECTORY, 0), r;
	json_t *entries = json_array();

	json_object_set_new(op->result, "entries", entries);
	r = fd < 0 ? fd : tree_list(fd, flag_of(op, "recursive"), entries);
	if (r != -E2BIG)
		return r;
	json_object_set_new(op->result, "is_truncated", json_true());
	return 0;
}

static int stat_home(const struct op *op)
{
	struct stat stat;

	if (fstatat(AT_FDCWD, ".", &stat, 0) < 0)
		return -errno;
	json_object_set_new(op->result, "entry", tree_describe(&stat, AT_FDCWD, "."));
	return 0;
}

static int op_stat(const struct op *op)
{
	_cleanup_(place_close) struct place place = PLACE_NONE;
	struct stat stat;
	int r;

	if (!*text_of(op, "path"))
		return stat_home(op);
	r = place_find(text_of(op, "path"), false, &place);
	if (r == 0)
		r = place_stat(&place, &stat);
	if (r < 0)
		return r;
	json_object_set_new(op->result, "entry", tree_describe(&stat, place.dir_fd, place.name));
	return 0;
}

static int op_mkdir(const struct op *op)
{
	_cleanup_(place_close) struct place place = PLACE_NONE;
	bool is_recursive = flag_of(op, "recursive");
	struct stat stat;
	int r = place_find(text_of(op, "path"), is_recursive, &place);

	if (r < 0)
		return r;
	if (mkdirat(place.dir_fd, place.name, 0755) < 0) {
		r = -errno;
		if (r == -EEXIST && is_recursive && place_stat(&place, &stat) == 0 &&
		    S_ISDIR(stat.st_mode))
			return 0;
		return r;
	}
	/* What the umask takes is what was asked for. */
	if (fchmodat(place.dir_fd, place.name, mode_of(op, 0755), 0) < 0)
		return -errno;
	return 0;
}

static int op_remove(const struct op *op)
{
	_cleanup_(place_close) struct place place = PLACE_NONE;
	int r = place_find(text_of(op, "path"), false, &place);

	return r < 0 ? r : tree_remove(&place, flag_of(op, "recursive"));
}

static int op_rename(const struct op *op)
{
	_cleanup_(place_close) struct place from = PLACE_NONE, to = PLACE_NONE;
	unsigned flags = flag_of(op, "replace") ? 0 : RENAME_NOREPLACE;
	struct stat stat;
	int r = place_find(text_of(op, "path"), false, &from);

	/* What is not there makes no directories either. */
	if (r == 0)
		r = place_stat(&from, &stat);
	if (r == 0)
		r = place_find(text_of(op, "new_path"), true, &to);
	if (r < 0)
		return r;
	if (renameat2(from.dir_fd, from.name, to.dir_fd, to.name, flags) < 0)
		return -errno;
	return 0;
}

static const struct {
	const char *name;
	int (*run)(const struct op *op);
} table[] = {
	{"write", op_write},
	{"change", op_change},
	{"upload_open", op_upload_open},
	{"upload_write", op_upload_write},
	{"upload_commit", op_upload_commit},
	{"read", op_read},
	{"list", op_list},
	{"stat", op_stat},
	{"mkdir", op_mkdir},
	{"remove", op_remove},
	{"rename", op_rename},
};

static int run(const struct op *op)
{
	const char *name = text_of(op, "op");

	for (size_t i = 0; i < ELEMENTSOF(table); i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].run(op);
	return -ENOSYS;
}

json_t *ops_run(const json_t *request, int in_fd, int out_fd)
{
	json_auto_t *results = json_array();
	const json_t *params;
	size_t i;

	json_array_foreach (request, i, params) {
		const struct op op = {.params = params,
				      .in_fd = in_fd,
				      .out_fd = out_fd,
				      .result = json_object()};
		int r = op.result ? run(&op) : -ENOMEM;

		if (r < 0)
			json_object_set_new(op.result, "error", json_integer(-r));
		if (json_array_append_new(results, op.result) < 0)
			return NULL;
	}
	return json_incref(results);
}
