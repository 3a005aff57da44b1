/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line: each option once, descriptors in their places, no path of the host. */
#include "daemon/vm/qemu_argv.h"

#include "base/util.h"
#include "daemon/vm/argv.h"
#include "daemon/vm/tsc.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct qemu_config config = {
	.program = "/usr/bin/qemu-system-x86_64",
	.name = "vm_1",
	.accel = ACCEL_TCG,
	.memory_mb = 256,
	.translation_mb = 32,
	.tsc_khz = 2600000,
	.qmp_fd = 3,
	.agent_fd = 4,
	.console_fd = 5,
	.kernel_fd = 6,
	.rootfs_fd = 7,
};

static char **build(const struct qemu_config *from)
{
	char **argv = NULL;

	ck_assert_int_eq(qemu_argv(from, &argv), 0);
	return argv;
}

/* How often `option` is followed by exactly `value`. */
static int count(char *const *argv, const char *option, const char *value)
{
	int n = 0;

	for (; argv[0] && argv[1]; argv++)
		n += strcmp(argv[0], option) == 0 && strcmp(argv[1], value) == 0;
	return n;
}

static int count_word(char *const *argv, const char *word)
{
	int n = 0;

	for (; *argv; argv++)
		n += strcmp(*argv, word) == 0;
	return n;
}

START_TEST(test_everything_is_there_once)
{
	static const char *const pairs[][2] = {
		{"-name", "vm_1"},
		{"-display", "none"},
		{"-nic", "none"},
		{"-sandbox",
		 "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"},
		{"-M", "microvm,x-option-roms=off,pit=on,pic=on,rtc=on,acpi=off,mem-merge=off,"
		       "dump-guest-core=off"},
		{"-accel", "tcg,thread=single,tb-size=32"},
		{"-cpu", "max,-erms"},
		{"-smp", "1"},
		{"-m", "256M"},
		{"-global", "virtio-mmio.force-legacy=false"},
		{"-chardev", "socket,id=qmp,fd=3,server=on,wait=off"},
		{"-mon", "chardev=qmp,mode=control"},
		{"-chardev", "socket,id=console,fd=5"},
		{"-serial", "chardev:console"},
		{"-device", "virtio-serial-device,max_ports=2"},
		{"-chardev", "socket,id=agent,fd=4,server=on,wait=off"},
		{"-device", "virtserialport,nr=1,chardev=agent,name=org.execsandbox.agent"},
		{"-device", "virtio-balloon-device,id=balloon0,deflate-on-oom=on,"
			    "free-page-reporting=on,page-poison=off"},
		{"-object", "rng-random,id=rng0,filename=/dev/urandom"},
		{"-device", "virtio-rng-device,rng=rng0,max-bytes=4096,period=1000"},
		{"-blockdev", "driver=file,node-name=rootfs,filename=/proc/self/fd/7,read-only=on,"
			      "auto-read-only=off,locking=off"},
		{"-device", "virtio-blk-device,drive=rootfs"},
		{"-kernel", "/proc/self/fd/6"},
	};
	static const char *const words[] = {"-nodefaults", "-no-user-config", "-no-reboot",
					    "-append",     "-accel",          "-M",
					    "-m",          "-kernel",         "-mon"};
	char **argv = build(&config);
	size_t len = 0;

	ck_assert_str_eq(argv[0], "/usr/bin/qemu-system-x86_64");
	for (size_t i = 0; i < ELEMENTSOF(pairs); i++)
		ck_assert_msg(count(argv, pairs[i][0], pairs[i][1]) == 1, "%s %s", pairs[i][0],
			      pairs[i][1]);
	for (size_t i = 0; i < ELEMENTSOF(words); i++)
		ck_assert_msg(count_word(argv, words[i]) == 1, "%s", words[i]);
	while (argv[len])
		len++;
	/* The program, the pairs, -append with its line, three words alone: nothing else. */
	ck_assert_uint_eq(len, 1 + 2 * ELEMENTSOF(pairs) + 2 + 3);
	argv_free(argv);
}
END_TEST

START_TEST(test_kvm_differs_in_accelerator_cpu_and_clock_alone)
{
	struct qemu_config kvm = config;
	char **argv, **tcg_argv = build(&config);

	kvm.accel = ACCEL_KVM;
	argv = build(&kvm);
	ck_assert_int_eq(count(argv, "-accel", "kvm"), 1);
	ck_assert_int_eq(count(argv, "-cpu", "host"), 1);
	for (size_t i = 0; argv[i]; i++) {
		const char *before = i > 0 ? argv[i - 1] : "";

		ck_assert_ptr_nonnull(tcg_argv[i]);
		if (strcmp(before, "-accel") != 0 && strcmp(before, "-cpu") != 0 &&
		    strcmp(before, "-append") != 0)
			ck_assert_str_eq(argv[i], tcg_argv[i]);
	}
	argv_free(argv);
	argv_free(tcg_argv);
}
END_TEST

START_TEST(test_no_path_of_the_host_is_named)
{
	char **argv = build(&config);

	for (size_t i = 1; argv[i]; i++) {
		const char *path = strstr(argv[i], "=/");

		if (strcmp(argv[i - 1], "-append") == 0)
			continue;
		if (path)
			ck_assert_msg(strncmp(path + 1, "/proc/self/fd/", 14) == 0 ||
					      strcmp(path + 1, "/dev/urandom") == 0,
				      "%s", argv[i]);
		else if (argv[i][0] == '/')
			ck_assert_msg(strncmp(argv[i], "/proc/self/fd/", 14) == 0, "%s", argv[i]);
	}
	argv_free(argv);
}
END_TEST

START_TEST(test_kernel_line)
{
	static const char common[] =
		"root=/dev/vda rootfstype=erofs ro init=/usr/lib/execsandbox/agent "
		"console=ttyS0 quiet transparent_hugepage=never";
	static const struct {
		enum accel accel;
		uint32_t khz;
		const char *clock;
	} cases[] = {
		{ACCEL_TCG, 2600000, " norandmaps tsc_early_khz=2600000 lpj=26000000"},
		{ACCEL_TCG, 4294967295, " norandmaps tsc_early_khz=4294967295 lpj=42949672950"},
		{ACCEL_TCG, 0, " norandmaps"},
		{ACCEL_KVM, 2600000, ""}};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct qemu_config from = config;
		_cleanup_free_ char *line = NULL;
		char expected[512];
		char **argv;

		from.accel = cases[i].accel;
		from.tsc_khz = cases[i].khz;
		snprintf(expected, sizeof(expected), "%s%s", common, cases[i].clock);
		ck_assert_int_eq(qemu_kernel_line(&from, &line), 0);
		ck_assert_str_eq(line, expected);
		argv = build(&from);
		ck_assert_int_eq(count(argv, "-append", expected), 1);
		argv_free(argv);
	}
}
END_TEST

START_TEST(test_descriptors_and_memory_follow_the_configuration)
{
	struct qemu_config from = config;
	char **argv;

	from.qmp_fd = 30;
	from.agent_fd = 31;
	from.console_fd = 32;
	from.kernel_fd = 33;
	from.rootfs_fd = 34;
	from.memory_mb = 4096;
	argv = build(&from);
	ck_assert_int_eq(count(argv, "-chardev", "socket,id=qmp,fd=30,server=on,wait=off"), 1);
	ck_assert_int_eq(count(argv, "-chardev", "socket,id=agent,fd=31,server=on,wait=off"), 1);
	ck_assert_int_eq(count(argv, "-chardev", "socket,id=console,fd=32"), 1);
	ck_assert_int_eq(count(argv, "-kernel", "/proc/self/fd/33"), 1);
	ck_assert_int_eq(count(argv, "-m", "4096M"), 1);
	argv_free(argv);
}
END_TEST

START_TEST(test_vectors_are_bounded)
{
	struct argv argv = {0};
	char **words = NULL;

	ck_assert_int_eq(argv_finish(&argv, &words), -EINVAL);
	for (int i = 0; i < ARGV_WORDS_MAX; i++)
		argv_addf(&argv, "%d", i);
	ck_assert_int_eq(argv_finish(&argv, &words), 0);
	ck_assert_str_eq(words[ARGV_WORDS_MAX - 1], "255");
	ck_assert_ptr_null(words[ARGV_WORDS_MAX]);
	argv_free(TAKE_PTR(words));
	for (int i = 0; i <= ARGV_WORDS_MAX; i++)
		argv_add(&argv, "x");
	ck_assert_int_eq(argv_finish(&argv, &words), -E2BIG);
	ck_assert_ptr_null(words);
	argv_free(NULL);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("qemu_argv");
	TCase *all = tcase_create("all");

	tcase_add_test(all, test_everything_is_there_once);
	tcase_add_test(all, test_kvm_differs_in_accelerator_cpu_and_clock_alone);
	tcase_add_test(all, test_no_path_of_the_host_is_named);
	tcase_add_test(all, test_kernel_line);
	tcase_add_test(all, test_descriptors_and_memory_follow_the_configuration);
	tcase_add_test(all, test_vectors_are_bounded);
	suite_add_tcase(suite, all);
	return suite;
}
