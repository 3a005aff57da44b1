/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of rpc.ping, rpc.version and rpc.discover. */
#include "daemon/rpc/builtin.h"

#include "daemon/rpc/discover.h"
#include "daemon/rpc/internal.h"

static struct rpc_reply rpc_ping(struct rpc_call *call, const json_t *params UNUSED)
{
	return rpc_reply_result(call, json_string("pong"));
}

static struct rpc_reply rpc_version(struct rpc_call *call, const json_t *params UNUSED)
{
	return rpc_reply_result(
		call, json_pack("{s:s, s:s}", "version", EXECSANDBOX_VERSION, "jsonrpc", "2.0"));
}

static struct rpc_reply rpc_discover(struct rpc_call *call, const json_t *params UNUSED)
{
	struct rpc_server *server = call->conn->server;

	if (!server->openrpc)
		server->openrpc = discover_document(dispatch_table_methods(server->methods),
						    EXECSANDBOX_VERSION);
	return rpc_reply_result(call, json_incref(server->openrpc));
}

const struct rpc_handler rpc_builtin_handlers[RPC_BUILTIN_COUNT] = {
	{"rpc.discover", rpc_discover},
	{"rpc.ping", rpc_ping},
	{"rpc.version", rpc_version},
};
