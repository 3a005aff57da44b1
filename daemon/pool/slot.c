/* SPDX-License-Identifier: Apache-2.0 */
/* One VM's life in the pool: started for a request or as a spare, rehearsed, stopped, handed out.
 */
#include "base/log.h"
#include "daemon/pool/pool_internal.h"

#include <assert.h>
#include <errno.h>

static const char *const state_names[] = {
	[SLOT_STARTING] = "starting", [SLOT_REHEARSING] = "rehearsing",
	[SLOT_PAUSING] = "pausing",   [SLOT_WARM] = "warm",
	[SLOT_HELD] = "held",         [SLOT_ENDING] = "ending",
};
static_assert(ELEMENTSOF(state_names) == SLOT_ENDING + 1, "every state has a name");

static bool is_starting(enum slot_state state)
{
	return state <= SLOT_REHEARSING;
}

/* A place to start in that comes free is for who waits for one. */
static void set_state(struct slot *slot, enum slot_state state)
{
	bool leaves_place = is_starting(slot->state) && !is_starting(state);

	log_debug(slot->vm ? vm_id(slot->vm) : NULL, "Pool slot %s -> %s", state_names[slot->state],
		  state_names[state]);
	slot->state = state;
	if (leaves_place)
		pool_advance(slot->pool);
}

static void free_slot(void *user)
{
	struct slot *slot = user;

	rehearsal_cancel(&slot->rehearsal);
	template_image_unref(slot->image);
	free(slot);
}

void slot_free(struct slot *slot)
{
	LIST_REMOVE(slot, link);
	free_slot(slot);
}

void slot_stop(struct slot *slot)
{
	if (slot->state == SLOT_ENDING)
		return;
	rehearsal_cancel(&slot->rehearsal);
	set_state(slot, SLOT_ENDING);
	/* Nobody is granted a VM that dies. */
	admission_spare_leave(&slot->pool->admission, &slot->spare);
	vm_stop(slot->vm);
}

static void deliver(struct slot *slot)
{
	/* It died a moment ago, which is on its way to on_failed(). */
	if (!vm_is_alive(slot->vm))
		return;
	set_state(slot, SLOT_HELD);
	claim_deliver(slot->claim);
}

/* --- The way of a spare. --- */

static void on_rehearsed(void *user, struct rpc_error *error_take)
{
	struct slot *slot = user;

	if (error_take) {
		log_warning(NULL, "A clone does not become warm: %s", error_take->message);
		pool_spare_report(slot->pool, slot->template, false);
		template_report(slot->template, false);
		if (slot->claim)
			claim_slot_failed(slot->claim, error_take);
		else
			rpc_error_free(error_take);
		slot_stop(slot);
		return;
	}
	if (slot->image)
		template_report(slot->template, true);
	if (slot->claim) {
		deliver(slot);
		return;
	}
	set_state(slot, SLOT_PAUSING);
	vm_pause(slot->vm);
}

static void rehearse(struct slot *slot)
{
	set_state(slot, SLOT_REHEARSING);
	rehearsal_start(&slot->rehearsal, slot->pool->config.host, slot->vm,
			rehearsal_for_clone(slot->template->language), on_rehearsed, slot);
}

static void wake(struct slot *slot)
{
	/* It died a moment ago, which is on its way to on_failed(). */
	if (!vm_is_alive(slot->vm))
		return;
	set_state(slot, SLOT_STARTING);
	vm_wake(slot->vm);
}

bool slot_improve(struct slot *slot)
{
	struct pool *pool = slot->pool;

	if (!vm_is_alive(slot->vm) ||
	    !admission_spare_improve(&pool->admission, &slot->spare,
				     pool_hot_mb(pool, slot->template->language)))
		return false;
	slot->is_hot = slot->spare.is_preferred = true;
	wake(slot);
	return true;
}

static void on_ready(void *user)
{
	struct slot *slot = user;

	if (!slot->claim) {
		/* A spare has done well when it was rehearsed, too. */
		rehearse(slot);
		return;
	}
	if (slot->image)
		template_report(slot->template, true);
	deliver(slot);
}

static void become_warm(struct slot *slot)
{
	pool_spare_report(slot->pool, slot->template, true);
	set_state(slot, SLOT_WARM);
	admission_spare_ready(&slot->pool->admission, &slot->spare, now_us());
	pool_advance(slot->pool);
}

static void on_loaded(void *user)
{
	struct slot *slot = user;

	if (slot->claim || slot->is_hot)
		vm_wake(slot->vm);
	else
		become_warm(slot);
}

static void on_paused(void *user)
{
	struct slot *slot = user;

	if (slot->state != SLOT_PAUSING)
		return;
	become_warm(slot);
}

/* --- Its end. --- */

static void on_failed(void *user, struct rpc_error *error_take)
{
	struct slot *slot = user;
	bool has_started = slot->state == SLOT_WARM || slot->state == SLOT_HELD;

	rehearsal_cancel(&slot->rehearsal);
	set_state(slot, SLOT_ENDING);
	admission_spare_leave(&slot->pool->admission, &slot->spare);
	if (slot->image && !has_started)
		template_report(slot->template, false);
	if (slot->claim) {
		claim_slot_failed(slot->claim, error_take);
		return;
	}
	log_notice(NULL, "A spare VM died and will be replaced: %s", error_take->message);
	if (!has_started)
		pool_spare_report(slot->pool, slot->template, false);
	rpc_error_free(error_take);
}

static void on_gone(void *user)
{
	struct slot *slot = user;
	struct pool *pool = slot->pool;

	slot->vm = NULL;
	LIST_REMOVE(slot, link);
	loop_defer(slot->loop, &slot->free_later, free_slot, slot);
	if (slot->claim)
		claim_slot_gone(slot->claim);
	admission_spare_end(&pool->admission, &slot->spare, now_us());
	pool_advance(pool);
}

static const struct vm_ops vm_ops = {.on_loaded = on_loaded,
				     .on_ready = on_ready,
				     .on_paused = on_paused,
				     .on_failed = on_failed,
				     .on_gone = on_gone};

/* --- Its start. --- */

static struct slot *slot_new(struct pool *pool, struct template *template,
			     struct template_image *image_take)
{
	struct slot *slot = calloc(1, sizeof(*slot));

	if (!slot) {
		template_image_unref(image_take);
		return NULL;
	}
	slot->pool = pool;
	slot->loop = pool->loop;
	slot->template = template;
	slot->image = image_take;
	LIST_INSERT_HEAD(&pool->slots, slot, link);
	return slot;
}

static struct rpc_error *create_vm(struct slot *slot, struct vm_spec spec)
{
	spec.start = slot->image ? QEMU_CLONE : QEMU_BOOT;
	spec.image = slot->image ? &slot->image->vm : NULL;
	return vm_create(slot->pool->config.host, &spec, &vm_ops, slot, &slot->vm);
}

struct rpc_error *slot_start(struct pool *pool, struct pool_claim *claim,
			     struct template_image *image_take)
{
	struct slot *slot = slot_new(pool, claim->template, image_take);
	struct rpc_error *error;

	if (!slot)
		return rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	error = create_vm(slot, claim->spec);
	if (error) {
		slot_free(slot);
		return error;
	}
	slot->claim = claim;
	claim->slot = slot;
	return NULL;
}

struct rpc_error *slot_start_adopted(struct pool *pool, struct pool_claim *claim,
				     const struct vm_record *record, json_t *received_take)
{
	struct slot *slot = slot_new(pool, claim->template, NULL);
	struct rpc_error *error;

	if (!slot) {
		json_decref(received_take);
		return rpc_error_no_memory();
	}
	error = vm_adopt(pool->config.host, record, received_take, &vm_ops, slot, &slot->vm);
	if (error) {
		slot_free(slot);
		return error;
	}
	slot->is_adopted = true;
	slot->claim = claim;
	claim->slot = slot;
	return NULL;
}

bool slot_start_spare(struct pool *pool, struct pool_kind *kind)
{
	struct vm_spec spec = {.memory_mb = kind->template->memory_mb,
			       .uid = VM_UID_NONE,
			       .language = kind->language,
			       .is_waiting = true};
	bool is_hot = pool_count_hot(pool, kind->template) < pool->config.hot_max;
	struct slot *slot = slot_new(pool, kind->template, template_image_ref(kind->template));
	struct rpc_error *error;

	if (!slot)
		return false;
	slot->spare = (struct admission_spare){
		.kind = kind->template,
		.memory_mb = is_hot ? pool_hot_mb(pool, kind->language) : pool->config.spare_mb,
		.is_preferred = is_hot,
		.user = slot};
	slot->is_hot = is_hot;
	if (!slot->image || !admission_spare_begin(&pool->admission, &slot->spare)) {
		slot_free(slot);
		return false;
	}
	error = create_vm(slot, spec);
	if (!error)
		return true;
	log_warning(NULL, "Cannot start a spare VM: %s", error->message);
	rpc_error_free(error);
	pool_spare_report(pool, kind->template, false);
	admission_spare_end(&pool->admission, &slot->spare, now_us());
	slot_free(slot);
	/* There is no VM whose end would have the refill looked at again. */
	pool_advance(pool);
	return false;
}

void slot_adopt(struct slot *slot, struct pool_claim *claim)
{
	slot->claim = claim;
	claim->slot = slot;
	slot->is_warm = slot->state == SLOT_WARM && slot->is_hot;
	/* The claim's share covers it now; one that admission gave away is no spare any more. */
	admission_spare_end(&slot->pool->admission, &slot->spare, now_us());
	if (slot->state == SLOT_WARM && !slot->is_hot)
		wake(slot);
	else if (slot->state == SLOT_WARM || slot->state == SLOT_PAUSING)
		deliver(slot);
}
