/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event hub: what happens in the daemon, for whoever subscribed.
 *
 * Theory of operation: published events get a sequence number that rises by one for the life of the
 * daemon, and the last EVENTS_KEPT of them stay in a ring. A subscription is a place in that
 * sequence: the ring is its buffer, for new events and for repeated ones (since_seq) alike. Events
 * are sent from the loop, never inside events_publish(). While a connection is congested its
 * subscriptions stand still; one that fell out of the ring meanwhile is told so by an event of type
 * "events.dropped" with data {first_seq, last_seq}, and goes on behind the gap: nobody is cut off
 * for being slow, and nothing is buffered for them.
 * A caller sees the events of its own uid, an admin all.
 */
#ifndef DAEMON_RPC_EVENTS_H
#define DAEMON_RPC_EVENTS_H

#include "base/loop.h"
#include "protocol/rpc_error.h"

#include <jansson.h>
#include <stdint.h>
#include <sys/types.h>

/* A busy host makes tens of events per second: some tens of seconds to read or to come back. */
#define EVENTS_KEPT                   1024u
#define EVENTS_SUBSCRIPTIONS_PER_CONN 16u
#define EVENTS_PATTERNS_MAX           32u
#define EVENTS_TYPE_MAX_BYTES         63u
/* Rendered; larger `data` is left out. Bounds the ring to 16 MiB. */
#define EVENTS_TEXT_MAX_BYTES (16u * 1024)

/* For events that only admins see. */
#define EVENTS_FOR_ADMINS ((uid_t)-1)

struct events_hub;
struct rpc_conn;

/* 0 or -ENOMEM. The hub is made and destroyed by the server. */
int events_create(struct loop *loop, struct events_hub **ret);
void events_destroy(struct events_hub *hub);

/*
 * Publishes an event of `type` ("vm.started": lower case, digits, '_' and dots) that
 * `visible_uid` and admins may see. `fields_take` is an object with any of `vm`, `session` and
 * `data`, or NULL. Without memory the event is lost, and all subscribers get an
 * events.dropped in its place.
 */
void events_publish(struct events_hub *hub, const char *type, uid_t visible_uid,
		    json_t *fields_take);

/*
 * Subscribes a connection: `types` is an array of strings ("vm.started", "vm.*", "*"), NULL for
 * all; `since_seq` an integer behind which kept events are repeated, NULL for new ones only. A
 * since_seq that has not been given out yet is from an earlier life of the daemon: everything kept
 * is repeated. NULL and the result {subscription, seq} to answer with; or the error to answer with.
 * The first `event` follows a reply that is returned at once (in a batch it may come before it).
 */
struct rpc_error *events_subscribe(struct events_hub *hub, struct rpc_conn *conn,
				   const json_t *types, const json_t *since_seq,
				   json_t **ret_result) WARN_UNUSED;

/* Ends a subscription of this connection. NULL, or RPC_INVALID_PARAMS when it has none of that
 * id. */
struct rpc_error *events_unsubscribe(struct events_hub *hub, struct rpc_conn *conn,
				     const char *subscription) WARN_UNUSED;

/* The newest sequence number; 0 before the first event. */
uint64_t events_seq(const struct events_hub *hub);

/* A connection has drained: its subscriptions go on. For conn.c. */
void events_wake(struct events_hub *hub);

/* A connection goes: its subscriptions too. For conn.c. */
void events_forget(struct events_hub *hub, const struct rpc_conn *conn);

#endif
