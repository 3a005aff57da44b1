/* SPDX-License-Identifier: Apache-2.0 */
/* What doctor says of images: missing, as they should be, or at the mercy of who runs VMs. */
#include "ctl/checks.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"

#include <sched.h>

#define UID_NOBODY 65534

static char dir[TEST_DIR_SIZE];
static struct config config;
static struct finding finding;

static void set_mode(const char *name, mode_t mode)
{
	ck_assert_int_eq(chmod(test_dir_path(dir, name), mode), 0);
}

static void setup(void)
{
	static const char *const names[] = {"vmlinux", "rootfs.erofs", "qemu-stubs.so"};

	test_dir_make(dir);
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		test_dir_write(dir, names[i], "x", 1);
		set_mode(names[i], 0444);
	}
	/* VMs run as somebody else than the owner, who is root where anybody may be asked. */
	config = (struct config){.images_dir = dir, .user = (char *)"nobody"};
	finding = (struct finding){0};
}

static void teardown(void)
{
	test_dir_remove(dir);
}

static enum verdict check_images(void)
{
	for (const struct check *check = host_checks; check->name; check++)
		if (strcmp(check->name, "images") == 0)
			check->fn(&config, &finding);
	return finding.verdict;
}

/* The finding is a warning that names this file. */
static void assert_exposed(const char *name)
{
	ck_assert_int_eq(check_images(), VERDICT_WARN);
	ck_assert_ptr_nonnull(strstr(finding.detail, name));
	ck_assert_ptr_nonnull(strstr(finding.mend, "chmod 0444"));
}

START_TEST(test_as_built)
{
	/* An ordinary user's daemon runs VMs as that user. */
	if (geteuid() != 0) {
		assert_exposed("vmlinux");
		return;
	}
	ck_assert_int_eq(check_images(), VERDICT_OK);
	ck_assert_str_eq(finding.mend, "");
	/* Root's own right to write is nobody else's. */
	set_mode("vmlinux", 0644);
	ck_assert_int_eq(check_images(), VERDICT_OK);
}
END_TEST

START_TEST(test_missing)
{
	ck_assert_int_eq(unlink(test_dir_path(dir, "rootfs.erofs")), 0);
	ck_assert_int_eq(check_images(), VERDICT_FAIL);
	ck_assert_ptr_nonnull(strstr(finding.detail, "rootfs.erofs"));
}
END_TEST

START_TEST(test_no_stand_ins)
{
	ck_assert_int_eq(unlink(test_dir_path(dir, "qemu-stubs.so")), 0);
	ck_assert_int_eq(check_images(), geteuid() == 0 ? VERDICT_OK : VERDICT_WARN);
}
END_TEST

/* An ordinary user's own files are exposed whatever their modes: they are looked at as root of a
 * user namespace, for the rest of the test's process. */
static void become_root(void)
{
	char map[32];
	int len = snprintf(map, sizeof(map), "0 %u 1", geteuid());
	_cleanup_close_ int fd = -1;

	if (geteuid() == 0)
		return;
	ck_assert_int_eq(unshare(CLONE_NEWUSER), 0);
	fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(write(fd, map, (size_t)len), len);
	ck_assert_uint_eq(geteuid(), 0);
}

START_TEST(test_written_by_many)
{
	static const mode_t modes[] = {0464, 0446};

	become_root();
	ck_assert_int_eq(check_images(), VERDICT_OK);
	set_mode("vmlinux", modes[_i]);
	assert_exposed("vmlinux");
}
END_TEST

START_TEST(test_owned)
{
	/* Whom else they belong to can be told by root alone. */
	const char *name = geteuid() == 0 ? "qemu-stubs.so" : "vmlinux";

	if (geteuid() == 0)
		ck_assert_int_eq(chown(test_dir_path(dir, name), UID_NOBODY, 0), 0);
	assert_exposed(name);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ctl_checks");
	TCase *tests = tcase_create("images");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_as_built);
	tcase_add_test(tests, test_missing);
	tcase_add_test(tests, test_no_stand_ins);
	tcase_add_test(tests, test_owned);
	tcase_add_loop_test(tests, test_written_by_many, 0, 2);
	suite_add_tcase(suite, tests);
	return suite;
}
