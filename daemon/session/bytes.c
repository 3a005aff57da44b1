/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes as parameters and results carry them: text where they are UTF-8, base64 where they are not.
 */
#include "daemon/session/bytes.h"

#include "protocol/base64.h"
#include "protocol/utf8.h"

#include <string.h>

char *bytes_copy(const char *data, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy) {
		memcpy(copy, data, len);
		copy[len] = '\0';
	}
	return copy;
}

static struct rpc_error *decode(const json_t *text, const char *name, char **ret, size_t *ret_len)
{
	uint8_t *decoded = NULL;
	ssize_t len = base64_decode(json_string_value(text), json_string_length(text), &decoded);
	struct rpc_error *error;

	if (len >= 0) {
		*ret = (char *)decoded;
		*ret_len = (size_t)len;
		return NULL;
	}
	error = rpc_error_new(RPC_INVALID_PARAMS, "Parameter '%s' is not base64", name);
	rpc_error_hint(error, "use the standard alphabet with padding and without line breaks");
	return rpc_error_set(error, "field", json_string(name));
}

struct rpc_error *bytes_from_params(const json_t *params, const char *name,
				    const char *encoding_name, char **ret, size_t *ret_len)
{
	const json_t *text = json_object_get(params, name);
	const char *encoding = json_string_value(json_object_get(params, encoding_name));
	size_t len = json_string_length(text);

	*ret = NULL;
	*ret_len = 0;
	if (!text)
		return NULL;
	if (encoding && strcmp(encoding, "base64") == 0)
		return decode(text, name, ret, ret_len);
	*ret = bytes_copy(json_string_value(text), len);
	if (!*ret)
		return rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	*ret_len = len;
	return NULL;
}

/* Six bytes of JSON; these three are two. */
static bool is_long_escape(char c)
{
	return (unsigned char)c < ' ' && c != '\t' && c != '\n' && c != '\r';
}

/* A file of zeros would fill all buffers. */
static bool has_many_controls(const char *data, size_t len)
{
	size_t count = 0;

	for (size_t i = 0; i < len; i++)
		count += is_long_escape(data[i]);
	return count > 64 + len / 16;
}

void bytes_to_object(json_t *object, const char *data, size_t len, bool wants_base64)
{
	bool is_text = !wants_base64 && utf8_is_valid(data, len) && !has_many_controls(data, len);

	json_object_set_new(object, "data",
			    is_text ? json_stringn(len > 0 ? data : "", len)
				    : base64_encode_json(data, len));
	json_object_set_new(object, "encoding", json_string(is_text ? "utf-8" : "base64"));
}
