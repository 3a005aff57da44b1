/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer. */
#include "daemon/rpc/text.h"

#include "base/util.h"

#include <string.h>

#define SIZE_MIN 512u

static bool reserve(struct text *text, size_t len)
{
	size_t size = MAX(text->size, (size_t)SIZE_MIN);
	char *grown;

	if (text->is_failed || len > TEXT_MAX_BYTES - text->len)
		return false;
	if (text->len + len <= text->size)
		return true;
	while (size < text->len + len)
		size *= 2;
	grown = realloc(text->data, size);
	if (!grown)
		return false;
	text->data = grown;
	text->size = size;
	return true;
}

void text_add(struct text *text, const void *data, size_t len)
{
	if (len == 0)
		return;
	if (!reserve(text, len)) {
		text->is_failed = true;
		return;
	}
	memcpy(text->data + text->len, data, len);
	text->len += len;
}

void text_add_string(struct text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

static int on_piece(const char *piece, size_t len, void *user)
{
	struct text *text = user;

	text_add(text, piece, len);
	return text->is_failed ? -1 : 0;
}

void text_add_json(struct text *text, const json_t *json)
{
	const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15);

	if (json_dump_callback(json, on_piece, text, flags) < 0)
		text->is_failed = true;
}

void text_consume(struct text *text, size_t len)
{
	text->len -= len;
	if (text->len > 0 && len > 0)
		memmove(text->data, text->data + len, text->len);
}

void text_reset(struct text *text, size_t keep_bytes)
{
	text->len = 0;
	text->is_failed = false;
	if (text->size > keep_bytes)
		text_fini(text);
}

void text_fini(struct text *text)
{
	free(text->data);
	*text = (struct text){0};
}
