/* SPDX-License-Identifier: Apache-2.0 */
/* Where the code of `run` comes from, and which language it is in. */
#ifndef CTL_SOURCE_H
#define CTL_SOURCE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What fits into one message with room for everything else, base64 included. */
#define INPUT_MAX (10u * 1024 * 1024)

/* Language by a file's extension (".py"), by a first line "#!…", else NULL. `name` may be NULL. */
const char *source_language(const char *name, const char *code, size_t len);

/* Reads `fd` to its end into a new NUL-terminated buffer. Length, or -errno; -EFBIG over INPUT_MAX.
 */
ssize_t source_read(int fd, char **ret);

/*
 * Sets `key` of `object` to the bytes: as text when they are UTF-8, else as base64 together with
 * `encoding_key`. 0, -EILSEQ when they are not UTF-8 and `encoding_key` is NULL, or -ENOMEM.
 */
int source_set_bytes(json_t *object, const char *key, const char *encoding_key, const void *data,
		     size_t len);

/*
 * The bytes of a string member in the encoding that `encoding` names (NULL: UTF-8), in a new
 * buffer. Length or -EINVAL, -ENOMEM.
 */
ssize_t source_get_bytes(const json_t *text, const char *encoding, uint8_t **ret);

#endif
