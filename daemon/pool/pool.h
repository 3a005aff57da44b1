/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: keeps warm VMs, gets one that is ready for whoever asks, and takes it back.
 *
 * Theory of operation: a request is granted its share of the host (admission.h), waiting for it
 * with a deadline. A granted request takes, in this order: a spare; a spare that is just being
 * made; a new clone, when the template of its language and size is there; for the default size it
 * waits for a template that is on its way; else a VM that boots. If a VM fails before it was handed
 * out the request gets another, while attempts are left. At most start_max VMs start at once, in
 * the order they were granted: more would only slow each other. VMs that were adopted run already,
 * and hold nobody up when their guests do not answer.
 *
 * A spare is a clone that was loaded and waits. The first hot_max of a language are also woken,
 * rehearsed and stopped again: QEMU has then translated what a run executes, which saves it 130 ms
 * and takes three times the memory. Rehearsed spares that were taken are replaced from among the
 * others.
 *
 * Spares are made in the background, refill_max at a time, only while nobody waits for a VM to
 * start, and not right behind a run that has just got its own, which is over in less time than a
 * spare takes. A spare that dies is replaced; what it died of slows the refill down. A share is
 * given back only when the VM's processes are confirmed dead.
 *
 * Callbacks come from the loop, never from inside pool_acquire(); exactly one of on_vm and
 * on_failed comes unless the request is cancelled.
 */
#ifndef DAEMON_POOL_POOL_H
#define DAEMON_POOL_POOL_H

#include "daemon/pool/admission.h"
#include "daemon/template/templates.h"
#include "daemon/vm/vm.h"

#define POOL_LANGUAGES_MAX 4

struct pool;
struct pool_claim;
struct vm_record;

struct pool_config {
	struct vm_host *host;
	struct templates *templates;    /* borrowed; NULL: every VM boots */
	struct admission_limits limits; /* memory_mb: of VMs and templates */
	uint64_t budget_mb;             /* of VMs alone; 0: no less than that */
	uint64_t overhead_mb;      /* of one QEMU besides the guest's memory and translated code */
	uint64_t spare_mb;         /* of one spare besides its translated code */
	size_t hot_max;            /* rehearsed spares of one language */
	double memory_overcommit;  /* sizes of running VMs over the memory they may use; >= 1 */
	uint64_t vm_memory_max_mb; /* of one VM; 0 = whatever fits */
	uint64_t default_memory_mb;
	double queue_timeout_seconds;
	unsigned boot_attempts;
	size_t start_max, refill_max; /* VMs that start at once: for requests; for the pool */
	/* May a VM of this language be given out, as far as the host's memory goes? admission.h.
	 * May be NULL. */
	bool (*may_grant)(void *user, const char *language, bool has_spare);
	void *user;
	struct {
		const char *language;
		size_t size;
	} sizes[POOL_LANGUAGES_MAX]; /* up to a NULL language */
};

/* How the VM of a request came to be. */
enum pool_start {
	POOL_START_WARM,
	POOL_START_CLONE,
	POOL_START_BOOT,
};

/* One wish for a VM, embedded in its owner, who fills in the first part. */
struct pool_request {
	struct vm_spec spec; /* memory, uid, language */
	/* The VM is READY or PAUSED, and the owner's until pool_release(). */
	void (*on_vm)(void *user, struct vm *vm);
	void (*on_failed)(void *user, struct rpc_error *error_take);
	void *user;

	/* Valid in on_vm. */
	enum pool_start start;
	uint64_t granted_us; /* when its turn came: now_us() */

	struct pool_claim *claim; /* the pool's */
};

/* One language's spares. */
struct pool_status {
	size_t warm, hot, starting, target; /* `hot` of `warm` are rehearsed */
};

int pool_create(const struct pool_config *config, struct pool **ret);

/* Destroys all VMs of the host and waits for them. NULL is fine. */
void pool_destroy(struct pool *pool);

/* NULL when the request is on its way; otherwise the error (3002 when the queue is full). */
struct rpc_error *pool_acquire(struct pool *pool, struct pool_request *request) WARN_UNUSED;

/*
 * The same for a VM that an earlier daemon has left (vm_adopt(), which takes `received_take`). It
 * has its share at once, whatever the limits are; on_vm comes when it has answered, with `start`
 * and `granted_us` as they are. NULL, or the error: it is gone.
 */
struct rpc_error *pool_adopt(struct pool *pool, struct pool_request *request,
			     const struct vm_record *record, json_t *received_take) WARN_UNUSED;

/* Takes a wish back before it came true. Harmless afterwards, and when it never was one. */
void pool_cancel(struct pool *pool, struct pool_request *request);

/* No code runs in a VM that on_vm handed out: vm_rest(), and another may run in its place. And code
 * is about to run again: vm_work(). */
void pool_rest(struct pool *pool, struct vm *vm);
void pool_work(struct pool *pool, struct vm *vm);

/* Ends a VM that on_vm handed out. */
void pool_release(struct pool *pool, struct vm *vm);

/* A template's state changed, or the memory that templates hold (then `template` may be NULL). */
void pool_template_changed(struct pool *pool, struct template *template);

/* What memory control says now: whether spares may be made, and when those who are refused for want
 * of memory should come again (0: nobody is). Who waits for memory is served, as far as may_grant
 * lets it. */
void pool_memory_changed(struct pool *pool, bool may_refill, uint64_t retry_ms);

/* What VMs and templates, and VMs alone (0: no less), may have together from now on. */
void pool_set_memory(struct pool *pool, uint64_t memory_mb, uint64_t budget_mb);

/*
 * Other settings from now on: limits (but for memory, which is pool_set_memory()'s), hot_max,
 * vm_memory_max_mb, memory_overcommit, queue_timeout_seconds, boot_attempts, and those sizes that
 * are not as they were in the last configuration. Who is over new limits is not thrown out.
 */
void pool_reconfigure(struct pool *pool, const struct pool_config *config);

/* The sum of cost() of all requests that were granted and have no VM of their own yet. */
uint64_t pool_promised(const struct pool *pool,
		       uint64_t (*cost)(void *user, const char *language, bool has_spare),
		       void *user);

/* Ends a spare. False when the VM is none, or is promised to a request. */
bool pool_drop_spare(struct pool *pool, const struct vm *vm);

/* A language's spares. False when there is no such language. */
bool pool_get(const struct pool *pool, const char *language, struct pool_status *ret);

/* How many spares there shall be. 0, -ENOENT for an unknown language, -ENOTSUP without templates,
 * -ERANGE over max_vms. */
int pool_set(struct pool *pool, const char *language, size_t size);

/* The languages, in order; NULL behind the last. */
const char *pool_language(const struct pool *pool, size_t index);

/* Admission's numbers, for `info` and errors. */
const struct admission *pool_admission(const struct pool *pool);

/* The most memory one VM can have, in MiB. */
uint64_t pool_max_memory_mb(const struct pool *pool);

const char *pool_start_name(enum pool_start start);

#endif
