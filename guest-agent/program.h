/* SPDX-License-Identifier: Apache-2.0 */
/* A user's program: what it was asked to be, its file, and its start with pipes on all sides. */
#ifndef GUEST_AGENT_PROGRAM_H
#define GUEST_AGENT_PROGRAM_H

#include "guest-agent/config.h"
#include "guest-agent/language.h"
#include "guest-agent/process.h"
#include "guest-agent/terminal.h"
#include "protocol/message.h"

#include <sys/stat.h>

struct program {
	const struct language *language; /* NULL: not known */
	json_t *args, *env;
	char cwd[MSG_PATH_MAX];
	char *file;       /* its own, with the path; NULL: the language's in the home directory */
	struct stat text; /* of the latter, once it is complete; st_ino 0: not noted */
	struct terminal_size terminal;                    /* zero: it has none */
	uint64_t memory_max_bytes, pids_max, cpu_seconds; /* 0: no limit */
};

/* Takes args and env out of the request. */
void program_take(struct program *program, struct msg_exec *request);

/* Removes the file of its own, too. */
void program_clear(struct program *program);

/*
 * Makes the file for the program's text in the home directory. A descriptor open for writing, or
 * -errno. The directory belongs to user code, maybe of an earlier run: nothing it put in the way is
 * followed.
 */
int program_make_file(const struct program *program, const struct agent_config *config);

/* Must the text have a file of its own, because user code has put something where it would be? */
bool program_would_replace(const struct program *program, const struct agent_config *config);

/* The file is complete; and, when the program has ended: removes it, unless user code has changed
 * it since. For languages that spare users' files. */
void program_note_text(struct program *program, const struct agent_config *config);
void program_remove_text(const struct program *program, const struct agent_config *config);

/*
 * The same for a program that runs beside others: a file that no other is ever given, which only
 * the agent can replace. `number` is drawn for nobody else.
 */
int program_make_own_file(struct program *program, const struct agent_config *config,
			  uint64_t number);

/* Sets the limits of its cgroup, if it has one. */
void program_limit(const struct program *program, struct process *process);

/* Makes an empty file there when there is nothing, for interpreters that want to see it. 0 or
 * -errno. */
int program_make_placeholder(const struct language *language, const struct agent_config *config);

/* May the user enter the working directory? For those who can no longer fail at it. */
bool program_can_enter(const struct program *program, const struct agent_config *config);

/* Our ends of a program's streams, non-blocking, and its own; -1: none. */
struct program_pipes {
	int stdin_fd, stdout_fd, stderr_fd;
	int its_stdin_fd, its_stdout_fd, its_stderr_fd;
};
#define PROGRAM_PIPES_NONE ((struct program_pipes){-1, -1, -1, -1, -1, -1})

/* 0, or -errno and nothing is open. */
int program_make_pipes(const struct agent_config *config, struct program_pipes *ret);
void program_close_pipes(struct program_pipes *pipes);

/* A file without a name for the text of a program that an interpreter is handed. Or -errno. */
int program_make_memory_file(const struct program *program);

/* Starts the interpreter of its language that stays, with the variables `env`, in the cgroup of
 * `process` if that has one. It has pipes that nobody reads; go_fd is its control socket. 0 or
 * -errno. */
int program_start_resident(const struct program *program, const struct agent_config *config,
			   const json_t *env, struct process *process);

/*
 * Starts it, in the cgroup of `process` if that has one, and fills in the rest of it. One with a
 * terminal has that for stdin_fd and stdout_fd, and no stderr_fd. With `waits`
 * the interpreter waits for a go message before it opens the program. 0 or -errno.
 */
int program_start(const struct program *program, const struct agent_config *config, bool waits,
		  struct process *process);

/* Starts it without waiting, in a new cgroup of that name with its limits, if there are cgroups. */
int program_start_in(const struct program *program, const struct agent_config *config,
		     const struct cgroup *cgroup, const char *name, struct process *process);

#endif
