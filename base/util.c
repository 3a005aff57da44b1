/* SPDX-License-Identifier: Apache-2.0 */
/* Small helpers that every part shares: ownership attributes, arrays, time, files. */
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

int close_fd(int fd)
{
	int saved_errno = errno;

	if (fd >= 0)
		close(fd);
	errno = saved_errno;
	return -1;
}

uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void format_rfc3339(uint64_t ns, char buf[RFC3339_SIZE])
{
	time_t seconds = (time_t)(ns / 1000000000u);
	struct tm tm;
	size_t len;

	gmtime_r(&seconds, &tm);
	len = strftime(buf, RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + len, RFC3339_SIZE - len, ".%03uZ", (unsigned)(ns / 1000000u % 1000u));
}

ssize_t read_file_fd(int fd, size_t max, char **ret)
{
	_cleanup_free_ char *buf = malloc(max + 1);
	size_t len = 0;

	if (!buf)
		return -ENOMEM;
	for (;;) {
		char probe;
		ssize_t n = len < max ? read(fd, buf + len, max - len) : read(fd, &probe, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		if (len == max)
			return -EFBIG;
		len += (size_t)n;
	}
	buf[len] = '\0';
	*ret = TAKE_PTR(buf);
	return (ssize_t)len;
}

ssize_t read_file_at(int dir_fd, const char *path, size_t max, char **ret)
{
	_cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? -errno : read_file_fd(fd, max, ret);
}

int write_file_at(int dir_fd, const char *path, const char *text)
{
	_cleanup_close_ int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	size_t len = strlen(text);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do {
		n = write(fd, text, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

int write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

void random_bytes(void *buf, size_t len)
{
	char *p = buf;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			abort(); /* no secrets can be drawn: nothing that follows would be safe */
		p += n;
		len -= (size_t)n;
	}
}

void hex_encode(const void *data, size_t len, char *hex)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++) {
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
	}
	hex[2 * len] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

void draw_id(char *id, size_t size, const char *node, const char *kind)
{
	uint8_t random[8];
	char hex[2 * sizeof(random) + 1];

	random_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), hex);
	snprintf(id, size, "%.32s%s%s_%s", node, *node ? "-" : "", kind, hex);
}

int hex_decode(const char *hex, void *ret, size_t len)
{
	uint8_t *bytes = ret;

	if (strlen(hex) != 2 * len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

/* The address of `name` in a directory we hold open: short, however long the directory's path is.
 */
static int address_at(int dir_fd, const char *name, struct sockaddr_un *ret)
{
	int len;

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (dir_fd == AT_FDCWD)
		len = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s", name);
	else
		len = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dir_fd,
			       name);
	return len < 0 || (size_t)len >= sizeof(ret->sun_path) ? -ENAMETOOLONG : 0;
}

static int listen_at(int dir_fd, const char *name, int type, int backlog)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un address;
	int r = address_at(dir_fd, name, &address);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (listen(fd, backlog) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int connect_at(int dir_fd, const char *name, int type)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un address;
	int r = address_at(dir_fd, name, &address);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int unix_listen_at(int dir_fd, const char *name, int backlog)
{
	return listen_at(dir_fd, name, SOCK_STREAM, backlog);
}

int unix_connect_at(int dir_fd, const char *name)
{
	return connect_at(dir_fd, name, SOCK_STREAM);
}

int unix_listen_packets_at(int dir_fd, const char *name, int backlog)
{
	return listen_at(dir_fd, name, SOCK_SEQPACKET, backlog);
}

int unix_connect_packets_at(int dir_fd, const char *name)
{
	return connect_at(dir_fd, name, SOCK_SEQPACKET);
}
