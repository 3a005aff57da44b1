/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a `run`: those that are put into its VM before the program, and those that are
 * fetched behind it. Pure: file_io.h does the work.
 */
#ifndef DAEMON_SESSION_RUN_FILES_H
#define DAEMON_SESSION_RUN_FILES_H

#include "daemon/session/file_request.h"

/* Bytes that one run gets back in files. */
#define RUN_COLLECT_MAX FILE_READ_MAX

struct run_files {
	struct file_batch placed;  /* no operations: none */
	struct file_batch fetched; /* the same */
	json_t *collected; /* array of paths as the caller wrote them, one for each of these */
};

/* Reads `files` and `collect` of params that method_validate() has passed. NULL when good
 * (run_files_fini()), or the error. */
struct rpc_error *run_files_parse(const json_t *params, const struct config *config,
				  struct run_files *ret) WARN_UNUSED;
void run_files_fini(struct run_files *files);

/* Why one of `placed`, as it was sent, could not be put there; NULL when all are there. */
struct rpc_error *run_files_placed(const json_t *operations, const json_t *results);

/* What RunResult says of them, an element for each path: {path, data, encoding, size, mode} or
 * {path, error}. Without `results` each has that error. New reference. */
json_t *run_files_result(const struct run_files *files, const json_t *results, const char *data,
			 size_t len, const struct rpc_error *error);

#endif
