/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's directory: names, temporary directories, removal, bookkeeping of bytes.
 *
 * Theory of operation: NAME-KEY directories are templates and appear and go by rename(2), so that
 * they are whole or not there. `.new-…` is being written, by whoever holds an flock(2) on it: one
 * that can be locked is a leftover. `.old-…` is being deleted and may be deleted by anybody. Who
 * publishes or evicts holds the lock of the store's directory, so that two who make room at once
 * see each other's templates; who only removes one by name needs none. Locks belong to open
 * descriptors and end with their process.
 */
#ifndef DAEMON_TEMPLATE_STORE_DIR_H
#define DAEMON_TEMPLATE_STORE_DIR_H

#include "daemon/template/store.h"

#include <stdbool.h>

#define STORE_RAM      "ram"
#define STORE_STATE    "state"
#define STORE_MANIFEST "manifest.json"

/* NAME-KEY with its NUL; also room for the temporary ones. */
#define STORE_DIR_SIZE (STORE_NAME_MAX + STORE_KEY_SIZE)

/* Whether a template may be called that. */
bool store_name_is_valid(const char *name);

/* NAME-KEY. */
void store_dir_name(const char *name, const char *key, char ret[STORE_DIR_SIZE]);

/* Opens a directory without following a link. The descriptor or -errno. */
int store_dir_open(int dir_fd, const char *name);

/* Waits for the store's lock; a worker's business. The descriptor that holds it, or -errno. */
int store_dir_lock(int dir_fd);

/* Makes a `.new-…` and locks it. The descriptor that holds the lock, or -errno. */
int store_dir_make(int dir_fd, char ret_name[STORE_DIR_SIZE]);

/* Allocated bytes of an open template's files and its directory. */
uint64_t store_dir_bytes(int fd);

/*
 * Renames `name` away and deletes it. When `held_fd` is not -1, only if that is the directory that
 * still has the name (hold the store's lock then). 0, also when another one has the name now;
 * -ENOENT when nothing has it; or -errno.
 */
int store_dir_discard(int dir_fd, const char *name, int held_fd);

/* Deletes a whole directory or file, entered without following links. 0, also when it is gone. */
int store_dir_delete(int dir_fd, const char *name);

/* Deletes what nobody works on any more: `.old-…`, and `.new-…` without a lock. 0 or -errno. */
int store_dir_sweep(int dir_fd);

/* All templates, newest use first; at most STORE_ENTRIES_MAX. The count, or -errno. */
ssize_t store_dir_scan(int dir_fd, struct store_entry **ret);

/*
 * Discards other keys of `name`, then templates of other names, least recently used first, until
 * `bytes` more are at most `max_bytes`. Hold the store's lock. 0 or -errno.
 */
int store_dir_make_room(int dir_fd, const char *name, uint64_t bytes, uint64_t max_bytes);

#endif
