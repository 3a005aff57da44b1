/* SPDX-License-Identifier: Apache-2.0 */
/* Guest images: opened when they are what their names say, else the file at fault is named. */
#include "daemon/vm/images.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"
#include "tests/unit/test_json.h"

#include <errno.h>

static char dir[TEST_DIR_SIZE];
static struct images images;
static const char *what;
static int fds_before;

static void write_rootfs(size_t len)
{
	uint8_t image[2048] = {0};

	memcpy(image + 1024, "\xe2\xe1\xf5\xe0", 4);
	test_dir_write(dir, "rootfs.erofs", image, len);
}

static void setup(void)
{
	static const char manifest[] = "{\"kernel\": \"6.1\"}";

	test_dir_make(dir);
	test_dir_write(dir, "vmlinux", "\177ELF and more", 13);
	write_rootfs(2048);
	test_dir_write(dir, "manifest.json", manifest, strlen(manifest));
	images = (struct images)IMAGES_NONE;
	fds_before = test_open_fds();
}

static void teardown(void)
{
	images_close(&images);
	ck_assert_int_eq(test_open_fds(), fds_before);
	test_dir_remove(dir);
}

static void assert_fault(int error, const char *name)
{
	what = NULL;
	ck_assert_int_eq(images_open(-1, dir, &images, &what), error);
	ck_assert_pstr_eq(what, name);
	ck_assert_int_eq(images.kernel_fd, -1);
	ck_assert_int_eq(test_open_fds(), fds_before);
}

START_TEST(test_good)
{
	ck_assert_int_eq(images_open(-1, dir, &images, &what), 0);
	ck_assert_int_ge(images.kernel_fd, 0);
	ck_assert_int_ge(images.rootfs_fd, 0);
	ck_assert_int_eq(fcntl(images.kernel_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	ck_assert_int_eq(fcntl(images.rootfs_fd, F_GETFD), FD_CLOEXEC);
	ck_assert_json_str(images.manifest, "kernel", "6.1");
	images_close(&images);
	ck_assert_int_eq(images.kernel_fd, -1);
	ck_assert_ptr_null(images.manifest);
}
END_TEST

static const char *const names[] = {"vmlinux", "rootfs.erofs", "manifest.json"};

START_TEST(test_missing)
{
	ck_assert_int_eq(unlink(test_dir_path(dir, names[_i])), 0);
	assert_fault(-ENOENT, names[_i]);
}
END_TEST

START_TEST(test_empty)
{
	test_dir_write(dir, names[_i], "", 0);
	assert_fault(-EINVAL, names[_i]);
}
END_TEST

START_TEST(test_text)
{
	static const char text[] = "this is a text and no image at all\n";

	test_dir_write(dir, names[_i], text, strlen(text));
	assert_fault(-EINVAL, names[_i]);
}
END_TEST

START_TEST(test_directory)
{
	unlink(test_dir_path(dir, names[_i]));
	ck_assert_int_eq(mkdir(test_dir_path(dir, names[_i]), 0700), 0);
	assert_fault(-EINVAL, names[_i]);
}
END_TEST

/* Opening a pipe waits for its writer, unless one is careful. */
START_TEST(test_pipe)
{
	unlink(test_dir_path(dir, names[_i]));
	ck_assert_int_eq(mkfifo(test_dir_path(dir, names[_i]), 0600), 0);
	assert_fault(-EINVAL, names[_i]);
}
END_TEST

START_TEST(test_cut_off)
{
	test_dir_write(dir, "vmlinux", "\177EL", 3);
	assert_fault(-EINVAL, "vmlinux");
	test_dir_write(dir, "vmlinux", "\177ELF", 4);
	write_rootfs(1027);
	assert_fault(-EINVAL, "rootfs.erofs");
}
END_TEST

START_TEST(test_manifest)
{
	static char large[70000];

	test_dir_write(dir, "manifest.json", "{\"a\": 1, \"a\": 2}", 16);
	assert_fault(-EINVAL, "manifest.json");
	memset(large, ' ', sizeof(large));
	test_dir_write(dir, "manifest.json", large, sizeof(large));
	assert_fault(-EFBIG, "manifest.json");
}
END_TEST

START_TEST(test_no_directory)
{
	const char *path = test_dir_path(dir, "nowhere");

	ck_assert_int_eq(images_open(-1, path, &images, &what), -ENOENT);
	ck_assert_str_eq(what, path);
	path = test_dir_path(dir, "vmlinux");
	ck_assert_int_eq(images_open(-1, path, &images, &what), -ENOTDIR);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("images");
	TCase *tests = tcase_create("images");
	const int count = (int)ELEMENTSOF(names);

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_good);
	tcase_add_loop_test(tests, test_missing, 0, count);
	tcase_add_loop_test(tests, test_empty, 0, count);
	tcase_add_loop_test(tests, test_text, 0, count);
	tcase_add_loop_test(tests, test_directory, 0, count);
	tcase_add_loop_test(tests, test_pipe, 0, count);
	tcase_add_test(tests, test_cut_off);
	tcase_add_test(tests, test_manifest);
	tcase_add_test(tests, test_no_directory);
	suite_add_tcase(suite, tests);
	return suite;
}
