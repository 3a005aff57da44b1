/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's control groups: one for the agent, one for each run. */
#include "guest-agent/cgroup.h"

#include "base/util.h"
#include "guest-agent/proctext.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* What the agent has locked, with room for the frames in flight. */
#define AGENT_MEMORY_MIN "8M"
/* All runs of a VM together: under the kernel's own limit of threads in 128 MB of RAM (about 900),
 * so that a fork bomb in every run still leaves ids for the kernel. */
#define USER_PIDS_MAX "800"

/* The largest file that is read here, cpu.stat, has about 200 bytes in 6.1. */
#define SMALL_MAX 1024

static int open_dir(int dir_fd, const char *path)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int make_dir(int dir_fd, const char *name)
{
	if (mkdirat(dir_fd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	return open_dir(dir_fd, name);
}

/* Each by itself: one that is missing must not take the others with it. */
static void enable_controllers(int dir_fd)
{
	write_file_at(dir_fd, "cgroup.subtree_control", "+memory");
	write_file_at(dir_fd, "cgroup.subtree_control", "+pids");
	write_file_at(dir_fd, "cgroup.subtree_control", "+cpu");
}

static int enter_agent(int root_fd)
{
	_cleanup_close_ int fd = make_dir(root_fd, "agent");
	int r;

	if (fd < 0)
		return fd;
	/* A group with processes of its own cannot give controllers to its children. */
	r = cgroup_run_enter(fd);
	if (r < 0)
		return r;
	enable_controllers(root_fd);
	write_file_at(fd, "memory.min", AGENT_MEMORY_MIN);
	return 0;
}

int cgroup_init(struct cgroup *cgroup, const char *path, bool as_init)
{
	_cleanup_close_ int root = open_dir(AT_FDCWD, path), user = -1;
	int r;

	*cgroup = CGROUP_NONE;
	if (root < 0)
		return root;
	if (as_init) {
		r = enter_agent(root);
		if (r < 0)
			return r;
	}
	user = make_dir(root, "user");
	if (user < 0)
		return user;
	if (faccessat(user, "cgroup.kill", W_OK, 0) < 0) {
		unlinkat(root, "user", AT_REMOVEDIR);
		return -EOPNOTSUPP;
	}
	enable_controllers(user);
	write_file_at(user, "pids.max", USER_PIDS_MAX);
	cgroup->root_fd = TAKE_FD(root);
	cgroup->user_fd = TAKE_FD(user);
	return 0;
}

void cgroup_fini(struct cgroup *cgroup)
{
	if (cgroup_is_there(cgroup))
		unlinkat(cgroup->root_fd, "user", AT_REMOVEDIR);
	cgroup->user_fd = close_fd(cgroup->user_fd);
	cgroup->root_fd = close_fd(cgroup->root_fd);
}

static void write_limit(int fd, const char *file, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	write_file_at(fd, file, text);
}

int cgroup_run_create(const struct cgroup *cgroup, const char *name, struct cgroup_run *ret)
{
	int fd = make_dir(cgroup->user_fd, name);

	if (fd < 0)
		return fd;
	/* A run is killed whole: half a program that goes on without its other half helps nobody.
	 */
	write_file_at(fd, "memory.oom.group", "1");
	*ret = (struct cgroup_run){.fd = fd};
	strncpy(ret->name, name, sizeof(ret->name) - 1);
	return 0;
}

/* Each write costs a run 0.1 ms and more under TCG, and most runs have the same limits. */
void cgroup_run_limit(struct cgroup_run *run, const struct cgroup_limits *limits)
{
	if (limits->memory_max_bytes != run->limits.memory_max_bytes) {
		if (limits->memory_max_bytes > 0)
			write_limit(run->fd, "memory.max", limits->memory_max_bytes);
		else
			write_file_at(run->fd, "memory.max", "max");
	}
	if (limits->pids_max != run->limits.pids_max)
		write_limit(run->fd, "pids.max", limits->pids_max);
	run->limits = *limits;
}

void cgroup_run_remove(const struct cgroup *cgroup, struct cgroup_run *run)
{
	if (run->fd < 0)
		return;
	run->fd = close_fd(run->fd);
	unlinkat(cgroup->user_fd, run->name, AT_REMOVEDIR);
}

int cgroup_run_enter(int run_fd)
{
	return write_file_at(run_fd, "cgroup.procs", "0");
}

int cgroup_run_kill(int run_fd)
{
	return write_file_at(run_fd, "cgroup.kill", "1");
}

/* A whole small file of a group by one read(2), which is all the kernel needs for it, into the
 * stack: a heap buffer of the size for /proc costs more than the file. */
static bool read_small(int run_fd, const char *file, char buf[static SMALL_MAX])
{
	_cleanup_close_ int fd = openat(run_fd, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, SMALL_MAX - 1);

	if (n <= 0)
		return false;
	buf[n] = '\0';
	return true;
}

static void read_keyed(int run_fd, const char *file, const char *key, uint64_t *ret)
{
	char text[SMALL_MAX];

	if (read_small(run_fd, file, text))
		proctext_keyed(text, key, ret);
}

static void read_number(int run_fd, const char *file, uint64_t *ret)
{
	char text[SMALL_MAX];

	if (read_small(run_fd, file, text))
		proctext_numbers(text, ret, 1);
}

bool cgroup_run_is_populated(int run_fd)
{
	uint64_t populated = 1;

	/* When in doubt it is: the caller kills and asks again. */
	read_keyed(run_fd, "cgroup.events", "populated", &populated);
	return populated != 0;
}

/* One system call where the machine has no page in swap, instead of three for a file. */
static bool is_swap_used(void)
{
	struct sysinfo info;

	return sysinfo(&info) < 0 || info.freeswap < info.totalswap;
}

void cgroup_run_usage(int run_fd, struct cgroup_usage *ret)
{
	char cpu[SMALL_MAX];

	*ret = (struct cgroup_usage){0};
	if (read_small(run_fd, "cpu.stat", cpu))
		ret->has_cpu = proctext_keyed(cpu, "user_usec", &ret->cpu_user_us) &&
			       proctext_keyed(cpu, "system_usec", &ret->cpu_system_us);
	read_number(run_fd, "memory.peak", &ret->memory_peak_bytes);
	/* memory.swap.peak came with Linux 6.5. memory.stat has major faults, too, but takes longer
	 * to read than a short program to run: the kernel formats fifty numbers. */
	if (is_swap_used())
		read_number(run_fd, "memory.swap.current", &ret->swap_bytes);
	read_keyed(run_fd, "memory.events", "oom_kill", &ret->oom_kills);
}

uint64_t cgroup_run_current(int run_fd)
{
	uint64_t memory = 0, swap = 0;

	read_number(run_fd, "memory.current", &memory);
	if (is_swap_used())
		read_number(run_fd, "memory.swap.current", &swap);
	return memory + swap;
}
