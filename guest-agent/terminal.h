/* SPDX-License-Identifier: Apache-2.0 */
/* A pseudo-terminal for a program (pty(7)): its end is standard input and both outputs. */
#ifndef GUEST_AGENT_TERMINAL_H
#define GUEST_AGENT_TERMINAL_H

#include "guest-agent/config.h"

#include <stdint.h>

/* What the kernel's struct winsize holds. */
#define TERMINAL_SIZE_MAX 65535u

struct terminal_size {
	uint64_t rows, columns;
};

/*
 * Opens one of that size, for text in UTF-8, that belongs to whom programs run as. Our end, for
 * reading and writing, is non-blocking. 0 or -errno.
 */
int terminal_open(const struct terminal_size *size, const struct agent_config *config,
		  int *ret_ours, int *ret_theirs);

/* Its programs hear SIGWINCH; a descriptor that is none is left alone. */
void terminal_resize(int ours, const struct terminal_size *size);

#endif
