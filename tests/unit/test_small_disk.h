/* SPDX-License-Identifier: Apache-2.0 */
/* A file system of a few pages, to be full. */
#ifndef TESTS_UNIT_TEST_SMALL_DISK_H
#define TESTS_UNIT_TEST_SMALL_DISK_H

#include "tests/unit/test_dir.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>

/* A tmpfs over `dir`, which goes with its descriptor. Who may not mount does it as root of a user
 * namespace, for the rest of the test's process. */
static inline int test_small_disk(const char *dir, const char *options)
{
	int fd;

	if (mount("none", dir, "tmpfs", 0, options) < 0) {
		ck_assert_int_eq(errno, EPERM);
		ck_assert_int_eq(unshare(CLONE_NEWUSER | CLONE_NEWNS), 0);
		ck_assert_int_eq(mount("none", dir, "tmpfs", 0, options), 0);
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(umount2(dir, MNT_DETACH), 0);
	return fd;
}

/* Fills it up to the last page. */
static inline void test_fill_disk(int dir_fd)
{
	_cleanup_close_ int fd = openat(dir_fd, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	static const char page[4096];

	ck_assert_int_ge(fd, 0);
	while (write_all(fd, page, sizeof(page)) == 0)
		;
}

static inline void test_empty_disk(int dir_fd)
{
	ck_assert_int_eq(unlinkat(dir_fd, "filler", 0), 0);
}

#endif
