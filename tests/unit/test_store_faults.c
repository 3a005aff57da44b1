/* SPDX-License-Identifier: Apache-2.0 */
/* The template store when things go wrong: damaged files, full disks, dead workers, races. */
#include "tests/fake/unprivileged.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_store_fixture.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

static void truncate_file(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(truncate(path, st.st_size - 1), 0);
}

static void empty_file(const char *path)
{
	ck_assert_int_eq(truncate(path, 0), 0);
}

static void lengthen_file(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(truncate(path, st.st_size + 1), 0);
}

static void flip_at(const char *path, off_t offset)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x04;
	ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
}

static void flip_first(const char *path)
{
	flip_at(path, 0);
}

static void flip_last(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	flip_at(path, st.st_size - 1);
}

static void flip_in_hole(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_lt(lseek(fd, 0, SEEK_HOLE), 1 << 20);
	ck_assert_int_gt(lseek(fd, 1 << 20, SEEK_DATA), 1 << 20);
	flip_at(path, 1 << 20);
}

static void flip_marker(const char *path)
{
	char *text, *marker;
	ssize_t len = read_file_at(AT_FDCWD, path, 65536, &text);

	ck_assert_int_gt(len, 0);
	marker = strstr(text, "\"sync\": \"");
	ck_assert_ptr_nonnull(marker);
	/* Lower digits of a marker of 0x41…: 4 <-> 0, which stays a marker. */
	flip_at(path, marker - text + 9);
	free(text);
}

static void remove_file(const char *path)
{
	ck_assert_int_eq(unlink(path), 0);
}

/* The same content, by a link. */
static void link_file(const char *path)
{
	const char *target = test_dir_path(dir, "target");

	ck_assert_int_eq(rename(path, target), 0);
	ck_assert_int_eq(symlink(target, path), 0);
}

static void make_pipe(const char *path)
{
	remove_file(path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
}

static void make_folder(const char *path)
{
	remove_file(path);
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

static void make_huge(const char *path)
{
	ck_assert_int_eq(truncate(path, (off_t)1 << 40), 0);
}

static const struct fault {
	const char *file;
	void (*make)(const char *path);
	const char *why; /* a part of it */
} faults[] = {
	{"ram", truncate_file, "has 8388607 bytes instead of 8388608"},
	{"ram", empty_file, "has 0 bytes"},
	{"ram", lengthen_file, "has 8388609 bytes"},
	{"ram", flip_first, "SHA-256"},
	{"ram", flip_last, "SHA-256"},
	{"ram", flip_in_hole, "SHA-256"},
	{"ram", remove_file, "No such file"},
	{"ram", link_file, "symbolic link"},
	{"ram", make_pipe, "no regular file"},
	{"ram", make_folder, "no regular file"},
	{"ram", make_huge, "has 1099511627776 bytes"},
	{"state", truncate_file, "does not have 57344 bytes"},
	{"state", empty_file, "has 0 bytes"},
	{"state", lengthen_file, "does not have 57344 bytes"},
	{"state", flip_first, "SHA-256"},
	{"state", flip_last, "SHA-256"},
	{"state", remove_file, "No such file"},
	{"state", link_file, "symbolic link"},
	{"state", make_pipe, "no regular file"},
	{"state", make_folder, "no regular file"},
	{"state", make_huge, "at most 1048576"},
	{"manifest.json", empty_file, "has 0 bytes"},
	{"manifest.json", lengthen_file, "no JSON object"},
	{"manifest.json", flip_first, "no JSON object"},
	{"manifest.json", flip_last, "no JSON object"},
	{"manifest.json", flip_marker, "checksum"},
	{"manifest.json", remove_file, "No such file"},
	{"manifest.json", link_file, "symbolic link"},
	{"manifest.json", make_pipe, "no regular file"},
	{"manifest.json", make_folder, "no regular file"},
	{"manifest.json", make_huge, "at most 65536"},
};

/* The load says what it is, removes it, and a new one can be saved. */
static void expect_damaged(const char *name, const char *file, const char *why)
{
	struct answer answer = load(name, -ENOENT);

	ck_assert_msg(strstr(answer.why, file) && strstr(answer.why, why),
		      "'%s' does not say '%s' of '%s'", answer.why, why, file);
	ck_assert_int_eq(count_names(name), 0);
	answer = load(name, -ENOENT);
	ck_assert_ptr_nonnull(strstr(answer.why, "There is no"));
	save(name, 0);
	load(name, 0);
}

START_TEST(test_damaged_files_are_told_and_removed)
{
	const struct fault *fault = &faults[_i];

	save("python", 0);
	fault->make(template_path("python", fault->file));
	expect_damaged("python", fault->file, fault->why);
}
END_TEST

/* All of it right in itself, but not what its name says. */
START_TEST(test_a_foreign_identity_is_removed)
{
	json_t *wanted = json_deep_copy(identity);
	char path[256], foreign[256];

	save("python", 0);
	snprintf(path, sizeof(path), "%s", template_path("python", ""));
	json_object_set_new(identity, "kernel", json_string("other"));
	save("python", 0);
	snprintf(foreign, sizeof(foreign), "%s", template_path("python", ""));
	json_decref(identity);
	identity = wanted;
	ck_assert_int_eq(rename(foreign, path), 0);
	expect_damaged("python", "manifest.json", "identity");
}
END_TEST

START_TEST(test_another_size_is_removed)
{
	struct answer answer;

	save("python", 0);
	vm_image_fini(&image);
	make_image(&image, 1, 1);
	answer = load("python", -ENOENT);
	ck_assert_ptr_nonnull(strstr(answer.why, "has 8388608 bytes instead of 1048576"));
	ck_assert_int_eq(count_names("python"), 0);
}
END_TEST

START_TEST(test_another_version_is_removed)
{
	json_t *manifest;

	save("python", 0);
	manifest = json_load_file(template_path("python", "manifest.json"), 0, NULL);
	json_object_set_new(manifest, "version", json_integer(2));
	ck_assert_int_eq(json_dump_file(manifest, template_path("python", "manifest.json"), 0), 0);
	json_decref(manifest);
	expect_damaged("python", "manifest.json", "another version");
}
END_TEST

/* The link's target is somebody else's and stays. */
START_TEST(test_a_link_instead_of_the_directory)
{
	char path[256];

	save("python", 0);
	snprintf(path, sizeof(path), "%s", template_path("python", ""));
	path[strlen(path) - 1] = '\0';
	ck_assert_int_eq(rename(path, test_dir_path(dir, "elsewhere")), 0);
	ck_assert_int_eq(symlink("elsewhere", path), 0);
	save("bystander", 0);
	expect_damaged("python", "python", "is no directory");
	load("bystander", 0);
	ck_assert(test_dir_has(dir, "elsewhere/ram"));
}
END_TEST

/* Whether a process has a file of that name open. */
static bool has_open(pid_t pid, const char *name)
{
	char path[64], target[512];

	for (int fd = 3; fd < 64; fd++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		len = readlink(path, target, sizeof(target) - 1);
		target[MAX(len, (ssize_t)0)] = '\0';
		if (len > 0 && strstr(target, dir) && strstr(target, name))
			return true;
	}
	return false;
}

/* Stops the worker of a load while it reads the memory; loads again if it was too fast for us. */
static pid_t stop_in_load(struct answer *answer)
{
	siginfo_t info;
	pid_t pid;

	for (int i = 0; i < 50; i++) {
		start_load(store, "python", answer);
		ck_assert(SPIN_UNTIL((pid = child_pid()) > 0));
		while (answer->count == 0 && child_pid() == pid && !has_open(pid, "/state"))
			sched_yield();
		kill(pid, SIGSTOP);
		ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT), 0);
		if (info.si_code == CLD_STOPPED)
			return pid;
		expect_image(answer);
	}
	ck_abort_msg("The worker is always faster than its observer");
}

/* Large enough for its hash to take a while. */
static void save_large(void)
{
	vm_image_fini(&image);
	make_image(&image, 128, 2);
	save("python", 0);
}

START_TEST(test_removed_while_it_is_loaded)
{
	struct answer answer;
	pid_t pid;

	save_large();
	pid = stop_in_load(&answer);
	ck_assert_int_eq(store_remove(store, "python"), 0);
	ck_assert_int_eq(count_names(""), 0);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	expect_image(&answer);
}
END_TEST

START_TEST(test_removed_after_it_is_loaded)
{
	struct answer answer;

	save("python", 0);
	start_load(store, "python", &answer);
	ck_assert(WAIT_FOR(loop, answer.count > 0));
	ck_assert_int_eq(store_remove(store, "python"), 0);
	expect_image(&answer);
}
END_TEST

/* A damaged one whose place a good one has taken meanwhile: that one stays. */
START_TEST(test_the_successor_of_a_damaged_one_stays)
{
	struct answer answer;
	pid_t pid;

	save_large();
	flip_last(template_path("python", "ram"));
	start_load(store, "python", &answer);
	ck_assert(SPIN_UNTIL((pid = child_pid()) > 0 && has_open(pid, "/ram")));
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	ck_assert_int_eq(store_remove(store, "python"), 0);
	{
		struct store *other = open_store(UINT64_C(1) << 30);
		struct answer saved;

		start_save(other, "python", &saved);
		expect_answer(&saved, 0);
		store_destroy(other);
	}
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	expect_answer(&answer, -ENOENT);
	load("python", 0);
}
END_TEST

START_TEST(test_a_killed_load_is_told)
{
	struct answer answer;
	pid_t pid;

	save_large();
	pid = stop_in_load(&answer);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	expect_answer(&answer, -ECHILD);
	ck_assert_ptr_nonnull(strstr(answer.why, "died"));
	load("python", 0);
}
END_TEST

START_TEST(test_a_killed_save_leaves_nothing)
{
	struct answer answer;
	int lock = hold_lock();

	start_save(store, "python", &answer);
	ck_assert(SPIN_UNTIL(count_written() == 1));
	ck_assert_int_eq(kill(child_pid(), SIGKILL), 0);
	expect_answer(&answer, -ECHILD);
	ck_assert_ptr_nonnull(strstr(answer.why, "died"));
	ck_assert_int_eq(count_names(""), 0);
	close(lock);
	save("python", 0);
	load("python", 0);
}
END_TEST

/* Where nothing can be mounted the limit on a file's size, below, stands for the full disk. */
START_TEST(test_a_full_disk)
{
	char path[256];
	struct answer answer;
	int fd;

	snprintf(path, sizeof(path), "%s", test_dir_path(dir, "small"));
	ck_assert_int_eq(mkdir(path, 0700), 0);
	if (mount("none", path, "tmpfs", 0, "size=1536k,mode=700") == 0) {
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ck_assert_int_eq(umount2(path, MNT_DETACH), 0); /* `fd` keeps it until the end */
		store_destroy(store);
		ck_assert_int_eq(dup3(fd, dir_fd, O_CLOEXEC), dir_fd);
		close(fd);
		store = open_store(UINT64_C(1) << 30);
		answer = save("large", -ENOSPC);
		ck_assert_ptr_nonnull(strstr(answer.why, "Cannot write the memory of"));
		ck_assert_ptr_nonnull(strstr(answer.why, "No space left"));
		vm_image_fini(&image);
		make_image(&image, 1, 3);
		save("small", 0); /* fits only if nothing of the large one is left */
		load("small", 0);
	} else {
		ck_assert_int_eq(errno, EPERM);
	}
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

START_TEST(test_a_limit_on_the_file_size)
{
	struct rlimit before, limit;
	struct answer answer;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	answer = save("python", -EFBIG);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
	ck_assert_ptr_nonnull(strstr(answer.why, "Cannot write the memory of"));
	ck_assert_int_eq(count_names(""), 0);
	save("python", 0);
	load("python", 0);
}
END_TEST

START_TEST(test_no_descriptors_left)
{
	struct rlimit before, limit;
	struct answer answer;

	save("python", 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = (struct rlimit){.rlim_cur = (rlim_t)test_open_fds(), .rlim_max = before.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	start_load(store, "python", &answer);
	ck_assert(SPIN_UNTIL(answer.count > 0)); /* no descriptor will wake the loop */
	expect_answer(&answer, -EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert_ptr_nonnull(strstr(answer.why, "Cannot start work"));
	load("python", 0);
}
END_TEST

static void round_trip_unprivileged(void)
{
	setup();
	save("python", 0);
	load("python", 0);
	flip_last(template_path("python", "ram"));
	expect_damaged("python", "ram", "SHA-256");
	teardown();
}

START_TEST(test_no_rights_are_needed)
{
	ck_assert_int_eq(run_unprivileged(round_trip_unprivileged), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("store_faults");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, test_damaged_files_are_told_and_removed, 0,
			    (int)ELEMENTSOF(faults));
	tcase_add_test(tcase, test_a_foreign_identity_is_removed);
	tcase_add_test(tcase, test_another_size_is_removed);
	tcase_add_test(tcase, test_another_version_is_removed);
	tcase_add_test(tcase, test_a_link_instead_of_the_directory);
	tcase_add_test(tcase, test_removed_while_it_is_loaded);
	tcase_add_test(tcase, test_removed_after_it_is_loaded);
	tcase_add_test(tcase, test_the_successor_of_a_damaged_one_stays);
	tcase_add_test(tcase, test_a_killed_load_is_told);
	tcase_add_test(tcase, test_a_killed_save_leaves_nothing);
	tcase_add_test(tcase, test_a_full_disk);
	tcase_add_test(tcase, test_a_limit_on_the_file_size);
	tcase_add_test(tcase, test_no_descriptors_left);
	tcase_add_test(tcase, test_no_rights_are_needed);
	suite_add_tcase(suite, tcase);
	return suite;
}
