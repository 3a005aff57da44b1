/* SPDX-License-Identifier: Apache-2.0 */
/* A user's program: what it was asked to be, its file, and its start with pipes on all sides. */
#ifndef GUEST_AGENT_PROGRAM_H
#define GUEST_AGENT_PROGRAM_H

#include "guest-agent/config.h"
#include "guest-agent/language.h"
#include "protocol/message.h"

struct program {
	const struct language *language; /* NULL: not known */
	json_t *args, *env;
	char cwd[MSG_TEXT_MAX];
	uint64_t pids_max, cpu_seconds;
};

/* Our ends of a started program; all non-blocking, all the caller's. */
struct program_pipes {
	int stdin, stdout, stderr;
	int report;  /* of the language's runner; -1: it has none */
	int failure; /* for spawn_failure() */
};

/* Takes args and env out of the request. */
void program_take(struct program *program, struct msg_exec *request);
void program_clear(struct program *program);

/*
 * Makes the file for the program's text in the home directory. A descriptor open for writing, or
 * -errno. The directory belongs to user code, maybe of an earlier run: nothing it put in the way is
 * followed.
 */
int program_make_file(const struct program *program, const struct agent_config *config);

/* Starts it, in the cgroup of `cgroup_fd` (-1: none). 0 or -errno. */
int program_start(const struct program *program, const struct agent_config *config, int cgroup_fd,
		  pid_t *ret_pid, struct program_pipes *ret_pipes);

#endif
