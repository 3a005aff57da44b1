/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory policy under random pressure, with guests that are honest, deaf, false or mad.
 *
 * Theory of operation: the model keeps the truth of each VM: what it uses, its page cache, what is
 * free and still on the host, what its zram holds. Samples are made from that truth or from lies.
 * After each step every action is held against the rules of policy.h, which are written down here
 * anew, by numbers; then the balloons move, at their guests' pace. A failure names its seed.
 */
#include "daemon/memory/policy.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#define MIB        (1024ull * 1024)
#define SECOND     1000000ull
#define VMS        32
#define STEPS      1500
#define SEEDS      40
#define STATS_US   (2 * SECOND) /* the guests' interval */
#define PACE_PER_S (150 * MIB)  /* of a balloon */
#define RATIO      2

#define REQUIRE(condition)                                                               \
	do {                                                                             \
		if (!(condition))                                                        \
			ck_abort_msg("Seed %d, step %u: %s", seed, step_no, #condition); \
	} while (0)

enum nature {
	HONEST,
	DEAF,   /* its balloon never moves */
	FALSE,  /* its balloon moves, its memory does not come back */
	MAD,    /* says anything */
	SILENT, /* says nothing */
	STINGY, /* claims to have nothing available */
	NATURES,
};

struct model {
	enum nature nature;
	uint64_t size, actual, target;
	uint64_t used, cache, spent; /* spent: free for the guest, still on the host */
	uint64_t packed;             /* in the zram, uncompressed */
	bool is_in_flight;
	uint64_t stats_us;
	struct policy_guest stats;
	uint64_t since_us; /* of its state */
	/* What was done to it */
	uint64_t down_us, up_us, ended_us;
	uint64_t taught_floor, taught_us;
};

static int seed;
static unsigned step_no;
static struct policy policy;
static struct policy_host host;
static struct policy_vm records[VMS];
static struct policy_sample vms[VMS];
static struct policy_action actions[VMS];
static struct model models[VMS];
static uint64_t now, noise, phase_ends_us, next_key;
static uint64_t green_us, below_red_us, black_us, killed_us; /* since; 0: not so */
static double noise_part; /* of the host's memory that others take in this phase */
/* That the test tests something. */
static size_t idle_takes, busy_takes, gives, drops, kills, stalls, stops, useless, full_checks;

static uint64_t chance(uint64_t below)
{
	return (uint64_t)random() % below;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* --- The model --- */

static uint64_t resident(const struct model *model)
{
	return model->used + model->cache + model->spent + model->packed / RATIO;
}

static uint64_t available(const struct model *model)
{
	return minus(model->actual, model->used + model->packed / RATIO);
}

static void create_vm(size_t i)
{
	static const uint64_t sizes[] = {128 * MIB, 256 * MIB, 256 * MIB, 512 * MIB, 2048 * MIB};
	uint64_t size = sizes[chance(ELEMENTSOF(sizes))];
	struct model *model = &models[i];

	*model = (struct model){.nature = chance(3) ? HONEST : chance(NATURES),
				.size = size,
				.actual = size,
				.target = size,
				.used = 20 * MIB + chance(size / 8),
				.since_us = now};
	records[i] = (struct policy_vm){0};
	vms[i] = (struct policy_sample){.vm = &records[i],
					.key = next_key++,
					.state = chance(5) ? POLICY_IDLE : POLICY_SPARE,
					.size_bytes = size,
					.overhead_bytes = 20 * MIB,
					.can_balloon = chance(12) > 0,
					.can_stop = i % 8 > 0,
					.shares = (unsigned)chance(4)};
}

/* It takes what it can get, from what is free and then from its cache. */
static void use_more(struct model *model, uint64_t bytes)
{
	bytes = MIN(bytes, minus(available(model), 8 * MIB));
	model->used += bytes;
	model->spent -= MIN(bytes, model->spent);
	model->cache = MIN(model->cache, minus(model->actual, model->used + model->packed / RATIO));
}

static void end_run(struct model *model)
{
	uint64_t freed = chance(model->used - 20 * MIB + 1);

	model->used -= freed;
	model->spent += freed;
}

static void set_state(size_t i, enum policy_vm_state state)
{
	vms[i].state = state;
	models[i].since_us = now;
}

/* --- Balloons --- */

static void inflate(struct model *model, uint64_t bytes)
{
	uint64_t untouched = minus(model->actual, resident(model)), part;

	if (model->nature == DEAF)
		return;
	if (model->nature == FALSE) {
		model->actual -= MIN(bytes, minus(model->actual, 16 * MIB));
		return;
	}
	model->actual -= part = MIN(bytes, untouched);
	bytes -= part;
	model->spent -= part = MIN(bytes, model->spent);
	model->actual -= part;
	bytes -= part;
	model->cache -= part = MIN(bytes, model->cache);
	model->actual -= part;
	bytes -= part;
	/* Then it compresses: of two pages that go into the zram one comes free. */
	part = MIN(bytes, minus(model->size / 4, model->packed) / RATIO);
	part = MIN(part, minus(model->used, 16 * MIB) / RATIO);
	model->used -= part * RATIO;
	model->packed += part * RATIO;
	model->actual -= part;
}

static void move_balloon(size_t i, uint64_t dt_us)
{
	struct model *model = &models[i];
	uint64_t pace = PACE_PER_S / 1000 * (dt_us / 1000), target = 0;

	if (!model->is_in_flight)
		return;
	if (model->target < model->actual)
		inflate(model, MIN(pace, model->actual - model->target));
	else if (model->nature != DEAF)
		model->actual += MIN(pace, model->target - model->actual);
	vms[i].actual_bytes = model->actual;
	vms[i].target_bytes = model->target;
	switch (policy_progress(&policy, &vms[i], now, &target)) {
	case POLICY_MOVING:
		return;
	case POLICY_REACHED:
		break;
	case POLICY_STALLED:
		REQUIRE(target <= model->size);
		if (model->target < model->actual) {
			model->taught_floor = target;
			model->taught_us = now;
		}
		model->target = target;
		model->actual = model->nature == DEAF ? model->actual : MAX(model->actual, target);
		stalls++;
		break;
	}
	model->is_in_flight = false;
}

/* --- Samples --- */

static uint64_t any_number(void)
{
	switch (chance(5)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX - chance(3);
	case 2:
		return chance(64);
	default:
		return chance(4096 * MIB);
	}
}

static struct policy_guest say_truth(const struct model *model)
{
	return (struct policy_guest){
		.is_known = true,
		.total_bytes = model->size - 20 * MIB,
		.available_bytes = MIN(available(model), model->size - 20 * MIB),
		.free_bytes = MIN(minus(available(model), model->cache), model->size - 20 * MIB),
		.caches_bytes = MIN(model->cache, model->size - 20 * MIB),
		.swap_free_bytes = minus(model->size / 4, model->packed),
		.anonymous_bytes = model->used - 16 * MIB,
		.zram_orig_bytes = model->packed,
		.zram_used_bytes = model->packed / RATIO,
	};
}

static struct policy_guest say_anything(void)
{
	return (struct policy_guest){
		.is_known = chance(9) > 0,
		.total_bytes = any_number(),
		.available_bytes = any_number(),
		.free_bytes = any_number(),
		.caches_bytes = any_number(),
		.swap_free_bytes = any_number(),
		.anonymous_bytes = any_number(),
		.zram_orig_bytes = any_number(),
		.zram_used_bytes = any_number(),
	};
}

static void speak(struct model *model)
{
	model->stats_us = now;
	if (model->nature == MAD)
		model->stats = say_anything();
	else if (model->nature != SILENT)
		model->stats = say_truth(model);
	if (model->nature == STINGY)
		model->stats.available_bytes = model->stats.free_bytes = model->stats.caches_bytes =
			0;
}

static void sample(size_t i)
{
	struct policy_sample *vm = &vms[i];
	struct model *model = &models[i];

	if (!vm->is_stopped && now - model->stats_us >= STATS_US)
		speak(model);
	vm->guest = model->stats;
	vm->guest.age_us = model->nature == MAD ? any_number() : now - model->stats_us;
	vm->is_private_known = chance(20) > 0;
	vm->private_bytes = vm->is_private_known ? vm->overhead_bytes + resident(model) : 0;
	vm->actual_bytes = model->actual;
	vm->target_bytes = model->target;
	vm->is_in_flight = model->is_in_flight;
	vm->idle_us = vm->state == POLICY_IDLE ? now - model->since_us : 0;
}

static void begin_run(size_t i)
{
	uint64_t target;

	set_state(i, POLICY_BUSY);
	vms[i].is_stopped = false;
	sample(i);
	target = policy_on_exec(&policy, &vms[i], now);
	REQUIRE(target >= models[i].target && target <= models[i].size);
	REQUIRE(policy.level >= POLICY_RED || !vms[i].can_balloon || target == models[i].size);
	if (target == models[i].target)
		return;
	models[i].target = target;
	models[i].is_in_flight = true;
	models[i].up_us = now;
}

static void live(size_t i, uint64_t dt_us)
{
	struct model *model = &models[i];

	if (model->ended_us && now > model->ended_us + chance(3 * SECOND)) {
		create_vm(i);
		return;
	}
	/* Free page reporting. */
	model->spent -=
		model->nature == HONEST ? model->spent * MIN(dt_us, SECOND) / SECOND / 2 : 0;
	if (vms[i].state == POLICY_SPARE) {
		if (chance(100) == 0)
			begin_run(i);
	} else if (vms[i].state == POLICY_IDLE) {
		if (chance(60) == 0)
			begin_run(i);
	} else {
		use_more(model, chance(4) ? 0 : chance(model->size / 20));
		model->cache += chance(4) ? 0
					  : MIN(chance(model->size / 40),
						minus(available(model), model->cache));
		if (chance(60) == 0) {
			end_run(model);
			set_state(i, POLICY_IDLE);
		}
	}
}

static void sample_host(void)
{
	uint64_t taken = 0;

	if (now >= phase_ends_us) {
		phase_ends_us = now + 20 * SECOND + chance(200) * SECOND;
		noise_part = chance(2) ? 0 : (double)chance(100) / 100;
	}
	noise = (uint64_t)(noise_part * (double)host.managed_bytes) + chance(20 * MIB);
	for (size_t i = 0; i < VMS; i++)
		taken += vms[i].overhead_bytes + resident(&models[i]);
	host.available_bytes = minus(host.managed_bytes, taken + noise);
	host.some_percent = chance(50) ? 0 : (double)chance(40);
	host.full_percent = chance(50) ? 0 : (double)chance(30);
}

/* --- The rules --- */

static double head(void)
{
	return (double)host.available_bytes / (double)host.managed_bytes;
}

static uint64_t opposite_us(size_t i)
{
	bool is_high = policy.level >= POLICY_ORANGE;

	if (policy.level == POLICY_BLACK)
		return 2 * SECOND;
	if (vms[i].state == POLICY_IDLE && records[i].is_up_for_work)
		return (is_high ? 2 : 20) * SECOND;
	return (is_high ? 10 : 100) * SECOND;
}

static void check_down(size_t i, const struct policy_action *action)
{
	const struct model *model = &models[i];
	uint64_t target = action->target_bytes;

	REQUIRE(policy.level >= POLICY_YELLOW && vms[i].state != POLICY_SPARE);
	REQUIRE(target >= 64 * MIB && target < model->size);
	/* At most a quarter at once of what the host has of it. */
	REQUIRE(target + model->size / 4 >= MIN(resident(model), model->actual));
	REQUIRE(!model->down_us || now - model->down_us >= 2 * SECOND);
	REQUIRE(!model->up_us || now - model->up_us >= opposite_us(i));
	REQUIRE(now >= records[i].stall_until_us);
	REQUIRE(now >= records[i].useless_until_us ||
		vms[i].private_bytes >= records[i].useless_bytes + 16 * MIB);
	if (model->taught_us && now - model->taught_us < 600 * SECOND &&
	    model->since_us < model->taught_us)
		REQUIRE(target >= model->taught_floor);
	if (vms[i].state == POLICY_BUSY) {
		REQUIRE(policy.level >= POLICY_RED);
		REQUIRE(target >= model->size / 4 + 32 * MIB);
		busy_takes++;
		return;
	}
	idle_takes++;
	/* An honest idle guest is not driven below what it can do: uses, and half of what it could
	 * compress comes free. */
	if (model->nature == HONEST && model->since_us + 4 * SECOND < now)
		REQUIRE(target >=
			model->used + model->packed / RATIO + 8 * MIB -
				MIN(model->used, minus(model->size / 4, model->packed)) / RATIO);
}

static void check_up(size_t i, const struct policy_action *action)
{
	const struct model *model = &models[i];

	REQUIRE(policy.level < POLICY_RED);
	REQUIRE(action->target_bytes > model->target && action->target_bytes <= model->size);
	REQUIRE(!model->down_us || now - model->down_us >= 10 * SECOND);
	if (vms[i].state == POLICY_IDLE) {
		REQUIRE(policy.level == POLICY_GREEN && head() > 0.30);
		REQUIRE(action->target_bytes - model->target <= model->size / 20 + MIB);
		REQUIRE(!model->up_us || now - model->up_us >= 100 * SECOND);
	} else {
		REQUIRE(vms[i].state == POLICY_BUSY && action->target_bytes == model->size);
	}
	gives++;
}

static void check_kill(size_t i)
{
	const struct policy_sample *vm = &vms[i];
	double shares = 0;

	REQUIRE(vm->state != POLICY_SPARE && vm->is_private_known);
	REQUIRE(policy.level == POLICY_BLACK && black_us && now - black_us >= 5 * SECOND);
	REQUIRE(!killed_us || now - killed_us >= 5 * SECOND);
	killed_us = now;
	kills++;
	for (size_t k = 0; k < VMS; k++)
		shares += MAX(vms[k].shares, 1u);
	if (now < records[i].useless_until_us || now < records[i].stall_until_us)
		return;
	/* It did not fail, so it is the greatest over its share. */
	for (size_t k = 0; k < VMS; k++) {
		double fair = (double)host.managed_bytes / shares;

		if (vms[k].state == POLICY_SPARE || !vms[k].is_private_known || models[k].ended_us)
			continue;
		REQUIRE((double)vms[k].private_bytes - fair * MAX(vms[k].shares, 1u) <=
			(double)vm->private_bytes - fair * MAX(vm->shares, 1u) + 1);
	}
}

/* What an honest guest will give for this target; others are not believed to. */
static uint64_t true_gain(const struct model *model, uint64_t target)
{
	uint64_t untouched = minus(model->actual, resident(model));

	return model->nature == HONEST ? minus(minus(model->actual, target), untouched) : 0;
}

static void check_action(const struct policy_action *action)
{
	size_t i = action->index;

	REQUIRE(action->key == vms[i].key);
	REQUIRE(!models[i].ended_us || now - models[i].ended_us >= 5 * SECOND);
	switch (action->kind) {
	case POLICY_DROP_SPARE:
		REQUIRE(vms[i].state == POLICY_SPARE && policy.level >= POLICY_ORANGE);
		drops++;
		return;
	case POLICY_SET_TARGET:
		REQUIRE(vms[i].can_balloon && !vms[i].is_in_flight);
		if (action->target_bytes < models[i].actual &&
		    action->target_bytes < models[i].target + MIB)
			check_down(i, action);
		else
			check_up(i, action);
		return;
	case POLICY_STOP_VCPU:
		REQUIRE(vms[i].state == POLICY_IDLE && vms[i].can_stop && !vms[i].is_stopped &&
			!vms[i].is_in_flight);
		stops++;
		return;
	case POLICY_KILL_VM:
		check_kill(i);
		return;
	}
}

static void check_actions(size_t count)
{
	uint64_t taken = 0, most = 0, gain;
	double goal = host.has_psi ? 0.225 : 0.25;
	double need = MAX((goal - head()) * (double)host.managed_bytes, 0);
	bool is_named[VMS] = {false};
	size_t inflating = 0, begun = 0;

	REQUIRE(count <= VMS);
	for (size_t i = 0; i < VMS; i++)
		inflating += vms[i].is_in_flight && vms[i].target_bytes < vms[i].actual_bytes;
	for (size_t k = 0; k < count; k++) {
		const struct policy_action *action = &actions[k];
		size_t i = action->index;

		REQUIRE(i < VMS && !is_named[i]);
		is_named[i] = true;
		check_action(action);
		gain = action->kind == POLICY_DROP_SPARE ? vms[i].private_bytes
		       : action->kind == POLICY_SET_TARGET &&
				       vms[i].target_bytes > action->target_bytes
			       ? true_gain(&models[i], action->target_bytes)
			       : 0;
		taken += gain;
		most = MAX(most, gain);
		begun += action->kind == POLICY_SET_TARGET &&
			 action->target_bytes < vms[i].actual_bytes;
	}
	REQUIRE(begun == 0 || inflating + begun <= 8);
	REQUIRE((double)(taken - most) <= need + (double)MIB);
}

/* Levels, and that busy VMs have what is theirs. */
static void check_state(enum policy_level before)
{
	REQUIRE(policy.level + 1 >= before);
	green_us = policy.level == POLICY_GREEN ? (green_us ? green_us : now) : 0;
	below_red_us = policy.level < POLICY_RED ? (below_red_us ? below_red_us : now) : 0;
	black_us = policy.level == POLICY_BLACK ? (black_us ? black_us : now) : 0;
	REQUIRE(policy.may_refill_spares == (policy.level == POLICY_GREEN));
	REQUIRE(policy.may_admit == (policy.level < POLICY_RED));
	REQUIRE(policy.credit_bytes <= host.available_bytes);
	REQUIRE(policy.level < POLICY_BLACK || policy.credit_bytes == 0);
	for (size_t i = 0; i < VMS; i++) {
		const struct model *model = &models[i];
		uint64_t green = green_us ? now - MAX(green_us, model->since_us) : 0;
		uint64_t calm = below_red_us ? now - MAX(below_red_us, model->since_us) : 0;

		useless += records[i].useless_until_us == now + 60 * SECOND;
		if (vms[i].state != POLICY_BUSY || !vms[i].can_balloon || model->ended_us ||
		    model->nature == DEAF || (green < 30 * SECOND && calm < 300 * SECOND))
			continue;
		REQUIRE(model->target == model->size || now < records[i].stall_until_us ||
			now - model->taught_us < 40 * SECOND);
		full_checks++;
	}
}

/* --- Doing --- */

static void obey(size_t count)
{
	for (size_t k = 0; k < count; k++) {
		size_t i = actions[k].index;
		struct model *model = &models[i];

		switch (actions[k].kind) {
		case POLICY_DROP_SPARE:
		case POLICY_KILL_VM:
			model->ended_us = now;
			break;
		case POLICY_STOP_VCPU:
			vms[i].is_stopped = true;
			break;
		case POLICY_SET_TARGET:
			*(actions[k].target_bytes < model->actual ? &model->down_us
								  : &model->up_us) = now;
			model->target = actions[k].target_bytes;
			model->is_in_flight = true;
			vms[i].is_stopped = false;
			break;
		}
	}
}

static void run_step(void)
{
	enum policy_level before = policy.level;
	uint64_t dt_us = (200 + chance(chance(20) ? 1000 : 4000)) * 1000;
	size_t count;

	now += dt_us;
	for (size_t i = 0; i < VMS; i++) {
		move_balloon(i, dt_us);
		live(i, dt_us);
		sample(i);
	}
	sample_host();
	count = policy_step(&policy, now, &host, vms, VMS, actions);
	check_state(before);
	check_actions(count);
	obey(count);
}

static void start(void)
{
	srandom((unsigned)seed);
	policy_init(&policy, &policy_defaults);
	now = 1000 * SECOND;
	phase_ends_us = green_us = below_red_us = black_us = killed_us = 0;
	host = (struct policy_host){.managed_bytes = (2 + chance(8)) * 1024 * MIB,
				    .has_psi = chance(4) > 0};
	for (size_t i = 0; i < VMS; i++) {
		create_vm(i);
		sample(i);
	}
}

START_TEST(rules_hold_whatever_happens)
{
	for (seed = 1; seed <= SEEDS; seed++) {
		start();
		for (step_no = 0; step_no < STEPS; step_no++)
			run_step();
	}
	/* Everything came about, so that the rules were tried. */
	ck_assert_uint_gt(idle_takes, 1000);
	ck_assert_uint_gt(busy_takes, 100);
	ck_assert_uint_gt(gives, 100);
	ck_assert_uint_gt(drops, 100);
	ck_assert_uint_gt(kills, 10);
	ck_assert_uint_gt(stalls, 100);
	ck_assert_uint_gt(stops, 100);
	ck_assert_uint_gt(useless, 100);
	ck_assert_uint_gt(full_checks, 500);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("policy random");
	TCase *tests = tcase_create("rules");

	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, rules_hold_whatever_happens);
	suite_add_tcase(suite, tests);
	return suite;
}
