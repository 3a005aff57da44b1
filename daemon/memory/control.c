/* SPDX-License-Identifier: Apache-2.0 */
/* Memory control: the host's pressure, and the level that the policy makes of it. */
#include "daemon/memory/control.h"

#include "base/log.h"
#include "base/util.h"
#include "daemon/memory/host.h"

#include <errno.h>

#define LOG_OBJECT "memory"

struct memory_control {
	struct memory_control_config config;
	struct host_pressure *pressure;
	struct host_sample sample; /* the last one */
	struct policy policy;
};

/* Counted against a budget only: without one nobody asks. */
static uint64_t used_bytes(const struct vm_host *host)
{
	uint64_t sum = 0, bytes;

	for (struct vm *vm = host->vms; vm; vm = vm_next(vm))
		if (vm_pid(vm) > 0 && process_anonymous_read(vm_pid(vm), &bytes) == 0)
			sum += bytes;
	return sum;
}

static void step(struct memory_control *control)
{
	const struct host_sample *sample = &control->sample;
	enum policy_level old = control->policy.level;
	struct policy_host host = {.managed_bytes = sample->managed_bytes,
				   .available_bytes = sample->available_bytes,
				   .has_psi = sample->has_psi,
				   .some_percent = sample->some_stall_percent,
				   .full_percent = sample->full_stall_percent};

	policy_step(&control->policy, sample->measured_us, &host, NULL, 0, NULL);
	if (control->policy.level == old)
		return;
	log_notice(LOG_OBJECT,
		   "Pressure %s -> %s: %ju of %ju MiB left, stalled %.1f %% (all %.1f %%)",
		   policy_level_name(old), policy_level_name(control->policy.level),
		   (uintmax_t)(sample->available_bytes >> 20),
		   (uintmax_t)(sample->managed_bytes >> 20), sample->some_stall_percent,
		   sample->full_stall_percent);
	if (control->config.on_level)
		control->config.on_level(control->config.user, old);
}

static void on_pressure(void *user, const struct host_sample *sample, enum host_wake wake UNUSED)
{
	struct memory_control *control = user;

	control->sample = *sample;
	if (control->config.budget_bytes > 0)
		host_pressure_set_used(control->pressure, used_bytes(control->config.host));
	step(control);
}

int memory_control_create(const struct memory_control_config *config, struct memory_control **ret)
{
	const struct host_pressure_config pressure_config = {.reserve_bytes = config->reserve_bytes,
							     .budget_bytes = config->budget_bytes,
							     .files = config->files};
	struct memory_control *control = calloc(1, sizeof(*control));
	int r;

	if (!control)
		return -ENOMEM;
	control->config = *config;
	policy_init(&control->policy, &policy_defaults);
	r = host_pressure_create(config->loop, &pressure_config, on_pressure, control,
				 &control->pressure);
	if (r < 0) {
		free(control);
		return r;
	}
	host_pressure_sample(control->pressure, &control->sample);
	*ret = control;
	return 0;
}

void memory_control_destroy(struct memory_control *control)
{
	if (!control)
		return;
	host_pressure_destroy(control->pressure);
	free(control);
}

enum policy_level memory_control_level(const struct memory_control *control)
{
	return control->policy.level;
}

const struct host_sample *memory_control_sample(const struct memory_control *control)
{
	return &control->sample;
}
