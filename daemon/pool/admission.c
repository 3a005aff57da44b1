/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: how many VMs may exist and run at once, who waits for the next one, and who is next.
 *
 * Theory of operation: everything that may let somebody through ends in advance_all(), which takes
 * one step at a time: one grant or one reclaim, then its callback. After a callback nothing is
 * remembered: the next step looks at everything anew, so callbacks may change anything. Between
 * calls from outside, the head whose turn it is never fits.
 */
#include "daemon/pool/admission.h"

#include "base/util.h"

/* Before anything was measured: a cold boot and a short run. */
#define HOLD_GUESS_US 5000000u
/* One eighth of each new value: follows a change of load within a few dozen runs. */
#define HOLD_WEIGHT 8
/* Looking again this often costs nothing, however long sessions hold their shares. */
#define RETRY_MAX_MS (5u * 60 * 1000)

/* There are never more than VMs and waiting tickets together, so max_vms and queue_max cap them. */
struct admission_uid {
	TAILQ_ENTRY(admission_uid) in_turn;
	TAILQ_HEAD(admission_queue, admission_ticket) queue;
	uid_t uid;
	size_t waiting;
	size_t vms; /* granted */
	uint64_t memory_mb;
};

/* There are never more than spares. */
struct admission_kind {
	TAILQ_ENTRY(admission_kind) in_kinds;
	TAILQ_HEAD(admission_spares, admission_spare) starting, ready; /* oldest first */
	const void *kind;
};

void admission_init(struct admission *admission, const struct admission_limits *limits)
{
	*admission = (struct admission){.limits = *limits, .mean_hold_us = HOLD_GUESS_US};
	TAILQ_INIT(&admission->uids);
	TAILQ_INIT(&admission->spares_old);
	TAILQ_INIT(&admission->kinds);
}

void admission_fini(struct admission *admission)
{
	struct admission_uid *uid;
	struct admission_kind *kind;

	while ((uid = TAILQ_FIRST(&admission->uids))) {
		TAILQ_REMOVE(&admission->uids, uid, in_turn);
		free(uid);
	}
	while ((kind = TAILQ_FIRST(&admission->kinds))) {
		TAILQ_REMOVE(&admission->kinds, kind, in_kinds);
		free(kind);
	}
}

/* --- Uids --- */

static struct admission_uid *uid_find(const struct admission *admission, uid_t uid)
{
	struct admission_uid *at;

	TAILQ_FOREACH(at, &admission->uids, in_turn)
	if (at->uid == uid)
		return at;
	return NULL;
}

static struct admission_uid *uid_get(struct admission *admission, uid_t uid)
{
	struct admission_uid *found = uid_find(admission, uid);

	if (found)
		return found;
	found = calloc(1, sizeof(*found));
	if (!found)
		return NULL;
	found->uid = uid;
	TAILQ_INIT(&found->queue);
	TAILQ_INSERT_TAIL(&admission->uids, found, in_turn);
	return found;
}

static void uid_drop_if_unused(struct admission *admission, struct admission_uid *uid)
{
	if (uid->waiting > 0 || uid->vms > 0)
		return;
	TAILQ_REMOVE(&admission->uids, uid, in_turn);
	free(uid);
}

static void uid_to_last_place(struct admission *admission, struct admission_uid *uid)
{
	TAILQ_REMOVE(&admission->uids, uid, in_turn);
	TAILQ_INSERT_TAIL(&admission->uids, uid, in_turn);
}

static void enqueue(struct admission *admission, struct admission_uid *uid,
		    struct admission_ticket *ticket)
{
	if (uid->waiting == 0)
		uid_to_last_place(admission, uid);
	TAILQ_INSERT_TAIL(&uid->queue, ticket, in_queue);
	uid->waiting++;
	admission->waiting++;
	ticket->holder = uid;
	ticket->state = ADMISSION_WAITING;
}

static void dequeue(struct admission *admission, struct admission_ticket *ticket)
{
	TAILQ_REMOVE(&ticket->holder->queue, ticket, in_queue);
	ticket->holder->waiting--;
	admission->waiting--;
	ticket->state = ADMISSION_IDLE;
}

/* --- Spares --- */

static struct admission_kind *kind_find(const struct admission *admission, const void *kind)
{
	struct admission_kind *at;

	TAILQ_FOREACH(at, &admission->kinds, in_kinds)
	if (at->kind == kind)
		return at;
	return NULL;
}

static struct admission_kind *kind_get(struct admission *admission, const void *kind)
{
	struct admission_kind *found = kind_find(admission, kind);

	if (found)
		return found;
	found = calloc(1, sizeof(*found));
	if (!found)
		return NULL;
	found->kind = kind;
	TAILQ_INIT(&found->starting);
	TAILQ_INIT(&found->ready);
	TAILQ_INSERT_TAIL(&admission->kinds, found, in_kinds);
	return found;
}

/* Out of the lists: no ticket can get it, and it is not reclaimed (again). Its share stays. */
static void spare_unlist(struct admission *admission, struct admission_spare *spare)
{
	struct admission_kind *kind = spare->in_kind;
	struct admission_spares *list =
		spare->state == ADMISSION_SPARE_READY ? &kind->ready : &kind->starting;

	TAILQ_REMOVE(list, spare, by_kind);
	TAILQ_REMOVE(&admission->spares_old, spare, by_age);
	if (!TAILQ_EMPTY(&kind->ready) || !TAILQ_EMPTY(&kind->starting))
		return;
	TAILQ_REMOVE(&admission->kinds, kind, in_kinds);
	free(kind);
}

/* The share of a spare that is in no list is free, or somebody else's. */
static void spare_uncount(struct admission *admission, struct admission_spare *spare)
{
	admission->vms--;
	admission->memory_used_mb -= spare->memory_mb;
	admission->spares--;
	admission->spares_mb -= spare->memory_mb;
	spare->state = ADMISSION_SPARE_NONE;
}

static struct admission_spare *spare_ready(const struct admission *admission, const void *kind)
{
	struct admission_kind *found = kind_find(admission, kind);

	return found ? TAILQ_FIRST(&found->ready) : NULL;
}

/* The spare that a ticket of this kind gets or waits for. */
static struct admission_spare *spare_kept(const struct admission *admission, const void *kind)
{
	struct admission_kind *found = kind_find(admission, kind);

	if (!found)
		return NULL;
	return TAILQ_EMPTY(&found->ready) ? TAILQ_FIRST(&found->starting)
					  : TAILQ_FIRST(&found->ready);
}

/* --- What fits --- */

static bool within(uint64_t used, uint64_t more, uint64_t limit)
{
	return used <= limit && more <= limit - used;
}

/* Would a ticket of this uid be within the uid's quota, and is it possible at all? Otherwise it
 * does not have a turn. */
static bool has_turn(const struct admission *admission, const struct admission_uid *uid,
		     const struct admission_ticket *ticket)
{
	const struct admission_limits *limits = &admission->limits;

	return ticket->memory_mb <= limits->memory_mb &&
	       (limits->uid_vms == 0 || uid->vms < limits->uid_vms) &&
	       (limits->uid_memory_mb == 0 ||
		within(uid->memory_mb, ticket->memory_mb, limits->uid_memory_mb));
}

static struct admission_uid *next_uid(const struct admission *admission)
{
	struct admission_uid *uid;

	TAILQ_FOREACH(uid, &admission->uids, in_turn)
	if (uid->waiting > 0 && has_turn(admission, uid, TAILQ_FIRST(&uid->queue)))
		return uid;
	return NULL;
}

/* Is there room for one more VM of this size when this many of the others and of their memory are
 * gone? */
static bool has_room(const struct admission *admission, uint64_t memory_mb, size_t gone,
		     uint64_t gone_mb)
{
	return admission->vms - gone < admission->limits.max_vms &&
	       within(admission->memory_used_mb - gone_mb, memory_mb, admission->limits.memory_mb);
}

static bool fits(const struct admission *admission, const struct admission_ticket *ticket)
{
	const struct admission_spare *spare = spare_ready(admission, ticket->kind);

	return admission->running < admission->limits.max_running &&
	       has_room(admission, ticket->memory_mb, spare ? 1 : 0, spare ? spare->memory_mb : 0);
}

static bool fits_without_spares(const struct admission *admission,
				const struct admission_ticket *ticket)
{
	return admission->running < admission->limits.max_running &&
	       has_room(admission, ticket->memory_mb, admission->spares, admission->spares_mb);
}

/* Asked last, because a yes counts as taken. */
static bool is_allowed(const struct admission *admission, const struct admission_ticket *ticket)
{
	return !admission->may_grant ||
	       admission->may_grant(admission->user, ticket,
				    spare_ready(admission, ticket->kind) != NULL);
}

/* --- Grants --- */

static void grant(struct admission *admission, struct admission_uid *uid,
		  struct admission_ticket *ticket, uint64_t now_us)
{
	ticket->spare = spare_ready(admission, ticket->kind);
	if (ticket->spare) {
		spare_unlist(admission, ticket->spare);
		spare_uncount(admission, ticket->spare);
	}
	ticket->holder = uid;
	ticket->state = ADMISSION_GRANTED;
	ticket->granted_us = now_us;
	admission->vms++;
	admission->running++;
	admission->memory_used_mb += ticket->memory_mb;
	uid->vms++;
	uid->memory_mb += ticket->memory_mb;
	uid_to_last_place(admission, uid);
}

/* Names one spare to destroy if that is what the head lacks, and those on their way out do not
 * suffice. */
static bool reclaim_for(struct admission *admission, const struct admission_ticket *head)
{
	struct admission_spare *kept = spare_kept(admission, head->kind);
	struct admission_spare *spare = TAILQ_FIRST(&admission->spares_old);
	size_t gone = admission->reclaimed + (kept ? 1 : 0);
	uint64_t gone_mb = admission->reclaimed_mb + (kept ? kept->memory_mb : 0);

	if (!fits_without_spares(admission, head) ||
	    has_room(admission, head->memory_mb, gone, gone_mb))
		return false;
	/* There is one: without any spare the head fits, without these it does not. */
	if (spare == kept)
		spare = TAILQ_NEXT(spare, by_age);
	admission_spare_leave(admission, spare);
	admission->on_reclaim(admission->user, spare);
	return true;
}

/* One grant or one reclaim; false when there is nothing to do. */
static bool advance(struct admission *admission, uint64_t now_us)
{
	struct admission_uid *uid = next_uid(admission);
	struct admission_ticket *head;

	if (!uid)
		return false;
	head = TAILQ_FIRST(&uid->queue);
	if (!fits(admission, head))
		return reclaim_for(admission, head);
	if (!is_allowed(admission, head))
		return false;
	dequeue(admission, head);
	grant(admission, uid, head, now_us);
	if (head != admission->requested)
		head->on_granted(head->user);
	return true;
}

static void advance_all(struct admission *admission, uint64_t now_us)
{
	if (admission->is_granting)
		return;
	admission->is_granting = true;
	while (advance(admission, now_us))
		continue;
	admission->is_granting = false;
}

/* --- Tickets --- */

/* One more than queue_max may wait if only spares are in its way. */
static enum admission_refusal why_not_wait(const struct admission *admission,
					   const struct admission_uid *uid, bool is_for_spares)
{
	const struct admission_limits *limits = &admission->limits;
	bool has_place = is_for_spares ? admission->waiting <= limits->queue_max
				       : admission->waiting < limits->queue_max;

	if (limits->uid_queue_max > 0 && uid->waiting >= limits->uid_queue_max)
		return ADMISSION_UID_QUEUE_FULL;
	return has_place ? ADMISSION_FITS : ADMISSION_QUEUE_FULL;
}

/* Grants at once, queues, or says why neither. */
static enum admission_refusal place(struct admission *admission, struct admission_uid *uid,
				    struct admission_ticket *ticket, uint64_t now_us)
{
	bool is_next =
		uid->waiting == 0 && has_turn(admission, uid, ticket) && !next_uid(admission);
	enum admission_refusal refusal;

	if (is_next && fits(admission, ticket) && is_allowed(admission, ticket)) {
		grant(admission, uid, ticket, now_us);
		return ADMISSION_FITS;
	}
	refusal = why_not_wait(admission, uid, is_next && fits_without_spares(admission, ticket));
	if (refusal == ADMISSION_FITS)
		enqueue(admission, uid, ticket);
	return refusal;
}

/* Spares may have to go for a new head; if they are dead at once, this grants. */
static void advance_requested(struct admission *admission, const struct admission_ticket *ticket,
			      uint64_t now_us)
{
	if (admission->is_granting)
		return;
	admission->requested = ticket;
	advance_all(admission, now_us);
	admission->requested = NULL;
}

enum admission_state admission_request(struct admission *admission, struct admission_ticket *ticket,
				       uint64_t now_us, enum admission_refusal *ret_refusal)
{
	const struct admission_limits *limits = &admission->limits;
	struct admission_uid *uid;

	ticket->state = ADMISSION_IDLE;
	ticket->spare = NULL;
	*ret_refusal = ADMISSION_TOO_LARGE;
	if (ticket->memory_mb > limits->memory_mb ||
	    (limits->uid_memory_mb > 0 && ticket->memory_mb > limits->uid_memory_mb))
		return ticket->state;
	*ret_refusal = ADMISSION_QUEUE_FULL;
	uid = uid_get(admission, ticket->uid);
	if (!uid)
		return ticket->state;
	*ret_refusal = place(admission, uid, ticket, now_us);
	uid_drop_if_unused(admission, uid);
	if (ticket->state == ADMISSION_WAITING)
		advance_requested(admission, ticket, now_us);
	return ticket->state;
}

bool admission_take(struct admission *admission, struct admission_ticket *ticket, uint64_t now_us)
{
	struct admission_uid *uid = uid_get(admission, ticket->uid);

	if (!uid)
		return false;
	/* A spare of its kind is somebody else's. */
	ticket->kind = NULL;
	grant(admission, uid, ticket, now_us);
	return true;
}

void admission_cancel(struct admission *admission, struct admission_ticket *ticket, uint64_t now_us)
{
	struct admission_uid *uid = ticket->holder;

	if (ticket->state != ADMISSION_WAITING)
		return;
	dequeue(admission, ticket);
	uid_drop_if_unused(admission, uid);
	advance_all(admission, now_us);
}

void admission_rest(struct admission *admission, struct admission_ticket *ticket, uint64_t now_us)
{
	if (ticket->state != ADMISSION_GRANTED || ticket->is_resting)
		return;
	ticket->is_resting = true;
	admission->running--;
	advance_all(admission, now_us);
}

void admission_work(struct admission *admission, struct admission_ticket *ticket)
{
	if (ticket->state != ADMISSION_GRANTED || !ticket->is_resting)
		return;
	ticket->is_resting = false;
	admission->running++;
}

void admission_release(struct admission *admission, struct admission_ticket *ticket,
		       uint64_t now_us)
{
	uint64_t held_us = now_us - MIN(now_us, ticket->granted_us);
	struct admission_uid *uid = ticket->holder;

	if (ticket->state != ADMISSION_GRANTED)
		return;
	ticket->state = ADMISSION_IDLE;
	ticket->spare = NULL;
	admission->vms--;
	if (!ticket->is_resting)
		admission->running--;
	ticket->is_resting = false;
	admission->memory_used_mb -= ticket->memory_mb;
	uid->vms--;
	uid->memory_mb -= ticket->memory_mb;
	uid_drop_if_unused(admission, uid);
	admission->mean_hold_us += held_us / HOLD_WEIGHT - admission->mean_hold_us / HOLD_WEIGHT;
	advance_all(admission, now_us);
}

/* --- The pool's side --- */

bool admission_spare_begin(struct admission *admission, struct admission_spare *spare)
{
	struct admission_kind *kind;

	if (next_uid(admission) || !has_room(admission, spare->memory_mb, 0, 0))
		return false;
	kind = kind_get(admission, spare->kind);
	if (!kind)
		return false;
	spare->in_kind = kind;
	TAILQ_INSERT_TAIL(&kind->starting, spare, by_kind);
	TAILQ_INSERT_TAIL(&admission->spares_old, spare, by_age);
	spare->state = ADMISSION_SPARE_STARTING;
	admission->vms++;
	admission->memory_used_mb += spare->memory_mb;
	admission->spares++;
	admission->spares_mb += spare->memory_mb;
	return true;
}

void admission_spare_ready(struct admission *admission, struct admission_spare *spare,
			   uint64_t now_us)
{
	if (spare->state != ADMISSION_SPARE_STARTING)
		return;
	TAILQ_REMOVE(&spare->in_kind->starting, spare, by_kind);
	if (spare->is_preferred)
		TAILQ_INSERT_HEAD(&spare->in_kind->ready, spare, by_kind);
	else
		TAILQ_INSERT_TAIL(&spare->in_kind->ready, spare, by_kind);
	spare->state = ADMISSION_SPARE_READY;
	advance_all(admission, now_us);
}

bool admission_spare_improve(struct admission *admission, struct admission_spare *spare,
			     uint64_t memory_mb)
{
	if (spare->state != ADMISSION_SPARE_READY || next_uid(admission) ||
	    !has_room(admission, memory_mb, 1, spare->memory_mb))
		return false;
	TAILQ_REMOVE(&spare->in_kind->ready, spare, by_kind);
	TAILQ_INSERT_TAIL(&spare->in_kind->starting, spare, by_kind);
	spare->state = ADMISSION_SPARE_STARTING;
	admission->memory_used_mb += memory_mb - spare->memory_mb;
	admission->spares_mb += memory_mb - spare->memory_mb;
	spare->memory_mb = memory_mb;
	return true;
}

void admission_spare_leave(struct admission *admission, struct admission_spare *spare)
{
	if (spare->state != ADMISSION_SPARE_STARTING && spare->state != ADMISSION_SPARE_READY)
		return;
	spare_unlist(admission, spare);
	spare->state = ADMISSION_SPARE_RECLAIMED;
	admission->reclaimed++;
	admission->reclaimed_mb += spare->memory_mb;
}

void admission_spare_end(struct admission *admission, struct admission_spare *spare,
			 uint64_t now_us)
{
	switch (spare->state) {
	case ADMISSION_SPARE_NONE:
		return;
	case ADMISSION_SPARE_STARTING:
	case ADMISSION_SPARE_READY:
		spare_unlist(admission, spare);
		break;
	case ADMISSION_SPARE_RECLAIMED:
		admission->reclaimed--;
		admission->reclaimed_mb -= spare->memory_mb;
		break;
	}
	spare_uncount(admission, spare);
	advance_all(admission, now_us);
}

void admission_set_limits(struct admission *admission, const struct admission_limits *limits,
			  uint64_t now_us)
{
	admission->limits = *limits;
	advance_all(admission, now_us);
}

void admission_retry(struct admission *admission, uint64_t now_us)
{
	advance_all(admission, now_us);
}

/* How many grants come before one more ticket of this uid: its own, and of every other uid a turn
 * for each. */
static size_t grants_ahead(const struct admission *admission, const struct admission_uid *self)
{
	size_t own = self ? self->waiting : 0, ahead = own;
	const struct admission_uid *uid;

	TAILQ_FOREACH(uid, &admission->uids, in_turn)
	if (uid != self)
		ahead += MIN(uid->waiting, own + 1);
	return ahead;
}

uint64_t admission_retry_after_ms(const struct admission *admission, uid_t uid)
{
	const struct admission_limits *limits = &admission->limits;
	const struct admission_uid *self = uid_find(admission, uid);
	uint64_t hold_ms = MIN(admission->mean_hold_us / 1000, RETRY_MAX_MS);
	size_t at_once = MAX(MIN(limits->max_vms, limits->max_running), (size_t)1);
	uint64_t rounds = grants_ahead(admission, self) / at_once + 1;

	if (self && limits->uid_vms > 0)
		rounds = MAX(rounds, self->waiting / limits->uid_vms + 1);
	return MIN(MAX(rounds * hold_ms, (uint64_t)1), RETRY_MAX_MS);
}
