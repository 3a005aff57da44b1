/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that the fake guest gathers, and those that it sends as a program's output. */
#ifndef TESTS_FAKE_QEMU_OUTPUT_H
#define TESTS_FAKE_QEMU_OUTPUT_H

#include "protocol/flow.h"
#include "tests/fake/fake_agent.h"

/* Bytes that grow: code and input as they come, output as it is made. A NUL stands behind them. */
struct text {
	char *data;
	size_t len;
};

void text_append(struct text *text, const void *data, size_t len);

struct output {
	struct text text;
	size_t written; /* of it given to the flow */
	struct flow_sender flow;
};

/* Sends what the host has given credit for, and the end behind the last byte when `is_ended`. */
void output_pump(struct output *output, struct fake_agent *agent, uint32_t stream, bool is_ended);

#endif
