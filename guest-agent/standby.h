/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One interpreter that was started before its program is known, and waits for it.
 *
 * Theory of operation: it is the ordinary command line of its language, stopped in a hook that runs
 * before the program is opened. The hook says that it waits with one byte on the go socket, then
 * reads the go message until the end of the socket (guest-agent/go.h), and closes it: user code
 * never has it. Told to stay, it becomes what guest-agent/resident.h is about. An interpreter that
 * is not used is killed; its slot is free again when it has been reaped.
 */
#ifndef GUEST_AGENT_STANDBY_H
#define GUEST_AGENT_STANDBY_H

#include "base/loop.h"
#include "guest-agent/config.h"
#include "guest-agent/program.h"

enum standby_state {
	STANDBY_NONE,     /* the slot is free */
	STANDBY_STARTING, /* its process has not said yet that it waits */
	STANDBY_WAITING,  /* may be told to go */
	STANDBY_ENDING,   /* killed, or died; not reaped yet */
};

struct standby_context {
	struct loop *loop;
	const struct agent_config *config;
	const struct cgroup *cgroup;
	/* One of them waits now, or has ended before it waited (`has_failed`). */
	void (*on_change)(void *user, const struct language *language, bool has_failed);
	void *user;
};

/* While it waits. Bun has a dozen threads. */
#define STANDBY_PIDS_MAX 64

/* Zero-initialised it is a free slot. */
struct standby {
	const struct standby_context *context;
	enum standby_state state;
	const struct language *language;
	struct process process;
	ev_io watcher; /* of the go socket while it starts */
};

/* Starts one in a free slot; `serial` names its cgroup. 0 or -errno, the slot is then free. */
int standby_start(struct standby *standby, const struct standby_context *context,
		  const struct language *language, unsigned serial);

/* SIGKILL, if it lives. Nothing waits for its end. */
void standby_kill(struct standby *standby);

/* Its process was reaped: frees the slot. */
void standby_on_reaped(struct standby *standby);

/*
 * Tells one that waits to go with `message`, and hands its process over, with its socket. False
 * when it has died meanwhile; it is killed then.
 */
bool standby_go(struct standby *standby, const void *message, size_t len, struct process *ret);

#endif
