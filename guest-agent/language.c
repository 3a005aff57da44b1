/* SPDX-License-Identifier: Apache-2.0 */
/* The languages a run can be written in: a table of file names and command lines. */
#include "guest-agent/language.h"

#include "base/util.h"

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

/* main.ts: Bun takes plain JavaScript, both module systems and types under that name. */
static const struct language languages[] = {
	{"python", "main.py", python_command, python_environment, true},
	{"javascript", "main.ts", javascript_command, javascript_environment, true},
	{"shell", "main.sh", shell_command, nothing, false},
};

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

char **language_argv(const struct language *language, const char *runners, const char *home,
		     const json_t *args)
{
	struct vector argv =
		vector_new(count(language->command) + 1 + json_array_size((json_t *)args));
	json_t *arg;
	size_t i;

	for (const char *const *word = language->command; *word; word++)
		vector_add_expanded(&argv, *word, runners);
	vector_add(&argv, "%s/%s", home, language->file);
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

char **language_environment(const struct language *language, const char *runners, const char *home,
			    const json_t *env)
{
	struct vector environment = vector_new(count(defaults) + 1 + count(language->environment) +
					       json_object_size(env));
	const char *key;
	json_t *value;

	add_defaults(&environment, defaults, runners, env);
	add_defaults(&environment, language->environment, runners, env);
	if (!json_object_get(env, "HOME"))
		vector_add(&environment, "HOME=%s", home);
	json_object_foreach ((json_t *)env, key, value) {
		vector_add(&environment, "%s=%s", key, json_string_value(value));
	}
	return vector_finish(&environment);
}
