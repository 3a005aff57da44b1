/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission under random operations, against a model that keeps the plain truth.
 *
 * Theory of operation: the model holds one state for each ticket and spare and no sums; whatever it
 * needs it counts anew. Each operation is done to the model first, then for real. Each grant and
 * each reclaim is compared with what the model says must come next, at the moment of the callback;
 * callbacks do further operations at random. After each operation from outside, every counter,
 * every state and every limit is compared, and whoever is next must not fit.
 */
#include "daemon/pool/admission.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#define TICKETS   80
#define SPARES    24
#define UIDS      6
#define KINDS     3
#define STEPS     100000
#define SEEDS     20
#define DEPTH_MAX 2
/* check notes every ck_assert() that holds in a file, which takes longer than the test. */
#define REQUIRE(condition)                              \
	do {                                            \
		if (!(condition))                       \
			ck_abort_msg("%s", #condition); \
	} while (0)
#define NONE SIZE_MAX

struct sums {
	size_t vms, running, waiting, spares, reclaimed;
	uint64_t memory_mb, spares_mb, reclaimed_mb;
	size_t uid_vms[UIDS], uid_waiting[UIDS];
	uint64_t uid_memory_mb[UIDS];
};

static struct admission admission;
static struct admission_ticket tickets[TICKETS];
static struct admission_spare spares[SPARES];
static const char kinds[KINDS];

/* The model. */
static enum admission_state asked[TICKETS];
static enum admission_spare_state stocked[SPARES];
static uint64_t asked_at[TICKETS], begun_at[SPARES], ready_at[SPARES], turn[UIDS]; /* in ticks */
static size_t passed[UIDS][UIDS]; /* how often [0] had a turn and [1] got the grant */
static uint64_t ticks;
static size_t requested; /* the ticket of the outermost running request */
static unsigned depth;
static bool are_limits_new;                            /* changed by the operation */
static size_t grants, conversions, reclaims, refusals; /* that the test tests something */

static size_t chance(size_t below)
{
	return (size_t)random() % below;
}

static struct sums count(void)
{
	struct sums sums = {0};

	for (size_t i = 0; i < TICKETS; i++) {
		sums.uid_waiting[tickets[i].uid] += asked[i] == ADMISSION_WAITING;
		sums.waiting += asked[i] == ADMISSION_WAITING;
		if (asked[i] != ADMISSION_GRANTED)
			continue;
		sums.vms++;
		sums.running++;
		sums.memory_mb += tickets[i].memory_mb;
		sums.uid_vms[tickets[i].uid]++;
		sums.uid_memory_mb[tickets[i].uid] += tickets[i].memory_mb;
	}
	for (size_t i = 0; i < SPARES; i++) {
		if (stocked[i] == ADMISSION_SPARE_NONE)
			continue;
		sums.vms++;
		sums.spares++;
		sums.memory_mb += spares[i].memory_mb;
		sums.spares_mb += spares[i].memory_mb;
		if (stocked[i] != ADMISSION_SPARE_RECLAIMED)
			continue;
		sums.reclaimed++;
		sums.reclaimed_mb += spares[i].memory_mb;
	}
	return sums;
}

/* --- What the model expects --- */

static size_t head_of(uid_t uid)
{
	size_t head = NONE;

	for (size_t i = 0; i < TICKETS; i++)
		if (asked[i] == ADMISSION_WAITING && tickets[i].uid == uid &&
		    (head == NONE || asked_at[i] < asked_at[head]))
			head = i;
	return head;
}

static bool may_run(const struct sums *sums, size_t i)
{
	const struct admission_limits *limits = &admission.limits;
	uid_t uid = tickets[i].uid;

	if (tickets[i].memory_mb > limits->memory_mb)
		return false;
	if (limits->uid_vms && sums->uid_vms[uid] + 1 > limits->uid_vms)
		return false;
	return !limits->uid_memory_mb ||
	       sums->uid_memory_mb[uid] + tickets[i].memory_mb <= limits->uid_memory_mb;
}

static size_t next_ticket(const struct sums *sums)
{
	size_t next = NONE;

	for (uid_t uid = 0; uid < UIDS; uid++) {
		size_t head = sums->uid_waiting[uid] ? head_of(uid) : NONE;

		if (head != NONE && may_run(sums, head) &&
		    (next == NONE || turn[uid] < turn[tickets[next].uid]))
			next = head;
	}
	return next;
}

static size_t oldest_spare(enum admission_spare_state state, const void *kind, const uint64_t *at)
{
	size_t oldest = NONE;

	for (size_t i = 0; i < SPARES; i++)
		if (stocked[i] == state && spares[i].kind == kind &&
		    (oldest == NONE || at[i] < at[oldest]))
			oldest = i;
	return oldest;
}

static size_t ready_spare(size_t i)
{
	return oldest_spare(ADMISSION_SPARE_READY, tickets[i].kind, ready_at);
}

static size_t kept_spare(size_t i)
{
	size_t ready = ready_spare(i);

	return ready != NONE ? ready
			     : oldest_spare(ADMISSION_SPARE_STARTING, tickets[i].kind, begun_at);
}

static bool room(const struct sums *sums, uint64_t memory_mb, size_t gone, uint64_t gone_mb)
{
	return sums->vms - gone + 1 <= admission.limits.max_vms &&
	       sums->memory_mb - gone_mb + memory_mb <= admission.limits.memory_mb;
}

static bool fits_with(const struct sums *sums, size_t i, size_t spare, size_t gone,
		      uint64_t gone_mb)
{
	if (spare != NONE) {
		gone++;
		gone_mb += spares[spare].memory_mb;
	}
	return sums->running + 1 <= admission.limits.max_running &&
	       room(sums, tickets[i].memory_mb, gone, gone_mb);
}

static bool fits_now(const struct sums *sums, size_t i)
{
	return fits_with(sums, i, ready_spare(i), 0, 0);
}

static bool fits_without_spares(const struct sums *sums, size_t i)
{
	return fits_with(sums, i, NONE, sums->spares, sums->spares_mb);
}

/* Does it fit but for spares, and do those on their way out not suffice? */
static bool needs_reclaim(const struct sums *sums, size_t i)
{
	return !fits_now(sums, i) && fits_without_spares(sums, i) &&
	       !fits_with(sums, i, kept_spare(i), sums->reclaimed, sums->reclaimed_mb);
}

/* --- What happens, done to the model --- */

static void take_last_place(uid_t uid)
{
	turn[uid] = ++ticks;
	for (size_t other = 0; other < UIDS; other++)
		passed[uid][other] = 0;
}

/* Nobody who has a turn is passed twice by the same uid. */
static void count_passed(const struct sums *sums, uid_t granted)
{
	for (uid_t uid = 0; uid < UIDS; uid++) {
		size_t head = sums->uid_waiting[uid] && uid != granted ? head_of(uid) : NONE;

		if (head == NONE || !may_run(sums, head))
			continue;
		passed[uid][granted]++;
		REQUIRE(passed[uid][granted] <= 1);
	}
}

static void apply_grant(size_t i)
{
	struct sums sums = count();
	size_t spare = ready_spare(i);

	REQUIRE(may_run(&sums, i) && fits_now(&sums, i));
	REQUIRE(tickets[i].spare == (spare == NONE ? NULL : &spares[spare]));
	count_passed(&sums, tickets[i].uid);
	take_last_place(tickets[i].uid);
	asked[i] = ADMISSION_GRANTED;
	grants++;
	if (spare == NONE)
		return;
	REQUIRE(spares[spare].state == ADMISSION_SPARE_NONE);
	stocked[spare] = ADMISSION_SPARE_NONE;
	conversions++;
}

static void expect_grant(size_t i)
{
	struct sums sums = count();

	REQUIRE(next_ticket(&sums) == i);
	apply_grant(i);
}

/* The grant of a request that runs is not told, but comes before whatever is told next. */
static void catch_up(void)
{
	if (requested != NONE && asked[requested] == ADMISSION_WAITING &&
	    tickets[requested].state == ADMISSION_GRANTED)
		expect_grant(requested);
}

static void operate(void);

static void meddle(void)
{
	if (depth > DEPTH_MAX || chance(4))
		return;
	operate();
}

static void on_granted(void *user)
{
	size_t i = (size_t)((struct admission_ticket *)user - tickets);

	REQUIRE(tickets[i].state == ADMISSION_GRANTED);
	REQUIRE(i != requested);
	catch_up();
	expect_grant(i);
	meddle();
}

static void end_spare(size_t i)
{
	stocked[i] = ADMISSION_SPARE_NONE;
	admission_spare_end(&admission, &spares[i], ticks);
}

static void on_reclaim(void *user UNUSED, struct admission_spare *spare)
{
	size_t i = (size_t)(spare - spares), head, kept;
	struct sums sums;

	catch_up();
	sums = count();
	head = next_ticket(&sums);
	REQUIRE(head != NONE);
	REQUIRE(needs_reclaim(&sums, head));
	kept = kept_spare(head);
	REQUIRE(i != kept);
	REQUIRE(stocked[i] == ADMISSION_SPARE_STARTING || stocked[i] == ADMISSION_SPARE_READY);
	for (size_t k = 0; k < SPARES; k++)
		if (k != kept &&
		    (stocked[k] == ADMISSION_SPARE_STARTING || stocked[k] == ADMISSION_SPARE_READY))
			REQUIRE(begun_at[k] >= begun_at[i]);
	stocked[i] = ADMISSION_SPARE_RECLAIMED;
	reclaims++;
	if (chance(3) == 0)
		end_spare(i);
	meddle();
}

/* --- Random operations --- */

static enum admission_refusal expect_refusal(const struct sums *sums, size_t i, bool is_next)
{
	const struct admission_limits *limits = &admission.limits;

	if (tickets[i].memory_mb > limits->memory_mb ||
	    (limits->uid_memory_mb && tickets[i].memory_mb > limits->uid_memory_mb))
		return ADMISSION_TOO_LARGE;
	if (is_next && fits_now(sums, i))
		return ADMISSION_FITS;
	/* One more than queue_max, for spares to go. */
	if (is_next && fits_without_spares(sums, i) && sums->waiting <= limits->queue_max)
		return ADMISSION_FITS;
	if (limits->uid_queue_max && sums->uid_waiting[tickets[i].uid] >= limits->uid_queue_max)
		return ADMISSION_UID_QUEUE_FULL;
	return sums->waiting >= limits->queue_max ? ADMISSION_QUEUE_FULL : ADMISSION_FITS;
}

static void call_request(size_t i, enum admission_refusal expected, bool is_granted)
{
	enum admission_refusal refusal;
	enum admission_state state;

	if (depth == 1)
		requested = i;
	state = admission_request(&admission, &tickets[i], ticks, &refusal);
	if (depth == 1) {
		catch_up();
		requested = NONE;
	}
	REQUIRE(refusal == expected);
	if (is_granted)
		apply_grant(i);
	/* Inside a callback nothing was granted meanwhile; outside, catch_up() saw to it. */
	REQUIRE(state == asked[i]);
	refusals += state == ADMISSION_IDLE;
}

static void request(size_t i)
{
	struct sums sums = count();
	enum admission_refusal expected;
	bool is_next, is_granted;

	/* The first uid floods. */
	tickets[i].uid = chance(3) ? (uid_t)chance(UIDS) : 0;
	tickets[i].kind = &kinds[chance(KINDS)];
	tickets[i].memory_mb = chance(20) ? 1 + chance(400) : 1200 + chance(900);
	is_next = next_ticket(&sums) == NONE && sums.uid_waiting[tickets[i].uid] == 0 &&
		  may_run(&sums, i);
	expected = expect_refusal(&sums, i, is_next);
	is_granted = expected == ADMISSION_FITS && is_next && fits_now(&sums, i);
	if (expected == ADMISSION_FITS && !is_granted) {
		if (sums.uid_waiting[tickets[i].uid] == 0)
			take_last_place(tickets[i].uid);
		asked[i] = ADMISSION_WAITING;
		asked_at[i] = ++ticks;
	}
	call_request(i, expected, is_granted);
}

static void operate_on_ticket(size_t i)
{
	if (i == requested)
		return;
	switch (asked[i]) {
	case ADMISSION_IDLE:
		/* Loud and quiet times in turn, so that queues form and pools fill. */
		if (ticks / 256 % 2 == 0 || chance(12) == 0)
			request(i);
		return;
	case ADMISSION_WAITING:
		if (chance(8))
			return;
		asked[i] = ADMISSION_IDLE;
		admission_cancel(&admission, &tickets[i], ticks);
		return;
	case ADMISSION_GRANTED:
		if (chance(2))
			return;
		asked[i] = ADMISSION_IDLE;
		admission_release(&admission, &tickets[i], ticks);
		return;
	}
}

static void begin_spare(size_t i)
{
	struct sums sums = count();
	bool expected;

	spares[i].kind = &kinds[chance(KINDS)];
	spares[i].memory_mb = chance(150);
	expected = next_ticket(&sums) == NONE && room(&sums, spares[i].memory_mb, 0, 0);
	if (expected) {
		stocked[i] = ADMISSION_SPARE_STARTING;
		begun_at[i] = ++ticks;
	}
	REQUIRE(admission_spare_begin(&admission, &spares[i]) == expected);
}

static void operate_on_spare(size_t i)
{
	switch (stocked[i]) {
	case ADMISSION_SPARE_NONE:
		begin_spare(i);
		return;
	case ADMISSION_SPARE_STARTING:
		if (chance(4) == 0) {
			end_spare(i);
			return;
		}
		stocked[i] = ADMISSION_SPARE_READY;
		ready_at[i] = ++ticks;
		admission_spare_ready(&admission, &spares[i], ticks);
		return;
	case ADMISSION_SPARE_READY:
		if (chance(16) == 0)
			end_spare(i);
		return;
	case ADMISSION_SPARE_RECLAIMED:
		if (chance(2))
			admission_spare_ready(&admission, &spares[i], ticks);
		else
			end_spare(i);
		return;
	}
}

static struct admission_limits random_limits(void)
{
	return (struct admission_limits){
		.max_vms = 1 + chance(20),
		.max_running = 1 + chance(16),
		.queue_max = chance(8) ? 10 + chance(50) : chance(3),
		.memory_mb = chance(4) ? 1500 + chance(1500) : 300 + chance(1200),
		.uid_vms = chance(2) ? 0 : 1 + chance(6),
		.uid_queue_max = chance(2) ? 0 : 1 + chance(20),
		.uid_memory_mb = chance(2) ? 0 : 200 + chance(2000),
	};
}

/* Often one that is granted, so that much is released. */
static size_t some_ticket(void)
{
	size_t i = chance(TICKETS);

	for (int tries = 0; tries < 8 && asked[i] != ADMISSION_GRANTED && chance(3); tries++)
		i = chance(TICKETS);
	return i;
}

static void operate(void)
{
	depth++;
	ticks++;
	if (chance(1000) == 0) {
		struct admission_limits limits = random_limits();

		are_limits_new = true;
		admission_set_limits(&admission, &limits, ticks);
	} else if (chance(3) == 0) {
		operate_on_spare(chance(SPARES));
	} else {
		operate_on_ticket(some_ticket());
	}
	depth--;
}

/* --- Checks after each operation from outside --- */

static void check_numbers(const struct sums *sums)
{
	REQUIRE(admission.vms == sums->vms);
	REQUIRE(admission.running == sums->running);
	REQUIRE(admission.waiting == sums->waiting);
	REQUIRE(admission.spares == sums->spares);
	REQUIRE(admission.reclaimed == sums->reclaimed);
	REQUIRE(admission.memory_used_mb == sums->memory_mb);
	REQUIRE(admission.spares_mb == sums->spares_mb);
	REQUIRE(admission.reclaimed_mb == sums->reclaimed_mb);
	for (size_t i = 0; i < TICKETS; i++)
		REQUIRE(tickets[i].state == asked[i]);
	for (size_t i = 0; i < SPARES; i++)
		REQUIRE(spares[i].state == stocked[i]);
	for (uid_t uid = 0; uid < UIDS; uid++) {
		uint64_t retry_ms = admission_retry_after_ms(&admission, uid);

		REQUIRE(retry_ms >= 1 && retry_ms <= 300000);
	}
}

static void check_at_most(uint64_t value, uint64_t limit, uint64_t before)
{
	REQUIRE(value <= MAX(limit, before));
}

/* Over a limit, lowered since, is only who was before: nothing was added. */
static void check_limits(const struct sums *sums, const struct sums *before)
{
	const struct admission_limits *limits = &admission.limits;

	check_at_most(sums->vms, limits->max_vms, before->vms);
	check_at_most(sums->running, limits->max_running, before->running);
	check_at_most(sums->memory_mb, limits->memory_mb, before->memory_mb);
	/* One more may wait for spares to go. */
	check_at_most(sums->waiting, limits->queue_max + 1, before->waiting);
	for (uid_t uid = 0; uid < UIDS; uid++) {
		if (limits->uid_vms)
			check_at_most(sums->uid_vms[uid], limits->uid_vms, before->uid_vms[uid]);
		if (limits->uid_memory_mb)
			check_at_most(sums->uid_memory_mb[uid], limits->uid_memory_mb,
				      before->uid_memory_mb[uid]);
		if (limits->uid_queue_max)
			check_at_most(sums->uid_waiting[uid], limits->uid_queue_max,
				      before->uid_waiting[uid]);
	}
}

static void check_rest(const struct sums *sums)
{
	size_t next = next_ticket(sums);

	REQUIRE(next == NONE || !fits_now(sums, next));
	REQUIRE(next == NONE || !needs_reclaim(sums, next));
}

static void start(unsigned seed)
{
	struct admission_limits limits;

	srandom(seed);
	limits = random_limits();
	admission_init(&admission, &limits);
	admission.on_reclaim = on_reclaim;
	requested = NONE;
	ticks = grants = conversions = reclaims = refusals = depth = 0;
	for (size_t i = 0; i < TICKETS; i++) {
		tickets[i] =
			(struct admission_ticket){.on_granted = on_granted, .user = &tickets[i]};
		asked[i] = ADMISSION_IDLE;
	}
	for (size_t i = 0; i < SPARES; i++) {
		spares[i] = (struct admission_spare){0};
		stocked[i] = ADMISSION_SPARE_NONE;
	}
}

/* With room for everything, giving everything back serves whoever waits: no ticket is lost. */
static void drain(void)
{
	struct admission_limits all = {SIZE_MAX, SIZE_MAX, SIZE_MAX, UINT64_MAX, 0, 0, 0};

	depth = DEPTH_MAX + 1; /* callbacks do nothing more */
	admission_set_limits(&admission, &all, ticks);
	for (size_t i = 0; i < SPARES; i++)
		end_spare(i);
	for (size_t i = 0; i < TICKETS; i++) {
		REQUIRE(tickets[i].state != ADMISSION_WAITING);
		asked[i] = ADMISSION_IDLE;
		admission_release(&admission, &tickets[i], ticks);
	}
	REQUIRE(admission.vms == 0);
	REQUIRE(admission.memory_used_mb == 0);
	REQUIRE(TAILQ_EMPTY(&admission.uids));
	REQUIRE(TAILQ_EMPTY(&admission.kinds));
	admission_fini(&admission);
}

START_TEST(test_random_operations_are_exact)
{
	struct sums before, after;

	start((unsigned)_i);
	after = count();
	for (int step = 0; step < STEPS; step++) {
		before = after;
		are_limits_new = false;
		operate();
		after = count();
		check_numbers(&after);
		if (!are_limits_new)
			check_limits(&after, &before);
		check_rest(&after);
	}
	REQUIRE(grants > STEPS / 50);
	REQUIRE(conversions > STEPS / 1000);
	REQUIRE(reclaims > STEPS / 2000);
	REQUIRE(refusals > STEPS / 200);
	drain();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("admission_random");
	TCase *tests = tcase_create("admission_random");

	tcase_set_timeout(tests, 60);
	tcase_add_loop_test(tests, test_random_operations_are_exact, 1, 1 + SEEDS);
	suite_add_tcase(suite, tests);
	return suite;
}
