/* SPDX-License-Identifier: Apache-2.0 */
/* Execs that another daemon began: their streams go on where they were. */
#include "daemon/vm/agent_link_internal.h"

#include <errno.h>
#include <stdio.h>

bool agent_link_knows(const struct msg_hello_reply *hello, uint32_t exec)
{
	const json_t *number;
	size_t i;

	json_array_foreach (hello->execs, i, number)
		if (json_integer_value(number) == exec)
			return true;
	return false;
}

/* Of a stream, in HELLO and HELLO_REPLY. */
static void stream_key(uint32_t exec, enum frame_substream sub, char ret[16])
{
	snprintf(ret, 16, "%u", frame_stream_id(exec, sub));
}

void agent_link_tell_received(json_t *received, uint32_t exec, enum frame_substream sub,
			      uint64_t bytes)
{
	char key[16];

	stream_key(exec, sub, key);
	json_object_set_new(received, key, json_integer((json_int_t)bytes));
}

uint64_t agent_link_received(const struct msg_hello_reply *hello, uint32_t exec,
			     enum frame_substream sub)
{
	char key[16];

	stream_key(exec, sub, key);
	return (uint64_t)json_integer_value(json_object_get(hello->received, key));
}

/* What the guest has of a buffer is behind us. */
static int resume_outgoing(struct outgoing *outgoing, uint64_t received)
{
	if (!outgoing->is_open && received > outgoing->len)
		return -EPROTO;
	flow_sender_init_at(&outgoing->flow, received);
	outgoing->written = outgoing->is_open ? 0 : (size_t)received;
	return 0;
}

static int resume_outputs(struct agent_link *link, struct link_exec *exec,
			  const uint64_t output_bytes[2])
{
	int r = 0;

	for (size_t i = 0; i < 2 && r == 0; i++) {
		uint32_t stream =
			frame_stream_id(exec->number, i == 0 ? SUBSTREAM_STDOUT : SUBSTREAM_STDERR);

		flow_receiver_init_at(&exec->output[i], output_bytes[i]);
		r = link_send_credit(link, stream, &exec->output[i]);
	}
	return r;
}

int agent_link_resume(struct agent_link *link, const struct agent_link_resume *resume,
		      const struct msg_hello_reply *hello)
{
	const struct outgoing code = {.data = resume->code_take, .len = resume->code_len};
	const struct outgoing input = {.data = resume->stdin_take, .len = resume->stdin_len};
	struct link_exec *exec;
	int r = 0;

	exec = link_add_exec(link, resume->exec, resume->is_background, &code, &input, &r);
	if (!exec)
		return r;
	/* The code of a background exec was all there before it was known to run. */
	exec->code.is_open = resume->is_background;
	r = resume_outgoing(&exec->code, agent_link_received(hello, exec->number, SUBSTREAM_CODE));
	if (r == 0)
		r = resume_outgoing(&exec->input,
				    agent_link_received(hello, exec->number, SUBSTREAM_STDIN));
	if (r == 0)
		r = resume_outputs(link, exec, resume->output_bytes);
	return r < 0 ? r : link_pump_exec(link, exec);
}

int agent_link_resume_stray(struct agent_link *link, uint32_t number)
{
	const struct outgoing none = {.data = NULL};
	int r = 0;
	struct link_exec *exec = link_add_exec(link, number, true, &none, &none, &r);

	if (exec)
		exec->is_stray = exec->code.is_open = true;
	return r;
}
