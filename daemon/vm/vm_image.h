/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A saved machine: what a clone is made from.
 *
 * The memory is a sealed memfd that clones map privately; the devices' state is QEMU's migration
 * stream without that memory (`x-ignore-shared`). Owned by whoever holds the struct; clones borrow
 * it until they are ready.
 */
#ifndef DAEMON_VM_VM_IMAGE_H
#define DAEMON_VM_VM_IMAGE_H

#include "protocol/frame.h"

#include <stddef.h>
#include <stdint.h>

/* 56-72 KB measured for our machine; a pipe of QEMU's own default limit holds a megabyte. */
#define VM_IMAGE_STATE_MAX (1024u * 1024)

struct vm_image {
	int ram_fd; /* memfd of memory_mb, sealed against everything but private mappings */
	uint64_t memory_mb;
	uint8_t *state;
	size_t state_len;
	uint8_t sync[FRAME_MARKER_SIZE]; /* the marker its agent watches for */
};

#define VM_IMAGE_NONE         \
	{                     \
		.ram_fd = -1, \
	}

/* Closes and frees what the image holds; it is VM_IMAGE_NONE afterwards. */
void vm_image_fini(struct vm_image *image);

/*
 * Seals the memory: fills the holes (a clone that touched one would be charged for the page), then
 * F_SEAL_WRITE, GROW, SHRINK and SEAL, so that not even a QEMU that was taken over can change it.
 * Only after the QEMU that wrote it has ended: -EBUSY while it is mapped for writing. 0 or -errno
 * (-ENOSPC, -ENOMEM: the host lacks the memory).
 */
int vm_image_seal(int ram_fd, uint64_t memory_mb);

/* A memfd of memory_mb that can be sealed, empty. The descriptor, or -errno. `name` is for /proc.
 */
int vm_image_create_ram(const char *name, uint64_t memory_mb);

#endif
