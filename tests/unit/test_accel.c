/* SPDX-License-Identifier: Apache-2.0 */
/* The accelerator: what the probe says of devices that are no KVM, of this host's own, and what is
 * chosen then; and the rate of the host's counter. */
#include "daemon/vm/accel.h"

#include "base/util.h"
#include "daemon/vm/tsc.h"
#include "tests/unit/suite.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

START_TEST(test_no_device_is_absent)
{
	struct accel_probe probe;

	accel_probe("/dev/no-such-kvm", &probe);
	ck_assert_int_eq(probe.kvm, ACCEL_KVM_ABSENT);
	ck_assert_str_eq(probe.text,
			 "/dev/no-such-kvm cannot be opened: No such file or directory");
}
END_TEST

/* As a user without rights: root is never denied. */
START_TEST(test_no_permission_is_denied)
{
	char path[] = "/tmp/execsandbox-kvm-XXXXXX";
	int fd = mkstemp(path), status = 0;
	pid_t child;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, 0), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		struct accel_probe probe;

		if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		accel_probe(path, &probe);
		_exit(probe.kvm == ACCEL_KVM_DENIED && strstr(probe.text, "Permission denied") ? 0
											       : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	unlink(path);
	close(fd);
}
END_TEST

START_TEST(test_a_device_that_is_no_kvm_is_broken)
{
	struct accel_probe probe;

	accel_probe("/dev/null", &probe);
	ck_assert_int_eq(probe.kvm, ACCEL_KVM_BROKEN);
	ck_assert_ptr_nonnull(strstr(probe.text, "KVM_GET_API_VERSION failed"));
}
END_TEST

/* Whatever this host has: an answer in time, with words, and nothing left behind. */
START_TEST(test_this_host_is_answered_in_time)
{
	struct accel_probe probe;
	uint64_t start = now_us();
	int fds = count_fds();

	accel_probe("/dev/kvm", &probe);
	ck_assert_uint_lt(now_us() - start, 2000000);
	ck_assert_uint_gt(strlen(probe.text), 10);
	if (probe.kvm == ACCEL_KVM_USABLE)
		ck_assert(probe.slowdown > 0 && probe.slowdown <= 8);
	if (probe.kvm == ACCEL_KVM_SLOW && probe.slowdown > 0)
		ck_assert(probe.slowdown > 8);
	ck_assert_int_eq(count_fds(), fds);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(test_choice)
{
	static const struct {
		enum accel_mode mode;
		enum accel_kvm kvm;
		int result;
		enum accel accel;
	} cases[] = {
		{ACCEL_MODE_AUTO, ACCEL_KVM_USABLE, 0, ACCEL_KVM},
		{ACCEL_MODE_AUTO, ACCEL_KVM_ABSENT, 0, ACCEL_TCG},
		{ACCEL_MODE_AUTO, ACCEL_KVM_DENIED, 0, ACCEL_TCG},
		{ACCEL_MODE_AUTO, ACCEL_KVM_BROKEN, 0, ACCEL_TCG},
		{ACCEL_MODE_AUTO, ACCEL_KVM_SLOW, 0, ACCEL_TCG},
		{ACCEL_MODE_TCG, ACCEL_KVM_USABLE, 0, ACCEL_TCG},
		{ACCEL_MODE_TCG, ACCEL_KVM_ABSENT, 0, ACCEL_TCG},
		{ACCEL_MODE_KVM, ACCEL_KVM_USABLE, 0, ACCEL_KVM},
		{ACCEL_MODE_KVM, ACCEL_KVM_ABSENT, -ENODEV, ACCEL_TCG},
		{ACCEL_MODE_KVM, ACCEL_KVM_SLOW, -ENODEV, ACCEL_TCG},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct accel_probe probe = {.kvm = cases[i].kvm};
		enum accel accel = ACCEL_TCG;

		ck_assert_int_eq(accel_choose(cases[i].mode, &probe, &accel), cases[i].result);
		ck_assert_int_eq(accel, cases[i].accel);
	}
	ck_assert_str_eq(accel_name(ACCEL_TCG), "tcg");
	ck_assert_str_eq(accel_name(ACCEL_KVM), "kvm");
}
END_TEST

/* Two measurements agree: the counter and the clock are not made up. */
START_TEST(test_counter_rate_is_steady)
{
	uint32_t first = 0, second = 0;
	int r = tsc_measure(&first);

	if (r == -ENOTSUP) {
		ck_assert_uint_eq(first, 0);
		return;
	}
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(tsc_measure(&second), 0);
	ck_assert_uint_gt(first, 100000);
	ck_assert_int_lt(llabs((long long)first - (long long)second), first / 1000);
	ck_assert_uint_eq(tsc_loops_per_jiffy(2596141, 100), 25961410);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("accel");
	TCase *all = tcase_create("all");

	tcase_add_test(all, test_no_device_is_absent);
	tcase_add_test(all, test_no_permission_is_denied);
	tcase_add_test(all, test_a_device_that_is_no_kvm_is_broken);
	tcase_add_test(all, test_this_host_is_answered_in_time);
	tcase_add_test(all, test_choice);
	tcase_add_test(all, test_counter_rate_is_steady);
	suite_add_tcase(suite, all);
	return suite;
}
