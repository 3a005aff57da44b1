/* SPDX-License-Identifier: Apache-2.0 */
/* What execsandboxctl prints, and where. */
#include "ctl/output.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int output_bytes(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EAGAIN) {
			/* Somebody else made a shared descriptor non-blocking. */
			struct pollfd pollfd = {.fd = fd, .events = POLLOUT};

			poll(&pollfd, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int output_json(const json_t *value, bool is_line)
{
	_cleanup_free_ char *text =
		json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) |
					  (is_line ? JSON_COMPACT : JSON_INDENT(2)));
	size_t len;

	if (!text)
		return -ENOMEM;
	len = strlen(text);
	text[len] = '\n'; /* the terminator's place */
	return output_bytes(STDOUT_FILENO, text, len + 1);
}

static void print_line(const char *start, const char *title, const char *format, va_list list)
{
	_cleanup_free_ char *text = NULL;

	if (vasprintf(&text, format, list) < 0)
		text = NULL;
	/* A name of a guest's choice shall not move the cursor. */
	for (char *at = text; at && *at; at++)
		if ((unsigned char)*at < ' ' || *at == 127)
			*at = '?';
	fflush(stdout);
	fprintf(stderr, "%s%s%s %s\n", start, title, *start ? style_stop(STDERR_FILENO) : "",
		text ?: "No memory left");
}

void output_error(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	print_line(style_start(STDERR_FILENO, STYLE_BAD), "execsandboxctl:", format, list);
	va_end(list);
}

void output_hint(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	print_line(style_start(STDERR_FILENO, STYLE_TITLE), "hint:", format, list);
	va_end(list);
}

void output_note(const char *format, ...)
{
	va_list list;

	if (!isatty(STDERR_FILENO))
		return;
	va_start(list, format);
	print_line(style_start(STDERR_FILENO, STYLE_TITLE), "note:", format, list);
	va_end(list);
}

static bool has_colour(int fd)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fd) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

const char *style_start(int fd, enum style style)
{
	if (!has_colour(fd))
		return "";
	switch (style) {
	case STYLE_GOOD:
		return "\033[32m";
	case STYLE_WARNING:
		return "\033[33m";
	case STYLE_BAD:
		return "\033[31m";
	case STYLE_TITLE:
		return "\033[1m";
	case STYLE_PLAIN:
		break;
	}
	return "";
}

const char *style_stop(int fd)
{
	return has_colour(fd) ? "\033[0m" : "";
}

const char *format_bytes(double bytes, char buf[BYTES_TEXT_SIZE])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	size_t unit = 0;

	while (bytes >= 1024 && unit + 1 < ELEMENTSOF(units)) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, BYTES_TEXT_SIZE, bytes == (double)(long)bytes ? "%.0f %s" : "%.1f %s", bytes,
		 units[unit]);
	return buf;
}
