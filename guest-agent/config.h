/* SPDX-License-Identifier: Apache-2.0 */
/* How this agent runs: as PID 1 of a VM, or as an ordinary process of a test. */
#ifndef GUEST_AGENT_CONFIG_H
#define GUEST_AGENT_CONFIG_H

#include <stdbool.h>
#include <sys/types.h>

struct agent_config {
	bool is_init; /* PID 1: owns the machine and may change its clock, mounts and names */
	const char *socket_path; /* listens there instead of using the virtio port; or NULL */
	int fd;                  /* a socket, listening or connected, instead of it; or -1 */
	const char *home;        /* where programs live */
	const char *runners;
	const char *drop_path;   /* what drops this machine's caches; NULL: not its to drop */
	const char *cgroup_root; /* a cgroup v2 directory; NULL: do without */
	bool change_user;
	uid_t uid; /* of user code, and its group */
};

#endif
