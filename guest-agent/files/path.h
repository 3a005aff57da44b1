/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths that callers name: always below the working directory, whatever links lie on the way.
 *
 * Theory of operation: openat2(2) resolves a path and refuses every step out of the directory it
 * began in (RESOLVE_BENEATH): `..` over the top, absolute links, links that lead elsewhere, the
 * magic ones of /proc. It is the kernel that walks, so user code that renames directories meanwhile
 * wins nothing. Whoever changes a directory works in the open directory itself (struct place), with
 * a name that is one component and is not followed when it is a link.
 */
#ifndef GUEST_AGENT_FILES_PATH_H
#define GUEST_AGENT_FILES_PATH_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Opens what `path` names, links inside followed; "" is the directory itself. A descriptor
 * (CLOEXEC), or -errno: -EXDEV for a way out. */
int path_open(const char *path, int flags, mode_t mode);

/* A name in an open directory. */
struct place {
	int dir_fd;
	char name[NAME_MAX + 1];
};

#define PLACE_NONE ((struct place){.dir_fd = -1})

/* Finds the directory of the last component; with `makes_parents` it makes those that are missing.
 * 0 or -errno: -EINVAL when the last component is no name. */
int place_find(const char *path, bool makes_parents, struct place *ret);
void place_close(struct place *place);

/* What stands there itself: a link is not followed. 0 or -errno. */
int place_stat(const struct place *place, struct stat *ret);

#endif
