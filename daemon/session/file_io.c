/* SPDX-License-Identifier: Apache-2.0 */
/* One list of file operations in one VM, from EXEC to EXIT. */
#include "daemon/session/file_io.h"

#include "base/log.h"
#include "daemon/session/file_socket.h"
#include "daemon/session/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Of a list: names, of each what there is to say (FILE_ENTRIES_MAX). */
#define RESULT_PARTS_MAX (FILE_ENTRIES_MAX * 16u)

enum file_io_state {
	IO_RUNNING,
	IO_DELIVERING, /* the guest is done; what was read is on its way to the caller's socket */
	IO_KILLING,
	IO_DONE,
};

struct file_io {
	struct file_io_target target;
	const struct file_io_ops *ops;
	void *user;
	enum file_io_state state;
	size_t count; /* of operations */
	struct output data, text;
	json_t *results;
	char failure[MSG_TEXT_MAX]; /* why there are no results */
	struct file_socket socket;
	bool is_read_to_socket, is_over_quota;
	uint64_t read_max, socket_bytes; /* what may be read; how much went over the socket */
	ev_timer deadline;
	struct defer delivered;
};

static void finish(struct file_io *io, enum exec_end end)
{
	if (io->state == IO_DONE)
		return;
	io->state = IO_DONE;
	loop_timer_stop(io->target.loop, &io->deadline);
	file_socket_close(&io->socket);
	io->ops->on_done(io->user, io, end);
}

static void on_delivered(void *user)
{
	finish(user, EXEC_REPORTED);
}

/* There will be no results. */
static void give_up(struct file_io *io, const char *why)
{
	snprintf(io->failure, sizeof(io->failure), "%s", why);
	if (io->state == IO_RUNNING)
		file_io_stop(io);
	else if (io->state == IO_DELIVERING)
		loop_defer(io->target.loop, &io->delivered, on_delivered, io);
}

static void on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct file_io *io = timer->data;

	if (io->state == IO_KILLING)
		finish(io, EXEC_UNREPORTED);
	else
		give_up(io, "it took too long");
}

/* --- The caller's socket. --- */

static void on_progress(void *user)
{
	struct file_io *io = user;

	if (io->state == IO_RUNNING || io->state == IO_DELIVERING)
		loop_timer_start(io->target.loop, &io->deadline, FILE_IO_SECONDS);
}

static void on_complete(void *user)
{
	struct file_io *io = user;

	/* Not inside the socket's own callback. */
	if (io->state == IO_DELIVERING)
		loop_defer(io->target.loop, &io->delivered, on_delivered, io);
}

static void on_broken(void *user)
{
	give_up(user, "the other end of the socket was closed before all bytes had gone over it");
}

static const struct file_socket_ops socket_ops = {
	.on_progress = on_progress, .on_complete = on_complete, .on_broken = on_broken};

static void start_socket(struct file_io *io, const struct file_batch *batch)
{
	int fd = TAKE_FD(io->target.socket_fd);

	io->socket = (struct file_socket){.ops = &socket_ops,
					  .user = io,
					  .link = vm_link(io->target.vm),
					  .number = io->target.number};
	if (batch->is_read_to_socket)
		file_socket_start_reading(&io->socket, io->target.loop, fd);
	else
		file_socket_start_writing(&io->socket, io->target.loop, fd, batch->socket_size);
}

void file_io_stop(struct file_io *io)
{
	struct msg msg = {.type = FRAME_KILL, .kill = {.exec = io->target.number}};

	if (io->state == IO_DELIVERING)
		give_up(io, "it was stopped");
	if (io->state != IO_RUNNING)
		return;
	io->state = IO_KILLING;
	/* Not all of its bytes have gone over it, whatever the guest says. */
	if (io->socket.is_open && !*io->failure)
		snprintf(io->failure, sizeof(io->failure), "it was stopped");
	file_socket_close(&io->socket);
	/* A link that takes no KILL has the same end as a guest that ignores it. */
	(void)agent_link_send(vm_link(io->target.vm), &msg);
	loop_timer_start(io->target.loop, &io->deadline, EXEC_KILL_REPORT_SECONDS);
}

static int dispatch(struct file_io *io, struct file_batch *batch)
{
	struct msg_exec msg = {
		.exec = io->target.number,
		.language = "files",
		.is_resident = true,
		.is_background = true,
		.realtime_ns = realtime_ns(),
		.stdout_limit = io->data.limit,
		.stderr_limit = io->text.limit,
		.disk_max_bytes = io->target.disk_mb << 20,
	};
	char *request = json_dumps(batch->operations, JSON_COMPACT);
	int r;

	if (!request)
		return -ENOMEM;
	r = agent_link_exec(vm_link(io->target.vm), &msg, request, strlen(request),
			    TAKE_PTR(batch->data), batch->data_len);
	if (r < 0)
		return r;
	if (io->target.socket_fd >= 0)
		start_socket(io, batch);
	if (batch->socket_size == 0)
		agent_link_write_end(vm_link(io->target.vm), io->target.number);
	return 0;
}

struct file_io *file_io_begin(const struct file_io_target *target, struct file_batch *batch,
			      const struct file_io_ops *ops, void *user)
{
	struct file_io *io = calloc(1, sizeof(*io));
	int r;

	if (!io) {
		file_batch_fini(batch);
		close_fd(target->socket_fd);
		return NULL;
	}
	io->target = *target;
	io->ops = ops;
	io->user = user;
	io->count = json_array_size(batch->operations);
	io->data.limit = (size_t)batch->read_max;
	io->text.limit = batch->results_max;
	io->read_max = batch->read_max;
	io->is_read_to_socket = batch->is_read_to_socket;
	ev_timer_init(&io->deadline, on_deadline, 0., 0.);
	io->deadline.data = io;
	r = dispatch(io, batch);
	file_batch_fini(batch);
	if (r < 0) {
		log_debug(vm_id(target->vm), "Cannot send file operations: %s", strerror(-r));
		file_io_free(io);
		return NULL;
	}
	loop_timer_start(target->loop, &io->deadline, FILE_IO_SECONDS);
	return io;
}

/* --- The guest speaks. --- */

/* Objects, members and elements of a JSON text: each costs a hundred times its bytes once it is
 * parsed. */
static size_t count_parts(const char *text, size_t len)
{
	bool is_string = false;
	size_t count = 0;

	for (size_t i = 0; i < len; i++) {
		if (is_string && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			is_string = !is_string;
		else if (!is_string)
			count += text[i] == '{' || text[i] == '[' || text[i] == ',';
	}
	return count;
}

static bool is_list_of_objects(const json_t *results, size_t count)
{
	const json_t *result;
	size_t i;

	if (json_array_size(results) != count)
		return false;
	json_array_foreach (results, i, result)
		if (!json_is_object(result))
			return false;
	return true;
}

static void read_results(struct file_io *io, const struct msg_exit *exit)
{
	json_auto_t *results = NULL;

	if (*io->failure)
		return;
	if (strcmp(exit->reason, MSG_REASON_EXITED) != 0) {
		snprintf(io->failure, sizeof(io->failure), "%s%s%.200s", exit->reason,
			 *exit->detail ? ": " : "", exit->detail);
		return;
	}
	if (count_parts((const char *)io->text.data, io->text.len) <= RESULT_PARTS_MAX)
		results =
			json_loadb((const char *)io->text.data, io->text.len, JSON_ALLOW_NUL, NULL);
	if (is_list_of_objects(results, io->count))
		io->results = json_incref(results);
	else
		snprintf(io->failure, sizeof(io->failure), "it answered with something else");
}

bool file_io_on_message(struct file_io *io, const struct msg *msg)
{
	if (msg->type == FRAME_STARTED)
		return msg->exec_ref.exec == io->target.number;
	if (msg->type != FRAME_EXIT || msg->exit.exec != io->target.number)
		return false;
	if (io->state == IO_DONE)
		return true;
	agent_link_exec_done(vm_link(io->target.vm), io->target.number);
	read_results(io, &msg->exit);
	if (io->socket.is_open && !io->socket.is_writing && !*io->failure) {
		io->state = IO_DELIVERING;
		file_socket_end(&io->socket);
	} else {
		finish(io, EXEC_REPORTED);
	}
	return true;
}

static void refuse_bytes(struct file_io *io)
{
	io->is_over_quota = true;
	give_up(io, "the buffers of your requests in flight are full");
}

static void break_off(struct file_io *io)
{
	snprintf(io->failure, sizeof(io->failure), "it sent more than was asked for");
	finish(io, EXEC_BROKEN);
}

bool file_io_on_output(struct file_io *io, uint32_t number, enum frame_substream sub,
		       const uint8_t *data, size_t len)
{
	struct output *output = sub == SUBSTREAM_STDERR ? &io->text : &io->data;

	if (number != io->target.number)
		return false;
	if (io->state == IO_DONE)
		return true;
	if (io->is_read_to_socket && sub == SUBSTREAM_STDOUT) {
		io->socket_bytes += len;
		if (io->socket_bytes > io->read_max)
			break_off(io);
		else
			file_socket_on_output(&io->socket, data, len);
		return true;
	}
	if (len > output->limit - output->len) {
		break_off(io);
		return true;
	}
	/* What nobody keeps is taken all the same, until the end comes. */
	if (io->state == IO_RUNNING && ((io->ops->on_grow && !io->ops->on_grow(io->user, len)) ||
					output_add(output, data, len) < 0))
		refuse_bytes(io);
	agent_link_take(vm_link(io->target.vm), number, sub, len);
	return true;
}

bool file_io_on_input(struct file_io *io, uint32_t number)
{
	if (number != io->target.number)
		return false;
	file_socket_on_input(&io->socket);
	return true;
}

const json_t *file_io_results(const struct file_io *io, struct rpc_error **ret_error)
{
	if (io->is_over_quota)
		*ret_error = rpc_error_hint(rpc_error_new(RPC_QUOTA_EXCEEDED,
							  "What your requests in flight read "
							  "fills the buffers"),
					    "wait for some of them to end, or read smaller pieces");
	else if (!io->results)
		*ret_error = rpc_error_hint(
			rpc_error_new(RPC_VM_TRANSIENT, "The VM's file server failed: %s",
				      *io->failure ? io->failure : "it has not answered"),
			"a file is replaced as a whole or not at all; what was appended, or "
			"written at an offset, may be there in part");
	return io->results;
}

const char *file_io_data(const struct file_io *io, size_t *ret_len)
{
	*ret_len = io->is_read_to_socket ? (size_t)io->socket_bytes : io->data.len;
	return (const char *)io->data.data;
}

void file_io_free(struct file_io *io)
{
	if (!io)
		return;
	loop_timer_stop(io->target.loop, &io->deadline);
	loop_defer_cancel(io->target.loop, &io->delivered);
	file_socket_close(&io->socket);
	close_fd(io->target.socket_fd);
	output_fini(&io->data);
	output_fini(&io->text);
	json_decref(io->results);
	free(io);
}
