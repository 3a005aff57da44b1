/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON-RPC 2.0 as text: lines to requests, replies to lines. No I/O, no state.
 *
 * The strictness of the API's "Wire" lives here and in method_validate().
 */
#ifndef DAEMON_RPC_WIRE_H
#define DAEMON_RPC_WIRE_H

#include "daemon/rpc/text.h"
#include "protocol/rpc_error.h"

/* A message without its line end. From the API. */
#define WIRE_MESSAGE_MAX_BYTES (16u << 20)
/* An id's string. From the API. */
#define WIRE_ID_MAX_BYTES 128u
/* Requests in one batch. From the API. */
#define WIRE_BATCH_MAX 64u
/* Nesting of a message: `run` in a batch needs 5. */
#define WIRE_DEPTH_MAX 64u
/*
 * Values in a message. A parsed `{}` takes about 250 bytes of memory for 3 bytes of text, so a
 * message within WIRE_MESSAGE_MAX_BYTES could ask for over a gigabyte; this keeps it at 32 MiB plus
 * its strings.
 */
#define WIRE_VALUES_MAX 131072u

/* One request; everything borrowed from the message it was read from. */
struct wire_request {
	const char *method;
	const json_t *params; /* an object, or NULL when absent or null */
	const json_t *id;     /* NULL for a notification */
	bool has_list_params; /* params are an array: valid JSON-RPC that this API does not take */
};

/*
 * Parses one line, which the caller has kept under WIRE_MESSAGE_MAX_BYTES: strict UTF-8, no
 * duplicate keys, bounded depth and number of values. A new reference, or NULL with the -32700 to
 * answer in `ret_error`.
 */
json_t *wire_parse(const char *line, size_t len, struct rpc_error **ret_error);

/*
 * Reads a request. NULL when it is one; else the -32600 to answer. `ret->id` is set in either case
 * when the message has a usable id. For a message without one the error is answered with id null.
 */
struct rpc_error *wire_request_read(const json_t *message, struct wire_request *ret) WARN_UNUSED;

/* The id as text, exact (reals in the fewest digits that read back the same): what replies repeat
 * and ids are compared by. New string, NULL without memory. */
char *wire_id_text(const json_t *id);

/* {"jsonrpc":"2.0","id":…,"result":…} without line end; `id_text` NULL is null. */
void wire_add_result(struct text *text, const char *id_text, const json_t *result);

/* {"jsonrpc":"2.0","id":…,"error":…} without line end. */
void wire_add_error(struct text *text, const char *id_text, const struct rpc_error *error);

/* {"jsonrpc":"2.0","method":…,"params":…} without line end. */
void wire_add_notification(struct text *text, const char *method, const json_t *params);

#endif
