/* SPDX-License-Identifier: Apache-2.0 */
/* Where the host is: the virtio port of a VM, or a socket in tests. */
#include "guest-agent/port.h"

#include "base/log.h"
#include "base/util.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define CLASS_DIR "/sys/class/virtio-ports"
/* First wait for device or host, and the longest: five wake-ups a second cost nothing measurable,
 * and a daemon that comes back is answered before it wonders. */
#define RETRY_FIRST_SECONDS 0.005
#define RETRY_MAX_SECONDS   0.2

static const char *const state_names[] = {
	[PORT_SEARCHING] = "searching",
	[PORT_ABSENT] = "absent",
	[PORT_CONNECTED] = "connected",
	[PORT_FINISHED] = "finished",
};
static_assert(ELEMENTSOF(state_names) == PORT_FINISHED + 1, "every state has a name");

static void set_state(struct port *port, enum port_state state)
{
	log_debug("port", "State %s -> %s", state_names[port->state], state_names[state]);
	port->state = state;
	port->retry_seconds = RETRY_FIRST_SECONDS;
}

static void retry_later(struct port *port)
{
	loop_timer_start(port->loop, &port->retry, port->retry_seconds);
	port->retry_seconds = MIN(port->retry_seconds * 2, RETRY_MAX_SECONDS);
}

/* Has the port at CLASS_DIR/`entry` our name? */
static bool is_named(const char *entry)
{
	_cleanup_free_ char *name = NULL;
	char path[sizeof(CLASS_DIR) + NAME_MAX + sizeof("//name")];
	ssize_t len;

	snprintf(path, sizeof(path), CLASS_DIR "/%s/name", entry);
	len = read_file_at(AT_FDCWD, path, NAME_MAX, &name);
	return len > 0 && strncmp(name, PORT_NAME, sizeof(PORT_NAME) - 1) == 0 &&
	       (name[sizeof(PORT_NAME) - 1] == '\n' || name[sizeof(PORT_NAME) - 1] == '\0');
}

/* The node has the name of its sysfs entry: devtmpfs makes it. Descriptor or -errno. */
static int open_device(void)
{
	char path[sizeof("/dev/") + NAME_MAX];
	DIR *class = opendir(CLASS_DIR);
	struct dirent *entry;
	int fd = -ENODEV;

	if (!class)
		return -errno;
	while (fd < 0 && (entry = readdir(class))) {
		if (entry->d_name[0] == '.' || !is_named(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	closedir(class);
	return fd;
}

static void hand_out(struct port *port, int fd_take)
{
	set_state(port, PORT_CONNECTED);
	port->ops->on_connected(port->user, fd_take);
}

static void try_device(struct port *port)
{
	struct pollfd host = {.events = POLLIN};
	int fd;

	if (port->state == PORT_SEARCHING) {
		fd = open_device();
		if (fd < 0) {
			retry_later(port);
			return;
		}
		port->fd = fd;
		set_state(port, PORT_ABSENT);
	}
	host.fd = port->fd;
	if (poll(&host, 1, 0) < 0 || (host.revents & POLLHUP)) {
		retry_later(port);
		return;
	}
	fd = fcntl(port->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		retry_later(port);
	else
		hand_out(port, fd);
}

static void on_retry(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	try_device(timer->data);
}

static void on_acceptable(struct ev_loop *ev, ev_io *watcher, int events UNUSED)
{
	struct port *port = watcher->data;
	int fd = accept4(port->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	/* Others wait in the backlog, as with QEMU's socket. */
	ev_io_stop(ev, watcher);
	hand_out(port, fd);
}

void port_init(struct port *port, struct loop *loop, const struct port_ops *ops, void *user)
{
	*port = (struct port){.loop = loop, .ops = ops, .user = user, .fd = -1};
	port->retry_seconds = RETRY_FIRST_SECONDS;
	ev_timer_init(&port->retry, on_retry, 0., 0.);
	port->retry.data = port;
	ev_io_init(&port->acceptor, on_acceptable, -1, EV_READ);
	port->acceptor.data = port;
}

void port_fini(struct port *port)
{
	ev_io_stop(loop_ev(port->loop), &port->acceptor);
	loop_timer_stop(port->loop, &port->retry);
	port->fd = close_fd(port->fd);
}

void port_start_device(struct port *port)
{
	try_device(port);
}

static void start_listening(struct port *port, int fd_take)
{
	port->fd = fd_take;
	set_state(port, PORT_ABSENT);
	ev_io_set(&port->acceptor, fd_take, EV_READ);
	ev_io_start(loop_ev(port->loop), &port->acceptor);
}

int port_start_path(struct port *port, const char *path)
{
	int fd = unix_listen_at(AT_FDCWD, path, 1);

	if (fd < 0)
		return fd;
	start_listening(port, fd);
	return 0;
}

int port_start_fd(struct port *port, int fd_take)
{
	int is_listening = 0;
	socklen_t len = sizeof(is_listening);

	if (getsockopt(fd_take, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) < 0 ||
	    fcntl(fd_take, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd_take, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	if (is_listening)
		start_listening(port, fd_take);
	else
		hand_out(port, fd_take);
	return 0;
}

void port_connection_ended(struct port *port)
{
	if (port->fd < 0) {
		set_state(port, PORT_FINISHED);
		port->ops->on_finished(port->user);
		return;
	}
	set_state(port, PORT_ABSENT);
	if (port->acceptor.fd >= 0)
		ev_io_start(loop_ev(port->loop), &port->acceptor);
	else
		retry_later(port);
}
