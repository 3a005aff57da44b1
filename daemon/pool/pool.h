/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: gets a VM that is ready for whoever asks, and takes it back.
 *
 * Theory of operation: a request waits for admission (FIFO, with a deadline), then a VM is booted
 * for it, again if the boot fails and attempts are left. The share of the host that a VM holds is
 * given back only when its processes are confirmed dead, whether or not the request that caused it
 * still exists. Callbacks come from the loop, never from inside pool_acquire(); exactly one of
 * on_vm and on_failed comes unless the request is cancelled.
 */
#ifndef DAEMON_POOL_POOL_H
#define DAEMON_POOL_POOL_H

#include "daemon/pool/admission.h"
#include "daemon/vm/vm.h"

struct pool;
struct pool_slot;

struct pool_config {
	struct vm_host *host;
	struct admission_limits limits;
	uint64_t overhead_mb;      /* of one QEMU besides the guest's memory */
	uint64_t vm_memory_max_mb; /* of one VM; 0 = whatever fits */
	double queue_timeout_seconds;
	unsigned boot_attempts;
};

/* One wish for a VM, embedded in its owner, who fills in the first part. */
struct pool_request {
	struct vm_spec spec;
	/* The VM is READY and the owner's until pool_release(). */
	void (*on_vm)(void *user, struct vm *vm);
	void (*on_failed)(void *user, struct rpc_error *error_take);
	void *user;

	struct pool_slot *slot; /* the pool's */
};

int pool_create(const struct pool_config *config, struct pool **ret);

/* Destroys all VMs and waits for them. */
void pool_destroy(struct pool *pool);

/* NULL when the request is on its way; otherwise the error (3002 when the queue is full). */
struct rpc_error *pool_acquire(struct pool *pool, struct pool_request *request) WARN_UNUSED;

/* Takes a wish back before it came true. Harmless afterwards, and when it never was one. */
void pool_cancel(struct pool *pool, struct pool_request *request);

/* Ends a VM that on_vm handed out. */
void pool_release(struct pool *pool, struct vm *vm);

/* Admission's numbers, for `info` and errors. */
const struct admission *pool_admission(const struct pool *pool);

/* The most memory one VM can have, in MiB. */
uint64_t pool_max_memory_mb(const struct pool *pool);

#endif
