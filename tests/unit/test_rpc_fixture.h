/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON-RPC server with methods for tests, in this process, and clients of it; header only. */
#ifndef TESTS_UNIT_TEST_RPC_FIXTURE_H
#define TESTS_UNIT_TEST_RPC_FIXTURE_H

#include "base/loop.h"
#include "daemon/rpc/events.h"
#include "daemon/rpc/server.h"
#include "tests/unit/suite.h"
#include "tests/vectors/line_client.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define HELD_MAX 256
#define FX       UNUSED static

/* One call that waits: what it heard is kept for the test to look at. */
struct held {
	struct rpc_call *call; /* NULL once finished or gone */
};

struct world {
	struct loop *loop;
	struct rpc_server *server;
	char dir[64];
	int listen_fd;
	struct rpc_server_config config;
	struct held held[HELD_MAX];
	size_t held_count;
	bool is_cancel_slow; /* "hold" takes note of a cancel and goes on */
	size_t cancelled, gone, congested, uncongested, idle;
	ev_timer soon;
	struct rpc_call *soon_call;
	uint64_t flood_left; /* notifications that "flood" has not sent yet */
	struct rpc_call *flood_call;
	bool is_flood_stopped;
	struct rpc_conn *last_conn;
};

FX struct world world;

FX void fx_release_all(void)
{
	for (size_t i = 0; i < world.held_count; i++)
		if (world.held[i].call)
			rpc_call_finish_result(TAKE_PTR(world.held[i].call), json_string("held"));
	world.held_count = 0;
}

FX void on_hold_cancel(void *user)
{
	struct held *held = user;

	world.cancelled++;
	if (world.is_cancel_slow)
		return;
	rpc_call_finish_error(TAKE_PTR(held->call),
			      rpc_error_new(RPC_CANCELLED, "The request was cancelled"));
}

FX void on_hold_gone(void *user)
{
	struct held *held = user;

	world.gone++;
	held->call = NULL;
}

FX void on_hold_stop(void *user)
{
	struct held *held = user;

	rpc_call_finish_error(TAKE_PTR(held->call),
			      rpc_error_new(RPC_DRAINING, "The daemon stopped"));
}

FX void on_hold_congested(void *user UNUSED, bool is_congested)
{
	*(is_congested ? &world.congested : &world.uncongested) += 1;
}

FX const struct rpc_call_ops hold_ops = {
	.on_cancel = on_hold_cancel,
	.on_gone = on_hold_gone,
	.on_congested = on_hold_congested,
	.on_stop = on_hold_stop,
};

FX struct rpc_reply fx_hold(struct rpc_call *call, const json_t *params UNUSED)
{
	struct held *held = &world.held[world.held_count++];

	ck_assert_uint_le(world.held_count, HELD_MAX);
	held->call = call;
	world.last_conn = rpc_call_conn(call);
	return rpc_reply_pending(call, &hold_ops, held);
}

FX struct rpc_reply fx_release(struct rpc_call *call, const json_t *params UNUSED)
{
	fx_release_all();
	return rpc_reply_result(call, json_string("released"));
}

FX void on_soon(struct ev_loop *ev UNUSED, ev_timer *timer UNUSED, int events UNUSED)
{
	fx_release_all();
	if (world.soon_call)
		rpc_call_finish_result(TAKE_PTR(world.soon_call), json_string("released"));
}

FX void on_soon_gone(void *user UNUSED)
{
	world.soon_call = NULL;
}

FX const struct rpc_call_ops soon_ops = {.on_gone = on_soon_gone};

FX struct rpc_reply fx_release_soon(struct rpc_call *call, const json_t *params UNUSED)
{
	world.soon_call = call;
	loop_timer_start(world.loop, &world.soon, 0.02);
	return rpc_reply_pending(call, &soon_ops, NULL);
}

/* Finishes its own call before the handler has returned. */
FX struct rpc_reply fx_at_once(struct rpc_call *call, const json_t *params UNUSED)
{
	struct rpc_reply reply = rpc_reply_pending(call, &soon_ops, NULL);

	rpc_call_notify(call, "note", json_pack("{s:i}", "before", 1));
	rpc_call_finish_result(call, json_true());
	return reply;
}

FX struct rpc_reply fx_subtract(struct rpc_call *call, const json_t *params)
{
	return rpc_reply_result(
		call, json_integer(json_integer_value(json_object_get(params, "minuend")) -
				   json_integer_value(json_object_get(params, "subtrahend"))));
}

FX struct rpc_reply fx_sum(struct rpc_call *call, const json_t *params)
{
	return rpc_reply_result(call,
				json_integer(json_integer_value(json_object_get(params, "a")) +
					     json_integer_value(json_object_get(params, "b")) +
					     json_integer_value(json_object_get(params, "c"))));
}

FX struct rpc_reply fx_null(struct rpc_call *call, const json_t *params UNUSED)
{
	return rpc_reply_result(call, json_null());
}

FX struct rpc_reply fx_get_data(struct rpc_call *call, const json_t *params UNUSED)
{
	return rpc_reply_result(call, json_pack("[s, i]", "hello", 5));
}

FX struct rpc_reply fx_admin(struct rpc_call *call, const json_t *params UNUSED)
{
	return rpc_reply_result(call, json_string("welcome"));
}

FX struct rpc_reply fx_echo(struct rpc_call *call, const json_t *params)
{
	return rpc_reply_result(call, json_incref(json_object_get(params, "text")));
}

/* No result object: as if json_pack() had failed. */
FX struct rpc_reply fx_broken(struct rpc_call *call, const json_t *params UNUSED)
{
	return rpc_reply_result(call, NULL);
}

/* A reply of so many bytes. */
FX struct rpc_reply fx_big(struct rpc_call *call, const json_t *params)
{
	size_t len = (size_t)json_integer_value(json_object_get(params, "bytes"));
	_cleanup_free_ char *text = malloc(len);

	memset(text, 'x', len);
	return rpc_reply_result(call, json_stringn(text, len));
}

FX void flood_more(void)
{
	char chunk[1024];

	memset(chunk, 'o', sizeof(chunk));
	while (world.flood_left > 0 && !world.is_flood_stopped) {
		rpc_call_notify(world.flood_call, "run.output",
				json_pack("{s:I, s:s#}", "seq", (json_int_t)world.flood_left,
					  "data", chunk, (int)sizeof(chunk)));
		world.flood_left--;
		world.is_flood_stopped = rpc_call_is_congested(world.flood_call);
	}
	if (world.flood_left == 0)
		rpc_call_finish_result(TAKE_PTR(world.flood_call), json_string("flooded"));
}

FX void on_flood_gone(void *user UNUSED)
{
	world.gone++;
	world.flood_call = NULL;
}

FX void on_flood_congested(void *user UNUSED, bool is_congested)
{
	*(is_congested ? &world.congested : &world.uncongested) += 1;
	world.is_flood_stopped = is_congested;
	if (!is_congested)
		flood_more();
}

FX const struct rpc_call_ops flood_ops = {
	.on_gone = on_flood_gone,
	.on_congested = on_flood_congested,
};

/* Sends `count` notifications of 1 KiB, holding back when told. */
FX struct rpc_reply fx_flood(struct rpc_call *call, const json_t *params)
{
	struct rpc_reply reply = rpc_reply_pending(call, &flood_ops, NULL);

	world.flood_call = call;
	world.flood_left = (uint64_t)json_integer_value(json_object_get(params, "count"));
	world.is_flood_stopped = false;
	flood_more();
	return reply;
}

FX struct rpc_reply fx_subscribe(struct rpc_call *call, const json_t *params)
{
	json_t *result = NULL;
	struct rpc_error *error = events_subscribe(
		rpc_server_events(world.server), rpc_call_conn(call),
		json_object_get(params, "types"), json_object_get(params, "since_seq"), &result);

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, result);
}

FX struct rpc_reply fx_unsubscribe(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error =
		events_unsubscribe(rpc_server_events(world.server), rpc_call_conn(call),
				   json_string_value(json_object_get(params, "subscription")));

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, json_object());
}

#define FX_INTEGER(param_name)                                                \
	{                                                                     \
		.name = param_name, .type = PARAM_INTEGER, .help = "a number" \
	}
#define FX_END               \
	{                    \
		.name = NULL \
	}

FX const struct param fx_none[] = {FX_END};
FX const struct param fx_subtract_params[] = {
	{.name = "minuend", .type = PARAM_INTEGER, .is_required = true, .help = "from this"},
	{.name = "subtrahend", .type = PARAM_INTEGER, .is_required = true, .help = "take this"},
	FX_END,
};
FX const struct param fx_numbers[] = {FX_INTEGER("a"), FX_INTEGER("b"), FX_INTEGER("c"), FX_END};
FX const struct param fx_text[] = {
	{.name = "text", .type = PARAM_STRING, .is_required = true, .help = "comes back"}, FX_END};
FX const struct param fx_bytes[] = {FX_INTEGER("bytes"), FX_END};
FX const struct param fx_count[] = {FX_INTEGER("count"), FX_END};
FX const struct param fx_types[] = {
	{.name = "types", .type = PARAM_STRINGS, .help = "patterns"},
	FX_INTEGER("since_seq"),
	FX_END,
};
FX const struct param fx_id[] = {
	{.name = "subscription", .type = PARAM_STRING, .is_required = true, .help = "id"}, FX_END};

FX const struct method fx_methods[] = {
	{"admin", "For admins", ACCESS_ADMIN, fx_none, "text"},
	{"at_once", "Finishes before its handler returns", ACCESS_ANY, fx_none, "true"},
	{"big", "A reply of a size", ACCESS_ANY, fx_bytes, "text"},
	{"broken", "Has no result", ACCESS_ANY, fx_none, "nothing"},
	{"echo", "The text again", ACCESS_ANY, fx_text, "text"},
	{"events.subscribe", "Subscribe", ACCESS_OWNER, fx_types, "{subscription, seq}"},
	{"events.unsubscribe", "Unsubscribe", ACCESS_OWNER, fx_id, "{}"},
	{"flood", "Notifications", ACCESS_ANY, fx_count, "text"},
	{"get_data", "Of the specification", ACCESS_ANY, fx_none, "list"},
	{"hold", "Waits for release or cancel", ACCESS_ANY, fx_none, "text"},
	{"notify_hello", "Of the specification", ACCESS_ANY, fx_numbers, "null"},
	{"notify_sum", "Of the specification", ACCESS_ANY, fx_numbers, "null"},
	{"release", "Ends all that hold", ACCESS_ANY, fx_none, "text"},
	{"release_soon", "The same from a timer", ACCESS_ANY, fx_none, "text"},
	{"rpc.discover", "OpenRPC", ACCESS_ANY, fx_none, "OpenRPC"},
	{"rpc.ping", "Answer", ACCESS_ANY, fx_none, "pong"},
	{"rpc.version", "Versions", ACCESS_ANY, fx_none, "{version, jsonrpc}"},
	{"subtract", "Of the specification", ACCESS_ANY, fx_subtract_params, "number"},
	{"sum", "Of the specification", ACCESS_ANY, fx_numbers, "number"},
	{"update", "Of the specification", ACCESS_ANY, fx_numbers, "null"},
	{.name = NULL},
};

FX const struct rpc_handler fx_handlers[] = {
	{"admin", fx_admin},
	{"at_once", fx_at_once},
	{"big", fx_big},
	{"broken", fx_broken},
	{"echo", fx_echo},
	{"events.subscribe", fx_subscribe},
	{"events.unsubscribe", fx_unsubscribe},
	{"flood", fx_flood},
	{"get_data", fx_get_data},
	{"hold", fx_hold},
	{"notify_hello", fx_null},
	{"notify_sum", fx_null},
	{"release", fx_release},
	{"release_soon", fx_release_soon},
	{"subtract", fx_subtract},
	{"sum", fx_sum},
	{"update", fx_null},
};

FX void on_idle(void *context)
{
	((struct world *)context)->idle++;
}

/* Number of open descriptors of this process. */
FX size_t fx_descriptors(void)
{
	size_t count = 0;

	for (int fd = 0; fd < 4096; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

FX void fx_open(struct rpc_limits limits)
{
	int dir_fd;

	world = (struct world){.listen_fd = -1};
	snprintf(world.dir, sizeof(world.dir), "/tmp/rpc-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(world.dir));
	dir_fd = open(world.dir, O_DIRECTORY | O_CLOEXEC);
	world.listen_fd = unix_listen_at(dir_fd, "socket", 128);
	close(dir_fd);
	ck_assert_int_ge(world.listen_fd, 0);
	/* For tests that connect as another user. */
	ck_assert_int_eq(chmod(world.dir, 0755), 0);
	ck_assert_int_eq(loop_create(&world.loop), 0);
	ev_timer_init(&world.soon, on_soon, 0., 0.);
	world.config = (struct rpc_server_config){
		.loop = world.loop,
		.listen_fds = &world.listen_fd,
		.listen_count = 1,
		.methods = fx_methods,
		.handlers = fx_handlers,
		.handler_count = ELEMENTSOF(fx_handlers),
		.admin_gid = RPC_NO_GID,
		.limits = limits,
		.context = &world,
		.on_idle = on_idle,
	};
	ck_assert_int_eq(rpc_server_create(&world.config, &world.server), 0);
}

FX void fx_setup(void)
{
	fx_open((struct rpc_limits){0});
}

/* Nobody can connect any more; also for tests that end without their teardown. */
FX void fx_remove_socket(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/socket", world.dir);
	unlink(path);
	rmdir(world.dir);
}

FX void fx_teardown(void)
{
	loop_timer_stop(world.loop, &world.soon);
	rpc_server_destroy(world.server);
	loop_destroy(world.loop);
	close(world.listen_fd);
	fx_remove_socket();
}

FX void fx_pump(void *user UNUSED)
{
	loop_run_once(world.loop, false);
}

FX int fx_connect(void *user UNUSED)
{
	_cleanup_close_ int dir_fd = open(world.dir, O_DIRECTORY | O_CLOEXEC);

	return unix_connect_at(dir_fd, "socket");
}

FX struct line_client fx_client(void)
{
	struct line_client client = {.fd = fx_connect(NULL), .pump = fx_pump};

	ck_assert_int_ge(client.fd, 0);
	return client;
}

FX void fx_send(struct line_client *client, const char *line)
{
	ck_assert_int_eq(line_client_send(client, line, strlen(line)), 0);
	ck_assert_int_eq(line_client_send(client, "\n", 1), 0);
}

/* The next message. */
FX json_t *fx_receive(struct line_client *client)
{
	_cleanup_free_ char *line = NULL;
	json_t *message;

	ck_assert_int_eq(line_client_receive(client, &line), 1);
	message = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	ck_assert_msg(message, "no JSON: %s", line);
	return message;
}

/* The next message is exactly this. */
FX void fx_expect(struct line_client *client, const char *wanted)
{
	_cleanup_free_ char *line = NULL;

	ck_assert_int_eq(line_client_receive(client, &line), 1);
	ck_assert_str_eq(line, wanted);
}

/* The next message is an error with this code. */
FX void fx_expect_error(struct line_client *client, int code)
{
	json_auto_t *message = fx_receive(client);

	ck_assert_int_eq(
		json_integer_value(json_object_get(json_object_get(message, "error"), "code")),
		code);
}

FX void fx_expect_closed(struct line_client *client)
{
	char *line = NULL;

	ck_assert_int_eq(line_client_receive(client, &line), 0);
}

/* Runs the loop until `condition` holds; fails when it does not within the deadline. */
#define fx_wait(condition)                                                                  \
	do {                                                                                \
		const uint64_t fx_end = now_us() + LINE_CLIENT_DEADLINE_SECONDS * 1000000u; \
		while (!(condition) && now_us() < fx_end)                                   \
			loop_run_once(world.loop, false);                                   \
		ck_assert(condition);                                                       \
	} while (0)

#endif
