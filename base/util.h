/* SPDX-License-Identifier: Apache-2.0 */
/* Small helpers that every part shares: ownership attributes, arrays, time, files. */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b)         ((a) < (b) ? (a) : (b))
#define MAX(a, b)         ((a) > (b) ? (a) : (b))

#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define WARN_UNUSED            __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED                 __attribute__((unused))

/* Hand a descriptor or a pointer over: the variable is empty afterwards. */
#define TAKE_FD(fd) take_fd(&(fd))
#define TAKE_PTR(ptr)                                \
	({                                           \
		__typeof__(ptr) *take_ptr_ = &(ptr); \
		__typeof__(ptr) taken_ = *take_ptr_; \
		*take_ptr_ = NULL;                   \
		taken_;                              \
	})

static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Closes a descriptor if there is one, keeps errno, returns -1 so that `fd = close_fd(fd)` reads.
 */
int close_fd(int fd);

static inline void close_fdp(int *fd)
{
	*fd = close_fd(*fd);
}

static inline void free_charp(char **p)
{
	free(*p);
	*p = NULL;
}

#define _cleanup_(function) __attribute__((cleanup(function)))
#define _cleanup_close_     _cleanup_(close_fdp)
#define _cleanup_free_      _cleanup_(free_charp)

/* CLOCK_MONOTONIC in microseconds: for deadlines and durations. */
uint64_t now_us(void);

/* CLOCK_REALTIME in nanoseconds: for wall clocks only. */
uint64_t realtime_ns(void);

/* Writes `t` (seconds since the epoch) as RFC 3339 UTC with milliseconds, e.g.
 * 2026-01-02T03:04:05.678Z. */
#define RFC3339_SIZE 32
void format_rfc3339(uint64_t ns, char buf[RFC3339_SIZE]);

/*
 * Reads at most `max` bytes of a (possibly virtual) file relative to `dir_fd` into a new
 * NUL-terminated buffer. Returns its length, or -errno; -EFBIG when the file is longer.
 */
ssize_t read_file_at(int dir_fd, const char *path, size_t max, char **ret);

/* The same from a descriptor that blocks, from where it stands to the file's end. */
ssize_t read_file_fd(int fd, size_t max, char **ret);

/* Writes `text` to an existing file in one write(2), as sysfs and cgroupfs want. 0 or -errno. */
int write_file_at(int dir_fd, const char *path, const char *text);

/* Writes all bytes to a blocking descriptor. 0 or -errno. */
int write_all(int fd, const void *data, size_t len);

/* Fills `buf` from getrandom(2); aborts the process if the kernel cannot. */
void random_bytes(void *buf, size_t len);

/* Lower-case hexadecimal of `len` bytes into `hex`, which has room for 2 * len + 1. */
void hex_encode(const void *data, size_t len, char *hex);

/* Draws "<node>-<kind>_<16 digits>" into `id`, without what is in front of the kind where `node` is
 * empty. Of the node at most 32 bytes are taken. */
void draw_id(char *id, size_t size, const char *node, const char *kind);

/* Parses exactly 2 * len hexadecimal digits. 0 or -EINVAL. */
int hex_decode(const char *hex, void *ret, size_t len);

/*
 * Binds a Unix stream socket at `name` inside the directory `dir_fd` and listens on it, whatever
 * the length of the directory's path (sun_path holds 107 bytes; the name is reached through
 * /proc/self/fd). An existing socket of that name is an error (-EADDRINUSE). Returns the
 * descriptor (CLOEXEC, NONBLOCK) or -errno.
 */
int unix_listen_at(int dir_fd, const char *name, int backlog);

/* Connects to such a socket; the same length rule. Descriptor (CLOEXEC, NONBLOCK) or -errno. */
int unix_connect_at(int dir_fd, const char *name);

/* The same for sockets that keep the borders of messages (SOCK_SEQPACKET). */
int unix_listen_packets_at(int dir_fd, const char *name, int backlog);
int unix_connect_packets_at(int dir_fd, const char *name);

#endif
