/* SPDX-License-Identifier: Apache-2.0 */
/* Logging: one line per event, carrying the object it is about. Where lines go is a sink's choice.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/util.h"

#include <syslog.h>

/* Levels are syslog's: LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG. */
typedef void (*log_sink_fn)(int level, const char *object, const char *message);

/* Lines above `level` are dropped. LOG_INFO by default. */
void log_set_level(int level);
int log_get_level(void);

/* "error", "warning", "notice", "info", "debug" to a level. The level, or -EINVAL. */
int log_level_from_name(const char *name);
const char *log_level_name(int level);

/* NULL restores the default: standard error, with a syslog prefix "<6>" when under systemd is not
 * connected to a terminal. */
void log_set_sink(log_sink_fn sink);

/*
 * Logs one line about `object` ("vm_3f… qmp", or NULL for the process itself). Messages start with
 * a capital, have no full stop, and quote strings that come from outside in single quotes.
 */
void log_line(int level, const char *object, const char *format, ...) PRINTF_LIKE(3, 4);

#define log_error(object, ...)   log_line(LOG_ERR, object, __VA_ARGS__)
#define log_warning(object, ...) log_line(LOG_WARNING, object, __VA_ARGS__)
#define log_notice(object, ...)  log_line(LOG_NOTICE, object, __VA_ARGS__)
#define log_info(object, ...)    log_line(LOG_INFO, object, __VA_ARGS__)
#define log_debug(object, ...)   log_line(LOG_DEBUG, object, __VA_ARGS__)

#endif
