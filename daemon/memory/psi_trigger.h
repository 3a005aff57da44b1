/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PSI triggers: a descriptor that becomes readable when tasks wait for memory.
 *
 * Theory of operation: the kernel signals a trigger by POLLPRI, on a descriptor that is always
 * POLLIN as well, so that a loop that waits for reading spins. Each trigger's descriptor lies in an
 * epoll set that waits for EPOLLPRI alone, and that set's descriptor is what becomes readable.
 * Asking a trigger takes its event away, and the loop has asked already when it calls: the wake is
 * the event. Source: Documentation/accounting/psi.rst, kernel/sched/psi.c.
 */
#ifndef DAEMON_MEMORY_PSI_TRIGGER_H
#define DAEMON_MEMORY_PSI_TRIGGER_H

#include "base/kernel_file.h"

#define PSI_TRIGGERS 2 /* some and full: a descriptor takes one only */

/* Signal when tasks waited `stall_us` within `window_us`; at most once in a window. */
struct psi_threshold {
	unsigned some_us, full_us, window_us;
};

struct psi_trigger {
	int epoll_fd; /* for reading; -1: closed */
	int fds[PSI_TRIGGERS];
};

#define PSI_TRIGGER_CLOSED ((struct psi_trigger){.epoll_fd = -1, .fds = {-1, -1}})

/*
 * Opens both triggers on the PSI file `path`. 0, or -errno of what the kernel refused: -EPERM or
 * -EINVAL for windows that a process without CAP_SYS_RESOURCE may not have (before Linux 6.4 none,
 * from then on multiples of 2 s), -EACCES, -EROFS, -EOPNOTSUPP and others. Close it afterwards.
 */
int psi_trigger_open(const struct kernel_files *files, const char *path,
		     const struct psi_threshold *threshold, struct psi_trigger *ret);
void psi_trigger_close(struct psi_trigger *trigger);

/* To be called when epoll_fd is readable. 0: it was an event. -EIO: the file is gone, as with its
 * cgroup; close the trigger. */
int psi_trigger_take(const struct psi_trigger *trigger);

#endif
