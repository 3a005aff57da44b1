/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All interpreters that wait, and the PREPARE messages that ask for them.
 *
 * Theory of operation: PREPARE says how many of a language shall wait. Those that are missing are
 * started; it is answered by PREPARED when enough wait, when one of them fails, or after a
 * deadline. One PREPARE per language is pending: a newer one answers the older. A run takes one by
 * standbys_take(), which for user code has the others killed: what waits beside user code would
 * only take its memory. Not at once: that would take 30 ms from a clone's first run, and until then
 * a limit of STANDBY_PIDS_MAX keeps their cgroups from being of use to who takes one over.
 */
#ifndef GUEST_AGENT_STANDBYS_H
#define GUEST_AGENT_STANDBYS_H

#include "guest-agent/link.h"
#include "guest-agent/standby.h"

/* Waiting interpreters of one language: two are what a rehearsal and a run need; each costs the
 * guest 10 to 20 MB. */
#define STANDBYS_PER_LANGUAGE 4
/* Half as many again, so that some may still be ending while their successors start. */
#define STANDBYS_MAX (LANGUAGES * STANDBYS_PER_LANGUAGE * 3 / 2)

struct standbys;

struct standbys_context {
	struct loop *loop;
	struct link *link;
	const struct agent_config *config;
	const struct cgroup *cgroup;
};

/* 0 or -ENOMEM. */
int standbys_create(struct standbys **ret, const struct standbys_context *context);

/* Kills all. Returns whether processes are left that must be reaped before standbys_destroy(). */
bool standbys_kill_all(struct standbys *standbys);
void standbys_destroy(struct standbys *standbys);

/* Serves a PREPARE. */
void standbys_prepare(struct standbys *standbys, const struct msg_prepare *request);

/*
 * Finds one for the program and tells it to go. Unless `spares_others` all others are killed soon,
 * also when none is found. False when none fits or none is left; otherwise its process is the
 * caller's.
 */
bool standbys_take(struct standbys *standbys, const struct program *program, bool spares_others,
		   struct process *ret);

/* Finds one of the language that becomes its resident, with the variables `env`; go_fd of its
 * process is then the control socket. False as above, and when user code has begun before: it may
 * hold what is the channel then. */
bool standbys_take_resident(struct standbys *standbys, const struct language *language,
			    const json_t *env, struct process *ret);

/* User code begins that takes none, and all go on waiting. */
void standbys_note_code(struct standbys *standbys);

/* User code begins that takes none of them: all are killed soon. */
void standbys_dismiss(struct standbys *standbys);

/* A process was reaped. True when it was one of them. */
bool standbys_on_reaped(struct standbys *standbys, pid_t pid);

/* The processes of those that start or wait, which are no part of any run. */
void standbys_spared(const struct standbys *standbys, struct process_spared *ret);

#endif
