/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer: lines on their way in, messages on their way out. */
#ifndef DAEMON_RPC_TEXT_H
#define DAEMON_RPC_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* No message is larger: twice the cap of an incoming one leaves room for base64 and escapes. */
#define TEXT_MAX_BYTES (64u << 20)

/* Zero-initialised it is empty. Adding never returns an error: without memory, or over the cap,
 * `is_failed` stays set until text_reset(), and the content is not to be used. */
struct text {
	char *data;
	size_t len, size;
	bool is_failed;
};

void text_add(struct text *text, const void *data, size_t len);
void text_add_string(struct text *text, const char *string);

/* Adds `json` as compact JSON of any type; reals with 15 digits, which is what a decimal number
 * survives, so that 0.1 is written as 0.1. */
void text_add_json(struct text *text, const json_t *json);

/* Drops the first `len` bytes. */
void text_consume(struct text *text, size_t len);

/* Empties the buffer, keeps at most `keep_bytes` of memory. */
void text_reset(struct text *text, size_t keep_bytes);

void text_fini(struct text *text);

#endif
