/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a configuration: a bounded list of lines for people. */
#include "conf/report.h"

#include <stdarg.h>
#include <string.h>

/* A problem with its location, as "FILE:LINE: text". NULL without memory. */
static char *problem_new(const char *file, unsigned line, const char *text)
{
	char *problem = NULL;
	int n;

	if (!file)
		return strdup(text);
	if (line == 0)
		n = asprintf(&problem, "%s: %s", file, text);
	else
		n = asprintf(&problem, "%s:%u: %s", file, line, text);
	return n < 0 ? NULL : problem;
}

void config_report_add(struct config_report *report, const char *file, unsigned line,
		       const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	char *problem = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0)
		text = NULL;
	if (text && report->count < CONFIG_PROBLEMS_MAX)
		problem = problem_new(file, line, text);
	if (problem)
		report->problems[report->count++] = problem;
	else
		report->omitted++;
}

bool config_report_is_clean(const struct config_report *report)
{
	return report->count == 0 && report->omitted == 0;
}

void config_report_print(const struct config_report *report, FILE *out)
{
	for (size_t i = 0; i < report->count; i++)
		fprintf(out, "%s\n", report->problems[i]);
	if (report->omitted > 0)
		fprintf(out, "%zu more problems are not shown\n", report->omitted);
}

void config_report_clear(struct config_report *report)
{
	for (size_t i = 0; i < report->count; i++)
		free(report->problems[i]);
	*report = (struct config_report){0};
}
