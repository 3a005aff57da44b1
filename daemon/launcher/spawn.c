/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork and exec with an exact set of descriptors.
 *
 * Theory of operation: everything the child needs is allocated before the fork; between fork and
 * exec it does only what signal-safety(7) allows. A failure there comes back as an errno through a
 * pipe that a successful exec closes.
 */
#include "daemon/launcher/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* What the child works with; all of it ours before the fork. */
struct child {
	const struct proc_spec *spec;
	pid_t parent;
	int null_fd, stderr_fd, error_fd;
	char oom_score_adj[16];
};

int spawn_reset_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &action, NULL); /* SIGKILL and SIGSTOP refuse: as they should */
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Puts each descriptor at its number. First all are copied above the numbers in use, so that no
 * dup2() overwrites one that is still to be moved; what lies above the last is closed.
 */
static int arrange_fds(const struct child *child, int *ret_error_fd)
{
	const struct proc_fds *fds = child->spec->fds;
	int len = fds ? fds->len : 0, end = PROC_FD_FIRST + len, copies[PROC_FDS_MAX + 4];
	int error_copy;

	copies[0] = copies[1] = fcntl(child->null_fd, F_DUPFD, end + 1);
	copies[2] = fcntl(child->stderr_fd, F_DUPFD, end + 1);
	for (int i = 0; i < len; i++)
		copies[PROC_FD_FIRST + i] = fcntl(fds->fds[i], F_DUPFD, end + 1);
	error_copy = fcntl(child->error_fd, F_DUPFD, end + 1);
	for (int i = 0; i < end; i++) {
		if (copies[i] < 0)
			return -1;
	}
	/* From here on the error pipe may lose its old number: it moves first. */
	if (error_copy < 0 || dup3(error_copy, end, O_CLOEXEC) < 0)
		return -1;
	*ret_error_fd = end;
	for (int i = 0; i < end; i++) {
		if (dup2(copies[i], i) < 0)
			return -1;
	}
	return close_range((unsigned)end + 1, ~0u, 0);
}

static int set_limits(const struct proc_spec *spec)
{
	for (size_t i = 0; i < spec->n_limits; i++) {
		struct rlimit limit = {.rlim_cur = spec->limits[i].value,
				       .rlim_max = spec->limits[i].value};

		if (setrlimit((__rlimit_resource_t)spec->limits[i].resource, &limit) < 0)
			return -1;
	}
	return 0;
}

/* A host that does not let us loses a preference of its OOM killer, not a VM. */
static void set_oom_score(const struct child *child)
{
	ssize_t written UNUSED;
	int fd;

	if (child->oom_score_adj[0] == '\0')
		return;
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	written = write(fd, child->oom_score_adj, strlen(child->oom_score_adj));
	close(fd);
}

/* All that the program allocates is charged there. */
static int enter_cgroups(const struct proc_spec *spec)
{
	for (size_t i = 0; i < spec->n_cgroup_fds; i++)
		if (write(spec->cgroup_fds[i], "0", 1) < 0)
			return -1;
	return 0;
}

/* In the child, up to the exec. Returns only when something failed, with errno. */
static void prepare_and_exec(struct child *child, int *ret_error_fd)
{
	static char *const no_environment[] = {NULL};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return;
	/* We may have died before the line above. */
	if (getppid() != child->parent) {
		errno = ESRCH;
		return;
	}
	/* Kept over exec: a QEMU that touches one page of its heap must not get 512. */
	if (child->spec->has_no_huge_pages && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) < 0)
		return;
	set_oom_score(child);
	if (enter_cgroups(child->spec) < 0)
		return;
	if (arrange_fds(child, ret_error_fd) < 0)
		return;
	if (set_limits(child->spec) < 0 || spawn_reset_signals() < 0)
		return;
	execve(child->spec->argv[0], child->spec->argv, no_environment);
}

static void __attribute__((noreturn)) run_child(struct child *child)
{
	int error_fd = child->error_fd, error;

	prepare_and_exec(child, &error_fd);
	error = errno;
	if (write(error_fd, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

int spawn_await_exec(int fd)
{
	int error = 0;
	ssize_t n;

	do {
		n = read(fd, &error, sizeof(error));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == sizeof(error) ? -error : 0;
}

/* fork() with all signals blocked, so that no handler of ours runs in the child. */
static pid_t fork_child(struct child *child)
{
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		run_child(child);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid;
}

int spawn_program(const struct proc_spec *spec, pid_t *ret_pid, int *ret_pidfd, int *ret_stderr_fd)
{
	_cleanup_close_ int null_fd = -1, stderr_read = -1, stderr_write = -1, error_read = -1,
			    error_write = -1, pidfd = -1;
	struct child child = {.spec = spec, .parent = getpid()};
	int pipe_fds[2], r;
	pid_t pid;

	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return -errno;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	stderr_read = pipe_fds[0];
	stderr_write = pipe_fds[1];
	if (fcntl(stderr_read, F_SETFL, O_NONBLOCK) < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	error_read = pipe_fds[0];
	error_write = pipe_fds[1];
	child.null_fd = null_fd;
	child.stderr_fd = stderr_write;
	child.error_fd = error_write;
	if (spec->oom_score_adj > 0)
		snprintf(child.oom_score_adj, sizeof(child.oom_score_adj), "%d",
			 spec->oom_score_adj);
	pid = fork_child(&child);
	if (pid < 0)
		return -errno;
	close_fdp(&error_write); /* or spawn_await_exec() would wait for ourselves */
	/* Our own child, not reaped yet: the pid cannot have become another's. */
	pidfd = pidfd_open(pid, 0);
	r = pidfd < 0 ? -errno : spawn_await_exec(error_read);
	if (r < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	*ret_pid = pid;
	*ret_pidfd = TAKE_FD(pidfd);
	*ret_stderr_fd = TAKE_FD(stderr_read);
	return 0;
}
