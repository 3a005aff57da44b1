/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that callers name: always below the working directory, whatever links lie on the way. */
#include "guest-agent/files/path.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

int path_open(const char *path, int flags, mode_t mode)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
			       .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	long fd;

	/* -EAGAIN: something was renamed meanwhile, and the kernel cannot tell where the walk went.
	 */
	do
		fd = syscall(SYS_openat2, AT_FDCWD, *path ? path : ".", &how, sizeof(how));
	while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	return fd < 0 ? -errno : (int)fd;
}

/* Every directory on the way, from the top; the last is open at the end. */
static int make_directories(char *path)
{
	_cleanup_close_ int dir_fd = path_open("", O_PATH | O_DIRECTORY, 0);
	char *component = path;

	while (dir_fd >= 0 && *component) {
		char *end = strchrnul(component, '/'), rest = *end;
		int next;

		*end = '\0';
		next = path_open(path, O_PATH | O_DIRECTORY, 0);
		if (next == -ENOENT && (mkdirat(dir_fd, component, 0755) == 0 || errno == EEXIST))
			next = path_open(path, O_PATH | O_DIRECTORY, 0);
		close_fd(dir_fd);
		dir_fd = next;
		*end = rest;
		component = end + strspn(end, "/");
	}
	return TAKE_FD(dir_fd);
}

static bool is_name(const char *name, size_t len)
{
	return len > 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int place_find(const char *path, bool makes_parents, struct place *ret)
{
	_cleanup_free_ char *copy = strdup(path);
	size_t len = copy ? strlen(copy) : 0;
	char *name;
	int fd;

	if (!copy)
		return -ENOMEM;
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	name = strrchr(copy, '/');
	name = name ? name + 1 : copy;
	len = strlen(name);
	if (!is_name(name, len))
		return -EINVAL;
	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(ret->name, name, len + 1);
	*name = '\0';
	fd = makes_parents ? make_directories(copy) : path_open(copy, O_PATH | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	ret->dir_fd = fd;
	return 0;
}

void place_close(struct place *place)
{
	place->dir_fd = close_fd(place->dir_fd);
}

int place_stat(const struct place *place, struct stat *ret)
{
	return fstatat(place->dir_fd, place->name, ret, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}
