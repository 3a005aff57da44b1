/* SPDX-License-Identifier: Apache-2.0 */
/* Background processes in the guest: input in pieces, signals, terminals. */
#include "tests/unit/suite.h"
#include "tests/unit/test_agent_host.h"

static struct host host;

static void setup(void)
{
	host_start(&host, NULL);
	host_hello(&host);
}

static void teardown(void)
{
	host_stop(&host);
}

static struct msg_exec background(void)
{
	struct msg_exec request = host_request(1, "shell");

	request.is_background = true;
	return request;
}

/* EXEC and the code; its input goes on. */
static void start(const struct msg_exec *request, const char *code)
{
	struct msg msg = {.type = FRAME_EXEC, .exec = *request};

	host_send(&host, &msg);
	host_feed(&host, frame_stream_id(1, SUBSTREAM_CODE), &host.code_flow[1], code,
		  strlen(code));
	HOST_WAIT(&host, host.started[1] == 1 || host.has_exit[1]);
}

static void type(const char *text)
{
	struct flow_sender *sender = &host.input_flow[1];
	uint8_t payload[8 + FRAME_DATA_MAX];
	const uint8_t *data;
	uint64_t offset;
	size_t len;

	ck_assert_int_eq(flow_sender_write(sender, text, strlen(text)), 0);
	len = flow_sender_next(sender, FRAME_DATA_MAX, &offset, &data);
	ck_assert_uint_eq(len, strlen(text));
	frame_put_u64(payload, offset);
	memcpy(payload + 8, data, len);
	host_frame(&host, FRAME_DATA, frame_stream_id(1, SUBSTREAM_STDIN), payload, 8 + len);
}

static void send_signal(uint64_t number)
{
	host_send(&host,
		  &(struct msg){.type = FRAME_SIGNAL, .signal = {.exec = 1, .signal = number}});
}

static bool has_said(const char *text)
{
	return strstr(host_stdout(&host, 1), text) != NULL;
}

START_TEST(test_input_in_pieces)
{
	struct msg_exec request = background();
	uint8_t end[8];

	start(&request, "read -r line; echo \"got $line\"; cat; echo over >&2");
	type("one\n");
	HOST_WAIT(&host, has_said("got one\n"));
	/* Each byte that was taken is told. */
	HOST_WAIT(&host, host.input_flow[1].taken == 4);
	type("two");
	HOST_WAIT(&host, has_said("two"));
	HOST_WAIT(&host, host.input_flow[1].taken == 7);
	frame_put_u64(end, 7);
	host_frame(&host, FRAME_END, frame_stream_id(1, SUBSTREAM_STDIN), end, sizeof(end));
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stderr(&host, 1), "over\n");
}
END_TEST

/* What it does not read, and what nobody reads any more, does not stay with the host. */
START_TEST(test_input_nobody_reads)
{
	struct msg_exec request = background();

	start(&request, "exec 0<&-; echo closed; sleep 1000");
	HOST_WAIT(&host, has_said("closed"));
	type("lost");
	HOST_WAIT(&host, host.input_flow[1].taken == 4);
	send_signal(SIGKILL);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_uint_eq(host.exits[1].signal, SIGKILL);
}
END_TEST

START_TEST(test_signals)
{
	struct msg_exec request = background();

	start(&request, "trap 'echo usr1' USR1; trap 'echo term; exit 7' TERM; echo on\n"
			"while :; do sleep 0.05; done");
	HOST_WAIT(&host, has_said("on\n"));
	send_signal(SIGUSR1);
	HOST_WAIT(&host, has_said("usr1\n"));
	/* No signals, and no run of that number. */
	send_signal(0);
	send_signal(65);
	send_signal(UINT32_MAX);
	host_send(&host, &(struct msg){.type = FRAME_SIGNAL, .signal = {.exec = 9, .signal = 9}});
	host_send(&host, &(struct msg){.type = FRAME_RESIZE,
				       .resize = {.exec = 1, .rows = 9, .columns = 9}});
	send_signal(SIGTERM);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(host.exits[1].exit_code, 7);
}
END_TEST

START_TEST(test_terminal)
{
	struct msg_exec request = background();

	request.terminal_rows = 31;
	request.terminal_columns = 97;
	start(&request,
	      "trap 'stty size' WINCH; tty -s && echo \"$TERM\"; stty size; echo err >&2\n"
	      "until read -r line; do :; done; echo \"<$line>\"; cat; echo end");
	HOST_WAIT(&host, has_said("xterm-256color\r\n31 97\r\nerr\r\n"));
	ck_assert_str_eq(host_stderr(&host, 1), "");
	host_send(&host, &(struct msg){.type = FRAME_RESIZE,
				       .resize = {.exec = 1, .rows = 5, .columns = 70000}});
	/* It is echoed, and bash has run its trap before it goes on reading. */
	type("typed\r");
	HOST_WAIT(&host, has_said("<typed>\r\n"));
	ck_assert(has_said("typed\r\n"));
	HOST_WAIT(&host, has_said("5 65535\r\n"));
	type("\4");
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert(has_said("end\r\n"));
	ck_assert_uint_eq(host.exits[1].exit_code, 0);
}
END_TEST

/* Ctrl-C is the terminal's to turn into a signal; what the program leaves behind ends with it. */
START_TEST(test_terminal_interrupts)
{
	struct msg_exec request = background();

	request.terminal_rows = request.terminal_columns = 1;
	start(&request, "(trap '' HUP INT; sleep 1000) & echo on; sleep 1000");
	HOST_WAIT(&host, has_said("on\r\n"));
	type("\3");
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_SIGNALED);
	ck_assert_uint_eq(host.exits[1].signal, SIGINT);
}
END_TEST

START_TEST(test_directory_that_is_not_there)
{
	struct msg_exec request = background();

	strcpy(request.cwd, "nowhere");
	start(&request, "echo x");
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_uint_eq(host.exits[1].exit_code, 127);
	ck_assert_ptr_nonnull(strstr(host_stderr(&host, 1), "'nowhere'"));
}
END_TEST

/* The text of one that runs is not another's to replace, and is gone with it. */
START_TEST(test_text_is_its_own)
{
	struct msg_exec request = background();
	struct dirent *entry;
	size_t files = 0;
	DIR *home;

	start(&request, "read -r line; echo \"$0\" \"$line\"");
	type("x\n");
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_ptr_nonnull(strstr(host_stdout(&host, 1), "-main.sh x\n"));
	host_send(&host, &(struct msg){.type = FRAME_EXIT_ACK, .exec_ref.exec = 1});
	host_ping(&host);
	home = opendir(host.home);
	while ((entry = readdir(home)))
		files += entry->d_name[0] != '.';
	closedir(home);
	ck_assert_uint_eq(files, 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_process");
	TCase *tests = tcase_create("process");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_input_in_pieces);
	tcase_add_test(tests, test_input_nobody_reads);
	tcase_add_test(tests, test_signals);
	tcase_add_test(tests, test_terminal);
	tcase_add_test(tests, test_terminal_interrupts);
	tcase_add_test(tests, test_directory_that_is_not_there);
	tcase_add_test(tests, test_text_is_its_own);
	suite_add_tcase(suite, tests);
	return suite;
}
