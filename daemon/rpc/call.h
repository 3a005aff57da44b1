/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request on its way to its one reply: what method handlers see of the server.
 *
 * Theory of operation: a handler gets a call and returns a struct rpc_reply, which only the three
 * rpc_reply_ functions make: the reply itself, an error, or "pending". A pending call is finished
 * exactly once by rpc_call_finish_result() or rpc_call_finish_error(), from anywhere later (also
 * before the handler has returned, once rpc_reply_pending() was called), and is gone then: a second
 * finish is a programming error and aborts. When the connection goes first, on_gone is called
 * instead and the call must not be finished any more. on_gone and on_congested come from the loop,
 * never from inside another function of this header.
 * A notification is a call like any other; what it is finished with goes nowhere.
 */
#ifndef DAEMON_RPC_CALL_H
#define DAEMON_RPC_CALL_H

#include "daemon/rpc/peer.h"
#include "protocol/rpc_error.h"

#include <jansson.h>
#include <stdbool.h>

struct rpc_call;
struct rpc_conn;

/* What a handler returns. Do not make one by hand: it is compared with the call's state. */
struct rpc_reply {
	const struct rpc_call *private_call;
};

/* `params` is never NULL, has passed method_validate(), and is valid only until the handler
 * returns. */
typedef struct rpc_reply (*rpc_handler_fn)(struct rpc_call *call, const json_t *params);

struct rpc_handler {
	const char *name; /* as in the method table */
	rpc_handler_fn fn;
};

/* What a pending call hears; each may be NULL. */
struct rpc_call_ops {
	/* $/cancelRequest: finish soon, with RPC_CANCELLED. Comes at most once. May finish the call
	 * at once. */
	void (*on_cancel)(void *user);
	/* The connection is gone and the call with it: drop the pointer, do not finish it. */
	void (*on_gone)(void *user);
	/* Over RPC_CONGESTED_BYTES are unsent on the connection: hold notifications back; or it
	 * has drained: go on. Ask rpc_call_is_congested() once when starting. */
	void (*on_congested)(void *user, bool is_congested);
	/* The daemon ends: finish now. Without it the call hears on_gone. */
	void (*on_stop)(void *user);
};

/* The result; NULL (an object that could not be made) becomes RPC_INTERNAL_ERROR. */
struct rpc_reply rpc_reply_result(struct rpc_call *call, json_t *result_take) WARN_UNUSED;

struct rpc_reply rpc_reply_error(struct rpc_call *call, struct rpc_error *error_take) WARN_UNUSED;

/* The reply comes later. `ops` must outlive the call. */
struct rpc_reply rpc_reply_pending(struct rpc_call *call, const struct rpc_call_ops *ops,
				   void *user) WARN_UNUSED;

/* Ends a pending call with its reply. The call is gone afterwards. */
void rpc_call_finish_result(struct rpc_call *call, json_t *result_take);
void rpc_call_finish_error(struct rpc_call *call, struct rpc_error *error_take);

/* Sends a notification to the call's connection, before the call's reply. */
void rpc_call_notify(struct rpc_call *call, const char *method, json_t *params_take);

/* The request's id, NULL for a notification. Borrowed. */
const json_t *rpc_call_id(const struct rpc_call *call);

/* Who called. Borrowed: copy it to keep it longer than the call. */
const struct rpc_peer *rpc_call_peer(const struct rpc_call *call);

/* The pointer given to rpc_server_create(). */
void *rpc_call_context(const struct rpc_call *call);

/*
 * Counts `bytes` that the handler keeps of the request against what the daemon buffers for this
 * user, until the call ends. False when that is too much: answer RPC_QUOTA_EXCEEDED.
 */
bool rpc_call_hold(struct rpc_call *call, size_t bytes) WARN_UNUSED;

/* The descriptor that came with the request (SCM_RIGHTS). Of several requests that were sent at
 * once they are taken in the order they came. The handler's from now on; -1: there is none. Only
 * while it runs. */
int rpc_call_take_descriptor(struct rpc_call *call);

/* Whether notifications should be held back now. */
bool rpc_call_is_congested(const struct rpc_call *call);

/* The connection, for events_subscribe(). Valid as long as the call. */
struct rpc_conn *rpc_call_conn(const struct rpc_call *call);

#endif
