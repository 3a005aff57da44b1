/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that come in pieces: each is without a name until it is complete.
 *
 * An upload that nobody goes on with vanishes UPLOAD_SECONDS after its last piece; so do all of
 * them with the process, for the same reason: nothing has their name yet.
 */
#ifndef GUEST_AGENT_FILES_UPLOADS_H
#define GUEST_AGENT_FILES_UPLOADS_H

#include "guest-agent/files/path.h"

#include <stdint.h>

#define UPLOAD_SECONDS 60
#define UPLOADS_MAX    16
#define UPLOAD_ID_SIZE 64

/* Begins one: `id` is the caller's, new. Takes the place. 0; -EMFILE when there are too many; or
 * -errno as of content_new(). */
int upload_open(const char *id, struct place *place_take, mode_t mode);

/* Writes a piece: takes `size` bytes from the pipe in any case. 0; -ESTALE when there is none of
 * that id; or -errno: then the upload is over. */
int upload_write(const char *id, uint64_t offset, int in_fd, uint64_t size);

/* Gives the file its name, and sets its size; the upload is over, also when that fails. */
int upload_commit(const char *id, uint64_t *ret_size);

/* Drops those whose time is over. Milliseconds until the next one's, -1: there is none. */
int uploads_expire(void);

#endif
