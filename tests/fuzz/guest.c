/* SPDX-License-Identifier: Apache-2.0 */
/* A guest of the fuzz harnesses. */
#include "tests/fuzz/guest.h"

#include "base/util.h"
#include "protocol/flow.h"

#include <string.h>

/* A step's bytes are fewer: their length has two bytes. */
#define STEP_MAX 65535u

static const char receipt[] =
	"{\"exec\":%u,\"reason\":\"exited\",\"exit_code\":0,\"signal\":0,\"stdout_bytes\":%ju,"
	"\"stderr_bytes\":%ju,\"cpu_user_us\":1,\"memory_peak_bytes\":1,\"execute_us\":1}";

static int on_hello(void *user, uint8_t type, uint32_t stream UNUSED, const uint8_t *payload,
		    size_t len)
{
	struct fuzz_guest *guest = user;
	const char *why;
	struct msg msg;

	/* What its owner has sent in on_ready() comes later: this is the first. */
	if (guest->has_hello)
		return 0;
	FUZZ_CHECK(type == FRAME_HELLO && msg_decode(type, payload, len, &msg, &why) == 0);
	guest->hello = msg.hello;
	guest->has_hello = true;
	msg_clear(&msg);
	return 0;
}

static void send_bytes(struct fuzz_guest *guest, const uint8_t *data, size_t len)
{
	ssize_t n = write(guest->fd, data, len);

	/* Closed, or not read any more: nothing else comes of it. */
	if (n == (ssize_t)len)
		fuzz_settle(guest->loop);
	fuzz_drain(guest->fd);
}

static void send_frame(struct fuzz_guest *guest, uint8_t type, uint32_t stream, const void *payload,
		       size_t len)
{
	static uint8_t frame[FRAME_OVERHEAD + STEP_MAX + sizeof(uint64_t)];

	FUZZ_CHECK(len <= sizeof(frame) - FRAME_OVERHEAD);
	send_bytes(guest, frame, frame_encode(frame, type, stream, payload, len));
}

static void send_message(struct fuzz_guest *guest, const struct msg *msg)
{
	char *payload;
	ssize_t len = msg_encode(msg, &payload);

	FUZZ_CHECK(len > 0);
	send_frame(guest, msg->type, 0, payload, (size_t)len);
	free(payload);
}

void fuzz_guest_start(struct fuzz_guest *guest, const struct agent_link_ops *ops, void *user)
{
	int fds[2];

	*guest = (struct fuzz_guest){0};
	fuzz_socketpair(fds);
	guest->fd = fds[0];
	FUZZ_CHECK(loop_create(&guest->loop) == 0);
	FUZZ_CHECK(agent_link_create(guest->loop, fds[1], "fuzz", NULL, ops, user, &guest->link) ==
		   0);
}

void fuzz_guest_say_hello(struct fuzz_guest *guest)
{
	struct msg ready = {.type = FRAME_READY, .ready = {.version = LINK_VERSION}};
	struct msg reply = {.type = FRAME_HELLO_REPLY, .hello_reply = {.version = LINK_VERSION}};
	struct frame_decoder decoder;
	uint8_t buffer[4096], frame[FRAME_OVERHEAD + 1024];
	char *payload;
	ssize_t n = msg_encode(&ready, &payload);

	FUZZ_CHECK(n > 0 && n <= 1024);
	n = (ssize_t)frame_encode(frame, FRAME_READY, 0, payload, (size_t)n);
	free(payload);
	FUZZ_CHECK(write(guest->fd, frame, (size_t)n) == n);
	fuzz_settle(guest->loop);
	n = read(guest->fd, buffer, sizeof(buffer));
	FUZZ_CHECK(n > 0);
	frame_decoder_init(&decoder);
	FUZZ_CHECK(frame_decoder_feed(&decoder, buffer, (size_t)n, on_hello, guest) == 0);
	frame_decoder_fini(&decoder);
	FUZZ_CHECK(guest->has_hello);
	FUZZ_CHECK(write(guest->fd, guest->hello.nonce, FRAME_MARKER_SIZE) == FRAME_MARKER_SIZE);
	reply.hello_reply.received = json_object();
	reply.hello_reply.execs = json_array();
	send_message(guest, &reply);
	msg_clear(&reply);
}

bool fuzz_guest_step(const uint8_t **data, size_t *size, uint8_t *ret_step,
		     const uint8_t **ret_bytes, size_t *ret_len)
{
	size_t len;

	if (*size < 3)
		return false;
	len = MIN((size_t)((*data)[1] | (*data)[2] << 8), *size - 3);
	*ret_step = (*data)[0];
	*ret_bytes = *data + 3;
	*ret_len = len;
	*data += 3 + len;
	*size -= 3 + len;
	return true;
}

static void say_output(struct fuzz_guest *guest, uint8_t step, uint32_t number, const uint8_t *data,
		       size_t len)
{
	static uint8_t payload[sizeof(uint64_t) + STEP_MAX];
	bool is_err = step % STEP_COUNT == STEP_ERR;
	uint64_t *sent = &guest->sent[STEP_EXEC(step)][is_err];

	/* Little-endian on the wire, as here. */
	memcpy(payload, sent, sizeof(*sent));
	memcpy(payload + sizeof(*sent), data, len);
	*sent += len;
	send_frame(guest, FRAME_DATA,
		   frame_stream_id(number, is_err ? SUBSTREAM_STDERR : SUBSTREAM_STDOUT), payload,
		   sizeof(*sent) + len);
}

static void say_end(struct fuzz_guest *guest, uint8_t step, uint32_t number)
{
	const uint64_t *sent = guest->sent[STEP_EXEC(step)];

	send_frame(guest, FRAME_END, frame_stream_id(number, SUBSTREAM_STDOUT), &sent[0],
		   sizeof(sent[0]));
	send_frame(guest, FRAME_END, frame_stream_id(number, SUBSTREAM_STDERR), &sent[1],
		   sizeof(sent[1]));
}

static void say_exited(struct fuzz_guest *guest, uint8_t step, uint32_t number)
{
	const uint64_t *sent = guest->sent[STEP_EXEC(step)];
	char text[512];
	int len = snprintf(text, sizeof(text), receipt, number, (uintmax_t)sent[0],
			   (uintmax_t)sent[1]);

	send_frame(guest, FRAME_EXIT, 0, text, (size_t)len);
}

static void say_credit(struct fuzz_guest *guest, uint32_t number, const uint8_t *data, size_t len)
{
	uint64_t payload[2] = {0};
	uint32_t taken = 0;

	if (len > 1)
		memcpy(&taken, data + 1, MIN(len - 1, sizeof(taken)));
	payload[0] = taken;
	payload[1] = taken + (uint64_t)FLOW_WINDOW;
	send_frame(guest, FRAME_CREDIT,
		   frame_stream_id(number, len > 0 && data[0] ? SUBSTREAM_CODE : SUBSTREAM_STDIN),
		   payload, sizeof(payload));
}

void fuzz_guest_say(struct fuzz_guest *guest, uint8_t step, uint32_t number, const uint8_t *data,
		    size_t len)
{
	switch (step % STEP_COUNT) {
	case STEP_OUT:
	case STEP_ERR:
		say_output(guest, step, number, data, len);
		break;
	case STEP_END:
		say_end(guest, step, number);
		break;
	case STEP_EXITED:
		say_exited(guest, step, number);
		break;
	case STEP_MESSAGE:
		if (len > 0)
			send_frame(guest, data[0], 0, data + 1, len - 1);
		break;
	case STEP_RAW:
		if (len > 0)
			send_bytes(guest, data, len);
		break;
	case STEP_CREDIT:
		say_credit(guest, number, data, len);
		break;
	default:
		FUZZ_CHECK(false);
	}
}

void fuzz_guest_hang_up(struct fuzz_guest *guest)
{
	guest->fd = close_fd(guest->fd);
	fuzz_settle(guest->loop);
}

void fuzz_guest_end(struct fuzz_guest *guest)
{
	agent_link_destroy(guest->link);
	fuzz_settle(guest->loop);
	loop_destroy(guest->loop);
}
