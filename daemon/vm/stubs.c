/* SPDX-License-Identifier: Apache-2.0 */
/* Stand-ins for libraries of QEMU: the file, and the list of what it stands in for. */
#include "daemon/vm/stubs.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LIBRARY "qemu-stubs.so"
#define LIST    "qemu-stubs.list"
/* 17 names of 20 characters, and a line of 30. */
#define LIST_MAX 4096
/* Longer than any library's name. */
#define NAME_LENGTH_MAX 64

bool stubs_fit(const struct stubs *stubs, const char *qemu)
{
	struct stat st;

	return stat(qemu, &st) == 0 && stubs->qemu_bytes == (int64_t)st.st_size &&
	       stubs->qemu_mtime_ns == (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

/* The list's first line: size and time of change of the QEMU that it was made for. */
static int read_qemu(const char *line, struct stubs *stubs)
{
	return sscanf(line, "%" SCNd64 " %" SCNd64, &stubs->qemu_bytes, &stubs->qemu_mtime_ns) == 2
		       ? 0
		       : -EINVAL;
}

/* The names become words of a command line and files of a directory. */
static bool is_name(const char *name)
{
	return *name && *name != '.' && *name != '-' && strlen(name) <= NAME_LENGTH_MAX &&
	       !strchr(name, '/');
}

static int read_names(char *lines, struct stubs *stubs)
{
	size_t len = 0;
	char *name;

	while ((name = strsep(&lines, "\n"))) {
		if (!lines && !*name)
			break;
		if (!is_name(name) || len == STUBS_MAX)
			return -EINVAL;
		stubs->names[len] = strdup(name);
		if (!stubs->names[len++])
			return -ENOMEM;
	}
	return len > 0 ? 0 : -EINVAL;
}

static int read_list(int dir_fd, struct stubs *stubs)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len = read_file_at(dir_fd, LIST, LIST_MAX, &text);
	char *rest = text, *first;
	int r;

	if (len < 0)
		return (int)len;
	first = strsep(&rest, "\n");
	if (!rest || strlen(first) + 1 + strlen(rest) != (size_t)len)
		return -EINVAL;
	r = read_qemu(first, stubs);
	return r < 0 ? r : read_names(rest, stubs);
}

int stubs_open(int dir_fd, const char *qemu, struct stubs *ret)
{
	_cleanup_(stubs_close) struct stubs stubs = STUBS_NONE;
	int r;

	*ret = (struct stubs)STUBS_NONE;
	r = read_list(dir_fd, &stubs);
	if (r < 0)
		return r;
	if (!stubs_fit(&stubs, qemu))
		return -ESTALE;
	stubs.fd = openat(dir_fd, LIBRARY, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (stubs.fd < 0)
		return -errno;
	*ret = stubs;
	stubs = (struct stubs)STUBS_NONE;
	return 0;
}

void stubs_close(struct stubs *stubs)
{
	stubs->fd = close_fd(stubs->fd);
	for (size_t i = 0; i < STUBS_MAX; i++)
		free(TAKE_PTR(stubs->names[i]));
}
