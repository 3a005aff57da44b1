/* SPDX-License-Identifier: Apache-2.0 */
/* One process that the launcher started for us. */
#include "daemon/launcher/client_internal.h"
#include "daemon/launcher/message.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

/* What a shell says of a program that is not there. */
#define EXIT_NOT_FOUND 127
/* From a SIGKILL to the launcher's last word, when the daemon waits for it. */
#define DESTROY_MS 5000

static void tell(void *user);

static void send_kill(const struct launch *launch)
{
	if (launch->pidfd >= 0)
		pidfd_send_signal(launch->pidfd, SIGKILL, NULL, 0);
}

/* --- What became of it. --- */

static void learn(struct launch *launch, unsigned news)
{
	launch->known |= news;
	loop_defer(launch->launcher->loop, &launch->telling, tell, launch);
}

/* Tells the owner one thing, in order. False when it is up to date, or gone. */
static bool tell_next(struct launch *launch)
{
	unsigned owed = launch->known & ~launch->told;
	const struct proc_ops *ops = launch->ops;

	if (!ops || owed == 0)
		return false;
	launch->told |= owed & -owed; /* the lowest */
	if (owed & LAUNCH_PID) {
		if (ops->on_pid)
			ops->on_pid(launch->user, launch->pid);
	} else if (owed & LAUNCH_END) {
		ops->on_end(launch->user);
	} else {
		ops->on_gone(launch->user, &launch->status);
	}
	return true;
}

static void tell(void *user)
{
	struct launch *launch = user;

	while (tell_next(launch))
		;
	/* It ended before anybody wanted it. */
	if (!launch->ops && (launch->known & LAUNCH_GONE) && !launch->freeing.is_queued)
		launch_forget(launch);
}

struct launch *launch_find(const struct launcher *launcher, const char *id)
{
	for (struct launch *launch = launcher->launches; launch; launch = launch->next)
		if (strcmp(launch->id, id) == 0)
			return launch;
	return NULL;
}

bool launch_is_foreign(const struct launch *launch)
{
	return !launch->ops && !(launch->known & LAUNCH_GONE);
}

/* Not in the launcher's list yet. */
static struct launch *allocate(struct launcher *launcher, const char *id,
			       const struct proc_ops *ops, void *user)
{
	struct launch *launch = calloc(1, sizeof(*launch));

	if (!launch)
		return NULL;
	launch->launcher = launcher;
	launch->ops = ops;
	launch->user = user;
	launch->pidfd = -1;
	snprintf(launch->id, sizeof(launch->id), "%s", id);
	ev_init(&launch->watch, NULL);
	return launch;
}

static void insert(struct launch *launch)
{
	launch->next = launch->launcher->launches;
	launch->launcher->launches = launch;
}

struct launch *launch_new(struct launcher *launcher, const char *id, const struct proc_ops *ops,
			  void *user)
{
	struct launch *launch = allocate(launcher, id, ops, user);

	if (launch)
		insert(launch);
	return launch;
}

static void free_launch(void *user)
{
	free(user);
}

void launch_forget(struct launch *launch)
{
	struct launcher *launcher = launch->launcher;

	for (struct launch **at = &launcher->launches; *at; at = &(*at)->next) {
		if (*at != launch)
			continue;
		*at = launch->next;
		break;
	}
	launch->ops = NULL;
	ev_io_stop(loop_ev(launcher->loop), &launch->watch);
	loop_defer_cancel(launcher->loop, &launch->telling);
	launch->pidfd = close_fd(launch->pidfd);
	loop_defer(launcher->loop, &launch->freeing, free_launch, launch);
}

/* --- What the launcher says. --- */

static void take_pid(struct launch *launch, struct packet *packet)
{
	int pidfd = packet_take_fd(packet, 0);

	if (pidfd < 0 || launch->pidfd >= 0) {
		close_fd(pidfd);
		return;
	}
	launch->pid = (pid_t)packet_number(packet->json, "pid");
	launch->pidfd = pidfd;
	if (launch->is_kill_wanted)
		send_kill(launch);
	learn(launch, LAUNCH_PID);
}

static void take_last_words(struct launch *launch, const json_t *json)
{
	snprintf(launch->stderr_tail, sizeof(launch->stderr_tail), "%s",
		 packet_string(json, "stderr") ?: "");
	launch->status.is_oom_kill |= json_is_true(json_object_get(json, "oom_kill"));
}

static void become_gone(struct launch *launch, enum proc_end end, int code)
{
	/* Orphaned, and found again by a launcher that tells its end: one of both is enough. */
	ev_io_stop(loop_ev(launch->launcher->loop), &launch->watch);
	launch->status.end = end;
	launch->status.code = code;
	launch->pidfd = close_fd(launch->pidfd);
	learn(launch, LAUNCH_GONE);
}

static void take_failure(struct launch *launch, const json_t *json)
{
	int error = (int)packet_number(json, "errno");
	bool is_missing = error == ENOENT || error == EACCES || error == EPERM;

	snprintf(launch->stderr_tail, sizeof(launch->stderr_tail), "cannot be started: %s",
		 strerror(error));
	become_gone(launch, is_missing ? PROC_END_EXITED : PROC_END_UNKNOWN,
		    is_missing ? EXIT_NOT_FOUND : 0);
}

void launch_take(struct launch *launch, const char *type, struct packet *packet)
{
	const json_t *json = packet->json;
	json_int_t end = packet_number(json, "end");

	if (launch->known & LAUNCH_GONE)
		return;
	if (strcmp(type, "pid") == 0 || strcmp(type, "vm") == 0) {
		take_pid(launch, packet);
	} else if (strcmp(type, "failed") == 0) {
		take_failure(launch, json);
	} else if (strcmp(type, "end") == 0) {
		take_last_words(launch, json);
		learn(launch, LAUNCH_END);
	} else if (strcmp(type, "gone") == 0) {
		take_last_words(launch, json);
		become_gone(launch,
			    end == PROC_END_EXITED || end == PROC_END_SIGNALED ? (enum proc_end)end
									       : PROC_END_UNKNOWN,
			    (int)packet_number(json, "code"));
	}
}

/* --- Without a launcher. --- */

static void on_process_end(struct ev_loop *ev, ev_io *watch, int events UNUSED)
{
	struct launch *launch = watch->data;

	ev_io_stop(ev, watch);
	learn(launch, LAUNCH_END);
	become_gone(launch, PROC_END_UNKNOWN, SIGKILL);
}

void launch_orphan(struct launch *launch)
{
	/* Orphaned already: the launcher after its own has died before its end was heard. */
	if ((launch->known & LAUNCH_GONE) || ev_is_active(&launch->watch))
		return;
	snprintf(launch->stderr_tail, sizeof(launch->stderr_tail), "its launcher is gone");
	/* The kernel does it as well. */
	send_kill(launch);
	if (launch->pidfd < 0) {
		become_gone(launch, PROC_END_UNKNOWN, SIGKILL);
		return;
	}
	ev_io_init(&launch->watch, on_process_end, launch->pidfd, EV_READ);
	launch->watch.data = launch;
	ev_io_start(loop_ev(launch->launcher->loop), &launch->watch);
}

/* --- Start and end. --- */

/* Our copies of the descriptors, the info pipe last. */
static int send_spawn(struct launcher *launcher, const char *id, const struct proc_spec *spec,
		      const struct leaf_limits *limits)
{
	json_auto_t *json = message_spawn(id, spec, limits);
	int fds[PACKET_FDS_MAX];
	size_t n = spec->fds ? (size_t)spec->fds->len : 0;

	if (!json)
		return -EINVAL;
	if (n > 0)
		memcpy(fds, spec->fds->fds, n * sizeof(*fds));
	if (spec->info_fd_take >= 0)
		fds[n++] = spec->info_fd_take;
	return launcher_send(launcher, json, fds, n);
}

int launch_spawn(struct launcher *launcher, const char *id, const struct proc_spec *spec,
		 const struct leaf_limits *limits, const struct proc_ops *ops, void *user,
		 struct launch **ret)
{
	_cleanup_close_ int info_fd UNUSED = spec->info_fd_take;
	struct launch *launch;
	int r = launcher_open(launcher);

	if (r < 0)
		return r;
	/* Before it is sent: nothing may run that we do not know of. */
	launch = allocate(launcher, id, ops, user);
	if (!launch)
		return -ENOMEM;
	r = send_spawn(launcher, id, spec, limits);
	/* One that died unnoticed is followed by the next. */
	if (launcher->fd < 0) {
		r = launcher_open(launcher);
		if (r == 0)
			r = send_spawn(launcher, id, spec, limits);
	}
	if (r < 0) {
		free(launch);
		return r;
	}
	insert(launch);
	*ret = launch;
	return 0;
}

int launch_adopt(struct launcher *launcher, const char *id, const struct proc_ops *ops, void *user,
		 struct launch **ret)
{
	struct launch *launch = launch_find(launcher, id);

	if (!launch || !launch_is_foreign(launch))
		return -ENOENT;
	launch->ops = ops;
	launch->user = user;
	if (launch->known)
		loop_defer(launcher->loop, &launch->telling, tell, launch);
	*ret = launch;
	return 0;
}

static void ask_kill(struct launch *launch)
{
	json_auto_t *json = message_new("kill", launch->id);

	launch->is_kill_sent = json && launcher_send(launch->launcher, json, NULL, 0) == 0;
}

/* The launcher is asked as well: it has an eye on the wrapper, and knows a pid before we do. */
void launch_kill(struct launch *launch)
{
	if ((launch->known & LAUNCH_GONE) || launch->is_kill_wanted)
		return;
	launch->is_kill_wanted = true;
	send_kill(launch);
	if (launch->launcher->fd >= 0)
		ask_kill(launch);
}

void launch_resend_kills(struct launcher *launcher)
{
	for (struct launch *launch = launcher->launches; launch && launcher->fd >= 0;
	     launch = launch->next)
		if (launch->is_kill_wanted && !launch->is_kill_sent &&
		    !(launch->known & LAUNCH_GONE))
			ask_kill(launch);
}

pid_t launch_pid(const struct launch *launch)
{
	return launch->pid;
}

bool launch_is_alive(const struct launch *launch)
{
	struct pollfd poll_fd = {.fd = launch->pidfd, .events = POLLIN};

	/* The word of its pid takes a way of its own: a VM may be READY before that comes. */
	if (poll_fd.fd < 0)
		return !(launch->known & (LAUNCH_END | LAUNCH_GONE));
	return poll(&poll_fd, 1, 0) == 0;
}

const char *launch_stderr(const struct launch *launch)
{
	return launch->stderr_tail;
}

bool launch_is_oom_kill(const struct launch *launch)
{
	return launch->status.is_oom_kill;
}

void launch_destroy(struct launch *launch)
{
	uint64_t until_us = now_us() + DESTROY_MS * UINT64_C(1000);
	struct launcher *launcher;
	int r = 0;

	if (!launch)
		return;
	launcher = launch->launcher;
	launch_kill(launch);
	/* Others hear what comes meanwhile from the loop. One that hangs is waited for once. */
	while (r == 0 && !(launch->known & LAUNCH_GONE) && launcher->fd >= 0 && !launcher->is_hung)
		r = launcher_wait(launcher, until_us);
	launcher->is_hung |= r == -ETIMEDOUT;
	if (launch->pidfd >= 0) {
		struct pollfd poll_fd = {.fd = launch->pidfd, .events = POLLIN};

		(void)poll(&poll_fd, 1, DESTROY_MS);
	}
	launch_forget(launch);
}
