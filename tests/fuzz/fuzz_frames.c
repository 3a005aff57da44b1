/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and messages of the guest link: any split decodes to the same, and what was decoded
 * survives being encoded. */
#include "base/util.h"
#include "protocol/message.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

/* FNV-1a's constants. */
#define HASH_START 14695981039346656037u
#define HASH_STEP  1099511628211u
/* Frames of an input that are compared; larger inputs are left out. */
#define FRAMES_MAX 1024u
#define INPUT_MAX  (FRAMES_MAX * FRAME_OVERHEAD)

/* What a decoder made of an input: a sum per frame. */
struct decoded {
	uint64_t frames[FRAMES_MAX];
	size_t count;
	int error;
};

static void hash_bytes(uint64_t *hash, const void *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		*hash = (*hash ^ ((const uint8_t *)data)[i]) * HASH_STEP;
}

static void check_message(uint8_t type, const uint8_t *payload, size_t len)
{
	const char *why = NULL;
	char *first, *second;
	struct msg msg, again;
	ssize_t first_len;
	int r = msg_decode(type, payload, len, &msg, &why);

	if (r < 0) {
		FUZZ_CHECK(r == -EPROTO && why);
		return;
	}
	first_len = msg_encode(&msg, &first);
	msg_clear(&msg);
	if (first_len == -EMSGSIZE) /* escapes may take more room than the peer's own words */
		return;
	FUZZ_CHECK(first_len > 0);
	FUZZ_CHECK(msg_decode(type, (uint8_t *)first, (size_t)first_len, &again, &why) == 0);
	FUZZ_CHECK(msg_encode(&again, &second) == first_len);
	FUZZ_CHECK(memcmp(first, second, (size_t)first_len) == 0);
	msg_clear(&again);
	free(first);
	free(second);
}

static int on_frame(void *user, uint8_t type, uint32_t stream, const uint8_t *payload, size_t len)
{
	struct decoded *decoded = user;
	uint64_t hash = HASH_START;

	FUZZ_CHECK(len <= FRAME_PAYLOAD_MAX);
	hash_bytes(&hash, &type, sizeof(type));
	hash_bytes(&hash, &stream, sizeof(stream));
	hash_bytes(&hash, payload, len);
	FUZZ_CHECK(decoded->count < FRAMES_MAX);
	decoded->frames[decoded->count++] = hash;
	return 0;
}

static int on_frame_message(void *user, uint8_t type, uint32_t stream UNUSED,
			    const uint8_t *payload, size_t len)
{
	(void)user;
	check_message(type, payload, len);
	return 0;
}

static void make_marker(uint8_t marker[FRAME_MARKER_SIZE])
{
	memset(marker, 'M', FRAME_MARKER_SIZE);
}

/* Decodes in pieces, with a marker watched for. */
static void decode(const uint8_t *data, size_t size, size_t piece, bool discard,
		   struct decoded *ret)
{
	uint8_t marker[FRAME_MARKER_SIZE];
	struct frame_decoder decoder;

	make_marker(marker);
	ret->count = 0;
	ret->error = 0;
	frame_decoder_init(&decoder);
	frame_decoder_watch(&decoder, marker, discard);
	while (size > 0) {
		size_t len = MIN(piece, size);

		ret->error = frame_decoder_feed(&decoder, data, len, on_frame, ret);
		data += len;
		size -= len;
	}
	frame_decoder_fini(&decoder);
}

/*
 * In one piece, frames in front of a marker are dropped with it; in several, those that were whole
 * before its piece came have been handed on. Behind the last marker, and without one, there is no
 * difference.
 */
static void check_split(const uint8_t *data, size_t size, size_t piece, bool discard)
{
	static struct decoded whole, pieces;
	uint8_t marker[FRAME_MARKER_SIZE];

	make_marker(marker);
	decode(data, size, MAX(size, (size_t)1), discard, &whole);
	decode(data, size, piece, discard, &pieces);
	FUZZ_CHECK(whole.error == pieces.error);
	FUZZ_CHECK(whole.count <= pieces.count);
	if (discard || !memmem(data, size, marker, sizeof(marker)))
		FUZZ_CHECK(whole.count == pieces.count);
	FUZZ_CHECK(memcmp(whole.frames, pieces.frames + (pieces.count - whole.count),
			  whole.count * sizeof(whole.frames[0])) == 0);
}

/* First byte: piece length; second: whether to begin by discarding; the rest is the wire. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_decoder decoder;

	fuzz_begin();
	if (size < 2 || size > INPUT_MAX)
		return 0;
	check_split(data + 2, size - 2, fuzz_piece(data[0], size - 2), data[1] & 1);
	frame_decoder_init(&decoder);
	(void)frame_decoder_feed(&decoder, data + 2, size - 2, on_frame_message, NULL);
	frame_decoder_fini(&decoder);
	return 0;
}
