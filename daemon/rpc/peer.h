/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end of a Unix socket, and whether that makes them an admin. */
#ifndef DAEMON_RPC_PEER_H
#define DAEMON_RPC_PEER_H

#include <stdbool.h>
#include <sys/types.h>

/* No admin group is configured. */
#define RPC_NO_GID ((gid_t)-1)

struct rpc_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	bool is_admin; /* uid 0, or member of the admin group; the daemon's own uid means nothing */
};

/*
 * Reads the credentials the peer had when it connected (unix(7): SO_PEERCRED, SO_PEERGROUPS).
 * 0 or -errno.
 */
int rpc_peer_read(int fd, gid_t admin_gid, struct rpc_peer *ret);

#endif
