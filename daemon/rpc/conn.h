/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client connection: bytes to lines, replies to bytes, and the end of both.
 *
 * Theory of operation: lines are handled one after the other until the connection is congested
 * (RPC_CONGESTED_BYTES unsent); then neither the handled lines nor the socket give more work until
 * the output has drained, so a client that does not read its replies cannot make more of them.
 * A client that sends many requests at once takes turns with the others (CONN_LINES_PER_TURN).
 * A peer that only shut its sending side down gets all its replies before the connection ends;
 * while it has calls in flight, a subscription or unsent bytes it stays. A peer that closed is
 * noticed at once (base/stream.h) and its calls hear on_gone. A connection that breaks a limit gets
 * one error with id null (1010, 1011) and is REFUSED: its input is thrown away up to the next line
 * end or for RPC_LINGER_SECONDS, because closing at once would reset the peer, which may still be
 * writing, before it reads why. The states are at enum conn_state.
 * Ending is always by the loop: rpc_conn_end() closes the descriptor at once, but calls hear it and
 * memory goes at the end of the iteration, so no handler loses its call inside one of its own
 * function calls.
 */
#ifndef DAEMON_RPC_CONN_H
#define DAEMON_RPC_CONN_H

#include "daemon/rpc/peer.h"
#include "daemon/rpc/text.h"
#include "protocol/rpc_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include <sys/queue.h>

struct rpc_account;
struct rpc_call;
struct rpc_conn;
struct rpc_server;

/* How long a refused peer may go on writing: ample for 16 MiB over a Unix socket. */
#define RPC_LINGER_SECONDS 5.

/* Lines handled before other connections have their turn: some take a millisecond (memory.stats).
 */
#define CONN_LINES_PER_TURN 32

/* Descriptors that came with requests and wait to be taken by them; more end the connection. When
 * no line is left to handle those that were not taken are closed. */
#define RPC_DESCRIPTORS_MAX 8

/* Embedded in whoever wants to hear of a connection's end. Zeroed when idle. */
struct rpc_conn_watch {
	LIST_ENTRY(rpc_conn_watch) link;
	bool is_on;
	void (*on_end)(void *user); /* from the loop, behind on_gone of the connection's calls */
	void (*on_drained)(void *user); /* it is congested no longer; set by the owner, or NULL */
	void *user;
};

void rpc_conn_watch_start(struct rpc_conn *conn, struct rpc_conn_watch *watch,
			  void (*fn)(void *user), void *user);
/* Harmless when it is idle. */
void rpc_conn_watch_stop(struct rpc_conn_watch *watch);

/* A peer that only shut its sending side down stays as long as somebody has notifications for it.
 */
void rpc_conn_hold_open(struct rpc_conn *conn);
void rpc_conn_let_go(struct rpc_conn *conn);

/* Sends a notification; the same as rpc_call_notify() for who has no call. */
void rpc_conn_notify(struct rpc_conn *conn, const char *method, json_t *params_take);

/* Serves a new connection. NULL without memory, the descriptor closed. */
struct rpc_conn *rpc_conn_create(struct rpc_server *server, int fd_take,
				 const struct rpc_peer *peer, struct rpc_account *account);

/* Sends one message with its line end; dropped when the connection takes none any more. Breaking a
 * limit ends the connection. */
void rpc_conn_send(struct rpc_conn *conn, const char *line, size_t len);

/* The same for a text that is not needed any more: it is empty when the connection keeps it. */
void rpc_conn_send_text(struct rpc_conn *conn, struct text *text);

/* Sends one last error with id null, then ends. */
void rpc_conn_refuse(struct rpc_conn *conn, struct rpc_error *error_take);

/* Ends the connection now; `reason` is logged at `level`. */
void rpc_conn_end(struct rpc_conn *conn, int level, const char *reason);

/* Ends a half-closed connection if nothing is left to send to it. */
void rpc_conn_settle(struct rpc_conn *conn);

/* Charges bytes that a call keeps of its request. False, and nothing charged, when all of the
 * user's calls would keep more than half of the cap. */
bool rpc_conn_hold(struct rpc_conn *conn, size_t bytes);

/* Gives them back. */
void rpc_conn_unhold(struct rpc_conn *conn, size_t bytes);

/* The first descriptor that came and was not taken. -1: there is none. */
int rpc_conn_take_descriptor(struct rpc_conn *conn);

/* Charges replies that wait for the rest of their batch; negative when they go. */
void rpc_conn_park(struct rpc_conn *conn, ptrdiff_t bytes);

/* Frees an ended connection: its calls hear on_gone first. For the server's end. */
void rpc_conn_destroy(struct rpc_conn *conn);

/* The call with that id in flight, or NULL. */
struct rpc_call *rpc_conn_find_call(struct rpc_conn *conn, const char *id_text);

/* Whether messages are still taken. */
bool rpc_conn_is_writable(const struct rpc_conn *conn);

bool rpc_conn_is_congested(const struct rpc_conn *conn);

const struct rpc_peer *rpc_conn_peer(const struct rpc_conn *conn);

/* "conn_7 uid 1000 pid 4711", for log lines. */
const char *rpc_conn_name(const struct rpc_conn *conn);

#endif
