/* SPDX-License-Identifier: Apache-2.0 */
/* Ending a run's processes where there are no cgroups. */
#include "guest-agent/tree.h"

#include "base/util.h"
#include "guest-agent/proctext.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/* Generations between the agent and a process; a chain that is longer is cut by the next round,
 * when its upper end is dead. */
#define DEPTH_MAX 64

int tree_init(void)
{
	return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

/* The parent of `pid`, and whether it still lives; 0 when it is gone. */
static pid_t parent_of(pid_t pid, bool *ret_lives)
{
	_cleanup_free_ char *text = NULL;
	const char *behind_name;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_file_at(AT_FDCWD, path, PROCTEXT_MAX, &text) <= 0)
		return 0;
	behind_name = strrchr(text, ')'); /* the name may hold anything, also brackets */
	if (!behind_name || strlen(behind_name) < sizeof(") S 1"))
		return 0;
	*ret_lives = behind_name[2] != 'Z' && behind_name[2] != 'X';
	return (pid_t)strtol(behind_name + 3, NULL, 10);
}

struct spared {
	const pid_t *pids;
	size_t len;
};

static bool is_spared(pid_t pid, const struct spared *spared)
{
	for (size_t i = 0; i < spared->len; i++)
		if (spared->pids[i] == pid)
			return true;
	return false;
}

static bool is_living_descendant(pid_t pid, pid_t ancestor, const struct spared *spared)
{
	bool lives = false, ignored;
	pid_t parent = parent_of(pid, &lives);

	if (is_spared(pid, spared))
		return false;
	for (int depth = 0; depth < DEPTH_MAX && lives && parent > 1 && parent != ancestor;
	     depth++) {
		if (is_spared(parent, spared))
			return false;
		parent = parent_of(parent, &ignored);
	}
	return lives && parent == ancestor;
}

size_t tree_signal(int sig, const pid_t *spared, size_t spared_len)
{
	const struct spared except = {.pids = spared, .len = spared_len};
	DIR *proc = opendir("/proc");
	pid_t self = getpid();
	struct dirent *entry;
	size_t count = 0;

	if (!proc)
		return 0;
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid <= 1 || pid == self || !is_living_descendant(pid, self, &except))
			continue;
		count++;
		if (sig > 0)
			kill(pid, sig);
	}
	closedir(proc);
	return count;
}
