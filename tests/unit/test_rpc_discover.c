/* SPDX-License-Identifier: Apache-2.0 */
/* rpc.discover and rpc.version: the OpenRPC document says what the table says. */
#include "daemon/rpc/discover.h"

#include "tests/unit/test_rpc_fixture.h"

/* What the OpenRPC 1.3.2 specification asks of a method object. */
static void check_method(const json_t *described, const struct method *method)
{
	const json_t *params = json_object_get(described, "params"), *param;
	const json_t *result = json_object_get(described, "result");
	bool was_optional = false;
	size_t i, wanted = 0;

	ck_assert_str_eq(json_string_value(json_object_get(described, "name")), method->name);
	ck_assert_str_eq(json_string_value(json_object_get(described, "paramStructure")),
			 "by-name");
	ck_assert(json_is_string(json_object_get(result, "name")));
	ck_assert(json_is_object(json_object_get(result, "schema")));
	while (method->params[wanted].name)
		wanted++;
	ck_assert_uint_eq(json_array_size(params), wanted);
	json_array_foreach (params, i, param) {
		const bool is_required = json_is_true(json_object_get(param, "required"));

		ck_assert(json_is_string(json_object_get(param, "name")));
		ck_assert(
			json_is_string(json_object_get(json_object_get(param, "schema"), "type")));
		ck_assert_msg(!(was_optional && is_required), "%s: required after optional",
			      method->name);
		was_optional = !is_required;
	}
}

static void check_document(const struct method *methods)
{
	json_auto_t *document = discover_document(methods, "9.8.7");
	const json_t *info = json_object_get(document, "info"), *errors, *error;
	const json_t *list = json_object_get(document, "methods");
	const char *name, *help;
	size_t count = 0;
	int code;

	ck_assert_ptr_nonnull(document);
	ck_assert_str_eq(json_string_value(json_object_get(document, "openrpc")), "1.3.2");
	ck_assert_str_eq(json_string_value(json_object_get(info, "version")), "9.8.7");
	ck_assert_str_eq(json_string_value(json_object_get(info, "title")), "execsandbox");
	for (; methods[count].name; count++)
		check_method(json_array_get(list, count), &methods[count]);
	ck_assert_uint_eq(json_array_size(list), count);
	errors = json_object_get(json_object_get(document, "components"), "errors");
	for (size_t i = 0; rpc_code_at(i, &code, &name, &help); i++) {
		error = json_object_get(errors, name);
		ck_assert_int_eq(json_integer_value(json_object_get(error, "code")), code);
		ck_assert_str_eq(json_string_value(json_object_get(error, "message")), help);
	}
	ck_assert_uint_gt(json_object_size(errors), 10);
}

START_TEST(test_document_of_the_production_table)
{
	check_document(method_table);
}
END_TEST

START_TEST(test_document_of_the_test_table)
{
	check_document(fx_methods);
}
END_TEST

START_TEST(test_discover_over_the_wire)
{
	struct line_client client;
	json_auto_t *document = discover_document(fx_methods, EXECSANDBOX_VERSION);

	fx_setup();
	client = fx_client();
	for (int i = 0; i < 3; i++) {
		json_t *message;

		fx_send(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.discover\"}");
		message = fx_receive(&client);
		ck_assert(json_equal(json_object_get(message, "result"), document));
		json_decref(message);
	}
	fx_send(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.version\"}");
	fx_expect(&client,
		  "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"version\":\"" EXECSANDBOX_VERSION
		  "\",\"jsonrpc\":\"2.0\"}}");
	line_client_close(&client);
	fx_teardown();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("rpc_discover");
	TCase *tcase = tcase_create("discover");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_document_of_the_production_table);
	tcase_add_test(tcase, test_document_of_the_test_table);
	tcase_add_test(tcase, test_discover_over_the_wire);
	suite_add_tcase(suite, tcase);
	return suite;
}
