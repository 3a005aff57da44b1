/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's end of the launcher: the connection, and the list of what lives. */
#include "daemon/launcher/client.h"

#include "base/log.h"
#include "daemon/launcher/client_internal.h"
#include "daemon/launcher/message.h"
#include "daemon/launcher/start.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* From a connection to the list's end: a service manager may have to start the program first. */
#define SYNC_MS 10000
/* Attempts, when one that was about to end closes the connection. */
#define ATTEMPTS 3
/* For what is left to be killed and reaped. */
#define KILL_REST_MS 5000
/* For a launcher without VMs to end. */
#define BYE_MS 1000
/* Without memory for a packet. */
#define AGAIN_SECONDS 0.1
/* Packets per wake-up. */
#define READS 64

/* --- The connection. --- */

static int start_one(struct launcher *launcher, int *ret_fd)
{
	struct launcher_start start = {.program_fd = launcher->program_fd,
				       .listen_fd = launcher->listen_fd,
				       .runtime_fd = launcher->config.runtime_fd,
				       .runtime_dir = launcher->config.runtime_dir};

	return launcher->program_fd < 0 ? -ENOENT : launcher_start(&start, ret_fd);
}

/* A connection to one that listens, or to one that is started. */
static int open_connection(struct launcher *launcher, int *ret_fd)
{
	int fd;

	if (launcher->listen_fd < 0) {
		fd = unix_connect_packets_at(launcher->config.runtime_fd, LAUNCHER_SOCKET);
		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		/* The next spawn looks again: an admin brings the socket back. */
		if (launcher->config.has_manager || (fd != -ENOENT && fd != -ECONNREFUSED))
			return fd;
		launcher->listen_fd = launcher_listen(launcher->config.runtime_fd, (uid_t)-1);
	}
	if (launcher->listen_fd < 0)
		return launcher->listen_fd;
	return start_one(launcher, ret_fd);
}

static void hang_up(struct launcher *launcher)
{
	loop_timer_stop(launcher->loop, &launcher->again);
	ev_io_stop(loop_ev(launcher->loop), &launcher->reader);
	launcher->fd = close_fd(launcher->fd);
	launcher->is_synced = launcher->is_ending = false;
	launcher->pid = 0;
}

static void lost(struct launcher *launcher, const char *why)
{
	if (launcher->fd < 0)
		return;
	log_warning(NULL, "The launcher is gone: %s", why);
	hang_up(launcher);
	for (struct launch *launch = launcher->launches; launch; launch = launch->next)
		launch_orphan(launch);
}

/* --- What comes. --- */

/* Nobody could ever adopt its VMs, and no other launcher starts while it is there. */
static int end_other_version(struct launcher *launcher, json_int_t version)
{
	json_auto_t *end = json_pack("{s:s}", "type", "end");

	log_warning(NULL,
		    "The launcher speaks version %d, this daemon %d: it ends with its VMs, and "
		    "another one is started",
		    (int)version, LAUNCHER_VERSION);
	launcher->is_ending = true;
	return packet_send(launcher->fd, end, NULL, 0);
}

static int take_hello(struct launcher *launcher, struct packet *packet)
{
	const char *cgroup = packet_string(packet->json, "cgroup");

	if (packet_number(packet->json, "version") != LAUNCHER_VERSION)
		return end_other_version(launcher, packet_number(packet->json, "version"));
	snprintf(launcher->cgroup, sizeof(launcher->cgroup), "%s", cgroup ?: "none");
	launcher->pid = (pid_t)packet_number(packet->json, "pid");
	if (launcher->listen_fd < 0 && !launcher->config.has_manager)
		launcher->listen_fd = packet_take_fd(packet, 0);
	return 0;
}

static int take_packet(struct launcher *launcher, struct packet *packet)
{
	const char *type = packet_string(packet->json, "type"),
		   *id = packet_string(packet->json, "id");
	struct launch *launch;

	if (launcher->is_ending)
		return 0;
	if (!type)
		return -EBADMSG;
	if (strcmp(type, "hello") == 0)
		return take_hello(launcher, packet);
	if (strcmp(type, "synced") == 0) {
		launcher->is_synced = true;
		return 0;
	}
	if (!id)
		return -EBADMSG;
	launch = launch_find(launcher, id);
	if (!launch && strcmp(type, "vm") == 0) {
		launch = launch_new(launcher, id, NULL, NULL);
		if (!launch)
			return -ENOMEM;
	}
	/* What was destroyed meanwhile is nobody's business. */
	if (launch)
		launch_take(launch, type, packet);
	return 0;
}

/* 1 when there was a packet, 0 when there is none now; the connection is lost otherwise. */
static int read_one(struct launcher *launcher)
{
	struct packet packet = PACKET_NONE;
	int r = packet_receive(launcher->fd, &packet);

	/* It is there still when there is memory again. */
	if (r == -ENOMEM) {
		ev_io_stop(loop_ev(launcher->loop), &launcher->reader);
		loop_timer_start(launcher->loop, &launcher->again, AGAIN_SECONDS);
	}
	if (r == -EAGAIN || r == -ENOMEM)
		return 0;
	launcher->is_hung = false;
	if (r == 0)
		r = -ECONNRESET;
	else if (r > 0)
		r = take_packet(launcher, &packet);
	packet_clear(&packet);
	if (r < 0)
		lost(launcher, strerror(-r));
	return r < 0 ? r : 1;
}

static void on_readable(struct ev_loop *ev UNUSED, ev_io *watch, int events UNUSED)
{
	struct launcher *launcher = watch->data;

	for (int i = 0; i < READS && read_one(launcher) > 0; i++)
		;
	if (launcher->fd >= 0)
		launch_resend_kills(launcher);
}

static void on_again(struct ev_loop *ev, ev_timer *timer, int events UNUSED)
{
	struct launcher *launcher = timer->data;

	ev_io_start(ev, &launcher->reader);
}

int launcher_open(struct launcher *launcher)
{
	int r;

	if (launcher->fd >= 0)
		return 0;
	r = open_connection(launcher, &launcher->fd);
	launcher->error = MIN(r, 0);
	if (r < 0)
		return r;
	ev_io_set(&launcher->reader, launcher->fd, EV_READ);
	ev_io_start(loop_ev(launcher->loop), &launcher->reader);
	return 0;
}

int launcher_send(struct launcher *launcher, const json_t *json, const int *fds, size_t n_fds)
{
	int r = launcher->fd < 0 ? -EPIPE : packet_send(launcher->fd, json, fds, n_fds);

	if (r == -EPIPE || r == -ECONNRESET)
		lost(launcher, strerror(-r));
	return r;
}

int launcher_wait(struct launcher *launcher, uint64_t until_us)
{
	struct pollfd poll_fd = {.fd = launcher->fd, .events = POLLIN};
	uint64_t now = now_us();
	int r;

	if (now >= until_us)
		return -ETIMEDOUT;
	/* A millisecond more, so that none is less than asked. */
	if (poll(&poll_fd, 1, (int)((until_us - now) / 1000) + 1) < 0 && errno != EINTR)
		return -errno;
	r = read_one(launcher);
	return MIN(r, 0);
}

/* --- The list. --- */

const char *launcher_list(const struct launcher *launcher, size_t i)
{
	for (const struct launch *launch = launcher->launches; launch; launch = launch->next)
		if (launch_is_foreign(launch) && i-- == 0)
			return launch->id;
	return NULL;
}

pid_t launcher_vm_pid(const struct launcher *launcher, size_t i)
{
	for (const struct launch *launch = launcher->launches; launch; launch = launch->next)
		if (i-- == 0)
			return launch_pid(launch);
	return -1;
}

int launcher_kill_rest(struct launcher *launcher)
{
	uint64_t until_us = now_us() + KILL_REST_MS * UINT64_C(1000);
	int r = 0;

	for (struct launch *launch = launcher->launches; launch; launch = launch->next)
		if (launch_is_foreign(launch))
			launch_kill(launch);
	while (r == 0 && launcher->fd >= 0 && launcher_list(launcher, 0))
		r = launcher_wait(launcher, until_us);
	/* Without a launcher they die as well: by the kernel. */
	return r == -ETIMEDOUT ? r : 0;
}

/* --- Life. --- */

const char *launcher_cgroup(const struct launcher *launcher)
{
	return launcher ? launcher->cgroup : "none";
}

const char *launcher_name(const struct launcher *launcher)
{
	return launcher->config.has_manager ? LAUNCHER_PROGRAM LAUNCHER_ADVICE : LAUNCHER_PROGRAM;
}

int launcher_error(const struct launcher *launcher)
{
	return launcher->error;
}

int launcher_check(struct launcher *launcher)
{
	if (!launcher)
		return -ENOTCONN;
	return launcher->error < 0 ? launcher_open(launcher) : 0;
}

pid_t launcher_pid(const struct launcher *launcher)
{
	return launcher->pid;
}

/* Those of version 1 have the launcher and its leaves' parent in one. */
void launcher_find_cgroup(const struct launcher *launcher, const struct kernel_files *files,
			  struct own_cgroup *ret)
{
	int r = -ESRCH;

	if (launcher && launcher->pid > 0)
		r = own_cgroup_find(files, launcher->pid, ret);
	if (r == 0) {
		if (strcmp(launcher->cgroup, leaf_kind_name(LEAF_V2)) == 0)
			leaves_step_out(ret);
		return;
	}
	if (launcher)
		log_warning(NULL, "Cannot read the launcher's control group, taking our own: %s",
			    strerror(-r));
	(void)own_cgroup_find(files, 0, ret);
}

static int await_sync(struct launcher *launcher)
{
	uint64_t until_us = now_us() + SYNC_MS * UINT64_C(1000);
	int r = 0;

	while (r == 0 && !launcher->is_synced)
		r = launcher->fd < 0 ? -ECONNRESET : launcher_wait(launcher, until_us);
	return r;
}

int launcher_connect(struct loop *loop, const struct launcher_config *config, struct launcher **ret)
{
	struct launcher *launcher = calloc(1, sizeof(*launcher));
	int r = -ENOMEM;

	if (!launcher) {
		close_fd(config->listen_fd_take);
		close_fd(config->program_fd_take);
		return r;
	}
	launcher->loop = loop;
	launcher->config = *config;
	launcher->listen_fd = config->listen_fd_take;
	launcher->program_fd = config->program_fd_take;
	launcher->fd = -1;
	ev_io_init(&launcher->reader, on_readable, -1, EV_READ);
	ev_timer_init(&launcher->again, on_again, 0., 0.);
	launcher->reader.data = launcher->again.data = launcher;
	for (int i = 0; i < ATTEMPTS; i++) {
		r = launcher_open(launcher);
		if (r == 0)
			r = await_sync(launcher);
		if (r != -ECONNRESET && r != -EPIPE)
			break;
	}
	if (r < 0) {
		launcher_destroy(launcher);
		return r;
	}
	*ret = launcher;
	return 0;
}

/* With nothing left to do it ends at once: nobody shall find it after the daemon. */
static void say_bye(struct launcher *launcher)
{
	json_auto_t *bye = json_pack("{s:s}", "type", "bye");
	struct pollfd poll_fd = {.fd = launcher->fd, .events = 0}; /* its end alone */

	if (launcher_send(launcher, bye, NULL, 0) == 0 && !launcher->launches && !launcher->is_hung)
		(void)poll(&poll_fd, 1, BYE_MS);
}

void launcher_destroy(struct launcher *launcher)
{
	if (!launcher)
		return;
	if (launcher->fd >= 0)
		say_bye(launcher);
	hang_up(launcher);
	while (launcher->launches)
		launch_forget(launcher->launches);
	close_fd(launcher->listen_fd);
	close_fd(launcher->program_fd);
	free(launcher);
}
