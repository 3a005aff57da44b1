/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A module for Bun: the socket on which the JavaScript of a session gets its programs.
 *
 * Theory of operation: programs come with descriptors (guest-agent/resident.h), which Bun cannot
 * receive, and while none runs what earlier ones have left goes on in Bun's event loop. So a thread
 * waits on the socket and has the loop call back with each program. What the interpreter says goes
 * by the same socket, from its own thread.
 *
 * Node-API is a stable ABI: the few of its functions that are used are declared here, lest its
 * headers be needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_info__ *napi_info;
typedef struct napi_function__ *napi_function;
typedef napi_value (*napi_callback)(napi_env env, napi_info info);
typedef void (*napi_call_js)(napi_env env, napi_value callback, void *context, void *data);

int napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
int napi_set_named_property(napi_env, napi_value object, const char *name, napi_value value);
int napi_get_cb_info(napi_env, napi_info, size_t *, napi_value *, napi_value *self, void **);
int napi_get_value_int32(napi_env, napi_value, int32_t *);
int napi_get_buffer_info(napi_env, napi_value, void **, size_t *);
int napi_create_int32(napi_env, int32_t, napi_value *);
int napi_create_buffer_copy(napi_env, size_t, const void *, void **, napi_value *);
int napi_create_string_utf8(napi_env, const char *, size_t, napi_value *);
int napi_get_undefined(napi_env, napi_value *);
int napi_call_function(napi_env, napi_value self, napi_value, size_t, const napi_value *,
		       napi_value *);
int napi_create_threadsafe_function(napi_env, napi_value callback, napi_value resource,
				    napi_value name, size_t queue_max, size_t threads,
				    void *finalize_data, void *finalize, void *context,
				    napi_call_js, napi_function *);
int napi_call_threadsafe_function(napi_function, void *data, int mode);

#define STREAMS 4
#define HEAD    4
/* As the agent limits what it sends. */
#define MESSAGE_MAX (64u * 1024)

struct program {
	int fds[STREAMS]; /* text, input, outputs */
	size_t len;
	char message[];
};

static struct {
	int fd, null_fd;
	napi_function on_program;
} channel = {.fd = -1, .null_fd = -1};

/* --- The thread that waits. --- */

/* Length and descriptors; false at the end. */
static bool receive_head(int fds[STREAMS], uint8_t head[HEAD])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(STREAMS * sizeof(int))];
	} control = {0};
	struct iovec part = {.iov_base = head, .iov_len = HEAD};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *rights;
	ssize_t n;

	do
		n = recvmsg(channel.fd, &header, MSG_CMSG_CLOEXEC | MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	rights = n == HEAD ? CMSG_FIRSTHDR(&header) : NULL;
	if (!rights || rights->cmsg_type != SCM_RIGHTS ||
	    rights->cmsg_len != CMSG_LEN(STREAMS * sizeof(int)))
		return false;
	memcpy(fds, CMSG_DATA(rights), STREAMS * sizeof(int));
	return true;
}

static bool receive_all(char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = recv(channel.fd, data, len, 0);

		if (n <= 0 && !(n < 0 && errno == EINTR))
			return false;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

/* NULL when there is none any more. */
static struct program *receive(void)
{
	struct program *program;
	uint8_t head[HEAD];
	int fds[STREAMS];
	size_t len;

	if (!receive_head(fds, head))
		return NULL;
	len = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
	      (size_t)head[3] << 24;
	program = len <= MESSAGE_MAX ? malloc(sizeof(*program) + len) : NULL;
	if (!program)
		return NULL;
	memcpy(program->fds, fds, sizeof(fds));
	program->len = len;
	if (receive_all(program->message, len))
		return program;
	free(program);
	return NULL;
}

static void *wait_for_programs(void *unused)
{
	struct program *program;

	(void)unused;
	while ((program = receive()))
		napi_call_threadsafe_function(channel.on_program, program, 1);
	/* The agent is gone, or what it says cannot be. */
	_exit(0);
}

/* --- Bun's thread. --- */

/* callback(message, text, stdin, stdout, stderr) */
static void on_program(napi_env env, napi_value callback, void *context, void *data)
{
	struct program *program = data;
	napi_value self, args[1 + STREAMS];

	(void)context;
	if (env) {
		napi_get_undefined(env, &self);
		napi_create_buffer_copy(env, program->len, program->message, NULL, &args[0]);
		for (size_t i = 0; i < STREAMS; i++)
			napi_create_int32(env, program->fds[i], &args[1 + i]);
		napi_call_function(env, self, callback, 1 + STREAMS, args, NULL);
	}
	free(program);
}

static int32_t number(napi_env env, napi_value value)
{
	int32_t result = -1;

	napi_get_value_int32(env, value, &result);
	return result;
}

static napi_value result_of(napi_env env, int32_t result)
{
	napi_value value = NULL;

	napi_create_int32(env, result, &value);
	return value;
}

/* listen(fd, callback): what belongs to the process in /proc is closed to the user's other
 * processes from here, and the socket to those it starts. */
static napi_value listen_on(napi_env env, napi_info info)
{
	napi_value args[2], name;
	size_t count = 2;
	pthread_t thread;

	napi_get_cb_info(env, info, &count, args, NULL, NULL);
	channel.fd = number(env, args[0]);
	napi_create_string_utf8(env, "programs", sizeof("programs") - 1, &name);
	channel.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (channel.null_fd < 0 || fcntl(channel.fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return result_of(env, -errno);
	if (napi_create_threadsafe_function(env, args[1], NULL, name, 0, 1, NULL, NULL, NULL,
					    on_program, &channel.on_program) != 0 ||
	    pthread_create(&thread, NULL, wait_for_programs, NULL) != 0)
		return result_of(env, -ENOMEM);
	return result_of(env, 0);
}

/* open(stdin, stdout, stderr): they become the standard ones. */
static napi_value open_streams(napi_env env, napi_info info)
{
	napi_value args[STDERR_FILENO + 1];
	size_t count = STDERR_FILENO + 1;

	napi_get_cb_info(env, info, &count, args, NULL, NULL);
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		int taken = number(env, args[fd]);

		dup2(taken, fd);
		close(taken);
	}
	return result_of(env, 0);
}

/* close(): the standard ones lead nowhere. */
static napi_value close_streams(napi_env env, napi_info info)
{
	(void)info;
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		dup2(channel.null_fd, fd);
	return result_of(env, 0);
}

/* write(fd, buffer): all of it, also where writing does not block. */
static napi_value write_all(napi_env env, napi_info info)
{
	napi_value args[2];
	size_t count = 2, len = 0;
	void *data = NULL;
	int fd;

	napi_get_cb_info(env, info, &count, args, NULL, NULL);
	fd = number(env, args[0]);
	napi_get_buffer_info(env, args[1], &data, &len);
	while (len > 0) {
		struct pollfd wait = {.fd = fd, .events = POLLOUT};
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EAGAIN)
			poll(&wait, 1, -1);
		else if (n < 0 && errno != EINTR)
			return result_of(env, -errno);
		data = (char *)data + (n > 0 ? n : 0);
		len -= n > 0 ? (size_t)n : 0;
	}
	return result_of(env, 0);
}

napi_value napi_register_module_v1(napi_env env, napi_value exports);
napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
	static const struct {
		const char *name;
		napi_callback function;
	} functions[] = {{"listen", listen_on},
			 {"open", open_streams},
			 {"close", close_streams},
			 {"write", write_all}};

	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		napi_value function;

		napi_create_function(env, functions[i].name, SIZE_MAX, functions[i].function, NULL,
				     &function);
		napi_set_named_property(env, exports, functions[i].name, function);
	}
	return exports;
}
