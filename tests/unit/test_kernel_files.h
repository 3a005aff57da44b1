/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's files, played by a directory: /proc and /sys/fs/cgroup of a host of the test's own.
 */
#ifndef TESTS_UNIT_TEST_KERNEL_FILES_H
#define TESTS_UNIT_TEST_KERNEL_FILES_H

#include "base/kernel_file.h"
#include "tests/unit/test_dir.h"

#include <errno.h>

#define TEST_CGROUP "/sys/fs/cgroup"
#define TEST_PSI    "/proc/pressure/memory"

/* The directory is the host's root. */
static char host_dir[TEST_DIR_SIZE];

static inline int host_dir_open(const char *path, int flags)
{
	char full[4400];
	int fd;

	ck_assert_int_eq(path[0], '/');
	snprintf(full, sizeof(full), "%s%s", host_dir, path);
	fd = open(full, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* A regular file takes any trigger, and epoll_ctl(2) takes no regular file. */
static inline int host_dir_write(int fd UNUSED, const char *data UNUSED, size_t len UNUSED)
{
	return 0;
}

UNUSED static const struct kernel_files host_dir_files = {.open = host_dir_open,
							  .write = host_dir_write};

/* Writes a file and makes the directories that lead to it. */
static inline void host_write(const char *path, const char *text)
{
	char full[4400];

	ck_assert_int_lt(snprintf(full, sizeof(full), "%s%s", host_dir, path), sizeof(full));
	for (char *slash = strchr(full + strlen(host_dir) + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		ck_assert(mkdir(full, 0700) == 0 || errno == EEXIST);
		*slash = '/';
	}
	test_dir_write(host_dir, path + 1, text, strlen(text));
}

static inline void host_remove(const char *path)
{
	ck_assert_int_eq(unlink(test_dir_path(host_dir, path + 1)), 0);
}

static inline void host_write_meminfo(unsigned total_mb, unsigned available_mb)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "MemTotal:       %8u kB\nMemFree:               1 kB\nMemAvailable:   %8u kB\n",
		 total_mb * 1024, available_mb * 1024);
	host_write("/proc/meminfo", text);
}

static inline void host_write_psi(const char *path, uint64_t some_us, uint64_t full_us)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "some avg10=12.50 avg60=0.00 avg300=0.00 total=%ju\n"
		 "full avg10=3.25 avg60=0.00 avg300=0.00 total=%ju\n",
		 (uintmax_t)some_us, (uintmax_t)full_us);
	host_write(path, text);
}

#endif
