/* SPDX-License-Identifier: Apache-2.0 */
/* One sample per VM for `memory.stats`: the host's truth beside the guest's claims. */
#include "daemon/memory/stats.h"

#include "base/util.h"
#include "daemon/memory/guest_stats.h"
#include "daemon/memory/host.h"

static json_t *bytes_or_null(uint64_t bytes, bool is_known)
{
	return is_known ? json_integer((json_int_t)bytes) : json_null();
}

json_t *memory_host_json(const struct memory_control *control)
{
	const struct host_sample *sample = memory_control_sample(control);
	enum policy_level level = memory_control_policy(control)->level;
	struct memory_settings settings;
	struct host_memory memory;

	if (host_memory_read(&memory) < 0)
		return NULL;
	memory_control_get(control, &settings);
	return json_pack(
		"{s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:s, s:s}", "total_bytes",
		(json_int_t)memory.total_bytes, "available_bytes",
		(json_int_t)memory.available_bytes, "managed_bytes",
		(json_int_t)sample->managed_bytes, "managed_available_bytes",
		(json_int_t)sample->available_bytes, "reserve_bytes",
		(json_int_t)settings.reserve_bytes, "budget_bytes",
		bytes_or_null(settings.budget_bytes, settings.budget_bytes > 0), "psi_some_avg10",
		memory.has_psi ? json_real(memory.psi_some_avg10) : json_null(), "psi_full_avg10",
		memory.has_psi ? json_real(memory.psi_full_avg10) : json_null(), "level",
		policy_level_name(level), "state", policy_pressure_name(level));
}

static void set_bytes(json_t *object, const char *key, uint64_t bytes, bool is_known)
{
	json_object_set_new(object, key, bytes_or_null(bytes, is_known));
}

/* --- The host's truth --- */

/* Measuring takes the kernel a millisecond or two per VM: callers who ask more often get the last
 * figures. */
#define FOOTPRINT_KEEP_US 1000000u

static void measure(struct memory_vm *memory)
{
	struct memory_footprint *footprint = &memory->footprint;
	pid_t pid = vm_pid(memory->vm);
	struct process_memory process;

	if (footprint->measured_us && now_us() - footprint->measured_us < FOOTPRINT_KEEP_US)
		return;
	if (pid > 0 && process_memory_read(pid, &process) == 0)
		*footprint = (struct memory_footprint){.rss_bytes = process.rss_bytes,
						       .pss_bytes = process.pss_bytes,
						       .anonymous_bytes = process.anonymous_bytes,
						       .measured_us = now_us()};
}

static void add_process(json_t *object, struct memory_vm *memory)
{
	const struct memory_footprint *process = &memory->footprint;
	bool is_known;
	uint64_t cpu_us;

	measure(memory);
	is_known = process->measured_us > 0;
	set_bytes(object, "rss_bytes", process->rss_bytes, is_known);
	set_bytes(object, "pss_bytes", process->pss_bytes, is_known);
	set_bytes(object, "anonymous_bytes", process->anonymous_bytes, is_known);
	is_known = vm_pid(memory->vm) > 0 && process_cpu_read(vm_pid(memory->vm), &cpu_us) == 0;
	set_bytes(object, "cpu_us", is_known ? cpu_us : 0, is_known);
}

/* --- The VM --- */

static const char *const state_names[] = {
	[POLICY_SPARE] = "spare", [POLICY_IDLE] = "idle", [POLICY_BUSY] = "busy"};

static void add_vm(json_t *object, const struct memory_vm *memory)
{
	const struct vm_spec *spec = vm_get_spec(memory->vm);
	uint64_t uptime_ns = realtime_ns() - MIN(realtime_ns(), vm_created_ns(memory->vm));

	json_object_set_new(object, "vm", json_string(vm_id(memory->vm)));
	json_object_set_new(object, "language", json_string(spec->language));
	json_object_set_new(object, "uid",
			    bytes_or_null((uint64_t)spec->uid, spec->uid != VM_UID_NONE));
	json_object_set_new(object, "state", json_string(vm_state_name(vm_get_state(memory->vm))));
	json_object_set_new(object, "policy_state",
			    memory_vm_is_managed(memory->vm)
				    ? json_string(state_names[memory->sample.state])
				    : json_null());
	set_bytes(object, "size_bytes", memory->sample.size_bytes, true);
	set_bytes(object, "uptime_ms", uptime_ns / 1000000, true);
}

static void add_balloon(json_t *object, const struct memory_vm *memory)
{
	const struct balloon *balloon = vm_balloon(memory->vm);

	set_bytes(object, "balloon_actual_bytes", balloon ? balloon->actual_bytes : 0,
		  balloon != NULL);
	set_bytes(object, "balloon_target_bytes", balloon ? balloon->target_bytes : 0,
		  balloon != NULL);
	json_object_set_new(object, "is_moving", json_boolean(memory->mover.state != MOVER_STILL));
	json_object_set_new(object, "is_pinned", json_boolean(memory->is_pinned));
}

/* --- The guest's claims --- */

static void add_guest(json_t *object, const struct memory_vm *memory)
{
	const struct msg_memory *agent = &vm_telemetry(memory->vm)->memory;
	const struct policy_guest *guest = &memory->sample.guest;
	uint64_t swap = guest_claim(agent->swap_total);
	bool has_agent = guest->is_agents;

	set_bytes(object, "guest_total_bytes", guest->total_bytes, guest->is_known);
	set_bytes(object, "guest_available_bytes", guest->available_bytes, guest->is_known);
	set_bytes(object, "guest_caches_bytes", guest->caches_bytes, guest->is_known);
	set_bytes(object, "guest_anonymous_bytes", guest->anonymous_bytes, has_agent);
	set_bytes(object, "zram_orig_bytes", guest->zram_orig_bytes, has_agent);
	set_bytes(object, "zram_compressed_bytes", guest_claim(agent->zram_compr_data_size),
		  has_agent);
	set_bytes(object, "zram_used_bytes", guest->zram_used_bytes, has_agent);
	set_bytes(object, "zram_limit_bytes", guest->zram_limit_bytes, has_agent);
	set_bytes(object, "swap_used_bytes", swap - MIN(guest->swap_free_bytes, swap), has_agent);
	set_bytes(object, "swap_in_bytes", guest_claim(agent->swap_in), has_agent);
	set_bytes(object, "swap_out_bytes", guest_claim(agent->swap_out), has_agent);
	set_bytes(object, "age_ms", guest->age_us / 1000, guest->is_known);
}

json_t *memory_vm_json(struct memory_control *control, struct vm *vm)
{
	struct memory_vm *memory = memory_control_look(control, vm);
	json_t *object = memory ? json_object() : NULL;

	if (!object)
		return NULL;
	add_vm(object, memory);
	add_process(object, memory);
	add_balloon(object, memory);
	add_guest(object, memory);
	return object;
}
