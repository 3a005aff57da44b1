/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file server of a VM: does for the host what the user may do with files.
 *
 * Theory of operation: the agent starts it as it starts the interpreter of a session
 * (guest-agent/resident.h), as the user, in the home directory, and hands it one request after
 * another on a socket: a descriptor of the request (ops.h, as JSON), one with the bytes to write,
 * one for the bytes that are read and one for the results. That the user's own rights, memory and
 * disk are used, and that it is not the agent that waits for a file, is why this is a process of
 * its own. User code can kill it: it is started again, and uploads that were not complete are gone.
 */
#include "base/util.h"
#include "guest-agent/files/ops.h"
#include "guest-agent/files/uploads.h"
#include "guest-agent/language.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define STREAMS     4
#define MESSAGE_MAX (68u * 1024)
#define HEAD        4
#define REPLY_SIZE  5
#define REQUEST_MAX (4u << 20)
/* Fewer turns of two processes for a large file; the user's pipes hold so much at the most. */
#define PIPE_SIZE (1 << 20)

struct request {
	int code_fd, in_fd, out_fd, result_fd;
};

static void request_close(struct request *request)
{
	close_fd(request->code_fd);
	close_fd(request->in_fd);
	close_fd(request->out_fd);
	close_fd(request->result_fd);
}

static uint32_t length_of(const uint8_t *head)
{
	return (uint32_t)head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 |
	       (uint32_t)head[3] << 24;
}

/* The rest of a message, of which the first `len` bytes are there. Nothing in it counts here. */
static bool skip_message(uint8_t *message, size_t len)
{
	while (len < HEAD || len < HEAD + (size_t)length_of(message)) {
		ssize_t n =
			len >= MESSAGE_MAX ? 0 : recv(GO_FD, message + len, MESSAGE_MAX - len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		len += (size_t)n;
	}
	return true;
}

/* False when the agent has gone. */
static bool receive(struct request *ret)
{
	static uint8_t message[MESSAGE_MAX];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(STREAMS * sizeof(int))];
	} control;
	struct iovec part = {.iov_base = message, .iov_len = sizeof(message)};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	const struct cmsghdr *rights;
	ssize_t n = recvmsg(GO_FD, &header, MSG_CMSG_CLOEXEC);

	rights = n > 0 ? CMSG_FIRSTHDR(&header) : NULL;
	if (!rights || rights->cmsg_len != CMSG_LEN(STREAMS * sizeof(int)))
		return false;
	memcpy(ret, CMSG_DATA(rights), sizeof(*ret));
	return skip_message(message, (size_t)n);
}

static void serve(const struct request *request)
{
	_cleanup_free_ char *text = NULL, *reply = NULL;
	json_auto_t *operations = NULL, *results = NULL;
	ssize_t len;

	(void)fcntl(request->in_fd, F_SETPIPE_SZ, PIPE_SIZE);
	(void)fcntl(request->out_fd, F_SETPIPE_SZ, PIPE_SIZE);
	len = lseek(request->code_fd, 0, SEEK_SET) < 0
		      ? -1
		      : read_file_fd(request->code_fd, REQUEST_MAX, &text);
	operations = len < 0 ? NULL : json_loadb(text, (size_t)len, 0, NULL);
	results = ops_run(operations, request->in_fd, request->out_fd);
	reply = results ? json_dumps(results, JSON_COMPACT) : NULL;
	/* Without results the host says that there are none. */
	if (reply)
		(void)write_all(request->result_fd, reply, strlen(reply));
}

/* False when the agent has gone. */
static bool answer(void)
{
	static const uint8_t done[REPLY_SIZE];

	return write_all(GO_FD, done, sizeof(done)) == 0;
}

int main(void)
{
	struct pollfd channel = {.fd = GO_FD, .events = POLLIN};
	struct request request;

	/* What the host sends is not for the user's other processes to look at. */
	prctl(PR_SET_DUMPABLE, 0);
	signal(SIGPIPE, SIG_IGN);
	/* A file that must not grow is an error, not an end. */
	signal(SIGXFSZ, SIG_IGN);
	umask(022);
	for (;;) {
		int n = poll(&channel, 1, uploads_expire());

		if (n < 0 && errno != EINTR)
			return EXIT_FAILURE;
		if (n <= 0)
			continue;
		if (!receive(&request))
			return EXIT_SUCCESS;
		serve(&request);
		request_close(&request);
		if (!answer())
			return EXIT_FAILURE;
	}
}
