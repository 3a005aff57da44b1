/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is below an open directory, by paths that somebody else has chosen.
 *
 * Theory of operation: every component is opened by itself and no link is followed, so that a path
 * leads nowhere else, whatever stands there already and whatever changes meanwhile. Paths have
 * passed path_refusal().
 */
#ifndef CTL_BENEATH_H
#define CTL_BENEATH_H

#include <sys/types.h>

/* Opens the directory that holds the last component of `path`, which *ret_name points to. A
 * descriptor or -errno: -ELOOP or -ENOTDIR for a link on the way. */
int beneath_parent(int root_fd, const char *path, const char **ret_name);

/* Opens a file for reading; a `path` of "" is `root_fd` itself. Descriptor or -errno. */
int beneath_open(int root_fd, const char *path);

/* Makes a directory unless there is one. 0 or -errno: -ENOTDIR when something else stands there. */
int beneath_mkdir(int dir_fd, const char *name, mode_t mode);

#endif
