/* SPDX-License-Identifier: Apache-2.0 */
/* Builds NULL-terminated argument vectors: one error check at the end instead of one per word. */
#include "daemon/vm/argv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Appends `word_take`, which may be NULL after a failed allocation. */
static void add_take(struct argv *argv, char *word_take)
{
	char **grown;

	if (argv->error == 0 && !word_take)
		argv->error = -ENOMEM;
	if (argv->error == 0 && argv->len >= ARGV_WORDS_MAX)
		argv->error = -E2BIG;
	if (argv->error < 0) {
		free(word_take);
		return;
	}
	grown = realloc(argv->words, (argv->len + 2) * sizeof(*grown));
	if (!grown) {
		argv->error = -ENOMEM;
		free(word_take);
		return;
	}
	argv->words = grown;
	argv->words[argv->len++] = word_take;
	argv->words[argv->len] = NULL;
}

void argv_add(struct argv *argv, const char *word)
{
	add_take(argv, strdup(word));
}

void argv_add_all(struct argv *argv, const char *const *words)
{
	for (; *words; words++)
		argv_add(argv, *words);
}

void argv_addf(struct argv *argv, const char *format, ...)
{
	char *word = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&word, format, args) < 0)
		word = NULL;
	va_end(args);
	add_take(argv, word);
}

int argv_finish(struct argv *argv, char ***ret)
{
	int error = argv->error;

	if (error == 0 && !argv->words)
		error = -EINVAL;
	if (error < 0)
		argv_free(argv->words);
	else
		*ret = argv->words;
	*argv = (struct argv){0};
	return error;
}

void argv_free(char **words)
{
	if (!words)
		return;
	for (char **word = words; *word; word++)
		free(*word);
	free(words);
}
