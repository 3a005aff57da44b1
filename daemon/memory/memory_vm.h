/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What memory control knows of one VM, and what it does to it.
 *
 * Theory of operation: memory_vm_look() measures the VM from outside (anonymous memory and
 * processor time of its QEMU), joins that with the guest's claims, and leaves the sample that the
 * policy reads. A VM whose client says that no code runs is idle; so is one whose code has used
 * next to no processor for IDLE_AFTER_US, as programs do that sleep or wait for the network: its
 * pages are as cold. Only the former's vCPU may be halted. Spares are idle VMs that nobody owns.
 *
 * Changes go through the VM's mover. A target that an admin set by hand holds until it is set to
 * the VM's size again: the policy sees a VM without a balloon meanwhile.
 */
#ifndef DAEMON_MEMORY_MEMORY_VM_H
#define DAEMON_MEMORY_MEMORY_VM_H

#include "daemon/memory/mover.h"
#include "daemon/memory/policy_vm.h"
#include "daemon/vm/vm.h"

struct memory_control;

/* How the memory and the processor time of a process are measured; tests bring their own. */
struct memory_meter {
	int (*anonymous)(pid_t pid, uint64_t *ret_bytes);
	int (*cpu)(pid_t pid, uint64_t *ret_us);
};
extern const struct memory_meter memory_meter_kernel;

/* What the host last measured of its QEMU by walking its page tables: memory/stats. */
struct memory_footprint {
	uint64_t rss_bytes, pss_bytes, anonymous_bytes;
	uint64_t measured_us; /* now_us(); 0 = never */
};

/* Made by the first look, freed when the VM is gone. Read it; write policy alone. */
struct memory_vm {
	struct vm *vm;
	struct memory_control *control; /* whose it is */
	struct policy_vm policy;
	struct policy_sample sample; /* of the last look */
	struct memory_footprint footprint;
	bool is_pinned; /* by a target that was set by hand */

	/* The change of its memory that is under way, or the last one */
	struct mover mover;
	uint64_t from_bytes, began_us;
	uint64_t judged_us; /* when its progress was last looked at */
	void (*on_hand_done)(void *user, int error, uint64_t actual_bytes); /* NULL: the policy's */
	void *hand_user;

	/* The memory.reclaim that took from it */
	bool is_reclaimed;
	uint64_t reclaim_before_bytes;

	uint64_t cpu_us, cpu_seen_us;     /* the processor time it had used by then */
	uint64_t active_us;               /* when it was last seen working */
	uint64_t stall_began_us;          /* when its waiting began to be believed */
	uint64_t stall_us, stall_seen_us; /* what its programs had waited for memory by then */
};

/* The VM's record, made if there is none. NULL without memory. */
struct memory_vm *memory_vm_get(struct memory_control *control, struct vm *vm);

/* Cancels what is under way. Harmless when it has none. */
void memory_vm_forget(struct vm *vm);

/* Is it one that the policy looks at? Not templates that are being made, nor VMs that are ending.
 */
bool memory_vm_is_managed(const struct vm *vm);

/* Measures and fills in `sample`. */
void memory_vm_look(struct memory_vm *memory, const struct memory_meter *meter, uint64_t now_us);

/* A report of the guest came: does its code wait for memory? */
void memory_vm_see_stall(struct memory_vm *memory, uint64_t now_us);

/* What the QEMU of such a VM takes for itself, with the code it translates. */
uint64_t memory_vm_overhead(const struct vm_host *host, const char *language);

#endif
