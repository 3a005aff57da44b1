/* SPDX-License-Identifier: Apache-2.0 */
/* The guest inside the fake QEMU: boots as its scenario says and runs lists of things to do. */
#include "tests/fake/qemu/guest.h"

#include "base/util.h"
#include "tests/fake/fake_agent.h"
#include "tests/fake/qemu/background.h"
#include "tests/fake/qemu/output.h"
#include "tests/fake/qemu/plan.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct guest {
	struct loop *loop;
	const char *scenario;
	struct fake_qmp **qmp;
	struct fake_agent *agent;
	uint32_t exec;
	struct text code, input;
	int inputs_open;         /* code and standard input */
	struct output output[2]; /* stdout, stderr */
	struct msg exit;
	bool is_waiting;               /* for KILL */
	bool is_ended;                 /* `exit` is due behind the output */
	struct background *background; /* execs beside that one */
	struct guest_state state;
	bool is_running, is_restored, has_identity;
	bool is_rehearsal, has_waited; /* of the exec */
	bool is_files;                 /* the same: file operations */
};

static bool is_scenario(const struct guest *guest, const char *name)
{
	return strcmp(guest->scenario, name) == 0;
}

static uint32_t stream_of(const struct guest *guest, enum frame_substream sub)
{
	return frame_stream_id(guest->exec, sub);
}

/* --- Output and the end of a run. --- */

static void pump(struct guest *guest)
{
	struct output *out = &guest->output[0], *err = &guest->output[1];

	output_pump(out, guest->agent, stream_of(guest, SUBSTREAM_STDOUT), guest->is_ended);
	output_pump(err, guest->agent, stream_of(guest, SUBSTREAM_STDERR), guest->is_ended);
	if (!guest->is_ended || !out->flow.is_end_sent || !err->flow.is_end_sent ||
	    guest->exit.type == 0)
		return;
	guest->exit.exit.stdout_bytes = out->text.len;
	guest->exit.exit.stderr_bytes = err->text.len;
	fake_agent_send(guest->agent, &guest->exit);
	guest->exit.type = 0; /* once */
	guest->state.unfinished = guest->exec;
}

static void end(struct guest *guest, const char *reason, uint64_t number)
{
	guest->exit = (struct msg){.type = FRAME_EXIT, .exit = {.exec = guest->exec}};
	strcpy(guest->exit.exit.reason, reason);
	guest->exit.exit.exit_code = number;
	guest->exit.exit.signal = number;
	guest->is_ended = true;
	guest->is_waiting = false;
}

/* --- Breaking the protocol. --- */

static void abuse_garbage(struct guest *guest)
{
	static const char garbage[4096] = "this is no frame";

	fake_agent_send_raw(guest->agent, garbage, sizeof(garbage));
}

static void abuse_oversized(struct guest *guest)
{
	static const uint8_t header[] = {0xff, 0xff, 0xff, 0x7f, FRAME_EXIT, 0, 0, 0, 0};

	fake_agent_send_raw(guest->agent, header, sizeof(header));
}

static void abuse_never_ending(struct guest *guest)
{
	static const uint8_t header[] = {0, 0, 4, 0, FRAME_EXIT,
					 0, 0, 0, 0}; /* 256 KiB, of which
							 nothing comes */

	fake_agent_send_raw(guest->agent, header, sizeof(header));
}

static void abuse_malformed(struct guest *guest)
{
	fake_agent_send_text(guest->agent, FRAME_EXIT, "{\"exec\": 1, ");
}

static void abuse_unknown_exec(struct guest *guest)
{
	fake_agent_send_data(guest->agent, frame_stream_id(7, SUBSTREAM_STDOUT), 0, "x", 1);
}

static void abuse_gap(struct guest *guest)
{
	fake_agent_send_data(guest->agent, stream_of(guest, SUBSTREAM_STDOUT), 1000, "x", 1);
}

static void abuse_early_exit(struct guest *guest)
{
	fake_agent_send_data(guest->agent, stream_of(guest, SUBSTREAM_STDOUT), 0, "x", 1);
	fake_agent_send_text(guest->agent, FRAME_EXIT,
			     "{\"exec\": 1, \"reason\": \"exited\", \"stdout_bytes\": 1, "
			     "\"stderr_bytes\": 0}");
}

/* The end of another's exec: it must not end this one. */
static void abuse_forged_exit(struct guest *guest)
{
	fake_agent_send_text(guest->agent, FRAME_EXIT,
			     "{\"exec\": 9, \"reason\": \"exited\", \"exit_code\": 42, "
			     "\"stdout_bytes\": 0, \"stderr_bytes\": 0}");
}

static void abuse_second_hello(struct guest *guest)
{
	fake_agent_send_text(guest->agent, FRAME_HELLO_REPLY, "{\"version\": 1}");
}

static void abuse_host_frame(struct guest *guest)
{
	fake_agent_send_text(guest->agent, FRAME_KILL, "{\"exec\": 1, \"grace_ms\": 0}");
}

/* Frames that may come at any time, a thousand at once, and never an end of them. */
static void abuse_flood(struct guest *guest)
{
	static const char pong[] = "{\"id\": 1}";
	uint8_t frame[FRAME_OVERHEAD + sizeof(pong)];
	size_t len = frame_encode(frame, FRAME_PONG, 0, pong, sizeof(pong) - 1);
	uint8_t *frames = malloc(len * 1000);

	if (!frames)
		abort();
	for (size_t i = 0; i < 1000; i++)
		memcpy(frames + i * len, frame, len);
	fake_agent_flood(guest->agent, frames, len * 1000);
}

static const struct {
	const char *name;
	void (*fn)(struct guest *guest);
} abuses[] = {
	{"garbage", abuse_garbage},
	{"oversized", abuse_oversized},
	{"never-ending", abuse_never_ending},
	{"malformed", abuse_malformed},
	{"unknown-exec", abuse_unknown_exec},
	{"gap", abuse_gap},
	{"early-exit", abuse_early_exit},
	{"forged-exit", abuse_forged_exit},
	{"second-hello", abuse_second_hello},
	{"host-frame", abuse_host_frame},
	{"flood", abuse_flood},
};

static void abuse(struct guest *guest, const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(abuses); i++)
		if (strcmp(abuses[i].name, name) == 0)
			abuses[i].fn(guest);
}

/* --- The program. --- */

static void send_event(struct guest *guest, const char *name)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 0}, \"event\": \"%s\"}\r\n",
		 name);
	if (*guest->qmp)
		fake_qmp_send_text(*guest->qmp, text);
}

static void fill(struct guest *guest, size_t len)
{
	char *bytes = malloc(len);

	if (!bytes)
		abort();
	memset(bytes, 'x', len);
	text_append(&guest->output[0].text, bytes, len);
	free(bytes);
}

static void append_line(struct guest *guest, const char *line)
{
	text_append(&guest->output[0].text, line, strlen(line));
	text_append(&guest->output[0].text, "\n", 1);
}

static void append_entropy(struct guest *guest)
{
	char hex[33];

	hex_encode(guest->state.entropy, 16, hex);
	append_line(guest, hex);
}

/* One line; false when the program goes no further. */
static bool step(struct guest *guest, const char *word, const char *rest)
{
	unsigned long number = strtoul(rest, NULL, 10);

	if (strcmp(word, "out") == 0 || strcmp(word, "err") == 0) {
		text_append(&guest->output[*word == 'e'].text, rest, strlen(rest));
		text_append(&guest->output[*word == 'e'].text, "\n", 1);
	} else if (strcmp(word, "fill") == 0) {
		fill(guest, number);
	} else if (strcmp(word, "cat") == 0) {
		text_append(&guest->output[0].text, guest->input.data, guest->input.len);
	} else if (strcmp(word, "words") == 0) {
		fprintf(stderr, "%s\n", rest);
	} else if (strcmp(word, "exit") == 0) {
		end(guest, MSG_REASON_EXITED, number);
	} else if (strcmp(word, "signal") == 0) {
		end(guest, MSG_REASON_SIGNALED, number);
	} else if (strcmp(word, "oom") == 0) {
		end(guest, MSG_REASON_OOM, SIGKILL);
	} else if (strcmp(word, "failed") == 0) {
		end(guest, MSG_REASON_FAILED, 0);
		snprintf(guest->exit.exit.detail, sizeof(guest->exit.exit.detail), "%s", rest);
	} else if (strcmp(word, "hang") == 0 || strcmp(word, "ignore") == 0) {
		guest->is_waiting = *word == 'h';
		return false;
	} else if (strcmp(word, "die") == 0) {
		_exit((int)number);
	} else if (strcmp(word, "close") == 0) {
		fake_agent_close(guest->agent);
	} else if (strcmp(word, "event") == 0) {
		send_event(guest, rest);
	} else if (strcmp(word, "entropy") == 0) {
		append_entropy(guest);
	} else if (strcmp(word, "standby") == 0) {
		append_line(guest, guest->has_waited ? "waited" : "started");
	} else if (strcmp(word, "abuse") == 0) {
		abuse(guest, rest);
	} else {
		text_append(&guest->output[1].text, "unknown word\n", strlen("unknown word\n"));
		end(guest, MSG_REASON_EXITED, 127);
	}
	return !guest->is_ended;
}

static void run(struct guest *guest)
{
	char *line, *rest = guest->code.data;
	bool goes_on = true;

	while (goes_on && (line = strsep(&rest, "\n"))) {
		char *word = strsep(&line, " ");

		if (*word)
			goes_on = step(guest, word, line ? line : "");
	}
	if (goes_on)
		end(guest, MSG_REASON_EXITED, 0);
	pump(guest);
}

/* Of file operations the path is the program: what it prints as errors are the results. */
static void run_files(struct guest *guest)
{
	json_auto_t *operations = json_loadb(guest->code.data, guest->code.len, 0, NULL);
	const char *path =
		json_string_value(json_object_get(json_array_get(operations, 0), "path"));

	if (!path)
		abort();
	guest->code.len = 0;
	text_append(&guest->code, path, strlen(path) + 1);
	run(guest);
}

static void rehearse(struct guest *guest)
{
	const char *action = plan_at("rehearsal");

	if (strcmp(action, "ignore") == 0)
		return;
	append_line(guest, strcmp(action, "wrong") == 0 ? "nonsense" : "ready");
	end(guest, MSG_REASON_EXITED, 0);
	pump(guest);
}

/* --- The host speaks. --- */

/* The one before is over: one exec at a time. */
static void forget_exec(struct guest *guest)
{
	struct text *texts[] = {&guest->code, &guest->input, &guest->output[0].text,
				&guest->output[1].text};

	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		free(texts[i]->data);
		*texts[i] = (struct text){0};
	}
	for (size_t i = 0; i < ELEMENTSOF(guest->output); i++) {
		flow_sender_fini(&guest->output[i].flow);
		flow_sender_init(&guest->output[i].flow);
		guest->output[i].written = 0;
	}
	guest->exit.type = 0;
	guest->is_ended = guest->is_waiting = false;
}

static void take_standby(struct guest *guest)
{
	guest->has_waited = guest->state.waiting > 0;
	if (guest->has_waited)
		guest->state.waiting--;
	if (!guest->is_rehearsal)
		guest->state.waiting = 0;
}

static void on_exec(struct guest *guest, const struct msg_exec *exec)
{
	struct msg started = {.type = FRAME_STARTED, .exec_ref = {.exec = exec->exec}};

	if (is_scenario(guest, "dies-after-exec"))
		_exit(1);
	if (!exec->is_rehearsal)
		plan_at("run");
	if (!guest->has_identity)
		plan_die("EXEC before IDENTITY");
	if (guest->state.unfinished == exec->exec)
		plan_die("EXEC with a number that was not acknowledged");
	if (msg_exec_is_process(exec)) {
		background_exec(&guest->background, guest->agent, exec);
		return;
	}
	forget_exec(guest);
	guest->exec = (uint32_t)exec->exec;
	guest->is_rehearsal = exec->is_rehearsal;
	guest->is_files = strcmp(exec->language, "files") == 0;
	guest->inputs_open = 2;
	take_standby(guest);
	fake_agent_send(guest->agent, &started);
}

static void on_identity(struct guest *guest, const struct msg_identity *identity)
{
	struct msg done = {.type = FRAME_IDENTITY_DONE, .ping = {.id = identity->id}};

	if (is_scenario(guest, "no-identity") || strcmp(plan_at("identity"), "ignore") == 0)
		return;
	if (guest->is_restored &&
	    memcmp(guest->state.entropy, identity->entropy, sizeof(guest->state.entropy)) == 0)
		plan_die("the entropy is the template's");
	memcpy(guest->state.entropy, identity->entropy, sizeof(guest->state.entropy));
	guest->has_identity = true;
	fake_agent_send(guest->agent, &done);
	if (is_scenario(guest, "dies-when-ready"))
		_exit(1);
}

static void on_hello(struct guest *guest, const struct msg_hello *hello)
{
	if (is_scenario(guest, "dies-after-hello")) {
		fprintf(stderr, "fake: the end after HELLO\n");
		_exit(1);
	}
	if (is_scenario(guest, "agent-version")) {
		fake_agent_send_raw(guest->agent, hello->nonce, sizeof(hello->nonce));
		fake_agent_send_text(guest->agent, FRAME_HELLO_REPLY, "{\"version\": 99}");
		return;
	}
	plan_at("hello");
	memcpy(guest->state.sync, hello->sync, sizeof(guest->state.sync));
	fake_agent_accept(guest->agent, hello);
}

static void on_prepare(struct guest *guest, const struct msg_prepare *prepare)
{
	struct msg msg = {.type = FRAME_PREPARED, .prepared = {.id = prepare->id}};

	guest->state.waiting = (uint32_t)prepare->count;
	if (strcmp(plan_at("prepare"), "fewer") == 0) {
		guest->state.waiting--;
		snprintf(msg.prepared.detail, sizeof(msg.prepared.detail), "one does not start");
	}
	msg.prepared.waiting = guest->state.waiting;
	fake_agent_send(guest->agent, &msg);
}

static void on_ack(struct guest *guest, const struct msg_exec_ref *ref)
{
	if (strcmp(plan_at("ack"), "ignore") != 0 && ref->exec == guest->state.unfinished)
		guest->state.unfinished = 0;
}

static void on_message(void *user, const struct msg *msg)
{
	struct guest *guest = user;

	if (background_message(&guest->background, msg))
		return;
	if (msg->type == FRAME_HELLO)
		on_hello(guest, &msg->hello);
	else if (msg->type == FRAME_IDENTITY)
		on_identity(guest, &msg->identity);
	else if (msg->type == FRAME_EXEC)
		on_exec(guest, &msg->exec);
	else if (msg->type == FRAME_PREPARE)
		on_prepare(guest, &msg->prepare);
	else if (msg->type == FRAME_EXIT_ACK)
		on_ack(guest, &msg->exec_ref);
	else if (msg->type == FRAME_KILL && (guest->is_waiting || guest->inputs_open > 0)) {
		guest->inputs_open = 0;
		end(guest, MSG_REASON_SIGNALED, SIGTERM);
		pump(guest);
	}
}

static void on_data(void *user, uint32_t stream, uint64_t offset, const uint8_t *data, size_t len)
{
	struct guest *guest = user;
	bool is_code = frame_stream_sub(stream) == SUBSTREAM_CODE;

	if (background_data(guest->background, stream, offset, data, len))
		return;
	text_append(is_code ? &guest->code : &guest->input, data, len);
	fake_agent_send_credit(guest->agent, stream, offset + len, offset + len + FLOW_WINDOW);
}

static void on_end(void *user, uint32_t stream, uint64_t offset UNUSED)
{
	struct guest *guest = user;

	if (background_end(guest->background, stream))
		return;
	if (--guest->inputs_open > 0)
		return;
	if (guest->is_rehearsal)
		rehearse(guest);
	else if (guest->is_files)
		run_files(guest);
	else
		run(guest);
}

static void on_credit(void *user, uint32_t stream, uint64_t taken, uint64_t limit)
{
	struct guest *guest = user;
	bool is_err = frame_stream_sub(stream) == SUBSTREAM_STDERR;

	if (background_credit(guest->background, stream, taken, limit))
		return;
	if (frame_stream_exec(stream) != guest->exec)
		return; /* crossed our EXIT */
	if (flow_sender_credit(&guest->output[is_err].flow, taken, limit) == 0)
		pump(guest);
}

static const struct fake_agent_ops ops = {
	.on_message = on_message, .on_data = on_data, .on_end = on_end, .on_credit = on_credit};

struct guest *guest_create(struct loop *loop, const char *scenario, struct fake_qmp **qmp)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	if (!guest)
		abort();
	guest->loop = loop;
	guest->scenario = scenario;
	guest->qmp = qmp;
	return guest;
}

void guest_connect(struct guest *guest, int fd_take)
{
	guest->agent = fake_agent_create(guest->loop, fd_take, &ops, guest);
	if (guest->is_restored)
		fake_agent_watch(guest->agent, guest->state.sync);
	if (!guest->is_running)
		fake_agent_pause(guest->agent);
	if (!guest->is_running || guest->is_restored)
		return; /* it said READY in its template */
	if (is_scenario(guest, "agent-silent"))
		return;
	if (is_scenario(guest, "agent-garbage"))
		abuse_garbage(guest);
	else if (is_scenario(guest, "agent-oversized"))
		abuse_oversized(guest);
	else if (is_scenario(guest, "agent-malformed"))
		fake_agent_send_text(guest->agent, FRAME_READY, "[]");
	else if (is_scenario(guest, "agent-early"))
		abuse_forged_exit(guest);
	else
		fake_agent_ready(guest->agent);
}

void guest_set_running(struct guest *guest, bool is_running)
{
	guest->is_running = is_running;
	if (!guest->agent)
		return;
	if (is_running)
		fake_agent_resume(guest->agent);
	else
		fake_agent_pause(guest->agent);
}

void guest_save(const struct guest *guest, struct guest_state *ret)
{
	*ret = guest->state;
}

void guest_load(struct guest *guest, const struct guest_state *state)
{
	guest->state = *state;
	guest->is_restored = true;
	if (guest->agent)
		fake_agent_watch(guest->agent, guest->state.sync);
}

void guest_release(struct guest *guest)
{
	if (!guest->is_waiting)
		return;
	end(guest, MSG_REASON_EXITED, 0);
	pump(guest);
}
