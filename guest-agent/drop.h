/* SPDX-License-Identifier: Apache-2.0 */
/* Drops the guest's page cache, in a child process. */
#ifndef GUEST_AGENT_DROP_H
#define GUEST_AGENT_DROP_H

#include <sys/types.h>

#define DROP_CACHES_PATH "/proc/sys/vm/drop_caches"

/* Writes to `path`, the kernel's. The child's pid, whose owner reaps it: then it is done. 0 when
 * there is none: nothing is dropped. Source: Documentation/admin-guide/sysctl/vm.rst. */
pid_t drop_start(const char *path);

#endif
