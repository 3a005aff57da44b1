/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One guest of the simulator: what it holds, how it grows, shrinks, compresses and lies.
 *
 * Theory of operation: amounts are MiB, as doubles. A guest's private memory on the host is
 * QEMU's own, what its programs use, its page cache, what its zram takes, and `spent`: free for the
 * guest, but still on the host until it is reported or ballooned away. Growing takes free memory
 * first, then the page cache, then compresses, then takes back from the balloon (deflate-on-oom),
 * then the run is out of memory. Inflating goes the same way. The constants are assumptions or
 * measurements of a model, each with its source; "3.6" and others are sections of the memory
 * research, whose figures of a simulator were not measured on guests.
 */
#ifndef TESTS_SIM_GUEST_H
#define TESTS_SIM_GUEST_H

#include "daemon/memory/policy.h"

/* Of a VM (3.6: R = 256 MiB, 20 MiB of QEMU). */
#define GUEST_SIZE     256.
#define GUEST_OVERHEAD 20.
/* Kernel, agent and interpreter: pages of the template that no clone has of its own (1.5: 1 to 4
 * MiB of an idle clone are private; the rest of about 40 is assumed). */
#define GUEST_SHARED 40.
/* A spare that was rehearsed, with its QEMU (docs/ARCHITECTURE.md). */
#define GUEST_SPARE 35.

enum guest_nature {
	GUEST_HONEST,
	GUEST_DEAF,  /* its balloon does not move */
	GUEST_FALSE, /* its balloon moves, and the host gets nothing */
};

enum guest_phase {
	GUEST_SPARE_PHASE,
	GUEST_IDLE,
	GUEST_WAITING, /* idle, and its run is in the queue */
	GUEST_BUSY,
	GUEST_DEAD, /* started anew at `next` */
};

/* What its programs do. Medians of log-normal distributions in MiB, times in seconds. */
struct guest_habits {
	double live, live_sigma, growth, growth_sigma;
	double idle_mean, run_mean; /* of exponential distributions */
};

struct guest {
	enum guest_nature nature;
	enum guest_phase phase;
	double used, packed, cache, spent; /* packed: before compression */
	double ratio;                      /* of its zram */
	double actual, target;
	double temporary;     /* of used: freed when the run ends */
	double growth_per_s;  /* of the run */
	unsigned next, since; /* tick of its next event, of its last change of phase */
	unsigned stats_tick;  /* when it last spoke */
	struct policy_guest stats;
	bool is_stopped, is_in_flight;
	/* For the simulator's figures */
	int direction;
	unsigned turned; /* tick of its last change of target */
};

/* Numbers by splitmix64: the same on every machine, whatever libc. */
double guest_random(uint64_t *seed); /* 0 … 1 */
double guest_exponential(uint64_t *seed, double mean);
double guest_lognormal(uint64_t *seed, double median, double sigma);

/* Fresh from the template, idle; its first run comes at a random time. */
void guest_create(struct guest *guest, const struct guest_habits *habits, unsigned tick,
		  uint64_t *seed);

double guest_private(const struct guest *guest); /* on the host */

/* A run begins, goes on for a second, ends. Each returns the seconds that the guest stood still for
 * memory; *ret_is_oom is set when the run did not get what it wanted. */
double guest_run_begin(struct guest *guest, const struct guest_habits *habits, unsigned tick,
		       uint64_t *seed, bool *ret_is_oom);
double guest_run_on(struct guest *guest, bool *ret_is_oom);
void guest_run_end(struct guest *guest, const struct guest_habits *habits, unsigned tick,
		   uint64_t *seed);

/* A second of free page reporting. */
void guest_report_free(struct guest *guest);

/* So many seconds of its balloon's way to the target. Returns the seconds that a run stood still.
 */
double guest_move_balloon(struct guest *guest, double seconds);

/* What it says of itself, every two seconds, as the policy gets it. */
void guest_speak(struct guest *guest, unsigned tick);

#endif
