/* SPDX-License-Identifier: Apache-2.0 */
/* `memory.*`: what the VMs' memory is doing, and the balloon by hand. */
#include "daemon/method/methods.h"

#include "daemon/memory/stats.h"

#include <errno.h>
#include <string.h>

/* Below this the guest's kernel itself has no room; the API's floor for every target. */
#define TARGET_MIN_MB 64

struct rpc_reply method_memory_stats(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	json_t *vms = json_array();

	if (json_object_get(params, "vm")) {
		struct rpc_error *error = NULL;
		struct vm *vm = method_find_vm(call, params, &error);

		if (!vm) {
			json_decref(vms);
			return rpc_reply_error(call, error);
		}
		json_array_append_new(vms, memory_vm_json(vm));
	} else {
		for (struct vm *vm = daemon->vm_host.vms; vm; vm = vm_next(vm))
			if (method_may_see(call, vm))
				json_array_append_new(vms, memory_vm_json(vm));
	}
	return rpc_reply_result(call, json_pack("{s:o, s:o}", "host",
						memory_host_json(daemon->memory), "vms", vms));
}

/* One balloon operation that a caller waits for. */
struct balloon_call {
	struct rpc_call *call; /* NULL once the caller is gone */
	char vm[VM_ID_SIZE];
	uint64_t target_bytes;
};

static void on_balloon_done(void *user, int error, uint64_t actual_bytes)
{
	struct balloon_call *waiting = user;
	struct rpc_call *call = waiting->call;

	if (!call) {
		free(waiting);
		return;
	}
	if (error == 0 || error == -ETIME)
		rpc_call_finish_result(
			call, json_pack("{s:s, s:I, s:I, s:b}", "vm", waiting->vm, "target_bytes",
					(json_int_t)waiting->target_bytes, "actual_bytes",
					(json_int_t)actual_bytes, "reached", error == 0));
	else
		rpc_call_finish_error(call, rpc_error_new(RPC_VM_TRANSIENT,
							  "Cannot move the balloon of VM %s: %s",
							  waiting->vm, strerror(-error)));
	free(waiting);
}

static void on_balloon_caller_gone(void *user)
{
	struct balloon_call *waiting = user;

	waiting->call = NULL; /* the operation ends by itself and frees this */
}

static const struct rpc_call_ops balloon_call_ops = {.on_gone = on_balloon_caller_gone};

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

static struct rpc_error *set_target(struct vm *vm, struct balloon_call *waiting)
{
	struct balloon *balloon = vm_balloon(vm);
	int r = balloon ? balloon_set(balloon, waiting->target_bytes, on_balloon_done, waiting)
			: -ENOTCONN;

	if (r == 0)
		return NULL;
	return rpc_error_hint(rpc_error_new(RPC_VM_TRANSIENT, "VM %s is %s", waiting->vm,
					    r == -EBUSY ? "moving its balloon already"
							: vm_state_name(vm_get_state(vm))),
			      "try again in a moment");
}

struct rpc_reply method_memory_balloon(struct rpc_call *call, const json_t *params)
{
	json_int_t target_mb = json_integer_value(json_object_get(params, "target_mb"));
	struct rpc_error *error = NULL;
	struct vm *vm = method_find_vm(call, params, &error);
	struct balloon_call *waiting = NULL;

	if (vm)
		error = check_target(vm, target_mb);
	if (!error) {
		waiting = calloc(1, sizeof(*waiting));
		error = waiting ? NULL
				: rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	}
	if (waiting) {
		*waiting = (struct balloon_call){.call = call,
						 .target_bytes = (uint64_t)target_mb << 20};
		memcpy(waiting->vm, vm_id(vm), strlen(vm_id(vm)) + 1);
		error = set_target(vm, waiting);
	}
	if (error) {
		free(waiting);
		return rpc_reply_error(call, error);
	}
	return rpc_reply_pending(call, &balloon_call_ops, waiting);
}
