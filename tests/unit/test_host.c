/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tells of memory, read: figures, PSI lines, stalls over time; and nonsense. */
#include "daemon/memory/host.h"

#include "base/util.h"
#include "daemon/memory/psi.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_kernel_files.h"

#define MIB       (UINT64_C(1) << 20)
#define SECOND_US UINT64_C(1000000)

static void setup(void)
{
	test_dir_make(host_dir);
}

static void teardown(void)
{
	test_dir_remove(host_dir);
}

/* --- Figures. --- */

START_TEST(test_numbers)
{
	static const char *const bad[] = {
		"", " 1", "-1", "+1", "x", "18446744073709551616", "99999999999999999999999"};
	uint64_t number = 7;

	ck_assert_str_eq(kernel_number("0 kB", &number), " kB");
	ck_assert_uint_eq(number, 0);
	ck_assert_str_eq(kernel_number("18446744073709551615", &number), "");
	ck_assert_uint_eq(number, UINT64_MAX);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		ck_assert_ptr_null(kernel_number(bad[i], &number));
	ck_assert_uint_eq(number, UINT64_MAX);
}
END_TEST

START_TEST(test_fields)
{
	static const char text[] = "file 1\nactive_file 2\nactive_file_x 3\nb:\t 4 kB\nempty\nlast";
	uint64_t number = 7;

	ck_assert(kernel_field(text, "active_file", &number) && number == 2);
	ck_assert(kernel_field(text, "file", &number) && number == 1);
	ck_assert(kernel_field(text, "b:", &number) && number == 4);
	ck_assert(!kernel_field(text, "active", &number));
	ck_assert(!kernel_field(text, "empty", &number));
	ck_assert(!kernel_field(text, "last", &number));
	ck_assert(!kernel_field("", "last", &number));
	ck_assert_uint_eq(number, 4);
}
END_TEST

START_TEST(test_file_of_one_number)
{
	static const char *const bad[] = {"", "\n", "maximum\n", "12 3\n", "-1\n", "x\n"};
	uint64_t number;

	host_write("/n", "4096\n");
	ck_assert_int_eq(kernel_file_number(&host_dir_files, "/n", &number), 0);
	ck_assert_uint_eq(number, 4096);
	host_write("/n", "max\n");
	ck_assert_int_eq(kernel_file_number(&host_dir_files, "/n", &number), 0);
	ck_assert_uint_eq(number, UINT64_MAX);
	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		host_write("/n", bad[i]);
		ck_assert_int_eq(kernel_file_number(&host_dir_files, "/n", &number), -EBADMSG);
	}
	ck_assert_int_eq(kernel_file_number(&host_dir_files, "/none", &number), -ENOENT);
}
END_TEST

START_TEST(test_meminfo)
{
	static const char *const bad[] = {
		"",
		"MemTotal: 1 kB\n",
		"MemAvailable: 1 kB\n",
		"MemTotal: 0 kB\nMemAvailable: 0 kB\n",
		"MemTotal: 1 kB\nMemAvailable: 2 kB\n",
		"MemTotal: 18446744073709551615 kB\nMemAvailable: 1 kB\n",
		"MemTotal: -5 kB\nMemAvailable: 1 kB\n",
		"xMemTotal: 2 kB\nMemAvailable: 1 kB\n",
	};
	uint64_t total = 7, available = 7;

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		host_write("/proc/meminfo", bad[i]);
		ck_assert_int_eq(host_meminfo_read(&host_dir_files, &total, &available), -EBADMSG);
	}
	ck_assert_uint_eq(total + available, 14);
	host_write_meminfo(1000, 600);
	ck_assert_int_eq(host_meminfo_read(&host_dir_files, &total, &available), 0);
	ck_assert_uint_eq(total, 1000 * MIB);
	ck_assert_uint_eq(available, 600 * MIB);
	host_remove("/proc/meminfo");
	ck_assert_int_eq(host_meminfo_read(&host_dir_files, &total, &available), -ENOENT);
}
END_TEST

START_TEST(test_too_long_a_file)
{
	_cleanup_free_ char *text = malloc(KERNEL_FILE_MAX + 2), *ret = NULL;

	memset(text, 'x', KERNEL_FILE_MAX + 1);
	text[KERNEL_FILE_MAX + 1] = '\0';
	host_write("/n", text);
	ck_assert_int_eq(kernel_file_read(&host_dir_files, "/n", &ret), -EFBIG);
	host_write("/n", text + 1);
	ck_assert_int_eq(kernel_file_read(&host_dir_files, "/n", &ret), KERNEL_FILE_MAX);
}
END_TEST

/* The kernel this runs on. */
START_TEST(test_of_this_host)
{
	struct host_memory memory;
	struct process_memory process;

	ck_assert_int_eq(host_memory_read(&memory), 0);
	ck_assert_uint_ge(memory.total_bytes, memory.available_bytes);
	ck_assert_uint_ge(memory.available_bytes, MIB);
	ck_assert_int_eq(memory.has_psi, access("/proc/pressure/memory", R_OK) == 0);
	ck_assert_int_eq(process_memory_read(getpid(), &process), 0);
	ck_assert_uint_ge(process.rss_bytes, process.pss_bytes);
	ck_assert_uint_gt(process.pss_bytes, 0);
	ck_assert_int_eq(process_memory_read(0x7ffffff0, &process), -ENOENT);
}
END_TEST

/* --- PSI. --- */

#define FULL "full avg10=3.05 avg60=0.00 avg300=0.00 total=1000\n"

START_TEST(test_psi)
{
	struct psi psi;

	ck_assert_int_eq(psi_parse("some avg10=100.00 avg60=7.50 avg300=0.00 "
				   "total=18446744073709551615\n" FULL,
				   &psi),
			 0);
	ck_assert_double_eq_tol(psi.some.avg10, 100., 1e-9);
	ck_assert_uint_eq(psi.some.total_us, UINT64_MAX);
	ck_assert_double_eq_tol(psi.full.avg10, 3.05, 1e-9);
	ck_assert_uint_eq(psi.full.total_us, 1000);
}
END_TEST

START_TEST(test_psi_nonsense)
{
	static const char *const bad[] = {
		"",
		"some",
		FULL,
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", /* cpu's, before Linux 5.13 */
		"some avg10=0.00 avg60=0.00 avg300=0.00\n" FULL,    /* the other line's total */
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=\n" FULL,
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=-1\n" FULL,
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=1x\n" FULL,
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=18446744073709551616\n" FULL,
		"some avg10=nan avg60=0.00 avg300=0.00 total=1\n" FULL,
		"some avg10=-1.00 avg60=0.00 avg300=0.00 total=1\n" FULL,
		"some avg10=100.01 avg60=0.00 avg300=0.00 total=1\n" FULL,
		"some avg10=18446744073709551615.00 avg60=0.00 avg300=0.00 total=1\n" FULL,
		"some avg10=1.0 avg60=0.00 avg300=0.00 total=1\n" FULL,
		"some avg10=1,00 avg60=0.00 avg300=0.00 total=1\n" FULL,
		"xsome avg10=0.00 avg60=0.00 avg300=0.00 total=1\n" FULL,
	};
	struct psi psi = {.some.total_us = 7};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		ck_assert_msg(psi_parse(bad[i], &psi) == -EBADMSG, "taken: %s", bad[i]);
	ck_assert_uint_eq(psi.some.total_us, 7);
}
END_TEST

/* --- Stalls. --- */

static struct psi_history history;

static struct psi totals(uint64_t some_us, uint64_t full_us)
{
	return (struct psi){.some.total_us = some_us, .full.total_us = full_us};
}

static void add(uint64_t us, uint64_t some_us)
{
	struct psi psi = totals(some_us, some_us / 2);

	psi_history_add(&history, us, &psi);
}

static struct psi_stall stall(uint64_t us, uint64_t some_us)
{
	struct psi psi = totals(some_us, some_us / 2);

	return psi_history_stall(&history, us, &psi, 2 * SECOND_US);
}

START_TEST(test_stall_over_the_window)
{
	history = (struct psi_history){0};
	ck_assert_uint_eq(stall(SECOND_US, 5000).some_us, 0); /* nothing to compare with */
	for (uint64_t s = 1; s <= 40; s++)
		add(s * SECOND_US, s * 1000);
	ck_assert_uint_eq(stall(41 * SECOND_US, 41000).some_us, 2000);
	ck_assert_uint_eq(stall(41 * SECOND_US, 41000).full_us, 1000);
	ck_assert_uint_eq(stall(41 * SECOND_US, 41000).window_us, 2 * SECOND_US);
	/* A timer that is early, and one that is late. */
	ck_assert_uint_eq(stall(41 * SECOND_US - 100000, 41000).some_us, 2000);
	ck_assert_uint_eq(stall(41 * SECOND_US + 800000, 41000).some_us, 2000);
	ck_assert_uint_eq(stall(41 * SECOND_US + 800000, 41000).window_us, 2800000);
}
END_TEST

/* What was before the first reading is not known and counts as no wait. */
START_TEST(test_stall_at_the_start)
{
	history = (struct psi_history){0};
	add(10 * SECOND_US, 0);
	ck_assert_uint_eq(stall(10 * SECOND_US + 100000, 60000).some_us, 60000);
	ck_assert_uint_eq(stall(10 * SECOND_US + 100000, 60000).window_us, 2 * SECOND_US);
	ck_assert_uint_eq(stall(10 * SECOND_US, 60000).some_us, 0);
	ck_assert_uint_eq(stall(9 * SECOND_US, 60000).some_us, 0);
}
END_TEST

/* A thousand readings in a second do not push the one of two seconds ago out. */
START_TEST(test_many_readings)
{
	history = (struct psi_history){0};
	for (uint64_t ms = 1; ms <= 10000; ms++)
		add(ms * 1000, ms);
	ck_assert_uint_ge(stall(10 * SECOND_US, 10000).some_us, 1875);
	ck_assert_uint_le(stall(10 * SECOND_US, 10000).some_us, 2200);
}
END_TEST

START_TEST(test_totals_that_cannot_be)
{
	history = (struct psi_history){0};
	add(SECOND_US, 1000000);
	ck_assert_uint_eq(stall(2 * SECOND_US, 999999).some_us, 0);
	ck_assert_uint_eq(stall(2 * SECOND_US, UINT64_MAX).some_us, SECOND_US);
	ck_assert_uint_le(stall(9 * SECOND_US, UINT64_MAX).some_us,
			  stall(9 * SECOND_US, UINT64_MAX).window_us);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("host");
	TCase *tests = tcase_create("host");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_numbers);
	tcase_add_test(tests, test_fields);
	tcase_add_test(tests, test_file_of_one_number);
	tcase_add_test(tests, test_meminfo);
	tcase_add_test(tests, test_too_long_a_file);
	tcase_add_test(tests, test_of_this_host);
	tcase_add_test(tests, test_psi);
	tcase_add_test(tests, test_psi_nonsense);
	tcase_add_test(tests, test_stall_over_the_window);
	tcase_add_test(tests, test_stall_at_the_start);
	tcase_add_test(tests, test_many_readings);
	tcase_add_test(tests, test_totals_that_cannot_be);
	suite_add_tcase(suite, tests);
	return suite;
}
