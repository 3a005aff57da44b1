/* SPDX-License-Identifier: Apache-2.0 */
/* Where the code of `run` comes from, and which language it is in. */
#include "ctl/source.h"

#include "base/util.h"

#include "protocol/base64.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *extension;
	const char *interpreter; /* the last part of a "#!" line's program, without digits */
	const char *language;
} languages[] = {
	{".py", "python", "python"},   {".js", "node", "javascript"},
	{".mjs", "bun", "javascript"}, {".cjs", "deno", "javascript"},
	{".ts", "", "javascript"},     {".mts", "", "javascript"},
	{".sh", "sh", "shell"},        {".bash", "bash", "shell"},
};

static const char *by_extension(const char *name)
{
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < ELEMENTSOF(languages); i++)
		if (strcmp(dot, languages[i].extension) == 0)
			return languages[i].language;
	return NULL;
}

/* "#!/usr/bin/env -S python3 -u" and "#!/bin/sh -e" name their program in some word of the line. */
static const char *by_shebang(const char *code, size_t len)
{
	const char *newline = memchr(code, '\n', len);
	char line[128], *rest = NULL;

	if (len < 2 || memcmp(code, "#!", 2) != 0)
		return NULL;
	len = MIN(newline ? (size_t)(newline - code) : len, sizeof(line)) - 2;
	len = MIN(len, sizeof(line) - 1);
	memcpy(line, code + 2, len);
	line[len] = '\0';
	for (char *word = strtok_r(line, " \t\r", &rest); word;
	     word = strtok_r(NULL, " \t\r", &rest)) {
		char *slash = strrchr(word, '/');
		char *program = slash ? slash + 1 : word;

		program[strcspn(program, "0123456789.")] = '\0';
		for (size_t i = 0; *program && i < ELEMENTSOF(languages); i++)
			if (strcmp(program, languages[i].interpreter) == 0)
				return languages[i].language;
	}
	return NULL;
}

const char *source_language(const char *name, const char *code, size_t len)
{
	const char *language = name ? by_extension(name) : NULL;

	return language ?: by_shebang(code, len);
}

ssize_t source_read(int fd, char **ret)
{
	_cleanup_free_ char *buf = NULL;
	size_t len = 0, size = 0;

	for (;;) {
		ssize_t n;

		if (len + 1 >= size) {
			char *grown = realloc(buf, size = MAX(2 * size, (size_t)65536));

			if (!grown)
				return -ENOMEM;
			buf = grown;
		}
		n = read(fd, buf + len, size - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > INPUT_MAX)
			return -EFBIG;
	}
	buf[len] = '\0';
	*ret = TAKE_PTR(buf);
	return (ssize_t)len;
}

int source_set_bytes(json_t *object, const char *key, const char *encoding_key, const void *data,
		     size_t len)
{
	json_t *text = json_stringn(data, len); /* NULL when it is not UTF-8 */

	if (text)
		return json_object_set_new(object, key, text) < 0 ? -ENOMEM : 0;
	if (!encoding_key)
		return -EILSEQ;
	if (json_object_set_new(object, key, base64_encode_json(data, len)) < 0 ||
	    json_object_set_new(object, encoding_key, json_string("base64")) < 0)
		return -ENOMEM;
	return 0;
}

ssize_t source_get_bytes(const json_t *text, const char *encoding, uint8_t **ret)
{
	size_t len = json_string_length(text);
	const char *value = json_string_value(text);
	uint8_t *copy;

	if (!value)
		return -EINVAL;
	if (encoding && strcmp(encoding, "base64") == 0)
		return base64_decode(value, len, ret);
	if (encoding && strcmp(encoding, "utf-8") != 0)
		return -EINVAL;
	copy = malloc(len + 1); /* never of size 0 */
	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, len);
	*ret = copy;
	return (ssize_t)len;
}
