/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balloon of one VM, driven over QMP: its target, its actual size, the guest's statistics.
 *
 * Theory of operation: a balloon moves in the guest's own time, or never. balloon_set() sets the
 * target and follows BALLOON_CHANGE events and a timer until it is reached, or another target or
 * the end of the VM takes its place; how long that may take its owner knows (memory/mover.h).
 * "Size" is the memory the guest keeps, as QEMU's `balloon` command means it. What the guest says
 * of itself (statistics) is a claim. Sources: QEMU docs/interop/virtio-balloon-stats.rst,
 * qapi/machine.json.
 *
 * QEMU does not tell a target, only the actual size. That of a VM which was adopted is therefore
 * taken for where its balloon is, until the first one is set here: what it lacks shows, and it is
 * given back.
 */
#ifndef DAEMON_VM_BALLOON_H
#define DAEMON_VM_BALLOON_H

#include "base/loop.h"
#include "daemon/vm/qmp.h"

#include <stdbool.h>
#include <stdint.h>

/* What the guest's driver reports; 0 where it says nothing. Bytes. */
struct balloon_stats {
	uint64_t total, free, available, caches, swap_in, swap_out;
	uint64_t updated_s;   /* QEMU's clock when the guest answered; 0 = never */
	uint64_t received_us; /* now_us() when we first saw this answer */
};

/* 0: reached; -ECANCELED: another target was set, or the VM is ending; -errno of QMP. */
typedef void (*balloon_done_fn)(void *user, int error, uint64_t actual_bytes);

struct balloon {
	struct loop *loop;
	struct qmp *qmp;
	uint64_t size_bytes;    /* of the VM */
	uint64_t actual_bytes;  /* last known */
	uint64_t target_bytes;  /* last set */
	bool is_target_unknown; /* an earlier daemon set it: taken for where the balloon is */
	struct balloon_stats stats;
	double interval_seconds;
	bool is_polling; /* the guest is asked for statistics */
	ev_timer poll;

	balloon_done_fn on_done; /* non-NULL while an operation runs */
	void *user;
	unsigned unanswered; /* `balloon` commands */
	ev_timer progress;
};

/* Starts asking the guest for statistics and QEMU for them, every interval. The link must be ready.
 */
void balloon_start(struct balloon *balloon, struct loop *loop, struct qmp *qmp, uint64_t size_bytes,
		   double interval_seconds);

/* Behind balloon_start(), for a VM whose balloon an earlier daemon has moved: asks where it is. */
void balloon_adopt(struct balloon *balloon);

/* Stops timers; a running operation ends with -ECANCELED. Safe when never started. */
void balloon_stop(struct balloon *balloon);

/*
 * Sets the target; `on_done` (not NULL) comes from the loop. An operation that is under way ends
 * with -ECANCELED inside this call. 0, or -errno of QMP, and then nothing has changed.
 */
int balloon_set(struct balloon *balloon, uint64_t target_bytes, balloon_done_fn on_done,
		void *user);

/* The operation under way ends with -ECANCELED; the target stays. Harmless without one. */
void balloon_cancel(struct balloon *balloon);

/* A BALLOON_CHANGE event said so. */
void balloon_changed(struct balloon *balloon, uint64_t actual_bytes);

#endif
