/* SPDX-License-Identifier: Apache-2.0 */
/* The structs that the files of daemon/rpc share. Nobody else includes this. */
#ifndef DAEMON_RPC_INTERNAL_H
#define DAEMON_RPC_INTERNAL_H

#include "base/stream.h"
#include "daemon/rpc/batch.h"
#include "daemon/rpc/conn.h"
#include "daemon/rpc/dispatch.h"
#include "daemon/rpc/server.h"
#include "daemon/rpc/text.h"

#include <sys/queue.h>

/* What all connections of one user take together. Lives while it has connections. */
struct rpc_account {
	LIST_ENTRY(rpc_account) link;
	uid_t uid;
	size_t connections; /* all, with the refused ones that linger */
	size_t refused;
	size_t buffered_bytes;
	size_t held_bytes; /* of these, what calls keep of their requests */
};

struct rpc_server {
	struct loop *loop;
	struct rpc_limits limits;
	gid_t admin_gid;
	void *context;
	void (*on_idle)(void *context);
	struct dispatch_table *methods;
	json_t *openrpc; /* rpc.discover's answer, made on first use */
	struct events_hub *events;
	struct rpc_listener *listeners; /* struct in server.c */
	size_t listener_count;
	ev_timer accept_again; /* out of descriptors: accepting rests until it fires */
	bool is_draining;
	bool is_accepting_rest;
	size_t calls_in_flight;
	struct defer idle_check;
	struct text scratch; /* the message being written */
	uint64_t last_conn;
	LIST_HEAD(rpc_conn_list, rpc_conn) conns;
	LIST_HEAD(rpc_account_list, rpc_account) accounts;
};

/*
 * A connection's life. Only OPEN reads requests; OPEN and HALF_CLOSED write replies.
 */
enum conn_state {
	CONN_OPEN,
	CONN_HALF_CLOSED, /* the peer sends no more; ends when it has all its replies */
	CONN_REFUSED,   /* a last error is sent; input is thrown away for a while, so that the peer
			   can finish writing and read it */
	CONN_FINISHING, /* the last bytes go out */
	CONN_ENDED,     /* the descriptor is closed; calls hear it, then the memory goes */
};

struct rpc_conn {
	LIST_ENTRY(rpc_conn) link;
	struct rpc_server *server;
	struct rpc_account *account;
	struct rpc_peer peer;
	enum conn_state state;
	char name[48]; /* for logs */
	struct stream stream;
	struct text in;                       /* bytes of lines not yet handled */
	size_t in_start;                      /* those before are handled */
	size_t in_scanned;                    /* there is no line end before */
	int descriptors[RPC_DESCRIPTORS_MAX]; /* that came, and no request has taken */
	size_t descriptor_count;
	size_t parked_bytes;  /* replies of unfinished batches */
	size_t held_bytes;    /* of its calls' requests: rpc_call_hold() */
	size_t charged_bytes; /* what the account was told */
	bool is_yielding;     /* more lines are there; others have their turn first */
	bool is_congested;
	bool is_congestion_told; /* what the calls last heard */
	size_t subscriptions;    /* of events */
	size_t held_open;        /* rpc_conn_hold_open() */
	size_t call_count;
	LIST_HEAD(rpc_call_list, rpc_call) calls;
	LIST_HEAD(, rpc_conn_watch) watches;
	ev_timer linger, turn;
	struct defer teardown, congestion;
};

enum call_state {
	CALL_RUNNING,  /* its handler is on the stack */
	CALL_REPLIED,  /* its handler returned a result or an error, about to be sent */
	CALL_PENDING,  /* waits to be finished */
	CALL_FINISHED, /* answered; the memory goes at the end of this iteration */
	CALL_GONE,     /* its connection went first; likewise */
};

struct rpc_call {
	LIST_ENTRY(rpc_call) link;
	struct rpc_conn *conn;   /* NULL once finished or gone */
	struct rpc_batch *batch; /* NULL outside one */
	json_t *id;
	char *id_text; /* NULL for a notification */
	enum call_state state;
	bool is_cancelled;
	size_t held_bytes;
	json_t *result;
	struct rpc_error *error;
	const struct rpc_call_ops *ops;
	void *user;
	struct defer release;
};

/* call.c, for conn.c and dispatch.c */

/* A running call on `conn`; a notification has no id. NULL without memory. */
struct rpc_call *rpc_call_create(struct rpc_conn *conn, struct rpc_batch *batch,
				 const json_t *request_id, char *id_text_take);

/* Answers a message that did not become a call. `id_text` NULL is id null. */
void rpc_conn_answer_error(struct rpc_conn *conn, struct rpc_batch *batch, const char *id_text,
			   struct rpc_error *error_take);

/* Runs the handler and sends what it returned, unless that is pending. */
void rpc_call_run(struct rpc_call *call, rpc_handler_fn fn, const json_t *params);

/* Ends a running call with an error. */
void rpc_call_refuse(struct rpc_call *call, struct rpc_error *error_take);

/* $/cancelRequest. */
void rpc_call_cancel(struct rpc_call *call);

/* The daemon ends: whoever waits is answered. */
void rpc_call_stop(struct rpc_call *call);

/* The connection is gone. Only from its teardown. */
void rpc_call_gone(struct rpc_call *call);

/* server.c, for conn.c and call.c */

/* Takes an ended connection off the server's list and its account. */
void rpc_server_forget(struct rpc_conn *conn);

/* Looks, at the end of this iteration, whether a draining server is idle. */
void rpc_server_check_idle(struct rpc_server *server);

#endif
