/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory control: hears of the host's memory pressure and keeps its level.
 *
 * Theory of operation: host_pressure wakes it once a second and whenever tasks wait for memory; the
 * policy makes a level of what was measured, up at once, down one level at a time after a hold.
 * With a budget what the VMs use counts against it: QEMU's anonymous memory, the host's truth.
 */
#ifndef DAEMON_MEMORY_CONTROL_H
#define DAEMON_MEMORY_CONTROL_H

#include "daemon/memory/host_pressure.h"
#include "daemon/memory/policy.h"
#include "daemon/vm/vm.h"

struct memory_control;

struct memory_control_config {
	struct loop *loop;
	struct vm_host *host;
	uint64_t reserve_bytes;           /* kept free for the host */
	uint64_t budget_bytes;            /* of all VMs together; 0: what the host has */
	const struct kernel_files *files; /* NULL: the running kernel's */
	/* The level is another than before; memory_control_level() is the new one. May be NULL. */
	void (*on_level)(void *user, enum policy_level old);
	void *user;
};

/* 0; -errno when the host's memory cannot be read; -ENOMEM. */
int memory_control_create(const struct memory_control_config *config, struct memory_control **ret);

/* NULL is fine. */
void memory_control_destroy(struct memory_control *control);

enum policy_level memory_control_level(const struct memory_control *control);

/* What was measured last. */
const struct host_sample *memory_control_sample(const struct memory_control *control);

#endif
