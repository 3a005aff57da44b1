/* SPDX-License-Identifier: Apache-2.0 */
/* The memory policy's step: the level, the order of things, the last resort. */
#include "daemon/memory/policy.h"

#include "base/util.h"
#include "daemon/memory/policy_internal.h"

#include <assert.h>

const struct policy_config policy_defaults = {
	/* Guests of 192 MB froze at targets of 64 to 128 MB elsewhere: below this, none. */
	.floor_bytes = 64 * MIB,
	/* The model's mean growth of a run is 37 MiB (LN(25, 0.9)). */
	.run_bytes = 40 * MIB,
	/* Three intervals of the guest's statistics. */
	.guest_max_age_us = 6 * SECOND,
	/* A squeeze costs guest and host processor time: 136 MiB took 0.7 s of a vCPU (TCG). */
	.inflating_max = 8,
	/* Idle VMs get memory back above the first; runs start on what is above the second, which
	 * lies between the ways into RED and BLACK. */
	.resume_head = 0.30,
	.keep_head = 0.04,
};

static const char *const level_names[] = {"green", "yellow", "orange", "red", "black"};
static_assert(ELEMENTSOF(level_names) == POLICY_BLACK + 1, "one name per level");

const char *policy_level_name(enum policy_level level)
{
	return level_names[level];
}

const char *policy_pressure_name(enum policy_level level)
{
	if (level == POLICY_GREEN)
		return "calm";
	return level < POLICY_RED ? "soft" : "hard";
}

void policy_init(struct policy *policy, const struct policy_config *config)
{
	*policy = (struct policy){.config = *config, .may_refill_spares = true, .may_admit = true};
}

/* --- Levels --- */

/* How a level is entered (any of it) and left (all of it, for the hold). Simulated: with holds of
 * this length and demand served from YELLOW on, levels changed 13 times in 90 min, not 288. */
static const struct level_limits {
	double enter_head, leave_head;
	double some_percent, full_percent; /* 0: does not count */
	uint64_t hold_us;
} limits[] = {
	[POLICY_GREEN] = {0, 0, 0, 0, 0},
	[POLICY_YELLOW] = {0.20, 0.225, 1, 0, 10 * SECOND},
	[POLICY_ORANGE] = {0.10, 0.125, 5, 1, 10 * SECOND},
	[POLICY_RED] = {0.05, 0.075, 0, 5, 3 * SECOND},
	[POLICY_BLACK] = {0.025, 0.05, 0, 20, 3 * SECOND},
};

static double head_shift(const struct policy_host *host)
{
	return host->has_psi ? 0 : NO_PSI_HEAD;
}

static bool host_stalls(const struct policy_host *host, const struct level_limits *limit)
{
	if (!host->has_psi)
		return false;
	return (limit->some_percent > 0 && host->some_percent >= limit->some_percent) ||
	       (limit->full_percent > 0 && host->full_percent >= limit->full_percent);
}

static enum policy_level level_entered(const struct policy_round *round)
{
	enum policy_level level = POLICY_BLACK;

	while (level > POLICY_GREEN &&
	       round->head >= limits[level].enter_head + head_shift(round->host) &&
	       !host_stalls(round->host, &limits[level]))
		level--;
	return level;
}

static bool is_fit_to_leave(const struct policy_round *round, const struct level_limits *limit)
{
	return round->head > limit->leave_head + head_shift(round->host) &&
	       !host_stalls(round->host, limit);
}

static void set_level(struct policy_round *round, enum policy_level level)
{
	struct policy *policy = round->policy;

	if (level == POLICY_BLACK && policy->level != POLICY_BLACK)
		policy->black_since_us = round->now_us;
	policy->level = level;
	policy->better_since_us = 0;
}

static void update_level(struct policy_round *round)
{
	struct policy *policy = round->policy;
	const struct level_limits *limit = &limits[policy->level];
	enum policy_level entered = level_entered(round);

	if (entered > policy->level) {
		set_level(round, entered);
		return;
	}
	if (policy->level == POLICY_GREEN)
		return;
	if (!is_fit_to_leave(round, limit))
		policy->better_since_us = 0;
	else if (policy->better_since_us == 0)
		policy->better_since_us = round->now_us;
	else if (!is_within(round->now_us, policy->better_since_us, limit->hold_us))
		set_level(round, policy->level - 1);
}

/* --- Need --- */

/* As much as the host may be relieved of in a second, by level: a level that was just entered is
 * not answered with everything at once. Absolute rates as simulated on hosts of 32 GiB, and the
 * same parts of larger ones, whose VMs also take more in a second. */
static const struct {
	uint64_t mib_per_s;
	unsigned part; /* of the managed memory: one in so many */
} relief[] = {{0, 0}, {256, 128}, {1024, 32}, {2048, 16}, {4096, 8}};
static_assert(ELEMENTSOF(relief) == POLICY_BLACK + 1, "one rate per level");

static uint64_t relief_bytes(const struct policy_round *round)
{
	enum policy_level level = round->policy->level;
	uint64_t per_s =
		MAX(relief[level].mib_per_s * MIB, round->host->managed_bytes / relief[level].part);

	return (uint64_t)((double)per_s * ((double)round->dt_us / (double)SECOND));
}

/* What lacks to the way out of YELLOW. */
static void set_need(struct policy_round *round)
{
	struct policy *policy = round->policy;
	double lack = limits[POLICY_YELLOW].leave_head + head_shift(round->host) - round->head;
	uint64_t wanted;

	policy->need_bytes = 0;
	if (policy->level == POLICY_GREEN || lack <= 0)
		return;
	wanted = (uint64_t)(lack * (double)round->host->managed_bytes) + round->host->over_bytes;
	policy->need_bytes = less(wanted, round->coming_bytes);
	round->budget_bytes = MIN(policy->need_bytes, relief_bytes(round));
}

/* --- What happened since the last step --- */

/* Less than a quarter of what was expected: it gives nothing, or takes it again at once. */
#define USELESS_PART 4
#define USELESS_US   (60 * SECOND)

static void check_gain(const struct policy_sample *vm, uint64_t now_us)
{
	struct policy_vm *record = vm->vm;
	uint64_t gained = less(record->private_before_bytes, vm->private_bytes);

	if (record->expected_gain_bytes == 0 || !vm->is_private_known ||
	    is_within(now_us, record->measured_us, COMING_US) ||
	    is_within(now_us, record->down_us, SPACING_US))
		return;
	if (gained < record->expected_gain_bytes / USELESS_PART) {
		record->useless_until_us = now_us + USELESS_US;
		record->useless_bytes = vm->private_bytes;
	}
	record->expected_gain_bytes = 0;
}

/* The move is over, by whatever end. */
static void note_settled(const struct policy_sample *vm, uint64_t now_us)
{
	if (vm->vm->direction && vm->vm->settled_us == 0 && !vm->is_in_flight)
		vm->vm->settled_us = now_us;
}

/* What is still to come from this VM, by what was said in earlier steps. */
static uint64_t coming_from(const struct policy_sample *vm, uint64_t now_us)
{
	const struct policy_vm *record = vm->vm;
	uint64_t gained;

	if (is_within(now_us, record->ended_us, COMING_US))
		return vm->private_bytes;
	if (record->direction >= 0 || !is_within(now_us, record->down_us, COMING_US))
		return 0;
	gained = vm->is_private_known ? less(record->private_before_bytes, vm->private_bytes) : 0;
	return less(record->expected_gain_bytes, gained);
}

static void observe(struct policy_round *round)
{
	for (size_t i = 0; i < round->n; i++) {
		const struct policy_sample *vm = &round->vms[i];

		round->sum_shares += shares_of(vm);
		round->inflating += vm->is_in_flight && vm->target_bytes < vm->actual_bytes;
		note_settled(vm, round->now_us);
		check_gain(vm, round->now_us);
		policy_learn_guest(round->policy, vm);
		policy_learn_run(vm, round->now_us);
		round->coming_bytes += coming_from(vm, round->now_us);
	}
	round->coming_bytes += round->host->ending_bytes;
	round->mean_shares = round->n > 0 ? round->sum_shares / (double)round->n : 1;
	round->is_taking = round->coming_bytes > 0;
}

/* --- The last resort --- */

#define KILL_AFTER_US (5 * SECOND)
/* Guests that promise and do not deliver cannot hold the last resort up for longer than this; for
 * less long when more is in use than may be. */
#define KILL_ANYWAY_US (30 * SECOND)
#define KILL_OVER_US   (10 * SECOND)

static double over_share(const struct policy_round *round, const struct policy_sample *vm)
{
	double fair = (double)round->host->managed_bytes * shares_of(vm) / round->sum_shares;

	return (double)vm->private_bytes - fair;
}

/* Those that failed a squeeze go before others if they have more than their share. */
static bool is_worse(const struct policy_round *round, size_t one, size_t other)
{
	const struct policy_sample *a = &round->vms[one], *b = &round->vms[other];
	double over_a = over_share(round, a), over_b = over_share(round, b);
	bool failed_a = over_a > 0 && policy_has_failed(a, round->now_us);
	bool failed_b = over_b > 0 && policy_has_failed(b, round->now_us);

	return failed_a != failed_b ? failed_a : over_a > over_b;
}

static void kill_one(struct policy_round *round)
{
	size_t worst = round->n;

	for (size_t i = 0; i < round->n; i++) {
		const struct policy_sample *vm = &round->vms[i];

		if (vm->state == POLICY_SPARE || !vm->is_private_known ||
		    is_within(round->now_us, vm->vm->ended_us, COMING_US))
			continue;
		if (worst == round->n || is_worse(round, i, worst))
			worst = i;
	}
	/* One that gives in this very step may live until the next. */
	if (worst == round->n || !policy_may_act(round, worst))
		return;
	policy_act(round, worst, POLICY_KILL_VM);
	round->vms[worst].vm->ended_us = round->now_us;
	round->policy->killed_us = round->now_us;
}

/* The level is held until there is a good deal more than it was entered with; whoever is killed is
 * killed for want of that little, and only after seconds without it. */
static void resort(struct policy_round *round)
{
	struct policy *policy = round->policy;
	uint64_t since_us = MAX(policy->black_since_us, policy->killed_us);
	uint64_t patience_us = round->host->over_bytes > 0 ? KILL_OVER_US : KILL_ANYWAY_US;

	if (policy->level != POLICY_BLACK)
		return;
	if (level_entered(round) != POLICY_BLACK) {
		policy->black_since_us = round->now_us;
		return;
	}
	if (policy->need_bytes == 0 || is_within(round->now_us, since_us, KILL_AFTER_US))
		return;
	if (!round->is_taking || !is_within(round->now_us, since_us, patience_us))
		kill_one(round);
}

/* --- The step --- */

bool policy_may_act(const struct policy_round *round, size_t index)
{
	const struct policy_vm *record = round->vms[index].vm;

	return record->step != round->policy->steps &&
	       !is_within(round->now_us, record->ended_us, COMING_US);
}

struct policy_action *policy_act(struct policy_round *round, size_t index,
				 enum policy_action_kind kind)
{
	struct policy_action *action = &round->actions[round->count++];

	assert(policy_may_act(round, index));
	round->vms[index].vm->step = round->policy->steps;
	*action =
		(struct policy_action){.kind = kind, .index = index, .key = round->vms[index].key};
	return action;
}

/* Weights of the time below RED, in sixteenths: all busy VMs have their memory back after 16 s on
 * GREEN, or 256 s on ORANGE. */
static const unsigned calm_weights[] = {16, 4, 1, 0, 0};
static_assert(ELEMENTSOF(calm_weights) == POLICY_BLACK + 1, "one weight per level");

static void count_calm(struct policy_round *round)
{
	struct policy *policy = round->policy;

	if (policy->level >= POLICY_RED)
		policy->calm_us = 0;
	else
		policy->calm_us += round->dt_us * calm_weights[policy->level] / 16;
}

/* A step that comes late has no more than this time's budget. */
#define STEP_MAX_US (2 * SECOND)

static struct policy_round begin_round(struct policy *policy, uint64_t now_us,
				       const struct policy_host *host,
				       const struct policy_sample *vms, size_t n,
				       struct policy_action *actions)
{
	policy->steps++;
	return (struct policy_round){
		.policy = policy,
		.host = host,
		.vms = vms,
		.n = n,
		.actions = actions,
		.now_us = now_us,
		.head = host->managed_bytes
				? (double)MIN(host->available_bytes, host->managed_bytes) /
					  (double)host->managed_bytes
				: 0,
	};
}

size_t policy_step(struct policy *policy, uint64_t now_us, const struct policy_host *host,
		   const struct policy_sample *vms, size_t n, struct policy_action *actions)
{
	bool is_first = policy->steps == 0;
	struct policy_round round = begin_round(policy, now_us, host, vms, n, actions);

	round.dt_us = is_first ? SECOND : MIN(less(now_us, policy->stepped_us), STEP_MAX_US);
	policy->stepped_us = now_us;
	observe(&round);
	update_level(&round);
	count_calm(&round);
	set_need(&round);
	policy_take(&round);
	policy_give_back(&round);
	policy_stop_idle(&round);
	resort(&round);
	policy_set_admission(&round);
	return round.count;
}

void policy_kept(const struct policy_sample *vm)
{
	vm->vm->ended_us = 0;
}

size_t policy_reclaim(struct policy *policy, uint64_t now_us, const struct policy_host *host,
		      const struct policy_sample *vms, size_t n, uint64_t bytes,
		      struct policy_action *actions)
{
	struct policy_round round = begin_round(policy, now_us, host, vms, n, actions);
	enum policy_level level = policy->level;

	observe(&round);
	round.budget_bytes = less(bytes, round.coming_bytes);
	policy->level = MAX(level, POLICY_RED);
	policy_take(&round);
	policy->level = level;
	return round.count;
}
