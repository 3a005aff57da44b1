/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the launcher's server share: server.c, and tell.c (what is sent). */
#ifndef DAEMON_LAUNCHER_SERVER_INTERNAL_H
#define DAEMON_LAUNCHER_SERVER_INTERNAL_H

#include "daemon/launcher/leaf.h"
#include "daemon/launcher/packet.h"
#include "daemon/launcher/server.h"
#include "daemon/launcher/vm_dir.h"

/* What the daemon has not heard yet of a child, in the order in which it is told. */
enum owed {
	OWES_VM = 1 << 0, /* that it lives: to a daemon that has just connected */
	OWES_SPAWNED = 1 << 1,
	OWES_FAILED = 1 << 2,
	OWES_PID = 1 << 3,
	OWES_END = 1 << 4,
	OWES_GONE = 1 << 5,
};

struct child {
	struct child *next;
	struct server *server;
	char id[VM_DIR_NAME_SIZE];
	struct proc *proc; /* NULL when it could not be started */
	int error;         /* then: why */
	unsigned owed;
	bool is_gone, is_oom_kill;
	struct proc_status status;
};

struct server {
	struct server_config config;
	struct leaves leaves;
	struct child *children;
	size_t n_children;
	struct child *reserve; /* there before a packet is read: no spawn is without an answer */
	int daemon_fd;         /* -1: none is connected */
	bool owes_hello, owes_synced;
	bool is_ending;
	bool is_resting; /* no connection can be accepted: was said */
	bool is_bidden;  /* the last daemon has ended in order: no other is waited for */
	ev_io listener, reader, writer;
	ev_timer idle, orphan, sweep, again, reap_again;
};

/*
 * Each is 0 when the daemon has been told, or -errno as packet_send(); what is not told stays owed.
 * A child's news in order: -errno when the rest must wait.
 */
int tell_hello(struct server *server);
int tell_child(struct child *child);
int tell_synced(struct server *server);

#endif
