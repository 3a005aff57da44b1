/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile guest says of file operations, at what the daemon makes of it: the operation from
 * its EXEC to its results, those as the result of a call or of a run, and the caller's socket.
 */
#include "base/util.h"
#include "daemon/session/file_io.h"
#include "daemon/session/file_socket.h"
#include "daemon/session/run_files.h"
#include "tests/fuzz/guest.h"
#include "tests/fuzz/time.h"

#include <string.h>
#include <sys/socket.h>

/* Bits of an input's second byte. */
enum {
	FLAG_REFUSE = 1, /* the caller's buffers are full after a while */
	FLAG_STOP = 2,   /* it is stopped when it has begun */
};
#define KEPT_MAX     4096u
#define SOCKET_BYTES 2048
#define EXEC         1

/* What is asked for, by an input's first byte: a call of `file.*`, or a run's files. */
enum { CALL_PLACED = -2, CALL_FETCHED = -1 };
static const struct {
	int kind;
	const char *params;
} calls[] = {
	{FILE_LIST, "{\"path\":\"a\",\"recursive\":true}"},
	{FILE_READ, "{\"path\":\"a/b\"}"},
	{FILE_READ, "{\"path\":\"a\",\"offset\":3,\"length\":8,\"encoding\":\"base64\"}"},
	{FILE_READ, "{\"path\":\"a\",\"offset\":1,\"descriptor\":true,\"length\":100000}"},
	{FILE_WRITE, "{\"path\":\"a\",\"data\":\"0123\",\"mode\":\"0644\"}"},
	{FILE_WRITE, "{\"path\":\"a\",\"size\":1000,\"descriptor\":true}"},
	{FILE_WRITE, "{\"path\":\"a\",\"data\":\"0\",\"upload\":\"open\",\"commit\":true}"},
	{FILE_STAT, "{\"path\":\"a/\"}"},
	{FILE_MKDIR, "{\"path\":\"a\"}"},
	{FILE_RENAME, "{\"path\":\"a\",\"new_path\":\"b\"}"},
	{CALL_PLACED,
	 "{\"files\":[{\"path\":\"a\",\"data\":\"0\"},{\"path\":\"b\",\"data\":\"1\"}]}"},
	{CALL_FETCHED, "{\"collect\":[\"a\",\"b\",\"c\"]}"},
};

struct caller {
	struct fuzz_guest guest;
	int kind;
	uint8_t flags;
	struct file_request request;
	struct run_files files;
	json_t *operations; /* of what was sent */
	struct file_io *io;
	int fd; /* its end of the socket; -1: none */
	size_t kept;
	bool is_ready, is_failed, is_done;
};

static struct config config;
/* The one VM there is: nothing is known of it but its link. */
static struct agent_link *link_of_vm;

/* daemon/vm/vm.h's, by the linker's --wrap. */
struct agent_link *__wrap_vm_link(struct vm *vm);
struct agent_link *__wrap_vm_link(struct vm *vm UNUSED)
{
	return link_of_vm;
}

const char *__wrap_vm_id(const struct vm *vm);
const char *__wrap_vm_id(const struct vm *vm UNUSED)
{
	static const char id[VM_ID_SIZE] = "vm_1";

	return id;
}

static void check_error(struct rpc_error *error)
{
	json_t *json = rpc_error_to_json(error);

	FUZZ_CHECK(json_string_length(json_object_get(json, "message")) > 0);
	json_decref(json);
	rpc_error_free(error);
}

/* A client could read it, and it is as large as it may be. */
static void check_result(json_t *result)
{
	char *text = json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY);

	FUZZ_CHECK(text);
	free(text);
	json_decref(result);
}

static void make_run_result(struct caller *caller, const json_t *results, const char *data,
			    size_t len, struct rpc_error *error)
{
	if (caller->kind == CALL_FETCHED)
		check_result(run_files_result(&caller->files, results, data, len, error));
	if (error)
		check_error(error);
	error = results ? run_files_placed(caller->operations, results) : NULL;
	if (error)
		check_error(error);
}

/* As session_files.c and run.c make it. */
static void make_result(struct caller *caller)
{
	struct rpc_error *error = NULL;
	const json_t *results = file_io_results(caller->io, &error);
	json_t *result;
	const char *data;
	size_t len;

	FUZZ_CHECK(!results != !error);
	data = file_io_data(caller->io, &len);
	if (caller->kind < 0) {
		make_run_result(caller, results, data, len, error);
		return;
	}
	result = error ? NULL : file_request_result(&caller->request, results, data, len, &error);
	FUZZ_CHECK(!result != !error);
	if (error)
		check_error(error);
	else
		check_result(result);
}

static bool on_grow(void *user, size_t len)
{
	struct caller *caller = user;

	caller->kept += len;
	return !(caller->flags & FLAG_REFUSE) || caller->kept <= KEPT_MAX;
}

static void on_done(void *user, struct file_io *io, enum exec_end end)
{
	struct caller *caller = user;

	FUZZ_CHECK(io == caller->io && !caller->is_done);
	FUZZ_CHECK(end == EXEC_REPORTED || end == EXEC_BROKEN || end == EXEC_UNREPORTED);
	caller->is_done = true;
	make_result(caller);
	if (end != EXEC_REPORTED)
		return; /* the session closes, and frees it later */
	file_io_free(io);
	caller->io = NULL;
}

static const struct file_io_ops io_ops = {.on_grow = on_grow, .on_done = on_done};

/* --- The guest link's owner. --- */

static struct rpc_error *parse(struct caller *caller, const char *text)
{
	json_t *params = json_loads(text, 0, NULL);
	struct rpc_error *error = caller->kind < 0
					  ? run_files_parse(params, &config, &caller->files)
					  : file_request_parse((enum file_kind)caller->kind, params,
							       &config, &caller->request);

	json_decref(params);
	return error;
}

static struct file_batch *batch_of(struct caller *caller)
{
	if (caller->kind >= 0)
		return &caller->request.batch;
	return caller->kind == CALL_PLACED ? &caller->files.placed : &caller->files.fetched;
}

static void on_ready(void *user, const struct msg_hello_reply *hello UNUSED)
{
	struct caller *caller = user;
	struct file_io_target target = {
		.loop = caller->guest.loop, .number = EXEC, .socket_fd = -1};
	struct file_batch *request = batch_of(caller), batch = *request;
	int fds[2];

	caller->is_ready = true;
	if (caller->request.takes_socket) {
		fuzz_socketpair(fds);
		caller->fd = fds[0];
		target.socket_fd = fds[1];
		FUZZ_CHECK(file_socket_is_fit(fds[1]));
		/* Soon full, for small inputs. */
		FUZZ_CHECK(setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &(int){SOCKET_BYTES},
				      sizeof(int)) == 0);
	}
	caller->operations = json_incref(batch.operations);
	json_incref(batch.operations);
	request->data = NULL;
	caller->io = file_io_begin(&target, &batch, &io_ops, caller);
	FUZZ_CHECK(caller->io);
	if (caller->flags & FLAG_STOP)
		file_io_stop(caller->io);
}

static void on_message(void *user, const struct msg *msg)
{
	struct caller *caller = user;

	if (caller->io)
		(void)file_io_on_message(caller->io, msg);
}

static void on_output(void *user, uint32_t exec, enum frame_substream sub, const uint8_t *data,
		      size_t len)
{
	struct caller *caller = user;

	if (caller->io)
		(void)file_io_on_output(caller->io, exec, sub, data, len);
}

static void on_input(void *user, uint32_t exec, uint64_t taken UNUSED)
{
	struct caller *caller = user;

	if (caller->io)
		(void)file_io_on_input(caller->io, exec);
}

static void on_failed(void *user, int error UNUSED, const char *why UNUSED)
{
	struct caller *caller = user;

	FUZZ_CHECK(!caller->is_failed);
	caller->is_failed = true;
}

static const struct agent_link_ops link_ops = {
	.on_ready = on_ready,
	.on_message = on_message,
	.on_output = on_output,
	.on_input = on_input,
	.on_failed = on_failed,
};

/* --- The caller. --- */

/* It writes the bytes, reads what there is, hangs up, or stops the operation; or a deadline
 * passes. */
static void act(struct caller *caller, const uint8_t *data, size_t len)
{
	if (len == 0 && caller->io && !caller->is_done)
		file_io_stop(caller->io);
	else if (len == 3)
		(void)fuzz_time_pass(caller->guest.loop);
	else if (len == 1 && caller->fd >= 0)
		caller->fd = close_fd(caller->fd);
	else if (len == 2 && caller->fd >= 0)
		shutdown(caller->fd, SHUT_WR);
	else if (caller->fd >= 0 && write(caller->fd, data, len) < 0)
		caller->fd = close_fd(caller->fd);
	if (caller->fd >= 0)
		fuzz_drain(caller->fd);
	fuzz_settle(caller->guest.loop);
}

static void play(struct caller *caller, const uint8_t *data, size_t size)
{
	const uint8_t *bytes;
	uint8_t step;
	size_t len;

	while (!caller->is_failed && fuzz_guest_step(&data, &size, &step, &bytes, &len)) {
		if (step % STEP_COUNT == STEP_CALLER)
			act(caller, bytes, len);
		else
			fuzz_guest_say(&caller->guest, step, EXEC + STEP_EXEC(step), bytes, len);
	}
}

static void finish(struct caller *caller)
{
	fuzz_guest_hang_up(&caller->guest);
	close_fd(caller->fd);
	fuzz_settle(caller->guest.loop);
	if (caller->io && !caller->is_done)
		make_result(caller);
	file_io_free(caller->io);
	file_request_fini(&caller->request);
	run_files_fini(&caller->files);
	json_decref(caller->operations);
	fuzz_guest_end(&caller->guest);
}

/* First byte: which call; second: flags; the rest are steps of the guest and the caller. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct caller caller = {.fd = -1};
	size_t i;

	fuzz_begin();
	fuzz_time_begin();
	if (size < 2)
		return 0;
	if (!config.socket)
		FUZZ_CHECK(config_defaults(&config) == 0);
	i = data[0] % ELEMENTSOF(calls);
	caller.kind = calls[i].kind;
	caller.flags = data[1];
	FUZZ_CHECK(!parse(&caller, calls[i].params));
	fuzz_guest_start(&caller.guest, &link_ops, &caller);
	link_of_vm = caller.guest.link;
	fuzz_guest_say_hello(&caller.guest);
	FUZZ_CHECK(caller.is_ready);
	play(&caller, data + 2, size - 2);
	finish(&caller);
	return 0;
}
