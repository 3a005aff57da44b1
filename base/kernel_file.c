/* SPDX-License-Identifier: Apache-2.0 */
/* Files by which the kernel tells figures: /proc, /sys/fs/cgroup. */
#include "base/kernel_file.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int system_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

/* A kernel file takes a write as one message: what was not taken at once is not sent again. */
static int system_write(int fd, const char *data, size_t len)
{
	ssize_t n;

	do {
		n = write(fd, data, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

const struct kernel_files kernel_files_system = {.open = system_open, .write = system_write};

ssize_t kernel_file_read(const struct kernel_files *files, const char *path, char **ret)
{
	_cleanup_close_ int fd = files->open(path, O_RDONLY);

	return fd < 0 ? fd : read_file_fd(fd, KERNEL_FILE_MAX, ret);
}

int kernel_file_number(const struct kernel_files *files, const char *path, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len = kernel_file_read(files, path, &text);
	const char *end;
	uint64_t number = UINT64_MAX;

	if (len < 0)
		return (int)len;
	end = strncmp(text, "max", 3) == 0 ? text + 3 : kernel_number(text, &number);
	if (!end || (*end != '\n' && *end != '\0'))
		return -EBADMSG;
	*ret = number;
	return 0;
}

const char *kernel_number(const char *text, uint64_t *ret)
{
	uint64_t number = 0;
	const char *at = text;

	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
			return NULL;
	if (at == text)
		return NULL;
	*ret = number;
	return at;
}

bool kernel_field(const char *text, const char *key, uint64_t *ret)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, len) == 0 && (line[len] == ' ' || line[len] == '\t'))
			return kernel_number(line + len + strspn(line + len, " \t"), ret) != NULL;
	}
	return false;
}
