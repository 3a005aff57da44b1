/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: strict files, their order, dump and example. */
#include "conf/config.h"

#include "conf/describe.h"
#include "conf/file.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>

#define NOBODY 65534

static char root[64], vendor_dir[128], admin_dir[128];
static struct config config;
static struct config_report report;

static void make_dir(const char *dir)
{
	char dropins[256];

	ck_assert_int_eq(mkdir(dir, 0755), 0);
	snprintf(dropins, sizeof(dropins), "%s/execsandboxd.conf.d", dir);
	ck_assert_int_eq(mkdir(dropins, 0755), 0);
}

static void setup(void)
{
	strcpy(root, "/tmp/test_config.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(vendor_dir, sizeof(vendor_dir), "%s/vendor", root);
	snprintf(admin_dir, sizeof(admin_dir), "%s/admin", root);
	make_dir(vendor_dir);
	make_dir(admin_dir);
	ck_assert_int_eq(chmod(root, 0755), 0);
}

static int remove_one(const char *path, const struct stat *st UNUSED, int type UNUSED,
		      struct FTW *ftw UNUSED)
{
	return remove(path);
}

static void teardown(void)
{
	config_fini(&config);
	config_report_clear(&report);
	ck_assert_int_eq(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void write_file(const char *dir, const char *name, const char *text, size_t len)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write_all(fd, text, len), 0);
	close(fd);
}

static void write_main(const char *text)
{
	write_file(admin_dir, "execsandboxd.conf", text, strlen(text));
}

static void write_dropin(const char *dir, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "execsandboxd.conf.d/%s", name);
	write_file(dir, path, text, strlen(text));
}

static int load(void)
{
	const struct config_sources sources = {.vendor_dir = vendor_dir, .admin_dir = admin_dir};

	config_fini(&config);
	config_report_clear(&report);
	return config_load(&sources, &config, &report);
}

/* The report's problem number `i` begins with the main file and `line` and contains `what`. */
static void assert_problem(size_t i, unsigned line, const char *what)
{
	char place[256];

	snprintf(place, sizeof(place), "%s/execsandboxd.conf:%u: ", admin_dir, line);
	ck_assert_uint_lt(i, report.count);
	ck_assert_msg(strncmp(report.problems[i], place, strlen(place)) == 0, "%s is not at %s",
		      report.problems[i], place);
	ck_assert_msg(strstr(report.problems[i], what), "%s lacks %s", report.problems[i], what);
}

/* One wrong line behind "[section]" is the only problem, in line 2. */
static void assert_refused(const char *section, const char *line, const char *what)
{
	char text[512];

	snprintf(text, sizeof(text), "[%s]\n%s\n", section, line);
	write_main(text);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_uint_eq(report.count, 1);
	assert_problem(0, 2, what);
}

static void assert_accepted(const char *section, const char *line)
{
	char text[512];

	snprintf(text, sizeof(text), "[%s]\n%s\n", section, line);
	write_main(text);
	ck_assert_msg(load() == 0, "%s: %s", line, report.count ? report.problems[0] : "");
	ck_assert(config_report_is_clean(&report));
}

START_TEST(test_no_files)
{
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config.queue_max, 1024);
}
END_TEST

START_TEST(test_every_type)
{
	write_main("[daemon]\nnode = h-1.b_2\nsocket=/tmp/x y.sock\nlog_level\t=\tdebug\r\n"
		   "  drain_timeout_seconds = 0.25 # a quarter\n"
		   "[vm]\nmax_vms = 0012\naccel = tcg\nqemu = \"/opt/qemu\"\n"
		   "[limits]\ncode_max_bytes = 3K\nstdin_max_bytes = 0\n"
		   "buffered_bytes_per_uid = 2G\nstdout_max_bytes = 1048577");
	ck_assert_int_eq(load(), 0);
	ck_assert_str_eq(config.node, "h-1.b_2");
	ck_assert_str_eq(config.socket, "/tmp/x y.sock");
	ck_assert_int_eq(config.log_level, LOG_DEBUG);
	ck_assert(config.drain_timeout_seconds == 0.25);
	ck_assert_int_eq(config.max_vms, 12);
	ck_assert_int_eq(config.accel, CONFIG_ACCEL_TCG);
	ck_assert_str_eq(config.qemu, "/opt/qemu");
	ck_assert_uint_eq(config.code_max_bytes, 3072);
	ck_assert_uint_eq(config.stdin_max_bytes, 0);
	ck_assert_uint_eq(config.buffered_bytes_per_uid, 2ull << 30);
	ck_assert_uint_eq(config.stdout_max_bytes, 1048577);
}
END_TEST

START_TEST(test_empty_values)
{
	assert_accepted("daemon", "admin_group =");
	ck_assert_str_eq(config.admin_group, "");
	assert_accepted("daemon", "admin_group = \"\" # nobody");
	ck_assert_str_eq(config.admin_group, "");
	assert_refused("daemon", "user =", "is empty");
	assert_refused("daemon", "user = \"\"", "is empty");
	assert_refused("daemon", "user = # none", "is empty");
	assert_refused("vm", "accel =", "takes auto, kvm or tcg");
	assert_refused("vm", "max_vms =", "is not a whole number");
	assert_refused("limits", "code_max_bytes =", "is not a size");
	assert_refused("memory", "stats_interval_seconds =", "is not a number of seconds");
}
END_TEST

START_TEST(test_unknown_names)
{
	write_main("top = 1\n[daemon]\nsokcet = /x\nmax_vms = 1\n\n[deamon]\nanything = 1\n"
		   "[ vm ]\n[vm\n[]\n[vm] x\n[vm]\nmax_vms = 7\n= 5\n");
	ck_assert_int_eq(load(), -EINVAL);
	assert_problem(0, 1, "'top' stands before any section");
	assert_problem(1, 3, "Unknown key 'sokcet' in section [daemon]");
	assert_problem(2, 4, "'max_vms' belongs into section [vm]");
	assert_problem(3, 6, "Unknown section '[deamon]'");
	assert_problem(4, 8, "Unknown section '[ vm ]'");
	assert_problem(5, 9, "has no ']'");
	assert_problem(6, 10, "Unknown section '[]'");
	assert_problem(7, 11, "has no ']'");
	assert_problem(8, 14, "Unknown key ''");
	ck_assert_uint_eq(report.count, 9);
}
END_TEST

START_TEST(test_all_errors_are_reported)
{
	write_main("[vm]\nmax_vms = x\naccel = y\nboot_attempts = 3\nboot_attempts = 0\n"
		   "no equals here\nqueue_max = -1\n[limits]\nenv_max = 1M\n");
	ck_assert_int_eq(load(), -EINVAL);
	/* First what the lines are, then what the values are. */
	assert_problem(0, 5, "'boot_attempts' is set already in line 4");
	assert_problem(1, 6, "'no equals here' has no '='");
	assert_problem(2, 3, "'y'");
	assert_problem(3, 2, "'x'");
	assert_problem(4, 7, "'-1'");
	assert_problem(5, 9, "'1M'");
	ck_assert_uint_eq(report.count, 6);
}
END_TEST

/* libeconf would make one value of such lines and the one before, also over comments. */
START_TEST(test_glued_line)
{
	static const char *const texts[] = {
		"[daemon]\nnode = a\nb\n",
		"[daemon]\nnode = a\n  b\n",
		"[daemon]\nnode =\nb\n",
		"[daemon]\nnode = \"a\nb\"\n",
		"[daemon]\nadmin_group = a # more\n\tb = # none",
	};
	static const char *const words[] = {"'b' has", "'b' has", "'b' has", "'b\"' has",
					    "Unknown key 'b'"};

	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		write_main(texts[i]);
		ck_assert_int_eq(load(), -EINVAL);
		assert_problem(0, 3, words[i]);
	}
}
END_TEST

START_TEST(test_duplicates)
{
	write_main("[vm]\nmax_vms = 1\n[daemon]\nnode = a\n[vm]\nqueue_max = 3\nmax_vms = 2\n");
	ck_assert_int_eq(load(), -EINVAL);
	assert_problem(0, 7, "'max_vms' is set already in line 2");
	ck_assert_uint_eq(report.count, 1);
	write_main("[vm]\nmax_vms = 1\n[daemon]\nnode = a\n[vm]\nqueue_max = 3\n");
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config.queue_max, 3);
}
END_TEST

START_TEST(test_comments)
{
	write_main("# comment\n   # indented\n[vm] # of a section\nmax_vms = 3#close\n"
		   "  # indented behind a value\n\t\n#queue_max = 9\n\xef\xbf\xbd # no\n");
	ck_assert_int_eq(load(), -EINVAL);
	assert_problem(0, 8, "has no '='");
	ck_assert_uint_eq(report.count, 1);
	write_main("# comment \xef\xbf\xbd\n   # indented\n[vm] # of a section\nmax_vms = 3#close\n"
		   "  # indented behind a value\n\t\n#queue_max = 9\n");
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config.max_vms, 3);
	ck_assert_int_eq(config.queue_max, 1024);
}
END_TEST

START_TEST(test_order_of_files)
{
	const char *vendor_main = "[vm]\nmax_vms = 1\nqueue_max = 1\n[daemon]\nnode = vendor\n";

	write_file(vendor_dir, "execsandboxd.conf", vendor_main, strlen(vendor_main));
	write_dropin(vendor_dir, "10-a.conf", "[vm]\nmax_vms = 2\nkill_grace_ms = 2\n");
	write_dropin(vendor_dir, "30-c.conf", "[vm]\nmax_vms = 4\n");
	write_dropin(vendor_dir, "40-d.conf", "[daemon]\nnode = hidden\n");
	write_dropin(vendor_dir, "50-e.conf.bak", "rubbish");
	write_dropin(vendor_dir, ".60.conf", "rubbish");
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config.max_vms, 4);
	ck_assert_int_eq(config.queue_max, 1);
	ck_assert_str_eq(config.node, "hidden");

	/* Sorted over both directories; 10-a and 40-d are replaced. */
	write_dropin(admin_dir, "10-a.conf", "[vm]\nmax_vms = 3\n");
	write_dropin(admin_dir, "20-b.conf", "[vm]\nmax_vms = 5\n");
	write_dropin(admin_dir, "40-d.conf", "");
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config.max_vms, 4);
	ck_assert_int_eq(config.kill_grace_ms, 50);
	ck_assert_str_eq(config.node, "vendor");

	/* The administrator's main file replaces the vendor's. */
	write_main("[daemon]\nnode = admin\n");
	write_dropin(admin_dir, "99-z.conf", "[vm]\nmax_vms = 6\n");
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config.max_vms, 6);
	ck_assert_int_eq(config.queue_max, 1024);
	ck_assert_str_eq(config.node, "admin");
}
END_TEST

START_TEST(test_dropin_switched_off_by_null)
{
	char path[256];

	write_dropin(vendor_dir, "10-a.conf", "[vm]\nmax_vms = 2\n");
	snprintf(path, sizeof(path), "%s/execsandboxd.conf.d/10-a.conf", admin_dir);
	ck_assert_int_eq(symlink("/dev/null", path), 0);
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config.max_vms, 0);
}
END_TEST

START_TEST(test_errors_in_several_files)
{
	write_main("[vm]\nmax_vms = x\n");
	write_dropin(vendor_dir, "10-a.conf", "[vm\n");
	write_dropin(admin_dir, "20-b.conf", "\n\nmore\n");
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_uint_eq(report.count, 3);
	assert_problem(0, 2, "'x'");
	ck_assert_ptr_nonnull(
		strstr(report.problems[1], "vendor/execsandboxd.conf.d/10-a.conf:1:"));
	ck_assert_ptr_nonnull(strstr(report.problems[2], "admin/execsandboxd.conf.d/20-b.conf:3:"));
}
END_TEST

START_TEST(test_too_many_dropins)
{
	char name[32];

	for (int i = 0; i <= 256; i++) {
		snprintf(name, sizeof(name), "%03d.conf", i);
		write_dropin(i % 2 ? vendor_dir : admin_dir, name, "");
	}
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_uint_eq(report.count, 1);
	ck_assert_ptr_nonnull(strstr(report.problems[0], "more than 256 drop-in files"));
}
END_TEST

START_TEST(test_explicit_file)
{
	struct config_sources sources = {.vendor_dir = vendor_dir, .admin_dir = admin_dir};
	char path[256];

	write_main("[vm]\nmax_vms = 1\n");
	write_dropin(admin_dir, "20-b.conf", "[vm]\nqueue_max = 2\n");
	write_file(root, "own", "[vm]\nkill_grace_ms = 3\n", 23);
	snprintf(path, sizeof(path), "%s/own", root);
	sources.file = path;
	ck_assert_int_eq(config_load(&sources, &config, &report), 0);
	ck_assert_int_eq(config.max_vms, 0);
	ck_assert_int_eq(config.queue_max, 1024);
	ck_assert_int_eq(config.kill_grace_ms, 3);
	config_fini(&config);

	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(config_load(&sources, &config, &report), -EINVAL);
	ck_assert_uint_eq(report.count, 1);
	ck_assert_ptr_nonnull(strstr(report.problems[0], "/own: Cannot read: No such file"));
}
END_TEST

START_TEST(test_not_a_file)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/execsandboxd.conf", admin_dir);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_ptr_nonnull(strstr(report.problems[0], "Not a regular file"));
	ck_assert_int_eq(rmdir(path), 0);
	/* Opening a pipe without a writer would hang. */
	ck_assert_int_eq(mkfifo(path, 0644), 0);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_ptr_nonnull(strstr(report.problems[0], "Not a regular file"));
}
END_TEST

/* 0 when a process that is not root is told that it may not read the file. */
static int load_as_nobody(void)
{
	if (getuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
			      setresuid(NOBODY, NOBODY, NOBODY) < 0))
		return 1;
	if (load() != -EINVAL || report.count != 1)
		return 2;
	return strstr(report.problems[0], "execsandboxd.conf: Cannot read: Permission denied") ? 0
											       : 3;
}

START_TEST(test_unreadable)
{
	char path[256];
	pid_t pid;
	int status;

	write_main("[vm]\nmax_vms = 1\n");
	snprintf(path, sizeof(path), "%s/execsandboxd.conf", admin_dir);
	ck_assert_int_eq(chmod(path, 0), 0);
	pid = fork();
	if (pid == 0)
		_exit(load_as_nobody());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(test_huge_file)
{
	size_t size = CONFIG_FILE_MAX;
	char *text = malloc(size + 1);

	ck_assert_ptr_nonnull(text);
	memset(text, '\n', size + 1);
	memcpy(text, "[vm]\nmax_vms = 4\n", 17);
	write_file(admin_dir, "execsandboxd.conf", text, size);
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config.max_vms, 4);
	write_file(admin_dir, "execsandboxd.conf", text, size + 1);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_uint_eq(report.count, 1);
	ck_assert_ptr_nonnull(strstr(report.problems[0], "larger than 1048576 bytes"));
	free(text);
}
END_TEST

START_TEST(test_long_line)
{
	char *text = malloc(CONFIG_LINE_MAX + 64);
	int head;

	ck_assert_ptr_nonnull(text);
	head = sprintf(text, "[vm]\n");
	memset(text + head, 'x', CONFIG_LINE_MAX + 1);
	strcpy(text + head + CONFIG_LINE_MAX + 1, "\nmax_vms = x\n");
	memcpy(text + head, "qemu=/", 6);
	write_main(text);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_uint_eq(report.count, 2);
	assert_problem(0, 2, "longer than 8000 bytes");
	assert_problem(1, 3, "'x'");
	/* One byte less is a line, whose value is too long; the next line is its own still. */
	memmove(text + head + 6, text + head + 7, strlen(text + head + 6));
	write_main(text);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_uint_eq(report.count, 2);
	assert_problem(0, 2, "is too long");
	assert_problem(1, 3, "'x'");
	free(text);
}
END_TEST

START_TEST(test_binary_file)
{
	write_file(admin_dir, "execsandboxd.conf", "[vm]\nmax_vms = 1\0002\n", 19);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_uint_eq(report.count, 1);
	ck_assert_ptr_nonnull(strstr(report.problems[0], "NUL byte"));
}
END_TEST

START_TEST(test_report_is_bounded)
{
	char text[4096] = "";

	for (int i = 0; i < CONFIG_PROBLEMS_MAX + 20; i++)
		strcat(text, "what\n");
	write_main(text);
	ck_assert_int_eq(load(), -EINVAL);
	ck_assert_uint_eq(report.count, CONFIG_PROBLEMS_MAX);
	ck_assert_uint_eq(report.omitted, 20);
}
END_TEST

/* Whatever the bytes, loading ends, with values inside the schema's bounds or with a problem. */
START_TEST(test_random_text)
{
	static const char *const pieces[] = {
		"[vm]", "[daemon]", "\n",        "\n",   "\n",      "=",    " = ",     "max_vms",
		"node", "#",        "\"",        "\\",   "qemu=/q", "\r",   "\t",      "]",
		"[",    "7",        "accel=kvm", "\xff", "a",       "user", "user = u"};
	struct config values;
	unsigned seed = 20240607;
	char text[1024];

	for (int round = 0; round < 20000; round++) {
		int n = rand_r(&seed) % 40;

		text[0] = '\0';
		while (n-- > 0)
			strcat(text, pieces[(size_t)rand_r(&seed) % ELEMENTSOF(pieces)]);
		ck_assert_int_eq(config_defaults(&values), 0);
		ck_assert_int_eq(config_text_apply("x", text, strlen(text), &values, &report), 0);
		ck_assert(values.max_vms >= 0 && values.max_vms <= 10000);
		ck_assert_uint_ge(strlen(values.user), 1);
		ck_assert_ptr_null(strpbrk(values.node, "\n=\" #\xff"));
		ck_assert_int_eq(values.qemu[0], '/');
		config_fini(&values);
		config_report_clear(&report);
	}
}
END_TEST

START_TEST(test_dump_round_trip)
{
	const struct config_sources sources = {.vendor_dir = vendor_dir, .admin_dir = admin_dir};
	struct config again;
	char *first, *second;

	write_main("[daemon]\nnode = h1\ndrain_timeout_seconds = 1.000001\nlog_level = warning\n"
		   "[vm]\naccel = kvm\nqueue_timeout_seconds = 3599.999999\n"
		   "[limits]\ncode_max_bytes = 1500\nstdin_max_bytes = 6K\n"
		   "buffered_bytes_per_uid = 3G\n");
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config_dump(&config, &first), 0);
	ck_assert_ptr_nonnull(strstr(first, "\ndrain_timeout_seconds = 1.000001\n"));
	ck_assert_ptr_nonnull(strstr(first, "\ncode_max_bytes = 1500\nstdin_max_bytes = 6K\n"));
	ck_assert_ptr_nonnull(strstr(first, "\nadmin_group =\n"));
	write_main(first);
	ck_assert_int_eq(config_load(&sources, &again, &report), 0);
	ck_assert_int_eq(config_dump(&again, &second), 0);
	ck_assert_str_eq(first, second);
	ck_assert(again.queue_timeout_seconds == config.queue_timeout_seconds);
	free(first);
	free(second);
	config_fini(&again);
}
END_TEST

/* The shipped file says what the schema says, and its lines are good ones once uncommented. */
START_TEST(test_example_is_in_step)
{
	char *made = NULL, *shipped = NULL, *defaults, *loaded;
	size_t size = 0;
	FILE *out = open_memstream(&made, &size);

	config_describe_example(out);
	ck_assert_int_eq(fclose(out), 0);
	ck_assert_msg(read_file_at(AT_FDCWD, "conf/execsandboxd.conf", CONFIG_FILE_MAX, &shipped) >
			      0,
		      "Run the tests from the top of the source tree");
	ck_assert_msg(strcmp(made, shipped) == 0, "Run 'make conf-example'");

	for (char *line = made; (line = strstr(line, "\n#")); line++)
		if (line[2] != ' ' && line[2] != '\n')
			line[1] = ' ';
	write_main(made);
	ck_assert_int_eq(load(), 0);
	ck_assert_int_eq(config_dump(&config, &loaded), 0);
	config_fini(&config);
	ck_assert_int_eq(config_defaults(&config), 0);
	ck_assert_int_eq(config_dump(&config, &defaults), 0);
	ck_assert_str_eq(loaded, defaults);
	free(loaded);
	free(defaults);
	free(made);
	free(shipped);
}
END_TEST

Suite *unit_suite(void)
{
	const TTest *const tests[] = {
		test_no_files,
		test_every_type,
		test_empty_values,
		test_unknown_names,
		test_all_errors_are_reported,
		test_glued_line,
		test_duplicates,
		test_comments,
		test_order_of_files,
		test_dropin_switched_off_by_null,
		test_errors_in_several_files,
		test_too_many_dropins,
		test_explicit_file,
		test_not_a_file,
		test_unreadable,
		test_huge_file,
		test_long_line,
		test_binary_file,
		test_report_is_bounded,
		test_random_text,
		test_dump_round_trip,
		test_example_is_in_step,
	};
	Suite *suite = suite_create("config");
	TCase *tcase = tcase_create("config");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	for (size_t i = 0; i < ELEMENTSOF(tests); i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	return suite;
}
