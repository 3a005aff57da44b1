/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's end of the guest link: HELLO, control messages, data streams with credit. */
#include "daemon/vm/agent_link.h"

#include "base/log.h"
#include "daemon/vm/agent_link_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * Bytes that may wait for QEMU to take them. Data frames are added only while less than DATA_QUEUE
 * waits, so that a control message (a KILL, say) is never far behind; control messages alone may
 * fill the rest.
 */
#define QUEUE_MAX  (1u << 20)
#define DATA_QUEUE (128u * 1024)
/* Execs that one VM may have at once; sessions will use more than one. */
#define EXECS_MAX 64

static int broken(struct agent_link *link, const char *why)
{
	link->why = why;
	return -EPROTO;
}

static void fail(struct agent_link *link, int error, const char *why)
{
	if (link->state == LINK_CLOSED)
		return;
	agent_link_close(link);
	link->ops->on_failed(link->user, error, why);
}

static int send_frame(struct agent_link *link, uint8_t type, uint32_t stream, const void *payload,
		      size_t len)
{
	uint8_t *frame = malloc(FRAME_OVERHEAD + len);
	int r;

	if (!frame)
		return -ENOMEM;
	r = stream_write(&link->stream, frame, frame_encode(frame, type, stream, payload, len));
	free(frame);
	return r;
}

int agent_link_send(struct agent_link *link, const struct msg *msg)
{
	_cleanup_free_ char *payload = NULL;
	ssize_t len = msg_encode(msg, &payload);

	if (len < 0)
		return (int)len;
	return send_frame(link, msg->type, 0, payload, (size_t)len);
}

static int send_hello(struct agent_link *link)
{
	struct msg msg = {.type = FRAME_HELLO,
			  .hello = {.version = LINK_VERSION, .received = link->received}};

	frame_marker_draw(link->nonce);
	if (!link->received)
		frame_marker_draw(link->sync);
	memcpy(msg.hello.nonce, link->nonce, sizeof(link->nonce));
	memcpy(msg.hello.sync, link->sync, sizeof(link->sync));
	frame_decoder_watch(&link->decoder, link->nonce, true);
	return agent_link_send(link, &msg);
}

static struct link_exec *find_exec(struct agent_link *link, uint32_t number)
{
	for (struct link_exec *exec = link->execs; exec; exec = exec->next)
		if (exec->number == number)
			return exec;
	return NULL;
}

static void outgoing_fini(struct outgoing *outgoing)
{
	flow_sender_fini(&outgoing->flow);
	free(outgoing->data);
	outgoing->data = NULL;
}

static void exec_free(struct link_exec *exec)
{
	outgoing_fini(&exec->code);
	outgoing_fini(&exec->input);
	free(exec);
}

/* Moves bytes from the buffer into the window and from the window to the wire. 0 or -errno. */
static int pump(struct agent_link *link, uint32_t stream, struct outgoing *outgoing)
{
	uint8_t payload[8 + FRAME_DATA_MAX];
	const uint8_t *data;
	uint64_t offset;
	size_t len;
	int r;

	do {
		len = MIN(outgoing->len - outgoing->written, flow_sender_room(&outgoing->flow));
		r = len > 0 ? flow_sender_write(&outgoing->flow, outgoing->data + outgoing->written,
						len)
			    : 0;
		if (r < 0)
			return r;
		outgoing->written += len;
		if (outgoing->written == outgoing->len && !outgoing->is_open) {
			flow_sender_end(&outgoing->flow);
			free(TAKE_PTR(outgoing->data));
		}
		if (stream_queued(&link->stream) >= DATA_QUEUE)
			return 0;
		len = flow_sender_next(&outgoing->flow, FRAME_DATA_MAX, &offset, &data);
		if (len > 0) {
			frame_put_u64(payload, offset);
			memcpy(payload + 8, data, len);
			r = send_frame(link, FRAME_DATA, stream, payload, 8 + len);
			if (r < 0)
				return r;
		}
	} while (len > 0);
	if (flow_sender_end_due(&outgoing->flow)) {
		frame_put_u64(payload, outgoing->flow.written);
		return send_frame(link, FRAME_END, stream, payload, 8);
	}
	return 0;
}

int link_pump_exec(struct agent_link *link, struct link_exec *exec)
{
	int r = pump(link, frame_stream_id(exec->number, SUBSTREAM_CODE), &exec->code);

	return r < 0 ? r : pump(link, frame_stream_id(exec->number, SUBSTREAM_STDIN), &exec->input);
}

static int on_credit(struct agent_link *link, uint32_t stream, const uint8_t *payload, size_t len)
{
	struct link_exec *exec = find_exec(link, frame_stream_exec(stream));
	enum frame_substream sub = frame_stream_sub(stream);
	struct outgoing *outgoing;
	int r;

	if (len != 16 || (sub != SUBSTREAM_CODE && sub != SUBSTREAM_STDIN))
		return broken(link, "malformed CREDIT");
	if (!exec || exec->is_stray) /* crossed our EXIT_ACK; or of what another daemon sent */
		return 0;
	outgoing = sub == SUBSTREAM_CODE ? &exec->code : &exec->input;
	r = flow_sender_credit(&outgoing->flow, frame_get_u64(payload), frame_get_u64(payload + 8));
	if (r < 0)
		return broken(link, "impossible CREDIT");
	r = pump(link, stream, outgoing);
	if (r == 0 && outgoing == &exec->input && exec->is_background && link->ops->on_input)
		link->ops->on_input(link->user, exec->number, outgoing->flow.taken);
	return r;
}

int link_send_credit(struct agent_link *link, uint32_t stream, const struct flow_receiver *flow)
{
	uint8_t payload[16];

	frame_put_u64(payload, flow->taken);
	frame_put_u64(payload + 8, flow->limit);
	return send_frame(link, FRAME_CREDIT, stream, payload, sizeof(payload));
}

/* What was sent before we came is not known: every offset is right. */
static int on_stray_data(struct agent_link *link, uint8_t type, uint32_t stream,
			 struct flow_receiver *flow, uint64_t offset, size_t len)
{
	flow_receiver_init_at(flow, MIN(offset, UINT64_MAX / 2) + len);
	flow->is_ended = type == FRAME_END;
	return flow->is_ended ? 0 : link_send_credit(link, stream, flow);
}

static int on_data(struct agent_link *link, uint8_t type, uint32_t stream, const uint8_t *payload,
		   size_t len)
{
	struct link_exec *exec = find_exec(link, frame_stream_exec(stream));
	enum frame_substream sub = frame_stream_sub(stream);
	struct flow_receiver *flow;
	size_t skip;
	int r;

	if (len < 8 || (sub != SUBSTREAM_STDOUT && sub != SUBSTREAM_STDERR))
		return broken(link, "malformed DATA or END");
	if (!exec)
		return broken(link, "output of an exec that is not there");
	flow = &exec->output[sub == SUBSTREAM_STDERR];
	if (exec->is_stray)
		return on_stray_data(link, type, stream, flow, frame_get_u64(payload), len - 8);
	if (type == FRAME_END) {
		r = flow_receiver_end(flow, frame_get_u64(payload));
		return r < 0 ? broken(link, "END before all data") : 0;
	}
	r = flow_receiver_data(flow, frame_get_u64(payload), len - 8, &skip);
	if (r < 0)
		return broken(link, "DATA without credit or out of order");
	if (skip < len - 8)
		link->ops->on_output(link->user, exec->number, sub, payload + 8 + skip,
				     len - 8 - skip);
	return 0;
}

static int on_hello_reply(struct agent_link *link, const struct msg_hello_reply *reply)
{
	if (link->state != LINK_GREETING)
		return broken(link, "second HELLO_REPLY");
	if (reply->version != LINK_VERSION)
		return broken(link, "agent speaks another version of the guest link");
	link->state = LINK_OPEN;
	json_decref(TAKE_PTR(link->received));
	link->ops->on_ready(link->user, reply);
	return 0;
}

/* EXIT stands behind all output. One for an exec that is gone may be a repeat: the owner knows. */
static int check_exit(struct agent_link *link, const struct msg_exit *exit)
{
	struct link_exec *exec =
		exit->exec <= FRAME_EXEC_MAX ? find_exec(link, (uint32_t)exit->exec) : NULL;

	if (exec && (!exec->output[0].is_ended || !exec->output[1].is_ended))
		return broken(link, "EXIT before the end of its output");
	return 0;
}

static int on_control(struct agent_link *link, uint8_t type, const uint8_t *payload, size_t len)
{
	struct msg msg;
	const char *why;
	int r = msg_decode(type, payload, len, &msg, &why);

	if (r < 0) {
		log_debug(link->name, "Bad %s: %s", frame_type_name(type), why);
		return broken(link, "malformed control message");
	}
	if (type == FRAME_READY)
		r = link->state == LINK_GREETING ? send_hello(link) : 0;
	else if (type == FRAME_HELLO_REPLY)
		r = on_hello_reply(link, &msg.hello_reply);
	else if (link->state != LINK_OPEN)
		r = broken(link, "message before HELLO_REPLY");
	else if (type == FRAME_EXIT)
		r = check_exit(link, &msg.exit);
	if (r == 0 && type != FRAME_READY && type != FRAME_HELLO_REPLY)
		link->ops->on_message(link->user, &msg);
	msg_clear(&msg);
	return r;
}

/* One frame of the guest. Callbacks may close the link: a closed one wants no more. */
static int on_frame(void *user, uint8_t type, uint32_t stream, const uint8_t *payload, size_t len)
{
	struct agent_link *link = user;
	int r;

	switch (type) {
	case FRAME_READY:
	case FRAME_HELLO_REPLY:
	case FRAME_IDENTITY_DONE:
	case FRAME_STARTED:
	case FRAME_EXIT:
	case FRAME_MEMORY:
	case FRAME_PONG:
	case FRAME_PREPARED:
		r = on_control(link, type, payload, len);
		break;
	case FRAME_DATA:
	case FRAME_END:
		r = on_data(link, type, stream, payload, len);
		break;
	case FRAME_CREDIT:
		r = on_credit(link, stream, payload, len);
		break;
	default:
		r = broken(link, "frame type that a guest does not send");
		break;
	}
	return r == 0 && link->state == LINK_CLOSED ? -ECANCELED : r;
}

static void on_bytes(void *user, const uint8_t *data, size_t len)
{
	struct agent_link *link = user;
	int r;

	link->why = "over-long or broken frame";
	r = frame_decoder_feed(&link->decoder, data, len, on_frame, link);
	if (r < 0 && r != -ECANCELED)
		fail(link, r, r == -EPROTO ? link->why : "out of memory");
}

static void on_end(void *user, int error)
{
	fail(user, error < 0 ? error : -EPIPE, "QEMU closed the guest link");
}

static void on_drain(void *user)
{
	struct agent_link *link = user;

	for (struct link_exec *exec = link->execs; exec; exec = exec->next) {
		int r = link_pump_exec(link, exec);

		if (r < 0) {
			fail(link, r, "cannot write to the guest");
			return;
		}
	}
}

static const struct stream_ops stream_ops = {
	.on_data = on_bytes, .on_end = on_end, .on_drain = on_drain};

static struct agent_link *link_new(struct loop *loop, int fd_take, const char *name,
				   const struct agent_link_ops *ops, void *user)
{
	struct agent_link *link = calloc(1, sizeof(*link));

	if (!link) {
		close_fd(fd_take);
		return NULL;
	}
	link->loop = loop;
	link->ops = ops;
	link->user = user;
	link->state = LINK_GREETING;
	snprintf(link->name, sizeof(link->name), "%s", name);
	frame_decoder_init(&link->decoder);
	stream_init(&link->stream, loop, fd_take, QUEUE_MAX, &stream_ops, link);
	return link;
}

/* To an agent that watches for a marker already. */
static int greet(struct agent_link *link, const uint8_t *sync)
{
	int r = stream_write(&link->stream, sync, FRAME_MARKER_SIZE);

	return r < 0 ? r : send_hello(link);
}

int agent_link_create(struct loop *loop, int fd_take, const char *name, const uint8_t *sync,
		      const struct agent_link_ops *ops, void *user, struct agent_link **ret)
{
	struct agent_link *link = link_new(loop, fd_take, name, ops, user);
	int r;

	if (!link)
		return -ENOMEM;
	r = sync ? greet(link, sync) : 0;
	if (r < 0) {
		agent_link_destroy(link);
		return r;
	}
	*ret = link;
	return 0;
}

int agent_link_adopt(struct loop *loop, int fd_take, const char *name, const uint8_t *sync,
		     json_t *received_take, const struct agent_link_ops *ops, void *user,
		     struct agent_link **ret)
{
	struct agent_link *link = link_new(loop, fd_take, name, ops, user);
	int r;

	if (!link || !received_take) {
		json_decref(received_take);
		agent_link_destroy(link);
		return -ENOMEM;
	}
	link->received = received_take;
	memcpy(link->sync, sync, sizeof(link->sync));
	r = greet(link, sync);
	if (r < 0) {
		agent_link_destroy(link);
		return r;
	}
	*ret = link;
	return 0;
}

const uint8_t *agent_link_sync(const struct agent_link *link)
{
	return link->sync;
}

void agent_link_close(struct agent_link *link)
{
	link->state = LINK_CLOSED;
	stream_close(&link->stream);
}

void agent_link_destroy(struct agent_link *link)
{
	if (!link)
		return;
	agent_link_close(link);
	loop_defer_cancel(link->loop, &link->send_failed);
	while (link->execs) {
		struct link_exec *exec = link->execs;

		link->execs = exec->next;
		exec_free(exec);
	}
	frame_decoder_fini(&link->decoder);
	json_decref(link->received);
	free(link);
}

struct link_exec *link_add_exec(struct agent_link *link, uint32_t number, bool is_background,
				const struct outgoing *code_take, const struct outgoing *input_take,
				int *ret_error)
{
	struct link_exec *exec = calloc(1, sizeof(*exec));

	if (!exec || link->exec_count >= EXECS_MAX) {
		*ret_error = exec ? -EBUSY : -ENOMEM;
		free(exec);
		free(code_take->data);
		free(input_take->data);
		return NULL;
	}
	exec->number = number;
	exec->is_background = is_background;
	exec->code = *code_take;
	exec->input = *input_take;
	exec->input.is_open = is_background;
	flow_sender_init(&exec->code.flow);
	flow_sender_init(&exec->input.flow);
	flow_receiver_init(&exec->output[0]);
	flow_receiver_init(&exec->output[1]);
	exec->next = link->execs;
	link->execs = exec;
	link->exec_count++;
	return exec;
}

int agent_link_exec(struct agent_link *link, const struct msg_exec *exec_msg, char *code_take,
		    size_t code_len, char *stdin_take, size_t stdin_len)
{
	const struct outgoing code = {.data = code_take, .len = code_len};
	const struct outgoing input = {.data = stdin_take, .len = stdin_len};
	struct msg msg = {.type = FRAME_EXEC, .exec = *exec_msg};
	struct link_exec *exec;
	int r = 0;

	exec = link_add_exec(link, (uint32_t)exec_msg->exec, exec_msg->is_background, &code, &input,
			     &r);
	if (exec)
		r = agent_link_send(link, &msg);
	return r < 0 ? r : link_pump_exec(link, exec);
}

static void on_send_failed(void *user)
{
	fail(user, -ENOBUFS, "cannot send to the guest");
}

/* The input of a background exec, while it is open. */
static struct link_exec *find_input(struct agent_link *link, uint32_t number)
{
	struct link_exec *exec = link->state == LINK_CLOSED ? NULL : find_exec(link, number);

	return exec && exec->input.is_open ? exec : NULL;
}

ssize_t agent_link_write(struct agent_link *link, uint32_t number, const void *data, size_t len)
{
	struct link_exec *exec = find_input(link, number);
	int r;

	if (!exec)
		return -ENOENT;
	len = MIN(len, flow_sender_room(&exec->input.flow));
	r = flow_sender_write(&exec->input.flow, data, len);
	if (r == 0)
		r = link_pump_exec(link, exec);
	return r < 0 ? r : (ssize_t)len;
}

void agent_link_write_end(struct agent_link *link, uint32_t number)
{
	struct link_exec *exec = find_input(link, number);

	if (!exec)
		return;
	exec->input.is_open = false;
	if (link_pump_exec(link, exec) < 0) /* the guest would wait for the end for ever */
		loop_defer(link->loop, &link->send_failed, on_send_failed, link);
}

void agent_link_take(struct agent_link *link, uint32_t exec_number, enum frame_substream sub,
		     size_t len)
{
	struct link_exec *exec = find_exec(link, exec_number);
	struct flow_receiver *flow;
	int r;

	if (!exec || link->state != LINK_OPEN)
		return;
	flow = &exec->output[sub == SUBSTREAM_STDERR];
	if (!flow_receiver_take(flow, len))
		return;
	r = link_send_credit(link, frame_stream_id(exec_number, sub), flow);
	if (r < 0) /* the guest would wait for it for ever */
		loop_defer(link->loop, &link->send_failed, on_send_failed, link);
}

void agent_link_exec_done(struct agent_link *link, uint32_t exec_number)
{
	struct msg msg = {.type = FRAME_EXIT_ACK, .exec_ref = {.exec = exec_number}};

	for (struct link_exec **at = &link->execs; *at; at = &(*at)->next) {
		struct link_exec *exec = *at;

		if (exec->number != exec_number)
			continue;
		*at = exec->next;
		link->exec_count--;
		exec_free(exec);
		agent_link_send(link, &msg);
		return;
	}
}
