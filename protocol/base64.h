/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648, section 4) for bytes that are not text, on top of OpenSSL; decoding is strict.
 */
#ifndef PROTOCOL_BASE64_H
#define PROTOCOL_BASE64_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Encodes into a new NUL-terminated buffer (free()); `ret_len`, if not NULL, gets its length. NULL
 * without memory. */
char *base64_encode(const void *data, size_t len, size_t *ret_len);

/* The same as a new JSON string. NULL without memory. */
json_t *base64_encode_json(const void *data, size_t len);

/*
 * Decodes into a new buffer (free(), never NULL, also for no bytes). Returns the number of bytes;
 * -EINVAL for anything a strict encoder would not have written: a character outside the alphabet
 * (blanks and line ends too), a length that is not a multiple of four, padding that is missing, too
 * much or not at the end, bits set in what padding cuts off; -ENOMEM.
 */
ssize_t base64_decode(const char *text, size_t len, uint8_t **ret);

#endif
