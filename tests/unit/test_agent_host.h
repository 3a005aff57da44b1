/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side for tests of the guest agent: starts one in a child process and talks to it.
 *
 * Theory of operation: the agent runs in a forked child of the test, so that it may reap, signal
 * and leak-check as it does in a VM. Everything here is synchronous: HOST_WAIT() handles frames
 * until a condition holds, and fails the test after a deadline. Each frame is checked for what the
 * protocol allows (offsets, credit, order).
 */
#ifndef TESTS_UNIT_TEST_AGENT_HOST_H
#define TESTS_UNIT_TEST_AGENT_HOST_H

#include "base/util.h"
#include "guest-agent/agent.h"
#include "protocol/flow.h"
#include "protocol/message.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

#define HOST_DEADLINE_US 20000000u
#define HOST_EXECS       16
#define HOST_UID         65534

struct host_stream {
	struct flow_receiver flow;
	char *data;
	size_t len;
};

struct host {
	pid_t agent;
	int fd, listen_fd;
	char root[64], home[80];
	struct frame_decoder decoder;
	uint8_t sync[FRAME_MARKER_SIZE];
	bool has_hello;
	bool holds_credit;  /* output is kept without granting more */
	uint64_t memory_us; /* when the first MEMORY came */
	unsigned ready, replies, pongs, done, memories, started[HOST_EXECS];
	json_t *received, *known; /* of the last HELLO_REPLY */
	struct msg_memory memory;
	unsigned prepares, answers;   /* PREPARE sent, PREPARED come */
	struct msg_prepared prepared; /* the last one */
	struct host_stream streams[HOST_EXECS][2];
	struct flow_sender code_flow[HOST_EXECS], input_flow[HOST_EXECS];
	bool has_exit[HOST_EXECS];
	struct msg_exit exits[HOST_EXECS];
	size_t frames_max; /* largest DATA payload seen */
};

static inline size_t host_count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* The agent's process: exit status 0 when it ended by itself and left nothing behind. */
static inline void host_run_agent(const struct agent_config *config)
{
	size_t before = host_count_descriptors();
	struct agent *agent;

	signal(SIGPIPE, SIG_IGN);
	if (agent_create(&agent, config) < 0)
		_exit(10);
	agent_run(agent);
	agent_destroy(agent);
	/* The connection was the agent's: it is closed as well. */
	if (host_count_descriptors() >= before)
		_exit(11);
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		_exit(12);
#if defined(__SANITIZE_ADDRESS__)
	__lsan_do_leak_check();
#endif
	_exit(0);
}

static inline void host_write(struct host *host, const void *data, size_t len)
{
	ck_assert_int_eq(write_all(host->fd, data, len), 0);
}

static inline void host_frame(struct host *host, uint8_t type, uint32_t stream, const void *payload,
			      size_t len)
{
	uint8_t *frame = malloc(FRAME_OVERHEAD + len);

	host_write(host, frame, frame_encode(frame, type, stream, payload, len));
	free(frame);
}

static inline void host_send(struct host *host, const struct msg *msg)
{
	char *payload;
	ssize_t len = msg_encode(msg, &payload);

	ck_assert_int_ge(len, 0);
	host_frame(host, msg->type, 0, payload, (size_t)len);
	free(payload);
}

static inline void host_credit(struct host *host, uint32_t stream, struct host_stream *state)
{
	uint8_t payload[16];

	frame_put_u64(payload, state->flow.taken);
	frame_put_u64(payload + 8, state->flow.limit);
	host_frame(host, FRAME_CREDIT, stream, payload, sizeof(payload));
}

static inline struct host_stream *host_stream(struct host *host, uint32_t stream)
{
	ck_assert_uint_lt(frame_stream_exec(stream), HOST_EXECS);
	ck_assert(frame_stream_sub(stream) == SUBSTREAM_STDOUT ||
		  frame_stream_sub(stream) == SUBSTREAM_STDERR);
	return &host->streams[frame_stream_exec(stream)]
			     [frame_stream_sub(stream) == SUBSTREAM_STDERR];
}

static inline void host_on_data(struct host *host, uint32_t stream, const uint8_t *payload,
				size_t len)
{
	struct host_stream *state = host_stream(host, stream);
	size_t skip;

	ck_assert_uint_ge(len, 8);
	host->frames_max = MAX(host->frames_max, len);
	ck_assert_int_eq(flow_receiver_data(&state->flow, frame_get_u64(payload), len - 8, &skip),
			 0);
	payload += 8 + skip;
	len -= 8 + skip;
	state->data = realloc(state->data, state->len + len + 1);
	memcpy(state->data + state->len, payload, len);
	state->len += len;
	state->data[state->len] = '\0';
	if (!host->holds_credit && flow_receiver_take(&state->flow, len))
		host_credit(host, stream, state);
}

/* Grants everything that was held. */
static inline void host_release_credit(struct host *host, uint32_t stream)
{
	struct host_stream *state = host_stream(host, stream);

	host->holds_credit = false;
	flow_receiver_take(&state->flow, (size_t)(state->flow.received - state->flow.taken));
	host_credit(host, stream, state);
}

static inline void host_on_credit(struct host *host, uint32_t stream, const uint8_t *payload)
{
	uint32_t exec = frame_stream_exec(stream);
	struct flow_sender *sender = frame_stream_sub(stream) == SUBSTREAM_CODE
					     ? &host->code_flow[exec]
					     : &host->input_flow[exec];

	ck_assert_int_eq(
		flow_sender_credit(sender, frame_get_u64(payload), frame_get_u64(payload + 8)), 0);
}

static inline void host_on_exit(struct host *host, struct msg_exit *exit)
{
	ck_assert_uint_lt(exit->exec, HOST_EXECS);
	/* EXIT comes behind all output, and accounts for it. */
	ck_assert(host->streams[exit->exec][0].flow.is_ended);
	ck_assert(host->streams[exit->exec][1].flow.is_ended);
	json_decref(host->exits[exit->exec].error);
	host->exits[exit->exec] = *exit;
	exit->error = NULL;
	host->has_exit[exit->exec] = true;
}

static inline void host_on_message(struct host *host, struct msg *msg)
{
	if (msg->type == FRAME_READY) {
		host->ready++;
	} else if (msg->type == FRAME_HELLO_REPLY) {
		host->replies++;
		json_decref(host->received);
		json_decref(host->known);
		host->received = TAKE_PTR(msg->hello_reply.received);
		host->known = TAKE_PTR(msg->hello_reply.execs);
	} else if (msg->type == FRAME_PONG) {
		host->pongs++;
	} else if (msg->type == FRAME_IDENTITY_DONE) {
		host->done++;
	} else if (msg->type == FRAME_STARTED) {
		host->started[msg->exec_ref.exec % HOST_EXECS]++;
	} else if (msg->type == FRAME_MEMORY) {
		if (host->memories++ == 0)
			host->memory_us = now_us();
		host->memory = msg->memory;
	} else if (msg->type == FRAME_PREPARED) {
		host->answers++;
		host->prepared = msg->prepared;
	} else if (msg->type == FRAME_EXIT) {
		host_on_exit(host, &msg->exit);
	} else {
		ck_abort_msg("unexpected frame type %u", msg->type);
	}
}

static inline int host_on_frame(void *user, uint8_t type, uint32_t stream, const uint8_t *payload,
				size_t len)
{
	struct host *host = user;
	const char *why = "";
	struct msg msg;

	if (type == FRAME_DATA) {
		host_on_data(host, stream, payload, len);
	} else if (type == FRAME_END) {
		ck_assert_int_eq(
			flow_receiver_end(&host_stream(host, stream)->flow, frame_get_u64(payload)),
			0);
	} else if (type == FRAME_CREDIT) {
		host_on_credit(host, stream, payload);
	} else {
		ck_assert_msg(msg_decode(type, payload, len, &msg, &why) == 0, "%s: %s",
			      frame_type_name(type), why);
		host_on_message(host, &msg);
		msg_clear(&msg);
	}
	return 0;
}

/* Waits for bytes of the agent and handles them. */
static inline void host_step(struct host *host, uint64_t deadline_us, const char *what)
{
	struct pollfd fd = {.fd = host->fd, .events = POLLIN};
	uint64_t now = now_us();
	uint8_t bytes[4096];
	ssize_t n;

	ck_assert_msg(now < deadline_us && poll(&fd, 1, (int)((deadline_us - now) / 1000)) == 1,
		      "deadline passed waiting for: %s", what);
	n = read(host->fd, bytes, sizeof(bytes));
	ck_assert_msg(n > 0, "agent closed while waiting for: %s", what);
	ck_assert_int_eq(frame_decoder_feed(&host->decoder, bytes, (size_t)n, host_on_frame, host),
			 0);
}

#define HOST_WAIT(host, condition)                                   \
	do {                                                         \
		uint64_t deadline_us_ = now_us() + HOST_DEADLINE_US; \
		while (!(condition))                                 \
			host_step((host), deadline_us_, #condition); \
	} while (0)

static inline void host_hello(struct host *host)
{
	struct msg msg = {.type = FRAME_HELLO, .hello = {.version = LINK_VERSION}};
	json_t *received = json_object();
	unsigned replies = host->replies;

	for (uint32_t exec = 0; exec < HOST_EXECS; exec++) {
		for (int i = 0; i < 2; i++) {
			struct host_stream *state = &host->streams[exec][i];
			char key[16];

			snprintf(key, sizeof(key), "%u", exec * 4 + 1 + (uint32_t)i);
			if (state->flow.received > 0)
				json_object_set_new(received, key,
						    json_integer((json_int_t)state->flow.received));
		}
	}
	if (host->has_hello)
		host_write(host, host->sync, sizeof(host->sync));
	frame_marker_draw(host->sync);
	frame_marker_draw(msg.hello.nonce);
	memcpy(msg.hello.sync, host->sync, sizeof(host->sync));
	msg.hello.received = received;
	frame_decoder_watch(&host->decoder, msg.hello.nonce, true);
	host_send(host, &msg);
	json_decref(received);
	host->has_hello = true;
	HOST_WAIT(host, host->replies > replies);
}

static inline struct agent_config host_config(struct host *host)
{
	static char runners[sizeof(host->root) + sizeof("/runners")];
	char command[2 * PATH_MAX];

	/* A copy: programs run as a user who may not reach the tree. */
	snprintf(runners, sizeof(runners), "%s/runners", host->root);
	snprintf(command, sizeof(command), "cp -r build/guest-agent/runners %s && chmod -R a+rX %s",
		 runners, runners);
	ck_assert_msg(pclose(popen(command, "r")) == 0, "tests run in the top directory");
	return (struct agent_config){
		.fd = -1,
		.home = host->home,
		.runners = runners,
		.change_user = geteuid() == 0,
		.uid = HOST_UID,
	};
}

static inline void host_make_home(struct host *host)
{
	snprintf(host->root, sizeof(host->root), "/tmp/test_agent_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(host->root));
	ck_assert_int_eq(chmod(host->root, 0755), 0);
	snprintf(host->home, sizeof(host->home), "%s/user", host->root);
	ck_assert_int_eq(mkdir(host->home, 0755), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(chown(host->home, HOST_UID, HOST_UID), 0);
}

static inline void host_connect(struct host *host)
{
	if (host->fd >= 0)
		close(host->fd);
	host->fd = unix_connect_at(AT_FDCWD, "agent.sock");
	ck_assert_int_ge(host->fd, 0);
	ck_assert_int_eq(fcntl(host->fd, F_SETFL, 0), 0);
}

/* Starts an agent that listens, so that connections may come and go; paths may be NULL. */
static inline void host_start_dropping(struct host *host, const char *cgroup, const char *drop_path)
{
	struct agent_config config;
	char cwd[PATH_MAX];

	*host = (struct host){.fd = -1, .listen_fd = -1};
	for (int i = 0; i < HOST_EXECS; i++) {
		flow_receiver_init(&host->streams[i][0].flow);
		flow_receiver_init(&host->streams[i][1].flow);
		flow_sender_init(&host->code_flow[i]);
		flow_sender_init(&host->input_flow[i]);
	}
	frame_decoder_init(&host->decoder);
	host_make_home(host);
	config = host_config(host);
	config.cgroup_root = cgroup;
	config.drop_path = drop_path;

	ck_assert_ptr_nonnull(getcwd(cwd, sizeof(cwd)));
	ck_assert_int_eq(chdir(host->root), 0);
	config.fd = unix_listen_at(AT_FDCWD, "agent.sock", 4);
	ck_assert_int_ge(config.fd, 0);
	host->agent = fork();
	ck_assert_int_ge(host->agent, 0);
	if (host->agent == 0)
		host_run_agent(&config);
	close(config.fd);
	host_connect(host);
	ck_assert_int_eq(chdir(cwd), 0);
	HOST_WAIT(host, host->ready == 1);
}

static inline void host_start(struct host *host, const char *cgroup)
{
	host_start_dropping(host, cgroup, NULL);
}

/* Drops the connection and makes another. */
static inline void host_reconnect(struct host *host)
{
	unsigned ready = host->ready;
	char cwd[PATH_MAX];

	ck_assert_ptr_nonnull(getcwd(cwd, sizeof(cwd)));
	ck_assert_int_eq(chdir(host->root), 0);
	host_connect(host);
	ck_assert_int_eq(chdir(cwd), 0);
	frame_decoder_fini(&host->decoder);
	frame_decoder_init(&host->decoder);
	HOST_WAIT(host, host->ready > ready);
}

static inline int host_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

/* Ends the agent and checks that it ended well and left nothing. */
static inline void host_stop(struct host *host)
{
	int status;

	kill(host->agent, SIGTERM);
	ck_assert_int_eq(waitpid(host->agent, &status, 0), host->agent);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "agent ended with %#x",
		      status);
	close(host->fd);
	for (int i = 0; i < HOST_EXECS; i++) {
		free(host->streams[i][0].data);
		free(host->streams[i][1].data);
		flow_sender_fini(&host->code_flow[i]);
		flow_sender_fini(&host->input_flow[i]);
		json_decref(host->exits[i].error);
	}
	json_decref(host->received);
	json_decref(host->known);
	frame_decoder_fini(&host->decoder);
	nftw(host->root, host_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* Sends a whole host-to-guest stream, waiting for credit where it must. */
static inline void host_feed(struct host *host, uint32_t stream, struct flow_sender *sender,
			     const char *data, size_t len)
{
	size_t written = 0, piece;
	const uint8_t *at;
	uint64_t offset;
	uint8_t payload[8 + FRAME_DATA_MAX];

	while (written < len || sender->sent < sender->written) {
		piece = MIN(len - written, flow_sender_room(sender));
		ck_assert_int_eq(flow_sender_write(sender, data + written, piece), 0);
		written += piece;
		piece = flow_sender_next(sender, FRAME_DATA_MAX, &offset, &at);
		if (piece == 0) {
			uint64_t limit = sender->limit;

			HOST_WAIT(host, sender->limit > limit);
			continue;
		}
		frame_put_u64(payload, offset);
		memcpy(payload + 8, at, piece);
		host_frame(host, FRAME_DATA, stream, payload, 8 + piece);
	}
	frame_put_u64(payload, sender->written);
	host_frame(host, FRAME_END, stream, payload, 8);
}

static inline struct msg_exec host_request(uint32_t exec, const char *language)
{
	struct msg_exec request = {.exec = exec, .stdout_limit = 1 << 20, .stderr_limit = 1 << 20};

	snprintf(request.language, sizeof(request.language), "%s", language);
	return request;
}

/* EXEC, code and standard input. */
static inline void host_exec(struct host *host, const struct msg_exec *request, const char *code,
			     const char *input, size_t input_len)
{
	struct msg msg = {.type = FRAME_EXEC, .exec = *request};
	uint32_t exec = (uint32_t)request->exec;

	host_send(host, &msg);
	host_feed(host, frame_stream_id(exec, SUBSTREAM_CODE), &host->code_flow[exec], code,
		  strlen(code));
	host_feed(host, frame_stream_id(exec, SUBSTREAM_STDIN), &host->input_flow[exec], input,
		  input_len);
}

/* The same with the defaults, up to its end. */
static inline const struct msg_exit *host_run(struct host *host, uint32_t exec,
					      const char *language, const char *code)
{
	struct msg_exec request = host_request(exec, language);

	host_exec(host, &request, code, "", 0);
	HOST_WAIT(host, host->has_exit[exec]);
	return &host->exits[exec];
}

static inline const char *host_stdout(const struct host *host, uint32_t exec)
{
	return host->streams[exec][0].data ? host->streams[exec][0].data : "";
}

static inline const char *host_stderr(const struct host *host, uint32_t exec)
{
	return host->streams[exec][1].data ? host->streams[exec][1].data : "";
}

static inline void host_kill(struct host *host, uint32_t exec, uint64_t grace_ms)
{
	host_send(host,
		  &(struct msg){.type = FRAME_KILL, .kill = {.exec = exec, .grace_ms = grace_ms}});
}

/* PREPARE, without waiting for its answer. Returns its id. */
static inline uint64_t host_send_prepare(struct host *host, const char *language, uint64_t count)
{
	struct msg msg = {.type = FRAME_PREPARE,
			  .prepare = {.id = ++host->prepares, .count = count}};

	snprintf(msg.prepare.language, sizeof(msg.prepare.language), "%s", language);
	host_send(host, &msg);
	return msg.prepare.id;
}

/* PREPARE, and its answer. */
static inline const struct msg_prepared *host_prepare(struct host *host, const char *language,
						      uint64_t count)
{
	uint64_t id = host_send_prepare(host, language, count);

	HOST_WAIT(host, host->prepared.id == id);
	return &host->prepared;
}

/* PING, and its answer. */
static inline void host_ping(struct host *host)
{
	unsigned pongs = host->pongs;

	host_send(host, &(struct msg){.type = FRAME_PING, .ping.id = 1});
	HOST_WAIT(host, host->pongs > pongs);
}

/* PREPARE of the interpreter of a session: is it there now? */
static inline bool host_prepare_resident(struct host *host, const char *language, json_t *env_take)
{
	struct msg msg = {.type = FRAME_PREPARE,
			  .prepare = {.id = ++host->prepares, .is_resident = true}};

	snprintf(msg.prepare.language, sizeof(msg.prepare.language), "%s", language);
	msg.prepare.env = env_take;
	host_send(host, &msg);
	json_decref(env_take);
	HOST_WAIT(host, host->prepared.id == host->prepares);
	return host->prepared.waiting == 1;
}

#endif
