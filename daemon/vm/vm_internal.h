/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of one VM share: vm.c (life), vm_start.c (the way to READY). */
#ifndef DAEMON_VM_VM_INTERNAL_H
#define DAEMON_VM_VM_INTERNAL_H

#include "daemon/vm/console.h"
#include "daemon/vm/snapshot.h"
#include "daemon/vm/vm.h"
#include "daemon/vm/vm_spawn.h"

#include <errno.h>

/* QEMU's main loop may be busy restoring or translating; its worst so far was 50 ms. */
#define VM_COMMAND_MS 5000

struct vm {
	struct vm_host *host;
	struct vm *next;
	char id[VM_ID_SIZE];
	char language[32];
	struct vm_spec spec;
	enum vm_state state;
	uint64_t created_ns, created_us, loaded_us, start_us;

	const struct vm_ops *ops;
	const struct vm_client_ops *client_ops;
	void *user, *client;

	struct launch *launch;
	struct qmp *qmp;
	struct agent_link *link;         /* NULL until then: */
	int agent_fd;                    /* connected to the agent's port */
	int listening_fds[VM_LISTENING]; /* until QMP is there; then -1 */
	struct console console;
	struct balloon balloon;
	struct snapshot snapshot;
	struct vm_telemetry telemetry;
	struct memory_vm *memory;
	uint64_t rest_us; /* 0: code runs, or nobody's */
	bool is_halted;
	bool has_machine, has_agent; /* the two halves of READY */
	/* Of an adopted VM: what is here of its outputs, until the link has it; the marker its
	 * agent watches for; and what that has said, while the owner hears of it. */
	json_t *received;
	uint8_t sync[FRAME_MARKER_SIZE];
	const struct msg_hello_reply *hello;
	bool is_adopted;
	ev_timer start_deadline;
	ev_timer end_deadline; /* QMP has closed: the process ends by then */
	struct defer fail_later, free_later;
	struct rpc_error *error; /* on its way to the owner or client */
};

void vm_set_state(struct vm *vm, enum vm_state state);

/* Did the command fail only because QEMU ended? Then the process's end has the better reason. */
static inline bool vm_is_end(int error)
{
	return error == -EPIPE;
}

/*
 * The VM cannot go on. Callable from every callback: whoever waits for the VM hears it from the
 * loop. The code of a VM with a client says that the outcome is unknown; without one, nothing was
 * dispatched.
 */
void vm_fail(struct vm *vm, enum rpc_code code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Starts the vCPU; a QEMU that refuses or does not answer fails the VM. 0 or -errno. */
int vm_continue(struct vm *vm);

/* How long its way to READY may take. */
double vm_start_seconds(const struct vm *vm);

/* 3004 with a client, 3003 without. */
enum rpc_code vm_lost_code(const struct vm *vm);

/* Connects QMP, console and agent of a QEMU that was just spawned, and goes on to READY. 0 or
 * -errno. */
int vm_start_links(struct vm *vm, struct vm_sockets *sockets);

/* The same for one that an earlier daemon has left. */
int vm_start_adopted(struct vm *vm, struct vm_sockets *sockets);

#endif
