/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon needs from the file system before it serves: its directories, locked, and its
 * socket.
 *
 * Runs before privileges are dropped, so that directories the unprivileged user cannot reach by
 * path can be held open. The lock is what tells two daemons apart; what a killed one left behind is
 * found under it (recovery.h).
 */
#ifndef DAEMON_SETUP_H
#define DAEMON_SETUP_H

#include "conf/config.h"

#include <sys/types.h>

struct setup {
	int runtime_fd; /* holds the lock */
	int vms_fd;     /* <runtime_dir>/vm: what an earlier daemon has left is in there */
	int results_fd; /* <runtime_dir>/results, the same */
	int lock_fd;
	int listen_fd;           /* of our own socket; -1 when systemd passed one */
	int socket_dir_fd;       /* where it lies */
	int images_fd;           /* the images' directory, or -1 when there is none yet */
	int templates_fd;        /* <state_dir>/templates */
	int launcher_listen_fd;  /* the launcher's socket; -1 when one listens already */
	int launcher_program_fd; /* the program, or -1; both are -1 without `own_socket` */
	gid_t admin_gid;         /* RPC_NO_GID without an admin group */
};

#define SETUP_NONE                                                                                \
	{                                                                                         \
		.runtime_fd = -1, .vms_fd = -1, .results_fd = -1, .lock_fd = -1, .listen_fd = -1, \
		.socket_dir_fd = -1, .images_fd = -1, .templates_fd = -1,                         \
		.launcher_listen_fd = -1, .launcher_program_fd = -1                               \
	}

/*
 * Makes directories (owned by the configured user when we are root) and takes the lock; with
 * `own_socket` also binds the configured socket, mode 0660, group socket_group when we are root,
 * and the launcher's where nobody listens: otherwise both are the service manager's. 0, or -errno
 * after the reason was logged.
 */
int setup_prepare(const struct config *config, bool own_socket, struct setup *ret);

/* Removes our own socket and closes everything. */
void setup_finish(const struct config *config, struct setup *setup);

#endif
