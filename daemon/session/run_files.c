/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a `run`: those put into its VM before the program, and those fetched behind it. */
#include "daemon/session/run_files.h"

#include "daemon/session/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void run_files_fini(struct run_files *files)
{
	file_batch_fini(&files->placed);
	file_batch_fini(&files->fetched);
	json_decref(files->collected);
	*files = (struct run_files){0};
}

static int append(struct file_batch *batch, const char *data, size_t len)
{
	char *grown;

	if (len == 0)
		return 0;
	grown = realloc(batch->data, batch->data_len + len);
	if (!grown)
		return -1;
	memcpy(grown + batch->data_len, data, len);
	batch->data = grown;
	batch->data_len += len;
	return 0;
}

/* Where the guest puts the program itself (guest-agent/language.c). */
static bool is_programs_own(const char *path)
{
	static const char *const names[] = {"main.py", "main.ts", "main.sh"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (strcmp(path, names[i]) == 0)
			return true;
	return false;
}

/* Path and mode of one of `files`. */
static struct rpc_error *parse_place(const json_t *file, json_t *operation)
{
	const char *mode = json_string_value(json_object_get(file, "mode"));
	struct rpc_error *error = NULL;
	_cleanup_free_ char *path = file_path_parse(json_object_get(file, "path"), "path", &error);
	json_int_t bits;

	if (error)
		return error;
	if (!*path)
		return rpc_error_new(RPC_PATH_INVALID, "The path names no file");
	if (is_programs_own(path))
		return rpc_error_hint(rpc_error_new(RPC_PATH_INVALID,
						    "'%s' is where the program itself is", path),
				      "give the file another name, or send it as 'code'");
	if (mode && !file_mode_parse(mode, &bits))
		return rpc_error_hint(rpc_error_new(RPC_INVALID_PARAMS, "'%.32s' is no mode", mode),
				      "a mode is " FILE_MODE_PATTERN);
	json_object_set_new(operation, "op", json_string("write"));
	json_object_set_new(operation, "path", json_string(path));
	if (mode)
		json_object_set_new(operation, "mode", json_integer(bits));
	return NULL;
}

static struct rpc_error *parse_file(const json_t *file, const struct config *config,
				    struct file_batch *batch)
{
	json_t *operation = json_object();
	_cleanup_free_ char *data = NULL;
	struct rpc_error *error;
	size_t len = 0;

	if (json_array_append_new(batch->operations, operation) < 0)
		return rpc_error_no_memory();
	error = parse_place(file, operation);
	if (!error)
		error = bytes_from_params(file, "data", "encoding", &data, &len);
	if (error)
		return error;
	if (len > config->file_max_bytes)
		return rpc_error_new(RPC_FILE_TOO_LARGE, "The file is %zu bytes long, over %ju",
				     len, (uintmax_t)config->file_max_bytes);
	json_object_set_new(operation, "size", json_integer((json_int_t)len));
	return append(batch, data, len) < 0 ? rpc_error_no_memory() : NULL;
}

/* The field of an element: "files[3].path" of "path". */
static struct rpc_error *in_element(struct rpc_error *error, const char *list, size_t i)
{
	const char *inner = json_string_value(json_object_get(error->data, "field"));
	char field[64];

	snprintf(field, sizeof(field), "%s[%zu]%s%.32s", list, i, inner ? "." : "", inner ?: "");
	return rpc_error_set(error, "field", json_string(field));
}

static struct rpc_error *parse_placed(const json_t *list, const struct config *config,
				      struct run_files *files)
{
	const json_t *file;
	size_t i;

	if (json_array_size(list) == 0)
		return NULL;
	files->placed.operations = json_array();
	files->placed.results_max = FILE_RESULTS_MAX;
	json_array_foreach (list, i, file) {
		struct rpc_error *error = parse_file(file, config, &files->placed);

		if (error)
			return in_element(error, "files", i);
	}
	return NULL;
}

static struct rpc_error *parse_collected(const json_t *list, struct run_files *files)
{
	const json_t *path;
	size_t i;

	if (json_array_size(list) == 0)
		return NULL;
	files->collected = json_incref((json_t *)list);
	files->fetched = (struct file_batch){.operations = json_array(),
					     .read_max = RUN_COLLECT_MAX,
					     .results_max = FILE_RESULTS_MAX};
	json_array_foreach (list, i, path) {
		struct rpc_error *error = NULL;
		_cleanup_free_ char *parsed = file_path_parse(path, "", &error);

		if (!error && !*parsed)
			error = rpc_error_new(RPC_PATH_INVALID, "The path names no file");
		if (!error &&
		    json_array_append_new(files->fetched.operations,
					  json_pack("{s:s, s:s, s:I}", "op", "read", "path", parsed,
						    "length", (json_int_t)RUN_COLLECT_MAX)) < 0)
			error = rpc_error_no_memory();
		if (!error)
			continue;
		json_object_del(error->data, "field");
		return in_element(error, "collect", i);
	}
	return NULL;
}

struct rpc_error *run_files_parse(const json_t *params, const struct config *config,
				  struct run_files *ret)
{
	struct run_files files = {0};
	struct rpc_error *error = parse_placed(json_object_get(params, "files"), config, &files);

	if (!error)
		error = parse_collected(json_object_get(params, "collect"), &files);
	if (error)
		run_files_fini(&files);
	else
		*ret = files;
	return error;
}

struct rpc_error *run_files_placed(const json_t *operations, const json_t *results)
{
	const json_t *result;
	size_t i;

	json_array_foreach (results, i, result) {
		json_int_t error = json_integer_value(json_object_get(result, "error"));
		const json_t *path = json_object_get(json_array_get(operations, i), "path");

		if (error != 0)
			return in_element(file_error((int)error, json_string_value(path) ?: ""),
					  "files", i);
	}
	return NULL;
}

static json_t *with_error(json_t *entry, const struct rpc_error *error)
{
	json_object_set_new(entry, "error", error ? rpc_error_to_json(error) : json_null());
	return entry;
}

static json_t *with_errno(json_t *entry, int number, const json_t *path)
{
	struct rpc_error *error = file_error(number, json_string_value(path));

	with_error(entry, error);
	rpc_error_free(error);
	return entry;
}

static json_t *too_large(json_t *entry)
{
	struct rpc_error *error =
		rpc_error_new(RPC_FILE_TOO_LARGE, "The files to collect are over %u bytes together",
			      RUN_COLLECT_MAX);

	rpc_error_hint(error, "in a session, file.read reads them in pieces");
	with_error(entry, error);
	rpc_error_free(error);
	return entry;
}

/* `data` are the bytes from this file's on. Takes the entry; counts what is this file's. */
static json_t *describe(json_t *entry, const json_t *path, const json_t *result, const char *data,
			size_t len, uint64_t *ret_length)
{
	int number = (int)json_integer_value(json_object_get(result, "error"));
	uint64_t size = (uint64_t)json_integer_value(json_object_get(result, "size"));

	*ret_length = (uint64_t)json_integer_value(json_object_get(result, "length"));
	if (number != 0)
		return with_errno(entry, number, path);
	json_object_set_new(entry, "size", json_integer((json_int_t)size));
	json_object_set_new(entry, "mode", file_mode_json(json_object_get(result, "mode")));
	if (*ret_length > len || *ret_length < size)
		return too_large(entry);
	bytes_to_object(entry, data, (size_t)*ret_length, false);
	return entry;
}

json_t *run_files_result(const struct run_files *files, const json_t *results, const char *data,
			 size_t len, const struct rpc_error *error)
{
	json_t *list = json_array();
	const json_t *path;
	size_t i, at = 0;

	/* Nothing was read: then there is no place that the pieces could be in. */
	if (len == 0)
		data = "";
	json_array_foreach (files->collected, i, path) {
		json_t *entry = json_object();
		uint64_t length = 0;

		json_object_set(entry, "path", (json_t *)path);
		if (results)
			describe(entry, path, json_array_get(results, i), data + at, len - at,
				 &length);
		else
			with_error(entry, error);
		at += (size_t)MIN(length, (uint64_t)(len - at));
		json_array_append_new(list, entry);
	}
	return list;
}
