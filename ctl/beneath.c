/* SPDX-License-Identifier: Apache-2.0 */
/* What is below an open directory, by paths that somebody else has chosen. */
#include "ctl/beneath.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define DIRECTORY_FLAGS (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int dup_fd(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? -errno : copy;
}

int beneath_parent(int root_fd, const char *path, const char **ret_name)
{
	_cleanup_free_ char *copy = strdup(path);
	_cleanup_close_ int dir_fd = dup_fd(root_fd);
	char *name = copy, *slash;

	if (!copy)
		return -ENOMEM;
	while (dir_fd >= 0 && (slash = strchr(name, '/'))) {
		int next;

		*slash = '\0';
		next = openat(dir_fd, name, DIRECTORY_FLAGS);
		if (next < 0)
			return -errno;
		close_fd(dir_fd);
		dir_fd = next;
		name = slash + 1;
	}
	*ret_name = path + (name - copy);
	return TAKE_FD(dir_fd);
}

int beneath_open(int root_fd, const char *path)
{
	_cleanup_close_ int dir_fd = -1;
	const char *name;
	int fd;

	if (!*path)
		return dup_fd(root_fd);
	dir_fd = beneath_parent(root_fd, path, &name);
	if (dir_fd < 0)
		return dir_fd;
	/* Not blocking: it may have become a FIFO. */
	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int beneath_mkdir(int dir_fd, const char *name, mode_t mode)
{
	struct stat stat;

	if (mkdirat(dir_fd, name, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (fstatat(dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return S_ISDIR(stat.st_mode) ? 0 : -ENOTDIR;
}
