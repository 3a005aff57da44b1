/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control group a process is in: where its files are, and what memory it may still use.
 *
 * Three layouts: cgroup2 at /sys/fs/cgroup; hybrid, with cgroup2 at /sys/fs/cgroup/unified and the
 * memory controller of version 1 at /sys/fs/cgroup/memory; and version 1 alone. Sources:
 * Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, systemd's CGROUP_DELEGATION.
 */
#ifndef BASE_OWN_CGROUP_H
#define BASE_OWN_CGROUP_H

#include "base/kernel_file.h"

#include <limits.h>

/* Directories; "" where this layout has none. */
struct own_cgroup {
	char unified[PATH_MAX];   /* in cgroup2 */
	const char *unified_root; /* where that is mounted */
	/* In controllers of version 1. */
	char memory_v1[PATH_MAX], pids_v1[PATH_MAX], cpu_v1[PATH_MAX];
};

/*
 * Finds the group by /proc/<pid>/cgroup; 0 is this process. One that is going to move itself into a
 * group of its own below does this before. Whatever cannot be found, or is no plain path, is "". 0,
 * or -errno when the process's file cannot be read: then everything is "".
 */
int own_cgroup_find(const struct kernel_files *files, pid_t pid, struct own_cgroup *ret);

struct cgroup_memory {
	uint64_t limit_bytes;     /* the lowest limit on the way to the root; UINT64_MAX: none */
	uint64_t available_bytes; /* under whichever is closest; UINT64_MAX where there is none */
};

/*
 * Reads the limits of the group and of all above it, each against what that group uses less its
 * page cache that can be dropped. tmpfs and memfd pages are no such cache. A group whose files are
 * not there or not understood has no limit.
 */
void own_cgroup_memory(const struct kernel_files *files, const struct own_cgroup *cgroup,
		       struct cgroup_memory *ret);

#endif
