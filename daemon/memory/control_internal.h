/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of memory control share: control.c (steps), control_act.c (what is done to one
 * VM), control_reclaim.c (memory.reclaim). */
#ifndef DAEMON_MEMORY_CONTROL_INTERNAL_H
#define DAEMON_MEMORY_CONTROL_INTERNAL_H

#include "daemon/memory/control.h"

/* One memory.reclaim. */
struct reclaim {
	void (*on_done)(void *user, const struct memory_reclaimed *reclaimed); /* NULL: none */
	void *user;
	char vm[VM_ID_SIZE];        /* empty: all */
	uint64_t bytes, gone_bytes; /* gone: of VMs that have ended since */
	uint64_t began_us, busy_us; /* busy: when something was last begun or under way */
};

struct memory_control {
	struct memory_control_config config;
	struct host_pressure *pressure;
	struct host_sample sample; /* the last one */
	struct policy policy;
	struct memory_counters counters;
	struct reclaim reclaim;
	bool is_awaited;       /* a run was refused since the last step */
	bool had_need;         /* in the last step */
	uint64_t ending_bytes; /* of VMs that die */

	/* The VMs of the running step, in three arrays */
	struct memory_vm **memories;
	struct policy_sample *samples;
	struct policy_action *actions;
	size_t count, room;
};

/* control.c: a step soon, though it is not yet time. */
void control_hurry(struct memory_control *control);
struct policy_host control_host(const struct memory_control *control);

/* control_act.c */
void control_act(struct memory_control *control, const struct policy_action *action);
/* Judges changes that are under way. */
void control_watch(struct memory_control *control, struct memory_vm *memory);
/* Code runs in it that did not: it gets its memory back. */
void control_wake(struct memory_control *control, struct memory_vm *memory);

/* control_reclaim.c: a round of it, in a step. */
void control_reclaim_step(struct memory_control *control);
void control_reclaim_vm_ends(struct memory_control *control, const struct memory_vm *memory);
void control_reclaim_stop(struct memory_control *control);

#endif
