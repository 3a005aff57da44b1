/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main process of a run with all that is ours of it: pipes, cgroup, what it had used before.
 *
 * Theory of operation: a process is started by guest-agent/program, for a run or to wait for one,
 * and belongs to one owner at a time; it moves from the interpreter that waits to the run by
 * process_move(). Its tree is its cgroup; where there are none, everything below the agent that is
 * not spared.
 */
#ifndef GUEST_AGENT_PROCESS_H
#define GUEST_AGENT_PROCESS_H

#include "guest-agent/cgroup.h"

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

struct process {
	pid_t pid; /* 0: none, or reaped */
	/* Our ends, non-blocking; -1: none, or handed on. */
	int stdin_fd, stdout_fd, stderr_fd;
	int report_fd;  /* of the language's runner */
	int failure_fd; /* for spawn_failure() */
	int go_fd;      /* of an interpreter that waits */
	struct cgroup_run cgroup;
	/* Counted before its run began. */
	struct cgroup_usage usage_before;
	struct rusage rusage_before; /* times and major faults only */
};

/* Children of the agent that are no part of any run. */
struct process_spared {
	pid_t pids[24];
	size_t len;
};

#define PROCESS_NONE                        \
	((struct process){.stdin_fd = -1,   \
			  .stdout_fd = -1,  \
			  .stderr_fd = -1,  \
			  .report_fd = -1,  \
			  .failure_fd = -1, \
			  .go_fd = -1,      \
			  .cgroup = CGROUP_RUN_NONE})

/* Closes everything and removes the cgroup, of which no process may be left. */
void process_fini(struct process *process, const struct cgroup *cgroup);

/* Hands all of it over. */
struct process process_move(struct process *process);

/* SIGKILL to its whole tree. */
void process_kill_tree(const struct process *process, const struct process_spared *spared);
bool process_is_tree_gone(const struct process *process, const struct process_spared *spared);

/* What a process that still exists has used: times, and major faults with its children's. */
void process_read_usage(const struct process *process, struct rusage *ret);

/* Notes what it has used so far as used before its run. */
void process_note_usage(struct process *process);

/*
 * Limits the CPU seconds it uses from its noted usage on: SIGXCPU there, SIGKILL a second later. 0
 * sets no limit. 0, or -errno: -EPERM without CAP_SYS_RESOURCE, which PID 1 of a VM has.
 */
int process_limit_cpu(const struct process *process, uint64_t seconds);

#endif
