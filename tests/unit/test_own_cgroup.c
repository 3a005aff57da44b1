/* SPDX-License-Identifier: Apache-2.0 */
/* A process's control group in each layout, its limits, names that lead elsewhere; and VMs' group.
 */
#include "base/own_cgroup.h"

#include "base/log.h"
#include "daemon/launcher/client_internal.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_kernel_files.h"

#define MIB (UINT64_C(1) << 20)

static struct own_cgroup cgroup;
static struct cgroup_memory memory;

static void setup(void)
{
	test_dir_make(host_dir);
}

static void teardown(void)
{
	test_dir_remove(host_dir);
}

static void find(const char *proc_self_cgroup)
{
	host_write("/proc/self/cgroup", proc_self_cgroup);
	ck_assert_int_eq(own_cgroup_find(&host_dir_files, 0, &cgroup), 0);
}

static void measure(void)
{
	own_cgroup_memory(&host_dir_files, &cgroup, &memory);
}

static void write_mb(const char *path, unsigned mb)
{
	char text[32];

	snprintf(text, sizeof(text), "%ju\n", (uintmax_t)(mb * MIB));
	host_write(path, text);
}

START_TEST(test_unified)
{
	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	find("0::/system.slice/x.service\n");
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP "/system.slice/x.service");
	ck_assert_str_eq(cgroup.memory_v1, "");
	find("0::/\n");
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP);
}
END_TEST

START_TEST(test_hybrid)
{
	host_write(TEST_CGROUP "/unified/cgroup.controllers", "\n");
	find("9:name=systemd:/s\n4:cpu,memory:/a/b\n3:memoryless:/c\n0::/d\n");
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP "/unified/d");
	ck_assert_str_eq(cgroup.memory_v1, TEST_CGROUP "/memory/a/b");
	ck_assert_str_eq(cgroup.cpu_v1, TEST_CGROUP "/cpu/a/b");
	ck_assert_str_eq(cgroup.pids_v1, "");
}
END_TEST

START_TEST(test_version_1_alone)
{
	find("5:cpu:/b\n4:memory:/\n3:pids:/c/d\n2:cpuset:/e\n");
	ck_assert_str_eq(cgroup.unified, "");
	ck_assert_str_eq(cgroup.cpu_v1, TEST_CGROUP "/cpu/b");
	ck_assert_str_eq(cgroup.pids_v1, TEST_CGROUP "/pids/c/d");
	ck_assert_str_eq(cgroup.memory_v1, TEST_CGROUP "/memory");
}
END_TEST

START_TEST(test_lines_that_lead_nowhere)
{
	static const char *const bad[] = {
		"",
		"\n",
		"0::",
		"0::\n",
		"0::x\n",
		"0:/\n",
		":::/\n",
		"0::/../other\n",
		"0::/a/../../../etc\n",
		"0::/..\n",
		"4:memory:\n",
		"4:memory:/../x\n",
		"4:memory",
		"memory:/",
		"4:memor,y:/x\n",
	};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		find(bad[i]);
		ck_assert_msg(!*cgroup.unified && !*cgroup.memory_v1, "taken: %s", bad[i]);
	}
	host_remove("/proc/self/cgroup");
	snprintf(cgroup.unified, sizeof(cgroup.unified), "/old");
	ck_assert_int_eq(own_cgroup_find(&host_dir_files, 0, &cgroup), -ENOENT);
	ck_assert_str_eq(cgroup.unified, "");
}
END_TEST

START_TEST(test_path_of_any_length)
{
	char text[8192] = "0::/";

	memset(text + 4, 'x', sizeof(text) - 6);
	text[sizeof(text) - 2] = '\n';
	find(text);
	ck_assert_str_eq(cgroup.unified, "");
	memcpy(text + 4000, "\n", 2);
	find(text);
	ck_assert_uint_eq(strlen(cgroup.unified), strlen(TEST_CGROUP "/unified") + 4000 - 3);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, UINT64_MAX);
}
END_TEST

START_TEST(test_limits_of_version_2)
{
	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	find("0::/a/b\n");
	measure();
	ck_assert_uint_eq(memory.limit_bytes, UINT64_MAX);
	ck_assert_uint_eq(memory.available_bytes, UINT64_MAX);

	host_write(TEST_CGROUP "/a/b/memory.max", "max\n");
	host_write(TEST_CGROUP "/a/b/memory.high", "max\n");
	write_mb(TEST_CGROUP "/a/b/memory.current", 300);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, UINT64_MAX);

	/* `file` has tmpfs in it, which cannot be dropped: only the file lists count. */
	host_write(TEST_CGROUP "/a/b/memory.stat",
		   "anon 1\nfile 104857600\nactive_file 10485760\ninactive_file 20971520\n");
	write_mb(TEST_CGROUP "/a/b/memory.max", 500);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, 500 * MIB);
	ck_assert_uint_eq(memory.available_bytes, 230 * MIB);
	write_mb(TEST_CGROUP "/a/b/memory.high", 400);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, 400 * MIB);
	ck_assert_uint_eq(memory.available_bytes, 130 * MIB);

	/* Another group uses most of what the parent may. */
	write_mb(TEST_CGROUP "/a/memory.max", 1000);
	write_mb(TEST_CGROUP "/a/memory.current", 950);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, 400 * MIB);
	ck_assert_uint_eq(memory.available_bytes, 50 * MIB);
	write_mb(TEST_CGROUP "/a/memory.current", 1001);
	measure();
	ck_assert_uint_eq(memory.available_bytes, 0);
}
END_TEST

START_TEST(test_limits_of_version_1)
{
	host_write(TEST_CGROUP "/unified/cgroup.controllers", "\n");
	find("4:memory:/a\n0::/\n");
	host_write(TEST_CGROUP "/memory/memory.limit_in_bytes", "9223372036854771712\n");
	write_mb(TEST_CGROUP "/memory/memory.usage_in_bytes", 5000);
	write_mb(TEST_CGROUP "/memory/a/memory.limit_in_bytes", 256);
	write_mb(TEST_CGROUP "/memory/a/memory.usage_in_bytes", 200);
	host_write(TEST_CGROUP "/memory/a/memory.stat",
		   "active_file 1\ntotal_active_file 1048576\ntotal_inactive_file 2097152\n");
	measure();
	ck_assert_uint_eq(memory.limit_bytes, 256 * MIB);
	ck_assert_uint_eq(memory.available_bytes, 59 * MIB);
}
END_TEST

/* A container without a cgroup namespace: its group's files lie at the mount's root. */
START_TEST(test_limits_of_a_container)
{
	find("4:memory:/docker/0123\n");
	write_mb(TEST_CGROUP "/memory/memory.limit_in_bytes", 512);
	write_mb(TEST_CGROUP "/memory/memory.usage_in_bytes", 100);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, 512 * MIB);
	ck_assert_uint_eq(memory.available_bytes, 412 * MIB);
}
END_TEST

START_TEST(test_figures_that_cannot_be)
{
	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	find("0::/a\n");
	host_write(TEST_CGROUP "/a/memory.max", "5x\n");
	write_mb(TEST_CGROUP "/a/memory.current", 1);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, UINT64_MAX);
	write_mb(TEST_CGROUP "/a/memory.max", 100);
	host_write(TEST_CGROUP "/a/memory.current", "");
	measure();
	ck_assert_uint_eq(memory.limit_bytes, UINT64_MAX);
	write_mb(TEST_CGROUP "/a/memory.current", 10);
	host_write(TEST_CGROUP "/a/memory.stat",
		   "active_file 18446744073709551615\ninactive_file 4611686018427387903\n");
	measure();
	ck_assert_uint_eq(memory.available_bytes, 100 * MIB);
}
END_TEST

/* --- The group that holds VMs: that of the launcher, whose pid is 123. --- */

#define UNIT "/execsandbox.slice/execsandbox-launcher.service"

static struct launcher launcher;

static void find_vms(pid_t pid, const char *kind, const char *text)
{
	launcher = (struct launcher){.pid = pid};
	snprintf(launcher.cgroup, sizeof(launcher.cgroup), "%s", kind);
	host_write("/proc/self/cgroup", "4:memory:/daemon\n0::/execsandbox.slice/daemon\n");
	if (text)
		host_write("/proc/123/cgroup", text);
	launcher_find_cgroup(&launcher, &host_dir_files, &cgroup);
}

START_TEST(test_vms_of_version_2)
{
	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	find_vms(123, "v2", "0::" UNIT "/launcher\n");
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP UNIT);
	ck_assert_str_eq(cgroup.memory_v1, "");
	/* One level alone is ours, also where the hierarchy's root is what was delegated. */
	find_vms(123, "v2", "0::/launcher/launcher\n");
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP "/launcher");
	find_vms(123, "v2", "0::/launcher\n");
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP);
	/* Without leaves it did not move: the name is somebody else's. */
	find_vms(123, "none", "0::/a/launcher\n");
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP "/a/launcher");
	find_vms(123, "v2", "0::/../launcher\n");
	ck_assert_str_eq(cgroup.unified, "");
}
END_TEST

START_TEST(test_vms_of_version_1)
{
	find_vms(123, "v1", "5:pids:/p\n4:memory:/m/launcher\n0::/u/launcher\n");
	ck_assert_str_eq(cgroup.memory_v1, TEST_CGROUP "/memory/m/launcher");
	ck_assert_str_eq(cgroup.pids_v1, TEST_CGROUP "/pids/p");
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP "/unified/u/launcher");
}
END_TEST

/* The unit's limit and the slice's; the daemon's own is nothing to VMs. */
START_TEST(test_limits_of_vms)
{
	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	write_mb(TEST_CGROUP "/execsandbox.slice/daemon/memory.max", 100);
	write_mb(TEST_CGROUP "/execsandbox.slice/daemon/memory.current", 99);
	find_vms(123, "v2", "0::" UNIT "/launcher\n");
	measure();
	ck_assert_uint_eq(memory.limit_bytes, UINT64_MAX);
	write_mb(TEST_CGROUP UNIT "/memory.max", 800);
	write_mb(TEST_CGROUP UNIT "/memory.current", 300);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, 800 * MIB);
	ck_assert_uint_eq(memory.available_bytes, 500 * MIB);
	write_mb(TEST_CGROUP "/execsandbox.slice/memory.max", 700);
	write_mb(TEST_CGROUP "/execsandbox.slice/memory.current", 400);
	measure();
	ck_assert_uint_eq(memory.limit_bytes, 700 * MIB);
	ck_assert_uint_eq(memory.available_bytes, 300 * MIB);
}
END_TEST

/* It is gone, has not said who it is, or says what no process is: our own. */
START_TEST(test_vms_of_a_launcher_that_cannot_be_read)
{
	static const pid_t pids[] = {124, 0, -123};

	log_set_level(LOG_ERR);
	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	for (size_t i = 0; i < ELEMENTSOF(pids); i++) {
		find_vms(pids[i], "v2", "0::" UNIT "/launcher\n");
		ck_assert_str_eq(cgroup.unified, TEST_CGROUP "/execsandbox.slice/daemon");
		ck_assert_str_eq(cgroup.memory_v1, TEST_CGROUP "/memory/daemon");
	}
	launcher_find_cgroup(NULL, &host_dir_files, &cgroup);
	ck_assert_str_eq(cgroup.unified, TEST_CGROUP "/execsandbox.slice/daemon");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("own_cgroup");
	TCase *tests = tcase_create("own_cgroup");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_unified);
	tcase_add_test(tests, test_hybrid);
	tcase_add_test(tests, test_version_1_alone);
	tcase_add_test(tests, test_lines_that_lead_nowhere);
	tcase_add_test(tests, test_path_of_any_length);
	tcase_add_test(tests, test_limits_of_version_2);
	tcase_add_test(tests, test_limits_of_version_1);
	tcase_add_test(tests, test_limits_of_a_container);
	tcase_add_test(tests, test_figures_that_cannot_be);
	tcase_add_test(tests, test_vms_of_version_2);
	tcase_add_test(tests, test_vms_of_version_1);
	tcase_add_test(tests, test_limits_of_vms);
	tcase_add_test(tests, test_vms_of_a_launcher_that_cannot_be_read);
	suite_add_tcase(suite, tests);
	return suite;
}
