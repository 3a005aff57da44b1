/* SPDX-License-Identifier: Apache-2.0 */
/* Output of a run: chunks never split UTF-8, bytes survive, truncation is told. */
#include "daemon/session/output.h"

#include "protocol/base64.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_json.h"
#include "tests/unit/test_small_disk.h"

#include <errno.h>
#include <stdio.h>

/* One, two, three and four bytes a character. */
static const char text[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x8bz";
#define TEXT_LEN (sizeof(text) - 1)

static struct output output;

static void setup(void)
{
	output = (struct output){.limit = 1 << 20};
}

static void teardown(void)
{
	output_fini(&output);
}

static void add(const void *data, size_t len)
{
	ck_assert_int_eq(output_add(&output, data, len), 0);
}

/* Appends what a chunk holds to `bytes`; whole sequences only when it claims to be text. */
static size_t take_chunk(bool is_end, char *bytes)
{
	json_auto_t *chunk = output_next_chunk(&output, is_end);
	const json_t *data = json_object_get(chunk, "data");
	uint8_t *decoded;
	ssize_t len;

	if (!chunk)
		return 0;
	if (!json_object_get(chunk, "encoding")) {
		memcpy(bytes, json_string_value(data), json_string_length(data));
		return json_string_length(data);
	}
	ck_assert_json_str(chunk, "encoding", "base64");
	len = base64_decode(json_string_value(data), json_string_length(data), &decoded);
	ck_assert_int_gt(len, 0);
	memcpy(bytes, decoded, (size_t)len);
	free(decoded);
	return (size_t)len;
}

/* Every pair of cuts of the text: what arrives is text in whole sequences, all of it. */
START_TEST(test_chunks_hold_whole_sequences)
{
	for (size_t first = 0; first <= TEXT_LEN; first++) {
		for (size_t second = first; second <= TEXT_LEN; second++) {
			const size_t cuts[] = {0, first, second, TEXT_LEN};
			char bytes[2 * sizeof(text)];
			size_t len = 0;

			output_fini(&output);
			setup();
			for (size_t i = 0; i < 3; i++) {
				json_t *chunk;

				add(text + cuts[i], cuts[i + 1] - cuts[i]);
				chunk = output_next_chunk(&output, false);
				if (!chunk)
					continue;
				ck_assert_ptr_null(json_object_get(chunk, "encoding"));
				memcpy(bytes + len, json_string_value(json_need(chunk, "data")),
				       json_string_length(json_need(chunk, "data")));
				len += json_string_length(json_need(chunk, "data"));
				json_decref(chunk);
			}
			ck_assert_ptr_null(output_next_chunk(&output, true));
			ck_assert_uint_eq(len, TEXT_LEN);
			ck_assert_mem_eq(bytes, text, TEXT_LEN);
		}
	}
}
END_TEST

START_TEST(test_binary_travels_as_base64)
{
	char bytes[16];

	add("\xff\xfe\0\1", 4);
	ck_assert_uint_eq(take_chunk(false, bytes), 4);
	ck_assert_mem_eq(bytes, "\xff\xfe\0\1", 4);
	ck_assert_ptr_null(output_next_chunk(&output, true));
	/* Text again afterwards. */
	add("ok", 2);
	{
		json_auto_t *chunk = output_next_chunk(&output, false);

		ck_assert_json_str(chunk, "data", "ok");
	}
}
END_TEST

START_TEST(test_end_sends_the_unfinished_sequence)
{
	char bytes[16];

	add("x\xe2\x82", 3);
	ck_assert_uint_eq(take_chunk(false, bytes), 1);
	ck_assert_ptr_null(output_next_chunk(&output, false));
	ck_assert_uint_eq(take_chunk(true, bytes), 2);
	ck_assert_mem_eq(bytes, "\xe2\x82", 2);
}
END_TEST

START_TEST(test_random_bytes_in_random_pieces_arrive)
{
	static char sent[5000], got[5000 + 16];
	size_t at = 0, len = 0;

	srandom((unsigned)_i);
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(random() % 3 ? 'a' + random() % 26 : random());
	while (at < sizeof(sent)) {
		size_t wanted = 1 + (size_t)random() % 9, piece = MIN(wanted, sizeof(sent) - at);

		add(sent + at, piece);
		at += piece;
		len += take_chunk(false, got + len);
		/* Never more than an unfinished sequence is held back. */
		ck_assert_uint_le(at - len, 3);
	}
	len += take_chunk(true, got + len);
	ck_assert_uint_eq(len, sizeof(sent));
	ck_assert_mem_eq(got, sent, sizeof(sent));
}
END_TEST

START_TEST(test_limit_is_exact)
{
	char block[1000] = {0};

	output.limit = 2500;
	add(block, 1000);
	add(block, 1000);
	ck_assert_int_eq(output_add(&output, (uint8_t *)block, 501), -EMSGSIZE);
	ck_assert_uint_eq(output.len, 2000);
	add(block, 500);
	ck_assert_int_eq(output_add(&output, (uint8_t *)block, 1), -EMSGSIZE);
	add(block, 0);
	output.limit = 0;
	output_fini(&output);
	ck_assert_int_eq(output_add(&output, (uint8_t *)block, 1), -EMSGSIZE);
}
END_TEST

static json_t *result_with(uint64_t total)
{
	json_t *result = json_object();

	output_to_result(&output, "stdout", total, result);
	return result;
}

START_TEST(test_result_of_text)
{
	json_auto_t *empty = result_with(0);
	json_t *full;

	ck_assert_json_str(empty, "stdout", "");
	ck_assert_json_int(empty, "stdout_bytes", 0);
	ck_assert(json_is_false(json_need(empty, "stdout_truncated")));
	ck_assert_ptr_null(json_object_get(empty, "stdout_encoding"));
	add(text, TEXT_LEN);
	full = result_with(TEXT_LEN);
	ck_assert_json_str(full, "stdout", text);
	ck_assert_json_int(full, "stdout_bytes", TEXT_LEN);
	ck_assert(json_is_false(json_need(full, "stdout_truncated")));
	json_decref(full);
}
END_TEST

START_TEST(test_result_keeps_nul_and_binary)
{
	json_auto_t *with_nul = NULL, *binary = NULL;

	add("a\0b", 3);
	with_nul = result_with(3);
	ck_assert_uint_eq(json_string_length(json_need(with_nul, "stdout")), 3);
	add("\xff", 1);
	binary = result_with(4);
	ck_assert_json_str(binary, "stdout_encoding", "base64");
	ck_assert_json_str(binary, "stdout", "YQBi/w==");
	ck_assert_json_int(binary, "stdout_bytes", 4);
}
END_TEST

/* Cut by the limit in the middle of a character it stays text; ended there by itself it is not. */
START_TEST(test_truncation_in_a_sequence_stays_text)
{
	json_auto_t *cut = NULL, *whole = NULL, *nothing = NULL;

	add("x\xe2\x82", 3);
	cut = result_with(1000);
	ck_assert_json_str(cut, "stdout", "x");
	ck_assert(json_is_true(json_need(cut, "stdout_truncated")));
	ck_assert_json_int(cut, "stdout_bytes", 1000);
	ck_assert_ptr_null(json_object_get(cut, "stdout_encoding"));
	whole = result_with(3);
	ck_assert_json_str(whole, "stdout_encoding", "base64");
	output_fini(&output);
	output.limit = 0;
	nothing = result_with(7);
	ck_assert_json_str(nothing, "stdout", "");
	ck_assert(json_is_true(json_need(nothing, "stdout_truncated")));
}
END_TEST

/* Without a receipt, or with one that lies, the bytes that are there are counted. */
START_TEST(test_bytes_are_never_less_than_what_is_there)
{
	json_auto_t *result = NULL;

	add("abc", 3);
	result = result_with(0);
	ck_assert_json_int(result, "stdout_bytes", 3);
	ck_assert(json_is_false(json_need(result, "stdout_truncated")));
}
END_TEST

/* What a result says can be turned into its bytes again. */
START_TEST(test_bytes_from_a_result)
{
	static const struct {
		const char *data;
		size_t len, total;
	} cases[] = {{"", 0, 0},       {"abc", 3, 3},       {"a\0b", 3, 3},
		     {"\xff\0", 2, 2}, {"x\xe2\x82", 3, 3}, {"\xff", 1, 1000}};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct output again = {0};
		json_auto_t *result = NULL;

		add(cases[i].data, cases[i].len);
		result = result_with(cases[i].total);
		ck_assert_int_eq(output_from_result(&again, "stdout", result), 0);
		ck_assert_uint_eq(again.len, cases[i].len);
		ck_assert_mem_eq(again.data, cases[i].data, cases[i].len);
		output_fini(&again);
		output_fini(&output);
		setup();
	}
}
END_TEST

START_TEST(test_no_bytes_in_a_result)
{
	static const char *const bad[] = {"{}",
					  "[]",
					  "{\"stdout\": 1}",
					  "{\"stdout\": \"x\", \"stdout_encoding\": \"base64\"}",
					  "{\"stdout\": \"\", \"stdout_encoding\": null}",
					  "{\"stdout\": \"\", \"stdout_encoding\": \"hex\"}"};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		json_auto_t *result = json_of(bad[i]);

		ck_assert_int_eq(output_from_result(&output, "stdout", result), -EINVAL);
		ck_assert_uint_eq(output.len, 0);
	}
}
END_TEST

/* --- The spool. --- */

static char dir[TEST_DIR_SIZE];
static int dir_fd;

static void setup_dir(void)
{
	setup();
	test_dir_make(dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
}

static void teardown_dir(void)
{
	teardown();
	close(dir_fd);
	test_dir_remove(dir);
}

static void assert_file(int in_fd, const char *name, const char *wanted)
{
	_cleanup_free_ char *data = NULL;

	ck_assert_int_eq(read_file_at(in_fd, name, 1 << 20, &data), strlen(wanted));
	ck_assert_str_eq(data, wanted);
}

START_TEST(test_spool)
{
	struct output loaded = {.limit = 6};

	test_dir_write(dir, "out", "old", 3);
	ck_assert_int_eq(output_spool_to(&output, dir_fd, "out"), 0);
	assert_file(dir_fd, "out", "");
	add("abc", 3);
	assert_file(dir_fd, "out", "abc");
	/* The next daemon's; this one was killed. */
	test_dir_write(dir, "left", "abc", 3);
	ck_assert_int_eq(output_spool_load(&loaded, dir_fd, "left"), 0);
	ck_assert_uint_eq(loaded.len, 3);
	ck_assert_mem_eq(loaded.data, "abc", 3);
	ck_assert_int_eq(output_add(&loaded, (const uint8_t *)"def", 3), 0);
	assert_file(dir_fd, "left", "abcdef");
	ck_assert_int_eq(output_add(&loaded, (const uint8_t *)"g", 1), -EMSGSIZE);
	assert_file(dir_fd, "left", "abcdef");
	output_spool_end(&loaded);
	ck_assert(!test_dir_has(dir, "left"));
	ck_assert_uint_eq(loaded.len, 6);
	output_fini(&loaded);
	output_fini(&output);
	ck_assert(!test_dir_has(dir, "out"));
}
END_TEST

/* Of one without a byte, too: without it the next daemon could not know that there was none. */
START_TEST(test_spool_is_not_trimmed)
{
	ck_assert_int_eq(output_spool_to(&output, dir_fd, "out"), 0);
	output_trim(&output);
	assert_file(dir_fd, "out", "");
	add("abc", 3);
	output_trim(&output);
	assert_file(dir_fd, "out", "abc");
	output_fini(&output);
	ck_assert(!test_dir_has(dir, "out"));
}
END_TEST

/* The directory's descriptor is its own: whose it was may be gone. */
START_TEST(test_spool_outlives_its_owner)
{
	int other_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_eq(output_spool_to(&output, other_fd, "out"), 0);
	close(other_fd);
	other_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	add("abc", 3);
	output_fini(&output);
	ck_assert(!test_dir_has(dir, "out"));
	close(other_fd);
}
END_TEST

START_TEST(test_spools_share_their_directory)
{
	struct output err = {.limit = 6};
	int before = test_open_fds();

	ck_assert_int_eq(output_spool_to(&output, dir_fd, "out"), 0);
	ck_assert_int_eq(output_spool_to(&err, dir_fd, "err"), 0);
	ck_assert_int_eq(test_open_fds(), before + 3);
	output_fini(&err);
	ck_assert_int_eq(test_open_fds(), before + 2);
	output_fini(&output);
	ck_assert_int_eq(test_open_fds(), before);
}
END_TEST

START_TEST(test_spool_that_is_none)
{
	int before = test_open_fds();

	output.limit = 2;
	test_dir_write(dir, "large", "abc", 3);
	ck_assert_int_eq(symlinkat("large", dir_fd, "link"), 0);
	ck_assert_int_eq(mkfifoat(dir_fd, "fifo", 0600), 0);
	ck_assert_int_eq(output_spool_load(&output, dir_fd, "large"), -EMSGSIZE);
	ck_assert_int_eq(output_spool_load(&output, dir_fd, "link"), -ELOOP);
	ck_assert_int_eq(output_spool_load(&output, dir_fd, "fifo"), -EINVAL);
	ck_assert_int_eq(output_spool_load(&output, dir_fd, "nowhere"), -ENOENT);
	ck_assert_int_eq(output_spool_load(&output, dir_fd, "../x"), -EINVAL);
	ck_assert_int_eq(output_spool_to(&output, dir_fd, "../x"), -EINVAL);
	ck_assert_ptr_null(output.spool);
	ck_assert_uint_eq(output.len, 0);
	ck_assert_int_eq(test_open_fds(), before);
}
END_TEST

/* It goes on without, and no file with a gap is left. */
START_TEST(test_spool_on_a_full_disk)
{
	_cleanup_close_ int small_fd = test_small_disk(dir, "size=64k,mode=700");
	static char bytes[10000];
	struct stat st;

	ck_assert_int_eq(output_spool_to(&output, small_fd, "out"), 0);
	add("abc", 3);
	test_fill_disk(small_fd);
	add(bytes, sizeof(bytes));
	ck_assert_ptr_null(output.spool);
	ck_assert_int_eq(fstatat(small_fd, "out", &st, 0), -1);
	test_empty_disk(small_fd);
	add("def", 3);
	ck_assert_uint_eq(output.len, sizeof(bytes) + 6);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("output");
	TCase *tests = tcase_create("output"), *spool = tcase_create("spool");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_chunks_hold_whole_sequences);
	tcase_add_test(tests, test_binary_travels_as_base64);
	tcase_add_test(tests, test_end_sends_the_unfinished_sequence);
	tcase_add_loop_test(tests, test_random_bytes_in_random_pieces_arrive, 1, 9);
	tcase_add_test(tests, test_limit_is_exact);
	tcase_add_test(tests, test_result_of_text);
	tcase_add_test(tests, test_result_keeps_nul_and_binary);
	tcase_add_test(tests, test_truncation_in_a_sequence_stays_text);
	tcase_add_test(tests, test_bytes_are_never_less_than_what_is_there);
	tcase_add_test(tests, test_bytes_from_a_result);
	tcase_add_test(tests, test_no_bytes_in_a_result);
	tcase_set_timeout(spool, 60);
	tcase_add_checked_fixture(spool, setup_dir, teardown_dir);
	tcase_add_test(spool, test_spool);
	tcase_add_test(spool, test_spool_is_not_trimmed);
	tcase_add_test(spool, test_spool_outlives_its_owner);
	tcase_add_test(spool, test_spools_share_their_directory);
	tcase_add_test(spool, test_spool_that_is_none);
	tcase_add_test(spool, test_spool_on_a_full_disk);
	suite_add_tcase(suite, tests);
	suite_add_tcase(suite, spool);
	return suite;
}
