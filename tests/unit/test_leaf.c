/* SPDX-License-Identifier: Apache-2.0 */
/* Control groups of VMs: on directories that play a host, and, as root, on this host's version 1.
 */
#include "daemon/launcher/leaf.h"

#include "daemon/launcher/proc.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <signal.h>
#include <sys/vfs.h>

#define ID         "vm_0123456789abcdef"
#define V1_ROOT    "/sys/fs/cgroup"
#define V1_GROUP   "execsandbox-unit"
#define V1_MAGIC   0x27e0eb /* CGROUP_SUPER_MAGIC */
#define MEMORY_MAX (UINT64_C(48) << 20)

static const struct leaf_limits limits = {
	.memory_max_bytes = MEMORY_MAX, .cpu_percent = 150, .pids_max = 17};

static char dir[TEST_DIR_SIZE];
static struct leaves leaves;

static void setup(void)
{
	test_dir_make(dir);
	leaves = (struct leaves){.kind = LEAF_NONE};
}

static void teardown(void)
{
	leaves_close(&leaves);
	test_dir_remove(dir);
}

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* The kernel makes a group's files with its directory; here they are there before. */
static void make_files(const char *leaf, const char *const *names)
{
	char path[128];

	mkdir(test_dir_path(dir, leaf), 0700);
	for (; *names; names++) {
		snprintf(path, sizeof(path), "%s/%s", leaf, *names);
		test_dir_write(dir, path, "", 0);
	}
}

static void expect_file(const char *name, const char *text)
{
	_cleanup_free_ char *found = NULL;
	char path[128];

	snprintf(path, sizeof(path), ID "/%s", name);
	ck_assert_int_ge(read_file_at(AT_FDCWD, test_dir_path(dir, path), 256, &found), 0);
	ck_assert_str_eq(found, text);
}

static void play_v2(void)
{
	leaves.kind = LEAF_V2;
	leaves.n_trees = 1;
	leaves.trees[0] = (struct leaf_tree){.controller = NULL, .fd = open_dir(dir)};
	leaves.has_memory = leaves.has_cpu = leaves.has_pids = true;
}

START_TEST(test_version_2_limits)
{
	static const char *const names[] = {"memory.max", "memory.oom.group", "cpu.max",
					    "pids.max",   "cgroup.procs",     NULL};
	int fds[LEAF_TREES_MAX];
	size_t n = 0;

	play_v2();
	make_files(ID, names);
	ck_assert_int_eq(leaf_make(&leaves, ID, &limits, fds, &n), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(write(fds[0], "0", 1), 1);
	close(fds[0]);
	expect_file("memory.max", "50331648");
	expect_file("memory.oom.group", "1");
	expect_file("cpu.max", "150000 100000");
	expect_file("pids.max", "17");
	expect_file("cgroup.procs", "0");
}
END_TEST

/* A controller that is not delegated is not asked for; one that refuses is an error. */
START_TEST(test_version_2_in_parts)
{
	static const char *const names[] = {"pids.max", "cgroup.procs", NULL};
	int fds[LEAF_TREES_MAX];
	size_t n = 0;

	play_v2();
	make_files(ID, names);
	ck_assert_int_eq(leaf_make(&leaves, ID, &limits, fds, &n), -ENOENT);
	ck_assert_uint_eq(n, 0);
	leaves.has_memory = leaves.has_cpu = false;
	ck_assert_int_eq(leaf_make(&leaves, ID, &limits, fds, &n), 0);
	close(fds[0]);
	expect_file("pids.max", "17");
}
END_TEST

START_TEST(test_oom_kills_are_seen)
{
	static const char *const names[] = {NULL};

	play_v2();
	make_files(ID, names);
	ck_assert(!leaf_was_oom_killed(&leaves, ID));
	test_dir_write(dir, ID "/memory.events", "oom 3\noom_kill 0\n", 17);
	ck_assert(!leaf_was_oom_killed(&leaves, ID));
	test_dir_write(dir, ID "/memory.events", "oom 3\noom_kill 1\n", 17);
	ck_assert(leaf_was_oom_killed(&leaves, ID));
	ck_assert(!leaf_was_oom_killed(&leaves, "vm_0000000000000000"));
}
END_TEST

static bool is_used(void *user, const char *id)
{
	return strcmp(user, id) == 0;
}

START_TEST(test_sweeping)
{
	static const char *const some[] = {"x", NULL};

	play_v2();
	mkdir(test_dir_path(dir, ID), 0700);
	mkdir(test_dir_path(dir, "node-vm_00000000000000aa"), 0700);
	mkdir(test_dir_path(dir, "launcher"), 0700);
	mkdir(test_dir_path(dir, "vm_1"), 0700);
	make_files("vm_00000000000000ff", some); /* as one with processes: not to be removed */
	leaves_sweep(&leaves, is_used, (char *)ID);
	ck_assert(test_dir_has(dir, ID));
	ck_assert(!test_dir_has(dir, "node-vm_00000000000000aa"));
	ck_assert(test_dir_has(dir, "launcher"));
	ck_assert(test_dir_has(dir, "vm_1"));
	ck_assert(test_dir_has(dir, "vm_00000000000000ff"));
	ck_assert_int_eq(leaf_remove(&leaves, ID), 0);
	ck_assert(!test_dir_has(dir, ID));
	ck_assert_int_eq(leaf_remove(&leaves, ID), 0);
	ck_assert_int_lt(leaf_remove(&leaves, "vm_00000000000000ff"), 0);
}
END_TEST

/* A group with controllers, of which none can be enabled: as with a daemon beside us in it. */
START_TEST(test_version_2_not_delegated)
{
	static const char *const own_files[] = {"cgroup.procs", NULL};
	struct own_cgroup own = {.unified_root = ""};

	snprintf(own.unified, sizeof(own.unified), "%s", dir);
	test_dir_write(dir, "cgroup.controllers", "cpu memory pids\n", 16);
	test_dir_write(dir, "cgroup.procs", "", 0);
	make_files("launcher", own_files);
	leaves_open(&leaves, &own);
	ck_assert_int_eq(leaves.kind, LEAF_NONE);
	{
		_cleanup_free_ char *procs = NULL;

		/* We are back where we were. */
		ck_assert_int_eq(
			read_file_at(AT_FDCWD, test_dir_path(dir, "cgroup.procs"), 16, &procs), 1);
		ck_assert_str_eq(procs, "0");
	}
}
END_TEST

START_TEST(test_version_2_delegated)
{
	static const char *const own_files[] = {"cgroup.procs", NULL};
	struct own_cgroup own = {.unified_root = ""};

	snprintf(own.unified, sizeof(own.unified), "%s", dir);
	test_dir_write(dir, "cgroup.controllers", "cpu memory pids\n", 16);
	test_dir_write(dir, "cgroup.subtree_control", "", 0);
	make_files("launcher", own_files);
	leaves_open(&leaves, &own);
	ck_assert_int_eq(leaves.kind, LEAF_V2);
	ck_assert_str_eq(leaf_kind_name(leaves.kind), "v2");
	ck_assert(leaves.has_memory && leaves.has_cpu && leaves.has_pids);
}
END_TEST

START_TEST(test_no_group_is_ours)
{
	struct own_cgroup own = {.unified_root = ""};
	int fds[LEAF_TREES_MAX];
	size_t n = 9;

	/* A directory that is no cgroup: found, and of no use. */
	snprintf(own.unified, sizeof(own.unified), "%s", dir);
	snprintf(own.memory_v1, sizeof(own.memory_v1), "%s", dir);
	snprintf(own.pids_v1, sizeof(own.pids_v1), "/nonexistent");
	leaves_open(&leaves, &own);
	ck_assert_int_eq(leaves.kind, LEAF_NONE);
	ck_assert_str_eq(leaf_kind_name(leaves.kind), "none");
	ck_assert(!test_dir_has(dir, "launcher"));
	ck_assert_int_eq(rmdir(test_dir_path(dir, "probe-vm_0000000000000000")), -1);
	ck_assert_int_eq(leaf_make(&leaves, ID, &limits, fds, &n), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(leaf_remove(&leaves, ID), 0);
	ck_assert(!leaf_was_oom_killed(&leaves, ID));
}
END_TEST

/* --- Version 1 of this host. --- */

static const char *const controllers[] = {"memory", "pids", "cpu"};
static struct own_cgroup own_v1;
static struct loop *loop;
static int end_count, gone_count;
static struct proc_status last;

static void on_end(void *user UNUSED)
{
	end_count++;
}

static void on_gone(void *user UNUSED, const struct proc_status *status)
{
	gone_count++;
	last = *status;
}

static const struct proc_ops proc_ops = {.on_end = on_end, .on_gone = on_gone};

static void group_path(char path[PATH_MAX], const char *controller)
{
	snprintf(path, PATH_MAX, V1_ROOT "/%s/" V1_GROUP "-%d", controller, (int)getpid());
}

static bool has_v1(void)
{
	struct statfs fs;
	bool has_all = geteuid() == 0;

	for (size_t i = 0; i < ELEMENTSOF(controllers); i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), V1_ROOT "/%s", controllers[i]);
		has_all = has_all && statfs(path, &fs) == 0 && fs.f_type == V1_MAGIC;
	}
	return has_all;
}

static void setup_v1(void)
{
	char *paths[] = {own_v1.memory_v1, own_v1.pids_v1, own_v1.cpu_v1};

	for (size_t i = 0; i < ELEMENTSOF(controllers); i++) {
		group_path(paths[i], controllers[i]);
		ck_assert_int_eq(mkdir(paths[i], 0755), 0);
	}
	ck_assert_int_eq(loop_create(&loop), 0);
	end_count = gone_count = 0;
	leaves_open(&leaves, &own_v1);
}

/* Groups with groups in them cannot be removed: nothing was left. */
static void teardown_v1(void)
{
	leaves_close(&leaves);
	loop_destroy(loop);
	ck_assert_int_eq(rmdir(own_v1.memory_v1), 0);
	ck_assert_int_eq(rmdir(own_v1.pids_v1), 0);
	ck_assert_int_eq(rmdir(own_v1.cpu_v1), 0);
}

static struct proc *spawn_in_leaf(const char *script)
{
	char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
	int fds[LEAF_TREES_MAX];
	struct proc_spec spec = {.argv = argv, .info_fd_take = -1, .cgroup_fds = fds};
	struct proc *proc = NULL;

	ck_assert_int_eq(leaf_make(&leaves, ID, &limits, fds, &spec.n_cgroup_fds), 0);
	ck_assert_uint_eq(spec.n_cgroup_fds, 3);
	ck_assert_int_eq(proc_spawn(loop, "test", &spec, &proc_ops, NULL, &proc), 0);
	for (size_t i = 0; i < spec.n_cgroup_fds; i++)
		close(fds[i]);
	return proc;
}

static void expect_value(const char *own, const char *name, const char *text)
{
	_cleanup_free_ char *found = NULL;
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/" ID "/%s", own, name);
	ck_assert_int_ge(read_file_at(AT_FDCWD, path, 256, &found), 0);
	ck_assert_str_eq(found, text);
}

START_TEST(test_version_1)
{
	struct proc *proc;
	char pid[32];

	ck_assert_int_eq(leaves.kind, LEAF_V1);
	proc = spawn_in_leaf("exec sleep 1000");
	snprintf(pid, sizeof(pid), "%d\n", (int)proc_pid(proc));
	expect_value(own_v1.memory_v1, "memory.limit_in_bytes", "50331648\n");
	expect_value(own_v1.pids_v1, "pids.max", "17\n");
	expect_value(own_v1.cpu_v1, "cpu.cfs_quota_us", "150000\n");
	expect_value(own_v1.memory_v1, "cgroup.procs", pid);
	expect_value(own_v1.pids_v1, "cgroup.procs", pid);
	expect_value(own_v1.cpu_v1, "cgroup.procs", pid);
	ck_assert_int_eq(leaf_remove(&leaves, ID), -EBUSY);
	proc_kill(proc);
	ck_assert(WAIT_FOR(loop, gone_count == 1));
	ck_assert(!leaf_was_oom_killed(&leaves, ID));
	ck_assert_int_eq(leaf_remove(&leaves, ID), 0);
	proc_destroy(proc);
}
END_TEST

/* The kernel kills who takes more than the leaf has, and says so there. */
START_TEST(test_version_1_memory_limit)
{
	struct proc *proc = spawn_in_leaf("exec dd if=/dev/zero of=/dev/null bs=200M count=1");

	ck_assert(WAIT_FOR(loop, gone_count == 1));
	ck_assert_int_eq(last.end, PROC_END_SIGNALED);
	ck_assert_int_eq(last.code, SIGKILL);
	ck_assert(leaf_was_oom_killed(&leaves, ID));
	ck_assert_int_eq(leaf_remove(&leaves, ID), 0);
	proc_destroy(proc);
}
END_TEST

START_TEST(test_version_1_process_limit)
{
	struct proc *proc = spawn_in_leaf(
		"i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done 2>/dev/null; exit 0");

	ck_assert(WAIT_FOR(loop, gone_count == 1));
	ck_assert_int_ne(last.code, 0); /* the shell cannot fork */
	proc_destroy(proc);
	for (;;) {
		_cleanup_free_ char *pids = NULL;
		char path[PATH_MAX + 64];

		snprintf(path, sizeof(path), "%s/" ID "/cgroup.procs", own_v1.pids_v1);
		ck_assert_int_ge(read_file_at(AT_FDCWD, path, 4096, &pids), 0);
		if (!*pids)
			break;
		for (char *at = pids; *at; at = strchr(at, '\n') + 1)
			kill((pid_t)strtol(at, NULL, 10), SIGKILL);
	}
	ck_assert(WAIT_FOR(loop, leaf_remove(&leaves, ID) == 0));
}
END_TEST

static TCase *v1_case(void)
{
	TCase *v1 = tcase_create("v1");

	tcase_add_checked_fixture(v1, setup_v1, teardown_v1);
	tcase_set_timeout(v1, 60);
	tcase_add_test(v1, test_version_1);
	tcase_add_test(v1, test_version_1_memory_limit);
	tcase_add_test(v1, test_version_1_process_limit);
	return v1;
}

Suite *unit_suite(void)
{
	Suite *suite = suite_create("leaf");
	TCase *tests = tcase_create("leaf");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_version_2_limits);
	tcase_add_test(tests, test_version_2_in_parts);
	tcase_add_test(tests, test_oom_kills_are_seen);
	tcase_add_test(tests, test_sweeping);
	tcase_add_test(tests, test_version_2_not_delegated);
	tcase_add_test(tests, test_version_2_delegated);
	tcase_add_test(tests, test_no_group_is_ours);
	suite_add_tcase(suite, tests);
	if (has_v1())
		suite_add_tcase(suite, v1_case());
	return suite;
}
