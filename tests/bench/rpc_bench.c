/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Round trips over a Unix socket, in microseconds: `rpc_bench MODE SOCKET COUNT`.
 *
 * MODE "ping" sends COUNT rpc.ping one after the other; "flight" keeps IN_FLIGHT of them on the
 * way. SOCKET "echo" is the peer of both: a process of our own that sends every byte back, the
 * least that any server could do. Prints one JSON object: n, seconds, and in order of time the
 * microseconds of each round trip ("ping" alone).
 */
#include "base/util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* The API's cap of requests in flight per connection. */
#define IN_FLIGHT 64
#define COUNT_MAX 1000000ul

static const char ping[] = "{\"jsonrpc\":\"2.0\",\"id\":%lu,\"method\":\"rpc.ping\"}\n";

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "rpc_bench: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static _Noreturn void serve_echo(int fd)
{
	char buffer[65536];
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		if (write_all(fd, buffer, (size_t)n) < 0)
			break;
	_exit(EXIT_SUCCESS);
}

static int start_echo(pid_t *ret_pid)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		die("socketpair");
	*ret_pid = fork();
	if (*ret_pid < 0)
		die("fork");
	if (*ret_pid == 0) {
		close_fd(fds[0]);
		serve_echo(fds[1]);
	}
	close_fd(fds[1]);
	return fds[0];
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		die(path);
	}
	memcpy(address.sun_path, path, strlen(path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(path);
	return fd;
}

static void send_ping(int fd, unsigned long id)
{
	char line[sizeof(ping) + 32];
	int len = snprintf(line, sizeof(line), ping, id);

	errno = -write_all(fd, line, (size_t)len);
	if (errno)
		die("write");
}

/* Reads until at least one line end came. How many did. */
static size_t read_lines(int fd)
{
	char buffer[65536];
	size_t lines = 0;

	while (lines == 0) {
		ssize_t n = read(fd, buffer, sizeof(buffer));

		if (n <= 0)
			die("read");
		for (const char *at = buffer; (at = memchr(at, '\n', (size_t)(buffer + n - at)));
		     at++)
			lines++;
	}
	return lines;
}

static void run_ping(int fd, unsigned long count)
{
	uint64_t *times = calloc(count, sizeof(*times));
	uint64_t started = now_us();

	if (!times)
		die("calloc");
	for (unsigned long i = 0; i < count; i++) {
		uint64_t sent = now_us();

		send_ping(fd, i);
		read_lines(fd);
		times[i] = now_us() - sent;
	}
	printf("{\"n\":%lu,\"seconds\":%.6f,\"us\":[", count, (double)(now_us() - started) / 1e6);
	for (unsigned long i = 0; i < count; i++)
		printf("%s%lu", i > 0 ? "," : "", (unsigned long)times[i]);
	puts("]}");
	free(times);
}

static void run_flight(int fd, unsigned long count)
{
	uint64_t started = now_us();
	unsigned long sent = 0, answered = 0;

	while (answered < count) {
		while (sent < count && sent - answered < IN_FLIGHT)
			send_ping(fd, sent++);
		answered += read_lines(fd);
	}
	printf("{\"n\":%lu,\"seconds\":%.6f}\n", count, (double)(now_us() - started) / 1e6);
}

int main(int argc, char **argv)
{
	unsigned long count = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	pid_t echo = 0;
	int fd;

	if (count == 0 || count > COUNT_MAX) {
		fprintf(stderr, "usage: rpc_bench ping|flight SOCKET|echo COUNT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	fd = strcmp(argv[2], "echo") == 0 ? start_echo(&echo) : connect_to(argv[2]);
	if (strcmp(argv[1], "ping") == 0)
		run_ping(fd, count);
	else
		run_flight(fd, count);
	close_fd(fd);
	if (echo > 0)
		waitpid(echo, NULL, 0);
	return EXIT_SUCCESS;
}
