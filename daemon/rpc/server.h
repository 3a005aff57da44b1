/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON-RPC server: listening sockets, connections, accounts per user.
 *
 * Create it with descriptors that listen already, a method table and one handler per method; it
 * then runs by itself on the loop. Handlers see calls (daemon/rpc/call.h), publishers the event hub
 * (daemon/rpc/events.h).
 */
#ifndef DAEMON_RPC_SERVER_H
#define DAEMON_RPC_SERVER_H

#include "base/loop.h"
#include "daemon/rpc/call.h"
#include "protocol/method.h"

#include <stddef.h>

struct rpc_server;
struct events_hub;

/* Requests in flight per connection. From the API. */
#define RPC_IN_FLIGHT_MAX 64u
/* Unsent bytes from which on a connection is congested: nothing is read from it, its calls are told
 * to hold back. From the API. */
#define RPC_CONGESTED_BYTES (1u << 20)
/* Defaults of struct rpc_limits. Replies with the largest output limits as base64 are 43 MiB. */
#define RPC_CONNECTIONS_PER_UID    64u
#define RPC_UNSENT_MAX_BYTES       (64u << 20)
#define RPC_UID_BUFFERED_MAX_BYTES (128u << 20)

struct rpc_limits {
	size_t connections_per_uid;
	size_t unsent_max_bytes;       /* per connection, parked batch replies included */
	size_t uid_buffered_max_bytes; /* unsent and half-read bytes of a uid's connections */
};

struct rpc_server_config {
	struct loop *loop;
	const int *listen_fds; /* borrowed: they stay open after rpc_server_destroy() */
	size_t listen_count;
	const struct method *methods; /* ended by a NULL name; method_table in the daemon */
	const struct rpc_handler *handlers;
	size_t handler_count;
	gid_t admin_gid;          /* RPC_NO_GID: only root is admin */
	struct rpc_limits limits; /* members that are 0 take their default */
	void *context;            /* what rpc_call_context() returns */
	bool is_waiting;          /* nobody is let in before rpc_server_accept() */
	/* While draining: the last call has ended and all bytes are sent. From the loop. May be
	 * NULL. */
	void (*on_idle)(void *context);
};

/*
 * Starts serving. 0; -EINVAL when a method has no handler or a handler no method or comes twice
 * (logged by name; rpc.ping, rpc.version and rpc.discover have built-in ones); -ENOMEM.
 */
int rpc_server_create(const struct rpc_server_config *config, struct rpc_server **ret);

/* Lets in who connects: they have waited in the kernel. */
void rpc_server_accept(struct rpc_server *server);

/* Closes all connections (pending calls hear on_gone) and frees the server. NULL is fine. Not from
 * inside a handler or call callback. */
void rpc_server_destroy(struct rpc_server *server);

/* Handlers ask for it and answer new work with RPC_DRAINING; the server goes on serving. */
void rpc_server_set_draining(struct rpc_server *server, bool is_draining);
bool rpc_server_is_draining(const struct rpc_server *server);

/* Other limits from now on; members that are 0 take their default. Who is over them stays. */
void rpc_server_set_limits(struct rpc_server *server, struct rpc_limits limits);

/* No call is in flight and no byte unsent. */
bool rpc_server_is_idle(const struct rpc_server *server);

/* Has every pending call answered that can be (on_stop), as the daemon ends; destroy it next. */
void rpc_server_stop_calls(struct rpc_server *server);

/* Where events are published and subscribed to. Lives as long as the server. */
struct events_hub *rpc_server_events(struct rpc_server *server);

size_t rpc_server_connection_count(const struct rpc_server *server);

#endif
