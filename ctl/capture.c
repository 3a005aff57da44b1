/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a program for a short time and keeps its output: for doctor's checks. */
#include "ctl/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* "qemu -M help" takes 50 ms; a loaded machine gets much more. */
#define CAPTURE_US 5000000u

/* The child's part: only what is safe between fork and exec. */
static _Noreturn void child(const char *const *argv, uid_t uid, gid_t gid, int out)
{
	int null = open("/dev/null", O_RDWR);

	if (gid != (gid_t)-1 && (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0))
		_exit(126);
	if (uid != (uid_t)-1 && setresuid(uid, uid, uid) < 0)
		_exit(126);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of uid clears it */
	signal(SIGPIPE, SIG_DFL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(out, STDERR_FILENO) < 0 || chdir("/") < 0)
		_exit(126);
	execv(argv[0], (char *const *)argv);
	_exit(127);
}

/* Reads until the writers are gone; false at the deadline. What does not fit is dropped. */
static bool drain(int fd, char *buf, size_t size)
{
	uint64_t deadline = now_us() + CAPTURE_US;
	size_t len = 0;
	char dropped[4096];

	buf[0] = '\0';
	for (;;) {
		uint64_t now = now_us();
		struct pollfd pollfd = {.fd = fd, .events = POLLIN};
		bool is_full = len + 1 >= size;
		ssize_t n;

		if (now >= deadline)
			return false;
		if (poll(&pollfd, 1, (int)((deadline - now) / 1000) + 1) <= 0)
			continue;
		n = is_full ? read(fd, dropped, sizeof(dropped))
			    : read(fd, buf + len, size - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return true;
		if (!is_full)
			len += (size_t)n;
		buf[len] = '\0';
	}
}

int capture(const char *const *argv, uid_t uid, gid_t gid, char *buf, size_t size)
{
	_cleanup_close_ int reader = -1, writer = -1;
	bool has_ended;
	int ends[2], status;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	reader = ends[0];
	writer = ends[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child(argv, uid, gid, writer);
	writer = close_fd(writer);
	has_ended = drain(reader, buf, size);
	if (!has_ended)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (!has_ended)
		return -ETIMEDOUT;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
