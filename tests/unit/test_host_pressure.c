/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory pressure: each source and the next one down, wakes, loss and rebuilding, and samples.
 *
 * The host is a directory; the descriptors that triggers are opened on are socket ends, whose
 * urgent data is POLLPRI as a trigger's event is. test_host_kernel.c has the kernel's own.
 */
#include "daemon/memory/host_pressure.h"

#include "base/log.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_kernel_files.h"

#include <sys/socket.h>

#define MIB       (UINT64_C(1) << 20)
#define SECOND_US UINT64_C(1000000)
#define OWN       TEST_CGROUP "/a/memory.pressure"

static struct loop *loop;
static struct host_pressure *pressure;
static struct host_pressure_config config;
static int fds_before;

/* What the kernel of a test allows, and what it was asked. */
static int open_error;            /* of opening for a trigger */
static int refuse;                /* of writing one */
static const char *refuse_kind;   /* only of those of this kind; NULL: of both */
static int peers[64], peer_count; /* the other ends of the triggers' descriptors */
static char written[64][64];
static int written_count;
static const char *opened_path;

static int play_open(const char *path, int flags)
{
	int fds[2];

	if ((flags & O_ACCMODE) != O_RDWR)
		return host_dir_open(path, flags);
	if (open_error)
		return open_error;
	ck_assert_int_ne(flags & O_NONBLOCK, 0);
	ck_assert_int_lt(peer_count, ELEMENTSOF(peers));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	peers[peer_count++] = fds[1];
	opened_path = path;
	return fds[0];
}

static int play_write(int fd UNUSED, const char *data, size_t len)
{
	/* The kernel puts its own NUL over the last byte. */
	ck_assert_uint_eq(len, strlen(data) + 1);
	ck_assert_int_lt(written_count, ELEMENTSOF(written));
	snprintf(written[written_count++], sizeof(written[0]), "%s", data);
	return refuse_kind && strncmp(data, refuse_kind, 4) != 0 ? 0 : refuse;
}

static const struct kernel_files played = {.open = play_open, .write = play_write};

/* What the owner was told. */
static int triggers, ticks;
static struct host_sample sample;

static void on_pressure(void *user, const struct host_sample *new_sample, enum host_wake wake)
{
	ck_assert_ptr_eq(user, &sample);
	sample = *new_sample;
	ck_assert_uint_le(sample.measured_us, now_us());
	ck_assert_uint_ge(sample.measured_us + WAIT_SECONDS * SECOND_US, now_us());
	triggers += wake == HOST_WAKE_TRIGGER;
	ticks += wake == HOST_WAKE_TIMER;
}

static void setup(void)
{
	fds_before = test_open_fds();
	test_dir_make(host_dir);
	host_write_meminfo(1000, 600);
	host_write(TEST_CGROUP "/cgroup.controllers", "memory\n");
	host_write("/proc/self/cgroup", "0::/a\n");
	host_write_psi(TEST_PSI, 0, 0);
	host_write_psi(OWN, 0, 0);
	ck_assert_int_eq(loop_create(&loop), 0);
	config = (struct host_pressure_config){.reserve_bytes = 100 * MIB, .files = &played};
	open_error = refuse = 0;
	refuse_kind = NULL;
	peer_count = written_count = triggers = ticks = 0;
	opened_path = "";
	log_set_level(LOG_ERR); /* each choice of a source is a line */
}

static void teardown(void)
{
	host_pressure_destroy(pressure);
	pressure = NULL;
	loop_destroy(loop);
	for (int i = 0; i < peer_count; i++)
		peers[i] = close_fd(peers[i]);
	test_dir_remove(host_dir);
	ck_assert_int_eq(test_open_fds(), fds_before);
}

static void start(void)
{
	ck_assert_int_eq(own_cgroup_find(&played, 0, &config.cgroup), 0);
	ck_assert_int_eq(host_pressure_create(loop, &config, on_pressure, &sample, &pressure), 0);
}

static void assert_source(enum host_source_kind kind, const char *path)
{
	const char *name = host_source_kind_name(host_pressure_source(pressure));

	ck_assert_str_eq(name, host_source_kind_name(kind));
	if (path)
		ck_assert_str_eq(host_pressure_path(pressure), path);
	else
		ck_assert_ptr_null(host_pressure_path(pressure));
}

static bool is_watched(const char *path)
{
	const char *now = host_pressure_path(pressure);

	return now && strcmp(now, path) == 0;
}

/* What the kernel does at an event. */
static void signal_trigger(int peer)
{
	ck_assert_int_eq(send(peers[peer], "!", 1, MSG_OOB), 1);
}

/* --- Choice of the source. --- */

START_TEST(test_triggers_on_the_own_cgroup)
{
	start();
	assert_source(HOST_SOURCE_TRIGGERS, OWN);
	ck_assert_str_eq(opened_path, OWN);
	ck_assert_int_eq(peer_count, 2); /* one trigger for each descriptor */
	ck_assert_int_eq(written_count, 2);
	ck_assert_str_eq(written[0], "some 50000 1000000");
	ck_assert_str_eq(written[1], "full 50000 1000000");
}
END_TEST

START_TEST(test_hybrid_layout)
{
	host_remove(TEST_CGROUP "/cgroup.controllers");
	host_write("/proc/self/cgroup", "4:memory:/m\n0::/a\n");
	host_write_psi(TEST_CGROUP "/unified/a/memory.pressure", 0, 0);
	host_write(TEST_CGROUP "/memory/m/memory.limit_in_bytes", "104857600\n");
	host_write(TEST_CGROUP "/memory/m/memory.usage_in_bytes", "62914560\n");
	start();
	assert_source(HOST_SOURCE_TRIGGERS, TEST_CGROUP "/unified/a/memory.pressure");
	host_pressure_sample(pressure, &sample);
	ck_assert_uint_eq(sample.managed_bytes, 100 * MIB);
	ck_assert_uint_eq(sample.available_bytes, 40 * MIB);
}
END_TEST

/* Version 1 alone, PSI switched off for the group, and a text that is none. */
START_TEST(test_the_host_where_the_cgroup_has_none)
{
	static const char *const texts[] = {NULL, "", "some avg10=0.00 total=1\n", "\377\n"};

	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		if (texts[i])
			host_write(OWN, texts[i]);
		else
			host_remove(OWN);
		start();
		assert_source(HOST_SOURCE_TRIGGERS, TEST_PSI);
		ck_assert_str_eq(opened_path, TEST_PSI);
		host_pressure_destroy(pressure);
	}
	host_write("/proc/self/cgroup", "4:memory:/a\n");
	start();
	assert_source(HOST_SOURCE_TRIGGERS, TEST_PSI);
}
END_TEST

static const int refusals[] = {-EINVAL, -EPERM, -EOPNOTSUPP, -EBUSY};

/* One of the pair refused is the pair refused. */
START_TEST(test_half_a_pair)
{
	int before = test_open_fds();

	refuse_kind = "full";
	refuse = -EINVAL;
	start();
	assert_source(HOST_SOURCE_TOTALS, OWN);
	ck_assert_int_eq(test_open_fds(), before + peer_count);
}
END_TEST

START_TEST(test_totals_when_triggers_are_refused)
{
	refuse = refusals[_i];
	start();
	assert_source(HOST_SOURCE_TOTALS, OWN);
}
END_TEST

START_TEST(test_totals_when_the_file_is_not_ours)
{
	static const int errors[] = {-EACCES, -EPERM, -EROFS};

	for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
		open_error = errors[i];
		start();
		assert_source(HOST_SOURCE_TOTALS, OWN);
		host_pressure_destroy(pressure);
	}
	start();
}
END_TEST

START_TEST(test_no_psi)
{
	uint64_t started = now_us();

	host_remove(OWN);
	host_remove(TEST_PSI);
	start();
	assert_source(HOST_SOURCE_AVAILABLE, NULL);
	ck_assert(WAIT_FOR(loop, ticks == 1));
	host_write_meminfo(1000, 300);
	ck_assert(WAIT_FOR(loop, ticks == 2));
	ck_assert_uint_ge(now_us() - started, 19 * SECOND_US / 10);
	ck_assert(!sample.has_psi);
	ck_assert_uint_eq(sample.managed_bytes, 900 * MIB);
	ck_assert_uint_eq(sample.available_bytes, 200 * MIB);
	ck_assert_int_eq(triggers, 0);
	/* A sleep of a second is one iteration of the loop. */
	ck_assert_uint_le(ev_iteration(loop_ev(loop)), 6);
}
END_TEST

START_TEST(test_no_meminfo)
{
	host_write("/proc/meminfo", "MemTotal: 1 kB\n");
	ck_assert_int_eq(host_pressure_create(loop, &config, on_pressure, &sample, &pressure),
			 -EBADMSG);
	host_remove("/proc/meminfo");
	ck_assert_int_eq(host_pressure_create(loop, &config, on_pressure, &sample, &pressure),
			 -ENOENT);
	ck_assert_ptr_null(pressure);
}
END_TEST

/* --- Wakes. --- */

START_TEST(test_each_trigger_wakes)
{
	start();
	for (int i = 0; i < 6; i++) {
		uint64_t sent = now_us();

		signal_trigger(i % 2);
		ck_assert(WAIT_FOR(loop, triggers == i + 1));
		ck_assert_uint_ge(sample.measured_us, sent);
		ck_assert_uint_le(sample.measured_us, now_us());
	}
	ck_assert_int_eq(triggers, 6);
}
END_TEST

/* The descriptor is always readable, as PSI's are, and this one stays urgent as well. */
START_TEST(test_no_spinning)
{
	unsigned before;

	start();
	ck_assert_int_eq(send(peers[0], "data", 4, 0), 4);
	signal_trigger(0);
	ck_assert(WAIT_FOR(loop, triggers == 1));
	before = ev_iteration(loop_ev(loop));
	ck_assert(WAIT_FOR(loop, ticks == 2));
	ck_assert_int_eq(triggers, 1);
	ck_assert_uint_le(ev_iteration(loop_ev(loop)) - before, 6);
}
END_TEST

START_TEST(test_wake_by_totals)
{
	uint64_t written_us, first_us;

	open_error = -EACCES;
	start();
	ck_assert(WAIT_FOR(loop, ticks == 1));
	ck_assert_int_eq(triggers, 0);
	host_write_psi(OWN, 100000, 0);
	written_us = now_us();
	ck_assert(WAIT_FOR(loop, triggers == 1));
	first_us = sample.measured_us;
	ck_assert(sample.has_psi);
	ck_assert_double_ge(sample.some_stall_percent, 3.);
	ck_assert_double_le(sample.some_stall_percent, 5.01);
	ck_assert_double_eq_tol(sample.full_stall_percent, 0., 1e-9);
	ck_assert_double_eq_tol(sample.some_avg10, 12.5, 1e-9);
	ck_assert_double_eq_tol(sample.full_avg10, 3.25, 1e-9);
	ck_assert_uint_ge(first_us, written_us);
	/* Again only in the next window. */
	host_write_psi(OWN, 300000, 0);
	ck_assert(WAIT_FOR(loop, triggers == 2));
	ck_assert_uint_ge(sample.measured_us - first_us, SECOND_US);
	/* 8 readings and 2 ticks in these two seconds and a bit, or so. */
	ck_assert_uint_le(ev_iteration(loop_ev(loop)), 40);
}
END_TEST

START_TEST(test_totals_under_the_threshold)
{
	open_error = -EACCES;
	start();
	host_write_psi(OWN, 49000, 49000);
	ck_assert(WAIT_FOR(loop, ticks == 1));
	ck_assert_int_eq(triggers, 0);
	ck_assert_double_gt(sample.some_stall_percent, 2.);
	host_write_psi(OWN, 49000, 120000);
	ck_assert(WAIT_FOR(loop, triggers == 1));
	ck_assert_double_gt(sample.full_stall_percent, 3.);
}
END_TEST

/* A wake that was lost: the second's look sees what happened. */
START_TEST(test_timer_is_the_truth)
{
	start();
	host_write_psi(OWN, 500000, 250000);
	ck_assert(WAIT_FOR(loop, ticks == 1));
	ck_assert_int_eq(triggers, 0);
	ck_assert_double_ge(sample.some_stall_percent, 10.);
	ck_assert_double_le(sample.some_stall_percent, 25.01);
	ck_assert_double_eq_tol(sample.full_stall_percent, sample.some_stall_percent / 2, 1e-9);
	/* And two seconds later it is over. */
	ck_assert(WAIT_FOR(loop, ticks == 4));
	ck_assert_double_eq_tol(sample.some_stall_percent, 0., 1e-9);
}
END_TEST

/* --- Loss. --- */

START_TEST(test_rebuilt_after_loss)
{
	int before;

	start();
	before = test_open_fds();
	host_remove(OWN); /* its cgroup is removed */
	close_fd(peers[0]);
	peers[0] = -1;
	ck_assert(WAIT_FOR(loop, is_watched(TEST_PSI)));
	assert_source(HOST_SOURCE_TRIGGERS, TEST_PSI);
	/* The lost descriptors are closed: one end less here, two more of the new pair's. */
	ck_assert_int_eq(test_open_fds(), before - 1 + 2);
	ck_assert_int_eq(triggers, 0); /* a loss is no pressure */
	signal_trigger(peer_count - 1);
	ck_assert(WAIT_FOR(loop, triggers == 1));
	ck_assert(sample.has_psi);
}
END_TEST

/* Lost again and again as soon as it is there: attempts become rare. */
START_TEST(test_rebuilding_is_bounded)
{
	uint64_t until;

	start();
	until = now_us() + 4 * SECOND_US;
	ck_assert(WAIT_FOR(loop, ({
				   for (int i = 0; i < peer_count; i++)
					   peers[i] = close_fd(peers[i]);
				   now_us() >= until;
			   })));
	/* At 0, 1 and 3 s, give or take a tick; each is two descriptors. */
	ck_assert_int_ge(peer_count, 4);
	ck_assert_int_le(peer_count, 8);
	ck_assert_uint_le(ev_iteration(loop_ev(loop)), 20);
	ck_assert_int_eq(triggers, 0);
	ck_assert_int_ge(ticks, 3);
}
END_TEST

START_TEST(test_texts_that_turn_bad)
{
	static const char *const texts[] = {"", "some\n", "\377\376", "some avg10=nan total=1\n"};

	open_error = _i % 2 ? -EACCES : 0;
	start();
	host_write(OWN, texts[_i]);
	host_write(TEST_PSI, texts[_i]);
	host_pressure_sample(pressure, &sample);
	assert_source(HOST_SOURCE_AVAILABLE, NULL);
	ck_assert(!sample.has_psi);
	ck_assert_double_eq_tol(sample.some_stall_percent, 0., 1e-9);
	ck_assert_uint_eq(sample.available_bytes, 500 * MIB);
	/* And good again. */
	host_write_psi(OWN, 7, 7);
	ck_assert(WAIT_FOR(loop, sample.has_psi));
	assert_source(_i % 2 ? HOST_SOURCE_TOTALS : HOST_SOURCE_TRIGGERS, OWN);
}
END_TEST

/* Another source's totals are not compared with the first's. */
START_TEST(test_totals_of_another_source)
{
	host_write_psi(TEST_PSI, 3600 * SECOND_US, 3600 * SECOND_US);
	start();
	host_remove(OWN);
	ck_assert(WAIT_FOR(loop, is_watched(TEST_PSI) && sample.has_psi));
	ck_assert_double_eq_tol(sample.some_stall_percent, 0., 1e-9);
}
END_TEST

START_TEST(test_meminfo_lost)
{
	start();
	host_pressure_sample(pressure, &sample);
	ck_assert_uint_eq(sample.available_bytes, 500 * MIB);
	host_remove("/proc/meminfo");
	ck_assert(WAIT_FOR(loop, ticks == 1));
	ck_assert_uint_eq(sample.available_bytes, 500 * MIB);
	host_write_meminfo(1000, 150);
	ck_assert(WAIT_FOR(loop, ticks == 2));
	ck_assert_uint_eq(sample.available_bytes, 50 * MIB);
}
END_TEST

/* --- Samples. --- */

static void assert_memory(uint64_t managed_mb, uint64_t available_mb)
{
	host_pressure_sample(pressure, &sample);
	ck_assert_uint_eq(sample.managed_bytes, managed_mb * MIB);
	ck_assert_uint_eq(sample.available_bytes, available_mb * MIB);
}

START_TEST(test_the_tightest_counts)
{
	config.budget_bytes = 400 * MIB;
	start();
	assert_memory(400, 400);
	host_pressure_set_used(pressure, 150 * MIB);
	assert_memory(400, 250);
	host_pressure_set_used(pressure, 401 * MIB);
	assert_memory(400, 0);
	host_pressure_set_used(pressure, 0);
	host_write(TEST_CGROUP "/a/memory.max", "314572800\n");
	host_write(TEST_CGROUP "/a/memory.current", "104857600\n");
	assert_memory(300, 200);
	host_write_meminfo(1000, 120);
	assert_memory(300, 20);
	host_write_meminfo(1000, 99); /* under the reserve */
	assert_memory(300, 0);
	host_write_meminfo(90, 90);
	assert_memory(0, 0);
}
END_TEST

START_TEST(test_no_budget)
{
	config.reserve_bytes = 0;
	start();
	host_pressure_set_used(pressure, UINT64_MAX); /* counts against a budget alone */
	assert_memory(1000, 600);
	host_pressure_destroy(NULL);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("host_pressure");
	TCase *tests = tcase_create("host_pressure");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_triggers_on_the_own_cgroup);
	tcase_add_test(tests, test_hybrid_layout);
	tcase_add_test(tests, test_the_host_where_the_cgroup_has_none);
	tcase_add_test(tests, test_half_a_pair);
	tcase_add_loop_test(tests, test_totals_when_triggers_are_refused, 0, ELEMENTSOF(refusals));
	tcase_add_test(tests, test_totals_when_the_file_is_not_ours);
	tcase_add_test(tests, test_no_psi);
	tcase_add_test(tests, test_no_meminfo);
	tcase_add_test(tests, test_each_trigger_wakes);
	tcase_add_test(tests, test_no_spinning);
	tcase_add_test(tests, test_wake_by_totals);
	tcase_add_test(tests, test_totals_under_the_threshold);
	tcase_add_test(tests, test_timer_is_the_truth);
	tcase_add_test(tests, test_rebuilt_after_loss);
	tcase_add_test(tests, test_rebuilding_is_bounded);
	tcase_add_loop_test(tests, test_texts_that_turn_bad, 0, 4);
	tcase_add_test(tests, test_totals_of_another_source);
	tcase_add_test(tests, test_meminfo_lost);
	tcase_add_test(tests, test_the_tightest_counts);
	tcase_add_test(tests, test_no_budget);
	suite_add_tcase(suite, tests);
	return suite;
}
