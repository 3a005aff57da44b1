/* SPDX-License-Identifier: Apache-2.0 */
/* The way of one VM to READY: QMP on one side, the agent on the other, step by step. */
#include "base/log.h"
#include "daemon/vm/vm_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* From the end of QMP to the end of QEMU: the memory of a large VM takes a while to go. */
#define END_SECONDS 5.
/* A guest that is up has only to answer, and has a share of the host until it is given up: shorter
 * than a boot, long enough for one that has to be swapped in. */
#define ANSWER_SECONDS 10.

double vm_start_seconds(const struct vm *vm)
{
	double seconds = vm->host->boot_timeout_seconds;

	return vm->is_adopted ? MIN(seconds, ANSWER_SECONDS) : seconds;
}

static void become_ready(struct vm *vm)
{
	if (!vm->has_machine || !vm->has_agent)
		return;
	vm->host->failed_boots = 0;
	loop_timer_stop(vm->host->loop, &vm->start_deadline);
	if (!vm->is_adopted)
		vm->start_us = now_us() - vm->created_us;
	vm_set_state(vm, VM_READY);
	vm->ops->on_ready(vm->user);
}

/* Without this a client would wait for code that never ran until its own deadline. */
static void on_continued(void *user, const json_t *ret UNUSED, const struct qmp_error *error)
{
	struct vm *vm = user;

	if (error && !vm_is_end(error->error))
		vm_fail(vm, vm_lost_code(vm), "cannot continue: %s", error->desc);
}

int vm_continue(struct vm *vm)
{
	return qmp_command(vm->qmp, "cont", NULL, VM_COMMAND_MS, on_continued, vm);
}

/* It reads the HELLO that waits on its port. */
static void proceed(struct vm *vm)
{
	int r = vm_continue(vm);

	if (r < 0) {
		vm_fail(vm, RPC_VM_TRANSIENT, "cannot continue: %s", strerror(-r));
		return;
	}
	vm->has_machine = true;
	become_ready(vm);
}

/* The clone's devices are there. */
static void on_loaded(void *user, int error, const char *why)
{
	struct vm *vm = user;

	if (error < 0) {
		if (!vm_is_end(error))
			vm_fail(vm, RPC_VM_TRANSIENT, "cannot load the template's state: %s (%s)",
				why, strerror(-error));
		return;
	}
	if (vm->spec.is_waiting) {
		loop_timer_stop(vm->host->loop, &vm->start_deadline);
		vm->loaded_us = now_us();
		vm_set_state(vm, VM_LOADED);
		vm->ops->on_loaded(vm->user);
		return;
	}
	proceed(vm);
}

static int open_link(struct vm *vm);

/* It may have been stopped while it rested; it is READY when its agent has answered. */
static void take_up(struct vm *vm)
{
	int r = vm_continue(vm);

	if (r == 0)
		r = open_link(vm);
	if (r < 0)
		vm_fail(vm, RPC_VM_LOST, "cannot be adopted: %s", strerror(-r));
	else
		vm->has_machine = true;
}

static void on_qmp_ready(void *user)
{
	struct vm *vm = user;
	int r;

	vm_widen_queues(vm->listening_fds);
	if (vm->is_adopted) {
		take_up(vm);
		return;
	}
	if (vm->spec.start != QEMU_CLONE) {
		vm->has_machine = true;
		become_ready(vm);
		return;
	}
	r = snapshot_load(&vm->snapshot, vm->qmp, vm->spec.image->state, vm->spec.image->state_len,
			  on_loaded, vm);
	if (r < 0)
		vm_fail(vm, RPC_VM_TRANSIENT, "cannot load the template's state: %s", strerror(-r));
}

static void on_qmp_event(void *user, const char *name, const json_t *data, uint64_t time_us UNUSED)
{
	struct vm *vm = user;

	if (strcmp(name, "MIGRATION") == 0)
		snapshot_event(&vm->snapshot, data);
	else if (strcmp(name, "BALLOON_CHANGE") == 0 && vm_balloon(vm))
		balloon_changed(&vm->balloon,
				(uint64_t)json_integer_value(json_object_get(data, "actual")));
	else if (strcmp(name, "GUEST_PANICKED") == 0)
		vm_fail(vm, vm_lost_code(vm), "the guest kernel panicked");
	else if (strcmp(name, "SHUTDOWN") == 0)
		vm_fail(vm, vm_lost_code(vm), "the guest shut down");
}

/* When QEMU dies its sockets close first; the process's end has the better reason. */
static void on_qmp_end(void *user, int error)
{
	struct vm *vm = user;

	if (error < 0)
		vm_fail(vm, vm_lost_code(vm), "QMP link failed: %s", strerror(-error));
	else
		loop_timer_start(vm->host->loop, &vm->end_deadline, END_SECONDS);
}

static const struct qmp_ops qmp_ops = {
	.on_ready = on_qmp_ready, .on_event = on_qmp_event, .on_end = on_qmp_end};

static void send_identity(struct vm *vm)
{
	struct msg msg = {.type = FRAME_IDENTITY, .identity = {.id = 1}};
	int r;

	random_bytes(msg.identity.entropy, sizeof(msg.identity.entropy));
	random_bytes(msg.identity.machine_id, sizeof(msg.identity.machine_id));
	msg.identity.realtime_ns = realtime_ns();
	snprintf(msg.identity.hostname, sizeof(msg.identity.hostname), "%.*s", 60, vm->id);
	for (char *p = msg.identity.hostname; *p; p++)
		if (*p == '_')
			*p = '-';
	r = agent_link_send(vm->link, &msg);
	if (r < 0)
		vm_fail(vm, RPC_VM_TRANSIENT, "cannot send its identity: %s", strerror(-r));
}

/* The agent of a clone was told in the same breath as HELLO. */
static void on_link_ready(void *user, const struct msg_hello_reply *hello)
{
	struct vm *vm = user;

	if (vm->is_adopted) {
		vm->has_agent = true;
		vm->hello = hello;
		become_ready(vm);
		vm->hello = NULL;
	} else if (vm->spec.start != QEMU_CLONE)
		send_identity(vm);
}

static void on_link_message(void *user, const struct msg *msg)
{
	struct vm *vm = user;

	if (msg->type == FRAME_MEMORY) {
		vm->telemetry.memory = msg->memory;
		vm->telemetry.received_us = now_us();
		if (vm->host->on_memory)
			vm->host->on_memory(vm->host->user, vm);
	} else if (msg->type == FRAME_IDENTITY_DONE && vm->state == VM_STARTING) {
		vm->has_agent = true;
		become_ready(vm);
	} else if (vm->client_ops) {
		vm->client_ops->on_message(vm->client, msg);
	}
}

static void on_link_output(void *user, uint32_t exec, enum frame_substream sub, const uint8_t *data,
			   size_t len)
{
	struct vm *vm = user;

	if (vm->client_ops)
		vm->client_ops->on_output(vm->client, exec, sub, data, len);
}

static void on_link_input(void *user, uint32_t exec, uint64_t taken)
{
	struct vm *vm = user;

	if (vm->client_ops && vm->client_ops->on_input)
		vm->client_ops->on_input(vm->client, exec, taken);
}

static void on_link_failed(void *user, int error, const char *why)
{
	struct vm *vm = user;

	if (error == -EPROTO)
		vm_fail(vm, RPC_GUEST_PROTOCOL, "the guest broke the protocol: %s", why);
	else if (error != -EPIPE)
		vm_fail(vm, vm_lost_code(vm), "guest link failed: %s", why);
}

static const struct agent_link_ops link_ops = {.on_ready = on_link_ready,
					       .on_message = on_link_message,
					       .on_output = on_link_output,
					       .on_input = on_link_input,
					       .on_failed = on_link_failed};

static int open_link(struct vm *vm)
{
	bool is_clone = vm->spec.start == QEMU_CLONE;
	int r;

	if (vm->is_adopted)
		return agent_link_adopt(vm->host->loop, TAKE_FD(vm->agent_fd), vm->id, vm->sync,
					TAKE_PTR(vm->received), &link_ops, vm, &vm->link);
	r = agent_link_create(vm->host->loop, TAKE_FD(vm->agent_fd), vm->id,
			      is_clone ? vm->spec.image->sync : NULL, &link_ops, vm, &vm->link);

	if (r == 0 && is_clone)
		send_identity(vm);
	return r;
}

static int open_qmp(struct vm *vm, struct vm_sockets *sockets)
{
	uint32_t deadline_ms = (uint32_t)(vm->host->boot_timeout_seconds * 1000);

	return qmp_create(vm->host->loop, vm->id, TAKE_FD(sockets->qmp_fd), deadline_ms, &qmp_ops,
			  vm, &vm->qmp);
}

int vm_start_adopted(struct vm *vm, struct vm_sockets *sockets)
{
	vm->agent_fd = TAKE_FD(sockets->agent_fd);
	return open_qmp(vm, sockets);
}

int vm_start_links(struct vm *vm, struct vm_sockets *sockets)
{
	int r = open_qmp(vm, sockets);

	if (r < 0)
		return r;
	console_init(&vm->console, vm->host->loop, TAKE_FD(sockets->console_fd));
	vm->agent_fd = TAKE_FD(sockets->agent_fd);
	for (size_t i = 0; i < VM_LISTENING; i++)
		vm->listening_fds[i] = TAKE_FD(sockets->listening_fds[i]);
	return vm->spec.is_waiting ? 0 : open_link(vm);
}

void vm_wake(struct vm *vm)
{
	int r;

	assert(vm->state == VM_LOADED);
	vm->created_us += now_us() - vm->loaded_us; /* waiting is no part of its start */
	vm_set_state(vm, VM_STARTING);
	loop_timer_start(vm->host->loop, &vm->start_deadline, vm->host->boot_timeout_seconds);
	r = open_link(vm);
	if (r < 0)
		vm_fail(vm, RPC_VM_TRANSIENT, "cannot use its sockets: %s", strerror(-r));
	else
		proceed(vm);
}
