/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: libev plus a defer queue.
 *
 * Theory of operation: one thread, one loop. Modules embed ev_io and ev_timer watchers in their
 * objects and stop them before the object goes. Nothing is freed inside one of its own callbacks:
 * an object that wants to end queues a `struct defer`, which runs after all callbacks of this
 * iteration have returned and before the loop sleeps again.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <ev.h>
#include <stdbool.h>

struct loop;

/* One queued call, embedded in its owner. Zero-initialised it is idle. */
struct defer {
	struct defer *next;
	void (*fn)(void *user);
	void *user;
	bool is_queued;
};

/* Creates a loop. 0, or -ENOMEM. */
int loop_create(struct loop **ret);

/* Runs what is still deferred, then frees the loop. NULL is fine. */
void loop_destroy(struct loop *loop);

/* The libev loop, for starting embedded watchers. */
struct ev_loop *loop_ev(struct loop *loop);

/* Runs until loop_stop(). */
void loop_run(struct loop *loop);

/* Runs one iteration: callbacks that are due, then deferred calls. Blocks if `may_block`. */
void loop_run_once(struct loop *loop, bool may_block);

/* Makes loop_run() return after this iteration. */
void loop_stop(struct loop *loop);

/* Queues fn(user) for the end of this iteration; a defer that is queued already stays as it is. */
void loop_defer(struct loop *loop, struct defer *defer, void (*fn)(void *user), void *user);

/* Takes a queued call back; idle ones are fine. */
void loop_defer_cancel(struct loop *loop, struct defer *defer);

/* (Re)starts a one-shot timer `seconds` from now, measured from the present and not from the loop's
 * cached time. */
void loop_timer_start(struct loop *loop, ev_timer *timer, double seconds);
void loop_timer_stop(struct loop *loop, ev_timer *timer);

#endif
