/* SPDX-License-Identifier: Apache-2.0 */
/* The guest images: kernel and root file system, opened once and handed to every QEMU by
 * descriptor. */
#ifndef DAEMON_VM_IMAGES_H
#define DAEMON_VM_IMAGES_H

#include <jansson.h>

struct images {
	int kernel_fd, rootfs_fd; /* -1 when not open */
	json_t *manifest;         /* what images/build wrote; NULL when not open */
};

#define IMAGES_NONE                              \
	{                                        \
		.kernel_fd = -1, .rootfs_fd = -1 \
	}

/*
 * The directory is the open `dir_fd`, or `path` when that is -1; `path` names it in errors.
 * Opens vmlinux, rootfs.erofs and manifest.json in the directory `path`. 0, or -errno with
 * `ret_what` naming the file at fault (-EINVAL: not what its name says). `ret` is written only on
 * success.
 */
int images_open(int dir_fd, const char *path, struct images *ret, const char **ret_what);

void images_close(struct images *images);

#endif
