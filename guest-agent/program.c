/* SPDX-License-Identifier: Apache-2.0 */
/* A user's program: what it was asked to be, its file, and its start with pipes on all sides. */
#include "guest-agent/program.h"

#include "base/util.h"
#include "guest-agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Enough for servers and parallel builds; a fork bomb is stopped here before it can fill the
 * guest's table of processes. */
#define PIDS_DEFAULT 256

void program_take(struct program *program, struct msg_exec *request)
{
	program->language = language_find(request->language);
	program->args = TAKE_PTR(request->args);
	program->env = TAKE_PTR(request->env);
	memcpy(program->cwd, request->cwd, sizeof(program->cwd));
	program->pids_max = request->pids_max > 0 ? request->pids_max : PIDS_DEFAULT;
	program->cpu_seconds = request->cpu_seconds;
}

void program_clear(struct program *program)
{
	json_decref(program->args);
	json_decref(program->env);
	*program = (struct program){0};
}

int program_make_file(const struct program *program, const struct agent_config *config)
{
	_cleanup_close_ int home =
		open(config->home, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_close_ int fd = -1;
	const char *name = program->language->file;

	if (home < 0)
		return -errno;
	if (unlinkat(home, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(home, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	if (config->change_user && fchown(fd, config->uid, config->uid) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* A pipe of which one end is ours (non-blocking) and the other the program's (blocking). */
struct pair {
	int ours, theirs;
};

struct pairs {
	struct pair stdin, stdout, stderr, report;
};

static int make_pair(struct pair *ret, bool we_read)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*ret = (struct pair){.ours = ends[we_read ? 0 : 1], .theirs = ends[we_read ? 1 : 0]};
	return fcntl(ret->ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static void close_pair(struct pair *pair)
{
	pair->ours = close_fd(pair->ours);
	pair->theirs = close_fd(pair->theirs);
}

static void close_pairs(struct pairs *pairs)
{
	close_pair(&pairs->stdin);
	close_pair(&pairs->stdout);
	close_pair(&pairs->stderr);
	close_pair(&pairs->report);
}

static int make_pairs(struct pairs *ret, bool has_report)
{
	int r = make_pair(&ret->stdin, false);

	if (r == 0)
		r = make_pair(&ret->stdout, true);
	if (r == 0)
		r = make_pair(&ret->stderr, true);
	if (r < 0 || !has_report)
		return r;
	r = make_pair(&ret->report, true);
	/* A report that does not fit must not hang its writer. */
	if (r == 0 && fcntl(ret->report.theirs, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	return r;
}

static int spawn(const struct program *program, const struct agent_config *config, int cgroup_fd,
		 const struct pairs *pairs, pid_t *ret_pid, int *ret_failure_fd)
{
	_cleanup_(strings_freep) char **argv =
		language_argv(program->language, config->runners, config->home, program->args);
	_cleanup_(strings_freep) char **environment = language_environment(
		program->language, config->runners, config->home, program->env);
	struct spawn_request request = {
		.argv = argv,
		.environment = environment,
		.home = config->home,
		.cwd = program->cwd,
		.change_user = config->change_user,
		.uid = config->uid,
		.stdin_fd = pairs->stdin.theirs,
		.stdout_fd = pairs->stdout.theirs,
		.stderr_fd = pairs->stderr.theirs,
		.report_fd = pairs->report.theirs,
		.cgroup_fd = cgroup_fd,
		.cpu_seconds = program->cpu_seconds,
		/* It counts the user's processes wherever they are, so it is no limit of a run: it
		 * stands in where the machine is ours and cgroups are not there. */
		.processes_max = config->is_init && cgroup_fd < 0 ? program->pids_max : 0,
	};

	if (!argv || !environment)
		return -ENOMEM;
	return spawn_start(&request, ret_pid, ret_failure_fd);
}

int program_start(const struct program *program, const struct agent_config *config, int cgroup_fd,
		  pid_t *ret_pid, struct program_pipes *ret_pipes)
{
	_cleanup_(close_pairs) struct pairs pairs = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
	int failure_fd = -1;
	int r = make_pairs(&pairs, program->language->has_report);

	if (r == 0)
		r = spawn(program, config, cgroup_fd, &pairs, ret_pid, &failure_fd);
	if (r < 0)
		return r;
	*ret_pipes = (struct program_pipes){
		.stdin = TAKE_FD(pairs.stdin.ours),
		.stdout = TAKE_FD(pairs.stdout.ours),
		.stderr = TAKE_FD(pairs.stderr.ours),
		.report = TAKE_FD(pairs.report.ours),
		.failure = failure_fd,
	};
	return 0;
}
