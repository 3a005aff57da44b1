/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the host is: the virtio port of a VM, or a socket in tests. Yields one connection at a
 * time.
 *
 * Theory of operation: the port is opened once and stays open, because the driver discards what the
 * host has sent when it is closed; a connection is a duplicate of its descriptor. While the host
 * side has nobody connected, the port reads as ended and polls as hung up for ever, and no event
 * tells of its return (drivers/char/virtio_console.c, port_fops_poll): so it is asked at growing
 * intervals. There is no udev in the guest: the port is found by its name in sysfs.
 */
#ifndef GUEST_AGENT_PORT_H
#define GUEST_AGENT_PORT_H

#include "base/loop.h"

#define PORT_NAME "org.execsandbox.agent"

enum port_state {
	PORT_SEARCHING, /* the device is not there yet */
	PORT_ABSENT,    /* nobody is connected on the host's side */
	PORT_CONNECTED, /* handed out; waits for port_connection_ended() */
	PORT_FINISHED,  /* a single connection has ended: no other will come */
};

struct port_ops {
	/* A connection; `fd_take` is the callee's. */
	void (*on_connected)(void *user, int fd_take);
	/* No other connection will come. */
	void (*on_finished)(void *user);
};

struct port {
	struct loop *loop;
	const struct port_ops *ops;
	void *user;
	enum port_state state;
	int fd; /* device or listening socket; -1: a single connection, or not found yet */
	ev_io acceptor;
	ev_timer retry;
	double retry_seconds;
};

void port_init(struct port *port, struct loop *loop, const struct port_ops *ops, void *user);
void port_fini(struct port *port);

/* Looks for the virtio port from now on. */
void port_start_device(struct port *port);
/* Listens at `path`. 0 or -errno. */
int port_start_path(struct port *port, const char *path);
/* Uses a socket that listens, or is a single connection. 0 or -errno. */
int port_start_fd(struct port *port, int fd_take);

/* The connection was closed: wait for the next. */
void port_connection_ended(struct port *port);

#endif
