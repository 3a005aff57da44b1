/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of stored files: of bytes at hand, and of memory while it is copied sparsely. */
#ifndef DAEMON_TEMPLATE_STORE_HASH_H
#define DAEMON_TEMPLATE_STORE_HASH_H

#include "daemon/template/store.h"

/* The hash of `len` bytes in hex. 0 or -ENOMEM. */
int store_hash(const void *data, size_t len, char ret[STORE_HASH_SIZE]);

struct store_copy {
	int from_fd, to_fd; /* `to_fd` is empty or all holes */
	uint64_t size;      /* of the content; both have it afterwards */
	uint64_t max_bytes; /* that may be written: -E2BIG over it */
	/* Results. */
	bool has_from_failed; /* the error is of reading (-ENODATA: it ended early) */
	char hash[STORE_HASH_SIZE];
};

/*
 * Copies `size` bytes, leaving holes and blocks of zeros out, and hashes the whole content on the
 * way (holes as zeros): the hash is the one that sha256sum(1) prints. 0 or -errno.
 */
int store_copy_run(struct store_copy *copy);

#endif
