/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as results carry them: what is text, and what had better be base64. */
#include "daemon/session/bytes.h"

#include "daemon/session/output.h"
#include "tests/unit/suite.h"

#include <string.h>

static const struct {
	const char *data;
	size_t len;
	bool wants_base64;
	const char *encoding;
} cases[] = {
	{"", 0, false, "utf-8"},
	{NULL, 0, false, "utf-8"},
	{"text\n\tmore\r\n", 12, false, "utf-8"},
	{"text", 4, true, "base64"},
	{"\xff", 1, false, "base64"},
	{"a\0b", 3, false, "utf-8"},
};

START_TEST(test_encoding)
{
	json_t *object = json_object();

	bytes_to_object(object, cases[_i].data, cases[_i].len, cases[_i].wants_base64);
	ck_assert_str_eq(json_string_value(json_object_get(object, "encoding")),
			 cases[_i].encoding);
	if (strcmp(cases[_i].encoding, "utf-8") == 0)
		ck_assert_uint_eq(json_string_length(json_object_get(object, "data")),
				  cases[_i].len);
	json_decref(object);
}
END_TEST

/* As text each of these bytes takes six: NULs as well as others. */
START_TEST(test_control_characters_are_base64)
{
	static const char controls[] = {'\0', '\1', '\33'};
	char data[4096];

	for (size_t i = 0; i < ELEMENTSOF(controls); i++) {
		json_t *object = json_object();

		memset(data, controls[i], sizeof(data));
		bytes_to_object(object, data, sizeof(data), false);
		ck_assert_str_eq(json_string_value(json_object_get(object, "encoding")), "base64");
		json_decref(object);
	}
}
END_TEST

/* An output that nothing was written to has no buffer. */
START_TEST(test_no_output)
{
	const struct output output = {.limit = 8};
	json_t *result = json_object();

	output_to_result_from(&output, "stdout", 3, true, result);
	ck_assert_str_eq(json_string_value(json_object_get(result, "stdout")), "");
	ck_assert_int_eq(json_integer_value(json_object_get(result, "stdout_offset")), 0);
	json_decref(result);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("bytes");
	TCase *tcase = tcase_create("all");

	tcase_add_loop_test(tcase, test_encoding, 0, (int)ELEMENTSOF(cases));
	tcase_add_test(tcase, test_control_characters_are_base64);
	tcase_add_test(tcase, test_no_output);
	suite_add_tcase(suite, tcase);
	return suite;
}
