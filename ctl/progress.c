/* SPDX-License-Identifier: Apache-2.0 */
/* One line on stderr that tells how far a copy is. */
#include "ctl/progress.h"

#include "base/util.h"
#include "ctl/output.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* A copy that takes no longer shows nothing. */
#define DRAW_EVERY_US (200u * 1000)
#define BAR_MIN       10
#define BAR_MAX       40
#define COLUMNS       80

static void add_bar(const struct progress *progress, size_t columns, char buf[PROGRESS_SIZE])
{
	size_t len = strlen(buf), width, full;

	if (progress->bytes_total == 0 || len + 4 + BAR_MIN > columns)
		return;
	width = MIN(columns - len - 4, (size_t)BAR_MAX);
	full = (size_t)((double)width * (double)MIN(progress->bytes, progress->bytes_total) /
			(double)progress->bytes_total);
	len += (size_t)snprintf(buf + len, PROGRESS_SIZE - len, "  [");
	for (size_t i = 0; i < width; i++)
		buf[len++] = i < full ? '=' : ' ';
	if (full < width)
		buf[len - width + full] = '>';
	snprintf(buf + len, PROGRESS_SIZE - len, "]");
}

/* Adds a part when there is room for it. */
static void add(char buf[PROGRESS_SIZE], size_t columns, const char *part)
{
	size_t len = strlen(buf), part_len = strlen(part);

	if (len + part_len <= columns)
		memcpy(buf + len, part, part_len + 1);
}

const char *progress_format(const struct progress *progress, size_t columns,
			    char buf[PROGRESS_SIZE])
{
	char part[64], done[BYTES_TEXT_SIZE], total[BYTES_TEXT_SIZE], rate[BYTES_TEXT_SIZE];

	*buf = '\0';
	columns = MIN(columns, (size_t)PROGRESS_SIZE - 1);
	if (progress->bytes_total > 0) {
		snprintf(part, sizeof(part), "%3.0f%%  ",
			 100. * (double)MIN(progress->bytes, progress->bytes_total) /
				 (double)progress->bytes_total);
		add(buf, columns, part);
	}
	add(buf, columns, format_bytes((double)progress->bytes, done));
	if (progress->bytes_total > 0) {
		snprintf(part, sizeof(part), " of %s",
			 format_bytes((double)progress->bytes_total, total));
		add(buf, columns, part);
	}
	if (progress->seconds > 0) {
		snprintf(part, sizeof(part), "  %s/s",
			 format_bytes((double)progress->bytes / progress->seconds, rate));
		add(buf, columns, part);
	}
	if (progress->files_total > 1) {
		snprintf(part, sizeof(part), "  %zu of %zu files", progress->files,
			 progress->files_total);
		add(buf, columns, part);
	}
	add_bar(progress, columns, buf);
	return buf;
}

static size_t columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
									       : COLUMNS;
}

static void draw(struct progress *progress)
{
	uint64_t now = now_us();
	char line[PROGRESS_SIZE];

	if (!progress->is_shown || now - progress->drawn_us < DRAW_EVERY_US)
		return;
	progress->drawn_us = now;
	progress->seconds = (double)(now - progress->begun_us) / 1e6;
	progress->is_drawn = true;
	/* One column less: some terminals go to the next line in the last one. */
	fprintf(stderr, "\r%s\033[K", progress_format(progress, columns() - 1, line));
	fflush(stderr);
}

void progress_begin(struct progress *progress, uint64_t bytes_total, size_t files_total)
{
	const char *term = getenv("TERM");
	uint64_t now = now_us();

	*progress = (struct progress){
		.bytes_total = bytes_total,
		.files_total = files_total,
		.begun_us = now,
		.drawn_us = now,
		.is_shown = isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0,
	};
}

void progress_add(struct progress *progress, uint64_t bytes, size_t files)
{
	progress->bytes += bytes;
	progress->files += files;
	draw(progress);
}

void progress_end(struct progress *progress)
{
	progress->seconds = (double)(now_us() - progress->begun_us) / 1e6;
	if (progress->is_drawn)
		fputs("\r\033[K", stderr);
	progress->is_drawn = false;
}
