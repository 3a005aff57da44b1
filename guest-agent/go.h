/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The go message: what an interpreter that waits is told about its program. Pure.
 *
 * NUL-terminated texts and then the end of the socket: the working directory (empty: stay), how
 * many arguments there are, the arguments, and variables as NAME=value. No message at all before
 * the end means that there is nothing to run.
 *
 * Interpreters that can become the resident of a session (guest-agent/resident.h) hear a text
 * before that: an empty one, and a program follows; or "stay", and then variables, an empty text,
 * one byte when the first program comes, and on the same socket what a resident hears.
 */
#ifndef GUEST_AGENT_GO_H
#define GUEST_AGENT_GO_H

#include <jansson.h>
#include <stddef.h>

/* Always fits the buffer of a Unix socket (212992 bytes, less bookkeeping), so that one write takes
 * all; and hardly any program is told more. */
#define GO_MESSAGE_MAX (16u * 1024)

/*
 * Writes the message into `buf`. `args` (array of strings) and `env` (object of strings) may be
 * NULL. Its length, or 0 when it is longer than `size`.
 */
size_t go_encode(char *buf, size_t size, const char *cwd, const json_t *args, const json_t *env);

/* The same behind its empty text, and "stay" with `env`. */
size_t go_encode_run(char *buf, size_t size, const char *cwd, const json_t *args,
		     const json_t *env);
size_t go_encode_stay(char *buf, size_t size, const json_t *env);

#endif
