/* SPDX-License-Identifier: Apache-2.0 */
/* The file server: what operations do, what they refuse, and what is left when they fail. */
#include "tests/unit/suite.h"
#include "tests/unit/test_agent_host.h"

static struct host host;
static uint32_t number;

static void setup(void)
{
	number = 0;
	host_start(&host, NULL);
	host_hello(&host);
}

static void teardown(void)
{
	host_stop(&host);
}

static void begin(const char *request, const char *input, size_t len)
{
	struct msg_exec exec = host_request(++number, "files");

	exec.is_resident = true;
	host_exec(&host, &exec, request, input, len);
}

/* The results of a list of operations; what was read is host_stdout(&host, number). */
static json_t *operate_on(const char *request, const char *input, size_t len)
{
	json_t *results;

	begin(request, input, len);
	HOST_WAIT(&host, host.has_exit[number]);
	ck_assert_str_eq(host.exits[number].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(host.exits[number].exit_code, 0);
	results = json_loads(host_stderr(&host, number), 0, NULL);
	ck_assert_msg(results != NULL, "no results: %s", host_stderr(&host, number));
	return results;
}

static json_t *operate(const char *request)
{
	return operate_on(request, "", 0);
}

static int error_of(const json_t *results, size_t i)
{
	return (int)json_integer_value(json_object_get(json_array_get(results, i), "error"));
}

/* `expected` lists the errors, 0 for none. */
static void assert_errors(const char *request, const char *input, const int *expected, size_t count)
{
	json_auto_t *results = operate_on(request, input, strlen(input));

	ck_assert_uint_eq(json_array_size(results), count);
	for (size_t i = 0; i < count; i++)
		ck_assert_msg(error_of(results, i) == expected[i], "%zu of %s: %s, not %s", i,
			      request, strerror(error_of(results, i)), strerror(expected[i]));
}

#define ASSERT_ERRORS(request, input, ...)                        \
	assert_errors(request, input, (const int[]){__VA_ARGS__}, \
		      sizeof((const int[]){__VA_ARGS__}) / sizeof(int))

static const char *path_in_home(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", host.home, name);
	return path;
}

static void assert_file(const char *name, const char *content, unsigned mode)
{
	_cleanup_free_ char *text = NULL;
	struct stat stat;

	ck_assert_int_ge(read_file_at(AT_FDCWD, path_in_home(name), 1 << 20, &text), 0);
	ck_assert_str_eq(text, content);
	ck_assert_int_eq(lstat(path_in_home(name), &stat), 0);
	ck_assert_uint_eq(stat.st_mode & 07777, mode);
	if (geteuid() == 0)
		ck_assert_uint_eq(stat.st_uid, HOST_UID);
}

static size_t count_home(void)
{
	DIR *dir = opendir(host.home);
	size_t n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

START_TEST(test_write_and_read)
{
	json_auto_t *results = NULL;

	ASSERT_ERRORS("[{\"op\":\"write\",\"path\":\"a/b/one\",\"size\":3},"
		      "{\"op\":\"write\",\"path\":\"two\",\"size\":4,\"mode\":493}]",
		      "onetwo!", 0, 0);
	assert_file("a/b/one", "one", 0644);
	assert_file("two", "two!", 0755);
	/* What is replaced keeps its mode. */
	ASSERT_ERRORS("[{\"op\":\"write\",\"path\":\"two\",\"size\":1}]", "2", 0);
	assert_file("two", "2", 0755);
	ASSERT_ERRORS("[{\"op\":\"change\",\"path\":\"two\",\"size\":2,\"append\":true},"
		      "{\"op\":\"change\",\"path\":\"two\",\"size\":1,\"offset\":5}]",
		      "345", 0, 0);
	ck_assert_int_eq(truncate(path_in_home("a/b/one"), 3), 0);
	results = operate("[{\"op\":\"read\",\"path\":\"two\",\"offset\":1,\"length\":2},"
			  "{\"op\":\"read\",\"path\":\"a/b/one\",\"length\":100},"
			  "{\"op\":\"read\",\"path\":\"a/b/one\",\"offset\":9,\"length\":1}]");
	ck_assert_str_eq(host_stdout(&host, number), "34one");
	ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(results, 0), "size")),
			 6);
	ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(results, 1), "length")),
			 3);
	ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(results, 2), "length")),
			 0);
}
END_TEST

/* Neither way leads out: upwards, by links, to what is no file. */
START_TEST(test_ways_out)
{
	ck_assert_int_eq(symlink("/etc", path_in_home("etc")), 0);
	ck_assert_int_eq(symlink("../..", path_in_home("up")), 0);
	ck_assert_int_eq(symlink("/proc/self/root", path_in_home("root")), 0);
	ck_assert_int_eq(symlink("/etc/passwd", path_in_home("passwd")), 0);
	ck_assert_int_eq(symlink("loop", path_in_home("loop")), 0);
	ck_assert_int_eq(mkfifo(path_in_home("fifo"), 0666), 0);
	ck_assert_int_eq(chmod(path_in_home("fifo"), 0666), 0);
	ASSERT_ERRORS("[{\"op\":\"read\",\"path\":\"../../etc/passwd\",\"length\":9},"
		      "{\"op\":\"read\",\"path\":\"/etc/passwd\",\"length\":9},"
		      "{\"op\":\"read\",\"path\":\"etc/passwd\",\"length\":9},"
		      "{\"op\":\"read\",\"path\":\"passwd\",\"length\":9},"
		      "{\"op\":\"read\",\"path\":\"up/x\",\"length\":9},"
		      "{\"op\":\"read\",\"path\":\"root/etc/passwd\",\"length\":9},"
		      "{\"op\":\"read\",\"path\":\"loop\",\"length\":9},"
		      "{\"op\":\"read\",\"path\":\"fifo\",\"length\":9},"
		      "{\"op\":\"list\",\"path\":\"..\"},"
		      "{\"op\":\"list\",\"path\":\"etc\"},"
		      "{\"op\":\"stat\",\"path\":\"up/x\"},"
		      "{\"op\":\"stat\",\"path\":\"..\"},"
		      "{\"op\":\"mkdir\",\"path\":\"up/x\",\"recursive\":true},"
		      "{\"op\":\"remove\",\"path\":\"etc/passwd\"},"
		      "{\"op\":\"rename\",\"path\":\"fifo\",\"new_path\":\"up/x\"}]",
		      "", EXDEV, EXDEV, EXDEV, EXDEV, EXDEV, EXDEV, ELOOP, EOPNOTSUPP, EXDEV, EXDEV,
		      EXDEV, EINVAL, EXDEV, EXDEV, EXDEV);
	ASSERT_ERRORS("[{\"op\":\"write\",\"path\":\"../x\",\"size\":1},"
		      "{\"op\":\"write\",\"path\":\"up/x\",\"size\":1},"
		      "{\"op\":\"write\",\"path\":\"passwd\",\"size\":1},"
		      "{\"op\":\"write\",\"path\":\"fifo\",\"size\":1},"
		      "{\"op\":\"write\",\"path\":\"fine\",\"size\":1},"
		      "{\"op\":\"change\",\"path\":\"passwd\",\"size\":1,\"append\":true},"
		      "{\"op\":\"change\",\"path\":\"fifo\",\"size\":1,\"append\":true},"
		      "{\"op\":\"write\",\"path\":\"..\",\"size\":1}]",
		      "abcdefgh", EXDEV, EXDEV, ELOOP, EOPNOTSUPP, 0, ELOOP, EOPNOTSUPP, EINVAL);
	assert_file("fine", "e", 0644);
	/* Links that stay inside are followed for reading. */
	ck_assert_int_eq(symlink("fine", path_in_home("inside")), 0);
	ASSERT_ERRORS("[{\"op\":\"read\",\"path\":\"inside\",\"length\":9}]", "", 0);
	ck_assert_str_eq(host_stdout(&host, number), "e");
	ASSERT_ERRORS("[{\"op\":\"remove\",\"path\":\"etc\",\"recursive\":true}]", "", 0);
	ck_assert_int_eq(access("/etc/passwd", F_OK), 0);
}
END_TEST

START_TEST(test_directories)
{
	json_auto_t *results = NULL;
	_cleanup_free_ char *text = NULL;

	ASSERT_ERRORS("[{\"op\":\"mkdir\",\"path\":\"d\",\"mode\":448},"
		      "{\"op\":\"mkdir\",\"path\":\"d\"},"
		      "{\"op\":\"mkdir\",\"path\":\"d\",\"recursive\":true},"
		      "{\"op\":\"mkdir\",\"path\":\"x/y/z\"},"
		      "{\"op\":\"mkdir\",\"path\":\"x/y/z\",\"recursive\":true},"
		      "{\"op\":\"write\",\"path\":\"d/f\",\"size\":2},"
		      "{\"op\":\"write\",\"path\":\"d\",\"size\":0},"
		      "{\"op\":\"write\",\"path\":\"d/f/g\",\"size\":0},"
		      "{\"op\":\"read\",\"path\":\"d\",\"length\":1},"
		      "{\"op\":\"list\",\"path\":\"d/f\"},"
		      "{\"op\":\"remove\",\"path\":\"d\"},"
		      "{\"op\":\"remove\",\"path\":\"nothing\"},"
		      "{\"op\":\"rename\",\"path\":\"nothing\",\"new_path\":\"n/m\"},"
		      "{\"op\":\"rename\",\"path\":\"d/f\",\"new_path\":\"x/f\"},"
		      "{\"op\":\"rename\",\"path\":\"x/f\",\"new_path\":\"d\"},"
		      "{\"op\":\"remove\",\"path\":\"d\"}]",
		      "ff", 0, EEXIST, 0, ENOENT, 0, 0, EISDIR, ENOTDIR, EISDIR, ENOTDIR, ENOTEMPTY,
		      ENOENT, ENOENT, 0, EEXIST, 0);
	ck_assert_int_eq(access(path_in_home("n"), F_OK), -1);
	ck_assert_int_eq(symlink("f", path_in_home("x/l")), 0);
	results = operate("[{\"op\":\"list\",\"path\":\"\",\"recursive\":true},"
			  "{\"op\":\"stat\",\"path\":\"x/l\"},{\"op\":\"stat\",\"path\":\"\"}]");
	for (size_t i = 0; i < 5; i++) {
		static const char *const names[] = {"x", "x/f", "x/l", "x/y", "x/y/z"};
		static const char *const types[] = {"directory", "file", "symlink", "directory",
						    "directory"};
		const json_t *entry =
			json_array_get(json_object_get(json_array_get(results, 0), "entries"), i);

		ck_assert_str_eq(json_string_value(json_object_get(entry, "name")), names[i]);
		ck_assert_str_eq(json_string_value(json_object_get(entry, "type")), types[i]);
	}
	text = json_dumps(json_object_get(json_array_get(results, 1), "entry"), 0);
	ck_assert_ptr_nonnull(strstr(text, "\"target\": \"f\""));
	ASSERT_ERRORS("[{\"op\":\"rename\",\"path\":\"x/f\",\"new_path\":\"x/l\"},"
		      "{\"op\":\"rename\",\"path\":\"x/f\",\"new_path\":\"x/l\",\"replace\":true},"
		      "{\"op\":\"remove\",\"path\":\"x\",\"recursive\":true},"
		      "{\"op\":\"remove\",\"path\":\"\",\"recursive\":true}]",
		      "", EEXIST, 0, 0, EINVAL);
	ck_assert_uint_eq(count_home(), 0);
}
END_TEST

START_TEST(test_names)
{
	char path[PATH_MAX], long_name[NAME_MAX + 2], request[1024];
	json_auto_t *results = NULL;
	const json_t *entries;

	ASSERT_ERRORS(
		"[{\"op\":\"write\",\"path\":\"\xc3\xa4 \xf0\x9f\x90\x8d\\n\\\"\",\"size\":1},"
		"{\"op\":\"write\",\"path\":\"a/\",\"size\":0},"
		"{\"op\":\"write\",\"path\":\"./b//c\",\"size\":0}]",
		"x", 0, 0, 0);
	snprintf(path, sizeof(path), "%s/\xff\x01", host.home);
	ck_assert_int_ge(creat(path, 0644), 0);
	results = operate("[{\"op\":\"list\",\"path\":\"\"}]");
	entries = json_object_get(json_array_get(results, 0), "entries");
	ck_assert_uint_eq(json_array_size(entries), 4);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(entries, 2), "name")),
			 "\xc3\xa4 \xf0\x9f\x90\x8d\n\"");
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(entries, 3), "name_hex")),
			 "ff01");
	memset(long_name, 'n', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	snprintf(request, sizeof(request), "[{\"op\":\"write\",\"path\":\"%s\",\"size\":1}]",
		 long_name);
	ASSERT_ERRORS(request, "x", ENAMETOOLONG);
}
END_TEST

START_TEST(test_uploads)
{
	ASSERT_ERRORS("[{\"op\":\"upload_open\",\"upload\":\"u1\",\"path\":\"big\"},"
		      "{\"op\":\"upload_write\",\"upload\":\"u1\",\"offset\":3,\"size\":2}]",
		      "lo", 0, 0);
	/* Nothing is there until it is complete. */
	ck_assert_uint_eq(count_home(), 0);
	ASSERT_ERRORS("[{\"op\":\"upload_write\",\"upload\":\"u1\",\"offset\":0,\"size\":3},"
		      "{\"op\":\"upload_write\",\"upload\":\"u2\",\"offset\":0,\"size\":3},"
		      "{\"op\":\"upload_commit\",\"upload\":\"u1\"},"
		      "{\"op\":\"upload_commit\",\"upload\":\"u1\"},"
		      "{\"op\":\"upload_write\",\"upload\":\"\",\"offset\":0,\"size\":0}]",
		      "helxxx", 0, ESTALE, 0, ESTALE, ESTALE);
	assert_file("big", "hello", 0644);
	/* One that lacks a piece is over: it replaces nothing. */
	ASSERT_ERRORS("[{\"op\":\"upload_open\",\"upload\":\"u3\",\"path\":\"big\"},"
		      "{\"op\":\"upload_write\",\"upload\":\"u3\",\"offset\":0,\"size\":9},"
		      "{\"op\":\"upload_commit\",\"upload\":\"u3\"}]",
		      "short", 0, EIO, ESTALE);
	assert_file("big", "hello", 0644);
}
END_TEST

/* Who is killed in the middle leaves nothing; the next operation has a new server. */
START_TEST(test_killed)
{
	begin("[{\"op\":\"write\",\"path\":\"half\",\"size\":100}]", "part", 4);
	HOST_WAIT(&host, host.has_exit[number]);
	ck_assert_str_eq(host.exits[number].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(count_home(), 0);
	ck_assert_int_eq(mkfifo(path_in_home("wait"), 0666), 0);
	begin("[{\"op\":\"read\",\"path\":\"a\",\"length\":1}]", "", 0);
	host_kill(&host, number, 0);
	HOST_WAIT(&host, host.has_exit[number]);
	ASSERT_ERRORS("[{\"op\":\"write\",\"path\":\"whole\",\"size\":1}]", "x", 0);
	assert_file("whole", "x", 0644);
}
END_TEST

START_TEST(test_bad_requests)
{
	json_auto_t *results = operate("no json");

	ck_assert_uint_eq(json_array_size(results), 0);
	ASSERT_ERRORS("[{\"op\":\"format\"},{},7]", "", ENOSYS, ENOSYS, ENOSYS);
	/* Only as what stays, and nothing that waits. */
	host_run(&host, ++number, "files", "[]");
	ck_assert_str_eq(host.exits[number].reason, MSG_REASON_FAILED);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_files");
	TCase *tests = tcase_create("files");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_write_and_read);
	tcase_add_test(tests, test_ways_out);
	tcase_add_test(tests, test_directories);
	tcase_add_test(tests, test_names);
	tcase_add_test(tests, test_uploads);
	tcase_add_test(tests, test_killed);
	tcase_add_test(tests, test_bad_requests);
	suite_add_tcase(suite, tests);
	return suite;
}
