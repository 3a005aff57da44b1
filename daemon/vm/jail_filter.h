/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seccomp filter of a jail: the system calls that QEMU makes, and no others.
 *
 * Theory of operation: bubblewrap loads the filter as its last step before it executes QEMU, so it
 * has to let that one execve() pass. QEMU adds its `-sandbox` before it looks at the guest: that
 * one ends a process which executes, forks or changes its ids. Of two filters the stricter answer
 * counts.
 *
 * A call that is on no list answers ENOSYS, as of a kernel that has it not: this is the word that a
 * C library's fall-backs look for (EPERM they take for the answer), so a library that learns a
 * young call goes on with the old one. Calls that are of use to nobody but someone who broke in end
 * the process at once: the VM is lost and the log names SIGSYS, instead of a second try. What QEMU
 * and its libraries only probe for (io_uring, NUMA policies, SELinux) must not be among them.
 *
 * The lists were found by tracing QEMU 7.2 with our machine under TCG, with and without the
 * stand-ins for its libraries: boot, saving, clones, balloon, free page reporting, QMP, stop, end.
 * What other paths need (a C library's fall-backs, an abort, KVM) is there by reasoning; each group
 * says which. docs/SECURITY.md has the limits of this.
 */
#ifndef DAEMON_VM_JAIL_FILTER_H
#define DAEMON_VM_JAIL_FILTER_H

/* What fallocate(FALLOC_FL_PUNCH_HOLE) does in a jail. */
enum jail_punch_hole {
	JAIL_PUNCH_HOLE_ALLOWED,
	/*
	 * Succeeds without doing anything. For VMs whose memory is a private mapping of a template:
	 * QEMU punches before it gives pages back with madvise(), and stops where that fails. Such
	 * a VM must have read-only disks: the block layer writes zeroes the same way.
	 */
	JAIL_PUNCH_HOLE_FAKED,
};

/* Makes the filter as a seccomp BPF program in a sealed memfd, once for all jails of a kind. 0 or
 * -errno. */
int jail_filter_create(enum jail_punch_hole punch_hole, int *ret_fd);

#endif
