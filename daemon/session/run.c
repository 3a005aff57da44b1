/* SPDX-License-Identifier: Apache-2.0 */
/* One `run`: a program and a fresh VM. */
#include "daemon/session/run.h"

/* The only exec of its VM. */
#define EXEC_NUMBER 1

struct run {
	struct run_env env;
	struct exec *exec;
	char language[32]; /* of the wish, longer than the exec */
	struct pool_request wish;
	struct vm *vm; /* from on_vm to the end */
	struct defer free_later;
};

static void on_vm(void *user, struct vm *vm)
{
	struct run *run = user;

	run->vm = vm;
	vm_attach(vm, run->wish.spec.uid, &exec_client_ops, run->exec);
	exec_begin(run->exec, vm, EXEC_NUMBER, run->wish.start, run->wish.granted_us);
}

static void on_no_vm(void *user, struct rpc_error *error_take)
{
	struct run *run = user;

	exec_fail(run->exec, error_take);
}

static void on_done(void *user, struct exec *exec UNUSED, enum exec_end end UNUSED)
{
	struct run *run = user;

	if (run->vm)
		pool_release(run->env.pool, run->vm);
	else
		pool_cancel(run->env.pool, &run->wish);
	loop_defer(run->env.exec->loop, &run->free_later, free, run);
}

static const struct exec_ops exec_ops = {.on_done = on_done};

static struct run *run_new(const struct run_env *env, const struct rpc_call *call,
			   const struct run_request *request)
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->env = *env;
	memcpy(run->language, request->language, sizeof(run->language));
	run->wish = (struct pool_request){.spec = {.memory_mb = request->vm_memory_mb,
						   .uid = rpc_call_peer(call)->uid,
						   .language = run->language},
					  .on_vm = on_vm,
					  .on_failed = on_no_vm,
					  .user = run};
	return run;
}

/* Takes the request. NULL with the error. */
static struct run *make(const struct run_env *env, struct rpc_call *call, const json_t *params,
			struct run_request *request_take, struct rpc_error **ret_error)
{
	struct exec_config config = {.env = env->exec, .ops = &exec_ops};
	struct run *run = run_new(env, call, request_take);

	if (!run) {
		run_request_fini(request_take);
		*ret_error = rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
		return NULL;
	}
	config.user = run;
	run->exec = exec_create(&config, call, params, request_take, ret_error);
	if (run->exec)
		*ret_error = pool_acquire(env->pool, &run->wish);
	if (!*ret_error)
		return run;
	exec_free(run->exec);
	free(run);
	return NULL;
}

struct rpc_reply run_start(const struct run_env *env, struct rpc_call *call, const json_t *params)
{
	struct run_request request;
	struct run *run = NULL;
	struct rpc_error *error = run_request_parse(params, env->exec->config,
						    pool_max_memory_mb(env->pool), &request);

	if (!error)
		run = make(env, call, params, &request, &error);
	if (!run)
		return rpc_reply_error(call, exec_refused(env->exec, error));
	return exec_reply_pending(run->exec);
}
