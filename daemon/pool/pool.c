/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: gets a VM that is ready for whoever asks, and takes it back. */
#include "daemon/pool/pool.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>

/* One share of the host: first a place in the queue, then one VM after the other, never two. */
enum slot_state {
	SLOT_QUEUED,   /* waits for admission */
	SLOT_BOOTING,  /* a VM is on its way to `request` */
	SLOT_RETRYING, /* that VM failed; when it is gone the next is booted */
	SLOT_HELD,     /* the VM was handed out */
	SLOT_ENDING,   /* the VM is dying */
};

struct pool_slot {
	struct pool *pool;
	struct loop *loop; /* outlives the pool */
	struct pool_slot *next;
	enum slot_state state;
	struct admission_ticket ticket;
	struct pool_request *request; /* NULL once answered or cancelled */
	struct vm_spec spec;
	struct vm *vm;
	unsigned attempts_left;
	struct rpc_error *error; /* why the last boot failed */
	ev_timer queue_deadline;
	struct defer boot_later, free_later;
};

struct pool {
	struct pool_config config;
	struct admission admission;
	struct pool_slot *slots;
};

static const char *const slot_state_names[] = {
	[SLOT_QUEUED] = "queued", [SLOT_BOOTING] = "booting", [SLOT_RETRYING] = "retrying",
	[SLOT_HELD] = "held",     [SLOT_ENDING] = "ending",
};
static_assert(ELEMENTSOF(slot_state_names) == SLOT_ENDING + 1, "every state has a name");

static void set_state(struct pool_slot *slot, enum slot_state state)
{
	log_debug(slot->vm ? vm_id(slot->vm) : NULL, "Pool slot %s -> %s",
		  slot_state_names[slot->state], slot_state_names[state]);
	slot->state = state;
}

static void unlink_slot(struct pool_slot *slot)
{
	struct pool_slot **at = &slot->pool->slots;

	while (*at != slot)
		at = &(*at)->next;
	*at = slot->next;
}

static void free_slot(void *user)
{
	struct pool_slot *slot = user;

	loop_timer_stop(slot->loop, &slot->queue_deadline);
	loop_defer_cancel(slot->loop, &slot->boot_later);
	rpc_error_free(slot->error);
	free(slot);
}

/* The slot is over: its share goes to whoever waits. */
static void end_slot(struct pool_slot *slot)
{
	struct pool *pool = slot->pool;

	if (slot->request)
		slot->request->slot = NULL;
	loop_timer_stop(slot->loop, &slot->queue_deadline);
	unlink_slot(slot);
	if (slot->ticket.state == ADMISSION_GRANTED)
		admission_release(&pool->admission, &slot->ticket, now_us());
	else
		admission_cancel(&pool->admission, &slot->ticket, now_us());
	loop_defer(slot->loop, &slot->free_later, free_slot, slot);
}

static void answer_failed(struct pool_slot *slot, struct rpc_error *error_take)
{
	struct pool_request *request = TAKE_PTR(slot->request);

	if (!request) {
		rpc_error_free(error_take);
		return;
	}
	request->slot = NULL;
	request->on_failed(request->user, error_take);
}

static const struct vm_ops vm_ops;

static void boot(void *user)
{
	struct pool_slot *slot = user;
	struct rpc_error *error;

	slot->attempts_left--;
	set_state(slot, SLOT_BOOTING);
	error = vm_create(slot->pool->config.host, &slot->spec, &vm_ops, slot, &slot->vm);
	if (!error)
		return;
	/* What fails before a process exists is a fault of the host: another try would fail as
	 * well. */
	answer_failed(slot, error);
	end_slot(slot);
}

static void on_vm_ready(void *user)
{
	struct pool_slot *slot = user;
	struct pool_request *request = TAKE_PTR(slot->request);

	set_state(slot, SLOT_HELD);
	request->slot = NULL;
	request->on_vm(request->user, slot->vm);
}

static void on_vm_failed(void *user, struct rpc_error *error_take)
{
	struct pool_slot *slot = user;

	rpc_error_free(slot->error);
	slot->error = error_take;
	/* A host that cannot run VMs as it is will not learn it by the next attempt. */
	set_state(slot,
		  slot->request && slot->attempts_left > 0 && error_take->code != RPC_VM_CONFIG
			  ? SLOT_RETRYING
			  : SLOT_ENDING);
	if (slot->state == SLOT_ENDING)
		answer_failed(slot, TAKE_PTR(slot->error));
}

static void on_vm_gone(void *user)
{
	struct pool_slot *slot = user;

	slot->vm = NULL;
	if (slot->state == SLOT_RETRYING && slot->request) {
		log_notice(NULL, "Boot failed, trying again: %u attempts left",
			   slot->attempts_left);
		loop_defer(slot->loop, &slot->boot_later, boot, slot);
		return;
	}
	end_slot(slot);
}

static const struct vm_ops vm_ops = {
	.on_ready = on_vm_ready, .on_failed = on_vm_failed, .on_gone = on_vm_gone};

static void on_granted(void *user)
{
	struct pool_slot *slot = user;

	loop_timer_stop(slot->loop, &slot->queue_deadline);
	loop_defer(slot->loop, &slot->boot_later, boot, slot);
}

static struct rpc_error *capacity_error(struct pool *pool, const char *what)
{
	struct rpc_error *error = rpc_error_new(
		RPC_CAPACITY, "%s: %zu VMs exist (at most %zu), %zu requests wait (at most %zu)",
		what, pool->admission.vms, pool->admission.limits.max_vms, pool->admission.waiting,
		pool->admission.limits.queue_max);

	rpc_error_set(error, "retry_after_ms",
		      json_integer((json_int_t)admission_retry_after_ms(&pool->admission)));
	return rpc_error_hint(error, "send it again after retry_after_ms, or raise max_vms");
}

static void on_queue_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct pool_slot *slot = timer->data;

	answer_failed(slot, capacity_error(slot->pool, "No VM came free in time"));
	end_slot(slot);
}

int pool_create(const struct pool_config *config, struct pool **ret)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pool->config = *config;
	admission_init(&pool->admission, &config->limits);
	*ret = pool;
	return 0;
}

void pool_destroy(struct pool *pool)
{
	if (!pool)
		return;
	vm_destroy_all(pool->config.host);
	while (pool->slots) {
		struct pool_slot *slot = pool->slots;

		pool->slots = slot->next;
		if (slot->request)
			slot->request->slot = NULL;
		free_slot(slot);
	}
	free(pool);
}

struct rpc_error *pool_acquire(struct pool *pool, struct pool_request *request)
{
	struct pool_slot *slot = calloc(1, sizeof(*slot));

	if (!slot)
		return rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	slot->pool = pool;
	slot->loop = pool->config.host->loop;
	slot->request = request;
	slot->spec = request->spec;
	slot->attempts_left = pool->config.boot_attempts;
	slot->ticket.on_granted = on_granted;
	slot->ticket.user = slot;
	ev_timer_init(&slot->queue_deadline, on_queue_deadline, 0., 0.);
	slot->queue_deadline.data = slot;

	switch (admission_request(&pool->admission, &slot->ticket,
				  slot->spec.memory_mb + pool->config.overhead_mb, now_us())) {
	case ADMISSION_IDLE:
		free(slot);
		return capacity_error(pool, "The queue is full");
	case ADMISSION_WAITING:
		loop_timer_start(pool->config.host->loop, &slot->queue_deadline,
				 pool->config.queue_timeout_seconds);
		break;
	case ADMISSION_GRANTED:
		loop_defer(pool->config.host->loop, &slot->boot_later, boot, slot);
		break;
	}
	request->slot = slot;
	slot->next = pool->slots;
	pool->slots = slot;
	return NULL;
}

void pool_cancel(struct pool *pool UNUSED, struct pool_request *request)
{
	struct pool_slot *slot = TAKE_PTR(request->slot);

	if (!slot)
		return;
	slot->request = NULL;
	if (slot->vm) {
		set_state(slot, SLOT_ENDING);
		vm_stop(slot->vm);
	} else {
		loop_defer_cancel(slot->loop, &slot->boot_later);
		end_slot(slot);
	}
}

void pool_release(struct pool *pool, struct vm *vm)
{
	for (struct pool_slot *slot = pool->slots; slot; slot = slot->next) {
		if (slot->vm != vm)
			continue;
		set_state(slot, SLOT_ENDING);
		vm_stop(vm);
		return;
	}
}

const struct admission *pool_admission(const struct pool *pool)
{
	return &pool->admission;
}

uint64_t pool_max_memory_mb(const struct pool *pool)
{
	uint64_t budget_mb = pool->config.limits.memory_mb - pool->config.overhead_mb;

	return pool->config.vm_memory_max_mb ? MIN(budget_mb, pool->config.vm_memory_max_mb)
					     : budget_mb;
}
