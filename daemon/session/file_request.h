/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File operations between callers and the guest: parameters of `file.*` into a list of operations
 * for its file server (guest-agent/files/ops.h), and what that says into results and errors.
 *
 * What the guest says is checked for form: it is a claim about its own VM.
 */
#ifndef DAEMON_SESSION_FILE_REQUEST_H
#define DAEMON_SESSION_FILE_REQUEST_H

#include "conf/config.h"
#include "protocol/rpc_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where paths begin. */
#define FILE_HOME     "/home/user"
#define FILE_PATH_MAX 4096
/* Bytes that one call reads, and those of a list. */
#define FILE_READ_MAX    (8u << 20)
#define FILE_UPLOAD_SIZE 32
/* Entries of one list (TREE_ENTRIES_MAX of the guest's file server). */
#define FILE_ENTRIES_MAX  10000
#define FILE_LIST_MAX     (8u << 20)
#define FILE_RESULTS_MAX  (64u * 1024)
#define FILE_MODE_PATTERN "three or four octal digits, as \"0644\""

/* Operations to do one behind the other, with the bytes that they write. */
struct file_batch {
	json_t *operations; /* array */
	char *data;
	size_t data_len;
	uint64_t read_max;  /* bytes that may come back */
	size_t results_max; /* bytes of what is said of the operations */
	/* Over a socket of the caller's, instead of here: */
	uint64_t socket_size; /* bytes to write, which come from there */
	bool is_read_to_socket;
};

void file_batch_fini(struct file_batch *batch);

enum file_kind {
	FILE_WRITE,
	FILE_READ,
	FILE_LIST,
	FILE_STAT,
	FILE_MKDIR,
	FILE_REMOVE,
	FILE_RENAME,
};

struct file_request {
	enum file_kind kind;
	struct file_batch batch;
	char *path;                    /* below FILE_HOME; for messages */
	char upload[FILE_UPLOAD_SIZE]; /* that it began; empty: none */
	uint64_t offset;
	bool wants_base64;
	bool takes_socket; /* its bytes go over a descriptor that comes with the call */
};

/* Reads params that method_validate() has passed. NULL when good (file_request_fini()), or the
 * error. */
struct rpc_error *file_request_parse(enum file_kind kind, const json_t *params,
				     const struct config *config,
				     struct file_request *ret) WARN_UNUSED;
void file_request_fini(struct file_request *request);

/* The result of a call, or NULL with the error: what the guest answered to request->batch. */
json_t *file_request_result(const struct file_request *request, const json_t *results,
			    const char *data, size_t data_len, struct rpc_error **ret_error);

/*
 * A path of a caller, relative to FILE_HOME and without what is in front of it: "" is the home
 * itself. New string, or NULL with the error, about the parameter `field`.
 */
char *file_path_parse(const json_t *path, const char *field, struct rpc_error **ret_error);

/* Octal text. False when it is none. */
bool file_mode_parse(const char *text, json_int_t *ret);
/* Of a guest's word, as text in octal. */
json_t *file_mode_json(const json_t *mode);

/* The error for what the guest says of an operation: `error` is an errno. */
struct rpc_error *file_error(int error, const char *path);

#endif
