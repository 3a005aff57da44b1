/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenRPC document of the API, made from the table that validates calls. */
#ifndef DAEMON_RPC_DISCOVER_H
#define DAEMON_RPC_DISCOVER_H

#include "protocol/method.h"

#define OPENRPC_VERSION "1.3.2"

/*
 * The OpenRPC 1.3.2 document (OpenRPC specification, https://spec.open-rpc.org) of `methods`, with
 * all error codes as components. A new reference, NULL without memory.
 */
json_t *discover_document(const struct method *methods, const char *version);

#endif
