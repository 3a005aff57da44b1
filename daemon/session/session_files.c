/* SPDX-License-Identifier: Apache-2.0 */
/* The file operations of a session: calls of `file.*`, in the order they came. */
#include "daemon/session/session_files.h"

#include "daemon/session/file_socket.h"
#include "daemon/session/session_internal.h"

struct session_file {
	TAILQ_ENTRY(session_file) link;
	struct session *session;
	struct rpc_call *call; /* NULL: its caller has gone */
	struct file_request request;
	bool is_cancelled;
	int socket_fd; /* that came with the call; -1: none, or handed on */
};

void session_files_init(struct session_files *files)
{
	TAILQ_INIT(&files->queue);
}

static bool is_running(const struct session_file *file)
{
	const struct session_files *files = &file->session->files;

	return files->io && TAILQ_FIRST(&files->queue) == file;
}

static void remove_file(struct session_file *file)
{
	struct session_files *files = &file->session->files;

	TAILQ_REMOVE(&files->queue, file, link);
	files->count--;
	file_request_fini(&file->request);
	close_fd(file->socket_fd);
	free(file);
}

static void answer_error(struct session_file *file, struct rpc_error *error_take)
{
	if (!file->call) {
		rpc_error_free(error_take);
		return;
	}
	rpc_error_set(error_take, "session", json_string(file->session->id));
	rpc_call_finish_error(TAKE_PTR(file->call), error_take);
}

static struct rpc_error *cancelled(void)
{
	return rpc_error_new(RPC_CANCELLED, "The file operation was cancelled");
}

/* --- One after the other. --- */

static void answer_result(struct session_file *file, struct file_io *io)
{
	struct rpc_error *error = NULL;
	const json_t *results = file_io_results(io, &error);
	json_t *result = NULL;
	const char *data;
	size_t len;

	data = file_io_data(io, &len);
	if (!error)
		result = file_request_result(&file->request, results, data, len, &error);
	/* What is done is told, also to who wanted it no more. */
	if (error && file->is_cancelled) {
		rpc_error_free(error);
		error = cancelled();
	}
	if (error)
		answer_error(file, error);
	else if (file->call)
		rpc_call_finish_result(TAKE_PTR(file->call), result);
	else
		json_decref(result);
}

static void advance(void *user)
{
	session_files_advance(user);
}

static void on_done(void *user, struct file_io *io, enum exec_end end)
{
	struct session_file *file = user;
	struct session *session = file->session;

	if (end == EXEC_UNREPORTED) {
		session_close(session, REASON_UNRESPONSIVE);
		return;
	}
	answer_result(file, io);
	if (end == EXEC_BROKEN) {
		session_close(session, REASON_GUEST_PROTOCOL);
		return;
	}
	session->files.io = NULL;
	file_io_free(io);
	remove_file(file);
	session_work_end(session);
	loop_defer(session_loop(session), &session->files.next, advance, session);
}

static bool on_grow(void *user, size_t len)
{
	struct session_file *file = user;

	return !file->call || rpc_call_hold(file->call, len);
}

static const struct file_io_ops io_ops = {.on_grow = on_grow, .on_done = on_done};

/* NULL, or the error: then nothing was begun. */
static struct rpc_error *begin(struct session *session, struct session_file *file)
{
	struct file_io_target target = {.loop = session_loop(session),
					.vm = session->vm,
					.disk_mb = session->request.disk_mb};
	struct file_batch batch = file->request.batch;

	/* One that is not waited for any more. */
	if (!file->call)
		return cancelled();
	target.number = session_next_number(session);
	target.socket_fd = TAKE_FD(file->socket_fd);
	json_incref(batch.operations);
	file->request.batch.data = NULL;
	session->files.io = file_io_begin(&target, &batch, &io_ops, file);
	return session->files.io ? NULL
				 : rpc_error_new(RPC_VM_TRANSIENT,
						 "Cannot send the operation to the session's VM");
}

void session_files_advance(struct session *session)
{
	struct session_file *file;

	/* The guest does one operation at a time. That of an earlier daemon ends first, and with it
	 * the programs that cannot be told from it. */
	while (session->vm && session->strays.count == 0 && !session->files.io &&
	       (file = TAILQ_FIRST(&session->files.queue))) {
		struct rpc_error *error;

		/* Not while it is dying: its end is on its way. */
		if (!session_work_begin(session))
			return;
		error = begin(session, file);
		if (!error)
			return;
		answer_error(file, error);
		remove_file(file);
		session_work_end(session);
	}
}

bool session_files_on_message(struct session *session, const struct msg *msg)
{
	return session->files.io && file_io_on_message(session->files.io, msg);
}

bool session_files_on_input(struct session *session, uint32_t number)
{
	return session->files.io && file_io_on_input(session->files.io, number);
}

bool session_files_on_output(struct session *session, uint32_t number, enum frame_substream sub,
			     const uint8_t *data, size_t len)
{
	return session->files.io && file_io_on_output(session->files.io, number, sub, data, len);
}

void session_files_fail(struct session *session, enum session_reason reason)
{
	struct session_file *file;

	loop_defer_cancel(session_loop(session), &session->files.next);
	while ((file = TAILQ_FIRST(&session->files.queue))) {
		struct rpc_error *error = session_closed_error(session->id, reason);

		rpc_error_set(error, "dispatched", json_boolean(is_running(file)));
		if (is_running(file)) {
			file_io_free(session->files.io);
			session->files.io = NULL;
		}
		answer_error(file, error);
		remove_file(file);
	}
}

/* --- Calls. --- */

static void on_cancel(void *user)
{
	struct session_file *file = user;

	file->is_cancelled = true;
	if (is_running(file)) {
		file_io_stop(file->session->files.io);
		return;
	}
	answer_error(file, cancelled());
	remove_file(file);
}

static void on_gone(void *user)
{
	struct session_file *file = user;

	file->call = NULL;
	if (!is_running(file))
		remove_file(file);
}

static void on_stop(void *user)
{
	struct session_file *file = user;

	answer_error(file, session_closed_error(file->session->id, REASON_DAEMON_STOPPED));
}

static const struct rpc_call_ops call_ops = {
	.on_cancel = on_cancel, .on_gone = on_gone, .on_stop = on_stop};

static struct rpc_error *busy(const struct session *session)
{
	struct rpc_error *error =
		rpc_error_new(RPC_SESSION_BUSY, "%zu file operations wait in session %s",
			      session->files.count, session->id);

	return rpc_error_hint(error, "wait for some of them to end");
}

/* Takes the request and the socket. */
static struct session_file *add(struct session *session, struct rpc_call *call,
				struct file_request *request_take, int socket_fd_take,
				struct rpc_error **ret_error)
{
	struct session_file *file = NULL;

	if (!rpc_call_hold(call, request_take->batch.data_len))
		*ret_error = rpc_error_hint(rpc_error_new(RPC_QUOTA_EXCEEDED,
							  "What your requests in flight write "
							  "fills the buffers"),
					    "wait for some of them to end");
	else if (!(file = calloc(1, sizeof(*file))))
		*ret_error = rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory");
	if (!file) {
		file_request_fini(request_take);
		close_fd(socket_fd_take);
		return NULL;
	}
	file->socket_fd = socket_fd_take;
	file->session = session;
	file->call = call;
	file->request = *request_take;
	TAILQ_INSERT_TAIL(&session->files.queue, file, link);
	session->files.count++;
	return file;
}

/* What came with the call, if it says that something does. NULL, or the error. */
static struct rpc_error *take_socket(struct rpc_call *call, const json_t *params, int *ret_fd)
{
	struct rpc_error *error;

	*ret_fd = -1;
	if (!json_is_true(json_object_get(params, "descriptor")))
		return NULL;
	*ret_fd = rpc_call_take_descriptor(call);
	if (*ret_fd >= 0 && file_socket_is_fit(*ret_fd))
		return NULL;
	error = rpc_error_new(RPC_INVALID_PARAMS,
			      *ret_fd < 0 ? "No descriptor came with the request"
					  : "The descriptor is no connected Unix stream socket");
	*ret_fd = close_fd(*ret_fd);
	rpc_error_set(error, "field", json_string("descriptor"));
	return rpc_error_hint(error, "send one end of a socketpair along (SCM_RIGHTS), and feed or "
				     "empty the other: the daemon does not wait for files");
}

struct rpc_reply session_file_call(struct session *session, struct rpc_call *call,
				   enum file_kind kind, const json_t *params)
{
	const struct config *config = session->sessions->config.exec->config;
	struct session_file *file = NULL;
	struct file_request request;
	int socket_fd;
	struct rpc_error *error = take_socket(call, params, &socket_fd);
	struct rpc_reply reply;

	if (!error && session->files.count >= SESSION_FILES_MAX)
		error = busy(session);
	if (!error)
		error = file_request_parse(kind, params, config, &request);
	if (!error)
		file = add(session, call, &request, TAKE_FD(socket_fd), &error);
	close_fd(socket_fd);
	if (!file)
		return rpc_reply_error(call,
				       rpc_error_set(error, "session", json_string(session->id)));
	reply = rpc_reply_pending(call, &call_ops, file);
	session_files_advance(session);
	return reply;
}
