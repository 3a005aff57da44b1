/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: requests, their shares of the host, and who starts when. */
#include "daemon/pool/pool.h"

#include "base/log.h"
#include "daemon/pool/pool_internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static const char *const claim_state_names[] = {
	[CLAIM_QUEUED] = "queued",     [CLAIM_GRANTED] = "granted", [CLAIM_STARTING] = "starting",
	[CLAIM_RETRYING] = "retrying", [CLAIM_HELD] = "held",
};
static_assert(ELEMENTSOF(claim_state_names) == CLAIM_HELD + 1, "every state has a name");

static const char *const start_names[] = {
	[POOL_START_WARM] = "warm", [POOL_START_CLONE] = "clone", [POOL_START_BOOT] = "boot"};
static_assert(ELEMENTSOF(start_names) == POOL_START_BOOT + 1, "every start has a name");

const char *pool_start_name(enum pool_start start)
{
	return start_names[start];
}

static void set_state(struct pool_claim *claim, enum claim_state state)
{
	log_debug(claim->slot && claim->slot->vm ? vm_id(claim->slot->vm) : NULL,
		  "Pool claim %s -> %s", claim_state_names[claim->state], claim_state_names[state]);
	claim->state = state;
}

/* --- The end of a claim. --- */

static void free_claim(void *user)
{
	struct pool_claim *claim = user;

	loop_timer_stop(claim->loop, &claim->queue_deadline);
	rpc_error_free(claim->error);
	free(claim);
}

/* The claim is over: its share goes to whoever waits. */
static void end_claim(struct pool_claim *claim)
{
	struct pool *pool = claim->pool;

	if (claim->request)
		claim->request->claim = NULL;
	loop_timer_stop(claim->loop, &claim->queue_deadline);
	TAILQ_REMOVE(&pool->claims, claim, link);
	loop_defer(claim->loop, &claim->free_later, free_claim, claim);
	admission_cancel(&pool->admission, &claim->ticket, now_us());
	admission_release(&pool->admission, &claim->ticket, now_us());
	pool_advance(pool);
}

static void answer_failed(struct pool_claim *claim, struct rpc_error *error_take)
{
	struct pool_request *request = TAKE_PTR(claim->request);

	if (!request) {
		rpc_error_free(error_take);
		return;
	}
	request->claim = NULL;
	request->on_failed(request->user, error_take);
}

static struct rpc_error *capacity_error(struct pool *pool, uid_t uid, const char *what)
{
	const struct admission *admission = &pool->admission;
	uint64_t retry_ms = admission_retry_after_ms(admission, uid);
	struct rpc_error *error = rpc_error_new(
		RPC_CAPACITY, "%s%s: %zu VMs run (at most %zu), %zu requests wait (at most %zu)",
		what, pool->is_memory_short ? ", the host's memory is short" : "",
		admission->running, admission->limits.max_running, admission->waiting,
		admission->limits.queue_max);

	if (pool->is_memory_short) {
		retry_ms = MAX(retry_ms, pool->retry_ms);
		rpc_error_set(error, "reason", json_string("memory_pressure"));
	}
	rpc_error_set(error, "retry_after_ms", json_integer((json_int_t)retry_ms));
	return rpc_error_hint(error, "send it again after retry_after_ms");
}

static struct rpc_error *refusal_error(struct pool *pool, const struct pool_request *request,
				       enum admission_refusal refusal)
{
	switch (refusal) {
	case ADMISSION_TOO_LARGE:
		return rpc_error_hint(
			rpc_error_new(RPC_QUOTA_EXCEEDED,
				      "A VM of %ju MiB is more than one user may have here",
				      (uintmax_t)request->spec.memory_mb),
			"ask for less memory, or have memory_mb_per_uid raised");
	case ADMISSION_UID_QUEUE_FULL:
		return capacity_error(pool, request->spec.uid, "Your part of the queue is full");
	case ADMISSION_QUEUE_FULL:
	case ADMISSION_FITS:
		break;
	}
	return capacity_error(pool, request->spec.uid, "The queue is full");
}

static void on_queue_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct pool_claim *claim = timer->data;

	answer_failed(claim,
		      capacity_error(claim->pool, claim->spec.uid, "No VM came free in time"));
	end_claim(claim);
}

/* --- What becomes of a claim's VM. --- */

void claim_deliver(struct pool_claim *claim)
{
	struct pool_request *request = TAKE_PTR(claim->request);
	struct slot *slot = claim->slot;

	set_state(claim, CLAIM_HELD);
	claim->pool->delivered_us = now_us();
	request->claim = NULL;
	if (slot->is_adopted) {
		request->on_vm(request->user, slot->vm);
		return;
	}
	request->granted_us = claim->ticket.granted_us;
	request->start = slot->is_warm ? POOL_START_WARM
			 : slot->image ? POOL_START_CLONE
				       : POOL_START_BOOT;
	request->on_vm(request->user, slot->vm);
}

void claim_slot_failed(struct pool_claim *claim, struct rpc_error *error_take)
{
	/* A host that cannot run VMs as it is will not learn it by the next attempt. */
	bool may_retry =
		claim->request && claim->attempts_left > 0 && error_take->code != RPC_VM_CONFIG;

	rpc_error_free(claim->error);
	claim->error = error_take;
	set_state(claim, may_retry ? CLAIM_RETRYING : CLAIM_HELD);
	if (!may_retry)
		answer_failed(claim, TAKE_PTR(claim->error));
}

void claim_slot_gone(struct pool_claim *claim)
{
	claim->slot = NULL;
	if (!claim->request) {
		end_claim(claim);
		return;
	}
	/* Whatever became of the VM, its request never had it: also of one that was on its way out
	 * already when it was granted. */
	log_notice(NULL, "A VM failed before it was used, trying again: %u attempts left",
		   claim->attempts_left);
	set_state(claim, CLAIM_GRANTED);
}

/* --- Starting. --- */

static struct slot *find_starting_spare(const struct pool *pool, const struct template *template)
{
	struct slot *slot, *found = NULL;

	/* The list is newest first: the last one is the furthest on its way. */
	LIST_FOREACH(slot, &pool->slots, link)
	if (template && slot->template == template && !slot->claim &&
	    slot->spare.state == ADMISSION_SPARE_STARTING && slot->state <= SLOT_PAUSING &&
	    vm_get_state(slot->vm) < VM_STOPPING)
		found = slot;
	return found;
}

static bool must_wait_for_template(struct pool *pool, struct template *template)
{
	if (!template)
		return false;
	if (template->is_pinned || template->memory_mb <= templates_room_mb(pool->config.templates))
		template_want(template);
	/* Loading takes as long as a clone; building takes longer than booting, but those who come
	 * meanwhile would only slow it down. */
	return template->state == TEMPLATE_LOADING ||
	       (template->is_pinned && !template->error && template_is_coming(template));
}

static struct template_image *choose_image(struct pool_claim *claim)
{
	bool is_last_resort = claim->attempts_left == 0 && claim->error;

	if (!claim->template || is_last_resort)
		return NULL;
	return template_image_ref(claim->template);
}

static void start_vm(struct pool_claim *claim)
{
	struct rpc_error *error;

	claim->attempts_left--;
	set_state(claim, CLAIM_STARTING);
	error = slot_start(claim->pool, claim, choose_image(claim));
	if (!error)
		return;
	/* What fails before a process exists is a fault of the host: another try would fail as
	 * well. */
	answer_failed(claim, error);
	end_claim(claim);
}

/* One step for a granted claim. True when it has gone on. */
static bool advance_claim(struct pool *pool, struct pool_claim *claim)
{
	struct slot *slot = claim->slot;

	if (!slot)
		slot = find_starting_spare(pool, claim->template);
	if (slot) {
		set_state(claim, CLAIM_STARTING);
		slot_adopt(slot, claim);
		return true;
	}
	if (must_wait_for_template(pool, claim->template) ||
	    pool_count(pool, NULL, true, SLOT_STARTING, SLOT_REHEARSING) >= pool->config.start_max)
		return false;
	start_vm(claim);
	return true;
}

/* True when a claim has gone on: the list may be another one then. */
static bool advance_claims(struct pool *pool)
{
	struct pool_claim *claim;

	TAILQ_FOREACH(claim, &pool->claims, link)
	if (claim->state == CLAIM_GRANTED && advance_claim(pool, claim))
		return true;
	return false;
}

static void advance(void *user)
{
	struct pool *pool = user;

	while (advance_claims(pool))
		;
	pool_refill(pool);
}

void pool_advance(struct pool *pool)
{
	loop_defer(pool->loop, &pool->advance_later, advance, pool);
}

/* --- Admission. --- */

static void on_granted(void *user)
{
	struct pool_claim *claim = user;

	loop_timer_stop(claim->loop, &claim->queue_deadline);
	set_state(claim, CLAIM_GRANTED);
	if (claim->ticket.spare) {
		claim->slot = claim->ticket.spare->user;
		claim->slot->claim = claim;
	}
	pool_advance(claim->pool);
}

static void on_reclaim(void *user UNUSED, struct admission_spare *spare)
{
	slot_stop(spare->user);
}

static bool may_grant(void *user, const struct admission_ticket *ticket, bool has_spare)
{
	const struct pool_claim *claim = ticket->user;
	struct pool *pool = user;

	pool->is_memory_short =
		!pool->config.may_grant(pool->config.user, claim->spec.language, has_spare);
	return !pool->is_memory_short;
}

void pool_memory_changed(struct pool *pool, bool may_refill, uint64_t retry_ms)
{
	bool is_looser = may_refill && pool->is_refill_held;

	pool->is_refill_held = !may_refill;
	pool->retry_ms = retry_ms;
	pool->is_memory_short = false;
	admission_retry(&pool->admission, now_us());
	if (is_looser)
		pool_advance(pool);
}

void pool_template_changed(struct pool *pool, struct template *template)
{
	/* What spares of the old image died of is no reason to wait with the new one. */
	if (template && template->state == TEMPLATE_READY)
		pool_spare_report(pool, template, true);
	pool_update_limits(pool);
	pool_advance(pool);
}

/* --- Requests. --- */

static uint64_t share_mb(const struct pool *pool, const struct vm_spec *spec)
{
	uint64_t most_mb = spec->memory_mb + pool->config.overhead_mb +
			   vm_translation_mb(pool->config.host, spec->language);

	return (uint64_t)((double)most_mb / pool->config.memory_overcommit);
}

static struct pool_claim *claim_new(struct pool *pool, struct pool_request *request)
{
	struct pool_claim *claim = calloc(1, sizeof(*claim));

	if (!claim)
		return NULL;
	claim->pool = pool;
	claim->loop = pool->loop;
	claim->request = request;
	claim->spec = request->spec;
	claim->attempts_left = pool->config.boot_attempts;
	if (pool->config.templates)
		claim->template = templates_get(pool->config.templates, request->spec.language,
						request->spec.memory_mb);
	claim->ticket.kind = claim->template;
	claim->ticket.memory_mb = share_mb(pool, &request->spec);
	claim->ticket.uid = request->spec.uid;
	claim->ticket.on_granted = on_granted;
	claim->ticket.user = claim;
	ev_timer_init(&claim->queue_deadline, on_queue_deadline, 0., 0.);
	claim->queue_deadline.data = claim;
	return claim;
}

struct rpc_error *pool_acquire(struct pool *pool, struct pool_request *request)
{
	struct pool_claim *claim = claim_new(pool, request);
	enum admission_refusal refusal;

	if (!claim)
		return rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	switch (admission_request(&pool->admission, &claim->ticket, now_us(), &refusal)) {
	case ADMISSION_IDLE:
		free(claim);
		return refusal_error(pool, request, refusal);
	case ADMISSION_WAITING:
		loop_timer_start(pool->loop, &claim->queue_deadline,
				 pool->config.queue_timeout_seconds);
		break;
	case ADMISSION_GRANTED:
		on_granted(claim);
		break;
	}
	request->claim = claim;
	TAILQ_INSERT_TAIL(&pool->claims, claim, link);
	return NULL;
}

struct rpc_error *pool_adopt(struct pool *pool, struct pool_request *request,
			     const struct vm_record *record, json_t *received_take)
{
	struct pool_claim *claim = claim_new(pool, request);
	struct rpc_error *error;

	if (!claim || !admission_take(&pool->admission, &claim->ticket, now_us())) {
		free(claim);
		json_decref(received_take);
		return rpc_error_no_memory();
	}
	/* There is no other VM that it could be. */
	claim->attempts_left = 0;
	request->claim = claim;
	TAILQ_INSERT_TAIL(&pool->claims, claim, link);
	set_state(claim, CLAIM_STARTING);
	error = slot_start_adopted(pool, claim, record, received_take);
	if (error)
		end_claim(claim);
	return error;
}

void pool_cancel(struct pool *pool UNUSED, struct pool_request *request)
{
	struct pool_claim *claim = TAKE_PTR(request->claim);

	if (!claim)
		return;
	claim->request = NULL;
	/* With a VM the claim ends when that is gone. */
	if (!claim->slot) {
		end_claim(claim);
		return;
	}
	set_state(claim, CLAIM_HELD);
	slot_stop(claim->slot);
}

static struct slot *find_slot(const struct pool *pool, const struct vm *vm)
{
	struct slot *slot;

	LIST_FOREACH(slot, &pool->slots, link)
	if (slot->vm == vm)
		return slot;
	return NULL;
}

void pool_rest(struct pool *pool, struct vm *vm)
{
	struct slot *slot = find_slot(pool, vm);

	vm_rest(vm);
	if (slot && slot->claim)
		admission_rest(&pool->admission, &slot->claim->ticket, now_us());
}

void pool_work(struct pool *pool, struct vm *vm)
{
	struct slot *slot = find_slot(pool, vm);

	if (slot && slot->claim)
		admission_work(&pool->admission, &slot->claim->ticket);
	vm_work(vm);
}

void pool_release(struct pool *pool, struct vm *vm)
{
	struct slot *slot = find_slot(pool, vm);

	if (slot)
		slot_stop(slot);
}

/* Until a spare is handed out it is nobody's: whoever counts runs by VMs does not see this one. */
static bool is_promised(const struct pool_claim *claim)
{
	const struct vm *vm = claim->slot ? claim->slot->vm : NULL;

	if (claim->state == CLAIM_STARTING)
		return vm && vm_get_spec(vm)->uid == VM_UID_NONE;
	return claim->state == CLAIM_GRANTED || claim->state == CLAIM_RETRYING;
}

uint64_t pool_promised(const struct pool *pool,
		       uint64_t (*cost)(void *user, const char *language, bool has_spare),
		       void *user)
{
	const struct pool_claim *claim;
	uint64_t sum = 0;

	TAILQ_FOREACH(claim, &pool->claims, link)
	if (is_promised(claim))
		sum += cost(user, claim->spec.language, claim->slot != NULL);
	return sum;
}

bool pool_drop_spare(struct pool *pool, const struct vm *vm)
{
	struct slot *slot = find_slot(pool, vm);

	if (!slot || slot->claim || slot->state == SLOT_ENDING)
		return false;
	slot_stop(slot);
	return true;
}

/* --- Life and numbers. --- */

static void add_kinds(struct pool *pool)
{
	for (size_t i = 0; i < POOL_LANGUAGES_MAX && pool->config.sizes[i].language; i++) {
		struct pool_kind *kind = &pool->kinds[pool->kind_count];

		kind->language = pool->config.sizes[i].language;
		kind->template = templates_get(pool->config.templates, kind->language,
					       pool->config.default_memory_mb);
		if (!kind->template)
			continue;
		kind->template->is_pinned = true;
		kind->target = pool->config.sizes[i].size;
		pool->kind_count++;
		template_want(kind->template);
	}
}

int pool_create(const struct pool_config *config, struct pool **ret)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pool->config = *config;
	pool->loop = config->host->loop;
	TAILQ_INIT(&pool->claims);
	LIST_INIT(&pool->slots);
	admission_init(&pool->admission, &config->limits);
	pool_update_limits(pool);
	pool->admission.on_reclaim = on_reclaim;
	if (config->may_grant)
		pool->admission.may_grant = may_grant;
	pool->admission.user = pool;
	pool_refill_init(pool);
	*ret = pool;
	if (config->templates)
		add_kinds(pool);
	return 0;
}

void pool_destroy(struct pool *pool)
{
	struct pool_claim *claim;

	if (!pool)
		return;
	vm_destroy_all(pool->config.host);
	while (!LIST_EMPTY(&pool->slots))
		slot_free(LIST_FIRST(&pool->slots));
	while ((claim = TAILQ_FIRST(&pool->claims))) {
		TAILQ_REMOVE(&pool->claims, claim, link);
		if (claim->request)
			claim->request->claim = NULL;
		admission_cancel(&pool->admission, &claim->ticket, now_us());
		admission_release(&pool->admission, &claim->ticket, now_us());
		free_claim(claim);
	}
	pool_refill_fini(pool);
	loop_defer_cancel(pool->loop, &pool->advance_later);
	admission_fini(&pool->admission);
	free(pool);
}

const struct admission *pool_admission(const struct pool *pool)
{
	return &pool->admission;
}

uint64_t pool_max_memory_mb(const struct pool *pool)
{
	/* Translated code of the hungriest language; templates have taken theirs from the limits.
	 */
	uint64_t apart_mb =
		pool->config.overhead_mb + vm_translation_mb(pool->config.host, "javascript");
	uint64_t budget_mb = pool->admission.limits.memory_mb;

	budget_mb -= MIN(apart_mb, budget_mb);

	return pool->config.vm_memory_max_mb ? MIN(budget_mb, pool->config.vm_memory_max_mb)
					     : budget_mb;
}
