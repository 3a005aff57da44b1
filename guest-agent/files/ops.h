/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File operations as the host asks for them: a list of objects in, a list of results out.
 *
 * Each operation is {op, path, …}; `op` is one of write, change, upload_open, upload_write,
 * upload_commit, read, list, stat, mkdir, remove, rename. Bytes to write come from one pipe, one
 * operation's behind the other's, `size` of each; bytes that are read go to another pipe, and the
 * result says how many. A result is {error: errno} or what the operation has to tell. An operation
 * that fails does not keep those behind it from being tried.
 */
#ifndef GUEST_AGENT_FILES_OPS_H
#define GUEST_AGENT_FILES_OPS_H

#include <jansson.h>

/* New reference: an array as long as `request`, which is the host's; or NULL without memory. */
json_t *ops_run(const json_t *request, int in_fd, int out_fd);

#endif
