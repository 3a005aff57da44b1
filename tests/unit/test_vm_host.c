/* SPDX-License-Identifier: Apache-2.0 */
/* VMs that cannot even be spawned (the right error, no callback, nothing left behind), and what
 * gone ones have left. */
#include "daemon/vm/vm.h"

#include "daemon/vm/jail.h"
#include "daemon/vm/vm_internal.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"
#include "tests/unit/test_json.h"

#include <dirent.h>
#include <errno.h>

static char dir[TEST_DIR_SIZE];
static struct vm_host host;
static const struct vm_spec spec = {.memory_mb = 256, .language = "shell"};
static struct vm *vm;
static int state_count;

static void on_state(void *user UNUSED, struct vm *changed UNUSED, enum vm_state old UNUSED)
{
	state_count++;
}

/* No callback comes for a VM that was never there. */
static void on_nothing(void *user UNUSED)
{
	ck_abort_msg("A callback came");
}

static void on_failure(void *user UNUSED, struct rpc_error *error_take)
{
	ck_abort_msg("on_failed came: %s", error_take->message);
}

static const struct vm_ops ops = {
	.on_ready = on_nothing, .on_failed = on_failure, .on_gone = on_nothing};

static void setup(void)
{
	test_dir_make(dir);
	state_count = 0;
	host = (struct vm_host){.qemu = "/bin/true",
				.bubblewrap = "/bin/true",
				.node = "",
				.boot_timeout_seconds = 20,
				.stats_interval_seconds = 1,
				.on_state = on_state};
	ck_assert_int_eq(loop_create(&host.loop), 0);
	host.vms_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	host.kernel_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	host.rootfs_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(jail_filter_create(JAIL_PUNCH_HOLE_ALLOWED, &host.filter_fd), 0);
}

static void teardown(void)
{
	close_fd(host.vms_fd);
	close_fd(host.kernel_fd);
	close_fd(host.rootfs_fd);
	close_fd(host.filter_fd);
	loop_destroy(host.loop);
	test_dir_remove(dir);
}

static size_t entries(void)
{
	DIR *stream = opendir(dir);
	size_t count = 0;

	while (readdir(stream))
		count++;
	closedir(stream);
	return count - 2;
}

static void assert_refused(int code, const char *words)
{
	int fds = test_open_fds();
	struct rpc_error *error = vm_create(&host, &spec, &ops, NULL, &vm);

	ck_assert_ptr_nonnull(error);
	ck_assert_int_eq(error->code, code);
	ck_assert_msg(strstr(error->message, words), "%s", error->message);
	json_need(error->data, "hint");
	rpc_error_free(error);
	loop_run_once(host.loop, false);
	ck_assert_ptr_null(host.vms);
	ck_assert_int_eq(state_count, 0);
	ck_assert_uint_eq(entries(), 0);
	ck_assert_int_eq(test_open_fds(), fds);
}

START_TEST(test_missing_programs)
{
	host.qemu = "/nonexistent/qemu";
	assert_refused(RPC_VM_CONFIG, "/nonexistent/qemu");
	host.qemu = "/etc/passwd"; /* there, but not to be executed */
	assert_refused(RPC_VM_CONFIG, "/etc/passwd");
}
END_TEST

START_TEST(test_bubblewrap_cannot_be_executed)
{
	host.bubblewrap = "/nonexistent/bwrap";
	/* As root the jail refuses before it looks: QEMU never runs with uid 0. */
	assert_refused(RPC_VM_CONFIG, "/nonexistent/bwrap");
}
END_TEST

START_TEST(test_runtime_directory_is_gone)
{
	ck_assert_int_eq(rmdir(dir), 0);
	{
		struct rpc_error *error = vm_create(&host, &spec, &ops, NULL, &vm);

		ck_assert_ptr_nonnull(error);
		ck_assert_int_eq(error->code, RPC_VM_CONFIG);
		ck_assert_ptr_nonnull(strstr(error->message, "runtime directory"));
		rpc_error_free(error);
	}
	ck_assert_ptr_null(host.vms);
}
END_TEST

START_TEST(test_find_in_an_empty_host)
{
	ck_assert_ptr_null(vm_find(&host, "vm_0"));
	ck_assert_ptr_null(vm_find(&host, ""));
	vm_destroy_all(&host);
}
END_TEST

#define STUCK  "vm_0000000000000001"
#define LIVING "vm_0000000000000002"
#define OTHER  "vm_0000000000000003"

/* A VM's directory with a file; with a directory inside, which is never made there, it stays. */
static void make_files(const char *id, bool is_stuck)
{
	char path[64];

	ck_assert_int_eq(mkdirat(host.vms_fd, id, 0700), 0);
	snprintf(path, sizeof(path), "%s/record.json", id);
	test_dir_write(dir, path, "x", 1);
	snprintf(path, sizeof(path), "%s/inside", id);
	if (is_stuck)
		ck_assert_int_eq(mkdirat(host.vms_fd, path, 0700), 0);
}

/* With the next VM that goes; those of VMs that live stay. */
START_TEST(test_directory_that_cannot_be_removed)
{
	struct vm living = {.id = LIVING};

	host.vms = &living;
	make_files(LIVING, false);
	make_files(STUCK, true);
	vm_remove_files(&host, STUCK);
	ck_assert(test_dir_has(dir, STUCK));
	make_files(OTHER, false);
	vm_remove_files(&host, OTHER);
	ck_assert(test_dir_has(dir, STUCK));
	ck_assert(!test_dir_has(dir, OTHER));
	ck_assert_int_eq(rmdir(test_dir_path(dir, STUCK "/inside")), 0);
	vm_remove_files(&host, OTHER);
	ck_assert(!test_dir_has(dir, STUCK));
	ck_assert(test_dir_has(dir, LIVING "/record.json"));
	/* Nothing is looked for any more. */
	make_files(STUCK, false);
	vm_remove_files(&host, OTHER);
	ck_assert(test_dir_has(dir, STUCK));
}
END_TEST

/* What is left could not even be listed. */
START_TEST(test_directory_that_cannot_be_listed)
{
	int vms_fd = host.vms_fd;

	make_files(STUCK, false);
	host.vms_fd = -1;
	vm_remove_left_files(&host);
	host.vms_fd = vms_fd;
	vm_remove_files(&host, OTHER);
	ck_assert_uint_eq(entries(), 0);
}
END_TEST

START_TEST(test_states_have_names)
{
	static const char *const names[] = {"starting", "loaded", "ready",    "paused",
					    "running",  "saving", "stopping", "gone"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		ck_assert_str_eq(vm_state_name((enum vm_state)i), names[i]);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("vm_host");
	TCase *tests = tcase_create("vm_host");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_missing_programs);
	tcase_add_test(tests, test_bubblewrap_cannot_be_executed);
	tcase_add_test(tests, test_runtime_directory_is_gone);
	tcase_add_test(tests, test_find_in_an_empty_host);
	tcase_add_test(tests, test_directory_that_cannot_be_removed);
	tcase_add_test(tests, test_directory_that_cannot_be_listed);
	tcase_add_test(tests, test_states_have_names);
	suite_add_tcase(suite, tests);
	return suite;
}
