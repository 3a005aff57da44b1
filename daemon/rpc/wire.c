/* SPDX-License-Identifier: Apache-2.0 */
/* JSON-RPC 2.0 as text: lines to requests, replies to lines. */
#include "daemon/rpc/wire.h"

#include <stdio.h>
#include <string.h>

/* Longer names of the caller's are not repeated in errors. */
#define FIELD_MAX_BYTES 64u

/* The end of the string whose opening quote is before `p`: its closing quote, or `end`. */
static const char *skip_string(const char *p, const char *end)
{
	while (p < end) {
		const char *quote = memchr(p, '"', (size_t)(end - p)), *back;

		if (!quote)
			return end;
		for (back = quote; back > p && back[-1] == '\\'; back--)
			;
		if ((quote - back) % 2 == 0)
			return quote;
		p = quote + 1;
	}
	return end;
}

/* Looks over a line before anything is allocated for it. NULL, or what is wrong with its shape. */
static const char *check_shape(const char *p, size_t len)
{
	const char *end = p + len;
	size_t depth = 0, values = 1;

	for (; p < end; p++) {
		switch (*p) {
		case '"':
			p = skip_string(p + 1, end);
			break;
		case '[':
		case '{':
			values++;
			if (++depth > WIRE_DEPTH_MAX)
				return "it is nested too deep";
			break;
		case ']':
		case '}':
			depth -= depth > 0;
			break;
		case ',':
			if (++values > WIRE_VALUES_MAX)
				return "it has too many values";
			break;
		}
	}
	return values > WIRE_VALUES_MAX ? "it has too many values" : NULL;
}

static const char *parse_failure(const json_error_t *error)
{
	switch (json_error_code(error)) {
	case json_error_invalid_utf8:
		return "it is not UTF-8";
	case json_error_premature_end_of_input:
		return "it ends too early";
	case json_error_end_of_input_expected:
		return "more follows the value";
	case json_error_null_byte_in_key:
		return "a key has a NUL";
	case json_error_duplicate_key:
		return "a key comes twice in one object";
	case json_error_numeric_overflow:
		return "a number is out of range";
	case json_error_out_of_memory:
		return "it does not fit into memory";
	default: /* jansson's codes, not ours: the rest are all syntax */
		return "its syntax is wrong";
	}
}

json_t *wire_parse(const char *line, size_t len, struct rpc_error **ret_error)
{
	const char *failure = check_shape(line, len);
	json_error_t error = {.position = -1};
	json_t *message = NULL;

	if (!failure) {
		message = json_loadb(line, len,
				     JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY,
				     &error);
		if (message)
			return message;
		failure = parse_failure(&error);
	}
	*ret_error = rpc_error_new(RPC_PARSE_ERROR, "The line is not taken as JSON: %s", failure);
	rpc_error_hint(*ret_error,
		       "send one JSON value per line, at most %u levels deep and with "
		       "%u values, in UTF-8",
		       WIRE_DEPTH_MAX, WIRE_VALUES_MAX);
	if (error.position >= 0)
		rpc_error_set(*ret_error, "position", json_integer(error.position));
	return NULL;
}

static struct rpc_error *refuse(const char *field, const char *what)
{
	struct rpc_error *error = rpc_error_new(RPC_INVALID_REQUEST, "Not a request: %s", what);

	rpc_error_hint(error, "a request is {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\","
			      "\"params\":{}}");
	if (field && strlen(field) <= FIELD_MAX_BYTES)
		rpc_error_set(error, "field", json_string(field));
	return error;
}

static bool is_member_known(const char *name)
{
	return strcmp(name, "jsonrpc") == 0 || strcmp(name, "method") == 0 ||
	       strcmp(name, "params") == 0 || strcmp(name, "id") == 0;
}

static struct rpc_error *read_id(const json_t *message, const json_t **ret)
{
	const json_t *id = json_object_get(message, "id");

	*ret = NULL;
	if (!id)
		return NULL;
	if (!json_is_string(id) && !json_is_number(id) && !json_is_null(id))
		return refuse("id", "'id' is a string, a number or null");
	if (json_string_length(id) > WIRE_ID_MAX_BYTES)
		return refuse("id", "'id' is longer than 128 bytes");
	*ret = id;
	return NULL;
}

static struct rpc_error *read_method(const json_t *message, const char **ret)
{
	const json_t *method = json_object_get(message, "method");

	if (!json_is_string(method))
		return refuse("method", "'method' is not there or no string");
	*ret = json_string_value(method);
	if (strlen(*ret) != json_string_length(method))
		return refuse("method", "'method' has a NUL");
	return NULL;
}

static struct rpc_error *read_params(const json_t *message, struct wire_request *ret)
{
	const json_t *params = json_object_get(message, "params");

	ret->params = json_is_object(params) ? params : NULL;
	ret->has_list_params = json_is_array(params);
	if (params && !ret->params && !ret->has_list_params && !json_is_null(params))
		return refuse("params", "'params' is not an object");
	return NULL;
}

struct rpc_error *wire_request_read(const json_t *message, struct wire_request *ret)
{
	struct rpc_error *error;
	const json_t *value;
	const char *name, *version = json_string_value(json_object_get(message, "jsonrpc"));

	*ret = (struct wire_request){0};
	if (!json_is_object(message))
		return refuse(NULL, "it is not an object");
	error = read_id(message, &ret->id);
	if (error)
		return error;
	if (!version || strcmp(version, "2.0") != 0 ||
	    json_string_length(json_object_get(message, "jsonrpc")) != 3)
		return refuse("jsonrpc", "'jsonrpc' is not \"2.0\"");
	error = read_method(message, &ret->method);
	if (!error)
		error = read_params(message, ret);
	if (error)
		return error;
	/* A misspelt "params" must not run a method without them. */
	json_object_foreach ((json_t *)message, name, value)
		if (!is_member_known(name))
			return refuse(name, "it has a member that JSON-RPC 2.0 does not know");
	return NULL;
}

static char *real_text(const json_t *id)
{
	const double value = json_real_value(id);

	/* 17 digits always read back the same; most numbers need fewer. */
	for (unsigned digits = 15; digits < 17; digits++) {
		char *text = json_dumps(id, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));

		if (!text || strtod(text, NULL) == value)
			return text;
		free(text);
	}
	return json_dumps(id, JSON_ENCODE_ANY);
}

char *wire_id_text(const json_t *id)
{
	return json_is_real(id) ? real_text(id) : json_dumps(id, JSON_ENCODE_ANY);
}

static void add_head(struct text *text, const char *id_text)
{
	text_add_string(text, "{\"jsonrpc\":\"2.0\",\"id\":");
	text_add_string(text, id_text ?: "null");
}

void wire_add_result(struct text *text, const char *id_text, const json_t *result)
{
	add_head(text, id_text);
	text_add_string(text, ",\"result\":");
	text_add_json(text, result);
	text_add_string(text, "}");
}

void wire_add_error(struct text *text, const char *id_text, const struct rpc_error *error)
{
	json_auto_t *json = rpc_error_to_json(error);

	add_head(text, id_text);
	text_add_string(text, ",\"error\":");
	text_add_json(text, json);
	text_add_string(text, "}");
}

void wire_add_notification(struct text *text, const char *method, const json_t *params)
{
	text_add_string(text, "{\"jsonrpc\":\"2.0\",\"method\":\"");
	text_add_string(text, method);
	text_add_string(text, "\",\"params\":");
	text_add_json(text, params);
	text_add_string(text, "}");
}
