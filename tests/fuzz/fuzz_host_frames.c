/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of the host at the whole agent, with every step of a run but the program itself: in its
 * place a child that ends at once, some output, and a report.
 */
#include "base/util.h"
#include "guest-agent/agent.h"
#include "guest-agent/program.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* What a stream reads at once; see base/stream.c. A longer packet would lose its end. */
#define PACKET_MAX 4096

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

/* A pipe that holds `text` and then ends; our reading end. */
static int pipe_with(const char *text)
{
	int ends[2];

	FUZZ_CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
	FUZZ_CHECK(write(ends[1], text, strlen(text)) == (ssize_t)strlen(text));
	close_fd(ends[1]);
	return ends[0];
}

/* guest-agent/program.h's, by the linker's --wrap. */
int __wrap_program_start(const struct program *program, const struct agent_config *config,
			 bool waits, struct process *process);
int __wrap_program_start(const struct program *program, const struct agent_config *config,
			 bool waits, struct process *process)
{
	char **argv =
		language_argv(program->language, config->runners, config->home, program->args);
	char **environment = language_environment(program->language, config->runners, config->home,
						  program->env, waits);
	int input[2], go[2];

	FUZZ_CHECK(argv && environment);
	strings_free(argv);
	strings_free(environment);
	FUZZ_CHECK(pipe2(input, O_CLOEXEC | O_NONBLOCK) == 0);
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, go) == 0);
	/* It says that it waits, and has ended when it is told to go. */
	FUZZ_CHECK(write(go[1], ".", 1) == 1);
	process->pid = fork();
	FUZZ_CHECK(process->pid >= 0);
	if (process->pid == 0)
		_exit(3);
	close_fd(input[0]);
	close_fd(go[1]);
	process->go_fd = waits ? go[0] : close_fd(go[0]);
	process->stdin_fd = input[1];
	process->stdout_fd = pipe_with("out\n");
	process->stderr_fd = pipe_with("err\n");
	process->report_fd = pipe_with("{\"name\":\"E\",\"value\":\"v\",\"traceback\":\"t\"}");
	process->failure_fd = pipe_with("");
	return 0;
}

/* All that the host will ever say waits in the socket, a packet per piece; then it hangs up. */
static void write_all_packets(int fd, const uint8_t *data, size_t len, size_t piece)
{
	while (len > 0) {
		size_t wanted = MIN(MIN(piece, len), (size_t)PACKET_MAX);

		if (write(fd, data, wanted) < 0) /* the socket is full: enough was said */
			break;
		data += wanted;
		len -= wanted;
	}
	FUZZ_CHECK(shutdown(fd, SHUT_WR) == 0);
}

/* First byte: piece length; the rest is what the host sends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool has_home;
	struct agent_config config = {.home = home, .runners = "/usr/lib/execsandbox/runners"};
	struct agent *agent;
	int fds[2];

	fuzz_begin();
	if (size < 1)
		return 0;
	if (!has_home) {
		FUZZ_CHECK(mkdtemp(home));
		atexit(remove_home);
		has_home = true;
	}
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	write_all_packets(fds[0], data + 1, size - 1, fuzz_piece(data[0], size - 1));
	config.fd = fds[1];
	FUZZ_CHECK(agent_create(&agent, &config) == 0);
	agent_run(agent);
	agent_destroy(agent);
	fuzz_drain(fds[0]);
	close_fd(fds[0]);
	return 0;
}
