/* SPDX-License-Identifier: Apache-2.0 */
/* One client connection: bytes to lines, replies to bytes, and the end of both. */
#include "daemon/rpc/conn.h"

#include "base/log.h"
#include "daemon/rpc/events.h"
#include "daemon/rpc/internal.h"
#include "daemon/rpc/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* An idle connection keeps this much of its input buffer. */
#define IDLE_BUFFER_BYTES 4096u

static const char *const state_names[] = {
	[CONN_OPEN] = "open",       [CONN_HALF_CLOSED] = "half closed",
	[CONN_REFUSED] = "refused", [CONN_FINISHING] = "finishing",
	[CONN_ENDED] = "ended",
};
static_assert(ELEMENTSOF(state_names) == CONN_ENDED + 1, "a name for each state");

static void set_state(struct rpc_conn *conn, enum conn_state state)
{
	log_debug(conn->name, "%s -> %s", state_names[conn->state], state_names[state]);
	if (conn->state == CONN_REFUSED)
		conn->account->refused--;
	if (state == CONN_REFUSED)
		conn->account->refused++;
	conn->state = state;
}

static size_t buffered_bytes(const struct rpc_conn *conn)
{
	return conn->in.size + stream_queued(&conn->stream) + conn->parked_bytes + conn->held_bytes;
}

/* Bytes that were sent meanwhile are known only here: all of the account is counted afresh. */
static bool recount(struct rpc_account *account, struct rpc_server *server)
{
	struct rpc_conn *conn;

	account->buffered_bytes = 0;
	LIST_FOREACH(conn, &server->conns, link)
	{
		if (conn->account != account)
			continue;
		conn->charged_bytes = buffered_bytes(conn);
		account->buffered_bytes += conn->charged_bytes;
	}
	return account->buffered_bytes <= server->limits.uid_buffered_max_bytes;
}

/* Tells the account what the connection holds now; over the account's cap the connection ends. */
static void charge(struct rpc_conn *conn)
{
	struct rpc_account *account = conn->account;
	const size_t bytes = buffered_bytes(conn);

	account->buffered_bytes += bytes - conn->charged_bytes;
	conn->charged_bytes = bytes;
	if (account->buffered_bytes <= conn->server->limits.uid_buffered_max_bytes)
		return;
	if (!recount(account, conn->server))
		rpc_conn_end(conn, LOG_NOTICE, "Closed: the buffers of its user are full");
}

bool rpc_conn_hold(struct rpc_conn *conn, size_t bytes)
{
	struct rpc_account *account = conn->account;

	/* Half, so that the next request can still be read, and refused, without ending its
	 * connection. */
	if (account->held_bytes + bytes > conn->server->limits.uid_buffered_max_bytes / 2)
		return false;
	account->held_bytes += bytes;
	account->buffered_bytes += bytes;
	conn->held_bytes += bytes;
	conn->charged_bytes += bytes;
	return true;
}

void rpc_conn_unhold(struct rpc_conn *conn, size_t bytes)
{
	conn->account->held_bytes -= bytes;
	conn->account->buffered_bytes -= bytes;
	conn->held_bytes -= bytes;
	conn->charged_bytes -= bytes;
}

static void on_teardown(void *user)
{
	rpc_conn_destroy(user);
}

void rpc_conn_end(struct rpc_conn *conn, int level, const char *reason)
{
	if (conn->state == CONN_ENDED)
		return;
	log_line(level, conn->name, "%s", reason);
	set_state(conn, CONN_ENDED);
	stream_close(&conn->stream);
	loop_timer_stop(conn->server->loop, &conn->linger);
	loop_timer_stop(conn->server->loop, &conn->turn);
	loop_defer(conn->server->loop, &conn->teardown, on_teardown, conn);
}

/* Sends what is queued, then ends. */
static void finish(struct rpc_conn *conn)
{
	set_state(conn, CONN_FINISHING);
	stream_finish(&conn->stream);
}

void rpc_conn_settle(struct rpc_conn *conn)
{
	if (conn->state == CONN_HALF_CLOSED && conn->call_count == 0 && conn->subscriptions == 0 &&
	    conn->held_open == 0)
		finish(conn);
}

/* Who is told may send, but ends no watch. */
static void tell_watches(struct rpc_conn *conn)
{
	struct rpc_conn_watch *watch;

	LIST_FOREACH(watch, &conn->watches, link)
	if (watch->on_drained)
		watch->on_drained(watch->user);
}

static void on_congestion_changed(void *user)
{
	struct rpc_conn *conn = user;
	struct rpc_call *call;

	/* A relief is always told: a call may have asked while the state was another. */
	if (conn->is_congestion_told && conn->is_congested)
		return;
	conn->is_congestion_told = conn->is_congested;
	/* A callback may finish any of these calls: their memory stays until it has returned. */
	LIST_FOREACH(call, &conn->calls, link)
	if (call->state == CALL_PENDING && call->ops->on_congested)
		call->ops->on_congested(call->user, conn->is_congestion_told);
	if (!conn->is_congestion_told)
		tell_watches(conn);
}

static void set_congested(struct rpc_conn *conn, bool is_congested)
{
	conn->is_congested = is_congested;
	loop_defer(conn->server->loop, &conn->congestion, on_congestion_changed, conn);
}

static bool has_room(const struct rpc_conn *conn, size_t len)
{
	return stream_queued(&conn->stream) + conn->parked_bytes + len <=
	       conn->server->limits.unsent_max_bytes;
}

/* `r` is what came of a line. */
static void on_sent(struct rpc_conn *conn, int r)
{
	if (r < 0) {
		rpc_conn_end(conn, LOG_NOTICE, "Closed: it does not read what it asked for");
		return;
	}
	charge(conn);
	if (conn->state != CONN_ENDED && !conn->is_congested &&
	    stream_queued(&conn->stream) > RPC_CONGESTED_BYTES) {
		stream_pause(&conn->stream);
		set_congested(conn, true);
	}
}

void rpc_conn_send(struct rpc_conn *conn, const char *line, size_t len)
{
	if (rpc_conn_is_writable(conn))
		on_sent(conn,
			has_room(conn, len) ? stream_write(&conn->stream, line, len) : -ENOBUFS);
}

void rpc_conn_send_text(struct rpc_conn *conn, struct text *text)
{
	uint8_t *data = (uint8_t *)text->data;
	int r = -ENOBUFS;

	if (!rpc_conn_is_writable(conn))
		return;
	if (has_room(conn, text->len))
		r = stream_write_take(&conn->stream, &data, text->len);
	if (!data)
		*text = (struct text){0};
	on_sent(conn, r);
}

void rpc_conn_park(struct rpc_conn *conn, ptrdiff_t bytes)
{
	if (conn->state == CONN_ENDED)
		return;
	conn->parked_bytes = (size_t)((ptrdiff_t)conn->parked_bytes + bytes);
	if (stream_queued(&conn->stream) + conn->parked_bytes >
	    conn->server->limits.unsent_max_bytes)
		rpc_conn_end(conn, LOG_NOTICE, "Closed: the replies of its batches are too large");
	else
		charge(conn);
}

static void on_linger_end(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	rpc_conn_end(timer->data, LOG_DEBUG, "Closed: it was refused and lingered");
}

/* All is sent: the peer sees the end while it may still write. */
static void end_sending(struct rpc_conn *conn)
{
	shutdown(conn->stream.fd, SHUT_WR);
}

/* They came with the lines that are handled, and these have not taken them. */
static void drop_descriptors(struct rpc_conn *conn)
{
	while (conn->descriptor_count > 0)
		close_fd(conn->descriptors[--conn->descriptor_count]);
}

void rpc_conn_refuse(struct rpc_conn *conn, struct rpc_error *error_take)
{
	log_info(conn->name, "Refused: %s", error_take->message);
	drop_descriptors(conn);
	rpc_conn_answer_error(conn, NULL, NULL, error_take);
	if (!rpc_conn_is_writable(conn))
		return;
	set_state(conn, CONN_REFUSED);
	stream_resume(&conn->stream);
	loop_timer_start(conn->server->loop, &conn->linger, RPC_LINGER_SECONDS);
	if (stream_queued(&conn->stream) == 0)
		end_sending(conn);
}

static void refuse_long_line(struct rpc_conn *conn)
{
	struct rpc_error *error =
		rpc_error_new(RPC_MESSAGE_TOO_LARGE, "The message is longer than %u bytes",
			      WIRE_MESSAGE_MAX_BYTES);

	rpc_error_set(error, "max", json_integer(WIRE_MESSAGE_MAX_BYTES));
	rpc_conn_refuse(conn, rpc_error_hint(error, "send less in one message and connect again"));
}

static void handle_line(struct rpc_conn *conn, const char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len > WIRE_MESSAGE_MAX_BYTES) {
		refuse_long_line(conn);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if (line[i] != ' ' && line[i] != '\t') {
			dispatch_line(conn, line, len);
			return;
		}
	}
}

static void yield(struct rpc_conn *conn)
{
	conn->is_yielding = true;
	stream_pause(&conn->stream);
	loop_timer_start(conn->server->loop, &conn->turn, 0.);
}

static void handle_lines(struct rpc_conn *conn)
{
	struct text *in = &conn->in;
	size_t count = 0;

	while (conn->state == CONN_OPEN && !conn->is_congested && !conn->is_yielding &&
	       conn->in_scanned < in->len) {
		const char *line = in->data + conn->in_start;
		const char *newline =
			memchr(in->data + conn->in_scanned, '\n', in->len - conn->in_scanned);

		if (!newline) {
			conn->in_scanned = in->len;
			break;
		}
		conn->in_start = conn->in_scanned = (size_t)(newline + 1 - in->data);
		handle_line(conn, line, (size_t)(newline - line));
		if (++count == CONN_LINES_PER_TURN && conn->state == CONN_OPEN)
			yield(conn);
	}
	text_consume(in, conn->in_start);
	conn->in_scanned -= conn->in_start;
	conn->in_start = 0;
	if (in->len == 0) {
		text_reset(in, IDLE_BUFFER_BYTES);
		drop_descriptors(conn);
	}
	/* One byte more may be the '\r' of the longest line. */
	if (conn->state == CONN_OPEN && conn->in_scanned > WIRE_MESSAGE_MAX_BYTES + 1)
		refuse_long_line(conn);
}

static void on_data(void *user, const uint8_t *data, size_t len)
{
	struct rpc_conn *conn = user;

	if (conn->state == CONN_REFUSED) {
		if (memchr(data, '\n', len))
			finish(conn);
		return;
	}
	text_add(&conn->in, data, len);
	if (conn->in.is_failed) {
		rpc_conn_end(conn, LOG_WARNING, "Closed: no memory for its input");
		return;
	}
	handle_lines(conn);
	if (conn->state == CONN_OPEN)
		charge(conn);
}

static void on_turn(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct rpc_conn *conn = timer->data;

	conn->is_yielding = false;
	handle_lines(conn);
	if (conn->state == CONN_OPEN && !conn->is_congested && !conn->is_yielding)
		stream_resume(&conn->stream);
	if (conn->state == CONN_OPEN)
		charge(conn);
}

static void on_drain(void *user)
{
	struct rpc_conn *conn = user;

	if (conn->state == CONN_REFUSED) {
		end_sending(conn);
		return;
	}
	if (conn->is_congested) {
		set_congested(conn, false);
		events_wake(conn->server->events);
		handle_lines(conn);
		if (conn->state == CONN_OPEN && !conn->is_congested && !conn->is_yielding)
			stream_resume(&conn->stream);
	}
	if (conn->state != CONN_ENDED)
		charge(conn);
	rpc_server_check_idle(conn->server);
}

/* What lies behind the last line end is a line too: 'printf {…} | socat' has none. */
static void on_half_close(void *user)
{
	struct rpc_conn *conn = user;

	if (conn->state == CONN_OPEN && conn->in.len > 0)
		handle_line(conn, conn->in.data, conn->in.len);
	if (conn->state == CONN_REFUSED) {
		finish(conn);
		return;
	}
	if (conn->state != CONN_OPEN)
		return;
	set_state(conn, CONN_HALF_CLOSED);
	text_fini(&conn->in);
	conn->in_scanned = 0;
	rpc_conn_settle(conn);
}

static void on_end(void *user, int error)
{
	struct rpc_conn *conn = user;

	rpc_conn_end(conn, error ? LOG_INFO : LOG_DEBUG,
		     error ? strerror(-error) : "Closed by the peer or done");
}

static void on_descriptor(void *user, int fd_take)
{
	struct rpc_conn *conn = user;

	if (conn->state != CONN_OPEN) {
		close_fd(fd_take);
	} else if (conn->descriptor_count == RPC_DESCRIPTORS_MAX) {
		close_fd(fd_take);
		rpc_conn_refuse(conn,
				rpc_error_hint(rpc_error_new(RPC_INVALID_REQUEST,
							     "%d descriptors came that no request "
							     "has taken",
							     RPC_DESCRIPTORS_MAX),
					       "send one with each request that says so"));
	} else {
		conn->descriptors[conn->descriptor_count++] = fd_take;
	}
}

int rpc_conn_take_descriptor(struct rpc_conn *conn)
{
	int fd;

	if (conn->descriptor_count == 0)
		return -1;
	fd = conn->descriptors[0];
	conn->descriptor_count--;
	memmove(conn->descriptors, conn->descriptors + 1,
		conn->descriptor_count * sizeof(conn->descriptors[0]));
	return fd;
}

static const struct stream_ops stream_ops = {
	.on_descriptor = on_descriptor,
	.on_data = on_data,
	.on_end = on_end,
	.on_drain = on_drain,
	.on_half_close = on_half_close,
};

struct rpc_conn *rpc_conn_create(struct rpc_server *server, int fd_take,
				 const struct rpc_peer *peer, struct rpc_account *account)
{
	struct rpc_conn *conn = calloc(1, sizeof(*conn));

	if (!conn) {
		close_fd(fd_take);
		return NULL;
	}
	conn->server = server;
	conn->account = account;
	conn->peer = *peer;
	snprintf(conn->name, sizeof(conn->name), "conn_%llu uid %u pid %d",
		 (unsigned long long)++server->last_conn, peer->uid, peer->pid);
	LIST_INIT(&conn->calls);
	LIST_INIT(&conn->watches);
	ev_timer_init(&conn->linger, on_linger_end, 0., 0.);
	ev_timer_init(&conn->turn, on_turn, 0., 0.);
	conn->linger.data = conn->turn.data = conn;
	stream_init(&conn->stream, server->loop, fd_take, server->limits.unsent_max_bytes,
		    &stream_ops, conn);
	LIST_INSERT_HEAD(&server->conns, conn, link);
	account->connections++;
	log_debug(conn->name, "Connected%s", peer->is_admin ? " as admin" : "");
	return conn;
}

void rpc_conn_watch_start(struct rpc_conn *conn, struct rpc_conn_watch *watch,
			  void (*fn)(void *user), void *user)
{
	watch->is_on = true;
	watch->on_end = fn;
	watch->user = user;
	LIST_INSERT_HEAD(&conn->watches, watch, link);
}

void rpc_conn_watch_stop(struct rpc_conn_watch *watch)
{
	if (!watch->is_on)
		return;
	watch->is_on = false;
	LIST_REMOVE(watch, link);
}

void rpc_conn_hold_open(struct rpc_conn *conn)
{
	conn->held_open++;
}

void rpc_conn_let_go(struct rpc_conn *conn)
{
	conn->held_open--;
	rpc_conn_settle(conn);
}

void rpc_conn_destroy(struct rpc_conn *conn)
{
	struct rpc_conn_watch *watch;
	struct rpc_call *call;

	if (conn->state != CONN_ENDED)
		set_state(conn, CONN_ENDED);
	stream_close(&conn->stream);
	loop_timer_stop(conn->server->loop, &conn->linger);
	loop_timer_stop(conn->server->loop, &conn->turn);
	loop_defer_cancel(conn->server->loop, &conn->teardown);
	loop_defer_cancel(conn->server->loop, &conn->congestion);
	while ((call = LIST_FIRST(&conn->calls)))
		rpc_call_gone(call);
	while ((watch = LIST_FIRST(&conn->watches))) {
		rpc_conn_watch_stop(watch);
		watch->on_end(watch->user);
	}
	events_forget(conn->server->events, conn);
	drop_descriptors(conn);
	text_fini(&conn->in);
	rpc_server_forget(conn);
	free(conn);
}

struct rpc_call *rpc_conn_find_call(struct rpc_conn *conn, const char *id_text)
{
	struct rpc_call *call;

	LIST_FOREACH(call, &conn->calls, link)
	if (call->id_text && strcmp(call->id_text, id_text) == 0)
		return call;
	return NULL;
}

bool rpc_conn_is_writable(const struct rpc_conn *conn)
{
	return conn->state == CONN_OPEN || conn->state == CONN_HALF_CLOSED;
}

bool rpc_conn_is_congested(const struct rpc_conn *conn)
{
	return conn->is_congested;
}

const struct rpc_peer *rpc_conn_peer(const struct rpc_conn *conn)
{
	return &conn->peer;
}

const char *rpc_conn_name(const struct rpc_conn *conn)
{
	return conn->name;
}
