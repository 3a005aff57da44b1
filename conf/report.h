/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a configuration: a bounded list of lines for people. */
#ifndef CONF_REPORT_H
#define CONF_REPORT_H

#include "base/util.h"

#include <stdio.h>

/* Enough to mend a file by; a file that is no configuration at all has one wrong line per line. */
#define CONFIG_PROBLEMS_MAX 100

/* Zero-initialised it is empty. Owned by the caller, released with config_report_clear(). */
struct config_report {
	char *problems[CONFIG_PROBLEMS_MAX]; /* "FILE:LINE: what is wrong" */
	size_t count;
	size_t omitted; /* problems that found no room or no memory */
};

/* Adds one problem. `file` NULL: of the configuration as a whole; `line` 0: of the whole file. */
void config_report_add(struct config_report *report, const char *file, unsigned line,
		       const char *format, ...) PRINTF_LIKE(4, 5);

/* Whether nothing was found. */
bool config_report_is_clean(const struct config_report *report);

/* Writes the problems to `out`, a line each. */
void config_report_print(const struct config_report *report, FILE *out);

/* Frees the lines and empties the report. */
void config_report_clear(struct config_report *report);

#endif
