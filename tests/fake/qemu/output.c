/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that the fake guest gathers, and those that it sends as a program's output. */
#include "tests/fake/qemu/output.h"

#include "base/util.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (24u * 1024 * 1024)

void text_append(struct text *text, const void *data, size_t len)
{
	if (len == 0)
		return;
	if (text->len + len > TEXT_MAX)
		abort();
	text->data = realloc(text->data, text->len + len + 1);
	if (!text->data)
		abort();
	memcpy(text->data + text->len, data, len);
	text->len += len;
	text->data[text->len] = '\0';
}

void output_pump(struct output *output, struct fake_agent *agent, uint32_t stream, bool is_ended)
{
	const uint8_t *data;
	uint64_t offset;
	size_t len;

	do {
		len = MIN(output->text.len - output->written, flow_sender_room(&output->flow));
		if (flow_sender_write(&output->flow, output->text.data + output->written, len) < 0)
			abort();
		output->written += len;
		len = flow_sender_next(&output->flow, FRAME_DATA_MAX, &offset, &data);
		if (len > 0)
			fake_agent_send_data(agent, stream, offset, data, len);
	} while (len > 0);
	if (is_ended && output->written == output->text.len) {
		flow_sender_end(&output->flow);
		if (flow_sender_end_due(&output->flow))
			fake_agent_send_end(agent, stream, output->flow.written);
	}
}
