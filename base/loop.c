/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: libev plus a defer queue. */
#include "base/loop.h"

#include "base/util.h"

#include <errno.h>

struct loop {
	struct ev_loop *ev;
	ev_prepare before_sleep;
	struct defer *first, **last;
};

static void run_deferred(struct loop *loop)
{
	while (loop->first) {
		struct defer *defer = loop->first;

		loop->first = defer->next;
		if (!loop->first)
			loop->last = &loop->first;
		defer->next = NULL;
		defer->is_queued = false;
		defer->fn(defer->user);
	}
}

/* libev calls prepare watchers right before it blocks: whatever callbacks deferred is done by then.
 */
static void on_before_sleep(struct ev_loop *ev UNUSED, ev_prepare *watcher, int events UNUSED)
{
	run_deferred(watcher->data);
}

int loop_create(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	if (!loop->ev) {
		free(loop);
		return -ENOMEM;
	}
	loop->last = &loop->first;
	ev_prepare_init(&loop->before_sleep, on_before_sleep);
	loop->before_sleep.data = loop;
	ev_prepare_start(loop->ev, &loop->before_sleep);
	ev_unref(loop->ev);
	*ret = loop;
	return 0;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	run_deferred(loop);
	ev_ref(loop->ev);
	ev_prepare_stop(loop->ev, &loop->before_sleep);
	ev_loop_destroy(loop->ev);
	free(loop);
}

struct ev_loop *loop_ev(struct loop *loop)
{
	return loop->ev;
}

void loop_run(struct loop *loop)
{
	ev_run(loop->ev, 0);
	run_deferred(loop);
}

void loop_run_once(struct loop *loop, bool may_block)
{
	ev_run(loop->ev, may_block ? EVRUN_ONCE : EVRUN_NOWAIT);
	run_deferred(loop);
}

void loop_stop(struct loop *loop)
{
	ev_break(loop->ev, EVBREAK_ALL);
}

void loop_defer(struct loop *loop, struct defer *defer, void (*fn)(void *user), void *user)
{
	if (defer->is_queued)
		return;
	*defer = (struct defer){.fn = fn, .user = user, .is_queued = true};
	*loop->last = defer;
	loop->last = &defer->next;
}

void loop_defer_cancel(struct loop *loop, struct defer *defer)
{
	if (!defer->is_queued)
		return;
	for (struct defer **at = &loop->first; *at; at = &(*at)->next) {
		if (*at != defer)
			continue;
		*at = defer->next;
		if (loop->last == &defer->next)
			loop->last = at;
		break;
	}
	defer->next = NULL;
	defer->is_queued = false;
}

void loop_timer_start(struct loop *loop, ev_timer *timer, double seconds)
{
	ev_timer_stop(loop->ev, timer);
	ev_now_update(loop->ev);
	ev_timer_set(timer, seconds, 0.);
	ev_timer_start(loop->ev, timer);
}

void loop_timer_stop(struct loop *loop, ev_timer *timer)
{
	ev_timer_stop(loop->ev, timer);
}
