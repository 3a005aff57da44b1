/* SPDX-License-Identifier: Apache-2.0 */
/* A program with an exec_id that an earlier daemon began. */
#include "daemon/session/exec_recall.h"

#include "base/kept.h"
#include "base/log.h"
#include "daemon/launcher/vm_dir.h"
#include "daemon/session/exec_internal.h"
#include "protocol/method.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct output *output_of(struct exec *exec, enum frame_substream sub)
{
	return sub == SUBSTREAM_STDERR ? &exec->err : &exec->out;
}

static const struct {
	enum frame_substream sub;
	const char *name;
} streams[] = {{SUBSTREAM_STDOUT, "out"}, {SUBSTREAM_STDERR, "err"}};

/* Beside the sockets of its VM. */
static void spool_name(uint32_t number, const char *stream, char ret[32])
{
	snprintf(ret, 32, "%u.%s", number, stream);
}

void exec_spool(struct exec *exec)
{
	int dir_fd = vm_open_dir(vm_get_host(exec->vm), exec->vm_id);
	int r = MIN(dir_fd, 0);
	char name[32];

	for (size_t i = 0; i < ELEMENTSOF(streams) && r == 0; i++) {
		spool_name(exec->number, streams[i].name, name);
		r = output_spool_to(output_of(exec, streams[i].sub), dir_fd, name);
	}
	close_fd(dir_fd);
	if (r < 0)
		log_warning(exec->vm_id, "Its output would not outlive the daemon: %s",
			    strerror(-r));
}

static const struct {
	enum run_verdict verdict;
	const char *name;
} verdicts[] = {{VERDICT_TIMEOUT, "timeout"}, {VERDICT_CANCELLED, "cancelled"}};

void exec_note_verdict(struct exec *exec)
{
	_cleanup_close_ int dir_fd = vm_open_dir(vm_get_host(exec->vm), exec->vm_id);
	int r = MIN(dir_fd, 0);
	char name[32];

	spool_name(exec->number, "verdict", name);
	for (size_t i = 0; i < ELEMENTSOF(verdicts) && r == 0; i++)
		if (verdicts[i].verdict == exec->verdict)
			r = kept_write(dir_fd, name, verdicts[i].name, strlen(verdicts[i].name));
	if (r < 0)
		log_warning(exec->vm_id,
			    "Why its program is killed would not outlive the daemon: %s",
			    strerror(-r));
	exec->is_verdict_noted = r == 0;
}

void exec_drop_verdict(struct exec *exec)
{
	char name[32];
	int r;

	if (!exec->is_verdict_noted)
		return;
	exec->is_verdict_noted = false;
	spool_name(exec->number, "verdict", name);
	r = vm_dir_remove_file(vm_get_host(exec->vm)->vms_fd, exec->vm_id, name);
	if (r < 0)
		log_warning(exec->vm_id, "Cannot remove %s: %s", name, strerror(-r));
}

/* --- What was. --- */

/* None where none was noted. */
static void load_verdict(struct exec *exec, int dir_fd)
{
	_cleanup_free_ char *text = NULL;
	char name[32];

	spool_name(exec->number, "verdict", name);
	if (kept_read(dir_fd, name, 32, &text) < 0)
		return;
	exec->is_verdict_noted = true;
	for (size_t i = 0; i < ELEMENTSOF(verdicts); i++)
		if (strcmp(text, verdicts[i].name) == 0)
			exec->verdict = verdicts[i].verdict;
}

/* A moment on this host's monotonic clock, which goes on from one daemon to the next. */
static uint64_t moment_of(const json_t *saved, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(saved, name));
	uint64_t now = now_us();

	return value > 0 && (uint64_t)value < now ? (uint64_t)value : now;
}

static enum pool_start start_of(const json_t *saved)
{
	const char *name = json_string_value(json_object_get(saved, "start"));

	for (enum pool_start start = POOL_START_WARM; name && start < POOL_START_BOOT; start++)
		if (strcmp(name, pool_start_name(start)) == 0)
			return start;
	return POOL_START_BOOT;
}

static bool read_saved(struct exec *exec, const json_t *saved)
{
	json_int_t number = json_integer_value(json_object_get(saved, "number"));
	const char *vm = json_string_value(json_object_get(saved, "vm"));

	if (number <= 0 || number > FRAME_EXEC_MAX || !vm)
		return false;
	exec->number = (uint32_t)number;
	exec->start = start_of(saved);
	exec->asked_us = moment_of(saved, "asked_us");
	exec->granted_us = moment_of(saved, "granted_us");
	exec->dispatched_us = moment_of(saved, "dispatched_us");
	return (size_t)snprintf(exec->vm_id, sizeof(exec->vm_id), "%s", vm) < sizeof(exec->vm_id);
}

/* They were made before the program was sent. */
static int load_outputs(struct exec *exec, int vms_fd)
{
	int dir_fd = vm_dir_open(vms_fd, exec->vm_id);
	int r = MIN(dir_fd, 0);
	char name[32];

	for (size_t i = 0; i < ELEMENTSOF(streams) && r == 0; i++) {
		spool_name(exec->number, streams[i].name, name);
		r = output_spool_load(output_of(exec, streams[i].sub), dir_fd, name);
	}
	if (r == 0)
		load_verdict(exec, dir_fd);
	close_fd(dir_fd);
	if (r < 0)
		log_warning(exec->vm_id, "Its run's output is not there: %s", strerror(-r));
	return r;
}

struct rpc_error *exec_recall_error(void)
{
	return rpc_error_new(RPC_VM_LOST, "What the daemon before wrote down of the program is not "
					  "enough to tell how it ended");
}

struct rpc_error *exec_recall_check(const char *method, const json_t *saved)
{
	return method_validate(method_find(method), json_object_get(saved, "params"));
}

struct exec *exec_recall(const struct exec_config *config, struct run_request *request_take,
			 struct result_record *record, const json_t *saved, int vms_fd)
{
	struct exec *exec = exec_new(config, NULL, request_take);

	run_request_fini(request_take);
	if (!exec)
		return NULL;
	if (!read_saved(exec, saved) || load_outputs(exec, vms_fd) < 0) {
		exec_free(exec);
		return NULL;
	}
	exec_set_state(exec, EXEC_RECALLED);
	exec->record = record;
	results_adopted(record, exec);
	return exec;
}

uint32_t exec_number(const struct exec *exec)
{
	return exec->number;
}

/* --- How it goes on. --- */

void exec_tell_received(const struct exec *exec, json_t *received)
{
	agent_link_tell_received(received, exec->number, SUBSTREAM_STDOUT, exec->out.len);
	agent_link_tell_received(received, exec->number, SUBSTREAM_STDERR, exec->err.len);
}

static int resume(struct exec *exec, const struct msg_hello_reply *hello)
{
	const struct agent_link_resume resume = {
		.exec = exec->number,
		.code_take = TAKE_PTR(exec->request.code),
		.code_len = exec->request.code_len,
		.stdin_take = TAKE_PTR(exec->request.input),
		.stdin_len = exec->request.input_len,
		.output_bytes = {exec->out.len, exec->err.len},
	};

	return agent_link_resume(vm_link(exec->vm), &resume, hello);
}

static void go_on(struct exec *exec, const struct msg_hello_reply *hello)
{
	double passed = (double)(now_us() - exec->dispatched_us) / 1e6;
	double left = exec->request.timeout_seconds - passed;
	int r;

	exec_set_state(exec, EXEC_RUNNING);
	r = resume(exec, hello);
	if (r < 0) {
		exec_answer_error(exec,
				  rpc_error_new(RPC_VM_LOST, "Cannot go on with VM %s: %s",
						exec->vm_id, strerror(-r)),
				  r == -EPROTO ? EXEC_BROKEN : EXEC_LOST);
		return;
	}
	/* Cancelled while nobody could tell the guest, or being killed already. */
	if (exec->verdict != VERDICT_NONE)
		exec_kill_program(exec, exec->verdict);
	else
		/* At least as long as the guest takes to report an end that nobody has heard of. */
		loop_timer_start(exec->config.env->loop, &exec->deadline,
				 MAX(left, EXEC_KILL_REPORT_SECONDS));
}

void exec_take_up(struct exec *exec, struct vm *vm, const struct msg_hello_reply *hello)
{
	bool is_known = agent_link_knows(hello, exec->number);

	exec_set_vm(exec, vm, exec->number);
	if (is_known) {
		go_on(exec, hello);
	} else if (exec->verdict != VERDICT_NONE) {
		/* It was to be killed before it was there. */
		exec_answer(exec, NULL, EXEC_REPORTED);
	} else if (exec->out.len + exec->err.len == 0) {
		exec_begin(exec, vm, exec->number, exec->start, exec->granted_us);
	} else {
		exec_set_state(exec, EXEC_RUNNING);
		exec_answer_error(
			exec,
			rpc_error_new(RPC_VM_LOST, "VM %s has forgotten the program", exec->vm_id),
			EXEC_BROKEN);
	}
}
