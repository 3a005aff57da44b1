/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's end of the guest link for tests: speaks when it is told to, also what no agent says.
 *
 * Theory of operation: it sits on one end of a socket and the owner's loop. Host frames come up
 * decoded; nothing is answered by itself. Trouble of the fake itself aborts.
 */
#ifndef TESTS_FAKE_FAKE_AGENT_H
#define TESTS_FAKE_FAKE_AGENT_H

#include "base/loop.h"
#include "protocol/message.h"

#include <stdbool.h>

struct fake_agent;

struct fake_agent_ops {
	/* A control message of the host. Valid during the call. */
	void (*on_message)(void *user, const struct msg *msg);
	/* DATA, END or CREDIT: the first number, and for DATA the bytes, for CREDIT the limit. */
	void (*on_data)(void *user, uint32_t stream, uint64_t offset, const uint8_t *data,
			size_t len);
	void (*on_end)(void *user, uint32_t stream, uint64_t offset);
	void (*on_credit)(void *user, uint32_t stream, uint64_t taken, uint64_t limit);
};

/* Serves on `fd_take`. */
struct fake_agent *fake_agent_create(struct loop *loop, int fd_take,
				     const struct fake_agent_ops *ops, void *user);

/* Closes the connection; memory goes with loop_defer. NULL is fine. */
void fake_agent_destroy(struct fake_agent *agent);

/* Hangs up, as QEMU does when it ends; the object stays. */
void fake_agent_close(struct fake_agent *agent);

/* True once the host has hung up. */
bool fake_agent_is_closed(const struct fake_agent *agent);

/* Stops and restarts reading: a guest that is slow or stuck. */
void fake_agent_pause(struct fake_agent *agent);
void fake_agent_resume(struct fake_agent *agent);

/* An agent that was restored: deaf until `sync` comes. */
void fake_agent_watch(struct fake_agent *agent, const uint8_t sync[FRAME_MARKER_SIZE]);

/* Raw bytes. */
void fake_agent_send_raw(struct fake_agent *agent, const void *data, size_t len);

/* Raw bytes again and again, as fast as they are read, until the host hangs up: ends the process.
 */
_Noreturn void fake_agent_flood(struct fake_agent *agent, const void *data, size_t len);

/* A frame with any payload. */
void fake_agent_send_frame(struct fake_agent *agent, uint8_t type, uint32_t stream,
			   const void *payload, size_t len);

/* A control frame whose payload is `text` as it stands. */
void fake_agent_send_text(struct fake_agent *agent, uint8_t type, const char *text);

/* A control message. */
void fake_agent_send(struct fake_agent *agent, const struct msg *msg);

void fake_agent_send_data(struct fake_agent *agent, uint32_t stream, uint64_t offset,
			  const void *data, size_t len);
void fake_agent_send_end(struct fake_agent *agent, uint32_t stream, uint64_t offset);
void fake_agent_send_credit(struct fake_agent *agent, uint32_t stream, uint64_t taken,
			    uint64_t limit);

/* READY of the present version. */
void fake_agent_ready(struct fake_agent *agent);

/* Answers a HELLO: its nonce as it is, then HELLO_REPLY. */
void fake_agent_accept(struct fake_agent *agent, const struct msg_hello *hello);

#endif
