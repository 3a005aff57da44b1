/* SPDX-License-Identifier: Apache-2.0 */
/* The link to the host: frames over one connection after the other. */
#include "guest-agent/link.h"

#include "base/log.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define DATA_OVERHEAD (FRAME_OVERHEAD + 8)
/* Two frames: one on its way while the next waits. */
#define DATA_QUEUE_MAX (2 * LINK_BATCH_MAX)
/* Control messages beyond the data: EXIT with its traceback is the largest. */
#define QUEUE_MAX (1024u * 1024)

const size_t link_data_max = LINK_BATCH_MAX - DATA_OVERHEAD;
static_assert(LINK_BATCH_MAX - DATA_OVERHEAD <= FRAME_DATA_MAX, "the peer's cap holds");

static const char *const state_names[] = {
	[LINK_DOWN] = "down",
	[LINK_WAITING] = "waiting",
	[LINK_OPEN] = "open",
};
static_assert(ELEMENTSOF(state_names) == LINK_OPEN + 1, "every state has a name");

static void set_state(struct link *link, enum link_state state)
{
	log_debug("link", "State %s -> %s", state_names[link->state], state_names[state]);
	link->state = state;
}

static void write_through(struct link *link, const void *data, size_t len)
{
	if (link->state == LINK_DOWN || stream_write(&link->stream, data, len) == 0)
		return;
	log_notice("link", "Host does not read: waiting for its next HELLO");
	set_state(link, LINK_WAITING);
}

static void flush(struct link *link)
{
	size_t len = link->batch_len;

	link->batch_len = 0;
	if (len > 0)
		write_through(link, link->batch, len);
}

static void on_flush(void *user)
{
	flush(user);
}

/* Room for `len` more bytes in the batch; NULL when they are too many for any. */
static uint8_t *reserve(struct link *link, size_t len)
{
	uint8_t *at;

	if (len > sizeof(link->batch) - link->batch_len)
		flush(link);
	if (len > sizeof(link->batch))
		return NULL;
	at = link->batch + link->batch_len;
	link->batch_len += len;
	loop_defer(link->loop, &link->flush, on_flush, link);
	return at;
}

static void write_frame(struct link *link, uint8_t type, uint32_t stream, const void *payload,
			size_t len)
{
	uint8_t *at = reserve(link, FRAME_OVERHEAD + len);
	_cleanup_free_ char *frame = NULL;

	if (at) {
		frame_encode(at, type, stream, payload, len);
		return;
	}
	frame = malloc(FRAME_OVERHEAD + len);
	if (!frame) {
		set_state(link, LINK_WAITING);
		return;
	}
	write_through(link, frame, frame_encode((uint8_t *)frame, type, stream, payload, len));
}

static void write_message(struct link *link, const struct msg *msg)
{
	_cleanup_free_ char *payload = NULL;
	ssize_t len = msg_encode(msg, &payload);

	if (len < 0) {
		log_error("link", "Cannot encode %s: %s", frame_type_name(msg->type),
			  strerror((int)-len));
		return;
	}
	write_frame(link, msg->type, 0, payload, (size_t)len);
}

static int on_control(struct link *link, uint8_t type, const uint8_t *payload, size_t len)
{
	const char *why;
	struct msg msg;
	int r = msg_decode(type, payload, len, &msg, &why);

	if (r < 0) {
		log_notice("link", "Bad %s from host: %s", frame_type_name(type), why);
		return r;
	}
	link->ops->on_message(link->user, &msg);
	msg_clear(&msg);
	return 0;
}

static int on_stream_frame(struct link *link, uint8_t type, uint32_t stream, const uint8_t *payload,
			   size_t len)
{
	size_t header = type == FRAME_CREDIT ? 16 : 8;
	uint64_t first;

	if (len < header || (type != FRAME_DATA && len != header))
		return -EPROTO;
	first = frame_get_u64(payload);
	if (type == FRAME_CREDIT)
		return link->ops->on_credit(link->user, stream, first, frame_get_u64(payload + 8));
	if (type == FRAME_END)
		return link->ops->on_end(link->user, stream, first);
	return link->ops->on_data(link->user, stream, first, payload + 8, len - 8);
}

static int on_frame(void *user, uint8_t type, uint32_t stream, const uint8_t *payload, size_t len)
{
	struct link *link = user;

	switch (type) {
	case FRAME_HELLO:
		return on_control(link, type, payload, len);
	case FRAME_IDENTITY:
	case FRAME_EXEC:
	case FRAME_KILL:
	case FRAME_MEMORY_GET:
	case FRAME_MEMORY_DROP:
	case FRAME_PING:
	case FRAME_EXIT_ACK:
	case FRAME_PREPARE:
	case FRAME_SIGNAL:
	case FRAME_RESIZE:
		return link->state == LINK_OPEN ? on_control(link, type, payload, len) : 0;
	case FRAME_DATA:
	case FRAME_END:
	case FRAME_CREDIT:
		return link->state == LINK_OPEN ? on_stream_frame(link, type, stream, payload, len)
						: 0;
	default: /* a byte from the wire: ours to send, or nobody's */
		return -EPROTO;
	}
}

static void on_stream_data(void *user, const uint8_t *data, size_t len)
{
	struct link *link = user;
	bool was_good = link->decoder.error == 0;
	int r = frame_decoder_feed(&link->decoder, data, len, on_frame, link);

	/* Nothing more is understood until SYNC; the host, whose messages stay without an answer,
	 * will connect anew or give this VM up. */
	if (r < 0 && was_good)
		log_notice("link", "Protocol error: %s", strerror(-r));
}

static void on_stream_end(void *user, int error)
{
	struct link *link = user;

	log_debug("link", "Connection ended: %s", strerror(-error));
	set_state(link, LINK_DOWN);
	link->batch_len = 0;
	link->ops->on_down(link->user);
}

static void on_stream_drain(void *user)
{
	struct link *link = user;

	link->ops->on_room(link->user);
}

static const struct stream_ops stream_ops = {
	.on_data = on_stream_data,
	.on_end = on_stream_end,
	.on_drain = on_stream_drain,
};

void link_init(struct link *link, struct loop *loop, const struct link_ops *ops, void *user)
{
	*link = (struct link){.loop = loop, .ops = ops, .user = user, .stream.fd = -1};
	frame_decoder_init(&link->decoder);
}

void link_fini(struct link *link)
{
	loop_defer_cancel(link->loop, &link->flush);
	stream_close(&link->stream);
	frame_decoder_fini(&link->decoder);
}

void link_attach(struct link *link, int fd_take)
{
	struct msg ready = {.type = FRAME_READY, .ready.version = LINK_VERSION};

	/* Before the first SYNC there is no marker that could end a dead host's half frame. */
	if (!link->decoder.has_marker) {
		frame_decoder_fini(&link->decoder);
		frame_decoder_init(&link->decoder);
	}
	stream_init(&link->stream, link->loop, fd_take, QUEUE_MAX, &stream_ops, link);
	set_state(link, LINK_WAITING);
	strncpy(ready.ready.agent, EXECSANDBOX_VERSION, sizeof(ready.ready.agent) - 1);
	write_message(link, &ready);
}

void link_accept(struct link *link, const struct msg_hello *hello, json_t *received_take,
		 json_t *execs_take)
{
	struct msg reply = {.type = FRAME_HELLO_REPLY,
			    .hello_reply = {.version = LINK_VERSION,
					    .received = received_take,
					    .execs = execs_take}};

	frame_decoder_watch(&link->decoder, hello->sync, false);
	set_state(link, LINK_OPEN);
	memcpy(reserve(link, sizeof(hello->nonce)), hello->nonce, sizeof(hello->nonce));
	write_message(link, &reply);
	msg_clear(&reply);
}

void link_send(struct link *link, const struct msg *msg)
{
	if (link->state == LINK_OPEN)
		write_message(link, msg);
}

void link_send_data(struct link *link, uint32_t stream, uint64_t offset, const uint8_t *data,
		    size_t len)
{
	uint8_t payload[LINK_BATCH_MAX];

	frame_put_u64(payload, offset);
	memcpy(payload + 8, data, len);
	if (link->state == LINK_OPEN)
		write_frame(link, FRAME_DATA, stream, payload, 8 + len);
}

void link_send_end(struct link *link, uint32_t stream, uint64_t offset)
{
	uint8_t payload[8];

	frame_put_u64(payload, offset);
	if (link->state == LINK_OPEN)
		write_frame(link, FRAME_END, stream, payload, sizeof(payload));
}

void link_send_credit(struct link *link, uint32_t stream, uint64_t taken, uint64_t limit)
{
	uint8_t payload[16];

	frame_put_u64(payload, taken);
	frame_put_u64(payload + 8, limit);
	if (link->state == LINK_OPEN)
		write_frame(link, FRAME_CREDIT, stream, payload, sizeof(payload));
}

bool link_has_room(const struct link *link)
{
	return link->state == LINK_OPEN &&
	       stream_queued(&link->stream) + link->batch_len < DATA_QUEUE_MAX;
}
