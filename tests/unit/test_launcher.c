/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher: the real program, its client, daemons that come and go, and what it does not take.
 */
#include "daemon/launcher/client.h"

#include "daemon/launcher/message.h"
#include "daemon/launcher/start.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_child.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define ID  "vm_0123456789abcdef"
#define ID2 "vm_fedcba9876543210"
/* More than a socket holds of spawns that nobody reads. */
#define SPAWNS_MANY 4000

/* As bubblewrap: starts the program, tells its pid on 3, ends with its status. */
#define WRAPPER                                                                                    \
	"exec sleep 1000 & child=$!; echo \"{ \\\"child-pid\\\": $child }\" >&3; exec 3>&-; wait " \
	"$child; exit $?"

static const struct leaf_limits limits = {
	.memory_max_bytes = 64 << 20, .cpu_percent = 100, .pids_max = 32};

static char dir[TEST_DIR_SIZE], program[PATH_MAX + 64];
static struct loop *loop;
static struct launcher *launcher;
static int runtime_fd, fds_before;

/* What the owner of one launch has heard, in order: p, e, g. */
struct heard {
	struct launch *launch;
	char text[16];
	struct proc_status status;
	bool must_destroy;
};

static void hear(struct heard *heard, const char *letter)
{
	strncat(heard->text, letter, sizeof(heard->text) - strlen(heard->text) - 1);
}

static void on_pid(void *user, pid_t pid)
{
	struct heard *heard = user;

	ck_assert_int_eq(launch_pid(heard->launch), pid);
	hear(heard, "p");
}

static void on_end(void *user)
{
	struct heard *heard = user;

	hear(heard, "e");
	if (heard->must_destroy)
		launch_destroy(TAKE_PTR(heard->launch));
}

static void on_gone(void *user, const struct proc_status *status)
{
	struct heard *heard = user;

	hear(heard, "g");
	heard->status = *status;
}

static const struct proc_ops ops = {.on_pid = on_pid, .on_end = on_end, .on_gone = on_gone};

static void find_program(void)
{
	char own[PATH_MAX] = {0};

	ck_assert_int_gt(readlink("/proc/self/exe", own, sizeof(own) - 1), 0);
	snprintf(program, sizeof(program), "%s/../../daemon/execsandbox-launcher", dirname(own));
}

static int connect_with(int listen_fd_take)
{
	struct launcher_config config = {.runtime_fd = runtime_fd,
					 .runtime_dir = dir,
					 .listen_fd_take = listen_fd_take,
					 .program_fd_take = open(program, O_PATH | O_CLOEXEC)};

	return launcher_connect(loop, &config, &launcher);
}

static void setup(void)
{
	test_dir_make(dir);
	mkdir(test_dir_path(dir, "vm"), 0700);
	find_program();
	fds_before = test_open_fds();
	runtime_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(connect_with(launcher_listen(runtime_fd, (uid_t)-1)), 0);
}

/* The launcher ends with its daemon: nothing of it is left, here or there. */
static void teardown(void)
{
	pid_t pid = launcher ? launcher_pid(launcher) : 0;
	_cleanup_close_ int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
	struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};

	launcher_destroy(TAKE_PTR(launcher));
	if (pidfd >= 0)
		ck_assert_int_eq(poll(&poll_fd, 1, WAIT_SECONDS * 1000), 1);
	pidfd = close_fd(pidfd);
	loop_destroy(loop);
	close_fd(runtime_fd);
	ck_assert_int_eq(test_open_fds(), fds_before);
	test_dir_remove(dir);
}

static int spawn_program(const char *id, const char *path, const char *script,
			 const struct proc_fds *fds, int info_fd_take, struct heard *heard)
{
	char *argv[] = {(char *)path, (char *)"-c", (char *)script, NULL};
	struct proc_spec spec = {.argv = argv, .fds = fds, .info_fd_take = info_fd_take};

	return launch_spawn(launcher, id, &spec, &limits, &ops, heard, &heard->launch);
}

static void spawn_plain(const char *id, const char *script, struct heard *heard)
{
	ck_assert_int_eq(spawn_program(id, "/bin/sh", script, NULL, -1, heard), 0);
}

static void spawn_wrapper(const char *id, struct heard *heard)
{
	struct proc_fds fds = {.len = 0};
	int info[2];

	ck_assert_int_eq(pipe2(info, O_CLOEXEC), 0);
	ck_assert_int_eq(proc_fds_add(&fds, info[1]), 3);
	ck_assert_int_eq(spawn_program(id, "/bin/sh", WRAPPER, &fds, info[0], heard), 0);
	close(info[1]);
}

static bool is_over(const struct heard *heard)
{
	return strchr(heard->text, 'g') != NULL;
}

static void expect_end(struct heard *heard, const char *text, enum proc_end end, int code)
{
	ck_assert(WAIT_FOR(loop, is_over(heard)));
	ck_assert_str_eq(heard->text, text);
	ck_assert_int_eq(heard->status.end, end);
	ck_assert_int_eq(heard->status.code, code);
	launch_destroy(TAKE_PTR(heard->launch));
}

START_TEST(test_greeting)
{
	ck_assert_ptr_nonnull(strstr("v2 v1 none", launcher_cgroup(launcher)));
	ck_assert_ptr_null(launcher_list(launcher, 0));
	ck_assert_int_gt(launcher_pid(launcher), 0);
}
END_TEST

START_TEST(test_a_program)
{
	struct heard heard = {.launch = NULL};

	spawn_plain(ID, "echo last words >&2; exit 7", &heard);
	ck_assert_str_eq(heard.text, "");
	ck_assert(WAIT_FOR(loop, is_over(&heard)));
	ck_assert_str_eq(launch_stderr(heard.launch), "last words\n");
	ck_assert(!launch_is_alive(heard.launch));
	ck_assert(!launch_is_oom_kill(heard.launch));
	expect_end(&heard, "peg", PROC_END_EXITED, 7);
}
END_TEST

START_TEST(test_descriptors_and_limits)
{
	static const struct proc_limit nofile[] = {{.resource = RLIMIT_NOFILE, .value = 77}};
	char *argv[] = {(char *)"/bin/sh", (char *)"-c",
			(char *)"ulimit -n >&4; cat /proc/$$/oom_score_adj >&4; "
				"tr -d '\\0' </proc/$$/environ >&4; exec ls /proc/self/fd >&4",
			NULL};
	struct proc_fds fds = {.len = 0};
	struct proc_spec spec = {.argv = argv,
				 .fds = &fds,
				 .limits = nofile,
				 .n_limits = 1,
				 .info_fd_take = -1,
				 .oom_score_adj = 500};
	struct heard heard = {.launch = NULL};
	char text[256] = {0};
	int out[2];

	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	ck_assert_int_eq(proc_fds_add(&fds, out[0]), 3);
	ck_assert_int_eq(proc_fds_add(&fds, out[1]), 4);
	ck_assert_int_eq(launch_spawn(launcher, ID, &spec, &limits, &ops, &heard, &heard.launch),
			 0);
	close(out[1]);
	expect_end(&heard, "peg", PROC_END_EXITED, 0);
	ck_assert_int_gt(read(out[0], text, sizeof(text) - 1), 0);
	ck_assert_str_eq(text, "77\n500\n0\n1\n2\n3\n4\n5\n");
	close(out[0]);
}
END_TEST

START_TEST(test_a_jail)
{
	struct heard heard = {.launch = NULL};
	pid_t pid;

	spawn_wrapper(ID, &heard);
	ck_assert_int_eq(launch_pid(heard.launch), 0);
	ck_assert(launch_is_alive(heard.launch)); /* what its sockets say may come first */
	ck_assert(WAIT_FOR(loop, heard.text[0]));
	ck_assert_str_eq(heard.text, "p");
	pid = launch_pid(heard.launch);
	ck_assert(launch_is_alive(heard.launch));
	launch_kill(heard.launch);
	launch_kill(heard.launch);
	expect_end(&heard, "peg", PROC_END_SIGNALED, SIGKILL);
	ck_assert_int_eq(kill(pid, 0), -1);
}
END_TEST

START_TEST(test_a_kill_before_the_pid_is_known)
{
	struct heard heard = {.launch = NULL};

	spawn_wrapper(ID, &heard);
	launch_kill(heard.launch);
	ck_assert(WAIT_FOR(loop, is_over(&heard)));
	ck_assert_int_eq(heard.status.end, PROC_END_SIGNALED);
	launch_destroy(heard.launch);
}
END_TEST

START_TEST(test_what_cannot_be_started)
{
	struct heard heard = {.launch = NULL};

	ck_assert_int_eq(spawn_program(ID, "/nonexistent", "", NULL, -1, &heard), 0);
	ck_assert(WAIT_FOR(loop, is_over(&heard)));
	ck_assert_ptr_nonnull(strstr(launch_stderr(heard.launch), "No such file"));
	expect_end(&heard, "g", PROC_END_EXITED, 127);
	/* Not to be said in JSON. */
	ck_assert_int_eq(spawn_program(ID, "/\xff", "", NULL, -1, &heard), -EINVAL);
}
END_TEST

START_TEST(test_destroying_waits)
{
	struct heard heard = {.launch = NULL}, other = {.launch = NULL};
	pid_t pid;

	spawn_wrapper(ID, &heard);
	spawn_plain(ID2, "exit 3", &other);
	ck_assert(WAIT_FOR(loop, heard.text[0] && is_over(&other)));
	pid = launch_pid(heard.launch);
	launch_destroy(TAKE_PTR(heard.launch));
	ck_assert_int_eq(kill(pid, 0), -1);
	spawn_wrapper(ID, &heard);
	launch_destroy(TAKE_PTR(heard.launch)); /* the pid has not even come */
	loop_run_once(loop, false);
	ck_assert_str_eq(heard.text, "p");
	expect_end(&other, "peg", PROC_END_EXITED, 3);
}
END_TEST

/* Who waits for one does not hear of another from inside. */
START_TEST(test_others_hear_from_the_loop)
{
	struct heard heard = {.launch = NULL}, other = {.launch = NULL};

	spawn_plain(ID2, "exit 3", &other);
	spawn_wrapper(ID, &heard);
	launch_destroy(TAKE_PTR(heard.launch));
	ck_assert_str_eq(other.text, "");
	loop_run_once(loop, false); /* what was put off */
	expect_end(&other, "peg", PROC_END_EXITED, 3);
}
END_TEST

START_TEST(test_destroying_inside_a_callback)
{
	struct heard heard = {.must_destroy = true};

	spawn_plain(ID, "exit 0", &heard);
	ck_assert(WAIT_FOR(loop, strchr(heard.text, 'e')));
	ck_assert_ptr_null(heard.launch);
	ck_assert_str_eq(heard.text, "pe");
}
END_TEST

/* The daemon goes, without a word to its VMs, and another one comes. */
static void change_daemon(void)
{
	launcher_destroy(TAKE_PTR(launcher));
	loop_run_once(loop, false);
	ck_assert_int_eq(connect_with(-1), 0);
}

START_TEST(test_adoption)
{
	struct heard old = {.launch = NULL}, older = {.launch = NULL}, heard = {.launch = NULL};
	pid_t pid, server = launcher_pid(launcher);

	spawn_wrapper(ID, &old);
	spawn_wrapper(ID2, &older);
	ck_assert(WAIT_FOR(loop, old.text[0] && older.text[0]));
	change_daemon();
	ck_assert_int_eq(launcher_pid(launcher), server);
	ck_assert_ptr_nonnull(launcher_list(launcher, 0));
	ck_assert_ptr_nonnull(launcher_list(launcher, 1));
	ck_assert_ptr_null(launcher_list(launcher, 2));
	ck_assert_int_eq(launch_adopt(launcher, "vm_0000000000000000", &ops, &heard, &heard.launch),
			 -ENOENT);
	ck_assert_int_eq(launch_adopt(launcher, ID, &ops, &heard, &heard.launch), 0);
	ck_assert_int_eq(launch_adopt(launcher, ID, &ops, &heard, &heard.launch), -ENOENT);
	ck_assert_str_eq(launcher_list(launcher, 0), ID2);
	ck_assert(launch_is_alive(heard.launch));
	pid = launch_pid(heard.launch);
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(launcher_kill_rest(launcher), 0);
	ck_assert_ptr_null(launcher_list(launcher, 0));
	ck_assert(launch_is_alive(heard.launch));
	ck_assert_str_eq(heard.text, "");
	loop_run_once(loop, false);
	ck_assert_str_eq(heard.text, "p");
	kill(pid, SIGKILL);
	expect_end(&heard, "peg", PROC_END_SIGNALED, SIGKILL);
}
END_TEST

START_TEST(test_the_rest_is_killed)
{
	struct heard old = {.launch = NULL};
	_cleanup_close_ int pidfd = -1;
	struct pollfd poll_fd = {.events = POLLIN};

	spawn_wrapper(ID, &old);
	ck_assert(WAIT_FOR(loop, old.text[0]));
	poll_fd.fd = pidfd = pidfd_open(launch_pid(old.launch), 0);
	change_daemon();
	ck_assert_int_eq(poll(&poll_fd, 1, 0), 0);
	ck_assert_int_eq(launcher_kill_rest(launcher), 0);
	ck_assert_int_eq(poll(&poll_fd, 1, 0), 1);
	ck_assert_str_eq(old.text, "p");
}
END_TEST

START_TEST(test_a_launcher_that_dies)
{
	struct heard heard = {.launch = NULL}, starting = {.launch = NULL};
	struct pollfd poll_fd = {.events = POLLIN};
	pid_t server = launcher_pid(launcher);
	_cleanup_close_ int pidfd = -1;

	spawn_wrapper(ID, &heard);
	ck_assert(WAIT_FOR(loop, heard.text[0]));
	poll_fd.fd = pidfd = pidfd_open(launch_pid(heard.launch), 0);
	kill(server, SIGSTOP); /* so that it does not see this one */
	spawn_wrapper(ID2, &starting);
	kill(server, SIGKILL);
	expect_end(&heard, "peg", PROC_END_UNKNOWN, SIGKILL);
	expect_end(&starting, "g", PROC_END_UNKNOWN, SIGKILL);
	ck_assert_int_eq(poll(&poll_fd, 1, 0), 1);
	ck_assert_int_eq(launcher_pid(launcher), 0);
	heard.text[0] = '\0';
	spawn_plain(ID, "exit 4", &heard);
	ck_assert(WAIT_FOR(loop, is_over(&heard)));
	expect_end(&heard, "peg", PROC_END_EXITED, 4);
	ck_assert_int_ne(launcher_pid(launcher), server);
	ck_assert_int_gt(launcher_pid(launcher), 0);
}
END_TEST

/* Its end has not been noticed when the next program is to be started. */
START_TEST(test_a_death_unnoticed)
{
	struct heard heard = {.launch = NULL};
	struct pollfd poll_fd = {.events = POLLIN};
	_cleanup_close_ int pidfd = pidfd_open(launcher_pid(launcher), 0);

	kill(launcher_pid(launcher), SIGKILL);
	poll_fd.fd = pidfd;
	ck_assert_int_eq(poll(&poll_fd, 1, WAIT_SECONDS * 1000), 1);
	spawn_plain(ID, "exit 4", &heard);
	expect_end(&heard, "peg", PROC_END_EXITED, 4);
}
END_TEST

/* Spawns are refused when its socket is full, and never waited for. */
START_TEST(test_a_launcher_that_hangs)
{
	static struct heard heard[SPAWNS_MANY];
	int taken = 0, r = 0;
	char id[32];

	memset(heard, 0, sizeof(heard));
	kill(launcher_pid(launcher), SIGSTOP);
	for (; taken < SPAWNS_MANY; taken++) {
		snprintf(id, sizeof(id), "vm_%016x", (unsigned)taken);
		r = spawn_program(id, "/bin/sh", "exit 5", NULL, -1, &heard[taken]);
		if (r < 0)
			break;
		launch_kill(heard[taken].launch); /* not taken either, at some point */
	}
	ck_assert_int_eq(r, -EAGAIN);
	ck_assert_int_gt(taken, 16);
	kill(launcher_pid(launcher), SIGCONT);
	for (int i = 0; i < taken; i++) {
		ck_assert(WAIT_FOR(loop, is_over(&heard[i])));
		launch_destroy(heard[i].launch);
	}
}
END_TEST

/* A daemon that ends waits for such a one, but once and not for each VM. */
START_TEST(test_destroying_with_a_launcher_that_hangs)
{
	struct heard heard[3] = {{.launch = NULL}};
	static const char *const ids[] = {ID, ID2, "vm_00000000000000aa"};
	pid_t server = launcher_pid(launcher);
	uint64_t begun_us;

	for (size_t i = 0; i < ELEMENTSOF(heard); i++)
		spawn_wrapper(ids[i], &heard[i]);
	ck_assert(WAIT_FOR(loop, heard[0].text[0] && heard[1].text[0] && heard[2].text[0]));
	kill(server, SIGSTOP);
	begun_us = now_us();
	for (size_t i = 0; i < ELEMENTSOF(heard); i++) {
		pid_t pid = launch_pid(heard[i].launch);
		_cleanup_close_ int pidfd = pidfd_open(pid, 0);
		struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};

		launch_destroy(heard[i].launch);
		ck_assert_int_eq(poll(&poll_fd, 1, 0), 1);
	}
	begun_us = now_us() - begun_us;
	kill(server, SIGCONT); /* before what may fail */
	ck_assert_uint_lt(begun_us, 9000000);
}
END_TEST

/* --- A launcher of the service manager's. --- */

static void end_fixtures_launcher(void)
{
	launcher_destroy(TAKE_PTR(launcher));
	loop_run_once(loop, false);
}

/* Makes the socket's file anew. */
static pid_t start_by_hand(const char *orphan_seconds)
{
	pid_t pid;

	unlink(test_dir_path(dir, "launcher.sock"));
	pid = fork();
	if (pid == 0) {
		execl(program, "execsandbox-launcher", "--runtime-dir", dir, "--orphan-seconds",
		      orphan_seconds, (char *)NULL);
		_exit(1);
	}
	ck_assert_int_gt(pid, 0);
	while (!launcher_is_there(runtime_fd))
		ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), 0);
	return pid;
}

START_TEST(test_orphans)
{
	struct heard heard = {.launch = NULL};
	pid_t pid, vm;
	int status;

	end_fixtures_launcher();
	pid = start_by_hand("0.2");
	ck_assert_int_eq(connect_with(-1), 0);
	ck_assert_int_eq(launcher_pid(launcher), pid);
	mkdir(test_dir_path(dir, "vm/" ID), 0700);
	test_dir_write(dir, "vm/" ID "/record.json", "{}", 2);
	spawn_wrapper(ID, &heard);
	ck_assert(WAIT_FOR(loop, heard.text[0]));
	vm = launch_pid(heard.launch);
	launcher_destroy(TAKE_PTR(launcher));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(kill(vm, 0), -1);
	ck_assert(!test_dir_has(dir, "vm/" ID));
}
END_TEST

/* Its socket may be given up. A launcher of ours could start no VM, and would keep the daemon from
 * the path for good. */
START_TEST(test_a_manager_that_gives_up)
{
	struct launcher_config config = {.runtime_fd = runtime_fd,
					 .runtime_dir = dir,
					 .listen_fd_take = -1,
					 .program_fd_take = -1,
					 .has_manager = true};
	struct heard heard = {.launch = NULL};
	pid_t pid;

	end_fixtures_launcher();
	unlink(test_dir_path(dir, LAUNCHER_SOCKET));
	config.program_fd_take = open(program, O_PATH | O_CLOEXEC); /* not even with a program */
	ck_assert_int_eq(launcher_connect(loop, &config, &launcher), -ENOENT);
	ck_assert(!test_dir_has(dir, LAUNCHER_SOCKET));
	config.program_fd_take = -1;
	pid = start_by_hand("60");
	ck_assert_int_eq(launcher_connect(loop, &config, &launcher), 0);
	ck_assert_ptr_nonnull(strstr(launcher_name(launcher), "execsandbox-launcher.socket"));
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(spawn_program(ID, "/bin/true", "", NULL, -1, &heard),
				 -ECONNREFUSED);
	ck_assert_int_eq(launcher_error(launcher), -ECONNREFUSED);
	unlink(test_dir_path(dir, LAUNCHER_SOCKET));
	ck_assert_int_eq(launcher_check(launcher), -ENOENT);
	ck_assert_int_eq(spawn_program(ID, "/bin/true", "", NULL, -1, &heard), -ENOENT);
	ck_assert_int_eq(launcher_error(launcher), -ENOENT);
	pid = start_by_hand("60");
	ck_assert_int_eq(launcher_check(launcher), 0);
	spawn_plain(ID, "exit 4", &heard);
	expect_end(&heard, "peg", PROC_END_EXITED, 4);
	ck_assert_int_eq(launcher_pid(launcher), pid);
	launcher_destroy(TAKE_PTR(launcher));
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

/* --- One that is played. --- */

static void say(int fd, const char *type, int version, const int *fds, size_t n_fds)
{
	json_auto_t *json = json_pack("{s:s, s:i, s:i, s:s}", "type", type, "version", version,
				      "pid", (int)getpid(), "id", ID);

	EXPECT(packet_send(fd, json, fds, n_fds) == 0);
}

static int await_connection(int listen_fd)
{
	struct pollfd poll_fd = {.fd = listen_fd, .events = POLLIN};

	EXPECT(poll(&poll_fd, 1, WAIT_SECONDS * 1000) == 1);
	return accept(listen_fd, NULL, NULL);
}

static int await_packet(int fd, struct packet *packet)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	EXPECT(poll(&poll_fd, 1, WAIT_SECONDS * 1000) == 1);
	return packet_receive(fd, packet);
}

/* Instead of the fixture's launcher, which ends. */
static pid_t play(void (*fn)(int listen_fd))
{
	int listen_fd;
	pid_t pid;

	launcher_destroy(TAKE_PTR(launcher));
	loop_run_once(loop, false);
	listen_fd = launcher_listen(runtime_fd, (uid_t)-1);
	ck_assert_int_ge(listen_fd, 0);
	pid = fork();
	if (pid == 0) {
		fn(listen_fd);
		_exit(0);
	}
	close(listen_fd);
	return pid;
}

static void expect_played(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

static void be_of_another_version(int listen_fd)
{
	struct packet packet = PACKET_NONE;
	int fd = await_connection(listen_fd);

	EXPECT(fd >= 0);
	say(fd, "hello", LAUNCHER_VERSION + 1, NULL, 0);
	say(fd, "vm", 0, NULL, 0); /* as no one else says it */
	EXPECT(await_packet(fd, &packet) == 1);
	EXPECT(strcmp(packet_string(packet.json, "type"), "end") == 0);
}

/* It is made to end, and another is there before the daemon has to ask twice. */
START_TEST(test_another_version)
{
	struct heard heard = {.launch = NULL};
	pid_t pid = play(be_of_another_version);

	ck_assert_int_eq(connect_with(-1), 0);
	expect_played(pid);
	ck_assert_int_ne(launcher_pid(launcher), pid);
	ck_assert_ptr_null(launcher_list(launcher, 0));
	spawn_plain(ID, "exit 4", &heard);
	expect_end(&heard, "peg", PROC_END_EXITED, 4);
}
END_TEST

/* A process that never ends is lost with one connection, and told as gone by the next. */
static void tell_an_end_late(int listen_fd)
{
	struct packet packet = PACKET_NONE;
	int fd = await_connection(listen_fd), lasting[2];

	EXPECT(pipe(lasting) == 0);
	say(fd, "hello", LAUNCHER_VERSION, NULL, 0);
	say(fd, "synced", 0, NULL, 0);
	EXPECT(await_packet(fd, &packet) == 1);
	packet_clear(&packet);
	say(fd, "pid", 0, lasting, 1);
	close(fd);
	fd = await_connection(listen_fd);
	say(fd, "hello", LAUNCHER_VERSION, NULL, 0);
	say(fd, "gone", 0, NULL, 0);
	EXPECT(await_packet(fd, &packet) == 1);
	packet_clear(&packet);
	EXPECT(await_packet(fd, &packet) == 1); /* the test is over */
}

static void on_other_use(struct ev_loop *ev, ev_io *watch, int events UNUSED)
{
	ev_io_stop(ev, watch);
}

/* Its descriptor is closed, and its number soon another's: nobody watches it any more. */
START_TEST(test_an_end_told_twice)
{
	struct heard heard = {.launch = NULL}, other = {.launch = NULL};
	pid_t pid = play(tell_an_end_late);
	ev_io watch;
	int fds[2];

	ck_assert_int_eq(connect_with(-1), 0);
	spawn_plain(ID, "", &heard);
	ck_assert(WAIT_FOR(loop, heard.text[0] && launcher_pid(launcher) == 0));
	spawn_plain(ID2, "", &other);
	ck_assert(WAIT_FOR(loop, is_over(&heard)));
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	ev_io_init(&watch, on_other_use, fds[0], EV_READ);
	ev_io_start(loop_ev(loop), &watch);
	ck_assert(WAIT_FOR(loop, !ev_is_active(&watch)));
	loop_run_once(loop, false);
	ck_assert_str_eq(heard.text, "pg");
	close(fds[0]);
	close(fds[1]);
	launch_destroy(heard.launch);
	launch_kill(other.launch);
	expect_played(pid);
	ck_assert(WAIT_FOR(loop, is_over(&other)));
	launch_destroy(other.launch);
}
END_TEST

static int raw_connection(void)
{
	int fd = unix_connect_packets_at(runtime_fd, LAUNCHER_SOCKET);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* Reads until the connection is closed, or 0.  */
static bool is_closed(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	char bytes[4096];
	ssize_t n;

	do {
		if (poll(&poll_fd, 1, WAIT_SECONDS * 1000) != 1)
			return false;
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	} while (n > 0);
	return n == 0 || errno == ECONNRESET;
}

START_TEST(test_nonsense)
{
	static const char *const packets[] = {
		"x",
		"[]",
		"{}",
		"{\"type\":\"spawn\"}",
		"{\"type\":\"kill\"}",
		"{\"type\":\"kill\",\"type\":\"kill\",\"id\":\"" ID "\"}",
		"{\"type\":\"fly\",\"id\":\"" ID "\"}",
		"{\"type\":\"spawn\",\"id\":\"../x\",\"argv\":[\"/bin/true\"]}",
		"{\"type\":\"spawn\",\"id\":\"" ID "\",\"argv\":[\"/bin/true\"]}",
		"{\"type\":\"spawn\",\"id\":\"" ID "\",\"argv\":[]}",
		"{\"type\":\"spawn\",\"id\":\"" ID "\",\"argv\":[1]}",
		"{\"type\":\"spawn\",\"id\":\"" ID "\",\"argv\":[\"true\"]}",
		"{\"type\":\"spawn\",\"id\":\"" ID
		"\",\"argv\":[\"/bin/true\"],\"limits\":[[\"a\",1]]}",
		"{\"type\":\"spawn\",\"id\":\"" ID
		"\",\"argv\":[\"/bin/true\"],\"has_info_fd\":true,"
		"\"cgroup\":{\"memory_max_bytes\":1,\"cpu_percent\":1,\"pids_max\":1}}",
	};
	struct heard heard = {.launch = NULL};
	pid_t server = launcher_pid(launcher);

	/* A VM keeps it alive, and lives through all that. */
	spawn_wrapper(ID2, &heard);
	ck_assert(WAIT_FOR(loop, heard.text[0]));
	launcher_destroy(TAKE_PTR(launcher));
	for (size_t i = 0; i < ELEMENTSOF(packets); i++) {
		_cleanup_close_ int fd = raw_connection();

		ck_assert_int_gt(send(fd, packets[i], strlen(packets[i]), MSG_NOSIGNAL), 0);
		ck_assert_msg(is_closed(fd), "%s", packets[i]);
	}
	ck_assert_int_eq(connect_with(-1), 0);
	ck_assert_int_eq(launcher_pid(launcher), server);
	ck_assert_str_eq(launcher_list(launcher, 0), ID2);
	ck_assert_int_eq(launcher_kill_rest(launcher), 0);
}
END_TEST

START_TEST(test_one_daemon_at_a_time)
{
	struct heard heard = {.launch = NULL};
	_cleanup_close_ int fd = raw_connection();

	ck_assert(is_closed(fd));
	spawn_plain(ID, "exit 6", &heard);
	expect_end(&heard, "peg", PROC_END_EXITED, 6);
}
END_TEST

static void connect_as_nobody(void)
{
	int fd;

	EXPECT(setresuid(65534, 65534, 65534) == 0);
	fd = unix_connect_packets_at(runtime_fd, LAUNCHER_SOCKET);
	EXPECT(fd >= 0);
	EXPECT(is_closed(fd));
}

/* Behind the file's mode the peer is asked who it is: a VM must not get commands from a stranger.
 * The daemon must not be there, for it would be the reason. */
START_TEST(test_strangers_are_refused)
{
	struct heard heard = {.launch = NULL};

	spawn_wrapper(ID, &heard);
	ck_assert(WAIT_FOR(loop, heard.text[0]));
	launcher_destroy(TAKE_PTR(launcher));
	chmod(dir, 0755);
	chmod(test_dir_path(dir, "launcher.sock"), 0666);
	in_child(connect_as_nobody);
	ck_assert_int_eq(connect_with(-1), 0);
	ck_assert_int_eq(launcher_kill_rest(launcher), 0);
}
END_TEST

START_TEST(test_without_a_program)
{
	struct launcher_config config = {.runtime_fd = runtime_fd,
					 .runtime_dir = dir,
					 .listen_fd_take = -1,
					 .program_fd_take = -1};

	launcher_destroy(TAKE_PTR(launcher));
	ck_assert_int_eq(launcher_connect(loop, &config, &launcher), -ENOENT);
	ck_assert_ptr_null(launcher);
	config.program_fd_take = open("/etc/passwd", O_PATH | O_CLOEXEC);
	ck_assert_int_eq(launcher_connect(loop, &config, &launcher), -EACCES);
	ck_assert_ptr_null(launcher);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("launcher");
	TCase *tests = tcase_create("launcher");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_greeting);
	tcase_add_test(tests, test_a_program);
	tcase_add_test(tests, test_descriptors_and_limits);
	tcase_add_test(tests, test_a_jail);
	tcase_add_test(tests, test_a_kill_before_the_pid_is_known);
	tcase_add_test(tests, test_what_cannot_be_started);
	tcase_add_test(tests, test_destroying_waits);
	tcase_add_test(tests, test_others_hear_from_the_loop);
	tcase_add_test(tests, test_destroying_inside_a_callback);
	tcase_add_test(tests, test_adoption);
	tcase_add_test(tests, test_the_rest_is_killed);
	tcase_add_test(tests, test_a_launcher_that_dies);
	tcase_add_test(tests, test_a_death_unnoticed);
	tcase_add_test(tests, test_a_launcher_that_hangs);
	tcase_add_test(tests, test_destroying_with_a_launcher_that_hangs);
	tcase_add_test(tests, test_orphans);
	tcase_add_test(tests, test_a_manager_that_gives_up);
	tcase_add_test(tests, test_another_version);
	tcase_add_test(tests, test_an_end_told_twice);
	tcase_add_test(tests, test_nonsense);
	tcase_add_test(tests, test_one_daemon_at_a_time);
	if (geteuid() == 0)
		tcase_add_test(tests, test_strangers_are_refused);
	tcase_add_test(tests, test_without_a_program);
	suite_add_tcase(suite, tests);
	return suite;
}
