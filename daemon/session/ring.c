/* SPDX-License-Identifier: Apache-2.0 */
/* The last bytes of a stream that goes on for ever, by their offsets from its beginning. */
#include "daemon/session/ring.h"

#include "daemon/session/output.h"
#include "daemon/session/ring_file.h"
#include "protocol/utf8.h"

#include <errno.h>
#include <string.h>

#define SIZE_MIN 4096u

void ring_init(struct ring *ring, size_t limit)
{
	*ring = (struct ring){.limit = limit};
}

void ring_fini(struct ring *ring)
{
	if (ring->file)
		ring_file_remove(ring->file);
	else
		free(ring->data);
	*ring = (struct ring){0};
}

/* Copies kept bytes out, at least one. False when they cannot be read. */
static bool copy_out(const struct ring *ring, uint64_t offset, uint8_t *to, size_t len)
{
	size_t at = (size_t)(offset % ring->size), first = MIN(len, ring->size - at);

	if (!ring->data)
		return ring_file_read(ring->file, at, to, first) == 0 &&
		       ring_file_read(ring->file, 0, to + first, len - first) == 0;
	memcpy(to, ring->data + at, first);
	memcpy(to + first, ring->data, len - first);
	return true;
}

static void copy_in(struct ring *ring, uint64_t offset, const uint8_t *from, size_t len)
{
	size_t at = (size_t)(offset % ring->size), first = MIN(len, ring->size - at);

	memcpy(ring->data + at, from, first);
	memcpy(ring->data, from + first, len - first);
}

/* Copies all that is kept into another ring of the same offsets. */
static void copy_all(const struct ring *from, struct ring *to)
{
	size_t kept = (size_t)(from->end - from->start);

	for (size_t done = 0; done < kept;) {
		size_t at = (size_t)((from->start + done) % from->size);
		size_t len = MIN(kept - done, from->size - at);

		copy_in(to, from->start + done, from->data + at, len);
		done += len;
	}
}

/* To a size that holds all that is kept; into `file` if there is one. 0 or -errno. */
static int move(struct ring *ring, size_t size, struct ring_file *file)
{
	struct ring moved = *ring;
	struct ring_map map;
	int r;

	moved.size = size;
	moved.file = file;
	if (file) {
		r = ring_file_begin(file, size, ring->limit, &map);
		if (r < 0)
			return r;
		moved.data = map.data;
	} else {
		moved.data = size > 0 ? malloc(size) : NULL;
		if (size > 0 && !moved.data)
			return -ENOMEM;
	}
	copy_all(ring, &moved);
	if (file) {
		r = ring_file_commit(file, &map, ring->start, ring->end);
		if (r < 0)
			return r;
	}
	if (!ring->file)
		free(ring->data);
	*ring = moved;
	return 0;
}

int ring_keep(struct ring *ring, int dir_fd, const char *name)
{
	struct ring_file *file;
	int r = ring_file_create(dir_fd, name, &file);

	if (r < 0)
		return r;
	r = move(ring, MAX(ring->size, MIN(ring->limit, (size_t)SIZE_MIN)), file);
	if (r < 0)
		ring_file_remove(file);
	return r;
}

int ring_load(struct ring *ring, size_t limit, int dir_fd, const char *name)
{
	struct ring_file *file;
	struct ring_map map;
	int r;

	ring_init(ring, limit);
	r = ring_file_load(dir_fd, name, limit, &file, &map, &ring->start, &ring->end);
	if (r < 0)
		return r;
	ring->file = file;
	ring->data = map.data;
	ring->size = map.size;
	return 0;
}

void ring_add(struct ring *ring, const uint8_t *data, size_t len, size_t room)
{
	size_t kept = (size_t)(ring->end - ring->start);
	size_t size = MAX(ring->size, (size_t)SIZE_MIN), skip;
	uint64_t end = ring->end + len;

	if (ring->file && !ring->data) /* trimmed: nothing was to come */
		return;
	while (size < kept + len)
		size *= 2;
	size = MIN(size, MIN(ring->limit, ring->size + room));
	if (size > ring->size)
		(void)move(ring, size, ring->file);
	/* What would be overwritten at once. */
	skip = len > ring->size ? len - ring->size : 0;
	ring->start = MAX(ring->start, end - MIN(end, (uint64_t)ring->size));
	if (ring->file)
		ring_file_set_start(ring->file, ring->start);
	if (len > skip)
		copy_in(ring, end - (len - skip), data + skip, len - skip);
	ring->end = end;
	if (ring->file)
		ring_file_set_end(ring->file, ring->end);
}

void ring_trim(struct ring *ring)
{
	size_t kept = (size_t)(ring->end - ring->start);

	if (kept < ring->size && ring->data)
		(void)move(ring, kept, ring->file);
	if (!ring->file)
		return;
	ring_file_close(ring->file);
	ring->data = NULL;
}

/* A copy of what is kept from an offset on, which is moved to where that begins. NULL without
 * bytes, or memory or a descriptor for them. */
static char *copy_from(const struct ring *ring, uint64_t *offset, size_t max, size_t *ret_len)
{
	char *copy = NULL;

	*offset = MIN(MAX(*offset, ring->start), ring->end);
	*ret_len = MIN((size_t)(ring->end - *offset), max);
	if (*ret_len > 0)
		copy = malloc(*ret_len);
	if (copy && !copy_out(ring, *offset, (uint8_t *)copy, *ret_len))
		free(TAKE_PTR(copy));
	if (!copy)
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

void ring_to_result(const struct ring *ring, const char *name, uint64_t offset, bool is_end,
		    json_t *result)
{
	uint64_t from = offset;
	size_t len;
	_cleanup_free_ char *data = copy_from(ring, &from, SIZE_MAX, &len);

	if (data && !is_end)
		len = utf8_cut(data, len);
	output_set_bytes(result, name, (const uint8_t *)data, len, len);
	output_set(result, name, "_offset", json_integer((json_int_t)from));
	output_set(result, name, "_bytes", json_integer((json_int_t)ring->end));
	output_set(result, name, "_truncated", json_boolean(from > offset));
}
