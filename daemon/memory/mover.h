/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One change of one VM's memory at a time: caches dropped, target set, and an end to it.
 *
 * Theory of operation: before a squeeze that takes page cache the guest is asked to drop it, which
 * it answers with its memory after that; a guest that does not answer in DROP_SECONDS is squeezed
 * all the same. Then the balloon moves. A change replaces one that is under way, whose owner hears
 * -ECANCELED. Whether it still moves is for the owner to judge: mover_give_up() ends it at another
 * target, because an unreachable one costs a fifth of a vCPU for ever.
 */
#ifndef DAEMON_MEMORY_MOVER_H
#define DAEMON_MEMORY_MOVER_H

#include "daemon/vm/agent_link.h"
#include "daemon/vm/balloon.h"

/* 0: reached; -ETIME: given up; -ECANCELED: replaced, or the VM is ending; -errno of QMP. */
typedef void (*mover_done_fn)(void *user, int error, uint64_t actual_bytes);

enum mover_state {
	MOVER_STILL,
	MOVER_DROPPING, /* the guest drops its caches */
	MOVER_MOVING,   /* the balloon does */
};

/* Embedded in its owner. Read the first part. */
struct mover {
	enum mover_state state;
	uint64_t target_bytes; /* of the change under way, or of the last one */

	struct loop *loop;
	struct balloon *balloon;
	mover_done_fn on_done;
	void *user;
	uint64_t drop_id; /* of the last MEMORY_DROP */
	ev_timer drop_deadline;
};

void mover_init(struct mover *mover, struct loop *loop);

/*
 * Begins a change; `link` is asked to drop caches first, NULL leaves them. on_done comes from the
 * loop. 0, or -errno when it could not begin, and then on_done does not come.
 */
int mover_set(struct mover *mover, struct balloon *balloon, struct agent_link *link,
	      uint64_t target_bytes, mover_done_fn on_done, void *user);

/* A MEMORY came from the guest; `id` is its. */
void mover_memory_came(struct mover *mover, uint64_t id);

/* The change under way ends with -ETIME, and the balloon's target is this. */
void mover_give_up(struct mover *mover, uint64_t target_bytes);

/* Ends the change under way with -ECANCELED; nothing of it is left in the balloon. Safe in any
 * state, and for one that never began. */
void mover_stop(struct mover *mover);

#endif
