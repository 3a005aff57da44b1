/* SPDX-License-Identifier: Apache-2.0 */
/* The guest link of an adopted VM: greeting, streams that go on, strays, and guests that lie. */
#include "base/util.h"
#include "daemon/vm/agent_link.h"
#include "protocol/flow.h"
#include "tests/fake/fake_agent.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define STREAM(sub) frame_stream_id(7, SUBSTREAM_##sub)

static const uint8_t sync_marker[FRAME_MARKER_SIZE] = "0123456789abcdef";

static struct loop *loop;
static struct agent_link *host;
static struct fake_agent *agent;

/* What the daemon's side heard. */
static int ready_count, exit_count, failed_error, resume_error;
static char output[64];
static size_t output_len;
static uint64_t input_taken;

/* What it does when the guest has answered. */
static struct agent_link_resume resume;
static bool is_stray;

/* What the guest's side heard, and answers. */
static int hello_count;
static struct msg_hello last_hello;
static const char *reply_received; /* JSON */
static char code[64];
static uint64_t code_offset, ends, credit_taken, credit_limit;

static void on_ready(void *user UNUSED, const struct msg_hello_reply *hello)
{
	ready_count++;
	ck_assert(agent_link_knows(hello, 7));
	ck_assert(!agent_link_knows(hello, 8));
	resume_error = is_stray ? agent_link_resume_stray(host, 7)
				: agent_link_resume(host, &resume, hello);
}

static void on_message(void *user UNUSED, const struct msg *msg)
{
	exit_count += msg->type == FRAME_EXIT;
}

static void on_output(void *user UNUSED, uint32_t exec, enum frame_substream sub UNUSED,
		      const uint8_t *data, size_t len)
{
	ck_assert_uint_eq(exec, 7);
	memcpy(output + output_len, data, len);
	output_len += len;
}

static void on_input(void *user UNUSED, uint32_t exec UNUSED, uint64_t taken)
{
	input_taken = taken;
}

static void on_failed(void *user UNUSED, int error, const char *why UNUSED)
{
	failed_error = error;
}

static const struct agent_link_ops link_ops = {.on_ready = on_ready,
					       .on_message = on_message,
					       .on_output = on_output,
					       .on_input = on_input,
					       .on_failed = on_failed};

static void answer_hello(const struct msg_hello *hello)
{
	struct msg reply = {.type = FRAME_HELLO_REPLY, .hello_reply = {.version = LINK_VERSION}};

	reply.hello_reply.received = json_loads(reply_received, 0, NULL);
	reply.hello_reply.execs = json_pack("[i]", 7);
	fake_agent_send_raw(agent, hello->nonce, sizeof(hello->nonce));
	fake_agent_send(agent, &reply);
	msg_clear(&reply);
}

static void on_host_message(void *user UNUSED, const struct msg *msg)
{
	if (msg->type != FRAME_HELLO)
		return;
	hello_count++;
	last_hello = msg->hello;
	ck_assert_int_eq(json_integer_value(json_object_get(msg->hello.received, "29")), 3);
	answer_hello(&msg->hello);
}

static void on_host_data(void *user UNUSED, uint32_t stream, uint64_t offset, const uint8_t *data,
			 size_t len)
{
	ck_assert_uint_eq(stream, STREAM(CODE));
	ck_assert_uint_eq(offset, code_offset);
	memcpy(code + offset, data, len);
	code_offset += len;
}

static void on_host_end(void *user UNUSED, uint32_t stream UNUSED, uint64_t offset UNUSED)
{
	ends++;
}

static void on_host_credit(void *user UNUSED, uint32_t stream, uint64_t taken, uint64_t limit)
{
	if (stream != STREAM(STDOUT))
		return;
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

	ready_count = exit_count = failed_error = resume_error = hello_count = 0;
	output_len = 0;
	code_offset = ends = credit_taken = credit_limit = input_taken = 0;
	memset(code, 0, sizeof(code));
	is_stray = false;
	reply_received = "{}";
	resume = (struct agent_link_resume){.exec = 7, .output_bytes = {3, 0}};
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	agent = fake_agent_create(loop, fds[1], &agent_ops, NULL);
	/* In the middle of a frame of the daemon before. */
	fake_agent_watch(agent, sync_marker);
	ck_assert_int_eq(agent_link_adopt(loop, fds[0], "test", sync_marker,
					  json_pack("{s:i}", "29", 3), &link_ops, NULL, &host),
			 0);
}

static void teardown(void)
{
	agent_link_destroy(host);
	fake_agent_destroy(agent);
	loop_destroy(loop);
}

static void open_link(void)
{
	ck_assert(WAIT_FOR(loop, ready_count == 1));
}

static void send_exit(void)
{
	struct msg msg = {.type = FRAME_EXIT, .exit = {.exec = 7, .reason = MSG_REASON_EXITED}};

	fake_agent_send(agent, &msg);
}

START_TEST(test_marker_stays)
{
	open_link();
	ck_assert_mem_eq(last_hello.sync, sync_marker, FRAME_MARKER_SIZE);
	ck_assert_mem_eq(agent_link_sync(host), sync_marker, FRAME_MARKER_SIZE);
}
END_TEST

/* The agent has noticed the new connection before it read what came on it. */
START_TEST(test_ready_first)
{
	fake_agent_ready(agent);
	open_link();
	ck_assert_int_eq(hello_count, 1);
	ck_assert_int_eq(failed_error, 0);
}
END_TEST

START_TEST(test_output_goes_on)
{
	open_link();
	ck_assert_int_eq(resume_error, 0);
	ck_assert(WAIT_FOR(loop, credit_taken == 3 && credit_limit == 3 + FLOW_WINDOW));
	/* Two bytes are repeated. */
	fake_agent_send_data(agent, STREAM(STDOUT), 1, "bcdef", 5);
	fake_agent_send_end(agent, STREAM(STDOUT), 6);
	fake_agent_send_end(agent, STREAM(STDERR), 0);
	send_exit();
	ck_assert(WAIT_FOR(loop, exit_count == 1 || failed_error != 0));
	ck_assert_int_eq(failed_error, 0);
	ck_assert_uint_eq(output_len, 3);
	ck_assert_mem_eq(output, "def", 3);
}
END_TEST

START_TEST(test_gap_in_output)
{
	open_link();
	fake_agent_send_data(agent, STREAM(STDOUT), 4, "x", 1);
	ck_assert(WAIT_FOR(loop, failed_error == -EPROTO));
}
END_TEST

/* Of ten bytes of code the guest has four; more it takes when it says so. */
START_TEST(test_code_goes_on)
{
	reply_received = "{\"31\":4}";
	code_offset = 4;
	resume.code_take = strdup("0123456789");
	resume.code_len = 10;
	open_link();
	ck_assert_int_eq(resume_error, 0);
	fake_agent_send_credit(agent, STREAM(CODE), 2, FLOW_WINDOW);
	/* That of its input, which is empty, was there at once. */
	ck_assert(WAIT_FOR(loop, code_offset == 10 && ends == 2));
	ck_assert_str_eq(code + 4, "456789");
}
END_TEST

START_TEST(test_guest_has_more_than_there_was)
{
	reply_received = "{\"31\":11}";
	resume.code_take = strdup("0123456789");
	resume.code_len = 10;
	open_link();
	ck_assert_int_eq(resume_error, -EPROTO);
}
END_TEST

START_TEST(test_input_of_a_process_goes_on)
{
	reply_received = "{\"28\":100,\"31\":5}";
	resume.is_background = true;
	open_link();
	ck_assert_int_eq(resume_error, 0);
	/* It takes part of what it had, then there is room again. */
	fake_agent_send_credit(agent, STREAM(STDIN), 60, 60 + FLOW_WINDOW);
	ck_assert(WAIT_FOR(loop, input_taken == 100));
	ck_assert_uint_eq(ends, 0);
	agent_link_write_end(host, 7);
	ck_assert(WAIT_FOR(loop, ends == 1));
}
END_TEST

/* Whatever its offsets, nothing of a stray comes up, and it is never short of credit. */
START_TEST(test_stray)
{
	is_stray = true;
	open_link();
	fake_agent_send_data(agent, STREAM(STDOUT), 1000000, "abc", 3);
	ck_assert(WAIT_FOR(loop, credit_taken == 1000003));
	ck_assert_uint_eq(credit_limit, 1000003 + FLOW_WINDOW);
	fake_agent_send_credit(agent, STREAM(CODE), 50, 50 + FLOW_WINDOW);
	fake_agent_send_end(agent, STREAM(STDOUT), 1000003);
	fake_agent_send_end(agent, STREAM(STDERR), 0);
	send_exit();
	ck_assert(WAIT_FOR(loop, exit_count == 1));
	ck_assert_uint_eq(output_len, 0);
	ck_assert_int_eq(failed_error, 0);
}
END_TEST

START_TEST(test_stray_with_impossible_offsets)
{
	is_stray = true;
	open_link();
	fake_agent_send_data(agent, STREAM(STDOUT), UINT64_MAX, "abc", 3);
	fake_agent_send_data(agent, STREAM(STDOUT), 5, "abc", 3);
	ck_assert(WAIT_FOR(loop, credit_taken == 8));
	ck_assert_uint_eq(output_len, 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("link_resume");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_marker_stays);
	tcase_add_test(tcase, test_ready_first);
	tcase_add_test(tcase, test_output_goes_on);
	tcase_add_test(tcase, test_gap_in_output);
	tcase_add_test(tcase, test_code_goes_on);
	tcase_add_test(tcase, test_guest_has_more_than_there_was);
	tcase_add_test(tcase, test_input_of_a_process_goes_on);
	tcase_add_test(tcase, test_stray);
	tcase_add_test(tcase, test_stray_with_impossible_offsets);
	suite_add_tcase(suite, tcase);
	return suite;
}
