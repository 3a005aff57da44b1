/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of files: in from a pipe, out to a pipe, and replaced as a whole or not at all. */
#include "guest-agent/files/content.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>

#define MODE_NEW   0644
#define SPLICE_MAX (1u << 20)

/* Without a copy into this process. How much went; 0 where the file does not take it so. */
static uint64_t splice_some(int fd, int in_fd, uint64_t size)
{
	uint64_t sum = 0;

	while (sum < size) {
		ssize_t n = splice(in_fd, NULL, fd, NULL,
				   (size_t)MIN(size - sum, (uint64_t)SPLICE_MAX), SPLICE_F_MOVE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) /* read(2) or write(2) tell why */
			break;
		sum += (uint64_t)n;
	}
	return sum;
}

int content_fill(int fd, int in_fd, uint64_t size)
{
	static char buffer[64u * 1024];
	int result = 0;

	size -= splice_some(fd, in_fd, size);
	while (size > 0) {
		ssize_t n = read(in_fd, buffer, MIN(size, (uint64_t)sizeof(buffer)));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		if (result == 0)
			result = write_all(fd, buffer, (size_t)n);
		size -= (uint64_t)n;
	}
	return result;
}

int content_send(int fd, uint64_t offset, uint64_t length, int out_fd, uint64_t *ret_length)
{
	off_t at = (off_t)offset;

	*ret_length = 0;
	while (*ret_length < length) {
		ssize_t n = sendfile(out_fd, fd, &at,
				     (size_t)MIN(length - *ret_length, (uint64_t)1 << 30));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) /* it has become shorter */
			break;
		*ret_length += (uint64_t)n;
	}
	return 0;
}

static int check_type(mode_t mode)
{
	if (S_ISREG(mode))
		return 0;
	if (S_ISDIR(mode))
		return -EISDIR;
	return S_ISLNK(mode) ? -ELOOP : -EOPNOTSUPP;
}

/* 0 for a regular file; -ENOENT; or why it is neither. */
static int check_place(const struct place *place, struct stat *ret)
{
	int r = place_stat(place, ret);

	return r < 0 ? r : check_type(ret->st_mode);
}

int content_new(const struct place *place)
{
	struct stat stat;
	int fd, r = check_place(place, &stat);

	if (r < 0 && r != -ENOENT)
		return r;
	fd = openat(place->dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int link_as(int fd, int dir_fd, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* A name for an instant: link(2) replaces nothing, rename(2) does. */
static int replace(int fd, const struct place *place)
{
	char name[64];
	uint64_t random;
	int r;

	random_bytes(&random, sizeof(random));
	snprintf(name, sizeof(name), ".execsandbox-%016llx", (unsigned long long)random);
	r = link_as(fd, place->dir_fd, name);
	if (r < 0)
		return r;
	if (renameat(place->dir_fd, name, place->dir_fd, place->name) == 0)
		return 0;
	r = -errno;
	unlinkat(place->dir_fd, name, 0);
	return r;
}

int content_commit(int fd, const struct place *place, mode_t mode)
{
	struct stat stat;
	int r = check_place(place, &stat);

	if (r < 0 && r != -ENOENT)
		return r;
	if (mode == MODE_KEPT)
		mode = r == 0 ? stat.st_mode & 07777 : MODE_NEW;
	if (fchmod(fd, mode) < 0)
		return -errno;
	if (r == 0)
		return replace(fd, place);
	r = link_as(fd, place->dir_fd, place->name);
	return r == -EEXIST ? replace(fd, place) : r;
}

/* Not blocking: a FIFO would wait for its other end. */
#define OPEN_FLAGS (O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

static int open_regular(int fd, struct stat *ret)
{
	int r;

	if (fd < 0)
		return fd;
	r = fstat(fd, ret) < 0 ? -errno : check_type(ret->st_mode);
	if (r == 0)
		return fd;
	close_fd(fd);
	return r;
}

int content_open_for_change(const struct place *place, bool appends, mode_t mode)
{
	int flags = O_WRONLY | O_CREAT | OPEN_FLAGS | (appends ? O_APPEND : 0), fd;
	struct stat stat;
	int r = check_place(place, &stat);

	if (r < 0 && r != -ENOENT)
		return r;
	fd = openat(place->dir_fd, place->name, flags, MODE_NEW);
	fd = open_regular(fd < 0 ? (errno == ENXIO ? -EOPNOTSUPP : -errno) : fd, &stat);
	if (fd >= 0 && mode != MODE_KEPT && fchmod(fd, mode) < 0) {
		int error = errno;

		close_fd(fd);
		return -error;
	}
	return fd;
}

/* Nobody notices that it is looked at: a FIFO that was opened would let its writer go on. */
static int look_at(const char *path)
{
	_cleanup_close_ int fd = path_open(path, O_PATH, 0);
	struct stat stat;

	if (fd < 0)
		return fd;
	return fstat(fd, &stat) < 0 ? -errno : check_type(stat.st_mode);
}

int content_open(const char *path, struct stat *ret_stat)
{
	int fd = look_at(path);

	if (fd < 0)
		return fd;
	/* What has taken its place since is not waited for either. */
	fd = path_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	return open_regular(fd == -ENXIO ? -EOPNOTSUPP : fd, ret_stat);
}
