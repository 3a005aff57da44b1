/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of a test's own, removed with all that is in it. */
#ifndef TESTS_UNIT_TEST_DIR_H
#define TESTS_UNIT_TEST_DIR_H

#include "base/util.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define TEST_DIR_SIZE 64

static inline void test_dir_make(char dir[TEST_DIR_SIZE])
{
	strcpy(dir, "/tmp/execsandbox-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static inline int test_dir_remove_one(const char *path, const struct stat *st UNUSED,
				      int type UNUSED, struct FTW *ftw UNUSED)
{
	return remove(path);
}

static inline void test_dir_remove(const char *dir)
{
	nftw(dir, test_dir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* `dir`/`name` in a static buffer, of which there are four. */
static inline const char *test_dir_path(const char *dir, const char *name)
{
	static char paths[4][256];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static inline void test_dir_write(const char *dir, const char *name, const void *data, size_t len)
{
	_cleanup_close_ int fd =
		open(test_dir_path(dir, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write_all(fd, data, len), 0);
}

static inline bool test_dir_has(const char *dir, const char *name)
{
	struct stat st;

	return lstat(test_dir_path(dir, name), &st) == 0;
}

/* How many descriptors this process has open. */
static inline int test_open_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

#endif
