/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of all methods, one file per family; rpc_call_context() is the struct daemon. */
#ifndef DAEMON_METHOD_METHODS_H
#define DAEMON_METHOD_METHODS_H

#include "daemon/daemon.h"
#include "daemon/rpc/call.h"

/* Ended by nothing: the count is beside it. */
extern const struct rpc_handler method_handlers[];
extern const size_t method_handler_count;

struct rpc_reply method_daemon_drain(struct rpc_call *call, const json_t *params);
struct rpc_reply method_daemon_reload(struct rpc_call *call, const json_t *params);
struct rpc_reply method_run(struct rpc_call *call, const json_t *params);
struct rpc_reply method_file_list(struct rpc_call *call, const json_t *params);
struct rpc_reply method_file_mkdir(struct rpc_call *call, const json_t *params);
struct rpc_reply method_file_read(struct rpc_call *call, const json_t *params);
struct rpc_reply method_file_remove(struct rpc_call *call, const json_t *params);
struct rpc_reply method_file_rename(struct rpc_call *call, const json_t *params);
struct rpc_reply method_file_stat(struct rpc_call *call, const json_t *params);
struct rpc_reply method_file_write(struct rpc_call *call, const json_t *params);
struct rpc_reply method_info(struct rpc_call *call, const json_t *params);
struct rpc_reply method_health(struct rpc_call *call, const json_t *params);
struct rpc_reply method_vm_list(struct rpc_call *call, const json_t *params);
struct rpc_reply method_vm_info(struct rpc_call *call, const json_t *params);
struct rpc_reply method_metrics(struct rpc_call *call, const json_t *params);
struct rpc_reply method_memory_stats(struct rpc_call *call, const json_t *params);
struct rpc_reply method_memory_balloon(struct rpc_call *call, const json_t *params);
struct rpc_reply method_memory_policy(struct rpc_call *call, const json_t *params);
struct rpc_reply method_memory_reclaim(struct rpc_call *call, const json_t *params);
struct rpc_reply method_pool_get(struct rpc_call *call, const json_t *params);
struct rpc_reply method_pool_set(struct rpc_call *call, const json_t *params);
struct rpc_reply method_process_close_stdin(struct rpc_call *call, const json_t *params);
struct rpc_reply method_process_list(struct rpc_call *call, const json_t *params);
struct rpc_reply method_process_resize(struct rpc_call *call, const json_t *params);
struct rpc_reply method_process_signal(struct rpc_call *call, const json_t *params);
struct rpc_reply method_process_wait(struct rpc_call *call, const json_t *params);
struct rpc_reply method_process_write(struct rpc_call *call, const json_t *params);
struct rpc_reply method_session_attach(struct rpc_call *call, const json_t *params);
struct rpc_reply method_session_close(struct rpc_call *call, const json_t *params);
struct rpc_reply method_session_create(struct rpc_call *call, const json_t *params);
struct rpc_reply method_session_exec(struct rpc_call *call, const json_t *params);
struct rpc_reply method_session_info(struct rpc_call *call, const json_t *params);
struct rpc_reply method_session_list(struct rpc_call *call, const json_t *params);
struct rpc_reply method_session_result(struct rpc_call *call, const json_t *params);
struct rpc_reply method_session_update(struct rpc_call *call, const json_t *params);
struct rpc_reply method_template_build(struct rpc_call *call, const json_t *params);
struct rpc_reply method_template_info(struct rpc_call *call, const json_t *params);
struct rpc_reply method_template_list(struct rpc_call *call, const json_t *params);
struct rpc_reply method_template_remove(struct rpc_call *call, const json_t *params);
struct rpc_reply method_events_subscribe(struct rpc_call *call, const json_t *params);
struct rpc_reply method_events_unsubscribe(struct rpc_call *call, const json_t *params);

/*
 * The VM named by params.vm, if the caller may see it: an admin sees all, others their own, and a
 * foreign id answers as if it did not exist. NULL with the error to answer in `ret_error`.
 */
struct vm *method_find_vm(struct rpc_call *call, const json_t *params,
			  struct rpc_error **ret_error);

/* The same for the session named by params.session; one that has closed is another error. */
struct session *method_find_session(struct rpc_call *call, const json_t *params,
				    struct rpc_error **ret_error);

/* Whether the caller may see this VM. */
bool method_may_see(const struct rpc_call *call, const struct vm *vm);

/* NULL, or 1001 when the daemon is stopping and takes no new work. */
struct rpc_error *method_require_accepting(const struct daemon *daemon) WARN_UNUSED;

/* The template of a language's default size; NULL while there are none (templates = off). */
struct template *method_default_template(const struct daemon *daemon, const char *language);

#endif
