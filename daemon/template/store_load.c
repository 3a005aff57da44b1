/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's worker process does: reading a template and checking every byte of it. */
#include "daemon/template/manifest.h"
#include "daemon/template/store_dir.h"
#include "daemon/template/store_hash.h"
#include "daemon/template/store_work.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Inside this file: the template is no good and must go. */
#define DAMAGED (-EBADMSG)

struct load {
	const struct store_work *work;
	struct store_report *report;
	char dir_name[STORE_DIR_SIZE];
	int fd, manifest_fd, ram_fd, state_fd; /* the directory and its files */
	struct manifest manifest;
};

static int PRINTF_LIKE(3, 4) say(struct load *load, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(load->report->why, sizeof(load->report->why), format, args);
	va_end(args);
	return error;
}

#define damaged(load, file, format, ...)                                                    \
	say(load, DAMAGED, "'%s' of '%s/%s' is damaged: " format, file, (load)->work->path, \
	    (load)->dir_name, ##__VA_ARGS__)

static int failed(struct load *load, int error, const char *what)
{
	return say(load, error, "Cannot %s for '%s/%s': %s", what, load->work->path, load->dir_name,
		   strerror(-error));
}

/* NONBLOCK: a pipe of that name must not hold us up. */
static int open_file(struct load *load, const char *file, uint64_t min, uint64_t max, int *ret_fd)
{
	struct stat st;

	*ret_fd = openat(load->fd, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (*ret_fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		return failed(load, -errno, "open a file");
	if (*ret_fd < 0 && errno == ELOOP)
		return damaged(load, file, "it is a symbolic link");
	if (*ret_fd < 0)
		return damaged(load, file, "%s", strerror(errno));
	if (fstat(*ret_fd, &st) < 0)
		return damaged(load, file, "%s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return damaged(load, file, "it is no regular file");
	if ((uint64_t)st.st_size < min || (uint64_t)st.st_size > max)
		return damaged(load, file, "it has %" PRIu64 " bytes instead of %s%" PRIu64,
			       (uint64_t)st.st_size, min < max ? "at most " : "", max);
	return 0;
}

/* Opened all at once: what happens to their names later does not concern this load. */
static int open_files(struct load *load)
{
	uint64_t ram_bytes = load->work->memory_mb << 20;
	int r = open_file(load, STORE_MANIFEST, 1, MANIFEST_MAX, &load->manifest_fd);

	if (r == 0)
		r = open_file(load, STORE_RAM, ram_bytes, ram_bytes, &load->ram_fd);
	if (r == 0)
		r = open_file(load, STORE_STATE, 1, VM_IMAGE_STATE_MAX, &load->state_fd);
	return r;
}

static int open_template(struct load *load)
{
	const struct store_work *work = load->work;

	load->fd = store_dir_open(work->dir_fd, load->dir_name);
	if (load->fd == -ENOENT)
		return say(load, -ENOENT, "There is no '%s/%s'", work->path, load->dir_name);
	if (load->fd == -ENOTDIR || load->fd == -ELOOP)
		return say(load, DAMAGED, "'%s/%s' is no directory", work->path, load->dir_name);
	if (load->fd < 0)
		return failed(load, load->fd, "open the directory");
	return open_files(load);
}

/* At most `max` bytes of a file: one more shows that it has grown. The length or -errno. */
static ssize_t read_all(int fd, char *buf, size_t max)
{
	size_t len = 0;

	while (len < max) {
		ssize_t n = pread(fd, buf + len, max - len, (off_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static int compare_manifest(struct load *load)
{
	const struct manifest *manifest = &load->manifest;

	if (manifest->memory_mb != load->work->memory_mb)
		return damaged(load, STORE_MANIFEST,
			       "it is of %" PRIu64 " MiB of memory instead of %" PRIu64,
			       manifest->memory_mb, load->work->memory_mb);
	if (!json_equal(manifest->identity, load->work->identity))
		return damaged(load, STORE_MANIFEST, "its identity is another one");
	return 0;
}

static int read_manifest(struct load *load)
{
	_cleanup_free_ char *text = malloc(MANIFEST_MAX + 1);
	const char *why;
	ssize_t len;
	int r;

	if (!text)
		return failed(load, -ENOMEM, "read the manifest");
	len = read_all(load->manifest_fd, text, MANIFEST_MAX + 1);
	if (len < 0)
		return damaged(load, STORE_MANIFEST, "%s", strerror((int)-len));
	r = manifest_parse(text, (size_t)len, &load->manifest, &why);
	if (r == -ENOMEM)
		return failed(load, r, "read the manifest");
	if (r < 0)
		return damaged(load, STORE_MANIFEST, "%s", why);
	return compare_manifest(load);
}

static int check_hash(struct load *load, const char *file, const char *found, const char *wanted)
{
	return strcmp(found, wanted) == 0
		       ? 0
		       : damaged(load, file, "its SHA-256 is %s instead of %s", found, wanted);
}

static int read_ram(struct load *load)
{
	struct store_copy copy = {.from_fd = load->ram_fd,
				  .to_fd = load->work->ram_fd,
				  .size = load->work->memory_mb << 20,
				  .max_bytes = UINT64_MAX};
	int r = store_copy_run(&copy);

	if (r < 0 && copy.has_from_failed)
		return damaged(load, STORE_RAM, "%s", strerror(-r));
	if (r < 0)
		return failed(load, r, "fill the memory");
	memcpy(load->report->hashes.ram, copy.hash, sizeof(copy.hash));
	r = check_hash(load, STORE_RAM, copy.hash, load->manifest.hashes.ram);
	if (r < 0)
		return r;
	r = vm_image_seal(load->work->ram_fd, load->work->memory_mb);
	return r < 0 ? failed(load, r, "seal the memory") : 0;
}

static int read_state(struct load *load)
{
	size_t wanted = (size_t)load->manifest.state_bytes;
	_cleanup_free_ char *state = malloc(wanted + 1);
	ssize_t len;
	int r;

	if (!state)
		return failed(load, -ENOMEM, "read the state");
	len = read_all(load->state_fd, state, wanted + 1);
	if (len < 0)
		return damaged(load, STORE_STATE, "%s", strerror((int)-len));
	if ((size_t)len != wanted)
		return damaged(load, STORE_STATE, "it does not have %zu bytes", wanted);
	r = store_hash(state, wanted, load->report->hashes.state);
	if (r < 0)
		return failed(load, r, "hash the state");
	r = check_hash(load, STORE_STATE, load->report->hashes.state, load->manifest.hashes.state);
	if (r < 0)
		return r;
	r = write_all(load->work->state_fd, state, wanted);
	return r < 0 ? failed(load, r, "keep the state") : 0;
}

/* The clock itself, not the tick that the kernel would take: the order of uses is what counts. A
 * store that cannot be written to still serves. */
static void mark_used(const struct load *load)
{
	uint64_t now = realtime_ns();
	struct timespec time = {.tv_sec = (time_t)(now / 1000000000u),
				.tv_nsec = (long)(now % 1000000000u)};

	futimens(load->manifest_fd, (struct timespec[2]){time, time});
}

static int read_template(struct load *load)
{
	int r = open_template(load);

	if (r == 0)
		r = read_manifest(load);
	if (r == 0)
		r = read_state(load);
	if (r == 0)
		r = read_ram(load);
	if (r == 0) {
		memcpy(load->report->sync, load->manifest.sync, sizeof(load->report->sync));
		mark_used(load);
	}
	return r;
}

/* Under the lock, so that it is not a good one that has just taken the place. What cannot be
 * removed would keep a new one from its name: an error, not an absence. */
static int remove_damaged(struct load *load)
{
	_cleanup_close_ int lock_fd = store_dir_lock(load->work->dir_fd);
	int r = lock_fd;

	if (r >= 0)
		r = store_dir_discard(load->work->dir_fd, load->dir_name, load->fd);
	if (r < 0 && r != -ENOENT)
		return failed(load, r, "remove what is damaged");
	return -ENOENT;
}

int store_work_load(void *input, char report[WORKER_REPORT_MAX], size_t *ret_report_len)
{
	const struct store_work *work = input;
	struct store_report own = {.why = ""};
	struct load load = {.work = work,
			    .report = &own,
			    .fd = -1,
			    .manifest_fd = -1,
			    .ram_fd = -1,
			    .state_fd = -1};
	int r;

	store_dir_name(work->name, work->key, load.dir_name);
	r = read_template(&load);
	if (r == DAMAGED)
		r = remove_damaged(&load);
	memcpy(report, &own, sizeof(own));
	*ret_report_len = sizeof(own);
	manifest_clear(&load.manifest);
	close_fd(load.state_fd);
	close_fd(load.ram_fd);
	close_fd(load.manifest_fd);
	close_fd(load.fd);
	return r;
}
