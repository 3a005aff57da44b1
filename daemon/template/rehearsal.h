/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rehearsal: the daemon's own no-op in a READY VM, on the path that a user's code takes.
 *
 * Theory of operation: a list of steps, one after the other: run the language's no-op program and
 * check what came out, or have interpreters wait (PREPARE). It fills caches in a template, makes
 * QEMU translate the code that a run executes in a clone, and proves that the interpreter works
 * before anybody waits for it. The rehearsal is the VM's client while it lasts.
 */
#ifndef DAEMON_TEMPLATE_REHEARSAL_H
#define DAEMON_TEMPLATE_REHEARSAL_H

#include "daemon/vm/vm.h"

#define REHEARSAL_STEPS_MAX 6

enum rehearsal_kind {
	REHEARSAL_END,     /* of the list */
	REHEARSAL_RUN,     /* the no-op, by a waiting interpreter if one is there */
	REHEARSAL_PREPARE, /* `count` interpreters shall wait */
	REHEARSAL_SETTLE, /* for `count` ms the guest tidies up: it would do so in the user's run */
};

struct rehearsal_step {
	enum rehearsal_kind kind;
	unsigned count;
};

/* error NULL: all steps succeeded and the VM is READY again; else the VM is to be stopped (it may
 * have failed already, which its owner does not hear of again). */
typedef void (*rehearsal_done_fn)(void *user, struct rpc_error *error_take);

struct rehearsal {
	const struct vm_host *host;
	struct vm *vm; /* NULL when it is over */
	const struct rehearsal_step *steps;
	rehearsal_done_fn on_done;
	void *user;
	char output[16];
	size_t output_len;
	ev_timer deadline, settled;
};

/* What to do with a VM that has just booted to become a template of `language`. */
const struct rehearsal_step *rehearsal_for_template(const char *language);

/* The same as a new array of words: clones count on what their template went through. */
json_t *rehearsal_recipe(const char *language);

/* What to do with a fresh clone of one to make it warm. */
const struct rehearsal_step *rehearsal_for_clone(const char *language);

/* Starts. on_done may come from inside this call when the VM takes no message. `steps` outlive it.
 */
void rehearsal_start(struct rehearsal *rehearsal, const struct vm_host *host, struct vm *vm,
		     const struct rehearsal_step *steps, rehearsal_done_fn on_done, void *user);

/* Gives up without a callback; the VM is left as it is. Harmless when over or never started. */
void rehearsal_cancel(struct rehearsal *rehearsal);

#endif
