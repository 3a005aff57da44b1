/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JSON-RPC 2.0 client on one connection: requests, their replies, notifications.
 *
 * Theory of operation: a client lives from client_connect() to client_destroy(). Replies match by
 * id; each request's callback runs exactly once, with a result, with the daemon's error, or with
 * neither when the connection ended first; then on_end runs once. client_destroy() may be called
 * inside callbacks: nothing is called after it, and the memory goes at the end of the loop's
 * iteration.
 */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include "base/loop.h"
#include "base/util.h"

#include <jansson.h>

/* The daemon takes messages of 16 MiB (docs/PROTOCOL.md); a request of ours stays under it. */
#define CLIENT_REQUEST_MAX (16u * 1024 * 1024)
/* A reply holds up to 16 MiB of each output, and JSON may need six bytes for one. Far beyond what
 * a daemon sends with its shipped limits; a bound against a peer that never ends its line. */
#define CLIENT_REPLY_MAX (256u * 1024 * 1024)
/* Requests in flight; all verbs but cp need one. */
#define CLIENT_PENDING_MAX 8

struct client;

/*
 * The outcome of a request. Exactly one of `result` and `error` is there; both NULL: the connection
 * ended before the reply. They are the callee's only during the call.
 */
typedef void (*client_reply_fn)(void *user, const json_t *result, const json_t *error);

struct client_ops {
	/* A notification came. May be NULL. */
	void (*on_notification)(void *user, const char *method, const json_t *params);
	/* The connection is over: 0 when the daemon closed it, -EPROTO when it sent what is no
	 * JSON-RPC, or another -errno. Once, last. */
	void (*on_end)(void *user, int error);
};

/*
 * Connects to the socket at `path`, whatever its length. 0; -ENOENT, -ECONNREFUSED, -EACCES, … as
 * connect(2) says; -ENOMEM.
 */
int client_connect(struct loop *loop, const char *path, const struct client_ops *ops, void *user,
		   struct client **ret);

/* The same over a connected socket. */
int client_create(struct loop *loop, int fd_take, const struct client_ops *ops, void *user,
		  struct client **ret);

/* Closes and frees; NULL is fine. Callbacks of open requests do not run. */
void client_destroy(struct client *client);

/*
 * Sends a request; `params_take` may be NULL. 0 and its id; -EMSGSIZE when it is over
 * CLIENT_REQUEST_MAX, -EBUSY, -EPIPE, -ENOBUFS, -ENOMEM; on an error `fn` is not called.
 */
int client_request(struct client *client, const char *method, json_t *params_take,
		   client_reply_fn fn, void *user, json_int_t *ret_id);

/* The next request carries a descriptor. 0; -EBUSY while an earlier one has not gone, -EPIPE. */
int client_pass(struct client *client, int fd_take);

/* Sends a notification. 0 or as above. */
int client_notify(struct client *client, const char *method, json_t *params_take);

#endif
