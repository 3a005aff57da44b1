/* SPDX-License-Identifier: Apache-2.0 */
/* The languages a run can be written in: a table of file names and command lines. */
#ifndef GUEST_AGENT_LANGUAGE_H
#define GUEST_AGENT_LANGUAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Where a program finds the descriptor for its runner's report of an uncaught exception. High, so
 * that the numbers programs get for their own files are those they would get elsewhere. */
#define REPORT_FD     100
#define REPORT_FD_ENV "EXECSANDBOX_REPORT_FD"
/* Where an interpreter that shall wait finds the socket on which it says so and is told to go. */
#define GO_FD     101
#define GO_FD_ENV "EXECSANDBOX_GO_FD"

struct language {
	const char *name; /* as EXEC says it */
	const char *file; /* the program's file in the home directory */
	/* Command line before the file, and environment; '@' stands for the runners' directory.
	 * NULL: it is the host's, and runs no code of users. */
	const char *const *command;
	const char *const *environment;
	bool has_report;
	/* What makes it wait in its hook before it opens the program, besides GO_FD_ENV. */
	const char *const *waiting_environment;
	/* Variables that it reads before it waits, or cannot change for all of itself later; a '*'
	 * at the end stands for the rest of the name. */
	const char *const *early_names;
	size_t go_max;          /* bytes of a go message that is cheaper to read than a new start */
	bool needs_identifiers; /* variables of other names cannot be set late */
	bool opens_program_file; /* before it waits: the file has to be there */
	/* A file of that name that is the user's stays: the text then has one of its own. */
	bool spares_users_file;
	/* Command line and environment of the interpreter that runs one program after another;
	 * NULL: none. It finds the socket on which they come as one that waits does. */
	const char *const *resident_command;
	const char *const *resident_environment;
	bool can_stay; /* one that waits can become that (guest-agent/go.h) */
	/* As soon as there will be programs: it waits on at no cost, and no command needs it. */
	bool stays_early;
};

/* NULL when there is none of that name. */
const struct language *language_find(const char *name);

/* "python, javascript, shell": for messages. */
const char *language_known(void);

/*
 * Command line of a program: the language's, its file, `args` (array of strings, may be NULL). A
 * NULL-terminated vector, freed by strings_free(), or NULL without memory.
 */
char **language_argv(const struct language *language, const char *runners, const char *file,
		     const json_t *args);

/* Command line and environment of the interpreter that stays; `env` as below. Ownership as above.
 */
char **language_resident_argv(const struct language *language, const char *runners);
char **language_resident_environment(const struct language *language, const char *runners,
				     const char *home, const json_t *env);

/*
 * Environment of a program: the defaults, the language's, then `env` (object of strings, may be
 * NULL), which overrides. With `waits` also what makes the interpreter wait. Ownership as above.
 */
char **language_environment(const struct language *language, const char *runners, const char *home,
			    const json_t *env, bool waits);

/* Can an interpreter that waits, started without `env` (may be NULL), still take all of it? */
bool language_can_set_late(const struct language *language, const json_t *env);

/* The language's place in the table, under LANGUAGES. */
#define LANGUAGES 4
size_t language_index(const struct language *language);

void strings_free(char **strings);

static inline void strings_freep(char ***strings)
{
	strings_free(*strings);
	*strings = NULL;
}

#endif
