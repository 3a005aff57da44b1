/* SPDX-License-Identifier: Apache-2.0 */
/* The languages a run can be written in: a table of file names and command lines. */
#include "guest-agent/language.h"

#include "base/util.h"

#include "guest-agent/go.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

static const char *const nothing[] = {NULL};

static const char *const python_command[] = {"/usr/bin/python3", NULL};
/* The runner takes both away again before the program starts. */
static const char *const python_environment[] = {
	"PYTHONPATH=@/python",
	REPORT_FD_ENV "=" STRING(REPORT_FD),
	NULL,
};

static const char *const python_resident_command[] = {"/usr/bin/python3", "-s",
						      "@/python/resident.py", NULL};

static const char *const files_resident_command[] = {"@/files", NULL};

/* Files of the user's run nothing before the interpreter has closed its socket to others. */
static const char *const javascript_resident_command[] = {
	"/usr/bin/bun",
	"--smol",
	"--no-install",
	"--config=/dev/null",
	"--no-env-file",
	"@/javascript/resident.js",
	NULL,
};
static const char *const javascript_resident_environment[] = {
	"DO_NOT_TRACK=1",
	"BUN_RUNTIME_TRANSPILER_CACHE_PATH=0",
	NULL,
};

/* smol: a smaller heap that is collected more often; no packages fetched behind our back. */
static const char *const javascript_command[] = {
	"/usr/bin/bun", "--smol", "--no-install", "--preload", "@/javascript.js", NULL,
};
/* A transpiler cache would only fill the home directory of a VM that lives once. */
static const char *const javascript_environment[] = {
	"DO_NOT_TRACK=1",
	"BUN_RUNTIME_TRANSPILER_CACHE_PATH=0",
	REPORT_FD_ENV "=" STRING(REPORT_FD),
	NULL,
};

static const char *const shell_command[] = {"/bin/bash", NULL};
static const char *const shell_resident_command[] = {"/bin/bash", "@/shell/resident.sh", NULL};
/* Read by every non-interactive bash before it opens its script; the hook takes it away. */
static const char *const shell_waiting_environment[] = {"BASH_ENV=@/shell.sh", NULL};

/* The loader, malloc and the C library read theirs in every interpreter's first moments; so do the
 * locales, which all three set up at their start. */
#define EARLY_NAMES_OF_ALL                                                                      \
	"LD_*", "GLIBC_TUNABLES", "MALLOC_*", "LANG", "LANGUAGE", "LC_*", "LOCPATH", "NLSPATH", \
		"GCONV_PATH", "HOSTALIASES", "RES_OPTIONS", "LOCALDOMAIN"

/* HOME: where Python looked for the user's own packages. OPENSSL_*: hashlib is imported early. */
static const char *const python_early_names[] = {
	EARLY_NAMES_OF_ALL, "PYTHON*", "HOME", "OPENSSL_*", "SSL_*", REPORT_FD_ENV, NULL,
};
/* Bun hands processes and workers the environment it was started with, whatever process.env says
 * now (seen with 1.4). */
static const char *const javascript_early_names[] = {"*", NULL};
/* Names that mean something to bash itself, at its start or when they are assigned. */
static const char *const shell_early_names[] = {
	EARLY_NAMES_OF_ALL,
	"BASH*",
	"SHELLOPTS",
	"POSIXLY_CORRECT",
	"POSIX_PEDANTIC",
	"ENV",
	"IFS",
	"PWD",
	"OLDPWD",
	"SHLVL",
	"_",
	"UID",
	"EUID",
	"PPID",
	"GROUPS",
	"RANDOM",
	"SRANDOM",
	"SECONDS",
	"LINENO",
	"EPOCH*",
	"OPT*",
	"PS*",
	"FUNCNAME",
	"FUNCNEST",
	"DIRSTACK",
	"PIPESTATUS",
	"GLOBIGNORE",
	"EXECIGNORE",
	"HIST*",
	"COMP*",
	"READLINE_*",
	"HOST*",
	"CHILD_MAX",
	"IGNOREEOF",
	"TMOUT",
	"MACHTYPE",
	"OSTYPE",
	"INSIDE_EMACS",
	"TERM*",
	"COLUMNS",
	"LINES",
	"EMACS",
	"EXECSANDBOX_*",
	NULL,
};

/* main.ts: Bun takes plain JavaScript, both module systems and types under that name. */
static const struct language languages[] = {
	{.name = "python",
	 .file = "main.py",
	 .command = python_command,
	 .environment = python_environment,
	 .has_report = true,
	 .waiting_environment = nothing,
	 .early_names = python_early_names,
	 .go_max = GO_MESSAGE_MAX,
	 .resident_command = python_resident_command,
	 .can_stay = true,
	 .stays_early = true},
	{.name = "javascript",
	 .file = "main.ts",
	 .command = javascript_command,
	 .environment = javascript_environment,
	 .has_report = true,
	 .waiting_environment = nothing,
	 .early_names = javascript_early_names,
	 .go_max = GO_MESSAGE_MAX,
	 .opens_program_file = true,
	 .resident_command = javascript_resident_command,
	 .resident_environment = javascript_resident_environment},
	{.name = "shell",
	 .file = "main.sh",
	 .command = shell_command,
	 .environment = nothing,
	 .waiting_environment = shell_waiting_environment,
	 .early_names = shell_early_names,
	 .go_max = 1024, /* bash reads sockets byte by byte */
	 .needs_identifiers = true,
	 .spares_users_file = true,
	 .resident_command = shell_resident_command,
	 .can_stay = true},
	/* The host's file operations (guest-agent/files). */
	{.name = "files", .file = "request", .resident_command = files_resident_command},
};
static_assert(ELEMENTSOF(languages) == LANGUAGES, "the header says how many");

static const char *const defaults[] = {
	"PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
	"USER=user",
	"LOGNAME=user",
	"SHELL=/bin/bash",
	"LANG=C.UTF-8",
	"TMPDIR=/tmp",
	NULL,
};

const struct language *language_find(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(languages); i++)
		if (strcmp(languages[i].name, name) == 0)
			return &languages[i];
	return NULL;
}

const char *language_known(void)
{
	return "python, javascript, shell";
}

void strings_free(char **strings)
{
	for (size_t i = 0; strings && strings[i]; i++)
		free(strings[i]);
	free(strings);
}

/* A vector that is filled from the front; the first failed allocation makes it useless. */
struct vector {
	char **items;
	size_t len;
	bool has_failed;
};

static struct vector vector_new(size_t capacity)
{
	char **items = calloc(capacity + 1, sizeof(*items));

	return (struct vector){.items = items, .has_failed = !items};
}

PRINTF_LIKE(2, 3) static void vector_add(struct vector *vector, const char *format, ...)
{
	va_list args;
	char *text;

	if (vector->has_failed)
		return;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		vector->has_failed = true;
	else
		vector->items[vector->len++] = text;
	va_end(args);
}

static void vector_add_expanded(struct vector *vector, const char *text, const char *runners)
{
	const char *at = strchr(text, '@');

	if (at)
		vector_add(vector, "%.*s%s%s", (int)(at - text), text, runners, at + 1);
	else
		vector_add(vector, "%s", text);
}

static char **vector_finish(struct vector *vector)
{
	if (!vector->has_failed)
		return vector->items;
	strings_free(vector->items);
	return NULL;
}

static size_t count(const char *const *strings)
{
	size_t n = 0;

	while (strings[n])
		n++;
	return n;
}

char **language_argv(const struct language *language, const char *runners, const char *file,
		     const json_t *args)
{
	struct vector argv =
		vector_new(count(language->command) + 1 + json_array_size((json_t *)args));
	json_t *arg;
	size_t i;

	for (const char *const *word = language->command; *word; word++)
		vector_add_expanded(&argv, *word, runners);
	vector_add(&argv, "%s", file);
	json_array_foreach ((json_t *)args, i, arg) {
		vector_add(&argv, "%s", json_string_value(arg));
	}
	return vector_finish(&argv);
}

/* Is `assignment` one of a name that `env` sets? */
static bool is_overridden(const char *assignment, const json_t *env)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)env, key, value) {
		size_t len = strlen(key);

		if (strncmp(assignment, key, len) == 0 && assignment[len] == '=')
			return true;
	}
	return false;
}

static void add_defaults(struct vector *environment, const char *const *assignments,
			 const char *runners, const json_t *env)
{
	for (; *assignments; assignments++)
		if (!is_overridden(*assignments, env))
			vector_add_expanded(environment, *assignments, runners);
}

static void add_own(struct vector *environment, const char *home, const json_t *env)
{
	const char *key;
	json_t *value;

	if (!json_object_get(env, "HOME"))
		vector_add(environment, "HOME=%s", home);
	json_object_foreach ((json_t *)env, key, value) {
		vector_add(environment, "%s=%s", key, json_string_value(value));
	}
}

char **language_environment(const struct language *language, const char *runners, const char *home,
			    const json_t *env, bool waits)
{
	struct vector environment =
		vector_new(count(defaults) + 1 + count(language->environment) +
			   json_object_size(env) + count(language->waiting_environment) + 1);

	add_defaults(&environment, defaults, runners, env);
	add_defaults(&environment, language->environment, runners, env);
	if (waits) {
		add_defaults(&environment, language->waiting_environment, runners, env);
		vector_add(&environment, GO_FD_ENV "=" STRING(GO_FD));
	}
	add_own(&environment, home, env);
	return vector_finish(&environment);
}

char **language_resident_argv(const struct language *language, const char *runners)
{
	struct vector argv = vector_new(count(language->resident_command));

	for (const char *const *word = language->resident_command; *word; word++)
		vector_add_expanded(&argv, *word, runners);
	return vector_finish(&argv);
}

char **language_resident_environment(const struct language *language, const char *runners,
				     const char *home, const json_t *env)
{
	const char *const *own =
		language->resident_environment ? language->resident_environment : nothing;
	struct vector environment =
		vector_new(count(defaults) + count(own) + 2 + json_object_size(env));

	add_defaults(&environment, defaults, runners, env);
	add_defaults(&environment, own, runners, env);
	vector_add(&environment, GO_FD_ENV "=" STRING(GO_FD));
	add_own(&environment, home, env);
	return vector_finish(&environment);
}

static bool matches(const char *name, const char *pattern)
{
	size_t len = strlen(pattern);

	if (len > 0 && pattern[len - 1] == '*')
		return strncmp(name, pattern, len - 1) == 0;
	return strcmp(name, pattern) == 0;
}

static bool is_identifier(const char *name)
{
	static const char letters[] = "_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789";

	return *name && !(*name >= '0' && *name <= '9') && name[strspn(name, letters)] == '\0';
}

bool language_can_set_late(const struct language *language, const json_t *env)
{
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *)env, name, value) {
		if (language->needs_identifiers && !is_identifier(name))
			return false;
		for (const char *const *early = language->early_names; *early; early++)
			if (matches(name, *early))
				return false;
	}
	return true;
}

size_t language_index(const struct language *language)
{
	return (size_t)(language - languages);
}
