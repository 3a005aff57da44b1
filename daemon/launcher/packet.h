/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets between daemon and launcher: one JSON object each, and descriptors beside it.
 *
 * A packet is one message of a SOCK_SEQPACKET socket: the kernel keeps its borders, so there is
 * nothing to frame. Descriptors come by SCM_RIGHTS (unix(7)). Both ends are ours and of one uid;
 * sizes are capped and duplicate keys refused all the same.
 */
#ifndef DAEMON_LAUNCHER_PACKET_H
#define DAEMON_LAUNCHER_PACKET_H

#include "daemon/launcher/proc.h"

#include <jansson.h>

/* A spawn with bubblewrap's and QEMU's words has about 8 kB. A socket's buffer holds several. */
#define PACKET_SIZE_MAX 65536
/* A child's, and the reading end of the jail's info pipe. */
#define PACKET_FDS_MAX (PROC_FDS_MAX + 1)

struct packet {
	json_t *json;
	int fds[PACKET_FDS_MAX]; /* CLOEXEC */
	size_t n_fds;
	bool is_cut; /* descriptors were lost: we have no numbers left for them */
};

#define PACKET_NONE                                       \
	{                                                 \
		.json = NULL, .n_fds = 0, .is_cut = false \
	}

/* Frees it and closes what was not taken. */
void packet_clear(struct packet *packet);

/* Takes a descriptor out; -1 when there is none at that place. */
int packet_take_fd(struct packet *packet, size_t i);

/*
 * Sends without waiting. 0; -EAGAIN when the peer is behind; -EMSGSIZE over PACKET_SIZE_MAX;
 * one that packet_is_scarcity() knows, as -ENOMEM, when it may be tried again later; -EPIPE or
 * another -errno when it is gone. The descriptors stay the caller's.
 */
int packet_send(int fd, const json_t *json, const int *fds, size_t n_fds);

/* Whether an error is no fault of the connection's: memory, or too many descriptors on their way.
 */
bool packet_is_scarcity(int error);

/* Receives one without waiting: 1; 0 at the peer's end; -EAGAIN; -ENOMEM: it is there still;
 * -EBADMSG for anything but an object within the limits; or another -errno. */
int packet_receive(int fd, struct packet *ret);

/* Members of an object; NULL, and 0, for what is missing or of another type. */
const char *packet_string(const json_t *json, const char *key);
json_int_t packet_number(const json_t *json, const char *key);

#endif
