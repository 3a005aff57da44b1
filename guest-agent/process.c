/* SPDX-License-Identifier: Apache-2.0 */
/* The main process of a run with all that is ours of it: pipes, cgroup, what it had used before. */
#include "guest-agent/process.h"

#include "base/util.h"
#include "guest-agent/proctext.h"
#include "guest-agent/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

void process_fini(struct process *process, const struct cgroup *cgroup)
{
	close_fd(process->stdin_fd);
	close_fd(process->stdout_fd);
	close_fd(process->stderr_fd);
	close_fd(process->report_fd);
	close_fd(process->failure_fd);
	close_fd(process->go_fd);
	cgroup_run_remove(cgroup, &process->cgroup);
	*process = PROCESS_NONE;
}

struct process process_move(struct process *process)
{
	struct process moved = *process;

	*process = PROCESS_NONE;
	return moved;
}

void process_kill_tree(const struct process *process, const struct process_spared *spared)
{
	if (process->cgroup.fd >= 0)
		cgroup_run_kill(process->cgroup.fd);
	else
		tree_signal(SIGKILL, spared->pids, spared->len);
}

bool process_is_tree_gone(const struct process *process, const struct process_spared *spared)
{
	if (process->cgroup.fd >= 0)
		return !cgroup_run_is_populated(process->cgroup.fd);
	return tree_signal(0, spared->pids, spared->len) == 0;
}

static struct timeval from_ticks(uint64_t ticks)
{
	uint64_t hertz = (uint64_t)sysconf(_SC_CLK_TCK);

	return (struct timeval){.tv_sec = (time_t)(ticks / hertz),
				.tv_usec = (suseconds_t)(ticks % hertz * 1000000u / hertz)};
}

/* Field numbers as in proc(5), "stat": 12 majflt, 13 cmajflt, 14 utime, 15 stime; 3 is the first
 * behind the name, which may hold anything. */
void process_read_usage(const struct process *process, struct rusage *ret)
{
	_cleanup_free_ char *text = NULL;
	uint64_t majflt, waited_majflt, utime, stime;
	const char *behind_name;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/stat", process->pid);
	if (read_file_at(AT_FDCWD, path, PROCTEXT_MAX, &text) <= 0)
		return;
	behind_name = strrchr(text, ')');
	if (!behind_name || sscanf(behind_name,
				   ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %" SCNu64 " %" SCNu64
				   " %" SCNu64 " %" SCNu64,
				   &majflt, &waited_majflt, &utime, &stime) != 4)
		return;
	ret->ru_majflt = (long)(majflt + waited_majflt);
	ret->ru_utime = from_ticks(utime);
	ret->ru_stime = from_ticks(stime);
}

void process_note_usage(struct process *process)
{
	process_read_usage(process, &process->rusage_before);
	if (process->cgroup.fd >= 0)
		cgroup_run_usage(process->cgroup.fd, &process->usage_before);
}

int process_limit_cpu(const struct process *process, uint64_t seconds)
{
	const struct rusage *before = &process->rusage_before;
	/* The kernel compares whole seconds: what is begun counts as used. */
	rlim_t used_us = (rlim_t)(before->ru_utime.tv_usec + before->ru_stime.tv_usec);
	rlim_t used =
		(rlim_t)(before->ru_utime.tv_sec + before->ru_stime.tv_sec) + used_us / 1000000 + 1;
	struct rlimit limit = {.rlim_cur = used + seconds, .rlim_max = used + seconds + 1};

	if (seconds > 0 && prlimit(process->pid, RLIMIT_CPU, &limit, NULL) < 0)
		return -errno;
	return 0;
}
