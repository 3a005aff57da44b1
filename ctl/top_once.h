/* SPDX-License-Identifier: Apache-2.0 */
/* `execsandboxctl top --once`: the figures of top without a screen. */
#ifndef CTL_TOP_ONCE_H
#define CTL_TOP_ONCE_H

struct ctl;

/* Prints the host and one line per VM, or the result itself with --json. Returns the exit status.
 */
int top_once(struct ctl *ctl);

#endif
