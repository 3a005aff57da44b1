/* SPDX-License-Identifier: Apache-2.0 */
/* Memory control: which level the host's figures make, and who hears of it. */
#include "daemon/memory/control.h"

#include "base/log.h"
#include "daemon/launcher/client_internal.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_kernel_files.h"

#define MIB (UINT64_C(1) << 20)

static struct loop *loop;
static struct vm_host host;
static struct memory_control *control;
static struct memory_control_config config;
static int changes;
static enum policy_level last_old;

static void on_level(void *user, enum policy_level old)
{
	ck_assert_ptr_eq(user, &changes);
	changes++;
	last_old = old;
}

static bool drop_spare(void *user UNUSED, struct vm *vm UNUSED)
{
	return false;
}

static const struct memory_control_ops ops = {.on_level = on_level, .drop_spare = drop_spare};

static void setup(void)
{
	test_dir_make(host_dir);
	host_write_meminfo(1100, 900);
	host_write_psi(TEST_PSI, 0, 0);
	host_write("/proc/self/cgroup", "0::/\n");
	ck_assert_int_eq(loop_create(&loop), 0);
	host = (struct vm_host){.loop = loop};
	config = (struct memory_control_config){.loop = loop,
						.host = &host,
						.reserve_bytes = 100 * MIB,
						.files = &host_dir_files,
						.ops = &ops,
						.user = &changes};
	changes = 0;
	log_set_level(LOG_ERR);
}

static void teardown(void)
{
	memory_control_destroy(control);
	control = NULL;
	loop_destroy(loop);
	test_dir_remove(host_dir);
}

static enum policy_level level(void)
{
	return memory_control_policy(control)->level;
}

static void start(void)
{
	ck_assert_int_eq(memory_control_create(&config, &control), 0);
}

START_TEST(test_known_at_once)
{
	start();
	ck_assert_int_eq(level(), POLICY_GREEN);
	ck_assert_uint_eq(memory_control_sample(control)->managed_bytes, 1000 * MIB);
	ck_assert_uint_eq(memory_control_sample(control)->available_bytes, 800 * MIB);
	ck_assert_int_eq(changes, 0);
}
END_TEST

/* Of what is managed 15, 8, 4 and 2 % are left: MEMORY.md's table of levels. */
START_TEST(test_level_follows_what_is_left)
{
	static const struct {
		unsigned available_mb;
		enum policy_level level;
	} steps[] = {
		{250, POLICY_YELLOW}, {180, POLICY_ORANGE}, {140, POLICY_RED}, {120, POLICY_BLACK}};

	start();
	for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
		enum policy_level before = level();

		host_write_meminfo(1100, steps[i].available_mb);
		ck_assert(WAIT_FOR(loop, level() != before));
		ck_assert_int_eq(level(), steps[i].level);
		ck_assert_int_eq(last_old, before);
		ck_assert_int_eq(changes, (int)i + 1);
	}
}
END_TEST

START_TEST(test_stalls_count)
{
	start();
	/* A tenth of every second from now on. */
	host_write_psi(TEST_PSI, 2000000, 0);
	ck_assert(WAIT_FOR(loop, level() != POLICY_GREEN));
	ck_assert_double_gt(memory_control_sample(control)->some_stall_percent, 1.);
	ck_assert_int_eq(changes, 1);
}
END_TEST

START_TEST(test_budget)
{
	config.budget_bytes = 300 * MIB;
	start();
	ck_assert_uint_eq(memory_control_sample(control)->managed_bytes, 300 * MIB);
	ck_assert_uint_eq(memory_control_sample(control)->available_bytes, 300 * MIB);
	ck_assert_int_eq(level(), POLICY_GREEN);
}
END_TEST

/* The limit that counts is that of the launcher's group, not of the daemon's. */
START_TEST(test_cgroup_is_the_launchers)
{
	struct launcher launcher = {.pid = 123, .cgroup = "v2"};

	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	host_write("/proc/self/cgroup", "0::/d\n");
	host_write(TEST_CGROUP "/d/memory.max", "104857600\n");
	host_write(TEST_CGROUP "/d/memory.current", "104857600\n");
	host_write("/proc/123/cgroup", "0::/l/launcher\n");
	host_write(TEST_CGROUP "/l/memory.max", "524288000\n");
	host_write(TEST_CGROUP "/l/memory.current", "209715200\n");
	host.launcher = &launcher;
	start();
	ck_assert_uint_eq(memory_control_sample(control)->managed_bytes, 500 * MIB);
	ck_assert_uint_eq(memory_control_sample(control)->available_bytes, 300 * MIB);
	ck_assert_int_eq(level(), POLICY_GREEN);
}
END_TEST

START_TEST(test_no_meminfo)
{
	host_remove("/proc/meminfo");
	ck_assert_int_eq(memory_control_create(&config, &control), -ENOENT);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("memory_control");
	TCase *all = tcase_create("all");

	tcase_add_checked_fixture(all, setup, teardown);
	tcase_set_timeout(all, 60);
	tcase_add_test(all, test_known_at_once);
	tcase_add_test(all, test_level_follows_what_is_left);
	tcase_add_test(all, test_stalls_count);
	tcase_add_test(all, test_budget);
	tcase_add_test(all, test_cgroup_is_the_launchers);
	tcase_add_test(all, test_no_meminfo);
	suite_add_tcase(suite, all);
	return suite;
}
