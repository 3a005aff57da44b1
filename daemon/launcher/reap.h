/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a launcher that was killed may have left alive.
 *
 * Its jails die with it: the kernel sends SIGKILL to bubblewrap (PR_SET_PDEATHSIG), and so to QEMU.
 * But the one that bubblewrap sets a jail up in asks for that signal last of all, and is nobody's
 * child when its bubblewrap has died by then. So each launcher begins with a look at all processes.
 * What it looks for needs no list, which whoever cleans up could have shortened meanwhile: a
 * process of our uid that bears a VM's name (`-name` and an id, among bubblewrap's words as among
 * QEMU's) and has no launcher above it.
 */
#ifndef DAEMON_LAUNCHER_REAP_H
#define DAEMON_LAUNCHER_REAP_H

#include <stddef.h>

/*
 * Kills those processes, of whichever launcher, and looks again until none is left, for `seconds`
 * at most. Each is held by a pidfd before it is looked at, so that no signal meets a stranger.
 * How many were killed, or -errno.
 */
int reap_strangers(double seconds);

#endif
