/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter of a session: what it keeps, how it ends, and what a lie of it costs. */
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

static void begin(uint32_t exec, const char *language, const char *code, const char *input)
{
	struct msg_exec request = host_request(exec, language);

	request.is_resident = true;
	host_exec(&host, &request, code, input, strlen(input));
}

static const struct msg_exit *run(uint32_t exec, const char *code)
{
	begin(exec, "python", code, "");
	HOST_WAIT(&host, host.has_exit[exec]);
	return &host.exits[exec];
}

static void assert_exited(const struct msg_exit *exit, uint64_t code)
{
	ck_assert_str_eq(exit->reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(exit->exit_code, code);
}

START_TEST(test_keeps_what_it_defines)
{
	assert_exited(run(1, "import os\nx = 40\nprint(os.getpid())"), 0);
	assert_exited(run(2, "print(os.getpid())"), 0);
	ck_assert_str_eq(host_stdout(&host, 1), host_stdout(&host, 2));
	begin(3, "python", "import sys\nx + len(sys.stdin.read())", "ab");
	HOST_WAIT(&host, host.has_exit[3]);
	ck_assert_str_eq(host_stdout(&host, 3), "42\n");
	/* A process of its own does not disturb it. */
	host_run(&host, 4, "shell", "echo x");
	assert_exited(run(5, "x"), 0);
	ck_assert_str_eq(host_stdout(&host, 5), "40\n");
}
END_TEST

/* One that waits becomes it, with the session's variables, and so does each that follows. */
START_TEST(test_waiting_one_becomes_it)
{
	static const char look[] = "import os\n"
				   "print(os.environ['COLOR'], os.environ['EMPTY'] == '')";
	char expected[128];

	host_prepare(&host, "python", 1);
	ck_assert(host_prepare_resident(&host, "python",
					json_pack("{s:s, s:s}", "COLOR", "red", "EMPTY", "")));
	assert_exited(run(1, look), 0);
	ck_assert_str_eq(host_stdout(&host, 1), "red True\n");
	assert_exited(run(2, "import gc, sys\n"
			     "print(sys.path[0] == '', sys.argv, [name for name in os.environ if "
			     "'EXECSANDBOX' in name], os.listdir('/proc/self/fd'), os.getcwd())"),
		      0);
	snprintf(expected, sizeof(expected), "True [''] [] ['0', '1', '2', '3', '101'] %s\n",
		 host.home);
	ck_assert_str_eq(host_stdout(&host, 2), expected);
	assert_exited(run(3, "os.environ['COLOR'] = 'blue'\n1 / 0"), 1);
	ck_assert_ptr_null(strstr(host_stderr(&host, 3), "resident"));
	assert_exited(run(4, "def f():\n    return os.environ['COLOR']\nprint(f())\nos._exit(3)"),
		      3);
	ck_assert_str_eq(host_stdout(&host, 4), "blue\n");
	assert_exited(run(5, look), 0);
	ck_assert_str_eq(host_stdout(&host, 5), "red True\n");
}
END_TEST

/* Others that wait go when a program begins; it does not. */
START_TEST(test_waiting_one_is_kept)
{
	host_prepare(&host, "python", 1);
	ck_assert(host_prepare_resident(&host, "python", NULL));
	host_run(&host, 1, "shell", "sleep 0.6; echo $$");
	assert_exited(run(2, "import os\nprint(os.getpid())"), 0);
	ck_assert_int_lt(strtol(host_stdout(&host, 2), NULL, 10),
			 strtol(host_stdout(&host, 1), NULL, 10));
}
END_TEST

START_TEST(test_exception_is_reported)
{
	const struct msg_exit *exit = run(1, "x = 1\nraise ValueError('no')");

	assert_exited(exit, 1);
	ck_assert_str_eq(json_string_value(json_object_get(exit->error, "name")), "ValueError");
	ck_assert_str_eq(json_string_value(json_object_get(exit->error, "value")), "no");
	ck_assert_ptr_nonnull(strstr(host_stderr(&host, 1), "raise ValueError('no')"));
	exit = run(2, "print(x)");
	assert_exited(exit, 0);
	ck_assert_ptr_null(exit->error);
}
END_TEST

START_TEST(test_fresh_one_follows)
{
	assert_exited(run(1, "x = 1\nimport os\nos._exit(7)"), 7);
	assert_exited(run(2, "'x' in globals()"), 0);
	ck_assert_str_eq(host_stdout(&host, 2), "False\n");
	begin(3, "python", "x = 1\nprint('on', flush=True)\nwhile True:\n    pass", "");
	HOST_WAIT(&host, strcmp(host_stdout(&host, 3), "on\n") == 0);
	host_kill(&host, 3, 0);
	HOST_WAIT(&host, host.has_exit[3]);
	ck_assert_str_eq(host.exits[3].reason, MSG_REASON_SIGNALED);
	ck_assert_uint_eq(host.exits[3].signal, SIGKILL);
	assert_exited(run(4, "'x' in globals()"), 0);
	ck_assert_str_eq(host_stdout(&host, 4), "False\n");
}
END_TEST

START_TEST(test_child_does_not_answer)
{
	assert_exited(run(1, "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n"
			     "else:\n    raise SystemExit(3)\nprint('parent')"),
		      0);
	ck_assert_str_eq(host_stdout(&host, 1), "parent\n");
}
END_TEST

/* What finds the channel and writes there spoils its own session's programs, and those alone. */
START_TEST(test_lies)
{
	/* Says that it is over, and is not. */
	assert_exited(run(1, "import os\nos.write(101, bytes(5))\nprint('on')"), 0);
	/* A report without an end: its program is over when it is killed. */
	begin(2, "python", "import os\nos.write(101, b'\\xff' * 100000)", "");
	for (int i = 0; i < 20; i++)
		host_ping(&host);
	host_kill(&host, 2, 0);
	HOST_WAIT(&host, host.has_exit[2]);
	/* The channel is closed. */
	begin(3, "python", "import os\nos.close(101)", "");
	for (int i = 0; i < 20; i++)
		host_ping(&host);
	host_kill(&host, 3, 0);
	HOST_WAIT(&host, host.has_exit[3]);
	assert_exited(run(4, "1"), 0);
	ck_assert_str_eq(host_stdout(&host, 4), "1\n");
}
END_TEST

/* What a program has left writes on and lives; nobody hears it, and nobody waits for it. */
START_TEST(test_background_writers)
{
	const struct msg_exit *exit =
		run(1, "import subprocess\n"
		       "p = [subprocess.Popen(['yes']), subprocess.Popen(['sh', '-c', "
		       "'sleep 0.2; echo late; sleep 0.2; echo alive >late; sleep 1000'])]\n"
		       "print('mine', flush=True)");

	assert_exited(exit, 0);
	ck_assert_ptr_nonnull(strstr(host_stdout(&host, 1), "mine\n"));
	ck_assert_ptr_null(strstr(host_stdout(&host, 1), "late"));
	assert_exited(run(2, "import os, time\nuntil = time.time() + 30\n"
			     "while not os.path.exists('late') and time.time() < until:\n"
			     "    time.sleep(0.05)\n"
			     "print([q.poll() for q in p], os.path.exists('late'))\n"
			     "[q.kill() for q in p]"),
		      0);
	ck_assert_str_eq(strstr(host_stdout(&host, 2), "[None, ") ?: host_stdout(&host, 2),
			 "[None, None] True\n[None, None]\n");
}
END_TEST

/* One that is told to end is not handed on, though its program says that it is done. */
START_TEST(test_killed_one_is_not_handed_on)
{
	begin(1, "python",
	      "import signal, time\nx = 1\n"
	      "class Stop(Exception):\n    pass\n"
	      "def stop(*_):\n    raise Stop\n"
	      "signal.signal(signal.SIGTERM, stop)\nprint('on', flush=True)\n"
	      "try:\n    time.sleep(100)\nexcept Stop:\n    pass",
	      "");
	HOST_WAIT(&host, strcmp(host_stdout(&host, 1), "on\n") == 0);
	host_kill(&host, 1, 5000);
	HOST_WAIT(&host, host.has_exit[1]);
	assert_exited(run(2, "'x' in globals()"), 0);
	ck_assert_str_eq(host_stdout(&host, 2), "False\n");
}
END_TEST

START_TEST(test_output_of_threads)
{
	uint64_t until_us = now_us() + 1000000;

	assert_exited(
		run(1, "import threading, time\nthreading.Timer(0.1, print, ['late']).start()"), 0);
	while (now_us() < until_us)
		host_ping(&host);
	assert_exited(run(2, "print('two')"), 0);
	ck_assert_str_eq(host_stdout(&host, 2), "two\n");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_resident");
	TCase *tests = tcase_create("resident");

	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_keeps_what_it_defines);
	tcase_add_test(tests, test_waiting_one_becomes_it);
	tcase_add_test(tests, test_waiting_one_is_kept);
	tcase_add_test(tests, test_exception_is_reported);
	tcase_add_test(tests, test_fresh_one_follows);
	tcase_add_test(tests, test_child_does_not_answer);
	tcase_add_test(tests, test_lies);
	tcase_add_test(tests, test_background_writers);
	tcase_add_test(tests, test_killed_one_is_not_handed_on);
	tcase_add_test(tests, test_output_of_threads);
	suite_add_tcase(suite, tests);
	return suite;
}
