/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot log of one VM: what its serial console says, the last CONSOLE_SIZE bytes kept.
 *
 * The guest writes it, so it is hostile text: console_tail() gives printable lines only.
 */
#ifndef DAEMON_VM_CONSOLE_H
#define DAEMON_VM_CONSOLE_H

#include "base/stream.h"

/* A panic with its backtrace is about 3 KiB. */
#define CONSOLE_SIZE 8192u

struct console {
	struct stream stream;
	uint64_t written;
	char ring[CONSOLE_SIZE];
};

/* Takes our end of QEMU's console socket and starts reading. */
void console_init(struct console *console, struct loop *loop, int fd_take);

/* Stops reading; what was kept stays readable. Safe when never initialised with a descriptor. */
void console_close(struct console *console);

/* The last `max` bytes as text of printable lines, in a new string (free()). NULL without memory.
 */
char *console_tail(const struct console *console, size_t max);

#endif
