/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files in a directory, each there as a whole or not at all: what the next daemon shall find.
 *
 * Theory of operation: a file is written under a temporary name and renamed over the old one, so
 * that a daemon killed in between leaves the old one and a temporary file, which the next walk
 * removes. Nothing is synced: the directory lies in a tmpfs (/run). What must be survived is the
 * end of the daemon, which takes nothing out of the page cache; a power cut ends the directory and
 * all that the files speak of together. One process writes at a time.
 */
#ifndef BASE_KEPT_H
#define BASE_KEPT_H

#include "base/util.h"

/* A name with its NUL. */
#define KEPT_NAME_SIZE 128

/* Whether it is one of ours: [a-z0-9_.-], no dot in front. Only such names are given and told. */
bool kept_name_is_valid(const char *name);

/* Writes a new file, or replaces one as a whole. 0 or -errno: then what was there is still. */
int kept_write(int dir_fd, const char *name, const void *data, size_t len) WARN_UNUSED;

/* The same by hand: a new empty file to write (O_RDWR), its descriptor or -errno; then its name
 * becomes the file's, 0 or -errno; or it is dropped. */
int kept_begin(int dir_fd, const char *name) WARN_UNUSED;
int kept_commit(int dir_fd, const char *name) WARN_UNUSED;
void kept_abort(int dir_fd, const char *name);

/* Reads a regular file into a new NUL-terminated buffer. Its length or -errno: -EFBIG when it is
 * longer than `max`, -ELOOP for a symbolic link, -EINVAL for anything else that is no file. */
ssize_t kept_read(int dir_fd, const char *name, size_t max, char **ret) WARN_UNUSED;

/* Opens an existing regular file, with O_RDONLY or O_RDWR, without following a link. The descriptor
 * or -errno, as kept_read() does; `ret_size` may be NULL. */
int kept_open(int dir_fd, const char *name, int mode, uint64_t *ret_size) WARN_UNUSED;

/* Removes one, also one that is a symbolic link. 0, also when it is gone; or -errno. */
int kept_remove(int dir_fd, const char *name);

/*
 * Removes what a killed writer has left, then tells every name of ours that there is, in no order;
 * strangers' names are left alone. The function may write and remove files. 0 or -errno.
 */
int kept_walk(int dir_fd, void (*fn)(void *user, const char *name), void *user);

#endif
