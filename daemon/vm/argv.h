/* SPDX-License-Identifier: Apache-2.0 */
/* Builds NULL-terminated argument vectors: one error check at the end instead of one per word. */
#ifndef DAEMON_VM_ARGV_H
#define DAEMON_VM_ARGV_H

#include "base/util.h"

#include <stddef.h>

/* A QEMU behind bubblewrap has about 110 words; more is a bug of the builder, not a need. */
#define ARGV_WORDS_MAX 256

/* Zero-initialised it is empty. */
struct argv {
	char **words; /* always NULL-terminated once non-NULL */
	size_t len;
	int error; /* sticky: -ENOMEM, -E2BIG */
};

/* Appends a copy of `word`, or of each word of a NULL-terminated vector, or a formatted word. */
void argv_add(struct argv *argv, const char *word);
void argv_add_all(struct argv *argv, const char *const *words);
void argv_addf(struct argv *argv, const char *format, ...) PRINTF_LIKE(2, 3);

/* Hands the vector over (argv_free() it). 0, or the first error of any addition: all is freed. */
int argv_finish(struct argv *argv, char ***ret);

/* Frees a vector made by argv_finish(). NULL is fine. */
void argv_free(char **words);

static inline void argv_freep(char ***words)
{
	argv_free(*words);
	*words = NULL;
}

#endif
