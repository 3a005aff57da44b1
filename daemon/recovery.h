/* SPDX-License-Identifier: Apache-2.0 */
/* The start after another daemon: the launcher is found, or started. What it has left goes on in
 * session/adoption.h. */
#ifndef DAEMON_RECOVERY_H
#define DAEMON_RECOVERY_H

#include "daemon/daemon.h"

/*
 * Connects daemon->vm_host.launcher, with the user the daemon runs as; takes the launcher's
 * descriptors of `fds` in every case. 0, or -errno after the reason was logged.
 */
int recovery_start(struct daemon *daemon, const struct daemon_fds *fds);

#endif
