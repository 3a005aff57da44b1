/* SPDX-License-Identifier: Apache-2.0 */
/* The one error object of the user boundary: a code of the public API, a line for people, data for
 * programs. */
#ifndef PROTOCOL_RPC_ERROR_H
#define PROTOCOL_RPC_ERROR_H

#include "base/util.h"

#include <jansson.h>

enum rpc_code {
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_METHOD_NOT_FOUND = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL_ERROR = -32603,
	RPC_CANCELLED = -32800,
	RPC_DRAINING = 1001,
	RPC_UNAUTHORIZED = 1002,
	RPC_QUOTA_EXCEEDED = 1003,
	RPC_CONFIG_REFUSED = 1004,
	RPC_MESSAGE_TOO_LARGE = 1010,
	RPC_TOO_MANY_REQUESTS = 1011,
	RPC_CODE_INVALID = 2001,
	RPC_ENV_INVALID = 2002,
	RPC_LANGUAGE_UNKNOWN = 2003,
	RPC_PACKAGE_NOT_ALLOWED = 2004,
	RPC_PATH_INVALID = 2005,
	RPC_LIMIT_INVALID = 2006,
	RPC_VM_BOOT_TIMEOUT = 3001,
	RPC_CAPACITY = 3002,
	RPC_VM_TRANSIENT = 3003,
	RPC_VM_LOST = 3004,
	RPC_VM_CONFIG = 3005,
	RPC_GUEST_PROTOCOL = 3006,
	RPC_SESSION_NOT_FOUND = 4001,
	RPC_SESSION_CLOSED = 4002,
	RPC_SESSION_BUSY = 4003,
	RPC_PROCESS_NOT_FOUND = 4010,
	RPC_EXEC_ID_CONFLICT = 4020,
	RPC_EXEC_NOT_FOUND = 4021,
	RPC_VM_NOT_FOUND = 4030,
	RPC_FILE_NOT_FOUND = 5001,
	RPC_FILE_EXISTS = 5002,
	RPC_IS_DIRECTORY = 5003,
	RPC_NOT_DIRECTORY = 5004,
	RPC_FILE_TOO_LARGE = 5005,
	RPC_NO_SPACE = 5006,
	RPC_PERMISSION_DENIED = 5007,
	RPC_TEMPLATE_NOT_FOUND = 8001,
	RPC_BUILD_FAILED = 8002,
	RPC_TEMPLATE_BUSY = 8004,
};

/* An error on its way to a client. Made by rpc_error_new(), consumed by whoever takes it. */
struct rpc_error {
	int code;
	char *message;
	json_t *data; /* always has `name` and `retryable` */
};

/*
 * A new error; the message is one line that says what was tried and what to do. Never NULL: when
 * memory is gone it is a static error that rpc_error_free() leaves alone.
 */
struct rpc_error *rpc_error_new(enum rpc_code code, const char *format, ...) PRINTF_LIKE(2, 3);

/* Adds a member to data (`hint`, `field`, `known`, `min`, `max`, `reason`, `vm`, `retry_after_ms`,
 * `result` …). Returns `error`, to chain. */
struct rpc_error *rpc_error_set(struct rpc_error *error, const char *key, json_t *value_take);

/* rpc_error_set() with text: the next step for the reader. */
struct rpc_error *rpc_error_hint(struct rpc_error *error, const char *format, ...)
	PRINTF_LIKE(2, 3);

/* Another of the same, for the next of several who are told. Never NULL. */
struct rpc_error *rpc_error_copy(const struct rpc_error *error);

/* rpc_error_set() of `field`: the parameter that is wrong. */
struct rpc_error *rpc_error_field(struct rpc_error *error, const char *field);

/* RPC_INTERNAL_ERROR where memory is short for what was asked. */
struct rpc_error *rpc_error_no_memory(void);

void rpc_error_free(struct rpc_error *error);

static inline void rpc_error_freep(struct rpc_error **error)
{
	rpc_error_free(*error);
	*error = NULL;
}

/* {"code", "message", "data"} as the wire has it. New reference, or NULL without memory. */
json_t *rpc_error_to_json(const struct rpc_error *error);

/* "CAPACITY" for 3002; "UNKNOWN" when the code is not ours. */
const char *rpc_code_name(int code);

/* May the same request be sent again with hope: the code's default for data.retryable. */
bool rpc_code_is_retryable(int code);

/* Walks all codes, for documentation and rpc.discover: index 0, 1, … until false. */
bool rpc_code_at(size_t index, int *ret_code, const char **ret_name, const char **ret_help);

#endif
