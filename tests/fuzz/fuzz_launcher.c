/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets between daemon and launcher, either way: at the daemon's client, whose launches and calls
 * the input makes, or at what the launcher reads of a spawn.
 *
 * An input is lines, one a packet; each '+' in front of it is a descriptor that comes with it. A
 * line that begins with '!' is what the daemon does.
 */
#include "base/util.h"
#include "daemon/launcher/client.h"
#include "daemon/launcher/message.h"
#include "tests/fuzz/time.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define LAUNCHES_MAX 4
#define FDS_MAX      64 /* more than a packet may have */
#define PACKETS_MAX  64 /* before the list's end: more than the socket holds */

struct owner {
	struct launch *launch;
	unsigned pids, ends, gones;
};

static struct owner owners[LAUNCHES_MAX];
static int peer_fd; /* the daemon's end, until it connects */
static int dead_fd; /* the pidfd of a process that has ended */

/* base/util.h's, by the linker's --wrap: there is one launcher, once. */
int __wrap_unix_connect_packets_at(int dir_fd, const char *name);
int __wrap_unix_connect_packets_at(int dir_fd UNUSED, const char *name UNUSED)
{
	return peer_fd >= 0 ? TAKE_FD(peer_fd) : -EACCES;
}

static int make_dead_process(void)
{
	pid_t pid = fork();
	int fd;

	FUZZ_CHECK(pid >= 0);
	if (pid == 0)
		_exit(0);
	fd = pidfd_open(pid, 0);
	FUZZ_CHECK(fd >= 0 && TEMP_FAILURE_RETRY(waitpid(pid, NULL, 0)) == pid);
	return fd;
}

static void make_pair(int ret_fds[2])
{
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) ==
		   0);
}

/* The next line, without its end. False: there is none. */
static bool next_line(const char **data, size_t *size, const char **ret, size_t *ret_len)
{
	const char *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
	size_t len = end ? (size_t)(end - *data) : *size;

	if (*size == 0)
		return false;
	*ret = *data;
	*ret_len = len;
	len += end ? 1 : 0;
	*data += len;
	*size -= len;
	return true;
}

/* False when it cannot be sent any more. */
static bool send_line(int fd, const char *line, size_t len)
{
	union {
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr aligned;
	} control = {.bytes = {0}};
	struct iovec bytes;
	struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
	size_t n = 0;

	for (; len > 0 && *line == '+' && n < FDS_MAX; line++, len--)
		n++;
	bytes = (struct iovec){.iov_base = (char *)line, .iov_len = len};
	if (n > 0) {
		struct cmsghdr *header;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (size_t i = 0; i < n; i++)
			memcpy(CMSG_DATA(header) + i * sizeof(int), &dead_fd, sizeof(int));
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* --- At the launcher. --- */

static void check_spawn(struct packet *packet)
{
	struct spawn_request request;
	json_t *again;

	if (message_read_spawn(packet, &request) == 0) {
		FUZZ_CHECK(vm_dir_is_id(request.id) && request.argv[0][0] == '/');
		FUZZ_CHECK(request.spec.n_limits <= MESSAGE_LIMITS_MAX);
		FUZZ_CHECK(request.leaf.pids_max > 0 && request.leaf.memory_max_bytes > 0);
		again = message_spawn(request.id, &request.spec, &request.leaf);
		FUZZ_CHECK(again);
		json_decref(again);
	}
	spawn_request_fini(&request);
}

static void play_spawns(const char *data, size_t size)
{
	const char *line;
	size_t len;
	int fds[2];

	make_pair(fds);
	while (next_line(&data, &size, &line, &len)) {
		struct packet packet = PACKET_NONE;
		int r;

		if (!send_line(fds[0], line, len))
			break;
		r = packet_receive(fds[1], &packet);
		if (r <= 0)
			continue;
		FUZZ_CHECK(packet.n_fds <= PACKET_FDS_MAX && json_is_object(packet.json));
		check_spawn(&packet);
		packet_clear(&packet);
	}
	close_fd(fds[0]);
	close_fd(fds[1]);
}

/* --- At the daemon. --- */

static void on_pid(void *user, pid_t pid UNUSED)
{
	struct owner *owner = user;

	FUZZ_CHECK(++owner->pids == 1 && owner->ends == 0 && owner->gones == 0);
}

static void on_end(void *user)
{
	struct owner *owner = user;

	FUZZ_CHECK(++owner->ends == 1 && owner->gones == 0);
}

static void on_gone(void *user, const struct proc_status *status)
{
	struct owner *owner = user;

	FUZZ_CHECK(status && ++owner->gones == 1);
}

static const struct proc_ops proc_ops = {.on_pid = on_pid, .on_end = on_end, .on_gone = on_gone};

static struct owner *free_owner(void)
{
	for (size_t i = 0; i < LAUNCHES_MAX; i++)
		if (!owners[i].launch)
			return &owners[i];
	return NULL;
}

/* "!s": spawns; "!a": adopts the first that is nobody's; "!k": kills all; "!d": destroys the first.
 */
static void act(struct launcher *launcher, char what)
{
	char *argv[] = {(char[]){"/bin/true"}, NULL};
	const struct proc_spec spec = {.argv = argv, .info_fd_take = -1};
	const struct leaf_limits limits = {.memory_max_bytes = 1, .cpu_percent = 1, .pids_max = 1};
	struct owner *owner = free_owner();
	const char *id = launcher_list(launcher, 0);

	if (what == 's' && owner)
		(void)launch_spawn(launcher, "vm_0123456789abcdef", &spec, &limits, &proc_ops,
				   owner, &owner->launch);
	else if (what == 'a' && owner && id)
		FUZZ_CHECK(launch_adopt(launcher, id, &proc_ops, owner, &owner->launch) == 0);
	for (size_t i = 0; i < LAUNCHES_MAX; i++) {
		if (!owners[i].launch)
			continue;
		if (what == 'k')
			launch_kill(owners[i].launch);
		if (what == 'd') {
			/* One that has not ended is waited for, by the clock. */
			if (owners[i].gones == 0)
				continue;
			launch_destroy(owners[i].launch);
			owners[i] = (struct owner){0};
			break;
		}
	}
}

/* Up to the end of the list, which launcher_connect() waits for. */
static void send_list(int fd, const char **data, size_t *size)
{
	static const char synced[] = "{\"type\":\"synced\"}";
	bool is_synced = false;
	const char *line;
	size_t len;

	for (int i = 0; i < PACKETS_MAX && !is_synced && next_line(data, size, &line, &len); i++)
		is_synced = !send_line(fd, line, len) || memmem(line, len, "synced", 6);
	(void)send_line(fd, synced, strlen(synced));
}

static void play_daemon(const char *data, size_t size)
{
	const struct launcher_config config = {
		.runtime_fd = -1, .runtime_dir = "/", .listen_fd_take = -1, .program_fd_take = -1};
	struct launcher *launcher = NULL;
	struct loop *loop;
	const char *line;
	size_t len;
	int fds[2];

	make_pair(fds);
	peer_fd = fds[1];
	memset(owners, 0, sizeof(owners));
	FUZZ_CHECK(loop_create(&loop) == 0);
	send_list(fds[0], &data, &size);
	/* Nothing is waited for: what is not there will not come. */
	FUZZ_CHECK(shutdown(fds[0], size == 0 ? SHUT_WR : SHUT_RD) == 0);
	if (launcher_connect(loop, &config, &launcher) == 0) {
		while (next_line(&data, &size, &line, &len)) {
			if (len == 2 && *line == '!')
				act(launcher, line[1]);
			else if (!send_line(fds[0], line, len))
				break;
			fuzz_settle(loop);
		}
	}
	close_fd(fds[0]);
	fuzz_settle(loop);
	for (size_t i = 0; i < LAUNCHES_MAX; i++)
		launch_destroy(owners[i].launch);
	launcher_destroy(launcher);
	fuzz_settle(loop);
	loop_destroy(loop);
	close_fd(peer_fd);
}

/* First byte: at which end the rest comes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_begin();
	fuzz_time_begin();
	if (size < 1)
		return 0;
	if (dead_fd <= 0)
		dead_fd = make_dead_process();
	if (data[0] & 1)
		play_daemon((const char *)data + 1, size - 1);
	else
		play_spawns((const char *)data + 1, size - 1);
	return 0;
}
