/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of all methods, one file per family; rpc_call_context() is the struct daemon. */
#ifndef DAEMON_METHOD_METHODS_H
#define DAEMON_METHOD_METHODS_H

#include "daemon/daemon.h"
#include "daemon/rpc/call.h"

/* Ended by nothing: the count is beside it. */
extern const struct rpc_handler method_handlers[];
extern const size_t method_handler_count;

struct rpc_reply method_run(struct rpc_call *call, const json_t *params);
struct rpc_reply method_info(struct rpc_call *call, const json_t *params);
struct rpc_reply method_health(struct rpc_call *call, const json_t *params);
struct rpc_reply method_vm_list(struct rpc_call *call, const json_t *params);
struct rpc_reply method_vm_info(struct rpc_call *call, const json_t *params);
struct rpc_reply method_memory_stats(struct rpc_call *call, const json_t *params);
struct rpc_reply method_memory_balloon(struct rpc_call *call, const json_t *params);
struct rpc_reply method_events_subscribe(struct rpc_call *call, const json_t *params);
struct rpc_reply method_events_unsubscribe(struct rpc_call *call, const json_t *params);

/*
 * The VM named by params.vm, if the caller may see it: an admin sees all, others their own, and a
 * foreign id answers as if it did not exist. NULL with the error to answer in `ret_error`.
 */
struct vm *method_find_vm(struct rpc_call *call, const json_t *params,
			  struct rpc_error **ret_error);

/* Whether the caller may see this VM. */
bool method_may_see(const struct rpc_call *call, const struct vm *vm);

#endif
