/* SPDX-License-Identifier: Apache-2.0 */
/* Names of what is copied: which side of a copy a word means, and which names a guest may choose.
 */
#ifndef CTL_COPY_PATH_H
#define CTL_COPY_PATH_H

#include <stdbool.h>
#include <stddef.h>

/* SESSION:PATH, or a local path. */
struct place_name {
	char *session; /* NULL: a local path */
	const char *path;
};

/*
 * Splits a word of the command line; `path` points into it. A colon behind a slash is part of a
 * local path, so that './a:b' names a local file. 0 or -ENOMEM.
 */
int place_name_parse(const char *word, struct place_name *ret);
void place_name_fini(struct place_name *name);

/*
 * The last component of a path, without slashes behind it, as a new string; "" when that is none to
 * give to a copy: of "", "/", "a/." and "a/..". NULL without memory.
 */
char *path_base(const char *path);

/* `path` and `below` with one slash between them; the other one alone when one is "". New string,
 * or NULL without memory. */
char *path_join(const char *path, const char *below);

/*
 * Why a path that a guest has chosen is none to write to below a directory of ours: a sentence
 * about it, or NULL when it is fine. Fine is one or more names with a slash between them.
 */
const char *path_refusal(const char *path, size_t len);

#endif
