/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory control: host pressure in, balloon targets out.
 *
 * Theory of operation: host_pressure wakes it every second, five times a second while much is to be
 * done, and whenever tasks wait for memory. A wake is a step: all VMs are looked at (memory_vm.h),
 * the policy says what is to be done, and that is begun: spares are dropped, caches too, balloons
 * are set, vCPUs halted, and as the last resort a VM is ended. Balloons move in their own time; one
 * that stalls is taken back to what it reached and is left alone for a while. Everything that
 * changes is told to the owner, who makes events of it.
 *
 * With a budget what the VMs use counts against it: QEMU's anonymous memory, the host's truth.
 * Runs ask memory_control_admit() before they get a VM. Turned off, it looks and tells, and does
 * nothing.
 */
#ifndef DAEMON_MEMORY_CONTROL_H
#define DAEMON_MEMORY_CONTROL_H

#include "base/histogram.h"
#include "daemon/memory/host_pressure.h"
#include "daemon/memory/memory_vm.h"
#include "daemon/memory/policy.h"

struct memory_control;
struct memory_settings;

/* A change of one VM's memory, for events. */
struct memory_change {
	struct vm *vm;
	uint64_t from_bytes, target_bytes, actual_bytes; /* the balloon's, before and after */
	uint64_t private_bytes;                          /* of its QEMU, at the last look */
	uint64_t took_us;
	const char *why; /* of failures: for people. NULL otherwise */
};

/* The owner. Any may be NULL but drop_spare. None may destroy the control. */
struct memory_control_ops {
	/* The level is another than before; memory_control_policy()->level is the new one. */
	void (*on_level)(void *user, enum policy_level old);
	/* These hold from now on: memory_control_set(). A step with them follows. */
	void (*on_settings)(void *user, const struct memory_settings *settings);
	/* A step is over: who waits for memory may be served, spares be made or not. */
	void (*on_step)(void *user);
	/* Ends a spare; false when it is none any more. */
	bool (*drop_spare)(void *user, struct vm *vm);
	/* What was admitted and has no VM yet: the sum of memory_control_cost(). */
	uint64_t (*promised)(void *user);
	/* A balloon reached a smaller, or greater, target. */
	void (*on_squeeze)(void *user, const struct memory_change *change);
	void (*on_release)(void *user, const struct memory_change *change);
	/* It did not: it stalled, or QEMU refused. */
	void (*on_failure)(void *user, const struct memory_change *change);
	/* The VM is ended, because nothing else was left to take. */
	void (*on_oom)(void *user, struct vm *vm);
};

struct memory_control_config {
	struct loop *loop;
	struct vm_host *host;
	uint64_t reserve_bytes;           /* kept free for the host */
	uint64_t budget_bytes;            /* of all VMs together; 0: what the host has */
	bool is_off;                      /* begins turned off */
	const struct kernel_files *files; /* NULL: the running kernel's */
	const struct memory_meter *meter; /* NULL: the running kernel's */
	const struct memory_control_ops *ops;
	void *user;
};

/* What was done since the start. */
struct memory_counters {
	uint64_t squeezes, releases; /* balloons that reached a smaller, or greater, target */
	uint64_t stalls, failures;   /* that did not move; that QEMU refused */
	uint64_t cache_drops, spares_dropped, vcpus_halted, kills;
	uint64_t taken_bytes, given_bytes; /* by balloons, also by those that stalled */
	uint64_t levels[POLICY_BLACK + 1]; /* how often each was entered */
	struct histogram reaction;         /* from a wake that finds need to its first command */
};

/* 0; -errno when the host's memory cannot be read; -ENOMEM. */
int memory_control_create(const struct memory_control_config *config, struct memory_control **ret);

/* NULL is fine. VMs keep the targets they have. */
void memory_control_destroy(struct memory_control *control);

/* What was measured last, and what was made of it. */
const struct host_sample *memory_control_sample(const struct memory_control *control);
const struct policy *memory_control_policy(const struct memory_control *control);
const struct memory_counters *memory_control_counters(const struct memory_control *control);

/* A fresh look at one VM. NULL without memory. */
struct memory_vm *memory_control_look(struct memory_control *control, struct vm *vm);

/* --- Settings, while it runs --- */

struct memory_settings {
	bool is_off;
	uint64_t reserve_bytes, budget_bytes; /* as in the configuration */
	uint64_t floor_bytes, run_bytes;      /* as in struct policy_config */
	unsigned inflating_max;
};

void memory_control_get(const struct memory_control *control, struct memory_settings *ret);

/* From the next step on, which is made at once. Turned off, targets stay as they are. */
void memory_control_set(struct memory_control *control, const struct memory_settings *settings);

/* --- For who runs code --- */

/* What a run takes, bytes; with a VM that is to be made for it. */
uint64_t memory_control_cost(const struct memory_control *control, const char *language,
			     bool has_spare);

/* May a run start, in a spare or in a VM that is to be made? Taken off the credit if so; if not,
 * a step comes soon. */
bool memory_control_admit(struct memory_control *control, const char *language, bool has_spare);

/* --- For who owns VMs: what struct vm_host tells --- */

void memory_control_vm_memory(struct memory_control *control, struct vm *vm);
void memory_control_vm_work(struct memory_control *control, struct vm *vm);
/* STOPPING: its QMP goes, and with it what was under way. */
void memory_control_vm_stops(struct memory_control *control, struct vm *vm);
/* GONE. */
void memory_control_vm_ends(struct memory_control *control, struct vm *vm);

/* --- By hand --- */

/* 0: reached; -ETIME: stalled at `actual`; -ECANCELED: replaced, or the VM is ending; -errno. */
typedef void (*memory_done_fn)(void *user, int error, uint64_t actual_bytes);

/* Sets a target that holds until it is the VM's size again. `on_done` comes from the loop. 0;
 * -ENOTCONN when the VM has no balloon now; -errno of QMP. */
int memory_control_balloon(struct memory_control *control, struct vm *vm, uint64_t target_bytes,
			   memory_done_fn on_done, void *user);

/* What became of a memory_control_reclaim(): what the host got back, and from whom. Borrowed. */
struct memory_reclaimed {
	uint64_t bytes;
	size_t count;
	const struct memory_reclaimed_vm {
		char id[VM_ID_SIZE];
		uint64_t target_bytes, actual_bytes;
	} * vms;
};

/*
 * Takes `bytes` of one VM, or of all in the policy's order (`vm` NULL): free memory and caches, of
 * idle VMs also what compresses, and spares. `on_done` comes from the loop when it is taken, when
 * nothing is left to take, or after RECLAIM_SECONDS; with NULL when control is destroyed. 0, -EBUSY
 * while another goes on, -ENOMEM.
 */
#define MEMORY_RECLAIM_SECONDS 10.
int memory_control_reclaim(struct memory_control *control, struct vm *vm, uint64_t bytes,
			   void (*on_done)(void *user, const struct memory_reclaimed *reclaimed),
			   void *user);

#endif
