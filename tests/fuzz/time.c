/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines of a fuzz harness. */
#include "tests/fuzz/time.h"

#include "base/util.h"

/* Over what the calls of one input set. */
#define TIMERS_MAX 1024u
/* So that they are active, and do not pass. */
#define NEVER_SECONDS 1e6

static struct {
	ev_timer *timer;
	double due;
} timers[TIMERS_MAX];
static size_t count;
static double now;

void __real_loop_timer_start(struct loop *loop, ev_timer *timer, double seconds);
void __real_loop_timer_stop(struct loop *loop, ev_timer *timer);
void __wrap_loop_timer_start(struct loop *loop, ev_timer *timer, double seconds);
void __wrap_loop_timer_stop(struct loop *loop, ev_timer *timer);

static void forget(const ev_timer *timer)
{
	for (size_t i = 0; i < count; i++)
		if (timers[i].timer == timer)
			timers[i] = timers[--count];
}

void __wrap_loop_timer_start(struct loop *loop, ev_timer *timer, double seconds)
{
	forget(timer);
	FUZZ_CHECK(count < TIMERS_MAX);
	timers[count].timer = timer;
	timers[count++].due = now + seconds;
	__real_loop_timer_start(loop, timer, NEVER_SECONDS);
}

void __wrap_loop_timer_stop(struct loop *loop, ev_timer *timer)
{
	forget(timer);
	__real_loop_timer_stop(loop, timer);
}

void fuzz_time_begin(void)
{
	count = 0;
	now = 0;
}

bool fuzz_time_pass(struct loop *loop)
{
	size_t first = 0;
	ev_timer *timer;

	for (size_t i = 1; i < count; i++)
		if (timers[i].due < timers[first].due)
			first = i;
	if (count == 0)
		return false;
	timer = timers[first].timer;
	now = MAX(now, timers[first].due);
	__wrap_loop_timer_stop(loop, timer);
	ev_invoke(loop_ev(loop), timer, EV_TIMER);
	fuzz_settle(loop);
	return true;
}
