/* SPDX-License-Identifier: Apache-2.0 */
/* Directories: what is in them, and their removal with all that is in them. */
#ifndef GUEST_AGENT_FILES_TREE_H
#define GUEST_AGENT_FILES_TREE_H

#include "guest-agent/files/path.h"

#include <jansson.h>

/* Entries of one answer. */
#define TREE_ENTRIES_MAX    10000
#define TREE_NAME_BYTES_MAX (1u << 20)
/* Directories inside each other that are walked: each is open meanwhile. */
#define TREE_DEPTH_MAX 128

/* {type, size, mode, mtime_ns}, of a link also its `target`. New reference, or NULL without memory.
 * `dir_fd` and `name` are where it is. */
json_t *tree_describe(const struct stat *stat, int dir_fd, const char *name);

/*
 * Appends {name, type, …} of all that is in the directory to `entries`, sorted by name; with
 * `is_recursive` also what is in those below, each behind its directory, with names as paths. A
 * name that is not UTF-8 is in `name_hex`. 0; -E2BIG when there are more than may be told
 * (the first are there); or -errno.
 */
int tree_list(int dir_fd_take, bool is_recursive, json_t *entries);

/* Removes it, directories only when they are empty or with `is_recursive`. Links are removed, not
 * followed. 0 or -errno. */
int tree_remove(const struct place *place, bool is_recursive);

#endif
