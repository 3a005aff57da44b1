/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates on disk: saved machines that outlive the daemon.
 *
 * Theory of operation: the store is one directory (0700), in it one directory per template, named
 * NAME-KEY where KEY is the start of the SHA-256 of the identity (what the saved machine depends
 * on: QEMU, kernel, root image, accelerator, machine line, memory). It holds `ram` (sparse),
 * `state` and `manifest.json` with the identity and the SHA-256 of both. A template is written
 * beside (`.new-…`), synced, and renamed into place: it is whole or not there. Two daemons may
 * share a store: changes are made under a lock of the directory, the loser of a race drops its own
 * copy, and files that are being read survive their removal. Nothing in it is trusted: sizes are
 * checked before reading, the memory is hashed while it is copied into its memfd, and whatever does
 * not match is removed and reported as absent with the reason.
 *
 * All slow work happens in a worker process; callbacks come from the loop. Jobs run one after the
 * other in the order they came, so that they never crowd out runs. A worker that dies leaves a
 * `.new-…` whose lock died with it; that, and `.old-…` that a removal did not finish, is swept when
 * it is noticed and when a store is created.
 */
#ifndef DAEMON_TEMPLATE_STORE_H
#define DAEMON_TEMPLATE_STORE_H

#include "base/loop.h"
#include "daemon/vm/vm_image.h"

#include <jansson.h>
#include <stdint.h>

#define STORE_NAME_MAX  64 /* of a template: "python-256" */
#define STORE_KEY_SIZE  17 /* 16 hex digits and a NUL */
#define STORE_HASH_SIZE 65 /* SHA-256 in hex, with its NUL */
/* Jobs that wait or run. There are a few languages with a few size classes each. */
#define STORE_JOBS_MAX 64
/* Templates that are looked at in one directory. At 50 MB each they would be 50 GB. */
#define STORE_ENTRIES_MAX 1024

struct store;
struct store_job;

struct store_config {
	struct loop *loop;
	int dir_fd;         /* borrowed */
	const char *path;   /* for messages */
	uint64_t max_bytes; /* allocated blocks of all templates together */
};

/* What is on disk under one name. */
struct store_entry {
	char name[STORE_NAME_MAX];
	char key[STORE_KEY_SIZE];
	uint64_t disk_bytes; /* allocated blocks */
	uint64_t used_ns;    /* wall clock: when it was last loaded or saved */
};

/* Hashes that a load or a save has computed; hex. */
struct store_hashes {
	char ram[STORE_HASH_SIZE], state[STORE_HASH_SIZE];
};

/*
 * error 0: `image_take` is sealed; what it holds is the callee's, who copies the struct. -ENOENT:
 * there is none of this identity (or one that was damaged and has been removed: `why` says so).
 * Other -errno: `why` says what was tried; then `image_take` and `hashes` are NULL. The job is gone
 * when its callback comes.
 */
typedef void (*store_loaded_fn)(void *user, int error, struct vm_image *image_take,
				const struct store_hashes *hashes, const char *why);

/* error 0: it is on disk (ours, or one of the same identity that another daemon wrote first);
 * `hashes` are those of the image that was given. -EFBIG: larger than the store may be. Other
 * -errno (-ENOSPC, …): `why` says what was tried, and nothing is left of it. */
typedef void (*store_saved_fn)(void *user, int error, const struct store_hashes *hashes,
			       const char *why);

/* Also removes what an interrupted save left. 0; -EPERM when the directory is another user's or
 * others may enter it; or -errno. */
int store_create(const struct store_config *config, struct store **ret);
/* Ends its jobs without callbacks, and removes what they left. NULL is fine. */
void store_destroy(struct store *store);

/* `name` is letters, digits, '.', '_' and '-', not '.' at first. `identity` is an object, borrowed
 * during the call. 0 (the callback comes, never during the call), -EINVAL, -EAGAIN
 * (STORE_JOBS_MAX), or -errno. */
int store_load(struct store *store, const char *name, uint64_t memory_mb, const json_t *identity,
	       store_loaded_fn on_loaded, void *user, struct store_job **ret);

/*
 * Writes a sealed image, which must live until the callback or store_cancel(). What no longer fits
 * max_bytes is evicted before the new one takes its name, least recently used before others, never
 * `name` itself; older keys of the same name go with it. While it is written its bytes are on disk
 * besides. Errors as store_load().
 */
int store_save(struct store *store, const char *name, const json_t *identity,
	       const struct vm_image *image, store_saved_fn on_saved, void *user,
	       struct store_job **ret);

/* Forgets a job: no callback comes. One that runs is let run: what it does stays done. Not from
 * inside its own callback or later. */
void store_cancel(struct store_job *job);

/* Removes every key of a template; one that is being loaded is loaded nevertheless. 0, -ENOENT when
 * there was none, or -errno. */
int store_remove(struct store *store, const char *name);

/* All of it, newest use first, in an array the caller frees. The count, or -errno. */
ssize_t store_list(struct store *store, struct store_entry **ret);

#endif
