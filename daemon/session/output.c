/* SPDX-License-Identifier: Apache-2.0 */
/* One output stream of one run: the bytes kept for the result, and what of them was streamed. */
#include "daemon/session/output.h"

#include "base/util.h"
#include "protocol/base64.h"
#include "protocol/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SIZE_MIN 4096u

int output_add(struct output *output, const uint8_t *data, size_t len)
{
	size_t size = MAX(output->size, (size_t)SIZE_MIN);
	uint8_t *grown;

	if (len > output->limit - output->len)
		return -EMSGSIZE;
	while (size < output->len + len)
		size *= 2;
	if (size != output->size) {
		grown = realloc(output->data, size);
		if (!grown)
			return -ENOMEM;
		output->data = grown;
		output->size = size;
	}
	memcpy(output->data + output->len, data, len);
	output->len += len;
	return 0;
}

json_t *output_chunk(const uint8_t *data, size_t len)
{
	if (utf8_is_valid(data, len))
		return json_pack("{s:s#}", "data", data, (int)len);
	return json_pack("{s:o, s:s}", "data", base64_encode_json(data, len), "encoding", "base64");
}

json_t *output_next_chunk(struct output *output, bool is_end)
{
	size_t len = output->len - output->streamed;
	const uint8_t *data;

	if (len == 0)
		return NULL;
	data = output->data + output->streamed;
	if (!is_end)
		len = utf8_cut(data, len);
	if (len == 0)
		return NULL;
	output->streamed += len;
	return output_chunk(data, len);
}

static void set(json_t *result, const char *name, const char *suffix, json_t *value_take)
{
	char key[32];

	snprintf(key, sizeof(key), "%s%s", name, suffix);
	json_object_set_new(result, key, value_take);
}

json_t *output_chunk_from(const struct output *output, uint64_t *offset, size_t max)
{
	size_t from = MIN(*offset, output->len), len = MIN(output->len - from, max);

	len = len > 0 ? utf8_cut(output->data + from, len) : 0;
	if (len == 0)
		return NULL;
	*offset = from + len;
	return output_chunk(output->data + from, len);
}

void output_set_bytes(json_t *result, const char *name, const uint8_t *data, size_t text_len,
		      size_t len)
{
	if (len == 0) {
		set(result, name, "", json_string(""));
	} else if (utf8_is_valid(data, text_len)) {
		set(result, name, "", json_stringn((const char *)data, text_len));
	} else {
		set(result, name, "", base64_encode_json(data, len));
		set(result, name, "_encoding", json_string("base64"));
	}
}

void output_to_result(const struct output *output, const char *name, uint64_t total_bytes,
		      json_t *result)
{
	/* A truncated stream may end inside a sequence: that alone does not make it binary. */
	bool is_truncated = total_bytes > output->len;
	size_t len = is_truncated ? utf8_cut(output->data, output->len) : output->len;

	output_set_bytes(result, name, output->data, len, output->len);
	set(result, name, "_truncated", json_boolean(is_truncated));
	set(result, name, "_bytes", json_integer((json_int_t)MAX(total_bytes, output->len)));
}

void output_to_result_from(const struct output *output, const char *name, uint64_t offset,
			   bool is_end, json_t *result)
{
	size_t from = MIN(offset, output->len), len = output->len - from;
	const uint8_t *data = output->data + from;
	char key[32];

	if (len > 0 && !is_end)
		len = utf8_cut(data, len);
	snprintf(key, sizeof(key), "%s_encoding", name);
	json_object_del(result, key);
	output_set_bytes(result, name, data, len, len);
	set(result, name, "_offset", json_integer((json_int_t)from));
	if (!json_object_get(result, "status"))
		set(result, name, "_bytes", json_integer((json_int_t)output->len));
}

void output_trim(struct output *output)
{
	uint8_t *data = output->len > 0 ? realloc(output->data, output->len) : NULL;

	if (output->len == 0)
		output_fini(output);
	else if (data)
		output->data = data;
	output->size = output->len;
}

void output_fini(struct output *output)
{
	free(output->data);
	*output = (struct output){0};
}
