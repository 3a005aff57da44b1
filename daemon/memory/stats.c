/* SPDX-License-Identifier: Apache-2.0 */
/* One sample per VM for `memory.stats`: the host's truth beside the guest's claims. */
#include "daemon/memory/stats.h"

#include "base/util.h"
#include "daemon/memory/host.h"

json_t *memory_host_json(const struct memory_control *control)
{
	const struct host_sample *sample = memory_control_sample(control);
	enum policy_level level = memory_control_level(control);
	struct host_memory memory;

	if (host_memory_read(&memory) < 0)
		return NULL;
	return json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:s, s:s}", "total_bytes",
			 (json_int_t)memory.total_bytes, "available_bytes",
			 (json_int_t)memory.available_bytes, "managed_bytes",
			 (json_int_t)sample->managed_bytes, "managed_available_bytes",
			 (json_int_t)sample->available_bytes, "psi_some_avg10",
			 memory.has_psi ? json_real(memory.psi_some_avg10) : json_null(),
			 "psi_full_avg10",
			 memory.has_psi ? json_real(memory.psi_full_avg10) : json_null(), "level",
			 policy_level_name(level), "state", policy_pressure_name(level));
}

static void set_bytes(json_t *object, const char *key, uint64_t bytes, bool is_known)
{
	json_object_set_new(object, key, is_known ? json_integer((json_int_t)bytes) : json_null());
}

/* Measuring takes the kernel a millisecond or two per VM: callers who ask more often get the last
 * figures. */
#define FOOTPRINT_KEEP_US 1000000u

static const struct vm_footprint *measure(struct vm *vm)
{
	struct vm_footprint *footprint = vm_footprint(vm);
	struct process_memory process;

	if (footprint->measured_us && now_us() - footprint->measured_us < FOOTPRINT_KEEP_US)
		return footprint;
	if (vm_pid(vm) > 0 && process_memory_read(vm_pid(vm), &process) == 0)
		*footprint = (struct vm_footprint){.rss_bytes = process.rss_bytes,
						   .pss_bytes = process.pss_bytes,
						   .anonymous_bytes = process.anonymous_bytes,
						   .measured_us = now_us()};
	return footprint;
}

static void add_process(json_t *object, struct vm *vm)
{
	const struct vm_footprint *process = measure(vm);
	bool is_known = process->measured_us > 0;

	set_bytes(object, "rss_bytes", process->rss_bytes, is_known);
	set_bytes(object, "pss_bytes", process->pss_bytes, is_known);
	set_bytes(object, "anonymous_bytes", process->anonymous_bytes, is_known);
}

static void add_guest(json_t *object, struct vm *vm)
{
	const struct vm_telemetry *telemetry = vm_telemetry(vm);
	const struct msg_memory *memory = &telemetry->memory;
	const struct balloon *balloon = vm_balloon(vm);
	bool has_agent = telemetry->received_us > 0;
	bool has_stats = balloon && balloon->stats.updated_s > 0;

	set_bytes(object, "guest_total_bytes",
		  has_agent   ? memory->mem_total
		  : has_stats ? balloon->stats.total
			      : 0,
		  has_agent || has_stats);
	set_bytes(object, "guest_available_bytes",
		  has_agent   ? memory->mem_available
		  : has_stats ? balloon->stats.available
			      : 0,
		  has_agent || has_stats);
	set_bytes(object, "balloon_actual_bytes", balloon ? balloon->actual_bytes : 0,
		  balloon != NULL);
	set_bytes(object, "balloon_target_bytes", balloon ? balloon->target_bytes : 0,
		  balloon != NULL);
	set_bytes(object, "zram_orig_bytes", memory->zram_orig_data_size, has_agent);
	set_bytes(object, "zram_compressed_bytes", memory->zram_compr_data_size, has_agent);
	set_bytes(object, "zram_used_bytes", memory->zram_mem_used_total, has_agent);
	set_bytes(object, "zram_limit_bytes", memory->zram_mem_limit, has_agent);
	set_bytes(object, "swap_used_bytes",
		  memory->swap_total - MIN(memory->swap_free, memory->swap_total), has_agent);
	set_bytes(object, "swap_in_bytes", memory->swap_in, has_agent);
	set_bytes(object, "swap_out_bytes", memory->swap_out, has_agent);
	json_object_set_new(
		object, "age_ms",
		has_agent ? json_integer((json_int_t)((now_us() - telemetry->received_us) / 1000))
			  : json_null());
}

json_t *memory_vm_json(struct vm *vm)
{
	json_t *object = json_pack("{s:s}", "vm", vm_id(vm));

	if (!object)
		return NULL;
	add_process(object, vm);
	add_guest(object, vm);
	return object;
}
