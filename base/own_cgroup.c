/* SPDX-License-Identifier: Apache-2.0 */
/* The control group a process is in: where its files are, and what memory it may still use. */
#include "base/own_cgroup.h"

#include "base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define ROOT        "/sys/fs/cgroup"
#define ROOT_HYBRID ROOT "/unified"
#define ROOT_V1     ROOT "/memory"
#define ROOT_PIDS   ROOT "/pids"
#define ROOT_CPU    ROOT "/cpu"
/* Version 1 writes "none" as the most pages a counter holds: 2^63 less a page. */
#define NO_LIMIT_FROM (UINT64_C(1) << 62)

/* What the figures are called in one version. */
struct cgroup_names {
	const char *root;
	const char *limits[2]; /* the lower counts; NULL: no second one */
	const char *current;
	const char *caches[2]; /* keys of memory.stat, whole subtree */
};

static const struct cgroup_names names_v1 = {
	.root = ROOT_V1,
	.limits = {"memory.limit_in_bytes", NULL},
	.current = "memory.usage_in_bytes",
	.caches = {"total_active_file", "total_inactive_file"},
};

/* --- Finding it. --- */

static bool has_file(const struct kernel_files *files, const char *path)
{
	_cleanup_close_ int fd = files->open(path, O_RDONLY);

	return fd >= 0;
}

/* A group outside of the process's cgroup namespace is shown as "/../other". */
static bool is_plain_path(const char *path, size_t len)
{
	return len > 0 && path[0] == '/' && !memmem(path, len, "/..", 3);
}

/* `root` and the group's path, without a slash at the end. */
static void set_dir(char dir[PATH_MAX], const char *root, const char *path)
{
	size_t len = strcspn(path, "\n");

	if (!is_plain_path(path, len) || strlen(root) + len >= PATH_MAX)
		return;
	snprintf(dir, PATH_MAX, "%s%.*s", root, (int)(len == 1 ? 0 : len), path);
}

/* Whether `name` is one of the controllers at `list`, which a colon ends. */
static bool has_controller(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; *at && *at != ':' && *at != '\n';) {
		size_t word = strcspn(at, ",:\n");

		if (word == len && memcmp(at, name, len) == 0)
			return true;
		at += word;
		at += *at == ',';
	}
	return false;
}

/* One line is "hierarchy:controllers:path"; cgroup2's is "0::path". */
static void take_line(const char *line, struct own_cgroup *ret)
{
	const char *controllers = line + strspn(line, "0123456789"), *path;

	if (controllers == line || *controllers++ != ':')
		return;
	path = controllers + strcspn(controllers, ":\n");
	if (*path++ != ':')
		return;
	if (strncmp(line, "0::", 3) == 0)
		set_dir(ret->unified, ret->unified_root, path);
	if (has_controller(controllers, "memory"))
		set_dir(ret->memory_v1, ROOT_V1, path);
	if (has_controller(controllers, "pids"))
		set_dir(ret->pids_v1, ROOT_PIDS, path);
	if (has_controller(controllers, "cpu"))
		set_dir(ret->cpu_v1, ROOT_CPU, path);
}

int own_cgroup_find(const struct kernel_files *files, pid_t pid, struct own_cgroup *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[64] = "/proc/self/cgroup";
	ssize_t len;

	ret->unified[0] = ret->memory_v1[0] = ret->pids_v1[0] = ret->cpu_v1[0] = '\0';
	ret->unified_root = has_file(files, ROOT "/cgroup.controllers") ? ROOT : ROOT_HYBRID;
	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	len = kernel_file_read(files, path, &text);
	if (len < 0)
		return (int)len;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		take_line(line, ret);
	}
	return 0;
}

/* --- Its memory. --- */

static bool read_number(const struct kernel_files *files, const char *dir, const char *name,
			uint64_t *ret)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return kernel_file_number(files, path, ret) == 0;
}

static uint64_t read_limit(const struct kernel_files *files, const struct cgroup_names *names,
			   const char *dir)
{
	uint64_t limit = UINT64_MAX, number;

	for (size_t i = 0; i < ELEMENTSOF(names->limits) && names->limits[i]; i++)
		if (read_number(files, dir, names->limits[i], &number) && number < NO_LIMIT_FROM)
			limit = MIN(limit, number);
	return limit;
}

/* Page cache of the group and those below it that can be dropped. */
static uint64_t read_caches(const struct kernel_files *files, const struct cgroup_names *names,
			    const char *dir)
{
	_cleanup_free_ char *text = NULL;
	char path[PATH_MAX + 32];
	uint64_t sum = 0, number;

	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	if (kernel_file_read(files, path, &text) < 0)
		return 0;
	for (size_t i = 0; i < ELEMENTSOF(names->caches); i++)
		if (kernel_field(text, names->caches[i], &number) && number < NO_LIMIT_FROM)
			sum += number;
	return sum;
}

/* memory.stat of a large group costs the kernel time: only groups that have a limit are asked. */
static void take_group(const struct kernel_files *files, const struct cgroup_names *names,
		       const char *dir, struct cgroup_memory *ret)
{
	uint64_t limit = read_limit(files, names, dir), current;

	if (limit == UINT64_MAX || !read_number(files, dir, names->current, &current))
		return;
	current -= MIN(current, read_caches(files, names, dir));
	ret->limit_bytes = MIN(ret->limit_bytes, limit);
	ret->available_bytes = MIN(ret->available_bytes, limit - MIN(limit, current));
}

/* The group at `dir` and all above it. In a container the hierarchy's root is the container's own
 * group; also where `dir` itself cannot be seen from inside. */
static void walk_up(const struct kernel_files *files, const struct cgroup_names *names,
		    const char *dir, struct cgroup_memory *ret)
{
	char at[PATH_MAX];
	size_t root = strlen(names->root);

	if (strncmp(dir, names->root, root) != 0)
		return;
	snprintf(at, sizeof(at), "%s", dir);
	for (;;) {
		take_group(files, names, at, ret);
		if (strlen(at) <= root)
			break;
		*strrchr(at, '/') = '\0';
	}
}

void own_cgroup_memory(const struct kernel_files *files, const struct own_cgroup *cgroup,
		       struct cgroup_memory *ret)
{
	const struct cgroup_names names_v2 = {
		.root = cgroup->unified_root,
		.limits = {"memory.max", "memory.high"},
		.current = "memory.current",
		.caches = {"active_file", "inactive_file"},
	};

	*ret = (struct cgroup_memory){.limit_bytes = UINT64_MAX, .available_bytes = UINT64_MAX};
	walk_up(files, &names_v2, cgroup->unified, ret);
	walk_up(files, &names_v1, cgroup->memory_v1, ret);
}
