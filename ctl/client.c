/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON-RPC 2.0 client on one connection: requests, their replies, notifications. */
#include "ctl/client.h"

#include "base/log.h"
#include "base/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct pending {
	json_int_t id; /* 0: free */
	client_reply_fn fn;
	void *user;
};

struct client {
	struct loop *loop;
	const struct client_ops *ops; /* NULL once destroyed */
	void *user;
	struct stream stream;
	struct defer reaper;
	struct pending pending[CLIENT_PENDING_MAX];
	json_int_t last_id;
	char *line; /* the unfinished line */
	size_t line_len, line_size;
};

/* Ends the connection: open requests hear it first, in order, then the owner. */
static void end(struct client *client, int error)
{
	stream_close(&client->stream);
	for (size_t i = 0; i < CLIENT_PENDING_MAX && client->ops; i++) {
		struct pending pending = client->pending[i];

		client->pending[i].id = 0;
		if (pending.id)
			pending.fn(pending.user, NULL, NULL);
	}
	if (client->ops)
		client->ops->on_end(client->user, error);
}

static void on_reply(struct client *client, const json_t *message)
{
	json_int_t id = json_integer_value(json_object_get(message, "id"));
	const json_t *error = json_object_get(message, "error");
	const json_t *result = json_object_get(message, "result");

	/* id null: the daemon could not read a request of ours, or refuses the connection. It
	 * cannot say which request it means: the oldest one gets the answer. */
	for (size_t i = 0; i < CLIENT_PENDING_MAX; i++) {
		struct pending pending = client->pending[i];

		if (!pending.id || (id != pending.id && !(id == 0 && error)))
			continue;
		client->pending[i].id = 0;
		pending.fn(pending.user, error ? NULL : result, error);
		return;
	}
	log_debug("client", "Reply with unknown id dropped");
}

/* Takes one line. -EPROTO when it is no message of JSON-RPC. */
static int take_line(struct client *client, const char *line, size_t len)
{
	json_error_t why;
	json_auto_t *message = json_loadb(line, len, JSON_ALLOW_NUL, &why);
	const char *method = json_string_value(json_object_get(message, "method"));

	if (!json_is_object(message))
		return -EPROTO;
	if (method) {
		if (client->ops->on_notification)
			client->ops->on_notification(client->user, method,
						     json_object_get(message, "params"));
		return 0;
	}
	if (!json_object_get(message, "result") &&
	    !json_is_object(json_object_get(message, "error")))
		return -EPROTO;
	on_reply(client, message);
	return 0;
}

static int append(struct client *client, const char *data, size_t len)
{
	size_t size = MAX(client->line_size, (size_t)4096);
	char *grown;

	if (client->line_len + len > CLIENT_REPLY_MAX)
		return -EPROTO;
	while (size < client->line_len + len)
		size *= 2;
	if (size != client->line_size) {
		grown = realloc(client->line, size);
		if (!grown)
			return -ENOMEM;
		client->line = grown;
		client->line_size = size;
	}
	memcpy(client->line + client->line_len, data, len);
	client->line_len += len;
	return 0;
}

static void on_data(void *user, const uint8_t *data, size_t len)
{
	struct client *client = user;
	const char *at = (const char *)data, *stop = at + len;
	int r = 0;

	while (at < stop && client->ops && stream_is_open(&client->stream)) {
		const char *newline = memchr(at, '\n', (size_t)(stop - at));

		r = append(client, at, (size_t)((newline ?: stop) - at));
		if (r == 0 && newline) {
			r = take_line(client, client->line, client->line_len);
			client->line_len = 0;
		}
		if (r < 0) {
			if (client->ops)
				end(client, r);
			return;
		}
		at = newline ? newline + 1 : stop;
	}
}

static void on_stream_end(void *user, int error)
{
	end(user, error);
}

int client_create(struct loop *loop, int fd_take, const struct client_ops *ops, void *user,
		  struct client **ret)
{
	static const struct stream_ops stream_ops = {.on_data = on_data, .on_end = on_stream_end};
	struct client *client = calloc(1, sizeof(*client));

	if (!client) {
		close_fd(fd_take);
		return -ENOMEM;
	}
	client->loop = loop;
	client->ops = ops;
	client->user = user;
	stream_init(&client->stream, loop, fd_take, CLIENT_REQUEST_MAX + 4096, &stream_ops, client);
	*ret = client;
	return 0;
}

int client_connect(struct loop *loop, const char *path, const struct client_ops *ops, void *user,
		   struct client **ret)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *folder =
		slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	_cleanup_close_ int dir_fd = -1;
	int fd;

	if (!folder)
		return -ENOMEM;
	dir_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	fd = unix_connect_at(dir_fd, slash ? slash + 1 : path);
	if (fd < 0)
		return fd;
	return client_create(loop, fd, ops, user, ret);
}

static void reap(void *user)
{
	struct client *client = user;

	free(client->line);
	free(client);
}

void client_destroy(struct client *client)
{
	if (!client || !client->ops)
		return;
	client->ops = NULL;
	stream_close(&client->stream);
	loop_defer(client->loop, &client->reaper, reap, client);
}

/* Sends one message as a line. */
static int send_message(struct client *client, const json_t *message)
{
	_cleanup_free_ char *text = json_dumps(message, JSON_COMPACT);
	size_t len;

	if (!text)
		return -ENOMEM;
	len = strlen(text);
	if (len > CLIENT_REQUEST_MAX)
		return -EMSGSIZE;
	text[len] = '\n'; /* the terminator's place: lines have no NUL */
	return stream_write(&client->stream, text, len + 1);
}

int client_notify(struct client *client, const char *method, json_t *params_take)
{
	json_auto_t *message = json_pack("{s:s, s:s, s:o*}", "jsonrpc", "2.0", "method", method,
					 "params", params_take);

	return message ? send_message(client, message) : -ENOMEM;
}

int client_pass(struct client *client, int fd_take)
{
	return stream_pass(&client->stream, fd_take);
}

int client_request(struct client *client, const char *method, json_t *params_take,
		   client_reply_fn fn, void *user, json_int_t *ret_id)
{
	json_auto_t *message =
		json_pack("{s:s, s:I, s:s, s:o*}", "jsonrpc", "2.0", "id", client->last_id + 1,
			  "method", method, "params", params_take);
	int r;

	if (!message)
		return -ENOMEM;
	for (size_t i = 0; i < CLIENT_PENDING_MAX; i++) {
		if (client->pending[i].id)
			continue;
		r = send_message(client, message);
		if (r < 0)
			return r;
		client->pending[i] =
			(struct pending){.id = ++client->last_id, .fn = fn, .user = user};
		if (ret_id)
			*ret_id = client->last_id;
		return 0;
	}
	return -EBUSY;
}
