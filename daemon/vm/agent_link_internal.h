/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the guest link share: agent_link.c (the link), agent_link_resume.c (execs that
 * another daemon began). */
#ifndef DAEMON_VM_AGENT_LINK_INTERNAL_H
#define DAEMON_VM_AGENT_LINK_INTERNAL_H

#include "base/stream.h"
#include "base/util.h"
#include "daemon/vm/agent_link.h"
#include "protocol/flow.h"

/* READY may come before or after our HELLO; the nonce settles which conversation counts. */
enum link_state {
	LINK_GREETING, /* waiting for READY or HELLO_REPLY */
	LINK_OPEN,
	LINK_CLOSED,
};

/* A host-to-guest stream, fed from a buffer. */
struct outgoing {
	struct flow_sender flow;
	char *data;
	size_t len, written;
	bool is_open; /* more may be written */
};

struct link_exec {
	struct link_exec *next;
	uint32_t number;
	bool is_background;
	bool is_stray; /* its outputs are nobody's */
	struct outgoing code, input;
	struct flow_receiver output[2]; /* stdout, stderr */
};

struct agent_link {
	struct loop *loop;
	struct stream stream;
	struct frame_decoder decoder;
	const struct agent_link_ops *ops;
	void *user;
	char name[64];
	enum link_state state;
	uint8_t nonce[FRAME_MARKER_SIZE], sync[FRAME_MARKER_SIZE];
	json_t *received; /* of an adopted one, until it is OPEN */
	struct link_exec *execs;
	size_t exec_count;
	struct defer send_failed;
	const char *why; /* of the protocol error being returned through the decoder */
};

/* A new exec; code and input are taken. NULL with -EBUSY or -ENOMEM in `ret_error`. */
struct link_exec *link_add_exec(struct agent_link *link, uint32_t number, bool is_background,
				const struct outgoing *code_take, const struct outgoing *input_take,
				int *ret_error);

/* Sends what there is credit for. 0 or -errno. */
int link_pump_exec(struct agent_link *link, struct link_exec *exec);

/* Tells the guest what was taken. 0 or -errno. */
int link_send_credit(struct agent_link *link, uint32_t stream, const struct flow_receiver *flow);

#endif
