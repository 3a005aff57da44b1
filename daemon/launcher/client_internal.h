/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the launcher's client share: client.c (connection), launch.c (one process). */
#ifndef DAEMON_LAUNCHER_CLIENT_INTERNAL_H
#define DAEMON_LAUNCHER_CLIENT_INTERNAL_H

#include "daemon/launcher/client.h"
#include "daemon/launcher/packet.h"
#include "daemon/launcher/vm_dir.h"

struct launcher {
	struct loop *loop;
	struct launcher_config config;
	int fd;    /* -1: lost */
	int error; /* launcher_error() */
	int listen_fd, program_fd;
	ev_io reader;
	ev_timer again;
	char cgroup[8];
	pid_t pid;
	bool is_synced;
	bool is_ending; /* it is of another version and was told to end */
	bool is_hung;   /* it has not answered in time, and not spoken since */
	struct launch *launches;
};

/* What is known of a process, and what its owner has heard, in this order. */
enum launch_news {
	LAUNCH_PID = 1 << 0,
	LAUNCH_END = 1 << 1,
	LAUNCH_GONE = 1 << 2,
};

struct launch {
	struct launcher *launcher;
	struct launch *next;
	char id[VM_DIR_NAME_SIZE];
	const struct proc_ops *ops; /* NULL: nobody's yet, or destroyed */
	void *user;
	unsigned known, told; /* of launch_news */
	bool is_kill_wanted, is_kill_sent;
	pid_t pid;   /* 0 = unknown */
	int pidfd;   /* from then to the end */
	ev_io watch; /* its end, once no launcher tells it */
	struct proc_status status;
	struct defer telling, freeing;
	char stderr_tail[PROC_STDERR_SIZE + 1];
};

/* Connects if there is no connection, without waiting for the hello. 0 or -errno. */
int launcher_open(struct launcher *launcher);

/* As packet_send(); a connection that is broken is lost afterwards. */
int launcher_send(struct launcher *launcher, const json_t *json, const int *fds, size_t n_fds);

/* Waits for a packet and takes it. 0; -ETIMEDOUT; or another -errno, with the connection lost. */
int launcher_wait(struct launcher *launcher, uint64_t until_us);

struct launch *launch_find(const struct launcher *launcher, const char *id);

/* NULL without memory. Without ops it is nobody's yet. */
struct launch *launch_new(struct launcher *launcher, const char *id, const struct proc_ops *ops,
			  void *user);

/* A packet about it has come. */
void launch_take(struct launch *launch, const char *type, struct packet *packet);

/* The launcher is gone: it ends as soon as its process has. */
void launch_orphan(struct launch *launch);

/* Alive, and nobody's. */
bool launch_is_foreign(const struct launch *launch);

/* Sends the kills that the socket did not take. */
void launch_resend_kills(struct launcher *launcher);

/* Takes it off the list and frees it, in the loop's time. */
void launch_forget(struct launch *launch);

#endif
