/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file that a ring lies in: mapped, with a header in front of its bytes. ring.c's only.
 *
 * Theory of operation: the file is allocated before it is mapped, so that a full disk is an error
 * then and no SIGBUS later. What is stored to a shared mapping is in the file for whoever opens it
 * next, also after a SIGKILL, in the order of the program: a store that was not done follows none
 * that was. Between ring_file_set_start() and ring_file_set_end() of more than a ring of bytes the
 * start lies behind the end: that is an empty ring which begins there.
 */
#ifndef DAEMON_SESSION_RING_FILE_H
#define DAEMON_SESSION_RING_FILE_H

#include "base/util.h"

struct ring_file;

/* The bytes behind a header. */
struct ring_map {
	struct ring_header *header;
	uint8_t *data;
	size_t size;
};

/* A file that does not exist yet. 0, -EINVAL for a name that is none (kept.h), or -errno. */
int ring_file_create(int dir_fd, const char *name, struct ring_file **ret) WARN_UNUSED;

/* Opens one that is there, and checks everything. 0 or -errno, -EINVAL when it is no ring of this
 * limit. */
int ring_file_load(int dir_fd, const char *name, size_t limit, struct ring_file **ret,
		   struct ring_map *ret_map, uint64_t *ret_start, uint64_t *ret_end) WARN_UNUSED;

/* Another content in three steps: a new mapping; the caller fills its bytes; it replaces the old
 * one, which is unmapped. 0 or -errno: then the old one is there still, and no new one. */
int ring_file_begin(struct ring_file *file, size_t size, size_t limit,
		    struct ring_map *ret) WARN_UNUSED;
int ring_file_commit(struct ring_file *file, struct ring_map *map_take, uint64_t start,
		     uint64_t end) WARN_UNUSED;

/* Before bytes are overwritten, and when new ones are there. */
void ring_file_set_start(struct ring_file *file, uint64_t start);
void ring_file_set_end(struct ring_file *file, uint64_t end);

/* Gives up the mapping: the bytes do not change any more. They are read from the file then, `at`
 * and `len` within its size; 0 or -errno. */
void ring_file_close(struct ring_file *file);
int ring_file_read(const struct ring_file *file, size_t at, uint8_t *to, size_t len) WARN_UNUSED;

/* Removes it, and its mapping. */
void ring_file_remove(struct ring_file *file);

#endif
