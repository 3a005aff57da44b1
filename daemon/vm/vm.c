/* SPDX-License-Identifier: Apache-2.0 */
/* One VM: its QEMU process in its jail, its QMP and guest links, its state. */
#include "daemon/vm/vm.h"

#include "base/log.h"
#include "daemon/vm/console.h"
#include "daemon/vm/vm_spawn.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What of the boot log and of QEMU's last words goes into the daemon's log when a boot fails. */
#define BOOT_LOG_SHOWN 2048
/* What of QEMU's last words goes into the error's one line. */
#define LAST_WORDS_SIZE 161

struct vm {
	struct vm_host *host;
	struct vm *next;
	char id[VM_ID_SIZE];
	char language[32];
	struct vm_spec spec;
	enum vm_state state;
	uint64_t created_ns, created_us, boot_us;

	const struct vm_ops *ops;
	const struct vm_client_ops *client_ops;
	void *user, *client;

	struct proc *proc;
	struct qmp *qmp;
	struct agent_link *link;
	struct console console;
	struct balloon balloon;
	struct vm_telemetry telemetry;
	struct vm_footprint footprint;
	bool has_qmp, has_agent; /* the two halves of READY */
	ev_timer boot_deadline;
	struct defer fail_later, free_later;
	struct rpc_error *error; /* on its way to the owner or client */
};

static const char *const state_names[] = {
	[VM_STARTING] = "starting", [VM_READY] = "ready", [VM_RUNNING] = "running",
	[VM_STOPPING] = "stopping", [VM_GONE] = "gone",
};
static_assert(ELEMENTSOF(state_names) == VM_GONE + 1, "every state has a name");

const char *vm_state_name(enum vm_state state)
{
	return state_names[state];
}

static void set_state(struct vm *vm, enum vm_state state)
{
	enum vm_state old = vm->state;

	log_debug(vm->id, "%s -> %s", vm_state_name(old), vm_state_name(state));
	vm->state = state;
	if (vm->host->on_state)
		vm->host->on_state(vm->host->user, vm, old);
}

/* Kills QEMU and drops the links; on_gone follows when the processes are dead. */
static void stop(struct vm *vm)
{
	if (vm->state >= VM_STOPPING)
		return;
	set_state(vm, VM_STOPPING);
	loop_timer_stop(vm->host->loop, &vm->boot_deadline);
	qmp_destroy(vm->qmp);
	vm->qmp = NULL;
	balloon_stop(&vm->balloon);
	if (vm->link)
		agent_link_close(vm->link);
	proc_kill(vm->proc);
}

static void tell_failure(void *user)
{
	struct vm *vm = user;
	const struct vm_client_ops *client_ops = vm->client_ops;
	struct rpc_error *error = TAKE_PTR(vm->error);

	vm->client_ops = NULL;
	if (client_ops)
		client_ops->on_lost(vm->client, error);
	else if (vm->ops)
		vm->ops->on_failed(vm->user, error);
	else
		rpc_error_free(error);
}

static void log_last_words(struct vm *vm)
{
	_cleanup_free_ char *boot_log = console_tail(&vm->console, BOOT_LOG_SHOWN);
	char *line, *rest = boot_log;

	while ((line = strsep(&rest, "\n")))
		if (*line)
			log_warning(vm->id, "Boot log: %s", line);
	if (*proc_stderr(vm->proc))
		log_warning(vm->id, "QEMU said: '%s'", proc_stderr(vm->proc));
}

/*
 * The VM cannot go on. Callable from every callback: whoever waits for the VM hears it from the
 * loop. The code of a VM with a client says that the outcome is unknown; without one, nothing was
 * dispatched.
 */
static void fail(struct vm *vm, enum rpc_code code, const char *format, ...) PRINTF_LIKE(3, 4);
static void fail(struct vm *vm, enum rpc_code code, const char *format, ...)
{
	char reason[256];
	va_list args;

	if (vm->state >= VM_STOPPING)
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	log_warning(vm->id, "Failed while %s: %s", vm_state_name(vm->state), reason);
	if (vm->state == VM_STARTING) {
		vm->host->failed_boots++;
		log_last_words(vm);
	}

	vm->error = rpc_error_new(code, "VM %s: %s", vm->id, reason);
	rpc_error_set(vm->error, "vm", json_string(vm->id));
	rpc_error_set(vm->error, "reason", json_string(reason));
	stop(vm);
	loop_defer(vm->host->loop, &vm->fail_later, tell_failure, vm);
}

static enum rpc_code lost_code(const struct vm *vm)
{
	return vm->client_ops ? RPC_VM_LOST : RPC_VM_TRANSIENT;
}

/* --- Start, step by step: QMP on one side, the agent on the other. --- */

/* The first sample of the guest's memory; more come by themselves while the VM runs. */
static void ask_memory(struct vm *vm)
{
	struct msg msg = {.type = FRAME_MEMORY_GET, .ping = {.id = 1}};

	(void)agent_link_send(vm->link, &msg);
}

static void become_ready(struct vm *vm)
{
	if (!vm->has_qmp || !vm->has_agent)
		return;
	vm->host->failed_boots = 0;
	ask_memory(vm);
	loop_timer_stop(vm->host->loop, &vm->boot_deadline);
	vm->boot_us = now_us() - vm->created_us;
	set_state(vm, VM_READY);
	vm->ops->on_ready(vm->user);
}

static void on_qmp_ready(void *user)
{
	struct vm *vm = user;

	balloon_start(&vm->balloon, vm->host->loop, vm->qmp, vm->spec.memory_mb << 20,
		      vm->host->stats_interval_seconds);
	vm->has_qmp = true;
	become_ready(vm);
}

static void on_qmp_event(void *user, const char *name, const json_t *data, uint64_t time_us UNUSED)
{
	struct vm *vm = user;

	if (strcmp(name, "BALLOON_CHANGE") == 0 && vm->has_qmp)
		balloon_changed(&vm->balloon,
				(uint64_t)json_integer_value(json_object_get(data, "actual")));
	else if (strcmp(name, "GUEST_PANICKED") == 0)
		fail(vm, lost_code(vm), "the guest kernel panicked");
	else if (strcmp(name, "SHUTDOWN") == 0)
		fail(vm, lost_code(vm), "the guest shut down");
}

static void on_qmp_end(void *user, int error)
{
	struct vm *vm = user;

	/* When QEMU dies its sockets close first; the process's end has the better reason. */
	if (error < 0)
		fail(vm, lost_code(vm), "QMP link failed: %s", strerror(-error));
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
		fail(vm, RPC_VM_TRANSIENT, "cannot send its identity: %s", strerror(-r));
}

static void on_link_ready(void *user, const struct msg_hello_reply *hello UNUSED)
{
	send_identity(user);
}

static void on_link_message(void *user, const struct msg *msg)
{
	struct vm *vm = user;

	if (msg->type == FRAME_MEMORY) {
		vm->telemetry.memory = msg->memory;
		vm->telemetry.received_us = now_us();
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

static void on_link_failed(void *user, int error, const char *why)
{
	struct vm *vm = user;

	if (error == -EPROTO)
		fail(vm, RPC_GUEST_PROTOCOL, "the guest broke the protocol: %s", why);
	else if (error != -EPIPE)
		fail(vm, lost_code(vm), "guest link failed: %s", why);
}

static const struct agent_link_ops link_ops = {.on_ready = on_link_ready,
					       .on_message = on_link_message,
					       .on_output = on_link_output,
					       .on_failed = on_link_failed};

static void on_boot_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct vm *vm = timer->data;

	fail(vm, RPC_VM_BOOT_TIMEOUT, "not ready after %g s (%s)", vm->host->boot_timeout_seconds,
	     vm->has_qmp ? "the agent has not answered" : "QEMU has not answered");
}

/* --- Process. --- */

/* The end of what QEMU said, as one line of printable ASCII. */
static void last_words(const struct vm *vm, char ret[LAST_WORDS_SIZE])
{
	const char *words = proc_stderr(vm->proc);
	size_t len = strlen(words);

	while (len > 0 && words[len - 1] <= ' ')
		len--;
	words += len - MIN(len, (size_t)LAST_WORDS_SIZE - 1);
	len = MIN(len, (size_t)LAST_WORDS_SIZE - 1);
	for (size_t i = 0; i < len; i++)
		ret[i] = words[i] >= ' ' && words[i] < 0x7f ? words[i] : ' ';
	ret[len] = '\0';
}

static void on_proc_end(void *user)
{
	struct vm *vm = user;
	char words[LAST_WORDS_SIZE];

	last_words(vm, words);
	fail(vm, lost_code(vm), "QEMU ended%s%s", *words ? ": " : "", words);
}

static void free_vm(void *user)
{
	struct vm *vm = user;

	proc_destroy(vm->proc);
	agent_link_destroy(vm->link);
	console_close(&vm->console);
	rpc_error_free(vm->error);
	free(vm);
}

static void unlink_from_host(struct vm *vm)
{
	for (struct vm **at = &vm->host->vms; *at; at = &(*at)->next) {
		if (*at != vm)
			continue;
		*at = vm->next;
		return;
	}
}

static void on_proc_gone(void *user, const struct proc_status *status)
{
	struct vm *vm = user;
	char words[LAST_WORDS_SIZE];

	/*
	 * bubblewrap that never started QEMU ends without an on_end: what it lacks on this host it
	 * will lack the next time as well.
	 */
	last_words(vm, words);
	fail(vm, status->end == PROC_END_EXITED ? RPC_VM_CONFIG : lost_code(vm),
	     "its process ended with %s %d: %s",
	     status->end == PROC_END_SIGNALED ? "signal" : "status", status->code, words);
	if (vm->fail_later.is_queued) {
		loop_defer_cancel(vm->host->loop, &vm->fail_later);
		tell_failure(vm);
	}
	vm_remove_files(vm->host->vms_fd, vm->id);
	unlink_from_host(vm);
	set_state(vm, VM_GONE);
	vm->ops->on_gone(vm->user);
	loop_defer(vm->host->loop, &vm->free_later, free_vm, vm);
}

static const struct proc_ops proc_ops = {.on_end = on_proc_end, .on_gone = on_proc_gone};

static int connect_links(struct vm *vm, struct vm_sockets *sockets)
{
	uint32_t deadline_ms = (uint32_t)(vm->host->boot_timeout_seconds * 1000);
	int r = qmp_create(vm->host->loop, vm->id, TAKE_FD(sockets->qmp_fd), deadline_ms, &qmp_ops,
			   vm, &vm->qmp);

	if (r < 0)
		return r;
	console_init(&vm->console, vm->host->loop, TAKE_FD(sockets->console_fd));
	return agent_link_create(vm->host->loop, TAKE_FD(sockets->agent_fd), vm->id, &link_ops, vm,
				 &vm->link);
}

static struct rpc_error *start_error(const struct vm *vm, const char *what, int error)
{
	bool is_missing = error == -ENOENT || error == -EACCES || error == -EPERM;
	struct rpc_error *rpc_error =
		rpc_error_new(is_missing ? RPC_VM_CONFIG : RPC_VM_TRANSIENT,
			      "Cannot start a VM: %s: %s", what, strerror(-error));

	log_error(vm->id, "Cannot start: %s: %s", what, strerror(-error));
	return rpc_error_hint(rpc_error, is_missing
						 ? "'execsandboxctl doctor' names what is missing"
						 : "try again; the daemon's log has details");
}

static void draw_id(struct vm *vm)
{
	uint8_t random[8];
	char hex[2 * sizeof(random) + 1];

	random_bytes(random, sizeof(random));
	hex_encode(random, sizeof(random), hex);
	snprintf(vm->id, sizeof(vm->id), "%.32s%svm_%s", vm->host->node, *vm->host->node ? "-" : "",
		 hex);
}

static struct vm *vm_new(struct vm_host *host, const struct vm_spec *spec, const struct vm_ops *ops,
			 void *user)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->host = host;
	vm->ops = ops;
	vm->user = user;
	vm->spec = *spec;
	snprintf(vm->language, sizeof(vm->language), "%s", spec->language);
	vm->spec.language = vm->language;
	vm->created_ns = realtime_ns();
	vm->created_us = now_us();
	draw_id(vm);
	ev_timer_init(&vm->boot_deadline, on_boot_deadline, 0., 0.);
	vm->boot_deadline.data = vm;
	return vm;
}

struct rpc_error *vm_create(struct vm_host *host, const struct vm_spec *spec,
			    const struct vm_ops *ops, void *user, struct vm **ret)
{
	struct vm *vm = vm_new(host, spec, ops, user);
	struct vm_sockets sockets = VM_SOCKETS_NONE;
	const char *what = "memory";
	struct rpc_error *error;
	int r;

	if (!vm)
		return rpc_error_new(RPC_VM_TRANSIENT, "Cannot start a VM: out of memory");
	r = vm_spawn(host, vm->id, (unsigned)spec->memory_mb, &proc_ops, vm, &vm->proc, &sockets,
		     &what);
	if (r < 0) {
		error = start_error(vm, what, r);
		vm_remove_files(host->vms_fd, vm->id);
		free_vm(vm);
		return error;
	}
	vm->next = host->vms;
	host->vms = vm;
	if (host->on_state)
		host->on_state(host->user, vm, VM_STARTING);
	loop_timer_start(host->loop, &vm->boot_deadline, host->boot_timeout_seconds);
	r = connect_links(vm, &sockets);
	vm_sockets_close(&sockets);
	if (r < 0)
		fail(vm, RPC_VM_TRANSIENT, "cannot use its sockets: %s", strerror(-r));
	*ret = vm;
	return NULL;
}

void vm_attach(struct vm *vm, const struct vm_client_ops *ops, void *user)
{
	assert(vm->state == VM_READY);
	vm->client_ops = ops;
	vm->client = user;
	set_state(vm, VM_RUNNING);
}

void vm_stop(struct vm *vm)
{
	loop_defer_cancel(vm->host->loop, &vm->fail_later);
	vm->client_ops = NULL;
	stop(vm);
}

void vm_destroy_all(struct vm_host *host)
{
	while (host->vms) {
		struct vm *vm = host->vms;

		vm_stop(vm);
		host->vms = vm->next;
		loop_defer_cancel(host->loop, &vm->free_later);
		proc_destroy(TAKE_PTR(vm->proc));
		vm_remove_files(host->vms_fd, vm->id);
		free_vm(vm);
	}
}

const char *vm_id(const struct vm *vm)
{
	return vm->id;
}

enum vm_state vm_get_state(const struct vm *vm)
{
	return vm->state;
}

const struct vm_spec *vm_get_spec(const struct vm *vm)
{
	return &vm->spec;
}

pid_t vm_pid(const struct vm *vm)
{
	return proc_pid(vm->proc);
}

uint64_t vm_created_ns(const struct vm *vm)
{
	return vm->created_ns;
}

uint64_t vm_boot_us(const struct vm *vm)
{
	return vm->boot_us;
}

struct agent_link *vm_link(struct vm *vm)
{
	return vm->link;
}

const struct vm_telemetry *vm_telemetry(const struct vm *vm)
{
	return &vm->telemetry;
}

struct vm_footprint *vm_footprint(struct vm *vm)
{
	return &vm->footprint;
}

struct balloon *vm_balloon(struct vm *vm)
{
	return vm->state == VM_READY || vm->state == VM_RUNNING ? &vm->balloon : NULL;
}

struct vm *vm_next(const struct vm *vm)
{
	return vm->next;
}

struct vm *vm_find(struct vm_host *host, const char *id)
{
	for (struct vm *vm = host->vms; vm; vm = vm->next)
		if (strcmp(vm->id, id) == 0)
			return vm;
	return NULL;
}
