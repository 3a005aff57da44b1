/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON-RPC server: listening sockets, connections, accounts per user. */
#include "daemon/rpc/server.h"

#include "base/log.h"
#include "daemon/rpc/builtin.h"
#include "daemon/rpc/events.h"
#include "daemon/rpc/internal.h"
#include "daemon/rpc/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Connections taken per wake-up: others' work comes between. */
#define ACCEPT_BURST 16
/* Out of descriptors: long enough for some to come back, short enough not to be felt. */
#define ACCEPT_REST_SECONDS 0.2
/* Connections of one user that linger after being refused (see conn.h); further ones are closed at
 * once. */
#define REFUSED_MAX 16u

struct rpc_listener {
	struct rpc_server *server;
	ev_io watcher;
};

static struct rpc_account *account_get(struct rpc_server *server, uid_t uid)
{
	struct rpc_account *account;

	LIST_FOREACH(account, &server->accounts, link)
	if (account->uid == uid)
		return account;
	account = calloc(1, sizeof(*account));
	if (!account)
		return NULL;
	account->uid = uid;
	LIST_INSERT_HEAD(&server->accounts, account, link);
	return account;
}

static void account_put(struct rpc_account *account)
{
	if (account->connections > 0)
		return;
	LIST_REMOVE(account, link);
	free(account);
}

static struct rpc_error *too_many_connections(const struct rpc_server *server)
{
	struct rpc_error *error =
		rpc_error_new(RPC_TOO_MANY_REQUESTS, "This user has %zu connections already",
			      server->limits.connections_per_uid);

	rpc_error_set(error, "max", json_integer((json_int_t)server->limits.connections_per_uid));
	return rpc_error_hint(error, "close one of them, or send several requests over one");
}

/* The error and the end in one go, for users who hold many refused connections already. */
static void turn_away(struct rpc_server *server, int fd_take)
{
	_cleanup_close_ int fd = fd_take;
	_cleanup_(rpc_error_freep) struct rpc_error *error = too_many_connections(server);
	struct text *line = &server->scratch;

	text_reset(line, SIZE_MAX);
	wire_add_error(line, NULL, error);
	text_add_string(line, "\n");
	if (!line->is_failed && send(fd, line->data, line->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug(NULL, "A refused connection was gone already");
}

static void welcome(struct rpc_server *server, int fd_take)
{
	_cleanup_close_ int fd = fd_take;
	struct rpc_account *account;
	struct rpc_conn *conn;
	struct rpc_peer peer;
	int r = rpc_peer_read(fd, server->admin_gid, &peer);
	bool is_over;

	if (r < 0) {
		log_warning(NULL, "Cannot read who connected: %s", strerror(-r));
		return;
	}
	account = account_get(server, peer.uid);
	if (!account)
		return;
	is_over = account->connections - account->refused >= server->limits.connections_per_uid;
	if (is_over && account->refused >= REFUSED_MAX) {
		turn_away(server, TAKE_FD(fd));
		return;
	}
	conn = rpc_conn_create(server, TAKE_FD(fd), &peer, account);
	if (!conn)
		account_put(account);
	else if (is_over)
		rpc_conn_refuse(conn, too_many_connections(server));
}

static void set_accepting(struct rpc_server *server, bool is_accepting)
{
	for (size_t i = 0; i < server->listener_count; i++) {
		if (is_accepting)
			ev_io_start(loop_ev(server->loop), &server->listeners[i].watcher);
		else
			ev_io_stop(loop_ev(server->loop), &server->listeners[i].watcher);
	}
}

static void rest(struct rpc_server *server, int error)
{
	if (!server->is_accepting_rest)
		log_warning(NULL, "Cannot accept connections for now: %s", strerror(error));
	server->is_accepting_rest = true;
	set_accepting(server, false);
	loop_timer_start(server->loop, &server->accept_again, ACCEPT_REST_SECONDS);
}

static void on_accept_again(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	set_accepting(timer->data, true);
}

static void on_acceptable(struct ev_loop *ev UNUSED, ev_io *watcher, int events UNUSED)
{
	struct rpc_server *server = ((struct rpc_listener *)watcher->data)->server;

	for (int i = 0; i < ACCEPT_BURST; i++) {
		int fd = accept4(watcher->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0) {
			rest(server, errno);
			return;
		}
		server->is_accepting_rest = false;
		welcome(server, fd);
	}
}

void rpc_server_set_limits(struct rpc_server *server, struct rpc_limits limits)
{
	server->limits = (struct rpc_limits){
		.connections_per_uid = limits.connections_per_uid ?: RPC_CONNECTIONS_PER_UID,
		.unsent_max_bytes = limits.unsent_max_bytes ?: RPC_UNSENT_MAX_BYTES,
		.uid_buffered_max_bytes =
			limits.uid_buffered_max_bytes ?: RPC_UID_BUFFERED_MAX_BYTES};
}

static int listen_on(struct rpc_server *server, const struct rpc_server_config *config)
{
	server->listeners = calloc(config->listen_count, sizeof(*server->listeners));
	if (!server->listeners)
		return -ENOMEM;
	server->listener_count = config->listen_count;
	for (size_t i = 0; i < config->listen_count; i++) {
		struct rpc_listener *listener = &server->listeners[i];

		listener->server = server;
		ev_io_init(&listener->watcher, on_acceptable, config->listen_fds[i], EV_READ);
		listener->watcher.data = listener;
	}
	if (!config->is_waiting)
		set_accepting(server, true);
	return 0;
}

void rpc_server_accept(struct rpc_server *server)
{
	set_accepting(server, true);
}

int rpc_server_create(const struct rpc_server_config *config, struct rpc_server **ret)
{
	struct rpc_server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return -ENOMEM;
	server->loop = config->loop;
	rpc_server_set_limits(server, config->limits);
	server->admin_gid = config->admin_gid;
	server->context = config->context;
	server->on_idle = config->on_idle;
	LIST_INIT(&server->conns);
	LIST_INIT(&server->accounts);
	ev_timer_init(&server->accept_again, on_accept_again, 0., 0.);
	server->accept_again.data = server;
	r = dispatch_table_create(config->methods, config->handlers, config->handler_count,
				  rpc_builtin_handlers, RPC_BUILTIN_COUNT, &server->methods);
	if (r == 0)
		r = events_create(server->loop, &server->events);
	if (r == 0)
		r = listen_on(server, config);
	if (r < 0) {
		rpc_server_destroy(server);
		return r;
	}
	*ret = server;
	return 0;
}

static void stop_accepting(struct rpc_server *server)
{
	loop_timer_stop(server->loop, &server->accept_again);
	set_accepting(server, false);
}

void rpc_server_destroy(struct rpc_server *server)
{
	struct rpc_conn *conn;

	if (!server)
		return;
	stop_accepting(server);
	while ((conn = LIST_FIRST(&server->conns)))
		rpc_conn_destroy(conn);
	loop_defer_cancel(server->loop, &server->idle_check);
	events_destroy(server->events);
	dispatch_table_destroy(server->methods);
	json_decref(server->openrpc);
	text_fini(&server->scratch);
	free(server->listeners);
	free(server);
}

void rpc_server_stop_calls(struct rpc_server *server)
{
	struct rpc_conn *conn;
	struct rpc_call *call;

	/* A call that is finished leaves its list, but its memory stays for this iteration. */
	LIST_FOREACH(conn, &server->conns, link)
	LIST_FOREACH(call, &conn->calls, link)
	rpc_call_stop(call);
}

void rpc_server_forget(struct rpc_conn *conn)
{
	struct rpc_account *account = conn->account;

	LIST_REMOVE(conn, link);
	account->connections--;
	account->buffered_bytes -= conn->charged_bytes;
	account_put(account);
	rpc_server_check_idle(conn->server);
}

bool rpc_server_is_idle(const struct rpc_server *server)
{
	const struct rpc_conn *conn;

	if (server->calls_in_flight > 0)
		return false;
	LIST_FOREACH(conn, &server->conns, link)
	if (stream_queued(&conn->stream) > 0)
		return false;
	return true;
}

static void on_idle_check(void *user)
{
	struct rpc_server *server = user;

	if (server->is_draining && rpc_server_is_idle(server))
		server->on_idle(server->context);
}

void rpc_server_check_idle(struct rpc_server *server)
{
	if (server->is_draining && server->on_idle)
		loop_defer(server->loop, &server->idle_check, on_idle_check, server);
}

void rpc_server_set_draining(struct rpc_server *server, bool is_draining)
{
	server->is_draining = is_draining;
	rpc_server_check_idle(server);
}

bool rpc_server_is_draining(const struct rpc_server *server)
{
	return server->is_draining;
}

struct events_hub *rpc_server_events(struct rpc_server *server)
{
	return server->events;
}

size_t rpc_server_connection_count(const struct rpc_server *server)
{
	const struct rpc_conn *conn;
	size_t count = 0;

	LIST_FOREACH(conn, &server->conns, link)
	count++;
	return count;
}
