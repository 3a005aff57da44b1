/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a user's program: what happens in the child between fork and exec.
 *
 * Theory of operation: the child enters its cgroup while it is still root, takes limits, gives up
 * its user and all ways back (no_new_privs), and executes. A step that fails is told through a
 * CLOEXEC pipe of its own, which the parent reads when the process has ended; nothing waits for the
 * exec to happen.
 */
#ifndef GUEST_AGENT_SPAWN_H
#define GUEST_AGENT_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct spawn_request {
	char *const *argv, *const *environment;
	const char *home, *cwd; /* cwd may be relative to home, or empty */
	bool change_user;       /* to `uid` and a group of the same number */
	uid_t uid;
	int stdin_fd, stdout_fd, stderr_fd; /* stay the caller's */
	int report_fd;                      /* becomes REPORT_FD; -1: none */
	int go_fd;                          /* becomes GO_FD; -1: none */
	bool has_terminal;                  /* the three are one, which controls its session */
	int cgroup_fd;                      /* of cgroup_run_create(); -1: none */
	uint64_t cpu_seconds;               /* RLIMIT_CPU; 0: none */
	uint64_t processes_max;             /* RLIMIT_NPROC; 0: none */
};

/*
 * Forks and starts the program in a session of its own. 0, with the process and the descriptor for
 * spawn_failure(), or -errno.
 */
int spawn_start(const struct spawn_request *request, pid_t *ret_pid, int *ret_failure_fd);

/*
 * After the process has ended: did it fail before it became the program? True with the step (static
 * text, "enter the working directory") and the errno.
 */
bool spawn_failure(int failure_fd, const char **ret_step, int *ret_error);

#endif
