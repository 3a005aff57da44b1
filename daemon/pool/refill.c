/* SPDX-License-Identifier: Apache-2.0 */
/* The refill of the pool: which spares are made, improved and ended, and when. */
#include "base/log.h"
#include "daemon/pool/pool_internal.h"

/* After spares that failed: 0.5 s, doubled for each, at most this. */
#define REFILL_DELAY_SECONDS     0.5
#define REFILL_DELAY_MAX_SECONDS 30.
/* A warm run takes 10 to 25 ms; making a spare beside it on the next core slows it by a quarter. */
#define QUIET_US 40000u

size_t pool_count(const struct pool *pool, const struct template *template, bool is_claimed,
		  enum slot_state first, enum slot_state last)
{
	const struct slot *slot;
	size_t count = 0;

	LIST_FOREACH(slot, &pool->slots, link)
	if ((!template || slot->template == template) && !!slot->claim == is_claimed &&
	    !slot->is_adopted && slot->state >= first && slot->state <= last)
		count++;
	return count;
}

static struct pool_kind *kind_of(struct pool *pool, const struct template *template)
{
	for (size_t i = 0; i < pool->kind_count; i++)
		if (pool->kinds[i].template == template)
			return &pool->kinds[i];
	return NULL;
}

void pool_spare_report(struct pool *pool, const struct template *template, bool is_good)
{
	struct pool_kind *kind = kind_of(pool, template);
	double delay;

	if (!kind)
		return;
	kind->failures = is_good ? 0 : kind->failures + 1;
	delay = REFILL_DELAY_SECONDS * (1u << MIN(kind->failures, 6u));
	kind->retry_us =
		is_good ? 0 : now_us() + (uint64_t)(MIN(delay, REFILL_DELAY_MAX_SECONDS) * 1e6);
}

/* Asked with one `now` throughout a refill: who is passed over as delayed has a timer at its end.
 */
static bool is_delayed(const struct pool_kind *kind, uint64_t now)
{
	return kind->retry_us > now;
}

static size_t missing(const struct pool *pool, const struct pool_kind *kind)
{
	size_t there = pool_count(pool, kind->template, false, SLOT_STARTING, SLOT_WARM);

	return kind->target - MIN(there, kind->target);
}

/* The language whose pool is emptiest. */
static struct pool_kind *find_neediest(struct pool *pool, uint64_t now)
{
	struct pool_kind *found = NULL;
	double most = 0;

	for (size_t i = 0; i < pool->kind_count; i++) {
		struct pool_kind *kind = &pool->kinds[i];
		double part = kind->target ? (double)missing(pool, kind) / (double)kind->target : 0;

		if (part > 0)
			template_want(kind->template);
		if (part > most && kind->template->state == TEMPLATE_READY &&
		    !is_delayed(kind, now)) {
			most = part;
			found = kind;
		}
	}
	return found;
}

/* Those who wait for a guest that an earlier daemon has left are not slowed down by starts, and may
 * wait for long. */
static bool is_anybody_waiting(const struct pool *pool)
{
	const struct pool_claim *claim;

	TAILQ_FOREACH(claim, &pool->claims, link)
	if (claim->state >= CLAIM_GRANTED && claim->state <= CLAIM_RETRYING &&
	    !(claim->slot && claim->slot->is_adopted))
		return true;
	return false;
}

static bool may_start_spare(const struct pool *pool)
{
	return !is_anybody_waiting(pool) &&
	       pool_count(pool, NULL, false, SLOT_STARTING, SLOT_PAUSING) < pool->config.refill_max;
}

uint64_t pool_hot_mb(const struct pool *pool, const char *language)
{
	return pool->config.spare_mb + vm_translation_mb(pool->config.host, language);
}

size_t pool_count_hot(const struct pool *pool, const struct template *template)
{
	const struct slot *slot;
	size_t count = 0;

	LIST_FOREACH(slot, &pool->slots, link)
	if (slot->template == template && !slot->claim && slot->state <= SLOT_WARM && slot->is_hot)
		count++;
	return count;
}

static struct slot *find_cold(const struct pool *pool, const struct template *template)
{
	struct slot *slot;

	LIST_FOREACH(slot, &pool->slots, link)
	if (slot->template == template && !slot->claim && slot->state == SLOT_WARM && !slot->is_hot)
		return slot;
	return NULL;
}

/* Rehearsed spares that were taken are replaced from among the others: that is quicker than from
 * the start. */
static void improve(struct pool *pool, uint64_t now)
{
	for (size_t i = 0; i < pool->kind_count; i++) {
		const struct template *template = pool->kinds[i].template;
		struct slot *slot;

		while (!is_delayed(&pool->kinds[i], now) && may_start_spare(pool) &&
		       pool_count_hot(pool, template) <
			       MIN(pool->kinds[i].target, pool->config.hot_max) &&
		       (slot = find_cold(pool, template)))
			if (!slot_improve(slot))
				return;
	}
}

static bool lacks(const struct pool *pool, const struct pool_kind *kind)
{
	return missing(pool, kind) > 0 ||
	       pool_count_hot(pool, kind->template) < MIN(kind->target, pool->config.hot_max);
}

/* Looks again when the first delay of a language that lacks spares is over. */
static void await_delays(struct pool *pool, uint64_t now)
{
	uint64_t first = 0;

	for (size_t i = 0; i < pool->kind_count; i++) {
		const struct pool_kind *kind = &pool->kinds[i];

		if (is_delayed(kind, now) && lacks(pool, kind) &&
		    (first == 0 || kind->retry_us < first))
			first = kind->retry_us;
	}
	if (first > 0)
		loop_timer_start(pool->loop, &pool->refill_timer, (double)(first - now) / 1e6);
}

static void start_spares(struct pool *pool, uint64_t now)
{
	struct pool_kind *kind;

	improve(pool, now);
	while (may_start_spare(pool) && (kind = find_neediest(pool, now)))
		if (!slot_start_spare(pool, kind))
			return;
}

void pool_refill(struct pool *pool)
{
	uint64_t now = now_us(), quiet_us = now - pool->delivered_us;

	if (pool->is_refill_held || !may_start_spare(pool))
		return;
	if (quiet_us < QUIET_US) {
		loop_timer_start(pool->loop, &pool->quiet_timer,
				 (double)(QUIET_US - quiet_us) / 1e6);
		return;
	}
	start_spares(pool, now);
	await_delays(pool, now);
}

static void on_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	pool_advance(timer->data);
}

void pool_shrink(struct pool *pool, const struct pool_kind *kind)
{
	size_t there = pool_count(pool, kind->template, false, SLOT_STARTING, SLOT_WARM);
	struct slot *slot;

	LIST_FOREACH(slot, &pool->slots, link)
	{
		if (there <= kind->target)
			return;
		if (slot->template != kind->template || slot->claim || slot->state == SLOT_ENDING)
			continue;
		slot_stop(slot);
		there--;
	}
}

void pool_refill_init(struct pool *pool)
{
	ev_timer_init(&pool->refill_timer, on_timer, 0., 0.);
	ev_timer_init(&pool->quiet_timer, on_timer, 0., 0.);
	pool->refill_timer.data = pool->quiet_timer.data = pool;
}

void pool_refill_fini(struct pool *pool)
{
	loop_timer_stop(pool->loop, &pool->refill_timer);
	loop_timer_stop(pool->loop, &pool->quiet_timer);
}
