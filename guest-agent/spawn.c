/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a user's program: what happens in the child between fork and exec. */
#include "guest-agent/spawn.h"

#include "base/util.h"
#include "guest-agent/cgroup.h"
#include "guest-agent/language.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum spawn_step {
	STEP_CGROUP,
	STEP_DESCRIPTORS,
	STEP_LIMITS,
	STEP_USER,
	STEP_DIRECTORY,
	STEP_EXEC,
	STEP_COUNT,
};

static const char *const step_names[] = {
	[STEP_CGROUP] = "enter the control group",
	[STEP_DESCRIPTORS] = "set up standard input and output",
	[STEP_LIMITS] = "set resource limits",
	[STEP_USER] = "change to the user",
	[STEP_DIRECTORY] = "enter the home directory",
	[STEP_EXEC] = "execute the interpreter",
};
static_assert(ELEMENTSOF(step_names) == STEP_COUNT, "every step has a name");

struct failure {
	enum spawn_step step;
	int error;
};

/* Ignored signals would stay ignored in the program: the agent ignores SIGPIPE. */
static void reset_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int set_descriptors(const struct spawn_request *request)
{
	if (dup2(request->stdin_fd, STDIN_FILENO) < 0 ||
	    dup2(request->stdout_fd, STDOUT_FILENO) < 0 ||
	    dup2(request->stderr_fd, STDERR_FILENO) < 0)
		return -errno;
	if (request->has_terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
		return -errno;
	if (close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	if (request->report_fd >= 0 && dup2(request->report_fd, REPORT_FD) < 0)
		return -errno;
	if (request->go_fd >= 0 && dup2(request->go_fd, GO_FD) < 0)
		return -errno;
	return 0;
}

static int set_limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};

	return setrlimit(resource, &limit) < 0 ? -errno : 0;
}

static int set_limits(const struct spawn_request *request)
{
	rlim_t cpu = (rlim_t)request->cpu_seconds, processes = (rlim_t)request->processes_max;
	int r = set_limit(RLIMIT_CORE, 0, 0);

	/* SIGXCPU at the soft limit, which a program may handle; SIGKILL a second later. */
	if (r == 0 && cpu > 0)
		r = set_limit(RLIMIT_CPU, cpu, cpu + 1);
	if (r == 0 && processes > 0)
		r = set_limit(RLIMIT_NPROC, processes, processes);
	return r;
}

static int change_user(const struct spawn_request *request)
{
	if (request->change_user &&
	    (setgroups(0, NULL) < 0 || setresgid(request->uid, request->uid, request->uid) < 0 ||
	     setresuid(request->uid, request->uid, request->uid) < 0))
		return -errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

/* As a shell that cannot start its program: who asked for the directory reads why. */
static void enter_directory(const char *cwd)
{
	if (!*cwd || chdir(cwd) == 0)
		return;
	dprintf(STDERR_FILENO, "execsandbox: cannot enter the working directory '%s': %s\n", cwd,
		strerror(errno));
	_exit(127);
}

static struct failure run_child(const struct spawn_request *request)
{
	int r = 0;

	setsid();
	reset_signals();
	umask(022);
	/* The agent's own exemption must not pass on; where it has none the file says so already.
	 */
	write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", "0");

	if (request->cgroup_fd >= 0)
		r = cgroup_run_enter(request->cgroup_fd);
	if (r < 0)
		return (struct failure){STEP_CGROUP, -r};
	r = set_descriptors(request);
	if (r < 0)
		return (struct failure){STEP_DESCRIPTORS, -r};
	r = set_limits(request);
	if (r < 0)
		return (struct failure){STEP_LIMITS, -r};
	r = change_user(request);
	if (r < 0)
		return (struct failure){STEP_USER, -r};
	if (chdir(request->home) < 0)
		return (struct failure){STEP_DIRECTORY, errno};
	enter_directory(request->cwd);
	execve(request->argv[0], request->argv, request->environment);
	return (struct failure){STEP_EXEC, errno};
}

int spawn_start(const struct spawn_request *request, pid_t *ret_pid, int *ret_failure_fd)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int error = errno;

		close(ends[0]);
		close(ends[1]);
		return -error;
	}
	if (pid == 0) {
		struct failure failure = run_child(request);

		write_all(ends[1], &failure, sizeof(failure));
		_exit(127);
	}
	close(ends[1]);
	*ret_pid = pid;
	*ret_failure_fd = ends[0];
	return 0;
}

bool spawn_failure(int failure_fd, const char **ret_step, int *ret_error)
{
	struct failure failure;

	if (read(failure_fd, &failure, sizeof(failure)) != (ssize_t)sizeof(failure))
		return false;
	if (failure.step >= STEP_COUNT)
		return false;
	*ret_step = step_names[failure.step];
	*ret_error = failure.error;
	return true;
}
