/* SPDX-License-Identifier: Apache-2.0 */
/* Interpreters of the guest agent that wait: PREPARE, the run that takes one, what it cannot see.
 */
#include "tests/unit/test_agent_host.h"

#include "guest-agent/go.h"

#include "tests/unit/suite.h"

#define CHILDREN_MAX 16

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

struct children {
	pid_t pids[CHILDREN_MAX];
	size_t len;
};

/* The agent's children as the kernel lists them; zombies too. */
static struct children children(void)
{
	struct children found = {0};
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", host.agent, host.agent);
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	while (found.len < CHILDREN_MAX && fscanf(file, "%d", &found.pids[found.len]) == 1)
		found.len++;
	fclose(file);
	return found;
}

static bool is_among(const struct children *them, pid_t pid)
{
	for (size_t i = 0; i < them->len; i++)
		if (them->pids[i] == pid)
			return true;
	return false;
}

/* The agent reaps by itself; a PING between two looks makes progress visible. */
static void wait_for_children(size_t len)
{
	uint64_t deadline_us = now_us() + HOST_DEADLINE_US;

	while (children().len != len) {
		ck_assert_msg(now_us() < deadline_us, "%zu children are left", children().len);
		host_ping(&host);
	}
}

static const char *const who_am_i[] = {"import os\nprint(os.getpid())\n", "echo $$\n"};
static const char *const languages[] = {"python", "shell"};

START_TEST(test_prepare_and_run)
{
	const struct msg_prepared *prepared = host_prepare(&host, languages[_i], 2);
	struct children waiting = children();
	const struct msg_exit *exit;

	ck_assert_uint_eq(prepared->waiting, 2);
	ck_assert_str_eq(prepared->detail, "");
	ck_assert_uint_eq(waiting.len, 2);
	/* The same again changes nothing. */
	ck_assert_uint_eq(host_prepare(&host, languages[_i], 2)->waiting, 2);
	ck_assert_uint_eq(children().len, 2);

	exit = host_run(&host, 1, languages[_i], who_am_i[_i]);
	ck_assert_str_eq(exit->reason, MSG_REASON_EXITED);
	ck_assert_uint_eq(exit->exit_code, 0);
	ck_assert_str_eq(host_stderr(&host, 1), "");
	ck_assert_uint_eq(host.started[1], 1);
	ck_assert(is_among(&waiting, (pid_t)strtol(host_stdout(&host, 1), NULL, 10)));
	/* User code ran: nobody waits any more. */
	wait_for_children(0);
	host_run(&host, 2, languages[_i], who_am_i[_i]);
	ck_assert(!is_among(&waiting, (pid_t)strtol(host_stdout(&host, 2), NULL, 10)));
}
END_TEST

static const struct msg_exit *rehearse(uint32_t exec, const char *language, const char *code)
{
	struct msg_exec request = host_request(exec, language);

	request.is_rehearsal = true;
	host_exec(&host, &request, code, "", 0);
	HOST_WAIT(&host, host.has_exit[exec]);
	return &host.exits[exec];
}

START_TEST(test_rehearsal_leaves_the_others)
{
	struct children waiting;
	pid_t first, second;

	ck_assert_uint_eq(host_prepare(&host, languages[_i], 2)->waiting, 2);
	waiting = children();
	ck_assert_str_eq(rehearse(1, languages[_i], who_am_i[_i])->reason, MSG_REASON_EXITED);
	first = (pid_t)strtol(host_stdout(&host, 1), NULL, 10);
	ck_assert_uint_eq(children().len, 1);
	ck_assert_str_eq(host_run(&host, 2, languages[_i], who_am_i[_i])->reason,
			 MSG_REASON_EXITED);
	second = (pid_t)strtol(host_stdout(&host, 2), NULL, 10);
	ck_assert_int_ne(first, second);
	ck_assert(is_among(&waiting, first) && is_among(&waiting, second));
}
END_TEST

START_TEST(test_run_of_another_language_ends_them)
{
	ck_assert_uint_eq(host_prepare(&host, "python", 1)->waiting, 1);
	ck_assert_uint_eq(host_prepare(&host, "shell", 2)->waiting, 2);
	ck_assert_uint_eq(children().len, 3);
	host_run(&host, 1, "shell", "echo x");
	ck_assert_str_eq(host_stdout(&host, 1), "x\n");
	wait_for_children(0);
}
END_TEST

START_TEST(test_prepare_says_why_not)
{
	const struct msg_prepared *prepared = host_prepare(&host, "cobol", 1);

	ck_assert_uint_eq(prepared->waiting, 0);
	ck_assert_ptr_nonnull(strstr(prepared->detail, "Unknown language 'cobol'"));
	prepared = host_prepare(&host, "shell", 5);
	ck_assert_uint_eq(prepared->waiting, 0);
	ck_assert_str_eq(prepared->detail, "At most 4 may wait");
	ck_assert_uint_eq(host_prepare(&host, "shell", 4)->waiting, 4);
	/* None. */
	prepared = host_prepare(&host, "shell", 0);
	ck_assert_uint_eq(prepared->waiting, 0);
	ck_assert_str_eq(prepared->detail, "");
	wait_for_children(0);
}
END_TEST

START_TEST(test_newer_prepare_answers_the_older)
{
	uint64_t first = host_send_prepare(&host, "python", 1);
	uint64_t second = host_send_prepare(&host, "python", 2);

	HOST_WAIT(&host, host.prepared.id == first);
	ck_assert_str_eq(host.prepared.detail, "Another PREPARE came");
	HOST_WAIT(&host, host.prepared.id == second);
	ck_assert_uint_eq(host.prepared.waiting, 2);
}
END_TEST

/* A run comes before they are up: it starts its own, and the PREPARE hears of it. */
START_TEST(test_run_before_they_wait)
{
	struct msg_exec request = host_request(1, "shell");
	uint64_t id = host_send_prepare(&host, "python", 2);

	host_exec(&host, &request, "echo early", "", 0);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "early\n");
	ck_assert_uint_eq(host.prepared.id, id);
	ck_assert_uint_eq(host.prepared.waiting, 0);
	ck_assert_str_eq(host.prepared.detail, "A run has begun");
	wait_for_children(0);
}
END_TEST

START_TEST(test_hook_that_fails)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/runners/shell.sh", host.root);
	file = fopen(path, "w");
	fputs("exit 1\n", file);
	fclose(file);
	ck_assert_uint_eq(host_prepare(&host, "shell", 2)->waiting, 0);
	ck_assert_str_eq(host.prepared.detail, "An interpreter ended before it waited");
	host_run(&host, 1, "shell", "echo all the same");
	ck_assert_str_eq(host_stdout(&host, 1), "all the same\n");
}
END_TEST

/* Whatever kills it while it waits: the run starts another. */
START_TEST(test_death_while_waiting)
{
	struct children waiting;

	ck_assert_uint_eq(host_prepare(&host, languages[_i], 1)->waiting, 1);
	waiting = children();
	kill(waiting.pids[0], SIGKILL);
	wait_for_children(0);
	host_run(&host, 1, languages[_i], who_am_i[_i]);
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_EXITED);
	ck_assert_str_ne(host_stdout(&host, 1), "");
	ck_assert(!is_among(&waiting, (pid_t)strtol(host_stdout(&host, 1), NULL, 10)));
}
END_TEST

/* Outputs are longer than what check can print. */
static void assert_same(const char *waited, const char *anew)
{
	size_t same = 0;

	while (waited[same] && waited[same] == anew[same])
		same++;
	ck_assert_msg(waited[same] == anew[same], "one that waited: '%.200s', anew: '%.200s'",
		      waited + same, anew + same);
}

/* Runs the code twice with the same request, whose args and env it takes, anew and by one that
 * waited; both must print the same. Returns whether the second was one that had waited. */
static bool runs_alike(struct msg_exec *request, const char *code, const char *input)
{
	uint32_t anew = (uint32_t)request->exec, waited = anew + 1;
	size_t before = children().len;

	ck_assert_uint_eq(before, 0);
	host_exec(&host, request, code, input, strlen(input));
	HOST_WAIT(&host, host.has_exit[anew]);
	ck_assert_uint_eq(host_prepare(&host, request->language, 2)->waiting, 2);
	request->exec = waited;
	request->is_rehearsal = true;
	host_exec(&host, request, code, input, strlen(input));
	HOST_WAIT(&host, host.has_exit[waited]);
	assert_same(host_stdout(&host, waited), host_stdout(&host, anew));
	assert_same(host_stderr(&host, waited), host_stderr(&host, anew));
	ck_assert_str_eq(host.exits[waited].reason, host.exits[anew].reason);
	ck_assert_uint_eq(host.exits[waited].exit_code, host.exits[anew].exit_code);
	ck_assert_uint_eq(host.exits[waited].signal, host.exits[anew].signal);
	ck_assert(json_equal(host.exits[waited].error, host.exits[anew].error) ||
		  (!host.exits[waited].error && !host.exits[anew].error));
	json_decref(request->args);
	json_decref(request->env);
	return children().len == 1;
}

static const char python_view[] =
	"import os, sys, time\n"
	"print(__name__, __file__, sys.argv, sys.path, os.getcwd(), sys.orig_argv[0])\n"
	"print(sorted(os.environ.items()), sorted(globals()))\n"
	"print([hook.__qualname__ for hook in sys.path_hooks], sys.path_importer_cache[__file__])\n"
	"print(sorted(os.listdir('/proc/self/fd'), key=int), time.tzname, "
	"time.localtime(0).tm_hour)\n"
	"print(sys.stdin.read(), sys.flags, sorted(os.listdir(os.path.dirname(__file__))))\n"
	"os.system('env | grep -v _= | sort; pwd; ls /proc/self/fd')\n"
	"sys.exit(7)\n";
static const char shell_view[] =
	"echo "
	"\"$0|$#|$*|$?|$-|$PWD|${BASH_SOURCE[*]}|${FUNCNAME[*]}|$LINENO|$BASH_ENV|$SHLVL|$_\"\n"
	"for a; do printf '<%s>' \"$a\"; done\n"
	"env | grep -v '^_=' | sort; declare -p OLDPWD; declare -F; date -d @0 +%H\n"
	"compgen -v | grep -v -e '^BASH_' -e PIPESTATUS; ls /proc/$$/fd\n"
	"echo $((SECONDS < 100)); bash -c 'echo child $BASH_ENV $EXECSANDBOX_GO_FD'; cat; ls -a ~\n"
	"shopt; shopt -o; trap; alias; exit 9\n";

START_TEST(test_program_sees_no_difference)
{
	struct msg_exec request = host_request(1, languages[_i]);

	ck_assert(runs_alike(&request, _i == 0 ? python_view : shell_view, "typed\n"));
	ck_assert_uint_eq(host.exits[2].exit_code, _i == 0 ? 7 : 9);
}
END_TEST

START_TEST(test_arguments_variables_and_directory_come_late)
{
	struct msg_exec request = host_request(1, languages[_i]);

	request.args = json_pack("[sssss]", "two words", "", "-x", "*", "\xc3\xa9\n\\n$(id)`id`");
	request.env = json_pack("{ssssssssss}", "COLOUR", "b l\nue", "EMPTY", "", "TZ",
				"Asia/Tokyo", "PATH", "/usr/bin:/bin", "EVIL", "$(id)'\"`id`\\");
	strcpy(request.cwd, "/usr/share");
	ck_assert(runs_alike(&request, _i == 0 ? python_view : shell_view, ""));
	ck_assert_ptr_nonnull(strstr(host_stdout(&host, 2), "/usr/share"));
	ck_assert_ptr_nonnull(strstr(host_stdout(&host, 2), "Asia/Tokyo"));
	/* A directory relative to the home. */
	ck_assert_int_eq(mkdirat(AT_FDCWD, strcat(strcpy(request.cwd, host.home), "/sub"), 0755),
			 0);
	strcpy(request.cwd, "sub");
	request.exec = 3;
	request.is_rehearsal = false;
	request.env = request.args = NULL;
	host_prepare(&host, languages[_i], 0);
	wait_for_children(0);
	ck_assert(runs_alike(&request, _i == 0 ? "import os\nprint(os.getcwd())" : "pwd", ""));
}
END_TEST

/* What only a new interpreter can do. */
static const struct {
	const char *language, *name, *value, *cwd, *code, *output;
} anew[] = {
	{"python", "PYTHONHASHSEED", "0", "", "import sys\nprint(sys.flags.hash_randomization)",
	 "0\n"},
	{"python", "LC_ALL", "C", "", "import sys\nprint(sys.flags.utf8_mode)", "1\n"},
	{"shell", "BASH_ENV", "/dev/null", "", "echo $BASH_ENV", "/dev/null\n"},
	{"shell", "not-a-name", "x", "", "env | grep not-a", "not-a-name=x\n"},
	{"shell", "SHLVL", "5", "", "echo $SHLVL", "6\n"},
	{"python", "A", "b", "/nowhere", "print(1)", ""},
	{"shell", "A", "b", "/root", "echo 1", ""},
};

START_TEST(test_what_starts_anew)
{
	struct msg_exec request = host_request(1, anew[_i].language);
	struct children waiting;

	request.env = json_pack("{ss}", anew[_i].name, anew[_i].value);
	strcpy(request.cwd, anew[_i].cwd);
	request.is_rehearsal = true;
	host_prepare(&host, anew[_i].language, 1);
	waiting = children();
	host_exec(&host, &request, anew[_i].code, "", 0);
	HOST_WAIT(&host, host.has_exit[1]);
	if (geteuid() == 0 || anew[_i].cwd[0] == '\0')
		ck_assert_str_eq(host_stdout(&host, 1), anew[_i].output);
	if (geteuid() == 0 && *anew[_i].cwd)
		ck_assert_uint_eq(host.exits[1].exit_code, 127);
	/* The one that waited still does. */
	ck_assert_uint_eq(children().len, 1);
	ck_assert(is_among(&waiting, children().pids[0]));
	json_decref(request.env);
}
END_TEST

START_TEST(test_more_than_a_message_holds)
{
	struct msg_exec request = host_request(1, languages[_i]);
	char *text = malloc(GO_MESSAGE_MAX + 1);

	memset(text, 'x', GO_MESSAGE_MAX);
	text[GO_MESSAGE_MAX] = '\0';
	request.args = json_pack("[s]", text);
	ck_assert(!runs_alike(&request,
			      _i == 0 ? "import sys\nprint(len(sys.argv[1]))" : "echo ${#1}", ""));
	ck_assert_str_eq(host_stdout(&host, 1), "16384\n");
	free(text);
}
END_TEST

static const struct {
	const char *language, *code;
} ends[] = {
	{"python", "def f():\n    return 1 / 0\nf()\n"},
	{"python", "x = (1,\n"},
	{"python", "raise KeyboardInterrupt"},
	{"python",
	 "import os\nif os.fork() == 0:\n    print('child', flush=True)\n    os._exit(3)\n"
	 "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"},
	{"python", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"},
	{"python", "import threading, subprocess, json\n"
		   "t = threading.Thread(target=lambda: print(json.dumps([1])))\n"
		   "t.start(); t.join()\n"
		   "print(subprocess.run(['echo', 'x'], capture_output=True).stdout)\n"},
	{"python",
	 "import __main__, traceback\nprint(__main__.__file__)\ntraceback.print_stack()\n"},
	{"shell", "false"},
	{"shell", "kill -TERM $$"},
	{"shell", "set -e\ntrap 'echo bye $?' EXIT\nfalse\n"},
	{"shell", "if ("},
	{"shell", "(exit 4) & wait $!; echo $?"},
};

START_TEST(test_ends_are_the_same)
{
	struct msg_exec request = host_request(1, ends[_i].language);

	ck_assert(runs_alike(&request, ends[_i].code, ""));
}
END_TEST

/* Its own module of a name that was imported already, as an ordinary start would find it. */
START_TEST(test_module_of_the_program_wins)
{
	struct msg_exec request = host_request(1, "python");
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/statistics.py", host.home);
	file = fopen(path, "w");
	fputs("word = 'mine'\n", file);
	fclose(file);
	request.args = json_pack("[s]", "argument");
	request.env = json_pack("{ss}", "COLOUR", "blue");
	ck_assert(runs_alike(&request,
			     "import os, statistics, sys\n"
			     "print(statistics.word, sys.argv, os.environ['COLOUR'])\n"
			     "print(sorted(os.environ), sys.path, os.listdir('/proc/self/fd'))\n"
			     "1/0\n",
			     ""));
	ck_assert_ptr_nonnull(strstr(host_stdout(&host, 2), "mine ["));
	ck_assert_ptr_nonnull(host.exits[2].error);
}
END_TEST

#define SAME_STATE_PYTHON                                                               \
	"sed -i 's/^    os.write(fd, b\".\")/    __import__(\"random\").seed(1)\\n&/' " \
	"%s/runners/python/sitecustomize.py"
#define SAME_STATE_SHELL "sed -i 's/^printf/RANDOM=1\\n&/' %s/runners/shell.sh"

/* Both are at the same point of the same sequence when they are told to go. */
START_TEST(test_random_numbers_are_reseeded)
{
	static const char *const code[] = {
		"import random\nprint(random.getrandbits(64))\n",
		"echo $RANDOM$RANDOM$RANDOM$RANDOM\n",
	};
	char command[256];

	/* Generators like those of two clones of one template. */
	if (_i == 0)
		snprintf(command, sizeof(command), SAME_STATE_PYTHON, host.root);
	else
		snprintf(command, sizeof(command), SAME_STATE_SHELL, host.root);
	ck_assert_int_eq(pclose(popen(command, "r")), 0);
	ck_assert_uint_eq(host_prepare(&host, languages[_i], 2)->waiting, 2);
	rehearse(1, languages[_i], code[_i]);
	rehearse(2, languages[_i], code[_i]);
	ck_assert_str_ne(host_stdout(&host, 1), "");
	ck_assert_str_ne(host_stdout(&host, 1), host_stdout(&host, 2));
	ck_assert_uint_eq(children().len, 0);
}
END_TEST

/* It has imported half of the library, which takes a tenth of a second; the run has done nothing.
 */
START_TEST(test_receipt_begins_with_the_run)
{
	char stat[64];
	unsigned long user = 0, system_time = 0;
	uint64_t before_us, counted;
	FILE *file;

	host_prepare(&host, "python", 1);
	snprintf(stat, sizeof(stat), "/proc/%d/stat", children().pids[0]);
	file = fopen(stat, "r");
	ck_assert_int_eq(fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
				&user, &system_time),
			 2);
	fclose(file);
	before_us = (user + system_time) * 1000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	ck_assert_uint_gt(before_us, 0);
	host_run(&host, 1, "python", "pass");
	counted = host.exits[1].cpu_user_us + host.exits[1].cpu_system_us;
	/* Two ticks are what rounding may hide. */
	ck_assert_uint_lt(counted, before_us + 20000);
	host_prepare(&host, "python", 1);
	host_run(&host, 2, "python",
		 "import time\nend = time.process_time() + 0.3\n"
		 "while time.process_time() < end: pass\n");
	counted = host.exits[2].cpu_user_us + host.exits[2].cpu_system_us;
	ck_assert_uint_ge(counted, 280000);
}
END_TEST

START_TEST(test_limit_of_cpu_time_counts_the_run_alone)
{
	struct msg_exec request = host_request(1, "python");

	host_prepare(&host, "python", 1);
	request.cpu_seconds = 1;
	host_exec(&host, &request,
		  "import resource\nprint(resource.getrlimit(resource.RLIMIT_CPU)[0] < 4)\n"
		  "while True: pass\n",
		  "", 0);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "True\n");
	ck_assert_str_eq(host.exits[1].reason, MSG_REASON_SIGNALED);
	ck_assert_uint_eq(host.exits[1].signal, SIGXCPU);
}
END_TEST

START_TEST(test_kill_of_one_that_waited)
{
	struct msg_exec request = host_request(1, "shell");

	host_prepare(&host, "shell", 1);
	host_exec(&host, &request,
		  "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done", "", 0);
	HOST_WAIT(&host, strcmp(host_stdout(&host, 1), "up\n") == 0);
	host_kill(&host, 1, 10000);
	HOST_WAIT(&host, host.has_exit[1]);
	ck_assert_str_eq(host_stdout(&host, 1), "up\nbye\n");
	ck_assert_uint_eq(host.exits[1].exit_code, 5);
}
END_TEST

/* What a clone's first moments look like to its agent: no hangup, SYNC and HELLO, an identity. */
START_TEST(test_hello_again_while_they_wait)
{
	struct msg identity = {.type = FRAME_IDENTITY, .identity = {.id = 9, .hostname = "clone"}};
	struct children waiting;
	unsigned memories;

	host_prepare(&host, "python", 2);
	rehearse(1, "python", "print('rehearsal')");
	host_send(&host, &(struct msg){.type = FRAME_EXIT_ACK, .exec_ref.exec = 1});
	waiting = children();
	/* Telemetry that nobody has read when the new host comes. */
	for (int i = 0; i < 50; i++)
		host_send(&host, &(struct msg){.type = FRAME_MEMORY_GET, .ping.id = 1});
	memories = host.memories;
	host_ping(&host);
	ck_assert_uint_gt(host.memories, memories);
	host_send(&host, &(struct msg){.type = FRAME_MEMORY_GET, .ping.id = 1});
	host_hello(&host);
	ck_assert_uint_eq(json_array_size(host.known), 0);
	ck_assert_uint_eq(host.ready, 1);
	host_send(&host, &identity);
	HOST_WAIT(&host, host.done == 1);
	host_run(&host, 2, "python", who_am_i[0]);
	ck_assert(is_among(&waiting, (pid_t)strtol(host_stdout(&host, 2), NULL, 10)));
}
END_TEST

/* A PREPARE whose answer was lost is sent again by the next host. */
START_TEST(test_prepare_survives_the_connection)
{
	host_send_prepare(&host, "python", 1);
	host_ping(&host);
	host_reconnect(&host);
	host_hello(&host);
	ck_assert_uint_eq(host_prepare(&host, "python", 1)->waiting, 1);
	ck_assert_uint_eq(children().len, 1);
}
END_TEST

/* Nothing of a rehearsal or of those that wait lies where programs look. */
START_TEST(test_home_stays_clean)
{
	char expected[64];

	host_prepare(&host, languages[_i], 2);
	rehearse(1, languages[_i], _i == 0 ? "print(1)" : "echo 1");
	snprintf(expected, sizeof(expected), "main.%s\n", _i == 0 ? "py" : "sh");
	host_run(&host, 2, "shell", "cd; ls -A | grep -v main.sh; true");
	ck_assert_str_eq(host_stdout(&host, 2), _i == 0 ? expected : "");
}
END_TEST

START_TEST(test_agent_ends_with_them)
{
	struct children waiting;

	host_prepare(&host, "python", 2);
	host_prepare(&host, "shell", 2);
	host_send_prepare(&host, "python", 4);
	waiting = children();
	teardown();
	for (size_t i = 0; i < waiting.len; i++)
		ck_assert_int_eq(kill(waiting.pids[i], 0), -1);
	setup();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_standby");
	TCase *tcase = tcase_create("standbys");
	const int both = ELEMENTSOF(languages);

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, test_prepare_and_run, 0, both);
	tcase_add_loop_test(tcase, test_rehearsal_leaves_the_others, 0, both);
	tcase_add_test(tcase, test_run_of_another_language_ends_them);
	tcase_add_test(tcase, test_prepare_says_why_not);
	tcase_add_test(tcase, test_newer_prepare_answers_the_older);
	tcase_add_test(tcase, test_run_before_they_wait);
	tcase_add_test(tcase, test_hook_that_fails);
	tcase_add_loop_test(tcase, test_death_while_waiting, 0, both);
	tcase_add_loop_test(tcase, test_program_sees_no_difference, 0, both);
	tcase_add_loop_test(tcase, test_arguments_variables_and_directory_come_late, 0, both);
	tcase_add_loop_test(tcase, test_what_starts_anew, 0, ELEMENTSOF(anew));
	tcase_add_loop_test(tcase, test_more_than_a_message_holds, 0, both);
	tcase_add_loop_test(tcase, test_ends_are_the_same, 0, ELEMENTSOF(ends));
	tcase_add_test(tcase, test_module_of_the_program_wins);
	tcase_add_loop_test(tcase, test_random_numbers_are_reseeded, 0, both);
	tcase_add_test(tcase, test_receipt_begins_with_the_run);
	tcase_add_test(tcase, test_limit_of_cpu_time_counts_the_run_alone);
	tcase_add_test(tcase, test_kill_of_one_that_waited);
	tcase_add_test(tcase, test_hello_again_while_they_wait);
	tcase_add_test(tcase, test_prepare_survives_the_connection);
	tcase_add_loop_test(tcase, test_home_stays_clean, 0, both);
	tcase_add_test(tcase, test_agent_ends_with_them);
	suite_add_tcase(suite, tcase);
	return suite;
}
