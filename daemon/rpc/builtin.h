/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of rpc.ping, rpc.version and rpc.discover. */
#ifndef DAEMON_RPC_BUILTIN_H
#define DAEMON_RPC_BUILTIN_H

#include "daemon/rpc/call.h"

#define RPC_BUILTIN_COUNT 3

extern const struct rpc_handler rpc_builtin_handlers[RPC_BUILTIN_COUNT];

#endif
