/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A helper process for slow file work, so that the loop never waits for a disk.
 *
 * Theory of operation: worker_start() forks. The child keeps the standard descriptors and those it
 * is given, nothing else of the daemon's (an inherited client connection would stay open), runs the
 * function and ends; what it returns and up to WORKER_REPORT_MAX bytes it wrote to its report come
 * back through a pipe. A worker that dies without a word answers -ECHILD. It dies with the daemon
 * (PR_SET_PDEATHSIG).
 */
#ifndef DAEMON_TEMPLATE_WORKER_H
#define DAEMON_TEMPLATE_WORKER_H

#include "base/loop.h"
#include "base/util.h"

#include <stddef.h>

/* With the result before it one page: what a pipe holds even for a user over its pipe quota. */
#define WORKER_REPORT_MAX 4088
#define WORKER_FDS_MAX    8

struct worker;

/* What runs in the child, on a copy of `input`. Returns 0 or -errno; may fill the report (its
 * length is 0 before). It may allocate and open files; it must not touch the loop or anything of
 * the daemon's that has a descriptor. Signals are at their defaults but SIGPIPE and SIGXFSZ, which
 * are ignored: a write that fails says so. */
typedef int (*worker_fn)(void *input, char report[WORKER_REPORT_MAX], size_t *ret_report_len);

/* `report` is valid during the call. Comes from the loop, exactly once, when the child is reaped;
 * the worker is gone by then and must not be destroyed any more. */
typedef void (*worker_done_fn)(void *user, int result, const char *report, size_t report_len);

/* `fds` stay open in the child under their own numbers; -E2BIG for more than WORKER_FDS_MAX. `name`
 * (15 bytes) is the process's name. 0 or -errno. */
int worker_start(struct loop *loop, const char *name, const int *fds, size_t fd_count, worker_fn fn,
		 void *input, worker_done_fn on_done, void *user, struct worker **ret) WARN_UNUSED;

/* Kills and reaps it, without a callback. For the end of its owner. NULL is fine. */
void worker_destroy(struct worker *worker);

#endif
