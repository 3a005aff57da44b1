/* SPDX-License-Identifier: Apache-2.0 */
/* One change of one VM's memory at a time: caches dropped, target set, and an end to it. */
#include "daemon/memory/mover.h"

#include "base/util.h"

#include <assert.h>
#include <errno.h>

/* A guest of 256 MiB drops its caches in some milliseconds; a busy one comes to it later. */
#define DROP_SECONDS 0.5

static void finish(struct mover *mover, int error, uint64_t actual_bytes)
{
	mover_done_fn on_done = mover->on_done;

	loop_timer_stop(mover->loop, &mover->drop_deadline);
	mover->state = MOVER_STILL;
	mover->on_done = NULL;
	if (on_done)
		on_done(mover->user, error, actual_bytes);
}

static void on_balloon_done(void *user, int error, uint64_t actual_bytes)
{
	struct mover *mover = user;

	if (mover->state == MOVER_MOVING)
		finish(mover, error, actual_bytes);
}

/* MOVING only behind balloon_set(), which ends what the balloon was doing before. */
static int move(struct mover *mover)
{
	int r;

	loop_timer_stop(mover->loop, &mover->drop_deadline);
	r = balloon_set(mover->balloon, mover->target_bytes, on_balloon_done, mover);
	if (r == 0)
		mover->state = MOVER_MOVING;
	return r;
}

static void move_after_drop(struct mover *mover)
{
	int r = move(mover);

	if (r < 0)
		finish(mover, r, mover->balloon->actual_bytes);
}

static void on_drop_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	move_after_drop(timer->data);
}

void mover_init(struct mover *mover, struct loop *loop)
{
	*mover = (struct mover){.loop = loop};
	ev_timer_init(&mover->drop_deadline, on_drop_deadline, 0., 0.);
	mover->drop_deadline.data = mover;
}

/* One that cannot be asked is squeezed without. */
static bool begin_drop(struct mover *mover, struct agent_link *link)
{
	struct msg msg = {.type = FRAME_MEMORY_DROP, .ping = {.id = mover->drop_id + 1}};

	if (!link || agent_link_send(link, &msg) < 0)
		return false;
	mover->drop_id++;
	mover->state = MOVER_DROPPING;
	loop_timer_start(mover->loop, &mover->drop_deadline, DROP_SECONDS);
	return true;
}

int mover_set(struct mover *mover, struct balloon *balloon, struct agent_link *link,
	      uint64_t target_bytes, mover_done_fn on_done, void *user)
{
	int r = 0;

	mover_stop(mover);
	mover->balloon = balloon;
	mover->target_bytes = target_bytes;
	if (!begin_drop(mover, link))
		r = move(mover);
	if (r < 0)
		return r;
	mover->on_done = on_done;
	mover->user = user;
	return 0;
}

void mover_memory_came(struct mover *mover, uint64_t id)
{
	if (mover->state == MOVER_DROPPING && id == mover->drop_id)
		move_after_drop(mover);
}

static void on_reset(void *user UNUSED, int error UNUSED, uint64_t actual_bytes UNUSED)
{
}

void mover_give_up(struct mover *mover, uint64_t target_bytes)
{
	assert(mover->state != MOVER_STILL);
	finish(mover, -ETIME, mover->balloon->actual_bytes);
	mover->target_bytes = target_bytes;
	/* Nobody waits for it, nor asks how far it is; a QEMU that does not take it has other
	 * troubles, which QMP tells. */
	if (balloon_set(mover->balloon, target_bytes, on_reset, NULL) == 0)
		balloon_cancel(mover->balloon);
}

void mover_stop(struct mover *mover)
{
	bool is_moving = mover->state == MOVER_MOVING;

	if (mover->state == MOVER_STILL)
		return;
	finish(mover, -ECANCELED, mover->balloon->actual_bytes);
	if (is_moving)
		balloon_cancel(mover->balloon);
}
