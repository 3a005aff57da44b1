/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a launcher without a service manager: its socket, its program, its process. */
#include "daemon/launcher/start.h"

#include "base/log.h"
#include "daemon/launcher/message.h"
#include "daemon/launcher/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define INSTALLED "/usr/libexec/execsandbox/" LAUNCHER_PROGRAM
#define BACKLOG   8

/* Where the new process has what it inherits. The two last are closed by the exec. */
enum child_fd {
	CHILD_LISTEN = 3,
	CHILD_RUNTIME,
	CHILD_DAEMON,
	CHILD_PROGRAM,
	CHILD_ERROR,
	CHILD_END,
};

bool launcher_is_there(int runtime_fd)
{
	_cleanup_close_ int fd = unix_connect_packets_at(runtime_fd, LAUNCHER_SOCKET);

	return fd >= 0;
}

int launcher_listen(int runtime_fd, uid_t owner)
{
	_cleanup_close_ int fd = -1;
	mode_t old;

	if (unlinkat(runtime_fd, LAUNCHER_SOCKET, 0) < 0 && errno != ENOENT)
		return -errno;
	old = umask(0177);
	fd = unix_listen_packets_at(runtime_fd, LAUNCHER_SOCKET, BACKLOG);
	umask(old);
	if (fd < 0)
		return fd;
	if (owner != (uid_t)-1 &&
	    fchownat(runtime_fd, LAUNCHER_SOCKET, owner, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int launcher_program_open(void)
{
	char own[PATH_MAX], path[PATH_MAX + sizeof(LAUNCHER_PROGRAM) + 1];
	ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);
	int fd = -1;

	if (len > 0) {
		own[len] = '\0';
		snprintf(path, sizeof(path), "%s/" LAUNCHER_PROGRAM, dirname(own));
		fd = open(path, O_PATH | O_CLOEXEC);
	}
	if (fd < 0)
		fd = open(INSTALLED, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

struct child {
	const struct launcher_start *start;
	int null_fd, daemon_fd, error_fd;
};

/* First above all numbers in use, then down to their places; the error pipe is to be found at
 * `error_fd` all the time. */
static int arrange_fds(const struct child *child, int *error_fd)
{
	int copies[CHILD_END] = {[0] = child->null_fd,
				 [1] = child->null_fd,
				 [2] = STDERR_FILENO,
				 [CHILD_LISTEN] = child->start->listen_fd,
				 [CHILD_RUNTIME] = child->start->runtime_fd,
				 [CHILD_DAEMON] = child->daemon_fd,
				 [CHILD_PROGRAM] = child->start->program_fd,
				 [CHILD_ERROR] = child->error_fd};

	for (int i = 0; i < CHILD_END; i++) {
		copies[i] = fcntl(copies[i], F_DUPFD, CHILD_END);
		if (copies[i] < 0)
			return -1;
	}
	*error_fd = copies[CHILD_ERROR];
	for (int i = 0; i < CHILD_END; i++)
		if (dup3(copies[i], i, i >= CHILD_PROGRAM ? O_CLOEXEC : 0) < 0)
			return -1;
	*error_fd = CHILD_ERROR;
	return close_range(CHILD_END, ~0u, 0);
}

/* Signal-safe but for what is prepared before the fork. Returns only when something failed. */
static void exec_launcher(const struct child *child, char *const *argv, int *error_fd)
{
	static char *const no_environment[] = {NULL};

	if (setsid() < 0 || chdir("/") < 0)
		return;
	if (arrange_fds(child, error_fd) < 0 || spawn_reset_signals() < 0)
		return;
	execveat(CHILD_PROGRAM, "", argv, no_environment, AT_EMPTY_PATH);
}

static void __attribute__((noreturn)) run_child(const struct child *child, char *const *argv)
{
	int error, error_fd = child->error_fd;
	pid_t pid = fork();

	if (pid > 0)
		_exit(0);
	if (pid == 0)
		exec_launcher(child, argv, &error_fd);
	error = errno;
	if (write(error_fd, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

static int fork_twice(const struct child *child, char *const *argv)
{
	sigset_t all, before;
	pid_t pid;

	/* No handler of ours runs in a child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		run_child(child, argv);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

int launcher_start(const struct launcher_start *start, int *ret_fd)
{
	_cleanup_close_ int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC), ours = -1, theirs = -1,
			    error_read = -1, error_write = -1;
	const char *level = log_level_name(log_get_level());
	char *argv[] = {
		(char *)LAUNCHER_PROGRAM, (char *)"--runtime-dir", (char *)start->runtime_dir,
		(char *)"--log-level",    (char *)level,           (char *)"--listen-fd=3",
		(char *)"--runtime-fd=4", (char *)"--daemon-fd=5", NULL};
	struct child child = {.start = start, .null_fd = null_fd};
	int pair[2], r;

	if (null_fd < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	child.daemon_fd = theirs = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	error_read = pair[0];
	child.error_fd = error_write = pair[1];
	r = fork_twice(&child, argv);
	if (r < 0)
		return r;
	close_fdp(&error_write); /* or spawn_await_exec() would wait for ourselves */
	r = spawn_await_exec(error_read);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(ours);
	return 0;
}
