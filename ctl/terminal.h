/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal we run on: its size, and raw mode with the way back. */
#ifndef CTL_TERMINAL_H
#define CTL_TERMINAL_H

#include <jansson.h>

/* The size of the terminal at `fd` as {rows, columns}, 24 by 80 when it does not know. */
json_t *terminal_size(int fd);

/*
 * Hands every key on as it is typed, Ctrl-C too. The way it was comes back with
 * terminal_restore(), which exit(3) calls as well. 0 or -errno.
 */
int terminal_make_raw(int fd);
void terminal_restore(void);

#endif
