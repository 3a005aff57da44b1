/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's command line and the guest kernel's, from a configuration. Pure.
 *
 * Images, sockets and the console come to QEMU as inherited descriptors; the numbers here are those
 * in the child (proc_fds_add()). Images are opened again through /proc/self/fd, which looks at the
 * file's own permissions alone: the directories above it need not be open to QEMU's user.
 */
#ifndef DAEMON_VM_QEMU_ARGV_H
#define DAEMON_VM_QEMU_ARGV_H

#include "daemon/vm/accel.h"

#include <stdint.h>

/* The names of things on the command line that QMP and the agent use again. */
#define QEMU_BALLOON_ID  "balloon0"
#define QEMU_AGENT_PORT  "org.execsandbox.agent"
#define QEMU_BALLOON_QOM "/machine/peripheral/" QEMU_BALLOON_ID

/* CONFIG_HZ of the guest kernel (images/kernel/config.fragment). */
#define QEMU_GUEST_HZ 100

/* Where a machine's memory and state come from. */
enum qemu_start {
	QEMU_BOOT,     /* the kernel boots in memory of QEMU's own */
	QEMU_TEMPLATE, /* the kernel boots in ram_fd, which keeps what it writes */
	QEMU_CLONE,    /* ram_fd is mapped privately; the devices' state comes over QMP */
};

struct qemu_config {
	enum qemu_start start;
	const char *program; /* absolute path of qemu-system-x86_64 */
	const char *name;    /* the VM's id, without commas */
	enum accel accel;
	unsigned memory_mb;
	unsigned translation_mb; /* TCG's buffer of translated code; it grows up to this */
	uint32_t tsc_khz;        /* tsc_measure(); 0 = let the guest find out */
	int qmp_fd;              /* listening Unix socket */
	int agent_fd;            /* listening Unix socket of the agent's virtio-serial port */
	int console_fd; /* connected Unix socket: the boot log comes out of its other end */
	int kernel_fd;  /* uncompressed vmlinux with a PVH note, for reading; not for clones */
	int rootfs_fd;  /* EROFS image, opened for reading */
	int ram_fd;     /* memfd of memory_mb, but for QEMU_BOOT */
};

/* The whole vector (argv_free() it). 0 or -ENOMEM. */
int qemu_argv(const struct qemu_config *config, char ***ret);

/*
 * What a saved machine depends on besides its images: the words of a clone without what differs
 * from one to the next (free() it). Two QEMUs with equal lines load each other's state. 0 or
 * -ENOMEM.
 */
int qemu_machine_line(enum accel accel, unsigned memory_mb, char **ret);

/* The guest kernel's command line alone (free() it). 0 or -ENOMEM. */
int qemu_kernel_line(const struct qemu_config *config, char **ret);

#endif
