/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher: parent of all jails, which outlives the daemon. */
#include "daemon/launcher/server.h"

#include "base/log.h"
#include "base/own_cgroup.h"
#include "daemon/launcher/message.h"
#include "daemon/launcher/reap.h"
#include "daemon/launcher/server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

/* Without a daemon and a child: time for a daemon that has looked whether we are there. */
#define IDLE_SECONDS 1.
/* For what a killed launcher left to end. */
#define REAP_SECONDS 2.
/* Until the second look: we may have been started while the killed one was still on its way out. */
#define REAP_AGAIN_SECONDS 0.5
/* A leaf whose last process has just been reaped may be busy for a moment. */
#define SWEEP_SECONDS 0.2
/* Without memory or descriptors: what could not be said, read or accepted is tried again. */
#define AGAIN_SECONDS 0.1

static void flush(struct server *server);

/* --- Children. --- */

static struct child *find(const struct server *server, const char *id)
{
	for (struct child *child = server->children; child; child = child->next)
		if (strcmp(child->id, id) == 0)
			return child;
	return NULL;
}

static bool is_used(void *user, const char *id)
{
	const struct child *child = find(user, id);

	return child && !child->is_gone;
}

static void free_child(struct child *child)
{
	struct server *server = child->server;

	for (struct child **at = &server->children; *at; at = &(*at)->next) {
		if (*at != child)
			continue;
		*at = child->next;
		break;
	}
	server->n_children--;
	proc_destroy(child->proc);
	free(child);
}

static size_t living(const struct server *server)
{
	size_t count = 0;

	for (const struct child *child = server->children; child; child = child->next)
		count += !child->is_gone;
	return count;
}

/* Nobody is there, or nothing is left to do: what ends us. */
static void check_end(struct server *server)
{
	size_t n_living = living(server);

	if (n_living > 0)
		return;
	if (server->is_ending || (server->is_bidden && server->daemon_fd < 0))
		loop_stop(server->config.loop);
	else if (server->daemon_fd < 0 && !ev_is_active(&server->idle))
		loop_timer_start(server->config.loop, &server->idle, IDLE_SECONDS);
}

static void on_pid(void *user, pid_t pid UNUSED)
{
	struct child *child = user;

	child->owed |= OWES_PID;
	flush(child->server);
}

static void on_end(void *user)
{
	struct child *child = user;

	child->is_oom_kill = leaf_was_oom_killed(&child->server->leaves, child->id);
	child->owed |= OWES_END;
	flush(child->server);
}

static void on_gone(void *user, const struct proc_status *status)
{
	struct child *child = user;
	struct server *server = child->server;

	child->is_oom_kill |= leaf_was_oom_killed(&server->leaves, child->id);
	child->status = *status;
	child->is_gone = true;
	child->owed |= OWES_GONE;
	if (leaf_remove(&server->leaves, child->id) < 0)
		loop_timer_start(server->config.loop, &server->sweep, SWEEP_SECONDS);
	flush(server);
	check_end(server);
}

static const struct proc_ops child_ops = {.on_pid = on_pid, .on_end = on_end, .on_gone = on_gone};

static int start_child(struct child *child, struct spawn_request *request)
{
	struct server *server = child->server;
	int cgroup_fds[LEAF_TREES_MAX], r;
	size_t n = 0;

	r = leaf_make(&server->leaves, request->id, &request->leaf, cgroup_fds, &n);
	if (r < 0)
		return r;
	request->spec.cgroup_fds = cgroup_fds;
	request->spec.n_cgroup_fds = n;
	r = proc_spawn(server->config.loop, request->id, &request->spec, &child_ops, child,
		       &child->proc);
	request->spec.info_fd_take = -1; /* taken in every case */
	for (size_t i = 0; i < n; i++)
		close_fd(cgroup_fds[i]);
	if (r < 0)
		(void)leaf_remove(&server->leaves, request->id);
	return r;
}

static int spawn_child(struct server *server, struct packet *packet)
{
	_cleanup_(spawn_request_fini) struct spawn_request request;
	struct child *child;
	int r = message_read_spawn(packet, &request);

	if (r < 0 && r != -ENOMEM)
		return r;
	/* What was refused is a child until that is heard: a daemon that hears nothing is dropped.
	 */
	if (find(server, request.id) || server->n_children >= 2 * server->config.children_max)
		return -EBADMSG;
	if (r == 0 && server->n_children >= server->config.children_max)
		r = -EAGAIN;
	child = TAKE_PTR(server->reserve);
	memcpy(child->id, request.id, sizeof(child->id));
	child->server = server;
	child->next = server->children;
	server->children = child;
	server->n_children++;
	if (r < 0 || server->is_ending)
		child->error = r < 0 ? r : -ESHUTDOWN;
	else
		child->error = packet->is_cut ? -EMFILE : start_child(child, &request);
	child->is_gone = child->error < 0;
	child->owed = child->error < 0 ? OWES_FAILED : OWES_SPAWNED;
	/* A jail tells it later. */
	if (child->error == 0 && proc_pid(child->proc) > 0)
		child->owed |= OWES_PID;
	return 0;
}

/* --- What is sent. --- */

static int send_owed(struct server *server)
{
	struct child *next;
	int r = 0;

	if (server->owes_hello)
		r = tell_hello(server);
	if (r < 0)
		return r;
	server->owes_hello = false;
	for (struct child *child = server->children; child; child = next) {
		next = child->next;
		r = tell_child(child);
		if (r < 0)
			return r;
		if (child->is_gone)
			free_child(child);
	}
	if (server->owes_synced)
		r = tell_synced(server);
	if (r == 0)
		server->owes_synced = false;
	return r;
}

static void drop_daemon(struct server *server, const char *why)
{
	if (server->daemon_fd < 0)
		return;
	log_debug(NULL, "The daemon is gone: %s", why);
	ev_io_stop(loop_ev(server->config.loop), &server->reader);
	ev_io_stop(loop_ev(server->config.loop), &server->writer);
	server->daemon_fd = close_fd(server->daemon_fd);
	if (living(server) > 0 && !server->is_ending)
		loop_timer_start(server->config.loop, &server->orphan,
				 server->config.orphan_seconds);
	check_end(server);
}

/* Sends what can be sent; the rest when the socket says so, or in a moment: a daemon that is
 * dropped kills its VMs, for which want of memory here is no reason. */
static void flush(struct server *server)
{
	int r;

	if (server->daemon_fd < 0)
		return;
	r = send_owed(server);
	if (r == -EAGAIN)
		ev_io_start(loop_ev(server->config.loop), &server->writer);
	else
		ev_io_stop(loop_ev(server->config.loop), &server->writer);
	if (packet_is_scarcity(r))
		loop_timer_start(server->config.loop, &server->again, AGAIN_SECONDS);
	else if (r < 0 && r != -EAGAIN)
		drop_daemon(server, strerror(-r));
}

static void on_writable(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	flush(watch->data);
}

/* --- What comes. --- */

static int take_packet(struct server *server, struct packet *packet)
{
	const char *type = packet_string(packet->json, "type"),
		   *id = packet_string(packet->json, "id");
	const struct child *child;

	if (type && strcmp(type, "bye") == 0) {
		server->is_bidden = true;
		if (living(server) > 0)
			return -ECONNRESET;
		/* The connection ends with us: who waits for that finds nothing of us. */
		loop_stop(server->config.loop);
		return 0;
	}
	if (type && strcmp(type, "end") == 0) {
		server_end(server);
		return 0;
	}
	if (!type || !id)
		return -EBADMSG;
	if (strcmp(type, "spawn") == 0)
		return spawn_child(server, packet);
	if (strcmp(type, "kill") != 0)
		return -EBADMSG;
	child = find(server, id);
	if (child && child->proc)
		proc_kill(child->proc);
	return 0;
}

/* Each spawn costs a millisecond: others get their turn between two. False at its end. */
static bool read_one(struct server *server)
{
	struct packet packet = PACKET_NONE;
	int r;

	if (!server->reserve)
		server->reserve = calloc(1, sizeof(*server->reserve));
	r = server->reserve ? packet_receive(server->daemon_fd, &packet) : -ENOMEM;
	if (r == -ENOMEM) {
		ev_io_stop(loop_ev(server->config.loop), &server->reader);
		loop_timer_start(server->config.loop, &server->again, AGAIN_SECONDS);
	}
	if (r == -EAGAIN || r == -ENOMEM)
		return true;
	if (r > 0)
		r = take_packet(server, &packet);
	else if (r == 0)
		r = -ECONNRESET;
	packet_clear(&packet);
	if (r < 0) {
		drop_daemon(server, strerror(-r));
		return false;
	}
	flush(server);
	return server->daemon_fd >= 0;
}

static void on_readable(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	read_one(watch->data);
}

/* What happened while nobody was there and is over is of no interest to the next. */
static void greet(struct server *server, int fd_take)
{
	struct child *next;

	server->daemon_fd = fd_take;
	server->is_bidden = false;
	loop_timer_stop(server->config.loop, &server->idle);
	loop_timer_stop(server->config.loop, &server->orphan);
	server->owes_hello = server->owes_synced = true;
	for (struct child *child = server->children; child; child = next) {
		next = child->next;
		if (child->is_gone)
			free_child(child);
		else
			child->owed = OWES_VM | (child->owed & (unsigned)OWES_END);
	}
	ev_io_set(&server->reader, fd_take, EV_READ);
	ev_io_set(&server->writer, fd_take, EV_WRITE);
	ev_io_start(loop_ev(server->config.loop), &server->reader);
	flush(server);
}

/* Root's daemon changes its user before it connects; root may do as it likes anyway. */
static bool is_trusted(int fd)
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == getuid();
}

/* A daemon that was killed has left its connection: its end may not have been read yet. */
static bool is_taken(struct server *server)
{
	char byte;

	while (server->daemon_fd >= 0) {
		ssize_t n = recv(server->daemon_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (read_one(server) && ev_is_active(&server->again))
			return true;
	}
	return false;
}

/* Who waits for want of descriptors waits on: to look for him at once would be to do nothing else.
 */
static void rest(struct server *server, int error)
{
	if (error == EAGAIN || error == EINTR || error == ECONNABORTED)
		return;
	if (!server->is_resting)
		log_warning(NULL, "Cannot accept a connection: %s", strerror(error));
	server->is_resting = true;
	ev_io_stop(loop_ev(server->config.loop), &server->listener);
	loop_timer_start(server->config.loop, &server->again, AGAIN_SECONDS);
}

static void on_connection(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	struct server *server = watch->data;
	_cleanup_close_ int fd =
		accept4(server->config.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		rest(server, errno);
		return;
	}
	server->is_resting = false;
	if (!is_trusted(fd) || is_taken(server)) {
		log_debug(NULL, "A connection is refused");
		return;
	}
	greet(server, TAKE_FD(fd));
}

/* --- Time. --- */

static void on_idle(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct server *server = timer->data;

	/* One more look: who has connected by now is served. */
	on_connection(NULL, &server->listener, EV_READ);
	if (server->daemon_fd < 0 && living(server) == 0)
		loop_stop(server->config.loop);
}

static void on_orphan(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct server *server = timer->data;

	log_warning(NULL, "No daemon for %g s: ending %zu VMs", server->config.orphan_seconds,
		    living(server));
	server_end(server);
}

static void on_again(struct ev_loop *ev, ev_timer *timer, int events UNUSED)
{
	struct server *server = timer->data;

	if (!server->is_ending)
		ev_io_start(ev, &server->listener);
	if (server->daemon_fd >= 0)
		ev_io_start(ev, &server->reader);
	flush(server);
}

static void on_sweep(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct server *server = timer->data;

	leaves_sweep(&server->leaves, is_used, server);
}

static void reap(void)
{
	int r = reap_strangers(REAP_SECONDS);

	if (r < 0)
		log_warning(NULL, "Cannot look for left processes: %s", strerror(-r));
}

static void on_reap_again(struct ev_loop *ev UNUSED, ev_timer *timer UNUSED, int events UNUSED)
{
	reap();
}

/* --- Life. --- */

static void init_watchers(struct server *server)
{
	ev_io_init(&server->listener, on_connection, server->config.listen_fd, EV_READ);
	ev_io_init(&server->reader, on_readable, -1, EV_READ);
	ev_io_init(&server->writer, on_writable, -1, EV_WRITE);
	ev_timer_init(&server->idle, on_idle, 0., 0.);
	ev_timer_init(&server->orphan, on_orphan, 0., 0.);
	ev_timer_init(&server->sweep, on_sweep, 0., 0.);
	ev_timer_init(&server->again, on_again, 0., 0.);
	ev_timer_init(&server->reap_again, on_reap_again, 0., 0.);
	server->listener.data = server->reader.data = server->writer.data = server;
	server->idle.data = server->orphan.data = server->sweep.data = server->again.data = server;
}

/* The daemon makes it before its first VM, which may be after our start. */
static int open_vms(const struct server *server)
{
	int fd = openat(server->config.runtime_fd, VM_DIR_PARENT,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static void open_leaves(struct server *server)
{
	struct own_cgroup own;

	(void)own_cgroup_find(&kernel_files_system, 0, &own);
	leaves_open(&server->leaves, &own);
	leaves_sweep(&server->leaves, is_used, server);
	log_info(NULL, "Launcher: control groups %s", leaf_kind_name(server->leaves.kind));
}

int server_create(const struct server_config *config, struct server **ret)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		return -ENOMEM;
	server->config = *config;
	server->daemon_fd = -1;
	init_watchers(server);
	reap();
	loop_timer_start(config->loop, &server->reap_again, REAP_AGAIN_SECONDS);
	open_leaves(server);
	fcntl(config->listen_fd, F_SETFL, fcntl(config->listen_fd, F_GETFL) | O_NONBLOCK);
	ev_io_start(loop_ev(config->loop), &server->listener);
	if (config->daemon_fd_take >= 0)
		greet(server, config->daemon_fd_take);
	else
		check_end(server);
	*ret = server;
	return 0;
}

void server_end(struct server *server)
{
	server->is_ending = true;
	/* Who connects now waits: for the next launcher of this socket, or for the socket's end. */
	ev_io_stop(loop_ev(server->config.loop), &server->listener);
	for (struct child *child = server->children; child; child = child->next)
		if (!child->is_gone)
			proc_kill(child->proc);
	check_end(server);
}

bool server_is_bidden(const struct server *server)
{
	return server->is_bidden;
}

/* Whatever became of it, nobody is there to care for its files: a daemon that is does it itself. */
static void end_child(struct server *server, int vms_fd)
{
	struct child *child = server->children;
	char id[VM_DIR_NAME_SIZE];

	memcpy(id, child->id, sizeof(id));
	free_child(child);
	(void)leaf_remove(&server->leaves, id);
	if (server->daemon_fd < 0 && vms_fd >= 0)
		(void)vm_dir_remove(vms_fd, id);
}

void server_destroy(struct server *server)
{
	_cleanup_close_ int vms_fd = -1;
	struct ev_loop *ev;

	if (!server)
		return;
	ev = loop_ev(server->config.loop);
	vms_fd = open_vms(server);
	while (server->children)
		end_child(server, vms_fd);
	free(server->reserve);
	ev_io_stop(ev, &server->listener);
	ev_io_stop(ev, &server->reader);
	ev_io_stop(ev, &server->writer);
	loop_timer_stop(server->config.loop, &server->idle);
	loop_timer_stop(server->config.loop, &server->orphan);
	loop_timer_stop(server->config.loop, &server->sweep);
	loop_timer_stop(server->config.loop, &server->again);
	loop_timer_stop(server->config.loop, &server->reap_again);
	leaves_sweep(&server->leaves, is_used, server);
	leaves_close(&server->leaves);
	/* daemon_fd is the exit's to close. */
	free(server);
}
