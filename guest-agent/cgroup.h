/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's control groups: one for the agent, one for each run.
 *
 * Theory of operation: below the root given to cgroup_init() lie `agent` (only as PID 1: the agent
 * itself, memory.min) and `user` with `user/<name>` per run. A run is ended as a whole by
 * cgroup.kill, whatever sessions and process groups its processes made. Controllers that are
 * missing (tests on hosts) only lose their limits and figures; without cgroup.kill there is no
 * cgroup at all and runs are ended by guest-agent/tree. Source: Documentation/admin-guide/
 * cgroup-v2.rst.
 */
#ifndef GUEST_AGENT_CGROUP_H
#define GUEST_AGENT_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

struct cgroup {
	int root_fd, user_fd; /* -1: there is none */
};

struct cgroup_limits {
	uint64_t memory_max_bytes; /* 0: none */
	uint64_t pids_max;
};

/* What the kernel counted for a run's whole tree; zero where it does not count. */
struct cgroup_usage {
	bool has_cpu;
	uint64_t cpu_user_us, cpu_system_us;
	uint64_t memory_peak_bytes;
	uint64_t swap_bytes; /* the peak where the kernel has one (6.5), else the present */
	uint64_t oom_kills;
};

#define CGROUP_NONE ((struct cgroup){.root_fd = -1, .user_fd = -1})

/* The group of one run. */
struct cgroup_run {
	int fd; /* of its directory; -1: there is none */
	char name[32];
	struct cgroup_limits limits; /* that it has; zero: none yet */
};

#define CGROUP_RUN_NONE ((struct cgroup_run){.fd = -1})

/*
 * Opens the cgroup v2 directory `path` and makes `user` in it; with `as_init` also moves the
 * calling process to `agent`. 0, or -errno: -EOPNOTSUPP when the kernel has no cgroup.kill (5.14).
 */
int cgroup_init(struct cgroup *cgroup, const char *path, bool as_init);
/* Removes `user` when it is empty and closes. */
void cgroup_fini(struct cgroup *cgroup);

static inline bool cgroup_is_there(const struct cgroup *cgroup)
{
	return cgroup->user_fd >= 0;
}

/* Makes a group of that name, without limits yet. 0 or -errno. */
int cgroup_run_create(const struct cgroup *cgroup, const char *name, struct cgroup_run *ret);
/* Sets those of its limits that are others than it has, also while processes live in it. */
void cgroup_run_limit(struct cgroup_run *run, const struct cgroup_limits *limits);
/* Closes and removes it; to be called when no process is left in it. None is fine. */
void cgroup_run_remove(const struct cgroup *cgroup, struct cgroup_run *run);

/* Moves the calling process in. 0 or -errno. For the child between fork and exec. */
int cgroup_run_enter(int run_fd);
/* Sends SIGKILL to every process in it. 0 or -errno. */
int cgroup_run_kill(int run_fd);
/* Does a process live in it? Zombies do not count. */
bool cgroup_run_is_populated(int run_fd);
void cgroup_run_usage(int run_fd, struct cgroup_usage *ret);
/* Bytes a run holds now in memory and swap; 0 when unknown. */
uint64_t cgroup_run_current(int run_fd);

#endif
