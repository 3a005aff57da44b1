/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a loop until a condition holds or a deadline is over: what tests do instead of sleeping. */
#ifndef TESTS_FAKE_WAIT_H
#define TESTS_FAKE_WAIT_H

#include "base/loop.h"
#include "base/util.h"

/* Far beyond what anything here takes, also under valgrind on a busy machine. */
#define WAIT_SECONDS 20

static inline void wait_on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer UNUSED,
				    int events UNUSED)
{
}

/* Evaluates to whether `condition` became true. */
#define WAIT_FOR(loop, condition)                                                   \
	({                                                                          \
		uint64_t wait_until_ = now_us() + WAIT_SECONDS * UINT64_C(1000000); \
		ev_timer wait_timer_;                                               \
		ev_timer_init(&wait_timer_, wait_on_deadline, 0., 0.);              \
		loop_timer_start(loop, &wait_timer_, WAIT_SECONDS);                 \
		while (!(condition) && now_us() < wait_until_)                      \
			loop_run_once(loop, true);                                  \
		loop_timer_stop(loop, &wait_timer_);                                \
		(condition);                                                        \
	})

#endif
