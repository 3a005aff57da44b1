/* SPDX-License-Identifier: Apache-2.0 */
/* Stand-ins for libraries of QEMU: whose they are, and what a list may say. */
#include "daemon/vm/stubs.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[TEST_DIR_SIZE];
static int dir_fd;

static void set_up(void)
{
	test_dir_make(dir);
	dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
	test_dir_write(dir, "qemu", "a program", 9);
	test_dir_write(dir, "qemu-stubs.so", "a library", 9);
}

static void tear_down(void)
{
	close(dir_fd);
	test_dir_remove(dir);
}

/* A list for `dir`/qemu; `names` is what stands behind its first line. */
static void write_list(const char *names, size_t len)
{
	_cleanup_free_ char *text = malloc(64 + len);
	struct stat st;
	int head;

	ck_assert_int_eq(stat(test_dir_path(dir, "qemu"), &st), 0);
	head = sprintf(text, "%jd %jd\n", (intmax_t)st.st_size,
		       (intmax_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	memcpy(text + head, names, len);
	test_dir_write(dir, "qemu-stubs.list", text, (size_t)head + len);
}

static int open_all(struct stubs *ret)
{
	return stubs_open(dir_fd, test_dir_path(dir, "qemu"), ret);
}

static void expect_none(int error)
{
	struct stubs stubs;

	ck_assert_int_eq(open_all(&stubs), error);
	ck_assert_int_eq(stubs.fd, -1);
	ck_assert_ptr_null(stubs.names[0]);
	stubs_close(&stubs);
}

START_TEST(test_good)
{
	static const char names[] = "libone.so.1\nlibtwo-2.0.so.0\n";
	struct stubs stubs;
	char text[9];

	write_list(names, strlen(names));
	ck_assert_int_eq(open_all(&stubs), 0);
	ck_assert_int_eq(read(stubs.fd, text, sizeof(text)), sizeof(text));
	ck_assert_int_eq(memcmp(text, "a library", sizeof(text)), 0);
	ck_assert_int_lt(write(stubs.fd, text, 1), 0);
	ck_assert_str_eq(stubs.names[0], "libone.so.1");
	ck_assert_str_eq(stubs.names[1], "libtwo-2.0.so.0");
	ck_assert_ptr_null(stubs.names[2]);
	stubs_close(&stubs);
	ck_assert_int_eq(stubs.fd, -1);
	stubs_close(&stubs);
}
END_TEST

START_TEST(test_of_another_qemu)
{
	static const char names[] = "libone.so.1\n";

	write_list(names, strlen(names));
	test_dir_write(dir, "qemu", "a new program", 13);
	expect_none(-ESTALE);
	write_list(names, strlen(names));
	ck_assert_int_eq(unlink(test_dir_path(dir, "qemu")), 0);
	expect_none(-ESTALE);
}
END_TEST

START_TEST(test_missing)
{
	expect_none(-ENOENT);
	write_list("libone.so.1\n", 12);
	ck_assert_int_eq(unlink(test_dir_path(dir, "qemu-stubs.so")), 0);
	expect_none(-ENOENT);
}
END_TEST

START_TEST(test_bad_lists)
{
	static const struct {
		const char *text;
		size_t len;
	} lists[] = {
#define LIST(text) {text, sizeof(text) - 1}
		LIST(""),    LIST("\n"),       LIST("a\n\nb\n"), LIST("a\nb/c\n"),  LIST("../a\n"),
		LIST(".\n"), LIST("--bind\n"), LIST("a\0b\n"),   LIST("a\nb\0c\n"),
	};
	char many[2 * (STUBS_MAX + 1)], longest[80];

	for (size_t i = 0; i < ELEMENTSOF(lists); i++) {
		write_list(lists[i].text, lists[i].len);
		expect_none(-EINVAL);
	}
	memset(longest, 'a', sizeof(longest));
	write_list(longest, sizeof(longest));
	expect_none(-EINVAL);
	for (size_t i = 0; i <= STUBS_MAX; i++)
		memcpy(many + 2 * i, "a\n", 2);
	write_list(many, sizeof(many));
	expect_none(-EINVAL);
	test_dir_write(dir, "qemu-stubs.list", "1 2", 3);
	expect_none(-EINVAL);
	test_dir_write(dir, "qemu-stubs.list", "one two\na\n", 10);
	expect_none(-EINVAL);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("stubs");
	TCase *all = tcase_create("all");

	tcase_add_checked_fixture(all, set_up, tear_down);
	tcase_add_test(all, test_good);
	tcase_add_test(all, test_of_another_qemu);
	tcase_add_test(all, test_missing);
	tcase_add_test(all, test_bad_lists);
	suite_add_tcase(suite, all);
	return suite;
}
