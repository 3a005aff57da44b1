/* SPDX-License-Identifier: Apache-2.0 */
/* A helper process for slow file work, so that the loop never waits for a disk. */
#include "daemon/template/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* What comes through the pipe, cut off behind the report's end. */
struct message {
	int32_t result;
	uint32_t report_len;
	char report[WORKER_REPORT_MAX];
};

#define MESSAGE_HEAD offsetof(struct message, report)

_Static_assert(sizeof(struct message) <= PIPE_BUF, "a message is one write that never waits");

struct worker {
	struct loop *loop;
	pid_t pid;
	int pidfd, pipe_fd;
	ev_io watch; /* on the pidfd */
	worker_done_fn on_done;
	void *user;
	struct defer freeing;
};

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Closes everything above the standard descriptors but `keep`, which it sorts. */
static int close_others(int *keep, size_t count)
{
	unsigned next = STDERR_FILENO + 1;

	qsort(keep, count, sizeof(*keep), compare_fds);
	for (size_t i = 0; i < count; i++) {
		unsigned fd = (unsigned)keep[i];

		if (fd > next && close_range(next, fd - 1, 0) < 0)
			return -errno;
		next = MAX(next, fd + 1);
	}
	return close_range(next, ~0u, 0) < 0 ? -errno : 0;
}

/* The daemon's handlers write into its loop's descriptors, which the child does not have. */
static void reset_signals(void)
{
	static const int ignored[] = {SIGPIPE, SIGXFSZ};
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &action, NULL); /* those that cannot be set have no handler */
	action.sa_handler = SIG_IGN;
	for (size_t i = 0; i < ELEMENTSOF(ignored); i++)
		sigaction(ignored[i], &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

struct child {
	const char *name;
	pid_t parent;
	int keep[WORKER_FDS_MAX + 1];
	size_t keep_count;
	int pipe_fd;
	worker_fn fn;
	void *input;
};

/* An exit without a message answers -ECHILD. */
static _Noreturn void run_child(struct child *child)
{
	struct message message = {.result = 0};
	size_t len = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != child->parent)
		_exit(1);
	prctl(PR_SET_NAME, child->name);
	reset_signals();
	if (close_others(child->keep, child->keep_count) < 0)
		_exit(1);
	message.result = child->fn(child->input, message.report, &len);
	message.report_len = (uint32_t)MIN(len, (size_t)WORKER_REPORT_MAX);
	if (write_all(child->pipe_fd, &message, MESSAGE_HEAD + message.report_len) < 0)
		_exit(1);
	_exit(0);
}

/* No signal's handler may run in the child before it is reset. */
static pid_t fork_child(struct child *child)
{
	sigset_t all, before;
	pid_t pid;
	int saved_errno;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		run_child(child);
	saved_errno = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return pid < 0 ? -saved_errno : pid;
}

static void reap(struct worker *worker)
{
	while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void worker_free(void *user)
{
	free(user);
}

/* Everything but the memory, which a callback of libev may still look at. */
static void worker_close(struct worker *worker)
{
	ev_io_stop(loop_ev(worker->loop), &worker->watch);
	worker->pidfd = close_fd(worker->pidfd);
	worker->pipe_fd = close_fd(worker->pipe_fd);
	loop_defer(worker->loop, &worker->freeing, worker_free, worker);
}

/* The child has ended: all that it said is in the pipe. */
static bool read_message(int pipe_fd, struct message *ret)
{
	ssize_t n = read(pipe_fd, ret, sizeof(*ret));

	return n >= (ssize_t)MESSAGE_HEAD && (size_t)n == MESSAGE_HEAD + ret->report_len;
}

static void on_child_end(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	struct worker *worker = watch->data;
	struct message message;

	reap(worker);
	if (!read_message(worker->pipe_fd, &message)) {
		message.result = -ECHILD;
		message.report_len = 0;
	}
	worker_close(worker);
	worker->on_done(worker->user, message.result, message.report, message.report_len);
}

static int watch_child(struct worker *worker)
{
	worker->pidfd = pidfd_open(worker->pid, 0);
	if (worker->pidfd < 0) {
		int r = -errno;

		kill(worker->pid, SIGKILL);
		reap(worker);
		return r;
	}
	ev_io_init(&worker->watch, on_child_end, worker->pidfd, EV_READ);
	worker->watch.data = worker;
	ev_io_start(loop_ev(worker->loop), &worker->watch);
	return 0;
}

static int spawn(struct worker *worker, struct child *child)
{
	_cleanup_close_ int read_fd = -1, write_fd = -1;
	int pipe_fds[2];

	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	read_fd = pipe_fds[0];
	write_fd = pipe_fds[1];
	child->pipe_fd = child->keep[child->keep_count++] = write_fd;
	worker->pid = fork_child(child);
	if (worker->pid < 0)
		return worker->pid;
	worker->pipe_fd = TAKE_FD(read_fd);
	return watch_child(worker);
}

int worker_start(struct loop *loop, const char *name, const int *fds, size_t fd_count, worker_fn fn,
		 void *input, worker_done_fn on_done, void *user, struct worker **ret)
{
	struct child child = {.name = name, .parent = getpid(), .fn = fn, .input = input};
	struct worker *worker;
	int r;

	if (fd_count > WORKER_FDS_MAX)
		return -E2BIG;
	if (fd_count > 0)
		memcpy(child.keep, fds, fd_count * sizeof(*fds));
	child.keep_count = fd_count;
	worker = calloc(1, sizeof(*worker));
	if (!worker)
		return -ENOMEM;
	worker->loop = loop;
	worker->on_done = on_done;
	worker->user = user;
	worker->pidfd = worker->pipe_fd = -1;
	r = spawn(worker, &child);
	if (r < 0) {
		close_fd(worker->pipe_fd);
		free(worker);
		return r;
	}
	*ret = worker;
	return 0;
}

void worker_destroy(struct worker *worker)
{
	if (!worker)
		return;
	pidfd_send_signal(worker->pidfd, SIGKILL, NULL, 0);
	reap(worker);
	worker_close(worker);
}
