/* SPDX-License-Identifier: Apache-2.0 */
/* Directories: what is in them, and their removal with all that is in them. */
#include "guest-agent/files/tree.h"

#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static DIR *open_directory(int fd_take)
{
	DIR *dir = fd_take < 0 ? NULL : fdopendir(fd_take);
	int error = errno;

	if (!dir)
		close_fd(fd_take);
	errno = error;
	return dir;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "device";
	}
}

static void set_text(json_t *object, const char *key, const char *text)
{
	json_t *string = json_string(text);
	char hex[2 * PATH_MAX + 1], hex_key[32];

	if (!string) { /* not UTF-8 */
		hex_encode(text, strnlen(text, PATH_MAX - 1), hex);
		snprintf(hex_key, sizeof(hex_key), "%s_hex", key);
		key = hex_key;
		string = json_string(hex);
	}
	json_object_set_new(object, key, string);
}

json_t *tree_describe(const struct stat *stat, int dir_fd, const char *name)
{
	json_int_t mtime_ns = (json_int_t)stat->st_mtim.tv_sec * 1000000000 + stat->st_mtim.tv_nsec;
	json_t *object = json_pack("{s:s, s:I, s:i, s:I}", "type", type_name(stat->st_mode), "size",
				   (json_int_t)stat->st_size, "mode", (int)(stat->st_mode & 07777),
				   "mtime_ns", mtime_ns);
	char target[PATH_MAX];
	ssize_t n;

	if (object && S_ISLNK(stat->st_mode)) {
		n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
		target[MAX(n, 0)] = '\0';
		set_text(object, "target", target);
	}
	return object;
}

/* --- Listing. --- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **items;
	size_t len, size;
};

static void names_fini(struct names *names)
{
	for (size_t i = 0; i < names->len; i++)
		free(names->items[i]);
	free(names->items);
}

static int names_add(struct names *names, const char *name)
{
	if (names->len == names->size) {
		size_t size = MAX(names->size * 2, (size_t)64);
		char **items = reallocarray(names->items, size, sizeof(*items));

		if (!items)
			return -ENOMEM;
		names->items = items;
		names->size = size;
	}
	names->items[names->len] = strdup(name);
	return names->items[names->len++] ? 0 : -ENOMEM;
}

/* One more than may be told is enough to know that there are more. */
static int names_read(struct names *names, DIR *dir)
{
	const struct dirent *entry;
	int r = 0;

	while (r == 0 && names->len <= TREE_ENTRIES_MAX && (entry = readdir(dir)))
		if (!is_dots(entry->d_name))
			r = names_add(names, entry->d_name);
	if (r == 0 && names->len > 0)
		qsort(names->items, names->len, sizeof(*names->items), by_name);
	return r;
}

struct listing {
	json_t *entries;
	size_t name_bytes;
	bool is_recursive;
};

static int list_directory(struct listing *listing, int dir_fd_take, const char *prefix,
			  unsigned depth);

static int add_entry(struct listing *listing, int dir_fd, const char *name, const char *path,
		     const struct stat *stat)
{
	json_t *entry;

	listing->name_bytes += strlen(path) + (S_ISLNK(stat->st_mode) ? (size_t)stat->st_size : 0);
	if (json_array_size(listing->entries) >= TREE_ENTRIES_MAX ||
	    listing->name_bytes > TREE_NAME_BYTES_MAX)
		return -E2BIG;
	entry = tree_describe(stat, dir_fd, name);
	if (!entry)
		return -ENOMEM;
	set_text(entry, "name", path);
	return json_array_append_new(listing->entries, entry) < 0 ? -ENOMEM : 0;
}

static int list_entry(struct listing *listing, int dir_fd, const char *name, const char *prefix,
		      unsigned depth)
{
	char path[PATH_MAX];
	struct stat stat;
	int fd, r;

	if ((size_t)snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "", name) >=
	    sizeof(path))
		return -ENAMETOOLONG;
	if (fstatat(dir_fd, name, &stat, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno; /* removed meanwhile */
	r = add_entry(listing, dir_fd, name, path, &stat);
	if (r < 0 || !listing->is_recursive || !S_ISDIR(stat.st_mode))
		return r;
	fd = openat(dir_fd, name, DIRECTORY_FLAGS);
	/* What may not be read is told of and not looked into. */
	return fd < 0 ? 0 : list_directory(listing, fd, path, depth + 1);
}

static int list_directory(struct listing *listing, int dir_fd_take, const char *prefix,
			  unsigned depth)
{
	_cleanup_(closedirp) DIR *dir = open_directory(dir_fd_take);
	_cleanup_(names_fini) struct names names = {0};
	int r;

	if (!dir)
		return -errno;
	if (depth > TREE_DEPTH_MAX)
		return -ELOOP;
	r = names_read(&names, dir);
	for (size_t i = 0; r == 0 && i < names.len; i++)
		r = list_entry(listing, dirfd(dir), names.items[i], prefix, depth);
	return r;
}

int tree_list(int dir_fd_take, bool is_recursive, json_t *entries)
{
	struct listing listing = {.entries = entries, .is_recursive = is_recursive};

	return list_directory(&listing, dir_fd_take, "", 0);
}

/* --- Removing. --- */

static int empty(int dir_fd_take, unsigned depth);

static int remove_entry(int dir_fd, const char *name, unsigned depth)
{
	int fd, r;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0)
		return 0;
	fd = openat(dir_fd, name, DIRECTORY_FLAGS);
	if (fd < 0)
		return -errno;
	r = empty(fd, depth + 1);
	if (r < 0)
		return r;
	return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

static int empty(int dir_fd_take, unsigned depth)
{
	_cleanup_(closedirp) DIR *dir = open_directory(dir_fd_take);
	const struct dirent *entry;
	int r = 0;

	if (!dir)
		return -errno;
	if (depth > TREE_DEPTH_MAX)
		return -ELOOP;
	while (r == 0 && (entry = readdir(dir)))
		if (!is_dots(entry->d_name))
			r = remove_entry(dirfd(dir), entry->d_name, depth);
	return r;
}

int tree_remove(const struct place *place, bool is_recursive)
{
	if (is_recursive) {
		struct stat stat;
		int r = place_stat(place, &stat);

		return r < 0 ? r : remove_entry(place->dir_fd, place->name, 0);
	}
	if (unlinkat(place->dir_fd, place->name, 0) == 0)
		return 0;
	if (errno != EISDIR)
		return -errno;
	return unlinkat(place->dir_fd, place->name, AT_REMOVEDIR) < 0 ? -errno : 0;
}
