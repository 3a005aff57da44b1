/* SPDX-License-Identifier: Apache-2.0 */
/* The method table and its validation: every type, every refusal with its field. */
#include "protocol/method.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_json.h"

static const char *const colours[] = {"red", "green", NULL};
static const struct param inner[] = {
	{.name = "depth",
	 .type = PARAM_INTEGER,
	 .is_required = true,
	 .min = -5,
	 .max = 5,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "h"},
	{.name = "word", .type = PARAM_STRING, .help = "h"},
	{.name = NULL},
};
static const struct param params[] = {
	{.name = "text", .type = PARAM_STRING, .max = 4, .help = "h"},
	{.name = "integer", .type = PARAM_INTEGER, .min = 1, .max = 9, .help = "h"},
	{.name = "number", .type = PARAM_NUMBER, .min = 0.5, .max = 1.5, .help = "h"},
	{.name = "boolean", .type = PARAM_BOOLEAN, .help = "h"},
	{.name = "strings", .type = PARAM_STRINGS, .min = 1, .max = 2, .help = "h"},
	{.name = "map", .type = PARAM_STRING_MAP, .max = 2, .help = "h"},
	{.name = "object", .type = PARAM_OBJECT, .fields = inner, .help = "h"},
	{.name = "colour",
	 .type = PARAM_STRING,
	 .choices = colours,
	 .violation = RPC_LANGUAGE_UNKNOWN,
	 .help = "h"},
	{.name = NULL},
};
static const struct param demanding[] = {
	{.name = "must", .type = PARAM_STRING, .is_required = true, .help = "h"},
	{.name = NULL},
};
static const struct method methods[] = {
	{"test", "h", ACCESS_ANY, params, "r"},
	{"strict", "h", ACCESS_ANY, demanding, "r"},
	{"session.open", "h", ACCESS_ANY, demanding, "r"},
	{.name = NULL},
};

static void assert_good(json_t *given_take)
{
	struct rpc_error *error = method_validate(&methods[0], given_take);

	ck_assert_msg(!error, "%s", error ? error->message : "");
	json_decref(given_take);
}

/* The error's data in a new reference. */
static json_t *assert_bad(json_t *given_take, int code, const char *field)
{
	struct rpc_error *error = method_validate(&methods[0], given_take);
	json_t *data;

	ck_assert_ptr_nonnull(error);
	ck_assert_int_eq(error->code, code);
	ck_assert_json_str(error->data, "field", field);
	ck_assert_ptr_nonnull(strstr(json_string_value(json_need(error->data, "hint")), "test"));
	data = json_incref(error->data);
	rpc_error_free(error);
	json_decref(given_take);
	return data;
}

static void assert_invalid(json_t *given_take, const char *field)
{
	json_decref(assert_bad(given_take, RPC_INVALID_PARAMS, field));
}

START_TEST(test_each_type_takes_its_own_and_no_other)
{
	static const struct {
		const char *name, *right;
		unsigned takes; /* a bit per entry of `values` */
	} cases[] = {
		{"text", "\"abc\"", 1 << 0},        {"integer", "5", 1 << 1},
		{"number", "1.0", 1 << 1 | 1 << 2}, {"boolean", "true", 1 << 3},
		{"strings", "[\"a\"]", 1 << 4},     {"map", "{\"a\": \"b\"}", 1 << 5},
		{"object", "{\"depth\": 1}", 0},
	};
	static const char *const values[] = {"\"a\"",          "1",   "1.5", "true", "[\"a\"]",
					     "{\"a\": \"b\"}", "null"};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		assert_good(json_pack("{s:o}", cases[i].name, json_of(cases[i].right)));
		for (size_t k = 0; k < ELEMENTSOF(values); k++) {
			json_t *given = json_pack("{s:o}", cases[i].name, json_of(values[k]));

			if (cases[i].takes & 1u << k)
				assert_good(given);
			else if (strcmp(cases[i].name, "object") == 0 && k == 5)
				assert_invalid(given, "object.a");
			else
				assert_invalid(given, cases[i].name);
		}
	}
	assert_good(NULL);
	assert_good(JSON({}));
}
END_TEST

START_TEST(test_bounds)
{
	json_t *data;

	assert_good(JSON({"text" : "abcd", "integer" : 9, "number" : 0.5}));
	assert_good(JSON({"text" : "", "integer" : 1, "number" : 1.5}));
	assert_invalid(JSON({"text" : "abcde"}), "text");
	assert_invalid(JSON({"text" : "\u00e4\u00e4\u00e4"}), "text"); /* bytes, not characters */
	data = assert_bad(JSON({"integer" : 0}), RPC_INVALID_PARAMS, "integer");
	ck_assert_double_eq(json_number_value(json_need(data, "min")), 1);
	ck_assert_double_eq(json_number_value(json_need(data, "max")), 9);
	json_decref(data);
	assert_invalid(JSON({"integer" : 10}), "integer");
	assert_invalid(JSON({"integer" : 9223372036854775807}), "integer");
	assert_invalid(JSON({"number" : 0.49}), "number");
	assert_invalid(JSON({"number" : 1e300}), "number");
	assert_invalid(JSON({"strings" : []}), "strings");
	assert_invalid(JSON({"strings" : [ "a", "b", "c" ]}), "strings");
	assert_invalid(JSON({"map" : {"a" : "", "b" : "", "c" : ""}}), "map");
	assert_good(JSON({"map" : {}}));
}
END_TEST

START_TEST(test_elements_are_strings)
{
	assert_invalid(JSON({"strings" : [ "a", 1 ]}), "strings");
	assert_invalid(JSON({"strings" : [null]}), "strings");
	assert_invalid(JSON({"map" : {"a" : 1}}), "map");
}
END_TEST

START_TEST(test_nested_fields_are_named_in_full)
{
	assert_good(JSON({"object" : {"depth" : -5, "word" : "x"}}));
	assert_invalid(JSON({"object" : {}}), "object.depth");
	assert_invalid(JSON({"object" : {"depth" : "1"}}), "object.depth");
	assert_invalid(JSON({"object" : {"depth" : 1, "other" : 1}}), "object.other");
	json_decref(
		assert_bad(JSON({"object" : {"depth" : 6}}), RPC_LIMIT_INVALID, "object.depth"));
}
END_TEST

START_TEST(test_choices_name_what_is_known)
{
	json_t *data = assert_bad(JSON({"colour" : "blue"}), RPC_LANGUAGE_UNKNOWN, "colour");
	json_t *known = json_need(data, "known");

	ck_assert_uint_eq(json_array_size(known), 2);
	ck_assert_str_eq(json_string_value(json_array_get(known, 1)), "green");
	json_decref(data);
	assert_good(JSON({"colour" : "red"}));
	json_decref(assert_bad(JSON({"colour" : "red\u0000"}), RPC_LANGUAGE_UNKNOWN, "colour"));
}
END_TEST

START_TEST(test_unknown_and_missing)
{
	struct rpc_error *error = method_validate(&methods[1], NULL);
	char name[1000];

	ck_assert_int_eq(error->code, RPC_INVALID_PARAMS);
	ck_assert_json_str(error->data, "field", "must");
	rpc_error_free(error);
	assert_invalid(JSON({"txet" : "a"}), "txet");
	assert_invalid(JSON({"" : 1}), "");
	/* A name of any length is refused, not repeated at any length. */
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	{
		json_auto_t *given = json_pack("{s:i}", name, 1);

		error = method_validate(&methods[0], given);
		ck_assert_int_eq(error->code, RPC_INVALID_PARAMS);
		ck_assert_uint_lt(strlen(error->message), 300);
		rpc_error_free(error);
	}
}
END_TEST

START_TEST(test_find)
{
	ck_assert_ptr_eq(method_find_in(methods, "sandbox.open"), &methods[2]);
	ck_assert_ptr_eq(method_find_in(methods, "session.open"), &methods[2]);
	ck_assert_ptr_null(method_find_in(methods, "sandbox.test"));
	ck_assert_ptr_null(method_find_in(methods, "tes"));
	ck_assert_ptr_null(method_find_in(methods, ""));
	ck_assert_ptr_null(method_find_in(
		methods, "sandbox.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
			 "aaaaaaaaaaaaaaaa"));
	ck_assert_ptr_nonnull(method_find("run"));
}
END_TEST

/* --- The table itself. --- */

static void check_param(const struct param *param, const char *method)
{
	json_auto_t *schema = param_schema(param);

	ck_assert_msg(param->help && *param->help, "%s of %s has no help", param->name, method);
	ck_assert_msg(!strchr(param->help, '\n'), "%s of %s", param->name, method);
	ck_assert_ptr_nonnull(schema);
	ck_assert_json_str(schema, "type", param_type_name(param->type));
	ck_assert_json_str(schema, "description", param->help);
	ck_assert(param->max >= param->min);
	if (param->choices)
		ck_assert_ptr_nonnull(param->choices[0]);
	if (param->type != PARAM_OBJECT)
		return;
	ck_assert_ptr_nonnull(param->fields);
	ck_assert(json_is_false(json_need(schema, "additionalProperties")));
	for (const struct param *field = param->fields; field->name; field++) {
		json_need(json_need(schema, "properties"), field->name);
		check_param(field, method);
	}
}

START_TEST(test_every_method_is_described)
{
	const char *previous = "";

	for (const struct method *method = method_table; method->name; method++) {
		ck_assert_msg(strcmp(previous, method->name) < 0, "%s is not in order",
			      method->name);
		previous = method->name;
		ck_assert_msg(method->help && *method->help && !strchr(method->help, '\n'), "%s",
			      method->name);
		ck_assert_msg(method->result && *method->result, "%s", method->name);
		ck_assert_ptr_nonnull(method->params);
		ck_assert_ptr_eq(method_find(method->name), method);
		for (const struct param *param = method->params; param->name; param++) {
			check_param(param, method->name);
			for (const struct param *other = method->params; other != param; other++)
				ck_assert_str_ne(param->name, other->name);
		}
	}
}
END_TEST

START_TEST(test_schema_says_what_is_checked)
{
	json_auto_t *integer = param_schema(&params[1]), *number = param_schema(&params[2]),
		    *strings = param_schema(&params[4]), *map = param_schema(&params[5]),
		    *object = param_schema(&params[6]), *colour = param_schema(&params[7]),
		    *text = param_schema(&params[0]);

	ck_assert_json_int(integer, "minimum", 1);
	ck_assert_json_int(integer, "maximum", 9);
	ck_assert_double_eq(json_real_value(json_need(number, "maximum")), 1.5);
	ck_assert_json_int(strings, "minItems", 1);
	ck_assert_json_int(strings, "maxItems", 2);
	ck_assert_json_str(json_need(strings, "items"), "type", "string");
	ck_assert_json_int(map, "maxProperties", 2);
	ck_assert_json_str(json_need(map, "additionalProperties"), "type", "string");
	ck_assert_str_eq(json_string_value(json_array_get(json_need(object, "required"), 0)),
			 "depth");
	ck_assert_uint_eq(json_array_size(json_need(colour, "enum")), 2);
	ck_assert_json_int(text, "maxLength", 4);
	ck_assert_ptr_null(json_object_get(text, "minLength"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("method");
	TCase *tests = tcase_create("method");

	tcase_add_test(tests, test_each_type_takes_its_own_and_no_other);
	tcase_add_test(tests, test_bounds);
	tcase_add_test(tests, test_elements_are_strings);
	tcase_add_test(tests, test_nested_fields_are_named_in_full);
	tcase_add_test(tests, test_choices_name_what_is_known);
	tcase_add_test(tests, test_unknown_and_missing);
	tcase_add_test(tests, test_find);
	tcase_add_test(tests, test_every_method_is_described);
	tcase_add_test(tests, test_schema_says_what_is_checked);
	suite_add_tcase(suite, tests);
	return suite;
}
