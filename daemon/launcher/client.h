/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's end of the launcher: VMs' processes, started and watched through it.
 *
 * Theory of operation: a launch is to the daemon what a proc (proc.h) is to a parent, with the same
 * callbacks in the same order: on_pid (here also without a jail), on_end, on_gone. Its process is
 * held by a pidfd that the launcher passed on, so killing it and asking whether it lives need
 * nobody's help. What the launcher tells is noted at the launch and handed on from the loop's defer
 * queue: no callback comes from inside a call, also not from those that wait.
 *
 * Nothing that is sent waits: a launcher that hangs costs the spawn it does not take. When it dies
 * its VMs die with it; each launch ends when its process has, and the next spawn starts another.
 *
 * At first a launcher may have VMs of a daemon that is gone: they are in launcher_list() until they
 * are adopted, or killed as the rest.
 */
#ifndef DAEMON_LAUNCHER_CLIENT_H
#define DAEMON_LAUNCHER_CLIENT_H

#include "base/loop.h"
#include "daemon/launcher/leaf.h"
#include "daemon/launcher/proc.h"

struct launcher;
struct launch;

struct launcher_config {
	int runtime_fd;          /* borrowed: the runtime directory */
	const char *runtime_dir; /* its name */
	/* The launcher's socket when we made it (launcher_listen()), or -1: somebody listens. */
	int listen_fd_take;
	int program_fd_take; /* launcher_program_open(), or -1: one that listens is needed */
	/* The service manager has the socket, and starts a launcher for who connects. One of ours
	 * would be confined as the daemon is, which no VM starts in, and sit on that path. */
	bool has_manager;
};

/* Where an admin looks when the service manager's launcher cannot be reached. */
#define LAUNCHER_ADVICE ", see 'systemctl status execsandbox-launcher.socket'"

/*
 * Connects, starts a launcher where nobody listens, and reads the list of what lives: blocks for
 * the milliseconds that takes. One of another version is told to end, with its VMs, and waited for,
 * and another is started. 0 or -errno; -ETIMEDOUT for one that does not answer.
 */
int launcher_connect(struct loop *loop, const struct launcher_config *config,
		     struct launcher **ret);

/* Hangs up: what still lives is the next daemon's, and no callback comes any more. NULL is fine. */
void launcher_destroy(struct launcher *launcher);

/* "v2", "v1" or "none": what VMs are held by. "none" without a launcher. */
const char *launcher_cgroup(const struct launcher *launcher);

/* What to call it where it could not be reached, with LAUNCHER_ADVICE where that helps. */
const char *launcher_name(const struct launcher *launcher);

/* 0, or the -errno for which it could not be reached when that was last tried. */
int launcher_error(const struct launcher *launcher);

/*
 * launcher_error() of now: a connection that failed is tried again. Asking costs none of the starts
 * that a service manager allows: who is refused has started nothing, who is not asks no more.
 * -ENOTCONN without a launcher.
 */
int launcher_check(struct launcher *launcher);

/* Its process, 0 until it has said hello. */
pid_t launcher_pid(const struct launcher *launcher);

/*
 * The control groups that hold its VMs, with or without leaves: those of its process, which under
 * systemd are its unit's. Ours where these cannot be read, which is logged, and without a launcher.
 */
void launcher_find_cgroup(const struct launcher *launcher, const struct kernel_files *files,
			  struct own_cgroup *ret);

/* The id of the i-th VM alive that nobody has adopted, or NULL behind the last. */
const char *launcher_list(const struct launcher *launcher, size_t i);

/* The process of the i-th VM alive, whoever's it is: 0 while it is not known, -1 behind the last.
 */
pid_t launcher_vm_pid(const struct launcher *launcher, size_t i);

/* Kills all of those and waits for their ends. 0, or -ETIMEDOUT. */
int launcher_kill_rest(struct launcher *launcher);

/*
 * Starts a program as proc_spawn() does, in a control group with these limits. Takes
 * spec->info_fd_take in every case. 0, or -errno of the way to the launcher; -EAGAIN when that is
 * behind. No callback comes before this returns. A program that could not be started comes as
 * on_gone alone: exit status 127 where it is not there to be executed, else an unknown end; why is
 * in launch_stderr().
 */
int launch_spawn(struct launcher *launcher, const char *id, const struct proc_spec *spec,
		 const struct leaf_limits *limits, const struct proc_ops *ops, void *user,
		 struct launch **ret);

/* Makes a VM of the list ours. on_pid comes for it as for a new one. 0; -ENOENT when no such VM
 * lives. */
int launch_adopt(struct launcher *launcher, const char *id, const struct proc_ops *ops, void *user,
		 struct launch **ret);

/* These are as those of a proc; one whose pid is not known is taken for alive. */
void launch_kill(struct launch *launch);
pid_t launch_pid(const struct launch *launch);
bool launch_is_alive(const struct launch *launch);
const char *launch_stderr(const struct launch *launch);

/* From on_end on: did it end for the memory limit of its control group? */
bool launch_is_oom_kill(const struct launch *launch);

/* Ends it as proc_destroy() does, also when it has not ended: kills, and waits for its end. */
void launch_destroy(struct launch *launch);

#endif
