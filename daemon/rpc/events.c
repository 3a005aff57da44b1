/* SPDX-License-Identifier: Apache-2.0 */
/* The event hub: what happens in the daemon, for whoever subscribed. */
#include "daemon/rpc/events.h"

#include "base/log.h"
#include "daemon/rpc/internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DROPPED_TYPE "events.dropped"

struct event {
	uid_t uid;
	char type[EVENTS_TYPE_MAX_BYTES + 1];
	char *members; /* "seq":…,"time":…,"type":… as every subscriber gets them; NULL: lost for
			  want of memory */
};

struct subscription {
	LIST_ENTRY(subscription) link;
	struct rpc_conn *conn;
	uint64_t id;
	uint64_t next_seq;
	size_t pattern_count;
	char patterns[EVENTS_PATTERNS_MAX][EVENTS_TYPE_MAX_BYTES + 1];
};

struct events_hub {
	struct loop *loop;
	uint64_t seq, last_subscription;
	struct defer wake;
	struct text line;
	LIST_HEAD(subscription_list, subscription) subscriptions;
	struct event ring[EVENTS_KEPT]; /* event number s at s % EVENTS_KEPT */
};

int events_create(struct loop *loop, struct events_hub **ret)
{
	struct events_hub *hub = calloc(1, sizeof(*hub));

	if (!hub)
		return -ENOMEM;
	hub->loop = loop;
	LIST_INIT(&hub->subscriptions);
	*ret = hub;
	return 0;
}

static void end_subscription(struct subscription *subscription)
{
	LIST_REMOVE(subscription, link);
	subscription->conn->subscriptions--;
	free(subscription);
}

void events_destroy(struct events_hub *hub)
{
	if (!hub)
		return;
	/* The connections went first, and took theirs with them. */
	assert(LIST_EMPTY(&hub->subscriptions));
	loop_defer_cancel(hub->loop, &hub->wake);
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		free(hub->ring[i].members);
	text_fini(&hub->line);
	free(hub);
}

/* "*", "vm.*" or the type itself. */
static bool pattern_matches(const char *pattern, const char *type)
{
	const size_t len = strlen(pattern);

	if (pattern[len - 1] == '*')
		return strncmp(pattern, type, len - 1) == 0;
	return strcmp(pattern, type) == 0;
}

static bool is_wanted(const struct subscription *subscription, const struct event *event)
{
	const struct rpc_peer *peer = rpc_conn_peer(subscription->conn);

	if (!peer->is_admin && peer->uid != event->uid)
		return false;
	for (size_t i = 0; i < subscription->pattern_count; i++)
		if (pattern_matches(subscription->patterns[i], event->type))
			return true;
	return false;
}

static void send_event(struct events_hub *hub, const struct subscription *subscription,
		       const char *members)
{
	char id[32];

	snprintf(id, sizeof(id), "sub_%" PRIu64, subscription->id);
	text_reset(&hub->line, EVENTS_TEXT_MAX_BYTES);
	text_add_string(
		&hub->line,
		"{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"subscription\":\"");
	text_add_string(&hub->line, id);
	text_add_string(&hub->line, "\",");
	text_add_string(&hub->line, members);
	text_add_string(&hub->line, "}}\n");
	if (!hub->line.is_failed)
		rpc_conn_send(subscription->conn, hub->line.data, hub->line.len);
}

static void send_dropped(struct events_hub *hub, const struct subscription *subscription,
			 uint64_t last_seq)
{
	char members[256], time[RFC3339_SIZE];

	format_rfc3339(realtime_ns(), time);
	snprintf(members, sizeof(members),
		 "\"seq\":%" PRIu64 ",\"time\":\"%s\",\"type\":\"" DROPPED_TYPE
		 "\",\"data\":{\"first_seq\":%" PRIu64 ",\"last_seq\":%" PRIu64 "}",
		 last_seq, time, subscription->next_seq, last_seq);
	send_event(hub, subscription, members);
}

/* Sends what the subscription has not seen, as far as its connection takes it. */
static void pump(struct events_hub *hub, struct subscription *subscription)
{
	const uint64_t oldest = hub->seq > EVENTS_KEPT ? hub->seq - EVENTS_KEPT + 1 : 1;

	while (subscription->next_seq <= hub->seq && rpc_conn_is_writable(subscription->conn) &&
	       !rpc_conn_is_congested(subscription->conn)) {
		const struct event *event = &hub->ring[subscription->next_seq % EVENTS_KEPT];

		if (subscription->next_seq < oldest) {
			send_dropped(hub, subscription, oldest - 1);
			subscription->next_seq = oldest;
			continue;
		}
		if (!event->members)
			send_dropped(hub, subscription, subscription->next_seq);
		else if (is_wanted(subscription, event))
			send_event(hub, subscription, event->members);
		subscription->next_seq++;
	}
}

static void on_wake(void *user)
{
	struct events_hub *hub = user;
	struct subscription *subscription;

	/* Sending ends no subscription: an ended connection gives them up later, from the loop. */
	LIST_FOREACH(subscription, &hub->subscriptions, link)
	pump(hub, subscription);
}

void events_wake(struct events_hub *hub)
{
	loop_defer(hub->loop, &hub->wake, on_wake, hub);
}

static void add_member(struct text *text, const char *name, const json_t *value)
{
	if (!value)
		return;
	text_add_string(text, ",\"");
	text_add_string(text, name);
	text_add_string(text, "\":");
	text_add_json(text, value);
}

/* Renders an event's members into the hub's line. */
static void render(struct events_hub *hub, const char *type, const json_t *fields,
		   const json_t *data)
{
	char head[64 + RFC3339_SIZE], time[RFC3339_SIZE];

	format_rfc3339(realtime_ns(), time);
	snprintf(head, sizeof(head), "\"seq\":%" PRIu64 ",\"time\":\"%s\",\"type\":\"", hub->seq,
		 time);
	text_reset(&hub->line, EVENTS_TEXT_MAX_BYTES);
	text_add_string(&hub->line, head);
	text_add_string(&hub->line, type);
	text_add_string(&hub->line, "\"");
	add_member(&hub->line, "vm", json_object_get(fields, "vm"));
	add_member(&hub->line, "session", json_object_get(fields, "session"));
	add_member(&hub->line, "data", data);
}

void events_publish(struct events_hub *hub, const char *type, uid_t visible_uid,
		    json_t *fields_take)
{
	json_auto_t *fields = fields_take, *none = json_object();
	struct event *event = &hub->ring[++hub->seq % EVENTS_KEPT];

	render(hub, type, fields, json_object_get(fields, "data") ?: none);
	if (hub->line.len > EVENTS_TEXT_MAX_BYTES) {
		log_warning(NULL, "Event '%s' has %zu bytes: sent without its data", type,
			    hub->line.len);
		render(hub, type, fields, none);
	}
	free(event->members);
	*event = (struct event){.uid = visible_uid};
	snprintf(event->type, sizeof(event->type), "%s", type);
	if (!hub->line.is_failed)
		event->members = strndup(hub->line.data, hub->line.len);
	events_wake(hub);
}

static bool is_pattern(const char *pattern, size_t len)
{
	const size_t literal = strspn(pattern, "abcdefghijklmnopqrstuvwxyz0123456789_.");

	if (len == 0 || len > EVENTS_TYPE_MAX_BYTES)
		return false;
	if (literal == len)
		return true;
	/* A star stands at the end, alone or behind a dot. */
	return literal == len - 1 && pattern[literal] == '*' &&
	       (literal == 0 || pattern[literal - 1] == '.');
}

static struct rpc_error *bad_types(const char *what)
{
	return rpc_error_set(rpc_error_new(RPC_INVALID_PARAMS, "Parameter 'types' %s", what),
			     "field", json_string("types"));
}

/* Fills in the patterns. NULL or the error to answer. */
static struct rpc_error *read_types(struct subscription *subscription, const json_t *types)
{
	const json_t *type;
	size_t i;

	if (!types) {
		snprintf(subscription->patterns[0], sizeof(subscription->patterns[0]), "*");
		subscription->pattern_count = 1;
		return NULL;
	}
	if (json_array_size(types) == 0 || json_array_size(types) > EVENTS_PATTERNS_MAX)
		return bad_types("has 1 to 32 elements");
	json_array_foreach (types, i, type) {
		if (!json_is_string(type) ||
		    !is_pattern(json_string_value(type), json_string_length(type)))
			return bad_types("takes types ('vm.started'), prefixes ('vm.*') and '*'");
		snprintf(subscription->patterns[i], sizeof(subscription->patterns[i]), "%s",
			 json_string_value(type));
	}
	subscription->pattern_count = json_array_size(types);
	return NULL;
}

static uint64_t first_seq(const struct events_hub *hub, const json_t *since_seq)
{
	const json_int_t since = json_integer_value(since_seq);

	if (!since_seq)
		return hub->seq + 1;
	return since < 0 || (uint64_t)since > hub->seq ? 1 : (uint64_t)since + 1;
}

struct rpc_error *events_subscribe(struct events_hub *hub, struct rpc_conn *conn,
				   const json_t *types, const json_t *since_seq,
				   json_t **ret_result)
{
	struct subscription *subscription;
	struct rpc_error *error;
	char id[32];

	if (conn->subscriptions >= EVENTS_SUBSCRIPTIONS_PER_CONN)
		return rpc_error_new(RPC_QUOTA_EXCEEDED, "This connection has %u subscriptions",
				     EVENTS_SUBSCRIPTIONS_PER_CONN);
	subscription = calloc(1, sizeof(*subscription));
	if (!subscription)
		return rpc_error_new(RPC_INTERNAL_ERROR, "No memory for a subscription");
	error = read_types(subscription, types);
	if (error) {
		free(subscription);
		return error;
	}
	subscription->conn = conn;
	subscription->id = ++hub->last_subscription;
	subscription->next_seq = first_seq(hub, since_seq);
	LIST_INSERT_HEAD(&hub->subscriptions, subscription, link);
	conn->subscriptions++;
	events_wake(hub);
	snprintf(id, sizeof(id), "sub_%" PRIu64, subscription->id);
	*ret_result = json_pack("{s:s, s:I}", "subscription", id, "seq", (json_int_t)hub->seq);
	return NULL;
}

struct rpc_error *events_unsubscribe(struct events_hub *hub, struct rpc_conn *conn,
				     const char *subscription_id)
{
	struct subscription *subscription;

	LIST_FOREACH(subscription, &hub->subscriptions, link)
	{
		char id[32];

		snprintf(id, sizeof(id), "sub_%" PRIu64, subscription->id);
		if (subscription->conn != conn || strcmp(id, subscription_id) != 0)
			continue;
		end_subscription(subscription);
		rpc_conn_settle(conn);
		return NULL;
	}
	return rpc_error_set(
		rpc_error_new(RPC_INVALID_PARAMS, "This connection has no such subscription"),
		"field", json_string("subscription"));
}

uint64_t events_seq(const struct events_hub *hub)
{
	return hub->seq;
}

void events_forget(struct events_hub *hub, const struct rpc_conn *conn)
{
	struct subscription *subscription = LIST_FIRST(&hub->subscriptions);

	while (subscription) {
		struct subscription *next = LIST_NEXT(subscription, link);

		if (subscription->conn == conn)
			end_subscription(subscription);
		subscription = next;
	}
}
