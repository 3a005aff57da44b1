/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher: parent of all jails, which outlives the daemon.
 *
 * Theory of operation: one loop, a socket that listens, at most one daemon connected, and a list of
 * children. A child is started as the daemon asks, in a control group of its own, watched (proc.h)
 * and reaped. What the daemon is to hear of a child is kept as a set of flags at the child and
 * sent when the socket takes it: a daemon that is slow costs no memory and loses nothing, and one
 * that connects anew is simply owed everything.
 *
 * The daemon may die at any time: children go on, and the next daemon is told of all that live.
 * When none comes within `orphan_seconds` all are killed and their directories removed. With no
 * daemon and no child the launcher ends after a short grace.
 *
 * Children die with the launcher (PR_SET_PDEATHSIG).
 */
#ifndef DAEMON_LAUNCHER_SERVER_H
#define DAEMON_LAUNCHER_SERVER_H

#include "base/loop.h"

struct server;

struct server_config {
	struct loop *loop;
	int runtime_fd;     /* borrowed: the runtime directory */
	int listen_fd;      /* borrowed */
	int daemon_fd_take; /* a daemon that is connected already, or -1 */
	bool is_by_daemon;  /* the daemon keeps the socket as well, to start the next launcher */
	double orphan_seconds;
	size_t children_max; /* a spawn beyond is answered `failed`, with EAGAIN */
};

/* Reaps what another launcher left, finds its control group, and serves; when its work is over it
 * stops the loop. 0 or -errno. */
int server_create(const struct server_config *config, struct server **ret);

/* Has all children killed; the loop is stopped when they are gone. */
void server_end(struct server *server);

/* Has the last daemon said that it ends, and none come since? Then nobody uses the socket. */
bool server_is_bidden(const struct server *server);

/* Kills what still lives, waits for it, and frees everything. */
void server_destroy(struct server *server);

#endif
