/* SPDX-License-Identifier: Apache-2.0 */
/* What a launcher that was killed may have left alive. */
#include "daemon/launcher/reap.h"

#include "base/log.h"
#include "daemon/launcher/proc.h"
#include "daemon/launcher/start.h"
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
/* QEMU, bubblewrap, launcher; and what a service manager puts above. */
#define ANCESTORS_MAX 16

/* The real uid, which a process that is not dumpable keeps from its files' owner. */
static bool is_own_uid(int proc_fd, pid_t pid)
{
	_cleanup_free_ char *text = NULL;
	char path[32];
	const char *line;

	snprintf(path, sizeof(path), "%d/status", (int)pid);
	if (read_file_at(proc_fd, path, STATUS_MAX, &text) < 0)
		return false;
	line = strstr(text, "\nUid:");
	return line && strtoul(line + strlen("\nUid:"), NULL, 10) == getuid();
}

/* The words, each with its NUL; none of a process that has lost its memory, as its end begins. */
static ssize_t read_words(int proc_fd, pid_t pid, char **ret)
{
	char path[32];

	snprintf(path, sizeof(path), "%d/cmdline", (int)pid);
	return read_file_at(proc_fd, path, CMDLINE_MAX, ret);
}

static bool bears_vm_name(int proc_fd, pid_t pid)
{
	_cleanup_free_ char *words = NULL;
	ssize_t len = read_words(proc_fd, pid, &words);
	bool is_name = false;

	for (const char *word = words; len > 0 && word < words + len; word += strlen(word) + 1) {
		if (is_name && vm_dir_is_id(word))
			return true;
		is_name = strcmp(word, "-name") == 0;
	}
	return false;
}

static bool is_launcher(int proc_fd, pid_t pid)
{
	_cleanup_free_ char *words = NULL;
	const char *slash;

	if (read_words(proc_fd, pid, &words) <= 0)
		return false;
	slash = strrchr(words, '/');
	return strcmp(slash ? slash + 1 : words, LAUNCHER_PROGRAM) == 0;
}

static bool has_launcher(int proc_fd, pid_t pid)
{
	for (int i = 0; i < ANCESTORS_MAX; i++) {
		pid = proc_parent(pid);
		if (pid <= 0)
			return false;
		if (is_launcher(proc_fd, pid))
			return true;
	}
	return false;
}

static bool is_left(int proc_fd, pid_t pid)
{
	return is_own_uid(proc_fd, pid) && bears_vm_name(proc_fd, pid) &&
	       !has_launcher(proc_fd, pid);
}

/* Kills it if it is one that was left. Its pidfd, or -1. */
static int kill_left(int proc_fd, pid_t pid)
{
	_cleanup_close_ int pidfd = -1;

	if (pid <= 1 || pid == getpid())
		return -1;
	pidfd = pidfd_open(pid, 0);
	if (pidfd < 0 || !is_left(proc_fd, pid))
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

/* One look at all processes. */
static int kill_all(DIR *proc, uint64_t until_us)
{
	const struct dirent *entry;
	int *pidfds = NULL, count = 0;

	rewinddir(proc);
	while ((entry = readdir(proc))) {
		int pidfd = kill_left(dirfd(proc), (pid_t)strtol(entry->d_name, NULL, 10)), *grown;

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

int reap_strangers(double seconds)
{
	uint64_t until_us = now_us() + (uint64_t)(seconds * 1e6);
	DIR *proc = opendir("/proc");
	int count = 0, killed;

	if (!proc)
		return -errno;
	/* Who was killed may have been about to fork. */
	do {
		killed = kill_all(proc, until_us);
		count += killed;
	} while (killed > 0 && now_us() < until_us);
	closedir(proc);
	return count;
}
