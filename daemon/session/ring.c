/* SPDX-License-Identifier: Apache-2.0 */
/* The last bytes of a stream that goes on for ever, by their offsets from its beginning. */
#include "daemon/session/ring.h"

#include "base/util.h"
#include "daemon/session/output.h"
#include "protocol/utf8.h"

#include <stdio.h>
#include <string.h>

#define SIZE_MIN 4096u

void ring_init(struct ring *ring, size_t limit)
{
	*ring = (struct ring){.limit = limit};
}

void ring_fini(struct ring *ring)
{
	free(ring->data);
	*ring = (struct ring){0};
}

/* Copies kept bytes out. */
static void copy_out(const struct ring *ring, uint64_t offset, uint8_t *to, size_t len)
{
	size_t at = len > 0 ? (size_t)(offset % ring->size) : 0;
	size_t first = MIN(len, ring->size - at);

	if (len == 0)
		return;
	memcpy(to, ring->data + at, first);
	memcpy(to + first, ring->data, len - first);
}

static void copy_in(struct ring *ring, uint64_t offset, const uint8_t *from, size_t len)
{
	size_t at = (size_t)(offset % ring->size), first = MIN(len, ring->size - at);

	memcpy(ring->data + at, from, first);
	memcpy(ring->data, from + first, len - first);
}

/* To a size that holds all that is kept. */
static void resize(struct ring *ring, size_t size)
{
	size_t kept = (size_t)(ring->end - ring->start);
	uint8_t *old = ring->data, *data = size > 0 ? malloc(size) : NULL;
	struct ring was = *ring;

	if (size > 0 && !data)
		return;
	ring->data = data;
	ring->size = size;
	for (size_t done = 0; done < kept;) {
		size_t at = (size_t)((was.start + done) % was.size);
		size_t len = MIN(kept - done, was.size - at);

		copy_in(ring, was.start + done, old + at, len);
		done += len;
	}
	free(old);
}

void ring_add(struct ring *ring, const uint8_t *data, size_t len, size_t room)
{
	size_t kept = (size_t)(ring->end - ring->start);
	size_t size = MAX(ring->size, (size_t)SIZE_MIN), skip;

	while (size < kept + len)
		size *= 2;
	size = MIN(size, MIN(ring->limit, ring->size + room));
	if (size > ring->size)
		resize(ring, size);
	/* What would be overwritten at once. */
	skip = len > ring->size ? len - ring->size : 0;
	ring->end += len;
	ring->start = MAX(ring->start, ring->end - MIN(ring->end, (uint64_t)ring->size));
	if (len > skip)
		copy_in(ring, ring->end - (len - skip), data + skip, len - skip);
}

void ring_trim(struct ring *ring)
{
	size_t kept = (size_t)(ring->end - ring->start);

	if (kept < ring->size)
		resize(ring, kept);
}

/* A copy of what is kept from an offset on, which is moved to where that begins. NULL without
 * bytes or memory. */
static char *copy_from(const struct ring *ring, uint64_t *offset, size_t max, size_t *ret_len)
{
	char *copy = NULL;

	*offset = MIN(MAX(*offset, ring->start), ring->end);
	*ret_len = MIN((size_t)(ring->end - *offset), max);
	if (*ret_len > 0)
		copy = malloc(*ret_len);
	if (copy)
		copy_out(ring, *offset, (uint8_t *)copy, *ret_len);
	else
		*ret_len = 0;
	return copy;
}

json_t *ring_next_chunk(const struct ring *ring, uint64_t *offset, size_t max, bool is_end)
{
	size_t len;
	_cleanup_free_ char *data = copy_from(ring, offset, max, &len);
	bool is_last = *offset + len == ring->end;
	size_t text_len = data && !(is_end && is_last) ? utf8_cut(data, len) : len;

	if (text_len == 0)
		return NULL;
	*offset += text_len;
	return output_chunk((const uint8_t *)data, text_len);
}

static void set(json_t *result, const char *name, const char *suffix, json_t *value_take)
{
	char key[32];

	snprintf(key, sizeof(key), "%s%s", name, suffix);
	json_object_set_new(result, key, value_take);
}

void ring_to_result(const struct ring *ring, const char *name, uint64_t offset, bool is_end,
		    json_t *result)
{
	uint64_t from = offset;
	size_t len;
	_cleanup_free_ char *data = copy_from(ring, &from, SIZE_MAX, &len);

	if (data && !is_end)
		len = utf8_cut(data, len);
	output_set_bytes(result, name, (const uint8_t *)data, len, len);
	set(result, name, "_offset", json_integer((json_int_t)from));
	set(result, name, "_bytes", json_integer((json_int_t)ring->end));
	set(result, name, "_truncated", json_boolean(from > offset));
}
