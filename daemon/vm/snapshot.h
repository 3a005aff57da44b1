/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's devices, saved from one QEMU and loaded into another, over QMP.
 *
 * Theory of operation: QEMU's migration stream without the memory (`x-ignore-shared`: the memory is
 * a file both map) goes through a pipe, whose other end QEMU gets with `getfd`. A pipe and not a
 * file: QEMU 9.1 deprecates and 11 refuses `fd:` on a file. Saving stops the vCPU first and ends
 * with the stream whole and MIGRATION completed; the QEMU is of no more use then. Loading needs a
 * QEMU started with `-incoming defer`; it ends with its vCPU stopped, as it was saved. One
 * operation at a time. Sources: QEMU docs/devel/migration.rst, qapi/migration.json.
 */
#ifndef DAEMON_VM_SNAPSHOT_H
#define DAEMON_VM_SNAPSHOT_H

#include "daemon/vm/qmp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* error 0, or -errno with what failed in `why` (valid during the call): -EOPNOTSUPP when this QEMU
 * has no x-ignore-shared. */
typedef void (*snapshot_done_fn)(void *user, int error, const char *why);

struct snapshot {
	struct loop *loop;
	struct qmp *qmp;
	snapshot_done_fn on_done; /* non-NULL while an operation runs */
	void *user;
	int pipe_fd;   /* our end */
	int remote_fd; /* QEMU's end, until it has it */
	ev_io io;
	ev_timer deadline;
	uint8_t *saved;         /* saving: what came; snapshot_take() */
	const uint8_t *loading; /* loading: borrowed */
	size_t len, done;
	bool has_stream, has_completed;
};

/* `loop` outlives the snapshot. */
void snapshot_init(struct snapshot *snapshot, struct loop *loop);

/* Ends an operation without its callback. Frees what was saved and not taken. */
void snapshot_fini(struct snapshot *snapshot);

/* Both: 0 and on_done comes from the loop, or -errno. */
int snapshot_save(struct snapshot *snapshot, struct qmp *qmp, snapshot_done_fn on_done, void *user);
int snapshot_load(struct snapshot *snapshot, struct qmp *qmp, const uint8_t *state, size_t len,
		  snapshot_done_fn on_done, void *user);

/* A MIGRATION event came. */
void snapshot_event(struct snapshot *snapshot, const json_t *data);

/* What was saved, the caller's to free(). */
uint8_t *snapshot_take(struct snapshot *snapshot, size_t *ret_len);

#endif
