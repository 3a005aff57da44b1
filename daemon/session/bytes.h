/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as parameters and results carry them: text where they are UTF-8, base64 where they are not.
 */
#ifndef DAEMON_SESSION_BYTES_H
#define DAEMON_SESSION_BYTES_H

#include "protocol/rpc_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* A new copy with a NUL behind it; NULL without memory. */
char *bytes_copy(const char *data, size_t len);

/*
 * Reads the string parameter `name`, written as the parameter `encoding_name` says ("utf-8" or
 * "base64"), into a new buffer; an absent one is empty, and the buffer NULL. NULL, or the error.
 */
struct rpc_error *bytes_from_params(const json_t *params, const char *name,
				    const char *encoding_name, char **ret,
				    size_t *ret_len) WARN_UNUSED;

/* Adds {data, encoding} to `object`: base64 if that is asked for, they are no UTF-8, or they are
 * full of control characters. */
void bytes_to_object(json_t *object, const char *data, size_t len, bool wants_base64);

#endif
