/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory pressure of the host: a callback when there is some, and figures every second.
 *
 * Theory of operation: a wake (a kernel trigger, or totals read every 250 ms where the kernel
 * grants none) only says when to look; what it looks at, and what is looked at every second
 * (or oftener, if the owner wants it) even if a wake was lost, are the kernel's running totals of
 * time waited. Sources and their fallbacks are host_source's.
 */
#ifndef DAEMON_MEMORY_HOST_PRESSURE_H
#define DAEMON_MEMORY_HOST_PRESSURE_H

#include "base/loop.h"
#include "daemon/memory/host_source.h"

struct host_pressure;

struct host_sample {
	uint64_t managed_bytes;   /* what VMs could use at most: the least of the host without its
				   * reserve, the cgroup's limit, the budget */
	uint64_t available_bytes; /* what of that is left, by whichever is tightest */
	uint64_t over_bytes;      /* what the VMs use beyond the budget */
	bool has_psi;             /* false: the percentages are 0 and mean nothing */
	double some_stall_percent, full_stall_percent; /* of about the last 2 s */
	double some_avg10, full_avg10;                 /* per cent, the kernel's mean */
	uint64_t measured_us; /* CLOCK_MONOTONIC: when the wake was seen, before reading anything */
};

enum host_wake {
	HOST_WAKE_TRIGGER, /* tasks waited for memory 5 % of the time: at most twice in a second */
	HOST_WAKE_TIMER,   /* the interval has passed */
};

/* The owner is not to destroy the object from inside. */
typedef void (*host_pressure_fn)(void *user, const struct host_sample *sample, enum host_wake wake);

struct host_pressure_config {
	uint64_t reserve_bytes;           /* kept free for the host */
	uint64_t budget_bytes;            /* as if the host had so much for VMs; 0: none */
	const struct kernel_files *files; /* NULL: the running kernel's */
	struct own_cgroup cgroup;         /* found: holds the VMs, under its ancestors' limits */
};

/*
 * Chooses a source and begins to watch. The cgroup is that of the start: the unit's has the same
 * name when its launcher dies and another one comes, and one that we start is in ours as the first
 * was. Limits are read by name each time; PSI of a group that went is the host's from then on. 0;
 * -errno when /proc/meminfo cannot be read; -ENOMEM. The first callback comes from the loop.
 */
int host_pressure_create(struct loop *loop, const struct host_pressure_config *config,
			 host_pressure_fn on_pressure, void *user, struct host_pressure **ret);

/* NULL is fine. */
void host_pressure_destroy(struct host_pressure *pressure);

/* What all VMs together use now; counts against the budget from the next sample on. */
void host_pressure_set_used(struct host_pressure *pressure, uint64_t used_bytes);

/* Changes the two figures of the configuration, from the next sample on. */
void host_pressure_set_limits(struct host_pressure *pressure, uint64_t reserve_bytes,
			      uint64_t budget_bytes);

/* How often it is looked when nothing wakes it: 1 s at first. */
void host_pressure_set_interval(struct host_pressure *pressure, double seconds);

/* Measures now, without a callback: four to a dozen small files of the kernel. */
void host_pressure_sample(struct host_pressure *pressure, struct host_sample *ret);

/* What is watched, for people; the path is NULL without PSI. It may change with time. */
enum host_source_kind host_pressure_source(const struct host_pressure *pressure);
const char *host_pressure_path(const struct host_pressure *pressure);

#endif
