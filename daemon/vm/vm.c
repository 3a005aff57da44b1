/* SPDX-License-Identifier: Apache-2.0 */
/* One VM: its QEMU process in its jail, its QMP and guest links, its state. */
#include "daemon/vm/vm.h"

#include "base/log.h"
#include "daemon/vm/vm_internal.h"
#include "daemon/vm/vm_record.h"

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

static const char *const state_names[] = {
	[VM_STARTING] = "starting", [VM_LOADED] = "loaded",   [VM_READY] = "ready",
	[VM_PAUSED] = "paused",     [VM_RUNNING] = "running", [VM_SAVING] = "saving",
	[VM_STOPPING] = "stopping", [VM_GONE] = "gone",
};
static_assert(ELEMENTSOF(state_names) == VM_GONE + 1, "every state has a name");

const char *vm_state_name(enum vm_state state)
{
	return state_names[state];
}

void vm_set_state(struct vm *vm, enum vm_state state)
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
	vm_set_state(vm, VM_STOPPING);
	loop_timer_stop(vm->host->loop, &vm->start_deadline);
	loop_timer_stop(vm->host->loop, &vm->end_deadline);
	snapshot_fini(&vm->snapshot);
	qmp_destroy(vm->qmp);
	vm->qmp = NULL;
	balloon_stop(&vm->balloon);
	if (vm->link)
		agent_link_close(vm->link);
	launch_kill(vm->launch);
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
	if (*launch_stderr(vm->launch))
		log_warning(vm->id, "QEMU said: '%s'", launch_stderr(vm->launch));
}

void vm_fail(struct vm *vm, enum rpc_code code, const char *format, ...)
{
	char reason[256];
	va_list args;

	if (vm->state >= VM_STOPPING)
		return;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	log_warning(vm->id, "Failed while %s: %s", vm_state_name(vm->state), reason);
	vm->host->counters.failures[vm->state]++;
	if (vm->state == VM_STARTING && !vm->is_adopted) {
		vm->host->failed_boots++;
		log_last_words(vm);
	}

	vm->error = rpc_error_new(code, "VM %s: %s", vm->id, reason);
	rpc_error_set(vm->error, "vm", json_string(vm->id));
	rpc_error_set(vm->error, "reason", json_string(reason));
	stop(vm);
	loop_defer(vm->host->loop, &vm->fail_later, tell_failure, vm);
}

enum rpc_code vm_lost_code(const struct vm *vm)
{
	return vm->client_ops ? RPC_VM_LOST : RPC_VM_TRANSIENT;
}

static void on_start_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct vm *vm = timer->data;

	vm_fail(vm, RPC_VM_BOOT_TIMEOUT, "not ready after %g s (%s)", vm_start_seconds(vm),
		vm->has_machine ? "the agent has not answered" : "QEMU has not answered");
}

static void on_end_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct vm *vm = timer->data;

	vm_fail(vm, vm_lost_code(vm), "QEMU closed QMP and goes on");
}

/* --- Process. --- */

/* The end of what QEMU said, as one line of printable ASCII. */
static void last_words(const struct vm *vm, char ret[LAST_WORDS_SIZE])
{
	const char *words = launch_stderr(vm->launch);
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
	if (launch_is_oom_kill(vm->launch))
		vm_fail(vm, vm_lost_code(vm), "the host killed QEMU: its memory limit");
	else
		vm_fail(vm, vm_lost_code(vm), "QEMU ended%s%s", *words ? ": " : "", words);
}

static void free_vm(void *user)
{
	struct vm *vm = user;

	launch_destroy(vm->launch);
	agent_link_destroy(vm->link);
	console_close(&vm->console);
	close_fd(vm->agent_fd);
	for (size_t i = 0; i < VM_LISTENING; i++)
		close_fd(vm->listening_fds[i]);
	json_decref(vm->received);
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
	vm_fail(vm, status->end == PROC_END_EXITED ? RPC_VM_CONFIG : vm_lost_code(vm),
		"its process ended with %s %d: %s",
		status->end == PROC_END_SIGNALED ? "signal" : "status", status->code, words);
	if (vm->fail_later.is_queued) {
		loop_defer_cancel(vm->host->loop, &vm->fail_later);
		tell_failure(vm);
	}
	vm_remove_files(vm->host, vm->id);
	unlink_from_host(vm);
	vm_set_state(vm, VM_GONE);
	vm->ops->on_gone(vm->user);
	loop_defer(vm->host->loop, &vm->free_later, free_vm, vm);
}

static const struct proc_ops proc_ops = {.on_end = on_proc_end, .on_gone = on_proc_gone};

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
	vm->agent_fd = -1;
	for (size_t i = 0; i < VM_LISTENING; i++)
		vm->listening_fds[i] = -1;
	snapshot_init(&vm->snapshot, host->loop);
	ev_timer_init(&vm->start_deadline, on_start_deadline, 0., 0.);
	vm->start_deadline.data = vm;
	ev_timer_init(&vm->end_deadline, on_end_deadline, 0., 0.);
	vm->end_deadline.data = vm;
	return vm;
}

/* The host knows it from here on. */
static void begin(struct vm *vm)
{
	struct vm_host *host = vm->host;

	vm->next = host->vms;
	host->vms = vm;
	if (host->on_state)
		host->on_state(host->user, vm, VM_STARTING);
	loop_timer_start(host->loop, &vm->start_deadline, vm_start_seconds(vm));
}

struct rpc_error *vm_create(struct vm_host *host, const struct vm_spec *spec,
			    const struct vm_ops *ops, void *user, struct vm **ret)
{
	struct vm *vm = vm_new(host, spec, ops, user);
	struct vm_sockets sockets = VM_SOCKETS_NONE;
	struct rpc_error *error;
	int r;

	if (!vm)
		return rpc_error_new(RPC_VM_TRANSIENT, "Cannot start a VM: out of memory");
	draw_id(vm->id, sizeof(vm->id), host->node, "vm");
	error = vm_spawn(host, vm->id, &vm->spec, &proc_ops, vm, &vm->launch, &sockets);
	if (error) {
		vm_remove_files(host, vm->id);
		free_vm(vm);
		return error;
	}
	host->counters.starts[vm->spec.start]++;
	begin(vm);
	r = vm_start_links(vm, &sockets);
	vm_sockets_close(&sockets);
	if (r < 0)
		vm_fail(vm, RPC_VM_TRANSIENT, "cannot use its sockets: %s", strerror(-r));
	*ret = vm;
	return NULL;
}

/* --- One that is there already. --- */

static void apply_record(struct vm *vm, const struct vm_record *record, json_t *received_take)
{
	memcpy(vm->id, record->id, sizeof(vm->id));
	memcpy(vm->sync, record->sync, sizeof(vm->sync));
	vm->created_ns = record->created_ns;
	vm->start_us = record->start_us;
	vm->received = received_take;
	vm->is_adopted = true;
}

static struct rpc_error *not_there(const struct vm_record *record, int error)
{
	log_warning(record->id, "Cannot be adopted: %s", strerror(-error));
	return rpc_error_new(RPC_VM_LOST, "VM %s did not outlive the daemon: %s", record->id,
			     strerror(-error));
}

struct rpc_error *vm_adopt(struct vm_host *host, const struct vm_record *record,
			   json_t *received_take, const struct vm_ops *ops, void *user,
			   struct vm **ret)
{
	const struct vm_spec spec = {.start = record->is_clone ? QEMU_CLONE : QEMU_BOOT,
				     .memory_mb = record->memory_mb,
				     .uid = record->uid,
				     .language = record->language};
	struct vm *vm = vm_new(host, &spec, ops, user);
	struct vm_sockets sockets = VM_SOCKETS_NONE;
	int r;

	if (!vm) {
		json_decref(received_take);
		return not_there(record, -ENOMEM);
	}
	apply_record(vm, record, received_take);
	r = launch_adopt(host->launcher, vm->id, &proc_ops, vm, &vm->launch);
	if (r < 0) {
		free_vm(vm);
		return not_there(record, r);
	}
	host->counters.adoptions++;
	begin(vm);
	r = vm_connect(host, vm->id, &sockets);
	if (r == 0)
		r = vm_start_adopted(vm, &sockets);
	vm_sockets_close(&sockets);
	if (r < 0)
		vm_fail(vm, RPC_VM_LOST, "cannot be adopted: %s", strerror(-r));
	*ret = vm;
	return NULL;
}

const struct msg_hello_reply *vm_hello(const struct vm *vm)
{
	return vm->hello;
}

/* --- Owner and client. --- */

void vm_attach(struct vm *vm, uid_t uid, const struct vm_client_ops *ops, void *user)
{
	assert(vm->state == VM_READY || vm->state == VM_PAUSED);
	/* What the client sends meanwhile waits on the agent's port. */
	if (vm->state == VM_PAUSED && vm_continue(vm) < 0)
		vm_fail(vm, RPC_VM_TRANSIENT, "cannot continue");
	vm->client_ops = ops;
	vm->client = user;
	vm->spec.uid = uid;
	if (vm->state >= VM_STOPPING)
		return;
	if (uid != VM_UID_NONE) {
		balloon_start(&vm->balloon, vm->host->loop, vm->qmp, vm->spec.memory_mb << 20,
			      vm->host->stats_interval_seconds);
		if (vm->is_adopted)
			balloon_adopt(&vm->balloon);
	}
	vm_set_state(vm, VM_RUNNING);
}

/* False when it has failed over it. */
static bool resume(struct vm *vm)
{
	if (vm->is_halted && vm_continue(vm) < 0) {
		vm_fail(vm, vm_lost_code(vm), "cannot continue");
		return false;
	}
	vm->is_halted = false;
	return true;
}

void vm_detach(struct vm *vm)
{
	if (vm->state != VM_RUNNING)
		return;
	balloon_stop(&vm->balloon);
	vm->client_ops = NULL;
	vm->rest_us = 0;
	if (resume(vm))
		vm_set_state(vm, VM_READY);
}

void vm_rest(struct vm *vm)
{
	if (vm->state == VM_RUNNING && vm->rest_us == 0)
		vm->rest_us = now_us();
}

void vm_work(struct vm *vm)
{
	if (vm->state != VM_RUNNING || vm->rest_us == 0)
		return;
	vm->rest_us = 0;
	if (resume(vm) && vm->host->on_work)
		vm->host->on_work(vm->host->user, vm);
}

static void on_halted(void *user, const json_t *ret UNUSED, const struct qmp_error *error)
{
	struct vm *vm = user;

	if (error && !vm_is_end(error->error))
		vm_fail(vm, vm_lost_code(vm), "cannot stop its vCPU: %s", error->desc);
}

void vm_halt(struct vm *vm)
{
	assert(vm->state == VM_RUNNING && vm->rest_us > 0);
	/* A QEMU that takes no command now is asked again by who wanted this. */
	if (!vm->is_halted && qmp_command(vm->qmp, "stop", NULL, VM_COMMAND_MS, on_halted, vm) == 0)
		vm->is_halted = true;
}

void vm_resume(struct vm *vm)
{
	(void)resume(vm);
}

void vm_end_for_memory(struct vm *vm)
{
	if (vm->state >= VM_STOPPING)
		return;
	vm_fail(vm, RPC_CAPACITY, "the host's memory ran out, and it had more than its share");
	rpc_error_set(vm->error, "dispatched", json_boolean(vm->client_ops != NULL));
	rpc_error_set(vm->error, "reason", json_string("memory_pressure"));
}

static void on_paused(void *user, const json_t *ret UNUSED, const struct qmp_error *error)
{
	struct vm *vm = user;

	if (!error)
		vm->ops->on_paused(vm->user);
	else if (!vm_is_end(error->error))
		vm_fail(vm, vm_lost_code(vm), "cannot stop its vCPU: %s", error->desc);
}

void vm_pause(struct vm *vm)
{
	int r = qmp_command(vm->qmp, "stop", NULL, VM_COMMAND_MS, on_paused, vm);

	if (r < 0)
		vm_fail(vm, RPC_VM_TRANSIENT, "cannot stop its vCPU: %s", strerror(-r));
	else
		vm_set_state(vm, VM_PAUSED);
}

static void on_saved(void *user, int error, const char *why)
{
	struct vm *vm = user;
	uint8_t *state;
	size_t len;

	if (vm_is_end(error))
		return;
	if (error < 0) {
		vm_fail(vm, error == -EOPNOTSUPP ? RPC_VM_CONFIG : RPC_VM_TRANSIENT,
			"cannot save its devices: %s (%s)", why, strerror(-error));
		return;
	}
	state = snapshot_take(&vm->snapshot, &len);
	vm->ops->on_saved(vm->user, state, len);
}

void vm_save(struct vm *vm)
{
	int r = snapshot_save(&vm->snapshot, vm->qmp, on_saved, vm);

	if (r < 0)
		vm_fail(vm, RPC_VM_TRANSIENT, "cannot save its devices: %s", strerror(-r));
	else
		vm_set_state(vm, VM_SAVING);
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
		launch_destroy(TAKE_PTR(vm->launch));
		vm_remove_files(host, vm->id);
		free_vm(vm);
	}
}

unsigned vm_translation_mb(const struct vm_host *host, const char *language)
{
	if (host->accel == ACCEL_KVM)
		return 0;
	/* Bun's start alone fills 32 MiB, and a full buffer is thrown away as a whole. Python's
	 * start and a run take 15. */
	return strcmp(language, "javascript") == 0 ? 96 : 32;
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
	return launch_pid(vm->launch);
}

uint64_t vm_created_ns(const struct vm *vm)
{
	return vm->created_ns;
}

uint64_t vm_start_us(const struct vm *vm)
{
	return vm->start_us;
}

struct agent_link *vm_link(struct vm *vm)
{
	return vm->link;
}

const struct vm_telemetry *vm_telemetry(const struct vm *vm)
{
	return &vm->telemetry;
}

struct memory_vm *vm_memory(const struct vm *vm)
{
	return vm->memory;
}

void vm_set_memory(struct vm *vm, struct memory_vm *memory)
{
	vm->memory = memory;
}

uint64_t vm_rest_us(const struct vm *vm)
{
	return vm->rest_us;
}

bool vm_is_halted(const struct vm *vm)
{
	return vm->is_halted;
}

struct balloon *vm_balloon(struct vm *vm)
{
	return vm->state == VM_RUNNING && vm->spec.uid != VM_UID_NONE ? &vm->balloon : NULL;
}

bool vm_is_alive(const struct vm *vm)
{
	return vm->state < VM_STOPPING && launch_is_alive(vm->launch);
}

struct vm *vm_next(const struct vm *vm)
{
	return vm->next;
}

struct vm_host *vm_get_host(const struct vm *vm)
{
	return vm->host;
}

struct vm *vm_find(struct vm_host *host, const char *id)
{
	for (struct vm *vm = host->vms; vm; vm = vm->next)
		if (strcmp(vm->id, id) == 0)
			return vm;
	return NULL;
}
