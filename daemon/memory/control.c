/* SPDX-License-Identifier: Apache-2.0 */
/* Memory control: steps, their settings, and who may start. */
#include "daemon/memory/control.h"

#include "base/log.h"
#include "base/util.h"
#include "daemon/launcher/client.h"
#include "daemon/memory/control_internal.h"
#include "daemon/memory/host.h"

#include <errno.h>

#define LOG_OBJECT "memory"

#define MIB                (UINT64_C(1) << 20)
#define STEP_SECONDS       1.
#define QUICK_STEP_SECONDS 0.2
/* A host of thousands of VMs has processors for more balloons at once: `make sim`. */
#define VMS_PER_INFLATION 64

/* --- The look --- */

static bool make_room(struct memory_control *control)
{
	size_t room = MAX(2 * control->room, (size_t)16);
	void *memories, *samples, *actions;

	if (control->count < control->room)
		return true;
	memories = reallocarray(control->memories, room, sizeof(*control->memories));
	if (memories)
		control->memories = memories;
	samples = reallocarray(control->samples, room, sizeof(*control->samples));
	if (samples)
		control->samples = samples;
	actions = reallocarray(control->actions, room, sizeof(*control->actions));
	if (actions)
		control->actions = actions;
	if (!memories || !samples || !actions)
		return false;
	control->room = room;
	return true;
}

static void look_at(struct memory_control *control, struct vm *vm, uint64_t now)
{
	struct memory_vm *memory = memory_vm_get(control, vm);
	enum policy_vm_state before;

	if (!memory || !make_room(control))
		return;
	before = memory->sample.state;
	memory_vm_look(memory, control->config.meter, now);
	if (before == POLICY_IDLE && memory->sample.state == POLICY_BUSY && !control->config.is_off)
		control_wake(control, memory);
	control->memories[control->count] = memory;
	control->samples[control->count++] = memory->sample;
}

/* All VMs that are managed; returns what all there are use together. */
static uint64_t look(struct memory_control *control)
{
	uint64_t now = now_us(), used = 0, bytes;

	control->count = 0;
	control->ending_bytes = 0;
	for (struct vm *vm = control->config.host->vms; vm; vm = vm_next(vm)) {
		if (memory_vm_is_managed(vm))
			look_at(control, vm, now);
		else if (vm_pid(vm) > 0 &&
			 control->config.meter->anonymous(vm_pid(vm), &bytes) == 0) {
			used += bytes;
			control->ending_bytes += vm_get_state(vm) >= VM_STOPPING ? bytes : 0;
		}
	}
	for (size_t i = 0; i < control->count; i++)
		used += control->samples[i].is_private_known ? control->samples[i].private_bytes
							     : 0;
	return used;
}

/* --- The step --- */

struct policy_host control_host(const struct memory_control *control)
{
	const struct host_sample *sample = &control->sample;
	const struct memory_control_ops *ops = control->config.ops;
	void *user = control->config.user;

	return (struct policy_host){.managed_bytes = sample->managed_bytes,
				    .available_bytes = sample->available_bytes,
				    .over_bytes = sample->over_bytes,
				    .ending_bytes = control->ending_bytes,
				    .promised_bytes = ops->promised ? ops->promised(user) : 0,
				    .has_psi = sample->has_psi,
				    .some_percent = sample->some_stall_percent,
				    .full_percent = sample->full_stall_percent};
}

static void tell_level(struct memory_control *control, enum policy_level old)
{
	const struct host_sample *sample = &control->sample;
	enum policy_level level = control->policy.level;

	if (level == old)
		return;
	control->counters.levels[level]++;
	log_notice(LOG_OBJECT,
		   "Pressure %s -> %s: %ju of %ju MiB left, stalled %.1f %% (all %.1f %%)",
		   policy_level_name(old), policy_level_name(level),
		   (uintmax_t)(sample->available_bytes >> 20),
		   (uintmax_t)(sample->managed_bytes >> 20), sample->some_stall_percent,
		   sample->full_stall_percent);
	if (control->config.ops->on_level)
		control->config.ops->on_level(control->config.user, old);
}

static void set_interval(struct memory_control *control)
{
	bool is_quick = control->policy.level >= POLICY_ORANGE || control->reclaim.on_done ||
			control->is_awaited;

	host_pressure_set_interval(control->pressure, is_quick ? QUICK_STEP_SECONDS : STEP_SECONDS);
}

static bool is_taking(const struct memory_control *control, const struct policy_action *action)
{
	return action->kind == POLICY_DROP_SPARE || action->kind == POLICY_KILL_VM ||
	       (action->kind == POLICY_SET_TARGET &&
		action->target_bytes < control->samples[action->index].actual_bytes);
}

/* The time from the wake to the first command of those that this need brings about. */
static void note_reaction(struct memory_control *control, const struct policy_action *action)
{
	if (control->had_need || control->policy.need_bytes == 0 || !is_taking(control, action))
		return;
	control->had_need = true;
	histogram_add(&control->counters.reaction, now_us() - control->sample.measured_us);
}

static void decide(struct memory_control *control)
{
	struct policy_host host = control_host(control);
	size_t n = control->config.is_off ? 0 : control->count, actions;
	struct policy_config *config = &control->policy.config;
	unsigned inflating_max = config->inflating_max;

	/* What an admin has set is kept to. */
	if (inflating_max == policy_defaults.inflating_max)
		config->inflating_max = MAX(inflating_max, (unsigned)(n / VMS_PER_INFLATION));
	actions = policy_step(&control->policy, control->sample.measured_us, &host,
			      control->samples, n, control->actions);
	config->inflating_max = inflating_max;
	if (control->policy.need_bytes == 0)
		control->had_need = false;
	for (size_t i = 0; i < actions; i++) {
		control_act(control, &control->actions[i]);
		note_reaction(control, &control->actions[i]);
	}
}

static void step(struct memory_control *control)
{
	enum policy_level old = control->policy.level;
	uint64_t used = look(control), wake_us = control->sample.measured_us;

	if (control->config.budget_bytes > 0) {
		host_pressure_set_used(control->pressure, used);
		host_pressure_sample(control->pressure, &control->sample);
		control->sample.measured_us = wake_us;
	}
	for (size_t i = 0; i < control->count; i++)
		control_watch(control, control->memories[i]);
	decide(control);
	control_reclaim_step(control);
	control->is_awaited = false;
	tell_level(control, old);
	/* This may ask for more than there is: is_awaited again. */
	if (control->config.ops->on_step)
		control->config.ops->on_step(control->config.user);
	set_interval(control);
}

static void on_pressure(void *user, const struct host_sample *sample, enum host_wake wake UNUSED)
{
	struct memory_control *control = user;

	control->sample = *sample;
	step(control);
}

void control_hurry(struct memory_control *control)
{
	host_pressure_set_interval(control->pressure, QUICK_STEP_SECONDS);
}

/* --- Life --- */

/* Credit from the first moment on, before anybody can hear of anything. */
static void begin(struct memory_control *control)
{
	struct policy_host host;

	host_pressure_sample(control->pressure, &control->sample);
	host = control_host(control);
	policy_step(&control->policy, control->sample.measured_us, &host, NULL, 0, NULL);
}

int memory_control_create(const struct memory_control_config *config, struct memory_control **ret)
{
	struct host_pressure_config pressure_config = {.reserve_bytes = config->reserve_bytes,
						       .budget_bytes = config->budget_bytes,
						       .files = config->files};
	struct memory_control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return -ENOMEM;
	control->config = *config;
	if (!config->meter)
		control->config.meter = &memory_meter_kernel;
	policy_init(&control->policy, &policy_defaults);
	launcher_find_cgroup(config->host->launcher, config->files ?: &kernel_files_system,
			     &pressure_config.cgroup);
	r = host_pressure_create(config->loop, &pressure_config, on_pressure, control,
				 &control->pressure);
	if (r < 0) {
		free(control);
		return r;
	}
	begin(control);
	*ret = control;
	return 0;
}

void memory_control_destroy(struct memory_control *control)
{
	if (!control)
		return;
	control_reclaim_stop(control);
	for (struct vm *vm = control->config.host->vms; vm; vm = vm_next(vm))
		memory_vm_forget(vm);
	host_pressure_destroy(control->pressure);
	free(control->memories);
	free(control->samples);
	free(control->actions);
	free(control);
}

const struct host_sample *memory_control_sample(const struct memory_control *control)
{
	return &control->sample;
}

const struct policy *memory_control_policy(const struct memory_control *control)
{
	return &control->policy;
}

const struct memory_counters *memory_control_counters(const struct memory_control *control)
{
	return &control->counters;
}

struct memory_vm *memory_control_look(struct memory_control *control, struct vm *vm)
{
	struct memory_vm *memory = memory_vm_get(control, vm);

	if (memory)
		memory_vm_look(memory, control->config.meter, now_us());
	return memory;
}

/* --- Settings --- */

void memory_control_get(const struct memory_control *control, struct memory_settings *ret)
{
	const struct policy_config *config = &control->policy.config;

	*ret = (struct memory_settings){.is_off = control->config.is_off,
					.reserve_bytes = control->config.reserve_bytes,
					.budget_bytes = control->config.budget_bytes,
					.floor_bytes = config->floor_bytes,
					.run_bytes = config->run_bytes,
					.inflating_max = config->inflating_max};
}

void memory_control_set(struct memory_control *control, const struct memory_settings *settings)
{
	control->config.is_off = settings->is_off;
	control->config.reserve_bytes = settings->reserve_bytes;
	control->config.budget_bytes = settings->budget_bytes;
	control->policy.config.floor_bytes = settings->floor_bytes;
	control->policy.config.run_bytes = settings->run_bytes;
	control->policy.config.inflating_max = settings->inflating_max;
	host_pressure_set_limits(control->pressure, settings->reserve_bytes,
				 settings->budget_bytes);
	host_pressure_sample(control->pressure, &control->sample);
	/* What the step lets start has to fit the new limits. */
	if (control->config.ops->on_settings)
		control->config.ops->on_settings(control->config.user, settings);
	step(control);
}

/* --- Admission --- */

uint64_t memory_control_cost(const struct memory_control *control, const char *language,
			     bool has_spare)
{
	uint64_t run_bytes = control->policy.config.run_bytes;

	return run_bytes + (has_spare ? 0 : memory_vm_overhead(control->config.host, language));
}

/* Nobody's code runs or is about to: one VM is always let in, or a host that is short of memory by
 * others' doing would do nothing for ever. */
static bool is_empty(const struct memory_control *control)
{
	const struct memory_control_ops *ops = control->config.ops;

	for (const struct vm *vm = control->config.host->vms; vm; vm = vm_next(vm))
		if (vm_get_spec(vm)->uid != VM_UID_NONE)
			return false;
	return !ops->promised || ops->promised(control->config.user) == 0;
}

bool memory_control_admit(struct memory_control *control, const char *language, bool has_spare)
{
	struct policy *policy = &control->policy;
	uint64_t cost = memory_control_cost(control, language, has_spare);

	if (control->config.is_off || is_empty(control))
		return true;
	if ((has_spare || policy->may_admit) && policy_admit(policy, cost))
		return true;
	control->is_awaited = true;
	control_hurry(control);
	return false;
}
