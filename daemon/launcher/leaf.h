/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control group of its own for each VM: limits of memory, processor time and processes.
 *
 * Theory of operation: leaves are made below the launcher's own group, where that is delegated to
 * us (systemd's CGROUP_DELEGATION: Delegate=yes). Version 2: a group with processes cannot have
 * controllers for groups below it, so the launcher first moves itself into `<own>/launcher`; each
 * VM's jail is put into `<own>/<id>` before it executes anything. Version 1 and hybrid hosts: a
 * leaf in each hierarchy whose own group we may write. A host that lets us do neither has none,
 * which is said and works: then resource limits and the pool's admission are what holds VMs.
 *
 * A leaf's name is its VM's id, so that those which a killed launcher left behind are found.
 * Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, cgroup-v1/pids.rst.
 */
#ifndef DAEMON_LAUNCHER_LEAF_H
#define DAEMON_LAUNCHER_LEAF_H

#include "base/own_cgroup.h"

#include <stdbool.h>
#include <stdint.h>

enum leaf_kind {
	LEAF_NONE,
	LEAF_V1,
	LEAF_V2,
};

/* Hierarchies of version 1 that limit: memory, pids, cpu. */
#define LEAF_TREES_MAX 3

struct leaves {
	enum leaf_kind kind;
	size_t n_trees;
	struct leaf_tree {
		const char *controller; /* NULL: version 2, all in one */
		int fd;                 /* the group that leaves are made in */
	} trees[LEAF_TREES_MAX];
	bool has_memory, has_cpu, has_pids; /* version 2: what is delegated */
};

struct leaf_limits {
	uint64_t memory_max_bytes;
	unsigned cpu_percent; /* of one processor: 200 is two of them */
	unsigned pids_max;    /* processes and threads */
};

/* "none", "v1", "v2". */
const char *leaf_kind_name(enum leaf_kind kind);

/*
 * Finds where leaves can be made, tries it, and in version 2 moves this process. Paths as
 * own_cgroup_find() found them. `leaves` is always usable afterwards, perhaps as LEAF_NONE.
 */
void leaves_open(struct leaves *leaves, const struct own_cgroup *own);
void leaves_close(struct leaves *leaves);

/* From the group that a launcher with leaves of version 2 has moved itself into to theirs. */
void leaves_step_out(struct own_cgroup *own);

/*
 * Makes the leaf of a VM. Sets descriptors (the caller's) to which a process writes "0" to be in
 * it, and how many. 0, or -errno with nothing left.
 */
int leaf_make(const struct leaves *leaves, const char *id, const struct leaf_limits *limits,
	      int ret_fds[LEAF_TREES_MAX], size_t *ret_n);

/* Has the kernel killed a process in it, for its memory? */
bool leaf_was_oom_killed(const struct leaves *leaves, const char *id);

/* Removes it, and in version 2 kills what may still be in it. 0, -EBUSY while something is, or
 * another -errno. One that is not there is fine. */
int leaf_remove(const struct leaves *leaves, const char *id);

/* Removes leaves nobody uses, by name; those with processes stay. */
void leaves_sweep(const struct leaves *leaves, bool (*is_used)(void *user, const char *id),
		  void *user);

#endif
