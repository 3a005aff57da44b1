/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of the guest agent: what programs see, what the host hears, how they end. */
#include "tests/unit/test_agent_host.h"

#include "tests/unit/suite.h"

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

/* Output of a command on this machine, with what the agent's is compared. */
static void local_output(const char *command, char *buf, size_t size)
{
	FILE *pipe = popen(command, "r");
	size_t n;

	ck_assert_ptr_nonnull(pipe);
	n = fread(buf, 1, size - 1, pipe);
	buf[n] = '\0';
	pclose(pipe);
}

static size_t count_processes(const char *marker)
{
	char command[128], buf[16];

	/* The brackets keep the pattern from finding itself. */
	snprintf(command, sizeof(command), "pgrep -cf '[s]leep %s'", marker);
	local_output(command, buf, sizeof(buf));
	return (size_t)strtoul(buf, NULL, 10);
}

START_TEST(test_python_prints)
{
	const struct msg_exit *exit = host_run(&host, 1, "python", "print('hello')");

	ck_assert_str_eq(host_stdout(&host, 1), "hello\n");
	ck_assert_str_eq(host_stderr(&host, 1), "");
	ck_assert_str_eq(exit->reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(exit->exit_code, 0);
	ck_assert_uint_eq(exit->stdout_bytes, 6);
	ck_assert_uint_gt(exit->execute_us, 0);
	ck_assert_uint_gt(exit->cpu_user_us + exit->cpu_system_us, 0);
	ck_assert_uint_gt(exit->memory_peak_bytes, 1 << 20);
	ck_assert_uint_eq(host.started[1], 1);
	ck_assert_ptr_null(exit->error);
}
END_TEST

START_TEST(test_python_sees_a_plain_python)
{
	struct msg_exec request = host_request(1, "python");
	char expected[1024];

	request.args = json_pack("[ss]", "one", "two words");
	request.env = json_pack("{ss}", "COLOUR", "blue");
	host_exec(&host, &request,
		  "import os, sys\n"
		  "print(__name__, __file__, sys.argv, sys.path[0], os.getcwd(), sep='|')\n"
		  "print(os.environ['COLOUR'], os.environ['HOME'], os.environ['LANG'], sep='|')\n"
		  "print(sorted(k for k in os.environ if 'PYTHON' in k or 'EXECSANDBOX' in k))\n"
		  "print([p for p in sys.path if 'runners' in p], sys.stdin.read())\n",
		  "input", 5);
	HOST_WAIT(&host, host.has_exit[1]);
	snprintf(expected, sizeof(expected),
		 "__main__|%s/main.py|['%s/main.py', 'one', 'two words']|%s|%s\n"
		 "blue|%s|C.UTF-8\n[]\n[] input\n",
		 host.home, host.home, host.home, host.home, host.home);
	ck_assert_str_eq(host_stdout(&host, 1), expected);
	json_decref(request.args);
	json_decref(request.env);
}
END_TEST

/* How Python itself would end, for each way to end badly. */
static const struct {
	const char *code, *name, *value;
} bad_ends[] = {
	{"def f():\n    return 1 / 0\nf()\n", "ZeroDivisionError", "division by zero"},
	{"x = (1,\n", "SyntaxError", "'(' was never closed (main.py, line 1)"},
	{"try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('no') from e\n",
	 "ValueError", "no"},
	{"import sys\nsys.exit('reason')\n", NULL, NULL},
	{"import sys\nsys.exit(7)\n", NULL, NULL},
	{"import sys\nsys.excepthook = lambda *a: print('mine')\nraise OSError('x')\n", "OSError",
	 "x"},
	{"import os\nif os.fork() == 0:\n    raise ValueError('child')\nos.wait()\n", NULL, NULL},
	{"raise type('Odd', (Exception,), {'__str__': lambda s: 1/0})()\n", "Odd",
	 "<unprintable Odd object>"},
};

START_TEST(test_python_ends_as_python_does)
{
	const struct msg_exit *exit = host_run(&host, 1, "python", bad_ends[_i].code);
	char command[256], out[4096], err[4096], status[16];

	snprintf(command, sizeof(command), "/usr/bin/python3 %s/main.py 2>/dev/null", host.home);
	local_output(command, out, sizeof(out));
	snprintf(command, sizeof(command), "/usr/bin/python3 %s/main.py 2>&1 >/dev/null",
		 host.home);
	local_output(command, err, sizeof(err));
	snprintf(command, sizeof(command), "/usr/bin/python3 %s/main.py >/dev/null 2>&1; echo $?",
		 host.home);
	local_output(command, status, sizeof(status));

	ck_assert_str_eq(host_stdout(&host, 1), out);
	ck_assert_str_eq(host_stderr(&host, 1), err);
	ck_assert_str_eq(exit->reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(exit->exit_code, strtoul(status, NULL, 10));
	if (!bad_ends[_i].name) {
		ck_assert_ptr_null(exit->error);
		return;
	}
	ck_assert_str_eq(json_string_value(json_object_get(exit->error, "name")),
			 bad_ends[_i].name);
	ck_assert_str_eq(json_string_value(json_object_get(exit->error, "value")),
			 bad_ends[_i].value);
	if (*err)
		ck_assert_str_eq(json_string_value(json_object_get(exit->error, "traceback")), err);
}
END_TEST

START_TEST(test_python_dies_of_interrupt)
{
	const struct msg_exit *exit = host_run(&host, 1, "python", "raise KeyboardInterrupt");

	ck_assert_str_eq(exit->reason, MSG_REASON_SIGNALED);
	ck_assert_uint_eq(exit->signal, SIGINT);
	ck_assert_str_eq(json_string_value(json_object_get(exit->error, "name")),
			 "KeyboardInterrupt");
}
END_TEST

START_TEST(test_python_report_can_be_forged_but_not_break_anything)
{
	const struct msg_exit *exit =
		host_run(&host, 1, "python",
			 "import os\nos.set_blocking(100, False)\n"
			 "try:\n    while True: os.write(100, b'\\xff' * 4096)\n"
			 "except BlockingIOError: pass\nraise ValueError('after')\n");

	ck_assert_str_eq(exit->reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(exit->exit_code, 1);
	ck_assert_ptr_null(exit->error);
}
END_TEST

START_TEST(test_output_comes_as_it_is_written)
{
	struct msg_exec request = host_request(1, "python");
	struct msg msg = {.type = FRAME_EXEC, .exec = request};

	host_send(&host, &msg);
	host_feed(&host, frame_stream_id(1, SUBSTREAM_CODE), &host.code_flow[1],
		  "print('first')\ninput()\nprint('second')\n",
		  strlen("print('first')\ninput()\nprint('second')\n"));
	/* The program waits for its input; its first line is here all the same. */
	HOST_WAIT(&host, strcmp(host_stdout(&host, 1), "first\n") == 0);
	ck_assert(!host.has_exit[1]);
	host_feed(&host, frame_stream_id(1, SUBSTREAM_STDIN), &host.input_flow[1], "\n", 1);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "first\nsecond\n");
}
END_TEST

START_TEST(test_shell)
{
	struct msg_exec request = host_request(1, "shell");

	request.args = json_pack("[s]", "a b");
	host_exec(&host, &request, "echo \"$1\"; cat; echo oops >&2; exit 3", "text", 4);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "a b\ntext");
	ck_assert_str_eq(host_stderr(&host, 1), "oops\n");
	ck_assert_uint_eq(host.exits[1].exit_code, 3);
	json_decref(request.args);
}
END_TEST

START_TEST(test_program_is_confined)
{
	const struct msg_exit *exit = host_run(&host, 1, "shell",
					       "umask; ulimit -c; ls /proc/self/fd | wc -l; "
					       "grep -E '^(NoNewPrivs|Groups)' /proc/self/status; "
					       "ps -o sid= -p $$ | tr -d ' ' | grep -cx $$");

	ck_assert_uint_eq(exit->exit_code, 0);
	/* Three, and the one ls has opened. */
	ck_assert_str_eq(host_stdout(&host, 1),
			 geteuid() == 0 ? "0022\n0\n4\nGroups:\t \nNoNewPrivs:\t1\n1\n"
					: host_stdout(&host, 1));
	ck_assert_ptr_nonnull(strstr(host_stdout(&host, 1), "NoNewPrivs:\t1\n"));
	if (geteuid() == 0) {
		host_run(&host, 2, "shell", "id -u; id -g");
		ck_assert_str_eq(host_stdout(&host, 2), "65534\n65534\n");
	}
}
END_TEST

START_TEST(test_signal_is_told)
{
	const struct msg_exit *exit = host_run(&host, 1, "shell", "kill -SEGV $$");

	ck_assert_str_eq(exit->reason, MSG_REASON_SIGNALED);
	ck_assert_uint_eq(exit->signal, SIGSEGV);
}
END_TEST

START_TEST(test_kill_lets_a_program_clean_up)
{
	struct msg_exec request = host_request(1, "shell");

	host_exec(&host, &request,
		  "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done", "", 0);
	HOST_WAIT(&host, strcmp(host_stdout(&host, 1), "up\n") == 0);
	host_kill(&host, 1, 10000);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "up\nbye\n");
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(host.exits[1].exit_code, 5);
}
END_TEST

START_TEST(test_kill_ends_what_ignores_it)
{
	struct msg_exec request = host_request(1, "shell");
	uint64_t start_us;

	host_exec(&host, &request, "trap '' TERM; setsid sleep 98761 & echo up; wait", "", 0);
	HOST_WAIT(&host, strcmp(host_stdout(&host, 1), "up\n") == 0);
	start_us = now_us();
	host_kill(&host, 1, 50);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_uint_ge(now_us() - start_us, 50000);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_SIGNALED);
	ck_assert_uint_eq(host.exits[1].signal, SIGKILL);
	ck_assert_uint_eq(count_processes("98761"), 0);
}
END_TEST

START_TEST(test_kill_before_the_start)
{
	struct msg_exec request = host_request(1, "shell");
	struct msg msg = {.type = FRAME_EXEC, .exec = request};

	host_send(&host, &msg);
	host_kill(&host, 1, 0);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_FAILED);
	ck_assert_uint_eq(host.started[1], 0);
	/* A kill of a run nobody knows is nothing. */
	host_kill(&host, 9, 0);
	host_ping(&host);
}
END_TEST

/* They hold the output open, and have left the process group: the run ends all the same. */
START_TEST(test_children_end_with_the_run)
{
	const struct msg_exit *exit =
		host_run(&host, 1, "shell",
			 "setsid sleep 98762 & (setsid sh -c 'sleep 98762 & sleep 98762' &) ; "
			 "sleep 98762 & echo started");

	ck_assert_str_eq(exit->reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(exit->exit_code, 0);
	ck_assert_str_eq(host_stdout(&host, 1), "started\n");
	ck_assert_uint_eq(count_processes("98762"), 0);
}
END_TEST

START_TEST(test_large_input_and_code)
{
	size_t input_len = 3 << 20, code_len = 1 << 20;
	struct msg_exec request = host_request(1, "python");
	char *input = malloc(input_len), *code = malloc(code_len + 128);

	memset(input, 'i', input_len);
	memset(code, '#', code_len);
	strcpy(code + code_len, "\nimport sys\nprint(len(sys.stdin.read()))\n");
	host_exec(&host, &request, code, input, input_len);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "3145728\n");

	/* A program that does not want its input ends, and the rest of it is swallowed. */
	request.exec = 2;
	host_exec(&host, &request, "print('no thanks')", input, input_len);
	HOST_WAIT(&host, host.has_exit[2]);
	ck_assert_str_eq(host_stdout(&host, 2), "no thanks\n");
	ck_assert_uint_eq(host.exits[2].exit_code, 0);
	free(input);
	free(code);
}
END_TEST

START_TEST(test_output_over_the_limit_is_counted)
{
	struct msg_exec request = host_request(1, "python");

	request.stdout_limit = 1000;
	request.stderr_limit = 0;
	host_exec(&host, &request,
		  "import sys\nsys.stdout.write('o' * 5000000)\nsys.stderr.write('e' * 70000)\n",
		  "", 0);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(host.exits[1].exit_code, 0);
	ck_assert_uint_eq(host.exits[1].stdout_bytes, 5000000);
	ck_assert_uint_eq(host.exits[1].stderr_bytes, 70000);
	ck_assert_uint_eq(host.streams[1][0].len, 1000);
	ck_assert_uint_eq(host.streams[1][1].len, 0);
}
END_TEST

START_TEST(test_output_limit_ends_the_run_when_asked)
{
	struct msg_exec request = host_request(1, "shell");

	request.stdout_limit = 1000;
	request.stop_at_limit = true;
	host_exec(&host, &request, "yes", "", 0);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_OUTPUT_LIMIT);
	ck_assert_uint_eq(host.streams[1][0].len, 1000);

	/* Exactly the limit is not over it. */
	request.exec = 2;
	host_exec(&host, &request, "head -c 1000 /dev/zero", "", 0);
	HOST_WAIT(&host, host.has_exit[2]);
	ck_assert_str_eq(host.exits[2].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(host.streams[2][0].len, 1000);
}
END_TEST

START_TEST(test_runs_that_cannot_start)
{
	const struct msg_exit *exit = host_run(&host, 1, "cobol", "x");

	ck_assert_str_eq(exit->reason, MSG_REASON_FAILED);
	ck_assert_ptr_nonnull(strstr(exit->detail, "Unknown language 'cobol'"));
	ck_assert_uint_eq(host.started[1], 0);
}
END_TEST

START_TEST(test_working_directory)
{
	struct msg_exec request = host_request(1, "shell");

	strcpy(request.cwd, "/usr");
	host_exec(&host, &request, "pwd", "", 0);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "/usr\n");

	/* One that is not there is the program's failure. */
	request.exec = 2;
	strcpy(request.cwd, "nowhere");
	host_exec(&host, &request, "echo no", "", 0);
	HOST_WAIT(&host, host.has_exit[2]);
	ck_assert_str_eq(host.exits[2].reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(host.exits[2].exit_code, 127);
	ck_assert_str_eq(host_stdout(&host, 2), "");
	ck_assert_ptr_nonnull(strstr(host_stderr(&host, 2), "working directory 'nowhere'"));
}
END_TEST

/* Code of an earlier run may have put anything where the next program's file goes. */
START_TEST(test_program_file_follows_no_link)
{
	char victim[128], link[128];
	struct stat st;
	FILE *file;

	snprintf(victim, sizeof(victim), "%s/victim", host.root);
	snprintf(link, sizeof(link), "%s/main.sh", host.home);
	file = fopen(victim, "w");
	fclose(file);
	ck_assert_int_eq(symlink(victim, link), 0);
	host_run(&host, 1, "shell", "echo through");
	ck_assert_str_eq(host_stdout(&host, 1), "through\n");
	ck_assert_int_eq(stat(victim, &st), 0);
	ck_assert_int_eq(st.st_size, 0);

	/* What is there is the user's, and stays; so does a directory. */
	ck_assert_int_eq(unlink(link), 0);
	ck_assert_int_eq(mkdir(link, 0755), 0);
	host_run(&host, 2, "shell", "echo x");
	ck_assert_str_eq(host_stdout(&host, 2), "x\n");
	ck_assert_int_eq(rmdir(link), 0);
	/* A text that nobody has changed goes with its program. */
	host_run(&host, 3, "shell", "echo x");
	ck_assert_int_eq(access(link, F_OK), -1);
	host_run(&host, 4, "shell", "echo 'echo y' >main.sh");
	ck_assert_int_eq(access(link, F_OK), 0);
}
END_TEST

START_TEST(test_one_run_at_a_time_without_cgroups)
{
	struct msg_exec request = host_request(1, "shell");

	host_exec(&host, &request, "read line; echo $line", "", 0);
	request.exec = 2;
	host_exec(&host, &request, "echo never", "", 0);
	HOST_WAIT(&host, host.has_exit[2]);
	ck_assert_str_eq(host.exits[2].reason, MSG_REASON_FAILED);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_EXITED);
}
END_TEST

START_TEST(test_agent_ends_runs_when_it_ends)
{
	struct msg_exec request = host_request(1, "shell");

	host_exec(&host, &request, "setsid sleep 98763 & echo up; wait", "", 0);
	HOST_WAIT(&host, strcmp(host_stdout(&host, 1), "up\n") == 0);
	teardown();
	ck_assert_uint_eq(count_processes("98763"), 0);
	setup();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_run");
	TCase *tcase = tcase_create("runs");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_python_prints);
	tcase_add_test(tcase, test_python_sees_a_plain_python);
	tcase_add_loop_test(tcase, test_python_ends_as_python_does, 0, ELEMENTSOF(bad_ends));
	tcase_add_test(tcase, test_python_dies_of_interrupt);
	tcase_add_test(tcase, test_python_report_can_be_forged_but_not_break_anything);
	tcase_add_test(tcase, test_output_comes_as_it_is_written);
	tcase_add_test(tcase, test_shell);
	tcase_add_test(tcase, test_program_is_confined);
	tcase_add_test(tcase, test_signal_is_told);
	tcase_add_test(tcase, test_kill_lets_a_program_clean_up);
	tcase_add_test(tcase, test_kill_ends_what_ignores_it);
	tcase_add_test(tcase, test_kill_before_the_start);
	tcase_add_test(tcase, test_children_end_with_the_run);
	tcase_add_test(tcase, test_large_input_and_code);
	tcase_add_test(tcase, test_output_over_the_limit_is_counted);
	tcase_add_test(tcase, test_output_limit_ends_the_run_when_asked);
	tcase_add_test(tcase, test_runs_that_cannot_start);
	tcase_add_test(tcase, test_working_directory);
	tcase_add_test(tcase, test_program_file_follows_no_link);
	tcase_add_test(tcase, test_one_run_at_a_time_without_cgroups);
	tcase_add_test(tcase, test_agent_ends_runs_when_it_ends);
	suite_add_tcase(suite, tcase);
	return suite;
}
