/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's end of the guest link against a guest that is honest, slow and hostile. */
#include "daemon/vm/agent_link.h"

#include "base/util.h"
#include "protocol/flow.h"
#include "tests/fake/fake_agent.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define STDOUT frame_stream_id(1, SUBSTREAM_STDOUT)
#define STDERR frame_stream_id(1, SUBSTREAM_STDERR)
#define CODE   frame_stream_id(1, SUBSTREAM_CODE)
#define STDIN  frame_stream_id(1, SUBSTREAM_STDIN)

static struct loop *loop;
static struct agent_link *host;
static struct fake_agent *agent;

/* What the daemon's side heard. */
static int ready_count, failed_count, failed_error, message_count, exit_count;
static char failed_why[128];
static uint8_t last_type;
static size_t output_len[2];
static uint64_t output_sum, input_taken;

/* What the guest's side heard. */
static int hello_count, exec_count, ack_count;
static bool answers_hello, gives_credit;
static struct {
	uint8_t *data;
	size_t len, limit; /* of credit given */
	bool is_ended;
} inputs[2];                        /* code, stdin */
static struct msg_hello kept_hello; /* the last one's nonce */
static int credit_count;
static uint64_t credit_taken, credit_limit;

static void on_ready(void *user UNUSED, const struct msg_hello_reply *hello)
{
	ck_assert_uint_eq(hello->version, LINK_VERSION);
	ready_count++;
}

static void on_message(void *user UNUSED, const struct msg *msg)
{
	message_count++;
	last_type = msg->type;
	exit_count += msg->type == FRAME_EXIT;
}

static void on_output(void *user UNUSED, uint32_t exec, enum frame_substream sub,
		      const uint8_t *data, size_t len)
{
	ck_assert_uint_eq(exec, 1);
	output_len[sub == SUBSTREAM_STDERR] += len;
	for (size_t i = 0; i < len; i++)
		output_sum += data[i];
}

static void on_input(void *user UNUSED, uint32_t exec, uint64_t taken)
{
	ck_assert_uint_eq(exec, 1);
	input_taken = taken;
}

static void on_failed(void *user UNUSED, int error, const char *why)
{
	failed_count++;
	failed_error = error;
	strncpy(failed_why, why, sizeof(failed_why) - 1);
}

static const struct agent_link_ops link_ops = {.on_ready = on_ready,
					       .on_message = on_message,
					       .on_output = on_output,
					       .on_input = on_input,
					       .on_failed = on_failed};

static void on_host_message(void *user UNUSED, const struct msg *msg)
{
	if (msg->type == FRAME_HELLO) {
		hello_count++;
		memcpy(kept_hello.nonce, msg->hello.nonce, sizeof(kept_hello.nonce));
		if (answers_hello)
			fake_agent_accept(agent, &msg->hello);
	}
	exec_count += msg->type == FRAME_EXEC;
	ack_count += msg->type == FRAME_EXIT_ACK;
}

static void on_host_data(void *user UNUSED, uint32_t stream, uint64_t offset, const uint8_t *data,
			 size_t len)
{
	size_t i = frame_stream_sub(stream) == SUBSTREAM_STDIN;

	ck_assert_uint_eq(offset, inputs[i].len);
	ck_assert_uint_le(offset + len, inputs[i].limit);
	inputs[i].data = realloc(inputs[i].data, inputs[i].len + len);
	memcpy(inputs[i].data + inputs[i].len, data, len);
	inputs[i].len += len;
	if (gives_credit) {
		inputs[i].limit = inputs[i].len + FLOW_WINDOW;
		fake_agent_send_credit(agent, stream, inputs[i].len, inputs[i].limit);
	}
}

static void on_host_end(void *user UNUSED, uint32_t stream, uint64_t offset)
{
	size_t i = frame_stream_sub(stream) == SUBSTREAM_STDIN;

	ck_assert_uint_eq(offset, inputs[i].len);
	ck_assert(!inputs[i].is_ended);
	inputs[i].is_ended = true;
}

static void on_host_credit(void *user UNUSED, uint32_t stream, uint64_t taken, uint64_t limit)
{
	ck_assert_uint_eq(stream, STDOUT);
	credit_count++;
	credit_taken = taken;
	credit_limit = limit;
}

static const struct fake_agent_ops agent_ops = {.on_message = on_host_message,
						.on_data = on_host_data,
						.on_end = on_host_end,
						.on_credit = on_host_credit};

static void setup(void)
{
	int fds[2];

	ready_count = failed_count = message_count = exit_count = 0;
	hello_count = exec_count = ack_count = credit_count = 0;
	output_len[0] = output_len[1] = 0;
	output_sum = input_taken = 0;
	answers_hello = gives_credit = true;
	memset(inputs, 0, sizeof(inputs));
	inputs[0].limit = inputs[1].limit = FLOW_WINDOW;
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_eq(agent_link_create(loop, fds[0], "test", NULL, &link_ops, NULL, &host), 0);
	agent = fake_agent_create(loop, fds[1], &agent_ops, NULL);
}

static void teardown(void)
{
	agent_link_destroy(host);
	fake_agent_destroy(agent);
	loop_destroy(loop);
	free(inputs[0].data);
	free(inputs[1].data);
}

static void open_link(void)
{
	fake_agent_ready(agent);
	ck_assert(WAIT_FOR(loop, ready_count == 1));
}

static char *bytes(size_t len)
{
	char *data = malloc(len);

	for (size_t i = 0; i < len; i++)
		data[i] = (char)(i * 31 >> 3);
	return data;
}

static void start_exec(size_t code_len, size_t input_len)
{
	struct msg_exec exec = {.exec = 1, .language = "shell"};

	ck_assert_int_eq(agent_link_exec(host, &exec, bytes(code_len), code_len, bytes(input_len),
					 input_len),
			 0);
}

/* An open link with exec 1 on it. */
static void open_exec(void)
{
	open_link();
	start_exec(10, 0);
	ck_assert(WAIT_FOR(loop, exec_count == 1 && inputs[0].is_ended && inputs[1].is_ended));
}

static void assert_fails(const char *why)
{
	ck_assert(WAIT_FOR(loop, failed_count == 1));
	ck_assert_int_eq(failed_error, -EPROTO);
	ck_assert_msg(strstr(failed_why, why), "'%s' is not about '%s'", failed_why, why);
	/* The link is closed, and says nothing more. */
	ck_assert(WAIT_FOR(loop, fake_agent_is_closed(agent)));
	ck_assert_int_eq(failed_count, 1);
}

static void send_exit(void)
{
	fake_agent_send_text(agent, FRAME_EXIT,
			     "{\"exec\": 1, \"reason\": \"exited\", \"stdout_bytes\": 0, "
			     "\"stderr_bytes\": 0}");
}

/* --- The handshake. --- */

/* Gets a HELLO that the test itself answers. */
static void receive_hello(void)
{
	answers_hello = false;
	fake_agent_ready(agent);
	ck_assert(WAIT_FOR(loop, hello_count == 1));
}

START_TEST(test_handshake)
{
	open_link();
	ck_assert_int_eq(hello_count, 1);
	fake_agent_ready(agent); /* a late repeat is harmless */
	fake_agent_send_text(agent, FRAME_PONG, "{\"id\": 5}");
	ck_assert(WAIT_FOR(loop, message_count == 1));
	ck_assert_int_eq(last_type, FRAME_PONG);
	ck_assert_int_eq(hello_count, 1);
	ck_assert_int_eq(failed_count, 0);
}
END_TEST

/* What stands between READY and the nonce is thrown away, whatever it is. */
START_TEST(test_garbage_before_the_nonce)
{
	static char garbage[300000];
	struct msg_hello nothing = {0};

	receive_hello();
	memset(garbage, 0xff, sizeof(garbage));
	fake_agent_send_raw(agent, garbage, sizeof(garbage));
	fake_agent_accept(agent, &nothing); /* a wrong nonce: nothing was answered */
	send_exit();
	fake_agent_send_raw(agent, garbage, 7);
	loop_run_once(loop, false);
	ck_assert_int_eq(ready_count + failed_count + message_count, 0);
}
END_TEST

/* The nonce is found behind garbage and in pieces of one byte. */
START_TEST(test_nonce_in_pieces_behind_garbage)
{
	receive_hello();
	fake_agent_send_raw(agent, kept_hello.nonce, 9); /* a false start */
	for (size_t i = 0; i < FRAME_MARKER_SIZE; i++) {
		fake_agent_send_raw(agent, kept_hello.nonce + i, 1);
		loop_run_once(loop, false);
	}
	fake_agent_send_text(agent, FRAME_HELLO_REPLY, "{\"version\": 1}");
	ck_assert(WAIT_FOR(loop, ready_count == 1));
}
END_TEST

START_TEST(test_wrong_version)
{
	receive_hello();
	fake_agent_send_raw(agent, kept_hello.nonce, FRAME_MARKER_SIZE);
	fake_agent_send_text(agent, FRAME_HELLO_REPLY, "{\"version\": 2}");
	assert_fails("version");
	ck_assert_int_eq(ready_count, 0);
}
END_TEST

START_TEST(test_before_the_handshake)
{
	switch (_i) {
	case 0:
		send_exit();
		assert_fails("before HELLO_REPLY");
		break;
	case 1:
		fake_agent_send_data(agent, STDOUT, 0, "x", 1);
		assert_fails("not there");
		break;
	case 2:
		fake_agent_send_text(agent, FRAME_READY, "{\"version\": 1}");
		assert_fails("malformed");
		break;
	}
}
END_TEST

/* --- Frames that no guest may send. --- */

#define ZEROS "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static void send_over_long(void)
{
	static const uint8_t header[] = {1, 0, 4, 0, FRAME_PONG, 0, 0, 0, 0}; /* 256 KiB and 1 */

	fake_agent_send_raw(agent, header, sizeof(header));
}

static void send_without_trailer(void)
{
	uint8_t frame[FRAME_OVERHEAD + 2];

	frame_encode(frame, FRAME_PONG, 0, "{}", 2);
	frame[sizeof(frame) - 1] = 'x';
	fake_agent_send_raw(agent, frame, sizeof(frame));
}

/* More than one window while nobody takes anything. */
static void send_without_credit(void)
{
	static char block[FRAME_DATA_MAX];

	for (uint64_t at = 0; at <= FLOW_WINDOW; at += sizeof(block))
		fake_agent_send_data(agent, STDOUT, at, block, sizeof(block));
}

static void send_gap(void)
{
	fake_agent_send_data(agent, STDOUT, 1, "x", 1);
}

static void send_overflow(void)
{
	fake_agent_send_data(agent, STDOUT, UINT64_MAX, "xx", 2);
}

static void send_behind_the_end(void)
{
	fake_agent_send_end(agent, STDOUT, 0);
	fake_agent_send_data(agent, STDOUT, 0, "x", 1);
}

static void send_early_end(void)
{
	fake_agent_send_data(agent, STDOUT, 0, "x", 1);
	fake_agent_send_end(agent, STDOUT, 2);
}

static void send_unknown_exec(void)
{
	fake_agent_send_data(agent, frame_stream_id(2, SUBSTREAM_STDOUT), 0, "x", 1);
}

static void send_data_on_code(void)
{
	fake_agent_send_data(agent, CODE, 0, "x", 1);
}

static void send_short_data(void)
{
	fake_agent_send_frame(agent, FRAME_DATA, STDOUT, ZEROS, 7);
}

static void send_short_credit(void)
{
	fake_agent_send_frame(agent, FRAME_CREDIT, CODE, ZEROS, 15);
}

static void send_credit_on_output(void)
{
	fake_agent_send_credit(agent, STDOUT, 0, FLOW_WINDOW);
}

static void send_credit_of_the_unsent(void)
{
	fake_agent_send_credit(agent, CODE, 11, 11 + FLOW_WINDOW);
}

static void send_credit_that_shrinks(void)
{
	fake_agent_send_credit(agent, STDIN, 0, 5);
}

static void send_credit_without_bounds(void)
{
	fake_agent_send_credit(agent, STDIN, 0, UINT64_MAX);
}

static void send_exit_before_the_end(void)
{
	fake_agent_send_end(agent, STDOUT, 0);
	send_exit();
}

static void send_second_hello_reply(void)
{
	fake_agent_send_text(agent, FRAME_HELLO_REPLY, "{\"version\": 1}");
}

static void send_no_json(void)
{
	fake_agent_send_text(agent, FRAME_PONG, "{\"id\": 1");
}

static void send_wrong_field(void)
{
	fake_agent_send_text(agent, FRAME_PONG, "{\"id\": -1}");
}

static void send_host_frame(void)
{
	fake_agent_send_text(agent, FRAME_PING, "{\"id\": 1}");
}

static void send_negative_caches(void)
{
	fake_agent_send_text(agent, FRAME_MEMORY,
			     "{\"id\": 0, \"mem_total\": 9, \"mem_free\": 1, "
			     "\"mem_available\": 1, \"mem_caches\": -1}");
}

static void send_drop(void)
{
	fake_agent_send_text(agent, FRAME_MEMORY_DROP, "{\"id\": 1}");
}

static void send_unknown_type(void)
{
	fake_agent_send_frame(agent, 200, 0, "", 0);
}

static const struct {
	void (*send)(void);
	const char *why;
} illegal[] = {
	{send_over_long, "over-long"},
	{send_without_trailer, "broken frame"},
	{send_without_credit, "without credit"},
	{send_gap, "out of order"},
	{send_overflow, "out of order"},
	{send_behind_the_end, "out of order"},
	{send_early_end, "END before all data"},
	{send_unknown_exec, "not there"},
	{send_data_on_code, "malformed DATA"},
	{send_short_data, "malformed DATA"},
	{send_short_credit, "malformed CREDIT"},
	{send_credit_on_output, "malformed CREDIT"},
	{send_credit_of_the_unsent, "impossible CREDIT"},
	{send_credit_that_shrinks, "impossible CREDIT"},
	{send_credit_without_bounds, "impossible CREDIT"},
	{send_exit_before_the_end, "EXIT before"},
	{send_second_hello_reply, "second HELLO_REPLY"},
	{send_no_json, "malformed control"},
	{send_wrong_field, "malformed control"},
	{send_host_frame, "does not send"},
	{send_negative_caches, "malformed control"},
	{send_drop, "does not send"},
	{send_unknown_type, "does not send"},
};

START_TEST(test_illegal_frames)
{
	open_exec();
	illegal[_i].send();
	assert_fails(illegal[_i].why);
	ck_assert_int_eq(exit_count, 0);
}
END_TEST

/* --- Streams. --- */

START_TEST(test_a_megabyte_of_code_arrives)
{
	const size_t len = 1u << 20;
	char *sent = bytes(len);

	open_link();
	start_exec(len, 3 * len);
	ck_assert(WAIT_FOR(loop, inputs[0].is_ended && inputs[1].is_ended));
	ck_assert_uint_eq(inputs[0].len, len);
	ck_assert_uint_eq(inputs[1].len, 3 * len);
	ck_assert_mem_eq(inputs[0].data, sent, len);
	ck_assert_mem_eq(inputs[1].data, sent, len);
	ck_assert_int_eq(failed_count, 0);
	free(sent);
}
END_TEST

/* Credit comes a few bytes at a time: never more is sent than was granted, and all of it arrives.
 */
START_TEST(test_slow_credit)
{
	const size_t len = FLOW_WINDOW + 50000;

	gives_credit = false;
	open_link();
	start_exec(len, 0);
	ck_assert(WAIT_FOR(loop, inputs[0].len == FLOW_WINDOW));
	while (inputs[0].len < len) {
		size_t before = inputs[0].len;

		inputs[0].limit = MIN(inputs[0].limit + 777, before + FLOW_WINDOW);
		fake_agent_send_credit(agent, CODE, before, inputs[0].limit);
		ck_assert(WAIT_FOR(loop, inputs[0].len == MIN(len, inputs[0].limit)));
	}
	ck_assert(WAIT_FOR(loop, inputs[0].is_ended));
	ck_assert_int_eq(failed_count, 0);
}
END_TEST

/* A guest that reads nothing for a while: the link waits, and control messages still fit. */
START_TEST(test_guest_that_does_not_read)
{
	struct msg kill = {.type = FRAME_KILL, .kill = {.exec = 1, .grace_ms = 50}};
	const size_t len = 1u << 20;

	open_link();
	fake_agent_pause(agent);
	start_exec(len, len);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(agent_link_send(host, &kill), 0);
	loop_run_once(loop, false);
	fake_agent_resume(agent);
	ck_assert(WAIT_FOR(loop, inputs[0].is_ended && inputs[1].is_ended));
	ck_assert_uint_eq(inputs[0].len + inputs[1].len, 2 * len);
}
END_TEST

START_TEST(test_credit_comes_from_taking_alone)
{
	static char block[FRAME_DATA_MAX];

	open_exec();
	for (uint64_t at = 0; at < FLOW_WINDOW; at += sizeof(block))
		fake_agent_send_data(agent, STDOUT, at, block, sizeof(block));
	ck_assert(WAIT_FOR(loop, output_len[0] == FLOW_WINDOW));
	loop_run_once(loop, false);
	ck_assert_int_eq(credit_count, 0);
	agent_link_take(host, 1, SUBSTREAM_STDOUT, FLOW_WINDOW);
	ck_assert(WAIT_FOR(loop, credit_count == 1));
	ck_assert_uint_eq(credit_taken, FLOW_WINDOW);
	ck_assert_uint_eq(credit_limit, 2 * FLOW_WINDOW);
	fake_agent_send_data(agent, STDOUT, FLOW_WINDOW, "abc", 3);
	ck_assert(WAIT_FOR(loop, output_len[0] == FLOW_WINDOW + 3));
	ck_assert_int_eq(failed_count, 0);
	/* Nothing happens for an exec that is not there. */
	agent_link_take(host, 5, SUBSTREAM_STDOUT, 1 << 20);
}
END_TEST

/* After a reconnection bytes may come twice: they are handed up once. */
START_TEST(test_repeated_data_is_skipped)
{
	open_exec();
	fake_agent_send_data(agent, STDERR, 0, "\1\1\1\1", 4);
	fake_agent_send_data(agent, STDERR, 0, "\1\1\1\1", 4);
	fake_agent_send_data(agent, STDERR, 2, "\1\1\2\2", 4);
	ck_assert(WAIT_FOR(loop, output_len[1] == 6));
	ck_assert_uint_eq(output_sum, 8);
	ck_assert_int_eq(failed_count, 0);
}
END_TEST

START_TEST(test_exit_and_acknowledgement)
{
	open_exec();
	fake_agent_send_end(agent, STDOUT, 0);
	fake_agent_send_end(agent, STDERR, 0);
	send_exit();
	ck_assert(WAIT_FOR(loop, exit_count == 1));
	agent_link_exec_done(host, 1);
	agent_link_exec_done(host, 1);
	ck_assert(WAIT_FOR(loop, ack_count == 1));
	/* A credit and an EXIT that crossed the acknowledgement are no fault; output is. */
	fake_agent_send_credit(agent, CODE, 10, 10 + FLOW_WINDOW);
	send_exit();
	ck_assert(WAIT_FOR(loop, exit_count == 2));
	ck_assert_int_eq(failed_count, 0);
	fake_agent_send_data(agent, STDOUT, 0, "x", 1);
	assert_fails("not there");
}
END_TEST

/* --- Ends. --- */

START_TEST(test_guest_hangs_up)
{
	open_exec();
	fake_agent_close(agent);
	ck_assert(WAIT_FOR(loop, failed_count == 1));
	ck_assert_int_eq(failed_error, -EPIPE);
	ck_assert_int_ne(agent_link_send(host, &(struct msg){.type = FRAME_PING}), 0);
}
END_TEST

START_TEST(test_closed_link_says_nothing)
{
	open_exec();
	fake_agent_send_text(agent, FRAME_PONG, "{\"id\": 1}");
	agent_link_close(host);
	ck_assert(WAIT_FOR(loop, fake_agent_is_closed(agent)));
	ck_assert_int_eq(failed_count + message_count, 0);
	agent_link_take(host, 1, SUBSTREAM_STDOUT, 1);
	agent_link_close(host);
}
END_TEST

/* A background exec's: no more than a window at a time, told when it is taken, until its end. */
START_TEST(test_input_in_pieces)
{
	struct msg_exec exec = {.exec = 1, .language = "shell", .is_background = true};
	_cleanup_free_ char *data = bytes(FLOW_WINDOW + 1000);

	open_link();
	ck_assert_int_eq(agent_link_exec(host, &exec, bytes(10), 10, NULL, 0), 0);
	ck_assert_int_eq(agent_link_write(host, 2, data, 1), -ENOENT);
	ck_assert(WAIT_FOR(loop, inputs[0].is_ended));
	gives_credit = false;
	ck_assert_int_eq(agent_link_write(host, 1, data, FLOW_WINDOW + 1000), FLOW_WINDOW);
	ck_assert_int_eq(agent_link_write(host, 1, data, 1), 0);
	ck_assert(WAIT_FOR(loop, inputs[1].len == FLOW_WINDOW));
	inputs[1].limit += 1000;
	fake_agent_send_credit(agent, STDIN, 1000, FLOW_WINDOW + 1000);
	ck_assert(WAIT_FOR(loop, input_taken == 1000));
	ck_assert_int_eq(agent_link_write(host, 1, data + FLOW_WINDOW, 1000), 1000);
	agent_link_write_end(host, 1);
	agent_link_write_end(host, 1);
	ck_assert(WAIT_FOR(loop, inputs[1].is_ended));
	ck_assert_mem_eq(inputs[1].data, data, FLOW_WINDOW + 1000);
	ck_assert_int_eq(agent_link_write(host, 1, data, 1), -ENOENT);
	/* Nothing was taken that was not sent. */
	fake_agent_send_credit(agent, STDIN, FLOW_WINDOW + 1001, 2 * FLOW_WINDOW);
	ck_assert(WAIT_FOR(loop, failed_count == 1));
	ck_assert_int_eq(failed_error, -EPROTO);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("guest_link");
	TCase *tests = tcase_create("guest_link");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_handshake);
	tcase_add_test(tests, test_input_in_pieces);
	tcase_add_test(tests, test_garbage_before_the_nonce);
	tcase_add_test(tests, test_nonce_in_pieces_behind_garbage);
	tcase_add_test(tests, test_wrong_version);
	tcase_add_loop_test(tests, test_before_the_handshake, 0, 3);
	tcase_add_loop_test(tests, test_illegal_frames, 0, ELEMENTSOF(illegal));
	tcase_add_test(tests, test_a_megabyte_of_code_arrives);
	tcase_add_test(tests, test_slow_credit);
	tcase_add_test(tests, test_guest_that_does_not_read);
	tcase_add_test(tests, test_credit_comes_from_taking_alone);
	tcase_add_test(tests, test_repeated_data_is_skipped);
	tcase_add_test(tests, test_exit_and_acknowledgement);
	tcase_add_test(tests, test_guest_hangs_up);
	tcase_add_test(tests, test_closed_link_says_nothing);
	suite_add_tcase(suite, tests);
	return suite;
}
