/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An asynchronous QMP client on a connected socket (QEMU: docs/interop/qmp-spec.txt).
 *
 * Theory of operation: QEMU greets, we send qmp_capabilities, its answer makes the link ready.
 * Commands then run side by side, each in a slot; a reply belongs to the slot with its id and to
 * nothing else, so one that comes after its deadline is dropped. Every slot is answered exactly
 * once: by its reply, its deadline, or the end of the link. QEMU is not trusted: a line that is too
 * long or no JSON object ends the link.
 *
 * States:                       allowed
 *   GREETING     waiting for QEMU's first line
 *   NEGOTIATING  qmp_capabilities is out
 *   READY        qmp_command
 *   CLOSED       nothing more happens
 */
#ifndef DAEMON_VM_QMP_H
#define DAEMON_VM_QMP_H

#include "base/loop.h"

#include <jansson.h>
#include <stdint.h>

/* query-qmp-schema answers 200 KB, the longest reply we ask for. */
#define QMP_LINE_MAX  (1024u * 1024)
#define QMP_SLOTS_MAX 64

struct qmp_error {
	/* -EREMOTEIO: QEMU refused; -ETIMEDOUT: deadline; -EPIPE: link ended; -ECANCELED: qmp was
	 * destroyed. */
	int error;
	const char *class; /* QEMU's, "GenericError" …; "" when QEMU did not answer */
	const char *desc;  /* QEMU's words, or ours; valid during the call */
};

/* The answer to one command: `ret` is borrowed and not NULL on success, when `error` is NULL; else
 * the other way round. */
typedef void (*qmp_done_fn)(void *user, const json_t *ret, const struct qmp_error *error);

struct qmp_ops {
	/* Commands may be sent. Once. */
	void (*on_ready)(void *user);
	/* An event; data is NULL or an object; the time is QEMU's host clock since the epoch. */
	void (*on_event)(void *user, const char *name, const json_t *data, uint64_t time_us);
	/* The link ended by itself: 0 when QEMU closed, -EPROTO for nonsense, -ETIMEDOUT when the
	 * handshake was too slow, or the descriptor's error. Once, last, after all slots failed. */
	void (*on_end)(void *user, int error);
};

struct qmp;

/*
 * Starts the handshake on `fd_take`, which must end within handshake_ms. `object` names the link in
 * debug lines. 0, or -ENOMEM (the descriptor is closed).
 */
int qmp_create(struct loop *loop, const char *object, int fd_take, uint32_t handshake_ms,
	       const struct qmp_ops *ops, void *user, struct qmp **ret);

/*
 * Ends the link: open commands are answered -ECANCELED in order, on_end is not called. Safe in
 * every callback (memory goes with loop_defer). NULL is fine.
 */
void qmp_destroy(struct qmp *qmp);

/*
 * Sends a command; on_done (which may be NULL) comes within deadline_ms, never from inside this
 * call. Consumes args_take (NULL = none) in every case. 0; -ENOTCONN when not ready; -ENOBUFS with
 * QMP_SLOTS_MAX open or too much unsent; -ENOMEM.
 */
int qmp_command(struct qmp *qmp, const char *name, json_t *args_take, uint32_t deadline_ms,
		qmp_done_fn on_done, void *user);

/*
 * The same with a descriptor for QEMU (`getfd`, `add-fd`), which stays the caller's. Also -EAGAIN
 * while earlier bytes wait to be sent: the descriptor has to travel with its own command.
 */
int qmp_command_fd(struct qmp *qmp, const char *name, json_t *args_take, int fd,
		   uint32_t deadline_ms, qmp_done_fn on_done, void *user);

#endif
