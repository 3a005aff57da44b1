/* SPDX-License-Identifier: Apache-2.0 */
/* Plays test vectors (README.md describes the notation) against a JSON-RPC server, header only. */
#ifndef TESTS_VECTORS_PLAY_H
#define TESTS_VECTORS_PLAY_H

#include "tests/vectors/line_client.h"

#include <jansson.h>
#include <stdio.h>

/* Where the server is. connect() returns a new connection's descriptor, or -errno. */
struct vector_server {
	int (*connect)(void *user);
	void (*pump)(void *user); /* see line_client.h */
	void *user;
	bool has_test_methods; /* files that need them are left out otherwise */
};

struct vector_result {
	size_t cases, failed;
	bool is_left_out;
};

struct vector_case {
	const char *path;
	char name[200];
	size_t line_number;
	struct line_client client;
	bool is_closed, is_failed;
};

#define VECTOR_SENTINEL       "{\"jsonrpc\":\"2.0\",\"id\":\"end of case\",\"method\":\"rpc.ping\"}\n"
#define VECTOR_SENTINEL_REPLY "{\"jsonrpc\":\"2.0\",\"id\":\"end of case\",\"result\":\"pong\"}"

LINE_CLIENT_FN void vector_fail(struct vector_case *at, const char *what, const char *detail)
{
	fprintf(stderr, "%s:%zu: %s: %s%s%.300s\n", at->path, at->line_number, at->name, what,
		detail ? ": " : "", detail ? detail : "");
	at->is_failed = true;
}

/* Undoes \n \r \t \0 \\ \xHH in place; the new length. */
LINE_CLIENT_FN size_t vector_unescape(char *text)
{
	static const char names[] = "nrt0\\", values[] = "\n\r\t\0\\";
	char *out = text;

	for (const char *p = text; *p; p++) {
		const char *name = *p == '\\' && p[1] ? strchr(names, p[1]) : NULL;

		if (name) {
			*out++ = values[name - names];
			p++;
		} else if (*p == '\\' && p[1] == 'x' && p[2] && p[3]) {
			*out++ = (char)strtoul((char[]){p[2], p[3], 0}, NULL, 16);
			p += 3;
		} else {
			*out++ = *p;
		}
	}
	*out = '\0';
	return (size_t)(out - text);
}

/* Members that `wanted` names are as wanted; others may be there. */
LINE_CLIENT_FN bool vector_includes(const json_t *got, const json_t *wanted)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)wanted, key, value)
		if (!json_equal(json_object_get(got, key), value))
			return false;
	return true;
}

/* Texts are for people and not compared; every error has its name and says whether to retry. */
LINE_CLIENT_FN bool vector_error_matches(const json_t *got, const json_t *wanted)
{
	const json_t *data = json_object_get(got, "data");

	return json_equal(json_object_get(got, "code"), json_object_get(wanted, "code")) &&
	       json_string_length(json_object_get(got, "message")) > 0 &&
	       json_is_string(json_object_get(data, "name")) &&
	       json_is_boolean(json_object_get(data, "retryable")) &&
	       vector_includes(data, json_object_get(wanted, "data"));
}

LINE_CLIENT_FN bool vector_matches(const json_t *got, const json_t *wanted);

/* Replies of a batch come in any order. */
LINE_CLIENT_FN bool vector_set_matches(const json_t *got, const json_t *wanted)
{
	json_t *left = json_deep_copy(got);
	const json_t *one;
	size_t i, j;

	json_array_foreach (wanted, i, one) {
		for (j = 0; j < json_array_size(left); j++)
			if (vector_matches(json_array_get(left, j), one))
				break;
		if (json_array_remove(left, j) < 0)
			break;
	}
	j = json_array_size(left);
	json_decref(left);
	return i == json_array_size(wanted) && j == 0;
}

/* Whether a line of the server is what the vector wants. */
LINE_CLIENT_FN bool vector_matches(const json_t *got, const json_t *wanted)
{
	const char *key;
	json_t *value;

	if (json_is_array(wanted) && json_is_array(got))
		return vector_set_matches(got, wanted);
	if (!json_is_object(wanted) || !json_is_object(got) ||
	    json_object_size(got) != json_object_size(wanted))
		return false;
	json_object_foreach ((json_t *)wanted, key, value) {
		const json_t *other = json_object_get(got, key);

		if (strcmp(key, "error") == 0 ? !vector_error_matches(other, value)
					      : !json_equal(other, value))
			return false;
	}
	return true;
}

LINE_CLIENT_FN void vector_expect(struct vector_case *at, const char *text)
{
	json_t *wanted = json_loads(text, JSON_DECODE_ANY, NULL), *got = NULL;
	char *line = NULL;

	if (!wanted)
		vector_fail(at, "the vector's reply is no JSON", text);
	else if (line_client_receive(&at->client, &line) != 1)
		vector_fail(at, "no reply, wanted", text);
	else if (!(got = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL)))
		vector_fail(at, "reply is no JSON", line);
	else if (!vector_matches(got, wanted))
		vector_fail(at, "wrong reply", line);
	json_decref(wanted);
	json_decref(got);
	free(line);
}

LINE_CLIENT_FN void vector_expect_closed(struct vector_case *at)
{
	char *line = NULL;

	at->is_closed = true;
	if (line_client_receive(&at->client, &line) != 0)
		vector_fail(at, "the connection is not closed", line);
	free(line);
}

/* Sends; a server that has closed meanwhile is what some vectors are about. */
LINE_CLIENT_FN void vector_send(struct vector_case *at, const char *data, size_t len, size_t times)
{
	const size_t total = len * times;
	char *all = malloc(total + 1);

	if (!all)
		abort();
	for (size_t i = 0; i < times; i++)
		memcpy(all + i * len, data, len);
	if (line_client_send(&at->client, all, total) == -ETIMEDOUT)
		vector_fail(at, "the server does not read", NULL);
	free(all);
}

LINE_CLIENT_FN void vector_begin(struct vector_case *at, const struct vector_server *server,
				 const char *name)
{
	const int fd = server->connect(server->user);

	at->client = (struct line_client){.fd = fd, .pump = server->pump, .user = server->user};
	at->is_closed = at->is_failed = false;
	snprintf(at->name, sizeof(at->name), "%s", name);
	if (fd < 0)
		vector_fail(at, "cannot connect", strerror(-fd));
}

/* Whatever is left unread comes before the sentinel's reply: so silence is seen without waiting. */
LINE_CLIENT_FN void vector_end(struct vector_case *at, struct vector_result *result)
{
	if (!*at->name)
		return;
	if (!at->is_failed && !at->is_closed) {
		vector_send(at, VECTOR_SENTINEL, strlen(VECTOR_SENTINEL), 1);
		vector_expect(at, VECTOR_SENTINEL_REPLY);
	}
	result->cases++;
	result->failed += at->is_failed;
	line_client_close(&at->client);
	*at->name = '\0';
}

LINE_CLIENT_FN void vector_step(struct vector_case *at, char *line)
{
	char *text = strlen(line) >= 4 ? line + 4 : line + strlen(line);

	if (strncmp(line, "--> ", 4) == 0) {
		strcat(text, "\n"); /* takes the place of the line end that was cut */
		vector_send(at, text, strlen(text), 1);
	} else if (strncmp(line, "--- ", 4) == 0) {
		vector_send(at, text, vector_unescape(text), 1);
	} else if (strncmp(line, "--* ", 4) == 0) {
		char *rest;
		const unsigned long times = strtoul(text, &rest, 10);

		rest += *rest == ' ';
		vector_send(at, rest, vector_unescape(rest), times);
	} else if (strcmp(line, "--|") == 0) {
		shutdown(at->client.fd, SHUT_WR);
	} else if (strcmp(line, "<-|") == 0) {
		vector_expect_closed(at);
	} else if (strncmp(line, "<-- ", 4) == 0) {
		vector_expect(at, text);
	} else {
		vector_fail(at, "not in the notation", line);
	}
}

/* Plays one file; failures go to standard error as they are found. 0, or -errno when the file
 * cannot be read. */
LINE_CLIENT_FN int vectors_play(const char *path, const struct vector_server *server,
				struct vector_result *ret)
{
	FILE *file = fopen(path, "r");
	struct vector_case at = {.path = path, .client.fd = -1};
	char *line = NULL;
	size_t size = 0;
	ssize_t len;

	*ret = (struct vector_result){0};
	if (!file)
		return -errno;
	while ((len = getline(&line, &size, file)) >= 0) {
		at.line_number++;
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "@test-methods") == 0 && !server->has_test_methods) {
			ret->is_left_out = true;
			break;
		}
		if (strncmp(line, "== ", 3) == 0) {
			vector_end(&at, ret);
			vector_begin(&at, server, line + 3);
		} else if (*line && *line != '#' && *line != '@' && !at.is_failed) {
			vector_step(&at, line);
		}
	}
	vector_end(&at, ret);
	free(line);
	fclose(file);
	return 0;
}

#endif
