/* SPDX-License-Identifier: Apache-2.0 */
/* The file that a ring lies in: mapped, with a header in front of its bytes. */
#include "daemon/session/ring_file.h"

#include "base/kept.h"
#include "base/kept_dir.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Of this version and this host's byte order. */
#define MAGIC UINT64_C(0x31676e6972627378)

struct ring_header {
	uint64_t magic, size, limit;
	uint64_t start, end;
	uint64_t unused[3];
};
static_assert(sizeof(struct ring_header) == 64, "the bytes begin at a cache line");

struct ring_file {
	struct kept_dir *dir; /* the ring may outlive who opened it */
	char name[KEPT_NAME_SIZE];
	bool is_there;       /* the file is ours */
	struct ring_map map; /* no header: it is not there yet, or closed */
};

/* --- Mappings. --- */

static int map_file(int fd, size_t size, struct ring_map *ret)
{
	size_t len = sizeof(struct ring_header) + size;
	void *mapped;
	int r;

	do {
		r = posix_fallocate(fd, 0, (off_t)len);
	} while (r == EINTR);
	if (r > 0)
		return -r;
	mapped = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		return -errno;
	*ret = (struct ring_map){.header = mapped,
				 .data = (uint8_t *)((struct ring_header *)mapped + 1),
				 .size = size};
	return 0;
}

static void unmap(struct ring_map *map)
{
	if (map->header)
		munmap(map->header, sizeof(*map->header) + map->size);
	*map = (struct ring_map){0};
}

int ring_file_begin(struct ring_file *file, size_t size, size_t limit, struct ring_map *ret)
{
	int dir_fd = kept_dir_fd(file->dir);
	_cleanup_close_ int fd = kept_begin(dir_fd, file->name);
	int r = fd < 0 ? fd : map_file(fd, size, ret);

	if (r == 0)
		*ret->header = (struct ring_header){.magic = MAGIC, .size = size, .limit = limit};
	else if (fd >= 0)
		kept_abort(dir_fd, file->name);
	return r;
}

int ring_file_commit(struct ring_file *file, struct ring_map *map_take, uint64_t start,
		     uint64_t end)
{
	int dir_fd = kept_dir_fd(file->dir), r;

	map_take->header->start = start;
	map_take->header->end = end;
	/* The system call is the barrier: its name comes last. */
	r = kept_commit(dir_fd, file->name);
	if (r < 0) {
		unmap(map_take);
		kept_abort(dir_fd, file->name);
		return r;
	}
	unmap(&file->map);
	file->map = *map_take;
	file->is_there = true;
	*map_take = (struct ring_map){0};
	return 0;
}

/* The compiler may not move stores over these; the processor's own order is the program's for
 * whoever looks when the process has ended. */
void ring_file_set_start(struct ring_file *file, uint64_t start)
{
	__atomic_store_n(&file->map.header->start, start, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void ring_file_set_end(struct ring_file *file, uint64_t end)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&file->map.header->end, end, __ATOMIC_RELAXED);
}

/* --- Without a mapping. --- */

void ring_file_close(struct ring_file *file)
{
	unmap(&file->map);
}

int ring_file_read(const struct ring_file *file, size_t at, uint8_t *to, size_t len)
{
	_cleanup_close_ int fd = kept_open(kept_dir_fd(file->dir), file->name, O_RDONLY, NULL);
	off_t from = (off_t)(sizeof(struct ring_header) + at);

	if (fd < 0)
		return fd;
	while (len > 0) {
		ssize_t n = pread(fd, to, len, from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		to += n;
		len -= (size_t)n;
		from += n;
	}
	return 0;
}

/* --- Life. --- */

static void free_file(struct ring_file *file)
{
	unmap(&file->map);
	kept_dir_put(file->dir);
	free(file);
}

void ring_file_remove(struct ring_file *file)
{
	/* Or none was made, and what has its name is another's. */
	if (file->is_there)
		(void)kept_remove(kept_dir_fd(file->dir), file->name);
	free_file(file);
}

int ring_file_create(int dir_fd, const char *name, struct ring_file **ret)
{
	struct ring_file *file;
	int r;

	if (!kept_name_is_valid(name))
		return -EINVAL;
	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	snprintf(file->name, sizeof(file->name), "%s", name);
	r = kept_dir_get(dir_fd, &file->dir);
	if (r < 0) {
		free(file);
		return r;
	}
	*ret = file;
	return 0;
}

static bool is_whole(const struct ring_map *map, size_t limit)
{
	const struct ring_header *header = map->header;

	return header->magic == MAGIC && header->size == map->size && header->limit == limit &&
	       map->size <= limit && header->start <= INT64_MAX && header->end <= INT64_MAX &&
	       (header->end <= header->start || header->end - header->start <= map->size);
}

/* Nothing larger is mapped than a ring of this limit is. */
static int map_existing(struct ring_file *file, size_t limit)
{
	uint64_t size = 0;
	_cleanup_close_ int fd = kept_open(kept_dir_fd(file->dir), file->name, O_RDWR, &size);
	int r;

	if (fd < 0)
		return fd;
	if (size < sizeof(struct ring_header) || size - sizeof(struct ring_header) > limit)
		return -EINVAL;
	r = map_file(fd, (size_t)size - sizeof(struct ring_header), &file->map);
	if (r < 0)
		return r;
	return is_whole(&file->map, limit) ? 0 : -EINVAL;
}

int ring_file_load(int dir_fd, const char *name, size_t limit, struct ring_file **ret,
		   struct ring_map *ret_map, uint64_t *ret_start, uint64_t *ret_end)
{
	struct ring_file *file;
	int r = ring_file_create(dir_fd, name, &file);

	if (r < 0)
		return r;
	/* Of a change of size that was not finished. */
	kept_abort(kept_dir_fd(file->dir), file->name);
	r = map_existing(file, limit);
	if (r < 0) {
		free_file(file);
		return r;
	}
	file->is_there = true;
	*ret = file;
	*ret_map = file->map;
	*ret_start = file->map.header->start;
	*ret_end = MAX(file->map.header->start, file->map.header->end);
	return 0;
}
