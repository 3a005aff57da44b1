/* SPDX-License-Identifier: Apache-2.0 */
/* File operations between callers and the guest: parameters, results and errors. */
#include "daemon/session/file_request.h"

#include "daemon/session/bytes.h"
#include "protocol/base64.h"
#include "protocol/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void file_batch_fini(struct file_batch *batch)
{
	json_decref(batch->operations);
	free(batch->data);
	*batch = (struct file_batch){0};
}

void file_request_fini(struct file_request *request)
{
	file_batch_fini(&request->batch);
	free(request->path);
	*request = (struct file_request){0};
}

/* Larger than any file. */
#define FILE_SIZE_MAX (UINT64_C(1) << 50)

/* --- Paths and modes. --- */

static struct rpc_error *check_path(const char *path, size_t len)
{
	if (memchr(path, '\0', len))
		return rpc_error_new(RPC_PATH_INVALID, "The path holds a NUL byte");
	if (len > FILE_PATH_MAX)
		return rpc_error_new(RPC_PATH_INVALID, "The path is %zu bytes long, over %d", len,
				     FILE_PATH_MAX);
	if (*path == '/' && strncmp(path, FILE_HOME "/", strlen(FILE_HOME "/")) != 0 &&
	    strcmp(path, FILE_HOME) != 0)
		return rpc_error_hint(
			rpc_error_new(RPC_PATH_INVALID, "'%.200s' is not below " FILE_HOME, path),
			"paths are below " FILE_HOME ", or relative to it; programs "
			"reach everything else");
	return NULL;
}

char *file_path_parse(const json_t *path, const char *field, struct rpc_error **ret_error)
{
	const char *text = json_string_value(path) ?: "";
	char *copy;

	*ret_error = check_path(text, json_string_length(path));
	if (*ret_error) {
		rpc_error_field(*ret_error, field);
		return NULL;
	}
	if (*text == '/')
		text += strlen(FILE_HOME);
	text += strspn(text, "/");
	copy = strdup(strcmp(text, ".") == 0 ? "" : text);
	if (!copy)
		*ret_error = rpc_error_no_memory();
	return copy;
}

bool file_mode_parse(const char *text, json_int_t *ret)
{
	size_t len = strlen(text);

	if (len < 3 || len > 4 || strspn(text, "01234567") != len)
		return false;
	*ret = strtol(text, NULL, 8);
	return true;
}

json_t *file_mode_json(const json_t *mode)
{
	return json_sprintf("%04o", (unsigned)json_integer_value(mode) & 07777);
}

/* --- Parameters into operations. --- */

/* Adds an operation with a path; new members go into what is returned. NULL without memory. */
static json_t *add_operation(struct file_request *request, const char *name)
{
	json_t *operation = json_pack("{s:s, s:s}", "op", name, "path", request->path);

	if (!request->batch.operations)
		request->batch.operations = json_array();
	if (json_array_append_new(request->batch.operations, operation) < 0)
		return NULL;
	return operation;
}

static void copy_member(json_t *operation, const json_t *params, const char *name)
{
	json_t *value = json_object_get(params, name);

	if (value)
		json_object_set(operation, name, value);
}

static struct rpc_error *set_mode(json_t *operation, const json_t *params)
{
	const char *text = json_string_value(json_object_get(params, "mode"));
	json_int_t mode;

	if (!text)
		return NULL;
	if (!file_mode_parse(text, &mode))
		return rpc_error_field(rpc_error_hint(rpc_error_new(RPC_INVALID_PARAMS,
								    "'%.32s' is no mode", text),
						      "a mode is " FILE_MODE_PATTERN),
				       "mode");
	json_object_set_new(operation, "mode", json_integer(mode));
	return NULL;
}

static struct rpc_error *check_size(const struct file_request *request, const struct config *config)
{
	uint64_t end = request->offset + request->batch.data_len + request->batch.socket_size;
	struct rpc_error *error;

	if (end <= config->file_max_bytes)
		return NULL;
	error = rpc_error_new(RPC_FILE_TOO_LARGE,
			      "'%.200s' would be %" PRIu64 " bytes long, over %ju", request->path,
			      end, (uintmax_t)config->file_max_bytes);
	rpc_error_set(error, "max", json_integer((json_int_t)config->file_max_bytes));
	return rpc_error_hint(error, "raise file_max_bytes in the configuration");
}

static struct rpc_error *conflict(const char *field, const char *why)
{
	return rpc_error_field(rpc_error_new(RPC_INVALID_PARAMS, "%s", why), field);
}

static uint64_t write_size(const struct file_request *request)
{
	return request->takes_socket ? request->batch.socket_size : request->batch.data_len;
}

/* `data`, or the size of what comes over the socket. */
static struct rpc_error *parse_data(const json_t *params, struct file_request *request)
{
	const json_t *size = json_object_get(params, "size");

	if (!request->takes_socket)
		return size ? conflict("size", "'size' is of bytes that come over a descriptor")
			    : bytes_from_params(params, "data", "encoding", &request->batch.data,
						&request->batch.data_len);
	if (json_object_get(params, "data"))
		return conflict("data", "The bytes come over the descriptor, or in 'data'");
	if (!size)
		return conflict("size", "'size' says how many bytes come over the descriptor");
	request->batch.socket_size = (uint64_t)json_integer_value(size);
	return NULL;
}

/* A write that goes on with an upload, or ends it. */
static struct rpc_error *parse_upload_step(const json_t *params, const char *upload,
					   struct file_request *request)
{
	bool is_new = strcmp(upload, "open") == 0;
	bool commits = json_is_true(json_object_get(params, "commit"));
	struct rpc_error *error = NULL;
	json_t *operation;

	if (json_is_true(json_object_get(params, "append")))
		return conflict("append", "An upload has offsets and no end to append to");
	if (!is_new && json_object_get(params, "mode"))
		return conflict("mode", "The mode is said when the upload is opened");
	if (is_new) {
		draw_id(request->upload, sizeof(request->upload), "", "upl");
		upload = request->upload;
		operation = add_operation(request, "upload_open");
		json_object_set_new(operation, "upload", json_string(upload));
		error = set_mode(operation, params);
	}
	if (write_size(request) > 0 || (!is_new && !commits)) {
		operation = add_operation(request, "upload_write");
		json_object_set_new(operation, "upload", json_string(upload));
		json_object_set_new(operation, "offset", json_integer((json_int_t)request->offset));
		json_object_set_new(operation, "size",
				    json_integer((json_int_t)write_size(request)));
	}
	if (commits) {
		operation = add_operation(request, "upload_commit");
		json_object_set_new(operation, "upload", json_string(upload));
	}
	return error;
}

static struct rpc_error *parse_single_write(const json_t *params, struct file_request *request)
{
	bool appends = json_is_true(json_object_get(params, "append"));
	bool changes = appends || json_object_get(params, "offset");
	json_t *operation;

	if (appends && json_object_get(params, "offset"))
		return conflict("append", "Give 'append' or 'offset', not both");
	if (json_object_get(params, "commit"))
		return conflict("commit", "'commit' ends an upload: give 'upload', too");
	operation = add_operation(request, changes ? "change" : "write");
	json_object_set_new(operation, "size", json_integer((json_int_t)write_size(request)));
	copy_member(operation, params, "append");
	copy_member(operation, params, "offset");
	return set_mode(operation, params);
}

static struct rpc_error *parse_write(const json_t *params, const struct config *config,
				     struct file_request *request)
{
	const char *upload = json_string_value(json_object_get(params, "upload"));
	struct rpc_error *error = parse_data(params, request);

	if (!error)
		error = check_size(request, config);
	if (error)
		return error;
	return upload ? parse_upload_step(params, upload, request)
		      : parse_single_write(params, request);
}

static struct rpc_error *too_long(uint64_t length)
{
	struct rpc_error *error = conflict("length", "One answer holds 8 MiB at the most");

	rpc_error_set(error, "max", json_integer(FILE_READ_MAX));
	return rpc_error_hint(
		error, "%" PRIu64 " bytes can be read in pieces, or over a descriptor", length);
}

static struct rpc_error *parse_read(const json_t *params, struct file_request *request)
{
	const json_t *length = json_object_get(params, "length");
	const char *encoding = json_string_value(json_object_get(params, "encoding"));
	json_t *operation = add_operation(request, "read");

	request->batch.is_read_to_socket = request->takes_socket;
	if (length)
		request->batch.read_max = (uint64_t)json_integer_value(length);
	else
		request->batch.read_max = request->takes_socket ? FILE_SIZE_MAX : FILE_READ_MAX;
	if (!request->takes_socket && request->batch.read_max > FILE_READ_MAX)
		return too_long(request->batch.read_max);
	request->wants_base64 = encoding && strcmp(encoding, "base64") == 0;
	json_object_set_new(operation, "offset", json_integer((json_int_t)request->offset));
	json_object_set_new(operation, "length", json_integer((json_int_t)request->batch.read_max));
	return NULL;
}

static struct rpc_error *parse_rename(const json_t *params, struct file_request *request)
{
	struct rpc_error *error = NULL;
	_cleanup_free_ char *new_path =
		file_path_parse(json_object_get(params, "new_path"), "new_path", &error);
	json_t *operation;

	if (error)
		return error;
	operation = add_operation(request, "rename");
	json_object_set_new(operation, "new_path", json_string(new_path));
	copy_member(operation, params, "replace");
	return NULL;
}

static struct rpc_error *parse_simple(const json_t *params, const char *name,
				      struct file_request *request)
{
	json_t *operation = add_operation(request, name);

	copy_member(operation, params, "recursive");
	return set_mode(operation, params);
}

static struct rpc_error *parse_kind(const json_t *params, const struct config *config,
				    struct file_request *request)
{
	switch (request->kind) {
	case FILE_WRITE:
		return parse_write(params, config, request);
	case FILE_READ:
		return parse_read(params, request);
	case FILE_LIST:
		return parse_simple(params, "list", request);
	case FILE_STAT:
		return parse_simple(params, "stat", request);
	case FILE_MKDIR:
		return parse_simple(params, "mkdir", request);
	case FILE_REMOVE:
		return parse_simple(params, "remove", request);
	case FILE_RENAME:
		return parse_rename(params, request);
	}
	return NULL;
}

/* Only a list, or a look at the home itself, and what goes on with an upload name no file. */
static bool needs_path(const struct file_request *request, const json_t *params)
{
	const char *upload = json_string_value(json_object_get(params, "upload"));

	if (request->kind == FILE_LIST || request->kind == FILE_STAT)
		return false;
	return !upload || strcmp(upload, "open") == 0;
}

static struct rpc_error *parse(const json_t *params, const struct config *config,
			       struct file_request *request)
{
	struct rpc_error *error = NULL;

	request->path = file_path_parse(json_object_get(params, "path"), "path", &error);
	if (error)
		return error;
	if (!*request->path && needs_path(request, params))
		return rpc_error_field(rpc_error_new(RPC_PATH_INVALID, "The path names no file"),
				       "path");
	request->offset = (uint64_t)json_integer_value(json_object_get(params, "offset"));
	request->takes_socket = json_is_true(json_object_get(params, "descriptor"));
	request->batch.results_max = request->kind == FILE_LIST ? FILE_LIST_MAX : FILE_RESULTS_MAX;
	return parse_kind(params, config, request);
}

struct rpc_error *file_request_parse(enum file_kind kind, const json_t *params,
				     const struct config *config, struct file_request *ret)
{
	struct file_request request = {.kind = kind};
	struct rpc_error *error = parse(params, config, &request);

	if (!error && json_array_size(request.batch.operations) == 0)
		error = rpc_error_no_memory();
	if (error)
		file_request_fini(&request);
	else
		*ret = request;
	return error;
}

/* --- What the guest says into results. --- */

static struct rpc_error *nonsense(void)
{
	return rpc_error_new(RPC_GUEST_PROTOCOL,
			     "The guest's answer about the file makes no sense");
}

static json_int_t number(const json_t *result, const char *key)
{
	return json_integer_value(json_object_get(result, key));
}

static json_t *write_result(const struct file_request *request, const json_t *results)
{
	const json_t *last = json_array_get(results, json_array_size(results) - 1);
	json_t *result = json_pack("{s:I}", "bytes", (json_int_t)write_size(request));

	if (*request->upload)
		json_object_set_new(result, "upload", json_string(request->upload));
	if (json_object_get(last, "size"))
		json_object_set_new(result, "size", json_integer(number(last, "size")));
	return result;
}

/* The bytes have gone over the socket. */
static json_t *socket_read_result(const struct file_request *request, const json_t *said)
{
	uint64_t length = (uint64_t)number(said, "length"), size = (uint64_t)number(said, "size");

	return json_pack("{s:I, s:I, s:b}", "bytes", (json_int_t)length, "size", (json_int_t)size,
			 "eof", request->offset + length >= size);
}

static json_t *read_result(const struct file_request *request, const json_t *results,
			   const char *data, size_t len)
{
	const json_t *said = json_array_get(results, 0);
	uint64_t size = (uint64_t)number(said, "size");
	bool is_end = request->offset + len >= size, is_base64 = request->wants_base64;
	json_t *result;

	if (request->takes_socket)
		return socket_read_result(request, said);
	result = json_object();
	/* A piece of a text ends with a whole character, unless there is none. */
	if (!is_base64 && !is_end && len > 0) {
		size_t cut = utf8_cut(data, len);

		is_base64 = cut == 0 || !utf8_is_valid(data, cut);
		len = is_base64 ? len : cut;
	}
	bytes_to_object(result, data, len, is_base64);
	json_object_set_new(result, "bytes", json_integer((json_int_t)len));
	json_object_set_new(result, "size", json_integer((json_int_t)size));
	json_object_set_new(result, "eof", json_boolean(is_end));
	return result;
}

/* A text of the guest, or bytes as `<key>_hex`, as base64: then `encoding_key` says so. */
static void set_name(json_t *entry, const json_t *from, const char *key, const char *encoding_key)
{
	char hex_key[32];
	const char *hex;
	uint8_t bytes[FILE_PATH_MAX];
	size_t len;

	if (json_is_string(json_object_get(from, key)))
		json_object_set(entry, key, json_object_get(from, key));
	snprintf(hex_key, sizeof(hex_key), "%s_hex", key);
	hex = json_string_value(json_object_get(from, hex_key));
	len = hex ? strlen(hex) / 2 : 0;
	if (!hex || len > sizeof(bytes) || hex_decode(hex, bytes, len) < 0)
		return;
	json_object_set_new(entry, key, base64_encode_json(bytes, len));
	json_object_set_new(entry, encoding_key, json_string("base64"));
}

static json_t *entry_of(const json_t *from)
{
	const char *type = json_string_value(json_object_get(from, "type"));
	char time[RFC3339_SIZE];
	json_t *entry = json_object();

	format_rfc3339((uint64_t)number(from, "mtime_ns"), time);
	set_name(entry, from, "name", "encoding");
	json_object_set_new(entry, "type", json_string(type ?: "unknown"));
	json_object_set_new(entry, "size", json_integer(number(from, "size")));
	json_object_set_new(entry, "mode", file_mode_json(json_object_get(from, "mode")));
	json_object_set_new(entry, "mtime", json_string(time));
	set_name(entry, from, "target", "target_encoding");
	return entry;
}

static json_t *list_result(const json_t *results)
{
	const json_t *list = json_array_get(results, 0), *from;
	json_t *entries = json_array();
	size_t i;

	json_array_foreach (json_object_get(list, "entries"), i, from)
		json_array_append_new(entries, entry_of(from));
	return json_pack("{s:o, s:b}", "entries", entries, "truncated",
			 json_is_true(json_object_get(list, "is_truncated")));
}

static json_t *stat_result(const struct file_request *request, const json_t *results)
{
	const char *slash = strrchr(request->path, '/');
	json_t *entry = entry_of(json_object_get(json_array_get(results, 0), "entry"));

	json_object_set_new(entry, "name",
			    json_string(slash && slash[1] ? slash + 1 : request->path));
	return entry;
}

/* Of what was read as many bytes came as are told of, and a list is no longer than lists are. */
static bool makes_sense(const struct file_request *request, const json_t *results, size_t data_len)
{
	const json_t *first = json_array_get(results, 0);

	if (request->kind == FILE_READ)
		return number(first, "length") == (json_int_t)data_len;
	return json_array_size(json_object_get(first, "entries")) <= FILE_ENTRIES_MAX;
}

json_t *file_request_result(const struct file_request *request, const json_t *results,
			    const char *data, size_t data_len, struct rpc_error **ret_error)
{
	const json_t *result;
	size_t i;

	if (json_array_size(results) != json_array_size(request->batch.operations)) {
		*ret_error = nonsense();
		return NULL;
	}
	json_array_foreach (results, i, result) {
		json_int_t error = number(result, "error");

		if (error == 0)
			continue;
		*ret_error = file_error((int)error, request->path);
		return NULL;
	}
	if (!makes_sense(request, results, data_len)) {
		*ret_error = nonsense();
		return NULL;
	}
	switch (request->kind) {
	case FILE_WRITE:
		return write_result(request, results);
	case FILE_READ:
		return read_result(request, results, data, data_len);
	case FILE_LIST:
		return list_result(results);
	case FILE_STAT:
		return stat_result(request, results);
	case FILE_MKDIR:
	case FILE_REMOVE:
	case FILE_RENAME:
		break;
	}
	return json_object();
}

/* --- Errors. --- */

/* A sentence about the path, which it begins with. */
static const struct {
	int error;
	enum rpc_code code;
	const char *what, *hint;
} errors[] = {
	{ENOENT, RPC_FILE_NOT_FOUND, "does not exist", NULL},
	{EEXIST, RPC_FILE_EXISTS, "exists already", NULL},
	{ENOTEMPTY, RPC_FILE_EXISTS, "is a directory that is not empty",
	 "recursive: true removes what is in it, too"},
	{EISDIR, RPC_IS_DIRECTORY, "is a directory", NULL},
	{ENOTDIR, RPC_NOT_DIRECTORY, "is no directory, or something above it is none", NULL},
	{EFBIG, RPC_FILE_TOO_LARGE, "would be too large", NULL},
	{ENOSPC, RPC_NO_SPACE, "finds no space",
	 "files live in the VM's memory: remove some, or give it more limits.memory_mb and "
	 "disk_mb"},
	{EDQUOT, RPC_NO_SPACE, "finds no space", "remove some files"},
	{ENOMEM, RPC_NO_SPACE, "finds no memory", "remove some files"},
	{EMFILE, RPC_QUOTA_EXCEEDED, "is one upload too many",
	 "complete some of them; those that nobody goes on with vanish after 60 s"},
	{EACCES, RPC_PERMISSION_DENIED, "is not for the session's user to touch", NULL},
	{EPERM, RPC_PERMISSION_DENIED, "is not for the session's user to touch", NULL},
	{EROFS, RPC_PERMISSION_DENIED, "cannot be changed", NULL},
	{EBUSY, RPC_PERMISSION_DENIED, "is in use by the system", NULL},
	{EXDEV, RPC_PATH_INVALID, "leads out of " FILE_HOME,
	 "a link to an absolute path counts as leading out"},
	{ELOOP, RPC_PATH_INVALID, "is a symbolic link, or too deep",
	 "links are followed for reading, as long as they stay below " FILE_HOME},
	{EINVAL, RPC_PATH_INVALID, "names no file", NULL},
	{ENAMETOOLONG, RPC_PATH_INVALID, "has a name that is too long", NULL},
	{EOPNOTSUPP, RPC_PATH_INVALID, "is no regular file", NULL},
};

struct rpc_error *file_error(int error, const char *path)
{
	if (error == ESTALE)
		return rpc_error_hint(rpc_error_new(RPC_FILE_NOT_FOUND, "There is no such upload"),
				      "one that nobody goes on with vanishes after 60 s, or with "
				      "its server; begin anew with upload: \"open\"");
	if (!*path)
		path = FILE_HOME;
	for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
		struct rpc_error *answer;

		if (errors[i].error != error)
			continue;
		answer = rpc_error_new(errors[i].code, "'%.200s' %s", path, errors[i].what);
		if (errors[i].hint)
			rpc_error_hint(answer, "%s", errors[i].hint);
		return rpc_error_set(answer, "path", json_string(path));
	}
	return rpc_error_new(RPC_VM_TRANSIENT, "The guest failed with '%.200s': %s", path,
			     strerror(error));
}
