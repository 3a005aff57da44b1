/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a client at the JSON-RPC server, with the real method table over handlers that answer in
 * every way there is: at once, with an error, before returning, later, never.
 */
#include "base/util.h"
#include "daemon/rpc/builtin.h"
#include "daemon/rpc/events.h"
#include "daemon/rpc/server.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

#define METHODS_MAX 64
/* Our end's buffer of an unfinished reply; replies to small inputs are small. */
#define REPLY_MAX (1u << 20)

/* A call that waits: cancelled, gone with its connection, or released by `info`. */
struct held {
	LIST_ENTRY(held) link;
	struct rpc_call *call;
};

struct client {
	struct loop *loop;
	struct rpc_server *server;
	int listen_fd, fd;
	char *reply; /* the unfinished line */
	size_t reply_len;
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
	events_publish(rpc_server_events(client->server), "vm.started", EVENTS_FOR_ADMINS,
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
		rpc_server_events(client->server), rpc_call_conn(call),
		json_object_get(params, "types"), json_object_get(params, "since_seq"), &result);

	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, result);
}

static struct rpc_reply unsubscribe(struct rpc_call *call, const json_t *params)
{
	struct client *client = rpc_call_context(call);
	struct rpc_error *error =
		events_unsubscribe(rpc_server_events(client->server), rpc_call_conn(call),
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

static bool is_builtin(const char *method)
{
	for (size_t i = 0; i < RPC_BUILTIN_COUNT; i++)
		if (strcmp(rpc_builtin_handlers[i].name, method) == 0)
			return true;
	return false;
}

/* A socket with a name the kernel picks (unix(7), "Autobind"), so that no file is left behind. */
static int listen_anywhere(struct sockaddr_un *ret_address, socklen_t *ret_len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	*ret_len = sizeof(*ret_address);
	FUZZ_CHECK(fd >= 0);
	FUZZ_CHECK(bind(fd, (struct sockaddr *)ret_address, sizeof(sa_family_t)) == 0);
	FUZZ_CHECK(listen(fd, 1) == 0);
	FUZZ_CHECK(getsockname(fd, (struct sockaddr *)ret_address, ret_len) == 0);
	return fd;
}

static void client_start(struct client *client)
{
	struct rpc_handler handlers[METHODS_MAX];
	struct sockaddr_un address;
	socklen_t address_len;
	size_t count = 0;

	*client = (struct client){.listen_fd = listen_anywhere(&address, &address_len)};
	for (const struct method *method = method_table; method->name; method++) {
		FUZZ_CHECK(count < METHODS_MAX);
		if (!is_builtin(method->name))
			handlers[count++] = (struct rpc_handler){.name = method->name,
								 .fn = handler_of(method->name)};
	}
	FUZZ_CHECK(loop_create(&client->loop) == 0);
	FUZZ_CHECK(rpc_server_create(
			   &(struct rpc_server_config){
				   .loop = client->loop,
				   .listen_fds = &client->listen_fd,
				   .listen_count = 1,
				   .methods = method_table,
				   .handlers = handlers,
				   .handler_count = count,
				   .admin_gid = RPC_NO_GID,
				   .context = client,
			   },
			   &client->server) == 0);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	FUZZ_CHECK(client->fd >= 0);
	FUZZ_CHECK(connect(client->fd, (struct sockaddr *)&address, address_len) == 0);
	fuzz_settle(client->loop);
	FUZZ_CHECK(rpc_server_connection_count(client->server) == 1);
}

/* Every line of the server is one JSON object, or an array of them. */
static void check_line(const char *line, size_t len)
{
	json_error_t error;
	json_t *json = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);

	FUZZ_CHECK(json);
	FUZZ_CHECK(json_is_array(json) ||
		   strcmp(json_string_value(json_object_get(json, "jsonrpc")), "2.0") == 0);
	FUZZ_CHECK(!json_is_array(json) || json_array_size(json) > 0);
	json_decref(json);
}

static void read_replies(void *user)
{
	struct client *client = user;
	char *end;
	ssize_t n;

	if (!client->reply)
		client->reply = malloc(REPLY_MAX);
	FUZZ_CHECK(client->reply);
	while ((n = read(client->fd, client->reply + client->reply_len,
			 REPLY_MAX - client->reply_len)) > 0) {
		client->reply_len += (size_t)n;
		while ((end = memchr(client->reply, '\n', client->reply_len))) {
			check_line(client->reply, (size_t)(end - client->reply));
			client->reply_len -= (size_t)(end + 1 - client->reply);
			memmove(client->reply, end + 1, client->reply_len);
		}
		FUZZ_CHECK(client->reply_len < REPLY_MAX);
		fuzz_settle(client->loop);
	}
}

static void client_end(struct client *client)
{
	shutdown(client->fd, SHUT_WR);
	fuzz_settle(client->loop);
	read_replies(client);
	FUZZ_CHECK(client->reply_len == 0);
	close_fd(client->fd);
	fuzz_settle(client->loop);
	FUZZ_CHECK(rpc_server_connection_count(client->server) == 0);
	FUZZ_CHECK(LIST_EMPTY(&client->held));
	rpc_server_destroy(client->server);
	loop_destroy(client->loop);
	close_fd(client->listen_fd);
	free(client->reply);
}

/* First byte: piece length; the rest is what the client sends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct client client;

	fuzz_begin();
	if (size < 1)
		return 0;
	client_start(&client);
	fuzz_play(client.loop, client.fd, data + 1, size - 1, fuzz_piece(data[0], size - 1),
		  read_replies, &client);
	client_end(&client);
	return 0;
}
