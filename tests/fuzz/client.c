/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON-RPC server with the real method table, and a client of it that reads all answers. */
#include "tests/fuzz/client.h"

#include "base/util.h"
#include "daemon/rpc/builtin.h"
#include "protocol/method.h"

#include <string.h>

#define METHODS_MAX 64
/* Our end's buffer of an unfinished reply; replies to small inputs are small. */
#define REPLY_MAX (1u << 20)

static bool is_builtin(const char *method)
{
	for (size_t i = 0; i < RPC_BUILTIN_COUNT; i++)
		if (strcmp(rpc_builtin_handlers[i].name, method) == 0)
			return true;
	return false;
}

/* A socket with a name the kernel picks (unix(7), "Autobind"), so that no file is left behind. */
static void listen_anywhere(struct fuzz_client *client)
{
	struct sockaddr *address = (struct sockaddr *)&client->address;

	client->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	client->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	client->address_len = sizeof(client->address);
	FUZZ_CHECK(client->listen_fd >= 0);
	FUZZ_CHECK(bind(client->listen_fd, address, sizeof(sa_family_t)) == 0);
	FUZZ_CHECK(listen(client->listen_fd, 1) == 0);
	FUZZ_CHECK(getsockname(client->listen_fd, address, &client->address_len) == 0);
}

void fuzz_client_connect(struct fuzz_client *client)
{
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	FUZZ_CHECK(client->fd >= 0);
	FUZZ_CHECK(connect(client->fd, (struct sockaddr *)&client->address, client->address_len) ==
		   0);
	fuzz_settle(client->loop);
	FUZZ_CHECK(rpc_server_connection_count(client->server) == 1);
}

void fuzz_client_start(struct fuzz_client *client, struct loop *loop,
		       rpc_handler_fn (*handler_of)(const char *method), void *context)
{
	struct rpc_handler handlers[METHODS_MAX];
	size_t count = 0;

	*client = (struct fuzz_client){.loop = loop, .fd = -1};
	listen_anywhere(client);
	for (const struct method *method = method_table; method->name; method++) {
		FUZZ_CHECK(count < METHODS_MAX);
		if (!is_builtin(method->name))
			handlers[count++] = (struct rpc_handler){.name = method->name,
								 .fn = handler_of(method->name)};
	}
	FUZZ_CHECK(rpc_server_create(
			   &(struct rpc_server_config){
				   .loop = client->loop,
				   .listen_fds = &client->listen_fd,
				   .listen_count = 1,
				   .methods = method_table,
				   .handlers = handlers,
				   .handler_count = count,
				   .admin_gid = RPC_NO_GID,
				   .context = context,
			   },
			   &client->server) == 0);
	fuzz_client_connect(client);
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

void fuzz_client_read(struct fuzz_client *client)
{
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

void fuzz_client_hang_up(struct fuzz_client *client)
{
	client->fd = close_fd(client->fd);
	client->reply_len = 0;
	fuzz_settle(client->loop);
	FUZZ_CHECK(rpc_server_connection_count(client->server) == 0);
}

void fuzz_client_end(struct fuzz_client *client)
{
	shutdown(client->fd, SHUT_WR);
	fuzz_settle(client->loop);
	fuzz_client_read(client);
	FUZZ_CHECK(client->reply_len == 0);
	fuzz_client_hang_up(client);
	rpc_server_destroy(client->server);
	close_fd(client->listen_fd);
	free(client->reply);
}
