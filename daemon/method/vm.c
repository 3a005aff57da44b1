/* SPDX-License-Identifier: Apache-2.0 */
/* `vm.*`: the VMs there are. */
#include "daemon/method/methods.h"

static json_t *describe(const struct daemon *daemon, const struct vm *vm)
{
	const struct vm_spec *spec = vm_get_spec(vm);
	char created[RFC3339_SIZE];

	format_rfc3339(vm_created_ns(vm), created);
	return json_pack("{s:s, s:s, s:o, s:s, s:s?, s:I, s:o, s:s, s:o}", "vm", vm_id(vm), "state",
			 vm_state_name(vm_get_state(vm)), "pid",
			 vm_pid(vm) > 0 ? json_integer(vm_pid(vm)) : json_null(), "language",
			 spec->language, "session", sessions_vm_owner(daemon->sessions, vm),
			 "memory_mb", (json_int_t)spec->memory_mb, "uid",
			 spec->uid == VM_UID_NONE ? json_null()
						  : json_integer((json_int_t)spec->uid),
			 "created_at", created, "start_ms",
			 vm_start_us(vm) ? json_real((double)vm_start_us(vm) / 1000) : json_null());
}

struct rpc_reply method_vm_list(struct rpc_call *call, const json_t *params UNUSED)
{
	struct daemon *daemon = rpc_call_context(call);
	json_t *vms = json_array();

	for (struct vm *vm = daemon->vm_host.vms; vm; vm = vm_next(vm))
		if (method_may_see(call, vm))
			json_array_append_new(vms, describe(daemon, vm));
	return rpc_reply_result(call, json_pack("{s:o}", "vms", vms));
}

struct rpc_reply method_vm_info(struct rpc_call *call, const json_t *params)
{
	const struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error = NULL;
	struct vm *vm = method_find_vm(call, params, &error);

	return vm ? rpc_reply_result(call, describe(daemon, vm)) : rpc_reply_error(call, error);
}
