/* SPDX-License-Identifier: Apache-2.0 */
/* One configuration file: strict reading of its lines, values by libeconf. */
#ifndef CONF_FILE_H
#define CONF_FILE_H

#include "conf/report.h"

#define CONFIG_FILE_MAX (1024 * 1024) /* far over what all keys with comments need */
/* libeconf reads lines into BUFSIZ (8192) bytes and takes the rest for another line. */
#define CONFIG_LINE_MAX 8000

/*
 * Reads the file at `path` and stores its values into `values` (laid out as config_schema says).
 * Every problem is added to `report` with file and line; good values are stored also when others
 * are bad. A file that cannot be read is a problem too. 0, also with problems; or -ENOMEM and
 * other errors of the machinery, which are not the file's fault.
 */
int config_file_apply(const char *path, void *values, struct config_report *report);

/* The same for text in memory, `name` being what problems call it. */
int config_text_apply(const char *name, const char *text, size_t len, void *values,
		      struct config_report *report);

#endif
