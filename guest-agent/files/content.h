/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of files: in from a pipe, out to a pipe, and replaced as a whole or not at all.
 *
 * Theory of operation: what replaces a file is written into one without a name (O_TMPFILE) in the
 * directory where it shall stand, and gets its name when it is complete: who is killed before that
 * leaves nothing behind, and readers see the old file or the new one.
 */
#ifndef GUEST_AGENT_FILES_CONTENT_H
#define GUEST_AGENT_FILES_CONTENT_H

#include "guest-agent/files/path.h"

#include <stdint.h>

/* Mode of a file that is replaced: as it was, or 0644 for a new one. */
#define MODE_KEPT ((mode_t)-1)

/* Takes exactly `size` bytes from the pipe `in_fd`, also when they cannot be written. 0; -EIO when
 * there are less; or why they could not be written, -EBADF with a `fd` of -1. */
int content_fill(int fd, int in_fd, uint64_t size);

/* Sends at most `length` bytes from `offset` on; sets how many there were. 0 or -errno. */
int content_send(int fd, uint64_t offset, uint64_t length, int out_fd, uint64_t *ret_length);

/* A file without a name where `place` is; nothing but a regular file or nothing may stand there.
 * Descriptor or -errno: -EISDIR, -ELOOP for a link, -EOPNOTSUPP for anything else. */
int content_new(const struct place *place);

/* Gives it the name and the mode. 0 or -errno. */
int content_commit(int fd, const struct place *place, mode_t mode);

/* For writing in place: append, or at an offset. A new file gets `mode`, one that is there only if
 * that is not MODE_KEPT. Descriptor or -errno as content_new(). */
int content_open_for_change(const struct place *place, bool appends, mode_t mode);

/* For reading: regular files only, links inside followed. */
int content_open(const char *path, struct stat *ret_stat);

#endif
