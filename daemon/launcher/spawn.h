/* SPDX-License-Identifier: Apache-2.0 */
/* fork and exec with an exact set of descriptors; used by proc.c, and start.c for its parts. */
#ifndef DAEMON_LAUNCHER_SPAWN_H
#define DAEMON_LAUNCHER_SPAWN_H

#include "daemon/launcher/proc.h"

/*
 * Starts spec->argv as proc_spawn() says. Blocks until the exec has happened or failed, about a
 * millisecond. Sets the child's pid, its pidfd and the reading end of its standard error (both
 * CLOEXEC, the latter NONBLOCK). 0, or -errno of whatever failed, with nothing left behind.
 */
int spawn_program(const struct proc_spec *spec, pid_t *ret_pid, int *ret_pidfd, int *ret_stderr_fd);

/* Default dispositions and an empty mask: a handler of ours must not survive into the program. 0,
 * or -1 with errno. Signal-safe. */
int spawn_reset_signals(void);

/* Waits at the pipe that a successful exec closes: 0, or -errno as the child wrote it there. */
int spawn_await_exec(int fd);

#endif
