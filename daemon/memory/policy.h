/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory policy: from samples of the host and its VMs to what is to be done.
 *
 * Theory of operation: a pure function. Once a second, five times at ORANGE and above, and when PSI
 * wakes it, the caller samples everything and calls policy_step(); it does what the actions say and
 * reads the scalars below. The host's headroom and stalls make the level, up at once, down one
 * level at a time after a hold. Above GREEN the need is what lacks to YELLOW's way out; it is taken
 * in this order: spares (from ORANGE), idle VMs' free memory and caches (from YELLOW), idle VMs'
 * anonymous memory into their zram (from ORANGE), busy VMs' free memory and caches (from RED), and
 * when BLACK lasts although all that is done, one VM is killed. What is expected from changes that
 * are under way counts as taken. Below RED busy VMs get everything back, spread over some seconds;
 * idle ones slowly, and only on GREEN.
 *
 * The host's figures decide whether and how much, the guest's only how: RssAnon tells what a
 * squeeze has brought, and who brings nothing is left alone, and is killed first. Sources:
 * Waldspurger, "Memory Resource Management in VMware ESX Server" (OSDI 2002): idle tax; ChromeOS
 * concierge balloon_policy.cc and crosvm: stalls and blocked directions; docs of QEMU and
 * Firecracker on trust in balloon statistics. The constants were simulated (`make sim`).
 *
 * All times are of one monotonic clock, microseconds, over 0.
 */
#ifndef DAEMON_MEMORY_POLICY_H
#define DAEMON_MEMORY_POLICY_H

#include "daemon/memory/policy_vm.h"

#include <stddef.h>

enum policy_level {
	POLICY_GREEN,  /* nothing is taken; memory goes back; spares are made */
	POLICY_YELLOW, /* idle VMs give free memory and caches; no new spares */
	POLICY_ORANGE, /* spares are dropped; idle VMs compress */
	POLICY_RED,    /* busy VMs give free memory and caches; no new VMs */
	POLICY_BLACK,  /* no new runs; the last resort */
};

struct policy_config {
	uint64_t floor_bytes;          /* no target is below this, nor above the VM's size */
	uint64_t run_bytes;            /* what a run takes as long as its VM has not told */
	uint64_t guest_max_age_us;     /* older claims are not used */
	unsigned inflating_max;        /* balloons that grow at once */
	double resume_head, keep_head; /* shares of the managed memory: see policy_defaults */
};

extern const struct policy_config policy_defaults;

struct policy_host {
	uint64_t managed_bytes;            /* H: what the VMs and their QEMUs may use */
	uint64_t available_bytes;          /* of it */
	uint64_t over_bytes;               /* in use beyond it; a budget can be exceeded */
	uint64_t ending_bytes;             /* of VMs that die: not among the samples any more */
	uint64_t promised_bytes;           /* to runs whose VMs are not among the samples yet */
	bool has_psi;                      /* false: headroom alone, every limit 2.5 points up */
	double some_percent, full_percent; /* of the last 2 s, from `total=` */
};

enum policy_action_kind {
	POLICY_DROP_SPARE,
	POLICY_SET_TARGET,
	POLICY_STOP_VCPU, /* squeezed, reached, idle: it needs no processor until its next run */
	POLICY_KILL_VM,
};

struct policy_action {
	enum policy_action_kind kind;
	size_t index; /* of its sample */
	uint64_t key;
	uint64_t target_bytes; /* of SET_TARGET */
	bool drop_caches;      /* of SET_TARGET: have the guest drop its page cache first */
};

/* Read the first part, call the functions. */
struct policy {
	struct policy_config config;
	enum policy_level level;
	bool may_refill_spares;
	bool may_admit;        /* new VMs */
	uint64_t credit_bytes; /* what runs may start on; see policy_admit() */
	uint64_t retry_ms;     /* for who is refused now */
	uint64_t need_bytes;   /* what this step wanted to take */

	uint64_t steps, stepped_us;
	uint64_t better_since_us; /* the host is fit to leave the level; 0: it is not */
	uint64_t black_since_us;  /* since when there was as little as BLACK is entered with */
	uint64_t killed_us;
	uint64_t calm_us; /* time below RED, weighted: whose turn it is to get memory back */
};

void policy_init(struct policy *policy, const struct policy_config *config);

/*
 * One step over all VMs. Writes at most one action per VM, so `actions` has room for `n`, and
 * returns how many. A target that could not be set is said again in a later step. A VM that
 * DROP_SPARE or KILL_VM named counts as gone for 5 s, then it is named again.
 */
size_t policy_step(struct policy *policy, uint64_t now_us, const struct policy_host *host,
		   const struct policy_sample *vms, size_t n, struct policy_action *actions);

/*
 * Somebody wants `bytes` of these VMs whatever the level: a round of taking, by the rules and in
 * the order of RED, but without its limit per second. Writes and returns as policy_step().
 */
size_t policy_reclaim(struct policy *policy, uint64_t now_us, const struct policy_host *host,
		      const struct policy_sample *vms, size_t n, uint64_t bytes,
		      struct policy_action *actions);

/* The spare that was to be dropped is a run's by now. */
void policy_kept(const struct policy_sample *vm);

/* The target was set by other hands than the policy's. */
void policy_moved(const struct policy_sample *vm, uint64_t target_bytes, uint64_t now_us);

/*
 * Code is about to run in this VM: the target to set now, without waiting for the balloon. All of
 * its size below RED, half of what it lacks otherwise. Equal to target_bytes: leave it.
 */
uint64_t policy_on_exec(struct policy *policy, const struct policy_sample *vm, uint64_t now_us);

enum policy_progress {
	POLICY_MOVING,
	POLICY_REACHED,
	POLICY_STALLED, /* set *ret_target: an unreachable one costs a fifth of a vCPU */
};

/* To be asked about once a second for a VM that is in flight. */
enum policy_progress policy_progress(struct policy *policy, const struct policy_sample *vm,
				     uint64_t now_us, uint64_t *ret_target);

/* The balloon itself saw the stall (balloon.h, -ETIME): the target to set, a little above what was
 * reached. The VM is left alone for 30 s, at most 10 min when that repeats. */
uint64_t policy_stalled(struct policy *policy, const struct policy_sample *vm, uint64_t now_us);

/* May a run that takes `cost_bytes` start? Takes it off the credit until the next step, in which
 * the VM of the run has to be BUSY. Callers keep their own order: nobody overtakes a refused one.
 */
bool policy_admit(struct policy *policy, uint64_t cost_bytes);

/* "green" … "black", and the API's word for it: "calm", "soft", "hard". Static. */
const char *policy_level_name(enum policy_level level);
const char *policy_pressure_name(enum policy_level level);

#endif
