/* SPDX-License-Identifier: Apache-2.0 */
/* A line client over a non-blocking Unix socket for tests, header only. With `pump` the server runs
 * in this very process and is driven while the client waits; without, it is somewhere else. */
#ifndef TESTS_VECTORS_LINE_CLIENT_H
#define TESTS_VECTORS_LINE_CLIENT_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Generous for valgrind on a busy machine; a good run never waits for it. */
#define LINE_CLIENT_DEADLINE_SECONDS 60

struct line_client {
	int fd;
	void (*pump)(void *user); /* runs the server without blocking; NULL: it is elsewhere */
	void *user;
	char *buffer;
	size_t len, size;
	bool has_ended; /* the server closed */
};

#define LINE_CLIENT_FN __attribute__((unused)) static

LINE_CLIENT_FN void line_client_close(struct line_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	free(client->buffer);
	*client = (struct line_client){.fd = -1};
}

/* Lets the server work, then waits a moment for `events`. False when the deadline has passed. */
LINE_CLIENT_FN bool line_client_wait(struct line_client *client, short events, time_t deadline)
{
	struct pollfd ready = {.fd = client->fd, .events = events};

	if (client->pump)
		client->pump(client->user);
	poll(&ready, 1, client->pump ? 1 : 100);
	return time(NULL) <= deadline;
}

/* Sends all bytes. 0 or -errno (-EPIPE: the server has closed). */
LINE_CLIENT_FN int line_client_send(struct line_client *client, const void *data, size_t len)
{
	const time_t deadline = time(NULL) + LINE_CLIENT_DEADLINE_SECONDS;
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(client->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		} else if (!line_client_wait(client, POLLOUT, deadline)) {
			return -ETIMEDOUT;
		}
	}
	return 0;
}

/* Reads what is there. Bytes read, 0 when there was nothing; at the end has_ended is set. */
LINE_CLIENT_FN size_t line_client_read(struct line_client *client)
{
	ssize_t n;

	if (client->size - client->len < 65536) {
		client->size = client->size * 2 + 131072;
		client->buffer = realloc(client->buffer, client->size);
		if (!client->buffer)
			abort();
	}
	n = recv(client->fd, client->buffer + client->len, client->size - client->len - 1,
		 MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		client->has_ended = true;
	if (n <= 0)
		return 0;
	client->len += (size_t)n;
	return (size_t)n;
}

/* The next line without its end, in a new NUL-terminated string. 1; 0 at the end of the connection;
 * -ETIMEDOUT. */
LINE_CLIENT_FN int line_client_receive(struct line_client *client, char **ret)
{
	const time_t deadline = time(NULL) + LINE_CLIENT_DEADLINE_SECONDS;
	size_t scanned = 0;

	for (;;) {
		char *newline = client->len > scanned ? memchr(client->buffer + scanned, '\n',
							       client->len - scanned)
						      : NULL;

		if (newline) {
			size_t len = (size_t)(newline - client->buffer);

			*ret = strndup(client->buffer, len);
			client->len -= len + 1;
			memmove(client->buffer, newline + 1, client->len);
			return 1;
		}
		scanned = client->len;
		if (client->has_ended)
			return 0;
		if (line_client_read(client) == 0 && !client->has_ended &&
		    !line_client_wait(client, POLLIN, deadline))
			return -ETIMEDOUT;
	}
}

#endif
