/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a client at the JSON-RPC server, with the real method table over handlers that answer in
 * every way there is: at once, with an error, before returning, later, never.
 */
#include "base/util.h"
#include "daemon/rpc/events.h"
#include "tests/fuzz/client.h"

#include <string.h>
#include <sys/queue.h>

/* A call that waits: cancelled, gone with its connection, or released by `info`. */
struct held {
	LIST_ENTRY(held) link;
	struct rpc_call *call;
};

struct client {
	struct fuzz_client peer;
	LIST_HEAD(, held) held;
};

static void held_free(struct held *held)
{
	LIST_REMOVE(held, link);
	free(held);
}

static void on_cancel(void *user)
{
	struct held *held = user;
	struct rpc_call *call = held->call;

	held_free(held);
	rpc_call_finish_error(call, rpc_error_new(RPC_CANCELLED, "The request was cancelled"));
}

static void on_gone(void *user)
{
	held_free(user);
}

static const struct rpc_call_ops held_ops = {.on_cancel = on_cancel, .on_gone = on_gone};

static struct rpc_reply hold(struct rpc_call *call, const json_t *params)
{
	struct client *client = rpc_call_context(call);
	struct held *held = calloc(1, sizeof(*held));

	FUZZ_CHECK(held);
	held->call = call;
	LIST_INSERT_HEAD(&client->held, held, link);
	rpc_call_notify(call, "run.output",
			json_pack("{s:O*}", "data", json_object_get(params, "code")));
	return rpc_reply_pending(call, &held_ops, held);
}

static struct rpc_reply release_all(struct rpc_call *call, const json_t *params)
{
	struct client *client = rpc_call_context(call);

	while (!LIST_EMPTY(&client->held)) {
		struct held *held = LIST_FIRST(&client->held);
		struct rpc_call *waiting = held->call;

		held_free(held);
		rpc_call_finish_result(waiting, json_true());
	}
	events_publish(rpc_server_events(client->peer.server), "vm.started", EVENTS_FOR_ADMINS,
		       json_pack("{s:s}", "vm", "vm_1"));
	return rpc_reply_result(call, json_incref((json_t *)params));
}

static struct rpc_reply finish_at_once(struct rpc_call *call, const json_t *params UNUSED)
{
	static const struct rpc_call_ops none = {0};
	struct rpc_reply reply = rpc_reply_pending(call, &none, NULL);

	rpc_call_finish_result(call, json_null());
	return reply;
}

static struct rpc_reply refuse(struct rpc_call *call, const json_t *params)
{
	const char *vm = json_string_value(json_object_get(params, "vm"));

	return rpc_reply_error(call, rpc_error_new(RPC_VM_NOT_FOUND, "No VM '%s'", vm ? vm : "?"));
}

static struct rpc_reply subscribe(struct rpc_call *call, const json_t *params)
{
	struct client *client = rpc_call_context(call);
	json_t *result = NULL;
	struct rpc_error *error = events_subscribe(
		rpc_server_events(client->peer.server), rpc_call_conn(call),
		json_object_get(params, "types"), json_object_get(params, "since_seq"), &result);

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, result);
}

static struct rpc_reply unsubscribe(struct rpc_call *call, const json_t *params)
{
	struct client *client = rpc_call_context(call);
	struct rpc_error *error =
		events_unsubscribe(rpc_server_events(client->peer.server), rpc_call_conn(call),
				   json_string_value(json_object_get(params, "subscription")));

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, json_true());
}

static rpc_handler_fn handler_of(const char *method)
{
	static const struct rpc_handler special[] = {
		{"run", hold},
		{"info", release_all},
		{"health", finish_at_once},
		{"events.subscribe", subscribe},
		{"events.unsubscribe", unsubscribe},
	};

	for (size_t i = 0; i < ELEMENTSOF(special); i++)
		if (strcmp(special[i].name, method) == 0)
			return special[i].fn;
	return refuse;
}

static void read_replies(void *user)
{
	fuzz_client_read(&((struct client *)user)->peer);
}

/* First byte: piece length; the rest is what the client sends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct client client = {0};
	struct loop *loop;

	fuzz_begin();
	if (size < 1)
		return 0;
	FUZZ_CHECK(loop_create(&loop) == 0);
	fuzz_client_start(&client.peer, loop, handler_of, &client);
	fuzz_play(loop, client.peer.fd, data + 1, size - 1, fuzz_piece(data[0], size - 1),
		  read_replies, &client);
	fuzz_client_end(&client.peer);
	FUZZ_CHECK(LIST_EMPTY(&client.held));
	loop_destroy(loop);
	return 0;
}
