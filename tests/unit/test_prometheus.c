/* SPDX-License-Identifier: Apache-2.0 */
/* The text format of metrics: escapes, numbers, cumulative buckets; and what runs are counted as.
 */
#include "daemon/method/prometheus.h"

#include "base/util.h"
#include "daemon/session/run_counters.h"
#include "protocol/rpc_error.h"
#include "tests/unit/suite.h"

static struct prometheus metrics;

static void setup(void)
{
	ck_assert_int_eq(prometheus_begin(&metrics), 0);
}

static void expect(const char *text)
{
	_cleanup_free_ char *written = prometheus_end(&metrics);

	ck_assert_pstr_eq(written, text);
}

START_TEST(test_samples)
{
	prometheus_family(&metrics, "a_bytes", PROMETHEUS_GAUGE, "Help.");
	prometheus_sample(&metrics, 12345678901234., NULL);
	prometheus_sample(&metrics, 0.25, "x", "1", "y", "2", NULL);
	prometheus_family(&metrics, "b_total", PROMETHEUS_COUNTER, "More.");
	prometheus_sample(&metrics, -3, "x", "a\"b\\c\nd", NULL);
	expect("# HELP a_bytes Help.\n# TYPE a_bytes gauge\na_bytes 12345678901234\n"
	       "a_bytes{x=\"1\",y=\"2\"} 0.25\n"
	       "# HELP b_total More.\n# TYPE b_total counter\n"
	       "b_total{x=\"a\\\"b\\\\c\\nd\"} -3\n");
}
END_TEST

START_TEST(test_histogram)
{
	static const double bounds[] = {0.005, 1};
	static const uint64_t counts[] = {2, 3, 4};

	prometheus_family(&metrics, "h", PROMETHEUS_HISTOGRAM, "H.");
	prometheus_histogram(&metrics, bounds, counts, 2, 9.5, NULL, NULL);
	prometheus_histogram(&metrics, bounds, counts, 2, 9.5, "kind", "k");
	expect("# HELP h H.\n# TYPE h histogram\n"
	       "h_bucket{le=\"0.005\"} 2\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 9\n"
	       "h_sum 9.5\nh_count 9\n"
	       "h_bucket{kind=\"k\",le=\"0.005\"} 2\nh_bucket{kind=\"k\",le=\"1\"} 5\n"
	       "h_bucket{kind=\"k\",le=\"+Inf\"} 9\nh_sum{kind=\"k\"} 9.5\nh_count{kind=\"k\"} "
	       "9\n");
}
END_TEST

START_TEST(test_run_counters)
{
	static struct run_counters counters;
	struct run_outcome outcome = {.language = "javascript",
				      .queue_us = 4000,
				      .start_us = 5000,
				      .execute_us = 61 * 1000000};
	const char *name, *help;
	size_t at = 0;
	int code;

	run_counters_add(&counters, "ok", &outcome, POOL_START_CLONE);
	outcome.execute_us = 0;
	run_counters_add(&counters, "cancelled", &outcome, POOL_START_WARM);
	run_counters_add_abandoned(&counters, "shell");
	run_counters_add_error(&counters, RPC_CAPACITY);
	run_counters_add(&counters, "no such status", &outcome, POOL_START_WARM);
	ck_assert_uint_eq(counters.ended[1][0], 1);
	ck_assert_uint_eq(counters.ended[1][6], 1);
	ck_assert_uint_eq(counters.ended[2][7], 1);
	/* A bound belongs to its bucket. */
	ck_assert_uint_eq(counters.start[POOL_START_CLONE].counts[1], 1);
	ck_assert_uint_eq(counters.start[POOL_START_WARM].counts[1], 0);
	ck_assert_uint_eq(counters.execute.counts[HISTOGRAM_BUCKETS], 1);
	ck_assert_double_eq(counters.execute.sum_seconds, 61);
	ck_assert_uint_eq(counters.queue.counts[1], 3);
	while (rpc_code_at(at, &code, &name, &help) && code != RPC_CAPACITY)
		at++;
	ck_assert_uint_eq(counters.errors[at], 1);
	/* Every code has a place. */
	while (rpc_code_at(at, &code, &name, &help))
		at++;
	ck_assert_uint_le(at, RUN_CODES);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("prometheus");
	TCase *text = tcase_create("text"), *runs = tcase_create("runs");

	tcase_add_checked_fixture(text, setup, NULL);
	tcase_add_test(text, test_samples);
	tcase_add_test(text, test_histogram);
	tcase_add_test(runs, test_run_counters);
	suite_add_tcase(suite, text);
	suite_add_tcase(suite, runs);
	return suite;
}
