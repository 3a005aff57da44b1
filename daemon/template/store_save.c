/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's worker process does: writing a template beside and renaming it into place. */
#include "daemon/template/manifest.h"
#include "daemon/template/store_dir.h"
#include "daemon/template/store_hash.h"
#include "daemon/template/store_work.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct save {
	const struct store_work *work;
	struct store_report *report;
	char new_name[STORE_DIR_SIZE];
	int fd; /* the `.new-…`, locked */
};

static int failed(struct save *save, int error, const char *what)
{
	snprintf(save->report->why, sizeof(save->report->why), "Cannot %s '%s/%s-%s': %s", what,
		 save->work->path, save->work->name, save->work->key, strerror(-error));
	return error;
}

static int too_large(struct save *save)
{
	snprintf(save->report->why, sizeof(save->report->why),
		 "Template '%s' does not fit the store '%s' of %" PRIu64 " bytes", save->work->name,
		 save->work->path, save->work->max_bytes);
	return -EFBIG;
}

static int create_file(const struct save *save, const char *file)
{
	int fd = openat(save->fd, file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

static int sync_fd(int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

static int write_file(const struct save *save, const char *file, const void *data, size_t len)
{
	_cleanup_close_ int fd = create_file(save, file);
	int r;

	if (fd < 0)
		return fd;
	r = write_all(fd, data, len);
	return r < 0 ? r : sync_fd(fd);
}

static int write_ram(struct save *save)
{
	_cleanup_close_ int fd = create_file(save, STORE_RAM);
	struct store_copy copy = {.from_fd = save->work->image->ram_fd,
				  .to_fd = fd,
				  .size = save->work->memory_mb << 20,
				  .max_bytes = save->work->max_bytes};
	int r;

	if (fd < 0)
		return failed(save, fd, "create the memory's file of");
	r = store_copy_run(&copy);
	if (r < 0 && copy.has_from_failed)
		return failed(save, r, "read the memory of");
	if (r == -E2BIG)
		return too_large(save);
	if (r == 0)
		r = sync_fd(fd);
	if (r < 0)
		return failed(save, r, "write the memory of");
	memcpy(save->report->hashes.ram, copy.hash, sizeof(copy.hash));
	return 0;
}

static int write_state(struct save *save)
{
	const struct vm_image *image = save->work->image;
	int r = store_hash(image->state, image->state_len, save->report->hashes.state);

	if (r == 0)
		r = write_file(save, STORE_STATE, image->state, image->state_len);
	return r < 0 ? failed(save, r, "write the state of") : 0;
}

static int write_manifest(struct save *save)
{
	const struct vm_image *image = save->work->image;
	struct manifest manifest = {.identity = save->work->identity, /* borrowed */
				    .memory_mb = image->memory_mb,
				    .state_bytes = image->state_len,
				    .hashes = save->report->hashes};
	_cleanup_free_ char *text = NULL;
	int r = -ENOMEM;

	memcpy(manifest.sync, image->sync, sizeof(manifest.sync));
	text = manifest_format(&manifest);
	/* Longer than what would be read again: the identity is too large. */
	if (text)
		r = strlen(text) <= MANIFEST_MAX
			    ? write_file(save, STORE_MANIFEST, text, strlen(text))
			    : -E2BIG;
	return r < 0 ? failed(save, r, "write the manifest of") : 0;
}

static int write_files(struct save *save)
{
	int r = write_ram(save);

	if (r == 0)
		r = write_state(save);
	if (r == 0)
		r = write_manifest(save);
	if (r < 0)
		return r;
	r = sync_fd(save->fd);
	return r < 0 ? failed(save, r, "write the directory of") : 0;
}

/* Takes the name, and what makes room for it goes. Under the lock. */
static int take_name(struct save *save, const char *dir_name)
{
	const struct store_work *work = save->work;
	uint64_t bytes = store_dir_bytes(save->fd);
	int r;

	if (bytes > work->max_bytes)
		return too_large(save);
	r = store_dir_make_room(work->dir_fd, work->name, bytes, work->max_bytes);
	if (r < 0)
		return failed(save, r, "make room for");
	if (renameat(work->dir_fd, save->new_name, work->dir_fd, dir_name) < 0)
		return failed(save, -errno, "rename into");
	return 0;
}

/* Renames are on disk when the directory that has them is. */
static int sync_store(struct save *save)
{
	_cleanup_close_ int fd = store_dir_open(save->work->dir_fd, ".");
	int r = fd < 0 ? fd : sync_fd(fd);

	return r < 0 ? failed(save, r, "write the directory with") : 0;
}

/* Who finds the name taken leaves it: another daemon was faster, and maybe clones of it run. */
static int publish(struct save *save)
{
	const struct store_work *work = save->work;
	_cleanup_close_ int lock_fd = store_dir_lock(work->dir_fd);
	char dir_name[STORE_DIR_SIZE];
	struct stat st;
	int r;

	if (lock_fd < 0)
		return failed(save, lock_fd, "lock the store of");
	store_dir_name(work->name, work->key, dir_name);
	if (fstatat(work->dir_fd, dir_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return store_dir_delete(work->dir_fd, save->new_name);
	r = take_name(save, dir_name);
	return r < 0 ? r : sync_store(save);
}

static int write_template(struct save *save)
{
	int r;

	save->fd = store_dir_make(save->work->dir_fd, save->new_name);
	if (save->fd < 0)
		return failed(save, save->fd, "create a directory for");
	r = write_files(save);
	if (r == 0)
		r = publish(save);
	if (r < 0)
		store_dir_delete(save->work->dir_fd, save->new_name);
	return r;
}

int store_work_save(void *input, char report[WORKER_REPORT_MAX], size_t *ret_report_len)
{
	struct store_report own = {.why = ""};
	struct save save = {.work = input, .report = &own, .fd = -1};
	int r = write_template(&save);

	close_fd(save.fd);
	memcpy(report, &own, sizeof(own));
	*ret_report_len = sizeof(own);
	return r;
}
