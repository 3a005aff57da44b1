/* SPDX-License-Identifier: Apache-2.0 */
/* The agent: answers the host and owns the runs. */
#include "guest-agent/agent.h"

#include "base/log.h"
#include "base/util.h"
#include "guest-agent/drop.h"
#include "guest-agent/exec.h"
#include "guest-agent/guard.h"
#include "guest-agent/identity.h"
#include "guest-agent/memory.h"
#include "guest-agent/port.h"
#include "guest-agent/tree.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* Runs known at a time, with those whose receipt was not acknowledged: others, and those in the
 * background. Each may hold two windows of output (512 KiB) in memory that is locked when it is
 * used. */
#define FOREGROUND_MAX 8
#define BACKGROUND_MAX 16
#define EXECS_MAX      (FOREGROUND_MAX + BACKGROUND_MAX)
/* docs/MEMORY.md. */
#define MEMORY_SECONDS 2.
/* So long after a program has begun its VM is reported: most runs are over by then, and none is
 * held up at its start. */
#define MEMORY_FIRST_SECONDS 0.05

struct agent {
	const struct agent_config *config;
	struct loop *loop;
	struct cgroup cgroup;
	struct port port;
	struct link link;
	struct standbys *standbys;
	struct resident_context resident_context;
	struct resident residents[LANGUAGES];
	struct exec_context context;
	uint64_t home_bytes, run_serial;
	struct exec *execs[EXECS_MAX];
	struct exec *leaving[EXECS_MAX]; /* acknowledged, not all gone */
	struct defer pump;
	pid_t drop_pid; /* drops caches; 0: none does */
	uint64_t drop_id;
	struct guard guard;
	uint64_t memory_due_us; /* the next report is no later */
	ev_timer guard_timer, memory_timer;
	ev_signal on_child, on_terminate;
};

static struct exec **slot_of(struct agent *agent, uint64_t number)
{
	for (size_t i = 0; i < EXECS_MAX; i++)
		if (agent->execs[i] && exec_number(agent->execs[i]) == number)
			return &agent->execs[i];
	return NULL;
}

static struct exec *find_exec(struct agent *agent, uint64_t number)
{
	struct exec **slot = slot_of(agent, number);

	return slot ? *slot : NULL;
}

static bool is_active(const struct exec *exec)
{
	return exec && exec_state(exec) != EXEC_ENDED;
}

/* --- Sending -----------------------------------------------------------------------------------
 */

/* Piece by piece in turn, so that no output and no run waits for another to finish. */
static void pump(void *user)
{
	struct agent *agent = user;
	bool has_sent;

	do {
		has_sent = false;
		for (size_t i = 0; i < EXECS_MAX; i++)
			if (agent->execs[i])
				has_sent |= exec_pump(agent->execs[i]);
	} while (has_sent && link_has_room(&agent->link));
}

static void request_pump(void *user)
{
	struct agent *agent = user;

	loop_defer(agent->loop, &agent->pump, pump, agent);
}

static void send_memory(struct agent *agent, uint64_t id)
{
	struct msg memory = {.type = FRAME_MEMORY};

	memory_read(&agent->cgroup, &memory.memory);
	memory.memory.id = id;
	link_send(&agent->link, &memory);
}

static void await_memory(struct agent *agent)
{
	agent->memory_due_us = now_us() + (uint64_t)(MEMORY_SECONDS * 1e6);
	loop_timer_start(agent->loop, &agent->memory_timer, MEMORY_SECONDS);
}

/* A machine that was stopped, or copied, since its last report has nobody who knows it. Runs one
 * behind another put the report off no further than it was due. */
static void hasten_memory(struct agent *agent)
{
	uint64_t now = now_us(), due = MAX(agent->memory_due_us, now);
	double left = (double)(due - now) / 1e6;

	loop_timer_start(agent->loop, &agent->memory_timer, MIN(left, MEMORY_FIRST_SECONDS));
}

static void report_memory(struct agent *agent)
{
	/* A host that does not read gets the next one. */
	if (link_has_room(&agent->link))
		send_memory(agent, 0);
	await_memory(agent);
}

static void on_memory_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	report_memory(timer->data);
}

/* In a child, because it takes longer than output may wait. One that is asked for meanwhile is
 * answered with it. */
static void on_memory_drop(struct agent *agent, uint64_t id)
{
	agent->drop_id = id;
	if (agent->drop_pid == 0 && agent->config->drop_path)
		agent->drop_pid = drop_start(agent->config->drop_path);
	if (agent->drop_pid == 0)
		send_memory(agent, id);
}

static void on_drop_reaped(struct agent *agent)
{
	agent->drop_pid = 0;
	send_memory(agent, agent->drop_id);
}

/* --- The pressure guard ------------------------------------------------------------------------
 */

/* Who holds most: a run, or what the interpreter of a session has left behind its programs. */
struct holder {
	struct exec *exec;
	struct resident *resident;
	uint64_t held;
};

/* Whom the guard would kill; also takes the samples of all runs. False when no run lives. */
static bool find_largest(struct agent *agent, struct holder *ret)
{
	*ret = (struct holder){0};
	for (size_t i = 0; i < EXECS_MAX; i++) {
		struct exec *exec = agent->execs[i];
		uint64_t held;

		if (!exec || exec_state(exec) != EXEC_RUNNING)
			continue;
		held = exec_sample(exec);
		if (!ret->exec || held > ret->held)
			*ret = (struct holder){.exec = exec, .held = held};
	}
	if (!ret->exec)
		return false;
	for (size_t i = 0; i < LANGUAGES; i++) {
		uint64_t held = resident_held(&agent->residents[i]);

		if (held > ret->held)
			*ret = (struct holder){.resident = &agent->residents[i], .held = held};
	}
	return true;
}

static void end_largest(struct agent *agent, const struct holder *largest)
{
	if (largest->resident) {
		log_notice("guard", "What an interpreter has left stalls on memory: killed");
		resident_kill_for_memory(largest->resident);
	} else {
		log_notice("guard", "Run %u stalls on memory: killed", exec_number(largest->exec));
		exec_kill_for_memory(largest->exec);
	}
	guard_reset(&agent->guard);
}

static void guard_judge(struct agent *agent, const struct holder *largest,
			enum guard_verdict verdict)
{
	switch (verdict) {
	case GUARD_FINE:
		break;
	case GUARD_STALLED:
		report_memory(agent);
		break;
	case GUARD_HOPELESS:
		end_largest(agent, largest);
		break;
	}
}

static void on_guard_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct agent *agent = timer->data;
	struct guard_sample sample;
	struct holder largest;

	if (!find_largest(agent, &largest)) {
		guard_reset(&agent->guard);
		return; /* the next run starts it again */
	}
	if (memory_read_pressure(&agent->cgroup, &sample))
		guard_judge(agent, &largest, guard_step(&agent->guard, &sample));
	loop_timer_start(agent->loop, timer, GUARD_PERIOD_MS / 1000.);
}

static void watch_runs(struct agent *agent)
{
	if (!ev_is_active(&agent->guard_timer))
		loop_timer_start(agent->loop, &agent->guard_timer, GUARD_PERIOD_MS / 1000.);
}

/* --- Messages ----------------------------------------------------------------------------------
 */

static void on_hello(struct agent *agent, const struct msg_hello *hello)
{
	json_t *received = json_object(), *numbers = json_array();

	if (hello->version != LINK_VERSION)
		log_notice("link", "Host speaks version %llu, this agent %d",
			   (unsigned long long)hello->version, LINK_VERSION);
	for (size_t i = 0; i < EXECS_MAX; i++) {
		if (!agent->execs[i])
			continue;
		exec_describe(agent->execs[i], received);
		json_array_append_new(numbers, json_integer(exec_number(agent->execs[i])));
	}
	link_accept(&agent->link, hello, received, numbers);
	for (size_t i = 0; i < EXECS_MAX; i++)
		if (agent->execs[i])
			exec_resume(agent->execs[i], hello->received);
	await_memory(agent);
}

static void on_identity(struct agent *agent, const struct msg_identity *identity)
{
	struct msg done = {.type = FRAME_IDENTITY_DONE, .ping.id = identity->id};
	const char *what;
	int r = 0;

	/* An ordinary process has no machine whose identity it could change. */
	if (agent->config->is_init)
		r = identity_apply(identity, &what);
	if (r < 0) {
		log_error("identity", "Cannot set %s: %s", what, strerror(-r));
		return; /* without an answer this VM will not be used */
	}
	link_send(&agent->link, &done);
}

/* Without cgroups a run cannot be told from another by its processes. */
static const char *refusal(const struct agent *agent)
{
	if (cgroup_is_there(&agent->cgroup))
		return NULL;
	for (size_t i = 0; i < EXECS_MAX; i++)
		if (is_active(agent->execs[i]))
			return "Without cgroups there is one run at a time";
	return NULL;
}

/* More runs than are kept: told at once, and not kept either. */
static void send_refusal(struct agent *agent, const struct msg_exec *request)
{
	struct msg exit = {.type = FRAME_EXIT,
			   .exit = {.exec = request->exec,
				    .reason = MSG_REASON_FAILED,
				    .detail = "Too many runs at a time"}};

	link_send_end(&agent->link, frame_stream_id((uint32_t)request->exec, SUBSTREAM_STDOUT), 0);
	link_send_end(&agent->link, frame_stream_id((uint32_t)request->exec, SUBSTREAM_STDERR), 0);
	link_send(&agent->link, &exit);
}

static void sweep_leaving(struct agent *agent)
{
	for (size_t i = 0; i < EXECS_MAX; i++)
		if (agent->leaving[i] && exec_is_gone(agent->leaving[i]))
			exec_destroy(TAKE_PTR(agent->leaving[i]));
}

/* A place for one more of its kind; NULL when there are too many. */
static struct exec **free_slot(struct agent *agent, bool is_background)
{
	size_t count = 0, max = is_background ? BACKGROUND_MAX : FOREGROUND_MAX;
	struct exec **free_one = NULL;

	for (size_t i = 0; i < EXECS_MAX; i++) {
		if (!agent->execs[i])
			free_one = &agent->execs[i];
		else if (exec_is_background(agent->execs[i]) == is_background)
			count++;
	}
	return count < max ? free_one : NULL;
}

static void on_exec(struct agent *agent, struct msg_exec *request)
{
	struct exec *known = find_exec(agent, request->exec), **slot;
	const char *reason = refusal(agent);
	int r;

	if (request->exec == 0 || request->exec > FRAME_EXEC_MAX)
		return;
	if (known) {
		exec_repeat_started(known);
		return;
	}
	slot = free_slot(agent, msg_exec_is_process(request));
	if (!slot) {
		send_refusal(agent, request);
		return;
	}
	/* The kernel may have let go of the last process of a run after it was reaped. */
	sweep_leaving(agent);
	r = reason ? exec_create_refused(slot, &agent->context, request, reason)
		   : exec_create(slot, &agent->context, request);
	if (r < 0)
		send_refusal(agent, request);
	watch_runs(agent);
	hasten_memory(agent);
}

/* The host has done with the run; its processes may take a moment longer. With more of them than
 * places the cgroup of one stays behind, empty. */
static void leave(struct agent *agent, struct exec *exec)
{
	for (size_t i = 0; i < EXECS_MAX && !exec_is_gone(exec); i++) {
		if (agent->leaving[i])
			continue;
		agent->leaving[i] = exec;
		return;
	}
	exec_destroy(exec);
}

static void on_exit_ack(struct agent *agent, const struct msg_exec_ref *ref)
{
	struct exec **slot = slot_of(agent, ref->exec);

	if (!slot || exec_state(*slot) != EXEC_ENDED || !exec_is_exit_sent(*slot))
		return;
	leave(agent, TAKE_PTR(*slot));
}

static void on_kill(struct agent *agent, const struct msg_kill *message)
{
	struct exec *exec = find_exec(agent, message->exec);

	if (exec)
		exec_kill(exec, message->grace_ms);
}

static void on_signal(struct agent *agent, const struct msg_signal *message)
{
	struct exec *exec = find_exec(agent, message->exec);

	if (exec)
		exec_signal(exec, message->signal);
}

static void on_resize(struct agent *agent, const struct msg_resize *message)
{
	const struct terminal_size size = {.rows = message->rows, .columns = message->columns};
	struct exec *exec = find_exec(agent, message->exec);

	if (exec)
		exec_resize(exec, &size);
}

static void on_prepare(struct agent *agent, struct msg_prepare *request)
{
	struct msg answer = {.type = FRAME_PREPARED, .prepared = {.id = request->id}};
	const struct language *language = language_find(request->language);

	if (!request->is_resident) {
		standbys_prepare(agent->standbys, request);
		return;
	}
	if (language && resident_prepare(&agent->residents[language_index(language)], language,
					 TAKE_PTR(request->env)))
		answer.prepared.waiting = 1;
	link_send(&agent->link, &answer);
}

static void on_link_message(void *user, struct msg *msg)
{
	struct agent *agent = user;
	struct msg pong = {.type = FRAME_PONG, .ping = msg->ping};

	/* link.c lets through what a host may say, nothing else. */
	if (msg->type == FRAME_HELLO)
		on_hello(agent, &msg->hello);
	else if (msg->type == FRAME_IDENTITY)
		on_identity(agent, &msg->identity);
	else if (msg->type == FRAME_EXEC)
		on_exec(agent, &msg->exec);
	else if (msg->type == FRAME_KILL)
		on_kill(agent, &msg->kill);
	else if (msg->type == FRAME_SIGNAL)
		on_signal(agent, &msg->signal);
	else if (msg->type == FRAME_RESIZE)
		on_resize(agent, &msg->resize);
	else if (msg->type == FRAME_MEMORY_GET)
		send_memory(agent, msg->ping.id);
	else if (msg->type == FRAME_MEMORY_DROP)
		on_memory_drop(agent, msg->ping.id);
	else if (msg->type == FRAME_PING)
		link_send(&agent->link, &pong);
	else if (msg->type == FRAME_EXIT_ACK)
		on_exit_ack(agent, &msg->exec_ref);
	else if (msg->type == FRAME_PREPARE)
		on_prepare(agent, &msg->prepare);
}

/* Streams of a run that is not known any more: the host had not heard of its end yet. */
static int on_link_data(void *user, uint32_t stream, uint64_t offset, const uint8_t *data,
			size_t len)
{
	struct exec *exec = find_exec(user, frame_stream_exec(stream));

	return exec ? exec_data(exec, frame_stream_sub(stream), offset, data, len) : 0;
}

static int on_link_end(void *user, uint32_t stream, uint64_t offset)
{
	struct exec *exec = find_exec(user, frame_stream_exec(stream));

	return exec ? exec_end(exec, frame_stream_sub(stream), offset) : 0;
}

static int on_link_credit(void *user, uint32_t stream, uint64_t taken, uint64_t limit)
{
	struct exec *exec = find_exec(user, frame_stream_exec(stream));

	return exec ? exec_credit(exec, frame_stream_sub(stream), taken, limit) : 0;
}

static void on_link_down(void *user)
{
	struct agent *agent = user;

	loop_timer_stop(agent->loop, &agent->memory_timer);
	port_connection_ended(&agent->port);
}

static const struct link_ops link_ops = {
	.on_message = on_link_message,
	.on_data = on_link_data,
	.on_end = on_link_end,
	.on_credit = on_link_credit,
	.on_room = request_pump,
	.on_down = on_link_down,
};

/* --- Port, processes, signals ------------------------------------------------------------------
 */

static void on_port_connected(void *user, int fd_take)
{
	struct agent *agent = user;

	link_attach(&agent->link, fd_take);
}

static void on_port_finished(void *user)
{
	struct agent *agent = user;

	loop_stop(agent->loop);
}

static const struct port_ops port_ops = {
	.on_connected = on_port_connected,
	.on_finished = on_port_finished,
};

static bool is_resident(struct agent *agent, pid_t pid)
{
	for (size_t i = 0; i < LANGUAGES; i++)
		if (resident_on_reaped(&agent->residents[i], pid))
			return true;
	return false;
}

static void reap(struct agent *agent)
{
	struct rusage rusage;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG, &rusage)) > 0) {
		if (standbys_on_reaped(agent->standbys, pid) || is_resident(agent, pid))
			continue;
		if (pid == agent->drop_pid)
			on_drop_reaped(agent);
		for (size_t i = 0; i < EXECS_MAX; i++)
			if (agent->execs[i] && exec_pid(agent->execs[i]) == pid)
				exec_on_reaped(agent->execs[i], status, &rusage);
	}
	/* Orphans may have been the last of their run. */
	for (size_t i = 0; i < EXECS_MAX; i++)
		if (agent->execs[i])
			exec_check_tree(agent->execs[i]);
	sweep_leaving(agent);
}

static void on_child(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	reap(watcher->data);
}

static void on_terminate(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	struct agent *agent = watcher->data;

	loop_stop(agent->loop);
}

static void start_watchers(struct agent *agent)
{
	ev_timer_init(&agent->guard_timer, on_guard_timer, 0., 0.);
	ev_timer_init(&agent->memory_timer, on_memory_timer, 0., 0.);
	ev_signal_init(&agent->on_child, on_child, SIGCHLD);
	ev_signal_init(&agent->on_terminate, on_terminate, SIGTERM);
	agent->guard_timer.data = agent->memory_timer.data = agent;
	agent->on_child.data = agent->on_terminate.data = agent;
	ev_signal_start(loop_ev(agent->loop), &agent->on_child);
	if (!agent->config->is_init)
		ev_signal_start(loop_ev(agent->loop), &agent->on_terminate);
}

static void stop_watchers(struct agent *agent)
{
	loop_timer_stop(agent->loop, &agent->guard_timer);
	loop_timer_stop(agent->loop, &agent->memory_timer);
	ev_signal_stop(loop_ev(agent->loop), &agent->on_child);
	ev_signal_stop(loop_ev(agent->loop), &agent->on_terminate);
}

static void init_processes(struct agent *agent)
{
	const struct agent_config *config = agent->config;
	int r;

	agent->cgroup = CGROUP_NONE;
	r = config->is_init ? 0 : tree_init();
	if (r < 0)
		log_warning("agent", "Cannot become subreaper: %s", strerror(-r));
	if (!config->cgroup_root)
		return;
	r = cgroup_init(&agent->cgroup, config->cgroup_root, config->is_init);
	if (r < 0)
		log_warning("agent", "No cgroups at '%s', one run at a time: %s",
			    config->cgroup_root, strerror(-r));
}

static int start_port(struct agent *agent)
{
	const struct agent_config *config = agent->config;

	if (config->fd >= 0)
		return port_start_fd(&agent->port, config->fd);
	if (config->socket_path)
		return port_start_path(&agent->port, config->socket_path);
	port_start_device(&agent->port);
	return 0;
}

/* What there is before anything can come from the host. */
static int make_parts(struct agent *agent)
{
	const struct standbys_context standbys_context = {
		.loop = agent->loop,
		.link = &agent->link,
		.config = agent->config,
		.cgroup = &agent->cgroup,
	};
	int r = standbys_create(&agent->standbys, &standbys_context);

	if (r < 0)
		return r;
	agent->context = (struct exec_context){
		.loop = agent->loop,
		.link = &agent->link,
		.config = agent->config,
		.cgroup = &agent->cgroup,
		.standbys = agent->standbys,
		.residents = agent->residents,
		.home_bytes = &agent->home_bytes,
		.serial = &agent->run_serial,
		.on_ready = request_pump,
		.user = agent,
	};
	agent->resident_context = (struct resident_context){.loop = agent->loop,
							    .config = agent->config,
							    .cgroup = &agent->cgroup,
							    .standbys = agent->standbys};
	for (size_t i = 0; i < LANGUAGES; i++)
		resident_init(&agent->residents[i], &agent->resident_context);
	init_processes(agent);
	link_init(&agent->link, agent->loop, &link_ops, agent);
	port_init(&agent->port, agent->loop, &port_ops, agent);
	start_watchers(agent);
	return 0;
}

int agent_create(struct agent **ret, const struct agent_config *config)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	int r;

	if (!agent)
		return -ENOMEM;
	agent->config = config;
	r = loop_create(&agent->loop);
	if (r == 0)
		r = make_parts(agent);
	if (r < 0) {
		loop_destroy(agent->loop);
		free(agent);
		return r;
	}
	r = start_port(agent);
	if (r < 0) {
		agent_destroy(agent);
		return r;
	}
	*ret = agent;
	return 0;
}

/* Nothing a run started may outlive the agent: also what an ended run has left to the kernel. */
static void end_processes(struct agent *agent)
{
	standbys_kill_all(agent->standbys);
	for (size_t i = 0; i < EXECS_MAX; i++)
		if (is_active(agent->execs[i]))
			exec_kill(agent->execs[i], 0);
	do
		tree_signal(SIGKILL, NULL, 0);
	while (waitpid(-1, NULL, 0) > 0);
}

void agent_destroy(struct agent *agent)
{
	if (!agent)
		return;
	end_processes(agent);
	for (size_t i = 0; i < EXECS_MAX; i++)
		exec_destroy(agent->execs[i]);
	for (size_t i = 0; i < EXECS_MAX; i++)
		exec_destroy(agent->leaving[i]);
	for (size_t i = 0; i < LANGUAGES; i++)
		resident_fini(&agent->residents[i]);
	standbys_destroy(agent->standbys);
	loop_defer_cancel(agent->loop, &agent->pump);
	stop_watchers(agent);
	port_fini(&agent->port);
	link_fini(&agent->link);
	cgroup_fini(&agent->cgroup);
	loop_destroy(agent->loop);
	free(agent);
}

void agent_run(struct agent *agent)
{
	loop_run(agent->loop);
}
