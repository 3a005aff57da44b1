/* SPDX-License-Identifier: Apache-2.0 */
/* The frame decoder: any split, caps, markers. */
#include "protocol/frame.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

struct seen {
	uint8_t bytes[4096];
	size_t len, count;
	int answer;
};

static int on_frame(void *user, uint8_t type, uint32_t stream, const uint8_t *payload, size_t len)
{
	struct seen *seen = user;

	seen->bytes[seen->len++] = type;
	seen->bytes[seen->len++] = (uint8_t)stream;
	memcpy(seen->bytes + seen->len, payload, len);
	seen->len += len;
	seen->count++;
	return seen->answer;
}

static size_t add_frame(uint8_t *out, uint8_t type, uint32_t stream, const char *payload)
{
	return frame_encode(out, type, stream, payload, strlen(payload));
}

static size_t three_frames(uint8_t *wire)
{
	size_t len = add_frame(wire, FRAME_DATA, 5, "hello");

	len += add_frame(wire + len, FRAME_PING, 0, "");
	return len + add_frame(wire + len, FRAME_DATA, 6, "a longer payload than the others");
}

START_TEST(test_every_split_gives_the_same_frames)
{
	uint8_t wire[256];
	size_t len = three_frames(wire);
	struct seen whole = {0};
	struct frame_decoder decoder;

	frame_decoder_init(&decoder);
	ck_assert_int_eq(frame_decoder_feed(&decoder, wire, len, on_frame, &whole), 0);
	ck_assert_uint_eq(whole.count, 3);
	for (size_t first = 0; first <= len; first++) {
		for (size_t second = first; second <= len; second++) {
			struct seen seen = {0};

			frame_decoder_feed(&decoder, wire, first, on_frame, &seen);
			frame_decoder_feed(&decoder, wire + first, second - first, on_frame, &seen);
			frame_decoder_feed(&decoder, wire + second, len - second, on_frame, &seen);
			ck_assert_uint_eq(seen.len, whole.len);
			ck_assert_mem_eq(seen.bytes, whole.bytes, whole.len);
		}
	}
	frame_decoder_fini(&decoder);
}
END_TEST

START_TEST(test_over_long_frame_is_an_error_that_stays)
{
	uint8_t header[FRAME_HEADER_SIZE] = {1, 0, 4, 0, FRAME_DATA, 1}; /* one byte over 256 KiB */
	struct seen seen = {0};
	struct frame_decoder decoder;

	frame_decoder_init(&decoder);
	ck_assert_int_eq(frame_decoder_feed(&decoder, header, sizeof(header), on_frame, &seen),
			 -EPROTO);
	ck_assert_int_eq(frame_decoder_feed(&decoder, header, 1, on_frame, &seen), -EPROTO);
	ck_assert_uint_eq(seen.count, 0);
	frame_decoder_fini(&decoder);
}
END_TEST

START_TEST(test_callback_error_stops_decoding)
{
	uint8_t wire[256];
	size_t len = three_frames(wire);
	struct seen seen = {.answer = -EBADMSG};
	struct frame_decoder decoder;

	frame_decoder_init(&decoder);
	ck_assert_int_eq(frame_decoder_feed(&decoder, wire, len, on_frame, &seen), -EBADMSG);
	ck_assert_uint_eq(seen.count, 1);
	frame_decoder_fini(&decoder);
}
END_TEST

/* Half a frame of a sender that died, then the marker, then a new sender: at every split. */
START_TEST(test_marker_drops_half_a_frame)
{
	uint8_t marker[FRAME_MARKER_SIZE], wire[256];
	size_t half, len;

	frame_marker_draw(marker);
	half = add_frame(wire, FRAME_DATA, 5, "this frame never ends") - 7;
	memcpy(wire + half, marker, sizeof(marker));
	len = half + sizeof(marker);
	len += add_frame(wire + len, FRAME_PING, 0, "x");
	for (size_t split = 0; split <= len; split++) {
		struct seen seen = {0};
		struct frame_decoder decoder;

		frame_decoder_init(&decoder);
		frame_decoder_watch(&decoder, marker, false);
		frame_decoder_feed(&decoder, wire, split, on_frame, &seen);
		ck_assert_int_eq(
			frame_decoder_feed(&decoder, wire + split, len - split, on_frame, &seen),
			0);
		ck_assert_uint_eq(seen.count, 1);
		ck_assert_uint_eq(seen.bytes[0], FRAME_PING);
		frame_decoder_fini(&decoder);
	}
}
END_TEST

START_TEST(test_marker_found_byte_by_byte_and_mends_an_error)
{
	uint8_t marker[FRAME_MARKER_SIZE], junk[64], wire[64];
	struct seen seen = {0};
	struct frame_decoder decoder;
	size_t len;

	memset(marker, 0xa5, sizeof(marker)); /* worst case: its own prefix many times */
	memset(junk, 0xff, sizeof(junk));
	frame_decoder_init(&decoder);
	frame_decoder_watch(&decoder, marker, false);
	ck_assert_int_eq(frame_decoder_feed(&decoder, junk, sizeof(junk), on_frame, &seen),
			 -EPROTO);
	for (size_t i = 0; i < sizeof(marker); i++)
		frame_decoder_feed(&decoder, marker + i, 1, on_frame, &seen);
	len = add_frame(wire, FRAME_PONG, 0, "ok");
	ck_assert_int_eq(frame_decoder_feed(&decoder, wire, len, on_frame, &seen), 0);
	ck_assert_uint_eq(seen.count, 1);
	frame_decoder_fini(&decoder);
}
END_TEST

START_TEST(test_discarding_ends_at_the_marker)
{
	uint8_t marker[FRAME_MARKER_SIZE], wire[256];
	struct seen seen = {0};
	struct frame_decoder decoder;
	size_t len;

	frame_marker_draw(marker);
	frame_decoder_init(&decoder);
	frame_decoder_watch(&decoder, marker, true);
	len = three_frames(wire);
	frame_decoder_feed(&decoder, wire, len, on_frame, &seen);
	ck_assert_uint_eq(seen.count, 0);
	frame_decoder_feed(&decoder, marker, sizeof(marker), on_frame, &seen);
	frame_decoder_feed(&decoder, wire, len, on_frame, &seen);
	ck_assert_uint_eq(seen.count, 3);
	/* The same bytes again are data now, not a marker. */
	ck_assert(!decoder.has_marker);
	frame_decoder_fini(&decoder);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("frame");
	TCase *tests = tcase_create("frame");

	tcase_add_test(tests, test_every_split_gives_the_same_frames);
	tcase_add_test(tests, test_over_long_frame_is_an_error_that_stays);
	tcase_add_test(tests, test_callback_error_stops_decoding);
	tcase_add_test(tests, test_marker_drops_half_a_frame);
	tcase_add_test(tests, test_marker_found_byte_by_byte_and_mends_an_error);
	tcase_add_test(tests, test_discarding_ends_at_the_marker);
	suite_add_tcase(suite, tests);
	return suite;
}
