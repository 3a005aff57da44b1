/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the memory policy share; for policy*.c alone. */
#ifndef DAEMON_MEMORY_POLICY_INTERNAL_H
#define DAEMON_MEMORY_POLICY_INTERNAL_H

#include "daemon/memory/policy.h"

#define KIB    1024ull
#define MIB    (1024ull * KIB)
#define SECOND 1000000ull

/* A move smaller than this is none: balloons count whole pages, and guests allocate meanwhile. */
#define REACHED_BYTES MIB
/* What was dropped or killed, and what a squeeze was to bring, counts as coming for so long. */
#define COMING_US (5 * SECOND)
/* Between two squeezes of one VM: the guest's statistics come every 2 s (MEMORY.md, 4). */
#define SPACING_US (2 * SECOND)

/* Without stall figures pressure is seen later: all limits of headroom are higher by this. */
#define NO_PSI_HEAD 0.025

/* One step under way. */
struct policy_round {
	struct policy *policy;
	const struct policy_host *host;
	const struct policy_sample *vms;
	size_t n;
	struct policy_action *actions;
	size_t count;
	uint64_t now_us, dt_us;
	double head;           /* available / managed, 0 … 1 */
	uint64_t coming_bytes; /* from earlier steps */
	uint64_t budget_bytes; /* that this step may still take */
	unsigned inflating;
	bool is_taking; /* something is under way, or was begun in this step */
	double mean_shares, sum_shares;
};

static inline uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static inline bool is_within(uint64_t now_us, uint64_t since_us, uint64_t span_us)
{
	return since_us > 0 && less(now_us, since_us) < span_us;
}

static inline unsigned shares_of(const struct policy_sample *vm)
{
	return vm->shares > 0 ? vm->shares : 1;
}

/* policy.c: one action for this VM, the only one of this step. */
struct policy_action *policy_act(struct policy_round *round, size_t index,
				 enum policy_action_kind kind);
/* No action was written for it in this step, and it was not told to end. */
bool policy_may_act(const struct policy_round *round, size_t index);

/* policy_balloon.c: what one VM can give. */
struct policy_offer {
	uint64_t bytes;      /* to take off its actual size; 0: nothing */
	uint64_t gain_bytes; /* what that brings to the host */
	bool is_blind;       /* without the guest's word */
	bool is_exhausted;   /* nothing is left at this level: it could be stopped */
	bool drop_caches;
};
struct policy_offer policy_offer(const struct policy *policy, const struct policy_sample *vm,
				 uint64_t now_us, uint64_t wanted_bytes);
void policy_learn_guest(const struct policy *policy, const struct policy_sample *vm);
void policy_move(const struct policy_sample *vm, uint64_t target_bytes, uint64_t gain_bytes,
		 uint64_t now_us);
bool policy_has_failed(const struct policy_sample *vm, uint64_t now_us);

/* policy_take.c */
void policy_take(struct policy_round *round);
void policy_give_back(struct policy_round *round);
void policy_stop_idle(struct policy_round *round);

/* policy_admit.c */
void policy_learn_run(const struct policy_sample *vm, uint64_t now_us);
void policy_set_admission(struct policy_round *round);

#endif
