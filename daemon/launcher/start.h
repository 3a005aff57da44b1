/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a launcher without a service manager: its socket, its program, its process.
 *
 * The socket stays open in the daemon and in every launcher: one of them is enough for the next
 * daemon to find it, and a launcher that dies is followed by another on the same socket, also where
 * the runtime directory is not the daemon's to write.
 */
#ifndef DAEMON_LAUNCHER_START_H
#define DAEMON_LAUNCHER_START_H

#include "base/util.h"

/* Its first word in the list of processes, behind a path or not. */
#define LAUNCHER_PROGRAM "execsandbox-launcher"

/* Does somebody listen on the socket in that directory? */
bool launcher_is_there(int runtime_fd);

/* Makes the socket anew, mode 0600, for whom `owner` is; (uid_t)-1: for us. Its descriptor, or
 * -errno. */
int launcher_listen(int runtime_fd, uid_t owner);

/* The program: beside our own one, or where it is installed. An O_PATH descriptor, which also works
 * for a user who cannot reach its directory, or -errno. */
int launcher_program_open(void);

struct launcher_start {
	int program_fd, listen_fd, runtime_fd;
	const char *runtime_dir; /* for who looks at the process list */
};

/*
 * Starts it as nobody's child, in a session of its own. Blocks until the exec has happened or
 * failed. Sets our end of a connection to it. 0 or -errno.
 */
int launcher_start(const struct launcher_start *start, int *ret_fd);

#endif
