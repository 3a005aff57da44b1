/* SPDX-License-Identifier: Apache-2.0 */
/* The shell of a session: what it keeps, what ends a program of it, and what ends it. */
#include "tests/unit/suite.h"
#include "tests/unit/test_agent_host.h"

static struct host host;
static uint32_t number;

static void setup(void)
{
	number = 0;
	host_start(&host, NULL);
	host_hello(&host);
}

static void teardown(void)
{
	host_stop(&host);
}

static void begin(const char *code, const char *input, json_t *env_take)
{
	struct msg_exec request = host_request(++number, "shell");

	ck_assert_uint_lt(number, HOST_EXECS);
	request.is_resident = true;
	request.env = env_take;
	host_exec(&host, &request, code, input, strlen(input));
	json_decref(env_take);
}

static const struct msg_exit *end(void)
{
	struct msg ack = {.type = FRAME_EXIT_ACK, .exec_ref = {.exec = number}};

	HOST_WAIT(&host, host.has_exit[number]);
	host_send(&host, &ack);
	return &host.exits[number];
}

/* One program that runs to its end: what comes out. `stderr` is a piece of it; NULL: there is none.
 */
static void check(const char *code, const char *input, int status, const char *stdout,
		  const char *stderr)
{
	const struct msg_exit *exit;
	const char *said;

	begin(code, input, NULL);
	exit = end();
	said = host_stderr(&host, number);
	ck_assert_msg(strcmp(exit->reason, MSG_REASON_EXITED) == 0, "%s: %s", code, exit->reason);
	ck_assert_msg((int)exit->exit_code == status, "%s: status %d", code, (int)exit->exit_code);
	ck_assert_msg(strcmp(host_stdout(&host, number), stdout) == 0, "%s: '%s'", code,
		      host_stdout(&host, number));
	ck_assert_msg(stderr ? strstr(said, stderr) != NULL : !*said, "%s: '%s'", code, said);
}

static void check_ok(const char *code, const char *stdout)
{
	check(code, "", 0, stdout, NULL);
}

static void check_ends(const char *code, int status, const char *stdout, const char *stderr)
{
	check(code, "", status, stdout, stderr);
}

START_TEST(test_keeps_what_it_defines)
{
	check_ok("x=5 pid=$$; export y=6; f() { local x=7; echo \"f $x $1\"; }; alias a='echo "
		 "alias'\n"
		 "mkdir d; cd d; set -o pipefail; shopt -s nullglob; set -- p q; exec 7>kept",
		 "");
	check_ok("echo $x $(printenv y) ${PWD##*/} $2; f 8; a 9; true | false | true || echo "
		 "piped\n"
		 "echo no*; [ $pid = $$ ] && echo same; echo on >&7; cat kept",
		 "5 6 d q\nf 7 8\nalias 9\npiped\n\nsame\non\n");
	check_ends("false", 1, "", NULL);
	check_ok("echo $? $0 $LINENO ${#FUNCNAME[@]} \"$BASH_SOURCE\"", "1 bash 1 0 \n");
	check_ok("# nothing\n\n", "");
	check_ok("sleep 1000 &", "");
	check_ends("jobs -r | grep -c sleep; kill %1; wait %1 2>/dev/null", 143, "1\n", NULL);
	check_ends("unset x y; unset -f f; unalias a; echo \"$x$y\"; f", 127, "\n",
		   "bash: line 1: f: ");
	/* Another process of a shell is not this one. */
	host_run(&host, ++number, "shell", "echo $y");
	ck_assert_str_eq(host_stdout(&host, number), "\n");
}
END_TEST

START_TEST(test_ends_of_a_program)
{
	check_ends("x=1; f() { local y=2; for i in 1 2; do exit 7; done; echo no; }; f; echo no", 7,
		   "", NULL);
	check_ends("echo \"$? $x $y\"; local y", 1, "7 1 \n", "only be used in a function");
	check_ends("set -e; g() { local y=2; false; echo no; }; g; echo no", 1, "", NULL);
	check_ends("echo $x; h() { eval 'g'; echo no; }; h 1 2; echo no", 1, "1\n", NULL);
	check_ends("set +e; echo \"$x$y\"; return 3", 2, "1\n", "return");
	check_ends("break; echo on", 0, "on\n", "break");
	check_ends("echo ${nope:?is missing}; echo no", 1, "", "is missing");
	check_ends("echo $((1 / 0))\necho on", 0, "on\n", "division by 0");
	check_ends("(exit 4); echo $?; exit 5 | cat; { exit 6; } & wait $!", 6, "4\n", NULL);
	check_ends("trap 'exit 8' USR1; kill -USR1 $$; echo no", 8, "", NULL);
	check_ends("echo 'exit 9' >file; . ./file; echo no", 9, "", NULL);
	check_ok("set -n\necho no", "");
	check_ok("echo $x", "1\n");
}
END_TEST

START_TEST(test_syntax_errors)
{
	check_ends("x=1\nfi\nx=2", 2, "", "bash: line 2: syntax error near unexpected token `fi'");
	check_ends("echo $x; echo 'no end", 2, "", "unexpected EOF while looking for matching `''");
	check_ends("if true; then", 2, "", "unexpected end of file");
	check_ok("echo $x $?", "1 2\n");
	check_ends("eval 'echo ('; echo on", 0, "on\n", "syntax error");
	check_ends("cat <<end\n$x\nend\ncat <<'end'\n$x\n", 0, "1\n$x\n",
		   "delimited by end-of-file");
}
END_TEST

START_TEST(test_traps)
{
	check_ends("trap 'echo bye $?' EXIT; echo in; exit 4", 4, "in\nbye 4\n", NULL);
	check_ok("trap -p", "");
	check_ends("trap 'echo late; exit 3' EXIT", 3, "late\n", NULL);
	check_ok("(trap 'echo inner' EXIT); echo outer", "inner\nouter\n");
	check_ok("trap 'echo usr' USR1; trap 'echo err' ERR", "");
	check_ok("kill -USR1 $$; false; true", "usr\nerr\n");
	check_ends("trap - USR1 ERR; false", 1, "", NULL);
	check_ok("set -x", "");
	check_ends("set +x", 0, "", "+ set +x\n");
	check_ok("trap 'echo \"> $BASH_COMMAND\"' DEBUG", "");
	check_ok("trap - DEBUG", "> trap - DEBUG\n");
}
END_TEST

START_TEST(test_streams)
{
	check("read a b; echo $b; cat", "1 2\nrest", 0, "2\nrest", NULL);
	check_ok("read a || echo none; cat", "none\n");
	check("while read -r l; do echo \"[$l]\"; done | tac; exec 1>file; echo kept", "a\nb\n", 0,
	      "[b]\n[a]\n", NULL);
	check_ends("cat file; echo err >&2", 0, "kept\n", "err\n");
	check("mapfile -t m; echo ${#m[@]} ${m[1]}; ls /proc/self/fd", "a\nb\nc\n", 0,
	      "3 b\n0\n1\n2\n3\n", NULL);
	check_ok("echo a\r\nif true; then\r\n\techo b\r\nfi\r\n", "a\nb\n");
	check_ok("cat <<'end' | wc -c\na\r\nend\n", "3\n");
	check_ok("#!/bin/sh -e\necho $LINENO", "2\n");
	check_ok("cat <(echo sub); echo $(echo a; exit 1)", "sub\na\n");
}
END_TEST

START_TEST(test_variables)
{
	char expected[128];

	snprintf(expected, sizeof(expected), "round\nred\n%s\n", host.home);
	begin("printenv SHAPE; SHAPE=square; echo $COLOR; echo \"$PWD\"", "",
	      json_pack("{s:s, s:s, s:s, s:s}", "COLOR", "red", "SHAPE", "round", "IFS", "x", "PWD",
			"/nowhere"));
	ck_assert_uint_eq(end()->exit_code, 0);
	ck_assert_str_eq(host_stdout(&host, number), expected);
	/* What the program has set itself stays. */
	check_ok("echo \"$SHAPE [${COLOR-unset}]\"; printf '%q\\n' \"$IFS\"; readonly LOCKED=1",
		 "square [unset]\n$' \\t\\n'\n");
	begin("echo $LOCKED $SHAPE; unset SHAPE", "",
	      json_pack("{s:s, s:s}", "LOCKED", "2", "SHAPE", "flat"));
	ck_assert_uint_eq(end()->exit_code, 0);
	ck_assert_str_eq(host_stdout(&host, number), "1 flat\n");
	check_ok("echo \"[$SHAPE]\"", "[]\n");
}
END_TEST

START_TEST(test_large_programs)
{
	static const char line[] = "x=$((x + 1))\n";
	size_t count = (1 << 20) / (sizeof(line) - 1);
	char *code = malloc(count * (sizeof(line) - 1) + 1), expected[32];

	for (size_t i = 0; i < count; i++)
		memcpy(code + i * (sizeof(line) - 1), line, sizeof(line));
	begin(code, "", NULL);
	free(code);
	ck_assert_uint_eq(end()->exit_code, 0);
	snprintf(expected, sizeof(expected), "%zu\n", count);
	check_ok("echo $x", expected);
}
END_TEST

/* One that waits becomes it, with the session's variables, and so does each that follows. */
START_TEST(test_waiting_one_becomes_it)
{
	host_prepare(&host, "shell", 2);
	ck_assert(!host_prepare_resident(&host, "shell",
					 json_pack("{s:s, s:s}", "COLOR", "red", "EMPTY", "")));
	check_ok("printenv COLOR; echo \"${EMPTY-unset} $0 $# ${#FUNCNAME[@]} $-\"\n"
		 "ls /proc/self/fd; compgen -v | grep EXECSANDBOX; :",
		 "red\n bash 0 0 hB\n0\n1\n2\n3\n");
	check_ends("COLOR=blue; alias a='echo alias'; kill -0 $$; exit 3", 3, "", NULL);
	check_ends("a $COLOR; f() { return 4; }; f", 4, "alias blue\n", NULL);
	check_ends("fi", 2, "", "bash: line 1: syntax error");
	check_ok("sleep 0 & wait; echo <(:) | grep -c fd", "1\n");
	begin("kill -9 $$", "", NULL);
	ck_assert_uint_eq(end()->signal, SIGKILL);
	check_ok("printenv COLOR", "red\n");
	/* What bash reads at its own start is known to one that is started for it alone. */
	ck_assert(
		!host_prepare_resident(&host, "python", json_pack("{s:s}", "PYTHONHASHSEED", "1")));
	begin("kill -9 $$", "", NULL);
	end();
	host_prepare(&host, "shell", 1);
	ck_assert(!host_prepare_resident(&host, "shell", json_pack("{s:s}", "LC_ALL", "C")));
	check_ok("x=ü; printenv LC_ALL; echo ${#x}", "C\n2\n");
}
END_TEST

/* What ends the shell: the next program has another, and the files. */
START_TEST(test_fresh_one_follows)
{
	static const struct {
		const char *code, *reason;
		uint64_t value;
	} ends[] = {
		{"kill -9 $$", MSG_REASON_SIGNALED, SIGKILL},
		{"trap 'echo bye' EXIT; kill -TERM $$; :", MSG_REASON_SIGNALED, SIGTERM},
		{"exec sh -c 'exit 6'", MSG_REASON_EXITED, 6},
		{"exec /no/program", MSG_REASON_EXITED, 127},
		{"exec 101>&-", MSG_REASON_EXITED, 0},
	};

	for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
		const struct msg_exit *exit;

		check_ok("echo \"[$x]\"; x=1; : >>kept", "[]\n");
		begin(ends[i].code, "", NULL);
		exit = end();
		ck_assert_str_eq(exit->reason, ends[i].reason);
		ck_assert_uint_eq(exit->exit_code + exit->signal, ends[i].value);
	}
	check_ok("echo \"[$x]\"; x=1; ls", "[]\nkept\n");
	begin("echo on; while :; do :; done", "", NULL);
	HOST_WAIT(&host, strcmp(host_stdout(&host, number), "on\n") == 0);
	host_kill(&host, number, 0);
	ck_assert_uint_eq(end()->signal, SIGKILL);
	check_ok("echo \"[$x]\"", "[]\n");
}
END_TEST

/* Subshells, jobs, programs: none has the channel, and none ends the program for the shell. */
START_TEST(test_children_do_not_answer)
{
	static const char lie[] = "printf '\\0\\0\\0\\0\\0' >&101";
	char code[256];

	snprintf(code, sizeof(code),
		 "(%s) 2>/dev/null || echo none\n{ %s; } 2>/dev/null & wait $! || echo none\n"
		 "sh -c 'echo >&101' 2>/dev/null || echo none\necho end",
		 lie, lie);
	check_ok(code, "none\nnone\nnone\nend\n");
	check_ends("enable -f ~/../runners/shell/resident.so resident; echo on", 0, "on\n",
		   "failure");
	check_ok("echo on", "on\n");
	/* The shell itself can say that it is over, and is not: its own session's loss. */
	begin(lie, "", NULL);
	ck_assert_uint_eq(end()->exit_code, 0);
}
END_TEST

/* What a program has left writes on and lives; nobody hears it, and nobody waits for it. */
START_TEST(test_background_writers)
{
	check_ok("mkfifo go came; { cat go; echo late; echo alive >came; } & yes >/dev/null & echo "
		 "mine",
		 "mine\n");
	check_ok("echo >go; cat came; kill %2; wait %1; echo $?", "alive\n0\n");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_shell");
	TCase *tests = tcase_create("shell");

	tcase_set_timeout(tests, 120);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_keeps_what_it_defines);
	tcase_add_test(tests, test_ends_of_a_program);
	tcase_add_test(tests, test_syntax_errors);
	tcase_add_test(tests, test_traps);
	tcase_add_test(tests, test_streams);
	tcase_add_test(tests, test_variables);
	tcase_add_test(tests, test_large_programs);
	tcase_add_test(tests, test_waiting_one_becomes_it);
	tcase_add_test(tests, test_fresh_one_follows);
	tcase_add_test(tests, test_children_do_not_answer);
	tcase_add_test(tests, test_background_writers);
	suite_add_tcase(suite, tests);
	return suite;
}
