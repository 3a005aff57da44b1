/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes on in a session's VM that nobody waits for: programs and file operations whose calls
 * ended with an earlier daemon.
 *
 * Theory of operation: their outputs are thrown away (agent_link.h) and their ends acknowledged.
 * Most end within milliseconds, and killing one ends the interpreter that it runs in, with all that
 * is in there: they get STRAY_SECONDS, then they are killed. A guest that does not report their
 * ends then is given up.
 */
#ifndef DAEMON_SESSION_STRAY_H
#define DAEMON_SESSION_STRAY_H

#include "daemon/session/exec.h"

/* As many as the guest link has at once. */
#define STRAYS_MAX    64
#define STRAY_SECONDS 2.

struct strays {
	const struct exec_env *env;
	struct vm *vm; /* NULL: there were none */
	uint32_t numbers[STRAYS_MAX];
	size_t count;
	bool is_killed;
	ev_timer timer;
	void (*on_done)(void *user); /* the last one has ended; from strays_on_message() */
	void (*on_unresponsive)(void *user);
	void *user;
};

/*
 * All that the guest knows of and is_known(user) does not; their time counts from here. Raises
 * `*last_number` to the greatest number there is. 0; -EPROTO for a number that none can have;
 * -EBUSY for too many; or -errno of agent_link_resume_stray().
 */
int strays_take(struct strays *strays, const struct msg_hello_reply *hello,
		bool (*is_known)(void *user, uint32_t number), uint32_t *last_number);

/* False when it is not about one of them. */
bool strays_on_message(struct strays *strays, const struct msg *msg);

/* The VM goes. */
void strays_stop(struct strays *strays);

#endif
