/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory that many files are removed from later: one descriptor for all of them.
 *
 * A VM's directory has two files for each program and each background process, which may outlive
 * whoever opened the directory. With a descriptor each they would be most of what a VM costs.
 */
#ifndef BASE_KEPT_DIR_H
#define BASE_KEPT_DIR_H

#include "base/util.h"

struct kept_dir;

/* A reference to the directory behind a descriptor, which stays the caller's: to the one there is,
 * or to a new one. 0 or -errno. */
int kept_dir_get(int dir_fd, struct kept_dir **ret) WARN_UNUSED;

/* Borrowed. */
int kept_dir_fd(const struct kept_dir *dir);

/* Lets go; the last closes it. NULL is fine. */
void kept_dir_put(struct kept_dir *dir);

#endif
