/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verb table: one description of every verb of execsandboxctl, beside its handler.
 *
 * It drives option parsing, `--help`, `help VERB`, the man page and completion.
 */
#ifndef CTL_VERB_H
#define CTL_VERB_H

#include "ctl/options.h"

struct ctl;

/* Exit statuses of every verb but `run` (execsandboxctl(1)). */
enum {
	EXIT_OK = 0,
	EXIT_ERROR = 1, /* the daemon answered with an error; a check failed */
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3,  /* no such VM, session, process, … */
	EXIT_NO_DAEMON = 4,  /* cannot connect, or the connection was lost */
	EXIT_TIMEOUT = 124,  /* run: as timeout(1) */
	EXIT_SANDBOX = 125,  /* run: everything that is not the program's own doing */
	EXIT_SIGNALED = 128, /* plus the number of the signal */
};

struct verb {
	const char *name;                  /* one word, or two for verbs of a group */
	const char *synopsis;              /* what follows the name, without the common options */
	const char *summary;               /* one line */
	const char *details;               /* paragraphs, separated by blank lines; may be NULL */
	const struct verb_option *options; /* ended by a NULL name; NULL: none */
	size_t operands_min, operands_max;
	bool takes_rest;  /* words behind `--` are the program's */
	int usage_status; /* exit status when the command line is wrong */
	int (*handler)(struct ctl *ctl, const struct arguments *arguments);
};

extern const struct verb verb_call, verb_completion, verb_cp, verb_doctor, verb_drain, verb_events,
	verb_help, verb_list, verb_ls, verb_memory_balloon, verb_memory_policy, verb_memory_reclaim,
	verb_memory_stats, verb_metrics, verb_pool, verb_pool_get, verb_pool_set, verb_reload,
	verb_run, verb_session_close, verb_session_create, verb_session_exec, verb_session_info,
	verb_session_kill, verb_session_list, verb_session_ps, verb_session_result,
	verb_session_update, verb_session_wait, verb_session_write, verb_shell, verb_status,
	verb_template_build, verb_template_info, verb_template_list, verb_template_remove, verb_top,
	verb_version;

/* All verbs in the order help shows them, ended by NULL. */
extern const struct verb *const verb_table[];

/*
 * The verb that the first two of `words` name, or else the first one; *ret_used says how many. NULL
 * when there is none; *ret_is_group then tells whether the first word starts verbs of two words.
 */
const struct verb *verb_find(char **words, int count, int *ret_used, bool *ret_is_group);

#endif
