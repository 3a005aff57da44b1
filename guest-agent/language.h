/* SPDX-License-Identifier: Apache-2.0 */
/* The languages a run can be written in: a table of file names and command lines. */
#ifndef GUEST_AGENT_LANGUAGE_H
#define GUEST_AGENT_LANGUAGE_H

#include <jansson.h>
#include <stdbool.h>

/* Where a program finds the descriptor for its runner's report of an uncaught exception. High, so
 * that the numbers programs get for their own files are those they would get elsewhere. */
#define REPORT_FD     100
#define REPORT_FD_ENV "EXECSANDBOX_REPORT_FD"

struct language {
	const char *name; /* as EXEC says it */
	const char *file; /* the program's file in the home directory */
	/* Command line before the file, and environment; '@' stands for the runners' directory. */
	const char *const *command;
	const char *const *environment;
	bool has_report;
};

/* NULL when there is none of that name. */
const struct language *language_find(const char *name);

/* "python, javascript, shell": for messages. */
const char *language_known(void);

/*
 * Command line of a program: the language's, its file in `home`, `args` (array of strings, may be
 * NULL). A NULL-terminated vector, freed by strings_free(), or NULL without memory.
 */
char **language_argv(const struct language *language, const char *runners, const char *home,
		     const json_t *args);

/*
 * Environment of a program: the defaults, the language's, then `env` (object of strings, may be
 * NULL), which overrides. Ownership as above.
 */
char **language_environment(const struct language *language, const char *runners, const char *home,
			    const json_t *env);

void strings_free(char **strings);

static inline void strings_freep(char ***strings)
{
	strings_free(*strings);
	*strings = NULL;
}

#endif
