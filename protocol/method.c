/* SPDX-License-Identifier: Apache-2.0 */
/* Validation of parameters against the method table, and their JSON Schema. */
#include "protocol/method.h"

#include <stdio.h>
#include <string.h>

/* Long enough for "limits.memory_mb" and its like; a longer dotted name is cut. */
#define FIELD_NAME_MAX 128

const struct method *method_find_in(const struct method *table, const char *name)
{
	char canonical[64];

	if (strncmp(name, "sandbox.", 8) == 0) {
		int len = snprintf(canonical, sizeof(canonical), "session.%s", name + 8);

		if (len < 0 || (size_t)len >= sizeof(canonical))
			return NULL;
		name = canonical;
	}
	for (const struct method *method = table; method->name; method++)
		if (strcmp(method->name, name) == 0)
			return method;
	return NULL;
}

const struct method *method_find(const char *name)
{
	return method_find_in(method_table, name);
}

const char *param_type_name(enum param_type type)
{
	switch (type) {
	case PARAM_STRING:
		return "string";
	case PARAM_INTEGER:
		return "integer";
	case PARAM_NUMBER:
		return "number";
	case PARAM_BOOLEAN:
		return "boolean";
	case PARAM_STRINGS:
	case PARAM_OBJECTS:
		return "array";
	case PARAM_STRING_MAP:
	case PARAM_OBJECT:
		return "object";
	}
	return "any";
}

static bool has_type(enum param_type type, const json_t *value)
{
	switch (type) {
	case PARAM_STRING:
		return json_is_string(value);
	case PARAM_INTEGER:
		return json_is_integer(value);
	case PARAM_NUMBER:
		return json_is_number(value);
	case PARAM_BOOLEAN:
		return json_is_boolean(value);
	case PARAM_STRINGS:
	case PARAM_OBJECTS:
		return json_is_array(value);
	case PARAM_STRING_MAP:
	case PARAM_OBJECT:
		return json_is_object(value);
	}
	return false;
}

static const char *type_of(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "object";
	case JSON_ARRAY:
		return "array";
	case JSON_STRING:
		return "string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "boolean";
	case JSON_NULL:
		return "null";
	}
	return "nothing";
}

static struct rpc_error *invalid(const char *field, struct rpc_error *error)
{
	return rpc_error_set(error, "field", json_string(field));
}

static enum rpc_code violation_of(const struct param *param)
{
	return param->violation ? param->violation : RPC_INVALID_PARAMS;
}

/* What min and max measure of a value, and the word for it. */
static double measure(const struct param *param, const json_t *value, const char **ret_unit)
{
	switch (param->type) {
	case PARAM_INTEGER:
	case PARAM_NUMBER:
		*ret_unit = "";
		return json_number_value(value);
	case PARAM_STRING:
		*ret_unit = " bytes";
		return (double)json_string_length(value);
	case PARAM_STRINGS:
	case PARAM_OBJECTS:
	case PARAM_STRING_MAP:
		*ret_unit = " elements";
		return (double)MAX(json_array_size(value), json_object_size(value));
	case PARAM_BOOLEAN:
	case PARAM_OBJECT:
		break;
	}
	*ret_unit = "";
	return 0;
}

static struct rpc_error *check_bounds(const struct param *param, const char *field,
				      const json_t *value)
{
	const char *unit;
	double size = measure(param, value, &unit);
	struct rpc_error *error;

	if (param->min == 0 && param->max == 0)
		return NULL;
	if (size >= param->min && (size <= param->max || param->max == 0))
		return NULL;
	error = invalid(field, rpc_error_new(violation_of(param),
					     "Parameter '%s' is %g%s, outside %g to %g%s", field,
					     size, unit, param->min, param->max, unit));
	rpc_error_set(error, "min", json_real(param->min));
	return rpc_error_set(error, "max", json_real(param->max));
}

static struct rpc_error *check_choice(const struct param *param, const char *field,
				      const json_t *value)
{
	json_t *known;
	struct rpc_error *error;

	if (!param->choices)
		return NULL;
	/* The length tells a choice from one with a NUL and more behind it. */
	for (const char *const *choice = param->choices; *choice; choice++)
		if (strcmp(*choice, json_string_value(value)) == 0 &&
		    strlen(*choice) == json_string_length(value))
			return NULL;
	known = json_array();
	for (const char *const *choice = param->choices; *choice; choice++)
		json_array_append_new(known, json_string(*choice));
	error = rpc_error_new(violation_of(param), "Parameter '%s' does not take '%.64s'", field,
			      json_string_value(value));
	return rpc_error_set(invalid(field, error), "known", known);
}

static struct rpc_error *check_strings(const struct param *param, const char *field,
				       const json_t *value)
{
	const json_t *element;
	const char *key;
	size_t i;

	if (param->type == PARAM_STRINGS) {
		json_array_foreach (value, i, element) {
			if (!json_is_string(element))
				return invalid(field, rpc_error_new(RPC_INVALID_PARAMS,
								    "Element %zu of '%s' is not a "
								    "string",
								    i, field));
		}
	}
	if (param->type == PARAM_STRING_MAP) {
		json_object_foreach ((json_t *)value, key, element) {
			if (!json_is_string(element))
				return invalid(field, rpc_error_new(RPC_INVALID_PARAMS,
								    "Member '%.64s' of '%s' is not "
								    "a string",
								    key, field));
		}
	}
	return NULL;
}

/* Names and ids are bounded and hold no NUL; texts (code, stdin) say themselves what they take. */
static struct rpc_error *check_nul(const struct param *param, const char *field,
				   const json_t *value)
{
	if (param->type != PARAM_STRING || param->max == 0 ||
	    strlen(json_string_value(value)) == json_string_length(value))
		return NULL;
	return invalid(field, rpc_error_new(violation_of(param), "Parameter '%s' holds a NUL byte",
					    field));
}

static struct rpc_error *check_object(const struct param *fields, const char *prefix,
				      const json_t *object);

static struct rpc_error *check_objects(const struct param *param, const char *field,
				       const json_t *value)
{
	char prefix[FIELD_NAME_MAX];
	const json_t *element;
	size_t i;

	if (param->type != PARAM_OBJECTS)
		return NULL;
	json_array_foreach (value, i, element) {
		struct rpc_error *error;

		snprintf(prefix, sizeof(prefix), "%.100s[%zu]", field, i);
		error = json_is_object(element)
				? check_object(param->fields, prefix, element)
				: invalid(prefix, rpc_error_new(RPC_INVALID_PARAMS,
								"Element %zu of '%s' is not an "
								"object",
								i, field));
		if (error)
			return error;
	}
	return NULL;
}

static struct rpc_error *check_value(const struct param *param, const char *field,
				     const json_t *value)
{
	struct rpc_error *error;

	if (!has_type(param->type, value))
		return invalid(field,
			       rpc_error_new(RPC_INVALID_PARAMS,
					     "Parameter '%s' must be of type %s, not %s", field,
					     param_type_name(param->type), type_of(value)));
	if (param->type == PARAM_OBJECT)
		return check_object(param->fields, field, value);
	error = check_nul(param, field, value);
	if (!error)
		error = check_strings(param, field, value);
	if (!error)
		error = check_bounds(param, field, value);
	if (!error)
		error = check_choice(param, field, value);
	if (!error)
		error = check_objects(param, field, value);
	return error;
}

static const struct param *param_find(const struct param *params, const char *name)
{
	for (const struct param *param = params; param->name; param++)
		if (strcmp(param->name, name) == 0)
			return param;
	return NULL;
}

static void join(char field[FIELD_NAME_MAX], const char *prefix, const char *name)
{
	snprintf(field, FIELD_NAME_MAX, "%s%s%s", prefix, *prefix ? "." : "", name);
}

static struct rpc_error *check_object(const struct param *fields, const char *prefix,
				      const json_t *object)
{
	char field[FIELD_NAME_MAX];
	const json_t *value;
	const char *key;

	json_object_foreach ((json_t *)object, key, value) {
		const struct param *param = param_find(fields, key);
		struct rpc_error *error;

		join(field, prefix, key);
		if (!param)
			return invalid(field, rpc_error_new(RPC_INVALID_PARAMS,
							    "There is no parameter '%s'", field));
		error = check_value(param, field, value);
		if (error)
			return error;
	}
	for (const struct param *param = fields; param->name; param++) {
		if (!param->is_required || json_object_get(object, param->name))
			continue;
		join(field, prefix, param->name);
		return invalid(field, rpc_error_new(RPC_INVALID_PARAMS, "Parameter '%s' is missing",
						    field));
	}
	return NULL;
}

struct rpc_error *method_validate(const struct method *method, const json_t *params)
{
	json_auto_t *none = NULL;
	struct rpc_error *error;

	if (!params)
		params = none = json_object();
	if (!params)
		return rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	error = check_object(method->params, "", params);
	return error ? rpc_error_hint(error,
				      "see 'execsandboxctl help call' or rpc.discover for "
				      "what '%s' takes",
				      method->name)
		     : NULL;
}

/* Names of the JSON Schema keywords that min and max become for a type. */
static void bound_keywords(enum param_type type, const char **ret_min, const char **ret_max)
{
	*ret_min = "minimum";
	*ret_max = "maximum";
	if (type == PARAM_STRING) {
		/* JSON Schema counts characters, we count bytes: only the upper bound carries over.
		 */
		*ret_min = NULL;
		*ret_max = "maxLength";
	} else if (type == PARAM_STRINGS || type == PARAM_OBJECTS) {
		*ret_min = "minItems";
		*ret_max = "maxItems";
	} else if (type == PARAM_STRING_MAP) {
		*ret_min = "minProperties";
		*ret_max = "maxProperties";
	}
}

static json_t *bound_value(enum param_type type, double value)
{
	return type == PARAM_NUMBER ? json_real(value) : json_integer((json_int_t)value);
}

static void add_fields(json_t *schema, const struct param *fields)
{
	json_t *properties = json_object(), *required = json_array();

	for (const struct param *field = fields; field->name; field++) {
		json_object_set_new(properties, field->name, param_schema(field));
		if (field->is_required)
			json_array_append_new(required, json_string(field->name));
	}
	json_object_set_new(schema, "properties", properties);
	if (json_array_size(required) > 0)
		json_object_set(schema, "required", required);
	json_decref(required);
	json_object_set_new(schema, "additionalProperties", json_false());
}

json_t *param_schema(const struct param *param)
{
	json_t *schema = json_pack("{s:s, s:s}", "type", param_type_name(param->type),
				   "description", param->help);
	const char *min_keyword, *max_keyword;

	if (!schema)
		return NULL;
	bound_keywords(param->type, &min_keyword, &max_keyword);
	if (param->max != 0) {
		if (min_keyword)
			json_object_set_new(schema, min_keyword,
					    bound_value(param->type, param->min));
		json_object_set_new(schema, max_keyword, bound_value(param->type, param->max));
	}
	if (param->choices) {
		json_t *choices = json_array();

		for (const char *const *choice = param->choices; *choice; choice++)
			json_array_append_new(choices, json_string(*choice));
		json_object_set_new(schema, "enum", choices);
	}
	if (param->type == PARAM_STRINGS)
		json_object_set_new(schema, "items", json_pack("{s:s}", "type", "string"));
	if (param->type == PARAM_STRING_MAP)
		json_object_set_new(schema, "additionalProperties",
				    json_pack("{s:s}", "type", "string"));
	if (param->type == PARAM_OBJECT)
		add_fields(schema, param->fields);
	if (param->type == PARAM_OBJECTS) {
		json_t *items = json_pack("{s:s}", "type", "object");

		add_fields(items, param->fields);
		json_object_set_new(schema, "items", items);
	}
	return schema;
}
