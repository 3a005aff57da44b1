/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner of memory control: what it says becomes events, spares that go, runs that wait.
 *
 * Theory of operation: memory control knows VMs and the host, not the pool or the clients. Here its
 * callbacks reach these, and the pool's question whether a run may start reaches it. What VMs may
 * have together follows the budget and the reserve when an admin changes them.
 */
#ifndef DAEMON_MEMORY_OWNER_H
#define DAEMON_MEMORY_OWNER_H

#include "daemon/daemon.h"

/* What the host keeps for itself: as configured, or 8 %, at least 512 MiB. */
uint64_t memory_owner_reserve_mb(const struct config *config);

/*
 * What VMs and templates may have together: what the host had at the start, with what VMs of an
 * earlier daemon had of it, without the reserve. First asked behind recovery_start().
 */
uint64_t memory_owner_limit_mb(struct daemon *daemon, uint64_t reserve_mb);

/* Creates daemon->memory. 0, or -errno after the reason was logged. */
int memory_owner_start(struct daemon *daemon);

/* For struct vm_host and struct pool_config; `user` is the daemon. */
void memory_owner_vm_memory(void *user, struct vm *vm);
void memory_owner_vm_work(void *user, struct vm *vm);
bool memory_owner_may_grant(void *user, const char *language, bool has_spare);

#endif
