/* SPDX-License-Identifier: Apache-2.0 */
/* Small files in a directory, each there as a whole or not at all. */
#include "base/kept.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* No name of ours begins with a dot. */
#define NEW_PREFIX    ".new-"
#define NEW_NAME_SIZE (sizeof(NEW_PREFIX) + KEPT_NAME_SIZE)

bool kept_name_is_valid(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t len = strnlen(name, KEPT_NAME_SIZE);

	return len > 0 && len < KEPT_NAME_SIZE && name[0] != '.' && strspn(name, allowed) == len;
}

int kept_remove(int dir_fd, const char *name)
{
	return unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* --- One file. --- */

static void make_new_name(const char *name, char ret[NEW_NAME_SIZE])
{
	snprintf(ret, NEW_NAME_SIZE, NEW_PREFIX "%s", name);
}

int kept_begin(int dir_fd, const char *name)
{
	char new_name[NEW_NAME_SIZE];
	int fd, r;

	if (!kept_name_is_valid(name))
		return -EINVAL;
	make_new_name(name, new_name);
	/* What a killed writer has left. */
	r = kept_remove(dir_fd, new_name);
	if (r < 0)
		return r;
	fd = openat(dir_fd, new_name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

int kept_commit(int dir_fd, const char *name)
{
	char new_name[NEW_NAME_SIZE];

	make_new_name(name, new_name);
	if (renameat(dir_fd, new_name, dir_fd, name) == 0)
		return 0;
	return -errno;
}

void kept_abort(int dir_fd, const char *name)
{
	char new_name[NEW_NAME_SIZE];

	make_new_name(name, new_name);
	(void)kept_remove(dir_fd, new_name);
}

int kept_write(int dir_fd, const char *name, const void *data, size_t len)
{
	_cleanup_close_ int fd = kept_begin(dir_fd, name);
	int r;

	if (fd < 0)
		return fd;
	r = write_all(fd, data, len);
	if (r == 0)
		r = kept_commit(dir_fd, name);
	if (r < 0)
		kept_abort(dir_fd, name);
	return r;
}

int kept_open(int dir_fd, const char *name, int mode, uint64_t *ret_size)
{
	/* A FIFO must not hold the daemon up. */
	_cleanup_close_ int fd =
		openat(dir_fd, name, mode | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (ret_size)
		*ret_size = (uint64_t)st.st_size;
	return TAKE_FD(fd);
}

ssize_t kept_read(int dir_fd, const char *name, size_t max, char **ret)
{
	uint64_t size;
	_cleanup_close_ int fd = kept_open(dir_fd, name, O_RDONLY, &size);

	if (fd < 0)
		return fd;
	/* As much memory as the file needs, not as much as it might. */
	return size > max ? -EFBIG : read_file_fd(fd, (size_t)size, ret);
}

/* --- All of them. --- */

struct names {
	char (*names)[KEPT_NAME_SIZE];
	size_t count, size;
};

static int add_name(struct names *names, const char *name)
{
	if (names->count == names->size) {
		size_t size = MAX(2 * names->size, (size_t)16);
		void *grown = reallocarray(names->names, size, sizeof(*names->names));

		if (!grown)
			return -ENOMEM;
		names->names = grown;
		names->size = size;
	}
	/* It is valid: it fits. */
	memcpy(names->names[names->count++], name, strlen(name) + 1);
	return 0;
}

static int list(int dir_fd, struct names *names)
{
	/* A stream of its own: the offset of `dir_fd` stays where it is. */
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		r = -errno;
		close_fd(fd);
		return r;
	}
	while (r == 0 && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, NEW_PREFIX, strlen(NEW_PREFIX)) == 0)
			(void)kept_remove(dir_fd, entry->d_name);
		else if (kept_name_is_valid(entry->d_name))
			r = add_name(names, entry->d_name);
	}
	closedir(dir);
	return r;
}

int kept_walk(int dir_fd, void (*fn)(void *user, const char *name), void *user)
{
	struct names names = {0};
	/* All names first: a file that is written meanwhile might be told twice. */
	int r = list(dir_fd, &names);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		fn(user, names.names[i]);
	free(names.names);
	return r;
}
