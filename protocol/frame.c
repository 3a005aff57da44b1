/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the guest link: header coding and an incremental decoder that survives any split. */
#include "protocol/frame.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

/* What stays allocated between frames: data frames come in two pieces most of the time. */
#define BUFFER_KEEP (FRAME_OVERHEAD + 8 + FRAME_DATA_MAX)

static const char *const type_names[] = {
	[FRAME_HELLO] = "HELLO",
	[FRAME_IDENTITY] = "IDENTITY",
	[FRAME_EXEC] = "EXEC",
	[FRAME_KILL] = "KILL",
	[FRAME_MEMORY_GET] = "MEMORY_GET",
	[FRAME_MEMORY_DROP] = "MEMORY_DROP",
	[FRAME_PING] = "PING",
	[FRAME_EXIT_ACK] = "EXIT_ACK",
	[FRAME_PREPARE] = "PREPARE",
	[FRAME_SIGNAL] = "SIGNAL",
	[FRAME_RESIZE] = "RESIZE",
	[FRAME_READY] = "READY",
	[FRAME_HELLO_REPLY] = "HELLO_REPLY",
	[FRAME_IDENTITY_DONE] = "IDENTITY_DONE",
	[FRAME_STARTED] = "STARTED",
	[FRAME_EXIT] = "EXIT",
	[FRAME_MEMORY] = "MEMORY",
	[FRAME_PONG] = "PONG",
	[FRAME_PREPARED] = "PREPARED",
	[FRAME_DATA] = "DATA",
	[FRAME_END] = "END",
	[FRAME_CREDIT] = "CREDIT",
};

const char *frame_type_name(uint8_t type)
{
	return type < ELEMENTSOF(type_names) && type_names[type] ? type_names[type] : "?";
}

static void put_u32(uint8_t *out, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_u32(const uint8_t *in)
{
	return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 |
	       (uint32_t)in[3] << 24;
}

void frame_put_u64(uint8_t out[8], uint64_t value)
{
	put_u32(out, (uint32_t)value);
	put_u32(out + 4, (uint32_t)(value >> 32));
}

uint64_t frame_get_u64(const uint8_t in[8])
{
	return get_u32(in) | (uint64_t)get_u32(in + 4) << 32;
}

void frame_marker_draw(uint8_t marker[FRAME_MARKER_SIZE])
{
	random_bytes(marker, FRAME_MARKER_SIZE);
	for (size_t i = 0; i < FRAME_MARKER_SIZE; i++)
		while (marker[i] == FRAME_TRAILER)
			random_bytes(&marker[i], 1);
}

size_t frame_encode(uint8_t *out, uint8_t type, uint32_t stream, const void *payload, size_t len)
{
	put_u32(out, (uint32_t)len);
	out[4] = type;
	put_u32(out + 5, stream);
	if (len > 0)
		memcpy(out + FRAME_HEADER_SIZE, payload, len);
	out[FRAME_HEADER_SIZE + len] = FRAME_TRAILER;
	return FRAME_OVERHEAD + len;
}

void frame_decoder_init(struct frame_decoder *decoder)
{
	*decoder = (struct frame_decoder){0};
}

void frame_decoder_fini(struct frame_decoder *decoder)
{
	free(decoder->buffer);
	frame_decoder_init(decoder);
}

void frame_decoder_watch(struct frame_decoder *decoder, const uint8_t marker[FRAME_MARKER_SIZE],
			 bool discard)
{
	memcpy(decoder->marker, marker, FRAME_MARKER_SIZE);
	decoder->has_marker = true;
	decoder->is_discarding = discard;
	decoder->recent_len = 0;
}

/*
 * Looks for the marker in the raw stream, across calls. Returns how many bytes of `data` lead up to
 * and include it, or 0 when it does not end within them.
 */
static size_t find_marker(struct frame_decoder *decoder, const uint8_t *data, size_t len)
{
	uint8_t seam[2 * FRAME_MARKER_SIZE];
	size_t kept = decoder->recent_len, head = MIN(len, (size_t)FRAME_MARKER_SIZE - 1);
	const uint8_t *found;

	/* A marker that began in an earlier call ends within the first 15 bytes of this one. */
	memcpy(seam, decoder->recent, kept);
	memcpy(seam + kept, data, head);
	found = memmem(seam, kept + head, decoder->marker, FRAME_MARKER_SIZE);
	if (found)
		return (size_t)(found - seam) + FRAME_MARKER_SIZE - kept;
	found = memmem(data, len, decoder->marker, FRAME_MARKER_SIZE);
	if (found)
		return (size_t)(found - data) + FRAME_MARKER_SIZE;

	if (len >= sizeof(decoder->recent)) {
		memcpy(decoder->recent, data + len - sizeof(decoder->recent),
		       sizeof(decoder->recent));
		decoder->recent_len = sizeof(decoder->recent);
	} else {
		size_t drop = kept + len > sizeof(decoder->recent)
				      ? kept + len - sizeof(decoder->recent)
				      : 0;

		memmove(decoder->recent, decoder->recent + drop, kept - drop);
		memcpy(decoder->recent + kept - drop, data, len);
		decoder->recent_len = kept - drop + len;
	}
	return 0;
}

static void start_afresh(struct frame_decoder *decoder)
{
	decoder->len = 0;
	decoder->error = 0;
	decoder->recent_len = 0;
	if (decoder->is_discarding)
		decoder->has_marker = false;
	decoder->is_discarding = false;
}

/* Makes the buffer hold `size` bytes. */
static int resize(struct frame_decoder *decoder, size_t size)
{
	uint8_t *grown;

	if (decoder->size >= size)
		return 0;
	grown = realloc(decoder->buffer, size);
	if (!grown)
		return -ENOMEM;
	decoder->buffer = grown;
	decoder->size = size;
	return 0;
}

/* Copies bytes into the unfinished frame until it holds `want`. Returns how many were used. */
static size_t fill(struct frame_decoder *decoder, size_t want, const uint8_t *data, size_t len)
{
	size_t n = MIN(len, want - decoder->len);

	memcpy(decoder->buffer + decoder->len, data, n);
	decoder->len += n;
	return n;
}

/* Takes the bytes of at most one frame. Returns how many were used, or -errno. */
static ssize_t take_frame(struct frame_decoder *decoder, const uint8_t *data, size_t len,
			  frame_fn fn, void *user)
{
	const uint8_t *header = data, *payload = data + FRAME_HEADER_SIZE;
	size_t used = 0, size;
	uint32_t payload_len;
	int r;

	if (decoder->len > 0 || len < FRAME_HEADER_SIZE) {
		r = resize(decoder, FRAME_HEADER_SIZE);
		if (r < 0)
			return r;
		if (decoder->len < FRAME_HEADER_SIZE)
			used = fill(decoder, FRAME_HEADER_SIZE, data, len);
		if (decoder->len < FRAME_HEADER_SIZE)
			return (ssize_t)used;
		header = decoder->buffer;
	}
	payload_len = get_u32(header);
	if (payload_len > FRAME_PAYLOAD_MAX)
		return -EPROTO;
	size = FRAME_OVERHEAD + payload_len;

	if (decoder->len == 0 && len >= size) {
		/* The common case, a whole frame in one piece, is handed on where it lies. */
		used = size;
	} else {
		r = resize(decoder, size);
		if (r < 0)
			return r;
		used += fill(decoder, size, data + used, len - used);
		if (decoder->len < size)
			return (ssize_t)used;
		header = decoder->buffer;
		payload = decoder->buffer + FRAME_HEADER_SIZE;
		decoder->len = 0;
	}
	if (payload[payload_len] != FRAME_TRAILER)
		return -EPROTO;
	r = fn(user, header[4], get_u32(header + 5), payload, payload_len);
	if (decoder->len == 0 && decoder->size > BUFFER_KEEP) {
		free(TAKE_PTR(decoder->buffer));
		decoder->size = 0;
	}
	return r < 0 ? r : (ssize_t)used;
}

/* Decodes bytes that hold no marker. */
static void decode(struct frame_decoder *decoder, const uint8_t *data, size_t len, frame_fn fn,
		   void *user)
{
	while (len > 0 && decoder->error == 0 && !decoder->is_discarding) {
		ssize_t used = take_frame(decoder, data, len, fn, user);

		if (used < 0) {
			decoder->error = (int)used;
			break;
		}
		data += used;
		len -= (size_t)used;
	}
}

int frame_decoder_feed(struct frame_decoder *decoder, const uint8_t *data, size_t len, frame_fn fn,
		       void *user)
{
	while (len > 0) {
		size_t behind = decoder->has_marker ? find_marker(decoder, data, len) : 0;

		if (behind == 0) {
			if (!decoder->is_discarding)
				decode(decoder, data, len, fn, user);
			break;
		}
		/*
		 * What stands before the marker is dropped with the unfinished frame: its sender
		 * died, and a new HELLO tells what to send again.
		 */
		start_afresh(decoder);
		data += behind;
		len -= behind;
	}
	return decoder->error;
}
