/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One output stream of one run: the bytes kept for the result, and what of them was streamed.
 *
 * Chunks are cut where no UTF-8 sequence is split; a chunk that is not UTF-8 travels as base64.
 * Nothing is held back for ever: the end of the run sends whatever is left.
 *
 * An output may have a spool, a file that has every byte before the output has: who is to credit
 * bytes to the guest does it after output_add(), and the next daemon finds at least those.
 */
#ifndef DAEMON_SESSION_OUTPUT_H
#define DAEMON_SESSION_OUTPUT_H

#include "base/util.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct output_spool;

struct output {
	uint8_t *data;
	size_t len, size;
	size_t limit;               /* the guest may not send more */
	size_t streamed;            /* of len */
	struct output_spool *spool; /* NULL: none */
};

/* 0; -EMSGSIZE when that is over the limit (the guest broke its word); -ENOMEM. */
int output_add(struct output *output, const uint8_t *data, size_t len);

/*
 * Gives an empty output a spool, a new file of that name (kept.h) in the directory; an old one is
 * replaced. 0 or -errno: then there is none. When a write fails later the file is removed and the
 * output goes on in memory only.
 */
int output_spool_to(struct output *output, int dir_fd, const char *name) WARN_UNUSED;

/* Fills an empty output with the bytes of a spool that another process has left, and goes on with
 * it. 0 or -errno: -ENOENT when it was given up or never was, -EMSGSIZE when it is over the limit.
 */
int output_spool_load(struct output *output, int dir_fd, const char *name) WARN_UNUSED;

/* Removes the spool: the bytes are kept elsewhere now. */
void output_spool_end(struct output *output);

/*
 * The bytes to stream next, as {"data", "encoding"?} in a new reference, or NULL when there are
 * none (or no memory). With `is_end` an unfinished UTF-8 sequence is not waited for.
 */
json_t *output_next_chunk(struct output *output, bool is_end);

/* Adds `<name>`, `<name>_encoding`, `<name>_truncated` and `<name>_bytes` to a RunResult. */
void output_to_result(const struct output *output, const char *name, uint64_t total_bytes,
		      json_t *result);

/*
 * The same from a byte offset on: `<name>`, `<name>_encoding`, `<name>_offset` (where it begins)
 * and
 * `<name>_bytes` (all there are so far). Unless `is_end` an unfinished UTF-8 sequence is left for
 * the next time.
 */
void output_to_result_from(const struct output *output, const char *name, uint64_t offset,
			   bool is_end, json_t *result);

/* The same from `*offset` on, at most `max` bytes, whatever was streamed; moves the offset. */
json_t *output_chunk_from(const struct output *output, uint64_t *offset, size_t max);

/* Sets `<name><suffix>`. 0, or -1 without memory for it or its value. */
int output_set(json_t *result, const char *name, const char *suffix, json_t *value_take);

/*
 * Sets `<name>` to bytes, as text, of which there are `text_len`, or all `len` of them as base64
 * and `<name>_encoding`; without memory to none. A chunk has them as `data` and `encoding`.
 */
void output_set_bytes(json_t *result, const char *name, const uint8_t *data, size_t text_len,
		      size_t len);
json_t *output_chunk(const uint8_t *data, size_t len);

/* The other way round: fills an empty output with the bytes that output_to_result() has put there.
 * 0; -EINVAL when they are not there; -ENOMEM. */
int output_from_result(struct output *output, const char *name, const json_t *result) WARN_UNUSED;

/* Gives back what was allocated ahead. */
void output_trim(struct output *output);

/* Removes the spool, too. */
void output_fini(struct output *output);

#endif
