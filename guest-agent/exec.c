/* SPDX-License-Identifier: Apache-2.0 */
/* One run of a user's program, from EXEC to EXIT_ACK. */
#include "guest-agent/exec.h"

#include "base/log.h"
#include "base/util.h"
#include "guest-agent/input.h"
#include "guest-agent/machine.h"
#include "guest-agent/output.h"
#include "guest-agent/program.h"
#include "guest-agent/receipt.h"
#include "guest-agent/report.h"
#include "guest-agent/spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* cgroup.kill is asynchronous, and a process that is stuck in the kernel outlives it: asked again
 * at this interval, besides after every reaped process. */
#define KILL_AGAIN_SECONDS 0.05
/* Longest grace between SIGTERM and SIGKILL; the API allows 5 s. */
#define GRACE_MAX_MS 60000

struct exec {
	const struct exec_context *context;
	uint32_t number;
	enum exec_state state;
	struct program program;
	bool stop_at_limit, is_rehearsal, is_background;
	bool is_killed;            /* its tree was told to end */
	struct resident *resident; /* whose program it is; NULL: a process of its own */
	int text_fd;               /* of a resident's program; -1: none */

	struct input code, stdin;
	struct output stdout, stderr;
	struct report report;
	struct process process; /* its pipes are handed on to those above */
	uint64_t started_us;    /* 0: never */
	ev_timer kill_timer;    /* running: the grace is over; ending: kill again */

	struct receipt_facts facts;
	struct msg_exit receipt;
	bool is_exit_sent;
};

static const char *const state_names[] = {
	[EXEC_RECEIVING] = "receiving", [EXEC_RUNNING] = "running", [EXEC_ENDING] = "ending",
	[EXEC_DRAINING] = "draining",   [EXEC_ENDED] = "ended",
};
static_assert(ELEMENTSOF(state_names) == EXEC_ENDED + 1, "every state has a name");

static void set_state(struct exec *exec, enum exec_state state)
{
	log_debug("exec", "%" PRIu32 ": state %s -> %s", exec->number, state_names[exec->state],
		  state_names[state]);
	exec->state = state;
}

static void ready(void *user)
{
	const struct exec *exec = user;

	exec->context->on_ready(exec->context->user);
}

static uint32_t stream_of(const struct exec *exec, enum frame_substream sub)
{
	return frame_stream_id(exec->number, sub);
}

static struct output *output_of(struct exec *exec, enum frame_substream sub)
{
	return sub == SUBSTREAM_STDOUT ? &exec->stdout : &exec->stderr;
}

/* --- Ending ------------------------------------------------------------------------------------
 */

/* Where there are no cgroups. */
static void get_spared(const struct exec *exec, struct process_spared *ret)
{
	standbys_spared(exec->context->standbys, ret);
	for (size_t i = 0; i < LANGUAGES && ret->len < ELEMENTSOF(ret->pids); i++)
		if (exec->context->residents[i].process.pid > 0)
			ret->pids[ret->len++] = exec->context->residents[i].process.pid;
}

static void kill_tree(const struct exec *exec)
{
	struct process_spared spared;

	get_spared(exec, &spared);
	process_kill_tree(&exec->process, &spared);
}

static bool is_tree_gone(const struct exec *exec)
{
	struct process_spared spared;

	get_spared(exec, &spared);
	return process_is_tree_gone(&exec->process, &spared);
}

static void end(struct exec *exec)
{
	exec->receipt.exec = exec->number;
	exec->receipt.stdout_bytes = exec->stdout.total;
	exec->receipt.stderr_bytes = exec->stderr.total;
	loop_timer_stop(exec->context->loop, &exec->kill_timer);
	program_remove_text(&exec->program, exec->context->config);
	set_state(exec, EXEC_ENDED);
	ready(exec);
}

/* Ends a run that never ran. */
PRINTF_LIKE(2, 3) static void fail(struct exec *exec, const char *format, ...)
{
	va_list args;

	strncpy(exec->receipt.reason, MSG_REASON_FAILED, sizeof(exec->receipt.reason) - 1);
	va_start(args, format);
	vsnprintf(exec->receipt.detail, sizeof(exec->receipt.detail), format, args);
	va_end(args);
	input_discard(&exec->code);
	input_discard(&exec->stdin);
	output_drain(&exec->stdout);
	output_drain(&exec->stderr);
	end(exec);
}

static void drain(struct exec *exec)
{
	bool is_stdout_done = output_drain(&exec->stdout);
	bool is_stderr_done = output_drain(&exec->stderr);

	if (is_stdout_done && is_stderr_done)
		end(exec);
}

/* Everything that was counted is final now. */
static void make_receipt(struct exec *exec)
{
	const char *step;
	int error;

	exec->facts.execute_us = now_us() - exec->started_us;
	exec->facts.usage_before = exec->process.usage_before;
	exec->facts.rusage_before = exec->process.rusage_before;
	if (exec->process.cgroup.fd >= 0)
		cgroup_run_usage(exec->process.cgroup.fd, &exec->facts.usage);
	receipt_fill(&exec->receipt, &exec->facts);
	/* A program that ended well has no uncaught exception, whatever the pipe says. */
	if (exec->facts.status != 0)
		exec->receipt.error = report_finish(&exec->report);
	if (!spawn_failure(exec->process.failure_fd, &step, &error))
		return;
	strncpy(exec->receipt.reason, MSG_REASON_FAILED, sizeof(exec->receipt.reason) - 1);
	snprintf(exec->receipt.detail, sizeof(exec->receipt.detail), "Cannot %s: %s", step,
		 strerror(error));
}

/* The cgroup stays until exec_destroy(): to remove it takes the kernel longer than all else here,
 * and the host waits for EXIT. */
static void on_tree_gone(struct exec *exec)
{
	loop_timer_stop(exec->context->loop, &exec->kill_timer);
	make_receipt(exec);
	set_state(exec, EXEC_DRAINING);
	drain(exec);
}

void exec_check_tree(struct exec *exec)
{
	if (exec->state != EXEC_ENDING)
		return;
	if (is_tree_gone(exec))
		on_tree_gone(exec);
	else
		loop_timer_start(exec->context->loop, &exec->kill_timer, KILL_AGAIN_SECONDS);
}

void exec_on_reaped(struct exec *exec, int status, const struct rusage *rusage)
{
	if (exec->resident)
		resident_lose(TAKE_PTR(exec->resident));
	exec->process.pid = 0;
	exec->facts.status = status;
	exec->facts.rusage = *rusage;
	input_discard(&exec->stdin);
	set_state(exec, EXEC_ENDING);
	/* Most programs leave nothing behind. */
	if (is_tree_gone(exec)) {
		on_tree_gone(exec);
		return;
	}
	exec_sample(exec);
	kill_tree(exec);
	exec_check_tree(exec);
}

/*
 * The program says that it is over: nothing of its tree runs on from here, but the last of it may
 * go later than EXIT. Without a cgroup to kill, its processes are waited for.
 */
static void on_farewell(void *user, int status)
{
	struct exec *exec = user;

	if (exec->state != EXEC_RUNNING || exec->process.cgroup.fd < 0)
		return;
	process_read_usage(&exec->process, &exec->facts.rusage);
	kill_tree(exec);
	exec->process.pid = 0;
	exec->facts.status = W_EXITCODE(status, 0);
	input_discard(&exec->stdin);
	set_state(exec, EXEC_ENDING);
	on_tree_gone(exec);
}

/* The resident says that the program is over; what that has left running goes on. */
static void on_resident_done(void *user, int status, const char *report, size_t len)
{
	struct exec *exec = user;

	if (exec->state != EXEC_RUNNING)
		return;
	/* A process that is on its way out is not handed on. */
	if (exec->is_killed) {
		kill_tree(exec);
		return;
	}
	loop_timer_stop(exec->context->loop, &exec->kill_timer);
	exec_sample(exec);
	process_read_usage(&exec->process, &exec->facts.rusage);
	exec->facts.status = W_EXITCODE(status, 0);
	input_discard(&exec->stdin);
	set_state(exec, EXEC_ENDING);
	make_receipt(exec);
	if (status != 0)
		exec->receipt.error = receipt_parse_report(report, len);
	resident_return(TAKE_PTR(exec->resident), &exec->process);
	set_state(exec, EXEC_DRAINING);
	if (output_drain_shared(&exec->stdout) & output_drain_shared(&exec->stderr))
		end(exec);
}

static void on_kill_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct exec *exec = timer->data;

	kill_tree(exec);
	exec_check_tree(exec);
}

void exec_kill(struct exec *exec, uint64_t grace_ms)
{
	switch (exec->state) {
	case EXEC_RECEIVING:
		fail(exec, "Killed before it started");
		return;
	case EXEC_RUNNING:
		exec->is_killed = true;
		if (grace_ms == 0) {
			kill_tree(exec);
			/* It may have been forked and not have entered its cgroup yet. */
			loop_timer_start(exec->context->loop, &exec->kill_timer,
					 KILL_AGAIN_SECONDS);
			return;
		}
		/* It is no group leader yet when it has only just been forked. */
		if (kill(-exec->process.pid, SIGTERM) < 0)
			kill(exec->process.pid, SIGTERM);
		loop_timer_start(exec->context->loop, &exec->kill_timer,
				 (double)MIN(grace_ms, (uint64_t)GRACE_MAX_MS) / 1000.);
		return;
	case EXEC_ENDING:
	case EXEC_DRAINING:
	case EXEC_ENDED:
		return;
	}
}

void exec_signal(struct exec *exec, uint64_t signal_number)
{
	if (exec->state != EXEC_RUNNING || signal_number == 0 || signal_number >= NSIG)
		return;
	if (signal_number == SIGKILL)
		exec_kill(exec, 0);
	/* It is no group leader yet when it has only just been forked. */
	else if (kill(-exec->process.pid, (int)signal_number) < 0)
		kill(exec->process.pid, (int)signal_number);
}

void exec_resize(struct exec *exec, const struct terminal_size *size)
{
	if (exec->program.terminal.rows > 0)
		terminal_resize(exec->stdin.fd, size);
}

static void kill_for(struct exec *exec, enum receipt_verdict verdict)
{
	if (exec->state != EXEC_RUNNING)
		return;
	exec->facts.verdict = verdict;
	exec->is_killed = true;
	kill_tree(exec);
}

void exec_kill_for_memory(struct exec *exec)
{
	kill_for(exec, VERDICT_OOM);
}

uint64_t exec_sample(struct exec *exec)
{
	struct cgroup_usage usage;

	if (exec->process.cgroup.fd < 0)
		return 0;
	cgroup_run_usage(exec->process.cgroup.fd, &usage);
	exec->facts.swap_peak_bytes = MAX(exec->facts.swap_peak_bytes, usage.swap_bytes);
	return cgroup_run_current(exec->process.cgroup.fd);
}

/* --- Starting ----------------------------------------------------------------------------------
 */

static int start_anew(struct exec *exec)
{
	const struct exec_context *context = exec->context;
	char name[32];

	/* Numbers of runs come again, while the last processes of an earlier one are still dying.
	 */
	snprintf(name, sizeof(name), "run-%" PRIu64, ++*context->serial);
	return program_start_in(&exec->program, context->config, context->cgroup, name,
				&exec->process);
}

void exec_repeat_started(const struct exec *exec)
{
	struct msg started = {.type = FRAME_STARTED, .exec_ref.exec = exec->number};

	if (exec->started_us > 0)
		link_send(exec->context->link, &started);
}

static int start_resident(struct exec *exec)
{
	const struct exec_context *context = exec->context;
	struct resident *resident = &context->residents[language_index(exec->program.language)];
	_cleanup_(program_close_pipes) struct program_pipes pipes = PROGRAM_PIPES_NONE;
	struct resident_streams streams;
	char name[32];
	int r = program_make_pipes(context->config, &pipes);

	if (r < 0)
		return r;
	streams = (struct resident_streams){.code_fd = exec->text_fd,
					    .stdin_fd = pipes.its_stdin_fd,
					    .stdout_fd = pipes.its_stdout_fd,
					    .stderr_fd = pipes.its_stderr_fd};
	snprintf(name, sizeof(name), "resident-%" PRIu64, ++*context->serial);
	r = resident_begin(resident, &exec->program, name, &streams, on_resident_done, exec,
			   &exec->process);
	if (r < 0)
		return r;
	exec->resident = resident;
	exec->process.stdin_fd = TAKE_FD(pipes.stdin_fd);
	exec->process.stdout_fd = TAKE_FD(pipes.stdout_fd);
	exec->process.stderr_fd = TAKE_FD(pipes.stderr_fd);
	return 0;
}

static int start_process(struct exec *exec)
{
	struct standbys *standbys = exec->context->standbys;
	int r;

	if (exec->text_fd >= 0) {
		r = start_resident(exec);
		if (exec->program.language->command)
			standbys_dismiss(standbys);
		return r;
	}
	/* One that waits knows where its text will be. */
	if (exec->program.file)
		standbys_note_code(standbys);
	else if (standbys_take(standbys, &exec->program, exec->is_rehearsal, &exec->process))
		return 0;
	return start_anew(exec);
}

/* The program's text is complete. */
static void start(struct exec *exec)
{
	struct process *process = &exec->process;
	int r;

	program_note_text(&exec->program, exec->context->config);
	r = start_process(exec);

	if (r < 0) {
		fail(exec, "Cannot start the program: %s", strerror(-r));
		return;
	}
	exec->started_us = now_us();
	set_state(exec, EXEC_RUNNING);
	exec_repeat_started(exec);
	report_start(&exec->report, exec->context->loop, TAKE_FD(process->report_fd), on_farewell,
		     exec);
	output_start(&exec->stdout, TAKE_FD(process->stdout_fd));
	if (process->stderr_fd >= 0)
		output_start(&exec->stderr, TAKE_FD(process->stderr_fd));
	input_open(&exec->stdin, TAKE_FD(process->stdin_fd));
}

/* --- Streams -----------------------------------------------------------------------------------
 */

static void on_code_end(void *user, int error)
{
	struct exec *exec = user;

	if (error < 0)
		fail(exec, "Cannot write the program's text: %s", strerror(-error));
	else
		start(exec);
}

static void send_credit(const struct exec *exec, enum frame_substream sub,
			const struct input *input)
{
	link_send_credit(exec->context->link, stream_of(exec, sub), input->receiver.taken,
			 input->receiver.limit);
}

static void on_code_credit(void *user)
{
	struct exec *exec = user;

	send_credit(exec, SUBSTREAM_CODE, &exec->code);
}

static void on_stdin_credit(void *user)
{
	struct exec *exec = user;

	send_credit(exec, SUBSTREAM_STDIN, &exec->stdin);
}

/* A program that does not read its input has every right to. */
static void on_stdin_end(void *user, int error)
{
	struct exec *exec = user;

	log_debug("exec", "%" PRIu32 ": standard input ended: %s", exec->number, strerror(-error));
}

static void on_output_limit(void *user)
{
	struct exec *exec = user;

	if (exec->stop_at_limit)
		kill_for(exec, VERDICT_OUTPUT_LIMIT);
}

static const struct input_ops code_ops = {.on_credit = on_code_credit, .on_end = on_code_end};
static const struct input_ops stdin_ops = {.on_credit = on_stdin_credit, .on_end = on_stdin_end};
/* What the program has left running writes there still. */
static void on_output_left(void *user, int fd_take)
{
	struct exec *exec = user;

	resident_drop_output(&exec->context->residents[language_index(exec->program.language)],
			     fd_take);
}

static const struct output_ops output_ops = {
	.on_ready = ready, .on_limit = on_output_limit, .on_left = on_output_left};

int exec_data(struct exec *exec, enum frame_substream sub, uint64_t offset, const uint8_t *data,
	      size_t len)
{
	switch (sub) {
	case SUBSTREAM_CODE:
		return input_data(&exec->code, offset, data, len);
	case SUBSTREAM_STDIN:
		return input_data(&exec->stdin, offset, data, len);
	case SUBSTREAM_STDOUT:
	case SUBSTREAM_STDERR:
		break;
	}
	return -EPROTO;
}

int exec_end(struct exec *exec, enum frame_substream sub, uint64_t offset)
{
	switch (sub) {
	case SUBSTREAM_CODE:
		return input_end(&exec->code, offset);
	case SUBSTREAM_STDIN:
		return input_end(&exec->stdin, offset);
	case SUBSTREAM_STDOUT:
	case SUBSTREAM_STDERR:
		break;
	}
	return -EPROTO;
}

int exec_credit(struct exec *exec, enum frame_substream sub, uint64_t taken, uint64_t limit)
{
	struct output *output = output_of(exec, sub);
	int r;

	if (sub != SUBSTREAM_STDOUT && sub != SUBSTREAM_STDERR)
		return -EPROTO;
	/* After a new HELLO the host may still be consuming what it named as received there. */
	r = flow_sender_credit(&output->sender, MAX(taken, output->sender.taken), limit);
	if (r < 0)
		return r;
	if (exec->state == EXEC_DRAINING)
		drain(exec);
	else
		output_resume(output);
	ready(exec);
	return 0;
}

static bool pump_output(struct exec *exec, enum frame_substream sub)
{
	struct flow_sender *sender = &output_of(exec, sub)->sender;
	struct link *link = exec->context->link;
	const uint8_t *data;
	uint64_t offset;
	size_t len;

	if (!link_has_room(link))
		return false;
	len = flow_sender_next(sender, link_data_max, &offset, &data);
	if (len > 0)
		link_send_data(link, stream_of(exec, sub), offset, data, len);
	else if (flow_sender_end_due(sender))
		link_send_end(link, stream_of(exec, sub), sender->written);
	else
		return false;
	return true;
}

bool exec_pump(struct exec *exec)
{
	bool has_sent = pump_output(exec, SUBSTREAM_STDOUT);
	struct msg exit = {.type = FRAME_EXIT, .exit = exec->receipt};

	has_sent |= pump_output(exec, SUBSTREAM_STDERR);
	if (exec->state == EXEC_ENDED && !exec->is_exit_sent && exec->stdout.sender.is_end_sent &&
	    exec->stderr.sender.is_end_sent && link_has_room(exec->context->link)) {
		exec->is_exit_sent = true;
		link_send(exec->context->link, &exit);
	}
	return has_sent;
}

/* --- A new connection --------------------------------------------------------------------------
 */

static void describe_stream(const struct exec *exec, enum frame_substream sub,
			    const struct input *input, json_t *received)
{
	char key[16];

	snprintf(key, sizeof(key), "%" PRIu32, stream_of(exec, sub));
	json_object_set_new(received, key, json_integer((json_int_t)input->receiver.received));
}

void exec_describe(const struct exec *exec, json_t *received)
{
	describe_stream(exec, SUBSTREAM_CODE, &exec->code, received);
	describe_stream(exec, SUBSTREAM_STDIN, &exec->stdin, received);
}

static void resume_output(struct exec *exec, enum frame_substream sub, const json_t *host_received)
{
	struct flow_sender *sender = &output_of(exec, sub)->sender;
	uint64_t offset;
	char key[16];

	snprintf(key, sizeof(key), "%" PRIu32, stream_of(exec, sub));
	offset = (uint64_t)json_integer_value(json_object_get(host_received, key));
	/* A host that has forgotten what it took gets what is still here. */
	if (flow_sender_resume(sender, offset) < 0)
		flow_sender_resume(sender, sender->taken);
}

void exec_resume(struct exec *exec, const json_t *host_received)
{
	resume_output(exec, SUBSTREAM_STDOUT, host_received);
	resume_output(exec, SUBSTREAM_STDERR, host_received);
	exec->is_exit_sent = false;
	exec_repeat_started(exec);
	/* Credits may have been lost with the old connection. */
	send_credit(exec, SUBSTREAM_CODE, &exec->code);
	send_credit(exec, SUBSTREAM_STDIN, &exec->stdin);
	if (exec->state == EXEC_DRAINING)
		drain(exec);
	ready(exec);
}

/* --- Life --------------------------------------------------------------------------------------
 */

static int allocate(struct exec **ret, const struct exec_context *context,
		    const struct msg_exec *request)
{
	struct exec *exec = calloc(1, sizeof(*exec));

	if (!exec)
		return -ENOMEM;
	exec->context = context;
	exec->number = (uint32_t)request->exec;
	exec->process = PROCESS_NONE;
	exec->report = REPORT_NONE;
	exec->text_fd = -1;
	input_init(&exec->code, context->loop, &code_ops, exec);
	input_init(&exec->stdin, context->loop, &stdin_ops, exec);
	output_init(&exec->stdout, context->loop, request->stdout_limit, &output_ops, exec);
	output_init(&exec->stderr, context->loop, request->stderr_limit, &output_ops, exec);
	/* Who writes to a process waits for each byte. */
	exec->is_background = exec->stdin.tells_all = msg_exec_is_process(request);
	ev_timer_init(&exec->kill_timer, on_kill_timer, 0., 0.);
	exec->kill_timer.data = exec;
	*ret = exec;
	return 0;
}

/* Where the program's text goes: a descriptor for writing, or -errno. */
static int make_text(struct exec *exec, bool is_resident)
{
	const struct agent_config *config = exec->context->config;
	int fd;

	if (!is_resident)
		return exec->is_background || program_would_replace(&exec->program, config)
			       ? program_make_own_file(&exec->program, config,
						       ++*exec->context->serial)
			       : program_make_file(&exec->program, config);
	exec->text_fd = program_make_memory_file(&exec->program);
	if (exec->text_fd < 0)
		return exec->text_fd;
	fd = fcntl(exec->text_fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

int exec_create(struct exec **ret, const struct exec_context *context, struct msg_exec *request)
{
	int fd, r = allocate(ret, context, request);
	struct exec *exec = *ret;

	if (r < 0)
		return r;
	program_take(&exec->program, request);
	exec->stop_at_limit = request->stop_at_limit;
	exec->is_rehearsal = request->is_rehearsal;
	if (!exec->program.language ||
	    (!exec->program.language->command && !request->is_resident)) {
		fail(exec, "Unknown language '%s' (known: %s)", request->language,
		     language_known());
		return 0;
	}
	r = machine_prepare(context->config, request, context->home_bytes);
	if (r < 0) {
		fail(exec, "Cannot prepare the machine: %s", strerror(-r));
		return 0;
	}
	fd = make_text(exec, request->is_resident);
	if (fd < 0)
		fail(exec, "Cannot make '%s': %s", exec->program.language->file, strerror(-fd));
	else
		input_open(&exec->code, fd);
	return 0;
}

int exec_create_refused(struct exec **ret, const struct exec_context *context,
			const struct msg_exec *request, const char *reason)
{
	int r = allocate(ret, context, request);

	if (r == 0)
		fail(*ret, "%s", reason);
	return r;
}

void exec_destroy(struct exec *exec)
{
	if (!exec)
		return;
	if (exec->state == EXEC_RUNNING || exec->state == EXEC_ENDING)
		kill_tree(exec);
	if (exec->resident)
		resident_lose(exec->resident);
	loop_timer_stop(exec->context->loop, &exec->kill_timer);
	close_fd(exec->text_fd);
	input_fini(&exec->code);
	input_fini(&exec->stdin);
	output_fini(&exec->stdout);
	output_fini(&exec->stderr);
	report_fini(&exec->report);
	process_fini(&exec->process, exec->context->cgroup);
	program_clear(&exec->program);
	json_decref(exec->receipt.error);
	free(exec);
}

bool exec_is_gone(const struct exec *exec)
{
	return exec->process.cgroup.fd < 0 || is_tree_gone(exec);
}

uint32_t exec_number(const struct exec *exec)
{
	return exec->number;
}

bool exec_is_background(const struct exec *exec)
{
	return exec->is_background;
}

enum exec_state exec_state(const struct exec *exec)
{
	return exec->state;
}

pid_t exec_pid(const struct exec *exec)
{
	return exec->process.pid;
}

bool exec_is_exit_sent(const struct exec *exec)
{
	return exec->is_exit_sent;
}
