/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prometheus' text exposition format, version 0.0.4.
 *
 * Theory of operation: families are written one after the other, each begun with its HELP and TYPE;
 * the samples that follow are of the family that was begun last. What memory does not hold is known
 * in the end: prometheus_end() then has no text. Source: Prometheus, "Exposition formats".
 */
#ifndef DAEMON_METHOD_PROMETHEUS_H
#define DAEMON_METHOD_PROMETHEUS_H

#include <stdint.h>
#include <stdio.h>

#define PROMETHEUS_CONTENT_TYPE "text/plain; version=0.0.4"

enum prometheus_type { PROMETHEUS_COUNTER, PROMETHEUS_GAUGE, PROMETHEUS_HISTOGRAM };

struct prometheus {
	FILE *file;
	char *text;
	size_t len;
	const char *family;
};

/* 0 or -ENOMEM. prometheus_end() it. */
int prometheus_begin(struct prometheus *metrics);

/* The text (free()), or NULL when memory ran out. */
char *prometheus_end(struct prometheus *metrics);

/* `name` and `help` stay until the next family; they are ours and need no escaping. */
void prometheus_family(struct prometheus *metrics, const char *name, enum prometheus_type type,
		       const char *help);

/* One sample. Labels are pairs of name and value, ended by NULL; values may hold any text. */
void prometheus_sample(struct prometheus *metrics, double value, ...) __attribute__((sentinel));

/*
 * One histogram: `counts` of n buckets with these upper bounds, and behind them what is over all;
 * `label` and its value may be NULL.
 */
void prometheus_histogram(struct prometheus *metrics, const double *bounds, const uint64_t *counts,
			  size_t n, double sum, const char *label, const char *value);

#endif
