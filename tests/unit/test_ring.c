/* SPDX-License-Identifier: Apache-2.0 */
/* The last bytes of a stream by their offsets: against a plain buffer that keeps all. */
#include "daemon/session/ring.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#include <string.h>

static void add(struct ring *ring, const char *text)
{
	ring_add(ring, (const uint8_t *)text, strlen(text), SIZE_MAX / 2);
}

static void assert_chunk(const struct ring *ring, uint64_t *offset, size_t max, bool is_end,
			 const char *data, const char *encoding, uint64_t next)
{
	json_auto_t *chunk = ring_next_chunk(ring, offset, max, is_end);

	ck_assert_uint_eq(*offset, next);
	if (!data) {
		ck_assert_ptr_null(chunk);
		return;
	}
	ck_assert_str_eq(json_string_value(json_object_get(chunk, "data")), data);
	ck_assert_pstr_eq(json_string_value(json_object_get(chunk, "encoding")), encoding);
}

START_TEST(test_chunks)
{
	struct ring ring;
	uint64_t offset = 0;

	ring_init(&ring, 10);
	assert_chunk(&ring, &offset, 100, true, NULL, NULL, 0);
	add(&ring, "abc\xc3");
	assert_chunk(&ring, &offset, 2, false, "ab", NULL, 2);
	assert_chunk(&ring, &offset, 100, false, "c", NULL, 3);
	assert_chunk(&ring, &offset, 100, false, NULL, NULL, 3);
	add(&ring, "\xbc");
	assert_chunk(&ring, &offset, 100, false, "ü", NULL, 5);
	/* Twelve more: the first two are gone. */
	add(&ring, "0123456789AB");
	assert_chunk(&ring, &offset, 100, false, "23456789AB", NULL, 17);
	add(&ring, "\xff\xc3");
	assert_chunk(&ring, &offset, 100, true, "/8M=", "base64", 19);
	/* Beyond the end there is nothing yet. */
	offset = 1000;
	assert_chunk(&ring, &offset, 100, true, NULL, NULL, 19);
	ring_fini(&ring);
}
END_TEST

START_TEST(test_results)
{
	json_auto_t *result = json_object();
	struct ring ring;

	ring_init(&ring, 4);
	add(&ring, "0123");
	add(&ring, "45");
	ring_trim(&ring);
	ring_to_result(&ring, "stdout", 1, true, result);
	ring_to_result(&ring, "stderr", 3, true, result);
	ck_assert_str_eq(json_string_value(json_object_get(result, "stdout")), "2345");
	ck_assert_int_eq(json_integer_value(json_object_get(result, "stdout_offset")), 2);
	ck_assert_int_eq(json_integer_value(json_object_get(result, "stdout_bytes")), 6);
	ck_assert(json_is_true(json_object_get(result, "stdout_truncated")));
	ck_assert_str_eq(json_string_value(json_object_get(result, "stderr")), "345");
	ck_assert(json_is_false(json_object_get(result, "stderr_truncated")));
	ring_fini(&ring);
}
END_TEST

/* One that may keep nothing, and one that gets no memory for more. */
START_TEST(test_no_room)
{
	struct ring ring;
	uint64_t offset = 0;

	ring_init(&ring, 0);
	add(&ring, "abc");
	assert_chunk(&ring, &offset, 100, true, NULL, NULL, 3);
	ring_trim(&ring);
	ring_fini(&ring);
	ring_init(&ring, 1 << 20);
	ring_add(&ring, (const uint8_t *)"0123456789", 10, 4);
	offset = 0;
	assert_chunk(&ring, &offset, 100, true, "6789", NULL, 10);
	ring_add(&ring, (const uint8_t *)"AB", 2, 2);
	offset = 0;
	assert_chunk(&ring, &offset, 100, true, "6789AB", NULL, 12);
	ck_assert_uint_eq(ring.size, 6);
	ring_fini(&ring);
}
END_TEST

#define RANDOM_BYTES 200000u
#define RANDOM_LIMIT 9000u

/* Pieces of all lengths, over and within the limit: what is kept is what was written there. */
START_TEST(test_random)
{
	static uint8_t all[RANDOM_BYTES];
	struct ring ring;
	unsigned seed = 1;

	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)('a' + rand_r(&seed) % 26);
	ring_init(&ring, RANDOM_LIMIT);
	while (ring.end < sizeof(all)) {
		size_t max = rand_r(&seed) % 8 == 0 ? 2 * RANDOM_LIMIT : 300;
		size_t len = MIN(1 + (size_t)rand_r(&seed) % max, sizeof(all) - ring.end);
		uint64_t offset = ring.end - MIN(ring.end, (uint64_t)rand_r(&seed) % RANDOM_LIMIT);
		json_auto_t *chunk = NULL;
		size_t kept;

		ring_add(&ring, all + ring.end, len, 1000);
		ck_assert_uint_le(ring.size, RANDOM_LIMIT);
		offset = MAX(offset, ring.start);
		kept = ring.end - offset;
		chunk = ring_next_chunk(&ring, &offset, SIZE_MAX, true);
		ck_assert_uint_eq(json_string_length(json_object_get(chunk, "data")), kept);
		ck_assert_mem_eq(json_string_value(json_object_get(chunk, "data")),
				 all + ring.end - kept, kept);
	}
	ck_assert_uint_eq(ring.end - ring.start, RANDOM_LIMIT);
	ring_fini(&ring);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ring");
	TCase *tests = tcase_create("ring");

	tcase_add_test(tests, test_chunks);
	tcase_add_test(tests, test_results);
	tcase_add_test(tests, test_no_room);
	tcase_add_test(tests, test_random);
	suite_add_tcase(suite, tests);
	return suite;
}
