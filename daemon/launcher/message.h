/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What daemon and launcher say to each other, as packets (packet.h).
 *
 *   to the launcher
 *     spawn {id, argv, limits, oom_score_adj, no_huge_pages, has_info_fd, cgroup} and descriptors:
 *           the child's from PROC_FD_FIRST on, then the jail's info pipe
 *     kill {id}
 *     bye {}: the daemon ends in order. A launcher without VMs ends as well
 *     end {}: kill all and end. Of all versions, for it is said to one of another version
 *   from it
 *     hello {version, cgroup, pid}, with the listening socket where the daemon is to keep it.
 *           Type and version are of all versions
 *     vm {id, pid} for each that lives, with its pidfd once the pid is known; then synced {}
 *     spawned {id} or failed {id, errno}
 *     pid {id, pid} with the pidfd; end {id, stderr, oom_kill}
 *     gone {id, end, code, stderr, oom_kill}: the last word about it
 */
#ifndef DAEMON_LAUNCHER_MESSAGE_H
#define DAEMON_LAUNCHER_MESSAGE_H

#include "daemon/launcher/leaf.h"
#include "daemon/launcher/packet.h"
#include "daemon/launcher/vm_dir.h"

/* Raised with a change that the other end must know of. An upgrade then ends all sessions, which
 * conf/debian/changelog tells the admin. */
#define LAUNCHER_VERSION 1
#define LAUNCHER_SOCKET  "launcher.sock"

/* Of a spawn: more are a bug of the daemon. */
#define MESSAGE_LIMITS_MAX 16

/* A spawn as it came. argv points into the packet's JSON. */
struct spawn_request {
	char id[VM_DIR_NAME_SIZE];
	char **argv;
	struct proc_fds fds;
	struct proc_limit limits[MESSAGE_LIMITS_MAX];
	struct proc_spec spec; /* points at the above */
	struct leaf_limits leaf;
};

/* {"type": type, "id": id} */
json_t *message_new(const char *type, const char *id);

/* The spawn of a spec, without its descriptors. NULL without memory, or when a word is not UTF-8.
 */
json_t *message_spawn(const char *id, const struct proc_spec *spec, const struct leaf_limits *leaf);

/*
 * Reads a spawn. The descriptors stay the packet's, but for spec.info_fd_take. 0, -ENOMEM, or
 * -EBADMSG. spawn_request_fini() in every case. The request must not be moved.
 */
int message_read_spawn(struct packet *packet, struct spawn_request *ret);
void spawn_request_fini(struct spawn_request *request);

/* What a child said, as JSON takes it: bytes that are no ASCII text become '?'. */
json_t *message_text(const char *text);

#endif
