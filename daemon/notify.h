/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Talking to the service manager: readiness, status, watchdog, and the sockets it hands over.
 *
 * Theory of operation: messages go to $NOTIFY_SOCKET (sd_notify(3)); without one they go nowhere
 * and nothing else changes. The watchdog's timer runs on the loop, so that it stops when the loop
 * does; its period is half of $WATCHDOG_USEC, as sd_watchdog_enabled(3) advises.
 */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include "base/loop.h"
#include "base/util.h"

/* The sockets a .socket unit may list for us; ours lists one. */
#define NOTIFY_LISTENERS_MAX 8

struct notify {
	struct loop *loop;
	ev_timer watchdog;
};

/* Starts the watchdog's timer when the service manager asked for one. */
void notify_init(struct notify *notify, struct loop *loop);

/* Stops it; a zero-initialised struct is fine. */
void notify_fini(struct notify *notify);

/* The daemon serves. `status` is shown by systemctl status. Also ends notify_reloading(). */
void notify_ready(const char *status);

/* A new line for systemctl status. */
void notify_status(const char *format, ...) PRINTF_LIKE(1, 2);

/* The configuration is being read again; notify_ready() follows. */
void notify_reloading(void);

/* The daemon drains and ends, which may take `seconds` from now: whatever TimeoutStopSec= says, it
 * is not killed before. */
void notify_stopping(const char *status, double seconds);

/*
 * Takes the listening sockets of socket activation (sd_listen_fds(3)) and removes the variables
 * that announce them. Writes at most NOTIFY_LISTENERS_MAX descriptors (CLOEXEC, NONBLOCK), now the
 * caller's, and returns how many; 0 when there are none. All are closed, and the result is
 * -ENOTSOCK when one is no listening Unix stream socket, -E2BIG when there are too many, or another
 * -errno.
 */
int notify_take_listeners(int ret_fds[NOTIFY_LISTENERS_MAX]);

#endif
