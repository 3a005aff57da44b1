/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stand-ins for the libraries that QEMU is linked with and does not call in our VMs.
 *
 * Theory of operation: Debian's QEMU has 50 libraries, and half of its start is the dynamic
 * linker's work on them. images/qemu-stubs makes one file that defines what QEMU imports from those
 * that no VM of ours needs, and a list of the names they go by. The jail shows that file under all
 * these names in a directory that the linker looks into first; it comes into the jail as an
 * inherited descriptor like the images. It is for one build of QEMU alone, which the list names;
 * with any other one there are no stand-ins, and QEMU only starts slower. Measured: 19 ms to QMP's
 * greeting become 12, and a rehearsed clone has 4 MB less.
 */
#ifndef DAEMON_VM_STUBS_H
#define DAEMON_VM_STUBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* QEMU 7.2 of Debian 12 has 17 of them. */
#define STUBS_MAX 32

struct stubs {
	int fd;                            /* the file; -1: there are none */
	int64_t qemu_bytes, qemu_mtime_ns; /* what they are for */
	char *names[STUBS_MAX + 1]; /* what it stands in for, as QEMU asks for it; up to a NULL */
};

#define STUBS_NONE        \
	{                 \
		.fd = -1, \
	}

/*
 * Opens the stand-ins in the images' directory for the QEMU at this path. 0, or -errno and `ret`
 * has none: -ENOENT where they were never made, -ESTALE where they are another QEMU's, -EINVAL
 * where the list is none.
 */
int stubs_open(int dir_fd, const char *qemu, struct stubs *ret);

/* Are they (still) of the QEMU at this path? An upgrade changes it under a running daemon. */
bool stubs_fit(const struct stubs *stubs, const char *qemu);

void stubs_close(struct stubs *stubs);

#endif
