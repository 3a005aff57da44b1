/* SPDX-License-Identifier: Apache-2.0 */
/* `memory.*`: what the VMs' memory is doing, the balloon by hand, and the policy's settings. */
#include "daemon/method/methods.h"

#include "daemon/memory/stats.h"

#include <errno.h>
#include <string.h>

/* Below this the guest's kernel itself has no room; the API's floor for every target. */
#define TARGET_MIN_MB 64

/* --- memory.stats --- */

static json_t *all_vms(struct rpc_call *call)
{
	struct daemon *daemon = rpc_call_context(call);
	json_t *vms = json_array();

	for (struct vm *vm = daemon->vm_host.vms; vm; vm = vm_next(vm))
		if (method_may_see(call, vm))
			json_array_append_new(vms, memory_vm_json(daemon->memory, vm));
	return vms;
}

struct rpc_reply method_memory_stats(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error = NULL;
	struct vm *vm = NULL;
	json_t *vms;

	if (json_object_get(params, "vm")) {
		vm = method_find_vm(call, params, &error);
		if (!vm)
			return rpc_reply_error(call, error);
	}
	vms = vm ? json_pack("[o]", memory_vm_json(daemon->memory, vm)) : all_vms(call);
	return rpc_reply_result(call, json_pack("{s:o, s:o}", "host",
						memory_host_json(daemon->memory), "vms", vms));
}

/* --- Calls that wait for memory control --- */

struct memory_call {
	struct rpc_call *call; /* NULL once the caller is gone */
	char vm[VM_ID_SIZE];
	uint64_t bytes; /* the target, or what was asked for */
};

static void on_caller_gone(void *user)
{
	struct memory_call *waiting = user;

	waiting->call = NULL; /* the operation ends by itself and frees this */
}

static const struct rpc_call_ops memory_call_ops = {.on_gone = on_caller_gone};

static struct memory_call *memory_call_new(struct rpc_call *call, const struct vm *vm,
					   uint64_t bytes, struct rpc_error **ret_error)
{
	struct memory_call *waiting = calloc(1, sizeof(*waiting));

	if (!waiting) {
		*ret_error = rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
		return NULL;
	}
	waiting->call = call;
	waiting->bytes = bytes;
	if (vm)
		memcpy(waiting->vm, vm_id(vm), strlen(vm_id(vm)) + 1);
	return waiting;
}

/* --- memory.balloon --- */

static struct rpc_error *balloon_error(const char *vm, int error)
{
	if (error == -ECANCELED)
		return rpc_error_hint(
			rpc_error_new(RPC_VM_TRANSIENT, "VM %s ended, or got another target", vm),
			"memory.stats tells where it stands");
	return rpc_error_new(RPC_VM_TRANSIENT, "Cannot move the balloon of VM %s: %s", vm,
			     strerror(-error));
}

static void on_balloon_done(void *user, int error, uint64_t actual_bytes)
{
	struct memory_call *waiting = user;
	struct rpc_call *call = waiting->call;

	if (call && (error == 0 || error == -ETIME))
		rpc_call_finish_result(call, json_pack("{s:s, s:I, s:I, s:b}", "vm", waiting->vm,
						       "target_bytes", (json_int_t)waiting->bytes,
						       "actual_bytes", (json_int_t)actual_bytes,
						       "reached", error == 0));
	else if (call)
		rpc_call_finish_error(call, balloon_error(waiting->vm, error));
	free(waiting);
}

static struct rpc_error *check_target(const struct vm *vm, json_int_t target_mb)
{
	uint64_t size_mb = vm_get_spec(vm)->memory_mb;
	struct rpc_error *error;

	if (target_mb >= TARGET_MIN_MB && (uint64_t)target_mb <= size_mb)
		return NULL;
	error = rpc_error_new(RPC_LIMIT_INVALID, "target_mb is %jd, outside %d to %ju",
			      (intmax_t)target_mb, TARGET_MIN_MB, (uintmax_t)size_mb);
	rpc_error_set(error, "field", json_string("target_mb"));
	rpc_error_set(error, "min", json_integer(TARGET_MIN_MB));
	rpc_error_set(error, "max", json_integer((json_int_t)size_mb));
	return rpc_error_hint(error,
			      "a target is what the guest keeps; the VM's size gives all back");
}

struct rpc_reply method_memory_balloon(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	json_int_t target_mb = json_integer_value(json_object_get(params, "target_mb"));
	struct rpc_error *error = NULL;
	struct vm *vm = method_find_vm(call, params, &error);
	struct memory_call *waiting = NULL;
	int r;

	if (vm)
		error = check_target(vm, target_mb);
	if (!error)
		waiting = memory_call_new(call, vm, (uint64_t)target_mb << 20, &error);
	if (error)
		return rpc_reply_error(call, error);
	r = memory_control_balloon(daemon->memory, vm, waiting->bytes, on_balloon_done, waiting);
	if (r == 0)
		return rpc_reply_pending(call, &memory_call_ops, waiting);
	free(waiting);
	if (r != -ENOTCONN)
		return rpc_reply_error(call, balloon_error(vm_id(vm), r));
	error = rpc_error_new(RPC_VM_TRANSIENT, "VM %s is %s: it has no balloon now", vm_id(vm),
			      vm_state_name(vm_get_state(vm)));
	return rpc_reply_error(call, rpc_error_hint(error, "one that runs code has"));
}

/* --- memory.reclaim --- */

static json_t *reclaimed_vms(const struct memory_reclaimed *reclaimed)
{
	json_t *vms = json_array();

	for (size_t i = 0; i < reclaimed->count; i++)
		json_array_append_new(
			vms, json_pack("{s:s, s:I, s:I}", "vm", reclaimed->vms[i].id,
				       "target_bytes", (json_int_t)reclaimed->vms[i].target_bytes,
				       "actual_bytes", (json_int_t)reclaimed->vms[i].actual_bytes));
	return vms;
}

/* `reclaimed` is NULL when the daemon ends: the call is answered by its stop. */
static void on_reclaimed(void *user, const struct memory_reclaimed *reclaimed)
{
	struct memory_call *waiting = user;

	if (waiting->call && reclaimed)
		rpc_call_finish_result(waiting->call,
				       json_pack("{s:I, s:I, s:o}", "requested_bytes",
						 (json_int_t)waiting->bytes, "reclaimed_bytes",
						 (json_int_t)reclaimed->bytes, "vms",
						 reclaimed_vms(reclaimed)));
	else if (waiting->call)
		rpc_call_finish_error(waiting->call,
				      rpc_error_new(RPC_DRAINING, "The daemon stopped"));
	free(waiting);
}

struct rpc_reply method_memory_reclaim(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	uint64_t bytes = (uint64_t)json_integer_value(json_object_get(params, "bytes"));
	struct rpc_error *error = NULL;
	struct memory_call *waiting = NULL;
	struct vm *vm = NULL;
	int r;

	if (json_object_get(params, "vm"))
		vm = method_find_vm(call, params, &error);
	if (!error)
		waiting = memory_call_new(call, vm, bytes, &error);
	if (error)
		return rpc_reply_error(call, error);
	r = memory_control_reclaim(daemon->memory, vm, bytes, on_reclaimed, waiting);
	if (r == 0)
		return rpc_reply_pending(call, &memory_call_ops, waiting);
	free(waiting);
	error = rpc_error_new(RPC_VM_TRANSIENT, "Memory is being reclaimed already");
	return rpc_reply_error(call, rpc_error_hint(error, "it takes 10 s at most; then again"));
}

/* --- memory.policy --- */

static json_t *policy_json(struct daemon *daemon)
{
	const struct policy *policy = memory_control_policy(daemon->memory);
	struct memory_settings settings;

	memory_control_get(daemon->memory, &settings);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:i, s:f, s:s, s:s, s:I, s:I, s:b, s:b}",
			 "mode", settings.is_off ? "off" : "auto", "budget_mb",
			 (json_int_t)(settings.budget_bytes >> 20), "reserve_mb",
			 (json_int_t)(settings.reserve_bytes >> 20), "floor_mb",
			 (json_int_t)(settings.floor_bytes >> 20), "run_mb",
			 (json_int_t)(settings.run_bytes >> 20), "inflating_max",
			 (int)settings.inflating_max, "guest_max_age_seconds",
			 (double)policy->config.guest_max_age_us / 1e6, "level",
			 policy_level_name(policy->level), "state",
			 policy_pressure_name(policy->level), "need_bytes",
			 (json_int_t)policy->need_bytes, "credit_bytes",
			 (json_int_t)policy->credit_bytes, "may_admit", policy->may_admit,
			 "may_refill_spares", policy->may_refill_spares);
}

static void take_mb(const json_t *params, const char *name, uint64_t *bytes)
{
	const json_t *value = json_object_get(params, name);

	if (json_is_integer(value))
		*bytes = (uint64_t)json_integer_value(value) << 20;
}

struct rpc_reply method_memory_policy(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	const json_t *mode = json_object_get(params, "mode");
	const json_t *inflating = json_object_get(params, "inflating_max");
	struct memory_settings settings;

	memory_control_get(daemon->memory, &settings);
	if (mode)
		settings.is_off = strcmp(json_string_value(mode), "off") == 0;
	if (inflating)
		settings.inflating_max = (unsigned)json_integer_value(inflating);
	take_mb(params, "budget_mb", &settings.budget_bytes);
	take_mb(params, "reserve_mb", &settings.reserve_bytes);
	take_mb(params, "floor_mb", &settings.floor_bytes);
	take_mb(params, "run_mb", &settings.run_bytes);
	if (json_object_size(params) > 0)
		memory_control_set(daemon->memory, &settings);
	return rpc_reply_result(call, policy_json(daemon));
}
