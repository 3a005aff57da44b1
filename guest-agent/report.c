/* SPDX-License-Identifier: Apache-2.0 */
/* What a language's runner tells the agent of its program: an uncaught exception, or its farewell.
 */
#include "guest-agent/report.h"

#include "base/util.h"
#include "guest-agent/receipt.h"

#include <stdlib.h>

static void stop(struct report *report)
{
	if (report->loop)
		ev_io_stop(loop_ev(report->loop), &report->watcher);
}

/* A writer's one write() is one read() here: it fits the pipe. */
static ssize_t read_more(struct report *report)
{
	ssize_t n;

	if (!report->data)
		report->data = malloc(RECEIPT_REPORT_MAX);
	if (!report->data || report->len >= RECEIPT_REPORT_MAX)
		return 0;
	n = read(report->fd, report->data + report->len, RECEIPT_REPORT_MAX - report->len);
	if (n > 0)
		report->len += (size_t)n;
	return n;
}

static void on_readable(struct ev_loop *ev UNUSED, ev_io *io, int events UNUSED)
{
	struct report *report = io->data;
	ssize_t n = read_more(report);

	/* One look: a report is a whole, and its end of the pipe may stay open for long. */
	stop(report);
	if (n == 2 && report->len == 2 && report->data[0] == '\0')
		report->on_farewell(report->user, (unsigned char)report->data[1]);
}

void report_start(struct report *report, struct loop *loop, int fd_take,
		  void (*on_farewell)(void *user, int status), void *user)
{
	*report = (struct report){
		.loop = loop, .fd = fd_take, .on_farewell = on_farewell, .user = user};
	if (fd_take < 0)
		return;
	ev_io_init(&report->watcher, on_readable, fd_take, EV_READ);
	report->watcher.data = report;
	ev_io_start(loop_ev(loop), &report->watcher);
}

json_t *report_finish(struct report *report)
{
	stop(report);
	if (report->fd < 0)
		return NULL;
	while (read_more(report) > 0)
		;
	return receipt_parse_report(report->data, report->len);
}

void report_fini(struct report *report)
{
	stop(report);
	report->fd = close_fd(report->fd);
	free(TAKE_PTR(report->data));
}
