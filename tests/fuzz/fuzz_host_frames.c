/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of the host at the whole agent, with every step of a run but the program itself: in its
 * place a child that ends at once, or stays when it is told to; some output, and a report. When
 * the host has said all, deadlines pass, and then it hangs up.
 */
#include "base/util.h"
#include "guest-agent/agent.h"
#include "guest-agent/spawn.h"
#include "tests/fuzz/time.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* What a stream reads at once; see base/stream.c. A longer packet would lose its end. */
#define PACKET_MAX 4096

/* Deadlines that pass behind what the host has said, at the most. */
#define DEADLINES 8

static struct loop *loop; /* the agent's */

/* base/loop.h's, by the linker's --wrap. */
int __real_loop_create(struct loop **ret);
int __wrap_loop_create(struct loop **ret);
int __wrap_loop_create(struct loop **ret)
{
	int r = __real_loop_create(ret);

	loop = r == 0 ? *ret : NULL;
	return r;
}

static char home[] = "/tmp/execsandbox-fuzz-XXXXXX";

static void remove_home(void)
{
	static const char *const files[] = {"main.py", "main.ts", "main.sh"};
	int dir = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		unlinkat(dir, files[i], 0);
	close_fd(dir);
	rmdir(home);
}

static void say(int fd, const char *text, size_t len)
{
	/* A terminal's other end may be gone. */
	if (fd >= 0)
		(void)!write(fd, text, len);
}

static bool has_word(char *const *words, const char *wanted)
{
	for (; *words; words++)
		if (strstr(*words, wanted))
			return true;
	return false;
}

/* guest-agent/spawn.h's, by the linker's --wrap: what the program would write is there at once. */
int __wrap_spawn_start(const struct spawn_request *request, pid_t *ret_pid, int *ret_failure_fd);
int __wrap_spawn_start(const struct spawn_request *request, pid_t *ret_pid, int *ret_failure_fd)
{
	static const char report[] = "{\"name\":\"E\",\"value\":\"v\",\"traceback\":\"t\"}";
	bool is_resident = has_word(request->argv, "resident");
	bool stays = request->go_fd >= 0 || has_word(request->argv, "stay");
	int failure[2];
	siginfo_t info;

	say(request->stdout_fd, "out\n", 4);
	say(request->stderr_fd, "err\n", 4);
	say(request->report_fd, report, strlen(report));
	/* A reply to the first program; or that it waits. */
	say(request->go_fd, is_resident ? "\3\2\0\0\0{}" : ".", is_resident ? 7 : 1);
	FUZZ_CHECK(pipe2(failure, O_CLOEXEC | O_NONBLOCK) == 0);
	*ret_pid = fork();
	FUZZ_CHECK(*ret_pid >= 0);
	if (*ret_pid == 0 && stays)
		pause();
	if (*ret_pid == 0)
		_exit(3);
	/* Its end is there to be seen, the same in every run; libFuzzer's alarm comes in between.
	 */
	if (!stays)
		FUZZ_CHECK(TEMP_FAILURE_RETRY(
				   waitid(P_PID, (id_t)*ret_pid, &info, WEXITED | WNOWAIT)) == 0);
	close_fd(failure[1]);
	*ret_failure_fd = failure[0];
	return 0;
}

/* A packet per piece. */
static void write_all_packets(int fd, const uint8_t *data, size_t len, size_t piece)
{
	while (len > 0) {
		size_t wanted = MIN(MIN(piece, len), (size_t)PACKET_MAX);

		if (write(fd, data, wanted) < 0) /* closed, or not read any more */
			return;
		data += wanted;
		len -= wanted;
		fuzz_settle(loop);
		fuzz_drain(fd);
	}
}

/* First byte: piece length; the rest is what the host sends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool has_home;
	struct agent_config config = {.home = home, .runners = "/usr/lib/execsandbox/runners"};
	struct agent *agent;
	int fds[2];

	fuzz_begin();
	fuzz_time_begin();
	if (size < 1)
		return 0;
	if (!has_home) {
		FUZZ_CHECK(mkdtemp(home));
		atexit(remove_home);
		has_home = true;
	}
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	config.fd = fds[1];
	FUZZ_CHECK(agent_create(&agent, &config) == 0);
	write_all_packets(fds[0], data + 1, size - 1, fuzz_piece(data[0], size - 1));
	for (int i = 0; i < DEADLINES && fuzz_time_pass(loop); i++)
		fuzz_drain(fds[0]);
	FUZZ_CHECK(shutdown(fds[0], SHUT_WR) == 0);
	agent_run(agent);
	agent_destroy(agent);
	fuzz_drain(fds[0]);
	close_fd(fds[0]);
	return 0;
}
