/* SPDX-License-Identifier: Apache-2.0 */
/* A scriptable QMP server for tests. */
#include "tests/fake/fake_qmp.h"

#include "base/stream.h"
#include "base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define QUEUE_MAX (4u * 1024 * 1024)
#define INPUT_MAX (1024u * 1024)

struct fake_qmp {
	struct loop *loop;
	struct stream stream; /* for writing */
	ev_io reader;         /* the stream knows no descriptors */
	int fd;               /* one that came and was not taken yet */
	void (*on_command)(void *user, const json_t *command);
	void *user;
	json_t *answers; /* command to text of its answer */
	json_t *waiting; /* array of commands */
	size_t received;
	char *input;
	size_t input_len;
	struct defer freeing;
};

static void must(bool condition)
{
	if (!condition)
		abort();
}

void fake_qmp_send(struct fake_qmp *fake, const void *data, size_t len)
{
	int r = stream_write(&fake->stream, data, len);

	/* A peer that has hung up meanwhile hears no more. */
	must(r == 0 || r == -EPIPE);
}

void fake_qmp_send_text(struct fake_qmp *fake, const char *text)
{
	fake_qmp_send(fake, text, strlen(text));
}

static void send_message(struct fake_qmp *fake, json_t *message_take)
{
	char *text = json_dumps(message_take, JSON_ENCODE_ANY);

	must(text);
	fake_qmp_send_text(fake, text);
	fake_qmp_send_text(fake, "\r\n");
	free(text);
	json_decref(message_take);
}

void fake_qmp_reply(struct fake_qmp *fake, const json_t *command, const char *json)
{
	json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);

	must(value);
	send_message(fake, json_pack("{s:o, s:O*}", "return", value, "id",
				     json_object_get(command, "id")));
}

void fake_qmp_fail(struct fake_qmp *fake, const json_t *command, const char *class,
		   const char *desc)
{
	send_message(fake, json_pack("{s:{s:s, s:s}, s:O*}", "error", "class", class, "desc", desc,
				     "id", json_object_get(command, "id")));
}

void fake_qmp_answer(struct fake_qmp *fake, const char *command, const char *json)
{
	must(json_object_set_new(fake->answers, command, json_string(json)) == 0);
}

void fake_qmp_handshake(struct fake_qmp *fake)
{
	fake_qmp_answer(fake, "qmp_capabilities", "{}");
	fake_qmp_send_text(fake, FAKE_QMP_GREETING);
}

static void on_command(struct fake_qmp *fake, const char *line, size_t len)
{
	json_t *command = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(command, "execute"));
	const char *answer;

	must(name);
	fake->received++;
	answer = json_string_value(json_object_get(fake->answers, name));
	if (answer)
		fake_qmp_reply(fake, command, answer);
	else if (fake->on_command)
		fake->on_command(fake->user, command);
	else
		json_array_append(fake->waiting, command);
	json_decref(command);
}

static void on_bytes(struct fake_qmp *fake, const char *data, size_t len)
{
	char *newline;

	must(fake->input_len + len <= INPUT_MAX);
	memcpy(fake->input + fake->input_len, data, len);
	fake->input_len += len;
	while ((newline = memchr(fake->input, '\n', fake->input_len))) {
		size_t used = (size_t)(newline - fake->input) + 1;

		on_command(fake, fake->input, used - 1);
		fake->input_len -= used;
		memmove(fake->input, newline + 1, fake->input_len);
	}
}

static void hang_up(struct fake_qmp *fake)
{
	ev_io_stop(loop_ev(fake->loop), &fake->reader);
	stream_close(&fake->stream);
}

static void keep_fd(struct fake_qmp *fake, struct msghdr *message)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);

	if (!header || header->cmsg_type != SCM_RIGHTS)
		return;
	close_fd(fake->fd);
	memcpy(&fake->fd, CMSG_DATA(header), sizeof(fake->fd));
}

static void on_readable(struct ev_loop *ev UNUSED, ev_io *io, int events UNUSED)
{
	struct fake_qmp *fake = io->data;
	char bytes[16384];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(io->fd, &message, MSG_CMSG_CLOEXEC);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		hang_up(fake);
		return;
	}
	keep_fd(fake, &message);
	on_bytes(fake, bytes, (size_t)n);
}

static void on_no_data(void *user UNUSED, const uint8_t *data UNUSED, size_t len UNUSED)
{
}

static void on_end(void *user, int error UNUSED)
{
	hang_up(user);
}

static const struct stream_ops stream_callbacks = {.on_data = on_no_data, .on_end = on_end};

struct fake_qmp *fake_qmp_create(struct loop *loop, int fd_take)
{
	struct fake_qmp *fake = calloc(1, sizeof(*fake));

	must(fake);
	fake->loop = loop;
	fake->answers = json_object();
	fake->waiting = json_array();
	fake->input = malloc(INPUT_MAX);
	must(fake->answers && fake->waiting && fake->input);
	fake->fd = -1;
	stream_init(&fake->stream, loop, fd_take, QUEUE_MAX, &stream_callbacks, fake);
	stream_pause(&fake->stream);
	ev_io_init(&fake->reader, on_readable, fake->stream.fd, EV_READ);
	fake->reader.data = fake;
	ev_io_start(loop_ev(loop), &fake->reader);
	return fake;
}

static void fake_free(void *user)
{
	struct fake_qmp *fake = user;

	close_fd(fake->fd);
	json_decref(fake->answers);
	json_decref(fake->waiting);
	free(fake->input);
	free(fake);
}

void fake_qmp_close(struct fake_qmp *fake)
{
	hang_up(fake);
}

void fake_qmp_destroy(struct fake_qmp *fake)
{
	if (!fake)
		return;
	hang_up(fake);
	loop_defer(fake->loop, &fake->freeing, fake_free, fake);
}

size_t fake_qmp_received(const struct fake_qmp *fake)
{
	return fake->received;
}

size_t fake_qmp_waiting(const struct fake_qmp *fake)
{
	return json_array_size(fake->waiting);
}

json_t *fake_qmp_take(struct fake_qmp *fake)
{
	json_t *command = json_incref(json_array_get(fake->waiting, 0));

	json_array_remove(fake->waiting, 0);
	return command;
}

void fake_qmp_serve(struct fake_qmp *fake, void (*serve)(void *user, const json_t *command),
		    void *user)
{
	fake->on_command = serve;
	fake->user = user;
}

int fake_qmp_take_fd(struct fake_qmp *fake)
{
	return TAKE_FD(fake->fd);
}

bool fake_qmp_is_closed(const struct fake_qmp *fake)
{
	return !stream_is_open(&fake->stream);
}
