/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ending a run's processes where there are no cgroups: tests, and hosts of continuous integration.
 *
 * Everything below the agent belongs to the one run that this mode allows at a time, but for
 * interpreters that wait: the agent is the subreaper, so that a process that left its session and
 * its parent still is its descendant.
 */
#ifndef GUEST_AGENT_TREE_H
#define GUEST_AGENT_TREE_H

#include <stddef.h>
#include <sys/types.h>

/* Makes the calling process the parent of orphans below it. 0 or -errno. */
int tree_init(void);

/*
 * Sends `sig` (0: none) to every living descendant of this process, except the `spared` children
 * and what is below them. Returns how many there are.
 */
size_t tree_signal(int sig, const pid_t *spared, size_t spared_len);

#endif
