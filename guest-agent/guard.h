/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pressure guard: decides when a guest thrashes without hope. Pure: samples in, verdict out.
 *
 * Theory of operation: a zram at its memory limit refuses pages, and the kernel can then stall all
 * user tasks in reclaim for minutes without ever calling its OOM killer. The guard looks at the
 * user cgroup's `full` stall time over a sliding window; when it exceeds the threshold while zram
 * is at its cap, the run must go. Data that packs well fills the swap before zram is at its cap:
 * then the kernel takes the pages of the programs' files, over and over, which counts as a stall
 * only in part. So with a swap that stays full much less of it is too much. Unless the host's
 * balloon holds memory: then the host, which hears of every stall, gets some seconds to give it
 * back. Source: Documentation/accounting/psi.rst, docs/MEMORY.md.
 */
#ifndef GUEST_AGENT_GUARD_H
#define GUEST_AGENT_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUARD_WINDOW_US 2000000u /* docs/MEMORY.md: over 2 s */
#define GUARD_PERIOD_MS 500      /* a quarter of the window */
#define GUARD_SAMPLES   8

struct guard_sample {
	uint64_t now_us;        /* CLOCK_MONOTONIC */
	uint64_t full_total_us; /* of the user cgroup's memory.pressure */
	uint64_t zram_used, zram_limit;
	uint64_t swap_free, swap_total;
	uint64_t ballooned; /* bytes that the host's balloon holds */
};

enum guard_verdict {
	GUARD_FINE,
	GUARD_STALLED,  /* programs wait for memory: the host should hear of it */
	GUARD_HOPELESS, /* the run must be killed */
};

struct guard {
	struct guard_sample samples[GUARD_SAMPLES];
	size_t len;                 /* oldest first */
	uint64_t hopeless_since_us; /* 0: it is not, and was not for a window */
	uint64_t hopeless_us;       /* when it last was */
};

/* Forgets all samples: a new run starts, or the last one was just killed. */
void guard_reset(struct guard *guard);

/* Takes one more sample. */
enum guard_verdict guard_step(struct guard *guard, const struct guard_sample *sample);

#endif
