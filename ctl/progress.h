/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line on stderr that tells how far a copy is.
 *
 * It is drawn over itself some times a second, and only on a terminal that can do that: not when
 * TERM is dumb. It has no colours and no names, which are the guest's to choose.
 */
#ifndef CTL_PROGRESS_H
#define CTL_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	uint64_t bytes, bytes_total; /* no total when it is 0 */
	size_t files, files_total;
	double seconds; /* since the beginning */
	uint64_t begun_us, drawn_us;
	bool is_shown; /* somebody can see it */
	bool is_drawn;
};

/* The line, at most `columns` wide; what does not fit is left out, the bar first. Returns buf. */
#define PROGRESS_SIZE 256
const char *progress_format(const struct progress *progress, size_t columns,
			    char buf[PROGRESS_SIZE]);

void progress_begin(struct progress *progress, uint64_t bytes_total, size_t files_total);
void progress_add(struct progress *progress, uint64_t bytes, size_t files);

/* Takes the line away, before something else is printed or behind the end. */
void progress_end(struct progress *progress);

#endif
