/* SPDX-License-Identifier: Apache-2.0 */
/* fork and exec with an exact set of descriptors; used by proc.c alone. */
#ifndef DAEMON_VM_SPAWN_H
#define DAEMON_VM_SPAWN_H

#include "daemon/vm/proc.h"

/*
 * Starts spec->argv as proc_spawn() says. Blocks until the exec has happened or failed, about a
 * millisecond. Sets the child's pid, its pidfd and the reading end of its standard error (both
 * CLOEXEC, the latter NONBLOCK). 0, or -errno of whatever failed, with nothing left behind.
 */
int spawn_program(const struct proc_spec *spec, pid_t *ret_pid, int *ret_pidfd, int *ret_stderr_fd);

#endif
