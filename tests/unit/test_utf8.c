/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8: every code point accepted, everything else refused, chunks cut between sequences. */
#include "protocol/utf8.h"

#include "tests/unit/suite.h"

#include <stdint.h>
#include <string.h>

/* An encoder that knows no exceptions: surrogates and overlong forms (by `len`) included. */
static size_t put(uint32_t code, size_t len, uint8_t out[4])
{
	static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};

	for (size_t i = len; i > 1; i--) {
		out[i - 1] = (uint8_t)(0x80 | (code & 0x3f));
		code >>= 6;
	}
	out[0] = (uint8_t)(marks[len] | code);
	return len;
}

static size_t shortest(uint32_t code)
{
	return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}

START_TEST(test_every_code_point)
{
	uint8_t bytes[4];

	for (uint32_t code = 0; code < 0x1fffff; code++) {
		bool is_character = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);

		for (size_t len = shortest(code); len <= 4; len++) {
			bool is_good = is_character && len == shortest(code);

			put(code, len, bytes);
			if (utf8_is_valid(bytes, len) != is_good)
				ck_abort_msg("U+%X in %zu bytes", code, len);
		}
	}
}
END_TEST

/* Counts are known, so this finds a wrong answer in either direction without a second decoder. */
START_TEST(test_all_short_strings)
{
	const size_t one = 128, two = 1920, three = 0x10000 - 0x800 - 0x800;
	size_t valid2 = 0, valid3 = 0;

	for (uint32_t i = 0; i < 1 << 16; i++)
		valid2 += utf8_is_valid((uint8_t[]){i >> 8, i & 255}, 2);
	ck_assert_uint_eq(valid2, one * one + two);
	for (uint32_t i = 0; i < 1 << 24; i++)
		valid3 += utf8_is_valid((uint8_t[]){i >> 16, (i >> 8) & 255, i & 255}, 3);
	ck_assert_uint_eq(valid3, one * one * one + 2 * one * two + three);
}
END_TEST

START_TEST(test_long_text_with_one_bad_byte)
{
	uint8_t text[100];

	memset(text, 'a', sizeof(text));
	ck_assert(utf8_is_valid(text, sizeof(text)));
	for (size_t i = 0; i < sizeof(text); i++) {
		text[i] = 0xff;
		ck_assert(!utf8_is_valid(text, sizeof(text)));
		text[i] = 'a';
	}
	ck_assert(utf8_is_valid("", 0));
	ck_assert(utf8_is_valid("a\0b", 3));
}
END_TEST

START_TEST(test_cut_is_the_last_boundary)
{
	static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7z\xf0\x90\x80\x80";
	static const size_t boundaries[] = {0, 1, 3, 6, 10, 11, 15};
	size_t at = 0;

	for (size_t len = 0; len < sizeof(text); len++) {
		while (at + 1 < sizeof(boundaries) / sizeof(boundaries[0]) &&
		       boundaries[at + 1] <= len)
			at++;
		ck_assert_uint_eq(utf8_cut(text, len), boundaries[at]);
	}
}
END_TEST

START_TEST(test_invalid_is_not_incomplete)
{
	static const struct {
		const char *bytes;
		size_t len, cut;
	} cases[] = {
		{"x\xff", 2, 2},        {"x\xc0", 2, 2},
		{"x\xe0\x80", 3, 3},    {"x\xed\xa0", 3, 3},
		{"x\xf4\x90", 3, 3},    {"x\xf5", 2, 2},
		{"\x80\x80\x80", 3, 3}, {"\xe2\x28", 2, 2},
		{"\xf0\x9f\x90", 3, 0}, {"\xf0\x9f\x28\xc3", 4, 3},
		{"\x80\xc3", 2, 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_uint_eq(utf8_cut(cases[i].bytes, cases[i].len), cases[i].cut);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("utf8");
	TCase *tcase = tcase_create("utf8");

	tcase_set_timeout(tcase, 120); /* 16 million strings, under valgrind too */
	tcase_add_test(tcase, test_every_code_point);
	tcase_add_test(tcase, test_all_short_strings);
	tcase_add_test(tcase, test_long_text_with_one_bad_byte);
	tcase_add_test(tcase, test_cut_is_the_last_boundary);
	tcase_add_test(tcase, test_invalid_is_not_incomplete);
	suite_add_tcase(suite, tcase);
	return suite;
}
