/* SPDX-License-Identifier: Apache-2.0 */
/* A control group of its own for each VM. */
#include "daemon/launcher/leaf.h"

#include "base/log.h"
#include "daemon/launcher/vm_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define OWN_LEAF        "launcher"
#define PROCS           "cgroup.procs"
#define EVENT_MAX       16384
#define CONTROLLERS_MAX 4096
/* The period of processor time, the kernel's default: limits are shares of it. */
#define CPU_PERIOD_US 100000
/* Made and removed to see what works. */
#define PROBE_ID "probe-vm_0000000000000000"

static const char *const kind_names[] = {[LEAF_NONE] = "none", [LEAF_V1] = "v1", [LEAF_V2] = "v2"};

const char *leaf_kind_name(enum leaf_kind kind)
{
	return kind_names[kind];
}

/* --- Limits. --- */

static int write_number(int dir_fd, const char *name, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%ju", (uintmax_t)number);
	return write_file_at(dir_fd, name, text);
}

static int limit_v2(const struct leaves *leaves, int fd, const struct leaf_limits *limits)
{
	char text[64];
	int r = 0;

	if (leaves->has_memory) {
		r = write_number(fd, "memory.max", limits->memory_max_bytes);
		/* Half a VM is of no use, and QEMU without its wrapper would go on. */
		if (r == 0)
			r = write_number(fd, "memory.oom.group", 1);
	}
	if (r == 0 && leaves->has_cpu) {
		snprintf(text, sizeof(text), "%u %u", limits->cpu_percent * (CPU_PERIOD_US / 100),
			 CPU_PERIOD_US);
		r = write_file_at(fd, "cpu.max", text);
	}
	if (r == 0 && leaves->has_pids)
		r = write_number(fd, "pids.max", limits->pids_max);
	return r;
}

static int limit_v1(const char *controller, int fd, const struct leaf_limits *limits)
{
	if (strcmp(controller, "memory") == 0)
		return write_number(fd, "memory.limit_in_bytes", limits->memory_max_bytes);
	if (strcmp(controller, "pids") == 0)
		return write_number(fd, "pids.max", limits->pids_max);
	return write_number(fd, "cpu.cfs_quota_us", limits->cpu_percent * (CPU_PERIOD_US / 100));
}

/* --- One leaf. --- */

static int make_in_tree(const struct leaves *leaves, const struct leaf_tree *tree, const char *id,
			const struct leaf_limits *limits, int *ret_fd)
{
	_cleanup_close_ int dir_fd = -1;
	int fd, r;

	if (mkdirat(tree->fd, id, 0755) < 0 && errno != EEXIST)
		return -errno;
	dir_fd = openat(tree->fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir_fd < 0)
		return -errno;
	r = tree->controller ? limit_v1(tree->controller, dir_fd, limits)
			     : limit_v2(leaves, dir_fd, limits);
	if (r < 0)
		return r;
	fd = openat(dir_fd, PROCS, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int leaf_make(const struct leaves *leaves, const char *id, const struct leaf_limits *limits,
	      int ret_fds[LEAF_TREES_MAX], size_t *ret_n)
{
	int r = 0;
	size_t n;

	for (n = 0; n < leaves->n_trees; n++) {
		r = make_in_tree(leaves, &leaves->trees[n], id, limits, &ret_fds[n]);
		if (r < 0)
			break;
	}
	if (r < 0) {
		while (n > 0)
			close_fd(ret_fds[--n]);
		(void)leaf_remove(leaves, id);
		return r;
	}
	*ret_n = n;
	return 0;
}

bool leaf_was_oom_killed(const struct leaves *leaves, const char *id)
{
	for (size_t i = 0; i < leaves->n_trees; i++) {
		const struct leaf_tree *tree = &leaves->trees[i];
		_cleanup_free_ char *text = NULL;
		char path[VM_DIR_NAME_SIZE + 32];
		uint64_t count;

		if (tree->controller && strcmp(tree->controller, "memory") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", id,
			 tree->controller ? "memory.oom_control" : "memory.events");
		if (read_file_at(tree->fd, path, EVENT_MAX, &text) > 0 &&
		    kernel_field(text, "oom_kill", &count) && count > 0)
			return true;
	}
	return false;
}

int leaf_remove(const struct leaves *leaves, const char *id)
{
	char path[VM_DIR_NAME_SIZE + 32];
	int r = 0;

	for (size_t i = 0; i < leaves->n_trees; i++) {
		if (!leaves->trees[i].controller) {
			snprintf(path, sizeof(path), "%s/cgroup.kill", id);
			(void)write_file_at(leaves->trees[i].fd, path, "1"); /* from Linux 5.14 */
		}
		if (unlinkat(leaves->trees[i].fd, id, AT_REMOVEDIR) < 0 && errno != ENOENT)
			r = -errno;
	}
	return r;
}

/* A leaf with processes cannot be removed, so another launcher's that shares our group is safe. */
void leaves_sweep(const struct leaves *leaves, bool (*is_used)(void *user, const char *id),
		  void *user)
{
	for (size_t i = 0; i < leaves->n_trees; i++) {
		int fd = openat(leaves->trees[i].fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *dir = fd < 0 ? NULL : fdopendir(fd);
		const struct dirent *entry;

		if (!dir) {
			close_fd(fd);
			continue;
		}
		while ((entry = readdir(dir)))
			if (entry->d_type == DT_DIR && vm_dir_is_id(entry->d_name) &&
			    !is_used(user, entry->d_name))
				(void)unlinkat(fd, entry->d_name, AT_REMOVEDIR);
		closedir(dir);
	}
}

/* --- All of them. --- */

static void add_tree(struct leaves *leaves, const char *controller, int fd_take)
{
	leaves->trees[leaves->n_trees++] =
		(struct leaf_tree){.controller = controller, .fd = fd_take};
}

/* Can a leaf be made there, limited, and be entered? */
static bool is_usable(const struct leaves *leaves, const struct leaf_tree *tree)
{
	static const struct leaf_limits limits = {
		.memory_max_bytes = UINT64_C(1) << 30, .cpu_percent = 100, .pids_max = 16};
	_cleanup_close_ int fd = -1;
	int r = make_in_tree(leaves, tree, PROBE_ID, &limits, &fd);

	(void)unlinkat(tree->fd, PROBE_ID, AT_REMOVEDIR);
	if (r < 0)
		log_debug(NULL, "No leaves for %s: %s", tree->controller ?: "version 2",
			  strerror(-r));
	return r == 0;
}

static int open_group(const char *path)
{
	return *path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static bool enable(int fd, const char *controller)
{
	return write_file_at(fd, "cgroup.subtree_control", controller) == 0;
}

/* On a hybrid host version 1 has them all. */
static bool has_controllers(int fd)
{
	_cleanup_free_ char *text = NULL;

	return read_file_at(fd, "cgroup.controllers", CONTROLLERS_MAX, &text) > 0 &&
	       (strstr(text, "memory") || strstr(text, "cpu") || strstr(text, "pids"));
}

/* Our own group's other processes, of which there must be none, are what forbids controllers. */
static bool open_v2(struct leaves *leaves, int fd)
{
	if (!has_controllers(fd) || (mkdirat(fd, OWN_LEAF, 0755) < 0 && errno != EEXIST))
		return false;
	if (write_file_at(fd, OWN_LEAF "/" PROCS, "0") == 0) {
		leaves->has_memory = enable(fd, "+memory");
		leaves->has_cpu = enable(fd, "+cpu");
		leaves->has_pids = enable(fd, "+pids");
	}
	if (leaves->has_memory || leaves->has_cpu || leaves->has_pids)
		return true;
	(void)write_file_at(fd, PROCS, "0");
	(void)unlinkat(fd, OWN_LEAF, AT_REMOVEDIR);
	return false;
}

void leaves_open(struct leaves *leaves, const struct own_cgroup *own)
{
	const struct {
		const char *controller, *path;
	} v1[LEAF_TREES_MAX] = {
		{"memory", own->memory_v1}, {"pids", own->pids_v1}, {"cpu", own->cpu_v1}};
	int fd = open_group(own->unified);

	*leaves = (struct leaves){.kind = LEAF_NONE};
	if (fd >= 0 && open_v2(leaves, fd)) {
		add_tree(leaves, NULL, fd);
		leaves->kind = LEAF_V2;
		return;
	}
	close_fd(fd);
	for (size_t i = 0; i < ELEMENTSOF(v1); i++) {
		fd = open_group(v1[i].path);
		if (fd >= 0 && is_usable(leaves, &(struct leaf_tree){v1[i].controller, fd}))
			add_tree(leaves, v1[i].controller, fd);
		else
			close_fd(fd);
	}
	if (leaves->n_trees > 0)
		leaves->kind = LEAF_V1;
}

void leaves_step_out(struct own_cgroup *own)
{
	char *slash = strrchr(own->unified, '/');

	if (slash && strcmp(slash + 1, OWN_LEAF) == 0)
		*slash = '\0';
}

void leaves_close(struct leaves *leaves)
{
	while (leaves->n_trees > 0)
		close_fd(leaves->trees[--leaves->n_trees].fd);
	leaves->kind = LEAF_NONE;
}
