/* SPDX-License-Identifier: Apache-2.0 */
/* The store's directory: names, temporary directories, removal, bookkeeping of bytes. */
#include "daemon/template/store_dir.h"

#include "base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define NEW_PREFIX ".new-"
#define OLD_PREFIX ".old-"
#define HEX        "0123456789abcdef"
/* Ours have one level; a stranger's tree below is deleted that deep and no deeper. */
#define DELETE_DEPTH_MAX 8
/* Each failure is a sweeper that met a directory between its making and its lock. */
#define MAKE_TRIES 8
/* st_blocks counts these (stat(2)). */
#define STAT_BLOCK 512

static void close_dirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

#define _cleanup_dir_ _cleanup_(close_dirp)

bool store_name_is_valid(const char *name)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t len = strnlen(name, STORE_NAME_MAX);

	return len > 0 && len < STORE_NAME_MAX && name[0] != '.' && strspn(name, allowed) == len;
}

void store_dir_name(const char *name, const char *key, char ret[STORE_DIR_SIZE])
{
	snprintf(ret, STORE_DIR_SIZE, "%s-%s", name, key);
}

static void temporary_name(const char *prefix, char ret[STORE_DIR_SIZE])
{
	uint8_t bytes[8];
	char hex[2 * sizeof(bytes) + 1];

	random_bytes(bytes, sizeof(bytes));
	hex_encode(bytes, sizeof(bytes), hex);
	snprintf(ret, STORE_DIR_SIZE, "%s%s", prefix, hex);
}

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

int store_dir_open(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A stream of its own: the offset of `fd` stays where it is. */
static int open_listing(int fd, DIR **ret)
{
	_cleanup_close_ int own_fd = store_dir_open(fd, ".");

	if (own_fd < 0)
		return own_fd;
	*ret = fdopendir(own_fd);
	if (!*ret)
		return -errno;
	TAKE_FD(own_fd);
	return 0;
}

/* The next name but "." and ".."; NULL at the end. */
static const char *next_name(DIR *dir)
{
	struct dirent *entry;

	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return entry->d_name;
	return NULL;
}

static int lock_wait(int fd)
{
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* Its own open file description: one that a parent shares would be unlocked by the other. */
int store_dir_lock(int dir_fd)
{
	_cleanup_close_ int fd = store_dir_open(dir_fd, ".");
	int r = fd < 0 ? fd : lock_wait(fd);

	return r < 0 ? r : TAKE_FD(fd);
}

static bool is_named(int dir_fd, const char *name, int fd)
{
	struct stat named, held;

	return fstatat(dir_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &held) == 0 &&
	       named.st_dev == held.st_dev && named.st_ino == held.st_ino;
}

int store_dir_make(int dir_fd, char ret_name[STORE_DIR_SIZE])
{
	for (int i = 0; i < MAKE_TRIES; i++) {
		_cleanup_close_ int fd = -1;

		temporary_name(NEW_PREFIX, ret_name);
		if (mkdirat(dir_fd, ret_name, 0700) < 0)
			return -errno;
		fd = store_dir_open(dir_fd, ret_name);
		if (fd < 0 && fd != -ENOENT)
			return fd;
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && is_named(dir_fd, ret_name, fd))
			return TAKE_FD(fd);
	}
	return -EBUSY;
}

uint64_t store_dir_bytes(int fd)
{
	static const char *const names[] = {".", STORE_RAM, STORE_STATE, STORE_MANIFEST};
	uint64_t blocks = 0;

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		struct stat st;

		if (fstatat(fd, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			blocks += (uint64_t)st.st_blocks;
	}
	return blocks * STAT_BLOCK;
}

static int delete_tree(int dir_fd, const char *name, int depth);

static int delete_children(int fd, int depth)
{
	_cleanup_dir_ DIR *dir = NULL;
	const char *name;
	int r = open_listing(fd, &dir);

	while (r == 0 && (name = next_name(dir)))
		r = delete_tree(fd, name, depth);
	return r;
}

static int delete_tree(int dir_fd, const char *name, int depth)
{
	_cleanup_close_ int fd = -1;
	int r;

	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	if (depth == 0)
		return -ELOOP;
	fd = store_dir_open(dir_fd, name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	r = delete_children(fd, depth - 1);
	if (r < 0)
		return r;
	return unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int store_dir_delete(int dir_fd, const char *name)
{
	return delete_tree(dir_fd, name, DELETE_DEPTH_MAX);
}

int store_dir_discard(int dir_fd, const char *name, int held_fd)
{
	char away[STORE_DIR_SIZE];

	if (held_fd >= 0 && !is_named(dir_fd, name, held_fd))
		return 0;
	temporary_name(OLD_PREFIX, away);
	if (renameat(dir_fd, name, dir_fd, away) < 0)
		return -errno;
	return store_dir_delete(dir_fd, away);
}

/* One that is locked is being written, by another daemon or by a worker of ours. */
static int sweep_new(int dir_fd, const char *name)
{
	_cleanup_close_ int fd = store_dir_open(dir_fd, name);

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? 0 : -errno;
	/* Its writer may have been done in between: then it has another name now. */
	return fd < 0 || is_named(dir_fd, name, fd) ? store_dir_delete(dir_fd, name) : 0;
}

int store_dir_sweep(int dir_fd)
{
	_cleanup_dir_ DIR *dir = NULL;
	const char *name;
	int first_error = open_listing(dir_fd, &dir);

	while (dir && (name = next_name(dir))) {
		int r = 0;

		if (has_prefix(name, OLD_PREFIX))
			r = store_dir_delete(dir_fd, name);
		else if (has_prefix(name, NEW_PREFIX))
			r = sweep_new(dir_fd, name);
		if (first_error == 0)
			first_error = r;
	}
	return first_error;
}

/* Takes NAME-KEY apart; false for what is no template's. */
static bool parse_name(const char *text, struct store_entry *ret)
{
	size_t len = strlen(text), name_len;
	const char *key;

	if (len <= STORE_KEY_SIZE || len >= STORE_DIR_SIZE)
		return false;
	name_len = len - STORE_KEY_SIZE;
	key = text + name_len + 1;
	if (text[name_len] != '-' || strspn(key, HEX) != STORE_KEY_SIZE - 1)
		return false;
	*ret = (struct store_entry){.used_ns = 0};
	memcpy(ret->name, text, name_len);
	memcpy(ret->key, key, STORE_KEY_SIZE);
	return store_name_is_valid(ret->name);
}

/* The manifest's modification time is the last use. Without one it is not used, but takes space. */
static void look_at(int dir_fd, const char *text, struct store_entry *entry)
{
	_cleanup_close_ int fd = store_dir_open(dir_fd, text);
	struct stat st;

	if (fd < 0)
		return;
	entry->disk_bytes = store_dir_bytes(fd);
	if (fstatat(fd, STORE_MANIFEST, &st, AT_SYMLINK_NOFOLLOW) == 0)
		entry->used_ns = (uint64_t)st.st_mtim.tv_sec * UINT64_C(1000000000) +
				 (uint64_t)st.st_mtim.tv_nsec;
}

static int compare_use(const void *a, const void *b)
{
	uint64_t x = ((const struct store_entry *)a)->used_ns;
	uint64_t y = ((const struct store_entry *)b)->used_ns;

	return (y > x) - (y < x);
}

ssize_t store_dir_scan(int dir_fd, struct store_entry **ret)
{
	_cleanup_dir_ DIR *dir = NULL;
	struct store_entry *entries;
	const char *name;
	ssize_t count = 0;
	int r = open_listing(dir_fd, &dir);

	if (r < 0)
		return r;
	entries = calloc(STORE_ENTRIES_MAX, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	while (count < STORE_ENTRIES_MAX && (name = next_name(dir))) {
		if (!parse_name(name, &entries[count]))
			continue;
		look_at(dir_fd, name, &entries[count]);
		count++;
	}
	qsort(entries, (size_t)count, sizeof(*entries), compare_use);
	*ret = entries;
	return count;
}

static int discard_entry(int dir_fd, const struct store_entry *entry)
{
	char name[STORE_DIR_SIZE];
	int r;

	store_dir_name(entry->name, entry->key, name);
	r = store_dir_discard(dir_fd, name, -1);
	return r == -ENOENT ? 0 : r;
}

/* From the end, where the least recently used are. */
static int discard_until_fits(int dir_fd, const char *name, const struct store_entry *entries,
			      ssize_t count, uint64_t bytes, uint64_t max_bytes)
{
	uint64_t total = bytes;
	int r = 0;

	for (ssize_t i = 0; i < count; i++)
		if (strcmp(entries[i].name, name) != 0)
			total += entries[i].disk_bytes;
	for (ssize_t i = count - 1; i >= 0 && r == 0; i--) {
		bool is_own = strcmp(entries[i].name, name) == 0;

		if (!is_own && total <= max_bytes)
			continue;
		r = discard_entry(dir_fd, &entries[i]);
		if (!is_own)
			total -= entries[i].disk_bytes;
	}
	return r;
}

int store_dir_make_room(int dir_fd, const char *name, uint64_t bytes, uint64_t max_bytes)
{
	struct store_entry *entries;
	ssize_t count = store_dir_scan(dir_fd, &entries);
	int r;

	if (count < 0)
		return (int)count;
	r = discard_until_fits(dir_fd, name, entries, count, bytes, max_bytes);
	free(entries);
	return r;
}
