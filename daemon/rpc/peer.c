/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials of a Unix socket's peer. */
#include "daemon/rpc/peer.h"

#include "base/util.h"

#include <errno.h>
#include <sys/socket.h>

/* Supplementary groups of a process (NGROUPS_MAX in linux/limits.h). */
#define GROUPS_MAX 65536u

/* Whether `gid` is among the peer's supplementary groups. 1, 0 or -errno. */
static int has_group(int fd, gid_t gid)
{
	gid_t few[32];
	_cleanup_free_ char *many = NULL;
	gid_t *groups = few;
	socklen_t size = sizeof(few);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0) {
		if (errno != ERANGE || size > GROUPS_MAX * sizeof(gid_t))
			return -errno;
		many = malloc(size);
		if (!many)
			return -ENOMEM;
		groups = (gid_t *)many;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
			return -errno;
	}
	for (size_t i = 0; i < size / sizeof(gid_t); i++)
		if (groups[i] == gid)
			return 1;
	return 0;
}

int rpc_peer_read(int fd, gid_t admin_gid, struct rpc_peer *ret)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);
	int is_member = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	if (cred.uid != 0 && admin_gid != RPC_NO_GID)
		is_member = cred.gid == admin_gid ? 1 : has_group(fd, admin_gid);
	if (is_member < 0)
		return is_member;
	*ret = (struct rpc_peer){
		.pid = cred.pid,
		.uid = cred.uid,
		.gid = cred.gid,
		.is_admin = cred.uid == 0 || is_member > 0,
	};
	return 0;
}
