/* SPDX-License-Identifier: Apache-2.0 */
/* Small files: whole or not there, whatever else lies in the directory. */
#include "base/kept.h"

#include "base/kept_dir.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_small_disk.h"

#include <errno.h>

static char dir[TEST_DIR_SIZE];
static int dir_fd;

static void setup(void)
{
	test_dir_make(dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
}

static void teardown(void)
{
	close(dir_fd);
	test_dir_remove(dir);
}

static void assert_content(int in_fd, const char *name, const char *text)
{
	_cleanup_free_ char *read = NULL;

	ck_assert_int_eq(kept_read(in_fd, name, 1 << 20, &read), strlen(text));
	ck_assert_str_eq(read, text);
}

static void put(const char *name, const char *text)
{
	ck_assert_int_eq(kept_write(dir_fd, name, text, strlen(text)), 0);
}

START_TEST(test_a_file)
{
	_cleanup_free_ char *read = NULL;
	struct stat st;

	put("a.json", "first");
	put("a.json", "the second");
	assert_content(dir_fd, "a.json", "the second");
	ck_assert_int_eq(fstatat(dir_fd, "a.json", &st, 0), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_eq(kept_read(dir_fd, "a.json", 10, &read), 10);
	free(TAKE_PTR(read));
	ck_assert_int_eq(kept_read(dir_fd, "a.json", 9, &read), -EFBIG);
	ck_assert_int_eq(kept_remove(dir_fd, "a.json"), 0);
	ck_assert_int_eq(kept_remove(dir_fd, "a.json"), 0);
	ck_assert_int_eq(kept_read(dir_fd, "a.json", 9, &read), -ENOENT);
	put("empty", "");
	assert_content(dir_fd, "empty", "");
}
END_TEST

START_TEST(test_names)
{
	static const char *const bad[] = {"",  ".",   "..",       ".a", "a/b",
					  "A", "a b", "\xc3\xa4", "a\n"};
	char long_name[KEPT_NAME_SIZE + 1];

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		ck_assert(!kept_name_is_valid(bad[i]));
		ck_assert_int_eq(kept_write(dir_fd, bad[i], "", 0), -EINVAL);
	}
	memset(long_name, 'a', sizeof(long_name));
	long_name[KEPT_NAME_SIZE] = '\0';
	ck_assert(!kept_name_is_valid(long_name));
	long_name[KEPT_NAME_SIZE - 1] = '\0';
	put(long_name, "long");
	assert_content(dir_fd, long_name, "long");
}
END_TEST

struct told {
	int count;
	char names[8][KEPT_NAME_SIZE];
};

static void on_name(void *user, const char *name)
{
	struct told *told = user;

	ck_assert_int_lt(told->count, 8);
	snprintf(told->names[told->count++], KEPT_NAME_SIZE, "%s", name);
	/* What is written meanwhile is not told again. */
	put(name, "walked");
}

START_TEST(test_walk)
{
	struct told told = {0};
	bool has_one = false, has_link = false;

	put("one", "1");
	/* A killed writer's, a stranger's, and what looks like one of ours but is none. */
	test_dir_write(dir, ".new-one", "ha", 2);
	test_dir_write(dir, ".new-gone", "ha", 2);
	test_dir_write(dir, "README", "x", 1);
	test_dir_write(dir, ".hidden", "x", 1);
	ck_assert_int_eq(symlinkat("README", dir_fd, "link"), 0);
	ck_assert_int_eq(kept_walk(dir_fd, on_name, &told), 0);
	ck_assert_int_eq(told.count, 2);
	for (int i = 0; i < told.count; i++) {
		has_one |= strcmp(told.names[i], "one") == 0;
		has_link |= strcmp(told.names[i], "link") == 0;
	}
	ck_assert(has_one && has_link);
	ck_assert(!test_dir_has(dir, ".new-one") && !test_dir_has(dir, ".new-gone"));
	ck_assert(test_dir_has(dir, "README") && test_dir_has(dir, ".hidden"));
	/* The link itself was replaced, not what it points to. */
	assert_content(dir_fd, "link", "walked");
	assert_content(dir_fd, "one", "walked");
}
END_TEST

START_TEST(test_what_is_no_file_is_not_read)
{
	_cleanup_free_ char *read = NULL;

	put("file", "x");
	ck_assert_int_eq(symlinkat("file", dir_fd, "link"), 0);
	ck_assert_int_eq(mkfifoat(dir_fd, "fifo", 0600), 0);
	ck_assert_int_eq(mkdirat(dir_fd, "directory", 0700), 0);
	ck_assert_int_eq(kept_read(dir_fd, "link", 10, &read), -ELOOP);
	ck_assert_int_eq(kept_read(dir_fd, "fifo", 10, &read), -EINVAL);
	ck_assert_int_eq(kept_read(dir_fd, "directory", 10, &read), -EINVAL);
	/* A link where the temporary file goes is not written through. */
	ck_assert_int_eq(symlinkat("file", dir_fd, ".new-other"), 0);
	put("other", "y");
	assert_content(dir_fd, "file", "x");
	assert_content(dir_fd, "other", "y");
	ck_assert_int_eq(kept_remove(dir_fd, "link"), 0);
	assert_content(dir_fd, "file", "x");
}
END_TEST

/* The old content stays, and nothing is left of the new one. */
START_TEST(test_a_full_disk)
{
	_cleanup_close_ int small_fd = test_small_disk(dir, "size=64k,mode=700");
	_cleanup_free_ char *large = calloc(1, 1 << 20);

	ck_assert_int_eq(kept_write(small_fd, "a", "old", 3), 0);
	ck_assert_int_eq(kept_write(small_fd, "a", large, 1 << 20), -ENOSPC);
	assert_content(small_fd, "a", "old");
	ck_assert_int_eq(faccessat(small_fd, ".new-a", F_OK, 0), -1);
	ck_assert_int_eq(kept_write(small_fd, "a", large, 32 << 10), 0);
}
END_TEST

/* Writes one of two contents for ever. */
static void write_for_ever(unsigned seed UNUSED)
{
	static char text[100000];

	memset(text, 'a', sizeof(text));
	EXPECT(kept_write(dir_fd, "flips", text, sizeof(text)) == 0);
	die_within(3000);
	for (char c = 'a';; c = c == 'a' ? 'b' : 'a') {
		memset(text, c, sizeof(text));
		EXPECT(kept_write(dir_fd, "flips", text, sizeof(text)) == 0);
	}
}

static void on_any(void *user UNUSED, const char *name)
{
	ck_assert_str_eq(name, "flips");
}

START_TEST(test_a_killed_writer)
{
	for (unsigned i = 0; i < 20; i++) {
		_cleanup_free_ char *read = NULL;

		in_dying_child(write_for_ever, i);
		ck_assert_int_eq(kept_walk(dir_fd, on_any, NULL), 0);
		ck_assert_int_eq(kept_read(dir_fd, "flips", 100000, &read), 100000);
		for (size_t at = 0; at < 100000; at++)
			ck_assert_int_eq(read[at], read[0]);
	}
}
END_TEST

START_TEST(test_one_descriptor_of_a_directory)
{
	int before = test_open_fds(), own_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct kept_dir *one, *same, *root;

	ck_assert_int_eq(kept_dir_get(own_fd, &one), 0);
	close(own_fd);
	ck_assert_int_eq(kept_dir_get(dir_fd, &same), 0);
	ck_assert_ptr_eq(one, same);
	ck_assert_int_eq(kept_dir_get(root_fd, &root), 0);
	ck_assert_ptr_ne(one, root);
	ck_assert_int_eq(test_open_fds(), before + 3);
	close(root_fd);
	kept_dir_put(root);
	kept_dir_put(one);
	put("a", "x");
	ck_assert_int_eq(kept_remove(kept_dir_fd(same), "a"), 0);
	kept_dir_put(same);
	kept_dir_put(NULL);
	ck_assert_int_eq(test_open_fds(), before);
	ck_assert_int_eq(kept_dir_get(-1, &one), -EBADF);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("kept");
	TCase *tests = tcase_create("kept");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_a_file);
	tcase_add_test(tests, test_names);
	tcase_add_test(tests, test_walk);
	tcase_add_test(tests, test_what_is_no_file_is_not_read);
	tcase_add_test(tests, test_a_full_disk);
	tcase_add_test(tests, test_a_killed_writer);
	tcase_add_test(tests, test_one_descriptor_of_a_directory);
	suite_add_tcase(suite, tests);
	return suite;
}
