/* SPDX-License-Identifier: Apache-2.0 */
/* The last bytes of a stream by their offsets: against a plain buffer that keeps all. */
#include "daemon/session/ring.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_dir.h"
#include "tests/unit/test_small_disk.h"

#include <errno.h>
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

/* --- Kept in a file. --- */

static char dir[TEST_DIR_SIZE];
static int dir_fd;

static void setup_dir(void)
{
	test_dir_make(dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
}

static void teardown_dir(void)
{
	close(dir_fd);
	test_dir_remove(dir);
}

/* As a daemon that was killed: the file stays as it is. */
static void copy_file(const char *from, const char *to)
{
	_cleanup_free_ char *data = NULL;
	ssize_t len = read_file_at(dir_fd, from, 1 << 24, &data);

	ck_assert_int_ge(len, 0);
	test_dir_write(dir, to, data, (size_t)len);
}

START_TEST(test_kept)
{
	struct ring ring, loaded;
	uint64_t offset = 0;

	ring_init(&ring, 10);
	add(&ring, "before");
	ck_assert_int_eq(ring_keep(&ring, dir_fd, "ring"), 0);
	add(&ring, "0123456789AB");
	copy_file("ring", "copy");
	ck_assert_int_eq(ring_load(&loaded, 10, dir_fd, "copy"), 0);
	assert_chunk(&loaded, &offset, 100, true, "23456789AB", NULL, 18);
	/* It goes on, and is kept further. */
	add(&loaded, "CD");
	copy_file("copy", "again");
	ring_fini(&loaded);
	ck_assert(!test_dir_has(dir, "copy"));
	ck_assert_int_eq(ring_load(&loaded, 10, dir_fd, "again"), 0);
	offset = 0;
	assert_chunk(&loaded, &offset, 100, true, "456789ABCD", NULL, 20);
	ring_trim(&loaded);
	ring_fini(&loaded);
	ring_fini(&ring);
	ck_assert(!test_dir_has(dir, "ring"));
	ck_assert_int_eq(ring_keep(&ring, dir_fd, "no/name"), -EINVAL);
}
END_TEST

/* What has ended costs no mapping, and no descriptor but its directory's. */
START_TEST(test_kept_to_its_end)
{
	static const char *const names[] = {"one", "two", "three"};
	json_auto_t *result = json_object();
	int before = test_open_fds(), own_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct ring rings[3], loaded;
	uint64_t offset;

	for (size_t i = 0; i < ELEMENTSOF(rings); i++) {
		ring_init(&rings[i], 10);
		ck_assert_int_eq(ring_keep(&rings[i], i == 1 ? own_fd : dir_fd, names[i]), 0);
		add(&rings[i], i == 2 ? "abc" : "before0123456789AB");
		ring_trim(&rings[i]);
		ring_trim(&rings[i]);
		ck_assert_ptr_null(rings[i].data);
	}
	close(own_fd);
	ck_assert_int_eq(test_open_fds(), before + 1);
	for (size_t i = 0; i < 2; i++) {
		offset = 0;
		assert_chunk(&rings[i], &offset, 100, true, "23456789AB", NULL, 18);
		offset = 9;
		assert_chunk(&rings[i], &offset, 2, true, "34", NULL, 11);
	}
	ring_to_result(&rings[2], "stdout", 1, true, result);
	ck_assert_str_eq(json_string_value(json_object_get(result, "stdout")), "bc");
	add(&rings[2], "too late");
	ck_assert_uint_eq(rings[2].end, 3);
	copy_file("one", "copy");
	ck_assert_int_eq(ring_load(&loaded, 10, dir_fd, "copy"), 0);
	offset = 0;
	assert_chunk(&loaded, &offset, 100, true, "23456789AB", NULL, 18);
	ring_fini(&loaded);
	/* As all files of a VM that has ended. */
	unlink(test_dir_path(dir, "one"));
	offset = 0;
	assert_chunk(&rings[0], &offset, 100, true, NULL, NULL, 8);
	for (size_t i = 0; i < ELEMENTSOF(rings); i++) {
		ring_fini(&rings[i]);
		ck_assert(!test_dir_has(dir, names[i]));
	}
	ck_assert_int_eq(test_open_fds(), before);
}
END_TEST

/* One without bytes, one that may keep none, and one that is cut to what it has. */
START_TEST(test_kept_empty)
{
	struct ring ring, loaded;
	uint64_t offset = 0;

	ring_init(&ring, 1 << 20);
	ck_assert_int_eq(ring_keep(&ring, dir_fd, "ring"), 0);
	copy_file("ring", "copy");
	ck_assert_int_eq(ring_load(&loaded, 1 << 20, dir_fd, "copy"), 0);
	assert_chunk(&loaded, &offset, 100, true, NULL, NULL, 0);
	ring_fini(&loaded);
	add(&ring, "abc");
	ring_trim(&ring);
	ck_assert_uint_eq(ring.size, 3);
	copy_file("ring", "copy");
	ck_assert_int_eq(ring_load(&loaded, 1 << 20, dir_fd, "copy"), 0);
	assert_chunk(&loaded, &offset, 100, true, "abc", NULL, 3);
	ring_fini(&loaded);
	ring_fini(&ring);
	ring_init(&ring, 0);
	ck_assert_int_eq(ring_keep(&ring, dir_fd, "ring"), 0);
	add(&ring, "abc");
	copy_file("ring", "copy");
	ring_fini(&ring);
	ck_assert_int_eq(ring_load(&loaded, 0, dir_fd, "copy"), 0);
	ck_assert_uint_eq(loaded.start, 3);
	ck_assert_uint_eq(loaded.end, 3);
	ring_fini(&loaded);
}
END_TEST

#define HEADER_WORDS 8

/* Each field of the header, and the file's length: refused, or a ring that can be read. */
START_TEST(test_kept_malformed)
{
	static const uint64_t values[] = {0, 1, 9, 11, 4096, 1 << 20, UINT64_MAX, UINT64_MAX / 2};
	_cleanup_free_ char *good = NULL;
	struct ring ring, loaded;
	ssize_t len;

	ring_init(&ring, 10);
	ck_assert_int_eq(ring_keep(&ring, dir_fd, "ring"), 0);
	add(&ring, "0123456789AB");
	len = read_file_at(dir_fd, "ring", 4096, &good);
	ck_assert_int_eq(len, 8 * HEADER_WORDS + 10);
	for (size_t at = 0; at < 5; at++) {
		for (size_t i = 0; i < ELEMENTSOF(values); i++) {
			char bad[8 * HEADER_WORDS + 10];
			uint64_t offset = 0, word;

			memcpy(bad, good, sizeof(bad));
			memcpy(&word, bad + 8 * at, 8);
			memcpy(bad + 8 * at, &values[i], 8);
			test_dir_write(dir, "bad", bad, sizeof(bad));
			if (ring_load(&loaded, 10, dir_fd, "bad") < 0) {
				ck_assert_ptr_null(loaded.file);
				continue;
			}
			ck_assert(at >= 3 || word == values[i]);
			json_decref(ring_next_chunk(&loaded, &offset, 100, true));
			add(&loaded, "more than there is room for");
			ring_fini(&loaded);
		}
	}
	for (size_t cut = 0; cut < (size_t)len; cut++) {
		test_dir_write(dir, "bad", good, cut);
		ck_assert_int_eq(ring_load(&loaded, 10, dir_fd, "bad"), -EINVAL);
	}
	ck_assert_int_eq(ring_load(&loaded, 11, dir_fd, "ring"), -EINVAL);
	ck_assert_int_eq(ring_load(&loaded, 10, dir_fd, "nowhere"), -ENOENT);
	ck_assert_int_eq(symlinkat("ring", dir_fd, "link"), 0);
	ck_assert_int_eq(ring_load(&loaded, 10, dir_fd, "link"), -ELOOP);
	ring_fini(&ring);
}
END_TEST

static void assert_starts(const struct ring *ring, const char *text)
{
	uint64_t offset = 0;
	json_auto_t *chunk = ring_next_chunk(ring, &offset, strlen(text), true);

	ck_assert_str_eq(json_string_value(json_object_get(chunk, "data")), text);
}

/* It keeps the last bytes in what it has, and is a whole file for the next one. */
START_TEST(test_kept_on_a_full_disk)
{
	_cleanup_close_ int small_fd = test_small_disk(dir, "size=64k,mode=700");
	static uint8_t bytes[20000];
	struct ring ring, second;
	size_t kept;

	ring_init(&ring, 1 << 20);
	ck_assert_int_eq(ring_keep(&ring, small_fd, "ring"), 0);
	test_fill_disk(small_fd);
	/* The first bytes of all have room. */
	add(&ring, "0123456789");
	assert_starts(&ring, "0123456789");
	memset(bytes, 'x', sizeof(bytes) - 1);
	bytes[sizeof(bytes) - 1] = '.';
	ring_add(&ring, bytes, sizeof(bytes), SIZE_MAX / 2);
	kept = ring.size;
	ck_assert_uint_ge(kept, 4096);
	ck_assert_uint_lt(kept, sizeof(bytes));
	ck_assert_uint_eq(ring.end, sizeof(bytes) + 10);
	ck_assert_uint_eq(ring.start, ring.end - kept);
	assert_starts(&ring, "xxx");
	ck_assert_int_eq(ring_load(&second, 1 << 20, small_fd, "ring"), 0);
	ck_assert_uint_eq(second.start, ring.start);
	ck_assert_uint_eq(second.end, ring.end);
	assert_starts(&second, "xxx");
	ring_fini(&second);
	ring_init(&second, 10);
	test_fill_disk(small_fd);
	ck_assert_int_eq(ring_keep(&second, small_fd, "second"), -ENOSPC);
	add(&second, "in memory");
	assert_starts(&second, "in memory");
	ring_fini(&second);
	/* It grows again once there is room. */
	test_empty_disk(small_fd);
	ring_fini(&ring);
	ring_init(&ring, 1 << 20);
	ck_assert_int_eq(ring_keep(&ring, small_fd, "ring"), 0);
	test_fill_disk(small_fd);
	ring_add(&ring, bytes, sizeof(bytes), SIZE_MAX / 2);
	ck_assert_uint_eq(ring.size, kept);
	test_empty_disk(small_fd);
	ring_add(&ring, bytes, sizeof(bytes), SIZE_MAX / 2);
	ck_assert_uint_eq(ring.start, ring.end - sizeof(bytes) - kept);
	ring_fini(&ring);
}
END_TEST

#define KILL_ROUNDS 60
#define KILL_LIMIT  200000u
/* No multiple of a ring's size: what a place had before is not what it has now. */
#define KILL_PERIOD 65537u

/* The known stream has this period. Copies of it are all that the writer does. */
static uint8_t known[KILL_PERIOD + 2 * KILL_LIMIT];

static void make_known_stream(void)
{
	srandom(1);
	for (size_t i = 0; i < sizeof(known); i++)
		known[i] = i < KILL_PERIOD ? (uint8_t)random() : known[i - KILL_PERIOD];
}

/* Pieces of all lengths up to more than fits. Every other time it grows in small steps, over and
 * over again, and else at once. */
static void add_for_ever(unsigned seed)
{
	bool is_growing = seed % 2;
	struct ring ring;

	ring_init(&ring, KILL_LIMIT);
	EXPECT(ring_keep(&ring, dir_fd, "ring") == 0);
	die_within(5000);
	for (;;) {
		size_t max = rand_r(&seed) % 4 == 0 ? 2 * KILL_LIMIT : KILL_LIMIT / 2;
		size_t len = 1 + (size_t)rand_r(&seed) % max;

		ring_add(&ring, known + ring.end % KILL_PERIOD, len,
			 is_growing ? 7000 : KILL_LIMIT);
		if (is_growing && rand_r(&seed) % 64 == 0) {
			ring_fini(&ring);
			ring_init(&ring, KILL_LIMIT);
			EXPECT(ring_keep(&ring, dir_fd, "ring") == 0);
		}
	}
}

static void assert_known_stream(const struct ring *ring)
{
	for (uint64_t offset = ring->start; offset < ring->end; offset++)
		ck_assert_uint_eq(ring->data[offset % ring->size], known[offset % KILL_PERIOD]);
}

START_TEST(test_a_killed_writer)
{
	size_t with_bytes = 0;

	make_known_stream();
	for (unsigned i = 0; i < KILL_ROUNDS; i++) {
		struct ring ring;

		in_dying_child(add_for_ever, i);
		/* Between the two of a new one there is none. */
		if (ring_load(&ring, KILL_LIMIT, dir_fd, "ring") == -ENOENT)
			continue;
		ck_assert_ptr_nonnull(ring.file);
		ck_assert(!test_dir_has(dir, ".new-ring"));
		assert_known_stream(&ring);
		with_bytes += ring.end > ring.start;
		ring_fini(&ring);
		ck_assert(!test_dir_has(dir, "ring"));
	}
	ck_assert_uint_gt(with_bytes, 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ring");
	TCase *tests = tcase_create("ring"), *kept = tcase_create("kept");

	tcase_add_test(tests, test_chunks);
	tcase_add_test(tests, test_results);
	tcase_add_test(tests, test_no_room);
	tcase_add_test(tests, test_random);
	tcase_set_timeout(kept, 60);
	tcase_add_checked_fixture(kept, setup_dir, teardown_dir);
	tcase_add_test(kept, test_kept);
	tcase_add_test(kept, test_kept_to_its_end);
	tcase_add_test(kept, test_kept_empty);
	tcase_add_test(kept, test_kept_malformed);
	tcase_add_test(kept, test_kept_on_a_full_disk);
	tcase_add_test(kept, test_a_killed_writer);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, kept);
	return suite;
}
