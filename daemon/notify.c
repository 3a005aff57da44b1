/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to the service manager: readiness, status, watchdog, and the sockets it hands over. */
#include "daemon/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#define STATUS_SIZE 512 /* a line of systemctl status */

static void on_watchdog(struct ev_loop *ev UNUSED, ev_timer *timer UNUSED, int events UNUSED)
{
	sd_notify(0, "WATCHDOG=1");
}

void notify_init(struct notify *notify, struct loop *loop)
{
	uint64_t usec = 0;
	double period;

	*notify = (struct notify){.loop = loop};
	if (sd_watchdog_enabled(0, &usec) <= 0)
		return;
	period = (double)usec / 2 / 1e6;
	ev_timer_init(&notify->watchdog, on_watchdog, period, period);
	ev_timer_start(loop_ev(loop), &notify->watchdog);
}

void notify_fini(struct notify *notify)
{
	if (notify->loop)
		ev_timer_stop(loop_ev(notify->loop), &notify->watchdog);
}

/* Sends a state and a status. Lines are the protocol's assignments: a status with a line break
 * would be two of them. */
static void send_status(const char *state, const char *status)
{
	char line[STATUS_SIZE];

	snprintf(line, sizeof(line), "%s", status);
	for (char *p = line; *p; p++)
		if (*p == '\n')
			*p = ' ';
	sd_notifyf(0, "%sSTATUS=%s", state, line);
}

void notify_ready(const char *status)
{
	send_status("READY=1\n", status);
}

void notify_status(const char *format, ...)
{
	char status[STATUS_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(status, sizeof(status), format, args);
	va_end(args);
	send_status("", status);
}

void notify_reloading(void)
{
	/* The time is what Type=notify-reload (systemd 253) asks for; older ones ignore it. */
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_us());
}

void notify_stopping(const char *status, double seconds)
{
	char state[64];

	/* A limit that is later already stays. */
	snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64 "\n",
		 (uint64_t)(seconds * 1e6));
	send_status(state, status);
}

static int check_listener(int fd)
{
	int flags;
	int r = sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0);

	if (r <= 0)
		return r < 0 ? r : -ENOTSOCK;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int notify_take_listeners(int ret_fds[NOTIFY_LISTENERS_MAX])
{
	int n = sd_listen_fds(1), r = 0;

	if (n <= 0)
		return n;
	if (n > NOTIFY_LISTENERS_MAX)
		r = -E2BIG;
	for (int i = 0; i < n && r == 0; i++)
		r = check_listener(SD_LISTEN_FDS_START + i);
	for (int i = 0; i < n; i++) {
		if (r < 0)
			close_fd(SD_LISTEN_FDS_START + i);
		else
			ret_fds[i] = SD_LISTEN_FDS_START + i;
	}
	return r < 0 ? r : n;
}
