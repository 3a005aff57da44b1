/* SPDX-License-Identifier: Apache-2.0 */
/* Logging: one line per event, carrying the object it is about. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LINE_MAX_BYTES 2048

static const struct {
	const char *name;
	int level;
} levels[] = {
	{"error", LOG_ERR}, {"warning", LOG_WARNING}, {"notice", LOG_NOTICE},
	{"info", LOG_INFO}, {"debug", LOG_DEBUG},
};

static void sink_stderr(int level, const char *object, const char *message)
{
	/* "<6>" is how a service tells its level to whoever collects its standard error
	 * (sd-daemon(3)). */
	if (!isatty(STDERR_FILENO) && getenv("JOURNAL_STREAM"))
		fprintf(stderr, "<%d>", level);
	fprintf(stderr, "%s%s%s\n", object ? object : "", object ? ": " : "", message);
}

static int max_level = LOG_INFO;
static log_sink_fn current_sink = sink_stderr;

void log_set_level(int level)
{
	max_level = level;
}

int log_get_level(void)
{
	return max_level;
}

int log_level_from_name(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(levels); i++)
		if (strcasecmp(levels[i].name, name) == 0)
			return levels[i].level;
	return -EINVAL;
}

const char *log_level_name(int level)
{
	for (size_t i = 0; i < ELEMENTSOF(levels); i++)
		if (levels[i].level == level)
			return levels[i].name;
	return level < LOG_ERR ? "error" : "notice";
}

void log_set_sink(log_sink_fn sink)
{
	current_sink = sink ? sink : sink_stderr;
}

/* A line is one line: bytes from outside cannot start another or move the terminal's cursor. */
static void flatten(char *line)
{
	for (char *p = line; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
}

void log_line(int level, const char *object, const char *format, ...)
{
	int saved_errno = errno;
	char line[LINE_MAX_BYTES];
	va_list args;

	if (level > max_level)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	flatten(line);
	current_sink(level, object, line);
	errno = saved_errno;
}
