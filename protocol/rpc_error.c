/* SPDX-License-Identifier: Apache-2.0 */
/* The one error object of the user boundary, and the table of all codes. */
#include "protocol/rpc_error.h"

#include "base/log.h"
#include "protocol/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	enum rpc_code code;
	bool is_retryable;
	const char *name;
	const char *help;
} codes[] = {
	{RPC_PARSE_ERROR, false, "PARSE_ERROR", "The line is not one JSON value"},
	{RPC_INVALID_REQUEST, false, "INVALID_REQUEST", "The JSON is not a JSON-RPC 2.0 request"},
	{RPC_METHOD_NOT_FOUND, false, "METHOD_NOT_FOUND", "There is no method of that name"},
	{RPC_INVALID_PARAMS, false, "INVALID_PARAMS", "A parameter is unknown, missing or wrong"},
	{RPC_INTERNAL_ERROR, true, "INTERNAL_ERROR", "The daemon failed; its log says why"},
	{RPC_CANCELLED, false, "CANCELLED", "The caller cancelled the request"},
	{RPC_DRAINING, true, "DRAINING", "The daemon is stopping and takes no new work"},
	{RPC_UNAUTHORIZED, false, "UNAUTHORIZED", "This user may not call the method"},
	{RPC_QUOTA_EXCEEDED, true, "QUOTA_EXCEEDED", "This user's quota is used up"},
	{RPC_CONFIG_REFUSED, false, "CONFIG_REFUSED",
	 "The configuration is wrong, or a reload cannot take it over; nothing was changed"},
	{RPC_MESSAGE_TOO_LARGE, false, "MESSAGE_TOO_LARGE", "The message is over the limit"},
	{RPC_TOO_MANY_REQUESTS, true, "TOO_MANY_REQUESTS", "Too many requests or connections"},
	{RPC_CODE_INVALID, false, "CODE_INVALID", "The code is empty, too long or holds a NUL"},
	{RPC_ENV_INVALID, false, "ENV_INVALID", "An environment variable is not allowed"},
	{RPC_LANGUAGE_UNKNOWN, false, "LANGUAGE_UNKNOWN", "There is no such language"},
	{RPC_PACKAGE_NOT_ALLOWED, false, "PACKAGE_NOT_ALLOWED", "The package is not allowed"},
	{RPC_PATH_INVALID, false, "PATH_INVALID", "The path is not allowed"},
	{RPC_LIMIT_INVALID, false, "LIMIT_INVALID", "A limit is outside its bounds"},
	{RPC_VM_BOOT_TIMEOUT, true, "VM_BOOT_TIMEOUT", "The VM did not start; the code never ran"},
	{RPC_CAPACITY, true, "CAPACITY", "All VMs are in use; come back later"},
	{RPC_VM_TRANSIENT, true, "VM_TRANSIENT", "The VM failed before the code was sent"},
	{RPC_VM_LOST, false, "VM_LOST", "The VM died while the code ran; its outcome is unknown"},
	{RPC_VM_CONFIG, false, "VM_CONFIG", "VMs cannot be started on this host as it is"},
	{RPC_GUEST_PROTOCOL, false, "GUEST_PROTOCOL",
	 "The guest broke the protocol; its VM is gone"},
	{RPC_SESSION_NOT_FOUND, false, "SESSION_NOT_FOUND", "There is no such session"},
	{RPC_SESSION_CLOSED, false, "SESSION_CLOSED",
	 "The session is closed; data.reason says why"},
	{RPC_SESSION_BUSY, true, "SESSION_BUSY", "Too many programs wait in the session"},
	{RPC_PROCESS_NOT_FOUND, false, "PROCESS_NOT_FOUND", "There is no such process"},
	{RPC_EXEC_ID_CONFLICT, false, "EXEC_ID_CONFLICT", "The exec_id belongs to another request"},
	{RPC_EXEC_NOT_FOUND, false, "EXEC_NOT_FOUND", "There is no program with that exec_id"},
	{RPC_VM_NOT_FOUND, false, "VM_NOT_FOUND", "There is no such VM"},
	{RPC_FILE_NOT_FOUND, false, "FILE_NOT_FOUND", "There is no such file"},
	{RPC_FILE_EXISTS, false, "FILE_EXISTS", "There is something of that name already"},
	{RPC_IS_DIRECTORY, false, "IS_DIRECTORY", "It is a directory"},
	{RPC_NOT_DIRECTORY, false, "NOT_DIRECTORY", "It is no directory"},
	{RPC_FILE_TOO_LARGE, false, "FILE_TOO_LARGE", "The file is over the limit"},
	{RPC_NO_SPACE, false, "NO_SPACE", "The session has no space left for files"},
	{RPC_PERMISSION_DENIED, false, "PERMISSION_DENIED", "The session's user may not do that"},
	{RPC_TEMPLATE_NOT_FOUND, false, "TEMPLATE_NOT_FOUND", "There is no such template"},
	{RPC_BUILD_FAILED, false, "BUILD_FAILED", "The template could not be made"},
	{RPC_TEMPLATE_BUSY, true, "TEMPLATE_BUSY", "The template is being made or stored"},
};

static struct rpc_error out_of_memory = {
	.code = RPC_INTERNAL_ERROR,
	.message = (char *)"The daemon is out of memory; try again later",
};

const char *rpc_code_name(int code)
{
	for (size_t i = 0; i < ELEMENTSOF(codes); i++)
		if ((int)codes[i].code == code)
			return codes[i].name;
	return "UNKNOWN";
}

bool rpc_code_is_retryable(int code)
{
	for (size_t i = 0; i < ELEMENTSOF(codes); i++)
		if ((int)codes[i].code == code)
			return codes[i].is_retryable;
	return false;
}

bool rpc_code_at(size_t index, int *ret_code, const char **ret_name, const char **ret_help)
{
	if (index >= ELEMENTSOF(codes))
		return false;
	*ret_code = codes[index].code;
	*ret_name = codes[index].name;
	*ret_help = codes[index].help;
	return true;
}

/* A message may quote bytes that a limit has cut in the middle of a character: those become '?'. */
static void make_utf8(char *text)
{
	while (*text) {
		size_t left = strnlen(text, 4), len = 1;

		while (len <= left && !utf8_is_valid(text, len))
			len++;
		if (len > left) {
			*text = '?';
			len = 1;
		}
		text += len;
	}
}

struct rpc_error *rpc_error_new(enum rpc_code code, const char *format, ...)
{
	struct rpc_error *error = calloc(1, sizeof(*error));
	va_list args;

	if (!error)
		return &out_of_memory;
	error->code = code;
	va_start(args, format);
	if (vasprintf(&error->message, format, args) < 0)
		error->message = NULL;
	va_end(args);
	if (error->message)
		make_utf8(error->message);
	error->data = json_pack("{s:s, s:b}", "name", rpc_code_name(code), "retryable",
				rpc_code_is_retryable(code));
	if (!error->message || !error->data) {
		rpc_error_free(error);
		return &out_of_memory;
	}
	return error;
}

struct rpc_error *rpc_error_set(struct rpc_error *error, const char *key, json_t *value_take)
{
	/* Details that do not fit into memory are left out: the error itself matters more. */
	if (error == &out_of_memory)
		json_decref(value_take);
	else if (json_object_set_new(error->data, key, value_take) < 0)
		log_debug(NULL, "Error detail '%s' left out: no memory or not UTF-8", key);
	return error;
}

struct rpc_error *rpc_error_hint(struct rpc_error *error, const char *format, ...)
{
	_cleanup_free_ char *hint = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&hint, format, args) < 0)
		hint = NULL;
	va_end(args);
	return hint ? rpc_error_set(error, "hint", json_string(hint)) : error;
}

struct rpc_error *rpc_error_copy(const struct rpc_error *error)
{
	struct rpc_error *copy = rpc_error_new((enum rpc_code)error->code, "%s", error->message);

	if (copy->data && error->data)
		json_object_update(copy->data, error->data);
	return copy;
}

struct rpc_error *rpc_error_field(struct rpc_error *error, const char *field)
{
	return rpc_error_set(error, "field", json_string(field));
}

struct rpc_error *rpc_error_no_memory(void)
{
	return rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
}

void rpc_error_free(struct rpc_error *error)
{
	if (!error || error == &out_of_memory)
		return;
	free(error->message);
	json_decref(error->data);
	free(error);
}

json_t *rpc_error_to_json(const struct rpc_error *error)
{
	json_auto_t *data = error->data
				    ? json_incref(error->data)
				    : json_pack("{s:s, s:b}", "name", rpc_code_name(error->code),
						"retryable", rpc_code_is_retryable(error->code));

	return json_pack("{s:i, s:s, s:O}", "code", error->code, "message", error->message, "data",
			 data);
}
