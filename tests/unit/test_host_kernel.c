/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory pressure by the kernel this runs on: a trigger that wakes, and a cgroup that is removed.
 *
 * What a kernel does not grant is not left out: then the next source down is what must work.
 */
#include "daemon/memory/host_pressure.h"

#include "base/log.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_kernel_files.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SECOND_US UINT64_C(1000000)

static struct loop *loop;
static struct host_pressure *pressure;
static int triggers, ticks;
static struct host_sample sample;

static void on_pressure(void *user UNUSED, const struct host_sample *new_sample,
			enum host_wake wake)
{
	sample = *new_sample;
	triggers += wake == HOST_WAKE_TRIGGER;
	ticks += wake == HOST_WAKE_TIMER;
}

/* The kernel's file in the place of the host's PSI or, with `is_own`, of the own cgroup's. */
static const char *stand_in;
static bool is_own;

static int open_stand_in(const char *path, int flags)
{
	const char *from = is_own ? TEST_CGROUP "/a/memory.pressure" : TEST_PSI;
	bool is_ours =
		strcmp(path, from) != 0 || strncmp(stand_in, host_dir, strlen(host_dir)) == 0;

	/* A trigger would be written into a plain file. */
	if (is_ours && (flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	return strcmp(path, from) == 0 ? kernel_files_system.open(stand_in, flags)
				       : host_dir_open(path, flags);
}

static void setup(void)
{
	test_dir_make(host_dir);
	host_write_meminfo(1000, 600);
	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	host_write("/proc/self/cgroup", "0::/a\n");
	ck_assert_int_eq(loop_create(&loop), 0);
	is_own = false;
	triggers = ticks = 0;
	log_set_level(LOG_ERR);
}

static void teardown(void)
{
	host_pressure_destroy(pressure);
	pressure = NULL;
	loop_destroy(loop);
	test_dir_remove(host_dir);
}

static void start(void)
{
	static struct kernel_files files = {.open = open_stand_in};
	static struct host_pressure_config config = {.files = &files};

	files.write = kernel_files_system.write;
	ck_assert_int_eq(own_cgroup_find(&files, 0, &config.cgroup), 0);
	ck_assert_int_eq(host_pressure_create(loop, &config, on_pressure, NULL, &pressure), 0);
}

/* --- A wake. Processor pressure stands in for memory's, which would hurt the machine. --- */

static pid_t busy[64];
static int busy_count;

/* Two more than there are processors: some wait at any time. */
static void keep_busy(void)
{
	cpu_set_t processors;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(processors), &processors), 0);
	busy_count = MIN(CPU_COUNT(&processors) + 2, (int)ELEMENTSOF(busy));
	for (int i = 0; i < busy_count; i++) {
		busy[i] = fork();
		if (busy[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (volatile unsigned n = 0;; n++)
				;
		}
	}
}

static void end_busy(void)
{
	for (int i = 0; i < busy_count; i++) {
		kill(busy[i], SIGKILL);
		waitpid(busy[i], NULL, 0);
	}
}

static bool kernel_takes(const char *trigger)
{
	_cleanup_close_ int fd = open("/proc/pressure/cpu", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	return fd >= 0 && write(fd, trigger, strlen(trigger) + 1) == (ssize_t)strlen(trigger) + 1;
}

/* What this kernel allows this process, asked beside the object: whichever it is must wake. */
static enum host_source_kind expected_kind(void)
{
	_cleanup_free_ char *text = NULL;
	struct psi psi;

	if (read_file_at(AT_FDCWD, "/proc/pressure/cpu", 4096, &text) < 0 ||
	    psi_parse(text, &psi) < 0)
		return HOST_SOURCE_AVAILABLE;
	return kernel_takes("some 50000 1000000") ? HOST_SOURCE_TRIGGERS : HOST_SOURCE_TOTALS;
}

START_TEST(test_of_this_kernel)
{
	enum host_source_kind kind = expected_kind();
	uint64_t started;
	unsigned iterations;

	stand_in = "/proc/pressure/cpu";
	start();
	ck_assert_str_eq(host_source_kind_name(host_pressure_source(pressure)),
			 host_source_kind_name(kind));
	keep_busy();
	started = now_us();
	iterations = ev_iteration(loop_ev(loop));
	if (kind == HOST_SOURCE_AVAILABLE)
		ck_assert(WAIT_FOR(loop, ticks == 2));
	else
		ck_assert(WAIT_FOR(loop, triggers == 1));
	end_busy();
	ck_assert_int_eq(sample.has_psi, kind != HOST_SOURCE_AVAILABLE);
	if (sample.has_psi)
		ck_assert_double_gt(sample.some_stall_percent, 1.);
	printf("%s: woken after %ju ms\n", host_source_kind_name(kind),
	       (uintmax_t)(sample.measured_us - started) / 1000);
	iterations = ev_iteration(loop_ev(loop)) - iterations;
	ck_assert_uint_le(iterations, 4 + 8 * ((now_us() - started) / SECOND_US + 1));
	/* The event was taken: the loop sleeps again. */
	iterations = ev_iteration(loop_ev(loop));
	ticks = 0;
	ck_assert(WAIT_FOR(loop, ticks == 2));
	ck_assert_uint_le(ev_iteration(loop_ev(loop)) - iterations, 20);
}
END_TEST

/* --- A loss. --- */

/* A cgroup of our own below the one we are in; -errno where we may make none. */
static int make_cgroup(char dir[PATH_MAX])
{
	struct own_cgroup own;

	ck_assert_int_eq(own_cgroup_find(&kernel_files_system, 0, &own), 0);
	ck_assert_int_lt(
		snprintf(dir, PATH_MAX, "%.3900s/execsandbox-unit-%d", own.unified, (int)getpid()),
		PATH_MAX);
	return mkdir(dir, 0700) < 0 ? -errno : 0;
}

START_TEST(test_cgroup_is_removed)
{
	char dir[PATH_MAX], path[PATH_MAX + 32];
	int r = make_cgroup(dir);

	host_write_psi(TEST_PSI, 0, 0);
	if (r < 0) {
		/* Nothing of the kernel's can be lost: a file stands in, without triggers. */
		printf("No cgroup may be made here (%s): a file is removed\n", strerror(-r));
		snprintf(dir, sizeof(dir), "%s", host_dir);
		host_write_psi("/memory.pressure", 0, 0);
	}
	snprintf(path, sizeof(path), "%s/memory.pressure", dir);
	stand_in = path;
	is_own = true;
	start();
	ck_assert_ptr_nonnull(strstr(host_pressure_path(pressure), "/a/memory.pressure"));
	ck_assert_int_eq(r < 0 ? unlink(path) : rmdir(dir), 0);
	ck_assert(WAIT_FOR(loop, host_pressure_path(pressure) &&
					 strcmp(host_pressure_path(pressure), TEST_PSI) == 0));
	ck_assert_int_eq(triggers, 0);
	ck_assert_uint_le(ev_iteration(loop_ev(loop)), 40);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("host_kernel");
	TCase *tests = tcase_create("host_kernel");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_of_this_kernel);
	tcase_add_test(tests, test_cgroup_is_removed);
	suite_add_tcase(suite, tests);
	return suite;
}
