/* SPDX-License-Identifier: Apache-2.0 */
/* Background execs of the fake guest. */
#include "tests/fake/qemu/background.h"

#include "base/util.h"
#include "tests/fake/qemu/output.h"
#include "tests/fake/qemu/plan.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct background {
	struct background *next;
	struct fake_agent *agent;
	uint32_t number;
	uint64_t rows, columns;
	struct text code;
	struct output output[2]; /* stdout, stderr */
	struct msg exit;
	bool is_ended, is_muted, has_trap, is_deaf;
};

static struct background *find(struct background *list, uint64_t number)
{
	while (list && list->number != number)
		list = list->next;
	return list;
}

static void say(struct background *exec, bool is_err, const char *text)
{
	text_append(&exec->output[is_err].text, text, strlen(text));
	text_append(&exec->output[is_err].text, "\n", 1);
}

static void pump(struct background *exec)
{
	struct output *out = &exec->output[0], *err = &exec->output[1];

	output_pump(out, exec->agent, frame_stream_id(exec->number, SUBSTREAM_STDOUT),
		    exec->is_ended);
	output_pump(err, exec->agent, frame_stream_id(exec->number, SUBSTREAM_STDERR),
		    exec->is_ended);
	if (!out->flow.is_end_sent || !err->flow.is_end_sent || exec->exit.type == 0)
		return;
	exec->exit.exit.stdout_bytes = out->text.len;
	exec->exit.exit.stderr_bytes = err->text.len;
	fake_agent_send(exec->agent, &exec->exit);
	exec->exit.type = 0; /* once */
}

static void end(struct background *exec, const char *reason, uint64_t number)
{
	if (exec->is_ended)
		return;
	exec->exit = (struct msg){.type = FRAME_EXIT, .exit = {.exec = exec->number}};
	strcpy(exec->exit.exit.reason, reason);
	exec->exit.exit.exit_code = exec->exit.exit.signal = number;
	exec->is_ended = true;
}

static void fill(struct background *exec, size_t len)
{
	char *bytes = malloc(len);

	if (!bytes)
		abort();
	memset(bytes, 'x', len);
	text_append(&exec->output[0].text, bytes, len);
	free(bytes);
}

static void step(struct background *exec, const char *word, const char *rest)
{
	unsigned long number = strtoul(rest, NULL, 10);
	char size[64];

	snprintf(size, sizeof(size), "%llu %llu", (unsigned long long)exec->rows,
		 (unsigned long long)exec->columns);
	if (strcmp(word, "out") == 0 || strcmp(word, "err") == 0)
		say(exec, *word == 'e', rest);
	else if (strcmp(word, "fill") == 0)
		fill(exec, number);
	else if (strcmp(word, "size") == 0)
		say(exec, false, size);
	else if (strcmp(word, "exit") == 0)
		end(exec, MSG_REASON_EXITED, number);
	else if (strcmp(word, "signal") == 0)
		end(exec, MSG_REASON_SIGNALED, number);
	else if (strcmp(word, "mute") == 0)
		exec->is_muted = true;
	else if (strcmp(word, "trap") == 0)
		exec->has_trap = true;
	else if (strcmp(word, "deaf") == 0)
		exec->is_deaf = true;
	else if (strcmp(word, "failed") == 0) {
		end(exec, MSG_REASON_FAILED, 0);
		snprintf(exec->exit.exit.detail, sizeof(exec->exit.exit.detail), "%s", rest);
	} else
		plan_die("a background program has a word that is none");
}

static void run(struct background *exec)
{
	struct msg started = {.type = FRAME_STARTED, .exec_ref = {.exec = exec->number}};
	char *line, *rest = exec->code.data;
	bool has_failed;

	while (!exec->is_ended && (line = strsep(&rest, "\n"))) {
		char *word = strsep(&line, " ");

		if (*word)
			step(exec, word, line ? line : "");
	}
	has_failed = strcmp(exec->exit.exit.reason, MSG_REASON_FAILED) == 0;
	if (!exec->is_muted && !has_failed)
		fake_agent_send(exec->agent, &started);
	pump(exec);
}

void background_exec(struct background **list, struct fake_agent *agent,
		     const struct msg_exec *exec)
{
	struct background *added = calloc(1, sizeof(*added));

	if (!added)
		abort();
	*added = (struct background){.next = *list,
				     .agent = agent,
				     .number = (uint32_t)exec->exec,
				     .rows = exec->terminal_rows,
				     .columns = exec->terminal_columns};
	flow_sender_init(&added->output[0].flow);
	flow_sender_init(&added->output[1].flow);
	*list = added;
}

static void on_signal(struct background *exec, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "signal %llu", (unsigned long long)number);
	if (exec->has_trap && number != SIGKILL)
		say(exec, false, text);
	else
		end(exec, MSG_REASON_SIGNALED, number);
	pump(exec);
}

static void on_resize(struct background *exec, const struct msg_resize *resize)
{
	exec->rows = resize->rows;
	exec->columns = resize->columns;
	step(exec, "size", "");
	pump(exec);
}

static bool on_ack(struct background **list, uint64_t number)
{
	for (struct background **at = list; *at; at = &(*at)->next) {
		struct background *exec = *at;

		if (exec->number != number)
			continue;
		*at = exec->next;
		free(exec->code.data);
		for (size_t i = 0; i < ELEMENTSOF(exec->output); i++) {
			free(exec->output[i].text.data);
			flow_sender_fini(&exec->output[i].flow);
		}
		free(exec);
		return true;
	}
	return false;
}

bool background_message(struct background **list, const struct msg *msg)
{
	struct background *exec;

	if (msg->type == FRAME_EXIT_ACK)
		return on_ack(list, msg->exec_ref.exec);
	if (msg->type == FRAME_KILL) {
		exec = find(*list, msg->kill.exec);
		if (exec)
			on_signal(exec, SIGKILL);
	} else if (msg->type == FRAME_SIGNAL) {
		exec = find(*list, msg->signal.exec);
		if (exec)
			on_signal(exec, msg->signal.signal);
	} else if (msg->type == FRAME_RESIZE) {
		exec = find(*list, msg->resize.exec);
		if (exec)
			on_resize(exec, &msg->resize);
	} else {
		return false;
	}
	return exec != NULL;
}

bool background_data(struct background *list, uint32_t stream, uint64_t offset, const uint8_t *data,
		     size_t len)
{
	struct background *exec = find(list, frame_stream_exec(stream));
	bool is_code = frame_stream_sub(stream) == SUBSTREAM_CODE;

	if (!exec)
		return false;
	if (!is_code && exec->is_deaf)
		return true;
	text_append(is_code ? &exec->code : &exec->output[0].text, data, len);
	fake_agent_send_credit(exec->agent, stream, offset + len, offset + len + FLOW_WINDOW);
	if (!is_code)
		pump(exec);
	return true;
}

bool background_end(struct background *list, uint32_t stream)
{
	struct background *exec = find(list, frame_stream_exec(stream));

	if (!exec)
		return false;
	if (frame_stream_sub(stream) == SUBSTREAM_CODE) {
		run(exec);
	} else {
		end(exec, MSG_REASON_EXITED, 0);
		pump(exec);
	}
	return true;
}

bool background_credit(struct background *list, uint32_t stream, uint64_t taken, uint64_t limit)
{
	struct background *exec = find(list, frame_stream_exec(stream));
	bool is_err = frame_stream_sub(stream) == SUBSTREAM_STDERR;

	if (!exec)
		return false;
	if (flow_sender_credit(&exec->output[is_err].flow, taken, limit) == 0)
		pump(exec);
	return true;
}
