/* SPDX-License-Identifier: Apache-2.0 */
/* One output stream of one run: the bytes kept for the result, and what of them was streamed. */
#include "daemon/session/output.h"

#include "base/kept.h"
#include "base/kept_dir.h"
#include "base/log.h"
#include "protocol/base64.h"
#include "protocol/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SIZE_MIN 4096u

/* The output may outlive who opened the directory. */
struct output_spool {
	struct kept_dir *dir;
	int fd;
	char name[KEPT_NAME_SIZE];
};

/* --- The spool. --- */

static void free_spool(struct output_spool *spool)
{
	close_fd(spool->fd);
	kept_dir_put(spool->dir);
	free(spool);
}

void output_spool_end(struct output *output)
{
	struct output_spool *spool = TAKE_PTR(output->spool);

	if (!spool)
		return;
	(void)kept_remove(kept_dir_fd(spool->dir), spool->name);
	free_spool(spool);
}

/* Takes the file. */
static int set_spool(struct output *output, int dir_fd, const char *name, int fd_take)
{
	struct output_spool *spool = calloc(1, sizeof(*spool));
	int r;

	if (!spool) {
		close_fd(fd_take);
		return -ENOMEM;
	}
	snprintf(spool->name, sizeof(spool->name), "%s", name);
	spool->fd = fd_take;
	r = kept_dir_get(dir_fd, &spool->dir);
	if (r < 0) {
		free_spool(spool);
		return r;
	}
	output->spool = spool;
	return 0;
}

int output_spool_to(struct output *output, int dir_fd, const char *name)
{
	int fd, r;

	if (!kept_name_is_valid(name))
		return -EINVAL;
	r = kept_remove(dir_fd, name);
	if (r < 0)
		return r;
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return -errno;
	r = set_spool(output, dir_fd, name, fd);
	if (r < 0)
		(void)kept_remove(dir_fd, name);
	return r;
}

/* A spool with a gap would be taken for the whole: it is all or nothing. */
static void write_spool(struct output *output, const uint8_t *data, size_t len)
{
	int r = write_all(output->spool->fd, data, len);

	if (r == 0)
		return;
	log_warning(NULL, "Cannot keep output in '%s': %s; it does not outlive the daemon",
		    output->spool->name, strerror(-r));
	output_spool_end(output);
}

/* --- Bytes. --- */

static int grow(struct output *output, size_t len)
{
	size_t size = MAX(output->size, (size_t)SIZE_MIN);
	uint8_t *grown;

	while (size < output->len + len)
		size *= 2;
	if (size == output->size)
		return 0;
	grown = realloc(output->data, size);
	if (!grown)
		return -ENOMEM;
	output->data = grown;
	output->size = size;
	return 0;
}

int output_add(struct output *output, const uint8_t *data, size_t len)
{
	int r;

	if (len > output->limit - output->len)
		return -EMSGSIZE;
	r = grow(output, len);
	if (r < 0)
		return r;
	if (output->spool)
		write_spool(output, data, len);
	memcpy(output->data + output->len, data, len);
	output->len += len;
	return 0;
}

int output_spool_load(struct output *output, int dir_fd, const char *name)
{
	uint64_t size;
	_cleanup_free_ char *data = NULL;
	ssize_t len;
	int fd, r;

	if (!kept_name_is_valid(name))
		return -EINVAL;
	fd = kept_open(dir_fd, name, O_RDWR | O_APPEND, &size);
	if (fd < 0)
		return fd;
	len = size > output->limit ? -EMSGSIZE : read_file_fd(fd, (size_t)size, &data);
	if (len < 0) {
		close_fd(fd);
		return (int)len;
	}
	r = output_add(output, (const uint8_t *)data, (size_t)len);
	if (r == 0)
		r = set_spool(output, dir_fd, name, fd);
	else
		close_fd(fd);
	if (r < 0)
		output->len = 0;
	return r;
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

int output_set(json_t *result, const char *name, const char *suffix, json_t *value_take)
{
	char key[32];

	snprintf(key, sizeof(key), "%s%s", name, suffix);
	return json_object_set_new(result, key, value_take);
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
		output_set(result, name, "", json_string(""));
	} else if (utf8_is_valid(data, text_len)) {
		output_set(result, name, "", json_stringn((const char *)data, text_len));
	} else {
		output_set(result, name, "", base64_encode_json(data, len));
		/* Without that it would be taken for text. */
		if (output_set(result, name, "_encoding", json_string("base64")) < 0)
			json_object_del(result, name);
	}
}

void output_to_result(const struct output *output, const char *name, uint64_t total_bytes,
		      json_t *result)
{
	/* A truncated stream may end inside a sequence: that alone does not make it binary. */
	bool is_truncated = total_bytes > output->len;
	size_t len = is_truncated ? utf8_cut(output->data, output->len) : output->len;

	output_set_bytes(result, name, output->data, len, output->len);
	output_set(result, name, "_truncated", json_boolean(is_truncated));
	output_set(result, name, "_bytes", json_integer((json_int_t)MAX(total_bytes, output->len)));
}

void output_to_result_from(const struct output *output, const char *name, uint64_t offset,
			   bool is_end, json_t *result)
{
	size_t from = MIN(offset, output->len), len = output->len - from;
	const uint8_t *data = len > 0 ? output->data + from : NULL;
	char key[32];

	if (len > 0 && !is_end)
		len = utf8_cut(data, len);
	snprintf(key, sizeof(key), "%s_encoding", name);
	json_object_del(result, key);
	output_set_bytes(result, name, data, len, len);
	output_set(result, name, "_offset", json_integer((json_int_t)from));
	if (!json_object_get(result, "status"))
		output_set(result, name, "_bytes", json_integer((json_int_t)output->len));
}

int output_from_result(struct output *output, const char *name, const json_t *result)
{
	const json_t *value = json_object_get(result, name), *encoding;
	_cleanup_free_ char *bytes = NULL;
	const char *data = json_string_value(value);
	size_t text_len = json_string_length(value);
	ssize_t len = (ssize_t)text_len;
	char key[32];

	snprintf(key, sizeof(key), "%s_encoding", name);
	encoding = json_object_get(result, key);
	if (!data || (encoding && strcmp(json_string_value(encoding) ?: "", "base64") != 0))
		return -EINVAL;
	if (encoding) {
		len = base64_decode(data, text_len, (uint8_t **)&bytes);
		data = bytes;
	}
	if (len < 0)
		return (int)len;
	output->limit = (size_t)len;
	return output_add(output, (const uint8_t *)data, (size_t)len);
}

void output_trim(struct output *output)
{
	uint8_t *data = output->len > 0 ? realloc(output->data, output->len) : NULL;

	if (output->len == 0)
		free(output->data);
	if (output->len == 0 || data)
		output->data = data;
	output->size = output->len;
}

void output_fini(struct output *output)
{
	output_spool_end(output);
	free(output->data);
	*output = (struct output){0};
}
