/* SPDX-License-Identifier: Apache-2.0 */
/* From a line to a running handler: parse, batch, look up, access, validate, call. */
#ifndef DAEMON_RPC_DISPATCH_H
#define DAEMON_RPC_DISPATCH_H

#include "daemon/rpc/call.h"
#include "protocol/method.h"

#include <stddef.h>

struct dispatch_table;

/*
 * Joins methods and handlers. `handlers` each need a method and come once; methods without one take
 * it from `builtins`, which may have more. 0; -EINVAL, every fault logged by name; -ENOMEM.
 */
int dispatch_table_create(const struct method *methods, const struct rpc_handler *handlers,
			  size_t handler_count, const struct rpc_handler *builtins,
			  size_t builtin_count, struct dispatch_table **ret);

void dispatch_table_destroy(struct dispatch_table *table);

/* The method table it was made from. */
const struct method *dispatch_table_methods(const struct dispatch_table *table);

/* Handles one line without its line end: answers, starts calls, or both. */
void dispatch_line(struct rpc_conn *conn, const char *line, size_t len);

#endif
