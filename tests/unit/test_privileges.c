/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up root: what is gone, what still works, who is refused. */
#include "daemon/privileges.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define NOBODY 65534

/* The product's user where sysusers.d has made it, else one that every Debian has. */
static const char *some_user(struct account *ret)
{
	static const char *const names[] = {"execsandbox-vm", "nobody"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (account_find_user(names[i], ret) == 0)
			return names[i];
	abort();
}

/* A line of /proc/self/status. */
static bool status_has(const char *line)
{
	_cleanup_free_ char *text = NULL;

	EXPECT(read_file_at(AT_FDCWD, "/proc/self/status", 65536, &text) > 0);
	return strstr(text, line);
}

static void body_nothing_is_left(void)
{
	gid_t groups[256];
	struct account account;
	const char *user = some_user(&account);
	int n;

	EXPECT(privileges_drop(user) == 0);
	EXPECT(getuid() == account.uid && geteuid() == account.uid);
	EXPECT(getgid() == account.gid && getegid() == account.gid);
	n = getgroups(ELEMENTSOF(groups), groups);
	EXPECT(n >= 1);
	for (int i = 0; i < n; i++)
		EXPECT(groups[i] != 0);
	EXPECT(status_has("\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n"
			  "CapEff:\t0000000000000000\n"));
	EXPECT(status_has("\nCapAmb:\t0000000000000000\n"));
	EXPECT(status_has("\nNoNewPrivs:\t1\n"));
	EXPECT(setuid(0) < 0 && setgid(0) < 0 && setgroups(0, NULL) < 0);
	EXPECT(open("/etc/shadow", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	/* A second time there is nothing to do. */
	EXPECT(privileges_drop(user) == 0);
}

START_TEST(test_nothing_is_left)
{
	in_child(body_nothing_is_left);
}
END_TEST

/* What templates and children need of /proc afterwards. */
static void body_proc_still_works(void)
{
	int memory = memfd_create("test", MFD_CLOEXEC);
	struct account account;
	char path[64];

	EXPECT(privileges_drop(some_user(&account)) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
	EXPECT(open(path, O_RDWR | O_CLOEXEC) >= 0);
	EXPECT(write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", "500") == 0);
}

START_TEST(test_proc_still_works)
{
	in_child(body_proc_still_works);
}
END_TEST

static void body_keeps_securebits(void)
{
	struct account account;

	/* SECBIT_KEEP_CAPS leaves the permitted set to a process that changes its uid. */
	EXPECT(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
	EXPECT(privileges_drop(some_user(&account)) == 0);
	EXPECT(status_has("\nCapPrm:\t0000000000000000\n"));
}

START_TEST(test_kept_capabilities_go_too)
{
	in_child(body_keeps_securebits);
}
END_TEST

static void body_refused(void)
{
	EXPECT(privileges_drop("no-such-user") == -ESRCH);
	EXPECT(privileges_drop("root") == -EPERM);
	EXPECT(getuid() == 0 && geteuid() == 0);
	EXPECT(!status_has("\nCapEff:\t0000000000000000\n"));
}

START_TEST(test_refused)
{
	in_child(body_refused);
}
END_TEST

static void body_other_stays(void)
{
	if (getuid() == 0)
		EXPECT(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
		       setresuid(NOBODY, NOBODY, NOBODY) == 0);
	else
		fprintf(stderr, "Started without root: the tests of dropping it do not run\n");
	EXPECT(privileges_drop("no-such-user") == 0);
	EXPECT(privileges_drop("root") == 0);
	EXPECT(getuid() != 0 && geteuid() != 0);
}

START_TEST(test_other_stays)
{
	in_child(body_other_stays);
}
END_TEST

/* A set-uid root program that somebody else started is root enough to be dropped. */
static void body_effective_root(void)
{
	struct account account;
	const char *user = some_user(&account);

	EXPECT(setresuid(NOBODY, 0, 0) == 0);
	EXPECT(privileges_drop(user) == 0);
	EXPECT(getuid() == account.uid && setuid(0) < 0);
}

START_TEST(test_effective_root)
{
	in_child(body_effective_root);
}
END_TEST

START_TEST(test_accounts)
{
	struct account account = {1, 1};
	gid_t gid = 1;

	ck_assert_int_eq(account_find_user("root", &account), 0);
	ck_assert_uint_eq(account.uid, 0);
	ck_assert_int_eq(account_find_group("root", &gid), 0);
	ck_assert_uint_eq(gid, 0);
	gid = 7;
	ck_assert_int_eq(account_find_user("no-such-user", &account), -ESRCH);
	ck_assert_int_eq(account_find_group("no-such-group", &gid), -ESRCH);
	ck_assert_uint_eq(gid, 7);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("privileges");
	TCase *tcase = tcase_create("privileges");

	tcase_add_test(tcase, test_other_stays);
	tcase_add_test(tcase, test_accounts);
	if (getuid() == 0) {
		tcase_add_test(tcase, test_nothing_is_left);
		tcase_add_test(tcase, test_proc_still_works);
		tcase_add_test(tcase, test_kept_capabilities_go_too);
		tcase_add_test(tcase, test_refused);
		tcase_add_test(tcase, test_effective_root);
	}
	suite_add_tcase(suite, tcase);
	return suite;
}
