/* SPDX-License-Identifier: Apache-2.0 */
/* What the memory policy sees of one VM, and what it remembers of it from step to step. */
#ifndef DAEMON_MEMORY_POLICY_VM_H
#define DAEMON_MEMORY_POLICY_VM_H

#include <stdbool.h>
#include <stdint.h>

enum policy_vm_state {
	POLICY_SPARE, /* of the pool: stopped, has run nothing, nobody's */
	POLICY_IDLE,  /* owned, no code runs */
	POLICY_BUSY,  /* code runs, or is about to */
};

/*
 * The guest's own claims, bytes; 0 where it says nothing. They choose how memory is taken, never
 * whether: a guest that lies harms itself alone.
 */
struct policy_guest {
	bool is_known;   /* false: it never spoke */
	bool is_agents;  /* the agent's word: with what the driver does not tell */
	uint64_t age_us; /* of this word */
	uint64_t total_bytes, free_bytes, available_bytes, caches_bytes; /* /proc/meminfo */
	uint64_t swap_free_bytes;
	uint64_t anonymous_bytes; /* that could be compressed; 0: none is */
	uint64_t zram_orig_bytes, zram_used_bytes;
	uint64_t zram_limit_bytes; /* of zram_used_bytes; 0: there is none */
};

/*
 * The policy's memory of one VM: embedded in its owner, zero-initialised, and kept as long as the
 * VM lives. Only the policy writes it; the names are for tests and for the log.
 */
struct policy_vm {
	/* The last change of its target */
	int direction; /* -1 down, +1 up, 0 none yet */
	uint64_t down_us, up_us;
	bool is_up_for_work; /* it got memory back for code that ran */
	uint64_t moved_us;   /* the later of both */
	uint64_t moved_bytes;
	uint64_t progress_us, progress_bytes; /* where it was last seen moving */
	uint64_t settled_us; /* when it ended, reached or given up; 0: it goes on */

	/* What the squeezes since measured_us were to bring */
	uint64_t measured_us;
	uint64_t expected_gain_bytes; /* 0: nothing, or it was checked */
	uint64_t private_before_bytes;

	/* What was learnt from failures */
	uint64_t stall_until_us, backoff_us;
	uint64_t useless_until_us, useless_bytes; /* what it had then */
	uint64_t learned_floor_bytes, floor_until_us;
	uint64_t shared_bytes;    /* what its guest uses of the template's memory */
	uint64_t used_idle_bytes; /* what it needed, uncompressed, when it last was idle */

	/* Its runs */
	bool is_run_known, is_start_known;
	uint64_t run_us;                            /* when it began */
	uint64_t run_private_bytes, run_peak_bytes; /* at its start, greatest since */
	uint64_t growth_bytes;                      /* what a run of this VM takes, nine in ten */
	unsigned runs;                              /* that growth_bytes was learnt from */

	uint64_t ended_us; /* DROP_SPARE or KILL_VM was said; 0: not */

	/* Of the running step only */
	uint64_t step;
	int class;
	double price;
};

/* What the caller knows of one VM at this step. */
struct policy_sample {
	struct policy_vm *vm; /* its record */
	uint64_t key;         /* the caller's name for it; stable and unique */
	enum policy_vm_state state;
	uint64_t size_bytes;
	bool is_private_known;
	uint64_t private_bytes;  /* P: RssAnon of its QEMU, the host's truth */
	uint64_t overhead_bytes; /* of that, QEMU's own */
	uint64_t start_bytes;    /* what QEMU's own comes to once code has run */
	uint64_t actual_bytes;   /* the balloon's: what the guest keeps */
	uint64_t target_bytes;
	bool can_balloon;  /* false: no device, or its QMP is silent; P is then fixed */
	bool is_in_flight; /* a change of the target is under way */
	bool can_stop;     /* its owner wakes it: STOP_VCPU is possible */
	bool is_stopped;   /* its vCPUs are; SET_TARGET then means: continue it first */
	bool is_stalled;   /* code runs and waits for memory */
	uint64_t idle_us;  /* 0 for BUSY */
	unsigned shares;   /* weight among the VMs; 0 counts as 1 */
	struct policy_guest guest;
};

#endif
