/* SPDX-License-Identifier: Apache-2.0 */
/* One `run`: a program and a fresh VM. */
#include "daemon/session/run.h"

#include "base/log.h"
#include "daemon/session/exec_recall.h"
#include "daemon/session/file_io.h"
#include "daemon/session/request_record.h"
#include "daemon/session/run_files.h"
#include "daemon/session/stray.h"
#include "daemon/vm/vm_record.h"

#include <errno.h>
#include <string.h>

struct run {
	struct run_env env;
	struct exec *exec;
	char language[32]; /* of the wish, longer than the exec */
	uint64_t disk_mb;
	struct run_files files;
	json_t *placed; /* the operations of files.placed, once they are sent */
	struct pool_request wish;
	struct vm *vm;        /* from on_vm to the end */
	uint32_t number;      /* of the last EXEC */
	struct file_io *io;   /* files on their way; NULL: none are */
	bool is_recalled;     /* an earlier daemon began it; then: */
	struct strays strays; /* files that it had on their way */
	bool is_ended;        /* its own wait for those. And until its VM has answered: */
	void (*on_settled)(void *user);
	void *settled_user;
	struct defer free_later;
};

/* --- The VM: what it says goes to the files on their way, or to the program. --- */

static void on_message(void *user, const struct msg *msg)
{
	struct run *run = user;

	if ((run->io && file_io_on_message(run->io, msg)) || strays_on_message(&run->strays, msg))
		return;
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

	if (!run->io && !run->is_ended) {
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

/* With an exec_id it shall go on without us. */
static void record_vm(const struct run *run)
{
	int r = exec_is_kept(run->exec)
			? vm_record_write(run->vm, json_pack("{s:s}", "kind", "run"))
			: 0;

	if (r < 0)
		log_warning(vm_id(run->vm), "Would not outlive the daemon: %s", strerror(-r));
}

static void begin_program(struct run *run)
{
	record_vm(run);
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

static void collect(struct run *run)
{
	struct rpc_error *error;

	if (begin_io(run, &run->files.fetched, &collect_ops))
		return;
	error = cannot_send();
	exec_collected(run->exec, run_files_result(&run->files, NULL, NULL, 0, error));
	rpc_error_free(error);
}

static void settled(struct run *run)
{
	void (*on_settled)(void *user) = TAKE_PTR(run->on_settled);

	if (on_settled)
		on_settled(run->settled_user);
}

/* The file server is free for what was begun anew. */
static void on_strays_done(void *user)
{
	struct run *run = user;

	if (run->is_ended)
		collect(run);
}

static void on_unresponsive(void *user)
{
	struct run *run = user;

	exec_fail(run->exec, rpc_error_new(RPC_VM_LOST, "VM %s does not end what was begun in it",
					   vm_id(run->vm)));
}

static bool is_program(void *user, uint32_t number)
{
	const struct run *run = user;

	return number == exec_number(run->exec);
}

/* Files were being fetched: that is begun anew. Numbers go on behind all that were used. */
static int add_strays(struct run *run, const struct msg_hello_reply *hello)
{
	run->strays = (struct strays){.env = run->env.exec,
				      .vm = run->vm,
				      .on_done = on_strays_done,
				      .on_unresponsive = on_unresponsive,
				      .user = run};
	run->number = exec_number(run->exec);
	return strays_take(&run->strays, hello, is_program, &run->number);
}

/* Its files were placed before it was sent; what it leaves is fetched anew. */
static void go_on(struct run *run)
{
	const struct msg_hello_reply *hello = vm_hello(run->vm);
	int r = add_strays(run, hello);

	log_info(vm_id(run->vm), "Its run is taken up again");
	if (r < 0)
		exec_fail(run->exec, rpc_error_new(RPC_VM_LOST, "Cannot go on with VM %s: %s",
						   vm_id(run->vm), strerror(-r)));
	else
		exec_take_up(run->exec, run->vm, hello);
	settled(run);
}

static void on_vm(void *user, struct vm *vm)
{
	struct run *run = user;

	run->vm = vm;
	vm_attach(vm, run->wish.spec.uid, &client_ops, run);
	if (run->is_recalled) {
		go_on(run);
		return;
	}
	run->placed = json_incref(run->files.placed.operations);
	if (!run->placed)
		begin_program(run);
	else if (!begin_io(run, &run->files.placed, &place_ops))
		exec_fail(run->exec, cannot_send());
}

static void on_ended(void *user, struct exec *exec)
{
	struct run *run = user;

	run->is_ended = true;
	if (!run->files.collected)
		exec_collected(exec, NULL);
	else if (run->strays.count == 0)
		collect(run);
}

static void on_no_vm(void *user, struct rpc_error *error_take)
{
	struct run *run = user;

	/* It was sent, once: that it never ran is not known. */
	if (run->is_recalled)
		error_take->code = RPC_VM_LOST;
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
	strays_stop(&run->strays);
	if (run->vm)
		pool_release(run->env.pool, run->vm);
	else
		pool_cancel(run->env.pool, &run->wish);
	settled(run);
	loop_defer(run->env.exec->loop, &run->free_later, free_run, run);
}

static const struct exec_ops exec_ops = {.on_ended = on_ended, .on_done = on_done};

/* Takes the files. */
static struct run *run_new(const struct run_env *env, uid_t uid, const struct run_request *request,
			   struct run_files *files_take)
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
	run->wish = (struct pool_request){
		.spec = {.memory_mb = request->vm_memory_mb, .uid = uid, .language = run->language},
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
	struct run *run = run_new(env, rpc_call_peer(call)->uid, request_take, files_take);

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
static struct rpc_error *parse(const struct config *config, uint64_t max_memory_mb,
			       const json_t *params, struct run_request *ret_request,
			       struct run_files *ret_files)
{
	struct rpc_error *error = run_request_parse(params, config, max_memory_mb, ret_request);

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
	struct rpc_error *error =
		parse(env->exec->config, pool_max_memory_mb(env->pool), params, &request, &files);

	if (!error)
		run = make(env, call, params, &request, &files, &error);
	if (!run)
		return rpc_reply_error(call, exec_refused(env->exec, error));
	return exec_reply_pending(run->exec);
}

/* --- From one daemon to the next. --- */

/* As it was settled when it was sent. NULL, or the error: then there is neither. */
static struct rpc_error *parse_again(const struct run_env *env, const json_t *saved,
				     struct run_request *ret_request, struct run_files *ret_files)
{
	struct rpc_error *error = exec_recall_check("run", saved);
	struct config config;

	request_lift_bounds(env->exec->config, &config);
	if (!error)
		error = parse(&config, UINT32_MAX, json_object_get(saved, "params"), ret_request,
			      ret_files);
	if (error)
		return error;
	if (request_settle(json_object_get(saved, "settled"), ret_request))
		return NULL;
	run_request_fini(ret_request);
	run_files_fini(ret_files);
	return exec_recall_error();
}

/* NULL with the error. */
static struct run *recall(const struct run_env *env, const struct vm_record *vm,
			  struct result_record *record, const json_t *saved,
			  struct rpc_error **ret_error)
{
	struct exec_config config = {.env = env->exec, .ops = &exec_ops};
	struct run_request request;
	struct run_files files;
	struct run *run;

	*ret_error = parse_again(env, saved, &request, &files);
	if (*ret_error)
		return NULL;
	run = run_new(env, vm->uid, &request, &files);
	if (!run) {
		run_request_fini(&request);
		*ret_error = rpc_error_no_memory();
		return NULL;
	}
	config.user = run;
	run->is_recalled = true;
	run->wish.spec.memory_mb = vm->memory_mb;
	run->exec = exec_recall(&config, &request, record, saved, env->vms_fd);
	if (run->exec)
		return run;
	free_run(run);
	*ret_error = exec_recall_error();
	return NULL;
}

struct rpc_error *run_recall(const struct run_env *env, const struct vm_record *vm,
			     struct result_record *record, const json_t *saved,
			     void (*on_settled)(void *user), void *user)
{
	struct rpc_error *error = NULL;
	struct run *run = recall(env, vm, record, saved, &error);
	json_t *received;

	if (!run)
		return error;
	received = json_object();
	exec_tell_received(run->exec, received);
	error = pool_adopt(env->pool, &run->wish, vm, received);
	if (error) {
		on_no_vm(run, error);
		on_settled(user);
		return NULL;
	}
	run->on_settled = on_settled;
	run->settled_user = user;
	return NULL;
}
