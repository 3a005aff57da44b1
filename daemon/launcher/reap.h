/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a launcher that was killed may have left alive.
 *
 * Its jails die with it: the kernel sends SIGKILL to bubblewrap (PR_SET_PDEATHSIG), and so to QEMU.
 * This is the second lock. Every VM has its directory before it has a process, so a process of our
 * uid whose command line has the name of such a directory is one of ours.
 */
#ifndef DAEMON_LAUNCHER_REAP_H
#define DAEMON_LAUNCHER_REAP_H

#include <stddef.h>

/*
 * Kills those processes and waits `seconds` for their ends. Each is held by a pidfd before its
 * command line is read, so that no signal meets a stranger. How many were killed, or -errno.
 */
int reap_strangers(int vms_fd, double seconds);

#endif
