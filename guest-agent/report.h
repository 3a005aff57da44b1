/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a language's runner tells the agent of its program: an uncaught exception, or its farewell.
 *
 * Theory of operation: the runner holds the write end of a pipe. A farewell is a NUL and the exit
 * status: the program has ended, its output is flushed, and what is left is the kernel taking the
 * process apart, half of the time of a short run. Who says it has as good as called _exit(2): the
 * agent kills the tree, so that it is true whoever wrote it. Anything else is the report of an
 * exception (receipt_parse_report()), read when the process has ended. User code can write what it
 * likes there; all of it is a claim of the program about itself.
 */
#ifndef GUEST_AGENT_REPORT_H
#define GUEST_AGENT_REPORT_H

#include "base/loop.h"

#include <jansson.h>
#include <stddef.h>

struct report {
	struct loop *loop;
	int fd; /* -1: none */
	ev_io watcher;
	char *data; /* what came so far */
	size_t len;
	void (*on_farewell)(void *user, int status);
	void *user;
};

#define REPORT_NONE       \
	((struct report){ \
		.fd = -1, \
	})

/* Takes the read end (non-blocking; -1: this language has none). on_farewell comes at most once. */
void report_start(struct report *report, struct loop *loop, int fd_take,
		  void (*on_farewell)(void *user, int status), void *user);

/* The exception that was reported, or NULL. Reads what is left. */
json_t *report_finish(struct report *report);

void report_fini(struct report *report);

#endif
