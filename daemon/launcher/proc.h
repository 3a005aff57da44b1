/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One child process of the daemon, with or without a jail around it: start, watch, kill.
 *
 * Theory of operation: a plain program is our child. A jailed one is the child of bubblewrap, the
 * wrapper, which is our child; its pid comes as JSON through the wrapper's info descriptor, is
 * believed only when /proc says that its parent is the wrapper, and is held as a pidfd from then
 * on, so that no signal ever meets a stranger. The program has ended when its pidfd says so; it is
 * gone when the wrapper, too, has been reaped: only then is its capacity free.
 *
 * Killing goes to the program; the wrapper reaps it and ends with its status. A wrapper that does
 * not end in WRAPPER_GRACE is killed as well. A kill that comes before the pid is known waits for
 * it within the same grace, because a wrapper killed at that moment could leave its child behind.
 *
 * States:                  allowed
 *   STARTING  jailed, pid unknown        kill (kept until the pid comes)
 *   RUNNING   program watched by pidfd   kill
 *   ENDED     program ended, wrapper not reaped yet
 *   GONE      all reaped; on_gone was called or is being called
 */
#ifndef DAEMON_LAUNCHER_PROC_H
#define DAEMON_LAUNCHER_PROC_H

#include "base/loop.h"
#include "base/util.h"

#include <sys/resource.h>
#include <sys/types.h>

/* The descriptors a child gets besides 0, 1, 2. QEMU needs seven; more are a bug of the caller. */
#define PROC_FDS_MAX  32
#define PROC_FD_FIRST 3
/* Kept of what the child writes to standard error: its last lines say why it ended. */
#define PROC_STDERR_SIZE 4096

struct proc_fds {
	int fds[PROC_FDS_MAX]; /* borrowed; fds[i] becomes PROC_FD_FIRST + i in the child */
	int len;
};

/* Adds a descriptor of ours. Returns the number it will have in the child, or -ENOSPC. */
int proc_fds_add(struct proc_fds *fds, int fd);

struct proc_limit {
	int resource; /* RLIMIT_… */
	rlim_t value; /* soft and hard */
};

struct proc_spec {
	char *const *argv; /* argv[0] is an absolute path; the environment is empty */
	const struct proc_fds *fds;
	const struct proc_limit *limits;
	size_t n_limits;
	int info_fd_take; /* our end of the jail's info pipe; -1 for a plain program */
	/* Written to oom_score_adj when positive: whom the kernel takes first (0 to 1000). */
	int oom_score_adj;
	bool has_no_huge_pages; /* PR_SET_THP_DISABLE */
	/* Open for writing, borrowed: the child writes "0" to each before it executes anything, as
	 * cgroup.procs files take it. */
	const int *cgroup_fds;
	size_t n_cgroup_fds;
};

enum proc_end {
	PROC_END_UNKNOWN, /* the wrapper was killed before it could tell */
	PROC_END_EXITED,
	PROC_END_SIGNALED,
};

struct proc_status {
	enum proc_end end;
	int code;         /* exit status or signal number */
	bool is_oom_kill; /* for the memory of its control group: launcher only */
};

struct proc_ops {
	/* A jailed program's pid, as the host sees it, is known and watched. May be NULL. */
	void (*on_pid)(void *user, pid_t pid);
	/* The program has ended; comes at most once, and not when the jail never started it. */
	void (*on_end)(void *user);
	/* Program and wrapper are reaped. Comes exactly once, last. */
	void (*on_gone)(void *user, const struct proc_status *status);
};

struct proc;

/*
 * Starts the program with exactly the descriptors of `spec` (0 and 1 are /dev/null, 2 is kept by
 * us), default signals and a clean signal mask; it gets SIGKILL when we die. `object` names it in
 * debug lines. Takes spec->info_fd_take in every case. 0, or -errno, also of a failed exec
 * (-ENOENT, -EACCES). No callback comes before this returns.
 */
int proc_spawn(struct loop *loop, const char *object, const struct proc_spec *spec,
	       const struct proc_ops *ops, void *user, struct proc **ret);

/* Sends SIGKILL; on_end and on_gone follow. Harmless when it has ended, or was killed before. */
void proc_kill(struct proc *proc);

/* The parent of any process, or -1. */
pid_t proc_parent(pid_t pid);

/* Pid of the program itself, or 0 while it is not known. */
pid_t proc_pid(const struct proc *proc);

/* Holds it, from on_pid to on_end; else -1. Borrowed. */
int proc_pidfd(const struct proc *proc);

/* Asks the kernel whether the program runs: its end may not have been noticed yet. */
bool proc_is_alive(const struct proc *proc);

/* The last PROC_STDERR_SIZE bytes of standard error, NUL-terminated, as the child wrote them:
 * quote before logging. Valid until the next callback. */
const char *proc_stderr(const struct proc *proc);

/*
 * Ends the object; safe in its callbacks (memory goes with loop_defer); no callback comes after it.
 * What still lives is killed and waited for, which blocks for the moment a SIGKILL takes: owners
 * wait for on_gone instead, unless the daemon itself is ending. NULL is fine.
 */
void proc_destroy(struct proc *proc);

#endif
