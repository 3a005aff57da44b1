/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus' text exposition format, version 0.0.4. */
#include "daemon/method/prometheus.h"

#include "base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>

int prometheus_begin(struct prometheus *metrics)
{
	*metrics = (struct prometheus){.text = NULL};
	metrics->file = open_memstream(&metrics->text, &metrics->len);
	return metrics->file ? 0 : -ENOMEM;
}

char *prometheus_end(struct prometheus *metrics)
{
	bool is_whole = !ferror(metrics->file);

	if (fclose(metrics->file) == 0 && is_whole)
		return metrics->text;
	free(metrics->text);
	return NULL;
}

void prometheus_family(struct prometheus *metrics, const char *name, enum prometheus_type type,
		       const char *help)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};

	metrics->family = name;
	fprintf(metrics->file, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

static void put_label_value(FILE *file, const char *value)
{
	for (; *value; value++) {
		if (*value == '\n')
			fputs("\\n", file);
		else if (*value == '"' || *value == '\\')
			fprintf(file, "\\%c", *value);
		else
			fputc(*value, file);
	}
}

static void put_label(FILE *file, const char *before, const char *name, const char *value)
{
	fprintf(file, "%s%s=\"", before, name);
	put_label_value(file, value);
	fputc('"', file);
}

/* Whole numbers as such: bytes stay readable. */
static void put_value(FILE *file, double value)
{
	if (value == trunc(value) && fabs(value) < 0x1p53)
		fprintf(file, " %.0f\n", value);
	else
		fprintf(file, " %.9g\n", value);
}

void prometheus_sample(struct prometheus *metrics, double value, ...)
{
	const char *label, *before = "{";
	va_list labels;

	fputs(metrics->family, metrics->file);
	va_start(labels, value);
	while ((label = va_arg(labels, const char *))) {
		put_label(metrics->file, before, label, va_arg(labels, const char *));
		before = ",";
	}
	va_end(labels);
	if (*before == ',')
		fputc('}', metrics->file);
	put_value(metrics->file, value);
}

static void put_bucket(struct prometheus *metrics, const char *bound, uint64_t count,
		       const char *label, const char *value)
{
	fprintf(metrics->file, "%s_bucket", metrics->family);
	if (label)
		put_label(metrics->file, "{", label, value);
	put_label(metrics->file, label ? "," : "{", "le", bound);
	fprintf(metrics->file, "} %" PRIu64 "\n", count);
}

static void put_total(struct prometheus *metrics, const char *suffix, double total,
		      const char *label, const char *value)
{
	fprintf(metrics->file, "%s%s", metrics->family, suffix);
	if (label) {
		put_label(metrics->file, "{", label, value);
		fputc('}', metrics->file);
	}
	put_value(metrics->file, total);
}

void prometheus_histogram(struct prometheus *metrics, const double *bounds, const uint64_t *counts,
			  size_t n, double sum, const char *label, const char *value)
{
	uint64_t total = 0;
	char bound[32];

	for (size_t i = 0; i < n; i++) {
		total += counts[i];
		snprintf(bound, sizeof(bound), "%g", bounds[i]);
		put_bucket(metrics, bound, total, label, value);
	}
	total += counts[n];
	put_bucket(metrics, "+Inf", total, label, value);
	put_total(metrics, "_sum", sum, label, value);
	put_total(metrics, "_count", (double)total, label, value);
}
