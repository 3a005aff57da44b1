/* SPDX-License-Identifier: Apache-2.0 */
/* Pressure stall information: the kernel's text, and stalls over a stretch of time. */
#ifndef DAEMON_MEMORY_PSI_H
#define DAEMON_MEMORY_PSI_H

#include <stdint.h>

/*
 * One line "some" and one "full". `some`: at least one task waited for memory; `full`: all did that
 * had anything to do. Source: Documentation/accounting/psi.rst.
 */
struct psi_line {
	double avg10;      /* per cent of the last ten seconds, 0 to 100 */
	uint64_t total_us; /* waited since boot */
};

struct psi {
	struct psi_line some, full;
};

/* Parses a PSI file. 0, or -EBADMSG when it is not one or has figures that cannot be. */
int psi_parse(const char *text, struct psi *ret);

/* At 4 readings in a second, more than the 2 s that are asked for. */
#define PSI_HISTORY_MAX 16

/* Readings of `total=`, the oldest overwritten. Zero-initialised it is empty. */
struct psi_history {
	struct psi_reading {
		uint64_t us; /* CLOCK_MONOTONIC */
		uint64_t some_us, full_us;
	} readings[PSI_HISTORY_MAX];
	unsigned count, next;
};

/* Notes a reading; one that follows the last by less than 200 ms is left out, so that frequent
 * readings do not push the old ones out. */
void psi_history_add(struct psi_history *history, uint64_t us, const struct psi *psi);

struct psi_stall {
	uint64_t some_us, full_us; /* waited */
	uint64_t window_us;        /* in so much time: at least what was asked for */
};

/*
 * What was waited in about the last `window_us` (at most 3 s), `psi` being what was just read:
 * since the youngest reading that is that old, an eighth of a second less being fine, else since
 * the oldest. Waits before the first reading are not known and count as none.
 */
struct psi_stall psi_history_stall(const struct psi_history *history, uint64_t us,
				   const struct psi *psi, uint64_t window_us);

#endif
