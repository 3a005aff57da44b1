/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter of a session: one process that runs one program after another. */
#include "guest-agent/resident.h"

#include "base/log.h"
#include "base/util.h"
#include "guest-agent/go.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#define STREAMS 4
/* 1.3 MB a second of each. */
#define SINK_PAUSE_SECONDS 0.05
/* Of directory, arguments and variables: the socket's buffer holds it in one piece. */
#define MESSAGE_MAX (64u * 1024)
#define HEAD        4
/* Status and length of the report, little-endian. */
#define REPLY_HEAD 5

/* --- What nobody wants to read. --- */

static void close_sink(struct resident_sink *sink)
{
	if (sink->fd < 0)
		return;
	ev_io_stop(loop_ev(sink->loop), &sink->watcher);
	loop_timer_stop(sink->loop, &sink->pause);
	sink->fd = close_fd(sink->fd);
}

/* A flood is taken a piece at a time: it waits, not the machine. */
static void on_sink_readable(struct ev_loop *ev, ev_io *watcher, int events UNUSED)
{
	struct resident_sink *sink = watcher->data;
	static char dropped[64u * 1024];
	ssize_t n = read(sink->fd, dropped, sizeof(dropped));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		close_sink(sink);
		return;
	}
	ev_io_stop(ev, watcher);
	loop_timer_start(sink->loop, &sink->pause, SINK_PAUSE_SECONDS);
}

static void on_sink_pause_over(struct ev_loop *ev, ev_timer *timer, int events UNUSED)
{
	struct resident_sink *sink = timer->data;

	ev_io_start(ev, &sink->watcher);
}

void resident_drop_output(struct resident *resident, int fd_take)
{
	struct loop *loop = resident->context->loop;

	for (size_t i = 0; i < RESIDENT_SINKS_MAX; i++) {
		struct resident_sink *sink = &resident->sinks[i];

		if (sink->fd >= 0)
			continue;
		*sink = (struct resident_sink){.loop = loop, .fd = fd_take};
		ev_io_init(&sink->watcher, on_sink_readable, fd_take, EV_READ);
		ev_timer_init(&sink->pause, on_sink_pause_over, 0., 0.);
		sink->watcher.data = sink->pause.data = sink;
		ev_io_start(loop_ev(loop), &sink->watcher);
		return;
	}
	close_fd(fd_take);
}

/* --- The process. --- */

static void forget(struct resident *resident)
{
	for (size_t i = 0; i < RESIDENT_SINKS_MAX; i++)
		close_sink(&resident->sinks[i]);
	if (resident->control_fd >= 0)
		ev_io_stop(loop_ev(resident->context->loop), &resident->watcher);
	resident->control_fd = close_fd(resident->control_fd);
	resident->pid = 0;
	resident->on_done = NULL;
	resident->awaits_word = false;
	resident->reply_len = 0;
}

static size_t report_len(const struct resident *resident)
{
	const uint8_t *head = (const uint8_t *)resident->reply;

	return (size_t)head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 |
	       (size_t)head[4] << 24;
}

/* A whole reply, or one that cannot be one. */
static bool is_reply_complete(const struct resident *resident)
{
	return resident->reply_len >= REPLY_HEAD &&
	       resident->reply_len >= REPLY_HEAD + report_len(resident);
}

static void deliver(struct resident *resident)
{
	resident_done_fn on_done = resident->on_done;

	resident->on_done = NULL;
	resident->reply_len = 0;
	/* Said when nothing ran: a claim about nothing. */
	if (on_done)
		on_done(resident->user, (uint8_t)resident->reply[0], resident->reply + REPLY_HEAD,
			report_len(resident));
}

static void on_readable(struct ev_loop *ev UNUSED, ev_io *watcher, int events UNUSED)
{
	struct resident *resident = watcher->data;
	ssize_t n = read(resident->control_fd, resident->reply + resident->reply_len,
			 sizeof(resident->reply) - resident->reply_len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* It ends, or talks nonsense: then it is not listened to, and its run ends by its deadline.
	 */
	if (n <= 0) {
		ev_io_stop(loop_ev(resident->context->loop), watcher);
		return;
	}
	resident->reply_len += (size_t)n;
	if (is_reply_complete(resident))
		deliver(resident);
}

/* Its first program brings the pipes that count, and reports on the control socket. */
static void adopt(struct resident *resident)
{
	struct process *process = &resident->process;

	resident->pid = process->pid;
	process->stdin_fd = close_fd(process->stdin_fd);
	process->stdout_fd = close_fd(process->stdout_fd);
	process->stderr_fd = close_fd(process->stderr_fd);
	process->report_fd = close_fd(process->report_fd);
	resident->control_fd = TAKE_FD(process->go_fd);
	ev_io_init(&resident->watcher, on_readable, resident->control_fd, EV_READ);
	resident->watcher.data = resident;
	ev_io_start(loop_ev(resident->context->loop), &resident->watcher);
}

static bool take_waiting(struct resident *resident, const struct language *language)
{
	if (!standbys_take_resident(resident->context->standbys, language, resident->env,
				    &resident->process))
		return false;
	adopt(resident);
	resident->awaits_word = true;
	return true;
}

static int start(struct resident *resident, const struct program *program, const char *name)
{
	struct process *process = &resident->process;
	int r = 0;

	if (take_waiting(resident, program->language))
		return 0;
	if (cgroup_is_there(resident->context->cgroup))
		r = cgroup_run_create(resident->context->cgroup, name, &process->cgroup);
	if (r == 0)
		r = program_start_resident(program, resident->context->config, resident->env,
					   process);
	if (r < 0) {
		process_fini(process, resident->context->cgroup);
		return r;
	}
	adopt(resident);
	return 0;
}

bool resident_prepare(struct resident *resident, const struct language *language, json_t *env_take)
{
	json_decref(resident->env);
	resident->env = env_take;
	return resident->pid > 0 || (language->stays_early && take_waiting(resident, language));
}

static void end_process(const struct resident *resident)
{
	const struct process *process = &resident->process;

	if (process->cgroup.fd >= 0)
		cgroup_run_kill(process->cgroup.fd);
	else if (process->pid > 0)
		kill(process->pid, SIGKILL);
}

/* Length and go message with four descriptors; the socket's buffer holds it. */
static int send_program(const struct resident *resident, char *message, size_t len,
			const struct resident_streams *streams)
{
	const int fds[STREAMS] = {streams->code_fd, streams->stdin_fd, streams->stdout_fd,
				  streams->stderr_fd};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(fds))];
	} control = {0};
	struct iovec part = {.iov_base = message, .iov_len = HEAD + len};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
	ssize_t n;

	if (resident->awaits_word && write(resident->control_fd, ".", 1) != 1)
		return -EIO;
	for (size_t i = 0; i < HEAD; i++)
		message[i] = (char)(len >> (8 * i));
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(rights), fds, sizeof(fds));
	n = sendmsg(resident->control_fd, &header, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return (size_t)n == part.iov_len ? 0 : -EIO;
}

int resident_begin(struct resident *resident, const struct program *program, const char *name,
		   const struct resident_streams *streams, resident_done_fn on_done, void *user,
		   struct process *ret_process)
{
	static char message[HEAD + MESSAGE_MAX];
	size_t len =
		go_encode(message + HEAD, MESSAGE_MAX, program->cwd, program->args, program->env);
	int r = 0;

	if (resident->on_done)
		return -EBUSY;
	if (len == 0)
		return -E2BIG;
	if (resident->pid == 0)
		r = start(resident, program, name);
	if (r < 0)
		return r;
	program_limit(program, &resident->process);
	process_note_usage(&resident->process);
	(void)process_limit_cpu(&resident->process, program->cpu_seconds);
	r = send_program(resident, message, len, streams);
	if (r < 0) {
		/* Nobody knows what it has read. */
		end_process(resident);
		return r;
	}
	resident->awaits_word = false;
	resident->on_done = on_done;
	resident->user = user;
	*ret_process = process_move(&resident->process);
	return 0;
}

void resident_return(struct resident *resident, struct process *process)
{
	resident->process = process_move(process);
}

void resident_lose(struct resident *resident)
{
	forget(resident);
}

uint64_t resident_held(const struct resident *resident)
{
	const struct process *process = &resident->process;

	return process->pid > 0 && process->cgroup.fd >= 0 ? cgroup_run_current(process->cgroup.fd)
							   : 0;
}

void resident_kill_for_memory(struct resident *resident)
{
	end_process(resident);
}

bool resident_on_reaped(struct resident *resident, pid_t pid)
{
	if (pid != resident->pid || resident->process.pid != pid)
		return false;
	log_debug("resident", "%d has ended", pid);
	/* What it left running goes with it. */
	end_process(resident);
	process_fini(&resident->process, resident->context->cgroup);
	forget(resident);
	return true;
}

void resident_init(struct resident *resident, const struct resident_context *context)
{
	resident->context = context;
	resident->process = PROCESS_NONE;
	resident->control_fd = -1;
	for (size_t i = 0; i < RESIDENT_SINKS_MAX; i++)
		resident->sinks[i].fd = -1;
}

void resident_fini(struct resident *resident)
{
	forget(resident);
	json_decref(resident->env);
	process_fini(&resident->process, resident->context->cgroup);
}
