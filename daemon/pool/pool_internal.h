/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the pool share: pool.c (requests), refill.c (spares), slot.c (one VM's life).
 */
#ifndef DAEMON_POOL_POOL_INTERNAL_H
#define DAEMON_POOL_POOL_INTERNAL_H

#include "daemon/pool/pool.h"
#include "daemon/template/rehearsal.h"

#include <sys/queue.h>

/* One VM. It is a spare until a claim takes it, or was made for one. */
enum slot_state {
	SLOT_STARTING,   /* boots or loads */
	SLOT_REHEARSING, /* a spare on its way */
	SLOT_PAUSING,    /* its vCPU is being stopped */
	SLOT_WARM,       /* waits: rehearsed and stopped, or just loaded */
	SLOT_HELD,       /* handed out */
	SLOT_ENDING,     /* its VM is dying */
};

struct slot {
	LIST_ENTRY(slot) link;
	struct pool *pool;
	struct loop *loop; /* outlives the pool */
	enum slot_state state;
	struct template *template;    /* of its language and size; NULL without templates */
	struct template_image *image; /* of a clone: held while the VM lives */
	struct vm *vm;
	struct pool_claim *claim; /* whose it is, or will be */
	struct admission_spare spare;
	struct rehearsal rehearsal;
	bool is_hot;  /* it was or shall be rehearsed */
	bool is_warm; /* it was rehearsed and stopped when it was claimed */
	bool is_adopted;
	struct defer free_later;
};

/* One request's share of the host: from pool_acquire() until its VM's processes are dead. */
enum claim_state {
	CLAIM_QUEUED,   /* waits for admission */
	CLAIM_GRANTED,  /* waits for a template, or for its turn to start */
	CLAIM_STARTING, /* a slot is on its way */
	CLAIM_RETRYING, /* that failed; when it is gone, again */
	CLAIM_HELD,     /* the VM was handed out, or dies */
};

struct pool_claim {
	TAILQ_ENTRY(pool_claim) link; /* in the order they came */
	struct pool *pool;
	struct loop *loop;
	enum claim_state state;
	struct admission_ticket ticket;
	struct pool_request *request; /* NULL once answered or cancelled */
	struct vm_spec spec;
	struct template *template;
	struct slot *slot;
	unsigned attempts_left;
	struct rpc_error *error; /* why the last VM failed */
	ev_timer queue_deadline;
	struct defer free_later;
};

/* The spares of one language. */
struct pool_kind {
	const char *language;
	struct template *template;
	size_t target;
	unsigned failures; /* of spares, in a row: slows the refill of this language down */
	uint64_t retry_us; /* not before; CLOCK_MONOTONIC */
};

struct pool {
	struct pool_config config;
	struct loop *loop;
	struct admission admission;
	TAILQ_HEAD(, pool_claim) claims;
	LIST_HEAD(, slot) slots;
	struct pool_kind kinds[POOL_LANGUAGES_MAX];
	size_t kind_count;
	uint64_t delivered_us; /* when a VM was last handed out */
	bool is_refill_held;   /* the host's memory is short */
	bool is_memory_short;  /* a request that fits was not granted for it */
	uint64_t retry_ms;     /* memory control's hint */
	ev_timer refill_timer, quiet_timer;
	struct defer advance_later;
};

/* What a rehearsed spare of this language costs. MiB. */
uint64_t pool_hot_mb(const struct pool *pool, const char *language);

/* How many spares of a kind are rehearsed, or about to be. */
size_t pool_count_hot(const struct pool *pool, const struct template *template);

/* How many slots are in one of these states; of all templates with NULL. Those that were adopted
 * are not among them: no QEMU is started there. */
size_t pool_count(const struct pool *pool, const struct template *template, bool is_claimed,
		  enum slot_state first, enum slot_state last);

/* Starts the spares that are missing, as far as it is their time. */
void pool_refill(struct pool *pool);
void pool_refill_init(struct pool *pool);

/* How a spare of this template did: after one that failed the next is made later. */
void pool_spare_report(struct pool *pool, const struct template *template, bool is_good);
void pool_refill_fini(struct pool *pool);

/* What templates hold has changed, or a setting. */
void pool_update_limits(struct pool *pool);

/* Ends the spares that are too many. */
void pool_shrink(struct pool *pool, const struct pool_kind *kind);

/* Claims and refill look again at what can be done, from the loop. */
void pool_advance(struct pool *pool);

/* The slot's VM is ready for its claim. */
void claim_deliver(struct pool_claim *claim);

/* The slot's VM failed before it was handed out: the claim goes on when it is gone. */
void claim_slot_failed(struct pool_claim *claim, struct rpc_error *error_take);

/* The slot's VM is gone, and with it the slot. */
void claim_slot_gone(struct pool_claim *claim);

/* A VM for a claim, a clone if `image_take` is not NULL. NULL, or the error. */
struct rpc_error *slot_start(struct pool *pool, struct pool_claim *claim,
			     struct template_image *image_take) WARN_UNUSED;

/* The same for a VM that an earlier daemon has left. */
struct rpc_error *slot_start_adopted(struct pool *pool, struct pool_claim *claim,
				     const struct vm_record *record,
				     json_t *received_take) WARN_UNUSED;

/* A spare, if admission lets it. True when one is on its way. */
bool slot_start_spare(struct pool *pool, struct pool_kind *kind);

/* Rehearses a WARM spare that was not, if admission lets it. */
bool slot_improve(struct slot *slot);

/* A spare, starting or warm, becomes the claim's: delivered at once or as soon as it is ready. */
void slot_adopt(struct slot *slot, struct pool_claim *claim);

/* Ends the VM. */
void slot_stop(struct slot *slot);

/* At the end of the pool, when all VMs are gone. */
void slot_free(struct slot *slot);

#endif
