/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What VMs may have together: with VMs of an earlier daemon it is what it was without them.
 *
 * Host and processes are made by hand: the linker gives the owner these functions (--wrap in
 * tests/Makefile.inc).
 */
#include "daemon/memory_owner.h"

#include "daemon/launcher/client_internal.h"
#include "daemon/memory/host.h"
#include "tests/unit/suite.h"

#include <errno.h>

#define MIB        (UINT64_C(1) << 20)
#define GIB_MB     UINT64_C(1024)
#define RESERVE_MB 2048

static struct host_memory host;
static int host_error;
static uint64_t anonymous_bytes[8]; /* by pid; 0: there is no such process */

int __wrap_host_memory_read(struct host_memory *ret);
int __wrap_process_anonymous_read(pid_t pid, uint64_t *ret_bytes);

int __wrap_host_memory_read(struct host_memory *ret)
{
	*ret = host;
	return host_error;
}

int __wrap_process_anonymous_read(pid_t pid, uint64_t *ret_bytes)
{
	ck_assert_int_gt(pid, 0);
	ck_assert_uint_lt((size_t)pid, ELEMENTSOF(anonymous_bytes));
	if (anonymous_bytes[pid] == 0)
		return -ENOENT;
	*ret_bytes = anonymous_bytes[pid];
	return 0;
}

static struct config config;
static struct daemon owner;
static struct launcher launcher;
static struct launch launches[4];

/* 24 GiB; what VMs have is taken from what is available. */
static void setup(void)
{
	config = (struct config){.default_memory_mb = 256};
	owner = (struct daemon){.config = &config, .vm_host = {.launcher = &launcher}};
	launcher = (struct launcher){.fd = -1};
	host = (struct host_memory){.total_bytes = 24 * GIB_MB * MIB,
				    .available_bytes = 22 * GIB_MB * MIB};
	host_error = 0;
	for (size_t i = 0; i < ELEMENTSOF(anonymous_bytes); i++)
		anonymous_bytes[i] = 0;
}

static void have_vm(size_t index, pid_t pid, uint64_t memory_mb)
{
	launches[index] =
		(struct launch){.launcher = &launcher, .next = launcher.launches, .pid = pid};
	launcher.launches = &launches[index];
	if (pid > 0)
		anonymous_bytes[pid] = memory_mb * MIB;
	host.available_bytes -= memory_mb * MIB;
}

START_TEST(test_first_daemon)
{
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 20 * GIB_MB);
	/* That of the start holds, whatever our own VMs take. */
	host.available_bytes = GIB_MB * MIB;
	have_vm(0, 1, 100);
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 20 * GIB_MB);
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, 0), 22 * GIB_MB);
}
END_TEST

START_TEST(test_no_launcher)
{
	owner.vm_host.launcher = NULL;
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 20 * GIB_MB);
}
END_TEST

/* Sessions hold 15 GiB when the next daemon starts, and another one after that. */
START_TEST(test_daemon_after_others)
{
	have_vm(0, 1, 10 * GIB_MB);
	have_vm(1, 2, 5 * GIB_MB);
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 20 * GIB_MB);
	owner.available_mb = 0;
	have_vm(2, 3, GIB_MB);
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 20 * GIB_MB);
}
END_TEST

/* One whose pid has not come, and one that has just ended. */
START_TEST(test_vms_without_a_process)
{
	have_vm(0, 0, 0);
	have_vm(1, 2, 0);
	have_vm(2, 3, GIB_MB);
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 20 * GIB_MB);
}
END_TEST

/* VMs that came between the two readings make no host larger than it is. */
START_TEST(test_no_more_than_there_is)
{
	have_vm(0, 1, 10 * GIB_MB);
	host.available_bytes = 20 * GIB_MB * MIB;
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 22 * GIB_MB);
}
END_TEST

START_TEST(test_a_vm_of_the_default_size_fits)
{
	host.available_bytes = 100 * MIB;
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 256 + 32);
	host_error = -ENOENT;
	owner.available_mb = 0;
	ck_assert_uint_eq(memory_owner_limit_mb(&owner, RESERVE_MB), 256 + 32);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("memory_owner");
	TCase *tests = tcase_create("limit");

	tcase_add_checked_fixture(tests, setup, NULL);
	tcase_add_test(tests, test_first_daemon);
	tcase_add_test(tests, test_no_launcher);
	tcase_add_test(tests, test_daemon_after_others);
	tcase_add_test(tests, test_vms_without_a_process);
	tcase_add_test(tests, test_no_more_than_there_is);
	tcase_add_test(tests, test_a_vm_of_the_default_size_fits);
	suite_add_tcase(suite, tests);
	return suite;
}
