/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files between this machine and a session, in pieces.
 *
 * Theory of operation: a copy is a row of requests of which some are in flight at a time, so that
 * the link to the guest is busy; their replies come in the order in which they were sent, for a
 * session does its file operations one after the other. copy_run() asks the direction (copy_up.c,
 * copy_down.c) for the next request whenever there is room for one, and ends when there is none
 * left or at the first error: nothing more is sent then, and replies that still come are nobody's.
 *
 * A file that is larger than a piece is one request with a socket, over which its bytes go without
 * JSON (pour.h). Not all of those who relay connections pass descriptors on: when the daemon has
 * none, such files go in pieces, and so do pipes. Memory is bounded by the pieces in flight,
 * whatever the size of the files.
 */
#ifndef CTL_COPY_H
#define CTL_COPY_H

#include "ctl/copy_plan.h"
#include "ctl/progress.h"

/* Bytes of a piece: as base64 far below what one message may hold. */
#define COPY_PIECE (1u << 20)
/* Pieces, or files that are smaller, in flight. */
#define COPY_WINDOW CLIENT_PENDING_MAX

enum copy_step {
	COPY_SENT,  /* a request was sent, or work was done: ask again */
	COPY_WAITS, /* for a reply, or for input: then copy_go_on() */
	COPY_DONE,  /* nothing is left to send */
};

struct copy {
	struct ctl *ctl;
	const char *session;
	const char *local_name; /* what messages call the root on this machine */
	const struct plan *plan;
	struct progress progress;
	enum copy_step (*step)(void *user);
	void *user;
	int status; /* EXIT_OK until the first error */
	bool is_done;
	bool lacks_descriptors; /* what is passed does not come to the daemon */
	size_t in_flight;
	struct copy_request {
		struct copy *copy;
		void (*fn)(void *user, const json_t *result); /* NULL: free */
		void *user;
	} requests[COPY_WINDOW];
};

/* Runs it to its end; ctl is connected. Exit status, after the reason was printed. */
int copy_run(struct copy *copy);

/* For step(): sends a request. `fn` hears of the result; errors end the copy. */
enum copy_step copy_send(struct copy *copy, const char *method, json_t *params_take,
			 void (*fn)(void *user, const json_t *result), void *user);

/* The same with a descriptor. `fn` gets NULL when that did not come to the daemon. */
enum copy_step copy_send_passing(struct copy *copy, const char *method, json_t *params_take,
				 int fd_take, void (*fn)(void *user, const json_t *result),
				 void *user);

/* For step(), and for callbacks: an error with the local file `path` below the root ends the copy;
 * `error` is the reason, 0 when `what` says all. */
enum copy_step copy_fail(struct copy *copy, const char *what, const char *path, int error);

/* The same: what is copied has become another one. */
enum copy_step copy_changed(struct copy *copy, const char *path);

/* What step() was waiting for is there. */
void copy_go_on(struct copy *copy);

/* Parameters of an operation on the file `path` below `root` in the session. */
json_t *copy_params(const struct copy *copy, const char *root, const char *path);

/* Copies what is planned of `root_fd`, a directory or a file, to `path` in the session; with
 * `is_there` that is a directory already. Exit status. */
int copy_up(struct copy *copy, int root_fd, const char *path, bool is_there);

/* Where a copy lands: as `name` in `dir_fd`; with an empty name in `dir_fd` itself, which is for
 * directories; or in `stream_fd` unless that is -1, which is for files. */
struct landing {
	int dir_fd, stream_fd;
	char *name;
};

/* Copies what is planned of `path` in the session to where it lands. Exit status. */
int copy_down(struct copy *copy, const char *path, const struct landing *landing);

#endif
