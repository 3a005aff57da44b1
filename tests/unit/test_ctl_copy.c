/* SPDX-License-Identifier: Apache-2.0 */
/* What copies of execsandboxctl are made of: names, places below a directory, pieces, progress. */
#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"

#include "ctl/beneath.h"
#include "ctl/copy_path.h"
#include "ctl/copy_plan.h"
#include "ctl/feed.h"
#include "ctl/progress.h"

#include <errno.h>
#include <limits.h>

static char dir[TEST_DIR_SIZE];

static void setup(void)
{
	test_dir_make(dir);
}

static void teardown(void)
{
	test_dir_remove(dir);
}

/* --- Names. --- */

static const struct {
	const char *word, *session, *path;
} words[] = {
	{"ses_1:a/b", "ses_1", "a/b"},
	{"ses_1:", "ses_1", ""},
	{"n:a:b", "n", "a:b"},
	{"n:/home/user", "n", "/home/user"},
	{"a/b", NULL, "a/b"},
	{"./a:b", NULL, "./a:b"},
	{"/a:b", NULL, "/a:b"},
	{":a", NULL, ":a"},
	{"-", NULL, "-"},
	{"", NULL, ""},
};

START_TEST(test_words)
{
	_cleanup_(place_name_fini) struct place_name name = {0};

	ck_assert_int_eq(place_name_parse(words[_i].word, &name), 0);
	ck_assert_pstr_eq(name.session, words[_i].session);
	ck_assert_str_eq(name.path, words[_i].path);
}
END_TEST

static const struct {
	const char *path, *base;
} bases[] = {
	{"a", "a"},     {"a/b", "b"}, {"a/b//", "b"}, {"/a", "a"}, {"...", "..."},
	{"a/.b", ".b"}, {"", ""},     {"/", ""},      {".", ""},   {"a/.", ""},
	{"a/./", ""},   {"..", ""},   {"a/..", ""},
};

START_TEST(test_base)
{
	_cleanup_free_ char *base = path_base(bases[_i].path);

	ck_assert_str_eq(base, bases[_i].base);
}
END_TEST

START_TEST(test_join)
{
	static const char *const joins[][3] = {{"a", "b/c", "a/b/c"},
					       {"a/", "b", "a/b"},
					       {"", "b", "b"},
					       {"a", "", "a"},
					       {"/", "b", "/b"}};

	for (size_t i = 0; i < ELEMENTSOF(joins); i++) {
		_cleanup_free_ char *joined = path_join(joins[i][0], joins[i][1]);

		ck_assert_str_eq(joined, joins[i][2]);
	}
}
END_TEST

/* What a guest may and may not call a file of ours. */
START_TEST(test_refusal)
{
	static const char *const fine[] = {"a",   "a/b/c", "...", "a/..b/.c", " ",
					   "-rf", "a\nb",  "\\",  "~",        "C:"};
	static const char *const refused[] = {"",
					      "/a",
					      "/",
					      "..",
					      "../a",
					      "a/..",
					      "a/../b",
					      ".",
					      "./a",
					      "a/./b",
					      "a//b",
					      "a/",
					      "a/../../etc/passwd"};
	char name[NAME_MAX + 4] = "";

	for (size_t i = 0; i < ELEMENTSOF(fine); i++)
		ck_assert_ptr_null(path_refusal(fine[i], strlen(fine[i])));
	for (size_t i = 0; i < ELEMENTSOF(refused); i++)
		ck_assert_ptr_nonnull(path_refusal(refused[i], strlen(refused[i])));
	ck_assert_ptr_nonnull(path_refusal("a\0b", 3));
	memset(name, 'x', NAME_MAX);
	ck_assert_ptr_null(path_refusal(name, strlen(name)));
	memset(name, 'x', NAME_MAX + 1);
	ck_assert_ptr_nonnull(path_refusal(name, strlen(name)));
}
END_TEST

/* --- Below a directory. --- */

START_TEST(test_beneath)
{
	_cleanup_close_ int root_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
	const char *name;

	ck_assert_int_eq(beneath_mkdir(root_fd, "a", 0755), 0);
	ck_assert_int_eq(beneath_mkdir(root_fd, "a", 0700), 0);
	fd = beneath_parent(root_fd, "a/b", &name);
	ck_assert_int_ge(fd, 0);
	ck_assert_str_eq(name, "b");
	ck_assert_int_eq(beneath_mkdir(fd, "b", 0755), 0);
	test_dir_write(dir, "a/b/file", "text", 4);
	close_fd(fd);
	fd = beneath_open(root_fd, "a/b/file");
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(beneath_mkdir(fd, "x", 0755), -ENOTDIR);
	ck_assert_int_eq(beneath_open(root_fd, "a/no/file"), -ENOENT);
}
END_TEST

/* A link is no way out, wherever it stands. */
START_TEST(test_beneath_links)
{
	_cleanup_close_ int root_fd = -1;
	const char *name;

	ck_assert_int_eq(mkdir(test_dir_path(dir, "root"), 0755), 0);
	test_dir_write(dir, "secret", "text", 4);
	ck_assert_int_eq(symlink("..", test_dir_path(dir, "root/up")), 0);
	ck_assert_int_eq(symlink("../secret", test_dir_path(dir, "root/link")), 0);
	root_fd = open(test_dir_path(dir, "root"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(root_fd, 0);
	ck_assert_int_eq(beneath_open(root_fd, "up/secret"), -ENOTDIR);
	ck_assert_int_eq(beneath_parent(root_fd, "up/new", &name), -ENOTDIR);
	ck_assert_int_eq(beneath_open(root_fd, "link"), -ELOOP);
	ck_assert_int_eq(beneath_mkdir(root_fd, "up", 0755), -ENOTDIR);
}
END_TEST

START_TEST(test_plan)
{
	_cleanup_close_ int root_fd = -1;
	struct plan plan = {0};

	ck_assert_int_eq(mkdir(test_dir_path(dir, "b"), 0750), 0);
	test_dir_write(dir, "b/c", "text", 4);
	test_dir_write(dir, "a", "", 0);
	ck_assert_int_eq(symlink("a", test_dir_path(dir, "link")), 0);
	ck_assert_int_eq(mkfifo(test_dir_path(dir, "b/fifo"), 0600), 0);
	root_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(plan_local(dir, root_fd, &plan), EXIT_OK);
	ck_assert_uint_eq(plan.len, 4);
	ck_assert_str_eq(plan.entries[0].path, "");
	ck_assert_str_eq(plan.entries[1].path, "a");
	ck_assert_str_eq(plan.entries[2].path, "b");
	ck_assert_str_eq(plan.entries[3].path, "b/c");
	ck_assert(plan.entries[2].is_directory);
	ck_assert_uint_eq(plan.entries[2].mode, 0750);
	ck_assert_uint_eq(plan.files, 2);
	ck_assert_uint_eq(plan.bytes, 4);
	ck_assert_uint_eq(plan.left_out, 2);
	ck_assert_str_eq(plan.left_out_example, "b/fifo");
	plan_fini(&plan);
}
END_TEST

/* --- Pieces. --- */

static void on_ready(void *user)
{
	++*(int *)user;
}

/* A pipe's pieces are whole, whatever it brings at a time; it is waited for in the loop. */
START_TEST(test_feed_pipe)
{
	struct loop *loop;
	struct feed feed = {.fd = -1};
	int ready = 0, fds[2];

	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	ck_assert_int_eq(feed_open(&feed, loop, fds[0], 4, on_ready, &ready), 0);
	ck_assert_int_eq(feed_fill(&feed), 0);
	ck_assert_int_eq(write_all(fds[1], "abc", 3), 0);
	loop_run_once(loop, true);
	ck_assert_int_eq(ready, 1);
	ck_assert_int_eq(feed_fill(&feed), 0);
	ck_assert_int_eq(write_all(fds[1], "de", 2), 0);
	loop_run_once(loop, true);
	ck_assert_int_eq(feed_fill(&feed), 1);
	ck_assert_mem_eq(feed.data, "abcd", 4);
	ck_assert(!feed.is_end);
	feed_taken(&feed);
	close_fd(fds[1]);
	ck_assert_int_eq(feed_fill(&feed), 1);
	ck_assert_uint_eq(feed.len, 1);
	ck_assert(feed.is_end);
	feed_close(&feed);
	feed_close(&feed);
	loop_destroy(loop);
}
END_TEST

START_TEST(test_feed_file)
{
	struct loop *loop;
	struct feed feed = {.fd = -1};

	ck_assert_int_eq(loop_create(&loop), 0);
	test_dir_write(dir, "f", "abcd", 4);
	ck_assert_int_eq(feed_open(&feed, loop, open(test_dir_path(dir, "f"), O_RDONLY | O_CLOEXEC),
				   4, on_ready, NULL),
			 0);
	ck_assert_int_eq(feed_fill(&feed), 1);
	ck_assert(!feed.is_end);
	feed_taken(&feed);
	ck_assert_int_eq(feed_fill(&feed), 1);
	ck_assert_uint_eq(feed.len, 0);
	ck_assert(feed.is_end);
	feed_close(&feed);
	ck_assert_int_eq(feed_open(&feed, loop, open(dir, O_RDONLY | O_CLOEXEC), 4, on_ready, NULL),
			 -EISDIR);
	loop_destroy(loop);
}
END_TEST

/* --- Progress. --- */

START_TEST(test_progress)
{
	struct progress progress = {.bytes = 3 << 20,
				    .bytes_total = 12 << 20,
				    .files = 1,
				    .files_total = 3,
				    .seconds = 2};
	char buf[PROGRESS_SIZE];

	ck_assert_str_eq(progress_format(&progress, 66, buf),
			 " 25%  3 MiB of 12 MiB  1.5 MiB/s  1 of 3 files  [====>           ]");
	/* What does not fit is left out, the bar first. */
	ck_assert_str_eq(progress_format(&progress, 58, buf),
			 " 25%  3 MiB of 12 MiB  1.5 MiB/s  1 of 3 files");
	ck_assert_str_eq(progress_format(&progress, 25, buf), " 25%  3 MiB of 12 MiB");
	ck_assert_str_eq(progress_format(&progress, 6, buf), " 25%  ");
	ck_assert_str_eq(progress_format(&progress, 0, buf), "");
	for (size_t columns = 0; columns < 2 * PROGRESS_SIZE; columns++)
		ck_assert_uint_le(strlen(progress_format(&progress, columns, buf)), columns);
	progress.bytes = 13 << 20; /* it has grown */
	ck_assert_str_eq(progress_format(&progress, 60, buf),
			 "100%  13 MiB of 12 MiB  6.5 MiB/s  1 of 3 files");
	/* A pipe has no end to compare with. */
	progress = (struct progress){.bytes = 1536, .files_total = 1, .seconds = 1};
	ck_assert_str_eq(progress_format(&progress, 80, buf), "1.5 KiB  1.5 KiB/s");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ctl copy");
	TCase *pure = tcase_create("pure"), *files = tcase_create("files");

	tcase_add_loop_test(pure, test_words, 0, ELEMENTSOF(words));
	tcase_add_loop_test(pure, test_base, 0, ELEMENTSOF(bases));
	tcase_add_test(pure, test_join);
	tcase_add_test(pure, test_refusal);
	tcase_add_test(pure, test_progress);
	suite_add_tcase(suite, pure);
	tcase_add_checked_fixture(files, setup, teardown);
	tcase_add_test(files, test_beneath);
	tcase_add_test(files, test_beneath_links);
	tcase_add_test(files, test_plan);
	tcase_add_test(files, test_feed_pipe);
	tcase_add_test(files, test_feed_file);
	suite_add_tcase(suite, files);
	return suite;
}
