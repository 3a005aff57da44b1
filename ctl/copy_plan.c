/* SPDX-License-Identifier: Apache-2.0 */
/* What a copy consists of: the plan itself, and that of a local tree. */
#include "ctl/copy_plan.h"

#include "ctl/copy_path.h"
#include "ctl/output.h"
#include "protocol/utf8.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

void plan_fini(struct plan *plan)
{
	for (size_t i = 0; i < plan->len; i++)
		free(plan->entries[i].path);
	free(plan->entries);
	free(plan->left_out_example);
	*plan = (struct plan){0};
}

int plan_add(struct plan *plan, const struct plan_entry *entry_take)
{
	if (plan->len == plan->size) {
		size_t size = MAX(2 * plan->size, (size_t)64);
		struct plan_entry *grown =
			plan->len >= PLAN_ENTRIES_MAX
				? NULL
				: reallocarray(plan->entries, size, sizeof(*grown));

		if (!grown) {
			free(entry_take->path);
			return plan->len >= PLAN_ENTRIES_MAX ? -E2BIG : -ENOMEM;
		}
		plan->entries = grown;
		plan->size = size;
	}
	plan->entries[plan->len++] = *entry_take;
	if (entry_take->is_directory)
		return 0;
	plan->files++;
	plan->bytes += entry_take->size;
	return 0;
}

int plan_leave_out(struct plan *plan, const char *path)
{
	if (plan->left_out++ == 0)
		plan->left_out_example = strdup(path);
	return plan->left_out_example ? 0 : -ENOMEM;
}

/* --- A local tree. --- */

static int add_local(struct plan *plan, const char *path, const struct stat *stat)
{
	struct plan_entry entry = {
		.path = strdup(path),
		.is_directory = S_ISDIR(stat->st_mode),
		.mode = S_ISREG(stat->st_mode) || S_ISDIR(stat->st_mode) ? stat->st_mode & 0777
									 : MODE_UNKNOWN,
		.size = S_ISREG(stat->st_mode) ? (uint64_t)stat->st_size : 0,
	};

	return entry.path ? plan_add(plan, &entry) : -ENOMEM;
}

/* -ECANCELED: the reason was printed. */
static int walk(struct plan *plan, int dir_fd, const char *path, unsigned depth);

static int walk_entry(struct plan *plan, int dir_fd, const char *name, const char *parent,
		      unsigned depth)
{
	_cleanup_free_ char *path = path_join(parent, name);
	_cleanup_close_ int fd = -1;
	struct stat stat;
	int r;

	if (!path)
		return -ENOMEM;
	if (fstatat(dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno; /* removed meanwhile */
	if (!S_ISREG(stat.st_mode) && !S_ISDIR(stat.st_mode))
		return plan_leave_out(plan, path);
	if (!utf8_is_valid(name, strlen(name))) {
		output_error("'%s' cannot be named in a session: it is not UTF-8 text", path);
		return -ECANCELED;
	}
	r = add_local(plan, path, &stat);
	if (r < 0 || !S_ISDIR(stat.st_mode))
		return r;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		return walk(plan, fd, path, depth + 1);
	output_error("Cannot open '%s': %s", path, strerror(errno));
	return -ECANCELED;
}

static int walk(struct plan *plan, int dir_fd, const char *path, unsigned depth)
{
	struct dirent **names;
	int count, r = 0;

	if (depth > PLAN_DEPTH_MAX)
		return -ELOOP;
	count = scandirat(dir_fd, ".", &names, NULL, alphasort);
	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		const char *name = names[i]->d_name;

		if (r == 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
			r = walk_entry(plan, dir_fd, name, path, depth);
		free(names[i]);
	}
	free(names);
	return r;
}

int plan_local(const char *name, int root_fd, struct plan *ret)
{
	struct plan plan = {0};
	struct stat stat;
	int r = fstat(root_fd, &stat) < 0 ? -errno : add_local(&plan, "", &stat);

	if (r == 0 && S_ISDIR(stat.st_mode))
		r = walk(&plan, root_fd, "", 0);
	if (r == 0) {
		*ret = plan;
		return EXIT_OK;
	}
	if (r != -ECANCELED)
		output_error("Cannot copy '%s': %s", name, strerror(-r));
	plan_fini(&plan);
	return EXIT_ERROR;
}
