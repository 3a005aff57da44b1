/* SPDX-License-Identifier: Apache-2.0 */
/* What a launcher that was killed may have left alive. */
#include "daemon/launcher/reap.h"

#include "base/log.h"
#include "daemon/launcher/vm_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>

/* bubblewrap's command line has 8 kB; what is longer is not ours. */
#define CMDLINE_MAX 131072
#define STATUS_MAX  16384

struct ids {
	char (*names)[VM_DIR_NAME_SIZE];
	size_t len;
};

static void add_id(void *user, const char *id)
{
	struct ids *ids = user;
	void *names = realloc(ids->names, (ids->len + 1) * sizeof(*ids->names));

	if (!names)
		return;
	ids->names = names;
	snprintf(ids->names[ids->len++], VM_DIR_NAME_SIZE, "%s", id);
}

/* The real uid, which a process that is not dumpable keeps from its files' owner. */
static bool is_own_uid(int proc_fd, const char *pid)
{
	_cleanup_free_ char *text = NULL;
	char path[sizeof("/cmdline") + 256];
	const char *line;

	snprintf(path, sizeof(path), "%.255s/status", pid);
	if (read_file_at(proc_fd, path, STATUS_MAX, &text) < 0)
		return false;
	line = strstr(text, "\nUid:");
	return line && strtoul(line + strlen("\nUid:"), NULL, 10) == getuid();
}

static bool has_id(int proc_fd, const char *pid, const struct ids *ids)
{
	_cleanup_free_ char *text = NULL;
	char path[sizeof("/cmdline") + 256];
	ssize_t len;

	snprintf(path, sizeof(path), "%.255s/cmdline", pid);
	len = read_file_at(proc_fd, path, CMDLINE_MAX, &text);
	for (size_t i = 0; len > 0 && i < ids->len; i++)
		if (memmem(text, (size_t)len, ids->names[i], strlen(ids->names[i])))
			return true;
	return false;
}

/* Kills it if it is ours. Its pidfd, or -1. */
static int kill_stranger(int proc_fd, const char *name, const struct ids *ids)
{
	pid_t pid = (pid_t)strtol(name, NULL, 10);
	_cleanup_close_ int pidfd = -1;

	if (pid <= 1 || pid == getpid())
		return -1;
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0 || !is_own_uid(proc_fd, name) || !has_id(proc_fd, name, ids))
		return -1;
	log_notice(NULL, "Killing process %d, left of a launcher that is gone", (int)pid);
	if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0)
		return -1;
	return TAKE_FD(pidfd);
}

static void await_end(int pidfd_take, uint64_t until_us)
{
	struct pollfd poll_fd = {.fd = pidfd_take, .events = POLLIN};
	uint64_t now = now_us();

	(void)poll(&poll_fd, 1, now < until_us ? (int)((until_us - now) / 1000) : 0);
	close_fd(pidfd_take);
}

static int kill_all(DIR *proc, const struct ids *ids, uint64_t until_us)
{
	const struct dirent *entry;
	int *pidfds = NULL, count = 0;

	while ((entry = readdir(proc))) {
		int pidfd, *grown;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		pidfd = kill_stranger(dirfd(proc), entry->d_name, ids);
		if (pidfd < 0)
			continue;
		grown = realloc(pidfds, ((size_t)count + 1) * sizeof(*pidfds));
		if (grown)
			(pidfds = grown)[count++] = pidfd;
		else
			close_fd(pidfd);
	}
	for (int i = 0; i < count; i++)
		await_end(pidfds[i], until_us);
	free(pidfds);
	return count;
}

int reap_strangers(int vms_fd, double seconds)
{
	struct ids ids = {.names = NULL};
	int r = vm_dir_walk(vms_fd, add_id, &ids);
	DIR *proc;

	if (r == 0 && ids.len > 0) {
		proc = opendir("/proc");
		r = proc ? kill_all(proc, &ids, now_us() + (uint64_t)(seconds * 1e6)) : -errno;
		if (proc)
			closedir(proc);
	}
	free(ids.names);
	return r;
}
