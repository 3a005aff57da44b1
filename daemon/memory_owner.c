/* SPDX-License-Identifier: Apache-2.0 */
/* The owner of memory control: what it says becomes events, spares that go, runs that wait. */
#include "daemon/memory_owner.h"

#include "base/log.h"
#include "daemon/launcher/client.h"
#include "daemon/memory/host.h"

#include <string.h>

#define RESERVE_MIN_MB   512
#define RESERVE_PER_CENT 8
/* A VM of the default size has to fit whatever the figures say. */
#define VM_APART_MB 32

/* --- Limits --- */

uint64_t memory_owner_reserve_mb(const struct config *config)
{
	struct host_memory memory;

	if (config->host_reserve_mb)
		return (uint64_t)config->host_reserve_mb;
	if (host_memory_read(&memory) < 0)
		return RESERVE_MIN_MB;
	return MAX((memory.total_bytes >> 20) * RESERVE_PER_CENT / 100, (uint64_t)RESERVE_MIN_MB);
}

/* What VMs of the daemon before have of their own: memory that VMs may have, or soon have again,
 * those that are ended. One that has just ended has none. */
static uint64_t past_vms_bytes(const struct launcher *launcher)
{
	uint64_t sum = 0, bytes;
	pid_t pid;

	for (size_t i = 0; launcher && (pid = launcher_vm_pid(launcher, i)) >= 0; i++)
		if (pid > 0 && process_anonymous_read(pid, &bytes) == 0)
			sum += bytes;
	return sum;
}

/* What VMs and the rest of us could have if there were none yet. */
static uint64_t read_available_mb(const struct launcher *launcher)
{
	struct host_memory memory;
	uint64_t vms_bytes;

	if (host_memory_read(&memory) < 0)
		return 0;
	vms_bytes = MIN(past_vms_bytes(launcher), memory.total_bytes - memory.available_bytes);
	return (memory.available_bytes + vms_bytes) >> 20;
}

uint64_t memory_owner_limit_mb(struct daemon *daemon, uint64_t reserve_mb)
{
	uint64_t least_mb = (uint64_t)daemon->config->default_memory_mb + VM_APART_MB, limit_mb;

	/* Later its own VMs are part of what is not available. */
	if (daemon->available_mb == 0)
		daemon->available_mb = read_available_mb(daemon->vm_host.launcher);
	limit_mb = daemon->available_mb - MIN(daemon->available_mb, reserve_mb);
	/* A host below its reserve still gets one VM: the kernel's word on memory is not that
	 * exact. */
	return MAX(limit_mb, least_mb);
}

static void on_settings(void *user, const struct memory_settings *settings)
{
	struct daemon *daemon = user;

	pool_set_memory(daemon->pool, memory_owner_limit_mb(daemon, settings->reserve_bytes >> 20),
			settings->budget_bytes >> 20);
}

/* --- Events --- */

static void on_level(void *user, enum policy_level old)
{
	struct daemon *daemon = user;
	const struct host_sample *sample = memory_control_sample(daemon->memory);
	enum policy_level level = memory_control_policy(daemon->memory)->level;

	events_publish(rpc_server_events(daemon->server), "memory.pressure", EVENTS_FOR_ADMINS,
		       json_pack("{s:{s:s, s:s, s:s, s:I, s:I}}", "data", "level",
				 policy_level_name(level), "old_level", policy_level_name(old),
				 "state", policy_pressure_name(level), "managed_bytes",
				 (json_int_t)sample->managed_bytes, "managed_available_bytes",
				 (json_int_t)sample->available_bytes));
}

static void publish(struct daemon *daemon, const char *type, const struct memory_change *change)
{
	json_t *data = json_pack(
		"{s:I, s:I, s:I, s:I, s:f}", "from_bytes", (json_int_t)change->from_bytes,
		"target_bytes", (json_int_t)change->target_bytes, "actual_bytes",
		(json_int_t)change->actual_bytes, "anonymous_bytes",
		(json_int_t)change->private_bytes, "took_ms", (double)change->took_us / 1000);

	if (change->why)
		json_object_set_new(data, "reason", json_string(change->why));
	events_publish(rpc_server_events(daemon->server), type, vm_get_spec(change->vm)->uid,
		       json_pack("{s:s, s:o}", "vm", vm_id(change->vm), "data", data));
}

static void on_squeeze(void *user, const struct memory_change *change)
{
	publish(user, "memory.squeeze", change);
}

static void on_release(void *user, const struct memory_change *change)
{
	publish(user, "memory.release", change);
}

static void on_failure(void *user, const struct memory_change *change)
{
	publish(user, "memory.failure", change);
}

static void on_oom(void *user, struct vm *vm)
{
	struct daemon *daemon = user;
	const struct memory_vm *memory = vm_memory(vm);

	events_publish(rpc_server_events(daemon->server), "memory.oom", vm_get_spec(vm)->uid,
		       json_pack("{s:s, s:{s:I}}", "vm", vm_id(vm), "data", "anonymous_bytes",
				 (json_int_t)memory->sample.private_bytes));
}

/* --- The pool --- */

static void on_step(void *user)
{
	struct daemon *daemon = user;
	const struct policy *policy = memory_control_policy(daemon->memory);
	struct memory_settings settings;

	memory_control_get(daemon->memory, &settings);
	pool_memory_changed(daemon->pool, settings.is_off || policy->may_refill_spares,
			    policy->retry_ms);
}

static bool drop_spare(void *user, struct vm *vm)
{
	struct daemon *daemon = user;

	return pool_drop_spare(daemon->pool, vm);
}

static uint64_t cost(void *user, const char *language, bool has_spare)
{
	return memory_control_cost(user, language, has_spare);
}

/* The pool is made behind the control. */
static uint64_t promised(void *user)
{
	struct daemon *daemon = user;

	return daemon->pool ? pool_promised(daemon->pool, cost, daemon->memory) : 0;
}

bool memory_owner_may_grant(void *user, const char *language, bool has_spare)
{
	struct daemon *daemon = user;

	/* Before it is there, and behind its end, there are no runs to be kept from starting. */
	return !daemon->memory || memory_control_admit(daemon->memory, language, has_spare);
}

/* --- VMs --- */

void memory_owner_vm_memory(void *user, struct vm *vm)
{
	struct daemon *daemon = user;

	if (daemon->memory)
		memory_control_vm_memory(daemon->memory, vm);
}

void memory_owner_vm_work(void *user, struct vm *vm)
{
	struct daemon *daemon = user;

	if (daemon->memory)
		memory_control_vm_work(daemon->memory, vm);
}

/* --- Life --- */

static const struct memory_control_ops ops = {.on_level = on_level,
					      .on_settings = on_settings,
					      .on_step = on_step,
					      .drop_spare = drop_spare,
					      .promised = promised,
					      .on_squeeze = on_squeeze,
					      .on_release = on_release,
					      .on_failure = on_failure,
					      .on_oom = on_oom};

int memory_owner_start(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	struct memory_control_config control_config = {
		.loop = daemon->loop,
		.host = &daemon->vm_host,
		.reserve_bytes = memory_owner_reserve_mb(config) << 20,
		.budget_bytes = (uint64_t)config->memory_budget_mb << 20,
		.is_off = config->memory_control == CONFIG_MEMORY_OFF,
		.ops = &ops,
		.user = daemon,
	};
	int r = memory_control_create(&control_config, &daemon->memory);

	if (r < 0)
		log_error(NULL, "Cannot watch the host's memory: %s", strerror(-r));
	return r;
}
