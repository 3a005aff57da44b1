/* SPDX-License-Identifier: Apache-2.0 */
/* The go message: what an interpreter that waits is told about its program. */
#include "guest-agent/go.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct buffer {
	char *at, *end;
	bool is_full;
};

static void add(struct buffer *buffer, const char *text, size_t len)
{
	if (buffer->is_full || len > (size_t)(buffer->end - buffer->at)) {
		buffer->is_full = true;
		return;
	}
	memcpy(buffer->at, text, len);
	buffer->at += len;
}

static void add_text(struct buffer *buffer, const char *text)
{
	add(buffer, text, strlen(text) + 1);
}

static void add_variables(struct buffer *buffer, const json_t *env)
{
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *)env, name, value) {
		add(buffer, name, strlen(name));
		add(buffer, "=", 1);
		add_text(buffer, json_string_value(value));
	}
}

static void add_program(struct buffer *buffer, const char *cwd, const json_t *args,
			const json_t *env)
{
	char count[24];
	json_t *value;
	size_t i;

	snprintf(count, sizeof(count), "%zu", json_array_size(args));
	add_text(buffer, cwd);
	add_text(buffer, count);
	json_array_foreach ((json_t *)args, i, value) {
		add_text(buffer, json_string_value(value));
	}
	add_variables(buffer, env);
}

static size_t length(const struct buffer *buffer, const char *start)
{
	return buffer->is_full ? 0 : (size_t)(buffer->at - start);
}

size_t go_encode(char *buf, size_t size, const char *cwd, const json_t *args, const json_t *env)
{
	struct buffer buffer = {.at = buf, .end = buf + size};

	add_program(&buffer, cwd, args, env);
	return length(&buffer, buf);
}

size_t go_encode_run(char *buf, size_t size, const char *cwd, const json_t *args, const json_t *env)
{
	struct buffer buffer = {.at = buf, .end = buf + size};

	add_text(&buffer, "");
	add_program(&buffer, cwd, args, env);
	return length(&buffer, buf);
}

size_t go_encode_stay(char *buf, size_t size, const json_t *env)
{
	struct buffer buffer = {.at = buf, .end = buf + size};

	add_text(&buffer, "stay");
	add_variables(&buffer, env);
	add_text(&buffer, "");
	return length(&buffer, buf);
}
