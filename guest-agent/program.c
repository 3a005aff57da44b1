/* SPDX-License-Identifier: Apache-2.0 */
/* A user's program: what it was asked to be, its file, and its start with pipes on all sides. */
#include "guest-agent/program.h"

#include "base/util.h"
#include "guest-agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Belongs to the agent; the directory of texts that user code may only read. */
#define TEXTS "/run/execsandbox"

/* Enough for servers and parallel builds; a fork bomb is stopped here before it can fill the
 * guest's table of processes. */
#define PIDS_DEFAULT 256

/* What programs expect of a terminal, as terminal emulators of today are. */
static void add_terminal_type(struct program *program)
{
	program->env = program->env ?: json_object();
	if (!json_object_get(program->env, "TERM"))
		json_object_set_new(program->env, "TERM", json_string("xterm-256color"));
}

void program_take(struct program *program, struct msg_exec *request)
{
	program->language = language_find(request->language);
	program->args = TAKE_PTR(request->args);
	program->env = TAKE_PTR(request->env);
	program->terminal = (struct terminal_size){.rows = request->terminal_rows,
						   .columns = request->terminal_columns};
	if (program->terminal.rows > 0)
		add_terminal_type(program);
	memcpy(program->cwd, request->cwd, sizeof(program->cwd));
	program->memory_max_bytes = request->memory_max_bytes;
	program->pids_max = request->pids_max > 0 ? request->pids_max : PIDS_DEFAULT;
	program->cpu_seconds = request->cpu_seconds;
}

void program_clear(struct program *program)
{
	if (program->file)
		unlink(program->file);
	free(program->file);
	json_decref(program->args);
	json_decref(program->env);
	*program = (struct program){0};
}

static int open_home(const struct agent_config *config)
{
	int fd = open(config->home, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A new file of the user's, or -errno. */
static int create_file(int home, const char *name, const struct agent_config *config)
{
	_cleanup_close_ int fd =
		openat(home, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	if (config->change_user && fchown(fd, config->uid, config->uid) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int program_make_file(const struct program *program, const struct agent_config *config)
{
	_cleanup_close_ int home = open_home(config);
	const char *name = program->language->file;

	if (home < 0)
		return home;
	if (unlinkat(home, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return create_file(home, name, config);
}

static bool stat_text(const struct program *program, const struct agent_config *config,
		      struct stat *ret)
{
	_cleanup_close_ int home = open_home(config);

	return program->language && program->language->spares_users_file && !program->file &&
	       home >= 0 && fstatat(home, program->language->file, ret, AT_SYMLINK_NOFOLLOW) == 0;
}

bool program_would_replace(const struct program *program, const struct agent_config *config)
{
	struct stat there;

	return stat_text(program, config, &there);
}

void program_note_text(struct program *program, const struct agent_config *config)
{
	if (!stat_text(program, config, &program->text))
		program->text.st_ino = 0;
}

void program_remove_text(const struct program *program, const struct agent_config *config)
{
	const struct stat *noted = &program->text;
	_cleanup_close_ int home = -1;
	struct stat there;

	if (noted->st_ino == 0 || !stat_text(program, config, &there))
		return;
	if (there.st_dev != noted->st_dev || there.st_ino != noted->st_ino ||
	    there.st_mtim.tv_sec != noted->st_mtim.tv_sec ||
	    there.st_mtim.tv_nsec != noted->st_mtim.tv_nsec)
		return;
	home = open_home(config);
	unlinkat(home, program->language->file, 0);
}

int program_make_own_file(struct program *program, const struct agent_config *config,
			  uint64_t number)
{
	const char *directory = config->is_init ? TEXTS : config->home;
	int fd;

	if (config->is_init && mkdir(TEXTS, 0711) < 0 && errno != EEXIST)
		return -errno;
	if (asprintf(&program->file, "%s/%" PRIu64 "-%s", directory, number,
		     program->language->file) < 0) {
		program->file = NULL;
		return -ENOMEM;
	}
	fd = open(program->file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : fd;
}

int program_make_placeholder(const struct language *language, const struct agent_config *config)
{
	_cleanup_close_ int home = open_home(config), fd = -1;

	if (home < 0)
		return home;
	fd = create_file(home, language->file, config);
	return fd < 0 && fd != -EEXIST ? fd : 0;
}

void program_limit(const struct program *program, struct process *process)
{
	struct cgroup_limits limits = {.memory_max_bytes = program->memory_max_bytes,
				       .pids_max = program->pids_max};

	if (process->cgroup.fd >= 0)
		cgroup_run_limit(&process->cgroup, &limits);
}

bool program_can_enter(const struct program *program, const struct agent_config *config)
{
	_cleanup_close_ int home = -1, directory = -1, inside = -1;

	if (!*program->cwd)
		return true;
	/* The kernel then asks for the user's rights instead of root's. */
	if (config->change_user) {
		setfsgid(config->uid);
		setfsuid(config->uid);
	}
	home = open(config->home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	directory = openat(home, program->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* The dot asks for the right to search, as chdir(2) does. */
	inside = openat(directory, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (config->change_user) {
		setfsuid(geteuid());
		setfsgid(getegid());
	}
	return inside >= 0;
}

/* A pipe of which one end is ours (non-blocking) and the other the program's (blocking). */
struct pair {
	int ours, theirs;
};

struct pairs {
	struct pair stdin, stdout, stderr, report, go;
};

#define PAIRS_NONE ((struct pairs){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}})

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
	close_pair(&pairs->go);
}

static int make_report(struct pair *ret)
{
	int r = make_pair(ret, true);

	/* A report that does not fit must not hang its writer. */
	if (r == 0 && fcntl(ret->theirs, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	return r;
}

/* Both ways: it says that it waits, and is told to go. */
static int make_go(struct pair *ret)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	*ret = (struct pair){.ours = ends[0], .theirs = ends[1]};
	return fcntl(ret->ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* The user's, who may open them by name then (/dev/stderr). */
static int make_stream(struct pair *ret, bool we_read, const struct agent_config *config)
{
	int r = make_pair(ret, we_read);

	if (r == 0 && config->change_user && fchown(ret->theirs, config->uid, config->uid) < 0)
		r = -errno;
	return r;
}

static int make_streams(struct pairs *ret, const struct agent_config *config)
{
	int r = make_stream(&ret->stdin, false, config);

	if (r == 0)
		r = make_stream(&ret->stdout, true, config);
	if (r == 0)
		r = make_stream(&ret->stderr, true, config);
	return r;
}

/* A terminal is all three of its streams, and both directions are one descriptor of ours. */
static int make_terminal(struct pairs *ret, const struct program *program,
			 const struct agent_config *config)
{
	int r = terminal_open(&program->terminal, config, &ret->stdout.ours, &ret->stdout.theirs);

	if (r < 0)
		return r;
	ret->stdin.ours = fcntl(ret->stdout.ours, F_DUPFD_CLOEXEC, 0);
	ret->stdin.theirs = fcntl(ret->stdout.theirs, F_DUPFD_CLOEXEC, 0);
	ret->stderr.theirs = fcntl(ret->stdout.theirs, F_DUPFD_CLOEXEC, 0);
	if (ret->stdin.ours < 0 || ret->stdin.theirs < 0 || ret->stderr.theirs < 0)
		return -errno;
	return 0;
}

static int make_pairs(struct pairs *ret, const struct program *program,
		      const struct agent_config *config, bool has_report, bool has_go)
{
	int r = program->terminal.rows > 0 ? make_terminal(ret, program, config)
					   : make_streams(ret, config);

	if (r == 0 && has_report)
		r = make_report(&ret->report);
	if (r == 0 && has_go)
		r = make_go(&ret->go);
	return r;
}

int program_make_pipes(const struct agent_config *config, struct program_pipes *ret)
{
	_cleanup_(close_pairs) struct pairs pairs = PAIRS_NONE;
	int r = make_streams(&pairs, config);

	if (r < 0)
		return r;
	*ret = (struct program_pipes){
		.stdin_fd = TAKE_FD(pairs.stdin.ours),
		.stdout_fd = TAKE_FD(pairs.stdout.ours),
		.stderr_fd = TAKE_FD(pairs.stderr.ours),
		.its_stdin_fd = TAKE_FD(pairs.stdin.theirs),
		.its_stdout_fd = TAKE_FD(pairs.stdout.theirs),
		.its_stderr_fd = TAKE_FD(pairs.stderr.theirs),
	};
	return 0;
}

void program_close_pipes(struct program_pipes *pipes)
{
	close_fd(pipes->stdin_fd);
	close_fd(pipes->stdout_fd);
	close_fd(pipes->stderr_fd);
	close_fd(pipes->its_stdin_fd);
	close_fd(pipes->its_stdout_fd);
	close_fd(pipes->its_stderr_fd);
	*pipes = PROGRAM_PIPES_NONE;
}

int program_make_memory_file(const struct program *program)
{
	int fd = memfd_create(program->language->file, MFD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* argv and environment may be NULL for want of memory. */
static int spawn(const struct program *program, const struct agent_config *config, char **argv,
		 char **environment, const struct pairs *pairs, struct process *process)
{
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
		.go_fd = pairs->go.theirs,
		.has_terminal = program->terminal.rows > 0,
		.cgroup_fd = process->cgroup.fd,
		.cpu_seconds = program->cpu_seconds,
		/* It counts the user's processes wherever they are, so it is no limit of a run: it
		 * stands in where the machine is ours and cgroups are not there. */
		.processes_max = config->is_init && process->cgroup.fd < 0 ? program->pids_max : 0,
	};

	if (!argv || !environment)
		return -ENOMEM;
	return spawn_start(&request, &process->pid, &process->failure_fd);
}

static void take_pairs(struct process *process, struct pairs *pairs)
{
	process->stdin_fd = TAKE_FD(pairs->stdin.ours);
	process->stdout_fd = TAKE_FD(pairs->stdout.ours);
	process->stderr_fd = TAKE_FD(pairs->stderr.ours);
	process->report_fd = TAKE_FD(pairs->report.ours);
	process->go_fd = TAKE_FD(pairs->go.ours);
}

static const char *file_in_home(const struct program *program, const struct agent_config *config,
				char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", config->home, program->language->file);
	return path;
}

int program_start(const struct program *program, const struct agent_config *config, bool waits,
		  struct process *process)
{
	_cleanup_(close_pairs) struct pairs pairs = PAIRS_NONE;
	char in_home[PATH_MAX];
	_cleanup_(strings_freep) char **argv = language_argv(
		program->language, config->runners,
		program->file ?: file_in_home(program, config, in_home), program->args);
	_cleanup_(strings_freep) char **environment = language_environment(
		program->language, config->runners, config->home, program->env, waits);
	int r = make_pairs(&pairs, program, config, program->language->has_report, waits);

	if (r == 0)
		r = spawn(program, config, argv, environment, &pairs, process);
	if (r == 0)
		take_pairs(process, &pairs);
	return r;
}

int program_start_resident(const struct program *program, const struct agent_config *config,
			   const json_t *env, struct process *process)
{
	/* Directory and CPU time are those of each program it runs. */
	const struct program anyone = {.language = program->language,
				       .pids_max = program->pids_max};
	_cleanup_(close_pairs) struct pairs pairs = PAIRS_NONE;
	_cleanup_(strings_freep) char **argv =
		language_resident_argv(program->language, config->runners);
	_cleanup_(strings_freep) char **environment = language_resident_environment(
		program->language, config->runners, config->home, env);
	int r = make_pairs(&pairs, &anyone, config, false, true);

	if (r == 0)
		r = spawn(&anyone, config, argv, environment, &pairs, process);
	if (r == 0)
		take_pairs(process, &pairs);
	return r;
}

int program_start_in(const struct program *program, const struct agent_config *config,
		     const struct cgroup *cgroup, const char *name, struct process *process)
{
	int r = 0;

	if (cgroup_is_there(cgroup))
		r = cgroup_run_create(cgroup, name, &process->cgroup);
	if (r < 0)
		return r;
	program_limit(program, process);
	return program_start(program, config, false, process);
}
