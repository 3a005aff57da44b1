/* SPDX-License-Identifier: Apache-2.0 */
/* One `run`: a program and a fresh VM. */
#include "daemon/session/run.h"

#include "daemon/session/file_io.h"
#include "daemon/session/run_files.h"

struct run {
	struct run_env env;
	struct exec *exec;
	char language[32]; /* of the wish, longer than the exec */
	uint64_t disk_mb;
	struct run_files files;
	json_t *placed; /* the operations of files.placed, once they are sent */
	struct pool_request wish;
	struct vm *vm;      /* from on_vm to the end */
	uint32_t number;    /* of the last EXEC */
	struct file_io *io; /* files on their way; NULL: none are */
	struct defer free_later;
};

/* --- The VM: what it says goes to the files on their way, or to the program. --- */

static void on_message(void *user, const struct msg *msg)
{
	struct run *run = user;

	if (!run->io || !file_io_on_message(run->io, msg))
		exec_client_ops.on_message(run->exec, msg);
}

static void on_output(void *user, uint32_t number, enum frame_substream sub, const uint8_t *data,
		      size_t len)
{
	struct run *run = user;

	if (!run->io || !file_io_on_output(run->io, number, sub, data, len))
		exec_client_ops.on_output(run->exec, number, sub, data, len);
}

static void on_lost(void *user, struct rpc_error *error_take)
{
	struct run *run = user;

	if (!run->io) {
		exec_client_ops.on_lost(run->exec, error_take);
		return;
	}
	if (!exec_is_waiting(run->exec)) {
		/* What the program did stands. */
		exec_collected(run->exec, run_files_result(&run->files, NULL, NULL, 0, error_take));
		rpc_error_free(error_take);
		return;
	}
	rpc_error_free(error_take);
	exec_fail(run->exec, rpc_error_new(RPC_VM_TRANSIENT,
					   "The VM was lost while the files were put there; the "
					   "program never ran"));
}

static const struct vm_client_ops client_ops = {
	.on_message = on_message, .on_output = on_output, .on_lost = on_lost};

/* --- Steps, in time order. --- */

static bool begin_io(struct run *run, struct file_batch *batch, const struct file_io_ops *ops)
{
	const struct file_io_target target = {.loop = run->env.exec->loop,
					      .vm = run->vm,
					      .number = ++run->number,
					      .disk_mb = run->disk_mb,
					      .socket_fd = -1};

	run->io = file_io_begin(&target, batch, ops, run);
	return run->io != NULL;
}

static void begin_program(struct run *run)
{
	exec_begin(run->exec, run->vm, ++run->number, run->wish.start, run->wish.granted_us);
}

/* The files are there, or it is known why not: then the program never runs. */
static void on_placed(void *user, struct file_io *io, enum exec_end end UNUSED)
{
	struct run *run = user;
	struct rpc_error *error = NULL;
	const json_t *results = file_io_results(io, &error);

	if (!error)
		error = run_files_placed(run->placed, results);
	run->io = NULL;
	file_io_free(io);
	if (error)
		exec_fail(run->exec, error);
	else
		begin_program(run);
}

static const struct file_io_ops place_ops = {.on_done = on_placed};

static struct rpc_error *cannot_send(void)
{
	return rpc_error_new(RPC_VM_TRANSIENT, "Cannot send the files to the VM");
}

static void on_vm(void *user, struct vm *vm)
{
	struct run *run = user;

	run->vm = vm;
	vm_attach(vm, run->wish.spec.uid, &client_ops, run);
	run->placed = json_incref(run->files.placed.operations);
	if (!run->placed)
		begin_program(run);
	else if (!begin_io(run, &run->files.placed, &place_ops))
		exec_fail(run->exec, cannot_send());
}

static void on_collected(void *user, struct file_io *io, enum exec_end end UNUSED)
{
	struct run *run = user;
	struct rpc_error *error = NULL;
	const json_t *results = file_io_results(io, &error);
	size_t len;
	const char *data = file_io_data(io, &len);
	json_t *files = run_files_result(&run->files, results, data, len, error);

	rpc_error_free(error);
	run->io = NULL;
	file_io_free(io);
	exec_collected(run->exec, files);
}

static bool on_collect_grow(void *user, size_t len)
{
	struct run *run = user;

	return exec_hold(run->exec, len);
}

static const struct file_io_ops collect_ops = {.on_grow = on_collect_grow, .on_done = on_collected};

static void on_ended(void *user, struct exec *exec)
{
	struct run *run = user;
	struct rpc_error *error;

	if (!run->files.collected) {
		exec_collected(exec, NULL);
		return;
	}
	if (begin_io(run, &run->files.fetched, &collect_ops))
		return;
	error = cannot_send();
	exec_collected(exec, run_files_result(&run->files, NULL, NULL, 0, error));
	rpc_error_free(error);
}

static void on_no_vm(void *user, struct rpc_error *error_take)
{
	struct run *run = user;

	exec_fail(run->exec, error_take);
}

/* --- Life. --- */

static void free_run(void *user)
{
	struct run *run = user;

	file_io_free(run->io);
	json_decref(run->placed);
	run_files_fini(&run->files);
	free(run);
}

static void on_done(void *user, struct exec *exec UNUSED, enum exec_end end UNUSED)
{
	struct run *run = user;

	file_io_free(TAKE_PTR(run->io));
	if (run->vm)
		pool_release(run->env.pool, run->vm);
	else
		pool_cancel(run->env.pool, &run->wish);
	loop_defer(run->env.exec->loop, &run->free_later, free_run, run);
}

static const struct exec_ops exec_ops = {.on_ended = on_ended, .on_done = on_done};

/* Takes the files. */
static struct run *run_new(const struct run_env *env, const struct rpc_call *call,
			   const struct run_request *request, struct run_files *files_take)
{
	struct run *run = calloc(1, sizeof(*run));

	if (!run) {
		run_files_fini(files_take);
		return NULL;
	}
	run->env = *env;
	run->files = *files_take;
	run->disk_mb = request->disk_mb;
	memcpy(run->language, request->language, sizeof(run->language));
	run->wish = (struct pool_request){.spec = {.memory_mb = request->vm_memory_mb,
						   .uid = rpc_call_peer(call)->uid,
						   .language = run->language},
					  .on_vm = on_vm,
					  .on_failed = on_no_vm,
					  .user = run};
	return run;
}

/* Takes request and files. NULL with the error. */
static struct run *make(const struct run_env *env, struct rpc_call *call, const json_t *params,
			struct run_request *request_take, struct run_files *files_take,
			struct rpc_error **ret_error)
{
	struct exec_config config = {.env = env->exec, .ops = &exec_ops};
	struct run *run = run_new(env, call, request_take, files_take);

	if (!run) {
		run_request_fini(request_take);
		*ret_error = rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
		return NULL;
	}
	config.user = run;
	config.extra_bytes = run->files.placed.data_len;
	run->exec = exec_create(&config, call, params, request_take, ret_error);
	if (run->exec)
		*ret_error = pool_acquire(env->pool, &run->wish);
	if (!*ret_error)
		return run;
	exec_free(run->exec);
	free_run(run);
	return NULL;
}

/* NULL, or the error: then there is neither. */
static struct rpc_error *parse(const struct run_env *env, const json_t *params,
			       struct run_request *ret_request, struct run_files *ret_files)
{
	const struct config *config = env->exec->config;
	struct rpc_error *error =
		run_request_parse(params, config, pool_max_memory_mb(env->pool), ret_request);

	if (error)
		return error;
	error = run_files_parse(params, config, ret_files);
	if (error)
		run_request_fini(ret_request);
	return error;
}

struct rpc_reply run_start(const struct run_env *env, struct rpc_call *call, const json_t *params)
{
	struct run_request request;
	struct run_files files;
	struct run *run = NULL;
	struct rpc_error *error = parse(env, params, &request, &files);

	if (!error)
		run = make(env, call, params, &request, &files, &error);
	if (!run)
		return rpc_reply_error(call, exec_refused(env->exec, error));
	return exec_reply_pending(run->exec);
}
