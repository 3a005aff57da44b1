/* SPDX-License-Identifier: Apache-2.0 */
/* The list of handlers, and what several families share. */
#include "daemon/method/methods.h"

const struct rpc_handler method_handlers[] = {
	{"daemon.drain", method_daemon_drain},
	{"daemon.reload", method_daemon_reload},
	{"events.subscribe", method_events_subscribe},
	{"events.unsubscribe", method_events_unsubscribe},
	{"file.list", method_file_list},
	{"file.mkdir", method_file_mkdir},
	{"file.read", method_file_read},
	{"file.remove", method_file_remove},
	{"file.rename", method_file_rename},
	{"file.stat", method_file_stat},
	{"file.write", method_file_write},
	{"health", method_health},
	{"info", method_info},
	{"memory.balloon", method_memory_balloon},
	{"memory.policy", method_memory_policy},
	{"memory.reclaim", method_memory_reclaim},
	{"memory.stats", method_memory_stats},
	{"metrics", method_metrics},
	{"pool.get", method_pool_get},
	{"pool.set", method_pool_set},
	{"process.close_stdin", method_process_close_stdin},
	{"process.list", method_process_list},
	{"process.resize", method_process_resize},
	{"process.signal", method_process_signal},
	{"process.wait", method_process_wait},
	{"process.write", method_process_write},
	{"run", method_run},
	{"session.attach", method_session_attach},
	{"session.close", method_session_close},
	{"session.create", method_session_create},
	{"session.exec", method_session_exec},
	{"session.info", method_session_info},
	{"session.list", method_session_list},
	{"session.result", method_session_result},
	{"session.update", method_session_update},
	{"template.build", method_template_build},
	{"template.info", method_template_info},
	{"template.list", method_template_list},
	{"template.remove", method_template_remove},
	{"vm.info", method_vm_info},
	{"vm.list", method_vm_list},
};
const size_t method_handler_count = ELEMENTSOF(method_handlers);

bool method_may_see(const struct rpc_call *call, const struct vm *vm)
{
	const struct rpc_peer *peer = rpc_call_peer(call);

	return peer->is_admin || vm_get_spec(vm)->uid == peer->uid;
}

struct rpc_error *method_require_accepting(const struct daemon *daemon)
{
	if (!daemon->is_draining)
		return NULL;
	return rpc_error_hint(
		rpc_error_new(RPC_DRAINING, "The daemon is stopping and takes no new work"),
		"try again after its restart");
}

struct template *method_default_template(const struct daemon *daemon, const char *language)
{
	uint64_t memory_mb = (uint64_t)daemon->config->default_memory_mb;

	return daemon->templates ? templates_get(daemon->templates, language, memory_mb) : NULL;
}

struct vm *method_find_vm(struct rpc_call *call, const json_t *params, struct rpc_error **ret_error)
{
	struct daemon *daemon = rpc_call_context(call);
	const char *id = json_string_value(json_object_get(params, "vm"));
	struct vm *vm = vm_find(&daemon->vm_host, id);

	if (vm && method_may_see(call, vm))
		return vm;
	*ret_error = rpc_error_hint(rpc_error_new(RPC_VM_NOT_FOUND, "There is no VM '%.64s'", id),
				    "'execsandboxctl list' shows the VMs there are");
	rpc_error_set(*ret_error, "vm", json_string(id));
	return NULL;
}
