/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenRPC document of the API, made from the table that validates calls. */
#include "daemon/rpc/discover.h"

#include "protocol/rpc_error.h"

static const char *access_name(enum method_access access)
{
	switch (access) {
	case ACCESS_ANY:
		return "any";
	case ACCESS_OWNER:
		return "owner";
	case ACCESS_ADMIN:
		return "admin";
	}
	return "none";
}

/* A content descriptor. */
static json_t *describe_param(const struct param *param)
{
	return json_pack("{s:s, s:s, s:b, s:o}", "name", param->name, "summary", param->help,
			 "required", param->is_required, "schema", param_schema(param));
}

/* A method object. OpenRPC wants required parameters first. */
static json_t *describe_method(const struct method *method)
{
	json_t *params = json_array();

	for (int is_required = 1; is_required >= 0; is_required--) {
		for (const struct param *param = method->params; param->name; param++) {
			if (param->is_required != is_required)
				continue;
			if (json_array_append_new(params, describe_param(param)) < 0) {
				json_decref(params);
				return NULL;
			}
		}
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:{s:s, s:s, s:{}}}", "name", method->name,
			 "summary", method->help, "x-access", access_name(method->access),
			 "paramStructure", "by-name", "params", params, "result", "name", "result",
			 "summary", method->result, "schema");
}

static json_t *describe_errors(void)
{
	json_t *errors = json_object();
	const char *name, *help;
	int code;

	for (size_t i = 0; rpc_code_at(i, &code, &name, &help); i++) {
		json_t *error =
			json_pack("{s:i, s:s, s:{s:s, s:b}}", "code", code, "message", help, "data",
				  "name", name, "retryable", rpc_code_is_retryable(code));

		if (json_object_set_new(errors, name, error) < 0) {
			json_decref(errors);
			return NULL;
		}
	}
	return errors;
}

static json_t *describe_methods(const struct method *methods)
{
	json_t *list = json_array();

	for (const struct method *method = methods; method->name; method++) {
		if (json_array_append_new(list, describe_method(method)) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

json_t *discover_document(const struct method *methods, const char *version)
{
	return json_pack(
		"{s:s, s:{s:s, s:s, s:s, s:{s:s}}, s:o, s:{s:o}}", "openrpc", OPENRPC_VERSION,
		"info", "title", "execsandbox", "version", version, "description",
		"Runs untrusted code in microVMs. One JSON value per line over a Unix socket; "
		"sandbox.* is accepted for every session.*; any call may be answered with an error "
		"of components.errors.",
		"license", "name", "Apache-2.0", "methods", describe_methods(methods), "components",
		"errors", describe_errors());
}
