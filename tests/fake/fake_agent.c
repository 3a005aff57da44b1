/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's end of the guest link for tests. */
#include "tests/fake/fake_agent.h"

#include "base/stream.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* Enough for a flood of output that a test sends at once. */
#define QUEUE_MAX (64u * 1024 * 1024)

struct fake_agent {
	struct loop *loop;
	struct stream stream;
	struct frame_decoder decoder;
	const struct fake_agent_ops *ops;
	void *user;
	struct defer freeing;
};

static void must(bool condition)
{
	if (!condition)
		abort();
}

static int on_frame(void *user, uint8_t type, uint32_t stream, const uint8_t *payload, size_t len)
{
	struct fake_agent *agent = user;
	const char *why;
	struct msg msg;

	if (type == FRAME_DATA) {
		must(len >= 8);
		agent->ops->on_data(agent->user, stream, frame_get_u64(payload), payload + 8,
				    len - 8);
	} else if (type == FRAME_END) {
		must(len == 8);
		agent->ops->on_end(agent->user, stream, frame_get_u64(payload));
	} else if (type == FRAME_CREDIT) {
		must(len == 16);
		agent->ops->on_credit(agent->user, stream, frame_get_u64(payload),
				      frame_get_u64(payload + 8));
	} else {
		must(msg_decode(type, payload, len, &msg, &why) == 0);
		agent->ops->on_message(agent->user, &msg);
		msg_clear(&msg);
	}
	return stream_is_open(&agent->stream) ? 0 : -ECANCELED;
}

static void on_data(void *user, const uint8_t *data, size_t len)
{
	struct fake_agent *agent = user;
	int r = frame_decoder_feed(&agent->decoder, data, len, on_frame, agent);

	must(r == 0 || r == -ECANCELED);
}

static void on_end(void *user UNUSED, int error UNUSED)
{
}

static const struct stream_ops stream_callbacks = {.on_data = on_data, .on_end = on_end};

struct fake_agent *fake_agent_create(struct loop *loop, int fd_take,
				     const struct fake_agent_ops *ops, void *user)
{
	struct fake_agent *agent = calloc(1, sizeof(*agent));

	must(agent);
	agent->loop = loop;
	agent->ops = ops;
	agent->user = user;
	frame_decoder_init(&agent->decoder);
	stream_init(&agent->stream, loop, fd_take, QUEUE_MAX, &stream_callbacks, agent);
	return agent;
}

static void fake_free(void *user)
{
	struct fake_agent *agent = user;

	frame_decoder_fini(&agent->decoder);
	free(agent);
}

void fake_agent_destroy(struct fake_agent *agent)
{
	if (!agent)
		return;
	stream_close(&agent->stream);
	loop_defer(agent->loop, &agent->freeing, fake_free, agent);
}

void fake_agent_close(struct fake_agent *agent)
{
	stream_close(&agent->stream);
}

bool fake_agent_is_closed(const struct fake_agent *agent)
{
	return !stream_is_open(&agent->stream);
}

void fake_agent_pause(struct fake_agent *agent)
{
	stream_pause(&agent->stream);
}

void fake_agent_resume(struct fake_agent *agent)
{
	stream_resume(&agent->stream);
}

void fake_agent_watch(struct fake_agent *agent, const uint8_t sync[FRAME_MARKER_SIZE])
{
	frame_decoder_watch(&agent->decoder, sync, true);
}

/* A host that has hung up meanwhile hears no more: that is for the test to notice. */
void fake_agent_send_raw(struct fake_agent *agent, const void *data, size_t len)
{
	int r = stream_write(&agent->stream, data, len);

	must(r == 0 || r == -EPIPE);
}

void fake_agent_flood(struct fake_agent *agent, const void *data, size_t len)
{
	int fd = agent->stream.fd;

	if (fd >= 0 && fcntl(fd, F_SETFL, 0) == 0)
		while (write(fd, data, len) > 0)
			;
	_exit(0);
}

void fake_agent_send_frame(struct fake_agent *agent, uint8_t type, uint32_t stream,
			   const void *payload, size_t len)
{
	uint8_t *frame = malloc(FRAME_OVERHEAD + len);

	must(frame);
	fake_agent_send_raw(agent, frame, frame_encode(frame, type, stream, payload, len));
	free(frame);
}

void fake_agent_send_text(struct fake_agent *agent, uint8_t type, const char *text)
{
	fake_agent_send_frame(agent, type, 0, text, strlen(text));
}

void fake_agent_send(struct fake_agent *agent, const struct msg *msg)
{
	char *payload;
	ssize_t len = msg_encode(msg, &payload);

	must(len >= 0);
	fake_agent_send_frame(agent, msg->type, 0, payload, (size_t)len);
	free(payload);
}

void fake_agent_send_data(struct fake_agent *agent, uint32_t stream, uint64_t offset,
			  const void *data, size_t len)
{
	uint8_t *payload = malloc(8 + len);

	must(payload);
	frame_put_u64(payload, offset);
	memcpy(payload + 8, data, len);
	fake_agent_send_frame(agent, FRAME_DATA, stream, payload, 8 + len);
	free(payload);
}

void fake_agent_send_end(struct fake_agent *agent, uint32_t stream, uint64_t offset)
{
	uint8_t payload[8];

	frame_put_u64(payload, offset);
	fake_agent_send_frame(agent, FRAME_END, stream, payload, sizeof(payload));
}

void fake_agent_send_credit(struct fake_agent *agent, uint32_t stream, uint64_t taken,
			    uint64_t limit)
{
	uint8_t payload[16];

	frame_put_u64(payload, taken);
	frame_put_u64(payload + 8, limit);
	fake_agent_send_frame(agent, FRAME_CREDIT, stream, payload, sizeof(payload));
}

void fake_agent_ready(struct fake_agent *agent)
{
	struct msg msg = {.type = FRAME_READY, .ready = {.version = LINK_VERSION, .agent = "fake"}};

	fake_agent_send(agent, &msg);
}

void fake_agent_accept(struct fake_agent *agent, const struct msg_hello *hello)
{
	struct msg msg = {.type = FRAME_HELLO_REPLY, .hello_reply = {.version = LINK_VERSION}};

	fake_agent_send_raw(agent, hello->nonce, sizeof(hello->nonce));
	fake_agent_send(agent, &msg);
}
