/* SPDX-License-Identifier: Apache-2.0 */
/* One child process of the daemon, with or without a jail around it: start, watch, kill. */
#include "daemon/launcher/proc.h"

#include "base/log.h"
#include "daemon/launcher/spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

/* Seconds a wrapper gets to reap a killed program. It takes about a millisecond; a second is beyond
 * doubt also on a machine that swaps. */
#define WRAPPER_GRACE 1.0
/* bubblewrap writes about 250 bytes. */
#define INFO_SIZE 4096
/* bubblewrap ends with 128 + N for a program that signal N ended. */
#define SIGNALED_BASE 128
/* Reads of standard error per wake-up, so that a chatty child cannot hold the loop. */
#define STDERR_READS 16

enum proc_state {
	PROC_STARTING,
	PROC_RUNNING,
	PROC_ENDED,
	PROC_GONE,
};

static const char *const state_names[] = {
	[PROC_STARTING] = "starting",
	[PROC_RUNNING] = "running",
	[PROC_ENDED] = "ended",
	[PROC_GONE] = "gone",
};
static_assert(ELEMENTSOF(state_names) == PROC_GONE + 1, "a name per state");

struct proc {
	struct loop *loop;
	const struct proc_ops *ops; /* NULL once destroyed */
	void *user;
	char *object;
	enum proc_state state;
	bool is_jailed;
	bool is_kill_wanted;
	pid_t child; /* our child: the program, or the wrapper */
	pid_t pid;   /* the program; 0 = unknown */
	int child_pidfd, pidfd;
	int info_fd, stderr_fd;
	ev_io child_watch, watch, info_watch, stderr_watch;
	ev_timer grace;
	struct proc_status status;
	struct defer freeing;
	size_t info_len, stderr_len;
	char info[INFO_SIZE];
	char stderr_tail[PROC_STDERR_SIZE + 1];
};

int proc_fds_add(struct proc_fds *fds, int fd)
{
	if (fds->len >= PROC_FDS_MAX)
		return -ENOSPC;
	fds->fds[fds->len] = fd;
	return PROC_FD_FIRST + fds->len++;
}

static void set_state(struct proc *proc, enum proc_state state)
{
	log_debug(proc->object, "Process %d: %s -> %s", (int)(proc->pid ? proc->pid : proc->child),
		  state_names[proc->state], state_names[state]);
	proc->state = state;
}

static void unwatch(struct proc *proc, ev_io *watch, int *fd)
{
	ev_io_stop(loop_ev(proc->loop), watch);
	*fd = close_fd(*fd);
}

static void watch_fd(struct proc *proc, ev_io *watch, void (*fn)(struct ev_loop *, ev_io *, int),
		     int fd)
{
	ev_io_init(watch, fn, fd, EV_READ);
	watch->data = proc;
	ev_io_start(loop_ev(proc->loop), watch);
}

/* Keeps the end of what the child says. */
static void stderr_append(struct proc *proc, const char *data, size_t len)
{
	size_t excess;

	if (len > PROC_STDERR_SIZE) {
		data += len - PROC_STDERR_SIZE;
		len = PROC_STDERR_SIZE;
	}
	excess = MAX(proc->stderr_len + len, PROC_STDERR_SIZE) - PROC_STDERR_SIZE;
	memmove(proc->stderr_tail, proc->stderr_tail + excess, proc->stderr_len - excess);
	proc->stderr_len -= excess;
	memcpy(proc->stderr_tail + proc->stderr_len, data, len);
	proc->stderr_len += len;
	proc->stderr_tail[proc->stderr_len] = '\0';
}

static void read_stderr(struct proc *proc)
{
	for (int i = 0; i < STDERR_READS && proc->stderr_fd >= 0; i++) {
		char buf[PROC_STDERR_SIZE];
		ssize_t n = read(proc->stderr_fd, buf, sizeof(buf));

		if (n > 0)
			stderr_append(proc, buf, (size_t)n);
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			unwatch(proc, &proc->stderr_watch, &proc->stderr_fd);
		else if (errno == EAGAIN)
			return;
	}
}

static void on_stderr(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	read_stderr(watch->data);
}

static void send_kill(int pidfd)
{
	if (pidfd >= 0)
		pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
}

/* The program has ended and, if there is a wrapper, that has too. */
static void become_gone(struct proc *proc)
{
	loop_timer_stop(proc->loop, &proc->grace);
	read_stderr(proc);
	set_state(proc, PROC_GONE);
	if (proc->ops)
		proc->ops->on_gone(proc->user, &proc->status);
}

static void become_ended(struct proc *proc)
{
	unwatch(proc, &proc->watch, &proc->pidfd);
	read_stderr(proc); /* its last words explain the end that is told now */
	set_state(proc, PROC_ENDED);
	if (proc->ops)
		proc->ops->on_end(proc->user);
}

/* Takes the status of our child, if it has ended. True when it was reaped. */
static bool reap_child(struct proc *proc, int flags)
{
	siginfo_t info = {0};
	int r;

	do {
		r = waitid(P_PIDFD, (id_t)proc->child_pidfd, &info, WEXITED | flags);
	} while (r < 0 && errno == EINTR);
	if (r < 0 || info.si_pid == 0)
		return false;
	unwatch(proc, &proc->child_watch, &proc->child_pidfd);
	proc->status.code = info.si_status;
	if (info.si_code == CLD_EXITED)
		proc->status.end = PROC_END_EXITED;
	else
		proc->status.end = proc->is_jailed ? PROC_END_UNKNOWN : PROC_END_SIGNALED;
	if (proc->is_jailed && proc->status.end == PROC_END_EXITED &&
	    proc->status.code > SIGNALED_BASE && proc->status.code <= SIGNALED_BASE + SIGRTMAX)
		proc->status = (struct proc_status){.end = PROC_END_SIGNALED,
						    .code = proc->status.code - SIGNALED_BASE};
	return true;
}

/* The program's pidfd is readable: it has ended. The wrapper tells how, a moment later. */
static void on_program_end(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	struct proc *proc = watch->data;

	become_ended(proc);
	if (proc->state == PROC_ENDED && proc->child_pidfd < 0)
		become_gone(proc);
	else if (proc->state == PROC_ENDED && !ev_is_active(&proc->grace))
		loop_timer_start(proc->loop, &proc->grace, WRAPPER_GRACE);
}

/* The fourth field of its stat. The second one, the name, may hold anything, also parentheses and
 * spaces; the third is one letter. */
pid_t proc_parent(pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	char path[32], *behind_name;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (read_file_at(AT_FDCWD, path, INFO_SIZE, &text) < 0)
		return -1;
	behind_name = strrchr(text, ')');
	if (!behind_name || strlen(behind_name) < sizeof(") R "))
		return -1;
	return (pid_t)strtol(behind_name + sizeof(") R ") - 1, NULL, 10);
}

/* Takes the pid out of the wrapper's JSON and a hold of that process. 0 or -errno. */
static int adopt_program(struct proc *proc, const json_t *info)
{
	json_int_t pid = json_integer_value(json_object_get(info, "child-pid"));
	_cleanup_close_ int pidfd = -1;

	if (pid <= 0 || pid > INT32_MAX)
		return -EBADMSG;
	pidfd = pidfd_open((pid_t)pid, 0);
	if (pidfd < 0)
		return -errno;
	/* Asked after the pidfd is held: the answer is about this very process. */
	if (proc_parent((pid_t)pid) != proc->child)
		return -ESRCH;
	proc->pid = (pid_t)pid;
	proc->pidfd = TAKE_FD(pidfd);
	return 0;
}

/* All of the info has come, or (`info` is NULL) never will. */
static void info_complete(struct proc *proc, const json_t *info)
{
	int r;

	unwatch(proc, &proc->info_watch, &proc->info_fd);
	r = adopt_program(proc, info);
	if (r < 0) {
		/* The jail failed, or the program has ended already: the wrapper ends as well, in
		 * its own time unless we are in a hurry, so that it can say why. */
		log_debug(proc->object, "No program behind process %d: %s", (int)proc->child,
			  strerror(-r));
		if (proc->is_kill_wanted)
			send_kill(proc->child_pidfd);
		else
			loop_timer_start(proc->loop, &proc->grace, WRAPPER_GRACE);
		return;
	}
	set_state(proc, PROC_RUNNING);
	watch_fd(proc, &proc->watch, on_program_end, proc->pidfd);
	if (proc->is_kill_wanted)
		send_kill(proc->pidfd);
	if (proc->ops && proc->ops->on_pid)
		proc->ops->on_pid(proc->user, proc->pid);
}

static void on_info(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	struct proc *proc = watch->data;
	ssize_t n = read(proc->info_fd, proc->info + proc->info_len,
			 sizeof(proc->info) - proc->info_len);

	json_auto_t *info = NULL;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		proc->info_len += (size_t)n;
	info = json_loadb(proc->info, proc->info_len, 0, NULL);
	if (info || n <= 0)
		info_complete(proc, info);
}

/* Our child has ended: the plain program, or the wrapper. */
static void on_child_end(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	struct proc *proc = watch->data;

	if (!reap_child(proc, WNOHANG))
		return;
	if (proc->info_fd >= 0)
		unwatch(proc, &proc->info_watch, &proc->info_fd);
	if (proc->pidfd >= 0) {
		/* A wrapper that died before its program: --die-with-parent is at work. */
		send_kill(proc->pidfd);
		return;
	}
	if (proc->state == PROC_RUNNING)
		become_ended(proc);
	if (proc->state != PROC_GONE)
		become_gone(proc);
}

static void on_grace_over(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct proc *proc = timer->data;

	log_debug(proc->object, "Killing wrapper %d, which has not ended", (int)proc->child);
	send_kill(proc->child_pidfd);
}

void proc_kill(struct proc *proc)
{
	if (proc->state == PROC_GONE || proc->is_kill_wanted)
		return;
	proc->is_kill_wanted = true;
	send_kill(proc->is_jailed ? proc->pidfd : proc->child_pidfd);
	if (proc->is_jailed && !ev_is_active(&proc->grace))
		loop_timer_start(proc->loop, &proc->grace, WRAPPER_GRACE);
}

static int proc_create(struct loop *loop, const char *object, const struct proc_ops *ops,
		       void *user, struct proc **ret)
{
	struct proc *proc = calloc(1, sizeof(*proc));

	if (!proc)
		return -ENOMEM;
	proc->loop = loop;
	proc->ops = ops;
	proc->user = user;
	proc->child_pidfd = proc->pidfd = proc->info_fd = proc->stderr_fd = -1;
	proc->object = strdup(object);
	if (!proc->object) {
		free(proc);
		return -ENOMEM;
	}
	ev_timer_init(&proc->grace, on_grace_over, 0., 0.);
	proc->grace.data = proc;
	*ret = proc;
	return 0;
}

static void proc_free(void *user)
{
	struct proc *proc = user;

	free(proc->object);
	free(proc);
}

int proc_spawn(struct loop *loop, const char *object, const struct proc_spec *spec,
	       const struct proc_ops *ops, void *user, struct proc **ret)
{
	_cleanup_close_ int info_fd = spec->info_fd_take, stderr_fd = -1, child_pidfd = -1;
	struct proc *proc = NULL;
	pid_t child;
	int r;

	r = proc_create(loop, object, ops, user, &proc);
	if (r < 0)
		return r;
	r = spawn_program(spec, &child, &child_pidfd, &stderr_fd);
	if (r < 0) {
		proc_free(proc);
		return r;
	}
	proc->child = child;
	proc->child_pidfd = TAKE_FD(child_pidfd);
	proc->stderr_fd = TAKE_FD(stderr_fd);
	watch_fd(proc, &proc->child_watch, on_child_end, proc->child_pidfd);
	watch_fd(proc, &proc->stderr_watch, on_stderr, proc->stderr_fd);
	proc->is_jailed = info_fd >= 0;
	if (proc->is_jailed) {
		proc->info_fd = TAKE_FD(info_fd);
		fcntl(proc->info_fd, F_SETFL, O_NONBLOCK);
		watch_fd(proc, &proc->info_watch, on_info, proc->info_fd);
	} else {
		proc->pid = child;
		set_state(proc, PROC_RUNNING);
	}
	*ret = proc;
	return 0;
}

bool proc_is_alive(const struct proc *proc)
{
	struct pollfd poll_fd = {.fd = proc_pidfd(proc), .events = POLLIN};

	return poll_fd.fd >= 0 && poll(&poll_fd, 1, 0) == 0;
}

pid_t proc_pid(const struct proc *proc)
{
	return proc->pid;
}

int proc_pidfd(const struct proc *proc)
{
	return proc->is_jailed ? proc->pidfd : proc->child_pidfd;
}

const char *proc_stderr(const struct proc *proc)
{
	return proc->stderr_tail;
}

/* Blocks until the info has come and its process is held, or the wrapper has ended without one. */
static void wait_for_info(struct proc *proc)
{
	while (proc->info_fd >= 0) {
		struct pollfd poll_fd = {.fd = proc->info_fd, .events = POLLIN};

		if (poll(&poll_fd, 1, (int)(WRAPPER_GRACE * 1000)) == 0)
			break;
		on_info(loop_ev(proc->loop), &proc->info_watch, EV_READ);
	}
	if (proc->info_fd >= 0)
		unwatch(proc, &proc->info_watch, &proc->info_fd);
}

void proc_destroy(struct proc *proc)
{
	if (!proc)
		return;
	proc->ops = NULL;
	if (proc->state != PROC_GONE && proc->is_jailed)
		wait_for_info(proc);
	if (proc->pidfd >= 0) {
		struct pollfd poll_fd = {.fd = proc->pidfd, .events = POLLIN};

		send_kill(proc->pidfd);
		while (poll(&poll_fd, 1, -1) < 0 && errno == EINTR)
			;
		unwatch(proc, &proc->watch, &proc->pidfd);
	}
	if (proc->child_pidfd >= 0) {
		send_kill(proc->child_pidfd);
		reap_child(proc, 0);
		unwatch(proc, &proc->child_watch, &proc->child_pidfd);
	}
	unwatch(proc, &proc->stderr_watch, &proc->stderr_fd);
	loop_timer_stop(proc->loop, &proc->grace);
	loop_defer(proc->loop, &proc->freeing, proc_free, proc);
}
