/* SPDX-License-Identifier: Apache-2.0 */
/* An asynchronous QMP client on a connected socket. */
#include "daemon/vm/qmp.h"

#include "base/log.h"
#include "base/stream.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Commands are a few hundred bytes; a QEMU that takes none of 64 of them is stuck. */
#define QUEUE_MAX (256u * 1024)
/* A line buffer larger than this is given back once it is empty. */
#define LINE_KEEP 4096u

enum qmp_state {
	QMP_GREETING,
	QMP_NEGOTIATING,
	QMP_READY,
	QMP_CLOSED,
};

static const char *const state_names[] = {
	[QMP_GREETING] = "greeting",
	[QMP_NEGOTIATING] = "negotiating",
	[QMP_READY] = "ready",
	[QMP_CLOSED] = "closed",
};
static_assert(ELEMENTSOF(state_names) == QMP_CLOSED + 1, "a name per state");

/* One open command. */
struct slot {
	struct slot *next, **at; /* *at points to this one */
	struct qmp *qmp;
	json_int_t id;
	ev_timer deadline;
	qmp_done_fn on_done;
	void *user;
};

struct qmp {
	struct loop *loop;
	const struct qmp_ops *ops;
	void *user;
	char *object;
	struct stream stream;
	enum qmp_state state;
	ev_timer handshake;
	struct slot *slots, **last_slot; /* in the order they were sent */
	unsigned n_slots;
	json_int_t last_id;
	char *line; /* an unfinished line */
	size_t line_len, line_size;
	struct defer freeing;
};

static void set_state(struct qmp *qmp, enum qmp_state state)
{
	log_debug(qmp->object, "QMP: %s -> %s", state_names[qmp->state], state_names[state]);
	qmp->state = state;
}

/* Takes a slot out of the list. The caller answers or frees it. */
static void slot_remove(struct slot *slot)
{
	struct qmp *qmp = slot->qmp;

	*slot->at = slot->next;
	if (slot->next)
		slot->next->at = slot->at;
	else
		qmp->last_slot = slot->at;
	qmp->n_slots--;
	loop_timer_stop(qmp->loop, &slot->deadline);
}

/* Answers a slot and frees it; whatever the callee does, the slot is out of the list by then. */
static void slot_answer(struct slot *slot, const json_t *ret, const struct qmp_error *error)
{
	slot_remove(slot);
	if (slot->on_done)
		slot->on_done(slot->user, ret, error);
	free(slot);
}

/* Fails the slots that are open now, oldest first. The state is CLOSED, so none can be added. */
static void fail_slots(struct qmp *qmp, int error, const char *desc)
{
	const struct qmp_error failure = {.error = error, .class = "", .desc = desc};

	for (struct slot *slot = qmp->slots, *next; slot; slot = next) {
		next = slot->next;
		slot_answer(slot, NULL, &failure);
	}
}

static void close_link(struct qmp *qmp, int slot_error, const char *desc)
{
	set_state(qmp, QMP_CLOSED);
	loop_timer_stop(qmp->loop, &qmp->handshake);
	stream_close(&qmp->stream);
	fail_slots(qmp, slot_error, desc);
}

static void end(struct qmp *qmp, int error)
{
	if (qmp->state == QMP_CLOSED)
		return;
	close_link(qmp, -EPIPE, "The connection to QEMU ended");
	/* A slot's owner may have destroyed us: then nobody waits for this. */
	if (qmp->ops)
		qmp->ops->on_end(qmp->user, error);
}

static void on_slot_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	static const struct qmp_error late = {
		.error = -ETIMEDOUT, .class = "", .desc = "QEMU did not answer in time"};

	slot_answer(timer->data, NULL, &late);
}

static void on_handshake_late(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	end(timer->data, -ETIMEDOUT);
}

/* One command as a line. NULL when memory is short. */
static char *format_command(const char *name, json_t *args, json_int_t id)
{
	json_auto_t *command =
		json_pack("{s:s, s:O*, s:I}", "execute", name, "arguments", args, "id", id);
	char *line = command ? json_dumps(command, JSON_COMPACT) : NULL, *grown;
	size_t len;

	if (!line)
		return NULL;
	len = strlen(line);
	grown = realloc(line, len + 2);
	if (!grown) {
		free(line);
		return NULL;
	}
	memcpy(grown + len, "\n", 2);
	return grown;
}

/* Sends a line together with a descriptor; what the socket does not take of the line is queued. */
static int write_with_fd(struct qmp *qmp, const char *line, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (char *)line, .iov_len = len};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	ssize_t n;

	if (stream_queued(&qmp->stream) > 0)
		return -EAGAIN;
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	do {
		n = sendmsg(qmp->stream.fd, &message, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return stream_write(&qmp->stream, line + n, len - (size_t)n);
}

static struct slot *slot_create(struct qmp *qmp, qmp_done_fn on_done, void *user)
{
	struct slot *slot = calloc(1, sizeof(*slot));

	if (!slot)
		return NULL;
	slot->qmp = qmp;
	slot->id = ++qmp->last_id;
	slot->on_done = on_done;
	slot->user = user;
	ev_timer_init(&slot->deadline, on_slot_deadline, 0., 0.);
	slot->deadline.data = slot;
	return slot;
}

/* Sends whatever the state; `deadline_ms` 0 leaves the wait to another timer. */
static int send_command(struct qmp *qmp, const char *name, json_t *args, int fd,
			uint32_t deadline_ms, qmp_done_fn on_done, void *user)
{
	struct slot *slot;
	char *line;
	int r;

	if (qmp->n_slots >= QMP_SLOTS_MAX)
		return -ENOBUFS;
	slot = slot_create(qmp, on_done, user);
	if (!slot)
		return -ENOMEM;
	line = format_command(name, args, slot->id);
	if (!line)
		r = -ENOMEM;
	else if (fd >= 0)
		r = write_with_fd(qmp, line, strlen(line), fd);
	else
		r = stream_write(&qmp->stream, line, strlen(line));
	free(line);
	if (r < 0) {
		free(slot);
		return r;
	}
	slot->at = qmp->last_slot;
	*qmp->last_slot = slot;
	qmp->last_slot = &slot->next;
	qmp->n_slots++;
	if (deadline_ms > 0)
		loop_timer_start(qmp->loop, &slot->deadline, deadline_ms / 1000.);
	return 0;
}

static int user_command(struct qmp *qmp, const char *name, json_t *args_take, int fd,
			uint32_t deadline_ms, qmp_done_fn on_done, void *user)
{
	int r = -ENOTCONN;

	if (qmp->state == QMP_READY)
		r = send_command(qmp, name, args_take, fd, MAX(deadline_ms, 1u), on_done, user);
	json_decref(args_take);
	return r;
}

int qmp_command(struct qmp *qmp, const char *name, json_t *args_take, uint32_t deadline_ms,
		qmp_done_fn on_done, void *user)
{
	return user_command(qmp, name, args_take, -1, deadline_ms, on_done, user);
}

int qmp_command_fd(struct qmp *qmp, const char *name, json_t *args_take, int fd,
		   uint32_t deadline_ms, qmp_done_fn on_done, void *user)
{
	return user_command(qmp, name, args_take, fd, deadline_ms, on_done, user);
}

/* Step 3 of the handshake: the answer to qmp_capabilities. */
static void on_negotiated(void *user, const json_t *ret, const struct qmp_error *error UNUSED)
{
	struct qmp *qmp = user;

	if (qmp->state != QMP_NEGOTIATING)
		return;
	if (!ret) {
		end(qmp, -EPROTO);
		return;
	}
	loop_timer_stop(qmp->loop, &qmp->handshake);
	set_state(qmp, QMP_READY);
	qmp->ops->on_ready(qmp->user);
}

/* Step 2: QEMU has greeted. */
static void on_greeting(struct qmp *qmp, const json_t *message)
{
	int r = -EPROTO;

	if (json_is_object(json_object_get(message, "QMP"))) {
		set_state(qmp, QMP_NEGOTIATING);
		r = send_command(qmp, "qmp_capabilities", NULL, -1, 0, on_negotiated, qmp);
	}
	if (r < 0)
		end(qmp, r);
}

static const char *string_or_empty(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static void on_reply(struct qmp *qmp, const json_t *message)
{
	const json_t *id = json_object_get(message, "id"), *ret, *error;
	struct qmp_error failure = {.error = -EREMOTEIO};
	struct slot *slot = qmp->slots;

	while (slot && !(json_is_number(id) && json_number_value(id) == (double)slot->id))
		slot = slot->next;
	if (!slot) {
		log_debug(qmp->object, "Dropped a QMP reply that nobody waits for");
		return;
	}
	ret = json_object_get(message, "return");
	error = json_object_get(message, "error");
	failure.class = string_or_empty(error, "class");
	failure.desc = string_or_empty(error, "desc");
	slot_answer(slot, error ? NULL : ret, error ? &failure : NULL);
}

/* A count that QEMU may write as any number; 0 for what is none. */
static uint64_t count_of(const json_t *object, const char *key)
{
	double value = json_number_value(json_object_get(object, key));

	return value > 0 && value < 0x1p53 ? (uint64_t)value : 0;
}

static void on_event(struct qmp *qmp, const json_t *message, const char *name)
{
	const json_t *data = json_object_get(message, "data");
	const json_t *timestamp = json_object_get(message, "timestamp");

	qmp->ops->on_event(qmp->user, name, json_is_object(data) ? data : NULL,
			   count_of(timestamp, "seconds") * 1000000u +
				   count_of(timestamp, "microseconds"));
}

static void on_message(struct qmp *qmp, const json_t *message)
{
	const char *event = json_string_value(json_object_get(message, "event"));

	if (qmp->state == QMP_GREETING)
		on_greeting(qmp, message);
	else if (event)
		on_event(qmp, message, event);
	else if (json_object_get(message, "return") || json_object_get(message, "error"))
		on_reply(qmp, message);
	else
		log_debug(qmp->object, "Dropped a QMP message of no known kind");
}

/*
 * QEMU says "not known" as 2^64-1 (balloon statistics), which no JSON integer of jansson holds:
 * such a line is read again with all its numbers as reals.
 */
static json_t *parse_line(const char *line, size_t len)
{
	json_error_t error;
	json_t *message = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);

	if (!message && json_error_code(&error) == json_error_numeric_overflow)
		message = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL,
				     NULL);
	return message;
}

static void on_line(struct qmp *qmp, const char *line, size_t len)
{
	json_auto_t *message = NULL;

	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
		len--;
	if (len == 0)
		return;
	message = parse_line(line, len);
	if (json_is_object(message))
		on_message(qmp, message);
	else
		end(qmp, -EPROTO);
}

/* Adds bytes to the unfinished line. 0, -EPROTO over the cap, -ENOMEM. */
static int keep(struct qmp *qmp, const uint8_t *data, size_t len)
{
	size_t size = MAX(qmp->line_size, LINE_KEEP);
	char *grown;

	if (qmp->line_len + len > QMP_LINE_MAX)
		return -EPROTO;
	while (size < qmp->line_len + len)
		size *= 2;
	if (size > qmp->line_size) {
		grown = realloc(qmp->line, size);
		if (!grown)
			return -ENOMEM;
		qmp->line = grown;
		qmp->line_size = size;
	}
	memcpy(qmp->line + qmp->line_len, data, len);
	qmp->line_len += len;
	return 0;
}

static void forget_line(struct qmp *qmp)
{
	qmp->line_len = 0;
	if (qmp->line_size <= LINE_KEEP)
		return;
	free(qmp->line);
	qmp->line = NULL;
	qmp->line_size = 0;
}

/* Splits into lines; one that is whole in `data` is parsed where it lies. */
static void on_data(void *user, const uint8_t *data, size_t len)
{
	struct qmp *qmp = user;

	while (len > 0 && qmp->state != QMP_CLOSED) {
		const uint8_t *newline = memchr(data, '\n', len);
		size_t piece = newline ? (size_t)(newline - data) : len;
		size_t used = newline ? piece + 1 : piece;
		int r = 0;

		if (newline && qmp->line_len == 0) {
			on_line(qmp, (const char *)data, piece);
		} else {
			r = keep(qmp, data, piece);
			if (r == 0 && newline) {
				on_line(qmp, qmp->line, qmp->line_len);
				forget_line(qmp);
			}
		}
		if (r < 0)
			end(qmp, r);
		data += used;
		len -= used;
	}
}

static void on_stream_end(void *user, int error)
{
	end(user, error);
}

static const struct stream_ops stream_callbacks = {.on_data = on_data, .on_end = on_stream_end};

int qmp_create(struct loop *loop, const char *object, int fd_take, uint32_t handshake_ms,
	       const struct qmp_ops *ops, void *user, struct qmp **ret)
{
	_cleanup_close_ int fd = fd_take;
	struct qmp *qmp = calloc(1, sizeof(*qmp));

	if (!qmp)
		return -ENOMEM;
	qmp->object = strdup(object);
	if (!qmp->object) {
		free(qmp);
		return -ENOMEM;
	}
	qmp->loop = loop;
	qmp->ops = ops;
	qmp->user = user;
	qmp->last_slot = &qmp->slots;
	ev_timer_init(&qmp->handshake, on_handshake_late, 0., 0.);
	qmp->handshake.data = qmp;
	stream_init(&qmp->stream, loop, TAKE_FD(fd), QUEUE_MAX, &stream_callbacks, qmp);
	loop_timer_start(loop, &qmp->handshake, handshake_ms / 1000.);
	*ret = qmp;
	return 0;
}

static void qmp_free(void *user)
{
	struct qmp *qmp = user;

	free(qmp->line);
	free(qmp->object);
	free(qmp);
}

void qmp_destroy(struct qmp *qmp)
{
	if (!qmp)
		return;
	qmp->ops = NULL;
	if (qmp->state != QMP_CLOSED)
		close_link(qmp, -ECANCELED, "The connection to QEMU was closed");
	loop_defer(qmp->loop, &qmp->freeing, qmp_free, qmp);
}
