/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in tests: values written as they look, and looked at by path. */
#ifndef TESTS_UNIT_TEST_JSON_H
#define TESTS_UNIT_TEST_JSON_H

#include <check.h>
#include <jansson.h>
#include <string.h>

/* JSON({"a": [1, true]}): a new reference; what does not parse fails the test. */
#define JSON(...) json_of(#__VA_ARGS__)

static inline json_t *json_of(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);

	ck_assert_msg(value, "'%s': %s", text, error.text);
	return value;
}

/* A member of an object; a missing one fails the test. */
static inline json_t *json_need(const json_t *object, const char *key)
{
	json_t *value = json_object_get(object, key);

	ck_assert_msg(value, "There is no member '%s'", key);
	return value;
}

#define ck_assert_json_str(object, key, text) \
	ck_assert_pstr_eq(json_string_value(json_need(object, key)), text)
#define ck_assert_json_int(object, key, number) \
	ck_assert_int_eq(json_integer_value(json_need(object, key)), number)

#endif
