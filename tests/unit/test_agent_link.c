/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent's end of the link: greeting, garbage, lost connections, credit, cgroups. */
#include "tests/unit/test_agent_host.h"

#include "tests/unit/suite.h"

static struct host host;

static void setup(void)
{
	host_start(&host, NULL);
}

static void teardown(void)
{
	host_stop(&host);
}

START_TEST(test_nothing_is_heard_before_hello)
{
	host_send(&host, &(struct msg){.type = FRAME_PING, .ping.id = 1});
	host_hello(&host);
	ck_assert_uint_eq(host.pongs, 0);
	ck_assert_uint_eq(json_array_size(host.known), 0);
	host_ping(&host);
}
END_TEST

START_TEST(test_hello_again_and_again)
{
	host_hello(&host);
	host_hello(&host);
	host_ping(&host);
	host_hello(&host);
	ck_assert_uint_eq(host.replies, 3);
	ck_assert_uint_eq(host.ready, 1);
}
END_TEST

START_TEST(test_memory_on_request_and_by_itself)
{
	host_hello(&host);
	host_send(&host, &(struct msg){.type = FRAME_MEMORY_GET, .ping.id = 77});
	HOST_WAIT(&host, host.memories == 1);
	ck_assert_uint_eq(host.memory.id, 77);
	ck_assert_uint_gt(host.memory.mem_total, 1 << 20);
	ck_assert_uint_le(host.memory.mem_free, host.memory.mem_total);
	HOST_WAIT(&host, host.memories == 2);
	ck_assert_uint_eq(host.memory.id, 0);
}
END_TEST

/* Who was given a machine hears of it at once, not when the next two seconds are over. */
START_TEST(test_memory_behind_a_start)
{
	uint64_t begun;

	host_hello(&host);
	begun = now_us();
	ck_assert_int_eq(host_run(&host, 1, "shell", "sleep 1")->exit_code, 0);
	HOST_WAIT(&host, host.memories >= 1);
	ck_assert_uint_eq(host.memory.id, 0);
	ck_assert_uint_lt(host.memory_us - begun, 1900000);
}
END_TEST

/* Programs one behind another do not keep it from coming. */
START_TEST(test_memory_while_programs_start)
{
	uint64_t begun;
	uint32_t exec = 0;

	host_hello(&host);
	begun = now_us();
	while (host.memories == 0 && now_us() - begun < HOST_DEADLINE_US) {
		struct msg_exec request = host_request(++exec % HOST_EXECS, "no such language");

		if (request.exec == 0)
			continue;
		host.has_exit[request.exec] = false;
		host_send(&host, &(struct msg){.type = FRAME_EXEC, .exec = request});
		HOST_WAIT(&host, host.has_exit[request.exec]);
		host_send(&host,
			  &(struct msg){.type = FRAME_EXIT_ACK, .exec_ref.exec = request.exec});
	}
	ck_assert_uint_ge(host.memories, 1);
}
END_TEST

/* An ordinary process has no identity of a machine to change, but the handshake is the same. */
START_TEST(test_identity_is_acknowledged)
{
	struct msg msg = {.type = FRAME_IDENTITY, .identity = {.id = 5, .hostname = "other"}};
	char before[65], after[65];

	host_hello(&host);
	gethostname(before, sizeof(before));
	host_send(&host, &msg);
	HOST_WAIT(&host, host.done == 1);
	gethostname(after, sizeof(after));
	ck_assert_str_eq(before, after);
}
END_TEST

/* What a host must never send; `len` bytes of it. */
static const struct {
	uint8_t type;
	uint32_t stream;
	const char *payload;
	size_t len;
} bad_frames[] = {
	{99, 0, "", 0},                      /* a type nobody knows */
	{FRAME_EXIT, 0, "{}", 2},            /* the agent's own */
	{FRAME_PING, 0, "{", 1},             /* not JSON */
	{FRAME_EXEC, 0, "{\"exec\":1}", 10}, /* fields missing */
	{FRAME_MEMORY_DROP, 0, "{}", 2},
	{FRAME_MEMORY_DROP, 5, "{\"id\":1}", 8}, /* no control message's stream */
	{FRAME_DATA, 7, "short", 5},             /* no whole offset */
	{FRAME_CREDIT, 5, "0123456789abcdef0", 17},
};

START_TEST(test_bad_frames_and_recovery)
{
	struct msg_exec request = host_request(1, "shell");
	struct msg msg = {.type = FRAME_EXEC, .exec = request};

	host_hello(&host);
	host_send(&host, &msg);
	host_ping(&host);
	host.pongs = 0;
	host_frame(&host, bad_frames[_i].type, bad_frames[_i].stream, bad_frames[_i].payload,
		   bad_frames[_i].len);
	/* Nothing is understood any more, until SYNC and HELLO. */
	host_send(&host, &(struct msg){.type = FRAME_PING, .ping.id = 1});
	host_hello(&host);
	ck_assert_uint_eq(host.pongs, 0);
	host_ping(&host);
	host_kill(&host, 1, 0);
	HOST_WAIT(&host, host.has_exit[1]);
}
END_TEST

START_TEST(test_stream_errors)
{
	struct msg_exec request = host_request(1, "shell");
	struct msg msg = {.type = FRAME_EXEC, .exec = request};
	static const struct {
		enum frame_type type;
		enum frame_substream sub;
		uint64_t first, second;
	} errors[] = {
		{FRAME_DATA, SUBSTREAM_CODE, 10, 0},          /* a gap */
		{FRAME_DATA, SUBSTREAM_CODE, UINT64_MAX, 0},  /* wraps around */
		{FRAME_DATA, SUBSTREAM_STDOUT, 0, 0},         /* not the host's stream */
		{FRAME_END, SUBSTREAM_CODE, 10, 0},           /* bytes missing */
		{FRAME_CREDIT, SUBSTREAM_STDOUT, 5, 262149},  /* never sent */
		{FRAME_CREDIT, SUBSTREAM_STDOUT, 0, 1000000}, /* over a window */
		{FRAME_CREDIT, SUBSTREAM_STDIN, 0, 262144},   /* not the agent's stream */
	};
	uint8_t payload[16];

	host_hello(&host);
	host_send(&host, &msg);
	host_ping(&host);
	host.pongs = 0;
	frame_put_u64(payload, errors[_i].first);
	frame_put_u64(payload + 8, errors[_i].second);
	host_frame(&host, (uint8_t)errors[_i].type, frame_stream_id(1, errors[_i].sub), payload,
		   errors[_i].type == FRAME_END ? 8 : 16);
	host_send(&host, &(struct msg){.type = FRAME_PING, .ping.id = 1});
	host_hello(&host);
	ck_assert_uint_eq(host.pongs, 0);
	host_ping(&host);
}
END_TEST

START_TEST(test_random_garbage)
{
	uint8_t garbage[65536];

	host_hello(&host);
	for (int round = 0; round < 20; round++) {
		random_bytes(garbage, sizeof(garbage));
		host_write(&host, garbage, sizeof(garbage));
		host_hello(&host);
		host_ping(&host);
	}
}
END_TEST

START_TEST(test_streams_of_unknown_runs_are_ignored)
{
	uint8_t payload[16] = {0};

	host_hello(&host);
	host_frame(&host, FRAME_DATA, frame_stream_id(5, SUBSTREAM_STDIN), payload, 16);
	host_frame(&host, FRAME_END, frame_stream_id(5, SUBSTREAM_STDIN), payload, 8);
	host_frame(&host, FRAME_CREDIT, frame_stream_id(5, SUBSTREAM_STDOUT), payload, 16);
	host_ping(&host);
}
END_TEST

START_TEST(test_the_same_exec_runs_once)
{
	struct msg_exec request = host_request(1, "shell");
	struct msg msg = {.type = FRAME_EXEC, .exec = request};

	host_hello(&host);
	host_exec(&host, &request, "echo x >>count; cat count; read line", "", 0);
	host_send(&host, &msg);
	HOST_WAIT(&host, host.has_exit[1]);
	host_send(&host, &msg);
	HOST_WAIT(&host, host.started[1] >= 2);
	host_ping(&host);
	ck_assert_str_eq(host_stdout(&host, 1), "x\n");

	/* Acknowledged, it is forgotten. */
	host_send(&host, &(struct msg){.type = FRAME_EXIT_ACK, .exec_ref.exec = 1});
	host_ping(&host); /* SYNC drops what was not read before it */
	host_hello(&host);
	ck_assert_uint_eq(json_array_size(host.known), 0);
}
END_TEST

START_TEST(test_unacknowledged_runs_are_bounded)
{
	host_hello(&host);
	for (uint32_t exec = 1; exec <= 9; exec++)
		host_run(&host, exec, "shell", "echo x");
	ck_assert_str_eq(host.exits[8].reason, MSG_REASON_EXITED);
	ck_assert_str_eq(host.exits[9].reason, MSG_REASON_FAILED);
	ck_assert_str_eq(host.exits[9].detail, "Too many runs at a time");
	host_send(&host, &(struct msg){.type = FRAME_EXIT_ACK, .exec_ref.exec = 3});
	ck_assert_str_eq(host_run(&host, 10, "shell", "echo x")->reason, MSG_REASON_EXITED);
}
END_TEST

/* A host that takes nothing gets one window, and the program waits; nothing is lost after. */
START_TEST(test_slow_host)
{
	struct msg_exec request = host_request(1, "python");
	const char *code = "import sys\n"
			   "for i in range(100000): sys.stdout.write('%07d\\n' % i)\n";

	host_hello(&host);
	request.stdout_limit = 1 << 20;
	host.holds_credit = true;
	host_exec(&host, &request, code, "", 0);
	HOST_WAIT(&host, host.streams[1][0].len == FLOW_WINDOW);
	host_ping(&host);
	ck_assert(!host.has_exit[1]);
	ck_assert_uint_eq(host.streams[1][0].len, FLOW_WINDOW);
	host_release_credit(&host, frame_stream_id(1, SUBSTREAM_STDOUT));
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_uint_eq(host.streams[1][0].len, 800000);
	for (int i = 0; i < 100000; i++)
		ck_assert_int_eq(strtol(host_stdout(&host, 1) + 8 * i, NULL, 10), i);
	ck_assert_uint_le(host.frames_max, FRAME_DATA_MAX + 8);
}
END_TEST

/* The program is gone; what it wrote waits for credit, and so does EXIT. */
START_TEST(test_output_waits_after_the_end)
{
	struct msg_exec request = host_request(1, "shell");
	uint32_t out = frame_stream_id(1, SUBSTREAM_STDOUT);

	host_hello(&host);
	host.holds_credit = true;
	/* A window and what a pipe holds. */
	host_exec(&host, &request, "head -c 320000 /dev/zero", "", 0);
	HOST_WAIT(&host, host.streams[1][0].len == FLOW_WINDOW);
	host_ping(&host);
	ck_assert(!host.has_exit[1]);
	host_release_credit(&host, out);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_uint_eq(host.streams[1][0].len, 320000);
}
END_TEST

/* The host dies in the middle of a frame and of the output; its successor misses nothing. */
START_TEST(test_reconnect_in_the_middle)
{
	struct msg_exec request = host_request(1, "shell");
	const char half_frame[] = {100, 0, 0, 0, FRAME_PING, 0, 0, 0, 0, '{', '"'};

	host_hello(&host);
	host_exec(&host, &request,
		  "for i in $(seq 1000); do echo $i; done; read x; "
		  "for i in $(seq 1001 2000); do echo $i; done; echo end >&2; exit 4",
		  "", 0);
	HOST_WAIT(&host, host.streams[1][0].len > 0);
	host_write(&host, half_frame, sizeof(half_frame));
	host_reconnect(&host);
	host_hello(&host);
	ck_assert_uint_eq(json_array_size(host.known), 1);
	ck_assert_ptr_nonnull(json_object_get(host.received, "7"));
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_uint_eq(host.exits[1].exit_code, 4);
	ck_assert_uint_eq(host.streams[1][0].len, host.exits[1].stdout_bytes);
	ck_assert_str_eq(host_stderr(&host, 1), "end\n");
	for (int i = 1, at = 0, used; i <= 2000; i++, at += used) {
		int value = 0;

		ck_assert_int_eq(sscanf(host_stdout(&host, 1) + at, "%d\n%n", &value, &used), 1);
		ck_assert_int_eq(value, i);
	}
}
END_TEST

/* The run ends while nobody listens: output and EXIT come with the next HELLO, and again. */
START_TEST(test_exit_survives_the_connection)
{
	struct msg_exec request = host_request(1, "shell");

	host_hello(&host);
	host_exec(&host, &request, "echo kept", "", 0);
	host_reconnect(&host);
	host_hello(&host);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "kept\n");
	host.has_exit[1] = false;
	host_reconnect(&host);
	host_hello(&host);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "kept\n");
}
END_TEST

/* Half of the program's text was received: the successor sends the other half. */
START_TEST(test_code_goes_on_after_reconnect)
{
	struct msg_exec request = host_request(1, "shell");
	struct msg msg = {.type = FRAME_EXEC, .exec = request};
	uint32_t stream = frame_stream_id(1, SUBSTREAM_CODE);
	uint8_t payload[64];

	host_hello(&host);
	host_send(&host, &msg);
	frame_put_u64(payload, 0);
	memcpy(payload + 8, "echo one;", 9);
	host_frame(&host, FRAME_DATA, stream, payload, 17);
	host.code_flow[1].sent = host.code_flow[1].written = 9;
	host_ping(&host);
	host_reconnect(&host);
	host_hello(&host);
	ck_assert_int_eq(json_integer_value(json_object_get(host.received, "7")), 9);
	/* An overlap is skipped. */
	frame_put_u64(payload, 5);
	memcpy(payload + 8, "one;echo two", 12);
	host_frame(&host, FRAME_DATA, stream, payload, 20);
	frame_put_u64(payload, 17);
	host_frame(&host, FRAME_END, stream, payload, 8);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "one\ntwo\n");
}
END_TEST

/* Their answers, 36 bytes each, are well over the agent's queue of 1 MiB and the sockets' buffers.
 */
#define PINGS 50000

/* A host that talks and never reads: its answers are bounded, and SYNC mends it. */
START_TEST(test_host_that_does_not_read)
{
	struct pollfd writable = {.fd = -1, .events = POLLOUT};
	int sent = 0;

	host_hello(&host);
	writable.fd = host.fd;
	/* Until the agent's queue (1 MiB) and both sockets' buffers are surely full. */
	while (sent < PINGS && poll(&writable, 1, 10000) == 1) {
		host_send(&host, &(struct msg){.type = FRAME_PING, .ping.id = INT64_MAX});
		sent++;
	}
	ck_assert_int_eq(sent, PINGS);
	host_reconnect(&host);
	host_hello(&host);
	host.pongs = 0;
	host_ping(&host);
	ck_assert_uint_eq(host.pongs, 1);
}
END_TEST

/* A directory for the agent below the first cgroup v2 mount, or false. */
static bool make_cgroup(char path[PATH_MAX])
{
	static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};

	for (size_t i = 0; i < ELEMENTSOF(mounts); i++) {
		char kill_file[PATH_MAX + 16];

		snprintf(path, PATH_MAX, "%s/execsandbox-test-%d", mounts[i], getpid());
		snprintf(kill_file, sizeof(kill_file), "%s/cgroup.kill", path);
		if (mkdir(path, 0755) < 0)
			continue;
		if (access(kill_file, W_OK) == 0)
			return true;
		rmdir(path);
	}
	return false;
}

START_TEST(test_runs_in_cgroups)
{
	struct msg_exec request = host_request(1, "shell");
	char path[PATH_MAX];

	/* Hosts without a writable cgroup v2 tree have the other tests only; the guest has one. */
	if (!make_cgroup(path))
		return;
	teardown();
	host_start(&host, path);
	host_hello(&host);

	/* Two at once; the end of one leaves the other alone. */
	host_exec(&host, &request, "setsid sleep 98765 & echo up; wait", "", 0);
	HOST_WAIT(&host, strcmp(host_stdout(&host, 1), "up\n") == 0);
	ck_assert_str_eq(host_run(&host, 2, "shell",
				  "setsid sleep 98766 & grep -o 'user/run-' /proc/self/cgroup")
				 ->reason,
			 MSG_REASON_EXITED);
	ck_assert_str_eq(host_stdout(&host, 2), "user/run-\n");
	ck_assert(!host.has_exit[1]);
	host_kill(&host, 1, 0);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_SIGNALED);
	ck_assert_uint_gt(host.exits[1].cpu_user_us + host.exits[1].cpu_system_us, 0);

	teardown();
	/* The agent has removed what it made. */
	ck_assert_int_eq(rmdir(path), 0);
	setup();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_link");
	TCase *tcase = tcase_create("link");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_nothing_is_heard_before_hello);
	tcase_add_test(tcase, test_hello_again_and_again);
	tcase_add_test(tcase, test_memory_on_request_and_by_itself);
	tcase_add_test(tcase, test_memory_behind_a_start);
	tcase_add_test(tcase, test_memory_while_programs_start);
	tcase_add_test(tcase, test_identity_is_acknowledged);
	tcase_add_loop_test(tcase, test_bad_frames_and_recovery, 0, ELEMENTSOF(bad_frames));
	tcase_add_loop_test(tcase, test_stream_errors, 0, 7);
	tcase_add_test(tcase, test_random_garbage);
	tcase_add_test(tcase, test_streams_of_unknown_runs_are_ignored);
	tcase_add_test(tcase, test_the_same_exec_runs_once);
	tcase_add_test(tcase, test_unacknowledged_runs_are_bounded);
	tcase_add_test(tcase, test_slow_host);
	tcase_add_test(tcase, test_output_waits_after_the_end);
	tcase_add_test(tcase, test_reconnect_in_the_middle);
	tcase_add_test(tcase, test_exit_survives_the_connection);
	tcase_add_test(tcase, test_code_goes_on_after_reconnect);
	tcase_add_test(tcase, test_host_that_does_not_read);
	tcase_add_test(tcase, test_runs_in_cgroups);
	suite_add_tcase(suite, tcase);
	return suite;
}
